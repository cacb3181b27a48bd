#include "learn/routing.h"

#include "base/json.h"
#include "base/rng.h"
#include "learn/episode.h"
#include "learn/judge.h"
#include "learn/raters.h"
#include "store/policy.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    FOLDS = 5,
    HELD_TRIED = 3,
    LEAST_HELD = 20,
    LEAST_OUTCOMES = 100,
    LEAST_SPENT = 100,
    ARENA_BYTES = 512 << 20, /* beside the rows */
    MOST =
        120000, /* rows: a version holds all its questions, and has 64 MB (store/policy.h): of long ones not so many */
    ROW_BYTES = 16 << 10, /* of one, at most, on average: its text, what memory had found, five answers */
    RATERS_MAX = 256
};
#define MARGIN       0.005
#define LOSS_MARGIN  0.003
#define SHARE_MOVES  1.3   /* at most */
#define LEAST_WEIGHT 0.05f /* of a rater; below, its ratings are left out */
/* An unrated answer that differs from one that was wrong: of the four demo tiers on 3,419 questions .57 to .77 of those of larger tiers were right, .27 to .39 of
 * those of smaller ones. */
#define LARGER_RIGHT  0.65f
#define SMALLER_RIGHT 0.33f
#define JUDGE         "\1judge" /* the rater of answers that a trusted judge alone spoke of: no key has such a name */

/* One answer that was rated. */
typedef struct answered {
    size_t question, tier;
    float quality;
    rv_draft draft; /* what the answer says of itself */
    bool second;    /* it took the place of a draft that was not sure */
    bool shown;
    uint32_t rater;
} answered;

typedef struct question {
    float *distances; /* [n_hits] what memory had found when it was last asked */
    uint8_t *kinds;
    size_t n_hits;
    float *cover; /* [RV_COVER], NULL: not known */
    const char *text;
    size_t n, n_words; /* n_words: different ones */
    uint64_t words;    /* hash: the same question, whatever case and punctuation */
    float *vector;
    float quality[RV_ROUTER_TIERS]; /* newest outcome of each tier, NaN: not known */
    rv_draft draft[RV_ROUTER_TIERS];
    uint32_t second;  /* as in rv_router_row */
    bool held, tried; /* tried: other tiers were asked too, because it was drawn */
    float weight;     /* of who rated it last */
    double tokens;    /* read and written for the answer that was shown, 0: not known */
} question;

typedef struct round {
    const rv_routing_job *job;
    rv_arena *arena;
    answered *at;          /* [n] oldest first */
    size_t n, room, rated; /* rated: episodes; n with what was not shown */
    question *questions;
    size_t n_questions;
    uint32_t *slots; /* [n_slots] question + 1 by hash */
    size_t n_slots;
    rv_past_text *text;
    const char *raters[RATERS_MAX]; /* [n_raters] names of the keys that asked and rated; "" without one */
    size_t n_raters;
    float weights[RATERS_MAX];
    double spent, of; /* by what the router in use decided, and by always the last tier */
    size_t n_spent;
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
    *q = (question){
        .text = rv_arena_strndup(r->arena, text, n), .n = n, .n_words = r->text->n_words, .words = hash
    };
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
    q->held = hash / 7 % FOLDS == 0; /* always the same: a router must not have seen what it is tested on */
    r->slots[slot] = (uint32_t)++r->n_questions;
    *out = r->n_questions - 1;
    return RV_OK;
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
    const json_t *cover = json_object_get(route, "cover");
    q->cover =
        json_array_size(cover) == RV_COVER ? rv_arena_take(r->arena, RV_COVER * sizeof *q->cover) : NULL;
    for (size_t i = 0; q->cover && i < RV_COVER; i++) {
        double x = json_number_value(json_array_get(cover, i));
        q->cover[i] = isfinite(x) ? (float)fmin(4, fmax(0, x)) : 0;
    }
    return RV_OK;
}

static size_t tier_named(const rv_routing_job *job, const char *model)
{
    size_t tier = 0;
    while (tier < job->n_tiers && (!model || strcmp(model, job->tiers[tier]) != 0)) {
        tier++;
    }
    return tier;
}

