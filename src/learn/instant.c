#include "learn/instant.h"

#include "base/clock.h"
#include "base/metrics.h"
#include "base/rng.h"
#include "learn/loop.h"
#include "learn/retrieval.h"
#include "store/policy.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum {
    HELD = 64,
    HOLD_EVERY = 5,
    LEAST_HELD = 4,
    COMPARE_EVERY = 4,
    OTHERS = 256,
    ANCHORS = 8,
    SHOWN = 17,
    ARENA_BYTES = 4 << 20
};
static const double BETTER = 0.98, WORSE = 1.02;
static const char KIND[] = "retrieval";

/* One signal with its vectors: query, shown [n], anchors [ANCHORS], one after another. */
typedef struct lesson {
    float *vectors;
    bool used[SHOWN];
    size_t n;
    float weight;
} lesson;

struct rv_instant {
    const rv_alloc *mem;
    rv_db *db;
    const rv_embed *embed;
    rv_memory *memory;
    size_t dim;
    pthread_rwlock_t in_use; /* guards published */
    rv_retrieval *published;
    pthread_mutex_t learning; /* guards what follows */
    rv_retrieval *plain, *work;
    int64_t version;
    lesson held[HELD];
    float *others; /* [OTHERS][dim] vectors that were shown for other questions, the newest */
    size_t n_others, signals, n_held, since, n_published, n_taken_back;
    rv_rng rng;
};

static rv_metric counters[] = {
    { .kind = RV_COUNTER,
      .name = "ruvllm_learn_signals_total",
      .help = "Feedback that taught the retrieval adapter." },
    { .kind = RV_COUNTER,
      .name = "ruvllm_learn_published_total",
      .help = "Versions that took the place of the one before.",
      .labels = "kind=\"retrieval\"" },
    { .kind = RV_COUNTER,
      .name = "ruvllm_learn_refused_total",
      .help = "Candidates that were worse on what was held back.",
      .labels = "kind=\"retrieval\"" },
};
enum { SIGNALS, PUBLISHED, REFUSED };

static void register_metrics(void)
{
    rv_metrics_register(counters, RV_COUNT(counters));
}

/* ---- the version in use ---- */

static void put_in_use(rv_instant *i, rv_retrieval *next)
{
    pthread_rwlock_wrlock(&i->in_use);
    rv_retrieval *old = i->published;
    i->published = next;
    pthread_rwlock_unlock(&i->in_use);
    rv_retrieval_free(old);
}

typedef struct taking {
    const rv_instant *i;
    rv_retrieval *out; /* NULL: there is no version */
} taking;

static rv_err take(void *self, const uint8_t *bytes, size_t n)
{
    taking *t = self;
    return rv_retrieval_read(t->i->mem, bytes, n, t->i->dim, &t->out);
}

static rv_err load(rv_instant *i)
{
    taking t = { .i = i };
    int64_t version = 0;
    RV_TRY(rv_policy_open(i->db, i->mem, KIND, take, &t, &version));
    rv_retrieval *next = t.out, *work = NULL;
    rv_err e = next ? RV_OK : rv_retrieval_copy(i->plain, &next);
    e = e ? e : rv_retrieval_copy(next, &work);
    if (e) {
        rv_retrieval_free(next);
        return e;
    }
    rv_retrieval_free(i->work);
    i->work = work;
    i->version = version;
    put_in_use(i, next);
    return RV_OK;
}

static void drop_lessons(rv_instant *i)
{
    for (size_t h = 0; h < HELD; h++) {
        rv_free(i->mem, i->held[h].vectors);
        i->held[h] = (lesson){ 0 };
    }
    memset(i->others, 0, OTHERS * i->dim * sizeof *i->others);
    i->n_others = i->n_held = i->signals = i->since = 0;
}

rv_err rv_instant_reload(rv_instant *i)
{
    pthread_mutex_lock(&i->learning);
    drop_lessons(i); /* of what may have been forgotten */
    rv_err e = load(i);
    pthread_mutex_unlock(&i->learning);
    return e;
}

