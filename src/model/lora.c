#include "model/lora.h"
#include "base/file.h"
#include "model/gguf_priv.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { FILE_ALIGN = 32 };
static const char half_a[] = ".lora_a", half_b[] = ".lora_b";

/* ---- making ---- */

static rv_lora *shell(const rv_alloc *mem, size_t n_pairs)
{
    rv_lora *l = rv_new(mem, sizeof *l);
    if (l) {
        *l = (rv_lora){ .mem = mem, .n_pairs = n_pairs };
        l->pairs = rv_new_array(mem, n_pairs, sizeof *l->pairs);
    }
    if (l && !l->pairs) {
        rv_free(mem, l);
        l = NULL;
    }
    return l;
}

void rv_lora_close(rv_lora *l)
{
    if (!l) {
        return;
    }
    const rv_alloc *mem = l->mem;
    rv_free(mem, l->weights);
    rv_free(mem, l->pairs);
    rv_free(mem, l);
}

/* Memory for the pairs whose ranks and sizes are set. */
static rv_err take_weights(rv_lora *l)
{
    size_t n = 0;
    for (size_t i = 0; i < l->n_pairs; i++) {
        const rv_lora_pair *p = &l->pairs[i];
        size_t one;
        if (!rv_mul_size(p->rank, p->rows + p->cols, &one) || !rv_add_size(n, one, &n)) {
            return rv_fail(RV_E_NOMEM, "an adapter");
        }
    }
    l->weights = rv_new_array(l->mem, n, sizeof *l->weights);
    if (!l->weights) {
        return rv_fail(RV_E_NOMEM, "an adapter of %zu weights", n);
    }
    l->n_weights = n;
    float *at = l->weights;
    for (size_t i = 0; i < l->n_pairs; i++) {
        rv_lora_pair *p = &l->pairs[i];
        if (p->rank) {
            p->a = at;
            p->b = at + p->rank * p->cols;
            at = p->b + p->rank * p->rows;
        }
    }
    return RV_OK;
}

void rv_lora_changed(rv_lora *l)
{
    uint64_t h = 0;
    for (size_t i = 0; i < l->n_pairs; i++) {
        const rv_lora_pair *p = &l->pairs[i];
        if (p->rank) {
            uint64_t shape[] = { i, p->rank, p->rows, p->cols };
            h = rv_hash64(shape, sizeof shape, h);
            h = rv_hash64(&p->scale, sizeof p->scale, h);
        }
    }
    h = rv_hash64(l->weights, l->n_weights * sizeof *l->weights, h);
    l->id = h ? h : 1;
}

rv_err rv_lora_new(const rv_alloc *mem, const rv_lfm2_file *file, uint32_t parts, size_t rank, float alpha,
                   uint64_t seed, rv_lora **out)
{
    if (rank < 1 || rank > RV_LORA_MAX_RANK || !(alpha > 0) || !isfinite(alpha)) {
        return rv_fail(RV_E_ARG, "an adapter of rank %zu and alpha %g, expected 1 to %d and above 0", rank,
                       (double)alpha, RV_LORA_MAX_RANK);
    }
    rv_lora *l = shell(mem, rv_lfm2_products(file));
    if (!l) {
        return rv_fail(RV_E_NOMEM, "an adapter");
    }
    l->alpha = alpha;
    for (size_t i = 0; i + 1 < l->n_pairs; i++) { /* all but the head */
        const rv_matrix *w = rv_lfm2_product(file, i);
        if (w->rows && (parts >> i % RV_LFM2_PARTS & 1)) {
            l->pairs[i] = (rv_lora_pair){
                .rank = rank, .rows = w->rows, .cols = w->cols, .scale = alpha / (float)rank
            };
        }
    }
    rv_err e = take_weights(l);
    if (!e && l->n_weights == 0) {
        e = rv_fail(RV_E_ARG, "an adapter for no part of the model");
    }
    if (e) {
        rv_lora_close(l);
        return e;
    }
    rv_rng rng;
    rv_rng_init(&rng, seed);
    for (size_t i = 0; i < l->n_pairs; i++) {
        const rv_lora_pair *p = &l->pairs[i];
        float width = p->rank ? 1 / sqrtf((float)p->cols) : 0;
        for (size_t k = 0; k < p->rank * p->cols; k++) {
            p->a[k] = rv_rng_normal(&rng) * width;
        }
    }
    rv_lora_changed(l);
    *out = l;
    return RV_OK;
}

