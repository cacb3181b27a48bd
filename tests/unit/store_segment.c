/* Vector files: what was appended comes back exactly; what was damaged does not come back at all. */
#include "base/rng.h"
#include "store/segment.h"
#include "test.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { DIM = 33 }; /* odd: the number behind the vector is not aligned */

static rv_segment_config config_of(const char *dir)
{
    return (rv_segment_config){
        .dir = dir, .store = 0x1122334455667788, .embedder = "toy", .dim = DIM, .max_bytes = 8192
    };
}

static rv_segments *open_in(const char *dir)
{
    rv_segments *s = NULL;
    rv_segment_config config = config_of(dir);
    CHECK_OK(rv_segments_open(&rv_heap, &config, &s));
    return s;
}

static void fill(float *v, size_t n, uint64_t seed)
{
    rv_rng rng;
    rv_rng_init(&rng, seed);
    for (size_t i = 0; i < n * DIM; i++) {
        v[i] = rv_rng_normal(&rng);
    }
}

enum { ROWS = 100 };
static float vectors[ROWS * DIM];
static int64_t ids[ROWS];
static rv_segment_row rows[ROWS];

/* ROWS rows in several files, with ids 1000 + i. */
static void fill_folder(const char *dir)
{
    rv_segments *s = open_in(dir);
    fill(vectors, ROWS, 3);
    for (size_t i = 0; i < ROWS; i++) {
        ids[i] = 1000 + (int64_t)i;
    }
    for (size_t i = 0; i < ROWS; i += 10) {
        CHECK_OK(rv_segments_append(s, ids + i, vectors + i * DIM, 10, rows + i));
    }
    rv_segments_close(s);
}

TEST(rows_come_back_exactly_and_aligned_after_a_restart)
{
    const char *dir = temp_path("vectors");
    fill_folder(dir);
    rv_segments *s = open_in(dir);
    CHECK(rows[ROWS - 1].segment > 3, "they fill %u files", rows[ROWS - 1].segment);
    for (size_t i = 0; i < ROWS; i++) {
        const float *row = NULL;
        CHECK_OK(rv_segments_get(s, rows[i], ids[i], &row));
        CHECK(memcmp(row, vectors + i * DIM, DIM * sizeof *row) == 0 && (uintptr_t)row % 64 == 0, "row %zu",
              i);
    }
    uint64_t n, bytes;
    rv_segments_size(s, &n, &bytes);
    CHECK(n == ROWS && bytes > ROWS * DIM * 4, "%llu rows, %llu bytes", (unsigned long long)n,
          (unsigned long long)bytes);
    struct stat st;
    CHECK(stat(dir, &st) == 0 && (st.st_mode & 0777) == 0700, "%o", st.st_mode);
    rv_segments_close(s);
}

TEST(appending_goes_on_after_the_last_row_that_somebody_named)
{
    const char *dir = temp_path("vectors");
    fill_folder(dir);
    rv_segments *s = open_in(dir);
    const float *row;
    rv_segment_row more;
    CHECK_OK(rv_segments_get(s, rows[ROWS - 3], ids[ROWS - 3], &row)); /* the last two are named by nobody */
    CHECK_OK(rv_segments_append(s, &(int64_t){ 5 }, vectors, 1, &more));
    CHECK(more.segment == rows[ROWS - 2].segment && more.row == rows[ROWS - 2].row, "%u/%u", more.segment,
          more.row);
    CHECK_OK(rv_segments_get(s, more, 5, &row));
    CHECK_ERR(rv_segments_get(s, rows[ROWS - 2], ids[ROWS - 2], &row), RV_E_CORRUPT);
    rv_segments_close(s);
}

TEST(a_row_is_not_taken_for_another)
{
    const char *dir = temp_path("vectors");
    fill_folder(dir);
    rv_segments *s = open_in(dir);
    const float *row = NULL;
    CHECK_ERR(rv_segments_get(s, rows[0], ids[1], &row), RV_E_CORRUPT);
    CHECK_ERR(rv_segments_get(s, (rv_segment_row){ 1, 4000000000u }, 1, &row), RV_E_CORRUPT);
    CHECK_ERR(rv_segments_get(s, (rv_segment_row){ 99, 0 }, 1, &row), RV_E_NOT_FOUND);
    rv_segment_row next;
    CHECK_OK(rv_segments_append(s, ids, vectors, 1, &next));
    CHECK(next.segment == 100 && !row, "a number that was named is not used again: %u", next.segment);
    rv_segments_close(s);
}

