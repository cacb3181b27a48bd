/* Threads that wait for a number to change: jobs are counted by `start`, the threads still busy by `busy`. Who waits
 * spins, then yields, then sleeps; who changes a number wakes sleepers only when there are some, so in a decode step,
 * where the next job comes within microseconds, no system call is made.
 *
 * No wake-up is lost: a sleeper counts itself before it looks at the number for the last time, and the waker changes the
 * number before it looks at the count, both sequentially consistent; one of the two sees the other. */
#include "base/pool.h"
#include "base/clock.h"
#include "base/cpu.h"

#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

enum {
    THREADS_MAX = 256,
    LINE = 64, /* bytes of a cache line */
    /* Spinning is for the other thread being about to arrive: a barrier between equal parts takes 0.2 us. On a busy machine
     * the awaited thread may be queued behind us on this very processor, so yielding has to come soon. 200 yields are 50 us
     * where nobody else wants the processor. */
    SPIN_NS = 5000,
    YIELDS = 200,
};

/* A number that threads wait on. */
typedef struct gate {
    _Alignas(LINE) _Atomic uint32_t number;
    _Atomic uint32_t sleepers;
    pthread_mutex_t lock;
    pthread_cond_t changed;
} gate;

typedef struct worker {
    rv_pool *pool;
    int thread;
    pthread_t id;
} worker;

struct rv_pool {
    const rv_alloc *mem;
    int n_threads, n_started, spins;
    worker *workers;
    rv_pool_job job;
    void *arg;
    bool stop;
    gate start, busy;
    _Alignas(LINE) _Atomic uint32_t arrived; /* barrier */
    _Alignas(LINE) _Atomic uint32_t phase;
    _Alignas(LINE) _Atomic size_t taken; /* parts, since the last barrier */
};

#if defined(__x86_64__)
static void pause_cpu(void)
{
    __builtin_ia32_pause();
}
#elif defined(__aarch64__)
static void pause_cpu(void)
{
    __asm__ volatile("yield");
}
#else
static void pause_cpu(void)
{
    atomic_signal_fence(memory_order_seq_cst);
}
#endif

/* How many pauses take SPIN_NS: processors differ by a factor of ten. The best of three, because others run here too. */
static int measure_spins(void)
{
    enum { PAUSES = 200 };
    uint64_t best = UINT64_MAX;
    for (int try = 0; try < 3; try++) {
        uint64_t start = rv_clock_ns();
        for (int i = 0; i < PAUSES; i++) {
            pause_cpu();
        }
        uint64_t ns = rv_clock_ns() - start;
        best = ns < best ? ns : best;
    }
    return (int)(PAUSES * (uint64_t)SPIN_NS / (best < PAUSES ? PAUSES : best));
}

static void gate_init(gate *g)
{
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->changed, NULL);
}

static void gate_deinit(gate *g)
{
    pthread_cond_destroy(&g->changed);
    pthread_mutex_destroy(&g->lock);
}

/* After the number was changed (sequentially consistent). */
static void gate_wake(gate *g)
{
    if (atomic_load(&g->sleepers) > 0) {
        pthread_mutex_lock(&g->lock);
        pthread_cond_broadcast(&g->changed);
        pthread_mutex_unlock(&g->lock);
    }
}

/* Returns when the number is no longer `old` (or is zero, with until_zero). */
static bool passed(gate *g, uint32_t old, bool until_zero)
{
    uint32_t now = atomic_load(&g->number);
    return until_zero ? now == 0 : now != old;
}

static void gate_wait(gate *g, uint32_t old, bool until_zero, int spins)
{
    for (int i = 0; i < spins; i++) {
        if (passed(g, old, until_zero)) {
            return;
        }
        pause_cpu();
    }
    for (int i = 0; i < YIELDS; i++) {
        if (passed(g, old, until_zero)) {
            return;
        }
        sched_yield();
    }
    pthread_mutex_lock(&g->lock);
    atomic_fetch_add(&g->sleepers, 1);
    while (!passed(g, old, until_zero)) {
        pthread_cond_wait(&g->changed, &g->lock);
    }
    atomic_fetch_sub(&g->sleepers, 1);
    pthread_mutex_unlock(&g->lock);
}

static void *work(void *arg)
{
    worker *w = arg;
    rv_pool *pool = w->pool;
    for (uint32_t seen = 0;; seen++) {
        gate_wait(&pool->start, seen, false, pool->spins);
        if (pool->stop) {
            return NULL;
        }
        pool->job(pool->arg, w->thread, pool->n_threads);
        if (atomic_fetch_sub(&pool->busy.number, 1) == 1) {
            gate_wake(&pool->busy);
        }
    }
}

