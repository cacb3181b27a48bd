/* A bundle back into a store, node for node: ids, times, edges and vectors are those that were exported. What an earlier try brought in is
 * compared and passed over, so a restore that was cut short is simply done again. */
#include "memory/bundle.h"
#include "memory/memory_priv.h"
#include "base/rng.h"

#include <string.h>

enum { BATCH = 256, ARENA_BYTES = 512 << 20 };

typedef struct restoring {
    rv_memory *m;
    const rv_bundle *b;
    rv_arena *arena; /* of a batch */
    rv_memory_export_progress progress;
    void *self;
    rv_memory_restored *done;
    int64_t last; /* id */
    record records[BATCH];
    document_row documents[BATCH];
    use_row use[BATCH];
    rv_bundle_node nodes[BATCH];
    link_row links[BATCH];
    size_t n, n_documents, n_use;
    idset ended;         /* nodes that an earlier try brought in, and whose time was over since */
    uint64_t ended_file; /* of the last document, when it is one of these; else 0 */
    bool searched;       /* those in the batch have vectors */
    float *vectors;      /* [BATCH][dim] */
} restoring;

static rv_err check_fields(const restoring *r, const rv_bundle_node *n)
{
    const rv_memory_node *at = &n->node;
    rv_memory_new as_new = { .type = at->type,
                             .text = at->text,
                             .source = at->source,
                             .origin = at->origin,
                             .tags = at->tags,
                             .n_tags = at->n_tags,
                             .confidence = at->confidence,
                             .offset = at->offset,
                             .length = at->length };
    if (at->id <= r->last || at->id >= r->b->head.next_id) {
        return rv_fail(RV_E_FORMAT, "node %lld: expected ids that ascend, below %lld", (long long)at->id,
                       (long long)r->b->head.next_id);
    }
    rv_err e = rv_memory_check_new(&as_new, rv_memory_of(at->user), strlen(at->text));
    if (e) {
        return rv_fail(RV_E_FORMAT, "node %lld: %s", (long long)at->id, rv_err_text());
    }
    if (n->path && strcmp(at->type, "document") != 0) {
        return rv_fail(RV_E_FORMAT, "node %lld: only a document has a path", (long long)at->id);
    }
    return (n->vector >= 0) == (strcmp(at->type, "document") != 0)
               ? RV_OK
               : rv_fail(RV_E_FORMAT, "node %lld: a document has no vector, and everything else has one",
                         (long long)at->id);
}

static rv_err record_of(const restoring *r, const rv_bundle_node *n, record *out)
{
    rv_text tags;
    rv_text_init(&tags, r->m->mem, RV_MEMORY_TAGS_MAX * (RV_MEMORY_TAG_BYTES + 1));
    rv_err e = rv_memory_join_tags(r->m->mem, n->node.tags, n->node.n_tags, &tags);
    const char *joined = e ? NULL : rv_arena_strndup(r->arena, rv_text_get(&tags), tags.n);
    size_t n_joined = tags.n;
    rv_text_deinit(&tags);
    if (!joined) {
        return e ? e : rv_fail(RV_E_NOMEM, "no memory to restore");
    }
    *out = (record){ .id = n->node.id,
                     .type = rv_str_from(n->node.type),
                     .text = rv_str_from(n->node.text),
                     .source = rv_str_from(n->node.source),
                     .user = rv_str_from(n->node.user),
                     .origin = rv_str_from(n->node.origin),
                     .tags = rv_str_of(joined, n_joined),
                     .metadata = rv_str_from(n->node.metadata),
                     .confidence = n->node.confidence,
                     .created_ms = n->node.created_ms,
                     .offset = (int64_t)n->node.offset,
                     .length = (int64_t)n->node.length };
    return RV_OK;
}

/* A node with this id is there: the same one? */
static rv_err check_same(const restoring *r, const record *wanted)
{
    sqlite3 *conn;
    int64_t sum = 0;
    RV_TRY(rv_db_reader(r->m->db, &conn));
    rv_err e = rv_db_int(conn, &sum, "SELECT sum FROM nodes WHERE id=?1", "i", wanted->id);
    rv_db_reader_done(r->m->db, conn);
    return e || sum == rv_record_sum(wanted)
               ? e
               : rv_fail(RV_E_ARG,
                         "node %lld of this store is another one: restore into an empty data folder (--data "
                         "DIR), search in the bundle "
                         "as it is (memory search --bundle DIR), or import its texts as new nodes (memory "
                         "import DIR/nodes-*.jsonl)",
                         (long long)wanted->id);
}

