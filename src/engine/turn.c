#include "engine/turn.h"
#include "base/cond.h"

enum { LOOK_MS = 20 }; /* how often a waiting call looks at its cancel flag: nobody signals that */

typedef struct waiter {
    struct waiter *next;
} waiter;

struct rv_turn {
    const rv_alloc *mem;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    waiter *first; /* on the stacks of those who wait */
    bool taken;
};

rv_err rv_turn_new(const rv_alloc *mem, rv_turn **out)
{
    rv_turn *turn = rv_new(mem, sizeof *turn);
    if (!turn) {
        return rv_fail(RV_E_NOMEM, "no memory for a queue");
    }
    turn->mem = mem;
    pthread_mutex_init(&turn->lock, NULL);
    rv_cond_init(&turn->changed);
    *out = turn;
    return RV_OK;
}

void rv_turn_free(rv_turn *turn)
{
    if (turn) {
        pthread_cond_destroy(&turn->changed);
        pthread_mutex_destroy(&turn->lock);
        rv_free(turn->mem, turn);
    }
}

static bool cancelled(const atomic_bool *cancel)
{
    return cancel && atomic_load_explicit(cancel, memory_order_relaxed);
}

bool rv_turn_begin(rv_turn *turn, const atomic_bool *cancel)
{
    waiter self = { 0 };
    pthread_mutex_lock(&turn->lock);
    waiter **link = &turn->first;
    while (*link) {
        link = &(*link)->next;
    }
    *link = &self;
    bool mine;
    while (!(mine = turn->first == &self && !turn->taken) && !cancelled(cancel)) {
        if (cancel) {
            rv_cond_wait_ms(&turn->changed, &turn->lock, LOOK_MS);
        } else {
            pthread_cond_wait(&turn->changed, &turn->lock);
        }
    }
    for (link = &turn->first; *link != &self;) {
        link = &(*link)->next;
    }
    *link = self.next;
    turn->taken |= mine;
    pthread_cond_broadcast(&turn->changed); /* somebody else may be first now */
    pthread_mutex_unlock(&turn->lock);
    return mine;
}

void rv_turn_end(rv_turn *turn)
{
    pthread_mutex_lock(&turn->lock);
    turn->taken = false;
    pthread_cond_broadcast(&turn->changed);
    pthread_mutex_unlock(&turn->lock);
}