/* Every byte of a file, one bit each: the rows that it touches are refused, or it touches none. */
TEST(every_damaged_byte_is_seen_or_belongs_to_nobody)
{
    const char *dir = temp_path("vectors");
    fill_folder(dir);
    char path[4200];
    snprintf(path, sizeof path, "%s/00000001.seg", dir);
    struct stat st;
    CHECK(stat(path, &st) == 0, "%s", path);
    size_t in_file = 0, stride = 192, harmless = 0; /* 33 * 4 + 16, rounded up to 64 */
    while (rows[in_file].segment == 1) {
        in_file++;
    }
    for (long at = 0; at < st.st_size; at += 1) {
        FILE *f = fopen(path, "r+b");
        fseek(f, at, SEEK_SET);
        int byte = fgetc(f);
        fseek(f, at, SEEK_SET);
        fputc(byte ^ 1 << at % 8, f);
        fclose(f);
        rv_segments *s = NULL;
        rv_segment_config config = config_of(dir);
        rv_err e = rv_segments_open(&rv_heap, &config, &s);
        size_t refused = 0;
        for (size_t i = 0; !e && i < in_file; i++) {
            const float *row;
            rv_err r = rv_segments_get(s, rows[i], ids[i], &row);
            CHECK(r == RV_OK || r == RV_E_CORRUPT, "byte %ld: %s", at, rv_err_text());
            CHECK(r || memcmp(row, vectors + i * DIM, DIM * sizeof *row) == 0, "byte %ld: row %zu is wrong",
                  at, i);
            refused += r != RV_OK;
        }
        bool padding = at >= 4096 && (size_t)(at - 4096) % stride >= DIM * 4 + 16;
        harmless += padding;
        CHECK(e || refused == (padding     ? 0
                               : at < 4096 ? in_file
                                           : 1),
              "byte %ld: %zu rows refused", at, refused);
        rv_segments_close(s);
        f = fopen(path, "r+b");
        fseek(f, at, SEEK_SET);
        fputc(byte, f);
        fclose(f);
    }
    CHECK(harmless == in_file * (stride - DIM * 4 - 16), "%zu", harmless);
}

TEST(files_of_another_store_or_embedder_do_not_pass)
{
    const char *dir = temp_path("vectors");
    fill_folder(dir);
    rv_segments *s = NULL;
    rv_segment_config config = config_of(dir);
    config.store++;
    CHECK_ERR(rv_segments_open(&rv_heap, &config, &s), RV_E_CORRUPT);
    config = config_of(dir);
    config.embedder = "other";
    const float *row;
    CHECK_OK(rv_segments_open(&rv_heap, &config, &s));
    CHECK_ERR(rv_segments_get(s, rows[0], ids[0], &row), RV_E_CORRUPT);
    rv_segments_close(s);
    config = config_of(dir);
    config.dim = 0;
    CHECK_ERR(rv_segments_open(&rv_heap, &config, &s), RV_E_ARG);
    config.dim = RV_SEGMENT_DIM_MAX + 1;
    CHECK_ERR(rv_segments_open(&rv_heap, &config, &s), RV_E_ARG);
}

TEST(the_trace_of_a_crash_while_making_a_file_is_written_over)
{
    const char *dir = temp_path("vectors");
    rv_segments_close(open_in(dir));
    char path[4200];
    snprintf(path, sizeof path, "%s/00000001.seg", dir);
    FILE *f = fopen(path, "wb");
    fwrite("RVSEG", 1, 5, f);
    fclose(f);
    rv_segments *s = open_in(dir);
    rv_segment_row row;
    fill(vectors, 1, 1);
    CHECK_OK(rv_segments_append(s, &(int64_t){ 8 }, vectors, 1, &row));
    const float *at;
    CHECK_OK(rv_segments_get(s, row, 8, &at));
    rv_segments_close(s);
}

TEST(running_out_of_memory_is_reported_and_leaks_nothing)
{
    const char *dir = temp_path("vectors");
    fill_folder(dir);
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_segments *s = NULL;
        rv_segment_config config = config_of(dir);
        rv_err e = rv_segments_open(&m.alloc, &config, &s);
        rv_segment_row row;
        if (!e) {
            e = rv_segments_append(s, &(int64_t){ 8 }, vectors, 1, &row);
        }
        CHECK((e == RV_E_NOMEM) == m.failed, "call %ld: %s", m.fail_at, rv_err_text());
        rv_segments_close(s);
    }
}

TEST(a_scrub_leaves_zeros_where_nothing_is_named_and_the_rest_as_it_was)
{
    const char *dir = temp_path("vectors");
    fill_folder(dir);
    rv_segments *s = open_in(dir);
    rv_segment_row named[ROWS];
    size_t n = 0, erased = 0;
    for (size_t i = 0; i < ROWS; i++) {
        if (i % 3 == 0) {
            named[n++] = rows[i];
        }
    }
    CHECK_OK(rv_segments_scrub(s, named, n, &erased));
    CHECK(erased == ROWS - n, "%zu erased of %zu", erased, ROWS - n);
    CHECK_OK(rv_segments_scrub(s, named, n, &erased));
    CHECK(erased == 0, "%zu erased again", erased);
    rv_segments_close(s);
    s = open_in(dir);
    for (size_t i = 0; i < ROWS; i++) {
        const float *v = NULL;
        rv_err e = rv_segments_get(s, rows[i], ids[i], &v);
        CHECK(i % 3 == 0 ? !e && memcmp(v, vectors + i * DIM, DIM * sizeof *v) == 0 : e == RV_E_CORRUPT,
              "row %zu: %d", i, e);
    }
    rv_segments_close(s);
}

