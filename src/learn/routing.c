#include "learn/routing.h"

#include "base/json.h"
#include "base/rng.h"
#include "store/policy.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { FOLDS = 5, LEAST_HELD = 20, ARENA_BYTES = 512 << 20 };
#define MARGIN     0.005
#define WEIGHT_MAX 10.0

/* One answer that was rated. */
typedef struct answered {
    size_t question, tier;
    float quality, propensity, draft; /* draft: the answer's own confidence */
} answered;

typedef struct question {
    float *distances; /* [n_hits] what memory had found when it was last asked */
    uint8_t *kinds;
    size_t n_hits;
    const char *text;
    size_t n;
    uint64_t words; /* hash: the same question, whatever case and punctuation */
    float *vector;
    bool held;
} question;

typedef struct round {
    const rv_routing_job *job;
    rv_arena *arena;
    answered *at; /* [n] oldest first */
    size_t n;
    question *questions;
    size_t n_questions;
    uint32_t *slots; /* [n_slots] question + 1 by hash */
    size_t n_slots;
    rv_past_text *text;
} round_of;

/* ---- reading ---- */

static rv_err find_question(round_of *r, const char *text, size_t n, size_t *out)
{
    rv_past_read(text, n, r->text);
    uint64_t hash = rv_hash64(r->text->word, r->text->n_words * sizeof *r->text->word, 11);
    size_t slot = hash & (r->n_slots - 1);
    for (; r->slots[slot]; slot = (slot + 1) & (r->n_slots - 1)) {
        if (r->questions[r->slots[slot] - 1].words == hash) {
            *out = r->slots[slot] - 1;
            return RV_OK;
        }
    }
    const rv_routing_job *job = r->job;
    question *q = &r->questions[r->n_questions];
    *q = (question){ .text = rv_arena_strndup(r->arena, text, n), .n = n, .words = hash };
    if (!q->text) {
        return rv_fail(RV_E_NOMEM, "reading episodes");
    }
    if (job->embed) {
        q->vector = rv_arena_take(r->arena, rv_embed_dim(job->embed) * sizeof *q->vector);
        if (!q->vector) {
            return rv_fail(RV_E_NOMEM, "reading episodes");
        }
        RV_TRY(rv_embed_text(job->embed, text, n, q->vector));
    }
    q->held = hash / 7 % FOLDS == (uint64_t)job->now_version % FOLDS;
    r->slots[slot] = (uint32_t)++r->n_questions;
    *out = r->n_questions - 1;
    return RV_OK;
}

static double propensity_in(const json_t *route)
{
    const json_t *given = json_object_get(route, "propensity");
    double p = json_is_number(given) ? json_number_value(given) : 1;
    return p > 0.001 && p <= 1 ? p : 1;
}

/* "hits": [[distance or null, kind], ...] */
static rv_err hits_in(round_of *r, const json_t *route, question *q)
{
    const json_t *hits = json_object_get(route, "hits");
    size_t n = json_array_size(hits);
    n = n < RV_SLOT_HITS ? n : RV_SLOT_HITS;
    q->distances = rv_arena_take(r->arena, (n + 1) * sizeof *q->distances);
    q->kinds = rv_arena_take(r->arena, n + 1);
    if (!q->distances || !q->kinds) {
        return rv_fail(RV_E_NOMEM, "reading episodes");
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *hit = json_array_get(hits, i), *distance = json_array_get(hit, 0);
        q->distances[i] = json_is_number(distance) ? (float)json_number_value(distance) : (float)NAN;
        q->kinds[i] = (uint8_t)json_integer_value(json_array_get(hit, 1));
    }
    q->n_hits = n;
    return RV_OK;
}

