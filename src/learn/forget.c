/* The one place that knows where a text of a user can have gone. The table `forgetting` holds what is to go: rows of kind "user", "memory" and
 * "request" until their rows are deleted, then the one row "scrub" until the files hold nothing of them. Each step may be done again. */
#include "learn/forget.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "learn/archive.h"
#include "store/policy.h"
#include "store/witness.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const steps[] = {
    "CREATE TABLE forgetting (kind TEXT NOT NULL, value NOT NULL, PRIMARY KEY (kind, value)) WITHOUT ROWID;",
};

rv_err rv_forget_setup(rv_db *db)
{
    return rv_db_migrate(db, "forget", steps, RV_COUNT(steps));
}

/* ---- what is to go ---- */

#define OF_KIND(k) "(SELECT value FROM forgetting WHERE kind = '" k "')"
#define TAKE       "INSERT OR IGNORE INTO forgetting "

/* The texts that are to go, long enough to be more than a word. */
#define GOING "nodes n WHERE n.id IN " OF_KIND("memory") " AND length(n.text) >= 8"

/* JSON that is kept; a damaged one keeps nobody from being forgotten. */
#define ROUTE   "CASE WHEN json_valid(e.route) THEN e.route ELSE '{}' END"
#define SOURCES "CASE WHEN json_valid(e.sources) THEN e.sources ELSE '{}' END"
#define BODY    "CASE WHEN json_valid(body) THEN body ELSE '{}' END"
#define ROUTED(key)                                                                                          \
    "json_each(" ROUTE ", '$." key "') t, " GOING " AND instr(json_extract(t.value, '$.text'), n.text)"

/* Once: what is said in the same words, wherever an answer, one that was not shown, what other tiers would have answered, or feedback is kept; and
 * what belongs to the user. With learning off, or after a conversation was deleted, only some of these know of a request. */
static const char *const first[] = {
    TAKE "SELECT 'request', e.request_id FROM episode e, " GOING
         " AND (instr(e.question, n.text) OR instr(e.answer, n.text))",
    TAKE "SELECT 'request', e.request_id FROM episode e, " ROUTED("tries"),
    TAKE "SELECT 'request', e.request_id FROM episode e, " ROUTED("drafts"),
    /* before there could be several it was one, and stood there by itself */
    TAKE "SELECT 'request', e.request_id FROM episode e, " GOING " AND instr(json_extract(" ROUTE
         ", '$.draft.text'), n.text)",
    TAKE "SELECT 'request', e.request_id FROM episode e, " GOING
         " AND NOT json_valid(e.route) AND instr(e.route, n.text)",
    TAKE "SELECT 'request', f.request_id FROM feedback f, " GOING " AND instr(f.correction, n.text)",
    TAKE "SELECT 'request', t.request_id FROM turns t, " GOING
         " AND (instr(t.question, n.text) OR instr(t.answer, n.text))",
    TAKE "SELECT 'request', w.request_id FROM witness w, " GOING
         " AND w.body <> '' AND w.kind IN ('request', 'feedback')"
         " AND (instr(json_extract(" BODY ", '$.question'), n.text) OR instr(json_extract(" BODY
         ", '$.answer'), n.text)"
         " OR instr(json_extract(" BODY ", '$.correction'), n.text)"
         " OR (NOT json_valid(body) AND instr(w.body, n.text)))",
    TAKE "SELECT 'memory', o.id FROM nodes o, " GOING
         " AND o.id <> n.id AND o.type IN ('fact', 'qa', 'concept') AND instr(o.text, n.text)",
    TAKE "SELECT 'request', request_id FROM episode WHERE user IN " OF_KIND("user"),
    TAKE "SELECT 'request', t.request_id FROM turns t JOIN sessions s ON s.number = t.session WHERE s.user "
         "IN " OF_KIND("user"),
    /* with learning off there is no episode, and a conversation may have been deleted */
    TAKE
    "SELECT 'request', request_id FROM witness WHERE kind = 'request' AND body <> '' AND json_extract(" BODY
    ", '$.user') IN " OF_KIND("user"),
    TAKE "SELECT 'request', w.request_id FROM witness w CROSS JOIN forgetting m WHERE m.kind = 'user' AND "
         "w.kind = 'request'"
         " AND w.body <> '' AND NOT json_valid(w.body) AND instr(w.body, '\"' || m.value || '\"')",
    TAKE "SELECT 'memory', id FROM nodes WHERE user IN " OF_KIND("user"),
};

