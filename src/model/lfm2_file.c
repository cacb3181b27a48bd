/* One table says which tensors a layer has and which shape each must have; one function reads a row of it. A tensor that
 * no row names is refused as well: computing without it would silently be another model. */
#include "model/lfm2_file.h"
#include "model/gguf_priv.h"

#include <stdio.h>
#include <string.h>

#define MAX_WIDTH   (1u << 20) /* hidden, ff, vocabulary */
#define MAX_HEADS   4096u
#define MAX_HEAD    ((uint32_t)RV_ATTEND_DIM)
#define MAX_TAPS    64u
#define MAX_CONTEXT UINT32_MAX

/* ---- hyper-parameters ---- */

static rv_err read_u32(const rv_gguf *g, const char *key, uint32_t low, uint32_t high, uint32_t *out,
                       bool *found)
{
    uint64_t x = *out;
    RV_TRY(rv_gguf_get_u64(g, key, low, high, &x, found));
    *out = (uint32_t)x;
    return RV_OK;
}

static rv_err read_positive(const rv_gguf *g, const char *key, float *out)
{
    RV_TRY(rv_gguf_get_f32(g, key, out, NULL));
    if (!(*out > 0)) {
        return rv_fail(RV_E_FORMAT, "%s: %s is %g, expected a number above 0", rv_gguf_path(g), key,
                       (double)*out);
    }
    return RV_OK;
}

static rv_err check_architecture(const rv_gguf *g)
{
    rv_str name;
    RV_TRY(rv_gguf_get_string(g, "general.architecture", &name, NULL));
    if (rv_str_eq(name, "lfm2moe")) {
        return rv_fail(
            RV_E_UNSUPPORTED,
            "%s: general.architecture is 'lfm2moe': mixtures of experts are not supported, use a dense LFM2",
            rv_gguf_path(g));
    }
    if (!rv_str_eq(name, "lfm2")) {
        return rv_fail(RV_E_UNSUPPORTED, "%s: general.architecture is '%.*s', supported is 'lfm2'",
                       rv_gguf_path(g), RV_SHOWN(name));
    }
    return RV_OK;
}

/* Variants that would load and compute nonsense. */
static rv_err check_variant(const rv_gguf *g)
{
    uint64_t parts = 1;
    bool causal = true, found;
    rv_str scaling = rv_str_from("none");
    RV_TRY(rv_gguf_get_u64(g, "split.count", 0, UINT16_MAX, &parts, &found));
    if (parts > 1) {
        return rv_fail(RV_E_UNSUPPORTED,
                       "%s: split.count is %llu: one part of a split model, join the parts first",
                       rv_gguf_path(g), (unsigned long long)parts);
    }
    RV_TRY(rv_gguf_get_bool(g, "lfm2.attention.causal", &causal, &found));
    if (!causal) {
        return rv_fail(RV_E_UNSUPPORTED,
                       "%s: lfm2.attention.causal is false: an encoder, not a text generator",
                       rv_gguf_path(g));
    }
    RV_TRY(rv_gguf_get_string(g, "lfm2.rope.scaling.type", &scaling, &found));
    if (!rv_str_eq(scaling, "none")) {
        return rv_fail(RV_E_UNSUPPORTED, "%s: lfm2.rope.scaling.type is '%.*s', supported is 'none'",
                       rv_gguf_path(g), RV_SHOWN(scaling));
    }
    return RV_OK;
}

static rv_err read_head_dim(const rv_gguf *g, rv_lfm2_shape *s)
{
    bool found;
    RV_TRY(read_u32(g, "lfm2.attention.key_length", 2, MAX_HEAD, &s->head_dim, &found));
    if (!found) {
        s->head_dim = s->hidden / s->n_heads;
        if (s->hidden % s->n_heads || s->head_dim > MAX_HEAD) {
            return rv_fail(RV_E_FORMAT,
                           "%s: lfm2.attention.head_count %u does not divide lfm2.embedding_length %u into "
                           "heads of 2 to %u",
                           rv_gguf_path(g), s->n_heads, s->hidden, MAX_HEAD);
        }
    }
    if (s->head_dim % 2) {
        return rv_fail(
            RV_E_FORMAT,
            "%s: a head (lfm2.embedding_length / head_count) of %u values, expected an even number",
            rv_gguf_path(g), s->head_dim);
    }
    uint32_t same = s->head_dim;
    RV_TRY(read_u32(g, "lfm2.attention.value_length", same, same, &same, &found));
    return read_u32(g, "lfm2.rope.dimension_count", same, same, &same, &found);
}

