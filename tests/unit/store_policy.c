/* Versions of what was learned: kept, used, taken back, and still there after a restart. */
#include "store/policy.h"
#include "store/witness.h"
#include "test.h"

#include <string.h>

static rv_db *opened(const char *dir)
{
    rv_db *db;
    CHECK_OK(rv_db_open(&rv_heap, dir, &db));
    CHECK_OK(rv_witness_setup(db));
    CHECK_OK(rv_policy_setup(db));
    return db;
}

static int64_t added(rv_db *db, const char *bytes, int64_t parent, bool use)
{
    sqlite3 *conn;
    int64_t version = 0;
    CHECK_OK(rv_db_begin(db, &conn));
    rv_policy_new policy = { .kind = "router",
                             .parent = parent,
                             .note = "a test",
                             .metrics = "{\"before\": 1}",
                             .bytes = bytes,
                             .n = strlen(bytes),
                             .use = use };
    CHECK_OK(rv_policy_add(conn, &policy, &version));
    CHECK_OK(rv_db_commit(db));
    return version;
}

static int64_t in_use(rv_db *db)
{
    rv_arena *arena;
    rv_policy_info info = { 0 };
    CHECK_OK(rv_arena_new(&rv_heap, 1 << 20, &arena));
    rv_err e = rv_policy_current(db, "router", arena, &info);
    CHECK(!e || e == RV_E_NOT_FOUND, "%s", rv_err_text());
    rv_arena_free(arena);
    return e ? 0 : info.version;
}

static void check_bytes(rv_db *db, int64_t version, const char *expected)
{
    uint8_t *bytes;
    size_t n;
    CHECK_OK(rv_policy_read(db, &rv_heap, "router", version, &bytes, &n));
    CHECK(n == strlen(expected) && memcmp(bytes, expected, n) == 0, "%.*s", (int)n, (char *)bytes);
    rv_free(&rv_heap, bytes);
}

static int64_t rolled_back(rv_db *db)
{
    sqlite3 *conn;
    int64_t version = -1;
    CHECK_OK(rv_db_begin(db, &conn));
    CHECK_OK(rv_policy_rollback(conn, "router", "a test", &version));
    CHECK_OK(rv_db_commit(db));
    return version;
}

TEST(a_version_is_used_only_when_it_was_accepted_and_a_rollback_leads_to_its_parent)
{
    const char *dir = temp_dir();
    rv_db *db = opened(dir);
    CHECK(in_use(db) == 0, "none yet");
    CHECK(added(db, "one", 0, true) == 1 && in_use(db) == 1, "%lld", (long long)in_use(db));
    CHECK(added(db, "two, refused", 1, false) == 2 && in_use(db) == 1, "%lld", (long long)in_use(db));
    CHECK(added(db, "three", 1, true) == 3 && in_use(db) == 3, "%lld", (long long)in_use(db));
    rv_db_close(db);
    db = opened(dir);
    CHECK(in_use(db) == 3, "after a restart %lld", (long long)in_use(db));
    check_bytes(db, 2, "two, refused");
    CHECK(rolled_back(db) == 1 && in_use(db) == 1, "%lld", (long long)in_use(db));
    check_bytes(db, 1, "one");
    CHECK(rolled_back(db) == 0 && in_use(db) == 0, "%lld", (long long)in_use(db));
    sqlite3 *conn;
    CHECK_OK(rv_db_begin(db, &conn));
    int64_t version;
    CHECK_ERR(rv_policy_rollback(conn, "router", "a test", &version), RV_E_NOT_FOUND);
    CHECK_OK(rv_policy_use(conn, "router", 3, "again"));
    CHECK_ERR(rv_policy_use(conn, "router", 4, "not there"), RV_E_NOT_FOUND);
    CHECK_OK(rv_db_commit(db));
    CHECK(in_use(db) == 3, "%lld", (long long)in_use(db));
    uint64_t count;
    CHECK_OK(rv_witness_verify(db, &count));
    CHECK(count == 6, "%llu witness records", (unsigned long long)count);
    rv_db_close(db);
}

TEST(old_bytes_go_but_never_those_in_use)
{
    rv_db *db = opened(temp_dir());
    added(db, "used", 0, true);
    for (int i = 0; i < 12; i++) {
        added(db, "later", 1, false);
    }
    check_bytes(db, 1, "used");
    check_bytes(db, 13, "later");
    uint8_t *bytes;
    size_t n;
    CHECK_ERR(rv_policy_read(db, &rv_heap, "router", 2, &bytes, &n), RV_E_NOT_FOUND);
    rv_arena *arena;
    rv_policy_info *list;
    CHECK_OK(rv_arena_new(&rv_heap, 1 << 20, &arena));
    CHECK_OK(rv_policy_list(db, NULL, 100, arena, &list, &n));
    CHECK(n == 13, "%zu versions", n);
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        used += list[i].in_use;
        CHECK(strcmp(list[i].metrics, "{\"before\": 1}") == 0, "%s", list[i].metrics);
    }
    CHECK(used == 1, "%zu in use", used);
    rv_arena_free(arena);
    rv_db_close(db);
}

