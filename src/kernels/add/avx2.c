#include "kernels/simd_avx2_priv.h"

#include "kernels/add/body_priv.h"
