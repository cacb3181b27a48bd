#include "engine/draft_priv.h"

enum { LONGEST = 8 }; /* an end that long says it all; more tokens would only cost time */

/* Before anything is known, from a set of questions about given passages (bench/engine_drafts). */
static const double at_first[RV_DRAFT_CLASSES] = { 0.25, 0.5, 0.7, 0.85 };

void rv_draft_init(rv_draft *d)
{
    *d = (rv_draft){ .kind = 0 };
    for (int i = 0; i < RV_DRAFT_CLASSES; i++) {
        d->chance[i] = at_first[i];
    }
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
    for (size_t at = n - 1; at-- > 0 && longest < LONGEST;) { /* of equals the last one */
        if (ids[at] == ids[n - 1]) {
            size_t same = common_end(ids, at, n);
            if (same > longest) {
                longest = same;
                from = at + 1;
            }
        }
    }
    if (!longest) {
        return 0;
    }
    d->kind = longest >= 5 ? 3 : longest >= 3 ? 2 : (int)longest - 1;
    for (size_t i = 0; i < most; i++) { /* a text that repeats itself goes on doing so */
        out[i] = from + i < n ? ids[from + i] : out[from + i - n];
    }
    return most;
}

double rv_draft_chance(const rv_draft *d)
{
    return d->chance[d->kind];
}

void rv_draft_learn(rv_draft *d, bool right)
{
    double *p = &d->chance[d->kind];
    *p += ((right ? 1 : 0) - *p) / 8;
}
