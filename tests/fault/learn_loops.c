/* Loops that are cut short: killed before or after the work of any stage of any loop, the next run goes on there, no finished stage runs twice, and
 * what a stage makes is there whole or not at all. The stages are small ones that do what the real ones do: one version in one transaction. */
#include "learn/loop.h"
#include "store/policy.h"
#include "store/witness.h"
#include "test.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct place {
    rv_db *db;
    int calls[3];
    bool fails, stops;
} place;

static rv_db *opened(const char *dir)
{
    rv_db *db;
    CHECK_OK(rv_db_open(&rv_heap, dir, &db));
    CHECK_OK(rv_witness_setup(db));
    CHECK_OK(rv_policy_setup(db));
    CHECK_OK(rv_loop_setup(db));
    return db;
}

static rv_err make_version(place *p, const char *kind, rv_loop_report *out)
{
    static char bytes[100000];
    sqlite3 *conn;
    int64_t version;
    memset(bytes, kind[0], sizeof bytes);
    rv_policy_new new = { .kind = kind, .bytes = bytes, .n = sizeof bytes, .use = true };
    RV_TRY(rv_db_begin(p->db, &conn));
    rv_err e = rv_policy_add(conn, &new, &version);
    if (e) {
        rv_db_rollback(p->db);
        return e;
    }
    *out = (rv_loop_report){
        .accepted = true, .changed = version, .measure = "loss", .before = 2, .after = 1, .why = "a test"
    };
    return rv_db_commit(p->db);
}

static rv_err stage_a(void *self, double until_ms, rv_loop_report *out)
{
    (void)until_ms;
    ((place *)self)->calls[0]++;
    return make_version(self, "a", out);
}
static rv_err stage_b(void *self, double until_ms, rv_loop_report *out)
{
    place *p = self;
    (void)until_ms;
    p->calls[1]++;
    return p->fails ? rv_fail(RV_E_IO, "it broke") : make_version(self, "b", out);
}
static rv_err stage_c(void *self, double until_ms, rv_loop_report *out)
{
    (void)until_ms;
    ((place *)self)->calls[2]++;
    return make_version(self, "c", out);
}
static const rv_loop_stage stages[] = { { "one", 60, stage_a },
                                        { "two", 60, stage_b },
                                        { "three", 60, stage_c } };

static bool go_on(void *self)
{
    place *p = self;
    return !p->stops || p->calls[0] == 0;
}

static rv_loop loop_of(place *p, const char *name)
{
    return (rv_loop){ .name = name, .stages = stages, .n = 3, .seconds = 60, .self = p, .go_on = go_on };
}

static const char *dies_at;
static bool dies_after;

static void die(const char *loop, const char *stage, bool after)
{
    (void)loop;
    if (strcmp(stage, dies_at) == 0 && after == dies_after) {
        raise(SIGKILL);
    }
}

/* Every version's bytes are whole, and every stage is done in the same run. */
static void check_whole(rv_db *db, const char *loop, const char *when)
{
    rv_arena *arena;
    rv_loop_row *rows;
    rv_policy_info *list;
    size_t n, n_list;
    uint64_t count;
    CHECK_OK(rv_arena_new(&rv_heap, 8 << 20, &arena));
    CHECK_OK(rv_loop_list(db, arena, &rows, &n));
    CHECK(n == 3, "%s: %zu stages", when, n);
    for (size_t i = 0; i < n; i++) {
        CHECK(strcmp(rows[i].loop, loop) == 0 && strcmp(rows[i].stage, stages[i].name) == 0 &&
                  strcmp(rows[i].state, "done") == 0 && rows[i].run == rows[0].run && rows[i].accepted &&
                  rows[i].before == 2 && rows[i].after == 1 && rows[i].ended_ms > 0,
              "%s: stage %zu is %s", when, i, rows[i].state);
    }
    CHECK_OK(rv_policy_list(db, NULL, 100, arena, &list, &n_list));
    for (size_t i = 0; i < n_list; i++) {
        uint8_t *bytes;
        size_t size;
        CHECK_OK(rv_policy_read(db, &rv_heap, list[i].kind, list[i].version, &bytes, &size));
        CHECK(size == 100000, "%s: %zu bytes", when, size);
        rv_free(&rv_heap, bytes);
    }
    CHECK_OK(rv_witness_verify(db, &count));
    rv_arena_free(arena);
}