rv_err rv_lora_copy(const rv_alloc *mem, const rv_lora *from, rv_lora **out)
{
    rv_lora *l = shell(mem, from->n_pairs);
    if (!l) {
        return rv_fail(RV_E_NOMEM, "an adapter");
    }
    memcpy(l->pairs, from->pairs, l->n_pairs * sizeof *l->pairs);
    rv_err e = take_weights(l);
    if (e) {
        rv_lora_close(l);
        return e;
    }
    memcpy(l->weights, from->weights, l->n_weights * sizeof *l->weights);
    l->alpha = from->alpha;
    l->id = from->id;
    *out = l;
    return RV_OK;
}

/* Rows of one pair behind those already there; its scale goes into B. */
static void stack_pair(const rv_lora_pair *from, const rv_lora_pair *to, size_t at)
{
    if (from->rank) {
        memcpy(to->a + at * to->cols, from->a, from->rank * from->cols * sizeof *to->a);
    }
    for (size_t i = 0; i < from->rank * from->rows; i++) {
        to->b[at * to->rows + i] = from->scale * from->b[i];
    }
}

rv_err rv_lora_stack(const rv_alloc *mem, const rv_lora *a, const rv_lora *b, rv_lora **out)
{
    rv_lora *l = shell(mem, a->n_pairs);
    if (!l) {
        return rv_fail(RV_E_NOMEM, "an adapter");
    }
    rv_err e = RV_OK;
    for (size_t i = 0; i < l->n_pairs && !e; i++) {
        const rv_lora_pair *p = &a->pairs[i], *q = &b->pairs[i];
        l->pairs[i] = p->rank ? *p : *q;
        l->pairs[i].rank = p->rank + q->rank;
        l->pairs[i].scale = 1;
        if (l->pairs[i].rank > RV_LORA_MAX_RANK) {
            e = rv_fail(RV_E_ARG, "two adapters of rank %zu together, at most %d", l->pairs[i].rank,
                        RV_LORA_MAX_RANK);
        }
    }
    if (!e) {
        e = take_weights(l);
    }
    if (e) {
        rv_lora_close(l);
        return e;
    }
    for (size_t i = 0; i < l->n_pairs; i++) {
        stack_pair(&a->pairs[i], &l->pairs[i], 0);
        stack_pair(&b->pairs[i], &l->pairs[i], a->pairs[i].rank);
    }
    rv_lora_changed(l);
    *out = l;
    return RV_OK;
}

/* ---- reading ---- */

typedef struct reading {
    const rv_gguf *g;
    const rv_lfm2_file *file;
    rv_lora *lora;
    const rv_gguf_tensor **halves; /* [n_pairs][2] */
} reading;

static rv_err need_text(const rv_gguf *g, const char *key, const char *wanted, rv_err otherwise)
{
    rv_str found;
    RV_TRY(rv_gguf_get_string(g, key, &found, NULL));
    return rv_str_eq(found, wanted) ? RV_OK
                                    : rv_fail(otherwise, "%s: %s is `%.*s`, expected `%s`", rv_gguf_path(g),
                                              key, RV_SHOWN(found), wanted);
}

