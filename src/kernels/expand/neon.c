#include "kernels/simd_neon_priv.h"

#include "kernels/expand/body_priv.h"
