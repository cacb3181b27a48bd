/* The index of words out of the texts: most of it while everything else goes on, the last texts with writers waiting. */
#include "memory/memory_priv.h"

enum { TOGETHER = 512 };

/* Up to TOGETHER texts behind the last one; *n how many. */
static rv_err read_some(rv_memory *m, rv_postings *p, rv_words *words, size_t *n)
{
    sqlite3 *conn;
    sqlite3_stmt *stmt = NULL;
    RV_TRY(rv_db_reader(m->db, &conn));
    rv_err e = rv_db_prepare(conn, &stmt, "SELECT id, text FROM searched WHERE id>?1 ORDER BY id LIMIT ?2",
                             "ii", rv_postings_last(p), (int64_t)TOGETHER);
    *n = 0;
    for (bool row = true; !e && row;) {
        e = rv_db_step(stmt, &row);
        if (e || !row) {
            break;
        }
        rv_cut cut;
        e = rv_postings_cut(m->mem, words, (const char *)sqlite3_column_text(stmt, 1),
                            (size_t)sqlite3_column_bytes(stmt, 1), &cut);
        if (!e) {
            e = rv_postings_prepare(p, sqlite3_column_int64(stmt, 0), &cut);
            rv_cut_deinit(&cut);
        }
        *n += !e;
    }
    if (!e) {
        rv_postings_commit(p);
    }
    sqlite3_finalize(stmt);
    rv_db_reader_done(m->db, conn);
    return e;
}

static rv_err read_rest(rv_memory *m, rv_postings *p, rv_words *words)
{
    rv_err e = RV_OK;
    for (size_t n = TOGETHER; !e && n == TOGETHER;) {
        e = read_some(m, p, words, &n);
        if (rv_keeper_stopped(m)) {
            return rv_fail(RV_E_CANCELLED, "the memory closes");
        }
    }
    return e;
}

rv_err rv_memory_index_words(rv_memory *m)
{
    rv_words *words = NULL;
    rv_postings *p = NULL, *old = NULL;
    rv_err e = rv_words_new(m->mem, &words);
    e = e ? e : rv_postings_new(m->mem, &p);
    e = e ? e : read_rest(m, p, words);
    if (!e) {
        pthread_mutex_lock(&m->writing);
        e = read_rest(m, p, words);
        if (!e) {
            pthread_rwlock_wrlock(&m->state);
            old = m->postings;
            m->postings = p;
            m->n_postings_dead = rv_postings_count(p) - m->n_live; /* removed since they were read */
            pthread_rwlock_unlock(&m->state);
            p = NULL;
        }
        pthread_mutex_unlock(&m->writing);
    }
    rv_postings_free(p);
    rv_postings_free(old);
    rv_words_free(words);
    return e;
}
