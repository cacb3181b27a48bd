/* One budget of bytes for everything that can be given up and made again: pages of key/value caches, adapters, router
 * weights. Whoever wants memory claims it first, so what is held never passes the budget. The budget holds no memory
 * itself.
 *
 * Threads: any thread, locks inside. */
#ifndef RV_KV_BUDGET_H
#define RV_KV_BUDGET_H
#include "base/alloc.h"
#include "base/err.h"
#include <stdint.h>

typedef enum rv_budget_class { RV_BUDGET_KV, RV_BUDGET_ADAPTERS, RV_BUDGET_ROUTER } rv_budget_class;
#define RV_BUDGET_CLASSES 3
extern const char *const rv_budget_class_names[RV_BUDGET_CLASSES]; /* "kv" "adapters" "router" */

typedef struct rv_budget rv_budget;

/** rv_budget_new - nothing is claimed yet. SIZE_MAX: there is no bound, and what is claimed is only counted. Errors:
 * RV_E_NOMEM. */
rv_err rv_budget_new(const rv_alloc *mem, size_t bytes, rv_budget **out) RV_MUST_CHECK;
void rv_budget_free(rv_budget *b); /* accepts NULL; nothing may be claimed */

/** rv_budget_claim - n bytes more for a class; false when they do not fit, then nothing changed.
 * rv_budget_release - gives back what was claimed. */
bool rv_budget_claim(rv_budget *b, rv_budget_class of, size_t n);
void rv_budget_release(rv_budget *b, rv_budget_class of, size_t n);

/** rv_budget_mem - an allocator whose blocks are claimed for a class, with the few bytes in front that remember their size. Where
 * there is no room others are asked to give something up first; NULL when that does not help. Lives as long as the budget,
 * which is freed after its last block. */
const rv_alloc *rv_budget_mem(rv_budget *b, rv_budget_class of);

/** rv_budget_begin, rv_budget_end - around what gives back room when it ends: an answer, a conversation being written.
 * rv_budget_is_idle - nothing of that kind is under way. */
void rv_budget_begin(rv_budget *b);
void rv_budget_end(rv_budget *b);
bool rv_budget_is_idle(const rv_budget *b);

size_t rv_budget_bytes(const rv_budget *b);
size_t rv_budget_room(const rv_budget *b); /* bytes nobody has claimed */
size_t rv_budget_used(const rv_budget *b, rv_budget_class of);
/** rv_budget_peak - the most that was claimed at any time, of all classes together. */
size_t rv_budget_peak(const rv_budget *b);
/**
 * rv_budget_score - what giving a thing up costs; the lowest goes first.
 *
 *     0.4 e^(-idle / 600 s) + 0.3 importance + 0.2 min(1, rebuild / 500 ms) - 0.1 log2(1 + bytes / 1 MiB) / 20
 *
 * importance  0 .. 1
 */
double rv_budget_score(double idle_s, double importance, double rebuild_ms, size_t bytes);

/* Somebody who holds what can be given up. Called by others, on their threads, never two at a time: both return at once
 * and say no when they would have to wait. */
typedef struct rv_budget_giver {
    /* rv_budget_score of the thing that would go first; INFINITY: none */
    double (*offer)(void *self);
    bool (*give)(void *self); /* gives it up; false: not now */
    void *self;
    struct rv_budget_giver *next; /* the budget's own */
} rv_budget_giver;

/** rv_budget_join - from now on others ask this one; it stays the caller's. rv_budget_leave - nobody asks any more when it
 * returns; also of one that did not join. */
void rv_budget_join(rv_budget *b, rv_budget_giver *giver);
void rv_budget_leave(rv_budget *b, rv_budget_giver *giver);
/** rv_budget_ask - the one of the others with the lowest score gives something up, if that is below a score; false: none
 * did. */
bool rv_budget_ask(rv_budget *b, const rv_budget_giver *asking, double below);
#endif
