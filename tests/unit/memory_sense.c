/* What two texts are to each other; told or asked: what the chat keeps without being asked to. */
#include "base/alloc.h"
#include "memory/memory.h"
#include "memory/sense.h"
#include "test.h"

#include <string.h>

TEST(what_is_told_is_told)
{
    static const char *const told[] = { "My bike is in the shed.",
                                        "The code of the garage is 4711.",
                                        "Our cat is called Mina. ",
                                        "I live at 12 Mill Lane.",
                                        "We moved the ladder to the cellar.",
                                        "Anna's birthday is on 9 May.",
                                        "Remember that the boiler was serviced in June." };
    for (size_t i = 0; i < RV_COUNT(told); i++) {
        CHECK(rv_memory_tells(told[i], strlen(told[i])), "%s", told[i]);
    }
}

TEST(what_asks_orders_or_greets_is_not)
{
    static const char *const asked[] = { "Where is my bike?",
                                         "where is my bike",
                                         "My bike is in the shed",
                                         "Tell me where my bike is.",
                                         "I want to know when the library opens.",
                                         "I wonder where my bike is.",
                                         "Please list the board members.",
                                         "Thanks a lot for that.",
                                         "Good morning to you all.",
                                         "Yes, that is right.",
                                         "The bike.",
                                         ".",
                                         "",
                                         "My bike is in the shed. Is it dry there?",
                                         "And on Sundays too." };
    for (size_t i = 0; i < RV_COUNT(asked); i++) {
        CHECK(!rv_memory_tells(asked[i], strlen(asked[i])), "%s", asked[i]);
    }
}

/* What the newer is to the older, as far as they would meet: they share a key. */
static rv_sense_relation relation(const char *older, const char *newer)
{
    static rv_sense a, b;
    rv_words *w;
    int64_t x[RV_SENSE_KEYS], y[RV_SENSE_KEYS];
    bool key = false;
    CHECK_OK(rv_words_new(&rv_heap, &w));
    rv_sense_of(w, newer, strlen(newer), &a);
    rv_sense_of(w, older, strlen(older), &b);
    rv_words_free(w);
    size_t n_x = rv_sense_keys(&a, 0, x), n_y = rv_sense_keys(&b, 0, y);
    for (size_t k = 0; k < n_x && k < n_y; k++) {
        key |= x[k] == y[k];
    }
    return key ? rv_sense_compare(&a, &b) : RV_SENSE_OTHER;
}

TEST(short_facts_contradict_when_all_but_one_value_is_the_same)
{
    static const char *const pairs[][2] = {
        { "My son is 7.", "My son is 8." },
        { "My son is seven.", "My son is 8." },
        { "I like tea.", "I do not like tea." },
        { "I don't like tea.", "I like tea." },
        { "The meeting is at 10.", "The meeting is at 11." },
        { "The meeting is at 10 am.", "The meeting is at 10 pm." },
        { "My salary is 50000.", "My salary is 60000." },
        { "My salary is 50,000 euros.", "My salary is 61,500 euros." },
        { "The bus leaves at 8:15.", "The bus leaves at 9:45." },
        { "The code of the gate is 1234.", "The code of the gate is 5678." },
        { "The rent of the flat is 900.", "The rent of the flat is 5678." },
        { "The office phone number is 555 1234.", "The office phone number is 555 9876." },
        { "Die Katze heisst Minka.", "Die Katze heisst nicht Minka." },
        { "The workshop closes at six.", "The workshop closes at seven." },
        { "The fair is on 3 May.", "The fair is on 4 June." },
        { "The fair is on May 3, 2026.", "The fair is on May 12, 2026." },
        { "Das Fest ist am 3. Mai.", "Das Fest ist am 4. Mai." },
        { "I have a red car.", "I have no red car." },
        { "Room 3 has 20 chairs.", "Room 3 has 24 chairs." },
    };
    for (size_t i = 0; i < RV_COUNT(pairs); i++) {
        CHECK(relation(pairs[i][0], pairs[i][1]) == RV_SENSE_OPPOSITE, "%s %s", pairs[i][0], pairs[i][1]);
    }
}

TEST(facts_about_different_things_stay_two)
{
    static const char *const pairs[][2] = {
        { "My son is 7.", "My daughter is 8." },
        { "My son is 7.", "Your son is 8." },
        { "My son is 7.", "His son is 7." },
        { "I like tea.", "You like tea." },
        { "I like tea.", "She does not like tea." },
        { "I like tea.", "No, I like tea." },
        { "The meeting is at 10.", "The party is at 11." },
        { "Room 3 is red.", "Room 4 is red." },
        { "Page test 1.", "Page test 2." },
        { "Number 5 is written down.", "Number 6 is written down." },
        { "There are 3 apples.", "There are 4 apples." },
        { "The shop is open at 9.", "The shop is open until 10." },
        { "Flight 22 is at gate 5.", "Flight 22 is at gate 7." },
        { "I ate 3 apples on 3 May.", "I ate 3 apples on 4 May." },
        { "The rate is 1.5.", "The rate was 15." },
        { "Where is the virtual card?", "I cannot find the virtual card." },
        { "set a 4 minute timer", "set a 6 minute timer" },
        { "The tea is due.", "The tea is 2." },
    };
    for (size_t i = 0; i < RV_COUNT(pairs); i++) {
        rv_sense_relation there = relation(pairs[i][0], pairs[i][1]),
                          back = relation(pairs[i][1], pairs[i][0]);
        CHECK(there == RV_SENSE_OTHER && back == RV_SENSE_OTHER, "%s %s: %d, %d", pairs[i][0], pairs[i][1],
              there, back);
    }
}

TEST(the_same_value_in_other_letters_is_the_same)
{
    static const char *const pairs[][2] = {
        { "I like tea.", "i LIKE tea" },
        { "The workshop closes at 6.", "The workshop closes at six." },
        { "The office phone number is 555 1234.", "The office phone number is 555-1234." },
        { "The bus leaves at 8:15.", "The bus leaves at 8.15" },
    };
    for (size_t i = 0; i < RV_COUNT(pairs); i++) {
        CHECK(relation(pairs[i][0], pairs[i][1]) == RV_SENSE_SAME, "%s %s", pairs[i][0], pairs[i][1]);
    }
}
