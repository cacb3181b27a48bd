#include "learn/judge.h"

#include "base/clock.h"
#include "base/json.h"
#include "learn/episode.h"
#include "router/past.h"
#include "store/policy.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    SCORES = 5,
    PROMPT_MAX_BYTES = 1 << 20,
    PROMPT_MAX_IDS = 1 << 16,
    PASSAGES_MAX = 8,
    ARENA_BYTES = 16 << 20
};
static const char KIND[] = "judge";

static const char *const steps[] = {
    "CREATE TABLE judged (request_id TEXT PRIMARY KEY REFERENCES episode(request_id), judge TEXT NOT NULL,"
    " quality REAL NOT NULL, trust REAL NOT NULL, created_ms INTEGER NOT NULL) WITHOUT ROWID;",
};

rv_err rv_judge_setup(rv_db *db)
{
    return rv_db_migrate(db, "judge", steps, RV_COUNT(steps));
}

/* ---- a model ---- */

static rv_err question_ids(const rv_judge *j, const rv_judge_case *c, rv_ids *ids)
{
    const rv_tok *tok = rv_engine_tok(j->engine);
    rv_text asked, rendered;
    json_t *messages = NULL;
    rv_text_init(&asked, &rv_heap, PROMPT_MAX_BYTES);
    rv_text_init(&rendered, &rv_heap, PROMPT_MAX_BYTES);
    rv_text_addf(&asked, "%s\nAnswer: %s\nScore the answer from 1 to 5.", c->question, c->answer);
    rv_err e = rv_text_check(&asked);
    e = e ? e : j->prompt(rv_text_get(&asked), c->passages, c->n, &messages);
    e = e ? e
          : rv_chat_render(tok, rv_engine_get_info(j->engine)->family, messages, NULL,
                           (rv_chat_options){ .add_generation_prompt = true }, &rendered, ids);
    json_decref(messages);
    rv_text_deinit(&rendered);
    rv_text_deinit(&asked);
    return e;
}

/* The tokens of the five digits; false: this vocabulary has none of its own for one of them. */
static bool digit_ids(const rv_tok *tok, int32_t out[SCORES])
{
    for (int s = 0; s < SCORES; s++) {
        char digit[2] = { (char)('1' + s), 0 };
        out[s] = rv_tok_find(tok, digit);
        if (out[s] < 0) {
            return false;
        }
    }
    return true;
}

/* The expectation over the digits, NaN when something else is more probable than all of them. */
static double expectation(const float *logits, size_t n, const int32_t digits[SCORES])
{
    double most = -INFINITY, all = 0, held = 0, sum = 0;
    for (size_t i = 0; i < n; i++) {
        most = logits[i] > most ? (double)logits[i] : most;
    }
    for (size_t i = 0; i < n; i++) {
        all += exp((double)logits[i] - most);
    }
    for (int s = 0; s < SCORES; s++) {
        double p = exp((double)logits[digits[s]] - most) / all;
        held += p;
        sum += p * s / (SCORES - 1);
    }
    return held >= 0.5 ? sum / held : (double)NAN;
}

static rv_err score_by_model(const rv_judge *j, const rv_judge_case *c, double *quality)
{
    const rv_engine_info *info = rv_engine_get_info(j->engine);
    int32_t digits[SCORES];
    rv_ids ids;
    *quality = (double)NAN;
    if (!digit_ids(rv_engine_tok(j->engine), digits)) {
        return RV_OK;
    }
    rv_ids_init(&ids, &rv_heap, PROMPT_MAX_IDS);
    rv_err e = question_ids(j, c, &ids);
    float *logits = rv_new_array(&rv_heap, info->shape.n_vocab, sizeof *logits);
    e = !e && !logits ? rv_fail(RV_E_NOMEM, "judging") : e;
    if (!e) {
        e = rv_engine_logits(j->engine, NULL, ids.at, ids.n, ids.n - 1, 0, logits);
    }
    if (!e) {
        *quality = expectation(logits, info->shape.n_vocab, digits);
    }
    rv_free(&rv_heap, logits);
    rv_ids_deinit(&ids);
    return e;
}

rv_judge rv_judge_model(rv_engine *engine, rv_adapter_prompt *prompt)
{
    rv_judge j = { .score = score_by_model, .engine = engine, .prompt = prompt };
    snprintf(j.name, sizeof j.name, "model %016" PRIx64, rv_engine_get_info(engine)->fingerprint);
    return j;
}

/* ---- words ---- */

static rv_err score_by_length(const rv_judge *j, const rv_judge_case *c, double *quality)
{
    (void)j;
    double n = (double)strlen(c->answer);
    *quality = n / (n + 200);
    return RV_OK;
}

