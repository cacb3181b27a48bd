/* The chain holds, and every way to tamper with it shows. */
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
        { "INSERT INTO witness SELECT 7, created_ms, kind, request_id, body, hash FROM witness WHERE seq=6",
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
