/* The tokenizer's rules one by one, against a plain implementation of merging, on any bytes, and on texts made to be slow. */
#include "unit/model_gguf_make.h"

#include "base/rng.h"
#include "model/tok.h"
#include "model/tok_priv.h"

static rv_tok *opened(make *m)
{
    rv_gguf *g = NULL;
    rv_tok *tok = NULL;
    make_file(m);
    CHECK_OK(rv_gguf_open_bytes(&rv_heap, "made", m->file, m->n, &g));
    CHECK_OK(rv_tok_open(&rv_heap, g, &tok));
    rv_gguf_close(g);
    make_free(m);
    return tok;
}

static rv_tok *golden_tok(void)
{
    rv_gguf *g = NULL;
    rv_tok *tok = NULL;
    CHECK_OK(rv_gguf_open(&rv_heap, source_path("tests/data/golden/a-q8_0.gguf"), &g));
    CHECK_OK(rv_tok_open(&rv_heap, g, &tok));
    rv_gguf_close(g);
    return tok;
}

/* The ids of text as the bytes of the tokens with a bar between, for messages and comparison. */
static const char *shown(const rv_tok *tok, const char *text, rv_tok_special special)
{
    static char out[1024];
    rv_ids ids;
    size_t n = 0;
    rv_ids_init(&ids, &rv_heap, 1000);
    CHECK_OK(rv_tok_encode(tok, text, strlen(text), special, &ids));
    for (size_t i = 0; i < ids.n; i++) {
        rv_str bytes = rv_tok_bytes(tok, ids.at[i]);
        n += (size_t)snprintf(out + n, sizeof out - n, "%s%.*s", i ? "|" : "", (int)bytes.n, bytes.at);
    }
    out[n] = 0;
    rv_ids_deinit(&ids);
    return out;
}

TEST(text_splits_into_pieces_by_the_rule)
{
    static const struct {
        const char *text, *pieces;
    } cases[] = {
        { "Hello, world!", "Hello|,| world|!" },
        { "it's DON'T I'LL 'tis x'y", "it|'s| DON|'T| I|'LL| '|tis| x|'y" },
        { "1234567 v12", "123|456|7| v|12" },
        { "a  b   c", "a| | b|  | c" },
        { "end   ", "end|   " },
        { "a\n\n  b", "a|\n\n| | b" },
        { "a  \n \r\n x", "a|  \n \r\n| x" },
        { "x = y;\r\n\r\nz", "x| =| y|;\r\n\r\n|z" },
        { " \t x", " \t| x" },
        { "\tx", "\tx" },
        { "$x $5", "$x| $|5" },
        { "don\xe2\x80\x99t", "don|\xe2\x80\x99t" },             /* a curly quote is no contraction */
        { "e\xcc\x81x", "e|\xcc\x81x" },                         /* a combining mark is no letter */
        { "\xc2\xa0x\xe3\x80\x80y", "\xc2\xa0x|\xe3\x80\x80y" }, /* white space of more than a byte */
        { "\xc2\xbd\xe2\x85\xa7\xc2\xb2\xd9\xa1",
          "\xc2\xbd\xe2\x85\xa7\xc2\xb2|\xd9\xa1" }, /* numbers of all kinds */
        { "\xff\xfe"
          "a\xc3",
          "\xff\xfe|"
          "a|\xc3" }, /* malformed bytes are characters like '$' */
        { "''", "''" },
        { "'", "'" },
        { "'l", "'l" },
        { "\n", "\n" },
        { " ", " " },
    };
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        char got[256] = "";
        for (const char *at = cases[i].text; *at;) {
            size_t n = rv_tok_split(at, strlen(at));
            CHECK(n > 0 && n <= strlen(at), "'%s': a piece of %zu bytes", cases[i].text, n);
            snprintf(got + strlen(got), sizeof got - strlen(got), "%s%.*s", *got ? "|" : "", (int)n, at);
            at += n;
        }
        CHECK(strcmp(got, cases[i].pieces) == 0, "'%s' splits as '%s', expected '%s'", cases[i].text, got,
              cases[i].pieces);
    }
}

