#include "engine/sampler_priv.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define NEVER 0x1p-60f /* times the largest weight */

typedef struct candidate {
    float weight;
    int32_t id;
} candidate;

struct rv_sampler {
    const rv_alloc *mem;
    const rv_kernels *kernels;
    size_t n_vocab;
    candidate *candidates; /* [n_vocab] */
    uint32_t *count;       /* [n_vocab] zero between calls */
    float *work;           /* [n_vocab] */
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
            return rv_fail(RV_E_ARG, "bias for token %d, expected 0 to %zu", how->bias[i].id, n_vocab - 1);
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
    s->candidates = rv_new_array(mem, n_vocab, sizeof *s->candidates);
    s->count = rv_new_array(mem, n_vocab, sizeof *s->count);
    s->work = rv_new_array(mem, n_vocab, sizeof *s->work);
    if (!s->candidates || !s->count || !s->work) {
        rv_sampler_free(s);
        return rv_fail(RV_E_NOMEM, "sampler: no memory for %zu tokens", n_vocab);
    }
    *out = s;
    return RV_OK;
}

void rv_sampler_free(rv_sampler *s)
{
    if (s) {
        rv_free(s->mem, s->candidates);
        rv_free(s->mem, s->count);
        rv_free(s->mem, s->work);
        rv_free(s->mem, s);
    }
}

static void penalise(rv_sampler *s, const rv_sampling *how, rv_history past, float *logits)
{
    size_t most = how->repeat_penalty != 1 ? (size_t)how->repeat_last : 0,
           last = most < past.n ? most : past.n;
    for (size_t i = past.n - last; i < past.n; i++) {
        float *logit = &logits[past.ids[i]];
        if (!s->count[past.ids[i]]++) {
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
                logits[past.ids[i]] -= (float)*count * how->frequency_penalty + how->presence_penalty;
                *count = 0;
            }
        }
    }
    for (size_t i = 0; i < how->n_bias; i++) {
        logits[how->bias[i].id] += how->bias[i].bias;
    }
}

/* Lanes, because one chain of comparisons over a large vocabulary would wait for itself. */
static int32_t largest(const float *x, size_t n)
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
    for (size_t i = 0; best > -INFINITY && i < n; i++) {
        if (x[i] == best) {
            return (int32_t)i;
        }
    }
    return -1;
}

static bool before(candidate a, candidate b)
{
    return a.weight > b.weight || (a.weight == b.weight && a.id < b.id);
}

static void sift_down(candidate *heap, size_t n, size_t at)
{
    candidate moving = heap[at];
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        child += child + 1 < n && before(heap[child + 1], heap[child]);
        if (!before(heap[child], moving)) {
            break;
        }
        heap[at] = heap[child];
    }
    heap[at] = moving;
}

/* Takes the best of the heap [0, n) and puts it to its end. */
static void pop(candidate *heap, size_t n)
{
    candidate best = heap[0];
    heap[0] = heap[n - 1];
    sift_down(heap, n - 1, 0);
    heap[n - 1] = best;
}

/* Steps 5 and 6. Of c [n] keeps the best, in order, at the end of the array; returns how many. A heap,
 * because a few are wanted out of very many. */
static size_t keep_best(candidate *c, size_t n, const rv_sampling *how)
{
    for (size_t i = n / 2; i-- > 0;) {
        sift_down(c, n, i);
    }
    size_t most = how->top_k && (size_t)how->top_k < n ? (size_t)how->top_k : n, popped = 0;
    double total = 0, reached = 0;
    if (most < n) {
        for (; popped < most; popped++) {
            pop(c, n - popped);
        }
    }
    for (size_t i = popped ? n - popped : 0; i < n; i++) {
        total += (double)c[i].weight;
    }
    for (size_t i = 0; i < most; i++) {
        if (i == popped) {
            pop(c, n - popped++);
        }
        reached += (double)c[n - 1 - i].weight;
        if (reached >= (double)how->top_p * total) {
            return i + 1;
        }
    }
    return most;
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

int32_t rv_sampler_next(rv_sampler *s, const rv_sampling *how, rv_rng *rng, rv_history past,
                        const float *logits)
{
    float *x = s->work;
    memcpy(x, logits, s->n_vocab * sizeof *x);
    penalise(s, how, past, x);
    int32_t top = largest(x, s->n_vocab);
    if (top < 0 || how->temperature == 0) {
        return top;
    }
    /* Only what may be chosen is weighed: of a large vocabulary mostly a few tokens. The border is a little low; what is
     * below after all is left out by its weight. */
    bool cut = how->top_k || how->top_p < 1;
    float ratio = !cut && how->min_p > NEVER ? how->min_p : NEVER, best = x[top];
    float low = best + how->temperature * (logf(ratio) - 0.01f) - 8 * FLT_EPSILON * fabsf(best);
    candidate *c = s->candidates;
    size_t near = 0, n = 0;
    for (size_t i = 0; i < s->n_vocab; i++) {
        if (x[i] >= low && x[i] <= FLT_MAX) {
            x[near] = x[i];
            c[near++].id = (int32_t)i;
        }
    }
    weigh(x, near, best, how->temperature, s->kernels);
    float most = 0;
    for (size_t i = 0; i < near; i++) {
        most = x[i] > most ? x[i] : most;
    }
    float least = most * how->min_p, floor = most * ratio;
    for (size_t i = 0; i < near; i++) {
        if (x[i] >= floor) {
            c[n++] = (candidate){ x[i], c[i].id };
        }
    }
    if (cut) {
        size_t kept = keep_best(c, n, how);
        c += n - kept;
        n = kept;
    }
    double total = 0;
    for (size_t i = 0; i < n; i++) {
        total += c[i].weight >= least ? (double)c[i].weight : 0;
    }
    double left = rv_rng_unit(rng) * total;
    int32_t chosen = top;
    for (size_t i = 0; i < n && left >= 0; i++) {
        if (c[i].weight >= least) {
            chosen = c[i].id;
            left -= (double)c[i].weight;
        }
    }
    return chosen;
}

double rv_sampler_normalise(rv_sampler *s, const float *logits)
{
    int32_t top = largest(logits, s->n_vocab);
    if (top < 0) {
        return NAN;
    }
    memcpy(s->work, logits, s->n_vocab * sizeof *s->work);
    s->kernels->softmax(s->work, s->n_vocab);
    if (!(s->work[top] > 0)) { /* something was not finite */
        memcpy(s->work, logits, s->n_vocab * sizeof *s->work);
        weigh(s->work, s->n_vocab, logits[top], 1, s->kernels);
    }
    return (double)logits[top] - log((double)s->work[top]); /* work[top] = 1 / sum of exp(logit - largest) */
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
