/* Reading nodes as they are: one by its id, all by their age, and what one is joined with. */
#include "memory/memory_priv.h"

#include <math.h>
#include <string.h>

static rv_err no_room(void)
{
    return rv_fail(RV_E_NOMEM, "memory: no room for the result");
}

static rv_err split_tags(rv_str tags, rv_arena *arena, rv_memory_node *out)
{
    size_t n = tags.n > 0;
    for (size_t i = 0; i < tags.n; i++) {
        n += tags.at[i] == '\n';
    }
    const char **list = rv_arena_take(arena, n * sizeof *list);
    char *copy = rv_arena_strndup(arena, tags.at, tags.n);
    if (!list || !copy) {
        return no_room();
    }
    for (size_t i = 0; i < n; i++) {
        list[i] = copy;
        copy += strcspn(copy, "\n");
        *copy++ = 0;
    }
    out->tags = list;
    out->n_tags = n;
    return RV_OK;
}

static rv_err node_of(const matcher *f, const record *r, rv_arena *arena, rv_memory_node *out)
{
    rv_memory_node node = { .id = r->id,
                            .type = rv_arena_strndup(arena, r->type.at, r->type.n),
                            .text = rv_arena_strndup(arena, r->text.at, r->text.n),
                            .source = rv_arena_strndup(arena, r->source.at, r->source.n),
                            .user = rv_arena_strndup(arena, r->user.at, r->user.n),
                            .origin = rv_arena_strndup(arena, r->origin.at, r->origin.n),
                            .metadata = rv_arena_strndup(arena, r->metadata.at, r->metadata.n),
                            .confidence = r->confidence,
                            .created_ms = r->created_ms,
                            .corrected_by = rv_matcher_corrected_by(f, r->id),
                            .offset = (uint64_t)r->offset,
                            .length = (uint64_t)r->length,
                            .vector_score = NAN,
                            .words_score = NAN,
                            .origin_side = "" };
    if (!node.type || !node.text || !node.source || !node.user || !node.origin || !node.metadata) {
        return no_room();
    }
    const entry *e = rv_memory_find(f->m, r->id);
    if (e) {
        node.pinned = e->pinned;
        node.expires_ms = e->expires_ms;
        node.used = e->used;
        node.used_ms = e->used_ms;
    }
    RV_TRY(split_tags(r->tags, arena, &node));
    *out = node;
    return RV_OK;
}

static const char fetch_sql[] = "SELECT " RV_RECORD_COLUMNS " FROM nodes WHERE id=?1";

rv_err rv_node_reader_begin(node_reader *r, const matcher *f, sqlite3 *conn)
{
    *r = (node_reader){ .f = f };
    return rv_db_reader_kept(f->m->db, conn, &r->stmt, fetch_sql);
}

rv_err rv_node_read(const node_reader *r, int64_t id, rv_arena *arena, rv_memory_node *out, bool *found)
{
    RV_TRY(rv_db_bind(r->stmt, "i", id));
    RV_TRY(rv_db_step(r->stmt, found));
    if (!*found) {
        return RV_OK;
    }
    record row;
    RV_TRY(rv_record_read(r->stmt, &row));
    return node_of(r->f, &row, arena, out);
}

/* Reads n ids in order until max of them were found. */
static rv_err fetch_all(const matcher *f, sqlite3 *conn, const int64_t *ids, size_t n, size_t max,
                        rv_arena *arena, rv_memory_node *out, size_t *n_out)
{
    node_reader reader;
    RV_TRY(rv_node_reader_begin(&reader, f, conn));
    rv_err e = RV_OK;
    *n_out = 0;
    for (size_t i = 0; !e && i < n && *n_out < max; i++) {
        bool found = false;
        e = rv_node_read(&reader, ids[i], arena, &out[*n_out], &found);
        *n_out += !e && found;
    }
    return e;
}

