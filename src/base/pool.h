/* Compute pool: n threads that run the same function on parts of one job, then meet. The caller is thread 0.
 * Threads spin briefly for the next job and sleep after, so decode steps do not pay for a wake-up and an idle server
 * costs nothing (bench/base_pool.c: 0.4 us per job and 0.2 us per barrier with two processors to itself). */
#ifndef RV_BASE_POOL_H
#define RV_BASE_POOL_H
#include "base/alloc.h"
#include "base/err.h"

typedef struct rv_pool rv_pool;
typedef void (*rv_pool_job)(void *arg, int thread, int n_threads);

/** rv_pool_new - n_threads 1..256, the caller of rv_pool_run included (1 starts no thread); 0: one for each processor, 256 at
 * most. The threads have all signals blocked.
 * Errors: RV_E_ARG n_threads.  RV_E_NOMEM memory, or a thread could not be started; none is left behind. */
rv_err rv_pool_new(const rv_alloc *mem, int n_threads, rv_pool **out) RV_MUST_CHECK;
void rv_pool_free(rv_pool *pool);         /* accepts NULL; no job may be running */
int rv_pool_threads(const rv_pool *pool); /* 1 for NULL */

/** rv_pool_run - job(arg, i, n) once on each thread; returns when all are done, and sees what they wrote. NULL pool runs it
 * here, alone. Threads: one caller at a time; jobs must not call rv_pool_run. */
void rv_pool_run(rv_pool *pool, rv_pool_job job, void *arg);

/** rv_pool_barrier - inside a job, by all its threads: each waits here for the others; what was written before is seen
 * after. Never sleeps, so no thread may be long in coming. */
void rv_pool_barrier(rv_pool *pool, int thread);

/** rv_pool_take - inside a job: the next `part` of [0, n) that no thread has taken since the last barrier, or since the job began; false:
 * all are. For threads that may be slowed down by others on their processors. Between two barriers all threads of the job take parts of
 * one n only, each until it is told false. */
bool rv_pool_take(rv_pool *pool, size_t n, size_t part, size_t *from, size_t *to);

/** rv_pool_split - the part of [0, n) for one thread, borders at multiples of step (> 0; the last one excepted). Parts differ
 * by at most one step; late threads may get an empty one. */
void rv_pool_split(size_t n, size_t step, int thread, int n_threads, size_t *from, size_t *to);
#endif
