/* Two tables: what was asked and answered, and what was said about it. Feedback touches memory first (each node is durable
 * by itself) and writes its own row last, in one transaction with the witness: until that row is there nothing was
 * acknowledged, and doing it all again gives the same nodes, because memory knows equal texts. */
#include "learn/episode.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/metrics.h"
#include "router/cover.h"
#include "store/policy.h"
#include "store/witness.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { CORRECTION_MAX_BYTES = 64 << 10, MAX_SOURCES = 64, ARENA_BYTES = 8 << 20 };

static const char refusal[] = "Not in the passages";

static const char *const steps[] = {
    "CREATE TABLE episode ("
    "  request_id TEXT PRIMARY KEY, session_id TEXT NOT NULL, user TEXT NOT NULL, question TEXT NOT NULL,"
    "  answer TEXT NOT NULL, model TEXT NOT NULL, sources TEXT NOT NULL," /* JSON array of ids */
    "  confidence REAL NOT NULL, total_ms REAL NOT NULL, created_ms INTEGER NOT NULL);"
    "CREATE TABLE feedback ("
    "  request_id TEXT NOT NULL REFERENCES episode(request_id), kind TEXT NOT NULL CHECK (kind IN ('rating', "
    "'correction')),"
    "  rating INTEGER NOT NULL, correction TEXT NOT NULL," /* 0 and '' where the kind has none */
    "  node INTEGER NOT NULL,"                             /* memory node that stands for it, 0: none */
    "  created_ms INTEGER NOT NULL, PRIMARY KEY (request_id, kind)) WITHOUT ROWID;"
    "CREATE INDEX feedback_node ON feedback(node) WHERE node > 0;",
    "ALTER TABLE episode ADD COLUMN route TEXT NOT NULL DEFAULT '';" /* JSON object: how the router decided; '' it did not */
    "CREATE INDEX episode_created ON episode(created_ms);",
};

static rv_metric metrics[] = {
    { .kind = RV_COUNTER,
      .name = "ruvllm_feedback_total",
      .help = "Feedback stored.",
      .labels = "kind=\"rating\"" },
    { .kind = RV_COUNTER,
      .name = "ruvllm_feedback_total",
      .help = "Feedback stored.",
      .labels = "kind=\"correction\"" },
    { .kind = RV_COUNTER,
      .name = "ruvllm_writebacks_total",
      .help = "Nodes made from feedback.",
      .labels = "type=\"qa\"" },
    { .kind = RV_COUNTER,
      .name = "ruvllm_writebacks_total",
      .help = "Nodes made from feedback.",
      .labels = "type=\"fact\"" },
};
enum { RATINGS, CORRECTIONS, QAS, FACTS };

static void register_metrics(void)
{
    rv_metrics_register(metrics, RV_COUNT(metrics));
}

rv_err rv_episode_setup(rv_db *db)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_metrics);
    return rv_db_migrate(db, "learn", steps, RV_COUNT(steps));
}

/* ---- episodes ---- */

rv_err rv_episode_append(sqlite3 *conn, const rv_episode *e)
{
    rv_text ids;
    rv_text_init(&ids, &rv_heap, 32 * (e->n_sources + 1));
    rv_text_addc(&ids, '[');
    for (size_t i = 0; i < e->n_sources; i++) {
        rv_text_addf(&ids, "%s%lld", i ? "," : "", (long long)e->sources[i]);
    }
    rv_text_addc(&ids, ']');
    rv_err err = rv_text_check(&ids);
    if (!err) {
        err = rv_db_exec(conn, "INSERT INTO episode VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11)",
                         "tttttttffit", e->request_id, e->session_id, e->user ? e->user : "", e->question,
                         e->answer, e->model, rv_text_get(&ids), e->confidence, e->total_ms, e->created_ms,
                         e->route ? e->route : "");
    }
    rv_text_deinit(&ids);
    return err;
}

static const char *column_text(sqlite3_stmt *s, int at, rv_arena *arena)
{
    const char *text = (const char *)sqlite3_column_text(s, at);
    return rv_arena_strndup(arena, text ? text : "", (size_t)sqlite3_column_bytes(s, at));
}

