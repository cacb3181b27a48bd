#include "learn/bank.h"

#include "base/arena.h"
#include "base/json.h"
#include "base/rng.h"
#include "learn/episode.h"
#include "learn/judge.h"
#include "store/policy.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { NEWEST = 10000, LEAST_HELD = 20, HOLD_EVERY = 5, ARENA_BYTES = 1 << 20 };
static const double BETTER = 0.98;

struct rv_bank {
    const rv_alloc *mem;
    rv_db *db;
    const rv_embed *embed;
    pthread_rwlock_t lock;     /* guards what follows */
    rv_patterns *in_use;       /* sealed; NULL: none */
    int64_t version, until_ms; /* questions asked up to then have been clustered */
};

/* ---- the version in use ---- */

static rv_err take(void *self, const uint8_t *bytes, size_t n)
{
    rv_bank *b = self;
    rv_patterns *p = NULL;
    RV_TRY(rv_patterns_read(b->mem, bytes, n, &p));
    rv_err e = rv_patterns_dim(p) == rv_embed_dim(b->embed)
                   ? rv_patterns_seal(p)
                   : rv_fail(RV_E_FORMAT, "patterns: made for %zu dimensions, the embedder has %zu",
                             rv_patterns_dim(p), rv_embed_dim(b->embed));
    if (e) {
        rv_patterns_free(p);
        return e;
    }
    b->in_use = p;
    return RV_OK;
}

static rv_err read_until(rv_db *db, int64_t version, int64_t *out)
{
    sqlite3 *conn;
    *out = 0;
    RV_TRY(rv_db_reader(db, &conn));
    rv_err e = rv_db_int(
        conn, out,
        "SELECT coalesce(json_extract(data, '$.until_ms'), 0) FROM policy WHERE kind = ?1 AND version = ?2",
        "ti", RV_BANK_POLICY, version);
    rv_db_reader_done(db, conn);
    return e;
}

static rv_err load(rv_bank *b)
{
    RV_TRY(rv_policy_open(b->db, b->mem, RV_BANK_POLICY, take, b, &b->version));
    return read_until(b->db, b->version, &b->until_ms);
}

rv_err rv_bank_open(const rv_alloc *mem, rv_db *db, const rv_embed *embed, rv_bank **out)
{
    rv_bank *b = rv_new(mem, sizeof *b);
    if (!b) {
        return rv_fail(RV_E_NOMEM, "the reasoning bank");
    }
    *b = (rv_bank){ .mem = mem, .db = db, .embed = embed };
    pthread_rwlock_init(&b->lock, NULL);
    rv_err e = load(b);
    if (e) {
        rv_bank_close(b);
        return e;
    }
    *out = b;
    return RV_OK;
}

void rv_bank_close(rv_bank *b)
{
    if (b) {
        rv_patterns_free(b->in_use);
        pthread_rwlock_destroy(&b->lock);
        rv_free(b->mem, b);
    }
}

static void switch_to(rv_bank *b, rv_patterns *next, int64_t version, int64_t until_ms)
{
    pthread_rwlock_wrlock(&b->lock);
    rv_patterns *old = b->in_use;
    b->in_use = next;
    b->version = version;
    b->until_ms = until_ms;
    pthread_rwlock_unlock(&b->lock);
    rv_patterns_free(old);
}

rv_err rv_bank_reload(rv_bank *b)
{
    rv_bank fresh = { .mem = b->mem, .db = b->db, .embed = b->embed };
    rv_err e = load(&fresh);
    if (e) {
        rv_patterns_free(fresh.in_use);
        return e;
    }
    switch_to(b, fresh.in_use, fresh.version, fresh.until_ms);
    return RV_OK;
}

bool rv_bank_advise(rv_bank *b, const float *vector, const char *usual, char model[RV_PATTERN_NAME],
                    rv_pattern_advice *advice)
{
    bool found = false;
    pthread_rwlock_rdlock(&b->lock);
    if (b->in_use) {
        size_t now = rv_patterns_model(b->in_use, usual), at = rv_patterns_find(b->in_use, vector, NULL);
        *advice = rv_patterns_advise(b->in_use, at, now);
        found = advice->model < RV_PATTERN_MODELS;
        if (found) {
            snprintf(model, RV_PATTERN_NAME, "%s", rv_patterns_model_name(b->in_use, advice->model));
        }
    }
    pthread_rwlock_unlock(&b->lock);
    return found;
}

