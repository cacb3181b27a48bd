/* Told or asked: what the chat keeps without being asked to. */
#include "memory/memory.h"
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
