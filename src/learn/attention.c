#include "learn/attention.h"

#include "attend/attend.h"
#include "base/clock.h"
#include "base/rng.h"
#include "learn/episode.h"
#include "learn/evidence.h"
#include "learn/probes.h"
#include "store/policy.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum {
    CANDIDATES = 16,
    SMALL = 8000,
    LEAST = 40,
    MOST = 20000,
    ARENA_BYTES = 1 << 20,
    ONE_BYTES = 256 << 10
};
static const double MARGIN = 0.02;
static const char KIND[] = "attention";

struct rv_attention {
    const rv_alloc *mem;
    rv_db *db;
    const rv_embed *embed;
    rv_memory *memory;
    pthread_rwlock_t lock;      /* guards what follows */
    rv_attend_weights *weights; /* NULL: none */
    int64_t version;
};

/* ---- the version in use ---- */

static rv_err take(void *self, const uint8_t *bytes, size_t n)
{
    rv_attention *a = self;
    rv_attend_weights *w = NULL;
    RV_TRY(rv_attend_read(a->mem, bytes, n, &w));
    if (rv_attend_dim(w) != rv_embed_dim(a->embed)) {
        rv_err e = rv_fail(RV_E_FORMAT, "graph attention: made for %zu dimensions, the embedder has %zu",
                           rv_attend_dim(w), rv_embed_dim(a->embed));
        rv_attend_free(w);
        return e;
    }
    a->weights = w;
    return RV_OK;
}

static rv_err load(rv_attention *a)
{
    return rv_policy_open(a->db, a->mem, KIND, take, a, &a->version);
}

rv_err rv_attention_reload(rv_attention *a)
{
    rv_attention fresh = { .mem = a->mem, .db = a->db, .embed = a->embed };
    RV_TRY(load(&fresh));
    pthread_rwlock_wrlock(&a->lock);
    rv_attend_weights *old = a->weights;
    a->weights = fresh.weights;
    a->version = fresh.version;
    pthread_rwlock_unlock(&a->lock);
    rv_attend_free(old);
    return RV_OK;
}

rv_err rv_attention_open(const rv_alloc *mem, rv_db *db, const rv_embed *embed, rv_memory *memory,
                         rv_attention **out)
{
    rv_attention *a = rv_new(mem, sizeof *a);
    if (!a) {
        return rv_fail(RV_E_NOMEM, "graph attention");
    }
    *a = (rv_attention){ .mem = mem, .db = db, .embed = embed, .memory = memory };
    pthread_rwlock_init(&a->lock, NULL);
    rv_err e = load(a);
    if (e) {
        rv_attention_close(a);
        return e;
    }
    *out = a;
    return RV_OK;
}

void rv_attention_close(rv_attention *a)
{
    if (a) {
        rv_attend_free(a->weights);
        pthread_rwlock_destroy(&a->lock);
        rv_free(a->mem, a);
    }
}

/* ---- ranking ---- */

static rv_err look(const rv_attention *a, const float *query, const rv_memory_hits *hits, rv_arena *arena,
                   rv_memory_subgraph *graph, rv_attend_node **nodes)
{
    rv_memory_bounds bounds = { .max_hops = 0, .max_nodes = hits->n, .max_edges = 1 };
    RV_TRY(rv_memory_subgraph_of(a->memory, rv_memory_whole(), hits, &(rv_memory_filter){ 0 }, bounds, arena,
                                 graph));
    return rv_evidence_nodes(a->memory, graph, hits, query, rv_embed_dim(a->embed), rv_clock_wall_ms(), arena,
                             nodes);
}

/* Insertion sort, which keeps equal ones as they are; what has meanwhile gone from the memory comes last. */
static void sort_hits(rv_memory_hits *hits, const rv_memory_subgraph *graph, const float *scores,
                      float *of_hit)
{
    for (size_t i = 0; i < hits->n; i++) {
        float score = -INFINITY;
        for (size_t g = 0; g < graph->n; g++) {
            score = graph->at[g].node.id == hits->at[i].id ? scores[g] : score;
        }
        rv_memory_node node = hits->at[i];
        size_t at = i;
        for (; at > 0 && of_hit[at - 1] < score; at--) {
            of_hit[at] = of_hit[at - 1];
            hits->at[at] = hits->at[at - 1];
        }
        of_hit[at] = score;
        hits->at[at] = node;
    }
}