/* One entry per layer, or one number for all of them. */
static rv_err read_kv_heads(const rv_gguf *g, rv_lfm2_shape *s)
{
    static const char key[] = "lfm2.attention.head_count_kv";
    const rv_gguf_value *v = rv_gguf_find(g, key);
    if (v && v->type != RV_GGUF_ARRAY) {
        uint32_t all = 0;
        RV_TRY(read_u32(g, key, 1, s->n_heads, &all, NULL));
        for (uint32_t l = 0; l < s->n_layers; l++) {
            s->n_kv_heads[l] = all;
        }
    } else {
        RV_TRY(rv_gguf_get_array(g, key, RV_GGUF_U64, &v, NULL));
        if (v->count != s->n_layers) {
            return rv_fail(RV_E_FORMAT, "%s: %s has %llu entries, expected %u (lfm2.block_count)",
                           rv_gguf_path(g), key, (unsigned long long)v->count, s->n_layers);
        }
        for (uint32_t l = 0; l < s->n_layers; l++) {
            uint64_t n = rv_gguf_array_u64(v, l);
            if (n > s->n_heads) {
                return rv_fail(RV_E_FORMAT, "%s: %s[%u] is %lld, expected 0 to %u (head_count)",
                               rv_gguf_path(g), key, l, (long long)n, s->n_heads);
            }
            s->n_kv_heads[l] = (uint32_t)n;
        }
    }
    for (uint32_t l = 0; l < s->n_layers; l++) {
        if (s->n_kv_heads[l] && s->n_heads % s->n_kv_heads[l]) {
            return rv_fail(RV_E_FORMAT, "%s: %s[%u] is %u, which does not divide head_count %u",
                           rv_gguf_path(g), key, l, s->n_kv_heads[l], s->n_heads);
        }
    }
    return RV_OK;
}

static rv_err read_vocab_size(const rv_gguf *g, rv_lfm2_shape *s)
{
    const rv_gguf_value *tokens;
    bool found;
    RV_TRY(rv_gguf_get_array(g, "tokenizer.ggml.tokens", RV_GGUF_STRING, &tokens, NULL));
    if (tokens->count < 1 || tokens->count > MAX_WIDTH) {
        return rv_fail(RV_E_FORMAT, "%s: tokenizer.ggml.tokens has %llu entries, expected 1 to %u",
                       rv_gguf_path(g), (unsigned long long)tokens->count, MAX_WIDTH);
    }
    s->n_vocab = (uint32_t)tokens->count;
    RV_TRY(read_u32(g, "lfm2.vocab_size", 1, MAX_WIDTH, &s->n_vocab, &found));
    if (s->n_vocab != tokens->count) {
        return rv_fail(RV_E_FORMAT, "%s: lfm2.vocab_size is %u, but tokenizer.ggml.tokens has %llu entries",
                       rv_gguf_path(g), s->n_vocab, (unsigned long long)tokens->count);
    }
    return RV_OK;
}

static rv_err read_shape(const rv_gguf *g, rv_lfm2_shape *s)
{
    RV_TRY(check_architecture(g));
    RV_TRY(check_variant(g));
    RV_TRY(read_u32(g, "lfm2.block_count", 1, RV_LFM2_MAX_LAYERS, &s->n_layers, NULL));
    RV_TRY(read_u32(g, "lfm2.context_length", 1, MAX_CONTEXT, &s->n_ctx_train, NULL));
    RV_TRY(read_u32(g, "lfm2.embedding_length", 1, MAX_WIDTH, &s->hidden, NULL));
    RV_TRY(read_u32(g, "lfm2.feed_forward_length", 1, MAX_WIDTH, &s->ff, NULL));
    RV_TRY(read_u32(g, "lfm2.shortconv.l_cache", 2, MAX_TAPS, &s->conv_taps, NULL));
    RV_TRY(read_u32(g, "lfm2.attention.head_count", 1, MAX_HEADS, &s->n_heads, NULL));
    RV_TRY(read_positive(g, "lfm2.attention.layer_norm_rms_epsilon", &s->norm_eps));
    RV_TRY(read_positive(g, "lfm2.rope.freq_base", &s->rope_theta));
    RV_TRY(read_head_dim(g, s));
    RV_TRY(read_kv_heads(g, s));
    return read_vocab_size(g, s);
}

/* ---- tensors ---- */

typedef enum width { ONE, HIDDEN, HIDDEN_3, FF, HEADS, KV_HEADS, HEAD, TAPS, VOCAB } width;
typedef enum where { EVERY_LAYER, CONV_LAYER, ATTENTION_LAYER } where;

