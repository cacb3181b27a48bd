/* From what the parts say of rows they had not seen to decisions: how the votes are weighed, what a tier costs, how far to believe what is
 * remembered and drafts, how sure a decision is, and last the price of cost that keeps what is done within the share asked for. */
#include "router/train_priv.h"

#include <stdlib.h>

enum { LEAST_DRAFTS = 50 };
#define LEAST_LAMBDA                                                                                         \
    0.05 /* what always taking the last tier costs in probability, however little is asked for */

/* routed has tiers; p_right as parts that had not seen row i foretell it. */
static void chances_of(const trainer *t, size_t i, rv_routed *routed)
{
    for (size_t m = 0; m < routed->tiers; m++) {
        memcpy(routed->part[m], router_part_of(t, i, m), sizeof routed->part[m]);
    }
    router_chances(t->r, routed);
}

/* ---- votes and prices ---- */

static bool vote_row(const fit_rows *f, size_t i, double *x, double *y)
{
    const float *part = router_part_of(f->t, i, f->tier);
    for (int p = 0; p < RV_ROUTER_PARTS; p++) {
        x[p] = part[p];
    }
    x[RV_ROUTER_PARTS] = 1;
    *y = f->t->set->rows[i].quality[f->tier];
    return router_known(&f->t->set->rows[i], f->tier);
}

static void fit_votes(trainer *t)
{
    for (size_t m = 0; m < t->set->tiers; m++) {
        fit_rows f = { t, m, ROUTER_VOTES, vote_row, FOLDS };
        for (int p = 0; p < RV_ROUTER_PARTS; p++) {
            t->r->votes[m][p] = 0.4f;
        }
        t->r->votes[m][RV_ROUTER_PARTS] = -0.6f * router_log_odds(t->r->base[m]);
        router_fit_logistic(&f, 5, t->r->votes[m]);
    }
}

static void find_level(trainer *t)
{
    for (size_t m = 0; m < t->set->tiers; m++) {
        double sum = 0;
        for (size_t i = 0; i < t->set->n; i++) {
            const float *part = router_part_of(t, i, m);
            sum += t->r->votes[m][RV_ROUTER_PARTS];
            for (int p = 0; p < RV_ROUTER_PARTS; p++) {
                sum += t->r->votes[m][p] * part[p];
            }
        }
        t->r->level[m] = (float)(sum / (double)t->set->n);
    }
}

/* Cost grows with what is asked and answered; its logarithm is about linear in the statistics of the text. */
static void fit_costs(trainer *t)
{
    double unit = 0, n_unit = 0;
    size_t last = t->set->tiers - 1;
    for (size_t i = 0; i < t->set->n; i++) {
        double c = t->set->rows[i].cost[last];
        unit += c > 0 ? c : 0;
        n_unit += c > 0;
    }
    unit = n_unit > 0 ? unit / n_unit : 1;
    for (size_t m = 0; m < t->set->tiers; m++) {
        double a[FIT_MAX][FIT_MAX] = { { 0 } }, b[FIT_MAX] = { 0 }, n = 0;
        for (size_t i = 0; i < t->set->n; i++) {
            double c = t->set->rows[i].cost[m], x[FIT_MAX];
            if (!(c > 0)) {
                continue;
            }
            for (int k = 0; k < RV_SURFACE; k++) {
                x[k] = t->surface[i * RV_SURFACE + (size_t)k];
            }
            x[RV_SURFACE] = 1;
            n += 1;
            for (int k = 0; k < ROUTER_COSTS; k++) {
                b[k] += x[k] * log(c / unit);
                for (int l = 0; l < ROUTER_COSTS; l++) {
                    a[k][l] += x[k] * x[l];
                }
            }
        }
        for (int k = 0; k < ROUTER_COSTS; k++) {
            a[k][k] += 1;
        }
        if (n > 0) {
            router_solve(a, b, ROUTER_COSTS);
        } else { /* nothing is known: each tier twice the one before */
            b[RV_SURFACE] = log(2) * ((double)m - (double)last);
        }
        double log_mean = 0, mean = 0;
        for (int k = 0; k < ROUTER_COSTS; k++) {
            t->r->costs[m][k] = (float)b[k];
        }
        for (size_t i = 0; i < t->set->n; i++) {
            double sum = b[RV_SURFACE], c = t->set->rows[i].cost[m];
            for (int k = 0; k < RV_SURFACE; k++) {
                sum += b[k] * t->surface[i * RV_SURFACE + (size_t)k];
            }
            t->cost[i * t->set->tiers + m] = (float)exp(fmin(sum, 10));
            log_mean += c > 0 ? exp(fmin(sum, 10)) : 0;
            mean += c > 0 ? c / unit : 0;
        }
        /* The mean of an exponential is more than the exponential of the mean. */
        float up = n > 0 && log_mean > 0 ? (float)(mean / log_mean) : 1;
        t->r->costs[m][RV_SURFACE] += logf(up);
        for (size_t i = 0; i < t->set->n; i++) {
            t->cost[i * t->set->tiers + m] *= up;
        }
    }
}

