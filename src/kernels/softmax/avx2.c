#include "kernels/simd_avx2_priv.h"

#include "kernels/softmax/body_priv.h"