typedef struct part {
    const char *name;
    where in;
    bool plain; /* float32 whatever the file's type, kept as const float *; else an rv_matrix */
    width dim0, dim1;
    size_t field;
} part;

#define LAYER(member) offsetof(rv_lfm2_layer_file, member)
static const part layer_parts[] = {
    { "attn_norm.weight", EVERY_LAYER, true, HIDDEN, ONE, LAYER(attn_norm) },
    { "shortconv.in_proj.weight", CONV_LAYER, false, HIDDEN, HIDDEN_3, LAYER(in_proj) },
    { "shortconv.conv.weight", CONV_LAYER, true, TAPS, HIDDEN, LAYER(conv) },
    { "shortconv.out_proj.weight", CONV_LAYER, false, HIDDEN, HIDDEN, LAYER(out_proj) },
    { "attn_q.weight", ATTENTION_LAYER, false, HIDDEN, HEADS, LAYER(q) },
    { "attn_k.weight", ATTENTION_LAYER, false, HIDDEN, KV_HEADS, LAYER(k) },
    { "attn_v.weight", ATTENTION_LAYER, false, HIDDEN, KV_HEADS, LAYER(v) },
    { "attn_output.weight", ATTENTION_LAYER, false, HEADS, HIDDEN, LAYER(o) },
    { "attn_q_norm.weight", ATTENTION_LAYER, true, HEAD, ONE, LAYER(q_norm) },
    { "attn_k_norm.weight", ATTENTION_LAYER, true, HEAD, ONE, LAYER(k_norm) },
    { "ffn_norm.weight", EVERY_LAYER, true, HIDDEN, ONE, LAYER(ffn_norm) },
    { "ffn_gate.weight", EVERY_LAYER, false, HIDDEN, FF, LAYER(ffn_gate) },
    { "ffn_up.weight", EVERY_LAYER, false, HIDDEN, FF, LAYER(ffn_up) },
    { "ffn_down.weight", EVERY_LAYER, false, FF, HIDDEN, LAYER(ffn_down) },
};

#define WHOLE(member) offsetof(rv_lfm2_file, member)
static const part embed_part = { "token_embd.weight", EVERY_LAYER, false, HIDDEN, VOCAB, WHOLE(embed) };
static const part norm_part = { "token_embd_norm.weight", EVERY_LAYER, true, HIDDEN, ONE, WHOLE(final_norm) };
static const part head_part = { "output.weight", EVERY_LAYER, false, HIDDEN, VOCAB, WHOLE(head) };

/* What all tensor reads of one file share. */
typedef struct reading {
    const rv_gguf *g;
    rv_lfm2_shape *shape;
    bool deep;
    bool *used; /* [tensors] */
} reading;

static uint64_t width_of(const rv_lfm2_shape *s, uint32_t layer, width w)
{
    switch (w) {
    case ONE: return 1;
    case HIDDEN: return s->hidden;
    case HIDDEN_3: return 3 * (uint64_t)s->hidden;
    case FF: return s->ff;
    case HEADS: return (uint64_t)s->n_heads * s->head_dim;
    case KV_HEADS: return (uint64_t)s->n_kv_heads[layer] * s->head_dim;
    case HEAD: return s->head_dim;
    case TAPS: return s->conv_taps;
    case VOCAB: return s->n_vocab;
    }
    return 0;
}

/* Where a type keeps the 16 bits that make its weights infinite when their exponent is all ones: the scales of a block,
 * or the upper half of a float. */
typedef struct exponents {
    size_t n, at[2];
    uint16_t mask;
} exponents;

static const exponents exponents_of[RV_TYPE_LIMIT] = {
    [RV_F32] = { 1, { 2 }, 0x7f80 },     [RV_F16] = { 1, { 0 }, 0x7c00 },
    [RV_BF16] = { 1, { 0 }, 0x7f80 },    [RV_Q4_0] = { 1, { 0 }, 0x7c00 },
    [RV_Q4_1] = { 2, { 0, 2 }, 0x7c00 }, [RV_Q5_0] = { 1, { 0 }, 0x7c00 },
    [RV_Q5_1] = { 2, { 0, 2 }, 0x7c00 }, [RV_Q8_0] = { 1, { 0 }, 0x7c00 },
    [RV_Q4_K] = { 2, { 0, 2 }, 0x7c00 }, [RV_Q5_K] = { 2, { 0, 2 }, 0x7c00 },
    [RV_Q6_K] = { 1, { 208 }, 0x7c00 },
};

