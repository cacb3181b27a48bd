#include "kernels/simd_neon_priv.h"

enum { TILE = 4, WIDE = 1 };
#include "kernels/matmul/body_priv.h"
