/* Dreams: walks at random over the graph. A walk goes on from where it is, along heavy edges and to what is seldom used; what it brought together
 * is an association when the two are alike and not joined yet. */
#include "learn/deep.h"

#include "base/rng.h"
#include "learn/graph_view.h"
#include "learn/overlay.h"
#include "learn/probes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WALKS = 100, STEPS = 12, APART = 4, EDGES_MAX = 200, PROBES = 500, ARENA_BYTES = 512 << 20 };
static const double SEEN = 0.1, CREATIVE = 0.5, ALIKE = 0.3, TOO_ALIKE = 0.8;

typedef struct dreaming {
    const rv_deep_place *place;
    rv_arena *arena;
    rv_graph_view view;
    rv_rng rng;
    double most_used;
    size_t *starts; /* [n_starts] nodes with edges */
    size_t n_starts;
    rv_memory_edge *edges; /* [n_edges] */
    size_t n_edges, accepted, walks;
} dreaming;

typedef struct walk {
    size_t at[STEPS]; /* [n] */
    size_t n;
} walk;

static rv_err no_room(void)
{
    return rv_fail(RV_E_NOMEM, "dreaming");
}

static double cosine(const dreaming *d, size_t a, size_t b)
{
    const float *x = d->view.nodes[a].vector, *y = d->view.nodes[b].vector;
    double sum = 0;
    for (size_t i = 0; i < d->view.dim; i++) {
        sum += (double)x[i] * (double)y[i];
    }
    return sum;
}

/* What is one user's is never joined with another's. */
static bool may_meet(const dreaming *d, size_t a, size_t b)
{
    const char *x = d->view.nodes[a].user, *y = d->view.nodes[b].user;
    return !*x || !*y || strcmp(x, y) == 0;
}

static bool visited(const walk *w, size_t node)
{
    size_t i = 0;
    while (i < w->n && w->at[i] != node) {
        i++;
    }
    return i < w->n;
}

/* A neighbour drawn by weight and by how seldom it is used; SIZE_MAX: there is none. */
static size_t step(dreaming *d, const walk *w)
{
    const rv_view_node *node = &d->view.nodes[w->at[w->n - 1]];
    double sum = 0, at;
    for (int pass = 0; pass < 2; pass++) {
        at = pass ? rv_rng_unit(&d->rng) * sum : 0;
        for (size_t i = 0; i < node->n_edges; i++) {
            const rv_view_edge *e = &d->view.edges[node->first_edge + i];
            double seldom = 1 - (double)d->view.nodes[e->to].used / d->most_used;
            double p = e->weight * (visited(w, e->to) ? SEEN : 1 + CREATIVE * seldom);
            if (!may_meet(d, w->at[0], e->to)) {
                continue;
            }
            if (!pass) {
                sum += p;
            } else if ((at -= p) <= 0) {
                return e->to;
            }
        }
    }
    return SIZE_MAX;
}

/* Novel, coherent, useful and diverse; the weights and bounds are hand-set. */
static double worth(const dreaming *d, const walk *w)
{
    double novel = 0, coherent = 0, useful = 0, diverse = 0, pairs = 0;
    for (size_t i = 0; i < w->n; i++) {
        useful += d->view.nodes[w->at[i]].confidence / (double)w->n;
        coherent += i ? cosine(d, w->at[i - 1], w->at[i]) / (double)(w->n - 1) : 0;
        for (size_t j = i + 1; j < w->n; j++) {
            double c = cosine(d, w->at[i], w->at[j]);
            bool joined = w->at[i] == w->at[j] || rv_graph_view_joined(&d->view, w->at[i], w->at[j]);
            novel += !joined && c > ALIKE && c < TOO_ALIKE;
            diverse += 1 - c;
            pairs++;
        }
    }
    novel /= pairs;
    diverse /= pairs;
    double all = 0.4 * novel + 0.3 * coherent + 0.2 * useful + 0.1 * diverse;
    return novel > 0.3 && coherent > 0.4 && all > 0.5 ? all : 0;
}

static bool is_new(const dreaming *d, int64_t a, int64_t b)
{
    for (size_t i = 0; i < d->n_edges; i++) {
        const rv_memory_edge *e = &d->edges[i];
        if ((e->from == a && e->to == b) || (e->from == b && e->to == a)) {
            return false;
        }
    }
    return true;
}

static void join(dreaming *d, const walk *w, double value)
{
    for (size_t i = 0; i < w->n; i++) {
        for (size_t j = i + 1; j < w->n && j <= i + APART && d->n_edges < EDGES_MAX; j++) {
            double c = cosine(d, w->at[i], w->at[j]);
            int64_t a = d->view.nodes[w->at[i]].id, b = d->view.nodes[w->at[j]].id;
            if (c > ALIKE && a != b && may_meet(d, w->at[i], w->at[j]) &&
                !rv_graph_view_joined(&d->view, w->at[i], w->at[j]) && is_new(d, a, b)) {
                double weight = fmax(0.011, 0.1 * c / (double)(j - i) * value);
                d->edges[d->n_edges++] =
                    (rv_memory_edge){ a, b, rv_overlay_types[RV_OVERLAY_DREAMS], weight };
            }
        }
    }
}

