/* Room of what was removed. The row of a vector stays in its file when its node is removed. A scrub makes it zeros; compacting also
 * copies the rows of files that have become sparse behind the last row, some at a time, each time one transaction that names them
 * there, and removes the file once nobody names a row of it. Whoever still reads an old row can: it stays mapped until the memory
 * closes. Killed at any point, the store has every vector once under its name, and the next compaction goes on. */
#include "memory/memory_priv.h"

#include <string.h>

enum { TOGETHER = 256 }; /* rows of a transaction: changes wait as long as it takes */

/* ---- which rows are named ---- */

static rv_err read_named(sqlite3 *conn, rv_segment_row *rows, size_t n)
{
    sqlite3_stmt *stmt = NULL;
    bool row = true;
    RV_TRY(rv_db_prepare(conn, &stmt,
                         "SELECT segment, segment_row FROM nodes WHERE segment IS NOT NULL ORDER BY segment, "
                         "segment_row",
                         ""));
    rv_err e = RV_OK;
    for (size_t i = 0; !e && i < n; i++) {
        e = rv_db_step(stmt, &row);
        e = !e && !row ? rv_fail(RV_E_CORRUPT, "memory: rows that were counted are gone") : e;
        if (!e) {
            rows[i] = (rv_segment_row){ (uint32_t)sqlite3_column_int64(stmt, 0),
                                        (uint32_t)sqlite3_column_int64(stmt, 1) };
        }
    }
    sqlite3_finalize(stmt);
    return e;
}

/* Under writing. *rows [*n] to be freed, also after an error. */
static rv_err named_rows(rv_memory *m, rv_segment_row **rows, size_t *n)
{
    sqlite3 *conn;
    int64_t count = 0;
    RV_TRY(rv_db_reader(m->db, &conn));
    rv_err e = rv_db_int(conn, &count, "SELECT count(*) FROM nodes WHERE segment IS NOT NULL", "");
    if (!e) {
        *n = (size_t)count;
        *rows = rv_new_array(m->mem, *n + 1, sizeof **rows);
        e = *rows ? read_named(conn, *rows, *n) : rv_fail(RV_E_NOMEM, "memory: no room to clean its files");
    }
    rv_db_reader_done(m->db, conn);
    return e;
}

/* ---- scrub ---- */

static rv_err scrub_words(rv_memory *m)
{
    sqlite3 *conn;
    RV_TRY(rv_db_begin(m->db, &conn));
    rv_err e = rv_db_exec(conn, "INSERT INTO words(words) VALUES('optimize')", "");
    if (e) {
        rv_db_rollback(m->db);
        return e;
    }
    return rv_db_commit(m->db);
}

/* Once the disk has refused a sync of vectors, no transaction is acknowledged either. */
static void stop_after_failed_sync(rv_memory *m)
{
    if (rv_segments_failed(m->segments)) {
        rv_db_stop(m->db);
    }
}

/* The folder is synced, too, and is that of the vectors. */
static rv_err forget_indexes(rv_memory *m)
{
    rv_err e = rv_fast_forget(m->folder);
    if (e == RV_E_IO) {
        rv_db_stop(m->db);
    }
    return e;
}

static rv_err clean(rv_memory *m, size_t *erased)
{
    rv_segment_row *rows = NULL;
    size_t n = 0;
    pthread_mutex_lock(&m->writing); /* so that no row is appended that no node names yet */
    rv_err e = scrub_words(m);
    e = e ? e : named_rows(m, &rows, &n);
    if (!e) {
        pthread_rwlock_wrlock(&m->state); /* nobody is reading a row that is removed */
        e = rv_segments_scrub(m->segments, rows, n, erased);
        m->moves_scrubbed = m->moves;
        m->scrubs++; /* dead places of an index hold what was removed: none of now is saved after this */
        pthread_rwlock_unlock(&m->state);
        stop_after_failed_sync(m);
        e = e ? e : forget_indexes(m);
    }
    pthread_mutex_unlock(&m->writing);
    rv_free(m->mem, rows);
    return e;
}

rv_err rv_memory_scrub(rv_memory *m, size_t *erased)
{
    rv_err e = clean(m, erased);
    rv_keeper_wake(m);
    return e;
}

/* ---- compact ---- */

typedef struct moving {
    int64_t after; /* nodes up to this one are done */
    int64_t *ids;  /* [n] of [TOGETHER] */
    size_t n;
    float *vectors; /* [n][dim] */
    rv_segment_row *rows;
    const float **at; /* [n] as mapped in their new places */
} moving;

/* The next nodes whose rows are in files that are left. */
static rv_err pick(rv_memory *m, sqlite3 *conn, moving *g)
{
    sqlite3_stmt *stmt = NULL;
    bool row = true;
    g->n = 0;
    RV_TRY(rv_db_prepare(conn, &stmt,
                         "SELECT id, segment FROM nodes WHERE id > ?1 AND segment IS NOT NULL ORDER BY id",
                         "i", g->after));
    rv_err e = RV_OK;
    while (!e && g->n < TOGETHER) {
        e = rv_db_step(stmt, &row);
        if (e || !row) {
            break;
        }
        int64_t id = sqlite3_column_int64(stmt, 0);
        g->after = id;
        if (!rv_segments_is_left(m->segments, (uint32_t)sqlite3_column_int64(stmt, 1))) {
            continue;
        }
        const entry *found = rv_memory_find(m, id);
        if (rv_idset_has(&m->damaged, id)) {
            continue; /* its file stays */
        }
        if (!found || !found->row) {
            e = rv_fail(RV_E_CORRUPT, "node %lld on the disk is not the one in memory", (long long)id);
            break;
        }
        g->ids[g->n] = id;
        memcpy(g->vectors + g->n++ * m->embedder.dim, found->row, m->embedder.dim * sizeof *g->vectors);
    }
    sqlite3_finalize(stmt);
    return e;
}

