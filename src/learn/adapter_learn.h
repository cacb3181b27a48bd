/* One round of learning an adapter: corrections become training rows, a candidate is trained from the version in use, and is used only
 * when it is better on wordings it was not trained on and has not changed what nobody complained about. */
#ifndef RV_LEARN_ADAPTER_LEARN_H
#define RV_LEARN_ADAPTER_LEARN_H
#include "learn/adapter.h"
#include "learn/adapter_train.h"
#include "embed/embed.h"
#include "learn/episode.h"
#include "memory/memory.h"

/* What it needs from above: the chat that a question is put to the model with, of [n] passages. The caller owns *out. */
typedef rv_err rv_adapter_prompt(const char *question, const char *const *passages, size_t n, json_t **out);

typedef struct rv_adapter_learning {
    rv_db *db;
    rv_memory *memory; /* NULL: kept answers are asked without their passages */
    rv_adapters *adapters;
    const rv_engine *engine; /* of the model that is to learn */
    rv_adapter_prompt *prompt;
    const rv_embed
        *embed;    /* what it learns is then used for questions like the corrected ones; NULL: for all */
    rv_pool *pool; /* not the engine's; NULL: the calling thread alone */
    const char *
        user; /* whose corrections, and who will get the adapter; "": of requests without a user, and everybody's */
    size_t rank; /* of a new adapter; one in use that has as much is trained on */
    bool
        micro; /* train factors of that rank on top of the base in use, which stays; false: begin with both consolidated */
    size_t batch; /* rows of a step; 0: RV_ADAPTER_BATCH */
    float rate;   /* of the largest step; 0: RV_ADAPTER_RATE */
    float
        springs; /* how strongly what earlier rounds learned is held (lambda of learn/ewc.h); 0: it is not */
    const char *
        checkpoint; /* a file: a round that was cut short goes on from there, see rv_adapter_training. NULL: none */
    size_t newest; /* only so many corrections, the newest; 0: all */
    size_t max_steps;
    double max_seconds; /* of all of it; measuring at the end may take half as long again */
    uint64_t seed;
    bool (*on_step)(void *self, size_t step, size_t steps,
                    double loss); /* false: stop, and nothing is published. May be NULL */
    void *self;
} rv_adapter_learning;

typedef struct rv_adapter_learned {
    size_t corrections, anchors; /* that there were; of the answers that stood those it would be used for */
    size_t
        spared; /* answers that stood, of questions that are not like any corrected one: they stay as they are */
    size_t steps;
    bool consolidated;                    /* a micro adapter went into the candidate */
    double discarded;                     /* energy that its rank had no room for, 0 .. 1 */
    size_t held;                          /* rows of earlier rounds that were held by springs; 0: none were */
    double before, after;                 /* loss on wordings of the corrections that were not trained on */
    double anchors_before, anchors_after; /* loss on answers that stood, held out; 0: there are none */
    int64_t version;                      /* published; 0: refused */
    const char *why;                      /* one sentence */
} rv_adapter_learned;

#define RV_ADAPTER_BATCH        16
#define RV_ADAPTER_RATE         6e-3F
#define RV_ADAPTER_MARGIN       0.95 /* a candidate's loss on held-out wordings, of that before: at most */
#define RV_ADAPTER_ANCHOR_LIMIT 1.02 /* its loss on held-out answers that stood */

/**
 * rv_adapter_learn - once, from all corrections of a user. Refusing is no error: see why.
 *
 * Errors:  RV_E_CANCELLED.  Those of rv_adapter_train, rv_adapters_publish, the store.
 * Threads: one thread at a time; requests may go on.
 */
rv_err rv_adapter_learn(const rv_adapter_learning *how, rv_adapter_learned *out) RV_MUST_CHECK;
#endif
