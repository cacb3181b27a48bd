#include "kernels/simd_avx2_priv.h"

#include "kernels/rmsnorm/body_priv.h"
