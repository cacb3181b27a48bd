#include "kernels/simd_neon_priv.h"

#include "kernels/dot/body_priv.h"