TEST(merges_go_by_rank_and_then_from_the_left)
{
    static const make_vocab v = { .words = { "ab", "bc", "aa", "aab", "abab" } };
    static const struct {
        const char *text, *tokens;
    } cases[] = {
        { "abc", "ab|c" },  { "xbc", "x|bc" },    { "aaa", "aa|a" },
        { "aab", "aab" },   { "aabx", "a|ab|x" }, { "ababab", "ab|ab|ab" },
        { "abab", "abab" }, { "aaaa", "aa|aa" },  { "xabab", "x|ab|ab" },
    };
    make m = { 0 };
    make_tokenizer(&m, &v);
    rv_tok *tok = opened(&m);
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        const char *got = shown(tok, cases[i].text, RV_TOK_PLAIN);
        /* "aab" and "abab" as whole pieces are tokens and need no merges; inside a longer piece merges decide */
        CHECK(strcmp(got, cases[i].tokens) == 0, "'%s' gives '%s', expected '%s'", cases[i].text, got,
              cases[i].tokens);
    }
    rv_tok_close(tok);
}

TEST(the_longest_special_token_wins_and_user_defined_ones_always_count)
{
    static const make_vocab v = { .control = { "<a>", "<a><b>", "<|im_end|>", "z" },
                                  .user = { "<u>", "<a>!" } };
    static const struct {
        const char *text, *special, *plain;
    } cases[] = {
        { "<a><b>", "<a><b>", "<|a|>|<|b|>" },
        { "<a><c", "<a>|<|c", "<|a|>|<|c" },
        { "<a>!x", "<a>!|x", "<a>!|x" },
        { "x<u>y", "x|<u>|y", "x|<u>|y" },
        { "<|im_end|>", "<|im_end|>", "<|||i|m|_|e|n|d|||>" },
        { "zz", "z|z", "z|z" },
        { "<a", "<|a", "<|a" },
    };
    make m = { 0 };
    make_u32(&m, "tokenizer.ggml.eos_token_id", 0);
    make_tokenizer(&m, &v);
    rv_tok *tok = NULL;
    /* "z" stands in the vocabulary twice: as a control token and as a byte */
    rv_gguf *g = NULL;
    make_file(&m);
    CHECK_OK(rv_gguf_open_bytes(&rv_heap, "made", m.file, m.n, &g));
    CHECK_ERR(rv_tok_open(&rv_heap, g, &tok), RV_E_FORMAT);
    CHECK(strstr(rv_err_text(), "duplicate"), "%s", rv_err_text());
    rv_gguf_close(g);
    make_free(&m);

    make_vocab w = v;
    w.control[3] = NULL;
    make_u32(&m, "tokenizer.ggml.eos_token_id", 0);
    make_tokenizer(&m, &w);
    tok = opened(&m);
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        const char *got = shown(tok, cases[i].text, RV_TOK_SPECIAL);
        CHECK(strcmp(got, cases[i].special) == 0, "'%s' gives '%s'", cases[i].text, got);
        got = shown(tok, cases[i].text, RV_TOK_PLAIN);
        CHECK(strcmp(got, cases[i].plain) == 0, "'%s' plain gives '%s'", cases[i].text, got);
    }
    CHECK(rv_tok_find(tok, "<u>") == 3 && rv_tok_find(tok, "<a><b>") == 1 && rv_tok_find(tok, "nope") == -1,
          "find");
    CHECK(rv_tok_find(tok, "A") >= 5 && rv_str_eq(rv_tok_bytes(tok, rv_tok_find(tok, "A")), "A"),
          "find of a byte");
    CHECK(rv_tok_is_control(tok, 0) && !rv_tok_is_control(tok, 3), "control");
    CHECK(rv_tok_is_end(tok, 0) && rv_tok_is_end(tok, 2) && !rv_tok_is_end(tok, 1) && !rv_tok_is_end(tok, -1),
          "ends");
    CHECK(rv_tok_bos(tok) == -1 && !rv_tok_adds_bos(tok), "a BOS out of nowhere");
    rv_tok_close(tok);
}

