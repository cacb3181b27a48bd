/* The database file. SQLite does the work; this file sees that it does it under our promises: the settings that make a
 * commit durable are read back after they were set, one process owns the folder, and once a sync has failed nothing is
 * promised any more (after a failed fsync the kernel may have dropped the bytes and say "done" the next time). */
#include "store/db.h"
#include "base/file.h"
#include "base/rng.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READERS = 4, KEPT = 32, BUSY_MS = 5000, APPLICATION_ID = 0x72766c6d /* "rvlm" */, FORMAT = 1 };

/* 16 MiB: a checkpoint costs two more syncs, and the pages that every change touches are then copied four times less often than
 * by default (1000). */
#define CHECKPOINT_PAGES "4000"

/* Statements of a connection that stay prepared. */
typedef struct kept {
    struct {
        const char *sql;
        sqlite3_stmt *stmt;
    } at[KEPT];
    size_t n;
} kept;

struct rv_db {
    const rv_alloc *mem;
    char *dir, *path;
    int lock_fd;
    pthread_mutex_t writing; /* held from begin to commit or rollback */
    sqlite3 *writer;
    kept kept;    /* under writing */
    bool stopped; /* under pool_lock */
    pthread_mutex_t pool_lock;
    pthread_cond_t freed;       /* a reader came back */
    sqlite3 *readers[READERS];  /* opened at first use */
    kept readers_kept[READERS]; /* whose reader is taken */
    bool taken[READERS];
};

/* ---- errors ---- */

rv_err rv_db_fail(sqlite3 *conn, const char *what)
{
    int code = sqlite3_extended_errcode(conn);
    const char *path = sqlite3_db_filename(conn, "main"), *why = sqlite3_errmsg(conn);
    path = path ? path : "database";
    switch (code & 0xff) {
    case SQLITE_NOMEM: return rv_fail(RV_E_NOMEM, "%s: %s: out of memory", path, what);
    case SQLITE_FULL:
        return rv_fail(RV_E_NO_SPACE, "%s: %s: the disk is full; nothing was changed", path, what);
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return rv_fail(RV_E_BUSY, "%s: %s: another program is writing to it", path, what);
    case SQLITE_TOOBIG: return rv_fail(RV_E_TOO_LARGE, "%s: %s: %s", path, what, why);
    case SQLITE_INTERRUPT: return rv_fail(RV_E_CANCELLED, "%s: %s: cancelled", path, what);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_CONSTRAINT: /* we check what we write: a rule that breaks was broken by the file */
    case SQLITE_ERROR:      /* a table or column that is not there */
        return rv_fail(RV_E_CORRUPT,
                       "%s: %s: %s; the file is damaged: restore it from a backup, or move it away to start "
                       "with an empty one",
                       path, what, why);
    default:
        if (code == SQLITE_IOERR_NOMEM) {
            return rv_fail(RV_E_NOMEM, "%s: %s: out of memory", path, what);
        }
        return rv_fail(RV_E_IO, "%s: %s: %s (%d)", path, what, why, code);
    }
}

/* ---- statements ---- */

static rv_err bind_all(sqlite3_stmt *stmt, const char *types, va_list args)
{
    int at = 1, rc = SQLITE_OK;
    for (const char *t = types; *t && rc == SQLITE_OK; t++, at++) {
        const void *p;
        switch (*t) {
        case 'i': rc = sqlite3_bind_int64(stmt, at, va_arg(args, int64_t)); break;
        case 'f': rc = sqlite3_bind_double(stmt, at, va_arg(args, double)); break;
        case 't': rc = sqlite3_bind_text(stmt, at, va_arg(args, const char *), -1, SQLITE_STATIC); break;
        case 's':
            p = va_arg(args, const void *);
            rc = sqlite3_bind_text64(stmt, at, p, va_arg(args, size_t), SQLITE_STATIC, SQLITE_UTF8);
            break;
        default:
            p = va_arg(args, const void *);
            rc = sqlite3_bind_blob64(stmt, at, p, va_arg(args, size_t), SQLITE_STATIC);
            break;
        }
    }
    return rc == SQLITE_OK ? RV_OK : rv_db_fail(sqlite3_db_handle(stmt), "filling in a statement");
}

