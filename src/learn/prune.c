/* Pruning of edges: what dreams made and nobody used, and what feedback has taken to the least weight there is. Edges that say where something
 * comes from (contains, corrects, derived, follows), and those of the user's own types, stay. */
#include "learn/deep.h"

#include "learn/overlay.h"
#include "learn/probes.h"

#include <stdio.h>
#include <string.h>

enum { EDGES_MAX = 2000, PROBES = 500, ARENA_BYTES = 64 << 20 };
static const int64_t DREAM_MS = 30LL * 86400 * 1000;

/* 0.01 is what rv_memory_reweigh takes a weight down to; whenever it moves one, created_ms is set anew. */
static const char sql[] = "SELECT from_id, to_id, type FROM edges"
                          " WHERE (type IN ('same_topic', 'cites', 'creative') AND weight < 0.0101)"
                          " OR (type = 'creative' AND created_ms < ?1) LIMIT ?2";

static rv_err read_weak(const rv_deep_place *p, rv_arena *arena, rv_memory_edge **out, size_t *n)
{
    sqlite3 *conn;
    sqlite3_stmt *s = NULL;
    bool row = true;
    rv_memory_edge *list = rv_arena_take(arena, EDGES_MAX * sizeof *list);
    if (!list) {
        return rv_fail(RV_E_NOMEM, "pruning edges");
    }
    *n = 0;
    RV_TRY(rv_db_reader(p->db, &conn));
    rv_err e = rv_db_prepare(conn, &s, sql, "ii", rv_clock_wall_ms() - DREAM_MS, (int64_t)EDGES_MAX);
    while (!e && *n < EDGES_MAX && !(e = rv_db_step(s, &row)) && row) {
        const char *type = rv_arena_strdup(arena, (const char *)sqlite3_column_text(s, 2));
        list[(*n)++] = (rv_memory_edge){ sqlite3_column_int64(s, 0), sqlite3_column_int64(s, 1), type, 0 };
        e = type ? RV_OK : rv_fail(RV_E_NOMEM, "pruning edges");
    }
    sqlite3_finalize(s);
    rv_db_reader_done(p->db, conn);
    *out = list;
    return e;
}

/* The dreams that stay, as a version: else the next start would make the others again. */
static rv_err keep_dreams(const rv_deep_place *p, const rv_memory_edge *weak, size_t n_weak)
{
    rv_memory_edge *all = NULL;
    size_t n = 0, kept = 0;
    int64_t version;
    RV_TRY(rv_overlay_read(p->db, RV_OVERLAY_DREAMS, &all, &n));
    for (size_t i = 0; i < n; i++) {
        size_t at = 0;
        while (at < n_weak && (weak[at].from != all[i].from || weak[at].to != all[i].to ||
                               strcmp(weak[at].type, all[i].type) != 0)) {
            at++;
        }
        if (at == n_weak) {
            all[kept++] = all[i];
        }
    }
    rv_err e =
        kept < n
            ? rv_overlay_publish(p, RV_OVERLAY_DREAMS, all, kept,
                                 &(rv_policy_new){ .note = "dreams that nothing used were pruned" }, &version)
            : RV_OK;
    rv_free(&rv_heap, all);
    return e;
}

static rv_err run(const rv_deep_place *p, rv_arena *arena, rv_loop_report *out)
{
    rv_memory_edge *weak = NULL;
    rv_probe *probes = NULL;
    rv_probes_score before = { 0 }, after = { 0 };
    size_t n = 0, n_probes = 0;
    RV_TRY(read_weak(p, arena, &weak, &n));
    if (n == 0) {
        snprintf(out->why, sizeof out->why, "nothing to do: no edge is spent");
        return RV_OK;
    }
    RV_TRY(rv_probes_read(p->db, p->embed, p->good, PROBES, arena, &probes, &n_probes));
    if (n_probes < RV_PROBES_LEAST) {
        snprintf(out->why, sizeof out->why,
                 "%zu spent edges stay: %d rated questions measure them, there are %zu", n, RV_PROBES_LEAST,
                 n_probes);
        return RV_OK;
    }
    RV_TRY(rv_probes_measure(p, probes, n_probes, &(rv_memory_query){ .mode = RV_MEMORY_GRAPH }, &before));
    RV_TRY(rv_probes_measure(p, probes, n_probes,
                             &(rv_memory_query){ .mode = RV_MEMORY_GRAPH, .supposed = weak, .n_supposed = n },
                             &after));
    bool good = after.ndcg >= before.ndcg && after.recall >= before.recall;
    *out = (rv_loop_report){ .accepted = good,
                             .changed = good ? (int64_t)n : 0,
                             .measure = "nDCG@10",
                             .before = before.ndcg,
                             .after = after.ndcg };
    snprintf(out->why, sizeof out->why, "%zu spent edges %s", n,
             good ? "removed" : "stay: rated questions would find their passages worse");
    if (good) {
        RV_TRY(keep_dreams(p, weak, n));
        rv_deep_passing(p, "edges");
        RV_TRY(rv_memory_relink(p->memory, rv_memory_whole(), weak, n));
    }
    return RV_OK;
}

rv_err rv_deep_prune_edges(const rv_deep_place *place, rv_loop_report *out)
{
    rv_arena *arena;
    RV_TRY(rv_arena_new(&rv_heap, ARENA_BYTES, &arena));
    rv_err e = run(place, arena, out);
    rv_arena_free(arena);
    if (e == RV_E_TIMEOUT) {
        *out = (rv_loop_report){ 0 };
        snprintf(out->why, sizeof out->why, "the time was up: no edge was removed");
        return RV_OK;
    }
    return e;
}
