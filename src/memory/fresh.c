/* One sync of the disk for a durable add. The vectors of a small change are written to their segment, and into the database as well, in
 * the transaction that names them: that one sync makes both durable. When enough have come together the segments are synced once, and
 * the next transaction lets the copies go. After a power loss a row that did not reach its segment is made from its copy. */
#include "memory/memory_priv.h"
#include "base/rng.h"

#include <string.h>

enum {
    AT_ONCE = 64,
    FRESH_MOST = 512
}; /* rows of a change that are copied; copies before the segments are synced */

static rv_err put_copy(rv_memory *m, sqlite3_stmt *stmt, int64_t id, const float *vector, uint8_t *blob)
{
    size_t n = m->embedder.dim * sizeof *vector;
    bool row;
    memcpy(blob, vector, n);
    uint64_t sum = rv_hash64(blob, n, (uint64_t)id);
    memcpy(blob + n, &sum, sizeof sum);
    RV_TRY(rv_db_bind(stmt, "ib", id, blob, n + sizeof sum));
    return rv_db_step(stmt, &row);
}

rv_err rv_fresh_keep(rv_memory *m, sqlite3 *conn, const int64_t *ids, const float *vectors, size_t n)
{
    if (n > AT_ONCE || m->n_fresh + n > FRESH_MOST) {
        RV_TRY(rv_segments_sync(m->segments));
        m->n_fresh = 0;
        return rv_db_exec(conn, "DELETE FROM fresh", "");
    }
    sqlite3_stmt *stmt;
    RV_TRY(rv_db_kept(m->db, &stmt, "INSERT INTO fresh VALUES(?1,?2)"));
    uint8_t *blob = rv_new(m->mem, m->embedder.dim * sizeof *vectors + sizeof(uint64_t));
    rv_err e = blob ? RV_OK : rv_fail(RV_E_NOMEM, "memory: no room to write");
    for (size_t i = 0; !e && i < n; i++) {
        e = put_copy(m, stmt, ids[i], vectors + i * m->embedder.dim, blob);
    }
    m->n_fresh += n; /* too many when the transaction fails: the segments are synced a little earlier */
    sqlite3_clear_bindings(stmt);
    rv_free(m->mem, blob);
    return e;
}

rv_err rv_fresh_get(const rv_memory *m, sqlite3 *conn, int64_t id, float *out, bool *found)
{
    sqlite3_stmt *stmt;
    RV_TRY(rv_db_prepare(conn, &stmt, "SELECT vector FROM fresh WHERE id=?1", "i", id));
    rv_err e = rv_db_step(stmt, found);
    size_t n = m->embedder.dim * sizeof *out;
    uint64_t sum;
    if (!e && *found) {
        const uint8_t *blob = sqlite3_column_blob(stmt, 0);
        *found = (size_t)sqlite3_column_bytes(stmt, 0) == n + sizeof sum;
        if (*found) {
            memcpy(&sum, blob + n, sizeof sum);
            *found = sum == rv_hash64(blob, n, (uint64_t)id);
        }
        if (*found) {
            memcpy(out, blob, n);
        }
    }
    sqlite3_finalize(stmt);
    return e;
}

rv_err rv_fresh_count(rv_memory *m, sqlite3 *conn)
{
    int64_t n = 0;
    RV_TRY(rv_db_int(conn, &n, "SELECT count(*) FROM fresh", ""));
    m->n_fresh = (size_t)n;
    return RV_OK;
}
