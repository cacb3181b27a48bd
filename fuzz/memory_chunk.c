/* Any text is cut into chunks that are text, lie inside the source and follow one another; any text is a query of words
 * that are quoted; and its stems are text that comes from it in order, whatever the languages. */
#include "memory/memory_priv.h"
#include "memory/stem.h"

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

static void check_stems(const char *text, size_t n, uint32_t languages)
{
    rv_words *w;
    rv_word word, before = { 0 };
    assert(rv_words_new(&rv_heap, &w) == RV_OK);
    assert(rv_words_language(text, n, languages & 1) < RV_LANGUAGES);
    rv_words_begin(w, text, n, languages);
    while (rv_words_next(w, &word)) {
        assert(word.stem.n > 0 && rv_utf8_valid(word.stem.at, word.stem.n));
        assert(word.at >= before.at && word.word >= before.word && word.n > 0 && word.at + word.n <= n);
        before = word;
    }
    rv_words_free(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 1) {
        return 0;
    }
    const char *text = (const char *)data + 1;
    check_query(text, n - 1);
    check_stems(text, n - 1, (uint32_t)data[0] << 1);
    if (!rv_utf8_valid(text, n - 1) || memchr(text, 0, n - 1)) {
        return 0; /* refused before */
    }
    rv_arena *arena;
    chunks out;
    assert(rv_arena_new(&rv_heap, 64 * n + (1 << 20), &arena) == RV_OK);
    rv_err e = rv_chunks_of(&rv_heap, text, n - 1, (text_kind)((data[0] & 127) % 3), arena, &out);
    assert(e == RV_OK || e == RV_E_NOMEM);
    for (size_t i = 0; !e && i < out.n; i++) {
        assert(out.at[i].offset + out.at[i].n_bytes <= n - 1);
        assert(out.at[i].text.n > 0 && rv_utf8_valid(out.at[i].text.at, out.at[i].text.n));
        assert(i == 0 || out.at[i].offset >= out.at[i - 1].offset);
    }
    rv_arena_free(arena);
    return 0;
}
