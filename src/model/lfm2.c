/* One step is one job: every thread walks through all layers and owns a range of the rows of each product. The
 * tokens of all segments lie one below the other and go through the products together; only attention and the
 * convolution look at the segment a token belongs to.
 *
 * What a thread has computed it finishes as far as it can without the others (silu, convolution,
 * quantisation, residual), and meets them only where the next product needs whole rows: twice a layer in the
 * feed-forward half, two or three times in the other. With one token the norm and the quantisation before a
 * product are so short that every thread does them for itself instead of waiting for one that does; with
 * several, tokens are dealt out.
 *
 * Of many tokens rows are taken in small parts as threads come for them: on a machine that does other things too, one processor is
 * slower than the next, and equal parts would make all wait for it.
 *
 * Attention of a token looks at its keys in parts of PART_TOKENS, each with a softmax of its own, and merges them in
 * order; so what several threads compute of a long sequence is what one would. */
#include "model/lfm2_priv.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum {
    PART_TOKENS = 1024, /* a multiple of a window's blocks and pages */
    /* From so many on rows are taken in parts, so many for each thread: of two threads one waits for a sixteenth at most. A single token
     * waits for memory, and gains nothing by it. */
    TAKEN_TOKENS = 16,
    PARTS_PER_THREAD = 8
};

/* One call of rv_lfm2_run as its threads see it. */
typedef struct step {
    const rv_lfm2 *m;
    size_t n, n_spans, n_asked; /* tokens, segments, tokens whose logits are asked for */
    int n_threads;
    bool adapted;  /* some segment has an adapter */
    bool fills;    /* some sequence has blocks to fill */
    bool takes;    /* rows are taken in parts */
    float *logits; /* NULL: they go to several places */
} step;

static void meet(const step *s, int thread)
{
    if (s->n_threads > 1) {
        rv_pool_barrier(s->m->pool, thread);
    }
}

/* Rows [from, to) of n that a thread computes next. */
typedef struct cut {
    size_t from, to;
    bool split; /* and that was all */
} cut;

static bool more_rows(const step *s, int thread, size_t n, cut *r)
{
    const size_t parts = (size_t)s->n_threads * PARTS_PER_THREAD;
    if (s->takes) {
        const size_t part = (n / parts + RV_ROW_STEP - 1) / RV_ROW_STEP * RV_ROW_STEP;
        return rv_pool_take(s->m->pool, n, part ? part : RV_ROW_STEP, &r->from, &r->to);
    }
    rv_pool_split(n, RV_ROW_STEP, thread, s->n_threads, &r->from, &r->to);
    bool first = !r->split;
    r->split = true;
    return first && r->from < r->to;
}

/**
 * Make n rows of src ready as the right side of a product: normalised when weight is given, quantised unless
 * activations stay float32. which: their numbers, only with a weight; NULL: the first n. With one row each
 * thread makes its own copy; with more they share the work and wait.
 */
static void ready(const step *s, int thread, const float *src, size_t cols, const float *weight,
                  const uint16_t *which, size_t n, rv_act *act)
{
    const rv_lfm2 *m = s->m;
    const lane *own = &m->lanes[thread];
    bool alone = n == 1;
    float *to = alone ? own->row : m->norm;
    rv_act_layout(weight ? to : src, cols, cols, n, m->act_f32 ? NULL : alone ? own->act : m->act, act);
    size_t from = 0, end = n;
    if (!alone) {
        rv_pool_split(n, 1, thread, s->n_threads, &from, &end);
    }
    for (size_t t = from; weight && t < end; t++) {
        m->k->rmsnorm(src + (which ? which[t] : t) * cols, weight, cols, m->shape->norm_eps, to + t * cols);
    }
    rv_act_quantize(m->k, act, from, end);
    if (!alone) {
        meet(s, thread);
    }
}

/* The same for a product whose right side is made of columns that one thread each has computed: described
 * here, quantised by their owners with next_columns, complete after the next meeting. */
