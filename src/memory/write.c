/* Changes: add, link, remove. Each becomes one `change`, and rv_memory_apply is the only place that writes: room in memory is
 * reserved first, then the vectors reach the disk, then the transaction, and then memory follows without a way to fail. */
#include "memory/memory_priv.h"
#include "base/clock.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- apply ---- */

int64_t rv_memory_take_ids(rv_memory *m, size_t n)
{
    int64_t first = m->next_id;
    m->next_id += (int64_t)n;
    return first;
}

typedef struct scratch {
    entry *entries;        /* [n_add] */
    const float **vectors; /* [n_searched] as mapped */
    rv_segment_row *rows;
    int64_t *ids;
    rv_graph_edge *links; /* [n_link + n_unlink] */
    size_t n_searched;
} scratch;

static rv_err new_scratch(rv_memory *m, const change *c, scratch *s)
{
    s->n_searched = c->vectors ? c->n_add - c->first_searched : 0;
    s->entries = rv_new_array(m->mem, c->n_add + 1, sizeof *s->entries);
    s->vectors = rv_new_array(m->mem, s->n_searched + 1, sizeof *s->vectors);
    s->rows = rv_new_array(m->mem, s->n_searched + 1, sizeof *s->rows);
    s->ids = rv_new_array(m->mem, s->n_searched + 1, sizeof *s->ids);
    s->links = rv_new_array(m->mem, c->n_link + c->n_unlink + 1, sizeof *s->links);
    return s->entries && s->vectors && s->rows && s->ids && s->links
               ? RV_OK
               : rv_fail(RV_E_NOMEM, "memory: no room to write");
}

static void free_scratch(rv_memory *m, scratch *s)
{
    rv_free(m->mem, s->entries);
    rv_free(m->mem, s->vectors);
    rv_free(m->mem, s->rows);
    rv_free(m->mem, s->ids);
    rv_free(m->mem, s->links);
}

/* All memory that taking over will need. Under state, alone. */
static rv_err reserve(rv_memory *m, const change *c, scratch *s)
{
    RV_TRY(rv_memory_reserve(m, c->n_add, 0));
    RV_TRY(rv_index_reserve(m->index, s->n_searched));
    RV_TRY(rv_graph_reserve(m->graph, c->n_link));
    for (size_t i = 0; i < c->n_link + c->n_unlink; i++) {
        const link_row *l = i < c->n_link ? &c->link[i] : &c->unlink[i - c->n_link];
        s->links[i] = (rv_graph_edge){ .from = l->from, .to = l->to, .weight = (float)l->weight };
        RV_TRY(rv_graph_type(m->graph, l->type, &s->links[i].type));
    }
    size_t n_tags = m->n_tags;
    for (size_t i = 0; i < c->n_add; i++) {
        rv_err e = rv_memory_entry_of(m, &c->add[i], c->vectors && i >= c->first_searched, &s->entries[i]);
        if (e) {
            m->n_tags = n_tags;
            return e;
        }
    }
    return RV_OK;
}

static rv_err store_vectors(rv_memory *m, const change *c, scratch *s)
{
    for (size_t i = 0; i < s->n_searched; i++) {
        s->ids[i] = c->add[c->first_searched + i].id;
    }
    rv_err e =
        s->n_searched ? rv_segments_append(m->segments, s->ids, c->vectors, s->n_searched, s->rows) : RV_OK;
    for (size_t i = 0; !e && i < s->n_searched; i++) {
        e = rv_segments_get(m->segments, s->rows[i], s->ids[i], &s->vectors[i]);
    }
    if (rv_segments_failed(m->segments)) {
        rv_db_stop(m->db);
    }
    return e;
}

static rv_err run(sqlite3_stmt *stmt)
{
    bool row;
    return rv_db_step(stmt, &row);
}

static rv_err insert_node(sqlite3_stmt *node, sqlite3_stmt *words, const record *r, const rv_segment_row *row)
{
    /* The places of segment and row stay NULL until the first searched record: those that are not searched come first. */
    RV_TRY(rv_db_bind(node, row ? "isssssssfiiiiiii" : "isssssssfiiiii", r->id, r->type.at, r->type.n,
                      r->text.at, r->text.n, r->source.at, r->source.n, r->user.at, r->user.n, r->origin.at,
                      r->origin.n, r->tags.at, r->tags.n, r->metadata.at, r->metadata.n, r->confidence,
                      r->created_ms, r->offset, r->length, rv_record_sum(r), rv_record_same(r),
                      (int64_t)(row ? row->segment : 0), (int64_t)(row ? row->row : 0)));
    RV_TRY(run(node));
    if (!row) {
        return RV_OK;
    }
    RV_TRY(rv_db_bind(words, "is", r->id, r->text.at, r->text.n));
    return run(words);
}

