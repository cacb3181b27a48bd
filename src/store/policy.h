/* Policies: what was learned, as versions. A version never changes; which one of a kind is in use is the last row of a history,
 * so going back is one more row. Each version keeps where it came from: its parent, the data it learned from, and what was
 * measured before it was used. Format of the tables: docs/formats/database.md. */
#ifndef RV_STORE_POLICY_H
#define RV_STORE_POLICY_H
#include "base/arena.h"
#include "store/db.h"

#define RV_POLICY_MAX_BYTES (64u << 20)

rv_err rv_policy_setup(rv_db *db) RV_MUST_CHECK; /* migrations; needs rv_witness_setup */

typedef struct rv_policy_new {
    const char *kind;    /* "router", "retrieval": [a-z_]{1,32} */
    int64_t parent;      /* version it was made from, 0: none */
    const char *note;    /* one sentence: why it was made */
    const char *metrics; /* JSON object: what was measured, before and after; NULL: {} */
    const char *data;    /* JSON object: what it learned from; NULL: {} */
    const void *bytes;   /* [n], 1 .. RV_POLICY_MAX_BYTES */
    size_t n;
    bool use; /* in use from now on; false: kept, with the reason in note */
} rv_policy_new;

/**
 * rv_policy_add - store a version, inside the caller's transaction, with its witness record. Of each kind the bytes of the last
 * eight versions and of the one in use stay, older ones keep everything else.
 *
 * version  out: 1, 2, 3 ... of the kind
 * Errors:  RV_E_ARG a field.  RV_E_NOT_FOUND the parent.  What rv_db_fail says.
 */
rv_err rv_policy_add(sqlite3 *conn, const rv_policy_new *policy, int64_t *version) RV_MUST_CHECK;
/** rv_policy_use - this version from now on, 0: none; inside the caller's transaction, with its witness record. RV_E_NOT_FOUND
 * no such version, or its bytes are gone. */
rv_err rv_policy_use(sqlite3 *conn, const char *kind, int64_t version, const char *why) RV_MUST_CHECK;
/** rv_policy_rollback - back to the one that was in use before; 0 when there was none. RV_E_NOT_FOUND none is in use. */
rv_err rv_policy_rollback(sqlite3 *conn, const char *kind, const char *why, int64_t *version) RV_MUST_CHECK;

/**
 * rv_policy_forget - the bytes of all versions of a kind that were made at or after a time go, inside the caller's transaction; when one of
 * them is in use, the newest ancestor from before is used, or none.
 *
 * erased   out: how many lost their bytes
 * version  out: in use now, 0: none
 */
rv_err rv_policy_forget(sqlite3 *conn, const char *kind, int64_t since_ms, const char *why, int64_t *erased,
                        int64_t *version) RV_MUST_CHECK;

typedef struct rv_policy_info {
    int64_t version, parent, created_ms, bytes; /* bytes 0: gone */
    const char *kind, *note, *metrics, *data;
    bool in_use;
} rv_policy_info;
/** rv_policy_current - the version in use; RV_E_NOT_FOUND none is. Strings in arena. Any thread; so for the calls below. */
rv_err rv_policy_current(rv_db *db, const char *kind, rv_arena *arena, rv_policy_info *out) RV_MUST_CHECK;
/** rv_policy_list - newest first. kind NULL: of all kinds. */
rv_err rv_policy_list(rv_db *db, const char *kind, size_t limit, rv_arena *arena, rv_policy_info **out,
                      size_t *n) RV_MUST_CHECK;
/** rv_policy_taken_back - when the newest version that was in use and then gone back from was made, 0: none was. One that is in use again, or
 * was forgotten, does not count. */
rv_err rv_policy_taken_back(rv_db *db, const char *kind, int64_t *made_ms) RV_MUST_CHECK;
/** rv_policy_read - the bytes of a version (rv_free with mem), checked against their SHA-256. RV_E_NOT_FOUND. RV_E_CORRUPT. */
rv_err rv_policy_read(rv_db *db, const rv_alloc *mem, const char *kind, int64_t version, uint8_t **bytes,
                      size_t *n) RV_MUST_CHECK;
/**
 * rv_policy_open - the version in use, or the newest of its ancestors that take can read: each one before it that cannot be read is said once in
 * the log and counted (ruvllm_learn_damaged_total).
 *
 * take     reads bytes; what it makes is the caller's. RV_E_NOMEM and RV_E_IO end the search and are returned
 * version  out: read, 0: none is in use, or none is sound
 */
rv_err rv_policy_open(rv_db *db, const rv_alloc *mem, const char *kind,
                      rv_err (*take)(void *self, const uint8_t *bytes, size_t n), void *self,
                      int64_t *version) RV_MUST_CHECK;
#endif
