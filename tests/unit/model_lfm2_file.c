/* The model file: odd shapes that are fine, shapes and values that are not, and scales that are no numbers in every type. */
#include "unit/model_gguf_make.h"

#include "model/lfm2_file.h"

static rv_lfm2_file *opened(make *m, bool deep)
{
    rv_lfm2_file *f = NULL;
    make_file(m);
    CHECK_OK(rv_lfm2_file_open_bytes(&rv_heap, "made", m->file, m->n, deep, &f));
    return f;
}

static void refused(make *m, rv_err code, const char *word)
{
    rv_lfm2_file *f = NULL;
    make_file(m);
    CHECK_ERR(rv_lfm2_file_open_bytes(&rv_heap, "made", m->file, m->n, true, &f), code);
    CHECK(strstr(rv_err_text(), word), "no '%s' in: %s", word, rv_err_text());
    make_free(m);
}

static const make_shape plain = { RV_F32, 8, 12, 4, 0, 3, 3, { 0, 2, 0 }, false, false };

TEST(odd_shapes_are_read)
{
    static const make_shape shapes[] = {
        { RV_F32, 8, 12, 4, 0, 3, 3, { 0, 2, 0 }, false, false },
        { RV_F16,
          8,
          12,
          4,
          0,
          2,
          2,
          { 1, 0 },
          true,
          false }, /* two taps, attention first, a head of its own */
        { RV_Q8_0, 64, 32, 2, 0, 4, 3, { 0, 0, 2 }, false, false }, /* four taps, attention last */
        { RV_F32, 6, 4, 3, 0, 3, 2, { 3, 3 }, false, true }, /* one number for all layers, no convolution */
        { RV_F32,
          10,
          4,
          2,
          6,
          3,
          2,
          { 0, 0 },
          false,
          false }, /* no attention at all, heads wider than hidden */
        { RV_F32, 10, 4, 2, 6, 3, 2, { 2, 1 }, false, false },     /* heads wider than hidden */
        { RV_Q4_K, 256, 256, 8, 0, 3, 2, { 0, 1 }, false, false }, /* one key/value head */
    };
    for (size_t i = 0; i < RV_COUNT(shapes); i++) {
        const make_shape *s = &shapes[i];
        make m = { 0 };
        make_model(&m, s);
        rv_lfm2_file *f = opened(&m, true);
        uint32_t hd = s->head_dim ? s->head_dim : s->hidden / s->n_heads;
        CHECK(f->shape.n_layers == s->n_layers && f->shape.hidden == s->hidden && f->shape.ff == s->ff,
              "shape %zu", i);
        CHECK(f->shape.head_dim == hd && f->shape.conv_taps == s->taps && f->shape.n_vocab == 261,
              "shape %zu", i);
        CHECK((f->head.raw == f->embed.raw) == !s->own_head, "shape %zu: tied", i);
        size_t bytes = 0;
        for (size_t k = 0; k < m.n_tensors; k++) {
            bytes += m.tensors[k].bytes;
        }
        CHECK(f->shape.weight_bytes == bytes, "shape %zu: %zu bytes, expected %zu", i, f->shape.weight_bytes,
              bytes);
        for (uint32_t l = 0; l < s->n_layers; l++) {
            uint32_t kv = (uint32_t)s->kv[s->scalar_kv ? 0 : l];
            const rv_lfm2_layer_file *layer = &f->layers[l];
            CHECK(f->shape.n_kv_heads[l] == kv, "shape %zu layer %u: %u heads", i, l, f->shape.n_kv_heads[l]);
            CHECK((layer->conv != NULL) == !kv && (layer->q.raw != NULL) == (kv > 0),
                  "shape %zu layer %u: kind", i, l);
            CHECK(layer->ffn_down.rows == s->hidden && layer->ffn_down.cols == s->ff, "shape %zu layer %u", i,
                  l);
            CHECK(!kv || (layer->k.rows == kv * hd && layer->o.cols == s->n_heads * hd), "shape %zu layer %u",
                  i, l);
        }
        rv_lfm2_file_close(f);
        make_free(&m);
    }
}

TEST(heads_wider_than_attention_can_take_are_refused)
{
    make_shape s = { RV_F32, 8, 12, 2, RV_ATTEND_DIM, 3, 2, { 0, 2 }, false, false };
    make m = { 0 };
    make_model(&m, &s);
    rv_lfm2_file_close(opened(&m, true));
    make_free(&m);
    s.head_dim += 2;
    make_model(&m, &s);
    refused(&m, RV_E_FORMAT, "key_length is 258, expected 2 to 256");
    s.hidden = 2 * s.head_dim; /* without the key it is hidden / heads */
    s.head_dim = 0;
    make_model(&m, &s);
    refused(&m, RV_E_FORMAT, "heads of 2 to 256");
}

TEST(parameters_are_counted_as_published)
{
    make m = { 0 };
    make_model(&m, &plain);
    rv_lfm2_file *f = opened(&m, false);
    uint64_t v = 261, h = 8, ff = 12, kv = 2, d = 2, layers = 3;
    uint64_t want = v * h + h + layers * (2 * h + 3 * h * ff) + 1 * (2 * h * h + 2 * h * kv * d + 2 * d) +
                    2 * (4 * h * h + h * 3);
    CHECK(f->shape.n_params == want, "%llu, expected %llu", (unsigned long long)f->shape.n_params,
          (unsigned long long)want);
    rv_lfm2_file_close(f);
    make_free(&m);
}

