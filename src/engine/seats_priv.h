/* Inside a batch: what it consists of, and who is let in with which sequence (seats.c). The steps of those who are in are
 * batch.c's. All calls with the lock unless they say otherwise. */
#ifndef RV_ENGINE_SEATS_PRIV_H
#define RV_ENGINE_SEATS_PRIV_H
#include "engine/batch_priv.h"
#include <pthread.h>

enum {
    RV_LOOK_MS =
        20, /* how often who waits looks at what nobody signals: cancel flags, room in a shared budget */
    RV_COSTS = 32,  /* steps of answers whose time is known by their tokens */
    RV_TENANTS = 64 /* whose last seat is remembered */
};

/* Answers alone in their steps: with drafts from the text, without any, with those of a smaller model too. */
enum { RV_WAY_TEXT, RV_WAY_PLAIN, RV_WAY_MODEL, RV_WAYS };

/* rv_call.state; OUT: with its caller */
enum { RV_CALL_OUT, RV_CALL_WAITING, RV_CALL_RESTORING, RV_CALL_READY, RV_CALL_STEPPING };

/* A sequence and the tokens it was made of. Without an owner it is kept for its beginning. */
typedef struct entry {
    rv_kv_seq *seq;
    int32_t *ids; /* [n_ctx + 1] */
    rv_call *owner;
    uint64_t lora;   /* id of the adapter it was made with, 0: none */
    uint64_t tenant; /* whose tokens they are: no other one takes them over */
    uint64_t used;   /* when it lost its last owner */
    bool forget;
    bool private;        /* not for the shelf */
    bool tidy;           /* rewound since it was last used */
    bool saving, wanted; /* being written to the shelf; somebody waits for that */
    size_t saved;        /* tokens of it that the shelf has; 0: none */
    double idle_since;   /* rv_clock_ms */
} entry;

struct rv_batch {
    const rv_alloc *mem;
    rv_lfm2 *model;
    rv_kv *kv;
    rv_batch_options how;
    entry *entries; /* [n_entries] */
    size_t n_entries;
    float *logits;             /* [max_sequences][1 + RV_DRAFTS_MAX][n_vocab] */
    rv_logits_block *blocks;   /* of these rows */
    float *states;             /* [max_sequences][RV_DRAFTS_MAX][state_floats] behind what is drafted */
    rv_call **seats;           /* [max_sequences] NULL: free */
    rv_lfm2_segment *segments; /* [max_sequences] of the step under way */
    rv_call **stepping;        /* [max_sequences] whose they are */

    pthread_mutex_t lock; /* for all below, calls, and entries; and for the cache while nobody is computing */
    pthread_cond_t changed;
    pthread_cond_t unsaved; /* something for the saver to do */
    pthread_t saver;
    bool has_saver, closing;
    bool busy;      /* somebody prepares or runs a step */
    bool computing; /* and has model and cache */
    double
        full_until; /* rv_clock_ms; the first in line found no pages, nothing of ours was given back since */
    rv_budget_giver giver; /* for others with the same budget */
    bool measured_last;
    bool pure; /* the step under way has answers only */
    size_t answers;
    rv_call *line; /* who waits to be let in */
    uint64_t stamps;
    double gather_until; /* rv_clock_ms */
    double token_ms;     /* of a prompt; 0: not known */
    double between_ms;   /* two steps with answers in them: sampling, giving out text */
    double step_began;   /* the last one; rv_clock_ms */
    double step_end;     /* rv_clock_ms; 0: there was no answer in it */
    struct {
        uint64_t tenant, stamp;
    } tenants[RV_TENANTS];     /* who was let in when, the last ones */
    double cost[RV_COSTS + 1]; /* of a step of so many tokens, answers only, beside the others; in unit_ms */
    int cost_tries[RV_COSTS + 1]; /* that went into it */
    double unit_ms;               /* how slow the machine is */
    size_t costs_learned;
    bool alone;                    /* the last step had one answer, which may have drafts or not */
    bool has_model;                /* and a model to guess */
    int way;                       /* such answers go */
    double token_each_ms[RV_WAYS]; /* of such answers */
    double trial_ms;               /* of the steps since the way was chosen */
    size_t trial_steps, said, trials;
    uint64_t rounds; /* of letting in */
};
static inline bool rv_call_is_cancelled(const rv_call *c)
{
    return c->cancel && atomic_load_explicit(c->cancel, memory_order_relaxed);
}

static inline size_t rv_call_tokens(const rv_call *c)
{
    return rv_kv_seq_tokens(c->entry->seq);
}

static inline bool rv_call_same_tenant(const rv_call *a, const rv_call *b)
{
    return a == b || (a->tenant && a->tenant == b->tenant);
}

/** rv_call_finish - back to its caller, with this error. */
void rv_call_finish(rv_call *c, rv_err err);

/** rv_seats_open - sequences, two for every seat, and the thread that saves them when there is a shelf. Without the lock.
 * rv_seats_close - after any outcome of it. Without the lock. */
rv_err rv_seats_open(rv_batch *b) RV_MUST_CHECK;
void rv_seats_close(rv_batch *b);

/** rv_seats_join, rv_seats_leave - the line of those who wait to be let in. rv_seats_first - whose turn it would be if there
 * was room; NULL: nobody waits, or no seat is free. */
void rv_seats_join(rv_batch *b, rv_call *c);
void rv_seats_leave(rv_batch *b, rv_call *c);
rv_call *rv_seats_first(const rv_batch *b);
/** rv_seats_let_in - everybody for whom there is room; for whom there never will be is finished with RV_E_FULL. While computing. */
void rv_seats_let_in(rv_batch *b);
/** rv_seats_restore - read back what the call was let in for. Lets go of the lock meanwhile. */
void rv_seats_restore(rv_batch *b, rv_call *c);
/** rv_seats_tidy - ended calls leave their sequences as they are, because a step may be under way: what is more than
 * their tokens goes now. While nobody is computing, or by who does. */
void rv_seats_tidy(rv_batch *b);
#endif
