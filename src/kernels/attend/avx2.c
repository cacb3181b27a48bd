#include "kernels/simd_avx2_priv.h"

#include "kernels/attend/body_priv.h"
