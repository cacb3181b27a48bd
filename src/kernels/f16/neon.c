#include "kernels/simd_neon_priv.h"

#include "kernels/f16/body_priv.h"