static void next_layout(const step *s, const float *x, size_t cols, rv_act *act)
{
    rv_act_layout(x, cols, cols, s->n, s->m->act_f32 ? NULL : s->m->act_next, act);
}

static void next_columns(const step *s, const rv_act *act, size_t t, size_t from, size_t to)
{
    if (act->blocks) {
        s->m->k->quantize(act->f32 + t * act->stride + from, to - from,
                          act->blocks + (t * act->cols + from) / 32);
    }
}

/* What adapters add to rows [from, to) of a product. Row i of act is token which[i], or i without which. */
static void adapt(const step *s, size_t product, const rv_act *act, const uint16_t *which, size_t from,
                  size_t to, float *out, size_t out_stride)
{
    const rv_lfm2 *m = s->m;
    for (size_t i = 0; s->adapted && i < act->n_tokens; i++) {
        const rv_lora *lora = m->spans[m->span_of[which ? which[i] : i]].how->lora;
        if (lora && lora->pairs[product].rank) {
            rv_lora_add(m->k, &lora->pairs[product], act->f32 + i * act->stride, from, to,
                        out + i * out_stride);
        }
    }
}

/* Rows [from, to) of a layer's product with every token. */
static void multiply(const step *s, size_t layer, rv_lfm2_part part, const rv_act *act, size_t from,
                     size_t to, float *out, size_t out_stride)
{
    const rv_lfm2 *m = s->m;
    m->k->matmul(rv_lfm2_matrix_of(&m->layers[layer], part), act, from, to, out, out_stride);
    adapt(s, layer * RV_LFM2_PARTS + part, act, NULL, from, to, out, out_stride);
}

/* x += W act; every thread its own columns of x. */
static void add_product(const step *s, int thread, size_t layer, rv_lfm2_part part, const rv_act *act)
{
    const rv_lfm2 *m = s->m;
    const size_t h = m->shape->hidden;
    for (cut r = { 0 }; more_rows(s, thread, h, &r);) {
        multiply(s, layer, part, act, r.from, r.to, m->product, h);
        for (size_t t = 0; t < s->n; t++) {
            m->k->add(m->x + t * h + r.from, m->product + t * h + r.from, r.to - r.from);
        }
    }
    meet(s, thread);
}

static void feed_forward(const step *s, int thread, size_t layer)
{
    const rv_lfm2 *m = s->m;
    const rv_lfm2_layer_file *l = &m->layers[layer];
    const size_t ff = m->shape->ff;
    rv_act act, next;
    ready(s, thread, m->x, m->shape->hidden, l->ffn_norm, NULL, s->n, &act);
    next_layout(s, m->gate, ff, &next);
    for (cut r = { 0 }; more_rows(s, thread, ff, &r);) {
        multiply(s, layer, RV_LFM2_GATE, &act, r.from, r.to, m->gate, ff);
        multiply(s, layer, RV_LFM2_UP, &act, r.from, r.to, m->up, ff);
        for (size_t t = 0; t < s->n; t++) {
            m->k->silu_mul(m->gate + t * ff + r.from, m->up + t * ff + r.from, r.to - r.from);
            next_columns(s, &next, t, r.from, r.to);
        }
    }
    meet(s, thread);
    add_product(s, thread, layer, RV_LFM2_DOWN, &next);
}

/* A part of the convolution state after token t of its segment, for whoever may take back the tokens behind it. */
static void keep_state(const rv_lfm2 *m, const span *own, size_t t, size_t at, const float *state, size_t n)
{
    const rv_lfm2_segment *g = own->how;
    if (g->states && t >= g->logits_from && t + 1 < g->n) {
        memcpy(g->states + (t - g->logits_from) * m->state_floats + at, state, n * sizeof *state);
    }
}

/* in_proj gives B, C and z one below the other. A thread takes the same channels [from, to) of all three,
 * writes them side by side as [B C z][to - from] at 3 * from of the row, and convolves them at once. The
 * products index their output by row, so the base of C and z is moved down by up to 2 * hidden: that much
 * lies free before u. */
