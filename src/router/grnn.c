/* The cell as it is used: nothing changes, nothing is allocated per step. Of a sparse W only the kept entries are there, as
 * rows of (column, value); columns are bytes, which is why an input has at most 256 elements. */
#include "router/grnn_priv.h"

#include <string.h>

/* A matrix in one of four forms: dense or rows of entries, float32 or int8. */
typedef struct sheet {
    size_t rows, cols, n; /* n values */
    uint16_t *row_ptr;    /* [rows + 1], NULL: dense */
    uint8_t *col;         /* [n] */
    float *f;             /* [n], NULL: int8 */
    int8_t *q;            /* [n] */
    float *scale;         /* [rows] */
} sheet;

struct rv_grnn {
    const rv_alloc *mem;
    rv_grnn_shape shape;
    sheet m[RV_GRNN_MATRICES];
    float *b_z, *b_h, *b;
    float zeta, nu; /* as learned, before the sigmoid */
    bool int8;
};

/* ---- shapes ---- */

rv_err grnn_shape_check(const rv_grnn_shape *s)
{
    const struct {
        const char *name;
        size_t value, low, high;
    } fields[] = { { "input", s->input, 1, RV_GRNN_MAX_INPUT },
                   { "hidden", s->hidden, 1, RV_GRNN_MAX_HIDDEN },
                   { "outputs", s->outputs, 1, RV_GRNN_MAX_OUTPUTS },
                   { "rank_w", s->rank_w, 0, s->hidden },
                   { "rank_u", s->rank_u, 0, s->hidden } };
    for (size_t i = 0; i < RV_COUNT(fields); i++) {
        if (fields[i].value < fields[i].low || fields[i].value > fields[i].high) {
            return rv_fail(RV_E_ARG, "router cell: %s is %zu, allowed %zu to %zu", fields[i].name,
                           fields[i].value, fields[i].low, fields[i].high);
        }
    }
    return RV_OK;
}

void rv_grnn_part_size(const rv_grnn_shape *s, rv_grnn_part part, size_t *rows, size_t *cols)
{
    const size_t sizes[RV_GRNN_PARTS][2] = {
        [RV_GRNN_W] = { s->rank_w ? s->rank_w : s->hidden, s->input },
        [RV_GRNN_W2] = { s->rank_w ? s->hidden : 0, s->rank_w },
        [RV_GRNN_U] = { s->rank_u ? s->rank_u : s->hidden, s->hidden },
        [RV_GRNN_U2] = { s->rank_u ? s->hidden : 0, s->rank_u },
        [RV_GRNN_V] = { s->outputs, s->hidden },
        [RV_GRNN_B_Z] = { 1, s->hidden },
        [RV_GRNN_B_H] = { 1, s->hidden },
        [RV_GRNN_B] = { 1, s->outputs },
        [RV_GRNN_ZETA] = { 1, 1 },
        [RV_GRNN_NU] = { 1, 1 },
    };
    *rows = sizes[part][0];
    *cols = sizes[part][1];
}

size_t grnn_part_at(const rv_grnn_shape *shape, rv_grnn_part part)
{
    size_t at = 0;
    for (int p = 0; p < (int)part; p++) {
        size_t rows, cols;
        rv_grnn_part_size(shape, (rv_grnn_part)p, &rows, &cols);
        at += rows * cols;
    }
    return at;
}

float grnn_round_row(const float *row, size_t n, int8_t *q)
{
    float largest = 0;
    for (size_t i = 0; i < n; i++) {
        largest = fmaxf(largest, fabsf(row[i]));
    }
    float scale = largest > 0 ? largest / 127 : 1;
    for (size_t i = 0; i < n; i++) {
        q[i] = (int8_t)lrintf(row[i] / scale);
    }
    return scale;
}

/* ---- making ---- */