TEST(borders_of_spans_are_no_borders_of_tokens)
{
    rv_tok *tok = golden_tok();
    static const char text[] = "user\n\n  The  end<|im_end|> of <|im_";
    rv_ids whole, cut, guarded;
    rv_ids_init(&whole, &rv_heap, 100);
    rv_ids_init(&cut, &rv_heap, 100);
    rv_ids_init(&guarded, &rv_heap, 100);
    size_t n = sizeof text - 1;
    CHECK_OK(rv_tok_encode(tok, text, n, RV_TOK_PLAIN, &whole));
    for (size_t border = 0; border <= n; border++) {
        /* the second span begins anywhere in the text, but the control text lies in a plain one */
        bool before = border <= 16;
        rv_tok_span spans[2] = { { border, before ? RV_TOK_SPECIAL : RV_TOK_PLAIN },
                                 { n - border, before ? RV_TOK_PLAIN : RV_TOK_SPECIAL } };
        cut.n = 0;
        if (border <= 16 || border > 16 + 5) { /* from there on the rest is no control text */
            CHECK_OK(rv_tok_encode_spans(tok, text, spans, 2, &cut));
            CHECK(cut.n == whole.n && memcmp(cut.at, whole.at, cut.n * sizeof *cut.at) == 0, "border at %zu",
                  border);
        }
    }
    /* a control text across the border of two trusted spans is none */
    rv_tok_span two[2] = { { 20, RV_TOK_SPECIAL }, { n - 20, RV_TOK_SPECIAL } };
    CHECK_OK(rv_tok_encode_spans(tok, text, two, 2, &guarded));
    CHECK(guarded.n == whole.n, "%zu ids, expected %zu", guarded.n, whole.n);
    rv_ids_deinit(&whole);
    rv_ids_deinit(&cut);
    rv_ids_deinit(&guarded);
    rv_tok_close(tok);
}

/* Merging as the definition says it: again and again the pair of lowest rank, leftmost first. */
static size_t merge_plainly(const rv_tok *tok, const int32_t (*merges)[3], size_t n_merges, int32_t *ids,
                            size_t n)
{
    (void)tok;
    for (;;) {
        size_t best = n_merges, place = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            for (size_t r = 0; r < best; r++) {
                if (merges[r][0] == ids[i] && merges[r][1] == ids[i + 1]) {
                    best = r;
                    place = i;
                }
            }
        }
        if (best == n_merges) {
            return n;
        }
        ids[place] = merges[best][2];
        memmove(ids + place + 1, ids + place + 2, (n - place - 2) * sizeof *ids);
        n--;
    }
}

