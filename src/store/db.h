/* One SQLite file, WAL, synchronous=FULL: one transaction is the commit point of everything that is durable. Writers take
 * turns through one connection; readers have their own. */
#ifndef RV_STORE_DB_H
#define RV_STORE_DB_H
#include "base/alloc.h"
#include "base/err.h"
#include <sqlite3.h>
#include <stdint.h>

typedef struct rv_db rv_db;

/** rv_db_open - dir/ruvllm.db, made when missing (folder 0700, file 0600). Locks the data folder for this process.
 * Errors: RV_E_BUSY another process has it (with its process id).  RV_E_CORRUPT not our database, or damaged.
 *         RV_E_IO the folder cannot be used, or WAL mode was not entered.  RV_E_UNSUPPORTED written by a newer version. */
rv_err rv_db_open(const rv_alloc *mem, const char *dir, rv_db **out) RV_MUST_CHECK;
void rv_db_close(rv_db *db); /* accepts NULL; checkpoints */
const char *rv_db_dir(const rv_db *db);

/** rv_db_migrate - bring the tables of one module to its newest version: steps[i] is SQL that goes from version i to i+1. */
rv_err rv_db_migrate(rv_db *db, const char *module, const char *const *steps, size_t n_steps) RV_MUST_CHECK;

/** rv_db_begin .. rv_db_commit | rv_db_rollback - the write connection, one thread at a time (others wait). commit returns
 * after the bytes are on the disk; when it fails the transaction is rolled back. */
rv_err rv_db_begin(rv_db *db, sqlite3 **out) RV_MUST_CHECK;
rv_err rv_db_commit(rv_db *db) RV_MUST_CHECK;
void rv_db_rollback(rv_db *db);

/** rv_db_reader .. rv_db_reader_done - a read connection from a small pool. */
rv_err rv_db_reader(rv_db *db, sqlite3 **out) RV_MUST_CHECK;
void rv_db_reader_done(rv_db *db, sqlite3 *reader);

/** rv_db_fail - turn the connection's last error into rv_fail; what says what was being done. */
rv_err rv_db_fail(sqlite3 *conn, const char *what);
/** rv_db_check - PRAGMA integrity_check, WAL and synchronous really set. */
rv_err rv_db_check(rv_db *db) RV_MUST_CHECK;
#endif
