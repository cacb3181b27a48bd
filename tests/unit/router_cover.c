/* How passages cover a question, and the words it goes by. */
#include "router/cover.h"
#include "test.h"

#include <string.h>

static rv_str of(const char *text)
{
    return rv_str_of(text, strlen(text));
}

static float cover(const char *question, const char *const *texts, size_t n, const char *name)
{
    rv_str passages[32];
    float out[RV_COVER];
    for (size_t i = 0; i < n; i++) {
        passages[i] = of(texts[i]);
    }
    rv_cover_fill(of(question), passages, n, out);
    for (int i = 0; i < RV_COVER; i++) {
        CHECK(out[i] >= 0 && out[i] <= 4, "%s: %g", rv_cover_names[i], (double)out[i]);
    }
    for (int i = 0; i < RV_COVER; i++) {
        if (strcmp(rv_cover_names[i], name) == 0) {
            return out[i];
        }
    }
    CHECK(false, "no number %s", name);
    return 0;
}

TEST(one_passage_two_passages_and_none_cover_a_question)
{
    static const char *const texts[] = { "Ingrid Solberg runs the library.",
                                         "Ingrid Solberg lives in Norwood.", "The cafe closes at 18:00." };
    CHECK(cover("Who runs the library?", texts, 3, "best share") == 1, "one passage has all of it");
    CHECK(cover("Where does who runs the library, Ingrid, lives?", texts, 3, "best share") < 1,
          "two have it");
    CHECK(cover("Where does who runs the library, Ingrid, lives?", texts, 3, "share together") == 1,
          "together");
    CHECK(cover("Who painted the harbour?", texts, 3, "words nowhere") == 1, "nobody has it");
    CHECK(cover("Who runs the library?", texts, 3, "passages") == 3.0f / 8, "how many");
    CHECK(cover("Who runs the library?", texts, 0, "passages") == 0, "none");
    CHECK(cover("?", texts, 3, "words asked") == 0, "no words");
}

TEST(words_are_the_same_but_for_case_and_an_ending)
{
    static const struct {
        const char *a, *b;
        bool same;
    } cases[] = { { "Borrow", "borrowed", true },  { "close", "closing", true },
                  { "hens", "hens", true },        { "Hen", "hens", false },
                  { "cat", "car", false },         { "library", "librarian", true },
                  { "open", "opportunity", false } };
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        CHECK(rv_word_same(of(cases[i].a), of(cases[i].b)) == cases[i].same, "%s %s", cases[i].a, cases[i].b);
    }
}

TEST(text_without_blanks_is_taken_a_character_at_a_time)
{
    rv_str rest = of("ab \xe5\x9b\xbe\xe4\xb9\xa6"
                     "9 \xc3\xa9t"),
           word;
    static const char *const words[] = { "ab", "\xe5\x9b\xbe", "\xe4\xb9\xa6", "9", "\xc3\xa9t" };
    for (size_t i = 0; i < RV_COUNT(words); i++) {
        CHECK(rv_word_next(&rest, &word) && rv_str_eq(word, words[i]), "word %zu: %.*s", i, (int)word.n,
              word.at);
    }
    CHECK(!rv_word_next(&rest, &word), "one more");
}
