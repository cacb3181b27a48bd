#include "base/clock.h"
#include "base/pool.h"
#include "base/rng.h"
#include "test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

enum { MOST = 16 };
static const int sizes[] = { 1, 2, 3, 4, 7, MOST };

typedef struct counts {
    _Atomic int ran[MOST];
    _Atomic int wrong;
    int n;
} counts;

static void count_job(void *arg, int thread, int n)
{
    counts *c = arg;
    c->ran[thread]++;
    c->wrong += n != c->n || thread < 0 || thread >= n;
}

TEST(every_thread_runs_each_job_once)
{
    for (size_t s = 0; s < RV_COUNT(sizes); s++) {
        rv_pool *pool;
        CHECK_OK(rv_pool_new(&rv_heap, sizes[s], &pool));
        CHECK(rv_pool_threads(pool) == sizes[s], "%d", rv_pool_threads(pool));
        counts c = { .n = sizes[s] };
        int rounds = 2000 / sizes[s];
        for (int i = 0; i < rounds; i++) {
            rv_pool_run(pool, count_job, &c);
            for (int t = 0; t < sizes[s]; t++) {
                CHECK(c.ran[t] == i + 1, "%d threads, round %d: thread %d ran %d times", sizes[s], i, t,
                      c.ran[t]);
            }
        }
        CHECK(c.wrong == 0, "%d wrong numbers", c.wrong);
        rv_pool_free(pool);
    }
}

TEST(a_missing_pool_runs_the_job_here)
{
    counts c = { .n = 1 };
    rv_pool_run(NULL, count_job, &c);
    rv_pool_barrier(NULL, 0);
    CHECK(c.ran[0] == 1 && c.wrong == 0 && rv_pool_threads(NULL) == 1, "ran %d", c.ran[0]);
    rv_pool_free(NULL);
    rv_pool *pool;
    CHECK_ERR(rv_pool_new(&rv_heap, -1, &pool), RV_E_ARG);
    CHECK_ERR(rv_pool_new(&rv_heap, 257, &pool), RV_E_ARG);
}

typedef struct taking {
    rv_pool *pool;
    size_t n, part;
    _Atomic uint8_t by[2][1000]; /* how often each of [0, n) was taken, before and after a barrier */
    _Atomic size_t wrong;
} taking;

static void take_job(void *arg, int thread, int n_threads)
{
    taking *g = arg;
    (void)n_threads;
    for (size_t round = 0; round < 2; round++) {
        size_t n = round ? g->n / 2 : g->n, from, to; /* another n after the barrier */
        while (rv_pool_take(g->pool, n, g->part, &from, &to)) {
            g->wrong += from % g->part != 0 || from >= to || to > n || (to - from != g->part && to != n);
            for (size_t i = from; i < to && i < n; i++) {
                g->by[round][i]++;
            }
        }
        rv_pool_barrier(g->pool, thread);
    }
}

TEST(parts_are_taken_once_between_barriers)
{
    static const size_t parts[] = { 1, 3, 32, 2000 };
    for (size_t s = 0; s < RV_COUNT(sizes) * RV_COUNT(parts); s++) {
        taking g = { .n = s % 3 ? 1000 : s, .part = parts[s % RV_COUNT(parts)] };
        CHECK_OK(rv_pool_new(&rv_heap, sizes[s / RV_COUNT(parts)], &g.pool));
        for (size_t run = 1; run < 20; run++) {
            rv_pool_run(g.pool, take_job, &g);
            for (size_t i = 0; i < 1000; i++) {
                CHECK(g.by[0][i] == (i < g.n ? run : 0) && g.by[1][i] == (i < g.n / 2 ? run : 0),
                      "run %zu: %zu of %zu taken %d and %d times", run, i, g.n, g.by[0][i], g.by[1][i]);
            }
        }
        CHECK(g.wrong == 0, "%zu parts have wrong borders", (size_t)g.wrong);
        rv_pool_free(g.pool);
    }
}