/* "says": as rv_draft has it, false: not there. */
static bool says_in(const json_t *of, float says[RV_SAYS])
{
    const json_t *list = json_object_get(of, "says");
    for (size_t i = 0; i < RV_SAYS; i++) {
        double x = json_number_value(json_array_get(list, i));
        says[i] = isfinite(x) ? (float)fmin(1, fmax(-1, x)) : 0;
    }
    return json_array_size(list) == RV_SAYS;
}

static rv_draft draft_in(const json_t *of, double confidence, const char *text)
{
    float says[RV_SAYS];
    bool known = says_in(of, says);
    return rv_draft_of(confidence, text, strlen(text), known ? says : NULL);
}

/* {"model", "confidence", "text", "says"}: an answer that was not shown. What the one that was shown was worth, and what was said instead of it,
 * tell what this one was worth. */
static void read_other(round_of *r, const json_t *other, const answered *shown, bool second,
                       const char *answer, const char *correction)
{
    const char *text = json_string_value(json_object_get(other, "text"));
    size_t tier = tier_named(r->job, json_string_value(json_object_get(other, "model")));
    if (tier == r->job->n_tiers || !text || !answer || r->n == r->room) {
        return;
    }
    answered *a = &r->at[r->n++];
    *a = *shown;
    a->second = second;
    a->shown = false;
    a->tier = tier;
    a->draft = draft_in(other, json_number_value(json_object_get(other, "confidence")), text);
    if (correction) {
        a->quality = rv_episode_same_answer(text, correction);
    } else if (!rv_episode_same_answer(text, answer)) {
        a->quality = (tier > shown->tier ? LARGER_RIGHT : SMALLER_RIGHT) * (1 - shown->quality);
    }
}

/* What a decision of the router in use has cost, the drafts before it included. */
static void count_spent(round_of *r, const json_t *how, size_t tier, const json_t *drafts)
{
    const rv_routing_job *job = r->job;
    double tokens = json_number_value(json_object_get(how, "tokens"));
    const json_t *draft;
    size_t i;
    if (!job->now || json_integer_value(json_object_get(how, "version")) != job->now_version ||
        !(tokens > 0)) {
        return;
    }
    json_array_foreach(drafts, i, draft)
    {
        size_t by = tier_named(job, json_string_value(json_object_get(draft, "model")));
        r->spent +=
            by < job->n_tiers ? json_number_value(json_object_get(draft, "tokens")) * job->costs[by] : 0;
    }
    r->spent += tokens * job->costs[tier];
    r->of += tokens * job->costs[job->n_tiers - 1];
    r->n_spent++;
}

/* Those that come after RATERS_MAX - 1 others are one. */
static rv_err rater_named(round_of *r, const char *name, uint32_t *out)
{
    size_t i = 0;
    name = name ? name : "";
    while (i < r->n_raters && strcmp(r->raters[i], name) != 0) {
        i++;
    }
    i = i < RATERS_MAX ? i : RATERS_MAX - 1;
    if (i == r->n_raters) {
        r->raters[i] = rv_arena_strdup(r->arena, name);
        if (!r->raters[i]) {
            return rv_fail(RV_E_NOMEM, "reading episodes");
        }
        r->n_raters++;
    }
    *out = (uint32_t)i;
    return RV_OK;
}

/* The answers that were not shown. Before there could be several it was one, and stood there by itself. */
static const json_t *drafts_of(json_t *how)
{
    json_t *one = json_object_get(how, "draft");
    if (json_is_object(one)) {
        json_object_set_new(how, "drafts", json_pack("[O]", one));
    }
    return json_object_get(how, "drafts");
}