/* How far a remembered outcome is to be believed when words are missing: on rows not seen, such a neighbour is another request;
 * when the same was really said again it is certain. Halfway between. */
static void fit_trust(trainer *t)
{
    double above = 0, below = 0;
    for (size_t i = 0; i < t->set->n; i++) {
        rv_routed routed = { .tiers = t->set->tiers };
        float surely;
        if (!router_is_same(&t->found[i], &surely) || surely > 0) {
            continue;
        }
        chances_of(t, i, &routed);
        for (size_t m = 0; m < routed.tiers; m++) {
            double p = routed.p_right[m], q = rv_past_quality(t->r->past, t->found[i].row, m);
            if (q >= 0 && router_known(&t->set->rows[i], m)) {
                above += (q - p) * (t->set->rows[i].quality[m] - p);
                below += (q - p) * (q - p);
            }
        }
    }
    double w = below > 0 ? above / below : 0.5;
    t->r->trust = (float)(0.5 * (1 + fmin(1, fmax(0, w))));
}

/* Draft answers whose confidence and outcome are known: how much the confidence says. */
static bool draft_row(const fit_rows *f, size_t i, double *x, double *y)
{
    const rv_router_row *row = &f->t->set->rows[i];
    if (!router_known(row, f->tier) || !rv_draft_known(&row->draft[f->tier])) {
        return false;
    }
    rv_routed routed = { .tiers = f->t->set->tiers };
    chances_of(f->t, i, &routed);
    float numbers[ROUTER_DRAFTS];
    router_draft_numbers(router_log_odds(routed.p_right[f->tier]), row->draft[f->tier], numbers);
    for (int k = 0; k < ROUTER_DRAFTS; k++) {
        x[k] = numbers[k];
    }
    *y = row->quality[f->tier];
    return true;
}

static void fit_drafts(trainer *t)
{
    for (size_t m = 0; m < t->set->tiers; m++) {
        fit_rows f = { t, m, ROUTER_DRAFTS, draft_row, FOLDS };
        double x[ROUTER_DRAFTS], y;
        size_t n = 0;
        for (size_t i = 0; i < t->set->n; i++) {
            n += draft_row(&f, i, x, &y);
        }
        t->r->drafts[m][0] = 1;
        if (n >= LEAST_DRAFTS) {
            router_fit_logistic(&f, 1, t->r->drafts[m]);
        }
    }
}

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Ascending quantiles of all [n]. */
static void find_quantiles(float *all, size_t n, float *out, size_t n_out)
{
    qsort(all, n, sizeof *all, by_size);
    for (size_t k = 0; k < n_out && n > 0; k++) {
        out[k] = all[(2 * k + 1) * n / (2 * n_out)];
    }
}