/* Until nothing more is found. */
static const char *const closure[] = {
    /* parts of a document: its own chunks, as rv_memory_rm has it */
    TAKE
    "SELECT 'memory', e.to_id FROM edges e JOIN nodes n ON n.id = e.from_id JOIN nodes c ON c.id = e.to_id"
    " WHERE e.type = 'contains' AND n.type = 'document' AND c.type = 'chunk' AND c.user = n.user"
    " AND n.id IN " OF_KIND("memory"),
    /* what was said about several of them together */
    TAKE "SELECT 'memory', e.from_id FROM edges e JOIN nodes n ON n.id = e.from_id WHERE e.type = 'contains' "
         "AND n.type = 'concept' AND e.to_id IN " OF_KIND("memory"),
    /* requests that had them in the prompt */
    TAKE "SELECT 'request', e.request_id FROM episode e, json_each(" SOURCES
         ") s WHERE s.value IN " OF_KIND("memory"),
    TAKE "SELECT 'request', e.request_id FROM episode e CROSS JOIN forgetting m WHERE m.kind = 'memory'"
         " AND NOT json_valid(e.sources) AND instr(e.sources, m.value)",
    TAKE "SELECT 'request', w.request_id FROM witness w, json_each(" BODY ", '$.sources') s WHERE w.kind = "
         "'request' AND w.body <> ''"
         " AND s.value IN " OF_KIND("memory"),
    /* later turns of the same conversations */
    TAKE
    "SELECT 'request', l.request_id FROM turns t JOIN turns l ON l.session = t.session AND l.turn > t.turn"
    " WHERE t.request_id IN " OF_KIND("request"),
    /* what was written back from them */
    TAKE "SELECT 'memory', id FROM nodes WHERE origin <> '' AND origin IN " OF_KIND("request"),
    TAKE "SELECT 'memory', node FROM feedback WHERE node > 0 AND request_id IN " OF_KIND("request"),
};

static rv_err run_all(sqlite3 *conn, const char *const *sql, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        RV_TRY(rv_db_exec(conn, sql[i], ""));
    }
    return RV_OK;
}

static rv_err close_over(sqlite3 *conn)
{
    int64_t before = -1, after = 0;
    while (after != before) {
        before = after;
        RV_TRY(run_all(conn, closure, RV_COUNT(closure)));
        RV_TRY(rv_db_int(conn, &after, "SELECT count(*) FROM forgetting", ""));
    }
    return RV_OK;
}

/* In one transaction; commits when e is RV_OK. */
static rv_err end(rv_db *db, rv_err e)
{
    if (e) {
        rv_db_rollback(db);
        return e;
    }
    return rv_db_commit(db);
}

static rv_err note_seeds(sqlite3 *conn, const char *user, const int64_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int64_t known = 0;
        RV_TRY(rv_db_int(conn, &known, "SELECT count(*) FROM nodes WHERE id = ?1", "i", ids[i]));
        if (!known) {
            return rv_fail(RV_E_NOT_FOUND, "no memory has the id %lld; nothing was forgotten",
                           (long long)ids[i]);
        }
        RV_TRY(rv_db_exec(conn, TAKE "VALUES ('memory', ?1)", "i", ids[i]));
    }
    if (user) {
        int64_t known = 0;
        RV_TRY(rv_db_int(conn, &known,
                         "SELECT EXISTS (SELECT 1 FROM nodes WHERE user = ?1) + EXISTS (SELECT 1 FROM "
                         "sessions WHERE user = ?1)"
                         " + EXISTS (SELECT 1 FROM episode WHERE user = ?1) + EXISTS (SELECT 1 FROM adapter "
                         "WHERE user = ?1)"
                         " + EXISTS (SELECT 1 FROM witness WHERE kind = 'request' AND body <> '' AND "
                         "json_extract(" BODY ", '$.user') = ?1)",
                         "t", user));
        if (!known) {
            return rv_fail(RV_E_NOT_FOUND, "nothing is stored for the user %s", user);
        }
        RV_TRY(rv_db_exec(conn, TAKE "VALUES ('user', ?1)", "t", user));
    }
    RV_TRY(run_all(conn, first, RV_COUNT(first)));
    return close_over(conn);
}