static rv_err read_row(round_of *r, sqlite3_stmt *s)
{
    const char *model = (const char *)sqlite3_column_text(s, 1);
    const char *route = (const char *)sqlite3_column_text(s, 3);
    size_t tier = tier_named(r->job, model);
    if (tier == r->job->n_tiers) {
        return RV_OK; /* answered by a model that is no tier */
    }
    int rating = sqlite3_column_int(s, 4);
    bool corrected = sqlite3_column_int(s, 5), judged = rating == 0 && !corrected;
    answered a = { .tier = tier, .shown = true };
    json_t *how = NULL;
    if (route && *route && rv_json_parse(route, strlen(route), &how)) {
        how = NULL;
    }
    a.quality = corrected ? 0 : judged ? (float)sqlite3_column_double(s, 9) : (float)(rating - 1) / 4;
    rv_err e = find_question(r, (const char *)sqlite3_column_text(s, 0), (size_t)sqlite3_column_bytes(s, 0),
                             &a.question);
    e = e ? e : hits_in(r, how, &r->questions[a.question]);
    e = e ? e : rater_named(r, judged ? JUDGE : json_string_value(json_object_get(how, "key")), &a.rater);
    const json_t *drafts = drafts_of(how), *tries = json_object_get(how, "tries"), *one;
    const char *answer = (const char *)sqlite3_column_text(s, 7);
    count_spent(r, how, tier, drafts);
    a.draft = draft_in(how, sqlite3_column_double(s, 2), answer ? answer : "");
    const char *correction = corrected ? (const char *)sqlite3_column_text(s, 8) : NULL;
    bool explored = json_is_true(json_object_get(how, "explored")) && json_is_array(tries);
    a.second =
        json_array_size(drafts) > 0 && !explored; /* what was drawn for all tiers is no harder than others */
    if (!e && r->n < r->room) {
        question *q = &r->questions[a.question];
        q->tried = explored;
        q->tokens = fmin(1e9, fmax(0, json_number_value(json_object_get(how, "tokens"))));
        q->held = q->held || (explored && q->words / 7 / FOLDS % HELD_TRIED == 0);
        r->at[r->n++] = a;
        r->rated++;
        size_t i;
        json_array_foreach(drafts, i, one)
        {
            read_other(r, one, &a, i > 0 && a.second, answer, correction);
        }
        json_array_foreach(tries, i, one)
        {
            read_other(r, one, &a, false, answer, correction);
        }
    }
    json_decref(how);
    return e;
}

#define RATED                                                                                                \
    " FROM episode e LEFT JOIN feedback f ON f.request_id = e.request_id AND f.kind = 'rating'"              \
    " LEFT JOIN feedback c ON c.request_id = e.request_id AND c.kind = 'correction'"                         \
    " LEFT JOIN judged j ON j.request_id = e.request_id AND j.trust > ?2"                                    \
    " WHERE (f.rating > 0 OR c.request_id IS NOT NULL OR j.request_id IS NOT NULL)"

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

rv_err rv_routing_rated_share(rv_db *db, size_t n, double *out)
{
    static const char sql[] =
        "SELECT count(*) FROM (SELECT request_id FROM episode ORDER BY created_ms DESC LIMIT ?1) e"
        " WHERE EXISTS (SELECT 1 FROM feedback f WHERE f.request_id = e.request_id)";
    sqlite3 *conn;
    int64_t rated = 0;
    RV_TRY(rv_db_reader(db, &conn));
    rv_err e = rv_db_int(conn, &rated, sql, "i", (int64_t)n);
    rv_db_reader_done(db, conn);
    if (!e) {
        *out = (double)rated / (double)n;
    }
    return e;
}

static size_t most_rows(const rv_routing_job *job)
{
    return job->capacity < MOST ? job->capacity : MOST;
}

