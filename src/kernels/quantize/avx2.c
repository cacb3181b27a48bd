#include "kernels/simd_avx2_priv.h"

#include "kernels/quantize/body_priv.h"
