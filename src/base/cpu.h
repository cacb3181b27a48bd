#ifndef RV_BASE_CPU_H
#define RV_BASE_CPU_H
#include <stdbool.h>
#include <stddef.h>

typedef enum rv_cpu_level { RV_CPU_SCALAR, RV_CPU_AVX2, RV_CPU_AVX512, RV_CPU_NEON, RV_CPU_LEVELS } rv_cpu_level;

/** rv_cpu_has - the machine (and the operating system's register saving) can run code of this level.
 * AVX2 means AVX2+FMA+F16C; AVX512 means F+BW+DQ+VL+VNNI; NEON means dotprod+fp16. Any thread. */
bool rv_cpu_has(rv_cpu_level level);
const char *rv_cpu_level_name(rv_cpu_level level); /* "scalar" ... */
bool rv_cpu_parse_level(const char *name, rv_cpu_level *out);
int rv_cpu_count(void);            /* processors this process may use, at least 1 */
size_t rv_cpu_rss_bytes(void);     /* resident memory of this process; 0 when unknown */
size_t rv_cpu_memory_bytes(void);  /* of the machine */
#endif