static rv_err read_episodes(round_of *r)
{
    /* When there are more than there is room for: the newest half, and of all before a uniform sample, so that what is asked today does not push out what was
     * learned before. Ids are drawn at random, so the smallest ones are such a sample, and from one round to the next most of it stays. */
    static const char sql[] =
        "WITH newest AS (SELECT e.request_id" RATED " ORDER BY e.created_ms DESC LIMIT ?1 - ?1 / 2),"
        " sample AS (SELECT e.request_id" RATED
        " AND e.request_id NOT IN newest ORDER BY e.request_id LIMIT ?1 / 2)"
        " SELECT e.question, e.model, e.confidence, e.route, coalesce(f.rating, 0), c.request_id IS NOT NULL,"
        " e.created_ms, e.answer, c.correction, j.quality" RATED
        " AND (e.request_id IN newest OR e.request_id IN sample) ORDER BY e.created_ms";
    size_t capacity = most_rows(r->job);
    int64_t rated = 0;
    sqlite3 *conn;
    sqlite3_stmt *s = NULL;
    bool row = true;
    RV_TRY(rv_db_reader(r->job->db, &conn));
    rv_err e = rv_db_int(conn, &rated, "SELECT count(*)" RATED, "if", (int64_t)0, RV_JUDGE_PRIOR);
    rv_db_reader_done(r->job->db, conn);
    RV_TRY(e);
    capacity = (uint64_t)rated < capacity ? (size_t)rated : capacity;
    for (r->n_slots = 64; r->n_slots < 2 * capacity; r->n_slots *= 2) {
    }
    r->room = (RV_ROUTER_TIERS + 1) * capacity; /* an answer, its draft, and what else was tried */
    r->at = rv_arena_take(r->arena, (r->room + 1) * sizeof *r->at);
    r->questions = rv_arena_take(r->arena, (capacity + 1) * sizeof *r->questions);
    r->slots = rv_arena_take(r->arena, r->n_slots * sizeof *r->slots);
    r->text = rv_arena_take(r->arena, sizeof *r->text);
    if (!r->at || !r->questions || !r->slots || !r->text) {
        return rv_fail(RV_E_NOMEM, "reading episodes");
    }
    uint32_t judge; /* first, or it might be one with the keys that come last */
    RV_TRY(rater_named(r, JUDGE, &judge));
    RV_TRY(rv_db_reader(r->job->db, &conn));
    e = rv_db_prepare(conn, &s, sql, "if", (int64_t)capacity, RV_JUDGE_PRIOR);
    while (!e && !(e = rv_db_step(s, &row)) && row) {
        e = rv_gate_go_on(r->job->gate);
        e = e ? e : read_row(r, s);
    }
    sqlite3_finalize(s);
    rv_db_reader_done(r->job->db, conn);
    return e;
}

/* ---- rows ---- */

static rv_err weigh_raters(round_of *r)
{
    rv_rating *at = rv_arena_take(r->arena, (r->n + 1) * sizeof *at);
    size_t n = 0;
    if (!at) {
        return rv_fail(RV_E_NOMEM, "learning to route");
    }
    for (size_t i = 0; i < r->n; i++) {
        if (r->at[i].shown && strcmp(r->raters[r->at[i].rater], JUDGE) != 0) {
            at[n++] = (rv_rating){ r->at[i].rater, r->at[i].draft.confidence, r->at[i].quality };
        }
    }
    RV_TRY(rv_raters_weigh(&rv_heap, at, n, r->n_raters, r->weights));
    for (size_t i = 0; i < r->n_raters; i++) {
        r->weights[i] = strcmp(r->raters[i], JUDGE) == 0 ? (float)RV_JUDGE_TRUST : r->weights[i];
    }
    return RV_OK;
}

/* The newest outcome of each tier, beside its question. */
static void gather(const round_of *r)
{
    for (size_t i = 0; i < r->n_questions; i++) {
        for (size_t t = 0; t < RV_ROUTER_TIERS; t++) {
            r->questions[i].quality[t] = r->questions[i].draft[t].confidence = NAN;
        }
    }
    for (size_t i = 0; i < r->n; i++) {
        const answered *a = &r->at[i];
        question *q = &r->questions[a->question];
        if (r->weights[a->rater] < LEAST_WEIGHT) {
            continue;
        }
        q->weight = r->weights[a->rater];
        q->quality[a->tier] = a->quality;
        q->draft[a->tier] = a->draft;
        q->second = a->second ? q->second | 1u << a->tier : q->second & ~(1u << a->tier);
    }
}

/* The mean of those that are known; 1: none is. */
static double usual_tokens(const round_of *r)
{
    double sum = 0, n = 0;
    for (size_t i = 0; i < r->n_questions; i++) {
        sum += r->questions[i].tokens;
        n += r->questions[i].tokens > 0;
    }
    return n > 0 ? sum / n : 1;
}

static bool is_row(const question *q)
{
    return !q->held && q->weight > 0;
}

static size_t row_bytes(const round_of *r, const question *q)
{
    const rv_routing_job *job = r->job;
    return rv_past_row_bytes(job->n_tiers, job->embed ? rv_embed_dim(job->embed) : 0, q->n_words);
}

