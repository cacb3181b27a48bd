#include "kernels/simd_neon_priv.h"

#include "kernels/softmax/body_priv.h"