rv_err rv_instant_open(const rv_alloc *mem, rv_db *db, const rv_embed *embed, rv_memory *memory,
                       rv_instant **out)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_metrics);
    rv_instant *i = rv_new(mem, sizeof *i);
    if (!i) {
        return rv_fail(RV_E_NOMEM, "learning");
    }
    *i = (rv_instant){ .mem = mem, .db = db, .embed = embed, .memory = memory, .dim = rv_embed_dim(embed) };
    pthread_rwlock_init(&i->in_use, NULL);
    pthread_mutex_init(&i->learning, NULL);
    rv_rng_init(&i->rng, (uint64_t)rv_clock_ns());
    i->others = rv_new_array(mem, OTHERS * i->dim, sizeof *i->others);
    rv_err e = i->others ? rv_retrieval_new(mem, i->dim, 1, &i->plain) : rv_fail(RV_E_NOMEM, "learning");
    if (!e) {
        e = load(i);
    }
    if (e) {
        rv_instant_close(i);
        return e;
    }
    *out = i;
    return RV_OK;
}

void rv_instant_close(rv_instant *i)
{
    if (!i) {
        return;
    }
    for (size_t h = 0; h < HELD; h++) {
        rv_free(i->mem, i->held[h].vectors);
    }
    rv_free(i->mem, i->others);
    rv_retrieval_free(i->plain);
    rv_retrieval_free(i->work);
    rv_retrieval_free(i->published);
    pthread_rwlock_destroy(&i->in_use);
    pthread_mutex_destroy(&i->learning);
    rv_free(i->mem, i);
}

void rv_instant_turn(rv_instant *i, float *vector)
{
    pthread_rwlock_rdlock(&i->in_use);
    rv_retrieval_apply(i->published, vector, vector);
    pthread_rwlock_unlock(&i->in_use);
}

/* ---- a signal ---- */

/* Which of the episode's passages were of use; with a correction the fact it became, which then stands last in ids. */
static size_t judge_sources(const rv_episode *e, const rv_feedback *f, const rv_feedback_done *done,
                            int64_t ids[SHOWN], bool used[SHOWN])
{
    size_t n = 0;
    for (size_t s = 0; s < e->n_sources && n + 1 < SHOWN; s++) {
        if (e->sources[s] != done->fact) {
            ids[n] = e->sources[s];
            used[n++] =
                !f->correction && f->rating >= rv_good_rating(f->good) && rv_episode_cites(e->answer, s + 1);
        }
    }
    if (f->correction && done->fact) {
        ids[n] = done->fact;
        used[n++] = true;
    }
    return n;
}

/* The vectors of ids, which are still there; *used follows. */
static rv_err read_vectors(rv_instant *i, const int64_t *ids, bool *used, size_t *n, rv_arena *arena,
                           const float **vectors)
{
    rv_memory_node nodes[SHOWN] = { 0 };
    rv_memory_hits hits = { .at = nodes, .n = *n };
    for (size_t s = 0; s < *n; s++) {
        nodes[s].id = ids[s];
    }
    rv_memory_subgraph graph;
    rv_memory_bounds bounds = { .max_hops = 0, .max_nodes = SHOWN, .max_edges = 1 };
    rv_err e = rv_memory_subgraph_of(i->memory, rv_memory_whole(), &hits, &(rv_memory_filter){ 0 }, bounds,
                                     arena, &graph);
    if (e) {
        *n = 0;
        return e == RV_E_NOT_FOUND ? RV_OK : e;
    }
    size_t kept = 0;
    for (size_t s = 0; s < *n; s++) {
        for (size_t g = 0; g < graph.n; g++) {
            if (graph.at[g].node.id == ids[s] && graph.at[g].vector) {
                vectors[kept] = graph.at[g].vector;
                used[kept++] = used[s];
                break;
            }
        }
    }
    *n = kept;
    return RV_OK;
}

static rv_retrieval_signal signal_of(const rv_instant *i, const lesson *l, const float *at[SHOWN + ANCHORS])
{
    for (size_t v = 0; v < l->n + ANCHORS; v++) {
        at[v] = l->vectors + (v + 1) * i->dim;
    }
    return (rv_retrieval_signal){ l->vectors, at, l->used, l->n, at + l->n, ANCHORS, l->weight };
}

