/* Blocks that are claimed: counted to the byte while they live, never past the budget, and others are asked before no is said. */
#include "base/rng.h"
#include "kv/budget.h"
#include "test.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { BLOCKS = 40, ROUNDS = 10000, BOUND = 20000 };

typedef struct block {
    uint8_t *at;
    size_t n;
    bool aligned;
    uint8_t fill;
} block;

static void check_block(const block *b)
{
    for (size_t i = 0; i < b->n; i++) {
        CHECK(b->at[i] == b->fill, "byte %zu of %zu is %d, it was %d", i, b->n, b->at[i], b->fill);
    }
}

TEST(random_blocks_are_counted_and_keep_their_bytes)
{
    static block blocks[BLOCKS];
    rv_budget *budget = NULL;
    CHECK_OK(rv_budget_new(&rv_heap, BOUND, &budget));
    const rv_alloc *mem = rv_budget_mem(budget, RV_BUDGET_ADAPTERS);
    rv_rng rng;
    rv_rng_init(&rng, 3);
    size_t refused = 0;
    for (size_t round = 0; round < ROUNDS; round++) {
        block *b = &blocks[rv_rng_below(&rng, BLOCKS)];
        size_t n = 1 + rv_rng_below(&rng, 1500);
        uint8_t *fresh = NULL;
        if (b->at && (b->aligned || rv_rng_below(&rng, 2))) {
            check_block(b);
            rv_free(mem, b->at);
            *b = (block){ 0 };
            continue;
        }
        bool aligned = !b->at && rv_rng_below(&rng, 2);
        size_t before = b->n;
        fresh = aligned ? rv_new_aligned(mem, 64, n) : rv_resize(mem, b->at, n);
        refused += !fresh;
        if (fresh) {
            CHECK(!aligned || (uintptr_t)fresh % 64 == 0, "%p", (void *)fresh);
            *b = (block){ fresh, n < before ? n : before, aligned, b->fill };
            check_block(b);
            *b = (block){ fresh, n, aligned, (uint8_t)round };
            memset(fresh, b->fill, n);
        } else if (b->at) {
            check_block(b);
        }
        size_t bytes = 0, most = 0;
        for (size_t i = 0; i < BLOCKS; i++) {
            bytes += blocks[i].n;
            most += blocks[i].at ? blocks[i].n + 64 : 0;
        }
        size_t used = rv_budget_used(budget, RV_BUDGET_ADAPTERS);
        CHECK(used >= bytes && used <= most && used + rv_budget_room(budget) == BOUND,
              "%zu bytes in use for %zu", used, bytes);
    }
    CHECK(refused > 100 && rv_budget_peak(budget) <= BOUND, "%zu refused, %zu at most", refused,
          rv_budget_peak(budget));
    for (size_t i = 0; i < BLOCKS; i++) {
        rv_free(mem, blocks[i].at);
    }
    CHECK(rv_budget_used(budget, RV_BUDGET_ADAPTERS) == 0, "something was left");
    CHECK(rv_new(mem, BOUND) == NULL && !rv_new_aligned(mem, 64, SIZE_MAX - 8), "more than there is");
    rv_budget_free(budget);
}

typedef struct owner {
    rv_budget *budget;
    size_t things;
} owner;

static double offer(void *self)
{
    return ((owner *)self)->things ? 1 : (double)INFINITY;
}

static bool give(void *self)
{
    owner *o = self;
    o->things--;
    rv_budget_release(o->budget, RV_BUDGET_KV, 1000);
    return true;
}

TEST(others_give_up_as_much_as_is_needed_and_no_more)
{
    owner o = { NULL, 4 };
    CHECK_OK(rv_budget_new(&rv_heap, 4000, &o.budget));
    CHECK(rv_budget_claim(o.budget, RV_BUDGET_KV, 4000), "all of it");
    rv_budget_giver giver = { .offer = offer, .give = give, .self = &o };
    rv_budget_join(o.budget, &giver);
    const rv_alloc *mem = rv_budget_mem(o.budget, RV_BUDGET_ROUTER);
    CHECK(!rv_new(mem, 4000) && o.things == 4, "what can never fit takes nothing from anybody");
    void *p = rv_new(mem, 1500);
    CHECK(p && o.things == 2, "%zu are left", o.things);
    CHECK(rv_budget_used(o.budget, RV_BUDGET_ROUTER) >= 1500, "not counted");
    rv_free(mem, p);
    rv_budget_release(o.budget, RV_BUDGET_KV, 2000);
    rv_budget_leave(o.budget, &giver);
    rv_budget_free(o.budget);
}

TEST(a_budget_without_bound_counts)
{
    rv_budget *budget = NULL;
    CHECK_OK(rv_budget_new(&rv_heap, SIZE_MAX, &budget));
    const rv_alloc *mem = rv_budget_mem(budget, RV_BUDGET_ROUTER);
    void *p = rv_new(mem, 1 << 20);
    CHECK(p && rv_budget_used(budget, RV_BUDGET_ROUTER) >= 1 << 20, "not counted");
    rv_free(mem, p);
    rv_budget_free(budget);
}

TEST(every_failed_allocation_gives_its_claim_back)
{
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_budget *budget = NULL;
        if (rv_budget_new(&m.alloc, 5000, &budget)) {
            continue;
        }
        const rv_alloc *mem = rv_budget_mem(budget, RV_BUDGET_ADAPTERS);
        char *p = rv_new(mem, 100), *q = p ? rv_resize(mem, p, 300) : NULL;
        void *a = rv_new_aligned(mem, 64, 200);
        rv_free(mem, q ? q : p);
        rv_free(mem, a);
        CHECK(rv_budget_used(budget, RV_BUDGET_ADAPTERS) == 0, "call %ld", m.fail_at);
        rv_budget_free(budget);
    }
}

TEST(it_is_idle_when_all_that_has_begun_has_ended)
{
    rv_budget *budget = NULL;
    CHECK_OK(rv_budget_new(&rv_heap, BOUND, &budget));
    CHECK(rv_budget_is_idle(budget), "nothing has begun");
    rv_budget_begin(budget);
    rv_budget_begin(budget);
    rv_budget_end(budget);
    CHECK(!rv_budget_is_idle(budget), "one is under way");
    rv_budget_end(budget);
    CHECK(rv_budget_is_idle(budget), "both have ended");
    rv_budget_free(budget);
}
