/* What becomes of a node after it was written: pinned, ending, used. Kept apart from its record, which hardly ever changes: most nodes have no
 * row here. */
#include "memory/memory_priv.h"
#include "base/clock.h"

#include <math.h>
#include <string.h>

int64_t rv_memory_now_ms(const rv_memory *m)
{
    return m->opened_wall_ms + (int64_t)(rv_clock_ms() - m->opened_ms);
}

void rv_memory_set_habits(rv_memory *m, const rv_memory_habits *h)
{
    pthread_mutex_lock(&m->queueing);
    m->batch = h->batch < 1 ? 1 : h->batch > 1000 ? 1000 : h->batch;
    m->batch_ms = (double)h->batch_ms;
    pthread_mutex_unlock(&m->queueing);
    pthread_rwlock_wrlock(&m->state);
    m->half_life_ms = h->half_life_days > 0 ? (int64_t)(h->half_life_days * 86400000) : 0;
    pthread_rwlock_unlock(&m->state);
}

void rv_memory_set_vector_weight(rv_memory *m, double weight)
{
    pthread_rwlock_wrlock(&m->state);
    m->vector_weight = weight;
    pthread_rwlock_unlock(&m->state);
}

double rv_memory_worth(const rv_memory *m, int64_t id, int64_t now_ms)
{
    const entry *e = rv_memory_find(m, id);
    if (!e) {
        return 1;
    }
    double worth = 0.5 + 0.5 * (double)e->confidence;
    int64_t age = now_ms - (e->used_ms > e->created_ms ? e->used_ms : e->created_ms);
    bool fades = m->half_life_ms > 0 && !e->pinned && age > 0;
    return fades ? worth * (0.5 + 0.5 * exp2(-(double)age / (double)m->half_life_ms)) : worth;
}

int64_t rv_use_sum(const use_row *u)
{
    uint64_t sum = rv_db_sum_int(rv_db_sum_int(0, u->id), u->pinned);
    return (int64_t)rv_db_sum_int(rv_db_sum_int(rv_db_sum_int(sum, u->expires_ms), u->used), u->used_ms);
}

use_row rv_use_of(const entry *e)
{
    return (use_row){ e->id, e->pinned, e->expires_ms, e->used, e->used_ms };
}

static rv_err read_row(const rv_memory *m, sqlite3_stmt *stmt, use_row *out)
{
    *out = (use_row){ sqlite3_column_int64(stmt, 0), sqlite3_column_int64(stmt, 1) != 0,
                      sqlite3_column_int64(stmt, 2), sqlite3_column_int64(stmt, 3),
                      sqlite3_column_int64(stmt, 4) };
    return rv_use_sum(out) == sqlite3_column_int64(stmt, 5) && out->used >= 0 && out->used <= UINT32_MAX &&
                   rv_memory_find(m, out->id)
               ? RV_OK
               : rv_fail(RV_E_CORRUPT,
                         "%s: what is kept of the use of node %lld does not fit its checksum or its node; "
                         "restore the file from a backup",
                         sqlite3_db_filename(sqlite3_db_handle(stmt), "main"), (long long)out->id);
}

static const char all_sql[] = "SELECT node, pinned, expires_ms, used, used_ms, sum FROM node_use";

static void set_entry(rv_memory *m, const use_row *u)
{
    const entry *found = rv_memory_find(m, u->id);
    if (found) {
        entry *e = &m->entries[found - m->entries];
        e->pinned = u->pinned;
        e->expires_ms = u->expires_ms;
        e->used = (uint32_t)u->used;
        e->used_ms = u->used_ms;
    }
}

rv_err rv_use_load(rv_memory *m, sqlite3 *conn)
{
    sqlite3_stmt *stmt;
    RV_TRY(rv_db_prepare(conn, &stmt, all_sql, ""));
    rv_err e = RV_OK;
    for (bool row = true; !e && row;) {
        e = rv_db_step(stmt, &row);
        use_row u;
        if (!e && row && !rv_idset_has(&m->damaged, sqlite3_column_int64(stmt, 0))) {
            e = read_row(m, stmt, &u);
            if (!e) {
                set_entry(m, &u);
            }
        }
    }
    sqlite3_finalize(stmt);
    return e;
}

