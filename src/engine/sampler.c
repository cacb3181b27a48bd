#include "engine/sampler_priv.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define NEVER 0x1p-60f /* times the largest weight */

struct rv_sampler {
    const rv_alloc *mem;
    const rv_kernels *kernels;
    size_t n_vocab;
    uint32_t *count;         /* [n_vocab] zero between calls */
    int32_t *ids;            /* [n_vocab] of what is in work */
    float *work, *some;      /* [n_vocab] */
    float *changed;          /* [n_vocab] logits with penalties and bias, of the blocks that have any; */
    rv_logits_block *blocks; /* [rv_logits_blocks(n_vocab)] their maxima and those of the other ones */
    bool *is_changed;        /* [rv_logits_blocks(n_vocab)] */
};

rv_sampling rv_sampling_default(void)
{
    return (rv_sampling){
        .temperature = 0.3f, .top_p = 1, .min_p = 0.15f, .repeat_penalty = 1.05f, .repeat_last = 64
    };
}

static rv_err in_range(const char *name, float x, float low, float high)
{
    return x >= low && x <= high
               ? RV_OK
               : rv_fail(RV_E_ARG, "%s is %g, expected %g to %g", name, (double)x, (double)low, (double)high);
}

rv_err rv_sampling_check(const rv_sampling *how, size_t n_vocab)
{
    RV_TRY(in_range("temperature", how->temperature, 0, 100));
    RV_TRY(in_range("top_p", how->top_p, 0, 1));
    RV_TRY(in_range("min_p", how->min_p, 0, 1));
    RV_TRY(in_range("repeat_penalty", how->repeat_penalty, 0.01f, 100));
    RV_TRY(in_range("presence_penalty", how->presence_penalty, -100, 100));
    RV_TRY(in_range("frequency_penalty", how->frequency_penalty, -100, 100));
    if (how->top_k < 0) {
        return rv_fail(RV_E_ARG, "top_k is %d, expected 0 (off) or more", how->top_k);
    }
    if (how->repeat_last < 0) {
        return rv_fail(RV_E_ARG, "repeat_last is %d, expected 0 (off) or more", how->repeat_last);
    }
    for (size_t i = 0; i < how->n_bias; i++) {
        if (how->bias[i].id < 0 || (size_t)how->bias[i].id >= n_vocab) {
            return rv_fail(RV_E_ARG, "logit_bias: token %d, expected 0 to %zu", how->bias[i].id, n_vocab - 1);
        }
        RV_TRY(in_range("bias", how->bias[i].bias, -1e6f, 1e6f));
    }
    return RV_OK;
}

rv_err rv_sampler_new(const rv_alloc *mem, const rv_kernels *k, size_t n_vocab, rv_sampler **out)
{
    rv_sampler *s = rv_new(mem, sizeof *s);
    if (!s) {
        return rv_fail(RV_E_NOMEM, "sampler: no memory");
    }
    *s = (rv_sampler){ .mem = mem, .kernels = k, .n_vocab = n_vocab };
    s->ids = rv_new_array(mem, n_vocab, sizeof *s->ids);
    s->some = rv_new_array(mem, n_vocab, sizeof *s->some);
    s->count = rv_new_array(mem, n_vocab, sizeof *s->count);
    s->work = rv_new_array(mem, n_vocab, sizeof *s->work);
    s->changed = rv_new_array(mem, n_vocab, sizeof *s->changed);
    s->blocks = rv_new_array(mem, rv_logits_blocks(n_vocab), sizeof *s->blocks);
    s->is_changed = rv_new_array(mem, rv_logits_blocks(n_vocab), sizeof *s->is_changed);
    if (!s->ids || !s->some || !s->count || !s->work || !s->changed || !s->blocks || !s->is_changed) {
        rv_sampler_free(s);
        return rv_fail(RV_E_NOMEM, "sampler: no memory for %zu tokens", n_vocab);
    }
    *out = s;
    return RV_OK;
}