static rv_err read_keys(const reading *r)
{
    RV_TRY(need_text(r->g, "general.type", "adapter", RV_E_FORMAT));
    RV_TRY(need_text(r->g, "general.architecture", "lfm2", RV_E_UNSUPPORTED));
    RV_TRY(need_text(r->g, "adapter.type", "lora", RV_E_UNSUPPORTED));
    if (rv_gguf_find(r->g, "adapter.alora.invocation_tokens")) {
        return rv_fail(RV_E_UNSUPPORTED, "%s: an adapter that begins at a token of the prompt (aLoRA)",
                       rv_gguf_path(r->g));
    }
    return rv_gguf_get_f32(r->g, "adapter.lora.alpha", &r->lora->alpha, NULL);
}

/* Which product a tensor belongs to, and which half of its pair it is. */
static rv_err place_tensor(const reading *r, const rv_gguf_tensor *t)
{
    rv_str base = t->name;
    const size_t n = sizeof half_a - 1;
    bool is_a = base.n > n && memcmp(base.at + base.n - n, half_a, n) == 0;
    bool is_b = base.n > n && memcmp(base.at + base.n - n, half_b, n) == 0;
    if (!is_a && !is_b) {
        return rv_fail(RV_E_FORMAT, "%s: tensor %.*s: expected a name that ends in %s or %s",
                       rv_gguf_path(r->g), RV_SHOWN(t->name), half_a, half_b);
    }
    base.n -= n;
    size_t product;
    if (rv_str_eq(base, "token_embd.weight")) {
        return rv_fail(RV_E_UNSUPPORTED, "%s: tensor %.*s: adapters of the embedding are not supported",
                       rv_gguf_path(r->g), RV_SHOWN(t->name));
    }
    if (!rv_lfm2_product_find(r->file, base, &product)) {
        return rv_fail(RV_E_FORMAT, "%s: tensor %.*s: the model %s has no matrix %.*s", rv_gguf_path(r->g),
                       RV_SHOWN(t->name), rv_gguf_path(r->file->gguf), RV_SHOWN(base));
    }
    r->halves[2 * product + is_b] = t;
    return RV_OK;
}

static rv_err check_shape(const reading *r, const rv_gguf_tensor *t, uint64_t dim0, uint64_t dim1)
{
    if (t->dim[0] == dim0 && t->dim[1] == dim1 && t->dim[2] == 1 && t->dim[3] == 1) {
        return RV_OK;
    }
    return rv_fail(RV_E_FORMAT, "%s: tensor %.*s has shape %llu x %llu x %llu x %llu, expected %llu x %llu",
                   rv_gguf_path(r->g), RV_SHOWN(t->name), (unsigned long long)t->dim[0],
                   (unsigned long long)t->dim[1], (unsigned long long)t->dim[2],
                   (unsigned long long)t->dim[3], (unsigned long long)dim0, (unsigned long long)dim1);
}

static rv_err check_pair(const reading *r, size_t product)
{
    const rv_gguf_tensor *a = r->halves[2 * product], *b = r->halves[2 * product + 1];
    if (!a && !b) {
        return RV_OK;
    }
    if (!a || !b) {
        return rv_fail(RV_E_FORMAT, "%s: tensor %.*s is there without its %s", rv_gguf_path(r->g),
                       RV_SHOWN((a ? a : b)->name), a ? half_b : half_a);
    }
    const rv_matrix *w = rv_lfm2_product(r->file, product);
    uint64_t rank = a->dim[1];
    if (rank < 1 || rank > RV_LORA_MAX_RANK) {
        return rv_fail(RV_E_FORMAT, "%s: tensor %.*s has rank %llu, expected 1 to %d", rv_gguf_path(r->g),
                       RV_SHOWN(a->name), (unsigned long long)rank, RV_LORA_MAX_RANK);
    }
    RV_TRY(check_shape(r, a, w->cols, rank));
    RV_TRY(check_shape(r, b, rank, w->rows));
    float alpha = r->lora->alpha; /* 0: B A x as it is, as in llama.cpp */
    r->lora->pairs[product] = (rv_lora_pair){
        .rank = (size_t)rank, .rows = w->rows, .cols = w->cols, .scale = alpha != 0 ? alpha / (float)rank : 1
    };
    return RV_OK;
}

