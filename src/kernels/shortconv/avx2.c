#include "kernels/simd_avx2_priv.h"

#include "kernels/shortconv/body_priv.h"
