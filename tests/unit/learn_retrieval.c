/* The retrieval adapter: its gradient beside finite differences, that it learns a topic and leaves others alone, and its guards. */
#include "test.h"

#include "base/rng.h"
#include "learn/retrieval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DIM = 24, SHOWN = 6, ANCHORS = 3 };

typedef struct scene {
    rv_rng rng;
    float query[DIM], shown[SHOWN][DIM], anchors[ANCHORS][DIM];
    const float *shown_at[SHOWN], *anchors_at[ANCHORS];
    bool used[SHOWN];
    rv_retrieval_signal signal;
} scene;

static void unit(rv_rng *rng, float *x)
{
    double square = 0;
    for (size_t i = 0; i < DIM; i++) {
        x[i] = rv_rng_normal(rng);
        square += (double)x[i] * x[i];
    }
    for (size_t i = 0; i < DIM; i++) {
        x[i] /= (float)sqrt(square);
    }
}

static void make_scene(scene *s)
{
    rv_rng_init(&s->rng, 4);
    unit(&s->rng, s->query);
    for (size_t i = 0; i < SHOWN; i++) {
        unit(&s->rng, s->shown[i]);
        s->shown_at[i] = s->shown[i];
        s->used[i] = i % 3 == 1;
    }
    for (size_t i = 0; i < ANCHORS; i++) {
        unit(&s->rng, s->anchors[i]);
        s->anchors_at[i] = s->anchors[i];
    }
    s->signal = (rv_retrieval_signal){ s->query, s->shown_at, s->used, SHOWN, s->anchors_at, ANCHORS, 0.7F };
}

TEST(the_gradient_is_that_of_finite_differences)
{
    scene s;
    make_scene(&s);
    rv_retrieval *r;
    size_t n;
    CHECK_OK(rv_retrieval_new(&rv_heap, DIM, 3, &r));
    float *v = rv_retrieval_values(r, &n);
    for (size_t i = 0; i < n; i++) {
        v[i] += 0.1F * rv_rng_normal(&s.rng);
    }
    CHECK(rv_retrieval_learn(r, &s.signal) && rv_retrieval_pending(r) == 1, "a signal");
    const float *grad = rv_retrieval_gradient(r);
    for (size_t i = 0; i < n; i++) {
        float at = v[i];
        v[i] = at + 1e-3F;
        double step = v[i], up = rv_retrieval_loss(r, &s.signal);
        v[i] = at - 1e-3F;
        step -= v[i];
        double down = rv_retrieval_loss(r, &s.signal);
        v[i] = at;
        double expected = (up - down) / step;
        CHECK(fabs(grad[i] - expected) <= 1e-3 * fabs(expected) + 2e-3, "value %zu: %g, expected %g", i,
              (double)grad[i], expected);
    }
    rv_retrieval_free(r);
}

/* Mean reciprocal rank of document t among all for queries near a topic's direction. */
static double mrr(const rv_retrieval *r, float docs[][DIM], size_t n_docs, float asks[][DIM],
                  const size_t *wanted, size_t n)
{
    double sum = 0;
    for (size_t q = 0; q < n; q++) {
        float y[DIM], mine = 0;
        size_t before = 0;
        rv_retrieval_apply(r, asks[q], y);
        for (size_t i = 0; i < DIM; i++) {
            mine += y[i] * docs[wanted[q]][i];
        }
        for (size_t d = 0; d < n_docs; d++) {
            float score = 0;
            for (size_t i = 0; i < DIM; i++) {
                score += y[i] * docs[d][i];
            }
            before += score > mine;
        }
        sum += 1 / (double)(before + 1);
    }
    return sum / (double)n;
}