static rv_err prepare(sqlite3 *conn, sqlite3_stmt **out, const char *sql, const char *types, va_list args)
{
    sqlite3_stmt *stmt = NULL;
    if (sqlite3_prepare_v2(conn, sql, -1, &stmt, NULL) != SQLITE_OK) {
        return rv_db_fail(conn, "preparing a statement");
    }
    rv_err e = bind_all(stmt, types, args);
    if (e) {
        sqlite3_finalize(stmt);
        return e;
    }
    *out = stmt;
    return RV_OK;
}

rv_err rv_db_prepare(sqlite3 *conn, sqlite3_stmt **out, const char *sql, const char *types, ...)
{
    va_list args;
    va_start(args, types);
    rv_err e = prepare(conn, out, sql, types, args);
    va_end(args);
    return e;
}

rv_err rv_db_bind(sqlite3_stmt *stmt, const char *types, ...)
{
    sqlite3_reset(stmt); /* its result repeats that of the last step, which was looked at */
    va_list args;
    va_start(args, types);
    rv_err e = bind_all(stmt, types, args);
    va_end(args);
    return e;
}

rv_err rv_db_step(sqlite3_stmt *stmt, bool *row)
{
    int rc = sqlite3_step(stmt);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE) {
        return rv_db_fail(sqlite3_db_handle(stmt), sqlite3_stmt_readonly(stmt) ? "reading" : "writing");
    }
    *row = rc == SQLITE_ROW;
    return RV_OK;
}

rv_err rv_db_exec(sqlite3 *conn, const char *sql, const char *types, ...)
{
    va_list args;
    va_start(args, types);
    sqlite3_stmt *stmt;
    rv_err e = prepare(conn, &stmt, sql, types, args);
    va_end(args);
    if (e) {
        return e;
    }
    bool row = true;
    while (!e && row) {
        e = rv_db_step(stmt, &row);
    }
    sqlite3_finalize(stmt);
    return e;
}

rv_err rv_db_int(sqlite3 *conn, int64_t *out, const char *sql, const char *types, ...)
{
    va_list args;
    va_start(args, types);
    sqlite3_stmt *stmt;
    rv_err e = prepare(conn, &stmt, sql, types, args);
    va_end(args);
    if (e) {
        return e;
    }
    bool row;
    e = rv_db_step(stmt, &row);
    if (!e && row) {
        *out = sqlite3_column_int64(stmt, 0);
    }
    sqlite3_finalize(stmt);
    return e;
}

/* Several statements without parameters. */
static rv_err run_script(sqlite3 *conn, const char *sql, const char *what)
{
    return sqlite3_exec(conn, sql, NULL, NULL, NULL) == SQLITE_OK ? RV_OK : rv_db_fail(conn, what);
}

/* ---- opening ---- */

/* The lock file has the process and, of a server, a second line with its address. */
static rv_err say_in_use(const rv_db *db)
{
    char text[256] = "", *address;
    ssize_t n = pread(db->lock_fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = 0;
    address = text + strcspn(text, "\n");
    address += *address == '\n';
    address[strcspn(address, "\n")] = 0;
    text[strcspn(text, "\n")] = 0;
    if (*address) {
        return rv_fail(RV_E_BUSY,
                       "%s: the data folder is in use by process %s, a server that takes adds, queries and "
                       "feedback over HTTP at %s; stop it or choose another folder (--data DIR)",
                       db->dir, text, address);
    }
    return rv_fail(
        RV_E_BUSY,
        "%s: the data folder is in use by process %s; stop it or choose another folder (--data DIR)", db->dir,
        text[0] ? text : "(unknown)");
}

void rv_db_tell(rv_db *db, const char *address)
{
    char text[256];
    int n = snprintf(text, sizeof text, "%ld\n%s\n", (long)getpid(), address);
    if (n < (int)sizeof text && pwrite(db->lock_fd, text, (size_t)n, 0) != n) {
        /* harmless: the message to another process names no address */
    }
}

static rv_err lock_folder(rv_db *db)
{
    char *path = rv_path_join(db->mem, db->dir, "lock");
    if (!path) {
        return rv_fail(RV_E_NOMEM, "%s: locking", db->dir);
    }
    rv_err e = RV_OK;
    db->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (db->lock_fd < 0) {
        e = rv_fail(RV_E_IO, "%s: cannot open: %s; choose a data folder that you may write to (--data DIR)",
                    path, strerror(errno));
    } else if (flock(db->lock_fd, LOCK_EX | LOCK_NB) < 0) {
        e = errno == EWOULDBLOCK ? say_in_use(db)
                                 : rv_fail(RV_E_IO, "%s: cannot lock: %s", path, strerror(errno));
    } else {
        char pid[32];
        int n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
        if (ftruncate(db->lock_fd, 0) < 0 || pwrite(db->lock_fd, pid, (size_t)n, 0) != n) {
            e = rv_fail(RV_E_IO, "%s: cannot write: %s", path, strerror(errno));
        }
    }
    rv_free(db->mem, path);
    return e;
}

/* SQLite would give the file the mode of the umask. */
static rv_err make_private(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return rv_fail(RV_E_IO,
                       "%s: cannot open: %s; choose a data folder that you may write to (--data DIR)", path,
                       strerror(errno));
    }
    char magic[16] = "";
    ssize_t n = read(fd, magic, sizeof magic);
    struct stat st;
    bool folder = fstat(fd, &st) < 0 || !S_ISREG(st.st_mode);
    close(fd);
    if (folder || n < 0) {
        return rv_fail(RV_E_IO, "%s: not a readable file", path);
    }
    if (n > 0 && (n < 16 || memcmp(magic, "SQLite format 3", 16) != 0)) {
        return rv_fail(RV_E_CORRUPT,
                       "%s: not a database; move it away, or choose another data folder (--data DIR)", path);
    }
    return RV_OK;
}

