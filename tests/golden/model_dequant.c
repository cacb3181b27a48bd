/* Weights of each type as another implementation decodes them: equal to one unit in the last place at every level. */
#include "base/json.h"
#include "kernels/kernels.h"
#include "model/gguf.h"
#include "test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check_rows(const char *model, const char *tensor, const char *values, size_t rows, size_t cols)
{
    rv_gguf *g = NULL;
    CHECK_OK(rv_gguf_open(&rv_heap, model, &g));
    const rv_gguf_tensor *t = rv_gguf_tensor_find(g, tensor);
    CHECK(t && t->dim[0] == cols && t->dim[1] >= rows, "%s: %s", model, tensor);
    float *want = malloc(rows * cols * sizeof *want), *row = malloc(cols * sizeof *row);
    FILE *f = fopen(values, "rb");
    CHECK(f && want && row && fread(want, sizeof *want, rows * cols, f) == rows * cols, "%s", values);
    fclose(f);
    size_t row_bytes = 0;
    CHECK(rv_type_row_bytes(t->type, cols, &row_bytes), "%s: rows of %zu", model, cols);
    for (int level = 0; level < RV_CPU_LEVELS; level++) {
        const rv_kernels *k = rv_kernels_at((rv_cpu_level)level);
        for (size_t r = 0; k && r < rows; r++) {
            k->expand[t->type](t->at + r * row_bytes, row, cols);
            for (size_t c = 0; c < cols; c++) {
                float x = want[r * cols + c];
                float ulp = nextafterf(fabsf(x), INFINITY) - fabsf(x);
                CHECK(fabsf(row[c] - x) <= ulp, "%s %s row %zu col %zu: %.9g, expected %.9g", k->name,
                      rv_type_get(t->type)->name, r, c, (double)row[c], (double)x);
            }
        }
    }
    free(want);
    free(row);
    rv_gguf_close(g);
}

TEST(rows_that_come_with_the_repository)
{
    check_rows(source_path("tests/data/golden/a-q8_0.gguf"), "blk.0.ffn_down.weight",
               source_path("tests/data/golden/a-q8_0.dequant.f32"), 8, 96);
}

TEST(rows_of_every_type)
{
    const char *path = shared_path("golden/lfm2/manifest.json");
    if (!path) {
        SKIP("needs ../shared/golden/lfm2");
    }
    json_t *manifest = json_load_file(path, 0, NULL);
    const json_t *list = json_object_get(manifest, "dequant");
    CHECK(json_array_size(list) >= 9, "%zu entries", json_array_size(list));
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *q = json_array_get(list, i);
        char model[256], values[256];
        snprintf(model, sizeof model, "golden/lfm2/%s", json_string_value(json_object_get(q, "file")));
        snprintf(values, sizeof values, "golden/lfm2/%s", json_string_value(json_object_get(q, "values")));
        check_rows(shared_path(model), json_string_value(json_object_get(q, "tensor")), shared_path(values),
                   (size_t)json_integer_value(json_object_get(q, "rows")),
                   (size_t)json_integer_value(json_object_get(q, "cols")));
    }
    json_decref(manifest);
}