/* Whether a node is gone because its time was over, or that of its document, which chunks follow. */
static bool has_ended(restoring *r, const rv_bundle_node *n)
{
    const rv_memory_node *at = &n->node;
    const uint64_t file = rv_hash64(at->source, strlen(at->source), rv_hash64(at->user, strlen(at->user), 1));
    bool gone = !rv_memory_find(r->m, at->id) && !rv_idset_has(&r->m->damaged, at->id);
    bool over = n->expires_ms && !n->pinned && n->expires_ms <= rv_memory_now_ms(r->m);
    over = over || (strcmp(at->type, "chunk") == 0 && file == r->ended_file);
    if (strcmp(at->type, "document") == 0) {
        r->ended_file = gone && over ? file : 0;
    }
    return gone && over;
}

/* A node that an earlier try brought in. Under writing. */
static rv_err pass_over(restoring *r, const rv_bundle_node *n, const record *row)
{
    r->done->there++;
    if (!has_ended(r, n)) {
        return check_same(r, row);
    }
    RV_TRY(rv_idset_reserve(r->m->mem, &r->ended, row->id));
    rv_idset_add(&r->ended, row->id);
    return RV_OK;
}

/* Under writing. */
static rv_err write_batch(restoring *r)
{
    if (r->n == 0) {
        return RV_OK;
    }
    change c = { .add = r->records,
                 .n_add = r->n,
                 .vectors = r->searched ? r->vectors : NULL,
                 .documents = r->documents,
                 .n_documents = r->n_documents,
                 .use = r->use,
                 .n_use = r->n_use };
    (void)rv_memory_take_ids(r->m, (size_t)(r->last + 1 - r->m->next_id));
    rv_err e = rv_memory_apply(r->m, &c);
    r->done->nodes += e ? 0 : r->n;
    r->n = r->n_documents = r->n_use = 0;
    rv_arena_reset(r->arena);
    return e;
}

/* A node that was read, behind those of the batch. Under writing. */
static rv_err put_node(restoring *r, const rv_bundle_node *n)
{
    size_t dim = r->b->head.dim;
    record row;
    RV_TRY(check_fields(r, n));
    RV_TRY(record_of(r, n, &row));
    r->last = n->node.id;
    if (n->node.id < r->m->next_id) { /* ids of the batch are not taken yet */
        return pass_over(r, n, &row);
    }
    if (n->vector >= 0) {
        memcpy(r->vectors + r->n * dim, rv_bundle_vector(r->b, (size_t)n->vector), dim * sizeof *r->vectors);
    }
    r->searched = n->vector >= 0;
    r->nodes[r->n] = *n;
    if (n->path) {
        r->documents[r->n_documents++] = (document_row){ row.id, row.user, n->path, r->nodes[r->n].digest };
    }
    if (n->pinned || n->expires_ms || n->used) {
        r->use[r->n_use++] = (use_row){ row.id, n->pinned, n->expires_ms, n->used, n->used_ms };
    }
    r->records[r->n++] = row;
    return RV_OK;
}

static rv_err restore_nodes(restoring *r)
{
    for (size_t at = 0, seen = 0;; seen++) {
        rv_bundle_node n;
        bool more;
        size_t from = at;
        RV_TRY(rv_bundle_read_node(r->b, &at, r->arena, &n, &more));
        /* A batch is of nodes that have vectors, or of nodes that have none. */
        if (r->n > 0 && (!more || r->n == BATCH || (n.vector >= 0) != r->searched)) {
            RV_TRY(write_batch(r));
            at = from; /* the line is read again: the batch took its texts along */
            RV_TRY(rv_bundle_read_node(r->b, &at, r->arena, &n, &more));
        }
        if (!more) {
            return seen == r->b->head.n_nodes
                       ? RV_OK
                       : rv_fail(RV_E_FORMAT, "%zu nodes in the bundle, %llu by its head", seen,
                                 (unsigned long long)r->b->head.n_nodes);
        }
        RV_TRY(put_node(r, &n));
        if (r->n == 0) {
            rv_arena_reset(r->arena); /* it was there */
        }
        if (seen % BATCH == 0 && r->progress && !r->progress(r->self, seen, (size_t)r->b->head.n_nodes)) {
            RV_TRY(write_batch(r));
            return rv_fail(RV_E_CANCELLED,
                           "stopped after %zu of %llu nodes; the same command goes on from here", seen + 1,
                           (unsigned long long)r->b->head.n_nodes);
        }
    }
}

