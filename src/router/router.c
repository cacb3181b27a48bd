/* From a question to a decision. */
#include "router/router_priv.h"

#include "base/file.h"
#include "kernels/kernels.h"

#include <math.h>
#include <string.h>

const char *const rv_router_part_names[RV_ROUTER_PARTS] = { "cell", "lexical", "words", "meaning", "cover" };

rv_router_how rv_router_how_default(void)
{
    return (rv_router_how){ .hidden = 64,
                            .rank = 8,
                            .sparsity = 0.9,
                            .int8 = true,
                            .cost_share = 0.45,
                            .usual = RV_ROUTER_TIERS,
                            .cascade = true,
                            .seed = 1 };
}

/* ---- the struct ---- */

rv_err router_new(const rv_alloc *mem, size_t tiers, size_t dim, rv_router **out)
{
    rv_router *r = rv_new(mem, sizeof *r);
    if (!r) {
        return rv_fail(RV_E_NOMEM, "router");
    }
    *r = (rv_router){ .mem = mem, .tiers = tiers, .dim = dim };
    r->space = rv_new_array(mem, router_space_size(dim) + 1, sizeof *r->space);
    r->rarity = rv_new_array(mem, RV_PAST_BUCKETS, sizeof *r->rarity);
    r->lexical = rv_new_array(mem, tiers * router_lexical_size(dim), sizeof *r->lexical);
    if (!r->space || !r->rarity || !r->lexical) {
        rv_router_free(r);
        return rv_fail(RV_E_NOMEM, "router");
    }
    *out = r;
    return RV_OK;
}

void rv_router_free(rv_router *r)
{
    if (!r) {
        return;
    }
    rv_grnn_free(r->cell);
    rv_past_free(r->past);
    rv_free(r->mem, r->space);
    rv_free(r->mem, r->rarity);
    rv_free(r->mem, r->lexical);
    rv_free(r->mem, r);
}

void router_point_axes(rv_router *r)
{
    const float *at = r->space;
    r->axes = (rv_slot_space){ .dim = r->dim };
    if (r->dim > 0) {
        r->axes.domains = at;
        r->axes.mean = at + RV_SLOT_DOMAINS * r->dim;
        r->axes.pcs = r->axes.mean + r->dim;
        r->axes.centroids = r->axes.pcs + RV_SLOT_PCS * r->dim;
        r->axes.spread = r->axes.centroids + RV_SLOT_CENTROIDS * r->dim;
    }
}

size_t rv_router_tiers(const rv_router *r)
{
    return r->tiers;
}
double rv_router_share(const rv_router *r)
{
    return (double)r->share;
}
const char *rv_router_tier_name(const rv_router *r, size_t tier)
{
    return r->names[tier];
}
const char *rv_router_embedder(const rv_router *r)
{
    return r->embedder;
}
size_t rv_router_dim(const rv_router *r)
{
    return r->dim;
}
const rv_past *rv_router_past(const rv_router *r)
{
    return r->past;
}
size_t rv_router_cell_params(const rv_router *r)
{
    return rv_grnn_n_params(r->cell);
}

/* ---- the parts ---- */

void router_scale_slots(const rv_router *r, const float *slots, float *out)
{
    for (int i = 0; i < RV_SLOTS; i++) {
        /* What never varied while it was learned says nothing now. */
        float x =
            r->slot_spread[i] > 1e-6f ? (slots[i] - r->slot_mean[i]) / fmaxf(r->slot_spread[i], 0.05f) : 0;
        out[i] = fminf(5, fmaxf(-5, x));
    }
}

void router_scale_surface(const rv_router *r, const float *surface, float *out)
{
    for (int i = 0; i < RV_SURFACE; i++) {
        float x = (surface[i] - r->surface_mean[i]) / fmaxf(r->surface_spread[i], 1e-3f);
        out[i] = fminf(5, fmaxf(-5, x));
    }
}

size_t router_weigh_grams(const rv_router *r, const rv_past_text *text, float *weight)
{
    double length = 0;
    for (size_t i = 0; i < text->n_grams; i++) {
        weight[i] = (1 + logf(text->count[i])) * r->rarity[text->gram[i]];
        length += (double)weight[i] * weight[i];
    }
    float scale = length > 0 ? (float)(1 / sqrt(length)) : 0;
    for (size_t i = 0; i < text->n_grams; i++) {
        weight[i] *= scale;
    }
    return text->n_grams;
}

