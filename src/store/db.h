/* One SQLite file, WAL, synchronous=FULL: one transaction is the commit point of everything that is durable. Writers take
 * turns through one connection; readers have their own. */
#ifndef RV_STORE_DB_H
#define RV_STORE_DB_H
#include "base/alloc.h"
#include "base/err.h"
#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct rv_db rv_db;

/**
 * rv_db_open - dir/ruvllm.db, made when missing (folder 0700, file 0600). Locks the data folder for this process: dir/lock
 * holds its process id while it runs.
 *
 * Errors:  RV_E_BUSY another process has it (with its process id).  RV_E_CORRUPT not our database, or damaged.
 *          RV_E_IO the folder cannot be used, or WAL mode or full syncing was not entered.  RV_E_UNSUPPORTED written by a
 *          newer version.  RV_E_NOMEM.
 * Threads: one thread opens and closes; all other calls: any thread, locks inside.
 */
rv_err rv_db_open(const rv_alloc *mem, const char *dir, rv_db **out) RV_MUST_CHECK;
void rv_db_close(rv_db *db); /* accepts NULL; checkpoints; nothing may be in use */
const char *rv_db_dir(const rv_db *db);
/** rv_db_tell - where this process answers over HTTP: who finds the data folder in use is told. */
void rv_db_tell(rv_db *db, const char *address);

/** rv_db_migrate - bring the tables of one module to its newest version: steps[i] is SQL that goes from version i to i+1.
 * All missing steps are one transaction. RV_E_UNSUPPORTED: the file is newer than n_steps. */
rv_err rv_db_migrate(rv_db *db, const char *module, const char *const *steps, size_t n_steps) RV_MUST_CHECK;

/**
 * rv_db_begin .. rv_db_commit | rv_db_rollback - the write connection, one thread at a time (others wait; a thread that
 * holds it must not begin again). Each begin that succeeded is ended by exactly one of the two, on the same thread.
 * commit returns after the bytes are on the disk; when it fails the transaction is rolled back.
 *
 * Errors:  RV_E_IO also after rv_db_stop, or once a sync failed: what the disk holds is then unknown until the program
 *          starts anew, so nothing more is promised. Reading goes on.  RV_E_NO_SPACE the disk is full.
 */
rv_err rv_db_begin(rv_db *db, sqlite3 **out) RV_MUST_CHECK;
rv_err rv_db_commit(rv_db *db) RV_MUST_CHECK;
void rv_db_rollback(rv_db *db);
/** rv_db_kept - a statement of the write connection that stays prepared from one transaction to the next; rv_db_bind fills it in.
 * Between begin and commit; not finalized by the caller, reset by commit and rollback. sql: a text that lives for ever. */
rv_err rv_db_kept(rv_db *db, sqlite3_stmt **out, const char *sql) RV_MUST_CHECK;
/** rv_db_stop - no transaction begins from now on: somebody saw a sync fail. */
void rv_db_stop(rv_db *db);

/** rv_db_reader .. rv_db_reader_done - a read connection from a small pool (waits while all are in use; a thread takes one
 * at a time). Everything between sees one state: that of its first read. */
rv_err rv_db_reader(rv_db *db, sqlite3 **out) RV_MUST_CHECK;
void rv_db_reader_done(rv_db *db, sqlite3 *reader);
/** rv_db_reader_kept - as rv_db_kept, of a read connection; reset by rv_db_reader_done. */
rv_err rv_db_reader_kept(rv_db *db, sqlite3 *reader, sqlite3_stmt **out, const char *sql) RV_MUST_CHECK;

/**
 * rv_db_prepare - one statement with its parameters ?1, ?2 ... filled in; the caller finalizes it.
 *
 * types  one letter for each argument: i int64_t, f double, t const char * (NULL is NULL), s const char * and size_t (text),
 *        b const void * and size_t (blob). What they point to stays until the statement is finalized or bound anew.
 */
rv_err rv_db_prepare(sqlite3 *conn, sqlite3_stmt **out, const char *sql, const char *types,
                     ...) RV_MUST_CHECK;
/** rv_db_bind - the same for a statement that has run already. */
rv_err rv_db_bind(sqlite3_stmt *stmt, const char *types, ...) RV_MUST_CHECK;
/** rv_db_step - *row says whether there is one. */
rv_err rv_db_step(sqlite3_stmt *stmt, bool *row) RV_MUST_CHECK;
/** rv_db_exec - prepare, run to the end, finalize.  rv_db_int - the same for a query of one number; *out stays as it is
 * without a row. */
rv_err rv_db_exec(sqlite3 *conn, const char *sql, const char *types, ...) RV_MUST_CHECK;
rv_err rv_db_int(sqlite3 *conn, int64_t *out, const char *sql, const char *types, ...) RV_MUST_CHECK;

/** rv_db_scrub - what was deleted leaves no byte behind: the file is written anew from what there is, and the log is emptied. Costs as much
 * as reading and writing the whole file. RV_E_BUSY a reader held on to an older state for too long: the bytes may still be there;
 * call it again.  RV_E_NO_SPACE, RV_E_IO likewise. Any thread; writers wait. */
rv_err rv_db_scrub(rv_db *db) RV_MUST_CHECK;

/** rv_db_fail - turn the connection's last error into rv_fail; what says what was being done. */
rv_err rv_db_fail(sqlite3 *conn, const char *what);
/** rv_db_check - PRAGMA integrity_check, WAL and synchronous really set. */
rv_err rv_db_check(rv_db *db) RV_MUST_CHECK;

/* SQLite does not notice a flipped bit inside a value, so records carry a checksum of their fields: start at 0, add each
 * field in turn, store the last result. Stable across machines and releases. */
uint64_t rv_db_sum_int(uint64_t sum, int64_t value);
uint64_t rv_db_sum_text(uint64_t sum, const char *at, size_t n);
#endif
