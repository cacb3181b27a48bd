/* One stem for the forms of a word, by the rules of the language that the text is in. */
#include "memory/stem.h"
#include "test.h"

#include <stdio.h>
#include <string.h>

/* All stems of a text, "|" between words and "," between those of one word. */
static const char *stems(const char *text, uint32_t languages)
{
    static char out[4096];
    rv_words *w = NULL;
    CHECK_OK(rv_words_new(&rv_heap, &w));
    rv_words_begin(w, text, strlen(text), languages);
    rv_word word;
    size_t n = 0, last = 0;
    out[0] = 0;
    while (rv_words_next(w, &word)) {
        CHECK(word.at + word.n <= strlen(text), "word %zu lies at %zu", word.word, word.at);
        n += (size_t)snprintf(out + n, sizeof out - n, "%s%.*s",
                              n == 0              ? ""
                              : word.word == last ? ","
                                                  : "|",
                              (int)word.stem.n, word.stem.at);
        last = word.word;
    }
    CHECK_OK(rv_words_failed(w));
    rv_words_free(w);
    return out;
}

static void check_stems(const char *text, uint32_t languages, const char *expected)
{
    const char *got = stems(text, languages);
    CHECK(strcmp(got, expected) == 0, "\"%s\" gives %s, expected %s", text, got, expected);
}

TEST(the_forms_of_a_word_have_one_stem)
{
    check_stems("Painting paints, painted!", RV_LANGUAGE_SET(RV_LANGUAGE_ENGLISH), "paint|paint|paint");
    check_stems("Häuser Hauses Haus", RV_LANGUAGE_SET(RV_LANGUAGE_GERMAN), "haus|haus|haus");
    check_stems("bibliothèques bibliothèque", RV_LANGUAGE_SET(RV_LANGUAGE_FRENCH), "bibliothequ|bibliothequ");
    check_stems("книги книга", RV_LANGUAGE_SET(RV_LANGUAGE_RUSSIAN), "книг|книг");
    check_stems("Über CAFÉ naïve", 0, "uber|cafe|naive");
}

TEST(a_query_of_unknown_language_has_the_stems_of_all)
{
    uint32_t both = RV_LANGUAGE_SET(RV_LANGUAGE_ENGLISH) | RV_LANGUAGE_SET(RV_LANGUAGE_GERMAN);
    check_stems("Häuser 1984", both, "hauser,haus|1984");
}

TEST(nothing_in_a_text_is_syntax_and_no_byte_breaks_it)
{
    check_stems("\"NEAR(a*\" -x:y'z", 0, "near|a|x|y|z");
    check_stems("a\xff\xfe\xc3", 0, "a");
    check_stems("", 0, "");
    char text[300];
    memset(text, 'x', 299);
    text[299] = 0;
    const char *got = stems(text, 0);
    CHECK(strcspn(got, "|") == 64, "the first of a long word has %zu bytes", strcspn(got, "|"));
}

TEST(a_language_is_told_by_its_commonest_words)
{
    static const struct {
        rv_language language;
        bool short_text;
        const char *text;
    } cases[] = {
        { RV_LANGUAGE_ENGLISH, false, "The library opens at nine and closes at six, but not on Sundays." },
        { RV_LANGUAGE_GERMAN, false, "Die Bibliothek öffnet um neun und ist am Sonntag geschlossen." },
        { RV_LANGUAGE_FRENCH, false, "La bibliothèque ouvre à neuf heures et elle est fermée le dimanche." },
        { RV_LANGUAGE_SPANISH, false, "La biblioteca abre a las nueve y está cerrada los domingos." },
        { RV_LANGUAGE_ITALIAN, false,
          "La biblioteca apre alle nove ed è chiusa la domenica, anche per gli studenti." },
        { RV_LANGUAGE_PORTUGUESE, false, "A biblioteca abre às nove e não está aberta aos domingos." },
        { RV_LANGUAGE_DUTCH, false, "De bibliotheek gaat om negen uur open en is op zondag niet open." },
        { RV_LANGUAGE_SWEDISH, false, "Biblioteket öppnar klockan nio och är inte öppet på söndagar." },
        { RV_LANGUAGE_FINNISH, false, "Kirjasto on auki, mutta se ei ole auki sunnuntaina." },
        { RV_LANGUAGE_RUSSIAN, false, "Библиотека открывается в девять." },
        { RV_LANGUAGE_GERMAN, true, "Wann öffnet es?" },
        { RV_LANGUAGE_UNKNOWN, false, "Bibliothek" },
        { RV_LANGUAGE_UNKNOWN, true, "int main(void) { return 0; }" },
        { RV_LANGUAGE_UNKNOWN, false, "" },
    };
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        rv_language got = rv_words_language(cases[i].text, strlen(cases[i].text), cases[i].short_text);
        CHECK(got == cases[i].language, "\"%s\" is %s", cases[i].text, rv_language_name(got));
    }
}
