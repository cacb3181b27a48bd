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

static float says(const char *question, const char *const *texts, size_t n, const char *answer,
                  const char *name)
{
    rv_str passages[32];
    float out[RV_SAYS];
    for (size_t i = 0; i < n; i++) {
        passages[i] = of(texts[i]);
    }
    rv_says_fill(of(question), passages, n, of(answer), out);
    for (int i = 0; i < RV_SAYS; i++) {
        CHECK(out[i] >= -1 && out[i] <= 1, "%s: %g", rv_says_names[i], (double)out[i]);
    }
    for (int i = 0; i < RV_SAYS; i++) {
        if (strcmp(rv_says_names[i], name) == 0) {
            return out[i];
        }
    }
    CHECK(false, "no number %s", name);
    return 0;
}

TEST(an_answer_rests_on_a_sentence_that_speaks_of_what_is_asked_or_of_something_else)
{
    static const char *const texts[] = { "Ingrid Solberg runs the library. Tomas Reed runs the cafe.",
                                         "The harbour was painted by Ada Quill." };
    const char *question = "Who runs the cafe?";
    CHECK(says(question, texts, 2, "[1] Tomas Reed", "cover of sentence") == 1, "the right sentence");
    CHECK(says(question, texts, 2, "[1] Tomas Reed", "better sentence") == 0, "none is better");
    CHECK(says(question, texts, 2, "[1] Ingrid Solberg", "better sentence") > 0.3f, "the one beside it is");
    CHECK(says(question, texts, 2, "[1] Ingrid Solberg", "better passage") == 0,
          "it is in the right passage");
    CHECK(says(question, texts, 2, "[2] Ada Quill", "better passage") == 1, "the other passage says it");
    CHECK(says(question, texts, 2, "[1] Tomas Reed", "answer there") == 1, "it stands there");
    CHECK(says(question, texts, 2, "[1] Tobias Reef", "answer there") == 0, "it stands nowhere");
    CHECK(says(question, texts, 2, "Tomas Reed", "cover of sentence") == 1,
          "without a citation any passage counts");
    CHECK(says(question, texts, 2, "[2] [1] Tomas Reed", "cover of sentence") == 1,
          "the last citation counts");
    CHECK(says(question, texts, 2, "Not in the passages.", "better sentence") == 1, "refused, and there");
    CHECK(says("Who feeds zebras?", texts, 2, "Not in the passages.", "cover together") == 0,
          "rightly refused");
    CHECK(says(question, texts, 2, "[9] Tomas Reed", "cover of sentence") == 0,
          "a passage that is not there");
    CHECK(says(question, texts, 2, "", "answer there") == 0, "nothing");
    CHECK(says(question, texts, 0, "[1] Tomas Reed", "cover together") == 0, "no passages");

    /* a remembered question and its answer are one sentence */
    static const char *const fact[] = { "Correction: Q: Who runs the cafe? A: Nora Drather" };
    CHECK(says(question, fact, 1, "[1] Nora Drather", "cover of sentence") == 1,
          "the question stands before the answer");
}

TEST(citations_are_taken_off_one_by_one)
{
    rv_str rest = of("[2] then [x] [ 3] [] [11][99999999999999999999999] end [4");
    size_t number = 0;
    CHECK(rv_cite_next(&rest, &number) && number == 2, "%zu", number);
    CHECK(rv_cite_next(&rest, &number) && number == 11, "%zu", number);
    CHECK(rv_cite_next(&rest, &number) && number == 1000000, "%zu", number);
    CHECK(!rv_cite_next(&rest, &number) && rest.n == strlen(" end [4"), "%zu bytes left", rest.n);
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
