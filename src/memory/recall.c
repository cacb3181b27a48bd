/* How much of the nearest the vector side finds on a store, measured with the vectors of the store itself. */
#include "memory/memory_priv.h"
#include "base/clock.h"

#include <stdlib.h>

static int by_nearness(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x > y ? -1 : x < y;
}

/* One question: its own search against all rows. scores: scratch for all entries. Under state. */
static rv_err recall_one(rv_memory *m, const float *query, size_t k, float *scores, rv_hit *hits,
                         rv_memory_recall_report *r)
{
    size_t n = 0, found = 0, good = 0;
    double from = rv_clock_ms();
    nearest_plan plan = rv_nearest_plan(m, NULL, 0, k, 0);
    RV_TRY(rv_nearest_search(m, &plan, query, NULL, k, hits, &found));
    r->index = plan.said.path;
    r->search_ms += rv_clock_ms() - from;
    from = rv_clock_ms();
    for (size_t i = 0; i < m->n_entries; i++) {
        if (m->entries[i].row) {
            double sum = 0;
            for (size_t d = 0; d < m->embedder.dim; d++) {
                sum += (double)query[d] * (double)m->entries[i].row[d];
            }
            scores[n++] = (float)sum;
        }
    }
    qsort(scores, n, sizeof *scores, by_nearness);
    r->exact_ms += rv_clock_ms() - from;
    size_t wanted = k < n ? k : n;
    for (size_t i = 0; i < found; i++) {
        good += hits[i].score >= scores[wanted - 1] - 1e-6f;
    }
    double recall = (double)good / (double)wanted;
    r->recall += recall;
    r->least = recall < r->least ? recall : r->least;
    r->asked++;
    return RV_OK;
}

rv_err rv_memory_recall(rv_memory *m, size_t n_sample, size_t k, rv_memory_recall_report *out)
{
    if (k < 1 || k > RV_MEMORY_K_MAX || n_sample < 1) {
        return rv_fail(RV_E_ARG, "k: %zu, sample: %zu; expected 1 .. %d, and at least 1", k, n_sample,
                       RV_MEMORY_K_MAX);
    }
    rv_memory_recall_report r = { .least = 1 };
    pthread_rwlock_rdlock(&m->state);
    size_t n = rv_index_count(m->index), seen = 0;
    float *scores = rv_new_array(m->mem, n + 1, sizeof *scores);
    rv_hit *hits = rv_new_array(m->mem, k, sizeof *hits);
    rv_err e = scores && hits ? RV_OK : rv_fail(RV_E_NOMEM, "memory: no room to compare %zu vectors", n);
    n_sample = n_sample < n ? n_sample : n;
    for (size_t i = 0; !e && i < m->n_entries && r.asked < n_sample; i++) {
        if (m->entries[i].row && seen++ >= r.asked * n / n_sample) {
            e = recall_one(m, m->entries[i].row, k, scores, hits, &r);
        }
    }
    r.index = r.index ? r.index : "flat";
    pthread_rwlock_unlock(&m->state);
    rv_free(m->mem, scores);
    rv_free(m->mem, hits);
    if (!e) {
        double asked = r.asked ? (double)r.asked : 1;
        r.recall = r.asked ? r.recall / asked : 1;
        r.search_ms /= asked;
        r.exact_ms /= asked;
        *out = r;
    }
    return e;
}
