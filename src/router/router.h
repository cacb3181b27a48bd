/* The router: which tier answers a question. From questions whose outcome is known it learns, for each tier, the probability of
 * a right answer; a decision is the tier with the largest probability less what it costs. Five parts say something about a
 * question, and their votes are weighed by what they were worth on questions they had not seen:
 *
 *     cell      FastGRNN over the 128 slots of features.h, 2,000 to 3,000 numbers
 *     lexical   logistic regression on words, pairs of words, 32 statistics and the vector
 *     words     what happened to the requests with the most words in common
 *     meaning   what happened to the requests with the nearest vectors
 *     cover     logistic regression on how what memory found covers the question (cover.h)
 *
 * A request that was made before (its words, whatever their case and with some left out) is not predicted but remembered. */
#ifndef RV_ROUTER_ROUTER_H
#define RV_ROUTER_ROUTER_H
#include "router/cover.h"
#include "router/features.h"
#include "router/past.h"

#define RV_ROUTER_TIERS RV_PAST_TIERS
enum { RV_ROUTER_NAME = 48, RV_ROUTER_PARTS = 5, RV_ROUTER_ANSWERS = 3 };
extern const char
    *const rv_router_part_names[RV_ROUTER_PARTS]; /* "cell" "lexical" "words" "meaning" "cover" */

typedef struct rv_router rv_router;

/* ---- learning ---- */

/* What an answer says of itself before anybody rates it. */
typedef struct rv_draft {
    float confidence;    /* exp of its mean log-probability; not above 0 or NaN: not known */
    int cites;           /* how many passages; none: it refuses, or stands on nothing */
    float says[RV_SAYS]; /* rv_says_fill; the first NaN: not known */
    uint64_t answer;     /* rv_answer_hash; 0: not known */
} rv_draft;

/* Answers to one question in the order in which they were given, each by a larger tier than the one before, which was not sure enough. */
typedef struct rv_given {
    size_t n; /* 1 .. RV_ROUTER_ANSWERS */
    size_t tier[RV_ROUTER_ANSWERS];
    rv_draft draft[RV_ROUTER_ANSWERS];
} rv_given;

/** rv_draft_of - of an answer's text: citations are numbers in square brackets. says [RV_SAYS], NULL: not known. */
rv_draft rv_draft_of(double confidence, const char *text, size_t n, const float *says);
/** rv_draft_known - it says enough to be judged. */
bool rv_draft_known(const rv_draft *draft);

typedef struct rv_router_row {
    const char *text;
    size_t n;
    const float *vector;            /* [dim] unit, or NULL */
    float quality[RV_ROUTER_TIERS]; /* 0..1, NaN: not known */
    float cost[RV_ROUTER_TIERS];    /* any unit, NaN: not known */
    rv_draft draft[RV_ROUTER_TIERS];
    uint32_t
        second; /* bit t: t answered because a smaller tier was not sure. Such questions are harder than they look, so what
                              became of it says nothing of what to expect before an answer is there */
    float weight;           /* how much it counts, usually 1 */
    const float *distances; /* [n_hits] what memory had found, as in rv_slot_input */
    const uint8_t *kinds;
    size_t n_hits;
    const float *cover; /* [RV_COVER] or NULL */
} rv_router_row;

typedef struct rv_router_set {
    const rv_router_row *rows; /* [n] */
    size_t n, tiers;           /* tiers 1 .. RV_ROUTER_TIERS, smallest first */
    const char *const *names;  /* [tiers] at most RV_ROUTER_NAME - 1 bytes are kept */
    size_t dim;                /* of the vectors, 0: none */
    const char *embedder; /* its name: other vectors are not used with these weights; "" without vectors */
    const float *domains; /* [RV_SLOT_DOMAINS][dim] vectors of rv_domain_texts */
} rv_router_set;

typedef struct rv_router_how {
    size_t hidden, rank;
    double sparsity;
    bool int8;
    double
        cost_share; /* the cost a request may have on average, drafts and what the usual tier answers included, as a share of always taking the last tier; 0.45.
                          Where that is hardly more than the cheapest tier alone costs: that and 0.15 of what lies between */
    double
        threshold; /* of confidence, and the tier that answers below it, as in rv_choice_how; 0: every decision stands */
    size_t usual; /* RV_ROUTER_TIERS and more: none of the tiers */
    bool cascade; /* as for rv_router_route */
    uint64_t seed;
    void (*progress)(void *self, size_t done, size_t total);
    void *self;
} rv_router_how;
rv_router_how rv_router_how_default(void);

/* On rows that the part predicting them had not seen (five folds) */
typedef struct rv_router_trained {
    size_t rows;
    double loss[RV_ROUTER_TIERS][RV_ROUTER_PARTS + 1]; /* log loss of each part and of all together */
    double pool;                                       /* see docs/guide/router.md */
    double lambda;                                     /* what a unit of cost is worth in probability */
    double quality, cost; /* of the decisions, cost as a share of the last tier's */
} rv_router_trained;

/**
 * rv_router_train - learn from rows whose outcome is known.
 *
 * Errors:  RV_E_ARG fewer than 20 rows, a tier without 10 outcomes, a value out of range (which row).  RV_E_NOMEM.
 * Threads: one thread; the same seed and rows give the same weights on one machine.
 */