void rv_sampler_free(rv_sampler *s)
{
    if (s) {
        rv_free(s->mem, s->ids);
        rv_free(s->mem, s->some);
        rv_free(s->mem, s->count);
        rv_free(s->mem, s->work);
        rv_free(s->mem, s->changed);
        rv_free(s->mem, s->blocks);
        rv_free(s->mem, s->is_changed);
        rv_free(s->mem, s);
    }
}

static size_t block_end(const rv_sampler *s, size_t block)
{
    size_t end = (block + 1) * RV_LOGITS_BLOCK;
    return end < s->n_vocab ? end : s->n_vocab;
}

/* The logit of a token, to be changed. */
static float *change(rv_sampler *s, const float *logits, int32_t id)
{
    size_t block = (size_t)id / RV_LOGITS_BLOCK, from = block * RV_LOGITS_BLOCK;
    if (!s->is_changed[block]) {
        s->is_changed[block] = true;
        memcpy(s->changed + from, logits + from, (block_end(s, block) - from) * sizeof *logits);
    }
    return &s->changed[id];
}

static void penalise(rv_sampler *s, const rv_sampling *how, rv_history past, const float *logits)
{
    size_t most = how->repeat_penalty != 1 ? (size_t)how->repeat_last : 0,
           last = most < past.n ? most : past.n;
    for (size_t i = past.n - last; i < past.n; i++) {
        if (!s->count[past.ids[i]]++) {
            float *logit = change(s, logits, past.ids[i]);
            *logit = *logit > 0 ? *logit / how->repeat_penalty : *logit * how->repeat_penalty;
        }
    }
    for (size_t i = past.n - last; i < past.n; i++) {
        s->count[past.ids[i]] = 0;
    }
    if (how->frequency_penalty != 0 || how->presence_penalty != 0) {
        for (size_t i = past.n_prompt; i < past.n; i++) {
            s->count[past.ids[i]]++;
        }
        for (size_t i = past.n_prompt; i < past.n; i++) {
            uint32_t *count = &s->count[past.ids[i]];
            if (*count) {
                *change(s, logits, past.ids[i]) -=
                    (float)*count * how->frequency_penalty + how->presence_penalty;
                *count = 0;
            }
        }
    }
    for (size_t i = 0; i < how->n_bias; i++) {
        *change(s, logits, how->bias[i].id) += how->bias[i].bias;
    }
}

/* -infinity when none is finite. Lanes, because one chain of comparisons would wait for itself. */
static float largest_of(const float *x, size_t n)
{
    enum { LANES = 8 };
    float most[LANES], best = -INFINITY;
    for (size_t j = 0; j < LANES; j++) {
        most[j] = -INFINITY;
    }
    for (size_t i = 0; i + LANES <= n; i += LANES) {
        for (size_t j = 0; j < LANES; j++) {
            most[j] = x[i + j] > most[j] && x[i + j] <= FLT_MAX ? x[i + j] : most[j];
        }
    }
    for (size_t i = n / LANES * LANES; i < n; i++) {
        best = x[i] > best && x[i] <= FLT_MAX ? x[i] : best;
    }
    for (size_t j = 0; j < LANES; j++) {
        best = most[j] > best ? most[j] : best;
    }
    return best;
}

/* The largest logit of all that is finite, the lowest id among equals; -1: there is none. */
static int32_t largest(const rv_sampler *s, const float *logits)
{
    size_t n = rv_logits_blocks(s->n_vocab), best = 0;
    for (size_t i = 1; i < n; i++) {
        best = s->blocks[i].max > s->blocks[best].max ? i : best;
    }
    const float *x = s->is_changed[best] ? s->changed : logits;
    for (size_t i = best * RV_LOGITS_BLOCK; s->blocks[best].max > -INFINITY; i++) {
        if (x[i] == s->blocks[best].max) {
            return (int32_t)i;
        }
    }
    return -1;
}

/* What is kept of some numbers: those above value, and of equal ones the first, until they use up what is left. */
typedef struct cut {
    float value;
    double left;
} cut;

/* Rises with x; 0 for what is not finite. */
static uint32_t key_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return fabsf(x) <= FLT_MAX ? bits ^ (bits >> 31 ? UINT32_MAX : 1u << 31) : 0;
}