static rv_err read_row(round_of *r, sqlite3_stmt *s)
{
    const char *model = (const char *)sqlite3_column_text(s, 1);
    const char *route = (const char *)sqlite3_column_text(s, 3);
    size_t tier = 0;
    while (tier < r->job->n_tiers && (!model || strcmp(model, r->job->tiers[tier]) != 0)) {
        tier++;
    }
    if (tier == r->job->n_tiers) {
        return RV_OK; /* answered by a model that is no tier */
    }
    int rating = sqlite3_column_int(s, 4);
    bool corrected = sqlite3_column_int(s, 5);
    answered *a = &r->at[r->n];
    json_t *how = NULL;
    if (route && *route && rv_json_parse(route, strlen(route), &how)) {
        how = NULL;
    }
    *a = (answered){ .tier = tier,
                     .quality = corrected ? 0 : (float)(rating - 1) / 4,
                     .propensity = (float)propensity_in(how),
                     .draft = (float)sqlite3_column_double(s, 2) };
    rv_err e = find_question(r, (const char *)sqlite3_column_text(s, 0), (size_t)sqlite3_column_bytes(s, 0),
                             &a->question);
    e = e ? e : hits_in(r, how, &r->questions[a->question]);
    json_decref(how);
    RV_TRY(e);
    r->n++;
    return RV_OK;
}

#define RATED                                                                                                \
    " FROM episode e LEFT JOIN feedback f ON f.request_id = e.request_id AND f.kind = 'rating'"              \
    " LEFT JOIN feedback c ON c.request_id = e.request_id AND c.kind = 'correction'"                         \
    " WHERE (f.rating > 0 OR c.request_id IS NOT NULL)"

rv_err rv_routing_rated(rv_db *db, int64_t *out)
{
    sqlite3 *conn;
    int64_t n = 0;
    RV_TRY(rv_db_reader(db, &conn));
    rv_err e = rv_db_int(conn, &n, "SELECT count(DISTINCT request_id) FROM feedback", "");
    rv_db_reader_done(db, conn);
    if (!e) {
        *out = n;
    }
    return e;
}

static rv_err read_episodes(round_of *r)
{
    static const char sql[] =
        "SELECT * FROM (SELECT e.question, e.model, e.confidence, e.route, coalesce(f.rating, 0),"
        " c.request_id IS NOT NULL, e.created_ms" RATED
        " ORDER BY e.created_ms DESC LIMIT ?1) ORDER BY created_ms";
    size_t capacity = r->job->capacity;
    int64_t rated;
    sqlite3 *conn;
    sqlite3_stmt *s = NULL;
    bool row = true;
    RV_TRY(rv_routing_rated(r->job->db, &rated));
    capacity = (uint64_t)rated < capacity ? (size_t)rated : capacity;
    for (r->n_slots = 64; r->n_slots < 2 * capacity; r->n_slots *= 2) {
    }
    r->at = rv_arena_take(r->arena, (capacity + 1) * sizeof *r->at);
    r->questions = rv_arena_take(r->arena, (capacity + 1) * sizeof *r->questions);
    r->slots = rv_arena_take(r->arena, r->n_slots * sizeof *r->slots);
    r->text = rv_arena_take(r->arena, sizeof *r->text);
    if (!r->at || !r->questions || !r->slots || !r->text) {
        return rv_fail(RV_E_NOMEM, "reading episodes");
    }
    RV_TRY(rv_db_reader(r->job->db, &conn));
    rv_err e = rv_db_prepare(conn, &s, sql, "i", (int64_t)capacity);
    while (!e && !(e = rv_db_step(s, &row)) && row && r->n < capacity) {
        e = read_row(r, s);
    }
    sqlite3_finalize(s);
    rv_db_reader_done(r->job->db, conn);
    return e;
}

/* ---- rows ---- */

static float cost_of(const rv_routing_job *job, size_t tier)
{
    return job->costs[tier];
}

/* One row per question that is not held out, with the newest outcome of each tier. */
static rv_err make_rows(const round_of *r, rv_router_row **out, size_t *n)
{
    size_t *place = rv_arena_take(r->arena, (r->n_questions + 1) * sizeof *place), rows = 0;
    rv_router_row *at = rv_arena_take(r->arena, (r->n_questions + 1) * sizeof *at);
    if (!place || !at) {
        return rv_fail(RV_E_NOMEM, "learning to route");
    }
    for (size_t i = 0; i < r->n_questions; i++) {
        const question *q = &r->questions[i];
        place[i] = rows;
        if (q->held) {
            continue;
        }
        at[rows] = (rv_router_row){ .text = q->text,
                                    .n = q->n,
                                    .vector = q->vector,
                                    .weight = 1,
                                    .distances = q->distances,
                                    .kinds = q->kinds,
                                    .n_hits = q->n_hits };
        for (size_t t = 0; t < RV_ROUTER_TIERS; t++) {
            at[rows].quality[t] = at[rows].draft[t] = NAN;
            at[rows].cost[t] = t < r->job->n_tiers ? cost_of(r->job, t) : (float)NAN;
        }
        rows++;
    }
    for (size_t i = 0; i < r->n; i++) {
        const answered *a = &r->at[i];
        if (!r->questions[a->question].held) {
            at[place[a->question]].quality[a->tier] = a->quality;
            at[place[a->question]].draft[a->tier] = a->draft;
        }
    }
    *out = at;
    *n = rows;
    return RV_OK;
}