static rv_err read_sources(const char *text, rv_arena *arena, rv_episode *out)
{
    json_t *ids = NULL;
    RV_TRY(rv_json_parse(text, strlen(text), &ids));
    size_t n = json_array_size(ids);
    int64_t *at = rv_arena_take(arena, (n + 1) * sizeof *at);
    for (size_t i = 0; at && i < n; i++) {
        at[i] = json_integer_value(json_array_get(ids, i));
    }
    json_decref(ids);
    out->sources = at;
    out->n_sources = n;
    return at ? RV_OK : rv_fail(RV_E_NOMEM, "reading an episode");
}

static rv_err read_row(sqlite3_stmt *s, const char *request_id, rv_arena *arena, rv_episode *out)
{
    rv_episode found = { .request_id = rv_arena_strdup(arena, request_id),
                         .confidence = sqlite3_column_double(s, 6),
                         .total_ms = sqlite3_column_double(s, 7),
                         .created_ms = sqlite3_column_int64(s, 8),
                         .rating = sqlite3_column_int(s, 9),
                         .correction = column_text(s, 10, arena) };
    const char **texts[] = { &found.session_id, &found.user, &found.question, &found.answer, &found.model };
    const char *sources = column_text(s, 5, arena);
    bool have_all = found.request_id && found.correction && sources;
    for (int i = 0; i < (int)RV_COUNT(texts); i++) {
        *texts[i] = column_text(s, i, arena);
        have_all = have_all && *texts[i];
    }
    if (!have_all) {
        return rv_fail(RV_E_NOMEM, "reading an episode");
    }
    RV_TRY(read_sources(sources, arena, &found));
    *out = found;
    return RV_OK;
}

static rv_err read_episode(sqlite3 *conn, const char *request_id, rv_arena *arena, rv_episode *out)
{
    static const char sql[] =
        "SELECT e.session_id, e.user, e.question, e.answer, e.model, e.sources, e.confidence,"
        " e.total_ms, e.created_ms, r.rating, c.correction FROM episode e"
        " LEFT JOIN feedback r ON r.request_id = e.request_id AND r.kind = 'rating'"
        " LEFT JOIN feedback c ON c.request_id = e.request_id AND c.kind = 'correction'"
        " WHERE e.request_id = ?1";
    sqlite3_stmt *s = NULL;
    bool row = false;
    RV_TRY(rv_db_prepare(conn, &s, sql, "t", request_id));
    rv_err e = rv_db_step(s, &row);
    if (!e && !row) {
        e = rv_fail(RV_E_NOT_FOUND, "no request %.64s: it was never made, was private, or learning was off",
                    request_id);
    }
    if (!e) {
        e = read_row(s, request_id, arena, out);
    }
    sqlite3_finalize(s);
    return e;
}

rv_err rv_episode_get(rv_db *db, const char *request_id, rv_arena *arena, rv_episode *out)
{
    sqlite3 *conn;
    RV_TRY(rv_db_reader(db, &conn));
    rv_err e = read_episode(conn, request_id, arena, out);
    rv_db_reader_done(db, conn);
    return e;
}

rv_err rv_episode_add_tries(rv_db *db, const char *request_id, const char *tries)
{
    static const char sql[] = "UPDATE episode SET route = json_set(route, '$.tries', json(?2)) WHERE "
                              "request_id = ?1 AND json_valid(route)";
    sqlite3 *conn;
    RV_TRY(rv_db_begin(db, &conn));
    rv_err e = rv_db_exec(conn, sql, "tt", request_id, tries);
    if (e) {
        rv_db_rollback(db);
        return e;
    }
    return rv_db_commit(db);
}

/* ---- what an answer says ---- */

bool rv_episode_is_refusal(const char *answer)
{
    rv_str a = rv_str_trim(rv_str_from(answer));
    a.n -= a.n > 0 && a.at[a.n - 1] == '.';
    return a.n == 0 || rv_str_eq(a, refusal);
}

