#include "kernels/simd_avx2_priv.h"

#include "kernels/dot/body_priv.h"