/* The first draft of row i by a tier from `from` on that can be judged; tiers: none. */
static size_t draft_from(const trainer *t, size_t i, size_t from)
{
    while (from < t->set->tiers &&
           !(rv_draft_known(&t->set->rows[i].draft[from]) && t->r->drafts[from][1] != 0)) {
        from++;
    }
    return from;
}

/* What answers of each tier said of themselves that was not known before, as the first of a question and behind one that was not sure: so that
 * what may come can be weighed beforehand. */
static rv_err find_surprises(trainer *t)
{
    float *all = rv_new_array(t->r->mem, 2 * (t->set->n + 1), sizeof *all);
    if (!all) {
        return rv_fail(RV_E_NOMEM, "learning to route");
    }
    float *again = all + t->set->n + 1;
    for (size_t m = 0; m < t->set->tiers; m++) {
        size_t n = 0, n_again = 0;
        for (size_t i = 0; i < t->set->n && t->r->drafts[m][1] != 0; i++) {
            const rv_draft *drafts = t->set->rows[i].draft;
            rv_routed routed = { .tiers = t->set->tiers };
            if (!rv_draft_known(&drafts[m])) {
                continue;
            }
            chances_of(t, i, &routed);
            all[n++] = router_surprise(t->r, &routed, m, drafts[m]);
            size_t first = draft_from(t, i, 0); /* m at the latest */
            rv_given both = { 2, { first, m }, { drafts[first], drafts[m] } };
            float surprise = router_surprise(t->r, &routed, first, drafts[first]);
            if (first < m && surprise < 0) {
                again[n_again++] =
                    router_after(t->r, &routed, &both) - router_carried(t->r, &routed, first, m, surprise);
            }
        }
        find_quantiles(all, n, t->r->surprises[m], ROUTER_SURPRISES);
        find_quantiles(again, n_again, t->r->again[m], ROUTER_AGAIN);
    }
    rv_free(t->r->mem, all);
    return RV_OK;
}

/* A draft of the tier that can be judged, and what became of a larger one on the same question. */
static bool carry_row(const fit_rows *f, size_t i, double *x, double *y)
{
    const rv_router_row *row = &f->t->set->rows[i];
    size_t tiers = f->t->set->tiers, known[RV_ROUTER_TIERS], n = 0;
    rv_routed routed = { .tiers = tiers };
    for (size_t m = f->tier + 1; m < tiers; m++) {
        if (row->quality[m] >= 0) {
            known[n++] = m;
        }
    }
    if (n == 0 || draft_from(f->t, i, f->tier) != f->tier) {
        return false;
    }
    size_t other = known[i % n]; /* each in its turn */
    chances_of(f->t, i, &routed);
    x[0] = router_log_odds(routed.p_right[other]);
    x[1] = router_surprise(f->t->r, &routed, f->tier, row->draft[f->tier]);
    x[2] = 1;
    *y = row->quality[other];
    return true;
}

static void fit_carry(trainer *t)
{
    /* Of three tiers on 3,000 questions a slope of 0.27 of the draft's own: where little is known it begins there. */
    for (size_t m = 0; m < t->set->tiers; m++) {
        t->r->carry[m][0] = 1;
        t->r->carry[m][1] = 0.3f;
        router_fit_logistic(&(fit_rows){ t, m, ROUTER_CARRY, carry_row, FOLDS }, 10, t->r->carry[m]);
    }
}

/* Two answers that can be judged, and what the larger tier's was worth. */
static bool agree_row(const fit_rows *f, size_t i, double *x, double *y)
{
    const rv_router_row *row = &f->t->set->rows[i];
    size_t first = draft_from(f->t, i, 0), second = draft_from(f->t, i, first + 1);
    rv_routed routed = { .tiers = f->t->set->tiers };
    if (second >= f->t->set->tiers || !(row->quality[second] >= 0)) {
        return false;
    }
    chances_of(f->t, i, &routed);
    float numbers[ROUTER_AGREES];
    router_agree_numbers(f->t->r, &routed,
                         &(rv_given){ 2, { first, second }, { row->draft[first], row->draft[second] } },
                         numbers);
    for (int k = 0; k < ROUTER_AGREES; k++) {
        x[k] = numbers[k];
    }
    *y = row->quality[second];
    return true;
}

