/* Does consolidation keep what was learned, and what does it cost the new? Five tasks of handwritten digits one after the other, a small
 * network, with and without consolidation (learn/ewc.h) and replay from a reservoir (learn/reservoir.h); three seeds. Each row prints
 * accuracy over all tasks at the end, forgetting, and accuracy on each task when it was new, because none means much alone.
 *
 *     bench_learn_continual FOLDER [SETTING LAMBDA REPLAY [BOUNDARIES]]      with the four MNIST files of yann.lecun.com's names, gzip
 *
 *     bench_learn_continual boundary | stream EMBEDDER FILE...      the test of boundaries alone, on drawn vectors or on questions of files
 *
 * Boundaries between tasks are told (0), and the Fisher information is measured at each; or they are told and it is gathered while learning (1); or nobody says
 * where a task ends: bench/boundary.h sees it in the pixels (2).
 *
 * Network, data and measure: 784-100-100-10, SGD 0.1, batch 64, two passes. Permuted: 12,000 rows a task, pixels in another order each
 * time. Split: two digits a task, 20,000 rows in all; "domain" asks odd or even, "class" which digit. */
#include "boundary.h"
#include "embed/embed.h"
#include "base/json.h"
#include "learn/ewc.h"
#include "learn/reservoir.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PIXELS = 784,
    HIDDEN = 100,
    CLASSES = 10,
    TASKS = 5,
    BATCH = 64,
    PASSES = 2,
    FISHER_SAMPLES = 2000,
    TEST_ROWS = 10000
};
enum {
    W1 = 0,
    B1 = W1 + PIXELS * HIDDEN,
    W2 = B1 + HIDDEN,
    B2 = W2 + HIDDEN * HIDDEN,
    W3 = B2 + HIDDEN,
    B3 = W3 + HIDDEN * CLASSES,
    WEIGHTS = B3 + CLASSES
};
enum { PERMUTED, DOMAIN, CLASS, SETTINGS };
static const char *const setting_names[] = { "permuted", "split domain", "split class" };

typedef struct digits {
    uint8_t *pixels, *labels;
    size_t n;
} digits;

typedef struct item {
    float x[PIXELS];
    int label;
} item;

static void *must(void *p)
{
    if (!p) {
        fprintf(stderr, "no memory\n");
        exit(1);
    }
    return p;
}

static uint8_t *unpack(const char *folder, const char *name, size_t head, size_t n)
{
    char command[4096];
    snprintf(command, sizeof command, "gzip -dc '%s/%s'", folder, name);
    FILE *in = popen(command, "r");
    uint8_t skip[16], *bytes = must(malloc(n));
    if (!in || fread(skip, 1, head, in) != head || fread(bytes, 1, n, in) != n) {
        fprintf(stderr, "%s/%s: cannot be read\n", folder, name);
        exit(2);
    }
    pclose(in);
    return bytes;
}

static digits load(const char *folder, const char *part, size_t n)
{
    char images[64], labels[64];
    snprintf(images, sizeof images, "%s-images-idx3-ubyte.gz", part);
    snprintf(labels, sizeof labels, "%s-labels-idx1-ubyte.gz", part);
    return (digits){ unpack(folder, images, 16, n * PIXELS), unpack(folder, labels, 8, n), n };
}

/* ---- the network ---- */

typedef struct net {
    float w[WEIGHTS], g[WEIGHTS];
    float h1[HIDDEN], h2[HIDDEN], out[CLASSES];
} net;

static void layer(const float *w, const float *b, const float *x, size_t n_in, size_t n_out, float *y)
{
    memcpy(y, b, n_out * sizeof *y);
    for (size_t i = 0; i < n_in; i++) {
        if (x[i] != 0) {
            for (size_t j = 0; j < n_out; j++) {
                y[j] += x[i] * w[i * n_out + j];
            }
        }
    }
}

static void forward(net *m, const float *x)
{
    layer(m->w + W1, m->w + B1, x, PIXELS, HIDDEN, m->h1);
    for (size_t i = 0; i < HIDDEN; i++) {
        m->h1[i] = m->h1[i] > 0 ? m->h1[i] : 0;
    }
    layer(m->w + W2, m->w + B2, m->h1, HIDDEN, HIDDEN, m->h2);
    for (size_t i = 0; i < HIDDEN; i++) {
        m->h2[i] = m->h2[i] > 0 ? m->h2[i] : 0;
    }
    layer(m->w + W3, m->w + B3, m->h2, HIDDEN, CLASSES, m->out);
    float most = m->out[0], sum = 0;
    for (size_t i = 1; i < CLASSES; i++) {
        most = fmaxf(most, m->out[i]);
    }
    for (size_t i = 0; i < CLASSES; i++) {
        m->out[i] = expf(m->out[i] - most);
        sum += m->out[i];
    }
    for (size_t i = 0; i < CLASSES; i++) {
        m->out[i] /= sum;
    }
}