TEST(a_topic_is_learned_and_others_are_left_alone)
{
    enum { DOCS = 200, ASKS = 40, SIGNALS = 200 };
    static float docs[DOCS][DIM], asks[2][ASKS][DIM];
    static size_t wanted[2][ASKS];
    rv_rng rng;
    rv_rng_init(&rng, 9);
    float topic[DIM], words[DIM];
    unit(&rng, topic);
    unit(&rng, words);
    for (size_t d = 0; d < DOCS; d++) {
        unit(&rng, docs[d]);
    }
    /* Questions of the topic speak in other words (one direction more, another one less) than the documents that answer them. */
    for (size_t t = 0; t < 2; t++) {
        for (size_t q = 0; q < ASKS; q++) {
            float noise[DIM], length = 0;
            unit(&rng, noise);
            wanted[t][q] = rv_rng_below(&rng, 20) + 20 * t;
            for (size_t i = 0; i < DIM; i++) {
                asks[t][q][i] = docs[wanted[t][q]][i] + 0.8F * noise[i] + (t == 0 ? 2.5F * words[i] : 0);
                length += asks[t][q][i] * asks[t][q][i];
            }
            for (size_t i = 0; i < DIM; i++) {
                asks[t][q][i] /= sqrtf(length);
            }
        }
    }
    rv_retrieval *r;
    CHECK_OK(rv_retrieval_new(&rv_heap, DIM, 3, &r));
    enum { TAUGHT = 20 };
    double before = mrr(r, docs, DOCS, asks[0] + TAUGHT, wanted[0] + TAUGHT, ASKS - TAUGHT);
    double other = mrr(r, docs, DOCS, asks[1], wanted[1], ASKS);
    for (size_t i = 0; i < SIGNALS; i++) {
        size_t q = i % TAUGHT;
        const float *shown[8], *anchors[4];
        bool used[8] = { true };
        shown[0] = docs[wanted[0][q]];
        for (size_t j = 1; j < 8; j++) {
            shown[j] = docs[rv_rng_below(&rng, DOCS)];
        }
        for (size_t j = 0; j < 4; j++) {
            anchors[j] = docs[rv_rng_below(&rng, DOCS)];
        }
        rv_retrieval_learn(r, &(rv_retrieval_signal){ asks[0][q], shown, used, 8, anchors, 4, 1 });
        rv_retrieval_step(r, 1);
    }
    double after = mrr(r, docs, DOCS, asks[0] + TAUGHT, wanted[0] + TAUGHT, ASKS - TAUGHT);
    double other_after = mrr(r, docs, DOCS, asks[1], wanted[1], ASKS);
    CHECK(after > 1.1 * before, "MRR of the topic's unseen questions: %g, then %g", before, after);
    CHECK(other_after > 0.95 * other, "MRR of other questions: %g, then %g", other, other_after);
    rv_retrieval_free(r);
}

TEST(what_teaches_nothing_changes_nothing)
{
    scene s;
    make_scene(&s);
    rv_retrieval *r;
    float y[DIM], zero[DIM] = { 0 };
    CHECK_ERR(rv_retrieval_new(&rv_heap, 0, 3, &r), RV_E_ARG);
    CHECK_ERR(rv_retrieval_new(&rv_heap, 5000, 3, &r), RV_E_ARG);
    CHECK_OK(rv_retrieval_new(&rv_heap, DIM, 3, &r));
    rv_retrieval_apply(r, s.query, y);
    for (size_t i = 0; i < DIM; i++) {
        CHECK(fabsf(y[i] - s.query[i]) <= 1e-6F, "a new adapter moves the query");
    }
    rv_retrieval_apply(r, zero, y);
    CHECK(memcmp(y, zero, sizeof y) == 0, "nothing became something");
    memset(s.used, 0, sizeof s.used);
    CHECK(!rv_retrieval_learn(r, &s.signal) && rv_retrieval_loss(r, &s.signal) == 0, "nothing was used");
    memset(s.used, 1, sizeof s.used);
    CHECK(!rv_retrieval_learn(r, &s.signal), "everything was used");
    rv_retrieval_step(r, 1);
    CHECK(rv_retrieval_pending(r) == 0, "pending");
    rv_retrieval_free(r);
}

TEST(however_often_one_thing_is_said_the_query_moves_only_so_far)
{
    scene s;
    make_scene(&s);
    s.signal.n_anchors = 0;
    rv_retrieval *r, *copy;
    CHECK_OK(rv_retrieval_new(&rv_heap, DIM, 3, &r));
    for (size_t i = 0; i < 5000; i++) {
        rv_retrieval_learn(r, &s.signal);
        rv_retrieval_step(r, 1);
    }
    float y[DIM], z[DIM], cosine = 0;
    rv_retrieval_apply(r, s.query, y);
    for (size_t i = 0; i < DIM; i++) {
        cosine += y[i] * s.query[i];
    }
    CHECK(cosine > 0.8F && cosine < 0.9999F, "cosine with what it was: %g", (double)cosine);
    CHECK_OK(rv_retrieval_copy(r, &copy));
    rv_retrieval_apply(copy, s.query, z);
    CHECK(memcmp(y, z, sizeof y) == 0 && rv_retrieval_dim(copy) == DIM, "a copy does the same");
    rv_retrieval_free(copy);
    rv_retrieval_free(r);
}
