/* Measuring a fast index on the rows it holds: which breadth finds which part of the nearest, and how long that takes here. A question
 * lies farther from the rows than they do from each other, and what is asked for here has to lie as far, or the index would be
 * believed to find more than it does: so some words of a stored text are asked for. */
#include "memory/memory_priv.h"
#include "base/clock.h"
#include "base/rng.h"

#include <math.h>
#include <string.h>

enum { ASKED = 96, K_MOST = 100, FLAT_ROWS = 20000, QUESTION_WORDS = 5, QUESTION_BYTES = 512 };
static const double good = 0.9995;

static const uint32_t hnsw_ladder[RV_GAUGES_MAX] = { 10, 16,  24,  32,  40,  48,  64,  80,
                                                     96, 128, 192, 256, 320, 384, 448, 512 };
static const uint32_t rabitq_ladder[RV_GAUGES_MAX] = { 1,  2,  4,  8,   12,  16,  24,  32,
                                                       48, 64, 96, 128, 192, 256, 384, 512 };

typedef struct gauging {
    rv_index *index;
    size_t dim, n;
    float *queries; /* [ASKED][dim] */
    rv_hit *truth;  /* [ASKED][K_MOST] */
    size_t n_truth; /* of each */
    rv_hit *hits;   /* [K_MOST] */
} gauging;

/* Some words of a text, drawn one by one, with a space behind each. Its bytes, 0: it has none. */
static size_t draw_words(rv_rng *rng, rv_str text, char out[QUESTION_BYTES])
{
    size_t n = 0;
    for (int i = 0; i < QUESTION_WORDS && text.n > 0; i++) {
        size_t from = rv_rng_below(rng, text.n), to;
        while (from > 0 && text.at[from - 1] != ' ') {
            from--;
        }
        for (to = from; to < text.n && text.at[to] != ' ';) {
            to++;
        }
        if (to - from < QUESTION_BYTES - n) {
            memcpy(out + n, text.at + from, to - from);
            n += to - from;
            out[n++] = ' ';
        }
    }
    return n;
}

/* The vector of such words of one node. False: there is no such node any more, or it cannot be embedded. */
static bool ask_words(const rv_memory *m, sqlite3 *conn, rv_rng *rng, int64_t id, float *out)
{
    char question[QUESTION_BYTES];
    sqlite3_stmt *stmt = NULL;
    bool row = false;
    size_t n = 0;
    rv_err e = rv_db_prepare(conn, &stmt, "SELECT text FROM nodes WHERE id=?1", "i", id);
    e = e ? e : rv_db_step(stmt, &row);
    if (!e && row) {
        const char *text = (const char *)sqlite3_column_text(stmt, 0);
        n = text ? draw_words(rng, rv_str_of(text, (size_t)sqlite3_column_bytes(stmt, 0)), question) : 0;
    }
    sqlite3_finalize(stmt);
    return n > 0 && m->embedder.text(m->embedder.self, question, n, out) == RV_OK;
}

static rv_err make_queries(const rv_memory *m, gauging *g, const int64_t *ids, const float *const *rows)
{
    rv_rng rng;
    sqlite3 *conn;
    rv_rng_init(&rng, 1);
    RV_TRY(rv_db_reader(m->db, &conn));
    for (size_t q = 0; q < ASKED; q++) {
        size_t of = rv_rng_below(&rng, g->n);
        if (!ask_words(m, conn, &rng, ids[of], g->queries + q * g->dim)) {
            memcpy(g->queries + q * g->dim, rows[of], g->dim * sizeof *rows[of]);
        }
    }
    rv_db_reader_done(m->db, conn);
    return RV_OK;
}

/* By codes, with many times as many candidates compared exactly as are kept. */
static rv_err find_truth(gauging *g, double *ms)
{
    rv_search how = { .k = K_MOST, .rerank = 5 * K_MOST, .way = RV_WAY_SCAN };
    *ms = INFINITY;
    for (size_t q = 0; q < ASKED; q++) {
        double from = rv_clock_ms();
        RV_TRY(rv_index_search(g->index, g->queries + q * g->dim, &how, g->truth + q * K_MOST, &g->n_truth));
        *ms = rv_clock_ms() - from < *ms ? rv_clock_ms() - from : *ms;
    }
    return RV_OK;
}

