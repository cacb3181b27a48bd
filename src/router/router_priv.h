/* What is learned, as one struct; everything in it is plain arrays with sizes that follow from tiers and dim. */
#ifndef RV_ROUTER_ROUTER_PRIV_H
#define RV_ROUTER_ROUTER_PRIV_H
#include "router/grnn.h"
#include "router/router.h"
#include <math.h>

enum {
    ROUTER_VOTES = RV_ROUTER_PARTS + 1, /* weights of a tier's vote: one per part and a constant */
    ROUTER_COSTS = RV_SURFACE + 1,      /* cost of a tier: statistics and a constant */
    ROUTER_DRAFTS = 15,                 /* of an answer that is there: router_draft_numbers */
    ROUTER_CARRY = 3,
    ROUTER_SURPRISES = 16,
    ROUTER_AGAIN = 6,
    ROUTER_AGREES = 5,               /* of an answer that others stand before: router_agree_numbers */
    ROUTER_COVER = 2 * RV_COVER + 1, /* numbers, their squares, and a constant */
    ROUTER_DOUBTS = 4                /* of the confidence: constant, chance of the chosen, lead, remembered */
};

typedef struct router_history {
    float quality[RV_SLOT_CENTROIDS][RV_ROUTER_TIERS]; /* mean */
    float count[RV_SLOT_CENTROIDS][RV_ROUTER_TIERS];
} router_history;

struct rv_router {
    const rv_alloc *mem;
    size_t tiers, dim;
    char names[RV_ROUTER_TIERS][RV_ROUTER_NAME];
    char embedder[64];
    float *space;       /* domains, mean, pcs, spread, centroids, one after the other */
    rv_slot_space axes; /* into space */
    float slot_mean[RV_SLOTS], slot_spread[RV_SLOTS];
    router_history history;
    rv_grnn *cell; /* outputs: log odds per tier */
    float surface_mean[RV_SURFACE], surface_spread[RV_SURFACE];
    float *rarity;  /* [RV_PAST_BUCKETS] weight of a gram */
    float *lexical; /* [tiers][router_lexical_size]: statistics, vector, grams, constant */
    rv_past *past;
    float cover_mean[RV_COVER], cover_spread[RV_COVER], cover[RV_ROUTER_TIERS][ROUTER_COVER];
    float votes[RV_ROUTER_TIERS][ROUTER_VOTES];
    float costs[RV_ROUTER_TIERS][ROUTER_COSTS]; /* of the logarithm */
    float base[RV_ROUTER_TIERS];                /* share of right answers, of those that are known */
    float level
        [RV_ROUTER_TIERS]; /* mean log odds of all rows: a tier that was asked only what is easy is not better */
    float doubts[ROUTER_DOUBTS];
    float lambda;
    float share; /* cost_share it was made for */
    float
        pool; /* how much of what only one tier's parts say is believed: 1 all, 0 only what all tiers' parts say together */
    float drafts[RV_ROUTER_TIERS]
                [ROUTER_DRAFTS]; /* weights of what router_draft_numbers says of an answer that is there */
    float carry
        [RV_ROUTER_TIERS]
        [ROUTER_CARRY]; /* from a tier's answer to larger tiers: of their log odds before, of its surprise, and a constant */
    float surprises[RV_ROUTER_TIERS]
                   [ROUTER_SURPRISES]; /* quantiles of what answers of a tier added to its log odds,
                                                           ascending; all 0: not known */
    float agrees[ROUTER_AGREES];       /* weights of router_agree_numbers */
    float again[RV_ROUTER_TIERS]
               [ROUTER_AGAIN]; /* as surprises, of what answers added that came after another one */
    float trust;               /* in a remembered outcome when some words are missing */
};

static inline size_t router_lexical_size(size_t dim)
{
    return RV_SURFACE + dim + RV_PAST_BUCKETS + 1;
}
static inline size_t router_space_size(size_t dim)
{
    return dim > 0 ? (RV_SLOT_DOMAINS + 1 + RV_SLOT_PCS + RV_SLOT_CENTROIDS) * dim + RV_SLOT_PCS : 0;
}
static inline float router_log_odds(float p)
{
    p = p > 0.999f ? 0.999f : p < 0.001f ? 0.001f : p;
    return logf(p / (1 - p));
}

/** router_new - the struct with its arrays, all zero. */
rv_err router_new(const rv_alloc *mem, size_t tiers, size_t dim, rv_router **out) RV_MUST_CHECK;
/** router_point_axes - axes into space, once space is filled. */
void router_point_axes(rv_router *r);

/* A text as the lexical part takes it: the statistics scaled, grams weighted to length 1. */
typedef struct router_lexical_row {
    float surface[RV_SURFACE];
    const float *vector;  /* [dim] or NULL */
    const uint16_t *gram; /* [n] */
    const float *weight;  /* [n] */
    size_t n;
} router_lexical_row;
void router_scale_surface(const rv_router *r, const float *surface, float *out);
size_t router_weigh_grams(const rv_router *r, const rv_past_text *text, float *weight);
float router_lexical(const rv_router *r, const float *w, const router_lexical_row *row);
void router_scale_slots(const rv_router *r, const float *slots, float *out);
/** router_spread_cover - cover [RV_COVER] as the part sees it, out [ROUTER_COVER].  router_vote_cover - log odds of it; NULL: base. */
void router_spread_cover(const rv_router *r, const float *cover, double *out);
float router_vote_cover(const rv_router *r, const float *cover, size_t tier);
/** router_vote_past - log odds of a tier from near rows, drawn towards base. */
float router_vote_past(const rv_past *past, const rv_past_near *near, size_t n, size_t tier, float base);
/** router_is_same - that row is the same request: said again, or with words left out. */
bool router_is_same(const rv_past_first *first, float *surely);
void router_fill_history(const rv_router *r, int cluster, rv_slot_input *in);
/** router_chances - p_right of all tiers from their parts. */
void router_chances(const rv_router *r, rv_routed *out);
/** router_draft_numbers - of an answer that is there: log odds of the chance before and of its own confidence, 1; and, because to be sure that
 * nothing was found is another thing than to be sure of what was: 1 and the log odds again when it cites nothing, 1 when it cites several.
 * router_surprise - how much more log odds of being right the tier's answer has, now that it is there, were it the only one.
 * router_agree_numbers - of an answer that another one stands before: its log odds, were it the only one, those of the other when they say the same
 * and when they do not, 1 when they do, and 1.
 * router_after - log odds of the last of several answers.  router_carried - of tier's, which is not there yet, after an answer of `from` with this surprise. */
void router_draft_numbers(float before, rv_draft draft, float out[ROUTER_DRAFTS]);
float router_surprise(const rv_router *r, const rv_routed *routed, size_t tier, rv_draft draft);
void router_agree_numbers(const rv_router *r, const rv_routed *routed, const rv_given *given,
                          float out[ROUTER_AGREES]);
float router_after(const rv_router *r, const rv_routed *routed, const rv_given *given);
float router_carried(const rv_router *r, const rv_routed *routed, size_t from, size_t tier, float surprise);
/** router_judge - votes, costs and parts of routed are there: probabilities, worth, tier and confidence. cascade: as for rv_router_route. */
void router_judge(const rv_router *r, const rv_past_first *first, uint32_t allowed, bool cascade,
                  rv_routed *out);
#endif
