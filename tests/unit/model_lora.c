/* Adapters: files back and forth, what is refused, and what they add to a step with neighbours. */
#include "unit/model_gguf_make.h"

#include "base/file.h"
#include "model/lfm2.h"

#include <math.h>

enum { TOKENS = 21, CONV_AND_ATTENTION = (1 << RV_LFM2_PARTS) - 1 };
static const make_shape small = { RV_F32, 64, 96, 4, 0, 3, 3, { 0, 2, 0 }, false, false };

static void fill(float *x, size_t n, uint64_t seed, float width)
{
    rv_rng rng;
    rv_rng_init(&rng, seed);
    for (size_t i = 0; i < n; i++) {
        x[i] = rv_rng_normal(&rng) * width;
    }
}

/* A model with random float32 weights. */
static rv_lfm2_file *model_open(make *m, const make_shape *shape)
{
    make_model(m, shape);
    make_file(m);
    for (size_t i = 0; i < m->n_tensors; i++) {
        const make_tensor *t = &m->tensors[i];
        fill((float *)(void *)make_at(m, t->name), t->bytes / sizeof(float), i + 1,
             1 / sqrtf((float)t->dim[0]));
    }
    rv_lfm2_file *f = NULL;
    CHECK_OK(rv_lfm2_file_open_bytes(&rv_heap, "made", m->file, m->n, true, &f));
    return f;
}

static rv_lora *random_lora(const rv_lfm2_file *f, uint32_t parts, size_t rank, uint64_t seed)
{
    rv_lora *l = NULL;
    CHECK_OK(rv_lora_new(&rv_heap, f, parts, rank, 3, seed, &l));
    fill(l->weights, l->n_weights, seed, 0.15f);
    rv_lora_changed(l);
    return l;
}

static int32_t some_id(const rv_lfm2_file *f, size_t i)
{
    return (int32_t)((i * 37 + 11) % f->shape.n_vocab);
}

typedef struct line {
    const rv_lora *lora;
    size_t n, first; /* tokens, and where in the text they begin */
} line;

/* Logits of all tokens of some sequences that run in one step, after each other in out. */
static void run(const rv_lfm2_file *f, const line *lines, size_t n_lines, bool act_f32, int threads,
                float *out)
{
    rv_pool *pool = NULL;
    rv_lfm2 *model = NULL;
    rv_budget *budget = NULL;
    rv_kv *kv = NULL;
    CHECK_OK(rv_pool_new(&rv_heap, threads, &pool));
    rv_lfm2_options how = { .pool = pool, .act_f32 = act_f32, .max_segments = 64, .alone_bytes = 1 };
    CHECK_OK(rv_lfm2_open(&rv_heap, f, how, &model));
    rv_kv_shape shape = rv_lfm2_kv_shape(f, RV_F32);
    CHECK_OK(rv_budget_new(&rv_heap, 16 * (rv_kv_page_bytes(&shape) + rv_kv_state_bytes(&shape)), &budget));
    CHECK_OK(rv_kv_new(&rv_heap, &shape, budget, &kv));
    rv_lfm2_segment segments[4] = { { 0 } };
    int32_t ids[4][TOKENS];
    for (size_t i = 0; i < n_lines; i++) {
        for (size_t t = 0; t < lines[i].n; t++) {
            ids[i][t] = some_id(f, lines[i].first + t);
        }
        CHECK_OK(rv_kv_seq_new(kv, TOKENS, &segments[i].seq));
        segments[i].ids = ids[i];
        segments[i].n = lines[i].n;
        segments[i].lora = lines[i].lora;
        segments[i].logits = out;
        out += lines[i].n * f->shape.n_vocab;
    }
    CHECK_OK(rv_lfm2_run(model, segments, n_lines));
    for (size_t i = 0; i < n_lines; i++) {
        rv_kv_seq_free(segments[i].seq);
    }
    rv_kv_free(kv);
    rv_budget_free(budget);
    rv_lfm2_close(model);
    rv_pool_free(pool);
}