TEST(killed_in_any_stage_of_any_loop_the_next_run_goes_on_there)
{
    static const char *const loops[] = { "background", "deep" };
    for (size_t l = 0; l < 2; l++) {
        for (size_t i = 0; i < 6; i++) {
            char when[64];
            snprintf(when, sizeof when, "%s, %s %s", loops[l], i % 2 ? "after" : "before",
                     stages[i / 2].name);
            const char *dir = temp_path("data");
            pid_t child = fork();
            if (child == 0) {
                place p = { .db = opened(dir) };
                rv_loop loop = loop_of(&p, loops[l]);
                rv_loop_done done;
                dies_at = stages[i / 2].name;
                dies_after = i % 2;
                loop.passing = die;
                _exit(rv_loop_run(p.db, &loop, &done) ? 8 : 7);
            }
            int status = 0;
            CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status), "%s: status %x", when,
                  (unsigned)status);
            place p = { .db = opened(dir) };
            rv_loop loop = loop_of(&p, loops[l]);
            rv_loop_done done;
            CHECK_OK(rv_loop_run(p.db, &loop, &done));
            CHECK(done.resumed && done.ran == 3 - i / 2, "%s: resumed %d, %zu ran", when, done.resumed,
                  done.ran);
            for (size_t s = 0; s < 3; s++) {
                CHECK(p.calls[s] == (s >= i / 2), "%s: stage %zu ran %d times", when, s, p.calls[s]);
            }
            check_whole(p.db, loops[l], when);
            CHECK_OK(rv_loop_run(p.db, &loop, &done));
            CHECK(!done.resumed && done.ran == 3, "%s: the next one: %zu ran", when, done.ran);
            rv_db_close(p.db);
        }
    }
}

TEST(a_stage_that_fails_is_noted_and_the_next_one_runs)
{
    place p = { .db = opened(temp_path("data")), .fails = true };
    rv_loop loop = loop_of(&p, "background");
    rv_loop_done done;
    rv_arena *arena;
    rv_loop_row *rows;
    size_t n;
    CHECK_OK(rv_loop_run(p.db, &loop, &done));
    CHECK(done.ran == 3 && done.failed == 1 && p.calls[2] == 1, "%zu ran, %zu failed", done.ran, done.failed);
    CHECK_OK(rv_arena_new(&rv_heap, 1 << 20, &arena));
    CHECK_OK(rv_loop_list(p.db, arena, &rows, &n));
    CHECK(n == 3 && strcmp(rows[1].state, "failed") == 0 && strcmp(rows[1].why, "it broke") == 0 &&
              !rows[1].accepted,
          "%s", rows[1].why);
    rv_arena_free(arena);
    rv_db_close(p.db);
}

static rv_err fail_at_length(void *self, double until_ms, rv_loop_report *out)
{
    char text[401] = "";
    (void)self, (void)until_ms, (void)out;
    for (size_t i = 0; i < 400; i += 2) {
        memcpy(text + i, "\xc3\xa9", 2);
    }
    return rv_fail(RV_E_IO, "%s", text);
}

TEST(a_long_reason_is_cut_between_two_letters)
{
    rv_db *db = opened(temp_path("data"));
    const rv_loop_stage one = { "one", 60, fail_at_length };
    const rv_loop loop = { .name = "background", .stages = &one, .n = 1, .seconds = 60 };
    rv_loop_done done;
    rv_arena *arena;
    rv_loop_row *rows;
    size_t n;
    CHECK_OK(rv_loop_run(db, &loop, &done));
    CHECK_OK(rv_arena_new(&rv_heap, 1 << 20, &arena));
    CHECK_OK(rv_loop_list(db, arena, &rows, &n));
    CHECK(n == 1 && strlen(rows[0].why) > 200 && rv_utf8_valid(rows[0].why, strlen(rows[0].why)), "%zu bytes",
          strlen(rows[0].why));
    rv_arena_free(arena);
    rv_db_close(db);
}

TEST(interrupted_or_out_of_time_it_goes_on_later)
{
    place p = { .db = opened(temp_path("data")), .stops = true };
    rv_loop loop = loop_of(&p, "background");
    rv_loop_done done;
    CHECK_ERR(rv_loop_run(p.db, &loop, &done), RV_E_CANCELLED);
    CHECK(p.calls[0] == 1 && p.calls[1] == 0, "calls");
    p.stops = false;
    loop.seconds = 0; /* no time at all */
    CHECK_OK(rv_loop_run(p.db, &loop, &done));
    CHECK(done.resumed && done.unfinished && done.ran == 0, "%zu ran", done.ran);
    loop.seconds = 60;
    CHECK_OK(rv_loop_run(p.db, &loop, &done));
    CHECK(done.resumed && !done.unfinished && done.ran == 2 && p.calls[0] == 1, "%zu ran", done.ran);
    rv_db_close(p.db);
}