static void layer_back(const float *w, const float *x, const float *dy, size_t n_in, size_t n_out, float *gw,
                       float *gb, float *dx)
{
    for (size_t j = 0; j < n_out; j++) {
        gb[j] += dy[j];
    }
    for (size_t i = 0; i < n_in; i++) {
        float sum = 0;
        if (x[i] != 0) { /* a closed unit has no gradient, and a black pixel gives none */
            for (size_t j = 0; j < n_out; j++) {
                gw[i * n_out + j] += x[i] * dy[j];
                sum += dx ? w[i * n_out + j] * dy[j] : 0;
            }
        }
        if (dx) {
            dx[i] = sum;
        }
    }
}

/* After forward: g += weight * gradient of -log p(label). */
static void backward(net *m, const float *x, int label, float weight)
{
    float d3[CLASSES], d2[HIDDEN], d1[HIDDEN];
    for (int i = 0; i < CLASSES; i++) {
        d3[i] = weight * (m->out[i] - (i == label ? 1.0f : 0.0f));
    }
    layer_back(m->w + W3, m->h2, d3, HIDDEN, CLASSES, m->g + W3, m->g + B3, d2);
    layer_back(m->w + W2, m->h1, d2, HIDDEN, HIDDEN, m->g + W2, m->g + B2, d1);
    layer_back(m->w + W1, x, d1, PIXELS, HIDDEN, m->g + W1, m->g + B1, NULL);
}

static void init(net *m, rv_rng *rng)
{
    static const struct {
        size_t from, n_in, n_out;
    } layers[] = { { W1, PIXELS, HIDDEN }, { W2, HIDDEN, HIDDEN }, { W3, HIDDEN, CLASSES } };
    memset(m, 0, sizeof *m);
    for (size_t l = 0; l < 3; l++) {
        float width = sqrtf(2.0f / (float)layers[l].n_in);
        for (size_t i = 0; i < layers[l].n_in * layers[l].n_out; i++) {
            m->w[layers[l].from + i] = width * rv_rng_normal(rng);
        }
    }
}

/* ---- tasks ---- */

typedef struct method {
    int setting;
    float lambda; /* 0: no consolidation */
    size_t replay;
    int boundaries;
} method;
enum { TOLD, ONLINE, SEEN };
static const char *const boundary_names[] = { "told", "told, Fisher while learning",
                                              "seen, Fisher while learning" };

typedef struct task {
    item *train, *test;
    size_t n_train, n_test;
} task;

static size_t take(const digits *d, size_t *at, int setting, int number, const size_t *order, size_t wanted,
                   item *out)
{
    size_t n = 0;
    for (; *at < d->n && n < wanted; (*at)++) {
        int digit = d->labels[*at];
        if (setting != PERMUTED && digit / 2 != number) {
            continue;
        }
        for (size_t i = 0; i < PIXELS; i++) {
            out[n].x[i] = (float)d->pixels[*at * PIXELS + order[i]] / 255 * 3.25f; /* variance 1 */
        }
        out[n++].label = setting == DOMAIN ? digit % 2 : digit;
    }
    return n;
}

static void make_tasks(const digits *train, const digits *test, int setting, rv_rng *rng, task *tasks)
{
    size_t order[PIXELS], at = 0;
    for (size_t i = 0; i < PIXELS; i++) {
        order[i] = i;
    }
    for (int t = 0; t < TASKS; t++) {
        size_t n = setting == PERMUTED ? 12000 : 4000, from = setting == PERMUTED ? at : 0, from_test = 0;
        tasks[t].train = must(calloc(n, sizeof(item)));
        tasks[t].test = must(calloc(TEST_ROWS, sizeof(item)));
        tasks[t].n_train = take(train, &from, setting, t, order, n, tasks[t].train);
        tasks[t].n_test = take(test, &from_test, setting, t, order, TEST_ROWS, tasks[t].test);
        at = from;
        if (setting == PERMUTED) {
            at = at + 12000 > train->n ? 0 : at;
            for (size_t i = PIXELS; i > 1; i--) {
                size_t j = (size_t)rv_rng_below(rng, i), k = order[i - 1];
                order[i - 1] = order[j];
                order[j] = k;
            }
        }
    }
}