/* ---- lists ---- */

typedef struct numbers {
    int64_t *at; /* [n] */
    size_t n;
} numbers;

static rv_err read_numbers(sqlite3 *conn, const char *sql, numbers *out)
{
    sqlite3_stmt *s = NULL;
    bool row = true;
    size_t room = 0;
    *out = (numbers){ 0 };
    RV_TRY(rv_db_prepare(conn, &s, sql, ""));
    rv_err e;
    while (!(e = rv_db_step(s, &row)) && row) {
        if (out->n == room) {
            room = room ? 2 * room : 64;
            int64_t *more = rv_resize(&rv_heap, out->at, room * sizeof *more);
            if (!more) {
                e = rv_fail(RV_E_NOMEM, "forgetting");
                break;
            }
            out->at = more;
        }
        out->at[out->n++] = sqlite3_column_int64(s, 0);
    }
    sqlite3_finalize(s);
    return e;
}

/* ---- steps ---- */

static rv_err remove_nodes(const rv_forget_place *p, rv_forgotten *out)
{
    sqlite3 *conn;
    numbers ids;
    RV_TRY(rv_db_reader(p->db, &conn));
    rv_err e = read_numbers(conn, "SELECT id FROM nodes WHERE id IN " OF_KIND("memory") " ORDER BY id", &ids);
    rv_db_reader_done(p->db, conn);
    for (size_t i = 0; !e && i < ids.n; i++) {
        size_t removed = 0; /* none: went with its document */
        e = rv_memory_rm(p->memory, rv_memory_whole(), ids.at[i], NULL, &removed);
        out->memories += removed;
    }
    rv_free(&rv_heap, ids.at);
    return e;
}

/* Adapters of whose answers some are to go: all versions learned since the first of them. Of users that go, everything. */
static rv_err remove_adapters(const rv_forget_place *p, rv_forgotten *out)
{
    static const char sql[] =
        "SELECT value, 0 FROM forgetting WHERE kind = 'user' UNION ALL SELECT user, min(created_ms) FROM "
        "episode"
        " WHERE request_id IN " OF_KIND("request") " AND user NOT IN " OF_KIND("user") " GROUP BY user";
    struct {
        char user[512];
        int64_t since;
    } *whose = NULL;
    size_t n = 0, room = 0;
    sqlite3 *conn;
    sqlite3_stmt *s = NULL;
    bool row = true;
    RV_TRY(rv_db_reader(p->db, &conn));
    rv_err e = rv_db_prepare(conn, &s, sql, "");
    while (!e && !(e = rv_db_step(s, &row)) && row) {
        if (n == room) {
            room = room ? 2 * room : 16;
            void *more = rv_resize(&rv_heap, whose, room * sizeof *whose);
            if (!more) {
                e = rv_fail(RV_E_NOMEM, "forgetting");
                break;
            }
            whose = more;
        }
        snprintf(whose[n].user, sizeof whose[n].user, "%s", (const char *)sqlite3_column_text(s, 0));
        whose[n++].since = sqlite3_column_int64(s, 1);
    }
    sqlite3_finalize(s);
    rv_db_reader_done(p->db, conn);
    for (size_t i = 0; !e && i < n; i++) {
        size_t removed = 0;
        e = rv_adapters_forget(p->adapters, whose[i].user, whose[i].since, &removed);
        out->adapters += removed;
    }
    rv_free(&rv_heap, whose);
    return e;
}

