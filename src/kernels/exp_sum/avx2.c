#include "kernels/simd_avx2_priv.h"

#include "kernels/exp_sum/body_priv.h"