static rv_err check_finite(const reading *r, const rv_gguf_tensor *t, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) {
            return rv_fail(RV_E_FORMAT, "%s: tensor %.*s: weight %zu is not finite", rv_gguf_path(r->g),
                           RV_SHOWN(t->name), i);
        }
    }
    return RV_OK;
}

static rv_err read_pair(const reading *r, size_t product)
{
    const rv_gguf_tensor *a = r->halves[2 * product], *b = r->halves[2 * product + 1];
    const rv_lora_pair *p = &r->lora->pairs[product];
    if (!p->rank) {
        return RV_OK;
    }
    rv_expand_fn *const *expand = rv_kernels_best()->expand;
    for (size_t j = 0; j < p->rank; j++) {
        expand[a->type](a->at + a->bytes / p->rank * j, p->a + j * p->cols, p->cols);
    }
    for (size_t i = 0; i < p->rows; i++) {
        float row[RV_LORA_MAX_RANK];
        expand[b->type](b->at + b->bytes / p->rows * i, row, p->rank);
        for (size_t j = 0; j < p->rank; j++) {
            p->b[j * p->rows + i] = row[j];
        }
    }
    RV_TRY(check_finite(r, a, p->a, p->rank * p->cols));
    return check_finite(r, b, p->b, p->rank * p->rows);
}

static rv_err read_all(const reading *r)
{
    RV_TRY(read_keys(r));
    for (size_t i = 0; i < rv_gguf_tensor_count(r->g); i++) {
        RV_TRY(place_tensor(r, rv_gguf_tensor_at(r->g, i)));
    }
    for (size_t i = 0; i < r->lora->n_pairs; i++) {
        RV_TRY(check_pair(r, i));
    }
    RV_TRY(take_weights(r->lora));
    if (r->lora->n_weights == 0) {
        return rv_fail(RV_E_FORMAT, "%s: an adapter without tensors", rv_gguf_path(r->g));
    }
    for (size_t i = 0; i < r->lora->n_pairs; i++) {
        RV_TRY(read_pair(r, i));
    }
    return RV_OK;
}

/* Takes g, also when it fails. */
static rv_err open_gguf(const rv_alloc *mem, rv_gguf *g, const rv_lfm2_file *file, rv_lora **out)
{
    reading r = { .g = g, .file = file, .lora = shell(mem, rv_lfm2_products(file)) };
    r.halves = rv_new_array(mem, 2 * rv_lfm2_products(file), sizeof *r.halves);
    rv_err e = r.lora && r.halves ? read_all(&r) : rv_fail(RV_E_NOMEM, "%s: opening", rv_gguf_path(g));
    rv_free(mem, r.halves);
    rv_gguf_close(g);
    if (e) {
        rv_lora_close(r.lora);
        return e;
    }
    rv_lora_changed(r.lora);
    *out = r.lora;
    return RV_OK;
}

rv_err rv_lora_open(const rv_alloc *mem, const char *path, const rv_lfm2_file *file, rv_lora **out)
{
    rv_gguf *g;
    RV_TRY(rv_gguf_open(mem, path, &g));
    return open_gguf(mem, g, file, out);
}

rv_err rv_lora_open_bytes(const rv_alloc *mem, const char *name, const void *bytes, size_t n,
                          const rv_lfm2_file *file, rv_lora **out)
{
    rv_gguf *g;
    RV_TRY(rv_gguf_open_bytes(mem, name, bytes, n, &g));
    return open_gguf(mem, g, file, out);
}

/* ---- writing ---- */

static void put_u32(rv_text *t, uint32_t x)
{
    rv_text_add(t, (const char *)&x, sizeof x);
}

static void put_u64(rv_text *t, uint64_t x)
{
    rv_text_add(t, (const char *)&x, sizeof x);
}

static void put_string(rv_text *t, const char *s)
{
    put_u64(t, strlen(s));
    rv_text_adds(t, s);
}

