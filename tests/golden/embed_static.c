/* Word pieces and vectors of the shipped embedder against those of the tokenizers library and numpy (tools/embedder/golden.py). */
#include "embed/embed.h"
#include "embed/embed_priv.h"
#include "test.h"

#include "base/clock.h"
#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char file[] = RV_SOURCE "/models/embedder.rvemb";

typedef struct ids {
    uint32_t at[512];
    size_t n;
} ids;

static void take(void *self, uint32_t token)
{
    ids *out = self;
    if (out->n < RV_COUNT(out->at)) {
        out->at[out->n++] = token;
    }
}

static void check_one(const rv_static *s, const json_t *row)
{
    const json_t *text = json_object_get(row, "text"), *want = json_object_get(row, "ids"),
                 *first = json_object_get(row, "first");
    ids got = { .n = 0 };
    rv_static_tokens(s, json_string_value(text), json_string_length(text), take, &got);
    CHECK(got.n == json_array_size(want), "\"%s\": %zu pieces, expected %zu", json_string_value(text), got.n,
          json_array_size(want));
    for (size_t i = 0; i < got.n; i++) {
        CHECK(got.at[i] == json_integer_value(json_array_get(want, i)),
              "\"%s\": piece %zu is %u, expected %lld", json_string_value(text), i, got.at[i],
              (long long)json_integer_value(json_array_get(want, i)));
    }
    float v[4096];
    rv_static_text(s, json_string_value(text), json_string_length(text), v);
    for (size_t i = 0; i < json_array_size(first); i++) {
        double err = fabs((double)v[i] - json_number_value(json_array_get(first, i)));
        CHECK(err <= 1e-6, "\"%s\": component %zu is %g, off by %g", json_string_value(text), i, (double)v[i],
              err);
    }
}

TEST(pieces_and_vectors_are_those_of_the_reference)
{
    rv_static *s = NULL;
    CHECK_OK(rv_static_open(&rv_heap, file, &s));
    FILE *in = fopen(RV_SOURCE "/tests/data/golden/embedder.jsonl", "rb");
    CHECK(in, "tests/data/golden/embedder.jsonl cannot be read");
    char *line = NULL;
    size_t room = 0, rows = 0;
    for (ssize_t n; (n = getline(&line, &room, in)) > 0; rows++) {
        json_t *row = NULL;
        CHECK_OK(rv_json_parse(line, (size_t)n - 1, &row));
        CHECK(strcmp(json_string_value(json_object_get(row, "embedder")), rv_static_name(s)) == 0, "%s",
              rv_static_name(s));
        check_one(s, row);
        json_decref(row);
    }
    CHECK(rows >= 15, "%zu texts", rows);
    free(line);
    fclose(in);
    rv_static_close(s);
}

TEST(the_shipped_embedder_knows_that_words_mean_the_same)
{
    static const char *const texts[][3] = {
        { "When does the shop close?", "The store shuts at six in the evening.",
          "The river is full of fish." },
        { "the doctor treats a patient", "a physician at the hospital", "a lawyer at the court" },
        { "how to read a file in python", "def load(path): return open(path).read()",
          "def add(a, b): return a + b" },
    };
    rv_embed *embed = NULL;
    CHECK_OK(rv_embed_open(&rv_heap, file, &embed));
    size_t dim = rv_embed_dim(embed);
    float v[3][4096];
    for (size_t i = 0; i < RV_COUNT(texts); i++) {
        double near = 0, far = 0;
        for (size_t k = 0; k < 3; k++) {
            CHECK_OK(rv_embed_text(embed, texts[i][k], strlen(texts[i][k]), v[k]));
        }
        for (size_t d = 0; d < dim; d++) {
            near += (double)v[0][d] * (double)v[1][d];
            far += (double)v[0][d] * (double)v[2][d];
        }
        CHECK(near > far + 0.1, "\"%s\": %.3f to its like, %.3f to another", texts[i][0], near, far);
    }
    rv_embed_close(embed);
}
