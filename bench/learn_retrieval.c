/* Does the retrieval adapter learn a topic, and leave the others alone? bench_learn_retrieval EMBEDDER DOCS.jsonl QUERIES.jsonl [SIGNALS [BATCH [FLIPPED]]]
 *
 * Documents {"id","text"} are of one topic when their ids (a3c17, a3c18) are the same up to the last number but one; questions are {"q","rel":[id]}.
 * For each of the largest topics an adapter of its own gets SIGNALS (200) signals, one after another: a question of one half of the topic's,
 * the 16 passages that search shows for it as the adapter then is, and which of those are relevant. A question that shows none teaches
 * nothing and is passed over. MRR@10 is measured on the other half, which it never saw, on the half it learned from, and on 300
 * questions of other topics; a mean over topics and three seeds as one JSON line. Anchors are documents drawn by lot. FLIPPED (0): of 100 signals so
 * many say that the best passage that is not relevant was of use, and the relevant ones were not. */
#include "base/json.h"
#include "base/rng.h"
#include "embed/embed.h"
#include "kernels/kernels.h"
#include "learn/retrieval.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOP = 10, SHOWN = 16, ANCHORS = 8, TOPICS = 8, SEEDS = 3, CONTROLS = 300 };

typedef struct text {
    json_t *json;
    const char *id;
    size_t n_topic; /* bytes of id that name the topic */
    float *vector;
    size_t rel[SHOWN], n_rel; /* of a question: documents */
} text;

static struct {
    rv_embed *embed;
    const rv_kernels *k;
    size_t dim;
    text *docs, *asks;
    size_t n_docs, n_asks;
} b;

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static size_t topic_bytes(const char *id)
{
    size_t n = strlen(id);
    while (n > 0 && is_digit(id[n - 1])) {
        n--;
    }
    while (n > 0 && !is_digit(id[n - 1])) {
        n--;
    }
    return n ? n : strlen(id);
}

static text *read_texts(const char *path, const char *field, size_t *n)
{
    FILE *f = fopen(path, "r");
    text *all = NULL;
    char *line = NULL;
    size_t room = 0, more = 0;
    if (!f) {
        fprintf(stderr, "%s cannot be read\n", path);
        exit(1);
    }
    for (ssize_t got; (got = getline(&line, &more, f)) > 0;) {
        json_t *row = json_loadb(line, (size_t)got, 0, NULL);
        const char *words = json_string_value(json_object_get(row, field));
        if (!words) {
            continue;
        }
        if (*n == room) {
            room = room ? 2 * room : 1024;
            all = rv_resize(&rv_heap, all, room * sizeof *all);
        }
        text *t = &all[(*n)++];
        *t = (text){ .json = row, .vector = rv_new_array(&rv_heap, b.dim, sizeof(float)) };
        t->id = json_string_value(json_object_get(row, "id"));
        if (rv_embed_text(b.embed, words, strlen(words), t->vector)) {
            exit(1);
        }
    }
    free(line);
    fclose(f);
    return all;
}

static bool same_topic(const text *x, const text *y)
{
    return x->n_topic == y->n_topic && strncmp(x->id, y->id, x->n_topic) == 0;
}

/* A question belongs to the topic of its first relevant document. */
static void join_questions(void)
{
    size_t kept = 0;
    for (size_t d = 0; d < b.n_docs; d++) {
        b.docs[d].n_topic = topic_bytes(b.docs[d].id);
    }
    for (size_t q = 0; q < b.n_asks; q++) {
        text *ask = &b.asks[q];
        json_t *rel = json_object_get(ask->json, "rel"), *one;
        size_t i;
        json_array_foreach(rel, i, one)
        {
            for (size_t d = 0; d < b.n_docs && ask->n_rel < SHOWN; d++) {
                if (strcmp(b.docs[d].id, json_string_value(one)) == 0) {
                    ask->rel[ask->n_rel++] = d;
                }
            }
        }
        if (ask->n_rel) {
            ask->id = b.docs[ask->rel[0]].id;
            ask->n_topic = b.docs[ask->rel[0]].n_topic;
            b.asks[kept++] = *ask;
        }
    }
    b.n_asks = kept;
}

static bool is_rel(const text *ask, size_t doc)
{
    for (size_t i = 0; i < ask->n_rel; i++) {
        if (ask->rel[i] == doc) {
            return true;
        }
    }
    return false;
}

static size_t search(const rv_retrieval *r, const text *ask, size_t most, size_t *best)
{
    float y[4096], score[SHOWN];
    size_t n = 0;
    rv_retrieval_apply(r, ask->vector, y);
    for (size_t d = 0; d < b.n_docs; d++) {
        float s = b.k->dot_f32(y, b.docs[d].vector, b.dim);
        if (n < most || s > score[n - 1]) {
            size_t at = n < most ? n++ : n - 1;
            for (; at > 0 && score[at - 1] < s; at--) {
                score[at] = score[at - 1];
                best[at] = best[at - 1];
            }
            score[at] = s;
            best[at] = d;
        }
    }
    return n;
}

static double mrr(const rv_retrieval *r, const size_t *asks, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        size_t best[SHOWN], found = search(r, &b.asks[asks[i]], TOP, best);
        for (size_t j = 0; j < found; j++) {
            if (is_rel(&b.asks[asks[i]], best[j])) {
                sum += 1 / (double)(j + 1);
                break;
            }
        }
    }
    return n ? sum / (double)n : 0;
}