static float *rows_of(const rv_lfm2_file *f, size_t n)
{
    return fenced_floats(n * f->shape.n_vocab);
}

/* W += scale B A, in the file's own bytes. */
static void merge(const rv_lfm2_file *f, const rv_lora *l)
{
    for (size_t i = 0; i < l->n_pairs; i++) {
        const rv_lora_pair *p = &l->pairs[i];
        float *w = (float *)(uintptr_t)rv_lfm2_product(f, i)->raw;
        for (size_t r = 0; r < p->rows && p->rank; r++) {
            for (size_t c = 0; c < p->cols; c++) {
                double sum = 0;
                for (size_t j = 0; j < p->rank; j++) {
                    sum += (double)p->b[j * p->rows + r] * (double)p->a[j * p->cols + c];
                }
                w[r * p->cols + c] += (float)((double)p->scale * sum);
            }
        }
    }
}

TEST(an_adapter_gives_the_logits_of_the_merged_weights)
{
    for (int own_head = 0; own_head < 2; own_head++) {
        make m = { 0 };
        make_shape shape = small;
        shape.own_head = own_head;
        rv_lfm2_file *f = model_open(&m, &shape);
        rv_lora *l = random_lora(f, CONV_AND_ATTENTION, 5, 7);
        float *adapted = rows_of(f, TOKENS), *merged = rows_of(f, TOKENS), *plain = rows_of(f, TOKENS);
        run(f, &(line){ NULL, TOKENS, 0 }, 1, true, 1, plain);
        run(f, &(line){ l, TOKENS, 0 }, 1, true, 2, adapted);
        merge(f, l);
        run(f, &(line){ NULL, TOKENS, 0 }, 1, true, 1, merged);
        double worst = 0, moved = 0;
        for (size_t i = 0; i < TOKENS * (size_t)f->shape.n_vocab; i++) {
            worst = fmax(worst, fabs((double)adapted[i] - (double)merged[i]));
            moved = fmax(moved, fabs((double)adapted[i] - (double)plain[i]));
        }
        CHECK(worst <= 1e-3 && moved > 0.05, "off by %g, where the adapter moves logits by %g", worst, moved);
        rv_lora_close(l);
        rv_lfm2_file_close(f);
        make_free(&m);
    }
}

/* Two adapters and two lines without, together and each alone, at both activations and thread counts. */
TEST(adapters_of_one_step_do_not_disturb_their_neighbours)
{
    make m = { 0 };
    rv_lfm2_file *f = model_open(&m, &small);
    rv_lora *one = random_lora(f, CONV_AND_ATTENTION, 3, 1);
    rv_lora *two = random_lora(f, 1 << RV_LFM2_Q | 1 << RV_LFM2_DOWN, 16, 2);
    const line lines[] = { { one, 9, 0 }, { NULL, 7, 4 }, { two, 11, 2 }, { NULL, 1, 8 } };
    for (int how = 0; how < 4; how++) {
        float *together = rows_of(f, 28), *alone = rows_of(f, 28), *at = alone;
        run(f, lines, RV_COUNT(lines), how & 1, 1 + how / 2, together);
        for (size_t i = 0; i < RV_COUNT(lines); i++) {
            run(f, &lines[i], 1, how & 1, 3, at);
            at += lines[i].n * f->shape.n_vocab;
        }
        CHECK(memcmp(together, alone, 28 * f->shape.n_vocab * sizeof *alone) == 0, "run %d differs", how);
    }
    rv_lora_close(one);
    rv_lora_close(two);
    rv_lfm2_file_close(f);
    make_free(&m);
}