/* Longer is better, but a word counts once, and one that the question has too a quarter. */
static rv_err score_by_words(const rv_judge *j, const rv_judge_case *c, double *quality)
{
    (void)j;
    rv_past_text question, answer; /* different words, ascending */
    size_t own = 0;
    rv_past_read(c->question, strlen(c->question), &question);
    rv_past_read(c->answer, strlen(c->answer), &answer);
    for (size_t i = 0, q = 0; i < answer.n_words; i++) {
        while (q < question.n_words && question.word[q] < answer.word[i]) {
            q++;
        }
        own += q == question.n_words || question.word[q] != answer.word[i];
    }
    double n = (double)own + 0.25 * (double)(answer.n_words - own);
    *quality = answer.n_words == 0 || rv_episode_is_refusal(c->answer) ? 0.05 : n / (n + 20);
    return RV_OK;
}

rv_judge rv_judge_heuristic(void)
{
    return (rv_judge){ .name = "heuristic", .score = score_by_words, .words_only = true };
}

rv_judge rv_judge_longer(void)
{
    return (rv_judge){ .name = "longer", .score = score_by_length, .words_only = true };
}

/* ---- measuring ---- */

/* 1, 2, or 0: it cannot tell. */
static rv_err choose(const rv_judge *j, const rv_judge_case *a, const rv_judge_case *b, int *out)
{
    double of_a = (double)NAN, of_b = (double)NAN;
    rv_err e = j->score(j, a, &of_a);
    e = e ? e : j->score(j, b, &of_b);
    *out = of_a > of_b ? 1 : of_b > of_a ? 2 : 0; /* NaN is neither */
    return e == RV_E_CONTEXT || e == RV_E_TOO_LARGE ? RV_OK : e;
}

rv_err rv_judge_measure(const rv_judge *j, const rv_judge_pair *pairs, size_t n,
                        bool (*go_on)(void *self, size_t pair), void *self, rv_judge_measured *out)
{
    double right = 0;
    *out = (rv_judge_measured){ 0 };
    for (size_t i = 0; i < n; i++) {
        int said = 0;
        if (pairs[i].label == 0) {
            out->ties++;
            continue;
        }
        if (go_on && !go_on(self, i)) {
            return rv_fail(RV_E_CANCELLED, "interrupted");
        }
        RV_TRY(choose(j, &pairs[i].a, &pairs[i].b, &said));
        out->pairs++;
        out->unjudged += said == 0;
        right += said == 0 ? 0.5 : said == pairs[i].label;
    }
    out->right = out->pairs ? right / (double)out->pairs : 0;
    return RV_OK;
}

double rv_judge_trust_of(const rv_judge *j, const rv_judge_measured *m)
{
    return !j->words_only && m->pairs >= 100 && m->right >= RV_JUDGE_LEAST ? RV_JUDGE_TRUST : RV_JUDGE_PRIOR;
}

rv_err rv_judge_keep(rv_db *db, const rv_judge *j, const rv_judge_measured *m)
{
    char metrics[200], data[128], note[160];
    int64_t version;
    sqlite3 *conn;
    snprintf(metrics, sizeof metrics, "{\"pairs\":%zu,\"right\":%.6f,\"unjudged\":%zu,\"trust\":%.2f}",
             m->pairs, m->right, m->unjudged, rv_judge_trust_of(j, m));
    snprintf(data, sizeof data, "{\"judge\":\"%s\"}", j->name);
    snprintf(note, sizeof note, "%s: %.1f %% of pairs right, %s", j->name, 100 * m->right,
             rv_judge_trust_of(j, m) > RV_JUDGE_PRIOR ? "trusted" : "weighs no more than knowing nothing");
    rv_policy_new policy = { .kind = KIND,
                             .note = note,
                             .metrics = metrics,
                             .data = data,
                             .bytes = metrics,
                             .n = strlen(metrics),
                             .use = true };
    RV_TRY(rv_db_begin(db, &conn));
    rv_err e = rv_policy_add(conn, &policy, &version);
    if (e) {
        rv_db_rollback(db);
        return e;
    }
    return rv_db_commit(db);
}

