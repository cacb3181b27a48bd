/* Token ids against two other implementations that agree (see ../shared/golden/lfm2/README.md): some cases come with the
 * repository, all of them, and the large vocabulary, are beside it. */
#include "base/json.h"
#include "model/tok.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static rv_tok *tokenizer(const char *path)
{
    rv_gguf *g = NULL;
    rv_tok *tok = NULL;
    CHECK_OK(rv_gguf_open(&rv_heap, path, &g));
    CHECK_OK(rv_tok_open(&rv_heap, g, &tok));
    rv_gguf_close(g); /* everything was copied */
    return tok;
}

static bool same_ids(const rv_ids *ids, const json_t *want)
{
    bool same = ids->n == json_array_size(want);
    for (size_t i = 0; same && i < ids->n; i++) {
        same = ids->at[i] == json_integer_value(json_array_get(want, i));
    }
    return same;
}

/* One line of a file of cases: three lists of ids, and back to the text. */
static void check_case(const rv_tok *tok, const json_t *c, const char *where)
{
    const json_t *text = json_object_get(c, "text");
    const char *at = json_string_value(text);
    size_t n = json_string_length(text);
    rv_ids ids;
    rv_text back;
    rv_ids_init(&ids, &rv_heap, n + 1);
    rv_text_init(&back, &rv_heap, n + 1);
    CHECK_OK(rv_ids_add(&ids, rv_tok_bos(tok)));
    CHECK_OK(rv_tok_encode(tok, at, n, RV_TOK_SPECIAL, &ids));
    CHECK(same_ids(&ids, json_object_get(c, "ids_bos")), "%s with BOS: %s", where, at);
    rv_tok_decode(tok, ids.at + 1, ids.n - 1, true, &back);
    CHECK(back.n == n && memcmp(rv_text_get(&back), at, n) == 0, "%s does not decode to itself: %s", where,
          at);
    ids.n = 0;
    CHECK_OK(rv_tok_encode(tok, at, n, RV_TOK_SPECIAL, &ids));
    CHECK(same_ids(&ids, json_object_get(c, "ids")), "%s: %s", where, at);
    ids.n = 0;
    CHECK_OK(rv_tok_encode(tok, at, n, RV_TOK_PLAIN, &ids));
    CHECK(same_ids(&ids, json_object_get(c, "ids_no_special")), "%s without specials: %s", where, at);
    rv_ids_deinit(&ids);
    rv_text_deinit(&back);
}

static void check_cases(const char *vocabulary, const char *cases, int least)
{
    rv_tok *tok = tokenizer(vocabulary);
    FILE *f = fopen(cases, "r");
    CHECK(f, "%s", cases);
    char *line = NULL, where[64];
    size_t room = 0;
    int n = 0;
    while (getline(&line, &room, f) > 0) {
        json_t *c = json_loads(line, JSON_ALLOW_NUL, NULL);
        snprintf(where, sizeof where, "line %d", ++n);
        CHECK(c, "%s:%d", cases, n);
        check_case(tok, c, where);
        json_decref(c);
    }
    CHECK(n >= least, "only %d cases", n);
    free(line);
    fclose(f);
    rv_tok_close(tok);
}

TEST(cases_that_come_with_the_repository)
{
    check_cases(source_path("tests/data/golden/a-q8_0.gguf"),
                source_path("tests/data/golden/tokenizer-small.jsonl"), 30);
}

TEST(every_case_with_the_small_vocabulary)
{
    const char *vocabulary = shared_path("golden/lfm2/vocab-small.gguf");
    if (!vocabulary) {
        SKIP("needs ../shared/golden/lfm2");
    }
    check_cases(vocabulary, shared_path("golden/lfm2/tokenizer-small.jsonl"), 157);
}

TEST(every_case_with_the_large_vocabulary)
{
    const char *vocabulary = shared_path("golden/lfm2/vocab-full.gguf");
    if (!vocabulary) {
        SKIP("needs ../shared/golden/lfm2");
    }
    check_cases(vocabulary, shared_path("golden/lfm2/tokenizer-full.jsonl"), 157);
}

TEST(every_token_of_the_small_vocabulary_has_its_bytes)
{
    const char *hex = shared_path("golden/lfm2/token-bytes-small.hex");
    if (!hex) {
        SKIP("needs ../shared/golden/lfm2");
    }
    rv_tok *tok = tokenizer(source_path("tests/data/golden/a-q8_0.gguf"));
    FILE *f = fopen(hex, "r");
    CHECK(f, "%s", hex);
    char line[4096];
    int32_t id = 0;
    for (; fgets(line, sizeof line, f); id++) {
        rv_str bytes = rv_tok_bytes(tok, id);
        line[strcspn(line, "\n")] = 0;
        CHECK(strlen(line) == 2 * bytes.n, "token %d has %zu bytes, expected %zu", id, bytes.n,
              strlen(line) / 2);
        for (size_t i = 0; i < bytes.n; i++) {
            char two[3];
            snprintf(two, sizeof two, "%02x", (unsigned char)bytes.at[i]);
            CHECK(strncmp(two, line + 2 * i, 2) == 0, "token %d, byte %zu is %s", id, i, two);
        }
    }
    CHECK((size_t)id == rv_tok_count(tok), "%d lines for %zu tokens", id, rv_tok_count(tok));
    fclose(f);
    rv_tok_close(tok);
}
