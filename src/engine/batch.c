#include "engine/batch_priv.h"
#include "base/clock.h"
#include "base/cond.h"
#include "engine/seats_priv.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum {
    SILENCE_MS = 70,  /* of an answer, at most, as far as its step's share of prompts decides it */
    FIRST_SHARE = 32, /* that share, as long as nothing has been measured */
    LEAST_SHARE = 16,
    QUANTUM = 512, /* tokens of a prompt before the next one comes first */
    MARK_EVERY = 256,
    GATHER_MAX_MS = 20, /* to wait for answers that are being sampled */
    TRIES = 3,          /* of a step of some size, before what was measured is believed */
    TRIES_MAX = 16,     /* the weight of all before beside the last one */
    TRIAL_STEPS = 128,  /* with drafts or without, before the ways are compared */
    TRIALS_FIRST = 4,   /* of each way, in turns */
    TRIALS_OTHER = 16,  /* of so many one goes a slower way */
    RETRY_EVERY = 512 /* steps one size is tried once again: what was found too dear may not be so any more */
};
#define GROWTH 0.5 /* of a step's time per token, before it is measured: small steps are tried first */

/* ---- making ---- */

/* Not zeroed, so that rows nobody asks for cost no memory. */
static float *new_untouched(const rv_alloc *mem, size_t rows, size_t cols)
{
    size_t bytes;
    if (!rv_mul_size(rows, cols * sizeof(float), &bytes)) {
        return NULL;
    }
    return mem->aligned(mem->self, 64, bytes + (bytes == 0) * 64);
}

rv_err rv_batch_new(const rv_alloc *mem, rv_lfm2 *model, rv_kv *kv, rv_batch_options how, rv_batch **out)
{
    rv_batch *b = rv_new(mem, sizeof *b);
    if (!b) {
        return rv_fail(RV_E_NOMEM, "no memory for a batch");
    }
    *b = (rv_batch){ .mem = mem, .model = model, .kv = kv, .how = how };
    pthread_mutex_init(&b->lock, NULL);
    rv_cond_init(&b->changed);
    rv_cond_init(&b->unsaved);
    size_t n = how.max_sequences;
    b->logits = new_untouched(mem, n * (1 + RV_DRAFTS_MAX), how.n_vocab);
    b->blocks = rv_new_array(mem, n * (1 + RV_DRAFTS_MAX) * rv_logits_blocks(how.n_vocab), sizeof *b->blocks);
    b->states = new_untouched(mem, n * RV_DRAFTS_MAX, how.state_bytes / sizeof(float));
    b->seats = rv_new_array(mem, n, sizeof *b->seats);
    b->segments = rv_new_array(mem, n, sizeof *b->segments);
    b->stepping = rv_new_array(mem, n, sizeof *b->stepping);
    rv_err e = b->logits && b->blocks && b->states && b->seats && b->segments && b->stepping
                   ? rv_seats_open(b)
                   : rv_fail(RV_E_NOMEM, "no memory for %zu rows of logits", n);
    if (e) {
        rv_batch_free(b);
        return e;
    }
    *out = b;
    return RV_OK;
}

void rv_batch_free(rv_batch *b)
{
    if (!b) {
        return;
    }
    rv_seats_close(b);
    rv_free(b->mem, b->stepping);
    rv_free(b->mem, b->segments);
    rv_free(b->mem, b->seats);
    rv_free(b->mem, b->states);
    rv_free(b->mem, b->blocks);
    rv_free(b->mem, b->logits);
    pthread_cond_destroy(&b->unsaved);
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->lock);
    rv_free(b->mem, b);
}

void rv_call_finish(rv_call *c, rv_err err)
{
    c->state = RV_CALL_OUT;
    c->late = false;
    c->err = err;
    c->fed = c->entry ? rv_call_tokens(c) : 0;
    if (err) {
        snprintf(c->text, sizeof c->text, "%s", rv_err_text());
    }
}

/* ---- one step ---- */

/* Where in tokens (past, past + n] of a prompt to leave a mark, counted from past; 0: nowhere. Where the next
 * prompt is likely to part from this one: where this one parted from those before, before its last token
 * (asking again), and now and then. */
