#include "learn/sides.h"
#include "base/json.h"
#include "learn/episode.h"
#include "learn/probes.h"

#include <math.h>
#include <string.h>

enum { PROBES = 500, ARENA_BYTES = 64 << 20 };

/* Fitted to six sets of real questions (docs/guide/memory.md): sides of equal strength, 2.3; with half of the words' strength vectors count
 * next to nothing. */
static const double AT_PAR = 2.3, POWER = 4, LEAST = 0.1, MOST = 4;

double rv_sides_weight(double words, double vectors)
{
    double weight = words > 0 ? AT_PAR * pow(vectors / words, POWER) : MOST;
    return fmin(fmax(weight, LEAST), MOST);
}

static rv_err take(void *self, const uint8_t *bytes, size_t n)
{
    json_t *o = NULL;
    double weight = 0;
    RV_TRY(rv_json_parse((const char *)bytes, n, &o));
    rv_err e = rv_json_get_double(o, "vector_weight", LEAST, MOST, &weight);
    json_decref(o);
    if (!e && weight == 0) {
        e = rv_fail(RV_E_FORMAT, "sides: expected a vector_weight");
    }
    if (!e) {
        *(double *)self = weight;
    }
    return e;
}

rv_err rv_sides_settle(rv_db *db, rv_memory *memory, int64_t *version)
{
    double weight = 0;
    *version = 0;
    RV_TRY(rv_policy_open(db, &rv_heap, RV_SIDES_POLICY, take, &weight, version));
    rv_memory_set_vector_weight(memory, *version ? weight : 0);
    return RV_OK;
}

typedef struct measured {
    size_t n;
    rv_probes_score words, vectors, before, after;
    double weight;
} measured;

static rv_err measure(const rv_deep_place *p, rv_arena *arena, measured *out)
{
    rv_probe *probes = NULL;
    RV_TRY(rv_probes_read(p->db, p->embed, p->good, PROBES, arena, &probes, &out->n));
    if (out->n < RV_SIDES_LEAST) {
        return RV_OK;
    }
    rv_memory_query words = { .mode = RV_MEMORY_WORDS }, vectors = { .mode = RV_MEMORY_VECTOR },
                    both = { .mode = RV_MEMORY_GRAPH };
    RV_TRY(rv_probes_measure(p, probes, out->n, &words, &out->words));
    RV_TRY(rv_probes_measure(p, probes, out->n, &vectors, &out->vectors));
    RV_TRY(rv_probes_measure(p, probes, out->n, &both, &out->before));
    both.vector_weight = out->weight = rv_sides_weight(out->words.recall, out->vectors.recall);
    return rv_probes_measure(p, probes, out->n, &both, &out->after);
}

static rv_err publish(const rv_deep_place *p, const measured *m)
{
    sqlite3 *conn;
    char bytes[64], metrics[192], data[64];
    int64_t now = 0;
    snprintf(bytes, sizeof bytes, "{\"vector_weight\": %.3f}", m->weight);
    snprintf(metrics, sizeof metrics,
             "{\"ndcg_before\":%.4f,\"ndcg_after\":%.4f,\"recall_words\":%.4f,\"recall_vectors\":%.4f}",
             m->before.ndcg, m->after.ndcg, m->words.recall, m->vectors.recall);
    snprintf(data, sizeof data, "{\"questions\":%zu}", m->n);
    rv_policy_new policy = { .kind = RV_SIDES_POLICY,
                             .note = "rated questions find their passages better",
                             .metrics = metrics,
                             .data = data,
                             .bytes = bytes,
                             .n = strlen(bytes),
                             .use = true };
    RV_TRY(rv_sides_settle(p->db, p->memory, &policy.parent));
    RV_TRY(rv_db_begin(p->db, &conn));
    rv_err e = rv_policy_add(conn, &policy, &now);
    if (e) {
        rv_db_rollback(p->db);
        return e;
    }
    RV_TRY(rv_db_commit(p->db));
    return rv_sides_settle(p->db, p->memory, &now);
}

static rv_err run(const rv_deep_place *p, rv_arena *arena, rv_loop_report *out)
{
    measured m = { 0 };
    bool news = true;
    RV_TRY(rv_feedback_is_news(p->db, RV_SIDES_POLICY, &news));
    if (!news) {
        snprintf(out->why, sizeof out->why, "nothing to do: " RV_NO_NEWS);
        return RV_OK;
    }
    RV_TRY(measure(p, arena, &m));
    if (m.n < RV_SIDES_LEAST) {
        snprintf(out->why, sizeof out->why,
                 "nothing to do: %d rated questions tell how well words and vectors find, there are %zu",
                 RV_SIDES_LEAST, m.n);
        return RV_OK;
    }
    bool worse = m.after.ndcg < m.before.ndcg || m.after.recall < m.before.recall;
    bool good = !worse && (m.after.ndcg > m.before.ndcg || m.after.recall > m.before.recall);
    *out = (rv_loop_report){ .accepted = good,
                             .changed = good,
                             .measure = "nDCG@10",
                             .before = m.before.ndcg,
                             .after = m.after.ndcg };
    snprintf(out->why, sizeof out->why,
             "of %zu rated questions words find %.3f, vectors %.3f: weight %.2f %s", m.n, m.words.recall,
             m.vectors.recall, m.weight, good ? "used" : "not used, it finds no more");
    return good ? publish(p, &m) : RV_OK;
}

rv_err rv_deep_weigh_sides(const rv_deep_place *place, rv_loop_report *out)
{
    rv_arena *arena;
    RV_TRY(rv_arena_new(&rv_heap, ARENA_BYTES, &arena));
    rv_err e = run(place, arena, out);
    rv_arena_free(arena);
    if (e == RV_E_TIMEOUT) {
        *out = (rv_loop_report){ 0 };
        snprintf(out->why, sizeof out->why, "the time was up: the weight stays");
        return RV_OK;
    }
    return e;
}
