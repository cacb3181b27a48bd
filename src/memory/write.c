/* Changes: add (add.c), link, remove. Each becomes one `change`, and rv_memory_apply is the only place that writes: room in memory is
 * reserved first, then the vectors reach the disk, then the transaction, and then memory follows without a way to fail. */
#include "memory/memory_priv.h"
#include "memory/nearest_priv.h"
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

typedef struct tag_run {
    uint32_t at, n; /* in tags */
} tag_run;

typedef struct scratch {
    entry *entries;        /* [n_add] */
    tag_run *tags;         /* [n_edit] */
    const float **vectors; /* [n_searched] as mapped */
    rv_segment_row *rows;
    int64_t *ids;
    rv_graph_edge *links; /* [n_link + n_unlink] */
    rv_cut *cuts;         /* [n_searched] words; NULL while there is no index of them */
    near_mark *marks;     /* [n_add] */
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
    s->marks = rv_new_array(m->mem, c->n_add + 1, sizeof *s->marks);
    s->tags = rv_new_array(m->mem, c->n_edit + 1, sizeof *s->tags);
    return s->marks && s->tags && s->entries && s->vectors && s->rows && s->ids && s->links
               ? RV_OK
               : rv_fail(RV_E_NOMEM, "memory: no room to write");
}

static rv_err mark_all(const rv_memory *m, const change *c, const scratch *s)
{
    for (size_t i = 0; i < c->n_add; i++) {
        if (c->add[i].mark) {
            s->marks[i] = *c->add[i].mark;
        } else {
            RV_TRY(rv_near_mark(m, &c->add[i], &s->marks[i]));
        }
    }
    return RV_OK;
}

/* The words of what is added, before anything is locked: cutting takes longer than taking in. */
static rv_err cut_words(rv_memory *m, const change *c, scratch *s)
{
    if (!m->postings || s->n_searched == 0) {
        return RV_OK;
    }
    s->cuts = rv_new_array(m->mem, s->n_searched, sizeof *s->cuts);
    rv_err e = s->cuts ? RV_OK : rv_fail(RV_E_NOMEM, "memory: no room to write");
    for (size_t i = 0; !e && i < s->n_searched; i++) {
        const record *r = &c->add[c->first_searched + i];
        if (r->cut) {
            s->cuts[i] = *r->cut;
            s->cuts[i].mem = NULL; /* borrowed */
        } else {
            e = rv_postings_cut(m->mem, m->cutter, r->text.at, r->text.n, &s->cuts[i]);
        }
    }
    return e;
}

static void free_scratch(rv_memory *m, scratch *s)
{
    for (size_t i = 0; s->cuts && i < s->n_searched; i++) {
        if (s->cuts[i].mem) {
            rv_cut_deinit(&s->cuts[i]);
        }
    }
    rv_free(m->mem, s->cuts);
    rv_free(m->mem, s->entries);
    rv_free(m->mem, s->vectors);
    rv_free(m->mem, s->rows);
    rv_free(m->mem, s->ids);
    rv_free(m->mem, s->links);
    rv_free(m->mem, s->marks);
    rv_free(m->mem, s->tags);
}

