/* The instant loop of adapters: after a correction the user's adapter is trained a little, by a thread of its own and low priority; who gave
 * the correction does not wait. */
#ifndef RV_LEARN_ADAPTER_LOOP_H
#define RV_LEARN_ADAPTER_LOOP_H
#include "learn/adapter_learn.h"

typedef struct rv_adapter_loop rv_adapter_loop;

typedef struct rv_adapter_loop_options {
    rv_adapter_learning learning; /* of each time; engine, pool, user, on_step and self are filled in */
    /* The engine that a name stands for, held until put. */
    rv_err (*take)(void *self, const char *model, rv_engine **out);
    void (*put)(void *self, rv_engine *engine);
    bool (*go_on)(
        void *
            self); /* asked after each step; false: the engine is put, and the round begins again. May be NULL */
    void *self;
} rv_adapter_loop_options;

/** rv_adapter_loop_new - starts the thread. What the options name outlives it. Errors: RV_E_NOMEM. */
rv_err rv_adapter_loop_new(const rv_alloc *mem, const rv_adapter_loop_options *how,
                           rv_adapter_loop **out) RV_MUST_CHECK;
/** rv_adapter_loop_free - drops what waits, stops what runs after its step. Accepts NULL. */
void rv_adapter_loop_free(rv_adapter_loop *loop);

/** rv_adapter_loop_notify - this user corrected an answer of this model. Returns at once; the same one waiting already is not asked for
 * twice, and when 64 are waiting the next learns from it later, with the user's other corrections. Any thread. */
void rv_adapter_loop_notify(rv_adapter_loop *loop, const char *model, const char *user);

/** rv_adapter_loop_wait - until nothing waits or runs. Any thread. */
void rv_adapter_loop_wait(rv_adapter_loop *loop);
#endif