static rv_err insert_nodes(sqlite3 *conn, const change *c, const scratch *s)
{
    sqlite3_stmt *node, *words = NULL;
    RV_TRY(rv_db_prepare(
        conn, &node, "INSERT INTO nodes VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16)", ""));
    rv_err e = rv_db_prepare(conn, &words, "INSERT INTO words(rowid, text) VALUES(?1,?2)", "");
    for (size_t i = 0; !e && i < c->n_add; i++) {
        bool searched = c->vectors && i >= c->first_searched;
        e = insert_node(node, words, &c->add[i], searched ? &s->rows[i - c->first_searched] : NULL);
    }
    sqlite3_finalize(node);
    sqlite3_finalize(words);
    return e;
}

static rv_err drop_nodes(sqlite3 *conn, const change *c)
{
    static const char *const sql[] = {
        "INSERT INTO words(words, rowid, text) SELECT 'delete', id, text FROM searched WHERE id=?1",
        "DELETE FROM edges WHERE from_id=?1 OR to_id=?1",
        "DELETE FROM nodes WHERE id=?1",
    };
    sqlite3_stmt *stmts[RV_COUNT(sql)] = { NULL };
    rv_err e = RV_OK;
    for (size_t k = 0; !e && k < RV_COUNT(sql); k++) {
        e = rv_db_prepare(conn, &stmts[k], sql[k], "");
    }
    for (size_t i = 0; !e && i < c->n_drop; i++) {
        for (size_t k = 0; !e && k < RV_COUNT(sql); k++) {
            e = rv_db_bind(stmts[k], "i", c->drop[i]);
            if (!e) {
                e = run(stmts[k]);
            }
        }
    }
    for (size_t k = 0; k < RV_COUNT(sql); k++) {
        sqlite3_finalize(stmts[k]);
    }
    return e;
}

static rv_err write_edges(sqlite3 *conn, const change *c)
{
    for (size_t i = 0; i < c->n_unlink; i++) {
        const link_row *l = &c->unlink[i];
        RV_TRY(rv_db_exec(conn, "DELETE FROM edges WHERE from_id=?1 AND to_id=?2 AND type=?3", "iit", l->from,
                          l->to, l->type));
    }
    if (c->n_link == 0) {
        return RV_OK;
    }
    sqlite3_stmt *stmt;
    RV_TRY(rv_db_prepare(
        conn, &stmt,
        "INSERT INTO edges VALUES(?1,?2,?3,?4,?5,?6) ON CONFLICT(from_id, to_id, type)"
        " DO UPDATE SET weight=excluded.weight, created_ms=excluded.created_ms, sum=excluded.sum",
        ""));
    int64_t now = rv_clock_wall_ms();
    rv_err e = RV_OK;
    for (size_t i = 0; !e && i < c->n_link; i++) {
        const link_row *l = &c->link[i];
        e = rv_db_bind(stmt, "iitfii", l->from, l->to, l->type, l->weight, now,
                       rv_edge_sum(l->from, l->to, rv_str_from(l->type), l->weight, now));
        if (!e) {
            e = run(stmt);
        }
    }
    sqlite3_finalize(stmt);
    return e;
}

static rv_err write_rows(rv_memory *m, const change *c, const scratch *s)
{
    sqlite3 *conn;
    RV_TRY(rv_db_begin(m->db, &conn));
    rv_err e = c->n_drop ? drop_nodes(conn, c) : RV_OK;
    if (!e && c->n_add) {
        e = insert_nodes(conn, c, s);
    }
    if (!e) {
        e = write_edges(conn, c);
    }
    if (!e && c->path) {
        e = rv_db_exec(conn, "INSERT INTO documents VALUES(?1,?2,?3,?4)", "istb", c->add[0].id,
                       c->add[0].user.at, c->add[0].user.n, c->path, c->digest, (size_t)32);
    }
    if (e) {
        rv_db_rollback(m->db);
        return e;
    }
    return rv_db_commit(m->db);
}

