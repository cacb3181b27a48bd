#include "kernels/simd_neon_priv.h"

#include "kernels/add/body_priv.h"
