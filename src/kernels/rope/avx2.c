#include "kernels/simd_avx2_priv.h"

#include "kernels/rope/body_priv.h"
