#include "kernels/simd_neon_priv.h"

#include "kernels/rmsnorm/body_priv.h"
