/* B A = (Qu Ru)(Qv Rv)' for thin QR factors of B and A', and with Ru Rv' = X S Y' the best rank r is (Qu Xr Sr)(Qv Yr)'. All that is square is as small
 * as the rank, in double; the SVD is one-sided Jacobi (Hestenes 1958). */
#include "learn/consolidate.h"

#include <math.h>
#include <string.h>

enum { SWEEPS = 60 };

/* Columns of one tall matrix, [n][length], made orthonormal in place; r [n][n] holds what they were: column j is the sum over i of
 * r[i * n + j] times the new column i. Gram-Schmidt, twice. */
static void thin_qr(double *q, size_t n, size_t length, double *r)
{
    memset(r, 0, n * n * sizeof *r);
    for (size_t j = 0; j < n; j++) {
        double *x = q + j * length, before = 0, after = 0;
        for (size_t k = 0; k < length; k++) {
            before += x[k] * x[k];
        }
        for (int again = 0; again < 2; again++) {
            for (size_t i = 0; i < j; i++) {
                const double *y = q + i * length;
                double dot = 0;
                for (size_t k = 0; k < length; k++) {
                    dot += x[k] * y[k];
                }
                for (size_t k = 0; k < length; k++) {
                    x[k] -= dot * y[k];
                }
                r[i * n + j] += dot;
            }
        }
        for (size_t k = 0; k < length; k++) {
            after += x[k] * x[k];
        }
        bool dependent = !(after > 1e-24 * before); /* also of a column that is zero */
        r[j * n + j] = dependent ? 0 : sqrt(after);
        for (size_t k = 0; k < length; k++) {
            x[k] = dependent ? 0 : x[k] / r[j * n + j];
        }
    }
}

/* One rotation of columns p and q of a (and of y along with them); false: they are orthogonal already. */
static bool rotate(double *a, double *y, size_t n, size_t p, size_t q)
{
    double app = 0, aqq = 0, apq = 0;
    for (size_t i = 0; i < n; i++) {
        app += a[i * n + p] * a[i * n + p];
        aqq += a[i * n + q] * a[i * n + q];
        apq += a[i * n + p] * a[i * n + q];
    }
    if (!(fabs(apq) > 1e-15 * sqrt(app * aqq))) {
        return false;
    }
    double tau = (aqq - app) / (2 * apq), t = (tau >= 0 ? 1 : -1) / (fabs(tau) + sqrt(1 + tau * tau));
    double c = 1 / sqrt(1 + t * t), s = c * t;
    for (size_t i = 0; i < n; i++) {
        double ap = a[i * n + p], aq = a[i * n + q], yp = y[i * n + p], yq = y[i * n + q];
        a[i * n + p] = c * ap - s * aq;
        a[i * n + q] = s * ap + c * aq;
        y[i * n + p] = c * yp - s * yq;
        y[i * n + q] = s * yp + c * yq;
    }
    return true;
}

/* a [n][n] becomes X S (columns), y the right vectors, s the singular values; order: columns by falling s. */
static void jacobi_svd(double *a, double *y, double *s, size_t *order, size_t n)
{
    for (size_t i = 0; i < n * n; i++) {
        y[i] = i % (n + 1) == 0;
    }
    bool moved = true;
    for (int sweep = 0; moved && sweep < SWEEPS; sweep++) {
        moved = false;
        for (size_t p = 0; p + 1 < n; p++) {
            for (size_t q = p + 1; q < n; q++) {
                moved |= rotate(a, y, n, p, q);
            }
        }
    }
    for (size_t j = 0; j < n; j++) {
        double sum = 0;
        for (size_t i = 0; i < n; i++) {
            sum += a[i * n + j] * a[i * n + j];
        }
        s[j] = sqrt(sum);
        size_t at = j;
        for (; at > 0 && s[order[at - 1]] < s[j]; at--) {
            order[at] = order[at - 1];
        }
        order[at] = j;
    }
}

typedef struct workspace {
    double *u, *v;               /* [rank][rows], [rank][cols] */
    double *ru, *rv, *m, *y, *s; /* [rank][rank], s [rank] */
    size_t *order;
} workspace;

static void workspace_free(const rv_alloc *mem, workspace *w)
{
    rv_free(mem, w->u);
    rv_free(mem, w->order);
}