static void convolve(const step *s, size_t layer, const rv_act *act, const rv_act *next, size_t from,
                     size_t to)
{
    const rv_lfm2 *m = s->m;
    const size_t h = m->shape->hidden, history = m->shape->conv_taps - 1, width = to - from;
    const float *taps = m->layers[layer].conv + from * (history + 1);
    if (width == h) {
        multiply(s, layer, RV_LFM2_IN_PROJ, act, 0, 3 * h, m->u, 3 * h);
    } else {
        for (size_t part = 0; part < 3; part++) {
            float *base = m->u - part * h + 2 * from + part * width;
            multiply(s, layer, RV_LFM2_IN_PROJ, act, part * h + from, part * h + to, base, 3 * h);
        }
    }
    for (size_t t = 0; t < s->n; t++) {
        const span *own = &m->spans[m->span_of[t]];
        const size_t at = rv_kv_conv_at(own->how->seq, layer) + from * history;
        float *state = rv_kv_conv(own->how->seq, layer) + from * history;
        m->k->shortconv(m->u + t * 3 * h + 3 * from, taps, state, width, history + 1, m->y + t * h + from);
        next_columns(s, next, t, from, to);
        if (own->mark && t + 1 == own->first + own->how->mark_after) {
            memcpy(own->mark + at, state, width * history * sizeof *state);
        }
        keep_state(m, own, t - own->first, at, state, width * history);
    }
}

static void short_conv(const step *s, int thread, size_t layer)
{
    const rv_lfm2 *m = s->m;
    const size_t h = m->shape->hidden;
    rv_act act, next;
    ready(s, thread, m->x, h, m->layers[layer].attn_norm, NULL, s->n, &act);
    next_layout(s, m->y, h, &next);
    if (h % RV_ROW_STEP == 0) {
        for (cut r = { 0 }; more_rows(s, thread, h, &r);) {
            convolve(s, layer, &act, &next, r.from, r.to);
        }
    } else if (thread == 0) { /* C and z would begin where rows cannot be cut */
        convolve(s, layer, &act, &next, 0, h);
    }
    meet(s, thread);
    add_product(s, thread, layer, RV_LFM2_OUT_PROJ, &next);
}

/* Queries and the key of one key/value head of token t: normalised, rotated; key and value into the cache. */
static void prepare_head(const step *s, size_t layer, size_t t, size_t head)
{
    const rv_lfm2 *m = s->m;
    const rv_lfm2_shape *shape = m->shape;
    const rv_lfm2_layer_file *l = &m->layers[layer];
    size_t dim = shape->head_dim, n_kv = shape->n_kv_heads[layer], group = shape->n_heads / n_kv;
    const float *cos = m->cos + t * (dim / 2), *sin = m->sin + t * (dim / 2);
    float *q = m->q + (t * shape->n_heads + head * group) * dim, *key = m->key + (t * n_kv + head) * dim;
    for (size_t i = 0; i < group; i++) {
        m->k->rmsnorm(q + i * dim, l->q_norm, dim, shape->norm_eps, q + i * dim);
    }
    m->k->rope(q, cos, sin, group, dim);
    m->k->rmsnorm(key, l->k_norm, dim, shape->norm_eps, key);
    m->k->rope(key, cos, sin, 1, dim);
    const span *own = &m->spans[m->span_of[t]];
    rv_kv_put(own->how->seq, m->k, layer, head, own->past + t - own->first, key,
              m->value + (t * n_kv + head) * dim);
}

/* What the tokens of a page look at, in order: pages only; or the first page, blocks, and the pages behind them. */
typedef struct past_of {
    const rv_kv_seq *seq;
    size_t layer, head, position; /* of the first of these tokens */
    size_t blocks, n;             /* blocks among the n things to look at */
} past_of;

static past_of past_at(const rv_kv_seq *seq, size_t layer, size_t head, size_t position)
{
    past_of p = { .seq = seq, .layer = layer, .head = head, .position = position };
    size_t pages = position / RV_KV_PAGE_TOKENS + 1;
    p.blocks = rv_kv_blocks_before(seq, position);
    p.n = p.blocks ? 1 + p.blocks + pages - p.blocks * (RV_KVQ_TOKENS / RV_KV_PAGE_TOKENS) : pages;
    return p;
}

