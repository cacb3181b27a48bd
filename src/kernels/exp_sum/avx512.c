#include "kernels/simd_avx512_priv.h"

#include "kernels/exp_sum/body_priv.h"
