#ifndef RV_LEARN_PATTERNS_PRIV_H
#define RV_LEARN_PATTERNS_PRIV_H
#include "kernels/kernels.h"
#include "learn/patterns.h"

/* Of one model on one pattern. */
typedef struct outcome {
    double weight, squares, mean, m2; /* sum of w, of w * w; weighted mean, and squared deviations from it */
    double doubted, doubted_mean; /* words of judges that are not trusted: their weight, and what they say */
} outcome;

typedef struct pattern {
    uint64_t id;
    float age; /* vectors that made it, older ones counting less */
    outcome of[RV_PATTERN_MODELS];
} pattern;

struct rv_patterns {
    const rv_alloc *mem;
    const rv_kernels *k;
    size_t dim, n, room, n_models;
    uint64_t next_id;
    char models[RV_PATTERN_MODELS][RV_PATTERN_NAME];
    float *centres; /* [room][dim] */
    pattern *at;    /* [room] ascending ids */
    outcome all[RV_PATTERN_MODELS];
    /* sealed, when there are many: */
    float *pivots;           /* [n_lists][dim] */
    uint32_t *first, *order; /* [n_lists + 1]; [n] patterns by list */
    float *packed;           /* [n][dim] the centres in that order: a list is read front to back */
    size_t n_lists;
};

static inline float *centre(const rv_patterns *p, size_t i)
{
    return p->centres + i * p->dim;
}

/** rv_patterns_reserve - room for so many more. RV_E_NOMEM. */
rv_err rv_patterns_reserve(rv_patterns *p, size_t more) RV_MUST_CHECK;
#endif