static rv_err order(rv_attention *a, const float *query, rv_memory_hits *hits, rv_arena *arena)
{
    rv_memory_subgraph graph;
    rv_attend_node *nodes;
    float scores[RV_ATTEND_NODES_MAX], of_hit[RV_ATTEND_NODES_MAX];
    RV_TRY(look(a, query, hits, arena, &graph, &nodes));
    void *scratch = rv_arena_take(arena, rv_attend_scratch_bytes(a->weights, graph.n));
    if (!scratch) {
        return rv_fail(RV_E_NOMEM, "graph attention");
    }
    rv_attend_rank(a->weights, rv_kernels_best(), query, nodes, graph.n, scratch, scores, NULL);
    sort_hits(hits, &graph, scores, of_hit);
    return RV_OK;
}

rv_err rv_attention_order(rv_attention *a, const float *query, rv_memory_hits *hits, rv_arena *arena,
                          bool *ordered)
{
    rv_err e = RV_OK;
    *ordered = false;
    pthread_rwlock_rdlock(&a->lock);
    if (a->weights && hits->n > 1 && hits->n <= RV_ATTEND_NODES_MAX) {
        e = order(a, query, hits, arena);
        *ordered = !e;
    }
    pthread_rwlock_unlock(&a->lock);
    return e;
}

/* ---- learning ---- */

typedef struct lessons {
    rv_arena *arena;
    rv_attend_example *learn, *held;
    size_t n_learn, n_held;
} lessons;

/* Asks the memory again; a question whose useful passages are not found, or are all there is, teaches nothing. */
static rv_err add_lesson(rv_attention *a, lessons *l, const rv_probe *p)
{
    rv_memory_query q = { .text = p->question,
                          .vector = p->vector,
                          .mode = RV_MEMORY_GRAPH,
                          .k = CANDIDATES,
                          .filter = { .until_ms = p->until_ms } };
    rv_memory_hits hits;
    rv_memory_subgraph graph;
    rv_attend_node *nodes;
    RV_TRY(rv_memory_search(a->memory, rv_memory_of(p->user), &q, l->arena, &hits));
    if (hits.n < 2) {
        return RV_OK;
    }
    RV_TRY(look(a, p->vector, &hits, l->arena, &graph, &nodes));
    bool *used = rv_arena_take(l->arena, graph.n);
    size_t n_used = 0;
    for (size_t i = 0; used && i < graph.n; i++) {
        for (size_t s = 0; s < p->n_useful; s++) {
            used[i] |= p->useful[s] == graph.at[i].node.id;
        }
        n_used += used[i];
    }
    if (!used || n_used == 0 || n_used == graph.n) {
        return used ? RV_OK : rv_fail(RV_E_NOMEM, "learning attention");
    }
    rv_attend_example example = { p->vector, nodes, graph.n, used };
    if (rv_hash64(p->question, strlen(p->question), 0) % 4 == 0) {
        l->held[l->n_held++] = example;
    } else {
        l->learn[l->n_learn++] = example;
    }
    return RV_OK;
}

static rv_err read_lessons(rv_attention *a, int good, const rv_gate *gate, lessons *l)
{
    rv_probe *probes = NULL;
    size_t n = 0;
    rv_err e = rv_probes_read(a->db, a->embed, good, MOST, l->arena, &probes, &n);
    for (size_t i = 0; !e && i < n; i++) {
        e = rv_gate_go_on(gate);
        e = e ? e : add_lesson(a, l, &probes[i]);
    }
    return e;
}

