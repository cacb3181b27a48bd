#include "kernels/simd_neon_priv.h"

#include "kernels/rope/body_priv.h"
