/* How well does an embedder find, and how long does a text take? bench_embed_recall FOLDER [QUERIES] reads the sets of
 * FOLDER (X.docs.jsonl with {"id","text"}, X.queries.jsonl with {"id","q","rel":[id],"scope"?}), ranks all documents
 * by exact cosine for the first QUERIES (300) questions of each set, and prints one JSON line per set: the mean share of the relevant
 * documents among the first ten, and microseconds per embedded kilobyte. */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "embed/embed.h"
#include "kernels/kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOP = 10 };
static const char *const sets[] = { "xquad", "squadsent", "scifact", "covidqa", "locomo", "cosqa" };

typedef struct doc {
    json_t *json; /* holds id */
    const char *id;
    float *vector;
} doc;

static const rv_embed *embedder;
static double embed_ms, embed_bytes;

static float *embed(const char *text)
{
    float *v = rv_new_array(&rv_heap, rv_embed_dim(embedder), sizeof *v);
    double from = rv_clock_ms();
    if (!v || rv_embed_text(embedder, text, strlen(text), v)) {
        exit(1);
    }
    embed_ms += rv_clock_ms() - from;
    embed_bytes += (double)strlen(text);
    return v;
}

/* LoCoMo is searched inside one conversation: ids begin with its name. */
static bool in_scope(const char *id, const char *scope)
{
    return !scope || strncmp(id, scope, strlen(scope)) == 0;
}

static double recall_of(const doc *docs, size_t n_docs, const json_t *query)
{
    size_t dim = rv_embed_dim(embedder), best[TOP], n = 0;
    float score[TOP], *q = embed(json_string_value(json_object_get(query, "q")));
    const char *scope = json_string_value(json_object_get(query, "scope"));
    for (size_t d = 0; d < n_docs; d++) {
        float s = in_scope(docs[d].id, scope) ? rv_kernels_best()->dot_f32(q, docs[d].vector, dim) : -2.0f;
        if (n < TOP || s > score[TOP - 1]) {
            size_t at = n < TOP ? n++ : TOP - 1;
            for (; at > 0 && score[at - 1] < s; at--) {
                score[at] = score[at - 1];
                best[at] = best[at - 1];
            }
            score[at] = s;
            best[at] = d;
        }
    }
    rv_free(&rv_heap, q);
    size_t i, found = 0;
    json_t *want, *rel = json_object_get(query, "rel");
    json_array_foreach(rel, i, want)
    {
        for (size_t k = 0; k < n; k++) {
            found += strcmp(docs[best[k]].id, json_string_value(want)) == 0;
        }
    }
    return (double)found / (double)json_array_size(rel);
}

static json_t *next_line(FILE *f, char **line, size_t *room)
{
    ssize_t n = getline(line, room, f);
    return n > 0 ? json_loadb(*line, (size_t)n, JSON_ALLOW_NUL, NULL) : NULL;
}

static void run_set(const char *folder, const char *set, size_t limit)
{
    char path[4096], *line = NULL;
    size_t room = 0, n_docs = 0, room_docs = 0, n_queries = 0;
    doc *docs = NULL;
    json_t *json;
    embed_ms = embed_bytes = 0;

    snprintf(path, sizeof path, "%s/%s.docs.jsonl", folder, set);
    FILE *f = fopen(path, "r");
    if (!f) {
        fprintf(stderr, "%s is not there\n", path);
        return;
    }
    while ((json = next_line(f, &line, &room))) {
        if (n_docs == room_docs) {
            room_docs = room_docs ? 2 * room_docs : 1024;
            docs = rv_resize(&rv_heap, docs, room_docs * sizeof *docs);
        }
        docs[n_docs++] = (doc){ json, json_string_value(json_object_get(json, "id")),
                                embed(json_string_value(json_object_get(json, "text"))) };
    }
    fclose(f);

    double sum = 0;
    snprintf(path, sizeof path, "%s/%s.queries.jsonl", folder, set);
    f = fopen(path, "r");
    while (f && n_queries < limit && (json = next_line(f, &line, &room))) {
        if (json_array_size(json_object_get(json, "rel")) > 0) {
            sum += recall_of(docs, n_docs, json);
            n_queries++;
        }
        json_decref(json);
    }
    printf("{\"bench\":\"embed_recall\",\"embedder\":\"%s\",\"set\":\"%s\",\"docs\":%zu,\"queries\":%zu,"
           "\"recall_at_10\":%.4f,\"us_per_kb\":%.2f}\n",
           rv_embed_name(embedder), set, n_docs, n_queries, n_queries ? sum / (double)n_queries : 0.0,
           1000.0 * embed_ms / (embed_bytes / 1024.0));
    if (f) {
        fclose(f);
    }
    for (size_t d = 0; d < n_docs; d++) {
        rv_free(&rv_heap, docs[d].vector);
        json_decref(docs[d].json);
    }
    rv_free(&rv_heap, docs);
    free(line);
}

int main(int argc, char **argv)
{
    rv_embed *e;
    if (argc < 2 || rv_embed_open(&rv_heap, "hash", &e)) {
        fprintf(stderr, "usage: bench_embed_recall FOLDER [QUERIES]\n");
        return 2;
    }
    embedder = e;
    for (size_t i = 0; i < RV_COUNT(sets); i++) {
        run_set(argv[1], sets[i], argc > 2 ? strtoul(argv[2], NULL, 10) : 300);
    }
    rv_embed_close(e);
    return 0;
}