static rv_err make_lesson(rv_instant *i, const rv_episode *e, float weight, const float **shown,
                          const bool *used, size_t n, lesson *out)
{
    size_t row = i->dim * sizeof(float);
    *out = (lesson){ .vectors = rv_new_array(i->mem, (1 + n + ANCHORS) * i->dim, sizeof(float)),
                     .n = n,
                     .weight = weight };
    if (!out->vectors) {
        return rv_fail(RV_E_NOMEM, "learning from feedback");
    }
    memcpy(out->used, used, n * sizeof *used);
    for (size_t s = 0; s < n; s++) {
        memcpy(out->vectors + (1 + s) * i->dim, shown[s], row);
    }
    for (size_t a = 0; a < ANCHORS && i->n_others > 0;
         a++) { /* before any are known they are zero and hold nothing */
        size_t known = i->n_others < OTHERS ? i->n_others : OTHERS;
        memcpy(out->vectors + (1 + n + a) * i->dim, i->others + rv_rng_below(&i->rng, known) * i->dim, row);
    }
    for (size_t s = 0; s < n; s++) {
        if (!used[s]) {
            memcpy(i->others + i->n_others++ % OTHERS * i->dim, shown[s], row);
        }
    }
    return rv_embed_text(i->embed, e->question, strlen(e->question), out->vectors);
}

/* ---- learning ---- */

static double held_loss(const rv_instant *i, const rv_retrieval *r)
{
    double sum = 0;
    size_t n = i->n_held < HELD ? i->n_held : HELD;
    for (size_t h = 0; h < n; h++) {
        const float *at[SHOWN + ANCHORS];
        rv_retrieval_signal s = signal_of(i, &i->held[h], at);
        sum += rv_retrieval_loss(r, &s);
    }
    return n ? sum / (double)n : 0;
}

static rv_err store_version(rv_instant *i, double before, double after)
{
    size_t n = rv_retrieval_file_bytes(i->work);
    void *bytes = rv_new(i->mem, n);
    sqlite3 *conn;
    char metrics[160], data[80];
    if (!bytes) {
        return rv_fail(RV_E_NOMEM, "keeping what was learned");
    }
    snprintf(metrics, sizeof metrics, "{\"held_back\":%zu,\"loss_before\":%.6f,\"loss_after\":%.6f}",
             i->n_held < HELD ? i->n_held : (size_t)HELD, before, after);
    snprintf(data, sizeof data, "{\"signals\":%zu}", i->signals);
    rv_retrieval_write(i->work, bytes);
    rv_policy_new policy = { .kind = KIND,
                             .parent = i->version,
                             .note = "better on the feedback held back",
                             .metrics = metrics,
                             .data = data,
                             .bytes = bytes,
                             .n = n,
                             .use = true };
    int64_t version = 0;
    rv_err e = rv_db_begin(i->db, &conn);
    if (!e) {
        e = rv_policy_add(conn, &policy, &version);
        if (e) {
            rv_db_rollback(i->db);
        } else {
            e = rv_db_commit(i->db);
        }
    }
    rv_free(i->mem, bytes);
    if (!e) {
        i->version = version;
    }
    return e;
}

/* The copy takes the place of the adapter in use, begins again from it, or goes on learning. */
static rv_err compare(rv_instant *i)
{
    rv_retrieval *next = NULL;
    double now = held_loss(i, i->published),
           then = held_loss(i, i->work); /* only this thread changes published */
    rv_loop_report r = { .accepted = then <= BETTER * now, .measure = "loss", .before = now, .after = then };
    snprintf(r.why, sizeof r.why, "%zu signals since the start, %zu held back: %s", i->signals,
             i->n_held < HELD ? i->n_held : (size_t)HELD,
             r.accepted           ? "used"
             : then > WORSE * now ? "worse, taken back"
                                  : "goes on learning, not better by 2 % yet");
    if (then <= BETTER * now) {
        RV_TRY(rv_retrieval_copy(i->work, &next));
        rv_err e = store_version(i, now, then);
        if (e) {
            rv_retrieval_free(next);
            return e;
        }
        put_in_use(i, next);
        i->n_published++;
        rv_metric_add(&counters[PUBLISHED], 1);
    } else if (then > WORSE * now) {
        RV_TRY(rv_retrieval_copy(i->published, &next));
        rv_retrieval_free(i->work);
        i->work = next;
        i->n_taken_back++;
        rv_metric_add(&counters[REFUSED], 1);
    }
    r.changed = r.accepted ? i->version : 0;
    return rv_loop_note(i->db, "instant", "retrieval", rv_clock_wall_ms(), &r);
}

