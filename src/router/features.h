/* The 128 numbers a decision is made from. Each has one place, one definition (rv_slots) and is computed from what the request
 * already has. A number whose input the request does not have is 0; which ones no part of the program fills yet is said in the
 * table. */
#ifndef RV_ROUTER_FEATURES_H
#define RV_ROUTER_FEATURES_H
#include "base/err.h"
#include "router/cover.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RV_SLOTS 128
enum {
    RV_SLOT_DOMAINS = 16,
    RV_SLOT_TYPES = 6,
    RV_SLOT_PCS = 8,
    RV_SLOT_CENTROIDS = 64,
    RV_SLOT_MODELS = 4,
    RV_SLOT_HITS = 64
};

/* Where the groups begin */
enum {
    RV_SLOT_TOKENS = 0,
    RV_SLOT_LANGUAGE = 1, /* 8 */
    RV_SLOT_DOMAIN = 9,   /* 16 */
    RV_SLOT_USER_RATE = 25,
    RV_SLOT_TYPE = 26, /* 6 */
    RV_SLOT_NORM = 32,
    RV_SLOT_PC = 33, /* 8 */
    RV_SLOT_ENTROPY = 41,
    RV_SLOT_SPARSITY = 42,
    RV_SLOT_CLUSTER = 43, /* 4 */
    RV_SLOT_RESIDUAL = 47,
    RV_SLOT_K = 48,
    RV_SLOT_DISTANCE = 49, /* mean, deviation, least, largest */
    RV_SLOT_HIT_ENTROPY = 53,
    RV_SLOT_DEPTH = 54,
    RV_SLOT_RECALL = 55,
    RV_SLOT_DENSITY = 56,   /* 16 */
    RV_SLOT_COHERENCE = 72, /* RV_COVER */
    RV_SLOT_KINDS = 88,     /* 6 */
    RV_SLOT_EDGES = 94,
    RV_SLOT_MAJORITY = 95,
    RV_SLOT_LATENCY = 96,
    RV_SLOT_DEVICE = 97,   /* 4 */
    RV_SLOT_PRIVACY = 101, /* 4 */
    RV_SLOT_MEMORY = 105,
    RV_SLOT_BATTERY = 106,
    RV_SLOT_CONCURRENT = 107,
    RV_SLOT_HISTORY = 108, /* 4 models x 4 */
    RV_SLOT_ACCEL = 124,
    RV_SLOT_TURN = 125,
    RV_SLOT_RESIDENT = 126,
    RV_SLOT_PRESSURE = 127
};

typedef struct rv_slot_group {
    const char *name;
    size_t at, n;
    bool filled; /* false: nothing in the program knows this yet, the slots are always 0 */
    const char *definition;
} rv_slot_group;
extern const rv_slot_group rv_slots[]; /* in order, without gaps; ended by a row without a name */
/** rv_slot_name - "domain_encoding[3] code" and the like into out; returns its length. */
size_t rv_slot_name(size_t slot, char *out, size_t room);

/* Words for the 16 domains and the texts whose vectors are their centroids. */
extern const char *const rv_domain_names[RV_SLOT_DOMAINS], *const rv_domain_texts[RV_SLOT_DOMAINS];
extern const char *const rv_type_names[RV_SLOT_TYPES];

/* What is learned once from many questions and stands in the weights file: directions of the embedding space. */
typedef struct rv_slot_space {
    size_t dim;             /* of the embedder; 0: no embedder, all slots that need a vector are 0 */
    const float *domains;   /* [16][dim] unit */
    const float *mean;      /* [dim] */
    const float *pcs;       /* [8][dim] orthonormal */
    const float *spread;    /* [8] square roots of the eigenvalues */
    const float *centroids; /* [64][dim] unit */
} rv_slot_space;

/* How each model did with questions of this kind (same coarse centroid): known by the caller. */
typedef struct rv_slot_history {
    float quality, latency,
        success; /* 0..1: mean quality; mean latency / budget, at most 1; share of successes */
    uint32_t count;
} rv_slot_history;

typedef struct rv_slot_input {
    const char *text;
    size_t n;
    size_t tokens;       /* of text by the model's tokenizer; 0: one for each four bytes */
    const float *vector; /* [dim] unit, or NULL */
    /* What memory found, best first; cosine distance 0..2 or NaN where only words found it */
    const float *distances;
    const float *cover;   /* [RV_COVER] how they cover the question; NULL: not known */
    const uint8_t *kinds; /* 0..5: document or chunk, note, qa, agent step, fact, concept */
    size_t n_hits;        /* at most RV_SLOT_HITS count */
    size_t k;             /* that were asked for */
    /* The system */
    double latency_ms; /* budget, 0: none */
    int device;        /* 0 edge, 1 mobile, 2 server, 3 cluster */
    int privacy;       /* 0 public, 1 internal, 2 confidential, 3 local only */
    uint32_t turn;
    rv_slot_history history[RV_SLOT_MODELS];
} rv_slot_input;

/**
 * rv_slots_fill - out [RV_SLOTS], all finite, most within [-1, 1].
 *
 * cluster  out, the coarse centroid nearest to the vector (what history is kept by), or -1. May be NULL.
 * Threads: any thread. Allocates nothing. Under 10 microseconds for a prompt of 1 KiB (bench/router_score).
 */
void rv_slots_fill(const rv_slot_space *space, const rv_slot_input *in, float *out, int *cluster);

/** rv_slots_history - the 16 slots of history alone. */
void rv_slots_history(const rv_slot_history *history, float *out);

/** rv_surface - 32 plain statistics of a text (lengths, shares of kinds of characters, marks of code and formulas), for the
 * lexical part; out [RV_SURFACE]. */
#define RV_SURFACE 32
void rv_surface(const char *text, size_t n, float *out);
#endif