/* The first thing that begins at or behind a token, which is a multiple of RV_KVQ_TOKENS. */
static size_t first_behind(const past_of *p, size_t token)
{
    size_t stored = p->blocks * RV_KVQ_TOKENS;
    return token == 0       ? 0
           : p->blocks == 0 ? token / RV_KV_PAGE_TOKENS
           : token < stored ? 1 + token / RV_KVQ_TOKENS
                            : 1 + p->blocks + (token - stored) / RV_KV_PAGE_TOKENS;
}

static void look_at(const past_of *p, size_t i, rv_attend_step *out)
{
    if (i && i <= p->blocks) {
        out->type = rv_kv_store_type(p->seq);
        out->keys = rv_kv_block_keys(p->seq, p->layer, p->head, i - 1);
        out->values = rv_kv_block_values(p->seq, p->layer, p->head, i - 1);
        out->first_key = i == 1 ? RV_KV_PAGE_TOKENS : 0; /* the first page stays what it is */
        out->n_keys = RV_KVQ_TOKENS;
        return;
    }
    size_t page = i && p->blocks ? i - 1 - p->blocks + p->blocks * (RV_KVQ_TOKENS / RV_KV_PAGE_TOKENS) : i;
    out->type = rv_kv_type(p->seq);
    out->keys = rv_kv_keys(p->seq, p->layer, p->head, page);
    out->values = rv_kv_values(p->seq, p->layer, p->head, page);
    out->first_key = 0;
    out->n_keys = RV_KV_PAGE_TOKENS;
}

static size_t parts_of(size_t position)
{
    return position / PART_TOKENS + 1;
}

/* The last page, of which every token sees one key more than the one before. A row is a query head of a token, the first
 * one being the first_row-th behind the first head of the first token. */
static void attend_last(const rv_lfm2 *m, const past_of *p, size_t group, size_t first_row,
                        rv_attend_step look)
{
    size_t rows = look.n_q;
    for (size_t row = 0, n; row < rows; row += n) {
        size_t token = (first_row + row) / group, end = (token + 1) * group - first_row;
        n = (end < rows ? end : rows) - row;
        look.n_q = n;
        look.n_keys = (p->position + token) % RV_KV_PAGE_TOKENS + 1;
        m->k->attend(&look);
        look.q += n * look.dim;
        look.acc += n * look.dim;
        look.max += n;
        look.sum += n;
    }
}

/* One part of the past for some rows, into a state that it begins. */
static void attend_part(const rv_lfm2 *m, const past_of *p, size_t part, size_t group, const float *q,
                        size_t first_row, size_t rows, struct softmax into)
{
    size_t dim = m->shape->head_dim, end = first_behind(p, (part + 1) * PART_TOKENS);
    memset(into.acc, 0, rows * dim * sizeof *into.acc);
    for (size_t i = 0; i < rows; i++) {
        into.max[i] = -INFINITY;
        into.sum[i] = 0;
    }
    rv_attend_step base = { .q = q,
                            .n_q = rows,
                            .dim = dim,
                            .scale = 1.0f / sqrtf((float)dim),
                            .max = into.max,
                            .sum = into.sum,
                            .acc = into.acc };
    rv_attend_step look = base, next = base;
    size_t from = first_behind(p, part * PART_TOKENS);
    end = end < p->n ? end : p->n;
    look_at(p, from, &look);
    for (size_t i = from; i < end; i++, look = next) {
        if (i + 1 < p->n) {
            look_at(p, i + 1, &next);
            look.next_keys = next.keys;
            look.next_values = next.values;
            m->k->attend(&look);
        } else {
            attend_last(m, p, group, first_row, look);
        }
    }
}

static void merge(const rv_lfm2 *m, size_t rows, struct softmax part, struct softmax whole)
{
    rv_attend_step more = {
        .n_q = rows, .dim = m->shape->head_dim, .max = part.max, .sum = part.sum, .acc = part.acc
    };
    rv_attend_merge(&more, whole.max, whole.sum, whole.acc);
}