/* Takes the lesson. */
static rv_err learn(rv_instant *i, lesson *l)
{
    i->signals++;
    rv_metric_add(&counters[SIGNALS], 1);
    if (i->signals % HOLD_EVERY == 0) {
        lesson *at = &i->held[i->n_held++ % HELD];
        rv_free(i->mem, at->vectors);
        *at = *l;
        return RV_OK;
    }
    const float *at[SHOWN + ANCHORS];
    rv_retrieval_signal s = signal_of(i, l, at);
    rv_retrieval_learn(i->work, &s);
    rv_retrieval_step(i->work, 1);
    rv_free(i->mem, l->vectors);
    if (i->signals == 1) {
        rv_loop_report r = { 0 };
        snprintf(r.why, sizeof r.why, "learning from feedback; compared from %d signals on",
                 HOLD_EVERY * LEAST_HELD);
        RV_TRY(rv_loop_note(i->db, "instant", "retrieval", rv_clock_wall_ms(), &r));
    }
    return ++i->since % COMPARE_EVERY == 0 && i->n_held >= LEAST_HELD ? compare(i) : RV_OK;
}

/* Edges between the question's own node, or else the best passage, and what it was shown (rv_memory_reweigh). */
static rv_err move_edges(rv_instant *i, const rv_episode *e, const rv_feedback *f,
                         const rv_feedback_done *done)
{
    int64_t used[SHOWN], unused[SHOWN];
    rv_memory_outcome outcome = { .used = used, .unused = unused, .rating = f->rating };
    outcome.anchor = done->qa ? done->qa : e->n_sources ? e->sources[0] : 0;
    for (size_t s = 0; s < e->n_sources && s < SHOWN; s++) {
        if (e->sources[s] == outcome.anchor) {
            continue;
        }
        if (!f->correction && rv_episode_cites(e->answer, s + 1)) {
            used[outcome.n_used++] = e->sources[s];
        } else {
            unused[outcome.n_unused++] = e->sources[s];
        }
    }
    return outcome.anchor && outcome.n_used + outcome.n_unused
               ? rv_memory_reweigh(i->memory, rv_memory_of(e->user), &outcome, NULL)
               : RV_OK;
}

static rv_err learn_from(rv_instant *i, const rv_feedback *f, const rv_feedback_done *done, rv_arena *arena)
{
    rv_episode e;
    int64_t ids[SHOWN];
    bool used[SHOWN];
    const float *shown[SHOWN];
    RV_TRY(rv_episode_get(i->db, f->request_id, arena, &e));
    RV_TRY(move_edges(i, &e, f, done));
    size_t n = judge_sources(&e, f, done, ids, used), n_used = 0;
    RV_TRY(read_vectors(i, ids, used, &n, arena, shown));
    for (size_t s = 0; s < n; s++) {
        n_used += used[s];
    }
    if (n_used == 0 || n_used == n) {
        return RV_OK;
    }
    lesson l;
    rv_err err = make_lesson(i, &e, f->correction || f->rating == 5 ? 1 : 0.75F, shown, used, n, &l);
    if (err) {
        rv_free(i->mem, l.vectors);
        return err;
    }
    return learn(i, &l);
}

rv_err rv_instant_feedback(rv_instant *i, const rv_feedback *feedback, const rv_feedback_done *done)
{
    rv_arena *arena = NULL;
    RV_TRY(rv_arena_new(i->mem, ARENA_BYTES, &arena));
    pthread_mutex_lock(&i->learning);
    rv_err e = learn_from(i, feedback, done, arena);
    pthread_mutex_unlock(&i->learning);
    rv_arena_free(arena);
    return e;
}

void rv_instant_get_stats(rv_instant *i, rv_instant_stats *out)
{
    pthread_mutex_lock(&i->learning);
    *out = (rv_instant_stats){ .version = i->version,
                               .signals = i->signals,
                               .held = i->n_held < HELD ? i->n_held : HELD,
                               .published = i->n_published,
                               .taken_back = i->n_taken_back,
                               .loss_before = held_loss(i, i->plain),
                               .loss_now = held_loss(i, i->published) };
    pthread_mutex_unlock(&i->learning);
}