TEST(what_is_no_version_is_refused_and_damaged_bytes_are_seen)
{
    rv_db *db = opened(temp_dir());
    added(db, "bytes", 0, true);
    sqlite3 *conn;
    int64_t version;
    CHECK_OK(rv_db_begin(db, &conn));
    rv_policy_new policy = { .kind = "Router", .bytes = "x", .n = 1 };
    CHECK_ERR(rv_policy_add(conn, &policy, &version), RV_E_ARG);
    policy.kind = "router";
    policy.n = 0;
    CHECK_ERR(rv_policy_add(conn, &policy, &version), RV_E_ARG);
    policy.n = 1;
    policy.metrics = "[1]";
    CHECK_ERR(rv_policy_add(conn, &policy, &version), RV_E_ARG);
    policy.metrics = NULL;
    policy.parent = 7;
    CHECK_ERR(rv_policy_add(conn, &policy, &version), RV_E_NOT_FOUND);
    CHECK_OK(rv_db_exec(conn, "UPDATE policy SET bytes = ?1", "t", "other"));
    CHECK_OK(rv_db_commit(db));
    uint8_t *bytes;
    size_t n;
    CHECK_ERR(rv_policy_read(db, &rv_heap, "router", 1, &bytes, &n), RV_E_CORRUPT);
    rv_db_close(db);
}

TEST(forgetting_erases_what_was_made_since_and_goes_back_to_before)
{
    rv_db *db = opened(temp_path("data"));
    int64_t v1 = added(db, "one", 0, true), v2 = added(db, "two", v1, true),
            v3 = added(db, "three", v2, true);
    sqlite3 *conn;
    int64_t erased = 0, version = 0;
    CHECK_OK(rv_db_begin(db, &conn));
    CHECK_OK(rv_db_exec(conn, "UPDATE policy SET created_ms = version * 10", ""));
    CHECK_OK(rv_policy_forget(conn, "router", 31, "a test", &erased, &version));
    CHECK(erased == 0 && version == v3, "%lld erased, version %lld", (long long)erased, (long long)version);
    CHECK_OK(rv_policy_forget(conn, "router", 20, "a test", &erased, &version));
    CHECK(erased == 2 && version == v1, "%lld erased, version %lld", (long long)erased, (long long)version);
    CHECK_OK(rv_db_commit(db));
    CHECK(in_use(db) == v1, "%lld", (long long)in_use(db));
    check_bytes(db, v1, "one");
    CHECK_OK(rv_db_begin(db, &conn));
    CHECK_ERR(rv_policy_use(conn, "router", v2, "a test"), RV_E_NOT_FOUND);
    CHECK_OK(rv_policy_forget(conn, "router", 0, "a test", &erased, &version));
    CHECK(erased == 1 && version == 0, "%lld erased, version %lld", (long long)erased, (long long)version);
    CHECK_OK(rv_policy_forget(conn, "attention", 0, "a test", &erased, &version));
    CHECK(erased == 0 && version == 0, "%lld erased of what is not there", (long long)erased);
    CHECK_OK(rv_db_commit(db));
    CHECK(in_use(db) == 0, "%lld", (long long)in_use(db));
    uint64_t n;
    CHECK_OK(rv_witness_verify(db, &n));
    rv_db_close(db);
}

static int64_t taken_back(rv_db *db)
{
    int64_t made = -1;
    CHECK_OK(rv_policy_taken_back(db, "router", &made));
    return made;
}

static void made_at(rv_db *db, int64_t version, int64_t ms)
{
    sqlite3 *conn;
    CHECK_OK(rv_db_begin(db, &conn));
    CHECK_OK(rv_db_exec(conn, "UPDATE policy SET created_ms = ?2 WHERE version = ?1", "ii", version, ms));
    CHECK_OK(rv_db_commit(db));
}

TEST(the_newest_version_that_was_taken_back_is_known)
{
    rv_db *db = opened(temp_dir());
    sqlite3 *conn;
    int64_t erased, now;
    CHECK(taken_back(db) == 0, "none yet");
    made_at(db, added(db, "one", 0, true), 100);
    made_at(db, added(db, "two", 1, true), 200);
    made_at(db, added(db, "three, refused", 2, false), 300);
    CHECK(taken_back(db) == 0, "none was taken back");
    CHECK(rolled_back(db) == 1 && taken_back(db) == 200, "%lld", (long long)taken_back(db));
    CHECK(rolled_back(db) == 0 && taken_back(db) == 200, "%lld", (long long)taken_back(db));
    made_at(db, added(db, "four", 0, true), 400);
    CHECK(taken_back(db) == 200, "%lld, after the next one", (long long)taken_back(db));
    CHECK_OK(rv_db_begin(db, &conn));
    CHECK_OK(rv_policy_use(conn, "router", 2, "again"));
    CHECK_OK(rv_db_commit(db));
    CHECK(taken_back(db) == 400, "%lld, when it is in use again", (long long)taken_back(db));
    CHECK_OK(rv_db_begin(db, &conn));
    CHECK_OK(rv_policy_forget(conn, "router", 150, "forgotten", &erased, &now));
    CHECK_OK(rv_db_commit(db));
    CHECK(now == 1 && taken_back(db) == 0, "what was forgotten counts: %lld", (long long)taken_back(db));
    rv_db_close(db);
}
