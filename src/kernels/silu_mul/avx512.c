#include "kernels/simd_avx512_priv.h"

#include "kernels/silu_mul/body_priv.h"
