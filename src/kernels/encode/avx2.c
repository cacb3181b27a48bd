#include "kernels/simd_avx2_priv.h"

#include "kernels/encode/body_priv.h"
