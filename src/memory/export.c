/* A collection as a bundle. Changes wait while it is written, so that it is one state of the store; searches go on. */
#include "memory/bundle.h"
#include "memory/memory_priv.h"
#include "base/clock.h"
#include "base/log.h"

#include <string.h>

enum { ROW_BYTES = 8 << 20, TELL_EVERY = 256 };

typedef struct exporting {
    rv_memory *m;
    matcher filter;
    rv_bundle_writer *out;
    rv_bundle_head head;
    rv_text row;
    idset left_out; /* n_left_out nodes that are damaged */
    size_t n_left_out;
    rv_memory_export_progress progress;
    void *self;
} exporting;

static void add_field(rv_text *row, const char *name, rv_str value)
{
    if (value.n > 0) {
        rv_text_addf(row, ",\"%s\":", name);
        rv_json_string(row, value.at, value.n);
    }
}

static void add_number(rv_text *row, const char *name, int64_t value)
{
    if (value) {
        rv_text_addf(row, ",\"%s\":%lld", name, (long long)value);
    }
}

static void add_tags(rv_text *row, rv_str tags)
{
    for (size_t at = 0; at < tags.n;) {
        const char *end = memchr(tags.at + at, '\n', tags.n - at);
        size_t n = end ? (size_t)(end - tags.at) - at : tags.n - at;
        rv_text_adds(row, at ? "," : ",\"tags\":[");
        rv_json_string(row, tags.at + at, n);
        at += n + 1;
    }
    rv_text_adds(row, tags.n ? "]" : "");
}

static rv_err write_row(exporting *x, rv_bundle_part part)
{
    rv_text_adds(&x->row, "}\n");
    RV_TRY(rv_text_check(&x->row));
    rv_err e = rv_bundle_write(x->out, part, rv_text_get(&x->row), x->row.n);
    rv_text_clear(&x->row);
    return e;
}

static rv_err write_vector(exporting *x, const entry *e)
{
    uint32_t dim = (uint32_t)x->head.dim;
    x->head.n_vectors++;
    RV_TRY(rv_bundle_write(x->out, RV_BUNDLE_VECTORS, &dim, sizeof dim));
    return rv_bundle_write(x->out, RV_BUNDLE_VECTORS, e->row, x->head.dim * sizeof *e->row);
}

/* path, digest: of an imported file, else NULL */
static rv_err write_node(exporting *x, const record *r, const entry *e, const char *path,
                         const unsigned char *digest)
{
    rv_text *row = &x->row;
    rv_text_addf(row, "{\"id\":%lld", (long long)r->id);
    add_field(row, "type", r->type);
    add_field(row, "text", r->text);
    add_field(row, "source", r->source);
    add_field(row, "user", r->user);
    add_field(row, "origin", r->origin);
    add_tags(row, r->tags);
    rv_text_addf(row, ",\"confidence\":%.17g,\"created_ms\":%lld", r->confidence, (long long)r->created_ms);
    if (!rv_str_eq(r->metadata, "{}")) {
        rv_text_adds(row, ",\"metadata\":");
        rv_text_add(row, r->metadata.at, r->metadata.n); /* JSON of one line, as it was stored */
    }
    add_number(row, "offset", r->offset);
    add_number(row, "length", r->length);
    rv_text_adds(row, e->pinned ? ",\"pinned\":true" : "");
    add_number(row, "expires_ms", e->expires_ms);
    add_number(row, "used", e->used);
    add_number(row, "used_ms", e->used_ms);
    if (path) {
        add_field(row, "path", rv_str_from(path));
        rv_text_adds(row, ",\"digest\":\"");
        for (size_t i = 0; i < 32; i++) {
            rv_text_addf(row, "%02x", digest[i]);
        }
        rv_text_addc(row, '"');
    }
    if (e->row) {
        rv_text_addf(row, ",\"vector\":%llu", (unsigned long long)x->head.n_vectors);
        RV_TRY(write_vector(x, e));
    }
    x->head.n_nodes++;
    return write_row(x, RV_BUNDLE_NODES);
}

/* Named at the start already, or found now. */
static rv_err leave_out(exporting *x, int64_t id)
{
    if (!rv_idset_has(&x->m->damaged, id)) {
        rv_log(RV_LOG_WARN, "memory.node_damaged", "error", rv_err_text(), "doing", "leaving it out",
               (char *)NULL);
    }
    RV_TRY(rv_idset_reserve(x->m->mem, &x->left_out, id));
    rv_idset_add(&x->left_out, id);
    x->n_left_out++;
    return RV_OK;
}