/* ---- the test ---- */

typedef struct verdict {
    double before, after, difference, squares;
    size_t n;
} verdict;

/* Utility of letting tier answer, as one episode tells it. */
static double worth(const rv_routed *judge, double lambda, const answered *a, size_t tier)
{
    double expected = judge->p_right[tier];
    if (a->tier == tier) {
        expected += fmin(WEIGHT_MAX, 1 / a->propensity) * (a->quality - judge->p_right[tier]);
    }
    return expected - lambda * judge->cost[tier];
}

static rv_err compare(const round_of *r, const rv_router *fresh, double lambda, verdict *out)
{
    const rv_routing_job *job = r->job;
    size_t bytes = rv_router_scratch_bytes(fresh);
    if (job->now && rv_router_scratch_bytes(job->now) > bytes) {
        bytes = rv_router_scratch_bytes(job->now);
    }
    void *scratch = rv_arena_take(r->arena, bytes);
    if (!scratch) {
        return rv_fail(RV_E_NOMEM, "learning to route");
    }
    for (size_t i = 0; i < r->n; i++) {
        const answered *a = &r->at[i];
        const question *q = &r->questions[a->question];
        if (!q->held) {
            continue;
        }
        rv_slot_input in = { .text = q->text,
                             .n = q->n,
                             .vector = q->vector,
                             .device = 2,
                             .distances = q->distances,
                             .kinds = q->kinds,
                             .n_hits = q->n_hits,
                             .k = q->n_hits };
        rv_routed new_way, old_way = { .tier = job->usual };
        rv_router_route(fresh, &in, 0, scratch, &new_way);
        if (job->now) {
            rv_router_route(job->now, &in, 0, scratch, &old_way);
        }
        double after = worth(&new_way, lambda, a, new_way.tier),
               before = worth(&new_way, lambda, a, old_way.tier);
        out->after += after;
        out->before += before;
        out->difference += after - before;
        out->squares += (after - before) * (after - before);
        out->n++;
    }
    return RV_OK;
}

static void judge(const verdict *v, rv_routing_done *done)
{
    double n = v->n > 0 ? (double)v->n : 1, mean = v->difference / n;
    done->held_out = v->n;
    done->before = v->before / n;
    done->after = v->after / n;
    done->error = sqrt(fmax(0, v->squares / n - mean * mean) / n);
    done->accepted = v->n >= LEAST_HELD && mean >= MARGIN && mean >= 0.5 * done->error;
    snprintf(done->why, sizeof done->why,
             "%s: utility on %zu held-out episodes %.4f, before %.4f (difference %+.4f, its error %.4f)",
             done->accepted ? "used" : "refused", v->n, done->after, done->before, mean, done->error);
}

/* ---- storing ---- */

static rv_err store(const round_of *r, const rv_router *fresh, rv_routing_done *done)
{
    const rv_routing_job *job = r->job;
    char metrics[256], data[256];
    uint8_t *bytes = NULL;
    size_t n = 0;
    sqlite3 *conn;
    snprintf(metrics, sizeof metrics,
             "{\"held_out\": %zu, \"before\": %.6f, \"after\": %.6f, \"error\": %.6f}", done->held_out,
             done->before, done->after, done->error);
    snprintf(data, sizeof data, "{\"episodes\": %zu, \"questions\": %zu}", done->episodes, done->questions);
    RV_TRY(rv_router_pack(&rv_heap, fresh, &bytes, &n));
    rv_policy_new policy = { .kind = RV_ROUTING_POLICY,
                             .parent = job->now_version,
                             .note = done->why,
                             .metrics = metrics,
                             .data = data,
                             .bytes = bytes,
                             .n = n,
                             .use = done->accepted };
    rv_err e = rv_db_begin(job->db, &conn);
    if (!e) {
        e = rv_policy_add(conn, &policy, &done->version);
        if (e) {
            rv_db_rollback(job->db);
        } else {
            e = rv_db_commit(job->db);
        }
    }
    rv_free(&rv_heap, bytes);
    return e;
}

