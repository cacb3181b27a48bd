/* Near-duplicates and contradictions among the nodes of one type and user. Keys of what a text says (MinHash, sense.h) are kept with every note,
 * fact and answer; those that share one are read and compared, and their vectors have to agree. Chunks of files are left out: a file is
 * replaced as a whole. */
#include "memory/memory_priv.h"
#include "base/rng.h"
#include "memory/sense.h"

#include <string.h>

enum { LOOK_MOST = 32 };

static bool is_compared(rv_str type)
{
    return !rv_str_eq(type, "chunk") && !rv_str_eq(type, "document");
}

static uint64_t scope_of(rv_str type, rv_str user)
{
    return rv_hash64(user.at, user.n, rv_hash64(type.at, type.n, 3));
}

/* Stemmers and two texts; to be freed with rv_near_deinit. */
struct near_work {
    rv_words *words;
    rv_sense newer, older;
};

static rv_err new_work(const rv_memory *m, struct near_work **out)
{
    struct near_work *w = rv_new(m->mem, sizeof *w);
    if (!w) {
        return rv_fail(RV_E_NOMEM, "memory: no room to compare texts");
    }
    w->words = NULL;
    rv_err e = rv_words_new(m->mem, &w->words);
    if (e) {
        rv_free(m->mem, w);
        return e;
    }
    *out = w;
    return RV_OK;
}

static void free_work(const rv_memory *m, struct near_work *w)
{
    if (w) {
        rv_words_free(w->words);
        rv_free(m->mem, w);
    }
}

rv_err rv_near_write(rv_memory *m, const record *rows, size_t n, bool remove)
{
    sqlite3_stmt *stmt;
    struct near_work *w = NULL;
    RV_TRY(rv_db_kept(m->db, &stmt,
                      remove ? "DELETE FROM near_keys WHERE key=?1 AND node=?2"
                             : "INSERT OR IGNORE INTO near_keys VALUES(?1,?2)"));
    rv_err e = RV_OK;
    for (size_t i = 0; !e && i < n; i++) {
        int64_t keys[RV_SENSE_KEYS];
        if (!is_compared(rows[i].type)) {
            continue;
        }
        e = w ? RV_OK : new_work(m, &w);
        if (e) {
            break;
        }
        rv_sense_of(w->words, rows[i].text.at, rows[i].text.n, &w->newer);
        size_t n_keys = rv_sense_keys(&w->newer, scope_of(rows[i].type, rows[i].user), keys);
        for (size_t k = 0; !e && k < n_keys; k++) {
            bool row;
            e = rv_db_bind(stmt, "ii", keys[k], rows[i].id);
            e = e ? e : rv_db_step(stmt, &row);
        }
    }
    free_work(m, w);
    return e;
}

static float cosine_of(const rv_memory *m, const entry *e, const float *vector)
{
    double sum = 0;
    for (size_t d = 0; d < m->embedder.dim; d++) {
        sum += (double)e->row[d] * (double)vector[d];
    }
    return (float)sum;
}

static rv_err compare(struct near_work *w, rv_memory *m, sqlite3_stmt *node, int64_t id, const record *r,
                      const float *vector, near_found *out)
{
    const entry *e = rv_memory_find(m, id);
    bool row;
    if (!e || !e->row || cosine_of(m, e, vector) < RV_NEAR_COSINE) {
        return RV_OK;
    }
    RV_TRY(rv_db_bind(node, "i", id));
    RV_TRY(rv_db_step(node, &row));
    record other;
    if (!row) {
        return RV_OK;
    }
    RV_TRY(rv_record_read(node, &other));
    if (other.type.n != r->type.n || memcmp(other.type.at, r->type.at, r->type.n) != 0 ||
        other.user.n != r->user.n || memcmp(other.user.at, r->user.at, r->user.n) != 0) {
        return RV_OK; /* two scopes with one hash */
    }
    rv_sense_of(w->words, other.text.at, other.text.n, &w->older);
    rv_sense_relation how = rv_sense_compare(&w->newer, &w->older);
    if (how == RV_SENSE_SAME && !out->same) {
        out->same = id;
    } else if (how == RV_SENSE_OPPOSITE && id > out->opposite) {
        out->opposite = id; /* the newest */
    }
    return RV_OK;
}

rv_err rv_near_find(rv_memory *m, sqlite3 *conn, const record *r, const float *vector, near_found *out)
{
    int64_t keys[RV_SENSE_KEYS], seen[LOOK_MOST];
    size_t n_seen = 0;
    struct near_work *w = NULL;
    sqlite3_stmt *by_key = NULL, *node = NULL;
    *out = (near_found){ 0 };
    if (!is_compared(r->type) || !vector) {
        return RV_OK;
    }
    RV_TRY(new_work(m, &w));
    rv_sense_of(w->words, r->text.at, r->text.n, &w->newer);
    size_t n_keys = rv_sense_keys(&w->newer, scope_of(r->type, r->user), keys);
    rv_err e = n_keys ? rv_db_prepare(conn, &by_key,
                                      "SELECT node FROM near_keys WHERE key=?1 ORDER BY node DESC", "")
                      : RV_OK;
    e = e || !n_keys ? e
                     : rv_db_prepare(conn, &node, "SELECT " RV_RECORD_COLUMNS " FROM nodes WHERE id=?1", "");
    for (size_t k = 0; !e && k < n_keys; k++) {
        e = rv_db_bind(by_key, "i", keys[k]);
        for (bool row = true; !e && row && n_seen < LOOK_MOST;) {
            e = rv_db_step(by_key, &row);
            int64_t id = !e && row ? sqlite3_column_int64(by_key, 0) : 0;
            bool known = !id;
            for (size_t i = 0; !known && i < n_seen; i++) {
                known = seen[i] == id;
            }
            if (!known) {
                seen[n_seen++] = id;
                e = compare(w, m, node, id, r, vector, out);
            }
        }
    }
    sqlite3_finalize(by_key);
    sqlite3_finalize(node);
    free_work(m, w);
    return e;
}
