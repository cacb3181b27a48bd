#include "base/alloc.h"
#include "test.h"

#include <string.h>

TEST(sizes_that_overflow_are_refused)
{
    size_t out = 7;
    CHECK(rv_mul_size(SIZE_MAX / 2, 2, &out) && out == SIZE_MAX - 1, "%zu", out);
    CHECK(!rv_mul_size(SIZE_MAX / 2 + 1, 2, &out) && out == SIZE_MAX - 1, "untouched on overflow, got %zu",
          out);
    CHECK(rv_mul_size(0, SIZE_MAX, &out) && out == 0, "%zu", out);
    CHECK(rv_add_size(SIZE_MAX - 1, 1, &out) && out == SIZE_MAX, "%zu", out);
    CHECK(!rv_add_size(SIZE_MAX, 1, &out) && out == SIZE_MAX, "%zu", out);
    CHECK(rv_new_array(&rv_heap, SIZE_MAX / 2, 3) == NULL, "a product past SIZE_MAX");
    CHECK(rv_strndup(&rv_heap, "", SIZE_MAX) == NULL, "no room for the zero");
    CHECK(rv_new_aligned(&rv_heap, 64, SIZE_MAX - 3) == NULL, "rounding up would wrap");
}

TEST(new_memory_is_zero_and_aligned)
{
    for (size_t align = 16; align <= 4096; align *= 2) {
        unsigned char *p = rv_new_aligned(&rv_heap, align, 100);
        CHECK(p && (uintptr_t)p % align == 0, "%p is not a multiple of %zu", (void *)p, align);
        for (int i = 0; i < 100; i++) {
            CHECK(p[i] == 0, "byte %d is %d", i, p[i]);
        }
        rv_free(&rv_heap, p);
    }
    int *numbers = rv_new_array(&rv_heap, 50, sizeof *numbers);
    CHECK(numbers && numbers[0] == 0 && numbers[49] == 0, "not zeroed");
    numbers = rv_resize(&rv_heap, numbers, 5000 * sizeof *numbers);
    CHECK(numbers && numbers[49] == 0, "resize lost what was there");
    rv_free(&rv_heap, numbers);
    void *empty = rv_new_array(&rv_heap, 0, 8);
    CHECK(empty != NULL, "an empty array is not a failure");
    rv_free(&rv_heap, empty);
    rv_free(&rv_heap, NULL);
}

TEST(copies_of_strings_are_terminated)
{
    char *a = rv_strdup(&rv_heap, "hello"), *b = rv_strndup(&rv_heap, "hello", 2),
         *c = rv_strndup(&rv_heap, NULL, 0);
    CHECK(a && strcmp(a, "hello") == 0, "%s", a);
    CHECK(b && strcmp(b, "he") == 0, "%s", b);
    CHECK(c && strcmp(c, "") == 0, "%s", c);
    rv_free(&rv_heap, a);
    rv_free(&rv_heap, b);
    rv_free(&rv_heap, c);
}

TEST(the_failing_allocator_fails_once_and_counts)
{
    test_mem m;
    test_mem_init(&m);
    m.fail_at = 2;
    void *a = rv_new(&m.alloc, 10), *b = rv_new(&m.alloc, 10), *c = rv_new_aligned(&m.alloc, 64, 10);
    CHECK(a && !b && c && m.failed, "the second call, and only that, fails");
    CHECK(m.live == 2 && m.calls == 3, "live %ld calls %ld", m.live, m.calls);
    rv_free(&m.alloc, a);
    rv_free(&m.alloc, c);
    CHECK(m.live == 0, "live %ld", m.live);
    a = rv_new(&m.alloc, 1);
    CHECK(a && m.live == 1, "later calls work");
    rv_free(&m.alloc, a);
}
