/* The rows that are nearest to a text, against looking at all of them. */
#include "base/rng.h"
#include "router/past.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 700, OTHERS = 100 }; /* the last OTHERS rows are a group of their own */

/* With one dimension the cosine of a row and the text (1) is the row's number. Many are equal. */
static rv_past *rows_of(float number[ROWS], uint8_t group[ROWS])
{
    rv_past *past = NULL;
    rv_rng rng;
    rv_rng_init(&rng, 7);
    CHECK_OK(rv_past_new(&rv_heap, 1, 1, &past));
    for (size_t i = 0; i < ROWS; i++) {
        char text[64];
        rv_past_text read;
        const int words = snprintf(text, sizeof text, "row %zu says %s", i, i % 3 ? "tea" : "tea and cake");
        const float quality = (float)(i % 2);
        rv_past_read(text, (size_t)words, &read);
        number[i] = (float)(1 + rv_rng_below(&rng, 300)) / 300;
        group[i] = i >= ROWS - OTHERS;
        CHECK_OK(rv_past_add(past, &(rv_past_row){ &read, text, (size_t)words, &number[i], &quality }));
    }
    CHECK_OK(rv_past_seal(past));
    return past;
}

static void check_order(const rv_past_near *list, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        CHECK(list[i - 1].likeness > list[i].likeness ||
                  (list[i - 1].likeness == list[i].likeness && list[i - 1].row < list[i].row),
              "%zu: row %u %g before row %u %g", i, list[i - 1].row, (double)list[i - 1].likeness,
              list[i].row, (double)list[i].likeness);
    }
}

/* The nearest are there, none that is nearer is not, equal ones in the order of the rows. */
static void check_found(const rv_past *past, const rv_past_text *text, const uint8_t *skip,
                        const float *number)
{
    const float one = 1;
    rv_past_found found;
    void *scratch = malloc(rv_past_scratch_bytes(past));
    rv_past_find(past, text, &one, skip, 1, scratch, &found);
    CHECK(found.n_meaning == RV_PAST_NEAR && found.n_words == RV_PAST_NEAR, "%zu and %zu found",
          found.n_meaning, found.n_words);
    check_order(found.meaning, found.n_meaning);
    check_order(found.words, found.n_words);
    bool listed[ROWS] = { false };
    for (size_t i = 0; i < found.n_meaning; i++) {
        listed[found.meaning[i].row] = true;
    }
    const float least = number[found.meaning[found.n_meaning - 1].row];
    for (size_t i = 0; i < ROWS; i++) {
        const bool left_out = skip && skip[i] == 1;
        CHECK(!(listed[i] && left_out), "row %zu is of the group that is left out", i);
        CHECK(listed[i] || left_out || number[i] <= least, "row %zu is nearer than the last: %g, %g", i,
              (double)number[i], (double)least);
    }
    CHECK(found.first.any && found.first.row == found.words[0].row &&
              found.first.likeness == found.words[0].likeness,
          "row %u first", found.first.row);
    free(scratch);
}

TEST(the_nearest_rows_are_found_in_order)
{
    float number[ROWS];
    uint8_t group[ROWS];
    rv_past *past = rows_of(number, group);
    rv_past_text text;
    rv_past_read("Row 650 says tea, and cake!", 27, &text);
    check_found(past, &text, NULL, number);
    check_found(past, &text, group, number);
    rv_past_free(past);
}

TEST(what_was_said_before_is_the_first_row_and_what_shares_no_word_has_none)
{
    float number[ROWS];
    uint8_t group[ROWS];
    rv_past *past = rows_of(number, group);
    rv_past_text text;
    rv_past_found found;
    void *scratch = malloc(rv_past_scratch_bytes(past));
    rv_past_read("ROW 650: says tea?", 18, &text);
    rv_past_find(past, &text, NULL, NULL, 0, scratch, &found);
    CHECK(found.first.any && found.first.row == 650 && found.first.likeness > 0.99f &&
              found.first.covered > 0.99f,
          "row %u, likeness %g", found.first.row, (double)found.first.likeness);
    CHECK(found.n_meaning == 0, "without a vector nothing is near in meaning");
    rv_past_find(past, &text, NULL, group, 1, scratch, &found);
    CHECK(found.first.any && found.first.row != 650 && found.first.likeness < 0.9f,
          "row 650 is of the group that is left out");
    rv_past_read("nothing like it", 15, &text);
    rv_past_find(past, &text, NULL, NULL, 0, scratch, &found);
    CHECK(!found.first.any && found.n_words == 0, "%zu rows share no word", found.n_words);
    free(scratch);
    rv_past_free(past);
}
