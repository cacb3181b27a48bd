#include "kernels/simd_neon_priv.h"

enum { ROWS = 4, VECTORS = 4 };
#include "kernels/gemm/body_priv.h"