rv_err rv_judge_trust(rv_db *db, const rv_judge *j, double *trust)
{
    static const char sql[] =
        "SELECT json_extract(metrics, '$.pairs'), json_extract(metrics, '$.right') FROM policy"
        " WHERE kind = 'judge' AND json_extract(data, '$.judge') = ?1 ORDER BY version DESC LIMIT 1";
    sqlite3 *conn;
    sqlite3_stmt *s = NULL;
    bool row = false;
    rv_judge_measured m = { 0 };
    RV_TRY(rv_db_reader(db, &conn));
    rv_err e = rv_db_prepare(conn, &s, sql, "t", j->name);
    e = e ? e : rv_db_step(s, &row);
    if (!e && row) {
        m.pairs = (size_t)sqlite3_column_int64(s, 0);
        m.right = sqlite3_column_double(s, 1);
    }
    sqlite3_finalize(s);
    rv_db_reader_done(db, conn);
    *trust = rv_judge_trust_of(j, &m);
    return e;
}

/* ---- filling in ---- */

static rv_err next_unjudged(rv_db *db, const char *judge, int64_t *before, char request[64], bool *found)
{
    static const char sql[] =
        "SELECT e.request_id, e.created_ms FROM episode e WHERE e.created_ms <= ?1 AND e.answer <> ''"
        " AND NOT EXISTS (SELECT 1 FROM feedback f WHERE f.request_id = e.request_id)"
        " AND NOT EXISTS (SELECT 1 FROM judged j WHERE j.request_id = e.request_id AND j.judge = ?2)"
        " AND e.request_id <> ?3 ORDER BY e.created_ms DESC LIMIT 1";
    sqlite3 *conn;
    sqlite3_stmt *s = NULL;
    RV_TRY(rv_db_reader(db, &conn));
    rv_err e = rv_db_prepare(conn, &s, sql, "itt", *before, judge, request);
    e = e ? e : rv_db_step(s, found);
    if (!e && *found) {
        snprintf(request, 64, "%s", (const char *)sqlite3_column_text(s, 0));
        *before = sqlite3_column_int64(s, 1);
    }
    sqlite3_finalize(s);
    rv_db_reader_done(db, conn);
    return e;
}

/* NaN: it is damaged, passages it stood on are gone, or it cannot tell. */
static rv_err judge_one(rv_db *db, rv_memory *memory, const rv_judge *j, const char *request, rv_arena *arena,
                        double *quality)
{
    rv_episode episode;
    const char *passages[PASSAGES_MAX];
    *quality = (double)NAN;
    rv_err got = rv_episode_get(db, request, arena, &episode);
    if (got) {
        return got == RV_E_FORMAT ? RV_OK : got;
    }
    rv_judge_case c = { .question = episode.question, .answer = episode.answer, .passages = passages };
    for (size_t i = 0; i < episode.n_sources && c.n < PASSAGES_MAX; i++) {
        rv_memory_node node;
        rv_err e = rv_memory_get(memory, rv_memory_of(episode.user), episode.sources[i], arena, &node);
        if (e == RV_E_NOT_FOUND) {
            return RV_OK;
        }
        RV_TRY(e);
        passages[c.n++] = node.text;
    }
    rv_err e = j->score(j, &c, quality);
    return e == RV_E_CONTEXT || e == RV_E_TOO_LARGE ? RV_OK : e;
}

static rv_err store_judgement(rv_db *db, const char *request, const char *judge, double quality, double trust)
{
    sqlite3 *conn;
    bool no = isnan(quality); /* a row all the same, with no weight, so that it is not asked for again */
    RV_TRY(rv_db_begin(db, &conn));
    rv_err e = rv_db_exec(conn,
                          "INSERT OR REPLACE INTO judged SELECT ?1, ?2, ?3, ?4, ?5 WHERE EXISTS (SELECT 1 "
                          "FROM episode WHERE request_id = ?1)",
                          "ttffi", request, judge, no ? 0 : quality, no ? 0 : trust, rv_clock_wall_ms());
    if (e) {
        rv_db_rollback(db);
        return e;
    }
    return rv_db_commit(db);
}

rv_err rv_judge_fill(rv_db *db, rv_memory *memory, const rv_judge *j, double trust, double until_ms,
                     size_t most, size_t *n)
{
    char request[64] = "";
    int64_t before = INT64_MAX;
    rv_arena *arena;
    *n = 0;
    RV_TRY(rv_arena_new(&rv_heap, ARENA_BYTES, &arena));
    rv_err e = RV_OK;
    while (!e && *n < most && rv_clock_ms() < until_ms) {
        bool found = false;
        double quality;
        rv_arena_reset(arena);
        e = next_unjudged(db, j->name, &before, request, &found);
        if (e || !found) {
            break;
        }
        e = judge_one(db, memory, j, request, arena, &quality);
        e = e ? e : store_judgement(db, request, j->name, quality, trust);
        *n += !e;
    }
    rv_arena_free(arena);
    return e;
}
