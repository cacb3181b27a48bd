#include "kernels/simd_neon_priv.h"

#include "kernels/quantize/body_priv.h"
