/* Prompts of the LFM2 template against what its own template engine writes, and their ids. */
#include "base/json.h"
#include "model/chat.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check_line(const rv_tok *tok, const json_t *c, int line)
{
    rv_text prompt;
    rv_ids ids, whole;
    rv_text_init(&prompt, &rv_heap, 1 << 20);
    rv_ids_init(&ids, &rv_heap, 1 << 16);
    rv_ids_init(&whole, &rv_heap, 1 << 16);
    rv_chat_options how = { json_is_true(json_object_get(c, "add_generation_prompt")), true };
    CHECK_OK(rv_chat_render(tok, RV_CHAT_LFM2, json_object_get(c, "messages"), json_object_get(c, "tools"),
                            how, &prompt, &ids));
    const char *want = json_string_value(json_object_get(c, "prompt"));
    CHECK(strcmp(rv_text_get(&prompt), want) == 0, "line %d: got\n%s\nexpected\n%s", line,
          rv_text_get(&prompt), want);
    CHECK_OK(rv_tok_encode(tok, prompt.at, prompt.n, RV_TOK_SPECIAL, &whole));
    CHECK(ids.n == whole.n && memcmp(ids.at, whole.at, ids.n * sizeof *ids.at) == 0,
          "line %d: not as the text", line);
    const json_t *want_ids = json_object_get(c, "ids");
    for (size_t i = 0; want_ids && i < ids.n; i++) {
        CHECK(ids.at[i] == json_integer_value(json_array_get(want_ids, i)), "line %d: id %zu is %d", line, i,
              ids.at[i]);
    }
    CHECK(!want_ids || ids.n == json_array_size(want_ids), "line %d: %zu ids", line, ids.n);
    rv_text_deinit(&prompt);
    rv_ids_deinit(&ids);
    rv_ids_deinit(&whole);
}

static void check_file(const char *vocabulary, const char *cases, bool with_ids)
{
    rv_gguf *g = NULL;
    rv_tok *tok = NULL;
    rv_chat_family family;
    CHECK_OK(rv_gguf_open(&rv_heap, vocabulary, &g));
    CHECK_OK(rv_tok_open(&rv_heap, g, &tok));
    CHECK_OK(rv_chat_family_of(g, &family));
    CHECK(family == RV_CHAT_LFM2, "family %d", (int)family);
    FILE *f = fopen(cases, "r");
    CHECK(f, "%s", cases);
    char *line = NULL;
    size_t room = 0;
    int n = 0;
    while (getline(&line, &room, f) > 0) {
        json_t *c = NULL;
        CHECK_OK(rv_json_parse(line, strlen(line), &c));
        CHECK(!with_ids || json_is_array(json_object_get(c, "ids")), "%s: no ids", cases);
        check_line(tok, c, ++n);
        json_decref(c);
    }
    CHECK(n >= 4, "only %d prompts", n);
    free(line);
    fclose(f);
    rv_tok_close(tok);
    rv_gguf_close(g);
}

TEST(prompts_that_come_with_the_repository)
{
    check_file(source_path("tests/data/golden/a-q8_0.gguf"), source_path("tests/data/golden/chat.jsonl"),
               false);
}

TEST(prompts_and_ids_with_the_large_vocabulary)
{
    const char *vocabulary = shared_path("golden/lfm2/vocab-full.gguf");
    if (!vocabulary) {
        SKIP("needs ../shared/golden/lfm2");
    }
    check_file(vocabulary, shared_path("golden/lfm2/chat.jsonl"), true);
}
