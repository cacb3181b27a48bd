#include "kernels/simd_avx2_priv.h"

enum { ROWS = 4, VECTORS = 2 };
#include "kernels/gemm/body_priv.h"