/* Statistics move the sum as the vector's elements do: both blocks have about the same length. */
float router_lexical(const rv_router *r, const float *w, const router_lexical_row *row)
{
    const rv_kernels *k = rv_kernels_best();
    const float *vector = w + RV_SURFACE, *grams = vector + r->dim;
    float sum = grams[RV_PAST_BUCKETS] + k->dot_f32(w, row->surface, RV_SURFACE);
    if (row->vector) {
        sum += k->dot_f32(vector, row->vector, r->dim);
    }
    for (size_t i = 0; i < row->n; i++) {
        sum += grams[row->gram[i]] * row->weight[i];
    }
    return sum;
}

float router_vote_past(const rv_past *past, const rv_past_near *near, size_t n, size_t tier, float base)
{
    /* likeness^3: of all these rows the few that are really near should speak; four rows of likeness 0.5 weigh as much as base. */
    float sum = 0.5f * base, all = 0.5f;
    for (size_t i = 0; i < n; i++) {
        float q = rv_past_quality(past, near[i].row, tier), w = near[i].likeness;
        if (q >= 0 && w > 0) {
            sum += w * w * w * q;
            all += w * w * w;
        }
    }
    return router_log_odds(sum / all);
}

void router_spread_cover(const rv_router *r, const float *cover, double *out)
{
    out[2 * RV_COVER] = 1;
    for (int i = 0; i < RV_COVER; i++) {
        double x = (double)(cover[i] - r->cover_mean[i]) / fmax((double)r->cover_spread[i], 1e-3);
        out[i] = fmin(4, fmax(-4, x));
        out[RV_COVER + i] = out[i] * out[i];
    }
}

float router_vote_cover(const rv_router *r, const float *cover, size_t tier)
{
    double x[ROUTER_COVER], sum = 0;
    if (!cover) {
        return router_log_odds(r->base[tier]);
    }
    router_spread_cover(r, cover, x);
    for (int i = 0; i < ROUTER_COVER; i++) {
        sum += x[i] * (double)r->cover[tier][i];
    }
    return (float)fmin(8, fmax(-8, sum));
}

bool router_is_same(const rv_past_first *first, float *surely)
{
    *surely = first->any && first->likeness >= 0.97f ? 1 : 0;
    return *surely > 0 || (first->any && first->covered >= 0.93f && first->likeness >= 0.45f);
}

void router_fill_history(const rv_router *r, int cluster, rv_slot_input *in)
{
    for (size_t t = 0; cluster >= 0 && t < r->tiers && t < RV_SLOT_MODELS; t++) {
        float q = r->history.quality[cluster][t];
        in->history[t] = (rv_slot_history){ .quality = q,
                                            .success = q,
                                            .count = (uint32_t)fminf(r->history.count[cluster][t], 1e6f) };
    }
}

/* ---- the decision ---- */

static float logistic(float x)
{
    return 1 / (1 + expf(-x));
}

static void remember(const rv_router *r, const rv_past_first *first, rv_routed *out)
{
    float surely = 0;
    out->any_past = first->any;
    if (!out->any_past) {
        return;
    }
    out->nearest = first->row;
    out->likeness = first->likeness;
    out->seen = router_is_same(first, &surely);
    float trust = surely > 0 ? 0.95f : r->trust;
    for (size_t t = 0; out->seen && t < r->tiers; t++) {
        float q = rv_past_quality(r->past, out->nearest, t);
        if (q >= 0) {
            out->p_right[t] += trust * (q - out->p_right[t]);
        }
    }
}

/* The cheapest tier that was right when the same was asked; when none was, the cheapest of those that were not asked and cost
 * more than any that failed; when all failed, the cheapest. */
static size_t remembered_tier(const rv_router *r, const rv_routed *routed, uint32_t allowed)
{
    size_t best = r->tiers;
    float failed = -1;
    for (size_t t = 0; t < r->tiers; t++) {
        float q = rv_past_quality(r->past, routed->nearest, t);
        failed = q >= 0 && q < 0.5f ? fmaxf(failed, routed->cost[t]) : failed;
    }
    for (int round = 0; round < 3 && best == r->tiers; round++) {
        for (size_t t = 0; t < r->tiers; t++) {
            float q = rv_past_quality(r->past, routed->nearest, t);
            bool fits = round == 0 ? q >= 0.5f : round == 1 ? q < 0 && routed->cost[t] > failed : true;
            if ((allowed >> t & 1) && fits && (best == r->tiers || routed->cost[t] < routed->cost[best])) {
                best = t;
            }
        }
    }
    return best;
}