rv_err rv_use_check(const rv_memory *m, sqlite3 *conn)
{
    sqlite3_stmt *stmt;
    RV_TRY(rv_db_prepare(conn, &stmt, all_sql, ""));
    rv_err e = RV_OK;
    size_t n = 0, expected = 0;
    for (bool row = true; !e && row;) {
        e = rv_db_step(stmt, &row);
        use_row u;
        if (!e && row) {
            e = read_row(m, stmt, &u);
        }
        if (!e && row) {
            use_row held = rv_use_of(rv_memory_find(m, u.id));
            e = rv_use_sum(&held) == rv_use_sum(&u)
                    ? RV_OK
                    : rv_fail(RV_E_CORRUPT, "the use of node %lld on the disk is not the one in memory",
                              (long long)u.id);
            n += held.pinned || held.expires_ms || held.used;
        }
    }
    sqlite3_finalize(stmt);
    for (size_t i = 0; i < m->n_entries; i++) {
        expected += m->entries[i].pinned || m->entries[i].expires_ms || m->entries[i].used;
    }
    return e || n == expected
               ? e
               : rv_fail(RV_E_CORRUPT, "%zu nodes with a use on the disk, %zu in memory", n, expected);
}

rv_err rv_use_write(rv_memory *m, const use_row *rows, size_t n)
{
    static const char sql[] =
        "INSERT INTO node_use VALUES(?1,?2,?3,?4,?5,?6) ON CONFLICT(node) DO UPDATE SET "
        "pinned=excluded.pinned,"
        " expires_ms=excluded.expires_ms, used=excluded.used, used_ms=excluded.used_ms, sum=excluded.sum";
    sqlite3_stmt *stmt = NULL;
    for (size_t i = 0; i < n; i++) {
        const use_row *u = &rows[i];
        bool row;
        RV_TRY(stmt ? RV_OK : rv_db_kept(m->db, &stmt, sql));
        RV_TRY(rv_db_bind(stmt, "iiiiii", u->id, (int64_t)u->pinned, u->expires_ms, u->used, u->used_ms,
                          rv_use_sum(u)));
        RV_TRY(rv_db_step(stmt, &row));
    }
    return RV_OK;
}

void rv_use_take_over(rv_memory *m, const use_row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        set_entry(m, &rows[i]);
    }
}

rv_err rv_memory_keep(rv_memory *m, rv_memory_scope scope, int64_t id, const bool *pinned,
                      const int64_t *expires_ms)
{
    if (expires_ms && (*expires_ms < 0 || *expires_ms > INT64_MAX / 2)) {
        return rv_fail(RV_E_ARG, "expires_ms: expected a time, or 0 for never");
    }
    pthread_mutex_lock(&m->writing);
    matcher own = rv_matcher_own(m, scope, NULL);
    rv_err e = rv_matcher_need(&own, id);
    if (!e) {
        use_row u = rv_use_of(rv_memory_find(m, id));
        u.pinned = pinned ? *pinned : u.pinned;
        u.expires_ms = expires_ms ? *expires_ms : u.expires_ms;
        e = rv_memory_apply(m, &(change){ .use = &u, .n_use = 1 });
    }
    pthread_mutex_unlock(&m->writing);
    return e;
}

static bool is_over(const entry *e, int64_t now)
{
    return e->expires_ms && !e->pinned && e->expires_ms <= now;
}

rv_err rv_memory_expire(rv_memory *m, size_t *removed)
{
    int64_t now = rv_memory_now_ms(m);
    pthread_mutex_lock(&m->writing);
    size_t n = 0, at = 0;
    for (size_t i = 0; i < m->n_entries; i++) {
        n += is_over(&m->entries[i], now);
    }
    int64_t *ids = n ? rv_new_array(m->mem, n, sizeof *ids) : NULL;
    rv_err e = n && !ids ? rv_fail(RV_E_NOMEM, "memory: no room to remove %zu nodes", n) : RV_OK;
    for (size_t i = 0; ids && i < m->n_entries; i++) {
        if (is_over(&m->entries[i], now)) {
            ids[at++] = m->entries[i].id;
        }
    }
    if (ids) {
        e = rv_memory_with_parts(m, &ids, &n);
    }
    if (ids && !e) {
        e = rv_memory_apply(m, &(change){ .drop = ids, .n_drop = n });
    }
    pthread_mutex_unlock(&m->writing);
    rv_free(m->mem, ids);
    if (!e) {
        *removed = n;
        rv_metric_add(&rv_memory_metrics[RV_MEMORY_EXPIRED], (int64_t)n);
    }
    return e;
}
