/* Near-duplicates and contradictions among the nodes of one type and user. Keys of what a text says (MinHash, sense.h) are kept with every note,
 * fact and answer; those that share one are read and compared, and their vectors have to agree. Chunks of files are left out: a file is
 * replaced as a whole. On the disk the keys stand with their node, in memory a node is found by its keys: an index by key on the disk
 * would be six places of the file for every add. */
#include "memory/memory_priv.h"
#include "base/rng.h"
#include "memory/sense.h"

#include <string.h>

enum { LOOK_MOST = 32, SWEEP_LEAST = 256 * RV_SENSE_KEYS };

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

/* ---- marks ---- */

static rv_err mark_with(struct near_work *w, const record *r, near_mark *out)
{
    rv_sense_of(w->words, r->text.at, r->text.n, &w->newer);
    out->n = rv_sense_keys(&w->newer, scope_of(r->type, r->user), out->keys);
    return rv_words_failed(w->words);
}

rv_err rv_near_mark(const rv_memory *m, const record *r, near_mark *out)
{
    struct near_work *w;
    out->n = 0;
    if (!is_compared(r->type)) {
        return RV_OK;
    }
    RV_TRY(new_work(m, &w));
    rv_err e = mark_with(w, r, out);
    free_work(m, w);
    return e;
}

/* Keys, then a checksum. */
enum { MARK_BYTES = (RV_SENSE_KEYS + 1) * sizeof(int64_t) };

rv_err rv_near_write(rv_memory *m, const record *r, const near_mark *mark)
{
    if (mark->n == 0) {
        return RV_OK;
    }
    int64_t blob[RV_SENSE_KEYS + 1];
    sqlite3_stmt *stmt;
    bool row;
    memcpy(blob, mark->keys, sizeof mark->keys);
    blob[RV_SENSE_KEYS] = (int64_t)rv_hash64(blob, sizeof mark->keys, (uint64_t)r->id);
    RV_TRY(rv_db_kept(m->db, &stmt, "INSERT OR REPLACE INTO near_marks VALUES(?1,?2)"));
    RV_TRY(rv_db_bind(stmt, "ib", r->id, blob, sizeof blob));
    RV_TRY(rv_db_step(stmt, &row));
    sqlite3_clear_bindings(stmt);
    return RV_OK;
}

static size_t slot_of(const rv_memory *m, int64_t key)
{
    return (size_t)key & (m->n_near_slots - 1); /* a key is a hash */
}

/* slots: all empty */
static void link_keys(rv_memory *m)
{
    for (size_t i = 0; i < m->n_near_keys; i++) {
        uint32_t *slot = &m->near_slots[slot_of(m, m->near_keys[i].key)];
        m->near_keys[i].older = *slot;
        *slot = (uint32_t)i + 1;
    }
}

/* Keys of removed nodes go; again when there are twice as many as are left, so that it costs each key a few looks. */
static void sweep(rv_memory *m)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n_near_keys; i++) {
        if (rv_memory_find(m, m->near_keys[i].node)) {
            m->near_keys[n++] = m->near_keys[i];
        }
    }
    if (n < m->n_near_keys) {
        m->n_near_keys = n;
        memset(m->near_slots, 0, m->n_near_slots * sizeof *m->near_slots);
        link_keys(m);
    }
    m->near_sweep_at = 2 * n + SWEEP_LEAST;
}

static rv_err grow_slots(rv_memory *m, size_t n_keys)
{
    size_t n = m->n_near_slots ? m->n_near_slots : 64;
    while (n < n_keys) {
        n *= 2;
    }
    if (n == m->n_near_slots) {
        return RV_OK;
    }
    uint32_t *slots = rv_new_array(m->mem, n, sizeof *slots);
    if (!slots) {
        return rv_fail(RV_E_NOMEM, "memory: no room for the keys of %zu texts", n);
    }
    rv_free(m->mem, m->near_slots);
    m->near_slots = slots;
    m->n_near_slots = n;
    link_keys(m);
    return RV_OK;
}

rv_err rv_near_reserve(rv_memory *m, size_t n)
{
    if (m->n_near_keys > m->near_sweep_at) {
        sweep(m);
    }
    void *at = m->near_keys;
    size_t need = m->n_near_keys + n * RV_SENSE_KEYS;
    if (need >= UINT32_MAX) {
        return rv_fail(RV_E_FULL, "memory: too many texts to be compared");
    }
    RV_TRY(rv_memory_grow(m->mem, &at, &m->near_keys_room, need, sizeof *m->near_keys));
    m->near_keys = at;
    return grow_slots(m, need);
}

