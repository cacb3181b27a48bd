#include "base/arena.h"
#include "base/json.h"
#include "base/pool.h"
#include "base/str.h"
#include "test.h"

#include <string.h>

TEST(an_arena_without_memory_hands_out_nothing_and_goes_on)
{
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_arena *arena = NULL;
        rv_err e = rv_arena_new(&m.alloc, 1 << 20, &arena);
        CHECK(e == (m.failed ? RV_E_NOMEM : RV_OK) && (arena == NULL) == m.failed, "%s", rv_err_name(e));
        int taken = 0, refused = 0;
        for (int i = 0; arena && i < 50; i++) {
            char *p = rv_arena_take(arena, 1000);
            taken += p != NULL;
            refused += p == NULL;
            if (p) {
                memset(p, 1, 1000);
            }
        }
        CHECK(refused <= 1 && (!arena || taken == 50 - refused), "%d taken, %d refused", taken, refused);
        CHECK(!arena || (refused == 1) == m.failed, "call %ld", m.fail_at);
        rv_arena_free(arena);
    }
}

TEST(a_text_without_memory_keeps_what_it_has)
{
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_text t;
        rv_text_init(&t, &m.alloc, 1 << 20);
        for (int i = 0; i < 300; i++) {
            rv_text_addf(&t, "%d,", i);
        }
        CHECK(t.failed == m.failed, "call %ld", m.fail_at);
        CHECK((rv_text_check(&t) == RV_E_NOMEM) == m.failed, "call %ld", m.fail_at);
        CHECK(strncmp(rv_text_get(&t), "0,1,2,3,", t.n < 8 ? t.n : 8) == 0, "%s", rv_text_get(&t));
        char *taken = rv_text_take(&t);
        CHECK((taken == NULL) == m.failed, "call %ld", m.fail_at);
        rv_free(&m.alloc, taken);
    }
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_text t;
        rv_text_init(&t, &m.alloc, 10);
        char *empty = rv_text_take(&t);
        CHECK((empty == NULL) == m.failed, "call %ld", m.fail_at);
        rv_free(&m.alloc, empty);
    }
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        json_t *v = json_pack("{s:[i,s]}", "key", 1, "text");
        rv_text t;
        rv_text_init(&t, &m.alloc, 1000);
        rv_json_text(v, &t);
        CHECK(t.failed == m.failed, "call %ld", m.fail_at);
        rv_text_deinit(&t);
        json_decref(v);
    }
}

static void add_one(void *arg, int thread, int n)
{
    (void)n;
    ((int *)arg)[thread]++;
}

TEST(a_pool_is_made_whole_or_not_at_all)
{
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_pool *pool = NULL;
        rv_err e = rv_pool_new(&m.alloc, 3, &pool);
        CHECK(e == (m.failed ? RV_E_NOMEM : RV_OK) && (pool == NULL) == m.failed, "call %ld: %s", m.fail_at,
              rv_err_name(e));
        if (pool) {
            int ran[3] = { 0 };
            rv_pool_run(pool, add_one, ran);
            CHECK(ran[0] == 1 && ran[1] == 1 && ran[2] == 1, "%d %d %d", ran[0], ran[1], ran[2]);
        }
        rv_pool_free(pool);
    }
}

TEST(copies_without_memory_are_null)
{
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        char *a = rv_strdup(&m.alloc, "a");
        void *b = rv_new_array(&m.alloc, 3, 8), *c = rv_new_aligned(&m.alloc, 64, 3);
        CHECK((!a || !b || !c) == m.failed, "call %ld", m.fail_at);
        rv_free(&m.alloc, a);
        rv_free(&m.alloc, b);
        rv_free(&m.alloc, c);
    }
}
