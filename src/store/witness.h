/* Witness: an append-only chain of what was asked, decided and answered; each record holds the SHA-256 of the one before, so
 * that a changed, removed or reordered record shows. The last hash is kept apart, so that a cut-off end shows too. */
#ifndef RV_STORE_WITNESS_H
#define RV_STORE_WITNESS_H
#include "base/arena.h"
#include "base/json.h"
#include "base/str.h"
#include "store/db.h"

rv_err rv_witness_setup(rv_db *db) RV_MUST_CHECK;
/** rv_witness_append - inside the caller's transaction. kind: "request", "feedback", "memory". body: JSON object text.
 * What is hashed: docs/formats/database.md. */
rv_err rv_witness_append(sqlite3 *conn, const char *kind, const char *request_id, const char *body,
                         size_t n) RV_MUST_CHECK;
/**
 * rv_witness_forget - inside the caller's transaction: the bodies of records become "", and a record of kind "forget" says which, and why.
 * Their hashes stay, so the chain holds; a body that is empty without such a record is a broken chain.
 *
 * seqs  [n] records, each with a body
 * why   JSON object text that becomes part of the record; names no forgotten text
 */
rv_err rv_witness_forget(sqlite3 *conn, const int64_t *seqs, size_t n, const char *why) RV_MUST_CHECK;
/** rv_witness_verify - walk the chain. *count records read; RV_E_CORRUPT names the first record that does not fit. */
rv_err rv_witness_verify(rv_db *db, uint64_t *count) RV_MUST_CHECK;
/**
 * rv_witness_archive - bodies of the oldest records of before before_ms go to a file of the archive (store/archive.h), in one transaction; about
 * most_bytes of them. The records stay, and what reads them finds the bodies there.
 *
 * n  out: records, 0: there are none so old
 */
rv_err rv_witness_archive(rv_db *db, int64_t before_ms, size_t most_bytes, size_t *n) RV_MUST_CHECK;
/** rv_witness_line - the next record in the text of such a file, from *at on; false: no more. Lines of other kinds are passed over.
 * rv_witness_restore - its body is in the database again, within the caller's transaction. */
bool rv_witness_line(const char *text, size_t n, size_t *at, int64_t *seq, rv_str *body);
rv_err rv_witness_restore(sqlite3 *conn, int64_t seq, rv_str body) RV_MUST_CHECK;
typedef struct rv_witness_record {
    int64_t seq; /* from 1 */
    int64_t created_ms;
    const char *kind, *request_id, *body, *hash; /* body "": forgotten. hash: 64 hexadecimal digits */
} rv_witness_record;
/** rv_witness_get - the records of one request, oldest first, in arena; each is checked against its own hash. None: *n is 0. */
rv_err rv_witness_get(rv_db *db, const char *request_id, rv_arena *arena, rv_witness_record **out,
                      size_t *n) RV_MUST_CHECK;
#endif
