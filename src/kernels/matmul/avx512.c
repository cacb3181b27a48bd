#include "kernels/simd_avx512_priv.h"

enum { TILE = 8, WIDE = 1 };
#include "kernels/matmul/body_priv.h"