static void drop_entries(rv_memory *m, const int64_t *ids, size_t n)
{
    size_t kept = 0, next = 0;
    for (size_t i = 0; i < m->n_entries; i++) {
        while (next < n && ids[next] < m->entries[i].id) {
            next++;
        }
        if (next == n || ids[next] != m->entries[i].id) {
            m->entries[kept++] = m->entries[i];
        }
    }
    m->n_entries = kept;
    rv_index_remove(m->index, ids, n);
    for (size_t i = 0; i < n; i++) {
        rv_graph_remove(m->graph, ids[i]);
    }
}

/* Nothing here can fail. Under state, alone. */
static void take_over(rv_memory *m, const change *c, const scratch *s)
{
    if (c->n_drop) {
        drop_entries(m, c->drop, c->n_drop);
    }
    for (size_t i = 0; i < c->n_add; i++) {
        m->entries[m->n_entries++] = s->entries[i];
    }
    for (size_t i = 0; i < s->n_searched; i++) {
        rv_index_add(m->index, s->ids[i], s->vectors[i]);
    }
    for (size_t i = 0; i < c->n_unlink; i++) {
        const rv_graph_edge *edge = &s->links[c->n_link + i];
        rv_graph_unlink(m->graph, edge->from, edge->to, edge->type);
    }
    for (size_t i = 0; i < c->n_link; i++) {
        rv_graph_link(m->graph, s->links[i]);
    }
}

rv_err rv_memory_apply(rv_memory *m, const change *c)
{
    scratch s = { 0 };
    rv_err e = new_scratch(m, c, &s);
    size_t tags_before = 0;
    if (!e) {
        pthread_rwlock_wrlock(&m->state);
        tags_before = m->n_tags;
        e = reserve(m, c, &s);
        pthread_rwlock_unlock(&m->state);
    }
    if (!e) {
        e = store_vectors(m, c, &s);
        e = e ? e : write_rows(m, c, &s);
        pthread_rwlock_wrlock(&m->state);
        if (e) {
            m->n_tags = tags_before;
        } else {
            take_over(m, c, &s);
        }
        rv_segments_size(m->segments, &m->vector_rows, &m->vector_bytes);
        pthread_rwlock_unlock(&m->state);
    }
    free_scratch(m, &s);
    return e;
}

/* ---- add ---- */

static rv_err check_field(const char *name, const char *text, size_t max)
{
    size_t n = text ? strlen(text) : 0;
    bool good = n <= max && rv_utf8_valid(text ? text : "", n);
    for (size_t i = 0; good && i < n; i++) {
        good = (unsigned char)text[i] >= ' ' && text[i] != 127;
    }
    return good ? RV_OK
                : rv_fail(RV_E_ARG, "%s: expected at most %zu bytes of UTF-8 without control characters",
                          name, max);
}

rv_err rv_memory_check_scope(const char *user, const char *const *tags, size_t n_tags)
{
    RV_TRY(check_field("user", user, RV_MEMORY_USER_BYTES));
    if (n_tags > RV_MEMORY_TAGS_MAX) {
        return rv_fail(RV_E_ARG, "tags: %zu, expected at most %d", n_tags, RV_MEMORY_TAGS_MAX);
    }
    for (size_t i = 0; i < n_tags; i++) {
        if (!tags[i] || !tags[i][0]) {
            return rv_fail(RV_E_ARG, "tags: an empty one");
        }
        RV_TRY(check_field("tags", tags[i], RV_MEMORY_TAG_BYTES));
    }
    return RV_OK;
}

static bool good_type(const char *type)
{
    size_t n = type ? strspn(type, "abcdefghijklmnopqrstuvwxyz_") : 0;
    return n >= 1 && n <= 32 && type[n] == 0;
}

