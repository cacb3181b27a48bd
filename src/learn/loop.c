#include "learn/loop.h"

#include "base/clock.h"
#include "base/str.h"

#include <string.h>

enum { LIST_MAX = 64 };

static const char *const steps[] = {
    "CREATE TABLE loop_run (loop TEXT PRIMARY KEY, run INTEGER NOT NULL, began_ms INTEGER NOT NULL, ended_ms "
    "INTEGER NOT NULL)"
    " WITHOUT ROWID;" /* ended_ms 0: not yet */
    "CREATE TABLE loop_stage (loop TEXT NOT NULL, place INTEGER NOT NULL, stage TEXT NOT NULL, run INTEGER "
    "NOT NULL, state TEXT NOT NULL,"
    " began_ms INTEGER NOT NULL, ended_ms INTEGER NOT NULL, changed INTEGER NOT NULL, accepted INTEGER NOT "
    "NULL, measure TEXT NOT NULL,"
    " before REAL NOT NULL, after REAL NOT NULL, why TEXT NOT NULL, PRIMARY KEY (loop, stage)) WITHOUT "
    "ROWID;",
};

rv_err rv_loop_setup(rv_db *db)
{
    return rv_db_migrate(db, "loop", steps, RV_COUNT(steps));
}

static rv_err end(rv_db *db, rv_err e)
{
    if (e) {
        rv_db_rollback(db);
        return e;
    }
    return rv_db_commit(db);
}

/* The run that was not finished, or a new one. */
static rv_err begin_run(sqlite3 *conn, const char *loop, int64_t *run, bool *resumed)
{
    int64_t open = 0, last = 0;
    RV_TRY(rv_db_int(conn, &open,
                     "SELECT coalesce((SELECT run FROM loop_run WHERE loop = ?1 AND ended_ms = 0), 0)", "t",
                     loop));
    RV_TRY(
        rv_db_int(conn, &last, "SELECT coalesce((SELECT run FROM loop_run WHERE loop = ?1), 0)", "t", loop));
    *resumed = open > 0;
    *run = open > 0 ? open : last + 1;
    return open > 0 ? RV_OK
                    : rv_db_exec(conn, "INSERT OR REPLACE INTO loop_run VALUES (?1, ?2, ?3, 0)", "tii", loop,
                                 *run, rv_clock_wall_ms());
}

static rv_err is_done(rv_db *db, const char *loop, const char *stage, int64_t run, bool *done)
{
    int64_t n = 0;
    sqlite3 *conn;
    RV_TRY(rv_db_reader(db, &conn));
    rv_err e = rv_db_int(
        conn, &n,
        "SELECT count(*) FROM loop_stage WHERE loop = ?1 AND stage = ?2 AND run = ?3 AND state <> 'begun'",
        "tti", loop, stage, run);
    rv_db_reader_done(db, conn);
    *done = n > 0;
    return e;
}

static rv_err note(rv_db *db, const char *loop, size_t place, const char *stage, int64_t run,
                   const char *state, int64_t began, int64_t ended, const rv_loop_report *r)
{
    sqlite3 *conn;
    char why[sizeof r->why] = ""; /* what was too long for it may end inside a letter */
    memcpy(why, r->why, rv_utf8_whole(r->why, strlen(r->why)));
    RV_TRY(rv_db_begin(db, &conn));
    return end(db,
               rv_db_exec(conn,
                          "INSERT OR REPLACE INTO loop_stage VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, "
                          "?10, ?11, ?12, ?13)",
                          "tititiiiitfft", loop, (int64_t)place, stage, run, state, began, ended, r->changed,
                          (int64_t)r->accepted, r->measure ? r->measure : "", r->before, r->after, why));
}

rv_err rv_loop_note(rv_db *db, const char *loop, const char *stage, int64_t began_ms,
                    const rv_loop_report *report)
{
    return note(db, loop, 0, stage, 0, "done", began_ms, rv_clock_wall_ms(), report);
}

