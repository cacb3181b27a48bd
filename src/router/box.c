#include "router/box.h"

#include <math.h>
#include <pthread.h>

struct rv_router_held {
    rv_router *router;
    int64_t version;
    size_t holders; /* requests, and the box itself */
};

struct rv_router_box {
    const rv_alloc *mem;
    pthread_mutex_t lock;
    rv_router_held *now; /* NULL: none */
    double rated;        /* share of answers, running */
    int64_t ratings;
};

rv_err rv_router_box_new(const rv_alloc *mem, rv_router_box **out)
{
    rv_router_box *box = rv_new(mem, sizeof *box);
    if (!box) {
        return rv_fail(RV_E_NOMEM, "router");
    }
    *box = (struct rv_router_box){ .mem = mem };
    pthread_mutex_init(&box->lock, NULL);
    *out = box;
    return RV_OK;
}

void rv_router_put(rv_router_box *box, rv_router_held *held)
{
    if (!held) {
        return;
    }
    pthread_mutex_lock(&box->lock);
    bool last = --held->holders == 0;
    pthread_mutex_unlock(&box->lock);
    if (last) {
        rv_router_free(held->router);
        rv_free(box->mem, held);
    }
}

rv_router_held *rv_router_take(rv_router_box *box)
{
    pthread_mutex_lock(&box->lock);
    rv_router_held *held = box->now;
    if (held) {
        held->holders++;
    }
    pthread_mutex_unlock(&box->lock);
    return held;
}

rv_err rv_router_publish(rv_router_box *box, rv_router *router, int64_t version)
{
    rv_router_held *fresh = NULL;
    if (router) {
        fresh = rv_new(box->mem, sizeof *fresh);
        if (!fresh) {
            rv_router_free(router);
            return rv_fail(RV_E_NOMEM, "publishing a router");
        }
        *fresh = (rv_router_held){ router, version, 1 };
    }
    pthread_mutex_lock(&box->lock);
    rv_router_held *before = box->now;
    box->now = fresh;
    pthread_mutex_unlock(&box->lock);
    rv_router_put(box, before);
    return RV_OK;
}

void rv_router_box_free(rv_router_box *box)
{
    if (!box) {
        return;
    }
    rv_router_put(box, box->now);
    pthread_mutex_destroy(&box->lock);
    rv_free(box->mem, box);
}

const rv_router *rv_router_held_get(const rv_router_held *held)
{
    return held->router;
}
int64_t rv_router_held_version(const rv_router_held *held)
{
    return held->version;
}

/* ---- how much is rated ---- */

void rv_router_set_rated(rv_router_box *box, int64_t ratings, double share)
{
    pthread_mutex_lock(&box->lock);
    box->ratings = ratings;
    box->rated = share < 1 ? share : 1;
    pthread_mutex_unlock(&box->lock);
}

void rv_router_count_answer(rv_router_box *box)
{
    pthread_mutex_lock(&box->lock);
    box->rated *= 1 - 1.0 / RV_ROUTER_WINDOW;
    pthread_mutex_unlock(&box->lock);
}

void rv_router_count_rating(rv_router_box *box)
{
    pthread_mutex_lock(&box->lock);
    double share = box->rated + 1.0 / RV_ROUTER_WINDOW;
    box->rated = share < 1 ? share : 1;
    box->ratings++;
    pthread_mutex_unlock(&box->lock);
}

double rv_router_explores(rv_router_box *box, double floor)
{
    pthread_mutex_lock(&box->lock);
    double share = box->rated, known = (double)box->ratings / RV_ROUTER_SETTLED,
           least = box->now ? floor : fmax(floor, RV_ROUTER_SEEKS);
    pthread_mutex_unlock(&box->lock);
    return floor > 0 ? share * fmax(1 / (1 + known * known), least) : 0;
}

bool rv_router_tries(double draw, double explores, double cost, double most)
{
    /* At most four times: a tier that costs next to nothing still takes its turn on the machine. */
    double times = cost > 0 ? fmin(fmax(most / cost, 1), 4) : 1;
    return draw < explores * times;
}
