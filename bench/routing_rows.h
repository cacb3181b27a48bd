/* Rows of ../shared/data/routing: a prompt, and of each tier how right its answer was. */
#ifndef RV_BENCH_ROUTING_ROWS_H
#define RV_BENCH_ROUTING_ROWS_H
#include "base/json.h"
#include "bench.h"

#include <string.h>

enum { ROUTING_TIERS = 16 };

typedef struct routing_row {
    char *prompt, *task;
    double ok[ROUTING_TIERS]; /* 0 .. 1, in the order of names */
    bool test;
} routing_row;

typedef struct routing_rows {
    char names[ROUTING_TIERS][64]; /* [n_names] as the first row has them: cheapest first */
    size_t n_names, n;
    routing_row *at; /* [n] */
} routing_rows;

static inline size_t routing_tier(const routing_rows *rows, const char *name)
{
    size_t t = 0;
    while (t < rows->n_names && strcmp(rows->names[t], name) != 0) {
        t++;
    }
    if (t == rows->n_names) {
        fprintf(stderr, "%s: no such tier in these rows\n", name);
        exit(2);
    }
    return t;
}

static inline const char *routing_text(const json_t *row, const char *field)
{
    const char *text = json_string_value(json_object_get(row, field));
    return text ? text : "";
}

static inline routing_rows routing_rows_read(const char *path)
{
    routing_rows rows = { .n = 0 };
    char *line = NULL;
    size_t room = 0, size = 0;
    FILE *in = fopen(path, "r");
    if (!in) {
        fprintf(stderr, "%s: cannot be read\n", path);
        exit(2);
    }
    while (getline(&line, &room, in) > 0) {
        json_t *json = NULL, *value;
        const char *name;
        must(rv_json_parse(line, strlen(line), &json));
        if (rows.n == size) {
            size = size ? 2 * size : 1024;
            rows.at = memory(realloc(rows.at, size * sizeof *rows.at));
        }
        routing_row *r = &rows.at[rows.n++];
        *r = (routing_row){ .prompt = memory(strdup(routing_text(json, "prompt"))),
                            .task = memory(strdup(routing_text(json, "task"))),
                            .test = strcmp(routing_text(json, "split"), "test") == 0 };
        json_t *ok = json_object_get(json, "ok");
        json_object_foreach(ok, name, value)
        {
            if (rows.n == 1 && rows.n_names < ROUTING_TIERS) {
                snprintf(rows.names[rows.n_names++], sizeof rows.names[0], "%s", name);
            }
        }
        for (size_t t = 0; t < rows.n_names; t++) {
            r->ok[t] = json_number_value(json_object_get(ok, rows.names[t]));
        }
        json_decref(json);
    }
    free(line);
    fclose(in);
    return rows;
}

static inline void routing_rows_free(routing_rows *rows)
{
    for (size_t i = 0; i < rows->n; i++) {
        free(rows->at[i].prompt);
        free(rows->at[i].task);
    }
    free(rows->at);
}
#endif
