#include "kernels/simd_neon_priv.h"

enum { TILE = 4 };
#include "kernels/matmul/body_priv.h"