static rv_err take_sheet(const rv_alloc *mem, sheet *m, bool sparse, bool int8)
{
    if (sparse) {
        m->row_ptr = rv_new_array(mem, m->rows + 1, sizeof *m->row_ptr);
        m->col = rv_new_array(mem, m->n + 1, 1);
    }
    if (int8) {
        m->q = rv_new_array(mem, m->n + 1, 1);
        m->scale = rv_new_array(mem, m->rows + 1, sizeof *m->scale);
    } else {
        m->f = rv_new_array(mem, m->n + 1, sizeof *m->f);
    }
    bool good = (!sparse || (m->row_ptr && m->col)) && (int8 ? m->q && m->scale : m->f != NULL);
    return good ? RV_OK : rv_fail(RV_E_NOMEM, "router cell");
}

/* Room for everything; m[0].n and whether W is sparse are known by then. */
static rv_err take_grnn(const rv_alloc *mem, const rv_grnn_shape *shape, size_t kept, bool sparse, bool int8,
                        rv_grnn **out)
{
    rv_grnn *g = rv_new(mem, sizeof *g);
    if (!g) {
        return rv_fail(RV_E_NOMEM, "router cell");
    }
    *g = (rv_grnn){ .mem = mem, .shape = *shape, .int8 = int8 };
    rv_err e = RV_OK;
    for (int p = 0; p < RV_GRNN_MATRICES && !e; p++) {
        sheet *m = &g->m[p];
        rv_grnn_part_size(shape, (rv_grnn_part)p, &m->rows, &m->cols);
        m->n = p == RV_GRNN_W && sparse ? kept : m->rows * m->cols;
        e = take_sheet(mem, m, p == RV_GRNN_W && sparse, int8);
    }
    g->b_z = rv_new_array(mem, shape->hidden, sizeof *g->b_z);
    g->b_h = rv_new_array(mem, shape->hidden, sizeof *g->b_h);
    g->b = rv_new_array(mem, shape->outputs, sizeof *g->b);
    if (!e && (!g->b_z || !g->b_h || !g->b)) {
        e = rv_fail(RV_E_NOMEM, "router cell");
    }
    if (e) {
        rv_grnn_free(g);
        return e;
    }
    *out = g;
    return RV_OK;
}

void rv_grnn_free(rv_grnn *g)
{
    if (!g) {
        return;
    }
    for (int p = 0; p < RV_GRNN_MATRICES; p++) {
        rv_free(g->mem, g->m[p].row_ptr);
        rv_free(g->mem, g->m[p].col);
        rv_free(g->mem, g->m[p].f);
        rv_free(g->mem, g->m[p].q);
        rv_free(g->mem, g->m[p].scale);
    }
    rv_free(g->mem, g->b_z);
    rv_free(g->mem, g->b_h);
    rv_free(g->mem, g->b);
    rv_free(g->mem, g);
}

/* Values of one row, which lie together in both forms. */
static void put_row(sheet *m, size_t row, size_t at, const float *values, size_t n)
{
    if (m->q) {
        m->scale[row] = grnn_round_row(values, n, m->q + at);
    } else {
        memcpy(m->f + at, values, n * sizeof *values);
    }
}

static void put_sheet(sheet *m, const float *w)
{
    size_t at = 0;
    float kept[RV_GRNN_MAX_INPUT];
    for (size_t r = 0; r < m->rows; r++) {
        const float *row = w + r * m->cols;
        if (!m->row_ptr) {
            put_row(m, r, r * m->cols, row, m->cols);
            continue;
        }
        size_t n = 0;
        for (size_t c = 0; c < m->cols; c++) {
            if (row[c] != 0) {
                m->col[at + n] = (uint8_t)c;
                kept[n++] = row[c];
            }
        }
        put_row(m, r, at, kept, n);
        at += n;
        m->row_ptr[r + 1] = (uint16_t)at;
    }
}