TEST(variants_that_we_do_not_compute_are_refused_politely)
{
    make m = { 0 };
    make_text(&m, "general.architecture", "lfm2moe");
    refused(&m, RV_E_UNSUPPORTED, "mixtures of experts");
    make_model(&m, &plain);
    make_text(&m, "lfm2.rope.scaling.type", "yarn");
    refused(&m, RV_E_UNSUPPORTED, "yarn");
    make_model(&m, &plain);
    make_key(&m, "lfm2.attention.causal", RV_GGUF_BOOL);
    make_bytes(&m, "\0", 1);
    refused(&m, RV_E_UNSUPPORTED, "encoder");
    make_model(&m, &plain);
    make_u32(&m, "split.count", 2);
    refused(&m, RV_E_UNSUPPORTED, "split.count");
}

TEST(tensors_that_do_not_belong_are_refused)
{
    make m = { 0 };
    make_model(&m, &plain);
    make_add(&m, "blk.0.attn_q.bias", RV_F32, 8, 0);
    refused(&m, RV_E_FORMAT, "blk.0.attn_q.bias");
    make_model(&m, &plain);
    make_add(&m, "blk.3.attn_norm.weight", RV_F32, 8, 0);
    refused(&m, RV_E_FORMAT, "blk.3.attn_norm.weight");
    make_model(&m, &plain);
    make_find(&m, "blk.0.attn_norm.weight")->type = RV_F16;
    refused(&m, RV_E_FORMAT, "expected F32");
    make_model(&m, &plain);
    snprintf(make_find(&m, "blk.2.ffn_up.weight")->name, 64, "blk.2.ffn_Up.weight");
    refused(&m, RV_E_FORMAT, "blk.2.ffn_up.weight is missing");
    make_model(&m, &plain);
    make_find(&m, "blk.1.attn_k.weight")->dim[1] = 3;
    refused(&m, RV_E_FORMAT, "blk.1.attn_k.weight has shape 8 x 3");
    make_model(&m, &plain);
    make_u32(&m, "lfm2.rope.dimension_count", 4);
    refused(&m, RV_E_FORMAT, "lfm2.rope.dimension_count");
}

TEST(a_scale_that_is_no_number_is_found_in_every_type)
{
    static const struct {
        rv_type type;
        size_t at[2];
        const char *bits;
    } types[] = {
        { RV_F32, { 0, 0 }, "\0\0\x80\x7f" }, { RV_F16, { 0, 0 }, "\0\xfc" },
        { RV_BF16, { 0, 0 }, "\xc0\x7f" },    { RV_Q4_0, { 0, 0 }, "\1\x7c" },
        { RV_Q4_1, { 0, 2 }, "\0\x7c" },      { RV_Q5_0, { 0, 0 }, "\0\x7e" },
        { RV_Q5_1, { 0, 2 }, "\xff\xff" },    { RV_Q8_0, { 0, 0 }, "\0\x7c" },
        { RV_Q4_K, { 0, 2 }, "\0\xfc" },      { RV_Q5_K, { 0, 2 }, "\0\x7c" },
        { RV_Q6_K, { 208, 208 }, "\0\x7c" },
    };
    for (size_t i = 0; i < RV_COUNT(types); i++) {
        const rv_type_info *info = rv_type_get(types[i].type);
        make_shape s = { types[i].type, 256, 256, 4, 0, 3, 1, { 0 }, false, false };
        make m = { 0 };
        make_model(&m, &s);
        rv_lfm2_file *f = opened(&m, true);
        rv_lfm2_file_close(f);
        for (int k = 0; k < 2; k++) {
            size_t n = types[i].type == RV_F32 ? 4 : 2, block = 2;
            uint8_t *at = make_at(&m, "blk.0.ffn_up.weight") + block * info->block_bytes + types[i].at[k];
            memcpy(at, types[i].bits, n);
            f = NULL;
            CHECK_ERR(rv_lfm2_file_open_bytes(&rv_heap, "made", m.file, m.n, true, &f), RV_E_FORMAT);
            CHECK(strstr(rv_err_text(), "blk.0.ffn_up.weight") && strstr(rv_err_text(), " 2 is not finite"),
                  "%s: %s", info->name, rv_err_text());
            CHECK_OK(rv_lfm2_file_open_bytes(&rv_heap, "made", m.file, m.n, false,
                                             &f)); /* not deep: not looked at */
            rv_lfm2_file_close(f);
            memset(at, 0, n);
        }
        make_free(&m);
    }
}

TEST(norms_and_convolutions_are_always_looked_at)
{
    static const char *const names[] = { "token_embd_norm.weight", "blk.0.shortconv.conv.weight",
                                         "blk.1.attn_q_norm.weight" };
    for (size_t i = 0; i < RV_COUNT(names); i++) {
        make m = { 0 };
        rv_lfm2_file *f = NULL;
        make_model(&m, &plain);
        make_file(&m);
        memcpy(make_at(&m, names[i]) + 4, "\1\0\x80\x7f", 4); /* a signalling NaN */
        CHECK_ERR(rv_lfm2_file_open_bytes(&rv_heap, "made", m.file, m.n, false, &f), RV_E_FORMAT);
        CHECK(strstr(rv_err_text(), names[i]), "%s", rv_err_text());
        make_free(&m);
    }
}

TEST(the_model_that_comes_with_the_tests_opens)
{
    rv_lfm2_file *f = NULL;
    CHECK_OK(rv_lfm2_file_open(&rv_heap, source_path("tests/data/golden/a-q8_0.gguf"), true, &f));
    CHECK(f->shape.n_layers == 5 && f->shape.hidden == 64 && f->shape.n_vocab == 1024, "another model");
    CHECK(f->shape.n_kv_heads[1] == 2 && f->shape.n_kv_heads[2] == 0 && f->embed.type == RV_Q8_0,
          "another model");
    CHECK(f->shape.n_params == 232768, "%llu parameters", (unsigned long long)f->shape.n_params);
    rv_lfm2_file_close(f);
}