static float from_key(uint32_t key)
{
    uint32_t bits = key ^ (key >> 31 ? 1u << 31 : UINT32_MAX);
    float x;
    memcpy(&x, &bits, sizeof x);
    return key ? x : -INFINITY;
}

/* The fewest of the largest of x [n] that reach `wanted`: by their sum, or by their number. By parts of their bits, from the top:
 * only those in the part where it is reached are looked at again. work [n] */
static cut find_cut(const float *x, size_t n, bool by_sum, double wanted, float *work)
{
    enum { BITS = 11, PARTS = 1 << BITS };
    double above = 0;
    uint32_t key = 0;
    for (int shift = 32 - BITS;; shift = shift > BITS ? shift - BITS : 0) {
        double in[PARTS] = { 0 };
        for (size_t i = 0; i < n; i++) {
            in[key_of(x[i]) >> shift & (PARTS - 1)] += by_sum ? (double)x[i] : 1;
        }
        uint32_t part = PARTS - 1;
        while (part && above + in[part] < wanted) {
            above += in[part--];
        }
        key |= part << shift;
        if (!shift) {
            return (cut){ from_key(key), wanted - above };
        }
        size_t same = 0;
        for (size_t i = 0; i < n; i++) { /* work may be x */
            float moved = x[i];
            work[same] = moved;
            same += (key_of(moved) >> shift & (PARTS - 1)) == part;
        }
        x = work;
        n = same;
    }
}

/* What is not below low, to work, and its ids; returns how many. */
static size_t gather(rv_sampler *s, const float *logits, float low)
{
    size_t n = 0;
    for (size_t block = 0; block < rv_logits_blocks(s->n_vocab); block++) {
        const float *x = s->is_changed[block] ? s->changed : logits;
        size_t end = s->blocks[block].max >= low ? block_end(s, block) : 0;
        for (size_t i = block * RV_LOGITS_BLOCK; i < end; i++) {
            if (x[i] >= low && x[i] <= FLT_MAX) {
                s->work[n] = x[i];
                s->ids[n++] = (int32_t)i;
            }
        }
    }
    return n;
}

/* Keeps of x [n], and of the ids that belong to it, what the cut keeps and nothing below low; returns how many. */
static size_t keep(float *x, int32_t *ids, size_t n, cut at, bool by_sum, float low)
{
    size_t kept = 0;
    low = at.value > low ? at.value : low;
    for (size_t i = 0; i < n; i++) {
        if (!(x[i] >= low)) {
            continue;
        }
        if (x[i] == at.value) {
            if (!(at.left > 0)) {
                continue;
            }
            at.left -= by_sum ? (double)x[i] : 1;
        }
        x[kept] = x[i];
        ids[kept++] = ids[i];
    }
    return kept;
}

/* Step 4: logits become weights with sum 1; what is not finite becomes 0. */
static void weigh(float *x, size_t n, float best, float temperature, const rv_kernels *k)
{
    for (size_t i = 0; i < n; i++) {
        float power = (x[i] - best) / temperature;
        x[i] = power <= 0 && power >= -FLT_MAX ? power : -FLT_MAX;
    }
    k->softmax(x, n);
}

static double sum_of(const float *x, size_t n)
{
    enum { LANES = 8 };
    double lanes[LANES] = { 0 }, sum = 0;
    for (size_t i = 0; i + LANES <= n; i += LANES) {
        for (size_t j = 0; j < LANES; j++) {
            lanes[j] += (double)x[i + j];
        }
    }
    for (size_t i = n / LANES * LANES; i < n; i++) {
        sum += (double)x[i];
    }
    for (size_t j = 0; j < LANES; j++) {
        sum += lanes[j];
    }
    return sum;
}

/* The id of the weight in which a part of their sum ends; of the last one if rounding has it beyond. */
static int32_t draw(const float *x, const int32_t *ids, size_t n, double part)
{
    enum { BLOCK = 64 };
    size_t i = 0;
    for (double sum; i + BLOCK < n && part >= (sum = sum_of(x + i, BLOCK)); i += BLOCK) {
        part -= sum;
    }
    while (i + 1 < n && part >= (double)x[i]) {
        part -= (double)x[i++];
    }
    return ids[i];
}