/* Where a row's query stands, and then its result. */
static float *row_at(const rv_lfm2 *m, size_t group, size_t head, size_t from, size_t row)
{
    return m->q +
           ((from + row / group) * m->shape->n_heads + head * group + row % group) * m->shape->head_dim;
}

static void put_rows(const rv_lfm2 *m, size_t group, size_t head, size_t from, size_t first_row, size_t rows,
                     struct softmax whole)
{
    size_t dim = m->shape->head_dim;
    for (size_t r = 0; r < rows; r++) {
        float *out = row_at(m, group, head, from, first_row + r);
        for (size_t i = 0; i < dim; i++) {
            out[i] = whole.acc[r * dim + i] / whole.sum[r];
        }
    }
}

/* Attention of one key/value head for tokens [from, to), which lie in one page of one sequence; the result takes
 * the place of the queries. A token ends within its own page, so its sums do not depend on its company: the pages that
 * all of these tokens see whole are read once for all. */
static void attend_page(const step *s, const lane *own, size_t layer, size_t head, size_t from, size_t to)
{
    const rv_lfm2 *m = s->m;
    const span *at = &m->spans[m->span_of[from]];
    size_t dim = m->shape->head_dim, group = m->shape->n_heads / m->shape->n_kv_heads[layer];
    past_of p = past_at(at->how->seq, layer, head, at->past + from - at->first);
    for (size_t first = 0, rows, all = (to - from) * group; first < all; first += rows) {
        rows = all - first < RV_LFM2_TILE_ROWS ? all - first : RV_LFM2_TILE_ROWS;
        for (size_t r = 0; r < rows; r++) {
            memcpy(own->q + r * dim, row_at(m, group, head, from, first + r), dim * sizeof(float));
        }
        attend_part(m, &p, 0, group, own->q, first, rows, own->whole);
        for (size_t part = 1; part < parts_of(p.position); part++) {
            attend_part(m, &p, part, group, own->q, first, rows, own->part);
            merge(m, rows, own->part, own->whole);
        }
        put_rows(m, group, head, from, first, rows, own->whole);
    }
}

/* Where the tokens that share token t's page, in this step, end. */
static size_t page_end(const rv_lfm2 *m, size_t t)
{
    const span *at = &m->spans[m->span_of[t]];
    size_t end = at->first + at->how->n,
           left = RV_KV_PAGE_TOKENS - (at->past + t - at->first) % RV_KV_PAGE_TOKENS;
    return left < end - t ? t + left : end;
}

/* Blocks that the step's tokens read and nobody read before. */
static void fill_blocks(const step *s, int thread, size_t layer)
{
    const rv_lfm2 *m = s->m;
    size_t unit = 0;
    for (size_t i = 0; i < s->n_spans; i++) {
        const span *at = &m->spans[i];
        rv_kv_seq *seq = at->how->seq;
        size_t due = rv_kv_blocks_before(seq, at->past + at->how->n - 1);
        for (size_t block = rv_kv_blocks_filled(seq); block < due; block++) {
            for (size_t head = 0; head < m->shape->n_kv_heads[layer]; head++, unit++) {
                if (unit % (size_t)s->n_threads == (size_t)thread) {
                    rv_kv_fill(seq, m->k, layer, head, block);
                }
            }
        }
    }
}

/* Single tokens with long pasts and more threads than their heads keep busy: threads share out the parts. The parts'
 * states wait in the scratch of the feed-forward half; false when they have no room there. */
static bool by_parts(const step *s, size_t n_kv, size_t *parts)
{
    const rv_lfm2 *m = s->m;
    *parts = 1;
    for (size_t i = 0; i < s->n_spans; i++) {
        size_t n = parts_of(m->spans[i].past);
        *parts = n > *parts ? n : *parts;
    }
    size_t group = m->shape->n_heads / n_kv, room = m->max_chunk * (size_t)m->shape->ff;
    return *parts > 1 && s->n * n_kv < 4 * (size_t)s->n_threads && group <= RV_LFM2_TILE_ROWS &&
           s->n * n_kv * *parts * group * (m->shape->head_dim + 2) <= room;
}

