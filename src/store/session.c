#include "store/session.h"

#include <string.h>

static const char *const steps[] = {
    "CREATE TABLE sessions(number INTEGER PRIMARY KEY, id TEXT NOT NULL, user TEXT NOT NULL, created_ms "
    "INTEGER NOT NULL,"
    " last_ms INTEGER NOT NULL, UNIQUE(user, id)) STRICT;"
    "CREATE INDEX sessions_last ON sessions(user, last_ms);"
    "CREATE TABLE turns(session INTEGER NOT NULL REFERENCES sessions ON DELETE CASCADE, turn INTEGER NOT "
    "NULL,"
    " request_id TEXT NOT NULL, question TEXT NOT NULL, answer TEXT NOT NULL, created_ms INTEGER NOT NULL,"
    " sum INTEGER NOT NULL, PRIMARY KEY(session, turn)) STRICT, WITHOUT ROWID",
};

rv_err rv_session_setup(rv_db *db)
{
    return rv_db_migrate(db, "session", steps, RV_COUNT(steps));
}

rv_err rv_session_check_id(const char *id, size_t n)
{
    bool good =
        n > 0 && n <= RV_SESSION_ID_MAX && !(n == 1 && id[0] == '.') && !(n == 2 && memcmp(id, "..", 2) == 0);
    for (size_t i = 0; good && i < n; i++) {
        good = id[i] > ' ' && id[i] < 127 && id[i] != '/' && id[i] != '\\';
    }
    return good ? RV_OK
                : rv_fail(RV_E_ARG,
                          "session_id: expected 1 .. %d printable ASCII characters without space, / and \\",
                          RV_SESSION_ID_MAX);
}

static const char *or_empty(const char *text)
{
    return text ? text : "";
}

static int64_t sum_of(int64_t session, int64_t turn, const rv_turn *t)
{
    uint64_t sum = rv_db_sum_int(rv_db_sum_int(0, session), turn);
    sum = rv_db_sum_text(sum, t->request_id, strlen(t->request_id));
    sum = rv_db_sum_text(sum, t->question, strlen(t->question));
    sum = rv_db_sum_text(sum, t->answer, strlen(t->answer));
    return (int64_t)rv_db_sum_int(sum, t->created_ms);
}

rv_err rv_session_append(sqlite3 *conn, const char *session, const rv_turn *turn)
{
    RV_TRY(rv_session_check_id(session, strlen(session)));
    RV_TRY(rv_db_exec(conn,
                      "INSERT INTO sessions(id, user, created_ms, last_ms) VALUES(?1,?2,?3,?3)"
                      " ON CONFLICT(user, id) DO UPDATE SET last_ms=max(last_ms, excluded.last_ms)",
                      "tti", session, or_empty(turn->user), turn->created_ms));
    int64_t number = 0, next = 0;
    RV_TRY(rv_db_int(conn, &number, "SELECT number FROM sessions WHERE user=?1 AND id=?2", "tt",
                     or_empty(turn->user), session));
    RV_TRY(
        rv_db_int(conn, &next, "SELECT coalesce(max(turn), 0) + 1 FROM turns WHERE session=?1", "i", number));
    rv_turn whole = { .request_id = or_empty(turn->request_id),
                      .question = or_empty(turn->question),
                      .answer = or_empty(turn->answer),
                      .created_ms = turn->created_ms };
    return rv_db_exec(conn, "INSERT INTO turns VALUES(?1,?2,?3,?4,?5,?6,?7)", "iitttii", number, next,
                      whole.request_id, whole.question, whole.answer, whole.created_ms,
                      sum_of(number, next, &whole));
}

static rv_err copy_column(sqlite3_stmt *stmt, int column, rv_arena *arena, const char **out)
{
    const char *text = (const char *)sqlite3_column_text(stmt, column);
    *out = text ? rv_arena_strdup(arena, text) : NULL;
    return *out ? RV_OK : rv_fail(RV_E_NOMEM, "no memory to read a session");
}

static rv_err read_turn(sqlite3_stmt *stmt, const char *user, rv_arena *arena, rv_turn *out)
{
    out->user = user;
    out->created_ms = sqlite3_column_int64(stmt, 5);
    RV_TRY(copy_column(stmt, 2, arena, &out->request_id));
    RV_TRY(copy_column(stmt, 3, arena, &out->question));
    RV_TRY(copy_column(stmt, 4, arena, &out->answer));
    int64_t session = sqlite3_column_int64(stmt, 0), turn = sqlite3_column_int64(stmt, 1);
    if (sum_of(session, turn, out) != sqlite3_column_int64(stmt, 6)) {
        return rv_fail(
            RV_E_CORRUPT,
            "%s: turn %lld of session number %lld does not fit its checksum; restore the file from "
            "a backup, or remove the session",
            sqlite3_db_filename(sqlite3_db_handle(stmt), "main"), (long long)turn, (long long)session);
    }
    return RV_OK;
}