/* The named rows [n] of files that are left are appended again, and named there. */
static void move_left(rv_segments *s, rv_segment_row *named, size_t n, const size_t *which)
{
    for (size_t i = 0; i < n; i++) {
        if (rv_segments_is_left(s, named[i].segment)) {
            CHECK_OK(rv_segments_append(s, &ids[which[i]], vectors + which[i] * DIM, 1, &named[i]));
        }
    }
}

TEST(sparse_files_are_left_and_removed_once_nobody_names_their_rows)
{
    const char *dir = temp_path("vectors");
    fill_folder(dir);
    rv_segments *s = open_in(dir);
    rv_segment_row named[ROWS];
    size_t which[ROWS], n = 0, removed = 0, kept_files = 0;
    const float *old[ROWS];
    uint32_t half = rows[ROWS - 1].segment / 2;
    for (size_t i = 0; i < ROWS;
         i++) { /* of the first half of the files one row in five stays, of the others all */
        if (rows[i].segment > half || i % 5 == 0) {
            CHECK_OK(rv_segments_get(s, rows[i], ids[i], &old[n]));
            which[n] = i;
            named[n++] = rows[i];
        }
    }
    size_t expected = 0;
    for (size_t i = 0; i < n; i++) {
        expected += named[i].segment <= half;
    }
    CHECK(expected > 0, "nothing is left");
    CHECK(rv_segments_leave(s, named, n) == expected, "%zu rows are in sparse files", expected);
    CHECK(rv_segments_is_left(s, 1) && !rv_segments_is_left(s, half + 1), "which files are left");
    move_left(s, named, n, which);
    for (size_t i = 0; i < n; i++) { /* ascending again: what was moved stands behind */
        for (size_t k = i;
             k > 0 && (named[k].segment < named[k - 1].segment ||
                       (named[k].segment == named[k - 1].segment && named[k].row < named[k - 1].row));
             k--) {
            rv_segment_row row = named[k];
            named[k] = named[k - 1], named[k - 1] = row;
            size_t number = which[k];
            which[k] = which[k - 1], which[k - 1] = number;
            const float *at = old[k];
            old[k] = old[k - 1], old[k - 1] = at;
        }
    }
    CHECK_OK(rv_segments_shed(s, named, n, &removed));
    CHECK(removed == half, "%zu files removed, %u were left", removed, half);
    for (size_t i = 0; i < n; i++) {
        CHECK(memcmp(old[i], vectors + which[i] * DIM, DIM * sizeof *old[i]) == 0, "an old row was lost: %zu",
              i);
    }
    uint64_t n_rows, bytes;
    rv_segments_size(s, &n_rows, &bytes);
    CHECK(n_rows == n, "%llu rows for %zu", (unsigned long long)n_rows, n);
    rv_segments_close(s);

    s = open_in(dir);
    for (size_t i = 0; i < n; i++) {
        const float *v = NULL;
        CHECK_OK(rv_segments_get(s, named[i], ids[which[i]], &v));
        CHECK(memcmp(v, vectors + which[i] * DIM, DIM * sizeof *v) == 0, "row %zu", i);
        kept_files += named[i].segment <= half;
    }
    CHECK(kept_files == 0, "%zu rows are named in files that are gone", kept_files);
    rv_segments_close(s);
}

TEST(a_number_is_not_given_again_after_all_rows_have_gone)
{
    const char *dir = temp_path("vectors");
    fill_folder(dir);
    uint32_t last = rows[ROWS - 1].segment;
    for (int again = 0; again < 2; again++) {
        rv_segments *s = open_in(dir);
        size_t removed = 0;
        CHECK(rv_segments_leave(s, NULL, 0) == 0, "rows of nobody");
        CHECK_OK(rv_segments_shed(s, NULL, 0, &removed));
        CHECK(removed == (again ? 0 : last - 1), "%zu of %u files removed", removed, last);
        rv_segments_close(s);
    }
    rv_segments *s = open_in(dir);
    rv_segment_row row;
    CHECK_OK(rv_segments_append(s, ids, vectors, 1, &row));
    CHECK(row.segment >= last, "number %u again, %u was the last", row.segment, last);
    rv_segments_close(s);
}
