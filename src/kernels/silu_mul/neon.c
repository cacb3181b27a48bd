#include "kernels/simd_neon_priv.h"

#include "kernels/silu_mul/body_priv.h"
