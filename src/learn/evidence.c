#include "learn/evidence.h"

#include <math.h>
#include <string.h>

static const double MONTH_MS = 30 * 86400e3;

static rv_evidence relation(const char *edge)
{
    static const struct {
        const char *name;
        rv_evidence as;
    } names[] = { { "cites", RV_EVIDENCE_CITES },
                  { "follows", RV_EVIDENCE_FOLLOWS },
                  { "same_topic", RV_EVIDENCE_SAME_TOPIC },
                  { "agent_step", RV_EVIDENCE_AGENT_STEP },
                  { "derived", RV_EVIDENCE_DERIVED },
                  { "contains", RV_EVIDENCE_CONTAINS },
                  { "", RV_EVIDENCE_RETRIEVED } };
    for (size_t i = 0; i < RV_COUNT(names); i++) {
        if (strcmp(edge, names[i].name) == 0) {
            return names[i].as;
        }
    }
    return RV_EVIDENCE_OTHER;
}

static size_t index_of(const rv_memory_subgraph *g, int64_t id)
{
    size_t i = 0;
    while (i < g->n && g->at[i].node.id != id) {
        i++;
    }
    return i;
}

static void support(float *of, double score, double weight)
{
    float s = (float)(score * weight);
    *of = s > *of ? s : *of;
}

/* Hits lend their score to each other along edges; what was reached lends nothing, its parent lends to it. */
static rv_err add_support(rv_memory *m, const rv_memory_subgraph *g, rv_arena *arena, rv_attend_node *nodes)
{
    for (size_t i = 0; i < g->n; i++) {
        const rv_memory_subnode *s = &g->at[i];
        rv_memory_edge *edges;
        size_t n = 0;
        if (s->hop > 0) {
            support(&nodes[i].evidence[RV_EVIDENCE_SUPPORT], g->at[s->parent].node.score, s->weight);
            continue;
        }
        RV_TRY(rv_memory_neighbours(m, rv_memory_whole(), s->node.id, arena, &edges, &n));
        for (size_t j = 0; j < n; j++) {
            size_t other = index_of(g, edges[j].from == s->node.id ? edges[j].to : edges[j].from);
            if (other < g->n && g->at[other].hop == 0) {
                support(&nodes[i].evidence[RV_EVIDENCE_SUPPORT], g->at[other].node.score, edges[j].weight);
            }
        }
    }
    return RV_OK;
}

static const rv_memory_node *hit_of(const rv_memory_hits *hits, int64_t id)
{
    for (size_t i = 0; i < hits->n; i++) {
        if (hits->at[i].id == id) {
            return &hits->at[i];
        }
    }
    return NULL;
}

static double dot(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)a[i] * b[i];
    }
    return sum;
}

rv_err rv_evidence_nodes(rv_memory *m, const rv_memory_subgraph *graph, const rv_memory_hits *hits,
                         const float *query, size_t dim, int64_t now_ms, rv_arena *arena,
                         rv_attend_node **out)
{
    rv_attend_node *nodes = rv_arena_take(arena, (graph->n + !graph->n) * sizeof *nodes);
    float *nothing = rv_arena_take(arena, dim * sizeof *nothing);
    double best_words = 0;
    if (!nodes || !nothing) {
        return rv_fail(RV_E_NOMEM, "graph attention: its nodes");
    }
    for (size_t i = 0; i < hits->n; i++) {
        best_words = fmax(best_words, hits->at[i].words_score); /* passes over NaN */
    }
    for (size_t i = 0; i < graph->n; i++) {
        const rv_memory_subnode *s = &graph->at[i];
        float *e = nodes[i].evidence;
        const rv_memory_node *hit = hit_of(hits, s->node.id);
        double words = hit ? hit->words_score : NAN, age = fmax(0, (double)(now_ms - s->node.created_ms));
        nodes[i].vector = s->vector ? s->vector : nothing;
        nodes[i].hop = s->hop < RV_ATTEND_HOPS ? s->hop : RV_ATTEND_HOPS - 1;
        e[relation(s->edge)] = 1;
        e[RV_EVIDENCE_WEIGHT] = (float)(s->hop ? s->weight : s->node.score);
        e[RV_EVIDENCE_PATH] = (float)(s->hop ? s->path : s->node.score);
        e[RV_EVIDENCE_CONFIDENCE] = (float)s->node.confidence;
        e[RV_EVIDENCE_NODE_RECENCY] = (float)exp(-age / MONTH_MS);
        e[RV_EVIDENCE_QUALITY] = strcmp(s->node.type, "fact") == 0 || strcmp(s->node.type, "qa") == 0;
        e[RV_EVIDENCE_HOP] = (float)s->hop / 2;
        e[RV_EVIDENCE_AGAINST] = s->against;
        e[RV_EVIDENCE_WORDS] = words > 0 ? (float)(words / best_words) : 0;
        e[RV_EVIDENCE_COSINE] = (float)dot(query, nodes[i].vector, dim);
        e[RV_EVIDENCE_LENGTH] = log2f(1 + (float)strlen(s->node.text)) / 16;
    }
    RV_TRY(add_support(m, graph, arena, nodes));
    *out = nodes;
    return RV_OK;
}
