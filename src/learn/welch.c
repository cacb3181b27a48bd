#include "learn/welch.h"

#include <math.h>

/* Continued fraction of the incomplete beta function, by Lentz's method; x < (a + 1) / (a + b + 2). */
static double beta_fraction(double a, double b, double x)
{
    const double tiny = 1e-300;
    double c = 1, d = 1 - (a + b) * x / (a + 1), f;
    d = 1 / (fabs(d) < tiny ? tiny : d);
    f = d;
    for (int m = 1; m < 300; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
               odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        for (int half = 0; half < 2; half++) {
            double t = half ? odd : even;
            d = 1 + t * d;
            d = 1 / (fabs(d) < tiny ? tiny : d);
            c = 1 + t / c;
            c = fabs(c) < tiny ? tiny : c;
            f *= c * d;
        }
        if (fabs(c * d - 1) < 1e-14) {
            break;
        }
    }
    return f;
}

static double incomplete_beta(double a, double b, double x)
{
    if (x <= 0 || x >= 1) {
        return x >= 1;
    }
    double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x));
    return x < (a + 1) / (a + b + 2) ? front * beta_fraction(a, b, x) / a
                                     : 1 - front * beta_fraction(b, a, 1 - x) / b;
}

double rv_welch(double mean_a, double var_a, double n_a, double mean_b, double var_b, double n_b,
                double margin)
{
    if (n_a < 2 || n_b < 2) {
        return 1;
    }
    double va = var_a / n_a, vb = var_b / n_b, diff = mean_a - mean_b - margin;
    if (!(va + vb > 0)) {
        return diff > 0 ? 0 : 1;
    }
    double t = diff / sqrt(va + vb), df = (va + vb) * (va + vb) / (va * va / (n_a - 1) + vb * vb / (n_b - 1));
    double tail = incomplete_beta(df / 2, 0.5, df / (df + t * t)) / 2;
    return t > 0 ? tail : 1 - tail;
}