static size_t place_mark(const rv_call *c, size_t past, size_t n)
{
    const size_t wanted[] = { c->parted, c->n_prompt - 1, (past + n) / MARK_EVERY * MARK_EVERY };
    for (size_t i = 0; i < RV_COUNT(wanted) && past < c->n_prompt && !c->measuring; i++) {
        if (wanted[i] > past && wanted[i] <= past + n) {
            return wanted[i] - past;
        }
    }
    return 0;
}

static float *seat_logits(const rv_batch *b, const rv_call *c)
{
    return b->logits + c->seat * (1 + RV_DRAFTS_MAX) * b->how.n_vocab;
}

static rv_logits_block *seat_blocks(const rv_batch *b, const rv_call *c)
{
    return b->blocks + c->seat * (1 + RV_DRAFTS_MAX) * rv_logits_blocks(b->how.n_vocab);
}

static float *seat_states(const rv_batch *b, const rv_call *c)
{
    return b->states + c->seat * RV_DRAFTS_MAX * (b->how.state_bytes / sizeof(float));
}

static void add_segment(rv_batch *b, size_t *n_segments, rv_call *c, size_t n)
{
    size_t past = rv_call_tokens(c), end = past + n, v = b->how.n_vocab;
    size_t from = c->measuring ? c->logits_from : c->goal - 1;
    from = from < past ? past : from > end ? end : from;
    size_t at = from == end ? 0 : c->measuring ? from - c->logits_from : c->goal - c->until;
    float *row = (c->measuring ? c->logits : seat_logits(b, c)) + at * v;
    rv_logits_block *blocks = c->measuring ? NULL : seat_blocks(b, c) + at * rv_logits_blocks(v);
    if (past >= c->until) { /* a draft by itself: what it is taken back to */
        memcpy(seat_states(b, c) + (past - c->until) * (b->how.state_bytes / sizeof(float)),
               rv_kv_state(c->entry->seq), b->how.state_bytes);
    }
    b->segments[*n_segments] = (rv_lfm2_segment){ .seq = c->entry->seq,
                                                  .ids = c->ids + past,
                                                  .n = n,
                                                  .logits_from = from - past,
                                                  .logits = from < end ? row : NULL,
                                                  .blocks = blocks,
                                                  .lora = c->lora,
                                                  .states = c->drafts ? seat_states(b, c) : NULL,
                                                  .mark_after = place_mark(c, past, n) };
    b->stepping[(*n_segments)++] = c;
    c->state = RV_CALL_STEPPING;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* One token to go, which may be a prompt's last. */
static bool answering(const rv_call *c)
{
    return c->goal - rv_call_tokens(c) == 1;
}

/* Among those ready the one whose turn it is: answers, prompts, or measurements. */
static rv_call *next_ready(const rv_batch *b, bool answers, bool measuring)
{
    rv_call *best = NULL;
    for (size_t i = 0; i < b->how.max_sequences; i++) {
        rv_call *c = b->seats[i];
        if (c && c->state == RV_CALL_READY && !rv_call_is_cancelled(c) && c->measuring == measuring &&
            (measuring || answering(c) == answers) && (!best || c->stamp < best->stamp)) {
            best = c;
        }
    }
    return best;
}

/* ---- drafts ---- */

/* A step of n answering tokens beside others: measured, or, until that was done a few times, from the nearest smaller one
 * that was. */
static double cost_of(const rv_batch *b, size_t n)
{
    size_t near = n < RV_COSTS ? n : RV_COSTS;
    while (near && b->cost_tries[near] < TRIES) {
        near--;
    }
    return (near ? b->cost[near] / (1 + GROWTH * (double)near) : 1) * (1 + GROWTH * (double)n);
}

/* How fast the machine is just now changes quickly, for steps of all sizes; how they compare does not. A step that was held up
 * says little: when the size is known, it counts as four times what it should have taken at most. */
static void learn_cost(rv_batch *b, size_t n, double ms)
{
    if (n > RV_COSTS) {
        return;
    }
    double old = b->cost_tries[n] ? b->cost[n] : cost_of(b, n);
    double unit = b->unit_ms > 0 ? b->unit_ms : ms / old;
    bool known = b->cost_tries[n] >= TRIES;
    double now = known && ms > 4 * old * unit ? 4 * old : ms / unit;
    b->unit_ms = known ? unit * (1 + (now / old - 1) / 8) : unit;
    b->cost_tries[n] += b->cost_tries[n] < TRIES_MAX;
    b->cost[n] = old + (now - old) / b->cost_tries[n];
    if (++b->costs_learned % RETRY_EVERY == 0) {
        int *tries = &b->cost_tries[b->costs_learned / RETRY_EVERY % (RV_COSTS + 1)];
        *tries = *tries < TRIES ? *tries : TRIES - 1;
    }
}

static void begin_trial(rv_batch *b, int way)
{
    b->way = way;
    b->trial_ms = 0;
    b->trial_steps = b->said = 0;
}

/* Whether drafts pay is seen in the end only by doing without: steps of several sizes in turns are each slower than alone, and
 * a model that guesses takes its time between them. So answers alone in their steps go TRIAL_STEPS each way at first, then the
 * fastest, and now and then another one. */
static void judge(rv_batch *b, double ms)
{
    b->trial_ms += ms;
    if (++b->trial_steps < TRIAL_STEPS) {
        return;
    }
    size_t ways = b->has_model ? RV_WAYS : RV_WAY_MODEL, best = 0;
    double *each = &b->token_each_ms[b->way], now = b->trial_ms / (double)(b->said ? b->said : 1);
    *each = *each > 0 ? *each + (now - *each) / 4 : now;
    b->trials++;
    for (size_t way = 1; way < ways; way++) {
        best = b->token_each_ms[way] < b->token_each_ms[best] ? way : best;
    }
    bool other = b->trials % TRIALS_OTHER == 0;
    size_t next = (best + 1 + b->trials / TRIALS_OTHER % (ways - 1)) % ways;
    begin_trial(b, (int)(b->trials < TRIALS_FIRST * ways ? b->trials % ways : other ? next : best));
}

/* The one answer whose steps are on trial has a model now, or has none any more. */
static void expect_model(rv_batch *b, bool has_model)
{
    if (has_model != b->has_model) {
        b->has_model = has_model;
        b->trials = has_model && !(b->token_each_ms[RV_WAY_MODEL] > 0) ? 0 : b->trials;
        if (has_model || b->way == RV_WAY_MODEL) {
            begin_trial(b, has_model ? RV_WAY_MODEL : RV_WAY_TEXT);
        }
    }
}

/* Answers that are ready for a step, without drafts so far. all: some take all drafts there are; has_model: some have a model to guess. */
static size_t count_answers(rv_batch *b, bool *all, bool *has_model)
{
    size_t n = 0;
    *all = *has_model = false;
    for (size_t i = 0; i < b->how.max_sequences; i++) {
        rv_call *c = b->seats[i];
        if (c && c->state == RV_CALL_READY) {
            c->drafts = 0;
            n += !c->measuring && answering(c);
            *all |= c->all_drafts || c->guessing;
            *has_model |= c->has_model;
        }
    }
    return n;
}

/* Whose next draft is the most likely to be right, and how likely; NULL: there is none. */
static rv_call *likeliest_draft(const rv_batch *b, double *hit)
{
    rv_call *best = NULL;
    *hit = 0;
    for (size_t i = 0; i < b->how.max_sequences; i++) {
        rv_call *c = b->seats[i];
        if (c && c->state == RV_CALL_READY && !c->measuring && answering(c) && c->drafts < c->n_drafts) {
            double p = c->all_drafts ? 2 : c->chances[c->drafts];
            if (p > *hit) {
                *hit = p;
                best = c;
            }
        }
    }
    return best;
}

/* Which of the answers' drafts this step takes in: one more at a time, the most likely first, up to where tokens per
 * time are most. */
static void choose_drafts(rv_batch *b, size_t room)
{
    bool all, has_model;
    rv_call *chosen[RV_DRAFTS_STEP];
    size_t n_answers = count_answers(b, &all, &has_model), n = 0, keep = 0;
    b->alone = n_answers == 1 && !all;
    if (b->alone) {
        expect_model(b, has_model);
    }
    room = room > n_answers && !(b->alone && b->way == RV_WAY_PLAIN)
               ? smaller(room - n_answers, RV_DRAFTS_STEP)
               : 0;
    double expected = (double)n_answers, best = n_answers ? expected / cost_of(b, n_answers) : 0, hit;
    for (rv_call *c; n < room && (c = likeliest_draft(b, &hit));) {
        chosen[n++] = c;
        c->drafts++;
        expected += hit;
        double rate = expected / cost_of(b, n_answers + n);
        if (rate > best || c->all_drafts) {
            best = rate;
            keep = n;
        }
    }
    while (n > keep) {
        chosen[--n]->drafts--;
    }
}

static size_t collect(rv_batch *b)
{
    size_t room = rv_lfm2_max_chunk(b->model), n_segments = 0;
    rv_call *c = next_ready(b, false, true);
    b->pure = b->alone = false;
    b->answers = 0;
    b->measured_last =
        c && (!b->measured_last || (!next_ready(b, true, false) && !next_ready(b, false, false)));
    if (b->measured_last) {
        size_t n = smaller(room, c->until - rv_call_tokens(c));
        add_segment(b, &n_segments, c, c->chunk ? smaller(n, c->chunk) : n);
        return n_segments;
    }
    choose_drafts(b, room);
    for (size_t n; room && (c = next_ready(b, true, false)); room -= n) {
        n = smaller(room, 1 + c->drafts);
        c->drafts = n - 1;
        add_segment(b, &n_segments, c, n);
    }
    size_t answers = n_segments;
    if (n_segments) { /* answers and prompts together come in whole tiles of the kernels */
        size_t share = b->token_ms > 0
                           ? (size_t)((SILENCE_MS - b->between_ms) / b->token_ms) / LEAST_SHARE * LEAST_SHARE
                           : FIRST_SHARE;
        room = smaller(room, share > n_segments + LEAST_SHARE ? share - n_segments : LEAST_SHARE);
    }
    while (room && (c = next_ready(b, false, false))) {
        size_t n = smaller(room, c->goal - rv_call_tokens(c));
        add_segment(b, &n_segments, c, n);
        room -= n;
    }
    b->pure = n_segments == answers;
    b->alone &= b->pure;
    b->answers = answers;
    return n_segments;
}

/* A prompt has had its time: all of its tenant go to the end of the line, in their order. */
static void go_behind(rv_batch *b, rv_call *c)
{
    c->quantum = 0;
    for (uint64_t until = b->stamps;;) {
        rv_call *first = NULL;
        for (size_t i = 0; i < b->how.max_sequences; i++) {
            rv_call *other = b->seats[i];
            if (other && rv_call_same_tenant(other, c) && other->stamp <= until &&
                (!first || other->stamp < first->stamp)) {
                first = other;
            }
        }
        if (!first) {
            return;
        }
        first->stamp = ++b->stamps;
    }
}

static void deliver(rv_batch *b, size_t n_segments, rv_err err, double ms)
{
    size_t tokens = 0;
    for (size_t i = 0; i < n_segments; i++) {
        rv_call *c = b->stepping[i];
        size_t n = b->segments[i].n;
        tokens += n;
        c->quantum += n;
        if (rv_call_tokens(c) >= c->goal) {
            c->stamp = ++b->stamps;
            c->quantum = 0;
        } else if (c->quantum >= QUANTUM) {
            go_behind(b, c);
        }
        c->state = RV_CALL_READY;
        if (err || rv_call_tokens(c) >= c->goal) {
            rv_call_finish(c, err);
        }
    }
    if (b->pure && !err && tokens) {
        learn_cost(b, tokens, ms);
        if (b->alone) {
            judge(b, ms + b->stepping[0]->guess_ms);
        }
    } else if (tokens >= LEAST_SHARE + n_segments) {
        double each = ms / (double)tokens, weight = each > b->token_ms ? 0.6 : 0.3; /* too long is worse */
        b->token_ms = b->token_ms > 0 ? (1 - weight) * b->token_ms + weight * each : each;
    }
    double gather = ms / 2 < 1 ? 1 : ms / 2 > GATHER_MAX_MS ? GATHER_MAX_MS : ms / 2;
    b->gather_until = rv_clock_ms() + gather;
}

/* By a waiting call, with the lock, which is let go while computing. */
static void step(rv_batch *b, const rv_call *leader)
{
    b->busy = true;
    pthread_mutex_unlock(&b->lock);
    bool ours = rv_turn_begin(b->how.turn, leader->cancel);
    pthread_mutex_lock(&b->lock);
    if (ours) {
        for (size_t i = 0; i < b->how.max_sequences; i++) { /* who is not back by now */
            if (b->seats[i] && b->seats[i]->state == RV_CALL_OUT) {
                b->seats[i]->late = true;
            }
        }
        b->step_began = rv_clock_ms();
        b->computing = true;
        rv_seats_let_in(b);
        size_t n = collect(b);
        pthread_mutex_unlock(&b->lock);
        double start = rv_clock_ms();
        if (b->step_end > 0) {
            double between = start - b->step_end;
            b->between_ms = 0.7 * b->between_ms + 0.3 * (between < SILENCE_MS / 2 ? between : SILENCE_MS / 2);
        }
        rv_err err = n ? rv_lfm2_run(b->model, b->segments, n) : RV_OK;
        rv_turn_end(b->how.turn);
        pthread_mutex_lock(&b->lock);
        deliver(b, n, err, rv_clock_ms() - start);
        b->step_end = b->answers ? rv_clock_ms() : 0;
    }
    b->busy = b->computing = false;
    pthread_cond_broadcast(&b->changed);
}

/* ---- calls ---- */

/* Whether there is something to step for, and nobody worth waiting for. */
static bool may_step(const rv_batch *b)
{
    bool any = rv_clock_ms() >= b->full_until && rv_seats_first(b), out = false;
    for (size_t i = 0; i < b->how.max_sequences; i++) {
        const rv_call *c = b->seats[i];
        any |= c && c->state == RV_CALL_READY && !rv_call_is_cancelled(c);
        out |= c && c->state == RV_CALL_OUT && !c->late;
    }
    return !b->busy && any && (!out || rv_clock_ms() >= b->gather_until);
}

/* look: somebody may raise a flag without telling. Nor does anybody tell when answers have been waited for long enough, which may
 * have come to pass since the caller looked: only what a step ends with is sure to be told. */
static void wait_changed(rv_batch *b, bool look)
{
    if (b->busy && !look) {
        pthread_cond_wait(&b->changed, &b->lock);
        return;
    }
    double left = b->gather_until - rv_clock_ms();
    rv_cond_wait_ms(&b->changed, &b->lock, !b->busy && left > 0 && left < RV_LOOK_MS ? left : RV_LOOK_MS);
}

/* Nobody of those who could be let in last time was this one. */
static bool is_refused(const rv_batch *b, const rv_call *c)
{
    return c->guessing && c->state == RV_CALL_WAITING &&
           (b->rounds != c->joined || !rv_seats_first(b) || rv_clock_ms() < b->full_until);
}

/* With the lock: wait until the sequence holds `goal` tokens. */
static void feed(rv_batch *b, rv_call *c, size_t goal)
{
    assert(goal <= c->most_tokens && c->most_tokens <= b->how.n_ctx);
    assert(c->state == RV_CALL_OUT && (!c->entry || rv_call_tokens(c) < goal));
    c->goal = goal;
    c->drafts = 0;
    c->err = RV_OK;
    c->late = false;
    c->state = c->entry ? RV_CALL_READY : RV_CALL_WAITING;
    if (!c->entry) {
        rv_seats_join(b, c);
    }
    while (c->state != RV_CALL_OUT) {
        if (c->state == RV_CALL_RESTORING) {
            rv_seats_restore(b, c);
        } else if (c->state != RV_CALL_STEPPING && (rv_call_is_cancelled(c) || is_refused(b, c))) {
            if (c->state == RV_CALL_WAITING) {
                rv_seats_leave(b, c);
                b->full_until = 0; /* the next one may need less */
            }
            c->cancelled = true;
            rv_call_finish(c, RV_OK);
            pthread_cond_broadcast(&b->changed);
        } else if (may_step(b)) {
            step(b, c);
        } else {
            wait_changed(b, c->cancel || c->state == RV_CALL_WAITING);
        }
    }
}

rv_err rv_batch_feed(rv_batch *b, rv_call *c, size_t until)
{
    pthread_mutex_lock(&b->lock);
    b->said += b->alone && c->entry && !c->measuring && !c->guessing ? until - c->until : 0;
    c->until = until;
    feed(b, c, until);
    pthread_mutex_unlock(&b->lock);
    return c->err ? rv_fail(c->err, "%s", c->text) : RV_OK;
}

rv_err rv_batch_draft(rv_batch *b, rv_call *c)
{
    assert(c->entry && c->fed >= c->until && c->fed - c->until < RV_DRAFTS_MAX);
    pthread_mutex_lock(&b->lock);
    feed(b, c, c->fed + 1);
    pthread_mutex_unlock(&b->lock);
    return c->err ? rv_fail(c->err, "%s", c->text) : RV_OK;
}

bool rv_batch_wants_model(rv_batch *b, const rv_call *c)
{
    pthread_mutex_lock(&b->lock);
    bool wanted = c->has_model && b->alone && b->way == RV_WAY_MODEL;
    pthread_mutex_unlock(&b->lock);
    return wanted;
}

double rv_batch_step_ms(rv_batch *b, size_t n)
{
    pthread_mutex_lock(&b->lock);
    double ms = b->unit_ms * cost_of(b, n);
    pthread_mutex_unlock(&b->lock);
    return ms;
}

void rv_batch_end(rv_batch *b, rv_call *c)
{
    if (!c->entry) {
        return;
    }
    pthread_mutex_lock(&b->lock);
    b->said += b->alone && !c->measuring && !c->guessing && c->fed > c->until ? c->fed - c->until : 0;
    c->entry->owner = NULL;
    c->entry->idle_since = rv_clock_ms();
    c->entry->used = ++b->stamps;
    c->entry->forget |= c->measuring;
    b->seats[c->seat] = NULL;
    rv_budget_end(b->how.budget);
    b->full_until = 0;
    pthread_cond_signal(&b->unsaved);
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
}

const float *rv_batch_logits(const rv_batch *b, const rv_call *c, size_t after)
{
    assert(after >= c->until && after <= c->fed);
    return seat_logits(b, c) + (after - c->until) * b->how.n_vocab;
}

const rv_logits_block *rv_batch_blocks(const rv_batch *b, const rv_call *c, size_t after)
{
    assert(after >= c->until && after <= c->fed);
    return seat_blocks(b, c) + (after - c->until) * rv_logits_blocks(b->how.n_vocab);
}

/* Under the lock, because others may look for their beginning in this sequence. */
void rv_batch_take_back(rv_batch *b, rv_call *c, size_t n)
{
    assert(n >= c->until && n < c->fed);
    pthread_mutex_lock(&b->lock);
    rv_kv_take_back(c->entry->seq, n,
                    seat_states(b, c) + (n - c->until) * (b->how.state_bytes / sizeof(float)));
    c->fed = n;
    pthread_mutex_unlock(&b->lock);
}

void rv_batch_forget(rv_batch *b)
{
    pthread_mutex_lock(&b->lock);
    for (size_t i = 0; i < b->n_entries; i++) {
        while (b->entries[i].saving) {
            wait_changed(b, false);
        }
        b->entries[i].forget = true; /* seen by whoever wants to save, and at the end of who has it */
        b->entries[i].tidy &= b->entries[i].owner != NULL;
    }
    if (!b->busy) { /* else after the step that is under way */
        rv_seats_tidy(b);
    }
    pthread_mutex_unlock(&b->lock);
}

rv_err rv_batch_check(rv_batch *b)
{
    pthread_mutex_lock(&b->lock);
    while (b->computing) {
        wait_changed(b, false);
    }
    rv_seats_tidy(b);
    size_t owned = 0, taken = 0;
    bool mutual = true;
    for (size_t i = 0; i < b->n_entries; i++) {
        const entry *e = &b->entries[i];
        owned += e->owner != NULL;
        mutual &= !e->owner || (e->owner->entry == e && b->seats[e->owner->seat] == e->owner);
    }
    for (size_t i = 0; i < b->how.max_sequences; i++) {
        taken += b->seats[i] != NULL;
    }
    rv_err err = owned == taken && mutual
                     ? rv_kv_check(b->kv)
                     : rv_fail(RV_E_CORRUPT, "batch: %zu sequences owned, %zu seats taken", owned, taken);
    pthread_mutex_unlock(&b->lock);
    return err;
}
