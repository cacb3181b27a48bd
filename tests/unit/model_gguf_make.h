/* GGUF files made in memory, for tests: any keys and tensors, sound or not; and whole LFM2 models of any small shape. */
#ifndef RV_TEST_MODEL_GGUF_MAKE_H
#define RV_TEST_MODEL_GGUF_MAKE_H
#include "model/gguf.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct make_tensor {
    char name[64];
    uint32_t type, n_dims;
    uint64_t dim[4];
    size_t bytes, offset;
} make_tensor;

/* Keys are written as they come; tensors get zero bytes. */
typedef struct make {
    uint8_t *keys; /* realloc'd */
    size_t n_keys_bytes, room;
    uint64_t n_keys;
    make_tensor tensors[512];
    size_t n_tensors;
    uint32_t version;
    size_t alignment;
    uint8_t *file; /* after make_file: aligned to 64, of exactly n bytes */
    size_t n, data_at;
} make;

static inline void make_bytes(make *m, const void *at, size_t n)
{
    if (m->n_keys_bytes + n > m->room) {
        m->room = 2 * (m->n_keys_bytes + n);
        m->keys = realloc(m->keys, m->room);
        CHECK(m->keys, "no memory");
    }
    memcpy(m->keys + m->n_keys_bytes, at, n);
    m->n_keys_bytes += n;
}

static inline void make_string(make *m, const char *text)
{
    uint64_t n = strlen(text);
    make_bytes(m, &n, sizeof n);
    make_bytes(m, text, n);
}

static inline void make_key(make *m, const char *key, uint32_t type)
{
    make_string(m, key);
    make_bytes(m, &type, sizeof type);
    m->n_keys++;
}

static inline void make_u32(make *m, const char *key, uint32_t x)
{
    make_key(m, key, RV_GGUF_U32);
    make_bytes(m, &x, sizeof x);
}

static inline void make_f32(make *m, const char *key, float x)
{
    make_key(m, key, RV_GGUF_F32);
    make_bytes(m, &x, sizeof x);
}

static inline void make_text(make *m, const char *key, const char *text)
{
    make_key(m, key, RV_GGUF_STRING);
    make_string(m, text);
}

/* The head of an array; its elements follow with make_bytes or make_string. */
static inline void make_array(make *m, const char *key, uint32_t element, uint64_t count)
{
    make_key(m, key, RV_GGUF_ARRAY);
    make_bytes(m, &element, sizeof element);
    make_bytes(m, &count, sizeof count);
}

static inline make_tensor *make_find(make *m, const char *name)
{
    for (size_t i = 0; i < m->n_tensors; i++) {
        if (strcmp(m->tensors[i].name, name) == 0) {
            return &m->tensors[i];
        }
    }
    CHECK(false, "no tensor %s", name);
    return NULL;
}

static inline void make_add(make *m, const char *name, uint32_t type, uint64_t cols, uint64_t rows)
{
    CHECK(m->n_tensors < RV_COUNT(m->tensors), "too many tensors");
    const rv_type_info *info = rv_type_get(type);
    make_tensor *t = &m->tensors[m->n_tensors++];
    snprintf(t->name, sizeof t->name, "%s", name);
    t->type = type;
    t->n_dims = rows ? 2 : 1;
    t->dim[0] = cols;
    t->dim[1] = rows;
    t->bytes = cols / info->block_weights * info->block_bytes * (rows ? rows : 1);
}

static inline void make_put(uint8_t **at, const void *from, size_t n)
{
    memcpy(*at, from, n);
    *at += n;
}

