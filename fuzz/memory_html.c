/* Any bytes are a page; its text is UTF-8 without zero bytes, whose only control bytes are line ends and the level of a heading at the
 * beginning of a line, and it is cut into chunks like any other. */
#include "memory/html.h"
#include "memory/memory_priv.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    rv_text text;
    rv_text_init(&text, &rv_heap, 16 << 20);
    assert(rv_html_text((const char *)data, n, &text) == RV_OK);
    const char *at = rv_text_get(&text);
    assert(rv_utf8_valid(at, text.n));
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)at[i];
        assert(c >= 32 || c == '\n' || (c >= 1 && c <= 6 && (i == 0 || at[i - 1] == '\n')));
    }
    rv_arena *arena;
    chunks out;
    assert(rv_arena_new(&rv_heap, 64 * text.n + (1 << 20), &arena) == RV_OK);
    rv_err e = rv_chunks_of(&rv_heap, at, text.n, RV_TEXT_HEADED, arena, &out);
    assert(e == RV_OK || e == RV_E_NOMEM);
    for (size_t i = 0; !e && i < out.n; i++) {
        assert(out.at[i].text.n > 0 && rv_utf8_valid(out.at[i].text.at, out.at[i].text.n));
    }
    rv_arena_free(arena);
    rv_text_deinit(&text);
    return 0;
}
