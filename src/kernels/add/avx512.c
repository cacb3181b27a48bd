#include "kernels/simd_avx512_priv.h"

#include "kernels/add/body_priv.h"
