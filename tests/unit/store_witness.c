/* The chain holds, and every way to tamper with it shows. */
#include "base/file.h"
#include "store/archive.h"
#include "store/witness.h"
#include "test.h"

#include <stdio.h>
#include <string.h>

enum { RECORDS = 6 };

static rv_db *chain(void)
{
    rv_db *db;
    CHECK_OK(rv_db_open(&rv_heap, temp_path("data"), &db));
    CHECK_OK(rv_witness_setup(db));
    for (int i = 0; i < RECORDS; i++) {
        sqlite3 *conn;
        char body[32], request[16];
        int n = snprintf(body, sizeof body, "{\"n\":%d}", i);
        snprintf(request, sizeof request, "req-%d", i / 2);
        CHECK_OK(rv_db_begin(db, &conn));
        CHECK_OK(rv_witness_append(conn, i % 2 ? "feedback" : "request", request, body, (size_t)n));
        CHECK_OK(rv_db_commit(db));
    }
    return db;
}

TEST(an_untouched_chain_verifies_and_gives_its_records)
{
    rv_db *db = chain();
    uint64_t n = 0;
    CHECK_OK(rv_witness_verify(db, &n));
    CHECK(n == RECORDS, "%llu", (unsigned long long)n);
    rv_arena *arena;
    rv_witness_record *records;
    size_t found;
    CHECK_OK(rv_arena_new(&rv_heap, 1 << 20, &arena));
    CHECK_OK(rv_witness_get(db, "req-1", arena, &records, &found));
    CHECK(found == 2 && records[0].seq == 3 && strcmp(records[0].kind, "request") == 0 &&
              strcmp(records[1].body, "{\"n\":3}") == 0,
          "%zu", found);
    CHECK(strlen(records[0].hash) == 64 && strcmp(records[0].hash, records[1].hash) != 0, "%s",
          records[0].hash);
    CHECK_OK(rv_witness_get(db, "req-9", arena, &records, &found));
    CHECK(found == 0, "%zu", found);
    rv_arena_free(arena);
    rv_db_close(db);
}

TEST(an_empty_chain_verifies)
{
    rv_db *db;
    uint64_t n = 9;
    CHECK_OK(rv_db_open(&rv_heap, temp_path("data"), &db));
    CHECK_OK(rv_witness_setup(db));
    CHECK_OK(rv_witness_verify(db, &n));
    CHECK(n == 0, "%llu", (unsigned long long)n);
    rv_db_close(db);
}

TEST(every_way_to_tamper_shows)
{
    static const struct {
        const char *sql, *says;
    } cases[] = {
        { "UPDATE witness SET body='{\"n\":7}' WHERE seq=3", "record 3" },
        { "UPDATE witness SET kind='memory' WHERE seq=1", "record 1" },
        { "UPDATE witness SET request_id='req-8' WHERE seq=6", "record 6" },
        { "UPDATE witness SET created_ms=created_ms+1 WHERE seq=2", "record 2" },
        { "UPDATE witness SET hash=zeroblob(32) WHERE seq=4", "record 4" },
        { "UPDATE witness SET hash=zeroblob(3) WHERE seq=4", "record 4" },
        { "DELETE FROM witness WHERE seq=1", "record 1" },
        { "DELETE FROM witness WHERE seq=3", "record 3" },
        { "DELETE FROM witness WHERE seq=6", "ends at record 5" },
        { "DELETE FROM witness", "ends at record 0" },
        { "DELETE FROM witness_head", "head" },
        { "UPDATE witness_head SET hash=zeroblob(32)", "ends at" },
        { "UPDATE witness SET seq=100 WHERE seq=3; UPDATE witness SET seq=3 WHERE seq=4; UPDATE witness SET "
          "seq=4 WHERE seq=100",
          "record 3" },
        { "INSERT INTO witness SELECT 7, created_ms, kind, request_id, body, hash, 0 FROM witness WHERE "
          "seq=6",
          "record 7" },
    };
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        rv_db *db = chain();
        sqlite3 *conn;
        CHECK_OK(rv_db_begin(db, &conn));
        CHECK(sqlite3_exec(conn, cases[i].sql, NULL, NULL, NULL) == SQLITE_OK, "%s", sqlite3_errmsg(conn));
        CHECK_OK(rv_db_commit(db));
        uint64_t n;
        CHECK_ERR(rv_witness_verify(db, &n), RV_E_CORRUPT);
        CHECK(strstr(rv_err_text(), cases[i].says), "case %zu: %s", i, rv_err_text());
        rv_db_close(db);
    }
}

static void run_sql(rv_db *db, const char *sql)
{
    sqlite3 *conn;
    CHECK_OK(rv_db_begin(db, &conn));
    CHECK(sqlite3_exec(conn, sql, NULL, NULL, NULL) == SQLITE_OK, "%s", sqlite3_errmsg(conn));
    CHECK_OK(rv_db_commit(db));
}

static int64_t number(rv_db *db, const char *sql)
{
    int64_t n = -1;
    sqlite3 *conn;
    CHECK_OK(rv_db_reader(db, &conn));
    CHECK_OK(rv_db_int(conn, &n, sql, ""));
    rv_db_reader_done(db, conn);
    return n;
}