static struct softmax part_state(const rv_lfm2 *m, size_t group, size_t i)
{
    float *at = m->gate + i * group * (m->shape->head_dim + 2);
    return (struct softmax){ .max = at, .sum = at + group, .acc = at + 2 * group };
}

static void attend_by_parts(const step *s, int thread, size_t layer, size_t parts)
{
    const rv_lfm2 *m = s->m;
    size_t n_kv = m->shape->n_kv_heads[layer], group = m->shape->n_heads / n_kv;
    size_t n_threads = (size_t)s->n_threads, unit = 0;
    for (size_t t = 0; t < s->n; t++) {
        const span *at = &m->spans[m->span_of[t]];
        for (size_t head = 0; head < n_kv; head++) {
            past_of p = past_at(at->how->seq, layer, head, at->past);
            for (size_t part = 0; part < parts_of(at->past); part++, unit++) {
                if (unit % n_threads == (size_t)thread) {
                    attend_part(m, &p, part, group, row_at(m, group, head, t, 0), 0, group,
                                part_state(m, group, (t * n_kv + head) * parts + part));
                }
            }
        }
    }
    meet(s, thread);
    for (size_t i = (size_t)thread; i < s->n * n_kv; i += n_threads) {
        size_t t = i / n_kv, head = i % n_kv;
        struct softmax whole = part_state(m, group, i * parts);
        for (size_t part = 1; part < parts_of(m->spans[m->span_of[t]].past); part++) {
            merge(m, group, part_state(m, group, i * parts + part), whole);
        }
        put_rows(m, group, head, t, 0, group, whole);
    }
}

/* A page and a head that a thread looks at after `last`, SIZE_MAX at first: in turns, or as they are taken. */
static size_t next_unit(const step *s, int thread, size_t last)
{
    size_t unit, beyond;
    if (s->takes) {
        return rv_pool_take(s->m->pool, SIZE_MAX, 1, &unit, &beyond) ? unit : SIZE_MAX;
    }
    return last == SIZE_MAX ? (size_t)thread : last + (size_t)s->n_threads;
}

static void attend_all(const step *s, int thread, size_t layer)
{
    const rv_lfm2 *m = s->m;
    size_t n_kv = m->shape->n_kv_heads[layer], parts = 1;
    bool lone = s->n == s->n_spans; /* no token needs the key of another one of this step */
    bool split = lone && by_parts(s, n_kv, &parts);
    if (!lone || split) {
        size_t from, to;
        rv_pool_split(s->n * n_kv, 1, thread, s->n_threads, &from, &to);
        for (size_t i = from; i < to; i++) {
            prepare_head(s, layer, i / n_kv, i % n_kv);
        }
        meet(s, thread);
    }
    if (s->fills) {
        fill_blocks(s, thread, layer);
        meet(s, thread);
    }
    if (split) {
        attend_by_parts(s, thread, layer, parts);
        return;
    }
    size_t own = next_unit(s, thread, SIZE_MAX);
    for (size_t t = 0, unit = 0, end; t < s->n; t = end) {
        end = page_end(m, t);
        for (size_t head = 0; head < n_kv; head++, unit++) {
            if (unit == own) {
                if (lone) {
                    prepare_head(s, layer, t, head);
                }
                attend_page(s, &m->lanes[thread], layer, head, t, end);
                own = next_unit(s, thread, unit);
            }
        }
    }
}

static size_t whole_steps(size_t rows)
{
    return (rows + RV_ROW_STEP - 1) / RV_ROW_STEP * RV_ROW_STEP;
}