static bool one_signal(rv_retrieval *r, const text *ask, size_t flipped, rv_rng *rng)
{
    bool lies = rv_rng_below(rng, 100) < flipped, lied = false;
    size_t best[SHOWN], n = search(r, ask, SHOWN, best);
    const float *shown[SHOWN], *anchors[ANCHORS];
    bool used[SHOWN];
    for (size_t i = 0; i < n; i++) {
        shown[i] = b.docs[best[i]].vector;
        used[i] = is_rel(ask, best[i]);
        if (lies) {
            used[i] = !used[i] && !lied;
            lied |= used[i];
        }
    }
    for (size_t i = 0; i < ANCHORS; i++) {
        anchors[i] = b.docs[rv_rng_below(rng, b.n_docs)].vector;
    }
    return rv_retrieval_learn(r, &(rv_retrieval_signal){ ask->vector, shown, used, n, anchors, ANCHORS, 1 });
}

typedef struct row {
    double seen[2], unseen[2], control[2];
} row;

/* asks of the topic are [n], shuffled: the first half teaches. */
static void run_topic(size_t *asks, size_t n, const size_t *control, size_t n_control, size_t signals,
                      size_t batch, size_t flipped, uint64_t seed, row *out)
{
    rv_retrieval *r;
    rv_rng rng;
    rv_rng_init(&rng, seed);
    if (rv_retrieval_new(&rv_heap, b.dim, seed, &r)) {
        exit(1);
    }
    for (size_t i = n; i > 1; i--) {
        size_t j = rv_rng_below(&rng, i), other = asks[i - 1];
        asks[i - 1] = asks[j];
        asks[j] = other;
    }
    size_t half = n / 2;
    for (int after = 0; after < 2; after++) {
        out->seen[after] += mrr(r, asks, half);
        out->unseen[after] += mrr(r, asks + half, n - half);
        out->control[after] += mrr(r, control, n_control);
        for (size_t i = 0, given = 0; !after && given < signals && i < 20 * signals; i++) {
            given += one_signal(r, &b.asks[asks[i % half]], flipped, &rng);
            if (rv_retrieval_pending(r) == batch) {
                rv_retrieval_step(r, 1);
            }
        }
        rv_retrieval_step(r, 1);
    }
    rv_retrieval_free(r);
}

static size_t questions_of(const text *topic, size_t *out)
{
    size_t n = 0;
    for (size_t q = 0; q < b.n_asks; q++) {
        if (same_topic(&b.asks[q], topic)) {
            out[n++] = q;
        }
    }
    return n;
}

int main(int argc, char **argv)
{
    if (argc < 4 || rv_embed_open(&rv_heap, argv[1], &b.embed)) {
        fprintf(
            stderr,
            "usage: bench_learn_retrieval EMBEDDER DOCS.jsonl QUERIES.jsonl [SIGNALS [BATCH [FLIPPED]]]\n");
        return 2;
    }
    size_t signals = argc > 4 ? strtoul(argv[4], NULL, 10) : 200,
           batch = argc > 5 ? strtoul(argv[5], NULL, 10) : 8,
           flipped = argc > 6 ? strtoul(argv[6], NULL, 10) : 0;
    b.k = rv_kernels_best();
    b.dim = rv_embed_dim(b.embed);
    b.docs = read_texts(argv[2], "text", &b.n_docs);
    b.asks = read_texts(argv[3], "q", &b.n_asks);
    join_questions();
    size_t *asks = rv_new_array(&rv_heap, b.n_asks, sizeof *asks), control[CONTROLS], done = 0, runs = 0;
    const text *taken[TOPICS];
    row sum = { 0 };
    while (done < TOPICS) {
        const text *topic = NULL;
        size_t most = 7, n_control = 0;
        for (size_t q = 0; q < b.n_asks; q++) {
            bool old = false;
            for (size_t t = 0; t < done; t++) {
                old |= same_topic(taken[t], &b.asks[q]);
            }
            size_t n = old ? 0 : questions_of(&b.asks[q], asks);
            if (n > most) {
                most = n;
                topic = &b.asks[q];
            }
        }
        if (!topic) {
            break;
        }
        taken[done++] = topic;
        for (size_t q = done; q < b.n_asks && n_control < CONTROLS; q += 1 + b.n_asks / CONTROLS) {
            if (!same_topic(&b.asks[q], topic)) {
                control[n_control++] = q;
            }
        }
        for (uint64_t seed = 1; seed <= SEEDS; seed++, runs++) {
            size_t n = questions_of(topic, asks);
            run_topic(asks, n, control, n_control, signals, batch, flipped, seed, &sum);
        }
    }
    double n = runs ? (double)runs : 1;
    printf("{\"bench\":\"learn_retrieval\",\"embedder\":\"%s\",\"topics\":%zu,\"runs\":%zu,\"signals\":%zu,"
           "\"mrr_learned\":[%.4f,%.4f],"
           "\"mrr_unseen\":[%.4f,%.4f],\"mrr_control\":[%.4f,%.4f],\"unseen_change\":%.4f,\"control_change\":"
           "%.4f}\n",
           rv_embed_name(b.embed), done, runs, signals, sum.seen[0] / n, sum.seen[1] / n, sum.unseen[0] / n,
           sum.unseen[1] / n, sum.control[0] / n, sum.control[1] / n, sum.unseen[1] / sum.unseen[0] - 1,
           sum.control[1] / sum.control[0] - 1);
    return 0;
}
