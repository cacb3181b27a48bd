/* The only file that asks what the CPU can do. Baseline flags: nothing here may need more than any CPU has. */
#include "kernels/kernels_priv.h"
#include "kernels/matmul/layout_priv.h"
#include "base/log.h"

#include <stdatomic.h>
#include <stdlib.h>

#define TABLE(L, id, pack_or_null)                                                                           \
    {                                                                                                        \
        .name = #L, .level = (id), .dot_f32 = rv_dot_f32_##L, .l2sq_f32 = rv_l2sq_f32_##L,                   \
        .dot_i8 = rv_dot_i8_##L, .rmsnorm = rv_rmsnorm_##L, .add = rv_add_##L, .silu_mul = rv_silu_mul_##L,  \
        .rope = rv_rope_##L, .softmax = rv_softmax_##L, .exp_sum = rv_exp_sum_##L,                           \
        .shortconv = rv_shortconv_##L, .f32_to_f16 = rv_f32_to_f16_##L, .f16_to_f32 = rv_f16_to_f32_##L,     \
        .expand = rv_expand_table_##L, .quantize = rv_quantize_##L, .pack_bytes = rv_pack_bytes_##L,         \
        .pack = (pack_or_null), .matmul = rv_matmul_##L, .attend = rv_attend_##L, .gemm = rv_gemm_##L,       \
        .onebit_table = rv_onebit_table_##L, .onebit_scan = rv_onebit_scan_##L, .hadamard = rv_hadamard_##L, \
        .bits_count = rv_bits_count_##L, .bits_list = rv_bits_list_##L, .encode = rv_encode_##L,             \
        .code_dots = rv_code_dots_##L, .plane_dots = rv_plane_dots_##L, .part = rv_part_##L,                 \
        .below = rv_below_##L,                                                                               \
    }

static const rv_kernels scalar = TABLE(scalar, RV_CPU_SCALAR, NULL);

#if defined(__x86_64__)
static const rv_kernels avx2 = TABLE(avx2, RV_CPU_AVX2, rv_pack_strips);
static const rv_kernels avx512 = TABLE(avx512, RV_CPU_AVX512, rv_pack_strips);
static const rv_kernels *const tables[RV_CPU_LEVELS] = {
    [RV_CPU_SCALAR] = &scalar, [RV_CPU_AVX2] = &avx2, [RV_CPU_AVX512] = &avx512
};
#elif defined(__aarch64__)
static const rv_kernels neon = TABLE(neon, RV_CPU_NEON, rv_pack_strips);
static const rv_kernels *const tables[RV_CPU_LEVELS] = { [RV_CPU_SCALAR] = &scalar, [RV_CPU_NEON] = &neon };
#else
static const rv_kernels *const tables[RV_CPU_LEVELS] = { [RV_CPU_SCALAR] = &scalar };
#endif

const rv_kernels *rv_kernels_at(rv_cpu_level level)
{
    return tables[level] && rv_cpu_has(level) ? tables[level] : NULL;
}

static const rv_kernels *best_of_cpu(void)
{
    static const rv_cpu_level by_speed[] = { RV_CPU_AVX512, RV_CPU_AVX2, RV_CPU_NEON };
    for (size_t i = 0; i < RV_COUNT(by_speed); i++) {
        const rv_kernels *k = rv_kernels_at(by_speed[i]);
        if (k) {
            return k;
        }
    }
    return &scalar;
}

const rv_kernels *rv_kernels_best(void)
{
    const char *wanted = getenv("RV_CPU");
    if (wanted && *wanted) {
        rv_cpu_level level;
        const rv_kernels *k = rv_cpu_parse_level(wanted, &level) ? rv_kernels_at(level) : NULL;
        if (k) {
            return k;
        }
        static atomic_flag said = ATOMIC_FLAG_INIT;
        if (!atomic_flag_test_and_set(&said)) { /* everyone who opens something asks */
            rv_log(RV_LOG_WARN, "kernels.level", "RV_CPU", wanted, "found", "not a level of this CPU",
                   "using", "the best one", (char *)NULL);
        }
    }
    return best_of_cpu();
}