/* Rows [from, to) of queries, keys and values one below the other, each begun at a row where threads may cut. */
static void project(const step *s, size_t layer, const rv_act *act, size_t from, size_t to)
{
    const rv_lfm2 *m = s->m;
    float *const outs[] = { m->q, m->key, m->value }; /* of RV_LFM2_Q and the two after it */
    for (size_t i = 0, first = 0; i < RV_COUNT(outs); i++) {
        const size_t n = rv_lfm2_matrix_of(&m->layers[layer], RV_LFM2_Q + i)->rows;
        const size_t low = from > first ? from - first : 0, high = to < first + n ? to : first + n;
        if (low + first < high) {
            multiply(s, layer, RV_LFM2_Q + i, act, low, high - first, outs[i], n);
        }
        first += whole_steps(n);
    }
}

static void attention(const step *s, int thread, size_t layer)
{
    const rv_lfm2 *m = s->m;
    size_t n = 0;
    rv_act act;
    ready(s, thread, m->x, m->shape->hidden, m->layers[layer].attn_norm, NULL, s->n, &act);
    for (rv_lfm2_part part = RV_LFM2_Q; part <= RV_LFM2_V; part++) {
        n += whole_steps(rv_lfm2_matrix_of(&m->layers[layer], part)->rows);
    }
    for (cut r = { 0 }; more_rows(s, thread, n, &r);) {
        project(s, layer, &act, r.from, r.to);
    }
    meet(s, thread);
    attend_all(s, thread, layer);
    meet(s, thread);
    ready(s, thread, m->q, (size_t)m->shape->n_heads * m->shape->head_dim, NULL, NULL, s->n, &act);
    add_product(s, thread, layer, RV_LFM2_O, &act);
}

static void embed(const step *s, int thread)
{
    const rv_lfm2 *m = s->m;
    const rv_matrix *w = &m->file->embed;
    size_t from, to, h = m->shape->hidden;
    rv_pool_split(s->n, 1, thread, s->n_threads, &from, &to);
    for (size_t t = from; t < to; t++) {
        const span *own = &m->spans[m->span_of[t]];
        const uint8_t *row =
            (const uint8_t *)w->raw + (size_t)own->how->ids[t - own->first] * m->embed_row_bytes;
        m->k->expand[w->type](row, m->x + t * h, h);
    }
    meet(s, thread);
}

/* Columns [from, to) of the i-th token that asked. */
static void look(const step *s, size_t i, const float *row, size_t from, size_t to)
{
    const rv_lfm2 *m = s->m;
    const span *own = &m->spans[m->span_of[m->asked[i]]];
    size_t at = m->asked[i] - own->first - own->how->logits_from;
    if (own->how->blocks) {
        rv_logits_block *out = own->how->blocks + at * rv_logits_blocks(m->shape->n_vocab);
        rv_logits_look(m->k, row + from, to - from, out + from / RV_LOGITS_BLOCK);
    }
}

/* Rows of one segment are written where they belong. Those of several go there by way of scratch, a block of
 * columns at a time, because a product has one place for all of its rows. */
static void logits(const step *s, int thread)
{
    enum { BLOCK = 8 * RV_LOGITS_BLOCK };
    const rv_lfm2 *m = s->m;
    size_t from, to, v = m->shape->n_vocab, head = rv_lfm2_products(m->file) - 1;
    if (s->n_asked == 0) {
        return;
    }
    rv_act act;
    ready(s, thread, m->x, m->shape->hidden, m->file->final_norm, m->asked, s->n_asked, &act);
    rv_pool_split(v, RV_LOGITS_BLOCK, thread, s->n_threads, &from, &to);
    float *rows = s->logits ? s->logits : m->rows;
    for (size_t end; from < to; from = end) {
        end = to - from > BLOCK ? from + BLOCK : to;
        m->k->matmul(&m->head, &act, from, end, rows, v);
        adapt(s, head, &act, m->asked, from, end, rows, v);
        for (size_t i = 0; i < s->n_asked; i++) {
            look(s, i, rows + i * v, from, end);
        }
        for (size_t i = 0; i < s->n_asked && !s->logits; i++) {
            const span *own = &m->spans[m->span_of[m->asked[i]]];
            size_t row = m->asked[i] - own->first - own->how->logits_from;
            memcpy(own->how->logits + row * v + from, m->rows + i * v + from, (end - from) * sizeof(float));
        }
    }
}

