#include "kernels/simd_avx512_priv.h"

#include "kernels/quantize/body_priv.h"