static rv_err check_new(const rv_memory_new *new, size_t text_bytes)
{
    if (!good_type(new->type)) {
        return rv_fail(RV_E_ARG, "type: expected 1 .. 32 of the letters a-z and _");
    }
    if (text_bytes < 1 || text_bytes > RV_MEMORY_TEXT_MAX) {
        return rv_fail(text_bytes ? RV_E_TOO_LARGE : RV_E_ARG, "text: %zu bytes, expected 1 .. %d",
                       text_bytes, RV_MEMORY_TEXT_MAX);
    }
    if (!rv_utf8_valid(new->text, text_bytes) || memchr(new->text, 0, text_bytes)) {
        return rv_fail(RV_E_ARG, "text: expected valid UTF-8 without zero bytes");
    }
    RV_TRY(check_field("source", new->source, RV_MEMORY_SOURCE_BYTES));
    RV_TRY(check_field("origin", new->origin, RV_MEMORY_ORIGIN_BYTES));
    RV_TRY(rv_memory_check_scope(new->user, new->tags, new->n_tags));
    if (!(new->confidence >= 0 && new->confidence <= 1)) {
        return rv_fail(RV_E_ARG, "confidence: %g, expected 0 .. 1", new->confidence);
    }
    if (new->metadata && !json_is_object(new->metadata)) {
        return rv_fail(RV_E_ARG, "metadata: expected an object");
    }
    return new->offset <= INT64_MAX &&new->length <= INT64_MAX
               ? RV_OK
               : rv_fail(RV_E_ARG, "offset, length: too large");
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

rv_err rv_memory_join_tags(const rv_alloc *mem, const char *const *tags, size_t n, rv_text *out)
{
    if (n == 0) {
        return RV_OK;
    }
    const char **sorted = rv_new_array(mem, n, sizeof *sorted);
    if (!sorted) {
        return rv_fail(RV_E_NOMEM, "memory: no room for tags");
    }
    memcpy(sorted, tags, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_name);
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || strcmp(sorted[i], sorted[i - 1]) != 0) {
            rv_text_adds(out, i ? "\n" : "");
            rv_text_adds(out, sorted[i]);
        }
    }
    rv_free(mem, sorted);
    return rv_text_check(out);
}

/* The node that says the same already, 0: none. Under writing, so it stays true. */
static rv_err find_same(rv_memory *m, const record *r, int64_t *id)
{
    sqlite3 *conn;
    RV_TRY(rv_db_reader(m->db, &conn));
    sqlite3_stmt *stmt = NULL;
    rv_err e = rv_db_prepare(
        conn, &stmt, "SELECT id FROM nodes WHERE same=?1 AND type=?2 AND user=?3 AND text=?4 ORDER BY id",
        "isss", rv_record_same(r), r->type.at, r->type.n, r->user.at, r->user.n, r->text.at, r->text.n);
    bool row = false;
    if (!e) {
        e = rv_db_step(stmt, &row);
    }
    *id = !e && row ? sqlite3_column_int64(stmt, 0) : 0;
    sqlite3_finalize(stmt);
    rv_db_reader_done(m->db, conn);
    return e;
}

static bool has_edge(const rv_memory *m, int64_t from, int64_t to, unsigned type)
{
    rv_graph_edge e;
    for (rv_graph_cursor c = { 0 }; rv_graph_next(m->graph, to, RV_GRAPH_IN, &c, &e);) {
        if (e.from == from && e.type == type) {
            return true;
        }
    }
    return false;
}

/* What is said anew as a correction is itself no longer corrected: the corrects-edges that lead to it go. This also means
 * that corrections never form a circle. *out is to be freed. */
static rv_err edges_taken_back(rv_memory *m, int64_t id, link_row **out, size_t *n)
{
    size_t count = 0;
    rv_graph_edge e;
    for (rv_graph_cursor c = { 0 }; rv_graph_next(m->graph, id, RV_GRAPH_IN, &c, &e);) {
        count += e.type == m->corrects;
    }
    link_row *rows = rv_new_array(m->mem, count + 1, sizeof *rows);
    if (!rows) {
        return rv_fail(RV_E_NOMEM, "memory: no room to write");
    }
    *n = 0;
    for (rv_graph_cursor c = { 0 }; rv_graph_next(m->graph, id, RV_GRAPH_IN, &c, &e);) {
        if (e.type == m->corrects) {
            rows[(*n)++] = (link_row){ e.from, id, "corrects", 1 };
        }
    }
    *out = rows;
    return RV_OK;
}