static void forward(void *arg, int thread, int n_threads)
{
    const step *s = arg;
    const rv_lfm2 *m = s->m;
    assert(n_threads == s->n_threads);
    (void)n_threads;
    embed(s, thread);
    for (size_t l = 0; l < m->shape->n_layers; l++) {
        if (m->shape->n_kv_heads[l]) {
            attention(s, thread, l);
        } else {
            short_conv(s, thread, l);
        }
        feed_forward(s, thread, l);
    }
    logits(s, thread);
}

/* Angles in double: a float32 product of position and frequency is off by 1e-3 at position 10,000. */
static void rotations(const rv_lfm2 *m, size_t n)
{
    size_t half = m->shape->head_dim / 2;
    for (size_t i = 0; i < half; i++) {
        double rate = pow((double)m->shape->rope_theta, -2.0 * (double)i / (double)m->shape->head_dim);
        for (size_t t = 0; t < n; t++) {
            const span *own = &m->spans[m->span_of[t]];
            double angle = (double)(own->past + t - own->first) * rate;
            m->cos[t * half + i] = (float)cos(angle);
            m->sin[t * half + i] = (float)sin(angle);
        }
    }
}

/* Looks at everything that can be wrong, and reserves, before anything changes. */
static rv_err check_segments(const rv_lfm2 *m, const rv_lfm2_segment *segments, size_t n)
{
    size_t tokens = 0;
    for (size_t i = 0; i < n; i++) {
        const rv_lfm2_segment *g = &segments[i];
        tokens += g->n;
        assert(g->n && tokens <= m->max_chunk && g->logits_from <= g->n && g->mark_after <= g->n);
        for (size_t t = 0; t < g->n; t++) {
            if (g->ids[t] < 0 || (uint32_t)g->ids[t] >= m->shape->n_vocab) {
                return rv_fail(RV_E_ARG, "token %d, expected 0 to %u", g->ids[t], m->shape->n_vocab - 1);
            }
        }
    }
    for (size_t i = 0; i < n; i++) {
        RV_TRY(rv_kv_reserve(segments[i].seq, segments[i].n));
    }
    return RV_OK;
}

rv_err rv_lfm2_run(rv_lfm2 *m, const rv_lfm2_segment *segments, size_t n)
{
    assert(n && n <= m->max_segments);
    RV_TRY(check_segments(m, segments, n));
    step s = { .m = m, .n_spans = n };
    size_t askers = 0;
    for (size_t i = 0; i < n; i++) {
        const rv_lfm2_segment *g = &segments[i];
        size_t past = rv_kv_seq_tokens(g->seq);
        s.adapted |= g->lora != NULL;
        float *mark = g->mark_after ? rv_kv_mark(g->seq, past + g->mark_after) : NULL;
        m->spans[i] = (span){ .how = g, .first = s.n, .past = past, .mark = mark };
        s.fills |= rv_kv_blocks_before(g->seq, past + g->n - 1) > rv_kv_blocks_filled(g->seq);
        for (size_t t = 0; t < g->n; t++, s.n++) {
            m->span_of[s.n] = (uint16_t)i;
            if (t >= g->logits_from) {
                m->asked[s.n_asked++] = (uint16_t)s.n;
            }
        }
        if (g->logits_from < g->n) {
            s.logits = askers++ ? NULL : g->logits;
        }
    }
    assert(s.logits || s.n_asked <= m->max_rows);
    rotations(m, s.n);
    bool alone = s.n < m->alone_bytes / m->shape->weight_bytes;
    s.n_threads = alone ? 1 : (int)m->n_threads;
    s.takes = s.n_threads > 1 && s.n >= TAKEN_TOKENS;
    rv_pool_run(alone ? NULL : m->pool, forward, &s);
    for (size_t i = 0; i < n; i++) {
        rv_kv_advance(segments[i].seq, segments[i].n);
    }
    return RV_OK;
}