static const char count_turns_sql[] =
    "SELECT count(*) FROM turns JOIN sessions ON session=number WHERE user=?1 AND id=?2";
static const char read_turns_sql[] =
    "SELECT session, turn, request_id, question, answer, turns.created_ms, sum FROM turns JOIN sessions"
    " ON session=number WHERE user=?1 AND id=?2 ORDER BY turn LIMIT -1 OFFSET ?3";

rv_err rv_session_recent(rv_db *db, const char *session, const char *user, size_t n, rv_arena *arena,
                         rv_turn **out, size_t *found)
{
    const char *who = rv_arena_strdup(arena, or_empty(user));
    if (!who) {
        return rv_fail(RV_E_NOMEM, "no memory to read a session");
    }
    sqlite3 *conn;
    RV_TRY(rv_db_reader(db, &conn));
    sqlite3_stmt *stmt = NULL;
    bool row = true;
    rv_err e = rv_db_reader_kept(db, conn, &stmt, count_turns_sql);
    e = e ? e : rv_db_bind(stmt, "tt", who, session);
    e = e ? e : rv_db_step(stmt, &row);
    int64_t count = e ? 0 : sqlite3_column_int64(stmt, 0);
    size_t wanted = (uint64_t)count < n ? (size_t)count : n, at = 0;
    rv_turn *turns = e ? NULL : rv_arena_take(arena, wanted * sizeof *turns);
    if (!e && !turns) {
        e = rv_fail(RV_E_NOMEM, "no memory to read a session");
    }
    if (!e) {
        e = rv_db_reader_kept(db, conn, &stmt, read_turns_sql);
        e = e ? e : rv_db_bind(stmt, "tti", who, session, count - (int64_t)wanted);
    }
    while (!e && at < wanted) {
        e = rv_db_step(stmt, &row);
        if (e || !row) {
            break;
        }
        e = read_turn(stmt, who, arena, &turns[at++]);
    }
    rv_db_reader_done(db, conn);
    if (!e) {
        *out = turns;
        *found = at;
    }
    return e;
}

rv_err rv_session_list(rv_db *db, const char *user, size_t limit, rv_arena *arena, rv_session_info **out,
                       size_t *n)
{
    sqlite3 *conn;
    RV_TRY(rv_db_reader(db, &conn));
    sqlite3_stmt *stmt = NULL;
    int64_t count = 0;
    rv_err e = rv_db_int(conn, &count, "SELECT count(*) FROM sessions WHERE user=?1", "t", or_empty(user));
    size_t wanted = (uint64_t)count < limit ? (size_t)count : limit, at = 0;
    rv_session_info *list = e ? NULL : rv_arena_take(arena, wanted * sizeof *list);
    if (!e && !list) {
        e = rv_fail(RV_E_NOMEM, "no memory to list sessions");
    }
    if (!e) {
        e = rv_db_prepare(
            conn, &stmt,
            "SELECT id, (SELECT count(*) FROM turns WHERE session=number), created_ms, last_ms FROM sessions"
            " WHERE user=?1 ORDER BY last_ms DESC, number DESC",
            "t", or_empty(user));
    }
    bool row = true;
    while (!e && at < wanted) {
        e = rv_db_step(stmt, &row);
        if (e || !row) {
            break;
        }
        list[at].turns = (size_t)sqlite3_column_int64(stmt, 1);
        list[at].created_ms = sqlite3_column_int64(stmt, 2);
        list[at].last_ms = sqlite3_column_int64(stmt, 3);
        e = copy_column(stmt, 0, arena, &list[at++].id);
    }
    sqlite3_finalize(stmt);
    rv_db_reader_done(db, conn);
    if (!e) {
        *out = list;
        *n = at;
    }
    return e;
}

rv_err rv_session_rm(rv_db *db, const char *session, const char *user, size_t *removed)
{
    sqlite3 *conn;
    RV_TRY(rv_db_begin(db, &conn));
    rv_err e =
        rv_db_exec(conn, "DELETE FROM sessions WHERE user=?1 AND id=?2", "tt", or_empty(user), session);
    size_t n = e ? 0 : (size_t)sqlite3_changes64(conn);
    if (e) {
        rv_db_rollback(db);
        return e;
    }
    RV_TRY(rv_db_commit(db));
    *removed = n;
    return RV_OK;
}