TEST(a_written_adapter_reads_back_the_same)
{
    make m = { 0 };
    rv_lfm2_file *f = model_open(&m, &small);
    rv_lora *l = random_lora(f, 1 << RV_LFM2_V | 1 << RV_LFM2_IN_PROJ | 1 << RV_LFM2_UP, 6, 3), *back, *copy;
    const char *path = temp_path("a.gguf");
    CHECK_OK(rv_lora_write(l, path, "test"));
    CHECK_OK(rv_lora_open(&rv_heap, path, f, &back));
    CHECK_OK(rv_lora_copy(&rv_heap, l, &copy));
    CHECK(back->id == l->id && copy->id == l->id, "ids differ");
    CHECK(back->n_weights == l->n_weights &&
              memcmp(back->weights, l->weights, l->n_weights * sizeof *l->weights) == 0,
          "weights differ");
    copy->weights[5] += 1;
    rv_lora_changed(copy);
    CHECK(copy->id != l->id, "a changed adapter keeps its id");
    rv_lora_close(copy);
    rv_lora_close(back);
    rv_lora_close(l);
    rv_lfm2_file_close(f);
    make_free(&m);
}

TEST(a_new_adapter_changes_nothing)
{
    make m = { 0 };
    rv_lfm2_file *f = model_open(&m, &small);
    rv_lora *l = NULL;
    CHECK_OK(rv_lora_new(&rv_heap, f, CONV_AND_ATTENTION, 4, 8, 1, &l));
    float *with = rows_of(f, 5), *without = rows_of(f, 5);
    run(f, &(line){ l, 5, 0 }, 1, false, 1, with);
    run(f, &(line){ NULL, 5, 0 }, 1, false, 1, without);
    CHECK(memcmp(with, without, 5 * f->shape.n_vocab * sizeof *with) == 0, "logits differ");
    rv_lora_close(l);
    rv_lora *bad = NULL;
    CHECK_ERR(rv_lora_new(&rv_heap, f, CONV_AND_ATTENTION, 0, 8, 1, &bad), RV_E_ARG);
    CHECK_ERR(rv_lora_new(&rv_heap, f, 0, 4, 8, 1, &bad), RV_E_ARG);
    CHECK_ERR(rv_lora_new(&rv_heap, f, 1, 4, 0, 1, &bad), RV_E_ARG);
    rv_lfm2_file_close(f);
    make_free(&m);
}

/* Adapter files with one thing wrong each. */
typedef struct wrong {
    const char *says; /* part of the message */
    rv_err code;
    const char *type, *arch, *kind;
    const char *name_a, *name_b;
    uint64_t cols, rank_a, rank_b, rows;
    bool nan, alora;
} wrong;

