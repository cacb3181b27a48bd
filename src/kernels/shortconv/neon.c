#include "kernels/simd_neon_priv.h"

#include "kernels/shortconv/body_priv.h"