/* Sets a pragma and sees that it took. */
static rv_err set_pragma(sqlite3 *conn, const char *name, const char *value, const char *expect)
{
    char sql[128];
    snprintf(sql, sizeof sql, "PRAGMA %s=%s", name, value);
    RV_TRY(run_script(conn, sql, name));
    snprintf(sql, sizeof sql, "PRAGMA %s", name);
    sqlite3_stmt *stmt;
    RV_TRY(rv_db_prepare(conn, &stmt, sql, ""));
    bool row;
    rv_err e = rv_db_step(stmt, &row);
    if (!e) {
        const char *found = row ? (const char *)sqlite3_column_text(stmt, 0) : NULL;
        if (!found || strcmp(found, expect) != 0) {
            e = rv_fail(RV_E_IO,
                        "%s: %s is %s, expected %s: the file system may not allow it (a network folder?)",
                        sqlite3_db_filename(conn, "main"), name, found ? found : "unknown", expect);
        }
    }
    sqlite3_finalize(stmt);
    return e;
}

/* An end that failed for want of memory left the old transaction open: it is ended before the connection is used again. */
static rv_err end_old(sqlite3 *conn)
{
    return sqlite3_get_autocommit(conn) ? RV_OK : run_script(conn, "ROLLBACK", "ending a transaction");
}

static rv_err begin(sqlite3 *conn, const char *sql, const char *what)
{
    RV_TRY(end_old(conn));
    return run_script(conn, sql, what);
}

static rv_err check_settings(sqlite3 *conn)
{
    RV_TRY(set_pragma(conn, "journal_mode", "WAL", "wal"));
    RV_TRY(set_pragma(conn, "synchronous", "FULL", "2"));
    RV_TRY(set_pragma(conn, "foreign_keys", "ON", "1"));
    RV_TRY(set_pragma(conn, "trusted_schema", "OFF", "0"));
    RV_TRY(set_pragma(conn, "wal_autocheckpoint", CHECKPOINT_PAGES, CHECKPOINT_PAGES));
    return set_pragma(conn, "cell_size_check", "ON", "1");
}

