#include "kernels/simd_avx512_priv.h"

enum { TILE = 8, WIDE = 1, PANEL_TOKENS = INT32_MAX }; /* whether it pays here has not been measured */
#include "kernels/matmul/body_priv.h"