static void fit_agrees(trainer *t)
{
    static const float first[ROUTER_AGREES] = { 0.8f, 0.4f, 0.1f, 0.7f, -0.2f }; /* where little is known */
    memcpy(t->r->agrees, first, sizeof first);
    router_fit_logistic(&(fit_rows){ t, 0, ROUTER_AGREES, agree_row, FOLDS }, 10, t->r->agrees);
}

/* What a decision is on a row that was not seen. */
static void decide(const trainer *t, size_t i, rv_routed *out)
{
    *out = (rv_routed){ .tiers = t->set->tiers };
    for (size_t m = 0; m < t->set->tiers; m++) {
        memcpy(out->part[m], router_part_of(t, i, m), sizeof out->part[m]);
        out->cost[m] = t->cost[i * t->set->tiers + m];
    }
    router_judge(t->r, &t->found[i], 0, t->how->cascade, out);
}

/* Cost of a tier on a row: what it was, else what is expected. */
static double true_cost(const trainer *t, size_t i, size_t m)
{
    double c = t->set->rows[i].cost[m];
    return c >= 0 ? c : t->cost[i * t->set->tiers + m];
}

static bool all_known(const trainer *t, size_t i)
{
    for (size_t m = 0; m < t->set->tiers; m++) {
        if (!router_known(&t->set->rows[i], m)) {
            return false;
        }
    }
    return true;
}

/* The answers that a decision for tier leads to, as far as they are known. */
static size_t follow(const trainer *t, size_t i, const rv_routed *routed, size_t tier,
                     size_t order[RV_ROUTER_ANSWERS])
{
    order[0] = tier;
    return t->how->cascade ? rv_router_follow(t->r, routed, tier, t->set->rows[i].draft, UINT32_MAX, order)
                           : 1;
}

/* Of the n-th answers by a tier that were checked: how many there are of which is known what they say of themselves and of which it is not, and what the
 * former led on to cost. */
typedef struct checked {
    double known, unknown, behind;
} checked;

/* Cost of all answers order [n] on row i, and into seen [RV_ROUTER_ANSWERS][tiers] what was known of them. */
static double cost_of_order(const trainer *t, size_t i, const rv_routed *routed, const size_t *order,
                            size_t n, checked seen[RV_ROUTER_ANSWERS][RV_ROUTER_TIERS])
{
    double cost = 0;
    for (size_t k = n; k-- > 0;) {
        size_t tier = order[k];
        if (t->how->cascade && rv_router_checks(t->r, routed, k, tier, UINT32_MAX)) {
            bool known = rv_draft_known(&t->set->rows[i].draft[tier]);
            seen[k][tier].known += known;
            seen[k][tier].unknown += !known;
            seen[k][tier].behind += cost;
        }
        cost += true_cost(t, i, tier);
    }
    return cost;
}

/* How much of a tier's chance is left when another one was wrong: of rows where both are known, drawn to what was measured. */
static void find_together(trainer *t)
{
    double right = 3, chance = 10;
    for (size_t i = 0; i < t->set->n; i++) {
        const float *q = t->set->rows[i].quality;
        for (size_t m = 0; m < t->set->tiers; m++) {
            for (size_t o = 0; o < t->set->tiers; o++) {
                bool both = o != m && q[m] >= 0 && q[m] < 0.5f && q[o] >= 0;
                right += both ? q[o] : 0;
                chance += both ? t->r->base[o] : 0;
            }
        }
    }
    t->together = fmin(1, right / chance);
}

/* Whether the usual tier (without one: any other) would have answered better than what the decision ends with: 1 or 0 where outcomes are known; where only
 * its own is, how likely that is. What it would have cost is no part of this. */