/* Adds r, or, when it is there already, only the edges that are missing. Under writing. */
static rv_err add_record(rv_memory *m, const rv_memory_new *new, record *r, const float *vector, int64_t *id,
                         bool *added)
{
    int64_t same;
    RV_TRY(find_same(m, r, &same));
    r->id = same ? same : rv_memory_take_ids(m, 1);
    const struct {
        int64_t other;
        bool to_us;
        const char *type;
        unsigned number;
    } wanted[] = { { new->parent, true, "contains", m->contains },
                   { new->corrects, false, "corrects", m->corrects },
                   { new->derived_from, false, "derived", m->derived } };
    link_row links[RV_COUNT(wanted)];
    size_t n_links = 0, n_back = 0;
    for (size_t i = 0; i < RV_COUNT(wanted); i++) {
        if (wanted[i].other == 0) {
            continue;
        }
        if (!rv_memory_find(m, wanted[i].other)) {
            return rv_fail(RV_E_NOT_FOUND, "node %lld is not in the memory", (long long)wanted[i].other);
        }
        if (wanted[i].other == r->id) {
            return rv_fail(RV_E_ARG, "%s: the same text as node %lld itself", wanted[i].type,
                           (long long)r->id);
        }
        int64_t from = wanted[i].to_us ? wanted[i].other : r->id,
                to = wanted[i].to_us ? r->id : wanted[i].other;
        if (!same || !has_edge(m, from, to, wanted[i].number)) {
            links[n_links++] = (link_row){ from, to, wanted[i].type, 1 };
        }
    }
    link_row *back = NULL;
    if (same && new->corrects) {
        RV_TRY(edges_taken_back(m, same, &back, &n_back));
    }
    change c = { .add = r,
                 .n_add = same ? 0 : 1,
                 .vectors = same ? NULL : vector,
                 .link = links,
                 .n_link = n_links,
                 .unlink = back,
                 .n_unlink = n_back };
    rv_err e = c.n_add || n_links || n_back ? rv_memory_apply(m, &c) : RV_OK;
    rv_free(m->mem, back);
    if (!e) {
        *id = r->id;
        *added = !same;
    }
    return e;
}

rv_err rv_memory_add(rv_memory *m, const rv_memory_new *new, int64_t *id, bool *added)
{
    size_t text_bytes = new->text_bytes ? new->text_bytes : strlen(new->text);
    RV_TRY(check_new(new, text_bytes));
    rv_text tags, metadata;
    rv_text_init(&tags, m->mem, RV_MEMORY_TAGS_MAX * (RV_MEMORY_TAG_BYTES + 1));
    rv_text_init(&metadata, m->mem, RV_MEMORY_METADATA_BYTES);
    float *vector = NULL;
    rv_err e = rv_memory_join_tags(m->mem, new->tags, new->n_tags, &tags);
    if (!e && new->metadata) {
        rv_json_text(new->metadata, &metadata);
        e = rv_text_check(&metadata)
                ? rv_fail(RV_E_TOO_LARGE, "metadata: more than %d bytes", RV_MEMORY_METADATA_BYTES)
                : RV_OK;
    }
    if (!e && strcmp(new->type, "document") != 0) {
        vector = rv_new_array(m->mem, m->embedder.dim, sizeof *vector);
        e = vector ? m->embedder.text(m->embedder.self, new->text, text_bytes, vector)
                   : rv_fail(RV_E_NOMEM, "memory: no room for a vector");
    }
    if (!e) {
        record r = { .type = rv_str_from(new->type),
                     .text = rv_str_of(new->text, text_bytes),
                     .source = rv_str_from(new->source ? new->source : ""),
                     .user = rv_str_from(new->user ? new->user : ""),
                     .origin = rv_str_from(new->origin ? new->origin : ""),
                     .tags = rv_str_of(rv_text_get(&tags), tags.n),
                     .metadata = rv_str_from(metadata.n ? rv_text_get(&metadata) : "{}"),
                     .confidence = new->confidence > 0 ? new->confidence : 1,
                     .created_ms = rv_clock_wall_ms(),
                     .offset = (int64_t) new->offset,
                     .length = (int64_t) new->length };
        pthread_mutex_lock(&m->writing);
        e = add_record(m, new, &r, vector, id, added);
        pthread_mutex_unlock(&m->writing);
    }
    rv_free(m->mem, vector);
    rv_text_deinit(&tags);
    rv_text_deinit(&metadata);
    return e;
}

/* ---- link ---- */

