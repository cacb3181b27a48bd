/* The trainer: the rows, what is known of them and what was made of them so far. train.c has the order in which the other files go on. */
#ifndef RV_ROUTER_TRAIN_PRIV_H
#define RV_ROUTER_TRAIN_PRIV_H
#include "router/router_priv.h"

#include <string.h>

enum { FOLDS = 5, FIT_MAX = ROUTER_COSTS > ROUTER_COVER ? ROUTER_COSTS : ROUTER_COVER };

typedef struct trainer {
    const rv_alloc *mem;
    const rv_router_set *set;
    const rv_router_how *how;
    rv_router *r;
    const float **vector; /* [n] NULL: none, or all zero */
    float *surface;       /* [n][RV_SURFACE] scaled */
    size_t *gram_at;      /* [n + 1] */
    uint16_t *gram;
    float *gram_weight;
    size_t gram_room;
    uint32_t *rows_with;  /* [RV_PAST_BUCKETS] */
    float *slots;         /* [n][RV_SLOTS] scaled */
    int *cluster;         /* [n] */
    uint8_t *fold;        /* [n] */
    bool *stop_set;       /* [n] rows that tell the cell when to stop */
    uint32_t *order;      /* [n] */
    float *part;          /* [n][tiers][RV_ROUTER_PARTS] log odds by parts that had not seen the row */
    float *cost;          /* [n][tiers] expected */
    rv_past_first *found; /* [n] */
    double *
        doubt; /* [n][ROUTER_DOUBTS + 1] what the confidence of a decision goes by, and whether it was good; NaN: not known */
    double together; /* how much of a tier's chance is left when another one was wrong */
    float *squares;  /* of one lexical model: [router_lexical_size] */
    void *scratch;
    size_t done, total;
} trainer;

static inline bool router_known(const rv_router_row *row, size_t tier)
{
    return row->quality[tier] >= 0 && !(row->second >> tier & 1);
}

static inline float *router_part_of(const trainer *t, size_t row, size_t tier)
{
    return t->part + (row * t->set->tiers + tier) * RV_ROUTER_PARTS;
}

/* ---- train.c ---- */

void router_step_done(trainer *t);

/* ---- train_rows.c: slots, statistics and grams of every row, and what the rows are scaled by ---- */

rv_err router_read_rows(trainer *t) RV_MUST_CHECK;

/* ---- train_fit.c ---- */

typedef struct fit_rows {
    const trainer *t;
    size_t tier, n; /* n numbers a row */
    /* fills x [n] and y; false: the row does not count */
    bool (*row)(const struct fit_rows *f, size_t i, double *x, double *y);
    int without; /* of cover_row: a fold */
} fit_rows;

/* Logistic regression by Newton's steps, drawn to start with the given strength. */
void router_fit_logistic(const fit_rows *f, double ridge, float *w);

/* Solves A x = b, A [n][n] positive definite, in place; b becomes x. */
void router_solve(double a[FIT_MAX][FIT_MAX], double *b, size_t n);

/* ---- train_parts.c ---- */

/* Each part from all rows but those of one fold, and what they say of that fold. */
rv_err router_predict_fold(trainer *t, int fold) RV_MUST_CHECK;

/* Each part from all rows: what the router keeps. */
rv_err router_train_parts(trainer *t) RV_MUST_CHECK;

/* ---- train_decide.c: how the votes are weighed, what a unit of cost is worth, how sure a decision is ---- */

rv_err router_fit_decisions(trainer *t, rv_router_trained *trained) RV_MUST_CHECK; /* RV_E_NOMEM */
#endif