static double accuracy(net *m, const task *t)
{
    size_t right = 0;
    for (size_t i = 0; i < t->n_test; i++) {
        int best = 0;
        forward(m, t->test[i].x);
        for (int c = 1; c < CLASSES; c++) {
            best = m->out[c] > m->out[best] ? c : best;
        }
        right += best == t->test[i].label;
    }
    return (double)right / (double)t->n_test;
}

/* The gradient of a label that the network draws itself: the true Fisher. */
static void observe_one(net *m, const item *it, rv_ewc *guard, rv_rng *rng)
{
    forward(m, it->x);
    double u = rv_rng_unit(rng);
    int label = 0;
    while (label + 1 < CLASSES && (u -= (double)m->out[label]) >= 0) {
        label++;
    }
    memset(m->g, 0, sizeof m->g);
    backward(m, it->x, label, 1);
    rv_ewc_observe(guard, m->g);
}

static void observe(net *m, const task *t, rv_ewc *guard, rv_rng *rng)
{
    for (int s = 0; s < FISHER_SAMPLES; s++) {
        observe_one(m, &t->train[rv_rng_below(rng, t->n_train)], guard, rng);
    }
}

/* What is known only as rows go by. */
typedef struct stream {
    int boundaries;
    boundary *watch;
    float settled[WEIGHTS]; /* of when the last window that was like those before it ended */
    size_t rows, seen;      /* boundaries */
} stream;

/* A row that is learned from; before its batch's step. */
static void pass_row(stream *s, net *m, const item *it, rv_ewc *guard, rv_rng *rng)
{
    if (s->boundaries != TOLD && s->rows % 16 == 0) { /* 6 % more work */
        observe_one(m, it, guard, rng);
    }
    s->rows++;
    if (s->boundaries != SEEN) {
        return;
    }
    if (boundary_see(s->watch, it->x)) {
        s->seen++;
        rv_ewc_task_end(guard, s->settled, 1);
    } else if (s->rows % BOUNDARY_WINDOW == 0 && !s->watch->doubts) {
        memcpy(s->settled, m->w, sizeof s->settled);
    }
}

/* Each of the tasks so far has the same say: the new one once, the kept rows for all before it. */
static void learn(net *m, const task *t, int number, rv_ewc *guard, stream *s, const item *kept,
                  size_t n_kept, rv_rng *rng)
{
    const float rate = 0.1f, fresh = n_kept ? 1 / (float)(number + 1) : 1, old = 1 - fresh;
    size_t *order = must(calloc(t->n_train, sizeof *order));
    for (size_t i = 0; i < t->n_train; i++) {
        order[i] = i;
    }
    for (size_t step = 0; step < PASSES * t->n_train / BATCH; step++) {
        for (size_t i = 0; i < BATCH; i++) { /* the next of a shuffled pass */
            size_t at = (step * BATCH + i) % t->n_train, j = at + (size_t)rv_rng_below(rng, t->n_train - at),
                   k = order[at];
            order[at] = order[j];
            order[j] = k;
            if (guard) {
                pass_row(s, m, &t->train[order[at]], guard, rng);
            }
        }
        memset(m->g, 0, sizeof m->g);
        for (size_t i = 0; i < (n_kept ? 2 : 1) * (size_t)BATCH; i++) {
            size_t at = (step * BATCH + i) % t->n_train;
            const item *it = i < BATCH ? &t->train[order[at]] : &kept[rv_rng_below(rng, n_kept)];
            forward(m, it->x);
            backward(m, it->x, it->label, (i < BATCH ? fresh : old) / BATCH);
        }
        for (size_t i = 0; i < WEIGHTS; i++) {
            m->w[i] -= rate * m->g[i];
        }
        if (guard) {
            rv_ewc_step(guard, rate, m->w);
        }
    }
    free(order);
}

typedef struct outcome {
    double all, forgotten, fresh, seen; /* seen: boundaries, of TASKS - 1 */
} outcome;