static rv_err open_connection(const rv_db *db, int flags, sqlite3 **out)
{
    sqlite3 *conn = NULL;
    if (sqlite3_open_v2(db->path, &conn, flags | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK) {
        rv_err e = conn ? rv_db_fail(conn, "opening") : rv_fail(RV_E_NOMEM, "%s: opening", db->path);
        sqlite3_close(conn);
        return e;
    }
    sqlite3_extended_result_codes(conn, 1);
    sqlite3_busy_timeout(conn, BUSY_MS);
    rv_err e = sqlite3_db_config(conn, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL) == SQLITE_OK
                   ? RV_OK
                   : rv_db_fail(conn, "securing");
    if (!e) {
        e = flags & SQLITE_OPEN_READONLY ? set_pragma(conn, "trusted_schema", "OFF", "0")
                                         : check_settings(conn);
    }
    if (e) {
        sqlite3_close(conn);
        return e;
    }
    *out = conn;
    return RV_OK;
}

/* Ours, of a version we know; an empty file becomes ours. */
static rv_err check_identity(rv_db *db)
{
    int64_t id = 0, version = 0, tables = 0;
    RV_TRY(rv_db_int(db->writer, &id, "PRAGMA application_id", ""));
    RV_TRY(rv_db_int(db->writer, &version, "PRAGMA user_version", ""));
    RV_TRY(rv_db_int(db->writer, &tables, "SELECT count(*) FROM sqlite_master", ""));
    if (id == 0 && version == 0 && tables == 0) {
        char sql[256];
        snprintf(sql, sizeof sql,
                 "BEGIN IMMEDIATE; PRAGMA application_id=%d; PRAGMA user_version=%d;"
                 "CREATE TABLE modules(name TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT, WITHOUT "
                 "ROWID; COMMIT",
                 APPLICATION_ID, FORMAT);
        RV_TRY(run_script(db->writer, sql, "making the database"));
        return rv_dir_sync(db->dir);
    }
    if (id != APPLICATION_ID) {
        return rv_fail(
            RV_E_CORRUPT,
            "%s: a database, but not ruvllm's (application id %lld); move it away, or choose another "
            "data folder (--data DIR)",
            db->path, (long long)id);
    }
    if (version != FORMAT) {
        return rv_fail(RV_E_UNSUPPORTED, "%s: format %lld, this program knows %d; use a newer ruvllm",
                       db->path, (long long)version, FORMAT);
    }
    return RV_OK;
}

static rv_err open_all(rv_db *db)
{
    rv_err e = rv_dir_make(db->dir);
    if (e) {
        char why[512];
        snprintf(why, sizeof why, "%s", rv_err_text());
        return rv_fail(e == RV_E_NOMEM ? e : RV_E_IO,
                       "%s; choose a data folder that you may write to (--data DIR)", why);
    }
    RV_TRY(lock_folder(db));
    RV_TRY(make_private(db->path));
    RV_TRY(open_connection(db, SQLITE_OPEN_READWRITE, &db->writer));
    return check_identity(db);
}

rv_err rv_db_open(const rv_alloc *mem, const char *dir, rv_db **out)
{
    rv_db *db = rv_new(mem, sizeof *db);
    if (!db) {
        return rv_fail(RV_E_NOMEM, "%s: opening", dir);
    }
    *db = (rv_db){ .mem = mem, .lock_fd = -1 };
    pthread_mutex_init(&db->writing, NULL);
    pthread_mutex_init(&db->pool_lock, NULL);
    pthread_cond_init(&db->freed, NULL);
    db->dir = rv_strdup(mem, dir);
    db->path = rv_path_join(mem, dir, "ruvllm.db");
    rv_err e = db->dir && db->path ? open_all(db) : rv_fail(RV_E_NOMEM, "%s: opening", dir);
    if (e) {
        char why[1024];
        snprintf(why, sizeof why, "%s", rv_err_text()); /* closing must not replace it */
        rv_db_close(db);
        return rv_err_set_text(e, why);
    }
    *out = db;
    return RV_OK;
}

static void finalize_kept(kept *k)
{
    for (size_t i = 0; i < k->n; i++) {
        sqlite3_finalize(k->at[i].stmt);
    }
}

void rv_db_close(rv_db *db)
{
    if (!db) {
        return;
    }
    for (size_t i = 0; i < READERS; i++) {
        finalize_kept(&db->readers_kept[i]);
        sqlite3_close(db->readers[i]);
    }
    finalize_kept(&db->kept);
    sqlite3_close(
        db->writer); /* the last one: copies the WAL into the file. If that fails, the WAL stays and is read next time */
    if (db->lock_fd >= 0) {
        close(db->lock_fd);
    }
    pthread_mutex_destroy(&db->writing);
    pthread_mutex_destroy(&db->pool_lock);
    pthread_cond_destroy(&db->freed);
    rv_free(db->mem, db->path);
    rv_free(db->mem, db->dir);
    rv_free(db->mem, db);
}

const char *rv_db_dir(const rv_db *db)
{
    return db->dir;
}

/* ---- transactions ---- */

static bool is_stopped(rv_db *db)
{
    pthread_mutex_lock(&db->pool_lock);
    bool stopped = db->stopped;
    pthread_mutex_unlock(&db->pool_lock);
    return stopped;
}

void rv_db_stop(rv_db *db)
{
    pthread_mutex_lock(&db->pool_lock);
    db->stopped = true;
    pthread_mutex_unlock(&db->pool_lock);
}

rv_err rv_db_begin(rv_db *db, sqlite3 **out)
{
    pthread_mutex_lock(&db->writing);
    rv_err e = is_stopped(db) ? rv_fail(RV_E_IO,
                                        "%s: the disk did not take what was written before; nothing more is "
                                        "written until ruvllm is started anew",
                                        db->path)
                              : begin(db->writer, "BEGIN IMMEDIATE", "beginning to write");
    if (e) {
        pthread_mutex_unlock(&db->writing);
        return e;
    }
    *out = db->writer;
    return RV_OK;
}

static rv_err keep(kept *k, sqlite3 *conn, sqlite3_stmt **out, const char *sql)
{
    for (size_t i = 0; i < k->n; i++) {
        if (k->at[i].sql == sql) {
            *out = k->at[i].stmt;
            return RV_OK;
        }
    }
    assert(k->n < KEPT); /* the statements are texts of this program */
    if (sqlite3_prepare_v3(conn, sql, -1, SQLITE_PREPARE_PERSISTENT, &k->at[k->n].stmt, NULL) != SQLITE_OK) {
        return rv_db_fail(conn, "preparing a statement");
    }
    k->at[k->n].sql = sql;
    *out = k->at[k->n++].stmt;
    return RV_OK;
}

rv_err rv_db_kept(rv_db *db, sqlite3_stmt **out, const char *sql)
{
    return keep(&db->kept, db->writer, out, sql);
}

static size_t number_of(const rv_db *db, const sqlite3 *reader)
{
    size_t i = 0;
    while (db->readers[i] != reader) { /* it is one of them, and taken: nobody changes its place */
        i++;
    }
    return i;
}

rv_err rv_db_reader_kept(rv_db *db, sqlite3 *reader, sqlite3_stmt **out, const char *sql)
{
    pthread_mutex_lock(&db->pool_lock);
    kept *k = &db->readers_kept[number_of(db, reader)];
    pthread_mutex_unlock(&db->pool_lock);
    return keep(k, reader, out, sql);
}

/* What they were bound to ends with the transaction. */
static void reset_kept(const kept *k)
{
    for (size_t i = 0; i < k->n; i++) {
        sqlite3_reset(k->at[i].stmt); /* its result repeats that of the last step, which was looked at */
        sqlite3_clear_bindings(k->at[i].stmt);
    }
}

void rv_db_rollback(rv_db *db)
{
    reset_kept(&db->kept);
    /* SQLite has rolled back by itself after most errors. If this fails the next begin tries again. */
    if (!sqlite3_get_autocommit(db->writer)) {
        sqlite3_exec(db->writer, "ROLLBACK", NULL, NULL, NULL);
    }
    pthread_mutex_unlock(&db->writing);
}

/* Of the statement of the writer that just failed. */
static void stop_after_failed_sync(rv_db *db)
{
    int code = sqlite3_extended_errcode(db->writer);
    if (code == SQLITE_IOERR_FSYNC || code == SQLITE_IOERR_DIR_FSYNC) {
        rv_db_stop(db);
    }
}

rv_err rv_db_commit(rv_db *db)
{
    reset_kept(&db->kept);
    rv_err e = run_script(db->writer, "COMMIT", "writing");
    if (e) {
        stop_after_failed_sync(db);
        rv_db_rollback(db);
        return e;
    }
    pthread_mutex_unlock(&db->writing);
    return RV_OK;
}

rv_err rv_db_migrate(rv_db *db, const char *module, const char *const *steps, size_t n_steps)
{
    sqlite3 *conn;
    RV_TRY(rv_db_begin(db, &conn));
    int64_t version = 0;
    rv_err e = rv_db_int(conn, &version, "SELECT version FROM modules WHERE name=?1", "t", module);
    if (!e && (version < 0 || (uint64_t)version > n_steps)) {
        e = rv_fail(RV_E_UNSUPPORTED,
                    "%s: the tables of %s have version %lld, this program knows %zu; use a newer ruvllm",
                    db->path, module, (long long)version, n_steps);
    }
    if (e || (uint64_t)version == n_steps) {
        rv_db_rollback(db);
        return e;
    }
    for (size_t i = (size_t)version; !e && i < n_steps; i++) {
        e = run_script(conn, steps[i], "making tables");
    }
    if (!e) {
        e = rv_db_exec(conn, "INSERT OR REPLACE INTO modules VALUES(?1,?2)", "ti", module, (int64_t)n_steps);
    }
    if (e) {
        rv_db_rollback(db);
        return e;
    }
    return rv_db_commit(db);
}

/* ---- readers ---- */

rv_err rv_db_reader(rv_db *db, sqlite3 **out)
{
    pthread_mutex_lock(&db->pool_lock);
    size_t i;
    for (;;) {
        for (i = 0; i < READERS && db->taken[i]; i++) {
        }
        if (i < READERS) {
            break;
        }
        pthread_cond_wait(&db->freed, &db->pool_lock);
    }
    db->taken[i] = true;
    sqlite3 *conn = db->readers[i];
    pthread_mutex_unlock(&db->pool_lock);

    rv_err e = conn ? RV_OK : open_connection(db, SQLITE_OPEN_READONLY, &conn);
    if (!e) {
        e = begin(conn, "BEGIN", "beginning to read");
    }
    pthread_mutex_lock(&db->pool_lock);
    db->readers[i] = conn;
    if (e) {
        db->taken[i] = false;
        pthread_cond_signal(&db->freed);
    }
    pthread_mutex_unlock(&db->pool_lock);
    if (!e) {
        *out = conn;
    }
    return e;
}

void rv_db_reader_done(rv_db *db, sqlite3 *reader)
{
    pthread_mutex_lock(&db->pool_lock);
    size_t i = number_of(db, reader);
    pthread_mutex_unlock(&db->pool_lock);
    reset_kept(&db->readers_kept[i]);
    if (!sqlite3_get_autocommit(reader)) {
        sqlite3_exec(reader, "ROLLBACK", NULL, NULL, NULL); /* if this fails the next begin tries again */
    }
    pthread_mutex_lock(&db->pool_lock);
    db->taken[i] = false;
    pthread_cond_signal(&db->freed);
    pthread_mutex_unlock(&db->pool_lock);
}

/* ---- checks ---- */

rv_err rv_db_check(rv_db *db)
{
    pthread_mutex_lock(&db->writing);
    sqlite3_stmt *stmt = NULL;
    rv_err e = end_old(db->writer);
    if (!e) {
        e = check_settings(db->writer);
    }
    if (!e) {
        e = rv_db_prepare(db->writer, &stmt, "PRAGMA integrity_check(1)", "");
    }
    bool row = false;
    if (!e) {
        e = rv_db_step(stmt, &row);
    }
    if (!e) {
        const char *said = row ? (const char *)sqlite3_column_text(stmt, 0) : NULL;
        if (!said || strcmp(said, "ok") != 0) {
            e = rv_fail(RV_E_CORRUPT, "%s: %s; the file is damaged: restore it from a backup", db->path,
                        said ? said : "the check did not answer");
        }
    }
    sqlite3_finalize(stmt);
    pthread_mutex_unlock(&db->writing);
    return e;
}

/* Copies the log into the file and cuts it to nothing; readers of an older state are waited for. */
static rv_err empty_log(sqlite3 *conn)
{
    sqlite3_stmt *stmt = NULL;
    bool row = false;
    RV_TRY(rv_db_prepare(conn, &stmt, "PRAGMA wal_checkpoint(TRUNCATE)", ""));
    rv_err e = rv_db_step(stmt, &row);
    bool busy = !e && (!row || sqlite3_column_int(stmt, 0));
    sqlite3_finalize(stmt);
    return busy ? rv_fail(RV_E_BUSY, "%s: emptying the log: somebody reads an older state",
                          sqlite3_db_filename(conn, "main"))
                : e;
}

/* Not only zeros in what is freed: when pages are balanced, copies of rows stay in their gaps. */
rv_err rv_db_scrub(rv_db *db)
{
    sqlite3 *conn;
    RV_TRY(rv_db_begin(db, &conn)); /* not after a stop, and no other writer */
    reset_kept(&db->kept);
    rv_err e = run_script(conn, "ROLLBACK", "beginning to write the file anew");
    e = e ? e : run_script(conn, "VACUUM", "writing the file anew");
    e = e ? e : empty_log(conn);
    if (e) {
        stop_after_failed_sync(db);
    }
    rv_db_rollback(db);
    return e;
}

uint64_t rv_db_sum_int(uint64_t sum, int64_t value)
{
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++) {
        bytes[i] = (unsigned char)((uint64_t)value >> (8 * i));
    }
    return rv_hash64(bytes, sizeof bytes, sum);
}

uint64_t rv_db_sum_text(uint64_t sum, const char *at, size_t n)
{
    return rv_hash64(at, n, rv_db_sum_int(sum, (int64_t)n));
}