void router_chances(const rv_router *r, rv_routed *out)
{
    float own[RV_ROUTER_TIERS], together = 0;
    for (size_t t = 0; t < r->tiers; t++) {
        float sum = r->votes[t][RV_ROUTER_PARTS];
        for (int p = 0; p < RV_ROUTER_PARTS; p++) {
            sum += r->votes[t][p] * out->part[t][p];
        }
        own[t] = sum - r->level[t];
        together += own[t] / (float)r->tiers;
    }
    /* A hard question is hard for every tier: what they say together is less noise than what sets them apart. */
    for (size_t t = 0; t < r->tiers; t++) {
        out->p_right[t] = logistic(r->level[t] + together + r->pool * (own[t] - together));
    }
}

/* ---- what may follow an answer ---- */

/* When a tier's answer is surprising, so are those of others: a part of the surprise is carried over. */
float router_carried(const rv_router *r, const rv_routed *routed, size_t from, size_t tier, float surprise)
{
    const float *carry = r->carry[from];
    return carry[0] * router_log_odds(routed->p_right[tier]) + carry[1] * surprise + carry[2];
}

/* What moves [n] have to be moved by themselves so that they do not change the chance on average. */
static float centre_of(const float *moves, int n, float before)
{
    float centre = 0;
    for (int round = 0; round < 4; round++) {
        float miss = -logistic(before) * (float)n, slope = 1e-3f;
        for (int k = 0; k < n; k++) {
            float p = logistic(before + moves[k] + centre);
            miss += p;
            slope += p * (1 - p);
        }
        centre -= fminf(1, fmaxf(-1, miss / slope));
    }
    return centre;
}

static size_t best_behind(const rv_router *r, const rv_routed *routed, size_t n, size_t tier, float surprise,
                          uint32_t allowed, float *worth);

/* Of asking tier when n answers were given before and its own has these log odds until it is there: it is shown, or a larger tier's is when that is
 * worth more then. The mean over what it may say of itself. */
static float hope_for(const rv_router *r, const rv_routed *routed, size_t n, size_t tier, float before,
                      uint32_t allowed)
{
    if (!rv_router_checks(r, routed, n, tier, allowed)) {
        return logistic(before);
    }
    const float *moves = n > 0 ? r->again[tier] : r->surprises[tier];
    int n_moves = n > 0 ? ROUTER_AGAIN : ROUTER_SURPRISES;
    float centre = centre_of(moves, n_moves, before), level = router_log_odds(routed->p_right[tier]), sum = 0,
          behind;
    for (int k = 0; k < n_moves; k++) {
        float now = before + moves[k] + centre;
        (void)best_behind(r, routed, n + 1, tier, now - level, allowed, &behind);
        sum += fmaxf(logistic(now), behind);
    }
    return sum / (float)n_moves;
}

/* The best of the larger tiers after n answers, the last of them tier's with this surprise, and what it is worth to ask it; tiers: there is
 * none. */
static size_t best_behind(const rv_router *r, const rv_routed *routed, size_t n, size_t tier, float surprise,
                          uint32_t allowed, float *worth)
{
    size_t best = r->tiers;
    *worth = -INFINITY;
    for (size_t t = tier + 1; t < r->tiers; t++) {
        if (!(allowed >> t & 1)) {
            continue;
        }
        float then = router_carried(r, routed, tier, t, surprise);
        float utility = hope_for(r, routed, n, t, then, allowed) - r->lambda * routed->cost[t];
        if (utility > *worth) {
            best = t;
            *worth = utility;
        }
    }
    return best;
}

static float worth_of(const rv_router *r, const rv_routed *routed, size_t tier, uint32_t allowed,
                      bool cascade)
{
    float before = router_log_odds(routed->p_right[tier]);
    float hope = cascade ? hope_for(r, routed, 0, tier, before, allowed) : routed->p_right[tier];
    return hope - r->lambda * routed->cost[tier];
}

void router_judge(const rv_router *r, const rv_past_first *first, uint32_t allowed, bool cascade,
                  rv_routed *out)
{
    uint32_t all = (uint32_t)((1u << r->tiers) - 1);
    allowed = (allowed & all) ? allowed & all : all;
    router_chances(r, out);
    remember(r, first, out);
    float best = -INFINITY, second = -INFINITY;
    for (size_t t = 0; t < r->tiers; t++) {
        out->worth[t] = worth_of(r, out, t, allowed, cascade);
        if (!(allowed >> t & 1)) {
            continue;
        }
        if (out->worth[t] > best) {
            second = best;
            best = out->worth[t];
            out->tier = t;
        } else if (out->worth[t] > second) {
            second = out->worth[t];
        }
    }
    if (out->seen) {
        out->tier = remembered_tier(r, out, allowed);
    }
    float lead = second > -INFINITY ? best - second : 1;
    out->confidence = logistic(r->doubts[0] + r->doubts[1] * out->p_right[out->tier] + r->doubts[2] * lead +
                               r->doubts[3] * (float)out->seen);
}