static rv_err store_version(rv_attention *a, const rv_attend_weights *w, const rv_attention_learned *done,
                            int64_t *version)
{
    size_t n = rv_attend_file_bytes(w);
    void *bytes = rv_new(a->mem, n);
    sqlite3 *conn;
    char metrics[128], data[96];
    if (!bytes) {
        return rv_fail(RV_E_NOMEM, "keeping what was learned");
    }
    snprintf(metrics, sizeof metrics, "{\"ndcg_before\":%.4f,\"ndcg_after\":%.4f,\"held_back\":%zu}",
             done->before, done->after, done->held);
    snprintf(data, sizeof data, "{\"questions\":%zu}", done->learned_from);
    rv_attend_write(w, bytes);
    rv_policy_new policy = { .kind = KIND,
                             .parent = a->version,
                             .note = "ranks questions held back better",
                             .metrics = metrics,
                             .data = data,
                             .bytes = bytes,
                             .n = n,
                             .use = true };
    rv_err e = rv_db_begin(a->db, &conn);
    if (!e) {
        e = rv_policy_add(conn, &policy, version);
        if (e) {
            rv_db_rollback(a->db);
        } else {
            e = rv_db_commit(a->db);
        }
    }
    rv_free(a->mem, bytes);
    return e;
}

/* The weights in use, or such as keep the order of retrieval. */
static rv_err start_from(const rv_attention *a, uint64_t seed, rv_attend_weights **out)
{
    return a->weights ? rv_attend_copy(a->weights, out)
                      : rv_attend_new(a->mem, rv_embed_dim(a->embed), true, seed, out);
}

static rv_err train(rv_attend_weights *w, const lessons *l, uint64_t seed, rv_attention_learned *done)
{
    rv_attend_training how = rv_attend_training_default();
    how.seed = seed;
    how.epochs += SMALL / l->n_learn; /* few questions: as many steps all the same */
    how.patience = how.epochs / 3;
    how.rate = 0.01F;
    return rv_attend_train(w, rv_kernels_best(), l->learn, l->n_learn, l->held, l->n_held, how, &done->before,
                           &done->after);
}

/* From the lessons to what is used. Only in between nobody waits for it: all it looks at there is its own. */
static rv_err learn(rv_attention *a, const lessons *l, uint64_t seed, const rv_gate *gate,
                    rv_attention_learned *done)
{
    rv_attend_weights *w = NULL;
    RV_TRY(start_from(a, seed, &w));
    rv_gate_leave(gate);
    rv_err e = train(w, l, seed, done), left = rv_gate_enter(gate);
    e = e ? e : left;
    done->why = "not better by 0.02 on the questions held back: the order stays";
    if (!e && done->after >= done->before + MARGIN) {
        e = store_version(a, w, done, &done->version);
        if (!e) {
            done->why = "in use";
            pthread_rwlock_wrlock(&a->lock);
            rv_attend_weights *old = a->weights;
            a->weights = w;
            a->version = done->version;
            pthread_rwlock_unlock(&a->lock);
            w = old;
        }
    }
    rv_attend_free(w);
    return e;
}

rv_err rv_attention_learn(rv_attention *a, int good, uint64_t seed, const rv_gate *gate,
                          rv_attention_learned *out)
{
    lessons l = { 0 };
    bool news = true;
    RV_TRY(rv_feedback_is_news(a->db, KIND, &news));
    if (!news) {
        *out = (rv_attention_learned){ .why = "nothing to do: " RV_NO_NEWS };
        return RV_OK;
    }
    rv_attention_learned done = { .why = "too little feedback yet that says which passage was of use" };
    l.learn = rv_new_array(a->mem, 2 * MOST, sizeof *l.learn);
    l.held = l.learn ? l.learn + MOST : NULL;
    rv_err e = l.learn ? rv_arena_new(a->mem, (size_t)MOST * ONE_BYTES, &l.arena)
                       : rv_fail(RV_E_NOMEM, "learning attention");
    if (!e) {
        e = read_lessons(a, good, gate, &l);
    }
    done.learned_from = l.n_learn;
    done.held = l.n_held;
    if (!e && l.n_learn + l.n_held >= LEAST && l.n_held > 0 && l.n_learn > 0) {
        e = learn(a, &l, seed, gate, &done);
    }
    rv_arena_free(l.arena);
    rv_free(a->mem, l.learn);
    if (!e) {
        *out = done;
    }
    return e;
}
