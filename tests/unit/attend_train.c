/* Training finds what made nodes useful, keeps nothing that is no better on held-back questions, and weights survive their file. */
#include "test.h"

#include "attend/attend.h"
#include "base/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DIM = 32, NODES = 20, EXAMPLES = 160 };

typedef struct questions {
    float query[EXAMPLES][DIM], vectors[EXAMPLES][NODES][DIM];
    rv_attend_node nodes[EXAMPLES][NODES];
    bool used[EXAMPLES][NODES];
    rv_attend_example at[EXAMPLES];
} questions;

/* The useful nodes are those nearest to a fixed turn of the query's coordinates; the score they were found by is noise. With
 * `noise` usefulness is drawn by lot and nothing can be learned. */
static questions *make_questions(bool noise)
{
    questions *q = calloc(1, sizeof *q);
    CHECK(q, "memory");
    rv_rng rng;
    rv_rng_init(&rng, 11);
    for (size_t x = 0; x < EXAMPLES; x++) {
        for (size_t j = 0; j < DIM; j++) {
            q->query[x][j] = rv_rng_normal(&rng) / sqrtf(DIM);
        }
        for (size_t i = 0; i < NODES; i++) {
            float near = 0;
            bool wanted = i < 3;
            for (size_t j = 0; j < DIM; j++) {
                q->vectors[x][i][j] =
                    (rv_rng_normal(&rng) + (wanted ? 0.8F * sqrtf(DIM) * q->query[x][j] : 0)) / sqrtf(DIM);
                near += q->vectors[x][i][j] * q->query[x][j];
            }
            q->nodes[x][i].vector = q->vectors[x][i];
            q->nodes[x][i].evidence[RV_EVIDENCE_RETRIEVED] = 1;
            q->nodes[x][i].evidence[RV_EVIDENCE_PATH] = (float)rv_rng_unit(&rng);
            q->used[x][i] = noise ? rv_rng_unit(&rng) < 0.15 || i == x % NODES : wanted;
        }
        q->at[x] = (rv_attend_example){ q->query[x], q->nodes[x], NODES, q->used[x] };
    }
    return q;
}

TEST(training_finds_what_made_nodes_useful)
{
    questions *q = make_questions(false);
    const rv_kernels *k = rv_kernels_at(RV_CPU_SCALAR);
    rv_attend_weights *w, *again;
    double before, after, same, measured, order;
    rv_attend_training how = rv_attend_training_default();
    how.rate = 0.02F;
    how.epochs = 80;
    how.patience = 80;
    CHECK_OK(rv_attend_new(&rv_heap, DIM, false, 3, &w));
    CHECK_OK(rv_attend_copy(w, &again));
    CHECK_OK(rv_attend_train(w, k, q->at, 100, q->at + 100, 60, how, &before, &after));
    CHECK(before < 0.6 && after > 0.9, "nDCG %g to %g", before, after);
    CHECK_OK(rv_attend_ndcg(w, k, q->at + 100, 60, &measured));
    CHECK(measured == after, "%g is not what was kept, %g", measured, after);
    CHECK_OK(rv_attend_ndcg(NULL, k, q->at + 100, 60, &order));
    CHECK(order == 1, "the useful ones were given first, and count %g", order);
    CHECK_OK(rv_attend_train(again, k, q->at, 100, q->at + 100, 60, how, &before, &same));
    CHECK(same == after, "a second training gives %g, the first %g", same, after);
    rv_attend_free(w);
    rv_attend_free(again);
    free(q);
}

TEST(what_is_no_better_on_held_back_questions_is_not_kept)
{
    questions *q = make_questions(true);
    rv_attend_weights *w;
    double before, after;
    size_t n;
    CHECK_OK(rv_attend_new(&rv_heap, DIM, false, 3, &w));
    float *values = rv_attend_values(w, &n), *copy = malloc(n * sizeof *copy);
    CHECK(copy, "memory");
    memcpy(copy, values, n * sizeof *copy);
    /* One question is held back, and the start ranks it perfectly. */
    rv_attend_example held = q->at[0];
    bool used[NODES] = { false };
    size_t best = 0;
    for (size_t i = 1; i < NODES; i++) {
        best =
            held.nodes[i].evidence[RV_EVIDENCE_PATH] > held.nodes[best].evidence[RV_EVIDENCE_PATH] ? i : best;
    }
    used[best] = true;
    held.used = used;
    CHECK_OK(rv_attend_train(w, rv_kernels_at(RV_CPU_SCALAR), q->at + 1, 100, &held, 1,
                             rv_attend_training_default(), &before, &after));
    CHECK(before == 1 && after == 1, "nDCG %g and %g", before, after);
    CHECK(memcmp(copy, values, n * sizeof *copy) == 0, "the weights changed");
    CHECK_ERR(rv_attend_train(w, rv_kernels_at(RV_CPU_SCALAR), q->at, 0, &held, 1,
                              rv_attend_training_default(), &before, &after),
              RV_E_ARG);
    q->vectors[5][0][0] = NAN;
    CHECK_ERR(rv_attend_train(w, rv_kernels_at(RV_CPU_SCALAR), q->at + 1, 100, &held, 1,
                              rv_attend_training_default(), &before, &after),
              RV_E_CORRUPT);
    CHECK(memcmp(copy, values, n * sizeof *copy) == 0, "the weights changed with an error");
    rv_attend_free(w);
    free(copy);
    free(q);
}

TEST(weights_survive_their_file_and_no_damage_does)
{
    rv_attend_weights *w, *read = NULL;
    size_t n, m;
    CHECK_ERR(rv_attend_new(&rv_heap, 7, false, 3, &w), RV_E_ARG);
    CHECK_OK(rv_attend_new(&rv_heap, 6, true, 3, &w));
    float *values = rv_attend_values(w, &n);
    for (size_t i = 0; i < n; i++) {
        values[i] += (float)i;
    }
    size_t bytes = rv_attend_file_bytes(w);
    uint8_t *file = malloc(bytes);
    CHECK(file, "memory");
    rv_attend_write(w, file);
    CHECK_OK(rv_attend_read(&rv_heap, file, bytes, &read));
    CHECK(rv_attend_dim(read) == 6 && memcmp(rv_attend_values(read, &m), values, n * sizeof *values) == 0 &&
              m == n,
          "other values");
    rv_attend_free(read);
    for (size_t i = 0; i < bytes; i++) {
        file[i] ^= 0x10;
        read = NULL;
        rv_err e = rv_attend_read(&rv_heap, file, bytes, &read);
        CHECK((e == RV_E_FORMAT || e == RV_E_CORRUPT) && !read, "byte %zu: %s", i, rv_err_name(e));
        file[i] ^= 0x10;
    }
    for (size_t size = 0; size < bytes; size++) {
        CHECK(rv_attend_read(&rv_heap, file, size, &read) != RV_OK, "%zu bytes", size);
    }
    free(file);
    rv_attend_free(w);
}