static size_t room_for_rows(const round_of *r)
{
    size_t most = r->job->most_bytes ? r->job->most_bytes : RV_POLICY_MAX_BYTES;
    return most > RV_ROUTING_FIXED_BYTES ? most - RV_ROUTING_FIXED_BYTES : 0;
}

/* Of 2^32 questions so many have room in a version. By their hash: from one round to the next most of the sample stays. */
static uint64_t share_of_rows(const round_of *r)
{
    double all = 0;
    for (size_t i = 0; i < r->n_questions; i++) {
        all += is_row(&r->questions[i]) ? (double)row_bytes(r, &r->questions[i]) : 0;
    }
    double share = all > 0 ? (double)room_for_rows(r) / all : 1;
    return share < 1 ? (uint64_t)(share * 4294967296.0) : UINT64_C(1) << 32;
}

/* One row per question that is not held out. What is asked again of a larger tier is mostly long: every row costs by its own tokens, of which each tier
 * reads about as many. */
static rv_err make_rows(const round_of *r, rv_router_row **out, size_t *n)
{
    rv_router_row *at = rv_arena_take(r->arena, (r->n_questions + 1) * sizeof *at);
    size_t rows = 0, bytes = 0, room = room_for_rows(r);
    uint64_t share = share_of_rows(r);
    double usual = usual_tokens(r);
    if (!at) {
        return rv_fail(RV_E_NOMEM, "learning to route");
    }
    for (size_t i = 0; i < r->n_questions; i++) {
        const question *q = &r->questions[i];
        if (!is_row(q) || q->words >> 32 >= share || bytes + row_bytes(r, q) > room) {
            continue;
        }
        bytes += row_bytes(r, q);
        rv_router_row *row = &at[rows++];
        *row = (rv_router_row){ .text = q->text,
                                .n = q->n,
                                .vector = q->vector,
                                .second = q->second,
                                .weight = q->weight,
                                .distances = q->distances,
                                .kinds = q->kinds,
                                .n_hits = q->n_hits,
                                .cover = q->cover };
        float tokens = (float)(q->tokens > 0 ? q->tokens : usual);
        memcpy(row->quality, q->quality, sizeof row->quality);
        memcpy(row->draft, q->draft, sizeof row->draft);
        for (size_t t = 0; t < RV_ROUTER_TIERS; t++) {
            row->cost[t] = t < r->job->n_tiers ? r->job->costs[t] * tokens : (float)NAN;
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
    double loss_before, loss_after, loss_difference, loss_squares;
    size_t n_losses; /* outcomes */
} verdict;

/* Log loss of what a router foretold of an outcome, before the answer was there and with it; without a router, of the tier's usual share. */
static double loss_of(const rv_router *router, const rv_routed *routed, const question *q, size_t tier,
                      const float *usual)
{
    double sum = 0;
    const float chances[2] = { router ? routed->p_right[tier] : usual[tier],
                               router ? rv_router_chance(router, routed,
                                                         &(rv_given){ 1, { tier }, { q->draft[tier] } })
                                      : usual[tier] };
    for (size_t i = 0; i < RV_COUNT(chances); i++) {
        double p = fmin(0.99, fmax(0.01, (double)chances[i])), right = (double)q->quality[tier];
        sum -= right * log(p) + (1 - right) * log(1 - p);
    }
    return sum / RV_COUNT(chances);
}

/* Shares of right answers among the rows that are learned from. */
static void usual_shares(const round_of *r, float usual[RV_ROUTER_TIERS])
{
    for (size_t t = 0; t < r->job->n_tiers; t++) {
        float sum = 1, n = 2;
        for (size_t i = 0; i < r->n_questions; i++) {
            const question *q = &r->questions[i];
            bool counts = !q->held && q->quality[t] >= 0 && !(q->second >> t & 1);
            sum += counts ? q->quality[t] : 0;
            n += counts;
        }
        usual[t] = sum / n;
    }
}

/* What both foretold of all outcomes of q that are known, but for those of a larger tier that was asked for want of a sure answer. */
static void compare_losses(const rv_routing_job *job, const rv_router *fresh, const rv_routed *new_way,
                           const rv_routed *old_way, const question *q, const float *usual, verdict *out)
{
    for (size_t t = 0; t < job->n_tiers; t++) {
        if (!(q->quality[t] >= 0) || (q->second >> t & 1)) {
            continue;
        }
        double after = loss_of(fresh, new_way, q, t, usual), before = loss_of(job->now, old_way, q, t, usual);
        out->loss_after += after;
        out->loss_before += before;
        out->loss_difference += before - after;
        out->loss_squares += (before - after) * (before - after);
        out->n_losses++;
    }
}

/* What a router's way of answering q is worth: quality less price of cost, the larger tiers included that answer when a draft is not
 * sure. NaN: an outcome is not known. */
static double worth(const rv_routing_job *job, const rv_router *router, const rv_routed *routed,
                    const question *q, double price)
{
    rv_choice_how how = { .allowed = (uint32_t)((1u << job->n_tiers) - 1),
                          .usual = job->usual,
                          .threshold = job->threshold };
    size_t order[RV_ROUTER_ANSWERS] = { rv_router_choose(router ? routed : NULL, &how).tier }, n = 1;
    double cost = 0;
    if (router && job->cascade) {
        n = rv_router_follow(router, routed, order[0], q->draft, how.allowed, order);
    }
    for (size_t i = 0; i < n; i++) {
        cost += job->costs[order[i]];
    }
    return q->quality[order[n - 1]] - price * cost / job->costs[job->n_tiers - 1];
}

/* Both routers on the held-out questions that every tier was asked: those were drawn, so they are like all others. */
static rv_err compare(const round_of *r, const rv_router *fresh, double price, verdict *out)
{
    const rv_routing_job *job = r->job;
    size_t bytes = rv_router_scratch_bytes(fresh);
    if (job->now && rv_router_scratch_bytes(job->now) > bytes) {
        bytes = rv_router_scratch_bytes(job->now);
    }
    float usual[RV_ROUTER_TIERS];
    usual_shares(r, usual);
    void *scratch = rv_arena_take(r->arena, bytes);
    if (!scratch) {
        return rv_fail(RV_E_NOMEM, "learning to route");
    }
    for (size_t i = 0; i < r->n_questions; i++) {
        const question *q = &r->questions[i];
        bool all = q->tried;
        for (size_t t = 0; t < job->n_tiers; t++) {
            all = all && q->quality[t] >= 0;
        }
        if (!q->held || q->weight == 0) {
            continue;
        }
        rv_slot_input in = { .text = q->text,
                             .n = q->n,
                             .vector = q->vector,
                             .device = 2,
                             .distances = q->distances,
                             .kinds = q->kinds,
                             .n_hits = q->n_hits,
                             .cover = q->cover,
                             .k = q->n_hits };
        rv_routed new_way, old_way = { .tier = job->usual };
        rv_router_route(fresh, &in, 0, job->cascade, scratch, &new_way);
        if (job->now) {
            rv_router_route(job->now, &in, 0, job->cascade, scratch, &old_way);
        }
        compare_losses(job, fresh, &new_way, &old_way, q, usual, out);
        if (!all) {
            continue;
        }
        double after = worth(job, fresh, &new_way, q, price),
               before = worth(job, job->now, &old_way, q, price);
        out->after += after;
        out->before += before;
        out->difference += after - before;
        out->squares += (after - before) * (after - before);
        out->n++;
    }
    return RV_OK;
}

/* Standard error of the mean of n differences. */
static double error_of(double sum, double squares, double n)
{
    return sqrt(fmax(0, squares / n - (sum / n) * (sum / n)) / n);
}

/* What is decided differently is little, and its outcomes are chance: on a hundred questions their difference says hardly anything. What both
 * foretold of every held-out outcome says more, so a candidate that foretells better is used too, unless what it decides is clearly worse. */
static void judge(const verdict *v, rv_routing_done *done)
{
    double n = v->n > 0 ? (double)v->n : 1, mean = v->difference / n;
    double outcomes = v->n_losses > 0 ? (double)v->n_losses : 1, less = v->loss_difference / outcomes;
    double error = error_of(v->loss_difference, v->loss_squares, outcomes);
    done->held_out = v->n;
    done->before = v->before / n;
    done->after = v->after / n;
    done->error = error_of(v->difference, v->squares, n);
    done->loss_before = v->loss_before / outcomes;
    done->loss_after = v->loss_after / outcomes;
    bool decides_better = mean >= MARGIN && mean >= 0.5 * done->error;
    bool foretells_better = v->n_losses >= LEAST_OUTCOMES && less >= LOSS_MARGIN && less >= error;
    bool decides_worse = mean < -2 * done->error;
    done->accepted = v->n >= LEAST_HELD && (decides_better || (foretells_better && !decides_worse));
    snprintf(done->why, sizeof done->why,
             "%s: utility on %zu held-out questions that every tier answered %.4f, before %.4f (error of the "
             "difference %.4f); log loss of %zu held-out outcomes %.4f, before %.4f (%.4f)",
             done->accepted ? "used" : "refused", v->n, done->after, done->before, done->error, v->n_losses,
             done->loss_after, done->loss_before, v->n_losses > 0 ? error : 0);
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
             "{\"held_out\": %zu, \"before\": %.6f, \"after\": %.6f, \"error\": %.6f, \"loss_before\": %.6f, "
             "\"loss_after\": %.6f}",
             done->held_out, done->before, done->after, done->error, done->loss_before, done->loss_after);
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

/* Decisions turn out dearer than on the rows they were fitted on; by how much, the router in use has shown. */
static double share_to_aim_at(const round_of *r)
{
    const rv_routing_job *job = r->job;
    double made_for = job->now ? rv_router_share(job->now) : 0, spent = r->of > 0 ? r->spent / r->of : 0;
    if (r->n_spent < LEAST_SPENT || !(spent > 0) || !(made_for > 0)) {
        return job->cost_share;
    }
    return job->cost_share * fmin(SHARE_MOVES, fmax(1 / SHARE_MOVES, made_for / spent));
}

/* What is looked at here nobody else changes. */
static rv_err train(const round_of *r, const rv_router_row *rows, size_t n, rv_routing_done *done,
                    rv_router **out)
{
    const rv_routing_job *job = r->job;
    rv_router_trained trained;
    verdict v = { 0 };
    size_t dim = job->embed ? rv_embed_dim(job->embed) : 0;
    rv_router_set set = { rows,        n,   job->n_tiers,
                          job->tiers,  dim, job->embed ? rv_embed_name(job->embed) : "",
                          job->domains };
    rv_router_how how = rv_router_how_default();
    how.cost_share = share_to_aim_at(r);
    how.threshold = job->threshold;
    how.usual = job->usual;
    how.cascade = job->cascade;
    how.seed = (uint64_t)job->now_version + 1;
    RV_TRY(rv_router_train(&rv_heap, &set, &how, &trained, out));
    RV_TRY(compare(r, *out, trained.lambda, &v));
    judge(&v, done);
    return RV_OK;
}

static rv_err learn_round(round_of *r, rv_routing_done *done, rv_router **fresh)
{
    const rv_gate *gate = r->job->gate;
    rv_router_row *rows = NULL;
    size_t n = 0;
    rv_router *candidate = NULL;
    RV_TRY(read_episodes(r));
    RV_TRY(weigh_raters(r));
    gather(r);
    RV_TRY(make_rows(r, &rows, &n));
    done->episodes = r->rated;
    done->questions = r->n_questions;
    rv_gate_leave(gate);
    rv_err e = train(r, rows, n, done, &candidate), left = rv_gate_enter(gate);
    e = e ? e : left;
    e = e ? e : store(r, candidate, done);
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
    bool news = true;
    *done = (rv_routing_done){ 0 };
    *fresh = NULL;
    RV_TRY(rv_feedback_is_news(job->db, RV_ROUTING_POLICY, &news));
    if (!news) {
        return rv_fail(RV_E_ARG, "the router: " RV_NO_NEWS);
    }
    size_t row = ROW_BYTES + (job->embed ? rv_embed_dim(job->embed) * sizeof(float) : 0);
    RV_TRY(rv_arena_new(&rv_heap, ARENA_BYTES + most_rows(job) * row, &r.arena));
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
    RV_TRY(rv_db_reader(db, &conn));
    json_t *list = json_array();
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