void rv_near_add(rv_memory *m, int64_t id, const near_mark *mark)
{
    for (size_t k = 0; k < mark->n; k++) {
        uint32_t *slot = &m->near_slots[slot_of(m, mark->keys[k])];
        m->near_keys[m->n_near_keys++] =
            (struct near_key){ .key = mark->keys[k], .node = id, .older = *slot };
        *slot = (uint32_t)m->n_near_keys;
    }
}

void rv_near_deinit(rv_memory *m)
{
    rv_free(m->mem, m->near_keys);
    rv_free(m->mem, m->near_slots);
}

static bool mark_read(sqlite3_stmt *stmt, near_mark *out)
{
    int64_t blob[RV_SENSE_KEYS + 1];
    int64_t id = sqlite3_column_int64(stmt, 0);
    const void *at = sqlite3_column_blob(stmt, 1);
    if (!at || sqlite3_column_bytes(stmt, 1) != MARK_BYTES) {
        return false;
    }
    memcpy(blob, at, sizeof blob);
    out->n = RV_SENSE_KEYS;
    memcpy(out->keys, blob, sizeof out->keys);
    return blob[RV_SENSE_KEYS] == (int64_t)rv_hash64(blob, sizeof out->keys, (uint64_t)id);
}

/* Of every node that is compared and has none, or a damaged one: an older program wrote the store. */
static rv_err make_missing(rv_memory *m, sqlite3 *conn, const idset *marked)
{
    sqlite3_stmt *stmt = NULL;
    struct near_work *w = NULL;
    rv_err e = RV_OK;
    RV_TRY(rv_db_prepare(conn, &stmt, "SELECT " RV_RECORD_COLUMNS " FROM nodes WHERE id=?1", ""));
    for (size_t i = 0; !e && i < m->n_entries; i++) {
        int64_t id = m->entries[i].id;
        bool row;
        record r;
        near_mark mark;
        if (rv_idset_has(marked, id) || !is_compared(rv_str_from(m->names.at[m->entries[i].type]))) {
            continue;
        }
        e = w ? RV_OK : new_work(m, &w);
        e = e ? e : rv_db_bind(stmt, "i", id);
        e = e ? e : rv_db_step(stmt, &row);
        e = e || !row ? e : rv_record_read(stmt, &r);
        if (e || !row) {
            continue;
        }
        e = mark_with(w, &r, &mark);
        e = e ? e : rv_near_write(m, &r, &mark);
        e = e || mark.n == 0 ? e : rv_near_reserve(m, 1);
        if (!e) {
            rv_near_add(m, id, &mark);
        }
    }
    free_work(m, w);
    sqlite3_finalize(stmt);
    return e;
}

rv_err rv_near_load(rv_memory *m)
{
    sqlite3 *conn;
    sqlite3_stmt *stmt = NULL;
    idset marked = { 0 };
    RV_TRY(rv_db_begin(m->db, &conn));
    rv_err e = rv_db_prepare(conn, &stmt, "SELECT node, keys FROM near_marks ORDER BY node", "");
    for (bool row = true; !e && row;) {
        near_mark mark;
        e = rv_db_step(stmt, &row);
        int64_t id = !e && row ? sqlite3_column_int64(stmt, 0) : 0;
        if (!id || !rv_memory_find(m, id) || !mark_read(stmt, &mark)) {
            continue;
        }
        e = rv_near_reserve(m, 1);
        e = e ? e : rv_idset_reserve(m->mem, &marked, id);
        if (!e) {
            rv_idset_add(&marked, id);
            rv_near_add(m, id, &mark);
        }
    }
    sqlite3_finalize(stmt);
    e = e ? e : make_missing(m, conn, &marked);
    rv_idset_deinit(m->mem, &marked);
    if (e) {
        rv_db_rollback(m->db);
        return e;
    }
    return rv_db_commit(m->db);
}

/* ---- comparing ---- */

static float cosine_of(const rv_memory *m, const float *x, const float *y)
{
    double sum = 0;
    for (size_t d = 0; d < m->embedder.dim; d++) {
        sum += (double)x[d] * (double)y[d];
    }
    return (float)sum;
}