static outcome run(const digits *train, const digits *test, const method *how, uint64_t seed)
{
    rv_rng rng;
    rv_rng_init(&rng, seed);
    task tasks[TASKS] = { 0 };
    double grid[TASKS][TASKS];
    net *m = must(malloc(sizeof *m));
    rv_ewc *guard = NULL;
    rv_reservoir reservoir;
    item *kept = must(calloc(how->replay + 1, sizeof *kept));
    rv_reservoir_init(&reservoir, how->replay, seed);
    make_tasks(train, test, how->setting, &rng, tasks);
    init(m, &rng);
    stream *s = must(calloc(1, sizeof *s));
    s->boundaries = how->boundaries;
    s->watch = must(boundary_new(PIXELS, seed));
    if (how->lambda > 0 && rv_ewc_new(&rv_heap, WEIGHTS, how->lambda, &guard)) {
        exit(1);
    }
    for (int t = 0; t < TASKS; t++) {
        size_t n_kept = reservoir.seen < how->replay ? (size_t)reservoir.seen : how->replay, slot;
        learn(m, &tasks[t], t, guard, s, kept, n_kept, &rng);
        for (size_t i = 0; i < tasks[t].n_train && how->replay; i++) {
            if (rv_reservoir_offer(&reservoir, &slot)) {
                kept[slot] = tasks[t].train[i];
            }
        }
        if (guard && how->boundaries == TOLD) {
            observe(m, &tasks[t], guard, &rng);
        }
        if (guard && how->boundaries != SEEN) {
            rv_ewc_task_end(guard, m->w, 1);
        }
        for (int u = 0; u <= t; u++) {
            grid[t][u] = accuracy(m, &tasks[u]);
        }
    }
    outcome o = { 0 };
    for (int u = 0; u < TASKS; u++) {
        double best = 0;
        for (int t = u; t < TASKS; t++) {
            best = fmax(best, grid[t][u]);
        }
        o.all += grid[TASKS - 1][u] / TASKS;
        o.fresh += grid[u][u] / TASKS;
        o.forgotten += u + 1 < TASKS ? (best - grid[TASKS - 1][u]) / (TASKS - 1) : 0;
        free(tasks[u].train);
        free(tasks[u].test);
    }
    o.seen = (double)s->seen;
    boundary_free(s->watch);
    free(s);
    rv_ewc_free(guard);
    free(kept);
    free(m);
    return o;
}

/* ---- the test of boundaries alone ---- */

enum { DIM = 768, STATIONARY = 50000, AT = 2050, SHIFTS = 5 };

/* Vectors of unit length around a middle, spread over directions of very different size, as embeddings are. */
static double spread_of(size_t i)
{
    return i < 8 ? 3 : 0.3 + (double)(i % 10) / 10;
}

static void draw(rv_rng *rng, const float *shift, float *out)
{
    double length = 0;
    for (size_t i = 0; i < DIM; i++) {
        out[i] = (float)spread_of(i) * rv_rng_normal(rng) + 2 * (i % 7 == 0) + (shift ? shift[i] : 0);
        length += (double)out[i] * (double)out[i];
    }
    for (size_t i = 0; i < DIM; i++) {
        out[i] = (float)((double)out[i] / sqrt(length));
    }
}

/* Of vectors whose mean does not move; and of ones whose mean moves by 0.3 of their spread, the root of the sum of their variances. */
static void gates(uint64_t seed)
{
    rv_rng rng;
    float x[DIM], shift[DIM];
    double spread = 0, length = 0;
    size_t alarms = 0, before = 0, after = 0;
    rv_rng_init(&rng, seed);
    boundary *b = must(boundary_new(DIM, seed));
    for (int i = 0; i < STATIONARY; i++) {
        draw(&rng, NULL, x);
        alarms += boundary_see(b, x);
    }
    boundary_free(b);
    for (size_t i = 0; i < DIM; i++) {
        spread += spread_of(i) * spread_of(i);
        shift[i] = rv_rng_normal(&rng);
        length += (double)shift[i] * (double)shift[i];
    }
    for (size_t i = 0; i < DIM; i++) {
        shift[i] *= (float)(0.3 * sqrt(spread / length));
    }
    b = must(boundary_new(DIM, seed));
    for (int i = 0; i < AT; i++) {
        draw(&rng, NULL, x);
        before += boundary_see(b, x);
    }
    for (bool seen = false; !seen && after < STATIONARY; after++) {
        draw(&rng, shift, x);
        seen = boundary_see(b, x);
    }
    boundary_free(b);
    printf("{\"seed\":%d,\"stationary\":%d,\"false_alarms\":%zu,\"shifted_at\":%d,\"false_alarms_before\":%"
           "zu,\"seen_after\":%zu}\n",
           (int)seed, STATIONARY, alarms, AT, before, after);
}

