#include "kernels/simd_avx2_priv.h"

#include "kernels/expand/body_priv.h"