TEST(threads_that_went_to_sleep_come_back)
{
    rv_pool *pool;
    CHECK_OK(rv_pool_new(&rv_heap, 4, &pool));
    counts c = { .n = 4 };
    for (int i = 0; i < 20; i++) {
        nanosleep(&(struct timespec){ .tv_nsec = i % 4 * 2000000 }, NULL); /* spinning lasts far less */
        rv_pool_run(pool, count_job, &c);
    }
    for (int t = 0; t < 4; t++) {
        CHECK(c.ran[t] == 20, "thread %d: %d", t, c.ran[t]);
    }
    rv_pool_free(pool);
}

static void slow_job(void *arg, int thread, int n)
{
    if (thread == n - 1) { /* the caller has to sleep, too */
        nanosleep(&(struct timespec){ .tv_nsec = 3000000 }, NULL);
    }
    count_job(arg, thread, n);
}

TEST(the_caller_waits_for_the_slowest)
{
    rv_pool *pool;
    CHECK_OK(rv_pool_new(&rv_heap, 3, &pool));
    counts c = { .n = 3 };
    for (int i = 0; i < 10; i++) {
        rv_pool_run(pool, slow_job, &c);
        CHECK(c.ran[2] == i + 1, "came back before thread 2 was done");
    }
    rv_pool_free(pool);
}

/* Plain memory, no atomics: the barrier alone has to make the writes of one phase visible in the next. */
typedef struct phases {
    rv_pool *pool;
    long cell[MOST][8];
    int n_phases;
    _Atomic int wrong;
} phases;

static void phase_job(void *arg, int thread, int n)
{
    phases *p = arg;
    for (int i = 0; i < p->n_phases; i++) {
        p->cell[thread][0]++;
        rv_pool_barrier(p->pool, thread);
        for (int t = 0; t < n; t++) {
            p->wrong += p->cell[t][0] != i + 1;
        }
        rv_pool_barrier(p->pool, thread);
    }
}

TEST(the_barrier_keeps_phases_apart)
{
    for (size_t s = 0; s < RV_COUNT(sizes); s++) {
        phases p = { .n_phases = 3000 / sizes[s] };
        CHECK_OK(rv_pool_new(&rv_heap, sizes[s], &p.pool));
        for (int round = 0; round < 3; round++) {
            memset(p.cell, 0, sizeof p.cell);
            rv_pool_run(p.pool, phase_job, &p);
            CHECK(p.wrong == 0, "%d threads: %d wrong reads", sizes[s], p.wrong);
        }
        rv_pool_free(p.pool);
    }
}

TEST(parts_cover_everything_once_at_multiples_of_the_step)
{
    rv_rng rng;
    rv_rng_init(&rng, 3);
    for (int i = 0; i < 20000; i++) {
        size_t n = rv_rng_below(&rng, 300), step = 1 + rv_rng_below(&rng, 40), last = 0, least = SIZE_MAX,
               most = 0;
        int threads = 1 + (int)rv_rng_below(&rng, 20);
        for (int t = 0; t < threads; t++) {
            size_t from, to;
            rv_pool_split(n, step, t, threads, &from, &to);
            CHECK(from == last && to >= from && to <= n, "n %zu step %zu part %d/%d: %zu..%zu after %zu", n,
                  step, t, threads, from, to, last);
            CHECK(from % step == 0 || from == n, "n %zu step %zu part %d/%d begins at %zu", n, step, t,
                  threads, from);
            size_t steps = (to - from + step - 1) / step;
            least = steps < least ? steps : least;
            most = steps > most ? steps : most;
            last = to;
        }
        CHECK(last == n, "n %zu step %zu threads %d: covered to %zu", n, step, threads, last);
        CHECK(most - least <= 1, "n %zu step %zu threads %d: %zu to %zu steps", n, step, threads, least,
              most);
    }
}
