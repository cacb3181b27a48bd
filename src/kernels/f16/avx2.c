#include "kernels/simd_avx2_priv.h"

#include "kernels/f16/body_priv.h"
