/* The database file: settings that hold, one process, versions, and files that are not ours. */
#include "base/file.h"
#include "store/db.h"
#include "test.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const one_step[] = { "CREATE TABLE t(a INTEGER) STRICT" };
static const char *const two_steps[] = { "CREATE TABLE t(a INTEGER) STRICT",
                                         "ALTER TABLE t ADD COLUMN b TEXT" };

static const char *file_in(const char *dir, const char *name)
{
    static char path[4200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void write_file(const char *path, const char *text, size_t n)
{
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(text, 1, n, f) == n, "%s", path);
    fclose(f);
}

static int64_t number(rv_db *db, const char *sql)
{
    sqlite3 *conn;
    int64_t n = -1;
    CHECK_OK(rv_db_reader(db, &conn));
    CHECK_OK(rv_db_int(conn, &n, sql, ""));
    rv_db_reader_done(db, conn);
    return n;
}

TEST(a_new_folder_is_private_and_the_settings_hold)
{
    const char *dir = temp_path("a/b");
    rv_db *db;
    CHECK_OK(rv_db_open(&rv_heap, dir, &db));
    CHECK(strcmp(rv_db_dir(db), dir) == 0, "%s", rv_db_dir(db));
    struct stat st;
    CHECK(stat(dir, &st) == 0 && (st.st_mode & 0777) == 0700, "%o", st.st_mode);
    static const char *const files[] = { "ruvllm.db", "ruvllm.db-wal", "lock" };
    for (size_t i = 0; i < RV_COUNT(files); i++) {
        CHECK(stat(file_in(dir, files[i]), &st) == 0 && (st.st_mode & 0777) == 0600, "%s: %o", files[i],
              st.st_mode);
    }
    sqlite3 *conn;
    CHECK_OK(rv_db_begin(db, &conn));
    int64_t synchronous = 0, foreign = 0, trusted = 1;
    CHECK_OK(rv_db_int(conn, &synchronous, "PRAGMA synchronous", ""));
    CHECK_OK(rv_db_int(conn, &foreign, "PRAGMA foreign_keys", ""));
    CHECK_OK(rv_db_int(conn, &trusted, "PRAGMA trusted_schema", ""));
    CHECK(synchronous == 2 && foreign == 1 && trusted == 0, "%lld %lld %lld", (long long)synchronous,
          (long long)foreign, (long long)trusted);
    rv_db_rollback(db);
    CHECK_OK(rv_db_check(db));
    rv_db_close(db);
    CHECK(stat(file_in(dir, "ruvllm.db-wal"), &st) != 0, "the WAL is copied into the file at the end");
}

TEST(a_second_opener_is_told_who_has_it)
{
    const char *dir = temp_path("data");
    rv_db *db, *other = NULL;
    CHECK_OK(rv_db_open(&rv_heap, dir, &db));
    CHECK_ERR(rv_db_open(&rv_heap, dir, &other), RV_E_BUSY);
    char pid[32];
    snprintf(pid, sizeof pid, "process %ld", (long)getpid());
    CHECK(!other && strstr(rv_err_text(), pid), "%s", rv_err_text());
    rv_db_close(db);
    CHECK_OK(rv_db_open(&rv_heap, dir, &other));
    rv_db_close(other);
}

TEST(the_lock_of_a_killed_process_is_free)
{
    const char *dir = temp_path("data");
    pid_t child = fork();
    if (child == 0) {
        rv_db *db;
        _exit(rv_db_open(&rv_heap, dir, &db) == RV_OK ? 0 : 1); /* not closed */
    }
    int status = 0;
    waitpid(child, &status, 0);
    CHECK(status == 0, "%d", status);
    rv_db *db;
    CHECK_OK(rv_db_open(&rv_heap, dir, &db));
    rv_db_close(db);
}

TEST(migrations_run_once_and_newer_files_are_refused)
{
    const char *dir = temp_path("data");
    rv_db *db;
    CHECK_OK(rv_db_open(&rv_heap, dir, &db));
    CHECK_OK(rv_db_migrate(db, "toy", one_step, 1));
    CHECK_OK(rv_db_migrate(db, "toy", one_step, 1));
    CHECK_OK(rv_db_migrate(db, "toy", two_steps, 2));
    CHECK(number(db, "SELECT count(*) FROM pragma_table_info('t')") == 2, "two columns");
    CHECK_ERR(rv_db_migrate(db, "toy", one_step, 1), RV_E_UNSUPPORTED);
    CHECK(strstr(rv_err_text(), "toy"), "%s", rv_err_text());
    static const char *const broken[] = { "CREATE TABLE u(a INTEGER) STRICT; SELEC" };
    CHECK_ERR(rv_db_migrate(db, "other", broken, 1), RV_E_CORRUPT);
    CHECK(number(db, "SELECT count(*) FROM sqlite_master WHERE name='u'") == 0,
          "nothing of a failed step stays");
    rv_db_close(db);
}

TEST(a_transaction_is_all_or_nothing_and_readers_see_one_state)
{
    rv_db *db;
    CHECK_OK(rv_db_open(&rv_heap, temp_path("data"), &db));
    CHECK_OK(rv_db_migrate(db, "toy", one_step, 1));
    sqlite3 *conn, *reader;
    CHECK_OK(rv_db_begin(db, &conn));
    CHECK_OK(rv_db_exec(conn, "INSERT INTO t VALUES(?1)", "i", (int64_t)1));
    rv_db_rollback(db);
    CHECK(number(db, "SELECT count(*) FROM t") == 0, "rolled back");

    int64_t before = -1, after = -1;
    CHECK_OK(rv_db_reader(db, &reader));
    CHECK_OK(rv_db_int(reader, &before, "SELECT count(*) FROM t", ""));
    CHECK_OK(rv_db_begin(db, &conn));
    CHECK_OK(rv_db_exec(conn, "INSERT INTO t VALUES(?1)", "i", (int64_t)1));
    CHECK_OK(rv_db_commit(db));
    CHECK_OK(rv_db_int(reader, &after, "SELECT count(*) FROM t", ""));
    rv_db_reader_done(db, reader);
    CHECK(before == 0 && after == 0, "%lld, %lld", (long long)before, (long long)after);
    CHECK(number(db, "SELECT count(*) FROM t") == 1, "seen by the next reader");
    CHECK_OK(rv_db_reader(db, &reader));
    CHECK(rv_db_exec(reader, "INSERT INTO t VALUES(2)", "") != RV_OK, "a reader cannot write");
    rv_db_reader_done(db, reader);
    rv_db_close(db);
}

TEST(after_rv_db_stop_nothing_is_written_and_reading_goes_on)
{
    rv_db *db;
    CHECK_OK(rv_db_open(&rv_heap, temp_path("data"), &db));
    CHECK_OK(rv_db_migrate(db, "toy", one_step, 1));
    rv_db_stop(db);
    sqlite3 *conn;
    CHECK_ERR(rv_db_begin(db, &conn), RV_E_IO);
    CHECK(number(db, "SELECT count(*) FROM t") == 0, "reads");
    rv_db_close(db);
}

TEST(files_that_are_not_ours_are_refused_with_advice)
{
    const char *dir = temp_dir();
    rv_db *db = NULL;
    write_file(file_in(dir, "ruvllm.db"), "hello, this is a letter and no database", 39);
    CHECK_ERR(rv_db_open(&rv_heap, dir, &db), RV_E_CORRUPT);
    CHECK(strstr(rv_err_text(), "ruvllm.db") && strstr(rv_err_text(), "move it away"), "%s", rv_err_text());
    write_file(file_in(dir, "ruvllm.db"), "SQLite", 6);
    CHECK_ERR(rv_db_open(&rv_heap, dir, &db), RV_E_CORRUPT);
    char page[4096] = "SQLite format 3";
    memset(page + 16, 0x5a, sizeof page - 16);
    write_file(file_in(dir, "ruvllm.db"), page, sizeof page);
    CHECK_ERR(rv_db_open(&rv_heap, dir, &db), RV_E_CORRUPT);

    sqlite3 *foreign;
    remove(file_in(dir, "ruvllm.db"));
    CHECK(sqlite3_open(file_in(dir, "ruvllm.db"), &foreign) == SQLITE_OK, "open");
    CHECK(sqlite3_exec(foreign, "CREATE TABLE notes(x)", NULL, NULL, NULL) == SQLITE_OK, "create");
    sqlite3_close(foreign);
    CHECK_ERR(rv_db_open(&rv_heap, dir, &db), RV_E_CORRUPT);
    CHECK(strstr(rv_err_text(), "not ruvllm's"), "%s", rv_err_text());

    CHECK_ERR(rv_db_open(&rv_heap, "/proc/nowhere", &db), RV_E_IO);
    CHECK(strstr(rv_err_text(), "--data"), "%s", rv_err_text());
    const char *file = file_in(temp_dir(), "file");
    write_file(file, "x", 1);
    CHECK_ERR(rv_db_open(&rv_heap, file, &db), RV_E_IO);
    CHECK(db == NULL, "untouched");
}

TEST(a_file_of_a_newer_format_is_refused)
{
    const char *dir = temp_path("data");
    rv_db *db;
    CHECK_OK(rv_db_open(&rv_heap, dir, &db));
    rv_db_close(db);
    sqlite3 *raw;
    CHECK(sqlite3_open(file_in(dir, "ruvllm.db"), &raw) == SQLITE_OK, "open");
    CHECK(sqlite3_exec(raw, "PRAGMA user_version=2", NULL, NULL, NULL) == SQLITE_OK, "set");
    sqlite3_close(raw);
    CHECK_ERR(rv_db_open(&rv_heap, dir, &db), RV_E_UNSUPPORTED);
}

TEST(sums_never_change_and_see_where_a_field_ends)
{
    uint64_t a = rv_db_sum_text(rv_db_sum_text(0, "ab", 2), "c", 1),
             b = rv_db_sum_text(rv_db_sum_text(0, "a", 1), "bc", 2);
    CHECK(a != b, "%llx", (unsigned long long)a);
    uint64_t fixed = rv_db_sum_text(rv_db_sum_int(0, -5), "stable", 6);
    CHECK(fixed == 0x8a4d183afc1e1419u, "0x%llx", (unsigned long long)fixed);
}

TEST(running_out_of_memory_while_opening_leaves_nothing_behind)
{
    const char *dir = temp_path("data");
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_db *db = NULL;
        rv_err e = rv_db_open(&m.alloc, dir, &db);
        CHECK((e == RV_E_NOMEM) == m.failed, "call %ld: %s", m.fail_at, rv_err_text());
        rv_db_close(db);
    }
}
