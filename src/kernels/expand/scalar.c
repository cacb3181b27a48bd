#define LEVEL(name) rv_##name##_scalar
#include "kernels/expand/body_priv.h"