rv_err rv_grnn_from_fit(const rv_alloc *mem, rv_grnn_fit *fit, bool int8, rv_grnn **out)
{
    const rv_grnn_shape *shape = grnn_fit_shape(fit);
    const float *w = rv_grnn_fit_part(fit, RV_GRNN_W);
    size_t n = (shape->rank_w ? shape->rank_w : shape->hidden) * shape->input, kept = 0;
    for (size_t i = 0; i < n; i++) {
        kept += w[i] != 0;
    }
    bool sparse = !shape->rank_w && kept <= n / 2 && kept <= UINT16_MAX;
    rv_grnn *g = NULL;
    RV_TRY(take_grnn(mem, shape, kept, sparse, int8, &g));
    for (int p = 0; p < RV_GRNN_MATRICES; p++) {
        put_sheet(&g->m[p], rv_grnn_fit_part(fit, (rv_grnn_part)p));
    }
    memcpy(g->b_z, rv_grnn_fit_part(fit, RV_GRNN_B_Z), shape->hidden * sizeof *g->b_z);
    memcpy(g->b_h, rv_grnn_fit_part(fit, RV_GRNN_B_H), shape->hidden * sizeof *g->b_h);
    memcpy(g->b, rv_grnn_fit_part(fit, RV_GRNN_B), shape->outputs * sizeof *g->b);
    g->zeta = *rv_grnn_fit_part(fit, RV_GRNN_ZETA);
    g->nu = *rv_grnn_fit_part(fit, RV_GRNN_NU);
    *out = g;
    return RV_OK;
}

const rv_grnn_shape *rv_grnn_get_shape(const rv_grnn *g)
{
    return &g->shape;
}

size_t rv_grnn_n_params(const rv_grnn *g)
{
    size_t n = 2 * g->shape.hidden + g->shape.outputs + 2;
    for (int p = 0; p < RV_GRNN_MATRICES; p++) {
        n += g->m[p].n;
    }
    return n;
}

/* ---- running ---- */

static float value(const sheet *m, size_t at)
{
    return m->f ? m->f[at] : m->q[at];
}

/* out += M x */
static void multiply(const sheet *m, const float *x, float *out)
{
    for (size_t r = 0; r < m->rows; r++) {
        size_t from = m->row_ptr ? m->row_ptr[r] : r * m->cols;
        size_t to = m->row_ptr ? m->row_ptr[r + 1] : from + m->cols;
        float sum = 0;
        for (size_t i = from; i < to; i++) {
            sum += value(m, i) * x[m->row_ptr ? m->col[i] : i - from];
        }
        out[r] += m->q ? sum * m->scale[r] : sum;
    }
}

/* out += transpose(M) y */
static void multiply_back(const sheet *m, const float *y, float *out)
{
    for (size_t r = 0; r < m->rows; r++) {
        size_t from = m->row_ptr ? m->row_ptr[r] : r * m->cols;
        size_t to = m->row_ptr ? m->row_ptr[r + 1] : from + m->cols;
        float f = m->q ? y[r] * m->scale[r] : y[r];
        for (size_t i = from; i < to; i++) {
            out[m->row_ptr ? m->col[i] : i - from] += f * value(m, i);
        }
    }
}

static void pre_activation(const rv_grnn *g, const float *x, const float *state, float *p)
{
    float inner[RV_GRNN_MAX_HIDDEN];
    memset(p, 0, g->shape.hidden * sizeof *p);
    for (int side = 0; side < 2; side++) {
        const sheet *first = &g->m[side ? RV_GRNN_U : RV_GRNN_W], *second = first + 1;
        const float *in = side ? state : x;
        if (second->rows == 0) {
            multiply(first, in, p);
            continue;
        }
        memset(inner, 0, first->rows * sizeof *inner);
        multiply(first, in, inner);
        multiply(second, inner, p);
    }
}

void rv_grnn_step(const rv_grnn *g, const float *x, float *state)
{
    float p[RV_GRNN_MAX_HIDDEN];
    pre_activation(g, x, state, p);
    float zeta = grnn_sigmoid(g->zeta), nu = grnn_sigmoid(g->nu);
    for (size_t i = 0; i < g->shape.hidden; i++) {
        float z = grnn_sigmoid(p[i] + g->b_z[i]), c = tanhf(p[i] + g->b_h[i]);
        state[i] = (zeta * (1 - z) + nu) * c + z * state[i];
    }
}