/* ---- a cycle ---- */

typedef struct answer {
    size_t vector; /* its question, in vectors */
    size_t model;
    double quality, weight;
    bool trusted, held;
} answer;

typedef struct cycle {
    rv_bank *b;
    const rv_gate *gate;
    rv_patterns *p;   /* the candidate */
    rv_patterns *now; /* a copy of those in use, NULL: none are */
    bool counted;     /* now has all answers */
    float *questions; /* [n_questions][dim] new ones */
    float *vectors;   /* [n][dim] questions of the answers */
    answer *answers;  /* [n] */
    size_t n, n_questions;
    int64_t until_ms;
} cycle;

/* Questions of episodes as vectors; each is clustered once. */
static rv_err read_questions(cycle *c, rv_bank_learned *out)
{
    static const char sql[] =
        "SELECT question, created_ms FROM (SELECT question, created_ms FROM episode WHERE created_ms > ?1"
        " ORDER BY created_ms DESC LIMIT ?2) ORDER BY created_ms";
    size_t dim = rv_embed_dim(c->b->embed);
    sqlite3 *conn;
    sqlite3_stmt *s = NULL;
    bool row = true;
    RV_TRY(rv_db_reader(c->b->db, &conn));
    rv_err e = rv_db_prepare(conn, &s, sql, "ii", c->b->until_ms, (int64_t)NEWEST);
    c->until_ms = c->b->until_ms;
    while (!e && !(e = rv_db_step(s, &row)) && row && c->n_questions < NEWEST) {
        float *v = c->questions + c->n_questions * dim;
        e = rv_gate_go_on(c->gate);
        e = e ? e
              : rv_embed_text(c->b->embed, (const char *)sqlite3_column_text(s, 0),
                              (size_t)sqlite3_column_bytes(s, 0), v);
        double length = 0;
        for (size_t i = 0; !e && i < dim; i++) {
            length += (double)v[i] * v[i];
        }
        c->n_questions += length > 0.5;
        c->until_ms = sqlite3_column_int64(s, 1);
    }
    sqlite3_finalize(s);
    rv_db_reader_done(c->b->db, conn);
    out->episodes = c->n_questions;
    return e;
}

/* Quality: a correction is 0, a rating r (r - 1) / 4, else what was judged. */
static rv_err read_answers(cycle *c, rv_bank_learned *out)
{
    static const char sql[] =
        "SELECT e.question, e.model, coalesce(r.rating, 0), k.request_id IS NOT NULL, coalesce(j.quality, "
        "0), coalesce(j.trust, 0)"
        " FROM episode e LEFT JOIN feedback r ON r.request_id = e.request_id AND r.kind = 'rating'"
        " LEFT JOIN feedback k ON k.request_id = e.request_id AND k.kind = 'correction'"
        " LEFT JOIN judged j ON j.request_id = e.request_id"
        " WHERE r.rating > 0 OR k.request_id IS NOT NULL OR j.trust > 0 ORDER BY e.created_ms DESC LIMIT ?1";
    size_t dim = rv_embed_dim(c->b->embed);
    sqlite3 *conn;
    sqlite3_stmt *s = NULL;
    bool row = true;
    RV_TRY(rv_db_reader(c->b->db, &conn));
    rv_err e = rv_db_prepare(conn, &s, sql, "i", (int64_t)NEWEST);
    while (!e && !(e = rv_db_step(s, &row)) && row && c->n < NEWEST) {
        const char *text = (const char *)sqlite3_column_text(s, 0),
                   *model = (const char *)sqlite3_column_text(s, 1);
        size_t bytes = (size_t)sqlite3_column_bytes(s, 0);
        int rating = sqlite3_column_int(s, 2);
        bool corrected = sqlite3_column_int(s, 3);
        answer a = { .vector = c->n, .model = rv_patterns_model(c->p, model), .weight = 1, .trusted = true };
        if (a.model == RV_PATTERN_MODELS) {
            continue; /* memory answered, or a model that is no more */
        }
        a.quality = corrected ? 0 : (double)(rating - 1) / 4;
        if (!corrected && rating == 0) {
            a.quality = sqlite3_column_double(s, 4);
            a.weight = sqlite3_column_double(s, 5);
            a.trusted = a.weight > RV_JUDGE_PRIOR;
        }
        a.held = a.trusted && rv_hash64(text, bytes, 5) % HOLD_EVERY == 0;
        e = rv_gate_go_on(c->gate);
        e = e ? e : rv_embed_text(c->b->embed, text, bytes, c->vectors + c->n * dim);
        c->answers[c->n++] = a;
        out->held += a.held;
    }
    sqlite3_finalize(s);
    rv_db_reader_done(c->b->db, conn);
    out->outcomes = c->n;
    return e;
}

