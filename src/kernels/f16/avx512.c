#include "kernels/simd_avx512_priv.h"

#include "kernels/f16/body_priv.h"