static rv_err workspace_new(const rv_alloc *mem, const rv_lora_pair *p, workspace *w)
{
    size_t n = p->rank, all = n * (p->rows + p->cols + 4 * n + 1);
    *w = (workspace){ .u = rv_new_array(mem, all, sizeof *w->u),
                      .order = rv_new_array(mem, n, sizeof *w->order) };
    if (!w->u || !w->order) {
        workspace_free(mem, w);
        return rv_fail(RV_E_NOMEM, "consolidating an adapter");
    }
    w->v = w->u + n * p->rows;
    w->ru = w->v + n * p->cols;
    w->rv = w->ru + n * n;
    w->m = w->rv + n * n;
    w->y = w->m + n * n;
    w->s = w->y + n * n;
    return RV_OK;
}

/* out[k] = sum over i of q[i][k] * m[i * n + column] */
static void combine(const double *q, const double *m, size_t n, size_t length, size_t column, double times,
                    float *out)
{
    for (size_t k = 0; k < length; k++) {
        double sum = 0;
        for (size_t i = 0; i < n; i++) {
            sum += q[i * length + k] * m[i * n + column];
        }
        out[k] = (float)(times * sum);
    }
}

/* sums: of squared singular values, all and those that are cut. */
static rv_err cut(const rv_alloc *mem, const rv_lora_pair *from, rv_lora_pair *to, double sums[2])
{
    workspace w;
    size_t n = from->rank;
    RV_TRY(workspace_new(mem, from, &w));
    for (size_t i = 0; i < n * from->rows; i++) {
        w.u[i] = (double)from->scale * (double)from->b[i];
    }
    for (size_t i = 0; i < n * from->cols; i++) {
        w.v[i] = (double)from->a[i];
    }
    thin_qr(w.u, n, from->rows, w.ru);
    thin_qr(w.v, n, from->cols, w.rv);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++) {
            for (size_t k = 0; k < n; k++) {
                w.m[i * n + j] += w.ru[i * n + k] * w.rv[j * n + k];
            }
        }
    }
    jacobi_svd(w.m, w.y, w.s, w.order, n);
    for (size_t r = 0; r < n; r++) {
        size_t column = w.order[r];
        double s = w.s[column];
        sums[0] += s * s;
        sums[1] += r >= to->rank ? s * s : 0;
        if (r < to->rank && s > 0) { /* the root of s on either side, so that both factors are of a size */
            combine(w.u, w.m, n, from->rows, column, 1 / sqrt(s), to->b + r * to->rows);
            combine(w.v, w.y, n, from->cols, column, sqrt(s), to->a + r * to->cols);
        }
    }
    workspace_free(mem, &w);
    return RV_OK;
}

/* As it is, with the scale in B; what is new beyond it changes nothing. */
static void widen(const rv_lora_pair *from, rv_lora_pair *to)
{
    memcpy(to->a, from->a, from->rank * from->cols * sizeof *to->a);
    for (size_t i = 0; i < from->rank * from->rows; i++) {
        to->b[i] = from->scale * from->b[i];
    }
}

rv_err rv_lora_consolidate(const rv_alloc *mem, const rv_lora *from, const rv_lfm2_file *file, size_t rank,
                           uint64_t seed, rv_lora **out, double *discarded)
{
    rv_lora *l = NULL;
    double sums[2] = { 0 };
    RV_TRY(rv_lora_new(mem, file, (1u << RV_LFM2_PARTS) - 1, rank, (float)rank, seed, &l));
    rv_err e = l->n_pairs == from->n_pairs ? RV_OK : rv_fail(RV_E_ARG, "an adapter of another model");
    for (size_t i = 0; !e && i < l->n_pairs; i++) {
        rv_lora_pair *to = &l->pairs[i];
        const rv_lora_pair *p = &from->pairs[i];
        if (p->rank > to->rank && to->rank > 0) {
            memset(to->a, 0, to->rank * to->cols * sizeof *to->a);
            e = cut(mem, p, to, sums);
        } else if (p->rank > 0 && to->rank > 0) {
            widen(p, to);
        }
    }
    if (e) {
        rv_lora_close(l);
        return e;
    }
    rv_lora_changed(l);
    *out = l;
    *discarded = sums[0] > 0 ? sums[1] / sums[0] : 0;
    return RV_OK;
}
