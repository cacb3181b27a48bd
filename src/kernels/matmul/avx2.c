#include "kernels/simd_avx2_priv.h"

enum { TILE = 4, WIDE = 2, PANEL_TOKENS = 64 };
#include "kernels/matmul/body_priv.h"
