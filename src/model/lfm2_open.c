/* Opening a model: its scratch in one block, and its weights in the layout of the kernels, which come from the model file, or
 * ready-made from one of their own. */
#include "model/lfm2_priv.h"
#include "base/log.h"

#include <assert.h>
#include <string.h>
#include <sys/mman.h>

enum {
    CHUNK_BYTES = 256 << 20, /* scratch of a chunk stays below this, for files with odd shapes */
    WEIGHTS_ALIGN = 2 << 20, /* of the packed weights: they are streamed, so huge pages help */
    MATRIX_ALIGN = 4096,
};

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t most_kv_heads(const rv_lfm2_shape *s)
{
    size_t most = 0;
    for (size_t l = 0; l < s->n_layers; l++) {
        most = larger(most, s->n_kv_heads[l]);
    }
    return most;
}

static void *carve(uint8_t *base, size_t *at, size_t bytes)
{
    void *p = base ? base + *at : NULL;
    *at += (bytes + 63) / 64 * 64;
    return p;
}

static float *carve_floats(uint8_t *base, size_t *at, size_t n)
{
    return carve(base, at, n * sizeof(float));
}

/* Deals base out to the buffers, or with NULL only counts. Returns the bytes. */
static size_t lay_out(rv_lfm2 *m, uint8_t *base)
{
    const rv_lfm2_shape *s = m->shape;
    size_t c = m->max_chunk, h = s->hidden, q = (size_t)s->n_heads * s->head_dim;
    size_t kv = most_kv_heads(s) * s->head_dim, at = 0;

    m->spans = carve(base, &at, c * sizeof *m->spans);
    m->span_of = carve(base, &at, c * sizeof *m->span_of);
    m->asked = carve(base, &at, c * sizeof *m->asked);
    m->x = carve_floats(base, &at, c * h);
    m->norm = carve_floats(base, &at, c * h);
    m->product = carve_floats(base, &at, c * h);
    m->u = carve_floats(base, &at, c * 3 * h + 2 * h);
    m->u = base ? m->u + 2 * h : NULL; /* see short_conv */
    m->y = carve_floats(base, &at, c * h);
    m->q = carve_floats(base, &at, c * q);
    m->key = carve_floats(base, &at, c * kv);
    m->value = carve_floats(base, &at, c * kv);
    m->gate = carve_floats(base, &at, c * s->ff);
    m->up = carve_floats(base, &at, c * s->ff);
    m->cos = carve_floats(base, &at, c * (s->head_dim / 2));
    m->sin = carve_floats(base, &at, c * (s->head_dim / 2));
    m->act = carve(base, &at, rv_act_bytes(larger(h, q), c));
    m->act_next = carve(base, &at, rv_act_bytes(larger(h, s->ff), c));
    m->rows = carve_floats(base, &at, m->max_segments > 1 ? m->max_rows * s->n_vocab : 0);
    for (size_t i = 0; i < m->n_threads; i++) {
        lane *own = &m->lanes[i];
        own->row = carve_floats(base, &at, h);
        own->act = carve(base, &at, rv_act_bytes(larger(h, q), 1));
        own->q = carve_floats(base, &at, RV_LFM2_TILE_ROWS * s->head_dim);
        struct softmax *const states[] = { &own->whole, &own->part };
        for (size_t j = 0; j < RV_COUNT(states); j++) {
            states[j]->acc = carve_floats(base, &at, RV_LFM2_TILE_ROWS * s->head_dim);
            states[j]->max = carve_floats(base, &at, RV_LFM2_TILE_ROWS);
            states[j]->sum = carve_floats(base, &at, RV_LFM2_TILE_ROWS);
        }
    }
    return at;
}

