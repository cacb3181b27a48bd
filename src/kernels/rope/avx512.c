#include "kernels/simd_avx512_priv.h"

#include "kernels/rope/body_priv.h"