/* Questions of files of JSON lines {"question"}, one after the other: where is a boundary seen? */
static void stream_of(const char *embedder, char **files, int n)
{
    rv_embed *embed;
    if (rv_embed_open(&rv_heap, embedder, &embed)) {
        fprintf(stderr, "%s\n", rv_err_text());
        exit(1);
    }
    float *v = must(calloc(rv_embed_dim(embed), sizeof *v));
    boundary *b = must(boundary_new(rv_embed_dim(embed), 1));
    size_t at = 0, room = 0;
    char *line = NULL;
    for (int i = 0; i < n; i++) {
        FILE *f = must(fopen(files[i], "r"));
        printf("{\"file\":\"%s\",\"begins_at\":%zu}\n", files[i], at);
        while (getline(&line, &room, f) > 0) {
            json_t *row = NULL;
            const char *question = rv_json_parse(line, strlen(line), &row)
                                       ? NULL
                                       : json_string_value(json_object_get(row, "question"));
            if (question && !rv_embed_text(embed, question, strlen(question), v)) {
                at++;
                if (boundary_see(b, v)) {
                    printf("{\"boundary_seen_at\":%zu}\n", at);
                }
            }
            json_decref(row);
        }
        fclose(f);
    }
    printf("{\"questions\":%zu}\n", at);
    free(line);
    boundary_free(b);
    free(v);
    rv_embed_close(embed);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "boundary") == 0) {
        for (uint64_t seed = 1; seed <= SHIFTS; seed++) {
            gates(seed);
        }
        return 0;
    }
    if (argc >= 4 && strcmp(argv[1], "stream") == 0) {
        stream_of(argv[2], argv + 3, argc - 3);
        return 0;
    }

    static const method methods[] = {
        { PERMUTED, 0, 0, TOLD },         { PERMUTED, 0.02f, 0, TOLD }, { PERMUTED, 0.02f, 0, ONLINE },
        { PERMUTED, 0.02f, 0, SEEN },     { PERMUTED, 0, 1000, TOLD },  { PERMUTED, 0.003f, 1000, TOLD },
        { PERMUTED, 0.003f, 1000, SEEN }, { DOMAIN, 0, 0, TOLD },       { DOMAIN, 0.003f, 0, TOLD },
        { DOMAIN, 0.003f, 0, SEEN },      { DOMAIN, 0, 200, TOLD },     { DOMAIN, 0, 1000, TOLD },
        { DOMAIN, 0.0005f, 1000, TOLD },  { CLASS, 0, 0, TOLD },        { CLASS, 0.003f, 0, TOLD },
        { CLASS, 0, 200, TOLD },          { CLASS, 0, 1000, TOLD },
    };
    if (argc < 2) {
        fprintf(stderr, "bench_learn_continual FOLDER [SETTING LAMBDA REPLAY [BOUNDARIES]]: the folder with "
                        "the MNIST files\n");
        return 2;
    }
    digits train = load(argv[1], "train", 60000), test = load(argv[1], "t10k", 10000);
    method one = { 0 };
    size_t n = RV_COUNT(methods);
    const method *list = methods;
    if (argc >= 5) {
        one = (method){ atoi(argv[2]) % SETTINGS, strtof(argv[3], NULL), strtoul(argv[4], NULL, 10),
                        argc > 5 ? atoi(argv[5]) : TOLD };
        list = &one;
        n = 1;
    }
    for (size_t i = 0; i < n; i++) {
        outcome mean = { 0 };
        for (uint64_t seed = 1; seed <= 3; seed++) {
            outcome o = run(&train, &test, &list[i], seed);
            mean.all += o.all / 3;
            mean.forgotten += o.forgotten / 3;
            mean.fresh += o.fresh / 3;
            mean.seen += o.seen / 3;
        }
        printf("{\"tasks\":\"%s\",\"lambda\":%g,\"replay\":%zu,\"boundaries\":\"%s\",\"accuracy\":%.4f,"
               "\"forgetting\":%.4f,\"when_"
               "new\":%.4f,\"boundaries_seen\":%.2f}\n",
               setting_names[list[i].setting], (double)list[i].lambda, list[i].replay,
               boundary_names[list[i].boundaries], mean.all, mean.forgotten, mean.fresh, mean.seen);
        fflush(stdout);
    }
    return 0;
}