/* The bodies of the first records, two files of two and three. */
static rv_db *chain_in_archive(void)
{
    rv_db *db = chain();
    size_t n;
    CHECK_OK(rv_witness_archive(db, INT64_MAX, 30, &n));
    CHECK(n == 2, "%zu", n);
    CHECK_OK(rv_witness_archive(db, INT64_MAX, 50, &n));
    CHECK(n == 3, "%zu", n);
    CHECK(number(db, "SELECT count(*) FROM witness WHERE body=''") == 5, "they are still in the database");
    return db;
}

TEST(bodies_in_the_archive_verify_and_are_found)
{
    rv_db *db = chain_in_archive();
    uint64_t n = 0;
    CHECK_OK(rv_witness_verify(db, &n));
    CHECK(n == RECORDS, "%llu", (unsigned long long)n);
    rv_arena *arena;
    rv_witness_record *records;
    size_t found;
    CHECK_OK(rv_arena_new(&rv_heap, 1 << 20, &arena));
    for (int i = 2; i >= 0; i--) {
        char request[16], body[16];
        snprintf(request, sizeof request, "req-%d", i);
        snprintf(body, sizeof body, "{\"n\":%d}", 2 * i);
        CHECK_OK(rv_witness_get(db, request, arena, &records, &found));
        CHECK(found == 2 && strcmp(records[0].body, body) == 0, "%s: %zu", request, found);
    }
    rv_arena_free(arena);
    rv_db_close(db);
}

TEST(what_is_young_stays)
{
    rv_db *db = chain();
    size_t n = 9;
    CHECK_OK(rv_witness_archive(db, 1000, 1 << 20, &n));
    CHECK(n == 0 && number(db, "SELECT count(*) FROM archive") == 0, "%zu", n);
    rv_db_close(db);
}

TEST(every_way_to_tamper_with_the_archive_shows)
{
    static const struct {
        const char *sql, *says;
    } cases[] = {
        { "UPDATE witness SET archive=0 WHERE seq=3", "record 3" },
        { "UPDATE witness SET archive=1 WHERE seq=3", "record 3 is not in file 1" },
        { "UPDATE witness SET archive=7 WHERE seq=3", "no file has the number 7" },
        { "UPDATE witness SET hash=zeroblob(32) WHERE seq=4", "record 4" },
        { "UPDATE archive SET digest=digest+1 WHERE id=2", "archive/2.zst" },
        { "DELETE FROM archive WHERE id=2", "no file has the number 2" },
    };
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        rv_db *db = chain_in_archive();
        run_sql(db, cases[i].sql);
        uint64_t n;
        CHECK(rv_witness_verify(db, &n) && strstr(rv_err_text(), cases[i].says), "case %zu: %s", i,
              rv_err_text());
        rv_db_close(db);
    }
}

TEST(every_byte_of_a_file_in_the_archive_counts)
{
    rv_db *db = chain_in_archive();
    char path[4200], *bytes;
    size_t n;
    uint64_t count;
    snprintf(path, sizeof path, "%s/archive/2.zst", rv_db_dir(db));
    CHECK_OK(rv_file_read(&rv_heap, path, 1 << 20, &bytes, &n));
    for (size_t i = 0; i < n; i++) {
        bytes[i] ^= 4;
        CHECK_OK(rv_file_replace(path, bytes, n));
        CHECK_ERR(rv_witness_verify(db, &count), RV_E_CORRUPT);
        bytes[i] ^= 4;
    }
    CHECK_OK(rv_file_replace(path, bytes, n - 1));
    CHECK_ERR(rv_witness_verify(db, &count), RV_E_CORRUPT);
    CHECK_OK(rv_file_replace(path, bytes, n));
    CHECK_OK(rv_witness_verify(db, &count));
    rv_free(&rv_heap, bytes);
    rv_db_close(db);
}

/* A run that died left a file that nothing names: of a number that will be given again, and half of one. */
TEST(files_that_no_row_names_go)
{
    rv_db *db = chain_in_archive();
    char path[4200];
    static const char *const names[] = { "3.zst", "9.zst", "3.zst.a1b2c3" };
    for (size_t i = 0; i < RV_COUNT(names); i++) {
        snprintf(path, sizeof path, "%s/archive/%s", rv_db_dir(db), names[i]);
        CHECK_OK(rv_file_replace(path, "half", 4));
    }
    CHECK_OK(rv_archive_sweep(db));
    for (size_t i = 0; i < RV_COUNT(names); i++) {
        snprintf(path, sizeof path, "%s/archive/%s", rv_db_dir(db), names[i]);
        CHECK(!rv_file_exists(path), "%s", path);
    }
    uint64_t n;
    CHECK_OK(rv_witness_verify(db, &n));
    rv_db_close(db);
}

TEST(a_record_that_was_rolled_back_leaves_no_gap)
{
    rv_db *db = chain();
    sqlite3 *conn;
    CHECK_OK(rv_db_begin(db, &conn));
    CHECK_OK(rv_witness_append(conn, "memory", "req-x", "{}", 2));
    rv_db_rollback(db);
    CHECK_OK(rv_db_begin(db, &conn));
    CHECK_OK(rv_witness_append(conn, "memory", NULL, "{}", 2));
    CHECK_OK(rv_db_commit(db));
    uint64_t n;
    CHECK_OK(rv_witness_verify(db, &n));
    CHECK(n == RECORDS + 1, "%llu", (unsigned long long)n);
    rv_db_close(db);
}
