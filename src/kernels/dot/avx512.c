#include "kernels/simd_avx512_priv.h"

#include "kernels/dot/body_priv.h"