static rv_err run_stage(rv_db *db, const rv_loop *loop, size_t place, int64_t run, double until_ms,
                        rv_loop_done *out)
{
    const rv_loop_stage *stage = &loop->stages[place];
    rv_loop_report report = { 0 };
    int64_t began = rv_clock_wall_ms();
    double latest = rv_clock_ms() + 1000 * stage->seconds;
    RV_TRY(note(db, loop->name, place, stage->name, run, "begun", began, 0, &report));
    if (loop->passing) {
        loop->passing(loop->name, stage->name, false);
    }
    rv_err e = stage->run(loop->self, latest < until_ms ? latest : until_ms, &report);
    if (e == RV_E_CANCELLED) {
        return e;
    }
    if (e) {
        report = (rv_loop_report){ 0 };
        strncpy(report.why, rv_err_text(), sizeof report.why - 1);
        out->failed++;
    }
    if (loop->passing) {
        loop->passing(loop->name, stage->name, true);
    }
    out->ran++;
    return note(db, loop->name, place, stage->name, run, e ? "failed" : "done", began, rv_clock_wall_ms(),
                &report);
}

static rv_err end_run(rv_db *db, const char *loop, int64_t run)
{
    sqlite3 *conn;
    RV_TRY(rv_db_begin(db, &conn));
    return end(db, rv_db_exec(conn, "UPDATE loop_run SET ended_ms = ?3 WHERE loop = ?1 AND run = ?2", "tii",
                              loop, run, rv_clock_wall_ms()));
}

rv_err rv_loop_run(rv_db *db, const rv_loop *loop, rv_loop_done *out)
{
    sqlite3 *conn;
    int64_t run = 0;
    double until_ms = rv_clock_ms() + 1000 * loop->seconds;
    *out = (rv_loop_done){ 0 };
    RV_TRY(rv_db_begin(db, &conn));
    RV_TRY(end(db, begin_run(conn, loop->name, &run, &out->resumed)));
    for (size_t i = 0; i < loop->n; i++) {
        bool done = false;
        RV_TRY(is_done(db, loop->name, loop->stages[i].name, run, &done));
        if (done) {
            continue;
        }
        if (loop->go_on && !loop->go_on(loop->self)) {
            return rv_fail(RV_E_CANCELLED, "interrupted; the next run goes on with %s", loop->stages[i].name);
        }
        if (rv_clock_ms() >= until_ms) {
            out->unfinished = true;
            return RV_OK;
        }
        RV_TRY(run_stage(db, loop, i, run, until_ms, out));
    }
    return end_run(db, loop->name, run);
}

static rv_err read_row(sqlite3_stmt *s, rv_arena *arena, rv_loop_row *out)
{
    const char **texts[] = { &out->loop, &out->stage, &out->state, &out->measure, &out->why };
    for (int i = 0; i < (int)RV_COUNT(texts); i++) {
        *texts[i] = rv_arena_strdup(arena, (const char *)sqlite3_column_text(s, i));
        if (!*texts[i]) {
            return rv_fail(RV_E_NOMEM, "reading the loops");
        }
    }
    out->run = sqlite3_column_int64(s, 5);
    out->began_ms = sqlite3_column_int64(s, 6);
    out->ended_ms = sqlite3_column_int64(s, 7);
    out->changed = sqlite3_column_int64(s, 8);
    out->accepted = sqlite3_column_int(s, 9);
    out->before = sqlite3_column_double(s, 10);
    out->after = sqlite3_column_double(s, 11);
    return RV_OK;
}

rv_err rv_loop_list(rv_db *db, rv_arena *arena, rv_loop_row **out, size_t *n)
{
    sqlite3 *conn;
    sqlite3_stmt *s = NULL;
    bool row = true;
    rv_loop_row *list = rv_arena_take(arena, LIST_MAX * sizeof *list);
    *n = 0;
    if (!list) {
        return rv_fail(RV_E_NOMEM, "reading the loops");
    }
    RV_TRY(rv_db_reader(db, &conn));
    rv_err e = rv_db_prepare(
        conn, &s,
        "SELECT loop, stage, state, measure, why, run, began_ms, ended_ms, changed, accepted, before, after"
        " FROM loop_stage ORDER BY loop, place LIMIT ?1",
        "i", (int64_t)LIST_MAX);
    while (!e && *n < LIST_MAX && !(e = rv_db_step(s, &row)) && row) {
        e = read_row(s, arena, &list[*n]);
        *n += !e;
    }
    sqlite3_finalize(s);
    rv_db_reader_done(db, conn);
    *out = list;
    return e;
}
