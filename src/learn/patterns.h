/* The reasoning bank: kinds of questions ("patterns", found by k-means over the questions' vectors), and for each how well every model did
 * on it. It answers one question: is a cheaper model as good as the usual one for questions like this, or another one better? The answer has
 * to stand a test; without one the bank says nothing.
 *
 * Patterns keep their identity from cycle to cycle: a new centre that is near an old one moves it, and only what is like nothing known
 * becomes a new pattern. Outcomes are counted anew from the log each time, so feedback that comes late counts too.
 * Source: Arthur and Vassilvitskii 2007 (k-means++); Welch 1947. */
#ifndef RV_LEARN_PATTERNS_H
#define RV_LEARN_PATTERNS_H
#include "base/alloc.h"
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    RV_PATTERNS_MAX = 100000,
    RV_PATTERN_MODELS = 8,
    RV_PATTERN_NAME = 64,      /* bytes of a model's name, zero included */
    RV_PATTERN_CLUSTERS = 100, /* of one cycle, at most */
    RV_PATTERN_LEAST = 20      /* outcomes of each side before anything is said */
};
#define RV_PATTERN_SAME   0.90f /* cosine from which two centres are one pattern */
#define RV_PATTERN_LIKE   0.50f /* cosine from which a question is of a pattern */
#define RV_PATTERN_MARGIN 0.02  /* quality that another model has to be better by */
#define RV_PATTERN_LOSS   0.05  /* and that a cheaper one may be worse by */
#define RV_PATTERN_DOUBT                                                                                     \
    1.0 /* weight of all words of judges that are not trusted, on one model and pattern together: that of one rating */

typedef struct rv_patterns rv_patterns;

/** rv_patterns_new - none yet. models [n_models] of RV_PATTERN_MODELS at most, cheapest first. RV_E_ARG dim is not 1 .. 4096, or a name.
 * RV_E_NOMEM. Threads: one at a time; find, expect and advise after rv_patterns_seal: any. */
rv_err rv_patterns_new(const rv_alloc *mem, size_t dim, const char *const *models, size_t n_models,
                       rv_patterns **out) RV_MUST_CHECK;
rv_err rv_patterns_copy(const rv_patterns *p,
                        rv_patterns **out) RV_MUST_CHECK; /* sealed or not, the copy is not */
void rv_patterns_free(rv_patterns *p);                    /* accepts NULL */
size_t rv_patterns_count(const rv_patterns *p);
size_t rv_patterns_dim(const rv_patterns *p);
/** rv_patterns_model - its place, or RV_PATTERN_MODELS. */
size_t rv_patterns_model(const rv_patterns *p, const char *name);
/** rv_patterns_model_name - of model (< RV_PATTERN_MODELS), "" when there is none.  rv_patterns_name_models - from now on these, cheapest first;
 * outcomes are forgotten. RV_E_ARG as rv_patterns_new. */
const char *rv_patterns_model_name(const rv_patterns *p, size_t model);
rv_err rv_patterns_name_models(rv_patterns *p, const char *const *models, size_t n_models) RV_MUST_CHECK;

typedef struct rv_patterns_grown {
    size_t found, moved; /* new patterns; known ones that the vectors went to */
    size_t left;         /* vectors in clusters of fewer than three */
} rv_patterns_grown;

/**
 * rv_patterns_learn - cluster vectors [n][dim] of unit length: k-means++ with k = sqrt(n / 2) at most, empty clusters begin again at
 * what fits worst, until no centre moves by 0.001. Ages of known patterns are 0.98 of before. When there is no room the weakest go.
 */
rv_err rv_patterns_learn(rv_patterns *p, const float *vectors, size_t n, uint64_t seed,
                         rv_patterns_grown *out) RV_MUST_CHECK;

typedef struct rv_patterns_pruned {
    size_t merged, dropped;
} rv_patterns_pruned;
/** rv_patterns_prune - two centres that have come to be alike (cosine RV_PATTERN_SAME) become one; patterns that by now stand for fewer than half a
 * vector and have no outcome go. Outcomes of what was merged are lost: observe again. Of sealed ones only centres of one list are compared; they
 * are not sealed afterwards. */
rv_patterns_pruned rv_patterns_prune(rv_patterns *p);

/** rv_patterns_forget_outcomes .. rv_patterns_observe - one answer of a model to a question: its quality 0 .. 1, with the weight of who said so
 * (a rating is 1). trusted false: see RV_PATTERN_DOUBT. False: it is like no pattern. */
void rv_patterns_forget_outcomes(rv_patterns *p);
bool rv_patterns_observe(rv_patterns *p, const float *vector, size_t model, double quality, double weight,
                         bool trusted);

/** rv_patterns_seal - from here on any thread may look, and nothing changes: beyond a few thousand patterns they are put into lists, of which
 * a search looks at the nearest ones. */
rv_err rv_patterns_seal(rv_patterns *p) RV_MUST_CHECK;
/** rv_patterns_find - the nearest pattern, SIZE_MAX: none is like it. cosine may be NULL. */
size_t rv_patterns_find(const rv_patterns *p, const float *vector, float *cosine);
/** rv_patterns_exact - the same by looking at all of them; for measuring. */
size_t rv_patterns_exact(const rv_patterns *p, const float *vector, float *cosine);
/** rv_patterns_expect - quality of a model's answer: of the pattern, drawn towards the model's mean over all as by two answers. */
double rv_patterns_expect(const rv_patterns *p, size_t pattern, size_t model);

typedef struct rv_pattern_advice {
    size_t model;         /* RV_PATTERN_MODELS: none */
    bool cheaper;         /* as good as the usual one; else better */
    double difference, p; /* mean quality less the usual one's; one-sided, of Welch's test */
    double support;       /* outcomes it stands on, the smaller side's */
} rv_pattern_advice;
/** rv_patterns_advise - which model instead of the usual one: the cheapest before it that is not worse by RV_PATTERN_LOSS (p < 0.05), else the
 * best that is better by more than RV_PATTERN_MARGIN. */
rv_pattern_advice rv_patterns_advise(const rv_patterns *p, size_t pattern, size_t usual);

/** rv_patterns_bytes, rv_patterns_write, rv_patterns_read - docs/formats/patterns.md. RV_E_FORMAT, RV_E_CORRUPT, RV_E_NOMEM. */
size_t rv_patterns_bytes(const rv_patterns *p);
void rv_patterns_write(const rv_patterns *p, void *out);
rv_err rv_patterns_read(const rv_alloc *mem, const void *bytes, size_t n, rv_patterns **out) RV_MUST_CHECK;

/** rv_patterns_check - numbers finite, centres of unit length, ids ascending. RV_E_CORRUPT. */
rv_err rv_patterns_check(const rv_patterns *p) RV_MUST_CHECK;
#endif