/* Signals are for the main thread: workers are started with all of them blocked. */
static rv_err start_workers(rv_pool *pool)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int why = 0;
    for (int i = 1; i < pool->n_threads && !why; i++) {
        worker *w = &pool->workers[i - 1];
        *w = (worker){ .pool = pool, .thread = i };
        why = pthread_create(&w->id, NULL, work, w);
        pool->n_started += !why;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return why ? rv_fail(RV_E_NOMEM, "cannot start thread %d of %d: %s", pool->n_started + 1, pool->n_threads,
                         strerror(why))
               : RV_OK;
}

rv_err rv_pool_new(const rv_alloc *mem, int n_threads, rv_pool **out)
{
    if (n_threads == 0) {
        n_threads = rv_cpu_count() < THREADS_MAX ? rv_cpu_count() : THREADS_MAX;
    }
    if (n_threads < 1 || n_threads > THREADS_MAX) {
        return rv_fail(RV_E_ARG, "%d threads, expected 1 to %d", n_threads, THREADS_MAX);
    }
    rv_pool *pool = rv_new_aligned(mem, LINE, sizeof *pool);
    if (!pool) {
        return rv_fail(RV_E_NOMEM, "no memory for a pool of threads");
    }
    pool->mem = mem;
    pool->n_threads = n_threads;
    /* With more threads than processors spinning would keep the awaited one from running. */
    pool->spins = n_threads <= rv_cpu_count() ? measure_spins() : 0;
    gate_init(&pool->start);
    gate_init(&pool->busy);
    pool->workers = rv_new_array(mem, (size_t)n_threads, sizeof *pool->workers);
    rv_err e =
        pool->workers ? start_workers(pool) : rv_fail(RV_E_NOMEM, "no memory for %d threads", n_threads);
    if (e) {
        rv_pool_free(pool);
        return e;
    }
    *out = pool;
    return RV_OK;
}

void rv_pool_free(rv_pool *pool)
{
    if (!pool) {
        return;
    }
    pool->stop = true;
    atomic_fetch_add(&pool->start.number, 1);
    gate_wake(&pool->start);
    for (int i = 0; i < pool->n_started; i++) {
        pthread_join(pool->workers[i].id, NULL);
    }
    gate_deinit(&pool->start);
    gate_deinit(&pool->busy);
    rv_free(pool->mem, pool->workers);
    rv_free(pool->mem, pool);
}

int rv_pool_threads(const rv_pool *pool)
{
    return pool ? pool->n_threads : 1;
}

void rv_pool_run(rv_pool *pool, rv_pool_job job, void *arg)
{
    if (pool) {
        atomic_store_explicit(&pool->taken, 0, memory_order_relaxed);
    }
    if (!pool || pool->n_threads == 1) {
        job(arg, 0, 1);
        return;
    }
    pool->job = job;
    pool->arg = arg;
    atomic_store(&pool->busy.number, (uint32_t)(pool->n_threads - 1));
    atomic_fetch_add(&pool->start.number, 1);
    gate_wake(&pool->start);
    job(arg, 0, pool->n_threads);
    gate_wait(&pool->busy, 0, true, pool->spins);
}

void rv_pool_barrier(rv_pool *pool, int thread)
{
    if (!pool) {
        return;
    }
    assert(thread >= 0 && thread < pool->n_threads);
    (void)thread;
    uint32_t phase =
        atomic_load_explicit(&pool->phase, memory_order_acquire); /* cannot change before we arrive */
    if (atomic_fetch_add_explicit(&pool->arrived, 1, memory_order_acq_rel) == (uint32_t)pool->n_threads - 1) {
        atomic_store_explicit(&pool->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&pool->taken, 0, memory_order_relaxed);
        atomic_store_explicit(&pool->phase, phase + 1, memory_order_release);
        return;
    }
    for (int i = 0; atomic_load_explicit(&pool->phase, memory_order_acquire) == phase; i++) {
        if (i < pool->spins) {
            pause_cpu();
        } else {
            sched_yield();
        }
    }
}

bool rv_pool_take(rv_pool *pool, size_t n, size_t part, size_t *from, size_t *to)
{
    assert(part > 0);
    const size_t i = atomic_fetch_add_explicit(&pool->taken, 1, memory_order_relaxed);
    const size_t parts = n / part + (n % part != 0);
    if (i >= parts) {
        return false;
    }
    *from = i * part;
    *to = n - *from > part ? *from + part : n;
    return true;
}

void rv_pool_split(size_t n, size_t step, int thread, int n_threads, size_t *from, size_t *to)
{
    assert(step > 0 && n_threads > 0 && thread >= 0 && thread < n_threads);
    size_t steps = n / step + (n % step != 0), each = steps / (size_t)n_threads,
           more = steps % (size_t)n_threads;
    size_t i = (size_t)thread;
    size_t first = i * each + (i < more ? i : more), last = first + each + (i < more);
    *from = first * step < n ? first * step : n;
    *to = last * step < n ? last * step : n;
}