static bool same_scope(const record *a, const record *b)
{
    return a->type.n == b->type.n && memcmp(a->type.at, b->type.at, a->type.n) == 0 &&
           a->user.n == b->user.n && memcmp(a->user.at, b->user.at, a->user.n) == 0;
}

static rv_err compare(struct near_work *w, rv_memory *m, sqlite3_stmt *node, int64_t id, const record *r,
                      const float *vector, near_found *out)
{
    const entry *e = rv_memory_find(m, id);
    bool row;
    if (!e || !e->row) {
        return RV_OK;
    }
    bool close = cosine_of(m, e->row, vector) >= RV_NEAR_COSINE;
    if (!close && w->newer.n > RV_SENSE_SHORT) {
        return RV_OK;
    }
    RV_TRY(rv_db_bind(node, "i", id));
    RV_TRY(rv_db_step(node, &row));
    record other;
    if (!row) {
        return RV_OK;
    }
    RV_TRY(rv_record_read(node, &other));
    if (!same_scope(&other, r)) {
        return RV_OK; /* two scopes with one hash */
    }
    rv_sense_of(w->words, other.text.at, other.text.n, &w->older);
    rv_sense_relation how = rv_sense_compare(&w->newer, &w->older);
    if (how == RV_SENSE_SAME && close && !out->same) {
        out->same = id;
    } else if (how == RV_SENSE_OPPOSITE && id > out->opposite) {
        out->opposite = id; /* the newest */
    }
    return RV_OK;
}

/* The newest LOOK_MOST nodes that live and share a key; how many. Keys of removed nodes on the way leave their chain, or whoever adds and
 * removes one text again and again would pass all of them each time. */
static size_t candidates(rv_memory *m, const near_mark *mark, int64_t out[LOOK_MOST])
{
    size_t n = 0;
    for (size_t k = 0; m->n_near_slots > 0 && k < mark->n; k++) {
        for (uint32_t *link = &m->near_slots[slot_of(m, mark->keys[k])]; *link && n < LOOK_MOST;) {
            struct near_key *key = &m->near_keys[*link - 1];
            if (!rv_memory_find(m, key->node)) {
                *link = key->older;
                continue;
            }
            link = &key->older;
            bool known = key->key != mark->keys[k];
            for (size_t i = 0; !known && i < n; i++) {
                known = out[i] == key->node;
            }
            if (!known) {
                out[n++] = key->node;
            }
        }
    }
    return n;
}

rv_err rv_near_find(rv_memory *m, sqlite3 *conn, const record *r, const float *vector, near_found *out)
{
    int64_t others[LOOK_MOST];
    struct near_work *w = NULL;
    sqlite3_stmt *node;
    *out = (near_found){ 0 };
    size_t n = vector && r->mark ? candidates(m, r->mark, others) : 0;
    if (n == 0) {
        return RV_OK;
    }
    RV_TRY(rv_db_reader_kept(m->db, conn, &node, "SELECT " RV_RECORD_COLUMNS " FROM nodes WHERE id=?1"));
    RV_TRY(new_work(m, &w));
    rv_sense_of(w->words, r->text.at, r->text.n, &w->newer);
    rv_err e = RV_OK;
    for (size_t i = 0; !e && i < n; i++) {
        e = compare(w, m, node, others[i], r, vector, out);
    }
    free_work(m, w);
    return e;
}

static bool share_key(const near_mark *a, const near_mark *b)
{
    for (size_t k = 0; k < a->n && k < b->n; k++) {
        if (a->keys[k] == b->keys[k]) { /* the k-th keys of all texts are made alike */
            return true;
        }
    }
    return false;
}

rv_err rv_near_meets(const rv_memory *m, const record *r, const float *vector, const record *other,
                     const float *other_vector, bool *out)
{
    struct near_work *w;
    *out = false;
    if (!r->mark || !other->mark || !share_key(r->mark, other->mark) || !same_scope(r, other)) {
        return RV_OK;
    }
    bool close = cosine_of(m, vector, other_vector) >= RV_NEAR_COSINE;
    RV_TRY(new_work(m, &w));
    rv_sense_of(w->words, r->text.at, r->text.n, &w->newer);
    rv_sense_of(w->words, other->text.at, other->text.n, &w->older);
    rv_sense_relation how = rv_sense_compare(&w->newer, &w->older);
    *out = (how == RV_SENSE_SAME && close) ||
           (how == RV_SENSE_OPPOSITE && (close || w->newer.n <= RV_SENSE_SHORT));
    free_work(m, w);
    return RV_OK;
}