static rv_err learn_round(round_of *r, rv_routing_done *done, rv_router **fresh)
{
    const rv_routing_job *job = r->job;
    rv_router_row *rows = NULL;
    size_t n = 0;
    rv_router_trained trained;
    rv_router *candidate = NULL;
    verdict v = { 0 };
    RV_TRY(read_episodes(r));
    RV_TRY(make_rows(r, &rows, &n));
    done->episodes = r->n;
    done->questions = r->n_questions;
    size_t dim = job->embed ? rv_embed_dim(job->embed) : 0;
    rv_router_set set = { rows,        n,   job->n_tiers,
                          job->tiers,  dim, job->embed ? rv_embed_name(job->embed) : "",
                          job->domains };
    rv_router_how how = rv_router_how_default();
    how.cost_share = job->cost_share;
    how.seed = (uint64_t)job->now_version + 1;
    RV_TRY(rv_router_train(&rv_heap, &set, &how, &trained, &candidate));
    rv_err e = compare(r, candidate, trained.lambda, &v);
    if (!e) {
        judge(&v, done);
        e = store(r, candidate, done);
    }
    if (!e && done->accepted) {
        *fresh = candidate;
        return RV_OK;
    }
    rv_router_free(candidate);
    return e;
}

rv_err rv_routing_learn(const rv_routing_job *job, rv_routing_done *done, rv_router **fresh)
{
    round_of r = { .job = job };
    *done = (rv_routing_done){ 0 };
    *fresh = NULL;
    RV_TRY(rv_arena_new(&rv_heap, ARENA_BYTES, &r.arena));
    rv_err e = learn_round(&r, done, fresh);
    rv_arena_free(r.arena);
    return e;
}

/* ---- what was decided ---- */

rv_err rv_routing_decisions(rv_db *db, size_t n, json_t **out)
{
    static const char sql[] = "SELECT e.request_id, e.question, e.model, e.confidence, e.total_ms, "
                              "e.created_ms, coalesce(f.rating, 0),"
                              " c.request_id IS NOT NULL, e.route FROM episode e"
                              " LEFT JOIN feedback f ON f.request_id = e.request_id AND f.kind = 'rating'"
                              " LEFT JOIN feedback c ON c.request_id = e.request_id AND c.kind = 'correction'"
                              " ORDER BY e.created_ms DESC LIMIT ?1";
    sqlite3 *conn;
    sqlite3_stmt *s = NULL;
    bool row = true;
    json_t *list = json_array();
    RV_TRY(rv_db_reader(db, &conn));
    rv_err e = rv_db_prepare(conn, &s, sql, "i", (int64_t)n);
    while (!e && !(e = rv_db_step(s, &row)) && row) {
        const char *route = (const char *)sqlite3_column_text(s, 8);
        json_t *how = NULL;
        if (!route || !*route || rv_json_parse(route, strlen(route), &how)) {
            how = json_null();
        }
        json_t *one = json_pack("{s:s, s:s, s:s, s:f, s:f, s:I, s:i, s:b, s:o}", "request_id",
                                sqlite3_column_text(s, 0), "question", sqlite3_column_text(s, 1), "model",
                                sqlite3_column_text(s, 2), "confidence", sqlite3_column_double(s, 3),
                                "total_ms", sqlite3_column_double(s, 4), "created_ms",
                                (json_int_t)sqlite3_column_int64(s, 5), "rating", sqlite3_column_int(s, 6),
                                "corrected", sqlite3_column_int(s, 7), "routing", how);
        if (json_array_append_new(list, one)) {
            e = rv_fail(RV_E_NOMEM, "reading decisions");
        }
    }
    sqlite3_finalize(s);
    rv_db_reader_done(db, conn);
    if (e) {
        json_decref(list);
        return e;
    }
    *out = list;
    return RV_OK;
}