bool rv_episode_cites(const char *answer, size_t number)
{
    rv_str rest = rv_str_from(answer);
    size_t cited = 0;
    bool found = false;
    while (!found && rv_cite_next(&rest, &cited)) {
        found = cited == number;
    }
    return found;
}

bool rv_episode_same_answer(const char *a, const char *b)
{
    return rv_answer_hash(rv_str_from(a)) == rv_answer_hash(rv_str_from(b));
}

/* The sources an answer cites, each once, in the order of the answer. */
static size_t cited_sources(const rv_episode *e, int64_t out[MAX_SOURCES])
{
    rv_str rest = rv_str_from(e->answer);
    size_t n = 0;
    for (size_t number; n < MAX_SOURCES && rv_cite_next(&rest, &number);) {
        if (number < 1 || number > e->n_sources) {
            continue;
        }
        int64_t id = e->sources[number - 1];
        bool known = false;
        for (size_t i = 0; i < n; i++) {
            known = known || out[i] == id;
        }
        if (!known) {
            out[n++] = id;
        }
    }
    return n;
}

/* Copies text with single blanks between words, so that a node is one line. */
static const char *one_line(rv_arena *arena, const char *text)
{
    char *out = rv_arena_strdup(arena, text), *to = out;
    for (const char *at = out; at && *at; at++) {
        bool blank = *at == ' ' || (*at >= '\t' && *at <= '\r');
        if (!blank) {
            *to++ = *at;
        } else if (to > out && to[-1] != ' ') {
            *to++ = ' ';
        }
    }
    if (out) {
        to -= to > out && to[-1] == ' ';
        *to = 0;
    }
    return out;
}

static const char *without_citations(rv_arena *arena, const char *answer)
{
    char *out = rv_arena_strdup(arena, answer), *to = out;
    const char *end = out ? out + strlen(out) : NULL;
    size_t number;
    for (const char *at = out; at < end;) {
        size_t skip = rv_cite_at(rv_str_of(at, (size_t)(end - at)), &number);
        if (skip > 0) {
            at += skip;
        } else {
            *to++ = *at++;
        }
    }
    if (!out) {
        return NULL;
    }
    *to = 0;
    return one_line(arena, out);
}

/* ---- feedback ---- */

typedef struct job {
    rv_db *db;
    rv_memory *memory;
    rv_arena *arena;
    const rv_feedback *feedback;
    rv_episode episode;
    int64_t cited[MAX_SOURCES]; /* those that are still there */
    size_t n_cited;
    bool all_recalled; /* every cited one is itself an earlier answer or correction */
} job;

/* A source may have been removed since the answer; then there is nothing to correct or to derive from. */
static rv_err look_at_cited(job *j)
{
    int64_t ids[MAX_SOURCES];
    size_t n = cited_sources(&j->episode, ids);
    j->all_recalled = true;
    for (size_t i = 0; i < n; i++) {
        rv_memory_node node;
        rv_err e = rv_memory_get(j->memory, rv_memory_of(j->episode.user), ids[i], j->arena, &node);
        if (e == RV_E_NOT_FOUND) {
            continue;
        }
        if (e) {
            return e;
        }
        j->cited[j->n_cited++] = ids[i];
        j->all_recalled = j->all_recalled && (strcmp(node.type, "qa") == 0 || strcmp(node.type, "fact") == 0);
    }
    j->all_recalled = j->all_recalled && j->n_cited > 0;
    return RV_OK;
}

static rv_err add_node(job *j, const char *type, const char *text, const char *edge, int64_t *out)
{
    bool corrects = strcmp(edge, "corrects") == 0, added;
    int64_t first = j->n_cited > 0 ? j->cited[0] : 0, id = 0;
    rv_memory_new node = { .type = type,
                           .text = text,
                           .source = "feedback",
                           .origin = j->episode.request_id,
                           .examined = !corrects,
                           /* a correction is kept as it was given */ };
    if (corrects) {
        node.corrects = first;
    } else {
        node.derived_from = first;
    }
    RV_TRY(rv_memory_add(j->memory, rv_memory_of(j->episode.user), &node, &id, &added));
    /* An equal node may have been there with edges of its own: then the first edge is missing too. */
    for (size_t i = added ? 1 : 0; i < j->n_cited; i++) {
        if (j->cited[i] != id) {
            RV_TRY(rv_memory_link(j->memory, rv_memory_of(j->episode.user), id, j->cited[i], edge, 1));
        }
    }
    *out = id;
    return RV_OK;
}