/* Versions made since the first of these requests was answered: feedback comes later, and a second rating takes the place of the first. */
static rv_err forget_policies(sqlite3 *conn, rv_forgotten *out)
{
    static const char *const kinds[] = { "router", "retrieval", "attention", "patterns" };
    int64_t since = 0;
    RV_TRY(rv_db_int(
        conn, &since,
        "SELECT coalesce(min(created_ms), 0) FROM episode WHERE request_id IN " OF_KIND("request"), ""));
    if (since == 0) {
        return RV_OK;
    }
    for (size_t i = 0; i < RV_COUNT(kinds); i++) {
        int64_t erased = 0, version = 0;
        RV_TRY(rv_policy_forget(conn, kinds[i], since, "what it was learned from was forgotten", &erased,
                                &version));
        if (erased) {
            out->policies[out->n_policies].kind = kinds[i];
            out->policies[out->n_policies].erased = erased;
            out->policies[out->n_policies++].version = version;
        }
    }
    return RV_OK;
}

static rv_err forget_records(sqlite3 *conn, rv_forgotten *out)
{
    static const char sql[] =
        "SELECT seq FROM witness WHERE body <> '' AND ((request_id <> '' AND request_id IN " OF_KIND(
            "request") ") OR (kind = 'adapter' AND json_extract(" BODY
                       ", '$.user') IN " OF_KIND(
                           "user") ") OR (kind = 'adapter' AND NOT json_valid(body) AND EXISTS (SELECT 1 "
                                   "FROM forgetting m WHERE m.kind = "
                                   "'user' AND instr(body, '\"' || m.value || '\"')))) ORDER BY seq";
    numbers seqs;
    char why[96];
    rv_err e = read_numbers(conn, sql, &seqs);
    snprintf(why, sizeof why, "{\"memories\": %zu, \"requests\": %zu, \"adapters\": %zu}", out->memories,
             out->requests, out->adapters);
    e = e ? e : rv_witness_forget(conn, seqs.at, seqs.n, why);
    out->records = seqs.n;
    rv_free(&rv_heap, seqs.at);
    return e;
}

static rv_err delete_rows(sqlite3 *conn, rv_forgotten *out)
{
    static const char *const sql[] = {
        "DELETE FROM feedback WHERE request_id IN " OF_KIND("request"),
        "DELETE FROM judged WHERE request_id IN " OF_KIND("request"),
        "DELETE FROM episode WHERE request_id IN " OF_KIND("request"),
        "DELETE FROM turns WHERE request_id IN " OF_KIND("request"),
        "DELETE FROM sessions WHERE user IN " OF_KIND("user"),
        "DELETE FROM sessions WHERE NOT EXISTS (SELECT 1 FROM turns WHERE session = number)",
        "DELETE FROM forgetting",
        "INSERT INTO forgetting VALUES ('scrub', 0)",
    };
    int64_t requests = 0;
    RV_TRY(rv_db_int(conn, &requests, "SELECT count(*) FROM forgetting WHERE kind = 'request'", ""));
    out->requests = (size_t)requests;
    RV_TRY(forget_policies(conn, out));
    RV_TRY(forget_records(conn, out));
    return run_all(conn, sql, RV_COUNT(sql));
}

/* What was typed on a terminal has nobody's name on it, so all of it goes. */
static rv_err remove_history(const rv_forget_place *p)
{
    char *path = rv_path_join(&rv_heap, rv_db_dir(p->db), "history");
    if (!path) {
        return rv_fail(RV_E_NOMEM, "forgetting");
    }
    rv_err e = unlink(path) < 0 && errno != ENOENT
                   ? rv_fail(RV_E_IO, "%s: cannot be removed: %s", path, strerror(errno))
                   : RV_OK;
    rv_free(&rv_heap, path);
    return e ? e : rv_dir_sync(rv_db_dir(p->db)); /* or a power loss brings it back */
}

static void passing(const rv_forget_place *p, const char *step)
{
    if (p->passing) {
        p->passing(step);
    }
}

