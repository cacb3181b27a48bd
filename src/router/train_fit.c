/* Small fits: a linear system, and logistic regression over rows. */
#include "router/train_priv.h"

void router_solve(double a[FIT_MAX][FIT_MAX], double *b, size_t n)
{
    for (size_t c = 0; c < n; c++) {
        for (size_t r = c + 1; r < n; r++) {
            double f = a[r][c] / a[c][c];
            for (size_t k = c; k < n; k++) {
                a[r][k] -= f * a[c][k];
            }
            b[r] -= f * b[c];
        }
    }
    for (size_t c = n; c-- > 0;) {
        for (size_t k = c + 1; k < n; k++) {
            b[c] -= a[c][k] * b[k];
        }
        b[c] /= a[c][c];
    }
}

void router_fit_logistic(const fit_rows *f, double ridge, float *w)
{
    double start[FIT_MAX], x[FIT_MAX], y;
    for (size_t k = 0; k < f->n; k++) {
        start[k] = w[k];
    }
    for (int round = 0; round < 12; round++) {
        double a[FIT_MAX][FIT_MAX] = { { 0 } }, b[FIT_MAX] = { 0 };
        for (size_t i = 0; i < f->t->set->n; i++) {
            double sum = 0;
            if (!f->row(f, i, x, &y)) {
                continue;
            }
            for (size_t k = 0; k < f->n; k++) {
                sum += w[k] * x[k];
            }
            double p = 1 / (1 + exp(-sum)), v = p * (1 - p);
            for (size_t k = 0; k < f->n; k++) {
                b[k] += (y - p) * x[k];
                for (size_t l = 0; l < f->n; l++) {
                    a[k][l] += v * x[k] * x[l];
                }
            }
        }
        for (size_t k = 0; k < f->n; k++) {
            a[k][k] += ridge;
            b[k] -= ridge * (w[k] - start[k]);
        }
        router_solve(a, b, f->n);
        for (size_t k = 0; k < f->n; k++) {
            w[k] += (float)b[k];
        }
    }
}