static rv_err export_nodes(exporting *x, sqlite3 *conn)
{
    sqlite3_stmt *stmt;
    RV_TRY(rv_db_prepare(conn, &stmt,
                         "SELECT " RV_RECORD_COLUMNS ", path, digest FROM nodes LEFT JOIN (SELECT node, "
                         "path, digest FROM documents) ON node=id ORDER BY id",
                         ""));
    rv_err e = RV_OK;
    size_t seen = 0;
    for (bool row = true; !e && row;) {
        e = rv_db_step(stmt, &row);
        record r;
        if (e || !row) {
            break;
        }
        e = rv_record_read(stmt, &r);
        if (e == RV_E_CORRUPT && r.id >= 1 && r.id <= RV_MEMORY_ID_MAX) {
            e = leave_out(x, r.id);
            continue;
        }
        const entry *found = e ? NULL : rv_memory_find(x->m, r.id);
        const unsigned char *digest = sqlite3_column_blob(stmt, RV_RECORD_N_COLUMNS + 1);
        bool file = digest && sqlite3_column_bytes(stmt, RV_RECORD_N_COLUMNS + 1) == 32;
        if (!e && !found) {
            e = rv_fail(RV_E_CORRUPT, "node %lld on the disk is not in memory", (long long)r.id);
        } else if (!e && rv_matcher_takes(&x->filter, found)) {
            e = write_node(x, &r, found,
                           file ? (const char *)sqlite3_column_text(stmt, RV_RECORD_N_COLUMNS) : NULL,
                           digest);
        }
        if (!e && ++seen % TELL_EVERY == 0 && x->progress && !x->progress(x->self, seen, x->m->n_entries)) {
            e = rv_fail(RV_E_CANCELLED, "stopped; nothing was published");
        }
    }
    sqlite3_finalize(stmt);
    return e;
}

static bool is_exported(const exporting *x, int64_t id)
{
    return rv_matcher_has(&x->filter, id) && !rv_idset_has(&x->left_out, id);
}

static rv_err export_edges(exporting *x, sqlite3 *conn)
{
    sqlite3_stmt *stmt;
    RV_TRY(rv_db_prepare(conn, &stmt,
                         "SELECT from_id, to_id, type, weight, created_ms, sum FROM edges ORDER BY "
                         "created_ms, from_id, to_id, type",
                         ""));
    rv_err e = RV_OK;
    for (bool row = true; !e && row;) {
        e = rv_db_step(stmt, &row);
        if (e || !row) {
            break;
        }
        int64_t from = sqlite3_column_int64(stmt, 0), to = sqlite3_column_int64(stmt, 1),
                created = sqlite3_column_int64(stmt, 4);
        rv_str type =
            rv_str_of((const char *)sqlite3_column_text(stmt, 2), (size_t)sqlite3_column_bytes(stmt, 2));
        double weight = sqlite3_column_double(stmt, 3);
        if (rv_edge_sum(from, to, type, weight, created) != sqlite3_column_int64(stmt, 5)) {
            e = rv_fail(RV_E_CORRUPT, "the edge from %lld to %lld does not fit its checksum", (long long)from,
                        (long long)to);
        } else if (is_exported(x, from) && is_exported(x, to)) {
            rv_text_addf(&x->row, "{\"from\":%lld,\"to\":%lld", (long long)from, (long long)to);
            add_field(&x->row, "type", type);
            rv_text_addf(&x->row, ",\"weight\":%.17g,\"created_ms\":%lld", weight, (long long)created);
            x->head.n_edges++;
            e = write_row(x, RV_BUNDLE_EDGES);
        }
    }
    sqlite3_finalize(stmt);
    return e;
}

static rv_err export_all(exporting *x, rv_memory_scope scope, const rv_memory_filter *filter)
{
    sqlite3 *conn;
    pthread_mutex_lock(&x->m->writing); /* entries and names change only under it */
    x->filter = rv_matcher_of(x->m, scope, filter);
    x->head.next_id = x->m->next_id;
    rv_err e = rv_db_reader(x->m->db, &conn);
    if (!e) {
        e = export_nodes(x, conn);
        e = e ? e : export_edges(x, conn);
        rv_db_reader_done(x->m->db, conn);
    }
    pthread_mutex_unlock(&x->m->writing);
    return e;
}

rv_err rv_memory_export(rv_memory *m, rv_memory_scope scope, const char *dir,
                        const rv_memory_export_options *how, rv_memory_export_progress progress, void *self,
                        rv_memory_exported *out)
{
    size_t name_bytes = strlen(how->name);
    if (name_bytes < 1 || name_bytes > RV_BUNDLE_TEXT_BYTES || !rv_utf8_valid(how->name, name_bytes)) {
        return rv_fail(RV_E_ARG, "name: expected 1 .. %d bytes of UTF-8", RV_BUNDLE_TEXT_BYTES);
    }
    rv_memory_flush(m);
    exporting x = { .m = m,
                    .head = { .data_ref = how->name,
                              .space = m->embedder_name,
                              .memory_class = how->memory_class,
                              .dim = m->embedder.dim,
                              .created_ms = rv_clock_wall_ms() },
                    .progress = progress,
                    .self = self };
    rv_text_init(&x.row, m->mem, ROW_BYTES);
    rv_err e = rv_bundle_create(m->mem, dir, &x.out);
    e = e ? e : export_all(&x, scope, &how->filter);
    e = e ? e : rv_bundle_publish(x.out, &x.head, out->witness);
    rv_bundle_writer_free(x.out);
    rv_text_deinit(&x.row);
    rv_idset_deinit(m->mem, &x.left_out);
    if (!e) {
        out->damaged = x.n_left_out;
        out->nodes = (size_t)x.head.n_nodes;
        out->edges = (size_t)x.head.n_edges;
        out->vectors = (size_t)x.head.n_vectors;
        out->generation = x.head.generation;
    }
    return e;
}