/* All memory that taking over will need. Under state, alone. */
static rv_err reserve(rv_memory *m, const change *c, scratch *s)
{
    RV_TRY(rv_memory_reserve(m, c->n_add, 0));
    RV_TRY(rv_index_reserve(m->index, s->n_searched));
    RV_TRY(s->n_searched ? rv_live_reserve(m, c->add[c->n_add - 1].id) : RV_OK);
    RV_TRY(rv_graph_reserve(m->graph, c->n_link));
    RV_TRY(rv_near_reserve(m, c->n_add));
    for (size_t i = 0; i < c->n_link + c->n_unlink; i++) {
        const link_row *l = i < c->n_link ? &c->link[i] : &c->unlink[i - c->n_link];
        s->links[i] = (rv_graph_edge){ .from = l->from, .to = l->to, .weight = (float)l->weight };
        RV_TRY(rv_graph_type(m->graph, l->type, &s->links[i].type));
        RV_TRY(s->links[i].type == m->corrects ? rv_idset_reserve(m->mem, &m->corrected, l->to) : RV_OK);
    }
    for (size_t i = 0; s->cuts && i < s->n_searched; i++) {
        RV_TRY(rv_postings_prepare(m->postings, c->add[c->first_searched + i].id, &s->cuts[i]));
    }
    size_t n_tags = m->n_tags;
    for (size_t i = 0; i < c->n_add; i++) {
        rv_err e = rv_memory_entry_of(m, &c->add[i], &s->entries[i]);
        if (e) {
            m->n_tags = n_tags;
            return e;
        }
    }
    for (size_t i = 0; i < c->n_edit; i++) { /* last: what was added meanwhile would take their room */
        rv_err e = rv_memory_tags_of(m, c->edit[i].tags, c->n_edit, &s->tags[i].at, &s->tags[i].n);
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

static const char insert_node_sql[] =
    "INSERT INTO nodes VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16)";
static const char insert_words_sql[] = "INSERT INTO words(rowid, text) VALUES(?1,?2)";
static const char insert_edge_sql[] =
    "INSERT INTO edges VALUES(?1,?2,?3,?4,?5,?6) ON CONFLICT(from_id, to_id, type)"
    " DO UPDATE SET weight=excluded.weight, created_ms=excluded.created_ms, sum=excluded.sum";

static rv_err insert_nodes(rv_memory *m, const change *c, const scratch *s)
{
    sqlite3_stmt *node, *words;
    RV_TRY(rv_db_kept(m->db, &node, insert_node_sql));
    RV_TRY(rv_db_kept(m->db, &words, insert_words_sql));
    for (size_t i = 0; i < c->n_add; i++) {
        bool searched = c->vectors && i >= c->first_searched;
        RV_TRY(insert_node(node, words, &c->add[i], searched ? &s->rows[i - c->first_searched] : NULL));
        RV_TRY(rv_near_write(m, &c->add[i], &s->marks[i]));
    }
    return RV_OK;
}

static rv_err edit_nodes(rv_memory *m, const change *c)
{
    static const char sql[] = "UPDATE nodes SET tags=?2, metadata=?3, sum=?4 WHERE id=?1";
    sqlite3_stmt *stmt = NULL;
    for (size_t i = 0; i < c->n_edit; i++) {
        const edit_row *x = &c->edit[i];
        RV_TRY(stmt ? RV_OK : rv_db_kept(m->db, &stmt, sql));
        RV_TRY(rv_db_bind(stmt, "issi", x->id, x->tags.at, x->tags.n, x->metadata.at, x->metadata.n, x->sum));
        RV_TRY(run(stmt));
    }
    return RV_OK;
}

/* Is its text the one whose words are in the index of words? */
static rv_err is_whole(rv_memory *m, int64_t id, bool *out)
{
    static const char sql[] = "SELECT " RV_RECORD_COLUMNS " FROM nodes WHERE id=?1";
    sqlite3_stmt *stmt;
    bool row;
    record r;
    RV_TRY(rv_db_kept(m->db, &stmt, sql));
    RV_TRY(rv_db_bind(stmt, "i", id));
    RV_TRY(rv_db_step(stmt, &row));
    rv_err e = row ? rv_record_read(stmt, &r) : RV_OK;
    *out = !e;
    sqlite3_reset(stmt); /* the row is changed next */
    return e == RV_E_CORRUPT ? RV_OK : e;
}

static rv_err drop_nodes(rv_memory *m, sqlite3 *conn, const change *c)
{
    static const char *const sql[] = {
        "INSERT INTO words(words, rowid, text) SELECT 'delete', id, text FROM searched WHERE id=?1",
        "DELETE FROM edges WHERE from_id=?1 OR to_id=?1",
        "DELETE FROM fresh WHERE id=?1",
        "DELETE FROM nodes WHERE id=?1",
    };
    sqlite3_stmt *stmts[RV_COUNT(sql)];
    for (size_t k = 0; k < RV_COUNT(sql); k++) {
        RV_TRY(rv_db_kept(m->db, &stmts[k], sql[k]));
    }
    bool all_whole = true;
    for (size_t i = 0; i < c->n_drop; i++) {
        bool whole;
        RV_TRY(is_whole(m, c->drop[i], &whole));
        all_whole &= whole;
        for (size_t k = whole ? 0 : 1; k < RV_COUNT(sql); k++) {
            RV_TRY(rv_db_bind(stmts[k], "i", c->drop[i]));
            RV_TRY(run(stmts[k]));
        }
    }
    return all_whole ? RV_OK : rv_db_exec(conn, "INSERT INTO words(words) VALUES('rebuild')", "");
}

static rv_err write_edges(rv_memory *m, sqlite3 *conn, const change *c)
{
    for (size_t i = 0; i < c->n_unlink; i++) {
        const link_row *l = &c->unlink[i];
        RV_TRY(rv_db_exec(conn, "DELETE FROM edges WHERE from_id=?1 AND to_id=?2 AND type=?3", "iit", l->from,
                          l->to, l->type));
    }
    sqlite3_stmt *stmt = NULL;
    int64_t now = rv_clock_wall_ms();
    for (size_t i = 0; i < c->n_link; i++) {
        const link_row *l = &c->link[i];
        RV_TRY(stmt ? RV_OK : rv_db_kept(m->db, &stmt, insert_edge_sql));
        int64_t created = l->created_ms ? l->created_ms : now;
        RV_TRY(rv_db_bind(stmt, "iitfii", l->from, l->to, l->type, l->weight, created,
                          rv_edge_sum(l->from, l->to, rv_str_from(l->type), l->weight, created)));
        RV_TRY(run(stmt));
    }
    return RV_OK;
}

static rv_err write_rows(rv_memory *m, const change *c, const scratch *s)
{
    sqlite3 *conn;
    RV_TRY(rv_db_begin(m->db, &conn));
    rv_err e = c->n_drop ? drop_nodes(m, conn, c) : RV_OK;
    if (!e && c->n_add) {
        e = insert_nodes(m, c, s);
    }
    e = e ? e : edit_nodes(m, c);
    if (!e) {
        e = write_edges(m, conn, c);
    }
    for (size_t i = 0; !e && i < c->n_documents; i++) {
        const document_row *d = &c->documents[i];
        e = rv_db_exec(conn, "INSERT INTO documents VALUES(?1,?2,?3,?4)", "istb", d->node, d->user.at,
                       d->user.n, d->path, d->digest, (size_t)32);
    }
    e = e ? e : rv_use_write(m, c->use, c->n_use);
    if (!e && s->n_searched > 0) {
        e = rv_fresh_keep(m, conn, s->ids, c->vectors, s->n_searched);
    }
    if (rv_segments_failed(m->segments)) {
        rv_db_stop(m->db);
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
        if (rv_idset_has(&m->live, ids[i])) {
            rv_live_remove(m, ids[i]);
            rv_nearest_removed(m, ids[i]);
            m->n_postings_dead += m->postings != NULL;
        }
        rv_graph_remove(m->graph, ids[i]);
        rv_idset_remove(&m->damaged, ids[i]);
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
        rv_near_add(m, c->add[i].id, &s->marks[i]);
    }
    for (size_t i = 0; i < s->n_searched; i++) {
        rv_memory_count_pair(m, s->vectors[i]);
        entry *added = &m->entries[m->n_entries - s->n_searched + i];
        added->row = s->vectors[i];
        rv_index_add(m->index, s->ids[i], s->vectors[i]);
        rv_live_add(m, s->ids[i], added->created_ms);
        rv_nearest_added(m);
    }
    if (s->cuts) {
        rv_postings_commit(m->postings);
    }
    for (size_t i = 0; i < c->n_unlink; i++) {
        const rv_graph_edge *edge = &s->links[c->n_link + i];
        rv_graph_unlink(m->graph, edge->from, edge->to, edge->type);
    }
    for (size_t i = 0; i < c->n_link; i++) {
        rv_graph_link(m->graph, s->links[i]);
        if (s->links[i].type == m->corrects) {
            rv_idset_add(&m->corrected, s->links[i].to);
        }
    }
    for (size_t i = 0; i < c->n_edit; i++) {
        rv_memory_take_tags(m, c->edit[i].id, s->tags[i].at, s->tags[i].n);
    }
    rv_use_take_over(m, c->use, c->n_use);
}

rv_err rv_memory_apply(rv_memory *m, const change *c)
{
    scratch s = { 0 };
    rv_err e = new_scratch(m, c, &s);
    e = e ? e : mark_all(m, c, &s);
    e = e ? e : cut_words(m, c, &s);
    size_t tags_before = 0;
    if (!e) {
        pthread_rwlock_wrlock(&m->state);
        tags_before = m->n_tags;
        e = reserve(m, c, &s);
        if (e && s.cuts) {
            rv_postings_cancel(m->postings);
        }
        pthread_rwlock_unlock(&m->state);
    }
    if (!e) {
        double from = rv_clock_ms();
        e = store_vectors(m, c, &s);
        e = e ? e : write_rows(m, c, &s);
        rv_metric_time(&rv_memory_metrics[RV_MEMORY_COMMIT_TIME], rv_clock_ms() - from);
        rv_metric_add(&rv_memory_metrics[RV_MEMORY_COMMITS], !e);
        pthread_rwlock_wrlock(&m->state);
        if (e) {
            m->n_tags = tags_before;
            if (s.cuts) {
                rv_postings_cancel(m->postings);
            }
        } else {
            take_over(m, c, &s);
        }
        rv_segments_size(m->segments, &m->vector_rows, &m->vector_bytes);
        pthread_rwlock_unlock(&m->state);
        rv_keeper_wake(m);
    }
    for (size_t i = 0; !e && i < c->n_use; i++) {
        if (c->use[i].expires_ms) { /* somebody has to see that its time is over */
            rv_writeback_start(m);
            break;
        }
    }
    free_scratch(m, &s);
    return e;
}

/* ---- link ---- */

rv_err rv_memory_edges_taken_back(rv_memory *m, int64_t id, link_row **out, size_t *n)
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
            rows[(*n)++] = (link_row){ .from = e.from, .to = id, .type = "corrects", .weight = 1 };
        }
    }
    *out = rows;
    return RV_OK;
}