void rv_grnn_head(const rv_grnn *g, const float *state, float *out)
{
    memcpy(out, g->b, g->shape.outputs * sizeof *out);
    multiply(&g->m[RV_GRNN_V], state, out);
}

void rv_grnn_pull(const rv_grnn *g, const float *x, const float *h0, size_t output, float *d_x)
{
    float p[RV_GRNN_MAX_HIDDEN], d[RV_GRNN_MAX_HIDDEN] = { 0 }, inner[RV_GRNN_MAX_HIDDEN] = { 0 };
    float pick[RV_GRNN_MAX_OUTPUTS] = { 0 };
    pick[output] = 1;
    multiply_back(&g->m[RV_GRNN_V], pick, d);
    pre_activation(g, x, h0, p);
    float zeta = grnn_sigmoid(g->zeta), nu = grnn_sigmoid(g->nu);
    for (size_t i = 0; i < g->shape.hidden; i++) {
        float z = grnn_sigmoid(p[i] + g->b_z[i]), c = tanhf(p[i] + g->b_h[i]);
        d[i] *= (zeta * (1 - z) + nu) * (1 - c * c) + (h0[i] - zeta * c) * z * (1 - z);
    }
    memset(d_x, 0, g->shape.input * sizeof *d_x);
    if (g->m[RV_GRNN_W2].rows == 0) {
        multiply_back(&g->m[RV_GRNN_W], d, d_x);
        return;
    }
    multiply_back(&g->m[RV_GRNN_W2], d, inner);
    multiply_back(&g->m[RV_GRNN_W], inner, d_x);
}

/* ---- bytes ---- */

/* header: u16 input, hidden, outputs, rank_w, rank_u; u8 int8, sparse; u32 values in W */
enum { HEADER = 16 };

size_t rv_grnn_bytes(const rv_grnn *g)
{
    size_t n = HEADER + 4 * (2 * g->shape.hidden + g->shape.outputs + 2);
    for (int p = 0; p < RV_GRNN_MATRICES; p++) {
        const sheet *m = &g->m[p];
        n += m->row_ptr ? 2 * (m->rows + 1) + m->n : 0;
        n += m->q ? m->n + 4 * m->rows : 4 * m->n;
    }
    return n;
}

static uint8_t *put(uint8_t *to, const void *from, size_t n)
{
    memcpy(to, from, n);
    return to + n;
}

void rv_grnn_write(const rv_grnn *g, uint8_t *out)
{
    const rv_grnn_shape *s = &g->shape;
    const uint16_t sizes[5] = { (uint16_t)s->input, (uint16_t)s->hidden, (uint16_t)s->outputs,
                                (uint16_t)s->rank_w, (uint16_t)s->rank_u };
    const uint8_t flags[2] = { g->int8, g->m[RV_GRNN_W].row_ptr != NULL };
    const uint32_t kept = (uint32_t)g->m[RV_GRNN_W].n;
    out = put(put(put(out, sizes, 10), flags, 2), &kept, 4);
    for (int p = 0; p < RV_GRNN_MATRICES; p++) {
        const sheet *m = &g->m[p];
        if (m->row_ptr) {
            out = put(put(out, m->row_ptr, 2 * (m->rows + 1)), m->col, m->n);
        }
        out = m->q ? put(put(out, m->scale, 4 * m->rows), m->q, m->n) : put(out, m->f, 4 * m->n);
    }
    out = put(put(put(out, g->b_z, 4 * s->hidden), g->b_h, 4 * s->hidden), g->b, 4 * s->outputs);
    put(put(out, &g->zeta, 4), &g->nu, 4);
}

typedef struct reader {
    const uint8_t *at;
    size_t n;
    bool short_of;
} reader;

