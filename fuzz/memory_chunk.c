/* Any text is cut into chunks that are text, lie inside the source and follow one another; and any text is a query of words
 * that are quoted. */
#include "memory/memory_priv.h"

#include <assert.h>
#include <string.h>

static void check_query(const char *text, size_t n)
{
    rv_text query;
    rv_text_init(&query, &rv_heap, 16384);
    rv_words_query(text, n, &query);
    assert(rv_text_check(&query) == RV_OK);
    bool quoted = false;
    for (const char *at = rv_text_get(&query); *at; at++) {
        quoted ^= *at == '"';
        assert(quoted || strchr("\" OR", *at));
    }
    assert(!quoted);
    rv_text_deinit(&query);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 1) {
        return 0;
    }
    const char *text = (const char *)data + 1;
    check_query(text, n - 1);
    if (!rv_utf8_valid(text, n - 1) || memchr(text, 0, n - 1)) {
        return 0; /* refused before */
    }
    rv_arena *arena;
    chunks out;
    assert(rv_arena_new(&rv_heap, 64 * n + (1 << 20), &arena) == RV_OK);
    rv_err e = rv_chunks_of(&rv_heap, text, n - 1, data[0] & 1, arena, &out);
    assert(e == RV_OK || e == RV_E_NOMEM);
    for (size_t i = 0; !e && i < out.n; i++) {
        assert(out.at[i].offset + out.at[i].n_bytes <= n - 1);
        assert(out.at[i].text.n > 0 && rv_utf8_valid(out.at[i].text.at, out.at[i].text.n));
        assert(i == 0 || out.at[i].offset >= out.at[i - 1].offset);
    }
    rv_arena_free(arena);
    return 0;
}