static rv_err dream(dreaming *d)
{
    d->starts = rv_arena_take(d->arena, (d->view.n + 1) * sizeof *d->starts);
    d->edges = rv_arena_take(d->arena, EDGES_MAX * sizeof *d->edges);
    if (!d->starts || !d->edges) {
        return no_room();
    }
    d->most_used = 1;
    for (size_t i = 0; i < d->view.n; i++) {
        d->most_used = fmax(d->most_used, (double)d->view.nodes[i].used);
        if (d->view.nodes[i].n_edges) {
            d->starts[d->n_starts++] = i;
        }
    }
    for (size_t i = 0; i < WALKS && d->n_starts && d->n_edges < EDGES_MAX; i++) {
        walk w = { .at = { d->starts[rv_rng_below(&d->rng, d->n_starts)] }, .n = 1 };
        for (size_t next; w.n < STEPS && (next = step(d, &w)) != SIZE_MAX;) {
            w.at[w.n++] = next;
        }
        if (rv_deep_time_is_up(d->place)) {
            return rv_fail(RV_E_TIMEOUT, "the time was up after %zu dreams", i);
        }
        d->walks++;
        double value = w.n > 2 ? worth(d, &w) : 0;
        d->accepted += value > 0;
        if (value > 0) {
            join(d, &w, value);
        }
    }
    return RV_OK;
}

/* New edges stand beside those of earlier nights, until pruning takes them. */
static rv_err publish(dreaming *d, const rv_loop_report *r, size_t n_probes)
{
    char metrics[160], data[96];
    rv_memory_edge *now = NULL;
    size_t n = 0;
    int64_t version;
    RV_TRY(rv_overlay_read(d->place->db, RV_OVERLAY_DREAMS, &now, &n));
    rv_memory_edge *all = rv_arena_take(d->arena, (n + d->n_edges) * sizeof *all);
    if (all) {
        memcpy(all, d->edges, d->n_edges * sizeof *all);
        for (size_t i = 0; i < n; i++) {
            all[d->n_edges + i] = now[i];
        }
    }
    rv_free(&rv_heap, now);
    if (!all) {
        return no_room();
    }
    snprintf(metrics, sizeof metrics, "{\"ndcg_before\":%.4f,\"ndcg_after\":%.4f,\"questions\":%zu}",
             r->before, r->after, n_probes);
    snprintf(data, sizeof data, "{\"dreams\":%zu,\"accepted\":%zu,\"edges\":%zu}", d->walks, d->accepted,
             d->n_edges);
    return rv_overlay_publish(d->place, RV_OVERLAY_DREAMS, all, n + d->n_edges,
                              &(rv_policy_new){ .note = "rated questions find their passages better",
                                                .metrics = metrics,
                                                .data = data },
                              &version);
}

static rv_err judge(dreaming *d, rv_loop_report *out)
{
    const rv_deep_place *p = d->place;
    rv_probe *probes;
    rv_probes_score before, after;
    size_t n;
    RV_TRY(rv_probes_read(p->db, p->embed, p->good, PROBES, d->arena, &probes, &n));
    if (n < RV_PROBES_LEAST) {
        snprintf(out->why, sizeof out->why,
                 "dropped: %zu dreams, %zu edges; %d rated questions measure them, there are %zu",
                 d->accepted, d->n_edges, RV_PROBES_LEAST, n);
        return RV_OK;
    }
    RV_TRY(rv_probes_measure(p, probes, n, &(rv_memory_query){ .mode = RV_MEMORY_GRAPH }, &before));
    RV_TRY(rv_probes_measure(
        p, probes, n,
        &(rv_memory_query){ .mode = RV_MEMORY_GRAPH, .supposed = d->edges, .n_supposed = d->n_edges },
        &after));
    bool better = after.ndcg >= before.ndcg + RV_DEEP_MARGIN && after.recall >= before.recall;
    *out = (rv_loop_report){ .accepted = better,
                             .changed = better ? (int64_t)d->n_edges : 0,
                             .measure = "nDCG@10",
                             .before = before.ndcg,
                             .after = after.ndcg };
    snprintf(out->why, sizeof out->why, "%zu of %zu dreams, %zu edges: %s on %zu rated questions",
             d->accepted, d->walks, d->n_edges, better ? "used, better" : "dropped, not better by 0.005", n);
    return better ? publish(d, out, n) : RV_OK;
}

static rv_err run(dreaming *d, rv_loop_report *out)
{
    RV_TRY(rv_graph_view_read(d->place->db, d->place->memory, RV_DEEP_NODES, d->arena, &d->view));
    RV_TRY(dream(d));
    if (d->n_starts == 0 || d->n_edges == 0) {
        snprintf(out->why, sizeof out->why, "%s",
                 d->n_starts ? "nothing: no dream was both novel and coherent"
                             : "nothing to do: no memory has an edge");
        return RV_OK;
    }
    return judge(d, out);
}

rv_err rv_deep_dreams(const rv_deep_place *place, rv_loop_report *out)
{
    dreaming d = { .place = place };
    RV_TRY(rv_arena_new(&rv_heap, ARENA_BYTES, &d.arena));
    rv_rng_init(&d.rng, rv_clock_ns());
    rv_err e = run(&d, out);
    rv_arena_free(d.arena);
    if (e == RV_E_TIMEOUT) {
        snprintf(out->why, sizeof out->why, "the time was up: nothing of it is used");
        return RV_OK;
    }
    return e;
}