TEST(merging_agrees_with_its_plain_definition)
{
    static const char *const words[] = { "ab",  "ba", "aba", "abb",  "bab", "cab",
                                         "abc", "aa", "aaa", "bcab", "ccc", "cc" };
    enum { N_WORDS = RV_COUNT(words) };
    make_vocab v = { 0 };
    memcpy(v.words, words, sizeof words);
    make m = { 0 };
    make_tokenizer(&m, &v);
    rv_tok *tok = opened(&m);
    int32_t merges[64][3];
    size_t n_merges = 0;
    for (size_t w = 0; w < N_WORDS; w++) { /* in the order in which make_tokenizer writes them */
        for (size_t k = 2; k <= strlen(words[w]); k++) {
            char part[3][8];
            if (!make_seen(&v, w, k)) {
                snprintf(part[0], 8, "%.*s", (int)k - 1, words[w]);
                snprintf(part[1], 8, "%c", words[w][k - 1]);
                snprintf(part[2], 8, "%.*s", (int)k, words[w]);
                for (int p = 0; p < 3; p++) {
                    merges[n_merges][p] = rv_tok_find(tok, part[p]);
                    CHECK(merges[n_merges][p] >= 0, "no token '%s'", part[p]);
                }
                n_merges++;
            }
        }
    }
    rv_rng rng;
    rv_rng_init(&rng, 7);
    rv_ids ids;
    rv_ids_init(&ids, &rv_heap, 1000);
    for (int round = 0; round < 3000; round++) {
        char text[64];
        int32_t plain[64];
        size_t n = 5 + rv_rng_below(&rng, 50); /* longer than a word: no piece is a token as it stands */
        for (size_t i = 0; i < n; i++) {
            text[i] = "abc"[rv_rng_below(&rng, 3)];
            char one[2] = { text[i], 0 };
            plain[i] = rv_tok_find(tok, one);
        }
        size_t want = merge_plainly(tok, (const int32_t(*)[3])merges, n_merges, plain, n);
        ids.n = 0;
        CHECK_OK(rv_tok_encode(tok, text, n, RV_TOK_PLAIN, &ids));
        CHECK(ids.n == want && memcmp(ids.at, plain, want * sizeof *plain) == 0, "round %d: %.*s", round,
              (int)n, text);
    }
    rv_ids_deinit(&ids);
    rv_tok_close(tok);
}

TEST(any_bytes_decode_to_themselves)
{
    rv_tok *tok = golden_tok();
    rv_rng rng;
    rv_rng_init(&rng, 11);
    rv_ids ids;
    rv_text back;
    rv_ids_init(&ids, &rv_heap, 4096);
    rv_text_init(&back, &rv_heap, 4096);
    static const char *const bits[] = {
        " ",        "\n",   "a",        "The", "\xe4\xb8\xad", "\xf0\x9f\x98\x80", "7", "'s", "<|im_end|>",
        "\xcc\x81", "\xff", "\xe4\xb8", "\r"
    };
    for (int round = 0; round < 3000; round++) {
        char text[600];
        size_t n = 0, want = rv_rng_below(&rng, 500);
        while (n < want) {
            const char *bit = bits[rv_rng_below(&rng, RV_COUNT(bits))];
            bool raw = rv_rng_below(&rng, 3) == 0;
            size_t length = raw ? 1 : strlen(bit);
            char byte = (char)rv_rng_next(&rng);
            memcpy(text + n, raw ? &byte : bit, length);
            n += length;
        }
        for (int special = 0; special < 2; special++) {
            ids.n = 0;
            rv_text_clear(&back);
            CHECK_OK(rv_tok_encode(tok, text, n, special ? RV_TOK_SPECIAL : RV_TOK_PLAIN, &ids));
            rv_tok_decode(tok, ids.at, ids.n, true, &back);
            CHECK(back.n == n && memcmp(rv_text_get(&back), text, n) == 0, "round %d", round);
            for (size_t i = 0; i < ids.n && !special; i++) {
                CHECK(!rv_tok_is_control(tok, ids.at[i]), "round %d: a control token from plain text", round);
            }
        }
        rv_text_clear(&back);
        rv_tok_decode(tok, ids.at, ids.n, false, &back);
        CHECK(!strstr(rv_text_get(&back), "<|im_end|>"), "round %d: a control token was printed", round);
    }
    rv_ids_deinit(&ids);
    rv_text_deinit(&back);
    rv_tok_close(tok);
}

static double encoding_ms(const rv_tok *tok, const char *text, size_t n)
{
    rv_ids ids;
    rv_ids_init(&ids, &rv_heap, n);
    double start = test_cpu_ms();
    CHECK_OK(rv_tok_encode(tok, text, n, RV_TOK_SPECIAL, &ids));
    double took = test_cpu_ms() - start;
    rv_ids_deinit(&ids);
    return took;
}