static rv_err make_scratch(rv_lfm2 *m, size_t max_chunk)
{
    m->lanes = rv_new_array(m->mem, m->n_threads, sizeof *m->lanes);
    if (!m->lanes) {
        return rv_fail(RV_E_NOMEM, "%s: no memory for scratch", rv_gguf_path(m->file->gguf));
    }
    m->max_chunk = 1;
    size_t one = lay_out(m, NULL);
    m->max_chunk = 2;
    size_t each = lay_out(m, NULL) - one + 1;
    size_t fits = larger(CHUNK_BYTES / each, 1);
    m->max_chunk = fits < RV_LFM2_CHUNK_MAX ? fits : RV_LFM2_CHUNK_MAX;
    if (max_chunk && max_chunk < m->max_chunk) {
        m->max_chunk = max_chunk;
    }
    m->scratch_bytes = lay_out(m, NULL);
    m->scratch = rv_new_aligned(m->mem, 64, m->scratch_bytes);
    if (!m->scratch) {
        return rv_fail(RV_E_NOMEM, "%s: no memory for %zu bytes of scratch", rv_gguf_path(m->file->gguf),
                       m->scratch_bytes);
    }
    lay_out(m, m->scratch);
    return RV_OK;
}

typedef struct pack_job {
    const rv_kernels *k;
    rv_matrix *w;
    void *to;
} pack_job;

static void pack_rows(void *arg, int thread, int n_threads)
{
    pack_job *job = arg;
    size_t from, to;
    rv_pool_split(job->w->rows, RV_ROW_STEP, thread, n_threads, &from, &to);
    if (from < to) {
        job->k->pack(job->w, from, to, job->to);
    }
}

static void release_raw(const rv_gguf *g, const void *raw)
{
    for (size_t i = 0; i < rv_gguf_tensor_count(g); i++) {
        const rv_gguf_tensor *t = rv_gguf_tensor_at(g, i);
        if (t->at == raw) {
            rv_gguf_tensor_release(g, t);
        }
    }
}

static size_t packed_size(const rv_lfm2 *m, const rv_matrix *w)
{
    size_t bytes = m->k->pack_bytes(w->type, w->rows, w->cols);
    return (bytes + MATRIX_ALIGN - 1) / MATRIX_ALIGN * MATRIX_ALIGN;
}

/* The i-th matrix of the model, NULL past the last: all of a layer's slots, then the head. Slots a layer does
 * not have are empty. */
static rv_matrix *matrix_at(rv_lfm2 *m, size_t i)
{
    enum { SLOTS = 9 };
    if (i >= (size_t)m->shape->n_layers * SLOTS) {
        return i == (size_t)m->shape->n_layers * SLOTS ? &m->head : NULL;
    }
    rv_lfm2_layer_file *l = &m->layers[i / SLOTS];
    rv_matrix *const slots[SLOTS] = { &l->in_proj, &l->out_proj, &l->q,      &l->k,       &l->v,
                                      &l->o,       &l->ffn_gate, &l->ffn_up, &l->ffn_down };
    return slots[i % SLOTS];
}

/* The weights' place in a file, which has them already or gets them; false: there is none. */
static bool use_file(rv_lfm2 *m, const char *path, bool *ready)
{
    rv_err e =
        rv_packed_open(path, rv_gguf_fingerprint(m->file->gguf), m->packed_bytes, m->pool, &m->packed_file);
    *ready = !e;
    if (e && e != RV_E_NOT_FOUND) {
        rv_log(RV_LOG_WARN, "model.packed", "file", path, "found", rv_err_text(), "now", "made again",
               (char *)NULL);
    }
    if (e) {
        e = rv_packed_begin(path, m->packed_bytes, &m->packed_file);
    }
    if (e) {
        rv_log(RV_LOG_WARN, "model.packed", "file", path, "not_made", rv_err_text(), (char *)NULL);
    }
    return !e;
}

static void keep_file(rv_lfm2 *m, const char *path)
{
    if (rv_packed_commit(&m->packed_file, path, rv_gguf_fingerprint(m->file->gguf), m->pool)) {
        rv_log(RV_LOG_WARN, "model.packed", "file", path, "not_made", rv_err_text(), (char *)NULL);
    }
}

static rv_err use_memory(rv_lfm2 *m)
{
    m->packed = m->mem->aligned(m->mem->self, WEIGHTS_ALIGN, m->packed_bytes);
    if (!m->packed) {
        return rv_fail(RV_E_NOMEM, "%s: no memory for %zu bytes of weights", rv_gguf_path(m->file->gguf),
                       m->packed_bytes);
    }
    madvise(m->packed, m->packed_bytes, MADV_HUGEPAGE); /* refused: only slower */
    return RV_OK;
}