static void get(reader *in, void *to, size_t n)
{
    if (in->short_of || n > in->n) {
        in->short_of = true;
        return;
    }
    if (n > 0) {
        memcpy(to, in->at, n);
    }
    in->at += n;
    in->n -= n;
}

static rv_err get_floats(reader *in, float *to, size_t n, const char *what)
{
    get(in, to, 4 * n);
    for (size_t i = 0; i < n && !in->short_of; i++) {
        if (!isfinite(to[i])) {
            return rv_fail(RV_E_FORMAT, "router cell: %s[%zu] is not a finite number", what, i);
        }
    }
    return RV_OK;
}

static rv_err get_sheet(reader *in, sheet *m, const char *what)
{
    if (m->row_ptr) {
        get(in, m->row_ptr, 2 * (m->rows + 1));
        get(in, m->col, m->n);
        bool good = m->row_ptr[0] == 0 && m->row_ptr[m->rows] == m->n;
        for (size_t r = 0; good && r < m->rows; r++) {
            good = m->row_ptr[r] <= m->row_ptr[r + 1];
        }
        for (size_t i = 0; good && i < m->n; i++) {
            good = m->col[i] < m->cols;
        }
        if (!good) {
            return rv_fail(RV_E_FORMAT, "router cell: the rows of %s do not fit its %zu values", what, m->n);
        }
    }
    if (!m->q) {
        return get_floats(in, m->f, m->n, what);
    }
    RV_TRY(get_floats(in, m->scale, m->rows, what));
    get(in, m->q, m->n);
    return RV_OK;
}

rv_err rv_grnn_read(const rv_alloc *mem, const uint8_t *at, size_t n, size_t *used, rv_grnn **out)
{
    static const char *const names[RV_GRNN_MATRICES] = { "W", "W2", "U", "U2", "V" };
    reader in = { at, n, false };
    uint16_t sizes[5] = { 0 };
    uint8_t flags[2] = { 0 };
    uint32_t kept = 0;
    get(&in, sizes, 10);
    get(&in, flags, 2);
    get(&in, &kept, 4);
    rv_grnn_shape shape = { sizes[0], sizes[1], sizes[2], sizes[3], sizes[4] };
    if (in.short_of) {
        return rv_fail(RV_E_FORMAT, "router cell: %zu bytes, too few for its header", n);
    }
    if (grnn_shape_check(&shape)) {
        return rv_err_set_text(RV_E_FORMAT, rv_err_text());
    }
    size_t full = (shape.rank_w ? shape.rank_w : shape.hidden) * shape.input;
    if (flags[0] > 1 || flags[1] > 1 || (flags[1] && shape.rank_w) ||
        (flags[1] ? kept > full || kept > UINT16_MAX : kept != full)) {
        return rv_fail(RV_E_FORMAT, "router cell: %u values in W of %zu, form %u %u", kept, full, flags[0],
                       flags[1]);
    }
    rv_grnn *g = NULL;
    RV_TRY(take_grnn(mem, &shape, kept, flags[1], flags[0], &g));
    rv_err e = RV_OK;
    for (int p = 0; p < RV_GRNN_MATRICES && !e; p++) {
        e = get_sheet(&in, &g->m[p], names[p]);
    }
    e = e ? e : get_floats(&in, g->b_z, shape.hidden, "b_z");
    e = e ? e : get_floats(&in, g->b_h, shape.hidden, "b_h");
    e = e ? e : get_floats(&in, g->b, shape.outputs, "b");
    e = e ? e : get_floats(&in, &g->zeta, 1, "zeta");
    e = e ? e : get_floats(&in, &g->nu, 1, "nu");
    if (!e && in.short_of) {
        e = rv_fail(RV_E_FORMAT, "router cell: %zu bytes, %zu expected", n, rv_grnn_bytes(g));
    }
    if (e) {
        rv_grnn_free(g);
        return e;
    }
    *used = n - in.n;
    *out = g;
    return RV_OK;
}