static double none_better(const trainer *t, size_t i, const rv_routed *routed)
{
    const rv_router_row *row = &t->set->rows[i];
    size_t order[RV_ROUTER_ANSWERS], shown = order[follow(t, i, routed, routed->tier, order) - 1];
    if (!router_known(row, shown)) {
        return NAN;
    }
    bool usual = t->how->usual < t->set->tiers;
    double none = 1, own = row->quality[shown];
    for (size_t m = 0; m < t->set->tiers; m++) {
        double better = row->quality[m] >= 0 ? row->quality[m] > own + 0.05
                                             : (own < 0.5) * t->together * routed->p_right[m];
        none *= m == shown || (usual && m != t->how->usual) ? 1 : 1 - better;
    }
    return none;
}

static void note_doubt(trainer *t, size_t i, const rv_routed *routed)
{
    double *at = t->doubt + i * (ROUTER_DOUBTS + 1), best = -1e9, second = -1e9;
    for (size_t m = 0; m < t->set->tiers; m++) {
        double hoped = (double)routed->worth[m];
        if (hoped > best) {
            second = best;
            best = hoped;
        } else if (hoped > second) {
            second = hoped;
        }
    }
    at[0] = 1;
    at[1] = routed->p_right[routed->tier];
    at[2] = second > -1e9 ? best - second : 1;
    at[3] = routed->seen;
    at[ROUTER_DOUBTS] = none_better(t, i, routed);
}

static bool doubt_row(const fit_rows *f, size_t i, double *x, double *y)
{
    const double *at = f->t->doubt + i * (ROUTER_DOUBTS + 1);
    memcpy(x, at, ROUTER_DOUBTS * sizeof *x);
    *y = at[ROUTER_DOUBTS];
    return !isnan(*y);
}

static void fit_doubts(trainer *t)
{
    rv_routed routed;
    for (size_t i = 0; i < t->set->n; i++) {
        decide(t, i, &routed);
        note_doubt(t, i, &routed);
    }
    memset(t->r->doubts, 0, sizeof t->r->doubts);
    router_fit_logistic(&(fit_rows){ t, 0, ROUTER_DOUBTS, doubt_row, FOLDS }, 1, t->r->doubts);
}

/* What decisions at this price cost on all rows, with the usual tier where they are not sure enough, and drafts; quality where it is known
 * of every tier, else as expected. */
static void try_lambda(trainer *t, float lambda, double *quality, double *share)
{
    double q = 0, cost = 0, big = 0, n = (double)t->set->n;
    checked seen[RV_ROUTER_ANSWERS][RV_ROUTER_TIERS] = { { { 0 } } };
    rv_choice_how how = { .allowed = UINT32_MAX, .usual = t->how->usual, .threshold = t->how->threshold };
    t->r->lambda = lambda;
    fit_doubts(t);
    for (size_t i = 0; i < t->set->n; i++) {
        rv_routed routed;
        decide(t, i, &routed);
        size_t tier = rv_router_choose(&routed, &how).tier;
        size_t order[RV_ROUTER_ANSWERS], n_order = follow(t, i, &routed, tier, order),
                                         shown = order[n_order - 1];
        q += all_known(t, i) ? t->set->rows[i].quality[shown] : routed.p_right[tier];
        cost += cost_of_order(t, i, &routed, order, n_order, seen);
        big += true_cost(t, i, t->set->tiers - 1);
    }
    for (size_t k = 0; k < RV_ROUTER_ANSWERS; k++) {
        for (size_t m = 0; m < t->set->tiers; m++) { /* the others lead on as often */
            const checked *c = &seen[k][m];
            cost += c->known > 0 ? c->unknown * c->behind / c->known : 0;
        }
    }
    *quality = q / n;
    *share = big > 0 ? cost / big : 1;
}

/* How much of what sets the tiers apart is believed: whatever foretells best how much better one was than another, where both are
 * known. */
