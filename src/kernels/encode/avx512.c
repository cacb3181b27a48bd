#include "kernels/simd_avx512_priv.h"

#include "kernels/encode/body_priv.h"
