#include "base/cpu.h"
#include "test.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

TEST(levels_have_names_that_parse)
{
    for (int i = 0; i < RV_CPU_LEVELS; i++) {
        rv_cpu_level level = RV_CPU_LEVELS;
        const char *name = rv_cpu_level_name((rv_cpu_level)i);
        CHECK(rv_cpu_parse_level(name, &level) && level == (rv_cpu_level)i, "%s", name);
    }
    rv_cpu_level level = RV_CPU_AVX2;
    CHECK(!rv_cpu_parse_level("sse9", &level) && level == RV_CPU_AVX2, "an unknown level");
    CHECK(strcmp(rv_cpu_level_name((rv_cpu_level)99), "unknown") == 0, "out of range");
}

/* The kernel's own list of what it lets programs use, as words. */
static bool kernel_lists(const char *flag)
{
    static char line[16384];
    FILE *f = fopen("/proc/cpuinfo", "r");
    bool found = false;
    while (f && !found && fgets(line, sizeof line, f)) {
        if (strncmp(line, "flags", 5) != 0 && strncmp(line, "Features", 8) != 0) {
            continue;
        }
        for (char *word = strtok(line, " \t\n"); word && !found; word = strtok(NULL, " \t\n")) {
            found = strcmp(word, flag) == 0;
        }
        break;
    }
    if (f) {
        fclose(f);
    }
    return found;
}

TEST(the_probe_agrees_with_the_kernel)
{
    bool avx2 = kernel_lists("avx2") && kernel_lists("fma") && kernel_lists("f16c");
    bool avx512 = avx2 && kernel_lists("avx512f") && kernel_lists("avx512bw") && kernel_lists("avx512dq") &&
                  kernel_lists("avx512vl") && kernel_lists("avx512_vnni");
    CHECK(rv_cpu_has(RV_CPU_SCALAR), "scalar");
    CHECK(rv_cpu_has(RV_CPU_AVX2) == avx2, "avx2: kernel says %d", avx2);
    CHECK(rv_cpu_has(RV_CPU_AVX512) == avx512, "avx512: kernel says %d", avx512);
    CHECK(rv_cpu_has(RV_CPU_NEON) == (kernel_lists("asimddp") && kernel_lists("asimdhp")), "neon");
    CHECK(!(rv_cpu_has(RV_CPU_NEON) && rv_cpu_has(RV_CPU_AVX2)), "two machines at once");
}

TEST(counts_and_sizes_are_those_of_this_process)
{
    int n = rv_cpu_count();
    CHECK(n >= 1 && n <= sysconf(_SC_NPROCESSORS_ONLN), "%d processors", n);
    size_t before = rv_cpu_rss_bytes(), all = rv_cpu_memory_bytes(), big = 64 << 20;
    CHECK(before > 0 && before < all, "%zu of %zu", before, all);
    uint8_t *p = fenced_bytes(big); /* a mapping: a malloc nobody reads may be optimised away */
    memset(p, 1, big);
    size_t after = rv_cpu_rss_bytes();
    CHECK(after >= before + big / 2, "64 MiB touched, %zu before, %zu after, %d", before, after, p[big - 1]);
}