static rv_err link_nodes(rv_memory *m, rv_memory_scope scope, int64_t from, int64_t to, const char *type,
                         double weight)
{
    matcher seen = rv_matcher_of(m, scope, NULL);
    RV_TRY(rv_matcher_need(&seen, from));
    RV_TRY(rv_matcher_need(&seen, to));
    link_row *back = NULL;
    size_t n_back = 0;
    if (strcmp(type, "corrects") == 0) {
        RV_TRY(rv_memory_edges_taken_back(m, from, &back, &n_back));
    }
    link_row row = { .from = from, .to = to, .type = type, .weight = weight };
    change c = { .link = &row, .n_link = 1, .unlink = back, .n_unlink = n_back };
    rv_err e = rv_memory_apply(m, &c);
    rv_free(m->mem, back);
    return e;
}

rv_err rv_memory_link(rv_memory *m, rv_memory_scope scope, int64_t from, int64_t to, const char *type,
                      double weight)
{
    if (!rv_memory_good_type(type)) {
        return rv_fail(RV_E_ARG, "type: expected 1 .. 32 of the letters a-z and _");
    }
    if (!((float)weight > 0 && weight <= 1e6)) { /* the graph holds floats */
        return rv_fail(RV_E_ARG, "weight: %g, expected more than 0 and at most 1000000", weight);
    }
    if (from == to) {
        return rv_fail(RV_E_ARG, "node %lld cannot be linked to itself", (long long)from);
    }
    pthread_mutex_lock(&m->writing);
    rv_err e = link_nodes(m, scope, from, to, type, weight);
    pthread_mutex_unlock(&m->writing);
    return e;
}

