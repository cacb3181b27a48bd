/* A machine with more processors than a pool may have threads. */
#include "base/pool.h"
#include "base/cpu.h"
#include "test.h"

#include <sched.h>

/* In place of the system's. */
int sched_getaffinity(pid_t pid, size_t n, cpu_set_t *set)
{
    (void)pid;
    CPU_ZERO_S(n, set);
    for (int i = 0; i < 384; i++) {
        CPU_SET_S(i, n, set);
    }
    return 0;
}

TEST(every_processor_but_no_more_than_a_pool_holds_is_used)
{
    if (rv_cpu_count() < 384) {
        SKIP("a quota of the system bounds the processors");
    }
    rv_pool *pool = NULL;
    CHECK_OK(rv_pool_new(&rv_heap, 0, &pool));
    CHECK(rv_pool_threads(pool) == 256, "%d threads", rv_pool_threads(pool));
    rv_pool_free(pool);
}
