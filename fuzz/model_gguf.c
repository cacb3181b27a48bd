/* Any bytes as a model file: refused with a sentence, or everything the reader promises holds. */
#include "model/chat.h"
#include "model/lfm2_file.h"
#include "model/tok.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

/* Reads every byte that a tensor claims, so that a sanitizer sees one that is not there. */
static void touch_tensors(const rv_gguf *g)
{
    volatile uint8_t sink = 0;
    for (size_t i = 0; i < rv_gguf_tensor_count(g); i++) {
        const rv_gguf_tensor *t = rv_gguf_tensor_at(g, i);
        assert((uintptr_t)t->at % 8 == 0);
        for (size_t b = 0; b < t->bytes; b++) {
            sink = (uint8_t)(sink + t->at[b]);
        }
    }
}

static void try_keys(const rv_gguf *g)
{
    for (size_t i = 0; i < rv_gguf_value_count(g); i++) {
        const rv_gguf_value *v = rv_gguf_value_at(g, i);
        const uint8_t *at = NULL;
        rv_str s;
        uint64_t seen = 0;
        if (v->type == RV_GGUF_ARRAY && v->element == RV_GGUF_STRING) {
            while (rv_gguf_array_next(v, &at, &s)) {
                seen++;
            }
            assert(seen == v->count);
        }
    }
}

static void try_tokenizer(const rv_gguf *g)
{
    static const char text[] = "A <|im_end|> of 12345\n\n  \xff it's";
    rv_tok *tok;
    if (rv_tok_open(&rv_heap, g, &tok)) {
        assert(*rv_err_text());
        return;
    }
    rv_ids ids;
    rv_text back;
    rv_ids_init(&ids, &rv_heap, sizeof text);
    rv_text_init(&back, &rv_heap, sizeof text);
    rv_err e = rv_tok_encode(tok, text, sizeof text - 1, RV_TOK_SPECIAL, &ids);
    assert(e == RV_OK);
    rv_tok_decode(tok, ids.at, ids.n, true, &back);
    assert(back.n == sizeof text - 1 && memcmp(back.at, text, back.n) == 0);
    rv_ids_deinit(&ids);
    rv_text_deinit(&back);
    rv_tok_close(tok);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    uint8_t *bytes = rv_new_aligned(&rv_heap, 64, n + 1); /* as a mapping would lie */
    if (!bytes) {
        return 0;
    }
    memcpy(bytes, data, n);
    rv_gguf *g = NULL;
    if (rv_gguf_open_bytes(&rv_heap, "fuzz", bytes, n, &g) == RV_OK) {
        rv_chat_family family;
        (void)rv_gguf_fingerprint(g);
        touch_tensors(g);
        try_keys(g);
        try_tokenizer(g);
        rv_err e = rv_chat_family_of(g, &family);
        assert(e == RV_OK || *rv_err_text());
    } else {
        assert(!g && *rv_err_text());
    }
    rv_gguf_close(g);
    rv_lfm2_file *f = NULL;
    rv_err e = rv_lfm2_file_open_bytes(&rv_heap, "fuzz", bytes, n, true, &f);
    assert((e == RV_OK) == (f != NULL));
    rv_lfm2_file_close(f);
    rv_free(&rv_heap, bytes);
    return 0;
}
