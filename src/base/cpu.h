/* What this machine can do, and how much of it is ours. Threads: any thread. */
#ifndef RV_BASE_CPU_H
#define RV_BASE_CPU_H
#include <stdbool.h>
#include <stddef.h>

typedef enum rv_cpu_level {
    RV_CPU_SCALAR,
    RV_CPU_AVX2,
    RV_CPU_AVX512,
    RV_CPU_NEON,
    RV_CPU_LEVELS
} rv_cpu_level;

/** rv_cpu_has - the machine, and the operating system's register saving, can run code of this level.
 * AVX2 means AVX2+FMA+F16C; AVX512 means that and F+BW+DQ+VL+VNNI; NEON means dotprod+fp16. */
bool rv_cpu_has(rv_cpu_level level);

/** rv_cpu_level_name - "scalar", "avx2", "avx512", "neon".  rv_cpu_parse_level - the other way; false and *out untouched for
 * any other name. */
const char *rv_cpu_level_name(rv_cpu_level level);
bool rv_cpu_parse_level(const char *name, rv_cpu_level *out);

/** rv_cpu_count - processors this process may use: affinity and the control group's share of time; at least 1. */
int rv_cpu_count(void);

/** rv_cpu_rss_bytes - resident memory of this process.  rv_cpu_memory_bytes - of the machine. 0 when unknown. */
size_t rv_cpu_rss_bytes(void);
size_t rv_cpu_memory_bytes(void);
#endif