rv_err rv_router_train(const rv_alloc *mem, const rv_router_set *set, const rv_router_how *how,
                       rv_router_trained *trained, rv_router **out) RV_MUST_CHECK;
void rv_router_free(rv_router *r); /* accepts NULL */

/* ---- deciding ---- */

typedef struct rv_routed {
    size_t tiers;
    float p_right[RV_ROUTER_TIERS]; /* calibrated probability that the tier answers rightly */
    float cost[RV_ROUTER_TIERS];    /* expected, the last tier's mean is 1 */
    float worth[RV_ROUTER_TIERS]; /* of asking it first: chance less price of cost, with what may follow it */
    float part[RV_ROUTER_TIERS][RV_ROUTER_PARTS]; /* log odds as each part sees them */
    size_t tier;
    float
        confidence; /* probability that the usual tier of rv_router_how (without one: any other) would not have answered better */
    bool seen;        /* remembered: nearest is the same request */
    bool any_past;    /* nearest is there */
    uint32_t nearest; /* of the past rows, by words */
    float likeness;
    float slots[RV_SLOTS];
} rv_routed;

/**
 * rv_router_route - decide.
 *
 * in       slots' input; history is filled in from the weights when its counts are 0
 * allowed  bit t: tier t may be chosen; 0: all
 * cascade  the answer will be checked (rv_router_escalates). A small tier is then worth more than its own answer: one that is not sure
 *          costs little and is not shown
 * scratch  rv_router_scratch_bytes, one per thread
 * Immutable, any thread.
 */
size_t rv_router_scratch_bytes(const rv_router *r);
void rv_router_route(const rv_router *r, const rv_slot_input *in, uint32_t allowed, bool cascade,
                     void *scratch, rv_routed *out);

/**
 * rv_router_choose - which tier answers first: the router's, unless it is not sure (and does not remember), then the usual one.
 *
 * routed  NULL: there is no router
 * how     allowed: bits of tiers.  usual: the tier of the default model; another number: it is none of the tiers.
 *         threshold: of routed.confidence
 */
typedef struct rv_choice_how {
    uint32_t allowed;
    size_t usual;
    double threshold;
} rv_choice_how;
typedef struct rv_choice {
    size_t tier;
    bool fallback; /* the usual one, for want of a decision */
} rv_choice;
rv_choice rv_router_choose(const rv_routed *routed, const rv_choice_how *how);

/**
 * rv_router_escalates - whether a larger tier should answer instead, now that answers are there; next: which. That two tiers say the same counts for
 * both. Never for what is remembered, nor when no rated answers said what a confidence is worth, nor after RV_ROUTER_ANSWERS.
 *
 * rv_router_checks - whether it could ever be true of tier's answer, `before` others being there before it.
 * rv_router_follow - the tiers that answer one after the other, tier first, were drafts [tiers] what they say; their number. It ends with a tier
 *                    whose answer is not known.
 * rv_router_chance - of the last answer being right; p_right where nothing is known of such answers.
 */
bool rv_router_checks(const rv_router *r, const rv_routed *routed, size_t before, size_t tier,
                      uint32_t allowed);
bool rv_router_escalates(const rv_router *r, const rv_routed *routed, const rv_given *given, uint32_t allowed,
                         size_t *next);
size_t rv_router_follow(const rv_router *r, const rv_routed *routed, size_t tier, const rv_draft *drafts,
                        uint32_t allowed, size_t order[RV_ROUTER_ANSWERS]);
float rv_router_chance(const rv_router *r, const rv_routed *routed, const rv_given *given);

/** rv_router_fast - slots and the cell's log odds [tiers] of them: the part of a decision that takes ten microseconds. */
void rv_router_fast(const rv_router *r, const rv_slot_input *in, float *slots, float *log_odds);

/** rv_router_why - the slots that moved the cell's log odds of a tier most, largest first: slot numbers and how far. */
typedef struct rv_router_reason {
    size_t slot;
    float effect;
} rv_router_reason;
void rv_router_why(const rv_router *r, const rv_routed *routed, size_t tier, rv_router_reason *out, size_t n);

size_t rv_router_tiers(const rv_router *r);
/** rv_router_share - the cost_share it was made for. */
double rv_router_share(const rv_router *r);
const char *rv_router_tier_name(const rv_router *r, size_t tier);
const char *rv_router_embedder(const rv_router *r); /* "" when it was learned without */
size_t rv_router_dim(const rv_router *r);
const rv_past *rv_router_past(const rv_router *r);
size_t rv_router_cell_params(const rv_router *r);

/* ---- bytes: docs/formats/router.md ---- */

/** rv_router_pack - the whole file, rv_free with mem. */
rv_err rv_router_pack(const rv_alloc *mem, const rv_router *r, uint8_t **out, size_t *n) RV_MUST_CHECK;
/** rv_router_unpack - RV_E_FORMAT which field, found, expected; RV_E_CORRUPT the checksum; RV_E_UNSUPPORTED a newer version. */
rv_err rv_router_unpack(const rv_alloc *mem, const uint8_t *at, size_t n, rv_router **out) RV_MUST_CHECK;
/** rv_router_open - of a file, at most 1 GiB. */
rv_err rv_router_open(const rv_alloc *mem, const char *path, rv_router **out) RV_MUST_CHECK;
#endif
