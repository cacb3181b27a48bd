#include "kernels/simd_avx512_priv.h"

#include "kernels/softmax/body_priv.h"