/* One breadth and k: the mean recall, and the time of the middle. */
static rv_err measure(gauging *g, size_t breadth, size_t k, float *recall, float *us)
{
    float times[ASKED];
    size_t found = 0, good_ones = 0, wanted = k < g->n_truth ? k : g->n_truth;
    for (size_t q = 0; q < ASKED; q++) {
        const rv_hit *truth = g->truth + q * K_MOST;
        double from = rv_clock_ms();
        RV_TRY(rv_index_search(g->index, g->queries + q * g->dim, &(rv_search){ .k = k, .ef = breadth },
                               g->hits, &found));
        float t = (float)((rv_clock_ms() - from) * 1e3);
        size_t at = q;
        for (; at > 0 && times[at - 1] > t; at--) {
            times[at] = times[at - 1];
        }
        times[at] = t;
        for (size_t i = 0; i < found && wanted > 0; i++) {
            good_ones += g->hits[i].score >= truth[wanted - 1].score - 1e-6f;
        }
    }
    *recall = wanted ? (float)good_ones / (float)(ASKED * wanted) : 1;
    *us = times[ASKED / 2];
    return RV_OK;
}

/* Up to a breadth that finds all, or that takes longer than looking at every code: unless this kind was named, that is done instead. */
static rv_err climb(fast *f, gauging *g, bool named)
{
    static const size_t ks[RV_GAUGED_KS] = { 10, K_MOST };
    const uint32_t *ladder =
        strcmp(rv_index_get_config(f->index)->kind, "hnsw") == 0 ? hnsw_ladder : rabitq_ladder;
    const float scan_us = f->scan_ns * (float)g->n * 1e-3f;
    f->n_gauges = 0;
    for (size_t i = 0; i < RV_GAUGES_MAX; i++) {
        gauge *at = &f->gauges[i];
        at->breadth = ladder[i];
        for (size_t k = 0; k < RV_GAUGED_KS; k++) {
            RV_TRY(measure(g, ladder[i], ks[k], &at->recall[k], &at->us[k]));
        }
        f->n_gauges = i + 1;
        const bool all = (double)at->recall[0] >= good && (double)at->recall[1] >= good;
        const bool slow = at->us[0] > scan_us && at->us[1] > scan_us;
        if (all || (slow && !named)) {
            break; /* wider is only slower */
        }
    }
    return RV_OK;
}

/* ns of one exact comparison, over rows that lie apart. */
static float flat_ns_of(const float *const *rows, size_t n, const gauging *g)
{
    n = n < FLAT_ROWS ? n : FLAT_ROWS;
    rv_index *flat;
    size_t found;
    double ms = 0;
    rv_index_config how = { .kind = "flat", .dim = g->dim };
    if (rv_index_new(&rv_heap, &how, &flat)) {
        return 0;
    }
    rv_err e = rv_index_reserve(flat, n);
    for (size_t i = 0; !e && i < n; i++) {
        rv_index_add(flat, (int64_t)i + 1, rows[i]);
    }
    for (int pass = 0; !e && pass < 2; pass++) { /* the second is the warm one */
        double from = rv_clock_ms();
        e = rv_index_search(flat, g->queries, &(rv_search){ .k = K_MOST }, g->hits, &found);
        ms = rv_clock_ms() - from;
    }
    rv_index_free(flat);
    return e ? 0 : (float)(ms * 1e6 / (double)n);
}

rv_err rv_fast_gauge(const rv_memory *m, fast *f, const int64_t *ids, const float *const *rows, size_t n)
{
    const size_t dim = rv_index_get_config(f->index)->dim;
    gauging g = { .index = f->index, .dim = dim, .n = n };
    g.queries = rv_new_array(f->mem, ASKED * dim, sizeof *g.queries);
    g.truth = rv_new_array(f->mem, (ASKED + 1) * K_MOST, sizeof *g.truth);
    rv_err e =
        g.queries && g.truth && n > 0 ? RV_OK : rv_fail(RV_E_NOMEM, "memory: no room to measure an index");
    if (!e) {
        g.hits = g.truth + ASKED * K_MOST;
        double ms = 0;
        e = make_queries(m, &g, ids, rows);
        e = e ? e : find_truth(&g, &ms);
        f->scan_ns = (float)(ms * 1e6 / (double)n);
        e = e ? e : climb(f, &g, strcmp(m->tuning.index, rv_index_get_config(f->index)->kind) == 0);
        f->flat_ns = flat_ns_of(rows, n, &g);
    }
    rv_free(f->mem, g.queries);
    rv_free(f->mem, g.truth);
    return e;
}