rv_err rv_memory_relink(rv_memory *m, rv_memory_scope scope, const rv_memory_edge *edges, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double weight = edges[i].weight;
        if (!rv_memory_good_type(edges[i].type) || !(weight == 0 || ((float)weight > 0 && weight <= 1e6))) {
            return rv_fail(RV_E_ARG, "edge %zu: of type %s and weight %g", i + 1, edges[i].type,
                           edges[i].weight);
        }
    }
    link_row *rows = rv_new_array(m->mem, n + 1, sizeof *rows);
    if (!rows) {
        return rv_fail(RV_E_NOMEM, "memory: no room to write");
    }
    pthread_mutex_lock(&m->writing);
    size_t n_link = 0, n_unlink = 0;
    matcher seen = rv_matcher_of(m, scope, NULL);
    for (size_t i = 0; i < n; i++) { /* those that go, from the end */
        const rv_memory_edge *e = &edges[i];
        link_row row = { .from = e->from, .to = e->to, .type = e->type, .weight = e->weight };
        if (!rv_matcher_has(&seen, e->from) || !rv_matcher_has(&seen, e->to)) {
            continue;
        }
        if (e->weight > 0 && e->from != e->to) {
            rows[n_link++] = row;
        } else if (e->weight == 0) {
            rows[n - n_unlink++] = row;
        }
    }
    change c = { .link = rows, .n_link = n_link, .unlink = rows + n + 1 - n_unlink, .n_unlink = n_unlink };
    rv_err e = n_link + n_unlink ? rv_memory_apply(m, &c) : RV_OK;
    pthread_mutex_unlock(&m->writing);
    rv_free(m->mem, rows);
    return e;
}