static rv_err check_finite(const rv_gguf *g, const rv_gguf_tensor *t)
{
    const rv_type_info *info = rv_type_get(t->type);
    const exponents *x = &exponents_of[t->type];
    for (size_t i = 0; i < x->n; i++) {
        const uint8_t *at = t->at + x->at[i];
        for (size_t b = 0; b < t->bytes / info->block_bytes; b++, at += info->block_bytes) {
            uint16_t h;
            memcpy(&h, at, sizeof h);
            if ((h & x->mask) == x->mask) {
                return rv_fail(RV_E_FORMAT, "%s: tensor %.*s: %s %zu is not finite (NaN or infinity)",
                               rv_gguf_path(g), RV_SHOWN(t->name),
                               info->block_weights == 1 ? "weight" : "the scale of block", b);
            }
        }
    }
    return RV_OK;
}

static rv_err read_tensor(const reading *r, const char *name, const part *p, uint32_t layer, void *owner)
{
    const rv_gguf_tensor *t = rv_gguf_tensor_find(r->g, name);
    if (!t) {
        return rv_fail(RV_E_FORMAT, "%s: tensor %s is missing", rv_gguf_path(r->g), name);
    }
    uint64_t dim0 = width_of(r->shape, layer, p->dim0), dim1 = width_of(r->shape, layer, p->dim1);
    if (t->dim[0] != dim0 || t->dim[1] != dim1 || t->dim[2] != 1 || t->dim[3] != 1) {
        return rv_fail(RV_E_FORMAT, "%s: tensor %s has shape %llu x %llu x %llu x %llu, expected %llu x %llu",
                       rv_gguf_path(r->g), name, (unsigned long long)t->dim[0], (unsigned long long)t->dim[1],
                       (unsigned long long)t->dim[2], (unsigned long long)t->dim[3], (unsigned long long)dim0,
                       (unsigned long long)dim1);
    }
    if (p->plain && t->type != RV_F32) {
        return rv_fail(RV_E_FORMAT, "%s: tensor %s has type %s, expected F32", rv_gguf_path(r->g), name,
                       rv_type_get(t->type)->name);
    }
    if (p->plain || r->deep) {
        RV_TRY(check_finite(r->g, t));
    }
    if (p->plain) {
        const float *at = (const float *)t->at;
        memcpy((char *)owner + p->field, &at, sizeof at);
    } else {
        rv_matrix m = { .type = t->type, .rows = (size_t)dim1, .cols = (size_t)dim0, .raw = t->at };
        memcpy((char *)owner + p->field, &m, sizeof m);
    }
    r->used[t - rv_gguf_tensor_at(r->g, 0)] = true;
    r->shape->n_params += dim0 * dim1;
    r->shape->weight_bytes += t->bytes;
    return RV_OK;
}

static rv_err read_layer(const reading *r, uint32_t layer, rv_lfm2_layer_file *out)
{
    where kind = r->shape->n_kv_heads[layer] ? ATTENTION_LAYER : CONV_LAYER;
    for (size_t i = 0; i < RV_COUNT(layer_parts); i++) {
        const part *p = &layer_parts[i];
        if (p->in == EVERY_LAYER || p->in == kind) {
            char name[64];
            snprintf(name, sizeof name, "blk.%u.%s", layer, p->name);
            RV_TRY(read_tensor(r, name, p, layer, out));
        }
    }
    return RV_OK;
}

static rv_err read_tensors(const reading *r, rv_lfm2_file *f)
{
    RV_TRY(read_tensor(r, embed_part.name, &embed_part, 0, f));
    RV_TRY(read_tensor(r, norm_part.name, &norm_part, 0, f));
    f->head = f->embed;
    if (rv_gguf_tensor_find(r->g, head_part.name)) {
        RV_TRY(read_tensor(r, head_part.name, &head_part, 0, f));
    }
    for (uint32_t l = 0; l < f->shape.n_layers; l++) {
        RV_TRY(read_layer(r, l, &f->layers[l]));
    }
    for (size_t i = 0; i < rv_gguf_tensor_count(r->g); i++) {
        if (!r->used[i]) {
            return rv_fail(RV_E_FORMAT, "%s: unknown tensor %.*s: not part of an LFM2 model of %u layers",
                           rv_gguf_path(r->g), RV_SHOWN(rv_gguf_tensor_at(r->g, i)->name), f->shape.n_layers);
        }
    }
    return RV_OK;
}

/* ---- products ---- */

