#include "base/arena.h"
#include "test.h"

#include <string.h>

TEST(what_is_taken_is_zero_aligned_and_apart)
{
    rv_arena *arena;
    CHECK_OK(rv_arena_new(&rv_heap, 8 << 20, &arena));
    unsigned char *piece[300];
    size_t bytes[300], used = 0;
    for (size_t i = 0; i < RV_COUNT(piece); i++) {
        bytes[i] = i * i % 30011 + (i % 7 == 0);
        piece[i] = rv_arena_take(arena, bytes[i]);
        CHECK(piece[i] && (uintptr_t)piece[i] % 16 == 0, "piece %zu at %p", i, (void *)piece[i]);
        for (size_t k = 0; k < bytes[i]; k++) {
            CHECK(piece[i][k] == 0, "piece %zu is not zero", i);
        }
        memset(piece[i], (int)i | 1, bytes[i]);
        used += bytes[i];
    }
    for (size_t i = 0; i < RV_COUNT(piece); i++) {
        for (size_t k = 0; k < bytes[i]; k++) {
            CHECK(piece[i][k] == (unsigned char)(i | 1), "piece %zu was written over", i);
        }
    }
    CHECK(rv_arena_used(arena) >= used, "%zu of %zu", rv_arena_used(arena), used);
    rv_arena_reset(arena);
    CHECK(rv_arena_used(arena) == 0, "%zu", rv_arena_used(arena));
    unsigned char *again = rv_arena_take(arena, 2000);
    for (size_t k = 0; k < 2000; k++) {
        CHECK(again[k] == 0, "used memory is handed out zeroed again");
    }
    rv_arena_free(arena);
    rv_arena_free(NULL);
}

TEST(the_maximum_holds)
{
    rv_arena *arena;
    CHECK_OK(rv_arena_new(&rv_heap, 1024, &arena));
    CHECK(rv_arena_take(arena, 1025) == NULL, "more than the maximum");
    CHECK(rv_arena_take(arena, SIZE_MAX) == NULL && rv_arena_take(arena, SIZE_MAX - 14) == NULL,
          "sizes that wrap");
    for (int i = 0; i < 64; i++) {
        CHECK(rv_arena_take(arena, 1), "piece %d of 16 bytes each", i);
    }
    CHECK(rv_arena_used(arena) == 1024 && rv_arena_take(arena, 1) == NULL, "full at %zu",
          rv_arena_used(arena));
    CHECK(rv_arena_strdup(arena, "x") == NULL && rv_arena_printf(arena, "%d", 1) == NULL,
          "full for texts too");
    rv_arena_reset(arena);
    CHECK(rv_arena_take(arena, 1024), "empty again");
    rv_arena_free(arena);
    CHECK_OK(rv_arena_new(&rv_heap, 0, &arena));
    CHECK(rv_arena_take(arena, 1) == NULL, "an arena of nothing");
    rv_arena_reset(arena);
    rv_arena_free(arena);
}

TEST(texts_are_copied_and_terminated)
{
    rv_arena *arena;
    CHECK_OK(rv_arena_new(&rv_heap, 1 << 20, &arena));
    CHECK(strcmp(rv_arena_strdup(arena, "abc"), "abc") == 0, "strdup");
    CHECK(strcmp(rv_arena_strndup(arena, "abc", 2), "ab") == 0, "strndup");
    CHECK(strcmp(rv_arena_strndup(arena, NULL, 0), "") == 0, "strndup of nothing");
    CHECK(rv_arena_strndup(arena, "", SIZE_MAX) == NULL, "a length that wraps");
    CHECK(strcmp(rv_arena_printf(arena, "%s-%05d", "x", 42), "x-00042") == 0, "printf");
    rv_arena_free(arena);
}