static void observe(cycle *c, rv_patterns *p, bool with_held)
{
    size_t dim = rv_patterns_dim(p);
    rv_patterns_forget_outcomes(p);
    for (size_t i = 0; i < c->n; i++) {
        const answer *a = &c->answers[i];
        if (with_held || !a->held) {
            rv_patterns_observe(p, c->vectors + a->vector * dim, a->model, a->quality, a->weight, a->trusted);
        }
    }
}

/* Both count the same answers; what differs is the patterns. grouped false: none at all. */
static double error_on_held(const cycle *c, const rv_patterns *p, bool grouped)
{
    double sum = 0;
    size_t n = 0, dim = rv_patterns_dim(p);
    for (size_t i = 0; i < c->n; i++) {
        const answer *a = &c->answers[i];
        if (a->held) {
            size_t at = grouped ? rv_patterns_find(p, c->vectors + a->vector * dim, NULL) : SIZE_MAX;
            double miss = a->quality - rv_patterns_expect(p, at, a->model);
            sum += miss * miss;
            n++;
        }
    }
    return n ? sum / (double)n : 0;
}

/* Under the centres in use, with the answers that are known now. */
static rv_err error_of_now(cycle *c, double *out)
{
    if (!c->now) {
        *out = error_on_held(c, c->p, false);
        return RV_OK;
    }
    RV_TRY(rv_patterns_seal(c->now));
    observe(c, c->now, false);
    *out = error_on_held(c, c->now, true);
    return RV_OK;
}

static rv_err store(cycle *c, rv_bank_learned *out)
{
    size_t n = rv_patterns_bytes(c->p);
    uint8_t *bytes = rv_new(c->b->mem, n);
    char metrics[160], data[160];
    sqlite3 *conn;
    if (!bytes) {
        return rv_fail(RV_E_NOMEM, "keeping patterns");
    }
    rv_patterns_write(c->p, bytes);
    snprintf(metrics, sizeof metrics, "{\"error_before\":%.6f,\"error_after\":%.6f,\"held_back\":%zu}",
             out->before, out->after, out->held);
    snprintf(data, sizeof data, "{\"questions\":%zu,\"answers\":%zu,\"patterns\":%zu,\"until_ms\":%lld}",
             out->episodes, out->outcomes, out->patterns, (long long)c->until_ms);
    rv_policy_new policy = { .kind = RV_BANK_POLICY,
                             .parent = c->b->version,
                             .note = out->why,
                             .metrics = metrics,
                             .data = data,
                             .bytes = bytes,
                             .n = n,
                             .use = out->accepted };
    rv_err e = rv_db_begin(c->b->db, &conn);
    if (!e) {
        e = rv_policy_add(conn, &policy, &out->version);
        if (e) {
            rv_db_rollback(c->b->db);
        } else {
            e = rv_db_commit(c->b->db);
        }
    }
    rv_free(c->b->mem, bytes);
    return e;
}

/* The candidate is judged on the answers that are known now. better: the most that the error may be, of that before. */
static rv_err judge(cycle *c, double better, rv_bank_learned *out)
{
    RV_TRY(rv_patterns_seal(c->p));
    out->patterns = rv_patterns_count(c->p);
    observe(c, c->p, false);
    out->after = error_on_held(c, c->p, true);
    RV_TRY(error_of_now(c, &out->before));
    observe(c, c->p, true);
    if (c->now) {
        observe(c, c->now, true);
        c->counted = true;
    }
    out->accepted = out->held >= LEAST_HELD && out->after <= better * out->before;
    if (out->held < LEAST_HELD) {
        snprintf(out->why, sizeof out->why, "nothing yet: %zu rated answers to measure on, %d are needed",
                 out->held, LEAST_HELD);
        return RV_OK;
    }
    snprintf(out->why, sizeof out->why,
             "%s: error of the expected quality %.4f on %zu held-out answers, %.4f before",
             out->accepted ? "used" : "refused", out->after, out->held, out->before);
    return RV_OK;
}

