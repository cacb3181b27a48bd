/* What does handing a job to the pool cost, when jobs follow each other, when the threads had gone to sleep, and per barrier?
 * One JSON line per case, microseconds. The floor is two cache lines moved between cores, about 0.2 us. */
#include "base/clock.h"
#include "base/cpu.h"
#include "base/pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ROUNDS = 2001, BARRIERS = 200 };

static rv_pool *pool;

static void nothing(void *arg, int thread, int n)
{
    (void)arg, (void)thread, (void)n;
}

static void barriers(void *arg, int thread, int n)
{
    (void)arg, (void)n;
    for (int i = 0; i < BARRIERS; i++) {
        rv_pool_barrier(pool, thread);
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(const char *name, rv_pool_job job, int rounds, int pause_us, int parts)
{
    static double us[ROUNDS];
    for (int i = 0; i < rounds; i++) {
        if (pause_us) {
            nanosleep(&(struct timespec){ .tv_nsec = pause_us * 1000 }, NULL);
        }
        uint64_t start = rv_clock_ns();
        rv_pool_run(pool, job, NULL);
        us[i] = (double)(rv_clock_ns() - start) / 1e3 / parts;
    }
    qsort(us, (size_t)rounds, sizeof us[0], by_value);
    printf("{\"bench\":\"base_pool\",\"case\":\"%s\",\"threads\":%d,\"cpus\":%d,\"median_us\":%.2f,\"p99_"
           "us\":%.2f}\n",
           name, rv_pool_threads(pool), rv_cpu_count(), us[rounds / 2], us[rounds * 99 / 100]);
}

int main(int n_args, char **args)
{
    int threads = n_args > 1 ? atoi(args[1]) : rv_cpu_count();
    if (rv_pool_new(&rv_heap, threads, &pool)) {
        fprintf(stderr, "%s\n", rv_err_text());
        return 1;
    }
    measure("jobs back to back", nothing, ROUNDS, 0, 1);
    measure("jobs 1 ms apart", nothing, 201, 1000, 1);
    measure("one of 200 barriers", barriers, 201, 0, BARRIERS);
    rv_pool_free(pool);
    return 0;
}