/* Lays the file out; weights are zero. Call make_free in the end. */
static inline void make_file(make *m)
{
    uint32_t version = m->version ? m->version : 3;
    size_t align = m->alignment ? m->alignment : 32, head = 24 + m->n_keys_bytes, data = 0;
    for (size_t i = 0; i < m->n_tensors; i++) {
        make_tensor *t = &m->tensors[i];
        head += 8 + strlen(t->name) + 4 + 8 * t->n_dims + 4 + 8;
        t->offset = data;
        data = (data + t->bytes + align - 1) / align * align;
    }
    m->data_at = (head + align - 1) / align * align;
    m->n = m->n_tensors ? m->data_at + data : head;
    m->file = aligned_alloc(64, (m->n + 63) / 64 * 64);
    CHECK(m->file, "no memory");
    memset(m->file, 0, m->n);
    uint8_t *at = m->file;
    uint64_t n_tensors = m->n_tensors;
    make_put(&at, "GGUF", 4);
    make_put(&at, &version, 4);
    make_put(&at, &n_tensors, 8);
    make_put(&at, &m->n_keys, 8);
    if (m->n_keys_bytes) {
        make_put(&at, m->keys, m->n_keys_bytes);
    }
    for (size_t i = 0; i < m->n_tensors; i++) {
        make_tensor *t = &m->tensors[i];
        uint64_t n = strlen(t->name), offset = t->offset;
        make_put(&at, &n, 8);
        make_put(&at, t->name, n);
        make_put(&at, &t->n_dims, 4);
        make_put(&at, t->dim, 8 * t->n_dims);
        make_put(&at, &t->type, 4);
        make_put(&at, &offset, 8);
    }
}

/* Where a tensor's bytes lie in the file. */
static inline uint8_t *make_at(make *m, const char *name)
{
    return m->file + m->data_at + make_find(m, name)->offset;
}

static inline void make_free(make *m)
{
    free(m->keys);
    free(m->file);
    *m = (make){ 0 };
}

/* ---- vocabularies ---- */

/* Specials as given (type 3, then type 4), the 256 bytes, and words that merges build from their first character on.
 * Characters of words are single bytes of printable ASCII. */
typedef struct make_vocab {
    const char *control[16], *user[16], *words[32]; /* each ends with NULL */
} make_vocab;

static inline size_t make_byte_symbol(int byte, char out[4])
{
    int next = 256;
    for (int b = 0; b <= byte; b++) {
        bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        if (b == byte) {
            return rv_utf8_encode(printable ? (uint32_t)b : (uint32_t)next, out);
        }
        next += !printable;
    }
    return 0;
}

static inline bool make_seen(const make_vocab *v, size_t word, size_t length)
{
    for (size_t w = 0; w < word; w++) {
        if (strlen(v->words[w]) >= length && strncmp(v->words[w], v->words[word], length) == 0) {
            return true;
        }
    }
    return false;
}

/* Adds the tokenizer's keys; returns the number of tokens. */
static inline uint32_t make_tokenizer(make *m, const make_vocab *v)
{
    size_t n_control = 0, n_user = 0, n_merged = 0;
    while (v->control[n_control]) {
        n_control++;
    }
    while (v->user[n_user]) {
        n_user++;
    }
    for (size_t w = 0; v->words[w]; w++) {
        for (size_t k = 2; k <= strlen(v->words[w]); k++) {
            n_merged += !make_seen(v, w, k);
        }
    }
    uint32_t n = (uint32_t)(n_control + n_user + 256 + n_merged);
    make_text(m, "tokenizer.ggml.model", "gpt2");
    make_text(m, "tokenizer.ggml.pre", "lfm2");
    make_array(m, "tokenizer.ggml.tokens", RV_GGUF_STRING, n);
    for (size_t i = 0; i < n_control; i++) {
        make_string(m, v->control[i]);
    }
    for (size_t i = 0; i < n_user; i++) {
        make_string(m, v->user[i]);
    }
    for (int b = 0; b < 256; b++) {
        char symbol[5] = { 0 };
        make_byte_symbol(b, symbol);
        make_string(m, symbol);
    }
    for (int pass = 0; pass < 2; pass++) { /* tokens, then merges */
        if (pass == 1) {
            make_array(m, "tokenizer.ggml.merges", RV_GGUF_STRING, n_merged);
        }
        for (size_t w = 0; v->words[w]; w++) {
            for (size_t k = 2; k <= strlen(v->words[w]); k++) {
                char text[80];
                if (!make_seen(v, w, k)) {
                    snprintf(text, sizeof text, pass ? "%.*s %c" : "%.*s%c", (int)k - 1, v->words[w],
                             v->words[w][k - 1]);
                    make_string(m, text);
                }
            }
        }
    }
    make_array(m, "tokenizer.ggml.token_type", RV_GGUF_I32, n);
    for (uint32_t i = 0; i < n; i++) {
        int32_t type = i < n_control ? 3 : i < n_control + n_user ? 4 : 1;
        make_bytes(m, &type, sizeof type);
    }
    return n;
}

