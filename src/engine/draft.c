#include "engine/draft_priv.h"

#include <string.h>

enum {
    LONGEST = 8, /* an end that long says it all; more tokens would only cost time */
    FULL = 64,   /* tries a count holds before it is halved: what was long ago counts less */
    FULL_ALL = 200,
    PRIOR = 4 /* tries that what is known of the kind is worth, beside those behind one token */
};

/* Before anything is known, from a set of questions about given passages (bench/engine_drafts). */
static const rv_draft_count at_first[RV_DRAFT_KINDS] = { { 2, 8 }, { 4, 8 }, { 6, 8 }, { 7, 8 },
                                                         { 2, 8 }, { 4, 8 }, { 6, 8 }, { 7, 8 } };
static const float certain[RV_DRAFT_KINDS - RV_DRAFT_MODEL] = { 0, 0.4f, 0.7f,
                                                                0.9f }; /* from this probability on */

void rv_habits_init(rv_habits *h)
{
    *h = (rv_habits){ .all = { { 0 } } };
    pthread_mutex_init(&h->lock, NULL);
    for (int i = 0; i < RV_DRAFT_KINDS; i++) {
        h->all[i] = at_first[i];
    }
}

void rv_habits_deinit(rv_habits *h)
{
    pthread_mutex_destroy(&h->lock);
}

void rv_draft_init(rv_draft *d)
{
    *d = (rv_draft){ .from = SIZE_MAX };
}

/* Length of the common end of ids[0 .. at] and ids[0 .. n - 1], the last tokens being equal. */
static size_t common_end(const int32_t *ids, size_t at, size_t n)
{
    size_t same = 1;
    while (same < LONGEST && same <= at && ids[at - same] == ids[n - 1 - same]) {
        same++;
    }
    return same;
}

size_t rv_draft_guess(rv_draft *d, const int32_t *ids, size_t n, int32_t *out, size_t most)
{
    size_t longest = 0, from = 0;
    for (size_t at = n - 1; at-- > 0 && (longest < LONGEST || at + 1 >= d->from);) {
        if (ids[at] == ids[n - 1]) {
            size_t same = common_end(ids, at, n);
            if (same > longest || (same == longest && at + 1 >= d->from)) {
                longest = same;
                from = at + 1;
            }
        }
    }
    if (!longest) {
        return 0;
    }
    d->from = from;
    d->learned = 0;
    memset(d->kinds, longest >= 5 ? 3 : longest >= 3 ? 2 : (int)longest - 1, sizeof d->kinds);
    for (size_t i = 0; i < most; i++) { /* a text that repeats itself goes on doing so */
        out[i] = from + i < n ? ids[from + i] : out[from + i - n];
    }
    return most;
}

void rv_draft_by_model(rv_draft *d, const float *p, size_t n)
{
    d->learned = 0;
    for (size_t i = 0; i < n; i++) {
        uint8_t kind = RV_DRAFT_KINDS - 1;
        while (kind > RV_DRAFT_MODEL && !(p[i] >= certain[kind - RV_DRAFT_MODEL])) {
            kind--;
        }
        d->kinds[i] = kind;
    }
}

bool rv_draft_is_by_model(const rv_draft *d)
{
    return d->kinds[0] >= RV_DRAFT_MODEL;
}

double rv_draft_hope(rv_habits *h)
{
    double right = 0, tried = 0;
    pthread_mutex_lock(&h->lock);
    for (int i = RV_DRAFT_MODEL; i < RV_DRAFT_KINDS; i++) {
        right += h->all[i].right;
        tried += h->all[i].tried;
    }
    pthread_mutex_unlock(&h->lock);
    return right / tried;
}

static size_t slot(int32_t token)
{
    return (uint32_t)token % RV_DRAFT_SLOTS;
}

void rv_draft_chances(const rv_draft *d, rv_habits *h, int32_t before, const int32_t *guess, size_t n,
                      double *out)
{
    pthread_mutex_lock(&h->lock);
    double chance = 1;
    for (size_t i = 0; i < n; i++) {
        rv_draft_count all = h->all[d->kinds[i]];
        rv_draft_count c = h->after[d->kinds[i]][slot(i ? guess[i - 1] : before)];
        chance *= (c.right + PRIOR * ((double)all.right / all.tried)) / (c.tried + PRIOR);
        out[i] = chance;
    }
    pthread_mutex_unlock(&h->lock);
}

static void count(rv_draft_count *c, bool right, int full)
{
    if (c->tried == full) {
        c->tried /= 2;
        c->right /= 2;
    }
    c->tried++;
    c->right += right;
}

void rv_draft_learn(rv_draft *d, rv_habits *h, int32_t before, bool right)
{
    int kind = d->kinds[d->learned];
    d->learned += d->learned + 1 < RV_DRAFTS_MAX;
    d->from += right && kind < RV_DRAFT_MODEL;
    pthread_mutex_lock(&h->lock);
    count(&h->all[kind], right, FULL_ALL);
    count(&h->after[kind][slot(before)], right, FULL);
    pthread_mutex_unlock(&h->lock);
}
