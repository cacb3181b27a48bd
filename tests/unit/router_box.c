/* Weights are swapped under requests that hold them. */
#include "router/box.h"
#include "test.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 40, READERS = 3, SWAPS = 30, TEXT = 64 };

/* Packed once; every version is read from these bytes. */
static uint8_t *bytes;
static size_t n_bytes;

static void pack_small(void)
{
    static char text[ROWS][TEXT];
    static rv_router_row rows[ROWS];
    static const char *const names[] = { "small", "large" };
    rv_router_how how = rv_router_how_default();
    rv_router_trained trained;
    rv_router *r;
    if (bytes) {
        return;
    }
    for (int i = 0; i < ROWS; i++) {
        int n = snprintf(text[i], TEXT, "question number %d about %s", i, i % 2 ? "sums" : "towns");
        rows[i] = (rv_router_row){ .text = text[i], .n = (size_t)n, .weight = 1 };
        rows[i].quality[0] = i % 2 == 0;
        rows[i].quality[1] = 1;
        rows[i].cost[0] = 1;
        rows[i].cost[1] = 5;
        rows[i].draft[0].confidence = rows[i].draft[1].confidence = -1;
    }
    rv_router_set set = { rows, ROWS, 2, names, 0, "", NULL };
    how.hidden = 4;
    how.rank = 2;
    CHECK_OK(rv_router_train(&rv_heap, &set, &how, &trained, &r));
    CHECK_OK(rv_router_pack(&rv_heap, r, &bytes, &n_bytes));
    rv_router_free(r);
}

static rv_router *fresh(void)
{
    rv_router *r;
    CHECK_OK(rv_router_unpack(&rv_heap, bytes, n_bytes, &r));
    return r;
}

typedef struct reader {
    rv_router_box *box;
    atomic_bool *stop;
    atomic_int *wrong;
} reader;

static void *read_on(void *self)
{
    reader *r = self;
    void *scratch = NULL;
    while (!atomic_load(r->stop)) {
        rv_router_held *held = rv_router_take(r->box);
        if (held) {
            rv_routed out;
            const rv_router *router = rv_router_held_get(held);
            scratch = scratch ? scratch : malloc(rv_router_scratch_bytes(router));
            rv_router_route(router,
                            &(rv_slot_input){ .text = "question number 3 about sums", .n = 28, .device = 2 },
                            0, true, scratch, &out);
            atomic_fetch_add(r->wrong, out.tier != 1 || rv_router_held_version(held) < 1);
        }
        rv_router_put(r->box, held);
    }
    free(scratch);
    return NULL;
}

TEST(weights_are_swapped_while_requests_hold_them)
{
    rv_router_box *box;
    atomic_bool stop = false;
    atomic_int wrong = 0;
    pthread_t threads[READERS];
    pack_small();
    CHECK_OK(rv_router_box_new(&rv_heap, &box));
    reader r = { box, &stop, &wrong };
    for (int i = 0; i < READERS; i++) {
        CHECK(pthread_create(&threads[i], NULL, read_on, &r) == 0, "thread %d", i);
    }
    for (int v = 1; v <= SWAPS; v++) {
        CHECK_OK(rv_router_publish(box, v % 10 == 0 ? NULL : fresh(), v));
    }
    atomic_store(&stop, true);
    for (int i = 0; i < READERS; i++) {
        pthread_join(threads[i], NULL);
    }
    CHECK(atomic_load(&wrong) == 0, "%d decisions of another router", atomic_load(&wrong));
    rv_router_box_free(box);
}

TEST(what_is_held_outlives_its_successor)
{
    rv_router_box *box;
    pack_small();
    CHECK_OK(rv_router_box_new(&rv_heap, &box));
    CHECK(!rv_router_take(box), "held before anything was published");
    CHECK_OK(rv_router_publish(box, fresh(), 1));
    rv_router_held *held = rv_router_take(box);
    CHECK_OK(rv_router_publish(box, fresh(), 2));
    CHECK(rv_router_held_version(held) == 1 && rv_router_tiers(rv_router_held_get(held)) == 2, "version %lld",
          (long long)rv_router_held_version(held));
    rv_router_put(box, held);
    held = rv_router_take(box);
    CHECK(rv_router_held_version(held) == 2, "version %lld", (long long)rv_router_held_version(held));
    rv_router_put(box, held);
    CHECK_OK(rv_router_publish(box, NULL, 0));
    CHECK(!rv_router_take(box), "held after nothing was left");
    rv_router_box_free(box);
}

TEST(a_tier_is_tried_as_often_as_it_is_cheap)
{
    rv_router_box *box;
    CHECK_OK(rv_router_box_new(&rv_heap, &box));
    CHECK(rv_router_explores(box, 0.01) == 0, "nothing is rated: %g", rv_router_explores(box, 0.01));
    rv_router_set_rated(box, 0, 1);
    CHECK(rv_router_explores(box, 0.01) == 1 && rv_router_explores(box, 0) == 0, "at first all");
    rv_router_set_rated(box, RV_ROUTER_SETTLED, 1);
    CHECK(fabs(rv_router_explores(box, 0.01) - 0.5) <= 1e-12, "%g", rv_router_explores(box, 0.01));
    rv_router_set_rated(box, 1000 * RV_ROUTER_SETTLED, 0.5);
    CHECK(fabs(rv_router_explores(box, 0.01) - 0.5 * RV_ROUTER_SEEKS) <= 1e-12, "without a router: %g",
          rv_router_explores(box, 0.01));
    pack_small();
    CHECK_OK(rv_router_publish(box, fresh(), 1));
    CHECK(fabs(rv_router_explores(box, 0.01) - 0.005) <= 1e-12, "the floor of what is rated: %g",
          rv_router_explores(box, 0.01));
    int all = 0, half = 0, free = 0;
    for (int i = 0; i < 1000; i++) {
        double draw = (i + 0.5) / 1000;
        bool dear = rv_router_tries(draw, 0.1, 8, 8), cheap = rv_router_tries(draw, 0.1, 4, 8);
        CHECK(cheap || !dear, "draw %g: the dear one is tried without the cheap one", draw);
        all += dear;
        half += cheap;
        free += rv_router_tries(draw, 0.1, 0.001, 8);
    }
    CHECK(all == 100 && half == 200 && free == 400, "%d, %d, %d", all, half, free);
    rv_router_box_free(box);
}
