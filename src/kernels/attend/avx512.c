#include "kernels/simd_avx512_priv.h"

#include "kernels/attend/body_priv.h"