rv_err rv_memory_get(rv_memory *m, rv_memory_scope scope, int64_t id, rv_arena *arena, rv_memory_node *out)
{
    sqlite3 *conn;
    RV_TRY(rv_db_reader(m->db, &conn));
    rv_memory_node node;
    size_t n = 0;
    pthread_rwlock_rdlock(&m->state);
    matcher f = rv_matcher_of(m, scope, NULL);
    bool damaged = scope.whose == RV_SCOPE_WHOLE && rv_idset_has(&m->damaged, id); /* says why */
    rv_err e = damaged || rv_matcher_has(&f, id) ? fetch_all(&f, conn, &id, 1, 1, arena, &node, &n) : RV_OK;
    pthread_rwlock_unlock(&m->state);
    rv_db_reader_done(m->db, conn);
    if (!e && n == 0) {
        e = rv_fail(RV_E_NOT_FOUND, "node %lld is not in the memory", (long long)id);
    }
    if (!e) {
        *out = node;
    }
    return e;
}

rv_err rv_memory_list(rv_memory *m, rv_memory_scope scope, const rv_memory_filter *filter, size_t limit,
                      int64_t after, rv_arena *arena, rv_memory_hits *out)
{
    if (limit < 1 || limit > RV_MEMORY_K_MAX) {
        return rv_fail(RV_E_ARG, "limit: %zu, expected 1 .. %d", limit, RV_MEMORY_K_MAX);
    }
    int64_t ids[RV_MEMORY_K_MAX];
    rv_memory_hits hits = { .at = rv_arena_take(arena, limit * sizeof *hits.at) };
    if (!hits.at) {
        return no_room();
    }
    sqlite3 *conn;
    RV_TRY(rv_db_reader(m->db, &conn));
    pthread_rwlock_rdlock(&m->state);
    matcher f = rv_matcher_of(m, scope, filter);
    size_t n = 0;
    for (size_t i = m->n_entries; i-- > 0 && n < limit;) {
        if ((after <= 0 || m->entries[i].id < after) && rv_matcher_takes(&f, &m->entries[i])) {
            ids[n++] = m->entries[i].id;
        }
    }
    rv_err e = fetch_all(&f, conn, ids, n, limit, arena, hits.at, &hits.n);
    pthread_rwlock_unlock(&m->state);
    rv_db_reader_done(m->db, conn);
    if (!e) {
        *out = hits;
    }
    return e;
}

rv_err rv_memory_neighbours(rv_memory *m, rv_memory_scope scope, int64_t id, rv_arena *arena,
                            rv_memory_edge **out, size_t *n)
{
    rv_err e = RV_OK;
    pthread_rwlock_rdlock(&m->state);
    matcher seen = rv_matcher_of(m, scope, NULL);
    size_t count = 0, at = 0;
    rv_graph_edge edge;
    for (int side = 0; side < 2; side++) {
        for (rv_graph_cursor c = { 0 }; rv_graph_next(m->graph, id, (rv_graph_side)side, &c, &edge);) {
            count++;
        }
    }
    rv_memory_edge *edges = rv_arena_take(arena, count * sizeof *edges);
    e = rv_matcher_need(&seen, id);
    e = e || edges ? e : no_room();
    for (int side = 0; !e && side < 2; side++) {
        for (rv_graph_cursor c = { 0 }; !e && rv_graph_next(m->graph, id, (rv_graph_side)side, &c, &edge);) {
            if (!rv_matcher_has(&seen, side == RV_GRAPH_OUT ? edge.to : edge.from)) {
                continue;
            }
            const char *type = rv_arena_strdup(arena, rv_graph_type_name(m->graph, edge.type));
            edges[at++] = (rv_memory_edge){ edge.from, edge.to, type, (double)edge.weight };
            e = type ? RV_OK : no_room();
        }
    }
    pthread_rwlock_unlock(&m->state);
    if (!e) {
        *out = edges;
        *n = at;
    }
    return e;
}