/* ---- remove ---- */

static int by_id(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

size_t rv_memory_parts(const rv_memory *m, int64_t document, int64_t *out)
{
    uint32_t types[2];
    const entry *whole = rv_memory_find(m, document);
    if (!whole || !rv_names_find(&m->names, "document", &types[0]) || whole->type != types[0] ||
        !rv_names_find(&m->names, "chunk", &types[1])) {
        return 0;
    }
    size_t n = 0;
    rv_graph_edge edge;
    for (rv_graph_cursor c = { 0 }; rv_graph_next(m->graph, document, RV_GRAPH_OUT, &c, &edge);) {
        const entry *part = edge.type == m->contains ? rv_memory_find(m, edge.to) : NULL;
        if (part && part->type == types[1] && part->user == whole->user) {
            if (out) {
                out[n] = part->id;
            }
            n++;
        }
    }
    return n;
}

rv_err rv_memory_with_parts(const rv_memory *m, int64_t **ids, size_t *n)
{
    size_t more = 0, at = *n, kept = 0;
    for (size_t i = 0; i < *n; i++) {
        more += rv_memory_parts(m, (*ids)[i], NULL);
    }
    int64_t *all = rv_resize(m->mem, *ids, (*n + more + 1) * sizeof *all);
    if (!all) {
        return rv_fail(RV_E_NOMEM, "memory: no room to remove %zu nodes", *n + more);
    }
    for (size_t i = 0; i < *n; i++) {
        at += rv_memory_parts(m, all[i], all + at);
    }
    qsort(all, at, sizeof *all, by_id);
    for (size_t i = 0; i < at; i++) {
        if (i == 0 || all[i] != all[kept - 1]) {
            all[kept++] = all[i];
        }
    }
    *ids = all;
    *n = kept;
    return RV_OK;
}

/* The entries f takes (that one alone unless id is 0), and the chunks of documents among them; ascending, each once. */
static rv_err collect(const rv_memory *m, int64_t id, const matcher *f, int64_t **out, size_t *n)
{
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
        }
        *n = at;
        if (!pass) {
            *out = rv_new_array(m->mem, at + 1, sizeof **out);
            if (!*out) {
                return rv_fail(RV_E_NOMEM, "memory: no room to remove %zu nodes", at);
            }
        }
    }
    return rv_memory_with_parts(m, out, n);
}

rv_err rv_memory_rm(rv_memory *m, rv_memory_scope scope, int64_t id, const rv_memory_filter *filter,
                    size_t *removed)
{
    bool filtered =
        filter && (filter->type || filter->tag || filter->source || filter->since_ms || filter->until_ms);
    bool named = id > 0 || (scope.whose == RV_SCOPE_USER && *scope.user) || filtered;
    if (id < 0 || !named) {
        return rv_fail(RV_E_ARG, "name what to remove: an id, or a filter (type, tag, source, user, time)");
    }
    pthread_mutex_lock(&m->writing);
    matcher f = rv_matcher_own(m, scope, filter); /* what is everybody's is not removed in the name of one */
    int64_t *ids = NULL;
    size_t n = 0;
    rv_err e = collect(m, id, &f, &ids, &n);
    if (!e && n == 0 && !filtered && scope.whose == RV_SCOPE_WHOLE && rv_idset_has(&m->damaged, id)) {
        ids[n++] = id; /* nobody can say what it was: it goes by its id alone */
    }
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