static const struct {
    const char *name;
    size_t field;
} product_parts[RV_LFM2_PARTS] = {
    [RV_LFM2_IN_PROJ] = { "shortconv.in_proj.weight", LAYER(in_proj) },
    [RV_LFM2_OUT_PROJ] = { "shortconv.out_proj.weight", LAYER(out_proj) },
    [RV_LFM2_Q] = { "attn_q.weight", LAYER(q) },
    [RV_LFM2_K] = { "attn_k.weight", LAYER(k) },
    [RV_LFM2_V] = { "attn_v.weight", LAYER(v) },
    [RV_LFM2_O] = { "attn_output.weight", LAYER(o) },
    [RV_LFM2_GATE] = { "ffn_gate.weight", LAYER(ffn_gate) },
    [RV_LFM2_UP] = { "ffn_up.weight", LAYER(ffn_up) },
    [RV_LFM2_DOWN] = { "ffn_down.weight", LAYER(ffn_down) },
};

size_t rv_lfm2_products(const rv_lfm2_file *f)
{
    return (size_t)f->shape.n_layers * RV_LFM2_PARTS + 1;
}

const rv_matrix *rv_lfm2_matrix_of(const rv_lfm2_layer_file *layer, rv_lfm2_part which)
{
    return (const rv_matrix *)(const void *)((const char *)layer + product_parts[which].field);
}

const rv_matrix *rv_lfm2_product(const rv_lfm2_file *f, size_t product)
{
    size_t layer = product / RV_LFM2_PARTS;
    return layer == f->shape.n_layers ? &f->head
                                      : rv_lfm2_matrix_of(&f->layers[layer], product % RV_LFM2_PARTS);
}

void rv_lfm2_product_name(size_t n_products, size_t product, char out[64])
{
    if (product + 1 == n_products) {
        snprintf(out, 64, "%s", head_part.name);
    } else {
        snprintf(out, 64, "blk.%zu.%s", product / RV_LFM2_PARTS, product_parts[product % RV_LFM2_PARTS].name);
    }
}

bool rv_lfm2_product_find(const rv_lfm2_file *f, rv_str tensor, size_t *product)
{
    size_t n = rv_lfm2_products(f), mine = f->head.raw == f->embed.raw ? n - 1 : n;
    for (size_t i = 0; i < mine; i++) {
        char name[64];
        rv_lfm2_product_name(n, i, name);
        if (rv_lfm2_product(f, i)->rows && rv_str_eq(tensor, name)) {
            *product = i;
            return true;
        }
    }
    return false;
}

/* ---- the file ---- */

/* Takes g, also when it fails. */
static rv_err open_gguf(const rv_alloc *mem, rv_gguf *g, bool deep, rv_lfm2_file **out)
{
    rv_lfm2_file *f = rv_new(mem, sizeof *f);
    if (!f) {
        rv_gguf_close(g);
        return rv_fail(RV_E_NOMEM, "opening a model");
    }
    f->mem = mem;
    f->gguf = g;
    rv_err e = read_shape(g, &f->shape);
    if (!e) {
        f->layers = rv_new_array(mem, f->shape.n_layers, sizeof *f->layers);
        reading r = { .g = g, .shape = &f->shape, .deep = deep };
        r.used = rv_new_array(mem, rv_gguf_tensor_count(g) + 1, sizeof *r.used);
        e = f->layers && r.used ? read_tensors(&r, f) : rv_fail(RV_E_NOMEM, "%s: opening", rv_gguf_path(g));
        rv_free(mem, r.used);
    }
    if (e) {
        rv_lfm2_file_close(f);
        return e;
    }
    *out = f;
    return RV_OK;
}

rv_err rv_lfm2_file_open(const rv_alloc *mem, const char *path, bool deep, rv_lfm2_file **out)
{
    rv_gguf *g;
    RV_TRY(rv_gguf_open(mem, path, &g));
    return open_gguf(mem, g, deep, out);
}

rv_err rv_lfm2_file_open_bytes(const rv_alloc *mem, const char *name, const void *bytes, size_t n, bool deep,
                               rv_lfm2_file **out)
{
    rv_gguf *g;
    RV_TRY(rv_gguf_open_bytes(mem, name, bytes, n, &g));
    return open_gguf(mem, g, deep, out);
}

void rv_lfm2_file_close(rv_lfm2_file *f)
{
    if (!f) {
        return;
    }
    rv_gguf_close(f->gguf);
    rv_free(f->mem, f->layers);
    rv_free(f->mem, f);
}
