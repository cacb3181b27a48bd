/* Turns come back in order, to their user alone, and damaged ones not at all. */
#include "store/session.h"
#include "test.h"

#include <stdio.h>
#include <string.h>

static rv_arena *arena(void)
{
    static rv_arena *a;
    if (!a) {
        CHECK_OK(rv_arena_new(&rv_heap, (size_t)16 << 20, &a));
    }
    rv_arena_reset(a);
    return a;
}

static rv_db *open_in(const char *dir)
{
    rv_db *db;
    CHECK_OK(rv_db_open(&rv_heap, dir, &db));
    CHECK_OK(rv_session_setup(db));
    return db;
}

static void say(rv_db *db, const char *session, const char *user, const char *question, int64_t when)
{
    sqlite3 *conn;
    CHECK_OK(rv_db_begin(db, &conn));
    CHECK_OK(rv_session_append(conn, session, &(rv_turn){ "req", question, "answer", user, when }));
    CHECK_OK(rv_db_commit(db));
}

TEST(the_last_turns_come_oldest_first_also_after_a_restart)
{
    const char *dir = temp_path("data");
    rv_db *db = open_in(dir);
    for (int i = 0; i < 9; i++) {
        char question[16];
        snprintf(question, sizeof question, "q%d", i);
        say(db, "s1", "ann", question, 1000 + i);
        say(db, "s1", "bob", "bob's", 1000 + i);
    }
    rv_db_close(db);
    db = open_in(dir);
    rv_turn *turns;
    size_t n;
    CHECK_OK(rv_session_recent(db, "s1", "ann", 4, arena(), &turns, &n));
    CHECK(n == 4, "%zu", n);
    for (size_t i = 0; i < n; i++) {
        CHECK(turns[i].question[1] == (char)('5' + i) && turns[i].created_ms == 1005 + (int64_t)i, "%s",
              turns[i].question);
        CHECK(strcmp(turns[i].user, "ann") == 0 && strcmp(turns[i].answer, "answer") == 0, "%s",
              turns[i].user);
    }
    CHECK_OK(rv_session_recent(db, "s1", "ann", 100, arena(), &turns, &n));
    CHECK(n == 9, "%zu", n);
    CHECK_OK(rv_session_recent(db, "s1", NULL, 100, arena(), &turns, &n));
    CHECK(n == 0, "nobody's session of that name: %zu", n);
    CHECK_OK(rv_session_recent(db, "other", "ann", 100, arena(), &turns, &n));
    CHECK(n == 0, "%zu", n);
    rv_db_close(db);
}

TEST(sessions_are_listed_by_last_use_and_removed_for_their_user_alone)
{
    rv_db *db = open_in(temp_path("data"));
    say(db, "old", "ann", "a", 1);
    say(db, "new", "ann", "b", 2);
    say(db, "old", "ann", "c", 3);
    say(db, "old", "bob", "d", 4);
    rv_session_info *list;
    size_t n, removed;
    CHECK_OK(rv_session_list(db, "ann", 10, arena(), &list, &n));
    CHECK(n == 2 && strcmp(list[0].id, "old") == 0 && list[0].turns == 2 && list[0].created_ms == 1 &&
              list[0].last_ms == 3,
          "%zu", n);
    CHECK_OK(rv_session_list(db, "ann", 1, arena(), &list, &n));
    CHECK(n == 1, "%zu", n);
    CHECK_OK(rv_session_rm(db, "old", "ann", &removed));
    CHECK(removed == 1, "%zu", removed);
    CHECK_OK(rv_session_rm(db, "old", "ann", &removed));
    CHECK(removed == 0, "%zu", removed);
    rv_turn *turns;
    CHECK_OK(rv_session_recent(db, "old", "bob", 9, arena(), &turns, &n));
    CHECK(n == 1, "bob keeps his: %zu", n);
    CHECK_OK(rv_session_recent(db, "old", "ann", 9, arena(), &turns, &n));
    CHECK(n == 0, "%zu", n);
    rv_db_close(db);
}

TEST(a_changed_turn_is_noticed)
{
    rv_db *db = open_in(temp_path("data"));
    say(db, "s", NULL, "true", 1);
    sqlite3 *conn;
    CHECK_OK(rv_db_begin(db, &conn));
    CHECK_OK(rv_db_exec(conn, "UPDATE turns SET question='trve'", ""));
    CHECK_OK(rv_db_commit(db));
    rv_turn *turns;
    size_t n;
    CHECK_ERR(rv_session_recent(db, "s", NULL, 9, arena(), &turns, &n), RV_E_CORRUPT);
    rv_db_close(db);
}

TEST(session_ids_are_checked)
{
    static const char *const good[] = { "a", "...", "user@example.com:1",
                                        "550e8400-e29b-41d4-a716-446655440000" };
    static const char *const bad[] = { "", ".", "..", "a b", "a/b", "a\\b", "a\n", "\x7f", "sch\xc3\xb6n" };
    for (size_t i = 0; i < RV_COUNT(good); i++) {
        CHECK_OK(rv_session_check_id(good[i], strlen(good[i])));
    }
    for (size_t i = 0; i < RV_COUNT(bad); i++) {
        CHECK_ERR(rv_session_check_id(bad[i], strlen(bad[i])), RV_E_ARG);
    }
    char longest[RV_SESSION_ID_MAX + 2];
    memset(longest, 'x', sizeof longest);
    CHECK_OK(rv_session_check_id(longest, RV_SESSION_ID_MAX));
    CHECK_ERR(rv_session_check_id(longest, RV_SESSION_ID_MAX + 1), RV_E_ARG);
    CHECK_ERR(rv_session_check_id("a\0b", 3), RV_E_ARG);
}
