/* Any bytes as a text. The first byte chooses a border: what lies before it is trusted, what lies behind is not. Decoding
 * gives the text back, untrusted text gives no control token, and the same bytes are read as tool calls. */
#include "model/chat.h"
#include "model/tok.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VOCABULARY "tests/data/golden/a-q8_0.gguf" /* run from the repository's root */

static const rv_tok *vocabulary(void)
{
    static rv_tok *tok; /* for the life of the process */
    rv_gguf *g;
    if (!tok) {
        if (rv_gguf_open(&rv_heap, VOCABULARY, &g) || rv_tok_open(&rv_heap, g, &tok)) {
            fprintf(stderr, "%s\n", rv_err_text());
            exit(1);
        }
        rv_gguf_close(g);
    }
    return tok;
}

static void check_round_trip(const rv_tok *tok, const char *text, size_t n, const rv_ids *ids)
{
    rv_text back;
    rv_text_init(&back, &rv_heap, n + 1);
    rv_tok_decode(tok, ids->at, ids->n, true, &back);
    assert(back.n == n && memcmp(rv_text_get(&back), text, n) == 0);
    rv_text_deinit(&back);
}

static void try_calls(const char *text, size_t n)
{
    static const char begin[] = "<|tool_call_start|>", end[] = "<|tool_call_end|>";
    rv_text all, rest;
    json_t *calls = NULL;
    rv_text_init(&all, &rv_heap, n + 64);
    rv_text_init(&rest, &rv_heap, n + 64);
    rv_text_adds(&all, begin);
    rv_text_add(&all, text, n);
    rv_text_adds(&all, end);
    rv_err e = rv_chat_tool_calls(all.at, all.n, &calls, &rest);
    assert(e == RV_OK && rest.n <= all.n);
    json_decref(calls);
    rv_text_deinit(&all);
    rv_text_deinit(&rest);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const rv_tok *tok = vocabulary();
    if (n == 0) {
        return 0;
    }
    const char *text = (const char *)data + 1;
    size_t border = data[0] < --n ? data[0] : n;
    rv_tok_span spans[2] = { { border, RV_TOK_SPECIAL }, { n - border, RV_TOK_PLAIN } };
    rv_ids whole, parts;
    rv_ids_init(&whole, &rv_heap, n + 1);
    rv_ids_init(&parts, &rv_heap, n + 1);
    rv_err e = rv_tok_encode(tok, text, n, RV_TOK_PLAIN, &whole);
    assert(e == RV_OK);
    check_round_trip(tok, text, n, &whole);
    for (size_t i = 0; i < whole.n; i++) {
        assert(!rv_tok_is_control(tok, whole.at[i]));
    }
    e = rv_tok_encode_spans(tok, text, spans, 2, &parts);
    assert(e == RV_OK);
    check_round_trip(tok, text, n, &parts);
    size_t at = 0;
    for (size_t i = 0; i < parts.n; i++) {
        at += rv_tok_bytes(tok, parts.at[i]).n;
        assert(!rv_tok_is_control(tok, parts.at[i]) || at <= border);
    }
    rv_ids_deinit(&whole);
    rv_ids_deinit(&parts);
    try_calls(text, n);
    return 0;
}
