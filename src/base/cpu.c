/* What this machine has. Whole functions differ by processor; the rest is Linux. */
#include "base/cpu.h"
#include "base/err.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>

/* Which register sets the operating system saves for us (XCR0). */
__attribute__((target("xsave"))) static unsigned saved_registers(void)
{
    return (unsigned)_xgetbv(0);
}

static bool machine_has(rv_cpu_level level)
{
    unsigned a, b, c, d, c1;
    if (!__get_cpuid(1, &a, &b, &c1, &d) || !(c1 & bit_OSXSAVE)) {
        return false;
    }
    unsigned saved = saved_registers();
    if ((saved & 0x06) != 0x06 || !(c1 & bit_AVX) || !(c1 & bit_FMA) || !(c1 & bit_F16C) ||
        !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & bit_AVX2)) {
        return false;
    }
    if (level == RV_CPU_AVX2) {
        return true;
    }
    const unsigned want = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
    return level == RV_CPU_AVX512 && (saved & 0xe6) == 0xe6 && (b & want) == want && (c & bit_AVX512VNNI);
}

#elif defined(__aarch64__)

#include <asm/hwcap.h>
#include <sys/auxv.h>

static bool machine_has(rv_cpu_level level)
{
    const unsigned long want = HWCAP_ASIMDDP | HWCAP_ASIMDHP;
    return level == RV_CPU_NEON && (getauxval(AT_HWCAP) & want) == want;
}

#else

static bool machine_has(rv_cpu_level level)
{
    (void)level;
    return false;
}

#endif

static const char *const names[RV_CPU_LEVELS] = { "scalar", "avx2", "avx512", "neon" };

/* Asked once: in a virtual machine each question leaves it (a microsecond or more), and callers ask in inner loops. */
bool rv_cpu_has(rv_cpu_level level)
{
    enum { NOT_ASKED, NO, YES };
    static atomic_int known[RV_CPU_LEVELS];
    if (level == RV_CPU_SCALAR || (unsigned)level >= RV_CPU_LEVELS) {
        return level == RV_CPU_SCALAR;
    }
    int answer = atomic_load_explicit(&known[level], memory_order_relaxed);
    if (answer == NOT_ASKED) {
        answer = machine_has(level) ? YES : NO;
        atomic_store_explicit(&known[level], answer, memory_order_relaxed);
    }
    return answer == YES;
}

const char *rv_cpu_level_name(rv_cpu_level level)
{
    return (unsigned)level < RV_CPU_LEVELS ? names[level] : "unknown";
}

bool rv_cpu_parse_level(const char *name, rv_cpu_level *out)
{
    for (int i = 0; i < RV_CPU_LEVELS; i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (rv_cpu_level)i;
            return true;
        }
    }
    return false;
}

/* Processors a container was given as a share of time, rounded up; no limit: max. */
static int quota(int max)
{
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (!f) {
        return max;
    }
    long long share, period;
    int n = max;
    if (fscanf(f, "%lld %lld", &share, &period) == 2 && share > 0 && period > 0 && share / period < max) {
        n = (int)((share + period - 1) / period);
    }
    fclose(f);
    return n;
}

int rv_cpu_count(void)
{
    cpu_set_t set;
    int n =
        sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : (int)sysconf(_SC_NPROCESSORS_ONLN);
    return quota(n < 1 ? 1 : n);
}

size_t rv_cpu_rss_bytes(void)
{
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f) {
        return 0;
    }
    unsigned long all, resident;
    int got = fscanf(f, "%lu %lu", &all, &resident);
    fclose(f);
    return got == 2 ? resident * (size_t)sysconf(_SC_PAGESIZE) : 0;
}

size_t rv_cpu_memory_bytes(void)
{
    long pages = sysconf(_SC_PHYS_PAGES);
    return pages < 0 ? 0 : (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
}
