/* exp in the words of simd_*_priv.h: 2^n * e^r with |r| <= ln(2) / 2, e^r by its series to r^7 / 7! (remainder below
 * 6e-9). Error at most 2 ulp in [-87.3, 88.3]; 0 below, the value at 88.3 above; NaN stays. */
#ifndef RV_KERNELS_SIMD_EXP_PRIV_H
#define RV_KERNELS_SIMD_EXP_PRIV_H

INLINE vf vf_exp(vf x)
{
    const vf lowest = vf_set(-87.3f);
    vf in = vf_min(vf_set(88.3f), vf_max(lowest, x));
    vf n = vf_round(vf_mul(in, vf_set(1.44269504f)));
    vf r = vf_fnma(n, vf_set(0.693145752f),
                   in); /* ln(2) in two parts, the first short enough for n * it to be exact */
    r = vf_fnma(n, vf_set(1.42860677e-6f), r);
    vf p = vf_fma(vf_set(1.0f / 5040), r, vf_set(1.0f / 720));
    p = vf_fma(p, r, vf_set(1.0f / 120));
    p = vf_fma(p, r, vf_set(1.0f / 24));
    p = vf_fma(p, r, vf_set(1.0f / 6));
    p = vf_fma(p, r, vf_set(0.5f));
    p = vf_fma(p, r, vf_set(1.0f));
    p = vf_fma(p, r, vf_set(1.0f));
    return vf_zero_below(x, lowest, vf_times_2_to(p, n));
}
#endif