TEST(sixteen_times_the_text_takes_nowhere_near_256_times_as_long)
{
    enum { N = 1 << 20, PART = N / 16 };
    static const char *const patterns[] = { "a", " ",     "\n",   "\xe4\xb8\xad", "1", "'",
                                            "<", "<|im_", "\xff", "\xcc\x81",     "ab" };
    rv_tok *tok = golden_tok();
    char *text = malloc(N);
    CHECK(text, "no memory");
    for (size_t p = 0; p < RV_COUNT(patterns); p++) {
        size_t length = strlen(patterns[p]);
        for (size_t i = 0; i < N; i++) {
            text[i] = patterns[p][i % length];
        }
        double part = encoding_ms(tok, text, PART), whole = encoding_ms(tok, text, N);
        CHECK(whole <= 80 * (part + 1), "'%s': %.1f ms for a part, %.1f ms for 16 of them", patterns[p], part,
              whole);
    }
    free(text);
    rv_tok_close(tok);
}

TEST(more_tokens_than_allowed_are_refused_and_leave_the_list_as_it_was)
{
    rv_tok *tok = golden_tok();
    rv_ids ids;
    rv_ids_init(&ids, &rv_heap, 4);
    CHECK_OK(rv_tok_encode(tok, "1 2", 3, RV_TOK_PLAIN, &ids));
    size_t before = ids.n;
    CHECK_ERR(rv_tok_encode(tok, "1 2 3 4 5 6", 11, RV_TOK_PLAIN, &ids), RV_E_TOO_LARGE);
    CHECK(ids.n == before, "%zu ids, there were %zu", ids.n, before);
    char *text = calloc(1 << 22, 1);
    CHECK(text, "no memory");
    double start = test_cpu_ms();
    CHECK_ERR(rv_tok_encode(tok, text, 1 << 22, RV_TOK_PLAIN, &ids), RV_E_TOO_LARGE);
    double refused = test_cpu_ms() - start, worked = encoding_ms(tok, text, 1 << 20);
    CHECK(refused <= worked + 1, "%.1f ms: it was worked through before it was refused", refused);
    free(text);
    rv_ids_deinit(&ids);
    rv_tok_close(tok);
}

static void refused(make *m, rv_err code, const char *word)
{
    rv_gguf *g = NULL;
    rv_tok *tok = NULL;
    make_file(m);
    CHECK_OK(rv_gguf_open_bytes(&rv_heap, "made", m->file, m->n, &g));
    CHECK_ERR(rv_tok_open(&rv_heap, g, &tok), code);
    CHECK(strstr(rv_err_text(), word), "no '%s' in: %s", word, rv_err_text());
    rv_gguf_close(g);
    make_free(m);
}

TEST(unsound_vocabularies_are_refused_by_name)
{
    static char long_special[200];
    memset(long_special, 'x', sizeof long_special - 1);
    make m = { 0 };
    make_vocab v = { .control = { long_special } };
    make_tokenizer(&m, &v);
    refused(&m, RV_E_FORMAT, "too long");
    make_vocab twice = { .control = { "<x>", "<x>" } };
    make_tokenizer(&m, &twice);
    refused(&m, RV_E_FORMAT, "tokens[1] '<x>' is a duplicate");
    make_tokenizer(&m, &make_small_vocab);
    make_u32(&m, "tokenizer.ggml.bos_token_id", 261);
    refused(&m, RV_E_FORMAT, "tokenizer.ggml.bos_token_id is 261, expected 0 to 260");
    make_text(&m, "tokenizer.ggml.model", "llama");
    refused(&m, RV_E_UNSUPPORTED, "llama");
    make_text(&m, "tokenizer.ggml.model", "gpt2");
    make_text(&m, "tokenizer.ggml.pre", "qwen2");
    refused(&m, RV_E_UNSUPPORTED, "qwen2");
}
