/* A machine with more processors than a pool may have threads. */
#include "backend/backend.h"
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
    const char *file = source_path("tests/data/golden/a-q8_0.gguf");
    if (rv_cpu_count() < 384) {
        SKIP("a quota of the system bounds the processors");
    }
    rv_backend *b = NULL;
    rv_backend_options how = {
        .max_context = 64, .kv_type = RV_F16, .max_loaded = 1, .files = &file, .n_files = 1
    };
    CHECK_OK(rv_backend_open(&rv_heap, &how, &b));
    rv_backend_close(b);
}
