#include "kernels/simd_neon_priv.h"

#include "kernels/attend/body_priv.h"
