#include "kernels/simd_neon_priv.h"

enum { TILE = 4, WIDE = 1, PANEL_TOKENS = INT32_MAX }; /* whether it pays here has not been measured */
#include "kernels/matmul/body_priv.h"