static rv_err check_edge(const restoring *r, const rv_bundle_edge *e)
{
    bool good = rv_memory_good_type(e->type) && (float)e->weight > 0 && e->from != e->to &&
                rv_memory_find(r->m, e->from) && rv_memory_find(r->m, e->to);
    return good ? RV_OK
                : rv_fail(
                      RV_E_FORMAT,
                      "edge from %lld to %lld: expected two nodes of the bundle, a type and a weight above 0",
                      (long long)e->from, (long long)e->to);
}

static rv_err restore_edges(restoring *r)
{
    size_t n = 0, n_ended = 0; /* edges of nodes that are gone go with them */
    for (size_t at = 0;;) {
        rv_bundle_edge e;
        bool more;
        size_t from = at;
        RV_TRY(rv_bundle_read_edge(r->b, &at, r->arena, &e, &more));
        if (n == BATCH || (!more && n > 0)) {
            RV_TRY(rv_memory_apply(r->m, &(change){ .link = r->links, .n_link = n }));
            r->done->edges += n;
            n = 0;
            rv_arena_reset(r->arena);
            at = from; /* read again what the reset took */
            continue;
        }
        if (!more) {
            return r->done->edges + n_ended == r->b->head.n_edges
                       ? RV_OK
                       : rv_fail(RV_E_FORMAT, "%zu edges in the bundle, %llu by its head",
                                 r->done->edges + n_ended, (unsigned long long)r->b->head.n_edges);
        }
        if (rv_idset_has(&r->ended, e.from) || rv_idset_has(&r->ended, e.to)) {
            n_ended++;
            continue;
        }
        RV_TRY(check_edge(r, &e));
        r->links[n++] = (link_row){ e.from, e.to, e.type, e.weight, e.created_ms };
    }
}

/* Ids of nodes that the exported store had removed are not given out again. */
static rv_err raise_ids(restoring *r)
{
    int64_t last = r->b->head.next_id - 1;
    sqlite3 *conn;
    if (r->m->next_id > last) {
        return RV_OK;
    }
    RV_TRY(rv_db_begin(r->m->db, &conn));
    rv_err e = rv_db_exec(conn,
                          "INSERT INTO sqlite_sequence(name, seq) SELECT 'nodes', 0 WHERE NOT EXISTS (SELECT "
                          "1 FROM sqlite_sequence WHERE name='nodes')",
                          "");
    e = e ? e
          : rv_db_exec(conn, "UPDATE sqlite_sequence SET seq=?1 WHERE name='nodes' AND seq<?1", "i", last);
    if (e) {
        rv_db_rollback(r->m->db);
        return e;
    }
    RV_TRY(rv_db_commit(r->m->db));
    r->m->next_id = last + 1;
    return RV_OK;
}

static rv_err restore(restoring *r)
{
    const rv_bundle_head *h = &r->b->head;
    if (strcmp(h->space, r->m->embedder_name) != 0 || h->dim != r->m->embedder.dim) {
        return rv_fail(RV_E_CONFIG,
                       "the bundle holds vectors of embedder \"%.63s\" with %zu dimensions, and \"%s\" with "
                       "%zu is configured: choose that one "
                       "in [embedding], or import its texts alone (memory import DIR/nodes-*.jsonl)",
                       h->space, h->dim, r->m->embedder_name, r->m->embedder.dim);
    }
    RV_TRY(restore_nodes(r));
    RV_TRY(restore_edges(r));
    return raise_ids(r);
}

rv_err rv_memory_restore(rv_memory *m, const char *dir, rv_memory_export_progress progress, void *self,
                         rv_memory_restored *done)
{
    rv_bundle b;
    RV_TRY(rv_bundle_open(m->mem, dir, &b));
    restoring *r = rv_new(m->mem, sizeof *r);
    float *vectors = rv_new_array(m->mem, BATCH * b.head.dim, sizeof *vectors); /* dim is at most 8,192 */
    rv_err e = r && vectors ? RV_OK : rv_fail(RV_E_NOMEM, "no memory to restore");
    if (!e) {
        *r = (restoring){
            .m = m, .b = &b, .progress = progress, .self = self, .done = done, .vectors = vectors
        };
        e = rv_arena_new(m->mem, ARENA_BYTES, &r->arena);
    }
    if (!e) {
        pthread_mutex_lock(&m->writing);
        e = restore(r);
        pthread_mutex_unlock(&m->writing);
        rv_arena_free(r->arena);
        rv_idset_deinit(m->mem, &r->ended);
    }
    rv_free(m->mem, vectors);
    rv_free(m->mem, r);
    rv_bundle_close(&b);
    return e;
}

bool rv_memory_is_bundle(const char *dir)
{
    char *path = rv_path_join(&rv_heap, dir, RV_BUNDLE_FILE);
    bool found = path && rv_file_exists(path);
    rv_free(&rv_heap, path);
    return found;
}