static void fit_pool(trainer *t)
{
    static const float tries[] = { 0, 0.25f, 0.5f, 0.75f, 1 };
    size_t tiers = t->set->tiers;
    double least = INFINITY;
    float kept = 0;
    for (size_t k = 0; k < RV_COUNT(tries); k++) {
        double missed = 0;
        t->r->pool = tries[k];
        for (size_t i = 0; i < t->set->n; i++) {
            const rv_router_row *row = &t->set->rows[i];
            rv_routed routed = { .tiers = tiers };
            chances_of(t, i, &routed);
            for (size_t a = 0; a < tiers; a++) {
                for (size_t b = 0; b < a && router_known(row, a); b++) {
                    double d = row->quality[a] - row->quality[b] - (routed.p_right[a] - routed.p_right[b]);
                    missed += router_known(row, b) ? d * d : 0;
                }
            }
        }
        if (missed < least) {
            least = missed;
            kept = tries[k];
        }
    }
    t->r->pool = kept;
}

/* Cost of the cheapest tier alone: nothing can cost less. */
static double least_share(const trainer *t)
{
    double least = 0, big = 0;
    for (size_t i = 0; i < t->set->n; i++) {
        double cheapest = INFINITY;
        for (size_t m = 0; m < t->set->tiers; m++) {
            cheapest = fmin(cheapest, true_cost(t, i, m));
        }
        least += cheapest;
        big += true_cost(t, i, t->set->tiers - 1);
    }
    return big > 0 ? fmin(1, least / big) : 0;
}

/* The smallest price of cost that keeps what is done within the share asked for: halving, because cost falls as the price rises. Where it
 * does not (dear decisions may be less sure ones), the price that costs least of those tried. */
static void fit_lambda(trainer *t, rv_router_trained *trained)
{
    double least = least_share(t), goal = fmax(t->how->cost_share, least + 0.15 * (1 - least));
    double low = LEAST_LAMBDA, high = 4, best = low, quality, share, least_seen;
    try_lambda(t, (float)low, &quality, &least_seen);
    high = least_seen <= goal ? low : high;
    for (int round = 0; round < 14 && low < high; round++) {
        double middle = sqrt(low * high);
        try_lambda(t, (float)middle, &quality, &share);
        if (share > goal) {
            low = middle;
        } else {
            high = middle;
        }
        if (share <= goal || (least_seen > goal && share < least_seen)) {
            best = middle;
            least_seen = share;
        }
    }
    try_lambda(t, (float)best, &trained->quality, &trained->cost);
    trained->lambda = best;
    t->r->share = (float)t->how->cost_share;
}

static void report_losses(const trainer *t, rv_router_trained *out)
{
    double n[RV_ROUTER_TIERS] = { 0 };
    for (size_t i = 0; i < t->set->n; i++) {
        rv_routed routed = { .tiers = t->set->tiers };
        chances_of(t, i, &routed);
        for (size_t m = 0; m < routed.tiers; m++) {
            double q = t->set->rows[i].quality[m];
            if (!router_known(&t->set->rows[i], m)) {
                continue;
            }
            n[m] += 1;
            for (int p = 0; p <= RV_ROUTER_PARTS; p++) {
                double z = p < RV_ROUTER_PARTS ? routed.part[m][p] : router_log_odds(routed.p_right[m]);
                out->loss[m][p] += log1p(exp(-fabs(z))) + fmax(z, 0) - q * z;
            }
        }
    }
    for (size_t m = 0; m < t->set->tiers; m++) {
        for (int p = 0; p <= RV_ROUTER_PARTS; p++) {
            out->loss[m][p] /= n[m];
        }
    }
    out->pool = t->r->pool;
}

rv_err router_fit_decisions(trainer *t, rv_router_trained *trained)
{
    fit_votes(t);
    find_level(t);
    fit_costs(t);
    fit_pool(t);
    fit_trust(t);
    fit_drafts(t);
    fit_carry(t);
    fit_agrees(t);
    RV_TRY(find_surprises(t));
    find_together(t);
    fit_lambda(t, trained);
    report_losses(t, trained);
    return RV_OK;
}