static void put_key(rv_text *t, const char *key, const char *value)
{
    put_string(t, key);
    put_u32(t, RV_GGUF_STRING);
    put_string(t, value);
}

static void pad(rv_text *t)
{
    while (t->n % FILE_ALIGN && !t->failed) {
        rv_text_addc(t, 0);
    }
}

static size_t padded(size_t n)
{
    return (n + FILE_ALIGN - 1) / FILE_ALIGN * FILE_ALIGN;
}

static void put_tensor_head(rv_text *t, size_t n_pairs, size_t product, const char *half, const size_t dim[2],
                            size_t *offset)
{
    char tensor[64], name[80];
    rv_lfm2_product_name(n_pairs, product, tensor);
    snprintf(name, sizeof name, "%s%s", tensor, half);
    put_string(t, name);
    put_u32(t, 2);
    put_u64(t, dim[0]);
    put_u64(t, dim[1]);
    put_u32(t, RV_F32);
    put_u64(t, *offset);
    *offset += padded(dim[0] * dim[1] * sizeof(float));
}

static void put_file(const rv_lora *l, const char *name, rv_text *t)
{
    size_t n_tensors = 0, offset = 0;
    for (size_t i = 0; i < l->n_pairs; i++) {
        n_tensors += l->pairs[i].rank ? 2 : 0;
    }
    rv_text_add(t, "GGUF", 4);
    put_u32(t, 3);
    put_u64(t, n_tensors);
    put_u64(t, 5);
    put_key(t, "general.architecture", "lfm2");
    put_key(t, "general.type", "adapter");
    put_key(t, "general.name", name);
    put_key(t, "adapter.type", "lora");
    put_string(t, "adapter.lora.alpha");
    put_u32(t, RV_GGUF_F32);
    rv_text_add(t, (const char *)&l->alpha, sizeof l->alpha);
    for (size_t i = 0; i < l->n_pairs; i++) {
        const rv_lora_pair *p = &l->pairs[i];
        if (p->rank) {
            put_tensor_head(t, l->n_pairs, i, half_a, (size_t[]){ p->cols, p->rank }, &offset);
            put_tensor_head(t, l->n_pairs, i, half_b, (size_t[]){ p->rank, p->rows }, &offset);
        }
    }
    pad(t);
    for (size_t i = 0; i < l->n_pairs; i++) {
        const rv_lora_pair *p = &l->pairs[i];
        rv_text_add(t, (const char *)p->a, p->rank * p->cols * sizeof *p->a);
        pad(t);
        for (size_t r = 0; r < p->rows && p->rank; r++) {
            for (size_t j = 0; j < p->rank; j++) {
                rv_text_add(t, (const char *)&p->b[j * p->rows + r], sizeof *p->b);
            }
        }
        pad(t);
    }
}

rv_err rv_lora_write(const rv_lora *l, const char *path, const char *name)
{
    rv_text t;
    rv_text_init(&t, l->mem, ((size_t)1 << 20) + l->n_pairs * 256 + l->n_weights * sizeof *l->weights);
    put_file(l, name, &t);
    rv_err e = rv_text_check(&t);
    if (!e) {
        e = rv_file_replace(path, t.at, t.n);
    }
    rv_text_deinit(&t);
    return e;
}

/* ---- applying ---- */

void rv_lora_add(const rv_kernels *k, const rv_lora_pair *p, const float *x, size_t row_from, size_t row_to,
                 float *out)
{
    float u[RV_LORA_MAX_RANK];
    for (size_t j = 0; j < p->rank; j++) {
        u[j] = p->scale * k->dot_f32(p->a + j * p->cols, x, p->cols);
    }
    k->gemm(&(rv_gemm){ .m = 1,
                        .k = p->rank,
                        .n = row_to - row_from,
                        .a = u,
                        .a_stride = p->rank,
                        .b = p->b + row_from,
                        .b_stride = p->rows,
                        .out = out + row_from,
                        .out_stride = row_to - row_from });
}
