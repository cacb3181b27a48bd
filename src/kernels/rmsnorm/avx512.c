#include "kernels/simd_avx512_priv.h"

#include "kernels/rmsnorm/body_priv.h"