/* Kept as a version, when there was enough to judge it on. */
static rv_err keep(cycle *c, rv_bank_learned *out)
{
    return out->held >= LEAST_HELD ? store(c, out) : RV_OK;
}

static rv_err begin(cycle *c)
{
    const rv_alloc *mem = c->b->mem;
    size_t dim = rv_embed_dim(c->b->embed);
    c->questions = rv_new_array(mem, NEWEST * dim, sizeof *c->questions);
    c->vectors = rv_new_array(mem, NEWEST * dim, sizeof *c->vectors);
    c->answers = rv_new_array(mem, NEWEST, sizeof *c->answers);
    if (!c->questions || !c->vectors || !c->answers) {
        return rv_fail(RV_E_NOMEM, "learning patterns");
    }
    return c->b->in_use ? rv_patterns_copy(c->b->in_use, &c->now) : RV_OK;
}

static rv_err end(cycle *c, rv_err e, const rv_bank_learned *done)
{
    if (!e && done->accepted) {
        switch_to(c->b, c->p, done->version, c->until_ms);
        c->p = NULL;
    } else if (!e && c->counted) { /* the patterns stay; what is known of them is what is known now */
        switch_to(c->b, c->now, c->b->version, c->b->until_ms);
        c->now = NULL;
    }
    rv_patterns_free(c->p);
    rv_patterns_free(c->now);
    rv_free(c->b->mem, c->questions);
    rv_free(c->b->mem, c->vectors);
    rv_free(c->b->mem, c->answers);
    return e;
}

static rv_err learn(cycle *c, const char *const *models, size_t n_models, uint64_t seed, rv_bank_learned *out)
{
    rv_bank *b = c->b;
    RV_TRY(begin(c));
    RV_TRY(c->now ? rv_patterns_copy(c->now, &c->p)
                  : rv_patterns_new(b->mem, rv_embed_dim(b->embed), models, n_models, &c->p));
    RV_TRY(rv_patterns_name_models(c->p, models, n_models));
    RV_TRY(c->now ? rv_patterns_name_models(c->now, models, n_models) : RV_OK);
    RV_TRY(read_questions(c, out));
    RV_TRY(read_answers(c, out));
    rv_gate_leave(c->gate);
    rv_err e = rv_patterns_learn(c->p, c->questions, c->n_questions, seed, &out->grown), left;
    e = e ? e : judge(c, BETTER, out);
    left = rv_gate_enter(c->gate);
    e = e ? e : left;
    return e ? e : keep(c, out);
}

rv_err rv_bank_learn(rv_bank *b, const char *const *models, size_t n_models, uint64_t seed,
                     const rv_gate *gate, rv_bank_learned *out)
{
    cycle c = { .b = b, .gate = gate };
    const char *known[RV_PATTERN_MODELS];
    size_t n_known = 0;
    bool news = true;
    for (size_t m = 0; m < n_models && n_known < RV_PATTERN_MODELS; m++) {
        known[n_known] = models[m];
        n_known += strlen(models[m]) < RV_PATTERN_NAME;
    }
    *out = (rv_bank_learned){ 0 };
    RV_TRY(rv_feedback_is_news(b->db, RV_BANK_POLICY, &news));
    if (!news) {
        snprintf(out->why, sizeof out->why, "nothing to do: " RV_NO_NEWS);
        return RV_OK;
    }
    return end(&c, learn(&c, known, n_known, seed, out), out);
}

static rv_err prune(cycle *c, rv_patterns_pruned *pruned, rv_bank_learned *out)
{
    RV_TRY(begin(c));
    RV_TRY(rv_patterns_copy(c->now, &c->p));
    c->until_ms = c->b->until_ms;
    RV_TRY(rv_patterns_seal(c->p));
    *pruned = rv_patterns_prune(c->p);
    if (pruned->merged + pruned->dropped == 0) {
        return RV_OK;
    }
    RV_TRY(read_answers(c, out));
    RV_TRY(judge(c, 1, out));
    return keep(c, out);
}

rv_err rv_bank_prune(rv_bank *b, rv_patterns_pruned *pruned, rv_bank_learned *out)
{
    cycle c = { .b = b };
    *out = (rv_bank_learned){ 0 };
    *pruned = (rv_patterns_pruned){ 0 };
    return b->in_use ? end(&c, prune(&c, pruned, out), out) : RV_OK;
}