static rv_err write_moved(rv_memory *m, sqlite3 *conn, moving *g)
{
    RV_TRY(pick(m, conn, g));
    RV_TRY(rv_segments_append(m->segments, g->ids, g->vectors, g->n, g->rows));
    RV_TRY(rv_segments_sync(m->segments));
    for (size_t i = 0; i < g->n; i++) {
        RV_TRY(rv_segments_get(m->segments, g->rows[i], g->ids[i], &g->at[i]));
        RV_TRY(rv_db_exec(conn, "UPDATE nodes SET segment=?2, segment_row=?3 WHERE id=?1", "iii", g->ids[i],
                          (int64_t)g->rows[i].segment, (int64_t)g->rows[i].row));
    }
    return RV_OK;
}

/* Nothing here can fail: room for as many was reserved. */
static void take_over(rv_memory *m, const moving *g)
{
    pthread_rwlock_wrlock(&m->state);
    m->moves++;
    rv_index_remove(m->index, g->ids, g->n);
    for (size_t i = 0; i < g->n; i++) {
        m->entries[rv_memory_find(m, g->ids[i]) - m->entries].row = g->at[i];
        rv_index_add(m->index, g->ids[i], g->at[i]);
    }
    rv_segments_size(m->segments, &m->vector_rows, &m->vector_bytes);
    pthread_rwlock_unlock(&m->state);
}

/* One transaction; g->n 0: there are no more. */
static rv_err move_some(rv_memory *m, moving *g)
{
    sqlite3 *conn;
    pthread_mutex_lock(&m->writing);
    pthread_rwlock_wrlock(&m->state);
    rv_err e = rv_index_reserve(m->index, TOGETHER);
    pthread_rwlock_unlock(&m->state);
    e = e ? e : rv_db_begin(m->db, &conn);
    if (!e) {
        e = write_moved(m, conn, g);
        stop_after_failed_sync(m);
        if (e || g->n == 0) {
            rv_db_rollback(m->db);
        } else {
            e = rv_db_commit(m->db);
        }
    }
    if (!e && g->n > 0) {
        take_over(m, g);
    }
    pthread_mutex_unlock(&m->writing);
    return e;
}

static rv_err move_all(rv_memory *m, size_t total, rv_memory_export_progress progress, void *self,
                       size_t *moved)
{
    moving g = { .ids = rv_new_array(m->mem, TOGETHER, sizeof *g.ids),
                 .vectors = rv_new_array(m->mem, TOGETHER * m->embedder.dim, sizeof *g.vectors),
                 .rows = rv_new_array(m->mem, TOGETHER, sizeof *g.rows),
                 .at = rv_new_array(m->mem, TOGETHER, sizeof *g.at) };
    rv_err e =
        g.ids && g.vectors && g.rows && g.at ? RV_OK : rv_fail(RV_E_NOMEM, "memory: no room to compact");
    do {
        e = e ? e : move_some(m, &g);
        *moved += e ? 0 : g.n;
        if (!e && g.n > 0 && progress && !progress(self, *moved, total)) {
            e = rv_fail(RV_E_CANCELLED, "interrupted; compacting again goes on with what is left");
        }
    } while (!e && g.n > 0);
    rv_free(m->mem, g.ids);
    rv_free(m->mem, g.vectors);
    rv_free(m->mem, g.rows);
    rv_free(m->mem, g.at);
    return e;
}

/* Under writing, for the named rows as they are now: leave sparse files, or remove what nobody needs. */
static rv_err leave(rv_memory *m, size_t *total)
{
    rv_segment_row *rows = NULL;
    size_t n = 0;
    pthread_mutex_lock(&m->writing);
    rv_err e = named_rows(m, &rows, &n);
    *total = e ? 0 : rv_segments_leave(m->segments, rows, n);
    pthread_mutex_unlock(&m->writing);
    rv_free(m->mem, rows);
    return e;
}

static rv_err shed(rv_memory *m, size_t *files)
{
    rv_segment_row *rows = NULL;
    size_t n = 0;
    pthread_mutex_lock(&m->writing);
    rv_err e = named_rows(m, &rows, &n);
    e = e ? e : rv_segments_shed(m->segments, rows, n, files);
    stop_after_failed_sync(m);
    pthread_rwlock_wrlock(&m->state);
    rv_segments_size(m->segments, &m->vector_rows, &m->vector_bytes);
    pthread_rwlock_unlock(&m->state);
    pthread_mutex_unlock(&m->writing);
    rv_free(m->mem, rows);
    return e;
}

/* A saved index knows where each row was. */
static rv_err outdate_indexes(rv_memory *m)
{
    pthread_mutex_lock(&m->writing);
    pthread_rwlock_wrlock(&m->state);
    m->scrubs++;
    pthread_rwlock_unlock(&m->state);
    rv_err e = forget_indexes(m);
    pthread_mutex_unlock(&m->writing);
    return e;
}

rv_err rv_memory_compact(rv_memory *m, rv_memory_export_progress progress, void *self,
                         rv_memory_compacted *done)
{
    size_t total = 0;
    *done = (rv_memory_compacted){ 0 };
    rv_err e = clean(m, &done->erased);
    e = e ? e : rv_db_scrub(m->db);
    e = e ? e : leave(m, &total);
    e = e || !total ? e : move_all(m, total, progress, self, &done->moved);
    if (done->moved && (!e || e == RV_E_CANCELLED)) {
        rv_err outdated = outdate_indexes(m);
        e = outdated ? outdated : e;
    }
    e = e ? e : shed(m, &done->files);
    rv_keeper_wake(m);
    return e;
}
