/* What are patterns of questions worth, and what does asking them cost?
 *
 *     bench_learn_patterns look N DIM            look-up among N patterns: time, and how often it is the nearest
 *     bench_learn_patterns route EMBEDDER ROWS.jsonl TIER,TIER,..    (cheapest first; the last is the usual one)
 *
 * route: every training row is answered by one tier, drawn evenly, and rated with what the file says; then every test row goes where the bank
 * advises, else to the usual tier. Printed beside it: always the usual tier, and the same share of requests sent to the same tiers at random. Mean of
 * three seeds. */
#include "bench.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/rng.h"
#include "embed/embed.h"
#include "learn/patterns.h"
#include "routing_rows.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* ---- look ---- */

/* Topics with something of their own in each, as questions have; every one is a pattern of its own. */
static void draw(float *v, size_t dim, const float *topics, size_t n_topics, rv_rng *rng)
{
    const float *topic = topics + rv_rng_below(rng, n_topics) * dim;
    double length = 0;
    for (size_t d = 0; d < dim; d++) {
        v[d] = topic[d] + rv_rng_normal(rng) / sqrtf((float)dim);
        length += (double)v[d] * v[d];
    }
    for (size_t d = 0; d < dim; d++) {
        v[d] = (float)(v[d] / sqrt(length));
    }
}

/* The file format is the shortest way to many patterns. */
static rv_patterns *many(size_t n, size_t dim, const float *topics, size_t n_topics, rv_rng *rng)
{
    size_t record = 20 + dim, bytes = 48 + n * record;
    uint8_t *file = calloc(1, bytes), *at = file + 48;
    float *v = malloc(dim * sizeof *v);
    rv_patterns *p = NULL;
    uint32_t head[] = { 1, (uint32_t)dim, 0, (uint32_t)n };
    uint64_t next = n + 1;
    memcpy(file, "rvpatt\r\n", 8);
    memcpy(file + 8, head, sizeof head);
    memcpy(file + 24, &next, 8);
    for (size_t i = 0; i < n; i++, at += record) {
        uint64_t id = i + 1;
        float age = 3, scale = 1.0f / 127;
        draw(v, dim, topics, n_topics, rng);
        memcpy(at, &id, 8);
        memcpy(at + 8, &age, 4);
        memcpy(at + 12, &scale, 4);
        for (size_t d = 0; d < dim; d++) {
            at[20 + d] = (uint8_t)(int8_t)lrintf(v[d] * 127);
        }
    }
    must(rv_patterns_read(&rv_heap, file, bytes, &p));
    free(file);
    free(v);
    return p;
}

static void look(size_t n, size_t dim)
{
    enum { ASKED = 2000, TOPICS = 500 };
    rv_rng rng;
    rv_rng_init(&rng, 1);
    float *topics = malloc(TOPICS * dim * sizeof *topics), *v = malloc(ASKED * dim * sizeof *v);
    for (size_t i = 0; i < TOPICS * dim; i++) {
        topics[i] = rv_rng_normal(&rng) / sqrtf((float)dim);
    }
    rv_patterns *p = many(n, dim, topics, TOPICS, &rng);
    double start = rv_clock_ms(), *ms = malloc(ASKED * sizeof *ms);
    must(rv_patterns_seal(p));
    double seal = rv_clock_ms() - start;
    size_t same = 0;
    for (size_t i = 0; i < ASKED; i++) {
        draw(v + i * dim, dim, topics, TOPICS, &rng);
    }
    for (size_t i = 0; i < ASKED; i++) {
        double from = rv_clock_ms();
        size_t found = rv_patterns_find(p, v + i * dim, NULL);
        ms[i] = rv_clock_ms() - from;
        if (i < 500) {
            same += found == rv_patterns_exact(p, v + i * dim, NULL);
        }
    }
    qsort(ms, ASKED, sizeof *ms, by_value);
    printf("{\"patterns\": %zu, \"dim\": %zu, \"p50_us\": %.0f, \"p99_us\": %.0f, \"nearest\": %.3f, "
           "\"seal_ms\": %.0f}\n",
           n, dim, 1000 * ms[ASKED / 2], 1000 * ms[ASKED * 99 / 100], (double)same / 500, seal);
    rv_patterns_free(p);
    free(topics);
    free(v);
    free(ms);
}

/* ---- route ---- */

typedef struct row {
    float *vector;
    double ok[RV_PATTERN_MODELS];
    bool test;
} row;

