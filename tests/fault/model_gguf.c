/* Opening a model, its tokenizer, encoding and rendering, with each allocation failing in turn: out of memory is said, and
 * nothing is held. */
#include "unit/model_gguf_make.h"

#include "model/chat.h"
#include "model/lfm2_file.h"
#include "model/tok.h"

static const make_shape tiny = { RV_F32, 8, 8, 2, 0, 3, 2, { 0, 1 }, false, false };

TEST(a_model_opens_whole_or_not_at_all)
{
    make made = { 0 };
    make_model(&made, &tiny);
    make_file(&made);
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_lfm2_file *f = NULL;
        rv_err e = rv_lfm2_file_open_bytes(&m.alloc, "made", made.file, made.n, true, &f);
        CHECK(e == (m.failed ? RV_E_NOMEM : RV_OK), "call %ld: %s: %s", m.fail_at, rv_err_name(e),
              rv_err_text());
        CHECK((f == NULL) == m.failed, "call %ld: out", m.fail_at);
        rv_lfm2_file_close(f);
    }
    make_free(&made);
}

TEST(a_mapped_model_is_unmapped_when_memory_runs_out)
{
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_gguf *g = NULL;
        rv_err e = rv_gguf_open(&m.alloc, source_path("tests/data/golden/a-q8_0.gguf"), &g);
        CHECK(e == (m.failed ? RV_E_NOMEM : RV_OK), "call %ld: %s: %s", m.fail_at, rv_err_name(e),
              rv_err_text());
        rv_gguf_close(g);
    }
}

TEST(a_tokenizer_opens_encodes_and_renders_or_says_so)
{
    static const char text[] =
        "[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\"unmergeable xyzzy\"}]";
    rv_gguf *g = NULL;
    json_t *messages = NULL;
    CHECK_OK(rv_gguf_open(&rv_heap, source_path("tests/data/golden/a-q8_0.gguf"), &g));
    CHECK_OK(rv_json_parse(text, sizeof text - 1, &messages));
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_tok *tok = NULL;
        rv_text prompt;
        rv_ids ids;
        rv_text_init(&prompt, &m.alloc, 1 << 16);
        rv_ids_init(&ids, &m.alloc, 1 << 16);
        rv_err e = rv_tok_open(&m.alloc, g, &tok);
        CHECK((tok == NULL) == (e != RV_OK), "call %ld: out", m.fail_at);
        if (!e) {
            e = rv_chat_render(tok, RV_CHAT_LFM2, messages, NULL, (rv_chat_options){ true, false }, &prompt,
                               &ids);
            CHECK(!e || ids.n == 0, "call %ld: %zu ids after a failure", m.fail_at, ids.n);
        }
        CHECK(e == (m.failed ? RV_E_NOMEM : RV_OK), "call %ld: %s: %s", m.fail_at, rv_err_name(e),
              rv_err_text());
        rv_tok_close(tok);
        rv_text_deinit(&prompt);
        rv_ids_deinit(&ids);
    }
    json_decref(messages);
    rv_gguf_close(g);
}