static rv_err add_fact(job *j, int64_t *out)
{
    const char *question = one_line(j->arena, j->episode.question);
    const char *correction = one_line(j->arena, j->feedback->correction);
    const char *text = question && correction
                           ? rv_arena_printf(j->arena, "Correction: Q: %s A: %s", question, correction)
                           : NULL;
    return text ? add_node(j, "fact", text, "corrects", out) : rv_fail(RV_E_NOMEM, "storing a correction");
}

static rv_err add_qa(job *j, int64_t *out)
{
    const char *question = one_line(j->arena, j->episode.question);
    const char *answer = without_citations(j->arena, j->episode.answer);
    if (!question || !answer) {
        return rv_fail(RV_E_NOMEM, "storing an answer");
    }
    if (!*answer || rv_episode_is_refusal(answer) || j->all_recalled) {
        return RV_OK;
    }
    const char *text = rv_arena_printf(j->arena, "Q: %s A: %s", question, answer);
    return text ? add_node(j, "qa", text, "derived", out) : rv_fail(RV_E_NOMEM, "storing an answer");
}

/* The node that stands for earlier feedback of this kind and for no other feedback, 0: none. */
static rv_err earlier_node(job *j, const char *kind, int64_t *node)
{
    static const char sql[] =
        "SELECT f.node FROM feedback f WHERE f.request_id = ?1 AND f.kind = ?2 AND NOT EXISTS"
        " (SELECT 1 FROM feedback o WHERE o.node = f.node AND o.node > 0"
        "  AND NOT (o.request_id = f.request_id AND o.kind = f.kind))";
    sqlite3 *conn;
    RV_TRY(rv_db_reader(j->db, &conn));
    *node = 0;
    rv_err e = rv_db_int(conn, node, sql, "tt", j->episode.request_id, kind);
    rv_db_reader_done(j->db, conn);
    return e;
}

/* Take back the node of earlier feedback, now that keep stands in its place. */
static rv_err withdraw(job *j, const char *kind, int64_t keep)
{
    int64_t node;
    RV_TRY(earlier_node(j, kind, &node));
    if (node == 0 || node == keep) {
        return RV_OK;
    }
    size_t removed;
    rv_err e = rv_memory_rm(j->memory, rv_memory_of(j->episode.user), node, NULL, &removed);
    return e == RV_E_NOT_FOUND ? RV_OK : e;
}

static rv_err put_row(sqlite3 *conn, const job *j, const char *kind, int rating, const char *correction,
                      int64_t node)
{
    return rv_db_exec(conn, "INSERT OR REPLACE INTO feedback VALUES (?1,?2,?3,?4,?5,?6)", "ttitii",
                      j->episode.request_id, kind, (int64_t)rating, correction, node, rv_clock_wall_ms());
}

static rv_err put_witness(sqlite3 *conn, const job *j, const rv_feedback_done *done)
{
    json_t *body = json_pack("{s:i, s:s, s:I, s:I}", "rating", j->feedback->rating, "correction",
                             j->feedback->correction ? j->feedback->correction : "", "fact",
                             (json_int_t)done->fact, "qa", (json_int_t)done->qa);
    rv_text text;
    rv_text_init(&text, &rv_heap, 8 * CORRECTION_MAX_BYTES);
    rv_err e = body ? RV_OK : rv_fail(RV_E_NOMEM, "storing feedback");
    if (!e) {
        rv_json_text(body, &text);
        e = rv_text_check(&text);
    }
    if (!e) {
        e = rv_witness_append(conn, "feedback", j->episode.request_id, rv_text_get(&text), text.n);
    }
    rv_text_deinit(&text);
    json_decref(body);
    return e;
}