static rv_err link_nodes(rv_memory *m, int64_t from, int64_t to, const char *type, double weight)
{
    const int64_t ends[2] = { from, to };
    for (int i = 0; i < 2; i++) {
        if (!rv_memory_find(m, ends[i])) {
            return rv_fail(RV_E_NOT_FOUND, "node %lld is not in the memory", (long long)ends[i]);
        }
    }
    link_row *back = NULL;
    size_t n_back = 0;
    if (strcmp(type, "corrects") == 0) {
        RV_TRY(edges_taken_back(m, from, &back, &n_back));
    }
    link_row row = { from, to, type, weight };
    change c = { .link = &row, .n_link = 1, .unlink = back, .n_unlink = n_back };
    rv_err e = rv_memory_apply(m, &c);
    rv_free(m->mem, back);
    return e;
}

rv_err rv_memory_link(rv_memory *m, int64_t from, int64_t to, const char *type, double weight)
{
    if (!good_type(type)) {
        return rv_fail(RV_E_ARG, "type: expected 1 .. 32 of the letters a-z and _");
    }
    if (!(weight > 0 && weight <= 1e6)) {
        return rv_fail(RV_E_ARG, "weight: %g, expected more than 0 and at most 1000000", weight);
    }
    if (from == to) {
        return rv_fail(RV_E_ARG, "node %lld cannot be linked to itself", (long long)from);
    }
    pthread_mutex_lock(&m->writing);
    rv_err e = link_nodes(m, from, to, type, weight);
    pthread_mutex_unlock(&m->writing);
    return e;
}

/* ---- remove ---- */

static int by_id(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* The entries f takes (that one alone unless id is 0), and the chunks of documents among them; ascending, each once. */
static rv_err collect(rv_memory *m, int64_t id, const matcher *f, int64_t **out, size_t *n)
{
    uint32_t document = UINT32_MAX;
    (void)rv_names_find(&m->names, "document", &document); /* no such name: no such node */
    size_t room = 0;
    *out = NULL;
    *n = 0;
    for (int pass = 0; pass < 2; pass++) { /* count, then fill */
        size_t at = 0;
        for (size_t i = 0; i < m->n_entries; i++) {
            const entry *e = &m->entries[i];
            if ((id && e->id != id) || !rv_matcher_takes(f, e)) {
                continue;
            }
            if (pass) {
                (*out)[at] = e->id;
            }
            at++;
            rv_graph_edge edge;
            for (rv_graph_cursor c = { 0 };
                 e->type == document && rv_graph_next(m->graph, e->id, RV_GRAPH_OUT, &c, &edge);) {
                if (edge.type == m->contains) {
                    if (pass) {
                        (*out)[at] = edge.to;
                    }
                    at++;
                }
            }
        }
        room = at;
        if (!pass) {
            *out = rv_new_array(m->mem, room + 1, sizeof **out);
            if (!*out) {
                return rv_fail(RV_E_NOMEM, "memory: no room to remove %zu nodes", room);
            }
        }
    }
    qsort(*out, room, sizeof **out, by_id);
    for (size_t i = 0; i < room; i++) {
        if (i == 0 || (*out)[i] != (*out)[i - 1]) {
            (*out)[(*n)++] = (*out)[i];
        }
    }
    return RV_OK;
}

rv_err rv_memory_rm(rv_memory *m, int64_t id, const rv_memory_filter *filter, size_t *removed)
{
    rv_memory_filter scope = filter ? *filter : (rv_memory_filter){ 0 };
    if (id < 0 || (id == 0 && !scope.type && !scope.tag && !scope.source && !scope.user && !scope.since_ms &&
                   !scope.until_ms)) {
        return rv_fail(RV_E_ARG, "name what to remove: an id, or a filter (type, tag, source, user, time)");
    }
    scope.only_user = true; /* what is everybody's is not removed in the name of one */
    pthread_mutex_lock(&m->writing);
    matcher f = rv_matcher_of(m, &scope);
    int64_t *ids = NULL;
    size_t n = 0;
    rv_err e = collect(m, id, &f, &ids, &n);
    if (!e && n > 0) {
        e = rv_memory_apply(m, &(change){ .drop = ids, .n_drop = n });
    }
    pthread_mutex_unlock(&m->writing);
    rv_free(m->mem, ids);
    if (!e) {
        *removed = n;
    }
    return e;
}