static size_t read_rows(const char *path, const rv_embed *embed, const char *const *tiers, size_t n_tiers,
                        row **out)
{
    routing_rows from = routing_rows_read(path);
    row *rows = memory(calloc(from.n + 1, sizeof *rows));
    size_t n = from.n;
    for (size_t i = 0; i < n; i++) {
        rows[i].test = from.at[i].test;
        rows[i].vector = memory(malloc(rv_embed_dim(embed) * sizeof(float)));
        must(rv_embed_text(embed, from.at[i].prompt, strlen(from.at[i].prompt), rows[i].vector));
        for (size_t t = 0; t < n_tiers; t++) {
            rows[i].ok[t] = from.at[i].ok[routing_tier(&from, tiers[t])];
        }
    }
    routing_rows_free(&from);
    *out = rows;
    return n;
}

/* Sums over seeds: requests, those sent elsewhere, quality of always the usual, of the advice, of the same at random. */
typedef struct tally {
    double n, sent, usual, advised, random, to[RV_PATTERN_MODELS];
} tally;

static void measure(const row *rows, size_t n, size_t dim, const char *const *tiers, size_t n_tiers,
                    uint64_t seed, tally *t)
{
    rv_patterns *p = NULL;
    rv_patterns_grown grown;
    rv_rng rng;
    rv_rng_init(&rng, seed);
    float *v = malloc(n * dim * sizeof *v);
    size_t train = 0, tests = 0;
    double mean[RV_PATTERN_MODELS] = { 0 };
    for (size_t i = 0; i < n; i++) {
        if (!rows[i].test) {
            memcpy(v + train++ * dim, rows[i].vector, dim * sizeof *v);
        }
    }
    must(rv_patterns_new(&rv_heap, dim, tiers, n_tiers, &p));
    must(rv_patterns_learn(p, v, train < 10000 ? train : 10000, seed, &grown));
    must(rv_patterns_seal(p));
    for (size_t i = 0; i < n; i++) {
        size_t tier = (size_t)rv_rng_below(&rng, n_tiers);
        if (!rows[i].test) {
            rv_patterns_observe(p, rows[i].vector, tier, rows[i].ok[tier], 1, true);
        }
    }
    tally now = { 0 };
    for (size_t i = 0; i < n; i++) {
        if (!rows[i].test) {
            continue;
        }
        rv_pattern_advice a = rv_patterns_advise(p, rv_patterns_find(p, rows[i].vector, NULL), n_tiers - 1);
        size_t tier = a.model < n_tiers ? a.model : n_tiers - 1;
        tests++;
        now.sent += tier != n_tiers - 1;
        now.to[tier]++;
        now.usual += rows[i].ok[n_tiers - 1];
        now.advised += rows[i].ok[tier];
        for (size_t m = 0; m < n_tiers; m++) {
            mean[m] += rows[i].ok[m];
        }
    }
    t->n += (double)tests;
    t->sent += now.sent;
    t->usual += now.usual;
    t->advised += now.advised;
    for (size_t m = 0; m < n_tiers; m++) {
        t->random += now.to[m] * mean[m] / (double)tests;
        t->to[m] += now.to[m];
    }
    rv_patterns_free(p);
    free(v);
}

static void route(const char *embedder, const char *path, char *list)
{
    const char *tiers[RV_PATTERN_MODELS];
    size_t n_tiers = 0;
    rv_embed *embed;
    row *rows;
    tally t = { 0 };
    for (char *name = strtok(list, ","); name && n_tiers < RV_PATTERN_MODELS; name = strtok(NULL, ",")) {
        tiers[n_tiers++] = name;
    }
    must(rv_embed_open(&rv_heap, embedder, &embed));
    size_t n = read_rows(path, embed, tiers, n_tiers, &rows);
    for (uint64_t seed = 1; seed <= 3; seed++) {
        measure(rows, n, rv_embed_dim(embed), tiers, n_tiers, seed, &t);
    }
    printf("{\"rows\": \"%s\", \"tests\": %.0f, \"sent_elsewhere\": %.3f, \"quality_usual\": %.4f, "
           "\"quality_advised\": %.4f, "
           "\"quality_same_share_at_random\": %.4f}\n",
           strrchr(path, '/') ? strrchr(path, '/') + 1 : path, t.n / 3, t.sent / t.n, t.usual / t.n,
           t.advised / t.n, t.random / t.n);
    for (size_t i = 0; i < n; i++) {
        free(rows[i].vector);
    }
    free(rows);
    rv_embed_close(embed);
}

int main(int argc, char **argv)
{
    rv_json_setup();
    if (argc == 4 && strcmp(argv[1], "look") == 0) {
        look(strtoul(argv[2], NULL, 10), strtoul(argv[3], NULL, 10));
        return 0;
    }
    if (argc == 5 && strcmp(argv[1], "route") == 0) {
        route(argv[2], argv[3], argv[4]);
        return 0;
    }
    fprintf(stderr, "bench_learn_patterns look N DIM | route EMBEDDER ROWS.jsonl TIER,TIER,..\n");
    return 2;
}
