#include "kernels/simd_avx512_priv.h"

enum { ROWS = 6, VECTORS = 4 };
#include "kernels/gemm/body_priv.h"
