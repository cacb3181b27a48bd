#include "kernels/simd_neon_priv.h"

#include "kernels/exp_sum/body_priv.h"
