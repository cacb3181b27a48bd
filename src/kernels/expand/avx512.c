#include "kernels/simd_avx512_priv.h"

#include "kernels/expand/body_priv.h"
