/* Feedback on a request: first it is asked whose it is and how much there was today, then it is kept, then it teaches. */
#include "pipeline/pipeline_priv.h"

#include "base/clock.h"
#include "base/log.h"

enum { DAY_MS = 86400000 };

static const char *const steps[] = {
    "CREATE TABLE feedback_count (key TEXT NOT NULL, day INTEGER NOT NULL, n INTEGER NOT NULL," /* days since 1970, UTC */
    " PRIMARY KEY (key, day)) WITHOUT ROWID;",
};

rv_err rv_pipeline_feedback_setup(rv_db *db)
{
    return rv_db_migrate(db, "pipeline", steps, RV_COUNT(steps));
}

static rv_err check_owner(const rv_pipeline *p, const char *who, const char *request_id)
{
    static const char made[] =
        "SELECT count(*) FROM episode WHERE request_id = ?1 AND ?2 ="
        " coalesce(CASE WHEN json_valid(route) THEN json_extract(route, '$.key') END, '')";
    sqlite3 *conn;
    int64_t mine = 0;
    RV_TRY(rv_db_reader(p->db, &conn));
    rv_err e = rv_db_int(conn, &mine, made, "tt", request_id, who);
    rv_db_reader_done(p->db, conn);
    if (!e && mine == 0) {
        e = rv_fail(RV_E_NOT_FOUND,
                    "no request %.64s of yours: it was never made, was private, or learning was off",
                    request_id);
    }
    return e;
}

static rv_err count_today(const rv_pipeline *p, const char *who, int64_t *again_s)
{
    int64_t now = rv_clock_wall_ms(), day = now / DAY_MS, n = 0;
    sqlite3 *conn;
    RV_TRY(rv_db_begin(p->db, &conn));
    rv_err e =
        rv_db_int(conn, &n, "SELECT n FROM feedback_count WHERE key = ?1 AND day = ?2", "ti", who, day);
    if (!e && n >= p->feedback_per_day) {
        *again_s = ((day + 1) * DAY_MS - now + 999) / 1000;
        e = rv_fail(RV_E_LIMIT,
                    "%lld of %lld feedbacks of today were given; the next is taken in %lld seconds",
                    (long long)n, (long long)p->feedback_per_day, (long long)*again_s);
    }
    e = e ? e : rv_db_exec(conn, "DELETE FROM feedback_count WHERE day < ?1", "i", day);
    e = e ? e
          : rv_db_exec(conn,
                       "INSERT INTO feedback_count VALUES (?1, ?2, 1) ON CONFLICT DO UPDATE SET n = n + 1",
                       "ti", who, day);
    if (e) {
        rv_db_rollback(p->db);
        return e;
    }
    return rv_db_commit(p->db);
}

static rv_err take(const rv_pipeline *p, const char *who, const rv_feedback *feedback, int64_t *again_s,
                   rv_feedback_done *out)
{
    RV_TRY(who ? check_owner(p, who, feedback->request_id) : RV_OK);
    if (who && p->feedback_per_day > 0) {
        RV_TRY(count_today(p, who, again_s));
    }
    rv_feedback given = *feedback;
    given.good = p->good_rating;
    RV_TRY(rv_feedback_store(p->db, p->memory, &given, out));
    if (p->routers && out->first) {
        rv_router_count_rating(p->routers);
    }
    /* What was said before teaches nothing at once; what learns from the stored feedback sees the last word. */
    if (p->instant && out->news && rv_instant_feedback(p->instant, &given, out)) {
        rv_log(RV_LOG_WARN, "learn.failed", "request", feedback->request_id, "error", rv_err_text(),
               (char *)NULL);
    }
    return RV_OK;
}

rv_err rv_pipeline_feedback(const rv_pipeline *p, const char *who, const rv_feedback *feedback,
                            int64_t *again_s, rv_feedback_done *out)
{
    rv_pipeline_enter(p);
    rv_err e = take(p, who, feedback, again_s, out);
    rv_pipeline_leave(p);
    return e;
}