rv_choice rv_router_choose(const rv_routed *routed, const rv_choice_how *how)
{
    bool sure = routed && (routed->seen || routed->confidence >= how->threshold);
    bool there = sure && (how->allowed >> routed->tier & 1);
    return there ? (rv_choice){ .tier = routed->tier } : (rv_choice){ .tier = how->usual, .fallback = true };
}

/* ---- an answer is there ---- */

rv_draft rv_draft_of(double confidence, const char *text, size_t n, const float *says)
{
    rv_draft d = { .confidence = (float)confidence, .says = { NAN } };
    rv_str rest = rv_str_of(text, n);
    for (size_t number; rv_cite_next(&rest, &number);) {
        d.cites++;
    }
    if (says) {
        memcpy(d.says, says, sizeof d.says);
    }
    d.answer = rv_answer_hash(rv_str_of(text, n));
    return d;
}

bool rv_draft_known(const rv_draft *draft)
{
    return draft->confidence > 0 && !isnan(draft->says[0]);
}

void router_draft_numbers(float before, rv_draft draft, float out[ROUTER_DRAFTS])
{
    const float *says = draft.says;
    float sure = router_log_odds(draft.confidence), none = draft.cites == 0;
    const float all[ROUTER_DRAFTS] = { before,         sure,           1,
                                       none,           none * sure,    draft.cites > 1,
                                       says[0],        says[1],        says[2],
                                       says[3],        says[4],        says[2] * says[2],
                                       none * says[2], none * says[3], none * says[4] };
    memcpy(out, all, sizeof all);
}

float router_surprise(const rv_router *r, const rv_routed *routed, size_t tier, rv_draft draft)
{
    float before = router_log_odds(routed->p_right[tier]), x[ROUTER_DRAFTS], z = 0;
    router_draft_numbers(before, draft, x);
    for (int k = 0; k < ROUTER_DRAFTS; k++) {
        z += r->drafts[tier][k] * x[k];
    }
    return z - before;
}

void router_agree_numbers(const rv_router *r, const rv_routed *routed, const rv_given *given,
                          float out[ROUTER_AGREES])
{
    size_t last = given->n - 1, other = last - 1;
    bool same = false;
    float own[RV_ROUTER_ANSWERS] = { 0 };
    for (size_t i = given->n; i-- > 0;) {
        size_t tier = given->tier[i];
        own[i] = router_log_odds(routed->p_right[tier]) + router_surprise(r, routed, tier, given->draft[i]);
        if (i < last && !same && given->draft[i].answer &&
            given->draft[i].answer == given->draft[last].answer) {
            same = true;
            other = i;
        }
    }
    const float all[ROUTER_AGREES] = { own[last], same ? own[other] : 0, same ? 0 : own[other], same, 1 };
    memcpy(out, all, sizeof all);
}

float router_after(const rv_router *r, const rv_routed *routed, const rv_given *given)
{
    float x[ROUTER_AGREES], z = 0;
    if (given->n == 1) {
        return router_log_odds(routed->p_right[given->tier[0]]) +
               router_surprise(r, routed, given->tier[0], given->draft[0]);
    }
    router_agree_numbers(r, routed, given, x);
    for (int k = 0; k < ROUTER_AGREES; k++) {
        z += r->agrees[k] * x[k];
    }
    return z;
}

bool rv_router_checks(const rv_router *r, const rv_routed *routed, size_t before, size_t tier,
                      uint32_t allowed)
{
    uint32_t larger = (uint32_t)((1u << r->tiers) - 1) & ~(uint32_t)((2u << tier) - 1);
    return before + 1 < RV_ROUTER_ANSWERS && !routed->seen && r->drafts[tier][1] != 0 && (allowed & larger);
}

float rv_router_chance(const rv_router *r, const rv_routed *routed, const rv_given *given)
{
    size_t last = given->n - 1, tier = given->tier[last];
    bool known = r->drafts[tier][1] != 0 && rv_draft_known(&given->draft[last]);
    return known ? logistic(router_after(r, routed, given)) : routed->p_right[tier];
}