/* Blocks of the row, to be changed. */
static void take_blocks(rv_sampler *s, rv_logits_row row)
{
    size_t n = rv_logits_blocks(s->n_vocab);
    if (row.blocks) {
        memcpy(s->blocks, row.blocks, n * sizeof *s->blocks);
    } else {
        rv_logits_look(s->kernels, row.logits, s->n_vocab, s->blocks);
    }
}

int32_t rv_sampler_next(rv_sampler *s, const rv_sampling *how, rv_rng *rng, rv_history past,
                        rv_logits_row row)
{
    size_t n_blocks = rv_logits_blocks(s->n_vocab);
    memset(s->is_changed, 0, n_blocks * sizeof *s->is_changed);
    take_blocks(s, row);
    penalise(s, how, past, row.logits);
    for (size_t i = 0; i < n_blocks; i++) {
        if (s->is_changed[i]) {
            s->blocks[i].max =
                largest_of(s->changed + i * RV_LOGITS_BLOCK, block_end(s, i) - i * RV_LOGITS_BLOCK);
        }
    }
    int32_t top = largest(s, row.logits);
    if (top < 0 || how->temperature == 0) {
        return top;
    }
    /* Only what may be chosen is weighed: of a large vocabulary mostly a few tokens. The border is a little low; what is
     * below after all is left out by its weight. */
    bool sums = how->top_p < 1;
    float ratio = !sums && !how->top_k && how->min_p > NEVER ? how->min_p : NEVER;
    float best = (s->is_changed[(size_t)top / RV_LOGITS_BLOCK] ? s->changed : row.logits)[top];
    float low = best + how->temperature * (logf(ratio) - 0.01f) - 8 * FLT_EPSILON * fabsf(best);
    float *x = s->work;
    size_t n = gather(s, row.logits, low);
    if (how->top_k && (size_t)how->top_k < n) {
        n = keep(x, s->ids, n, find_cut(x, n, false, how->top_k, s->some), false, low);
    }
    weigh(x, n, best, how->temperature, s->kernels);
    if (sums) {
        double wanted = (double)how->top_p * sum_of(x, n);
        n = keep(x, s->ids, n, find_cut(x, n, true, wanted > DBL_MIN ? wanted : DBL_MIN, s->some), true, 0);
    }
    if (how->min_p > 0) {
        n = keep(x, s->ids, n, (cut){ -INFINITY, 0 }, false, how->min_p * largest_of(x, n));
    }
    return draw(x, s->ids, n, rv_rng_unit(rng) * sum_of(x, n));
}

double rv_sampler_normalise(rv_sampler *s, rv_logits_row row)
{
    take_blocks(s, row);
    double most = -INFINITY, sum = 0;
    for (size_t i = 0; i < rv_logits_blocks(s->n_vocab); i++) {
        most = fmax(most, (double)s->blocks[i].max);
    }
    for (size_t i = 0; i < rv_logits_blocks(s->n_vocab) && most > -INFINITY; i++) {
        sum += (double)s->blocks[i].sum * exp((double)s->blocks[i].max - most);
    }
    return most > -INFINITY ? most + log(sum) : (double)NAN;
}

size_t rv_sampler_top(const rv_sampler *s, const float *logits, double normaliser, rv_token_prob *top,
                      size_t n_top)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n_vocab; i++) {
        if (!isfinite(logits[i]) || (n == n_top && (!n || logits[i] <= top[n - 1].logprob))) {
            continue;
        }
        size_t at = n < n_top ? n++ : n - 1;
        for (; at > 0 && top[at - 1].logprob < logits[i]; at--) {
            top[at] = top[at - 1];
        }
        top[at] = (rv_token_prob){ (int32_t)i, logits[i] };
    }
    for (size_t i = 0; i < n; i++) {
        top[i].logprob = (float)((double)top[i].logprob - normaliser);
    }
    return n;
}