TEST(an_adapter_that_does_not_fit_is_refused_by_its_tensor)
{
    static const char q_a[] = "blk.1.attn_q.weight.lora_a", q_b[] = "blk.1.attn_q.weight.lora_b";
    static const wrong cases[] = {
        { "", RV_OK, "adapter", "lfm2", "lora", q_a, q_b, 64, 4, 4, 64, false, false },
        { "general.type", RV_E_FORMAT, "model", "lfm2", "lora", q_a, q_b, 64, 4, 4, 64, false, false },
        { "general.architecture", RV_E_UNSUPPORTED, "adapter", "llama", "lora", q_a, q_b, 64, 4, 4, 64, false,
          false },
        { "adapter.type", RV_E_UNSUPPORTED, "adapter", "lfm2", "vector", q_a, q_b, 64, 4, 4, 64, false,
          false },
        { "aLoRA", RV_E_UNSUPPORTED, "adapter", "lfm2", "lora", q_a, q_b, 64, 4, 4, 64, false, true },
        { q_a, RV_E_FORMAT, "adapter", "lfm2", "lora", q_a, q_b, 32, 4, 4, 64, false, false },
        { q_b, RV_E_FORMAT, "adapter", "lfm2", "lora", q_a, q_b, 64, 4, 4, 32, false, false },
        { q_b, RV_E_FORMAT, "adapter", "lfm2", "lora", q_a, q_b, 64, 4, 5, 64, false, false },
        { q_a, RV_E_FORMAT, "adapter", "lfm2", "lora", q_a, q_b, 64, 300, 300, 64, false, false },
        { q_b, RV_E_FORMAT, "adapter", "lfm2", "lora", q_a, q_b, 64, 4, 4, 64, true, false },
        { "without its .lora_b", RV_E_FORMAT, "adapter", "lfm2", "lora", q_a, NULL, 64, 4, 4, 64, false,
          false },
        { "blk.0.attn_q.weight", RV_E_FORMAT, "adapter", "lfm2", "lora", "blk.0.attn_q.weight.lora_a",
          "blk.0.attn_q.weight.lora_b", 64, 4, 4, 64, false, false },
        { "blk.1.attn_norm.weight", RV_E_FORMAT, "adapter", "lfm2", "lora", "blk.1.attn_norm.weight.lora_a",
          "blk.1.attn_norm.weight.lora_b", 64, 4, 4, 64, false, false },
        { "token_embd.weight", RV_E_UNSUPPORTED, "adapter", "lfm2", "lora", "token_embd.weight.lora_a",
          "token_embd.weight.lora_b", 64, 4, 4, 64, false, false },
        { "output.weight", RV_E_FORMAT, "adapter", "lfm2", "lora", "output.weight.lora_a",
          "output.weight.lora_b", 64, 4, 4, 64, false, false },
        { "ends in", RV_E_FORMAT, "adapter", "lfm2", "lora", "blk.1.attn_q.weight", q_b, 64, 4, 4, 64, false,
          false },
        { "without tensors", RV_E_FORMAT, "adapter", "lfm2", "lora", NULL, NULL, 64, 4, 4, 64, false, false },
    };
    make model = { 0 };
    rv_lfm2_file *f = model_open(&model, &small);
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        const wrong *w = &cases[i];
        make m = { 0 };
        make_text(&m, "general.type", w->type);
        make_text(&m, "general.architecture", w->arch);
        make_text(&m, "adapter.type", w->kind);
        make_f32(&m, "adapter.lora.alpha", 8);
        if (w->alora) {
            make_u32(&m, "adapter.alora.invocation_tokens", 1);
        }
        if (w->name_a) {
            make_add(&m, w->name_a, RV_F32, w->cols, w->rank_a);
        }
        if (w->name_b) {
            make_add(&m, w->name_b, RV_F32, w->rank_b, w->rows);
        }
        make_file(&m);
        if (w->nan) {
            memset(make_at(&m, w->name_b), 0xff, 4);
        }
        rv_lora *l = NULL;
        CHECK_ERR(rv_lora_open_bytes(&rv_heap, "wrong", m.file, m.n, f, &l), w->code);
        CHECK(w->code == RV_OK || (!l && strstr(rv_err_text(), w->says)), "case %zu: %s", i, rv_err_text());
        CHECK(w->code != RV_OK || l->pairs[RV_LFM2_PARTS + RV_LFM2_Q].scale == 2, "case %zu: scale", i);
        rv_lora_close(l);
        make_free(&m);
    }
    rv_lfm2_file_close(f);
    make_free(&model);
}

TEST(an_adapter_opens_whole_or_not_at_all)
{
    make made = { 0 };
    rv_lfm2_file *f = model_open(&made, &small);
    rv_lora *l = random_lora(f, CONV_AND_ATTENTION, 2, 9);
    const char *path = temp_path("a.gguf");
    CHECK_OK(rv_lora_write(l, path, "test"));
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_lora *back = NULL, *copy = NULL;
        rv_err e = rv_lora_open(&m.alloc, path, f, &back);
        if (!e) {
            e = rv_lora_copy(&m.alloc, back, &copy);
        }
        CHECK(e == (m.failed ? RV_E_NOMEM : RV_OK), "call %ld: %s: %s", m.fail_at, rv_err_name(e),
              rv_err_text());
        rv_lora_close(back);
        rv_lora_close(copy);
    }
    rv_lora_close(l);
    rv_lfm2_file_close(f);
    make_free(&made);
}