/* ---- models ---- */

typedef struct make_shape {
    uint32_t type, hidden, ff, n_heads, head_dim, taps; /* head_dim 0: hidden / n_heads */
    uint32_t n_layers;
    int32_t kv[8];
    bool own_head, scalar_kv;
} make_shape;

static const make_vocab make_small_vocab = { .control = { "<|pad|>", "<|startoftext|>", "<|endoftext|>",
                                                          "<|im_start|>", "<|im_end|>" } };

/* Adds keys and tensors of a model; the caller may change them before make_file. */
static inline void make_model(make *m, const make_shape *s)
{
    uint32_t hd = s->head_dim ? s->head_dim : s->hidden / s->n_heads;
    make_text(m, "general.architecture", "lfm2");
    make_u32(m, "lfm2.block_count", s->n_layers);
    make_u32(m, "lfm2.context_length", 128);
    make_u32(m, "lfm2.embedding_length", s->hidden);
    make_u32(m, "lfm2.feed_forward_length", s->ff);
    make_u32(m, "lfm2.attention.head_count", s->n_heads);
    make_u32(m, "lfm2.shortconv.l_cache", s->taps);
    make_f32(m, "lfm2.rope.freq_base", 1e6f);
    make_f32(m, "lfm2.attention.layer_norm_rms_epsilon", 1e-5f);
    if (s->head_dim) {
        make_u32(m, "lfm2.attention.key_length", hd);
    }
    if (s->scalar_kv) {
        make_u32(m, "lfm2.attention.head_count_kv", (uint32_t)s->kv[0]);
    } else {
        make_array(m, "lfm2.attention.head_count_kv", RV_GGUF_I32, s->n_layers);
        make_bytes(m, s->kv, s->n_layers * sizeof *s->kv);
    }
    uint32_t vocab = make_tokenizer(m, &make_small_vocab);
    make_add(m, "token_embd.weight", s->type, s->hidden, vocab);
    make_add(m, "token_embd_norm.weight", RV_F32, s->hidden, 0);
    if (s->own_head) {
        make_add(m, "output.weight", s->type, s->hidden, vocab);
    }
    for (uint32_t l = 0; l < s->n_layers; l++) {
        uint32_t kv = (uint32_t)s->kv[s->scalar_kv ? 0 : l];
        struct {
            const char *name;
            uint32_t type, cols, rows;
        } parts[] = {
            { "attn_norm", RV_F32, s->hidden, 0 },
            { "ffn_norm", RV_F32, s->hidden, 0 },
            { "ffn_gate", s->type, s->hidden, s->ff },
            { "ffn_up", s->type, s->hidden, s->ff },
            { "ffn_down", s->type, s->ff, s->hidden },
            { kv ? "attn_q" : "shortconv.in_proj", s->type, s->hidden, kv ? s->n_heads * hd : 3 * s->hidden },
            { kv ? "attn_output" : "shortconv.out_proj", s->type, kv ? s->n_heads * hd : s->hidden,
              s->hidden },
            { kv ? "attn_k" : "shortconv.conv", kv ? s->type : RV_F32, kv ? s->hidden : s->taps,
              kv ? kv * hd : s->hidden },
            { kv ? "attn_v" : NULL, s->type, s->hidden, kv * hd },
            { kv ? "attn_q_norm" : NULL, RV_F32, hd, 0 },
            { kv ? "attn_k_norm" : NULL, RV_F32, hd, 0 },
        };
        for (size_t i = 0; i < RV_COUNT(parts); i++) {
            char name[64];
            snprintf(name, sizeof name, "blk.%u.%s.weight", l, parts[i].name ? parts[i].name : "");
            if (parts[i].name) {
                make_add(m, name, parts[i].type, parts[i].cols, parts[i].rows);
            }
        }
    }
}

#endif
