/* The hashing embedder: stable, unit length, near for near texts, and safe for any bytes. */
#include "embed/embed.h"
#include "base/rng.h"
#include "test.h"

#include <math.h>
#include <string.h>

enum { DIM = 384 };

static rv_embed *embedder(void)
{
    static rv_embed *embed;
    if (!embed) {
        CHECK_OK(rv_embed_open(&rv_heap, "hash", &embed));
    }
    return embed;
}

static void vector_of(const char *text, float out[DIM])
{
    CHECK_OK(rv_embed_text(embedder(), text, strlen(text), out));
}

static double dot(const float *a, const float *b)
{
    double sum = 0;
    for (size_t i = 0; i < DIM; i++) {
        sum += (double)a[i] * b[i];
    }
    return sum;
}

static double cosine(const char *a, const char *b)
{
    float x[DIM], y[DIM];
    vector_of(a, x);
    vector_of(b, y);
    return dot(x, y);
}

TEST(embedders_are_opened_by_name)
{
    CHECK(strcmp(rv_embed_name(embedder()), "hash") == 0, "%s", rv_embed_name(embedder()));
    CHECK(rv_embed_dim(embedder()) == DIM, "%zu", rv_embed_dim(embedder()));
    rv_embed *none = NULL;
    CHECK_ERR(rv_embed_open(&rv_heap, "bert", &none), RV_E_NOT_FOUND);
    CHECK(!none && strstr(rv_err_text(), "hash"), "%s", rv_err_text());
}

TEST(opening_reports_that_memory_ran_out)
{
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_embed *embed = NULL;
        rv_err e = rv_embed_open(&m.alloc, "hash", &embed);
        CHECK((e == RV_E_NOMEM) == m.failed, "call %ld: %s", m.fail_at, rv_err_name(e));
        rv_embed_close(embed);
    }
}

/* Stores were filled with these numbers: a change of any of them is a new embedder with a new name. */
TEST(the_vector_of_a_text_never_changes)
{
    float v[DIM];
    vector_of("The library opens at 9:30, Zürich's cafés later — running = 走る 🙂", v);
    uint64_t sum = 0;
    for (size_t i = 0; i < DIM; i++) {
        uint32_t bits;
        memcpy(&bits, &v[i], sizeof bits);
        sum = (sum ^ bits) * 0x9e3779b97f4a7c15u;
        sum ^= sum >> 32;
    }
    CHECK(sum == 0xbb1b53e45487ada6u, "0x%016llx", (unsigned long long)sum);
}

TEST(every_text_with_a_letter_digit_or_symbol_has_length_one)
{
    static const char *const texts[] = { "a",    "the of and", "Hello", "7",   "+",
                                         "🙂", "你好世界",   "ÀÉÎ",   "x_y", "\xff\xfe word" };
    for (size_t i = 0; i < RV_COUNT(texts); i++) {
        float v[DIM];
        vector_of(texts[i], v);
        double length = sqrt(dot(v, v));
        CHECK(fabs(length - 1) <= 1e-5, "\"%s\": length %.9f", texts[i], length);
    }
}

TEST(text_without_letters_digits_or_symbols_is_all_zero)
{
    static const char *const texts[] = { "", " ", "... !? —", "\xff\xfe", "\xcc\x81" };
    for (size_t i = 0; i < RV_COUNT(texts); i++) {
        float v[DIM];
        vector_of(texts[i], v);
        CHECK(dot(v, v) == 0, "text %zu: %g", i, dot(v, v));
    }
}

TEST(case_accents_width_and_endings_hardly_matter)
{
    static const struct {
        const char *a, *b;
        double least;
    } pairs[] = {
        { "Zürich", "zurich", 0.9999 },        { "ＡＢＣ１２３", "abc123", 0.9999 },
        { "straße", "STRASSE", 0.9999 },       { "caf\xc3\xa9", "cafe\xcc\x81", 0.9999 },
        { "a library", "The Library!", 0.95 }, { "running fast", "runs fast", 0.6 },
    };
    for (size_t i = 0; i < RV_COUNT(pairs); i++) {
        double c = cosine(pairs[i].a, pairs[i].b);
        CHECK(c >= pairs[i].least, "%s / %s: %.4f", pairs[i].a, pairs[i].b, c);
    }
}

TEST(a_question_is_nearer_to_its_answer_than_to_other_texts)
{
    const char *question = "When does the library open on Saturday?";
    double right = cosine(question, "Opening hours. On Saturdays the library is open from ten to two.");
    double wrong = cosine(question, "The boiler in the basement was replaced in March by a heat pump.");
    CHECK(right > wrong + 0.2, "%.3f against %.3f", right, wrong);
}

TEST(the_order_of_words_is_seen)
{
    double same = cosine("dog bites man", "dog bites man"), other = cosine("dog bites man", "man bites dog");
    CHECK(same - other >= 0.001 && other >= 0.8, "%.4f, %.4f", same, other);
}

TEST(any_bytes_are_safe)
{
    rv_rng rng;
    rv_rng_init(&rng, 5);
    for (int round = 0; round < 500; round++) {
        size_t n = rv_rng_below(&rng, 700);
        uint8_t *bytes = fenced_bytes(n);
        bool letters = round % 2;
        for (size_t i = 0; i < n; i++) {
            bytes[i] = (uint8_t)(letters ? 'a' + rv_rng_below(&rng, 26) : rv_rng_below(&rng, 256));
        }
        float v[DIM];
        CHECK_OK(rv_embed_text(embedder(), (const char *)bytes, n, v));
        double length = dot(v, v);
        CHECK(length == 0 || fabs(length - 1) <= 1e-5, "round %d: %g", round, length);
    }
}