static rv_err put_rows(job *j, const rv_feedback_done *done)
{
    const rv_feedback *f = j->feedback;
    sqlite3 *conn;
    RV_TRY(rv_db_begin(j->db, &conn));
    rv_err e = RV_OK;
    if (f->correction) {
        e = put_row(conn, j, "correction", 0, f->correction, done->fact);
        if (!e && f->rating == 0 && j->episode.rating > 0) { /* its qa node is gone */
            e = put_row(conn, j, "rating", j->episode.rating, "", 0);
        }
    }
    if (!e && f->rating > 0) {
        e = put_row(conn, j, "rating", f->rating, "", done->qa);
    }
    if (!e) {
        e = put_witness(conn, j, done);
    }
    if (e) {
        rv_db_rollback(j->db);
        return e;
    }
    return rv_db_commit(j->db);
}

static rv_err apply(job *j, rv_feedback_done *out)
{
    const rv_feedback *f = j->feedback;
    rv_feedback_done done = { 0 };
    RV_TRY(rv_episode_get(j->db, f->request_id, j->arena, &j->episode));
    RV_TRY(look_at_cited(j));
    bool corrected = f->correction || *j->episode.correction;
    done.first = j->episode.rating == 0 && !*j->episode.correction;
    done.news = (f->rating > 0 && j->episode.rating == 0) || (f->correction && !*j->episode.correction);
    if (f->correction) {
        RV_TRY(add_fact(j, &done.fact));
        RV_TRY(withdraw(j, "correction", done.fact));
    }
    if (f->rating >= rv_good_rating(f->good) && !corrected) {
        RV_TRY(add_qa(j, &done.qa));
    }
    if (f->rating > 0 || f->correction) {
        RV_TRY(withdraw(j, "rating", done.qa));
    }
    RV_TRY(put_rows(j, &done));
    rv_metric_add(&metrics[RATINGS], f->rating > 0);
    rv_metric_add(&metrics[CORRECTIONS], f->correction != NULL);
    rv_metric_add(&metrics[QAS], done.qa > 0);
    rv_metric_add(&metrics[FACTS], done.fact > 0);
    *out = done;
    return RV_OK;
}

static rv_err check_feedback(const rv_feedback *f)
{
    if (f->rating < 0 || f->rating > 5) {
        return rv_fail(RV_E_ARG, "rating: found %d, allowed is 1 to 5", f->rating);
    }
    if (f->rating == 0 && !f->correction) {
        return rv_fail(RV_E_ARG, "feedback needs a rating (1 to 5), a correction, or both");
    }
    if (f->correction) {
        size_t n = strnlen(f->correction, CORRECTION_MAX_BYTES + 1);
        if (n > CORRECTION_MAX_BYTES || rv_str_trim(rv_str_of(f->correction, n)).n == 0 ||
            !rv_utf8_valid(f->correction, n)) {
            return rv_fail(RV_E_ARG, "correction: allowed is a text in UTF-8, 1 to %d bytes",
                           CORRECTION_MAX_BYTES);
        }
    }
    return RV_OK;
}

rv_err rv_feedback_store(rv_db *db, rv_memory *memory, const rv_feedback *feedback, rv_feedback_done *out)
{
    /* Reading what was said before and writing what is said now belong together, across several transactions. */
    static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
    RV_TRY(check_feedback(feedback));
    job j = { .db = db, .memory = memory, .feedback = feedback };
    RV_TRY(rv_arena_new(&rv_heap, ARENA_BYTES, &j.arena));
    pthread_mutex_lock(&one_at_a_time);
    rv_err e = apply(&j, out);
    pthread_mutex_unlock(&one_at_a_time);
    rv_arena_free(j.arena);
    return e;
}

rv_err rv_feedback_is_news(rv_db *db, const char *kind, bool *out)
{
    int64_t taken_back = 0, newest = 0;
    sqlite3 *conn;
    RV_TRY(rv_policy_taken_back(db, kind, &taken_back));
    RV_TRY(rv_db_reader(db, &conn));
    rv_err e = rv_db_int(conn, &newest, "SELECT coalesce(max(created_ms), 0) FROM feedback", "");
    rv_db_reader_done(db, conn);
    if (!e) {
        *out = taken_back == 0 || newest > taken_back;
    }
    return e;
}
