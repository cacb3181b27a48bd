/* The router in use. Weights never change once published: a request takes the pointer, decides, and puts it back; publishing
 * swaps the pointer, and the version before goes when the last request that holds it puts it back. */
#ifndef RV_ROUTER_BOX_H
#define RV_ROUTER_BOX_H
#include "router/router.h"

typedef struct rv_router_box rv_router_box;
typedef struct rv_router_held rv_router_held;

rv_err rv_router_box_new(const rv_alloc *mem, rv_router_box **out) RV_MUST_CHECK;
void rv_router_box_free(rv_router_box *box); /* accepts NULL; nothing may be held */

/** rv_router_publish - put router (NULL: none from now on) in use as version; box owns it from here on, also after an error.
 * Threads: any thread; so for the calls below. */
rv_err rv_router_publish(rv_router_box *box, rv_router *router, int64_t version) RV_MUST_CHECK;

/** rv_router_take .. rv_router_put - hold what is in use; NULL: nothing is. */
rv_router_held *rv_router_take(rv_router_box *box);
void rv_router_put(rv_router_box *box, rv_router_held *held); /* accepts NULL */
const rv_router *rv_router_held_get(const rv_router_held *held);
int64_t rv_router_held_version(const rv_router_held *held);

/* Asking other tiers too costs something and teaches only when answers are rated: it goes as far as ratings come, all that are rated
 * at first, soon few. What a tier said that costs a quarter is asked for four times as often: so each tier's tries cost the same.
 * rv_router_set_rated - how many ratings there are, and which share of the last RV_ROUTER_WINDOW answers has one.
 * rv_router_count_answer, rv_router_count_rating - one more.
 * rv_router_explores - share of requests to ask all other tiers for: share rated * max(floor, 1 / (1 + (ratings / RV_ROUTER_SETTLED)^2)), the
 * floor at least RV_ROUTER_SEEKS while no router is in use: what it is tested on must grow until one can be told from none. 0 with floor 0.
 * rv_router_tries - whether a request whose draw in [0, 1) is draw asks a tier of this cost, where the dearest costs most and a share explores
 * asks all. */
enum { RV_ROUTER_WINDOW = 64, RV_ROUTER_SETTLED = 128 };
#define RV_ROUTER_SEEKS 0.05
void rv_router_set_rated(rv_router_box *box, int64_t ratings, double share);
void rv_router_count_answer(rv_router_box *box);
void rv_router_count_rating(rv_router_box *box);
double rv_router_explores(rv_router_box *box, double floor);
bool rv_router_tries(double draw, double explores, double cost, double most);
#endif
