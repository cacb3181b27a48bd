#include "kernels/simd_neon_priv.h"

#include "kernels/encode/body_priv.h"
