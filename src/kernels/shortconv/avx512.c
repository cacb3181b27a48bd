#include "kernels/simd_avx512_priv.h"

#include "kernels/shortconv/body_priv.h"
