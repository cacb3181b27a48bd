/* A round of learning that takes long: nothing may be forgotten while it reads what users said and while it publishes what it made of that; in
 * between it trains on copies, and nobody waits for it. When something was forgotten by then, what it made is dropped. */
#ifndef RV_LEARN_GATE_H
#define RV_LEARN_GATE_H
#include "base/err.h"
#include <stdbool.h>

/* NULL wherever one is taken: nothing is forgotten meanwhile. */
typedef struct rv_gate {
    bool (*go_on)(void *self); /* asked while rows are read; false: somebody waits, or it is to end */
    void (*leave)(void *self); /* all was read. Each is followed by one enter */
    bool (*enter)(void *self); /* before publishing; false: something was forgotten since the round began */
    void *self;
} rv_gate;

static inline rv_err rv_gate_go_on(const rv_gate *gate)
{
    return !gate || gate->go_on(gate->self)
               ? RV_OK
               : rv_fail(RV_E_CANCELLED, "learning gave way while it read what to learn from");
}
static inline void rv_gate_leave(const rv_gate *gate)
{
    if (gate) {
        gate->leave(gate->self);
    }
}
static inline rv_err rv_gate_enter(const rv_gate *gate)
{
    return !gate || gate->enter(gate->self)
               ? RV_OK
               : rv_fail(RV_E_CANCELLED,
                         "something was forgotten while it was learned from: nothing of it is used");
}
#endif