static rv_err pack_weights(rv_lfm2 *m, const char *path)
{
    rv_matrix *w;
    for (size_t i = 0; (w = matrix_at(m, i)); i++) {
        m->packed_bytes += w->rows ? packed_size(m, w) : 0;
    }
    if (!m->packed_bytes) {
        return RV_OK;
    }
    bool ready = false, in_file = path && use_file(m, path, &ready);
    if (!in_file) {
        RV_TRY(use_memory(m));
    }
    uint8_t *to = in_file ? m->packed_file.weights : m->packed;
    for (size_t i = 0; (w = matrix_at(m, i)); i++) {
        size_t bytes = w->rows ? packed_size(m, w) : 0;
        if (bytes && !ready) {
            rv_pool_run(m->pool, pack_rows, &(pack_job){ m->k, w, to });
            release_raw(m->file->gguf, w->raw);
        }
        w->packed = bytes ? to : NULL;
        to += bytes;
    }
    if (in_file && !ready) {
        keep_file(m, path);
    }
    return RV_OK;
}

rv_err rv_lfm2_open(const rv_alloc *mem, const rv_lfm2_file *file, rv_lfm2_options how, rv_lfm2 **out)
{
    rv_lfm2 *m = rv_new(mem, sizeof *m);
    if (!m) {
        return rv_fail(RV_E_NOMEM, "%s: opening", rv_gguf_path(file->gguf));
    }
    *m = (rv_lfm2){ .mem = mem,
                    .file = file,
                    .k = how.kernels ? how.kernels : rv_kernels_best(),
                    .pool = how.pool,
                    .shape = &file->shape,
                    .head = file->head,
                    .n_threads = (size_t)rv_pool_threads(how.pool),
                    .alone_bytes = how.alone_bytes ? how.alone_bytes : RV_LFM2_ALONE_BYTES,
                    .max_segments = larger(how.max_segments, 1),
                    .max_rows = larger(how.max_rows, larger(how.max_segments, 1)),
                    .act_f32 = how.act_f32 };
    rv_err e = RV_OK;
    m->layers = rv_new_array(mem, m->shape->n_layers, sizeof *m->layers);
    if (!m->layers) {
        e = rv_fail(RV_E_NOMEM, "%s: opening", rv_gguf_path(file->gguf));
        goto fail;
    }
    memcpy(m->layers, file->layers, m->shape->n_layers * sizeof *m->layers);
    bool whole = rv_type_row_bytes(file->embed.type, file->embed.cols, &m->embed_row_bytes);
    assert(whole); /* the file was checked */
    (void)whole;
    rv_kv_shape kv = rv_lfm2_kv_shape(file, RV_F16);
    m->state_floats = rv_kv_state_bytes(&kv) / sizeof(float);
    e = make_scratch(m, how.max_chunk);
    if (!e && !m->act_f32 && !how.no_packing) {
        e = pack_weights(m, how.packed_file);
    }
    if (e) {
        goto fail;
    }
    *out = m;
    return RV_OK;

fail:
    rv_lfm2_close(m);
    return e;
}

void rv_lfm2_close(rv_lfm2 *m)
{
    if (!m) {
        return;
    }
    const rv_alloc *mem = m->mem;
    rv_free(mem, m->packed);
    rv_packed_close(&m->packed_file);
    rv_free(mem, m->scratch);
    rv_free(mem, m->lanes);
    rv_free(mem, m->layers);
    rv_free(mem, m);
}

size_t rv_lfm2_max_chunk(const rv_lfm2 *m)
{
    return m->max_chunk;
}

size_t rv_lfm2_resident_bytes(const rv_lfm2 *m)
{
    return m->scratch_bytes + (m->packed_bytes ? m->packed_bytes : m->shape->weight_bytes);
}

rv_kv_shape rv_lfm2_kv_shape(const rv_lfm2_file *file, rv_type type)
{
    const rv_lfm2_shape *s = &file->shape;
    return (rv_kv_shape){ .type = type,
                          .n_layers = s->n_layers,
                          .n_kv_heads = s->n_kv_heads,
                          .head_dim = s->head_dim,
                          .conv_channels = s->hidden,
                          .conv_taps = s->conv_taps };
}