bool rv_router_escalates(const rv_router *r, const rv_routed *routed, const rv_given *given, uint32_t allowed,
                         size_t *next)
{
    size_t last = given->n - 1, tier = given->tier[last];
    if (!rv_router_checks(r, routed, last, tier, allowed) || !rv_draft_known(&given->draft[last])) {
        return false;
    }
    float now = router_after(r, routed, given), behind;
    *next = best_behind(r, routed, given->n, tier, now - router_log_odds(routed->p_right[tier]), allowed,
                        &behind);
    return behind > logistic(now); /* what the answers so far cost is spent either way */
}

size_t rv_router_follow(const rv_router *r, const rv_routed *routed, size_t tier, const rv_draft *drafts,
                        uint32_t allowed, size_t order[RV_ROUTER_ANSWERS])
{
    rv_given given = { 0 };
    do {
        given.tier[given.n] = order[given.n] = tier;
        given.draft[given.n++] = drafts[tier];
    } while (rv_router_escalates(r, routed, &given, allowed, &tier));
    return given.n;
}

size_t rv_router_scratch_bytes(const rv_router *r)
{
    return sizeof(rv_past_text) + sizeof(rv_past_found) + RV_PAST_GRAMS * sizeof(float) +
           rv_past_scratch_bytes(r->past) + 64;
}

void rv_router_fast(const rv_router *r, const rv_slot_input *given, float *slots, float *log_odds)
{
    float x[RV_SLOTS], state[RV_GRNN_MAX_HIDDEN] = { 0 };
    rv_slot_input in = *given;
    int cluster;
    rv_slots_fill(&r->axes, &in, slots, &cluster);
    if (cluster >= 0 && in.history[0].count == 0) {
        router_fill_history(r, cluster, &in);
        rv_slots_history(in.history, slots);
    }
    router_scale_slots(r, slots, x);
    rv_grnn_step(r->cell, x, state);
    rv_grnn_head(r->cell, state, log_odds);
}

void rv_router_route(const rv_router *r, const rv_slot_input *in, uint32_t allowed, bool cascade,
                     void *scratch, rv_routed *out)
{
    rv_past_text *text = scratch;
    rv_past_found *found = (rv_past_found *)(void *)(text + 1);
    float *weight = (float *)(void *)(found + 1), surface[RV_SURFACE], log_odds[RV_ROUTER_TIERS];
    *out = (rv_routed){ .tiers = r->tiers };
    rv_router_fast(r, in, out->slots, log_odds);
    rv_surface(in->text, in->n, surface);
    rv_past_read(in->text, in->n, text);
    const float *vector = r->dim > 0 ? in->vector : NULL;
    router_lexical_row row = { .vector = vector, .gram = text->gram, .weight = weight };
    router_scale_surface(r, surface, row.surface);
    row.n = router_weigh_grams(r, text, weight);
    rv_past_find(r->past, text, vector, NULL, 0, weight + RV_PAST_GRAMS, found);
    for (size_t t = 0; t < r->tiers; t++) {
        float *part = out->part[t];
        part[0] = log_odds[t];
        part[1] = router_lexical(r, r->lexical + t * router_lexical_size(r->dim), &row);
        part[2] = router_vote_past(r->past, found->words, found->n_words, t, r->base[t]);
        part[3] = router_vote_past(r->past, found->meaning, found->n_meaning, t, r->base[t]);
        part[4] = router_vote_cover(r, in->cover, t);
        float cost = r->costs[t][RV_SURFACE];
        for (int i = 0; i < RV_SURFACE; i++) {
            cost += r->costs[t][i] * row.surface[i];
        }
        out->cost[t] = expf(fminf(cost, 10));
    }
    router_judge(r, &found->first, allowed, cascade, out);
}

void rv_router_why(const rv_router *r, const rv_routed *routed, size_t tier, rv_router_reason *out, size_t n)
{
    float x[RV_SLOTS], pull[RV_SLOTS], h0[RV_GRNN_MAX_HIDDEN] = { 0 };
    router_scale_slots(r, routed->slots, x);
    rv_grnn_pull(r->cell, x, h0, tier, pull);
    for (size_t i = 0; i < n; i++) {
        out[i] = (rv_router_reason){ 0 };
    }
    for (size_t s = 0; s < RV_SLOTS; s++) {
        rv_router_reason one = { s, pull[s] * x[s] };
        for (size_t i = 0; i < n; i++) {
            if (fabsf(one.effect) > fabsf(out[i].effect)) {
                rv_router_reason was = out[i];
                out[i] = one;
                one = was;
            }
        }
    }
}