static rv_err in_transaction(rv_db *db, rv_err (*work)(sqlite3 *, rv_forgotten *), rv_forgotten *out)
{
    sqlite3 *conn;
    RV_TRY(rv_db_begin(db, &conn));
    return end(db, work(conn, out));
}

static rv_err clear_mark(sqlite3 *conn, rv_forgotten *out)
{
    (void)out;
    return rv_db_exec(conn, "DELETE FROM forgetting", "");
}

/* rows: there are more than the mark that the files are to be scrubbed. */
static rv_err go_on(const rv_forget_place *p, bool rows, rv_forgotten *out)
{
    if (rows) {
        passing(p, "nodes");
        RV_TRY(remove_nodes(p, out));
        passing(p, "adapters");
        RV_TRY(remove_adapters(p, out));
        passing(p, "rows");
        RV_TRY(in_transaction(p->db, delete_rows, out));
    }
    passing(p, "conversations");
    RV_TRY(p->conversations ? p->conversations(p->self, &out->conversations) : RV_OK);
    RV_TRY(remove_history(p));
    passing(p, "refresh");
    RV_TRY(p->refresh ? p->refresh(p->self) : RV_OK);
    passing(p, "vectors");
    RV_TRY(rv_memory_scrub(p->memory, &out->vectors));
    passing(p, "file");
    RV_TRY(rv_db_scrub(p->db));
    passing(p, "mark");
    RV_TRY(in_transaction(p->db, clear_mark, out));
    passing(p, "done");
    return RV_OK;
}

rv_err rv_forget_resume(const rv_forget_place *p, bool *was, rv_forgotten *out)
{
    sqlite3 *conn;
    int64_t rows = 0, marks = 0;
    *out = (rv_forgotten){ 0 };
    rv_archived back;
    RV_TRY(rv_db_begin(p->db, &conn));
    rv_err e = rv_db_int(conn, &rows, "SELECT count(*) FROM forgetting WHERE kind <> 'scrub'", "");
    e = e ? e : rv_db_int(conn, &marks, "SELECT count(*) FROM forgetting WHERE kind = 'scrub'", "");
    rv_db_rollback(p->db);
    *was = !e && (rows || marks);
    if (e || !*was) {
        return e;
    }
    if (rows) {
        RV_TRY(rv_learn_restore(p->db, &back));
        RV_TRY(rv_db_begin(p->db, &conn));
        RV_TRY(end(p->db, close_over(conn)));
    }
    return go_on(p, rows > 0, out);
}

rv_err rv_forget(const rv_forget_place *p, const char *user, const int64_t *ids, size_t n_ids,
                 rv_forgotten *out)
{
    sqlite3 *conn;
    if ((!user || !*user) && n_ids == 0) {
        return rv_fail(RV_E_ARG, "say what to forget: a user, or the ids of memories");
    }
    *out = (rv_forgotten){ 0 };
    rv_archived back;
    passing(p, "archive");
    RV_TRY(rv_learn_restore(
        p->db, &back)); /* so that what follows sees it all; the next deep loop puts what stays away again */
    RV_TRY(rv_db_begin(p->db, &conn));
    RV_TRY(end(p->db, note_seeds(conn, user && *user ? user : NULL, ids, n_ids)));
    return go_on(p, true, out);
}

json_t *rv_forgotten_json(const rv_forgotten *done)
{
    json_t *policies = json_array();
    for (size_t i = 0; i < done->n_policies; i++) {
        json_array_append_new(policies, json_pack("{s:s, s:I, s:I}", "kind", done->policies[i].kind, "erased",
                                                  (json_int_t)done->policies[i].erased, "version",
                                                  (json_int_t)done->policies[i].version));
    }
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "memories", (json_int_t)done->memories,
                     "requests", (json_int_t)done->requests, "records", (json_int_t)done->records,
                     "conversations", (json_int_t)done->conversations, "vectors", (json_int_t)done->vectors,
                     "adapters", (json_int_t)done->adapters, "policies", policies);
}
