#include "kernels/simd_avx2_priv.h"

#include "kernels/silu_mul/body_priv.h"
