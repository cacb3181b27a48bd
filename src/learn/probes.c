#include "learn/probes.h"

#include "base/json.h"
#include "learn/episode.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { AT = 10, CANDIDATES = 16, ARENA_BYTES = 8 << 20 };

/* Newest first, one row a request: its correction, else its good rating. */
static const char sql[] = "SELECT e.question, e.user, e.sources, e.answer, max(CASE f.kind WHEN 'correction' "
                          "THEN f.node ELSE 0 END),"
                          " e.created_ms FROM feedback f JOIN episode e ON e.request_id = f.request_id"
                          " WHERE f.kind = 'correction' OR f.rating >= ?2"
                          " GROUP BY e.request_id ORDER BY e.created_ms DESC LIMIT ?1";

static rv_err no_room(void)
{
    return rv_fail(RV_E_NOMEM, "reading rated questions");
}

static const char *column(sqlite3_stmt *s, int at, rv_arena *arena)
{
    return rv_arena_strndup(arena, (const char *)sqlite3_column_text(s, at),
                            (size_t)sqlite3_column_bytes(s, at));
}

static rv_err cited(const char *sources, const char *answer, rv_arena *arena, rv_probe *out)
{
    json_t *list = NULL;
    rv_err e = rv_json_parse(sources, strlen(sources), &list);
    if (e) {
        return e == RV_E_FORMAT ? RV_OK
                                : e; /* one that is damaged says nothing, and keeps no others from it */
    }
    int64_t *ids = rv_arena_take(arena, (json_array_size(list) + 1) * sizeof *ids);
    for (size_t i = 0; ids && i < json_array_size(list); i++) {
        if (rv_episode_cites(answer, i + 1)) {
            ids[out->n_useful++] = json_integer_value(json_array_get(list, i));
        }
    }
    json_decref(list);
    out->useful = ids;
    return ids ? RV_OK : no_room();
}

static rv_err read_one(sqlite3_stmt *s, const rv_embed *embed, rv_arena *arena, rv_probe *out)
{
    int64_t fact = sqlite3_column_int64(s, 4);
    float *vector = rv_arena_take(arena, rv_embed_dim(embed) * sizeof *vector);
    *out = (rv_probe){ .question = column(s, 0, arena),
                       .user = column(s, 1, arena),
                       .vector = vector,
                       .until_ms = fact ? 0 : sqlite3_column_int64(s, 5) };
    const char *sources = column(s, 2, arena), *answer = column(s, 3, arena);
    if (!out->question || !out->user || !vector || !sources || !answer) {
        return no_room();
    }
    RV_TRY(rv_embed_text(embed, out->question, strlen(out->question), vector));
    if (!fact) {
        return cited(sources, answer, arena, out);
    }
    int64_t *id = rv_arena_take(arena, sizeof *id);
    if (!id) {
        return no_room();
    }
    *id = fact;
    out->useful = id;
    out->n_useful = 1;
    return RV_OK;
}

rv_err rv_probes_read(rv_db *db, const rv_embed *embed, int good, size_t most, rv_arena *arena,
                      rv_probe **out, size_t *n)
{
    sqlite3 *conn;
    sqlite3_stmt *s = NULL;
    bool row = false;
    size_t found = 0, room;
    rv_probe *list = rv_mul_size(most, sizeof *list, &room) ? rv_arena_take(arena, room) : NULL;
    if (!list) {
        return no_room();
    }
    RV_TRY(rv_db_reader(db, &conn));
    rv_err e = rv_db_prepare(conn, &s, sql, "ii", (int64_t)most, (int64_t)rv_good_rating(good));
    while (!e && found < most && !(e = rv_db_step(s, &row)) && row) {
        e = read_one(s, embed, arena, &list[found]);
        found += !e && list[found].n_useful > 0;
    }
    sqlite3_finalize(s);
    rv_db_reader_done(db, conn);
    if (!e) {
        *out = list;
        *n = found;
    }
    return e;
}

static bool is_useful(const rv_probe *p, int64_t id)
{
    size_t i = 0;
    while (i < p->n_useful && p->useful[i] != id) {
        i++;
    }
    return i < p->n_useful;
}

static void score(const rv_probe *p, const rv_memory_hits *hits, rv_probes_score *sum)
{
    double gain = 0, best = 0;
    size_t found = 0;
    for (size_t i = 0; i < AT; i++) {
        double worth = 1 / log2((double)i + 2);
        best += i < p->n_useful ? worth : 0;
        if (i < hits->n && is_useful(p, hits->at[i].id)) {
            gain += worth;
            found++;
        }
    }
    sum->recall += (double)found / (double)(p->n_useful < AT ? p->n_useful : AT);
    sum->ndcg += gain / best;
}

rv_err rv_probes_measure(const rv_deep_place *place, const rv_probe *probes, size_t n,
                         const rv_memory_query *how, rv_probes_score *out)
{
    rv_probes_score sum = { 0 };
    rv_arena *arena = NULL;
    RV_TRY(rv_arena_new(&rv_heap, ARENA_BYTES, &arena));
    rv_err e = RV_OK;
    for (size_t i = 0; !e && i < n; i++) {
        rv_memory_hits hits;
        rv_memory_query q = { .text = probes[i].question,
                              .vector = probes[i].vector,
                              .mode = how->mode,
                              .k = CANDIDATES,
                              .filter = { .until_ms = probes[i].until_ms },
                              .with_corrected = true,
                              .vector_weight = how->vector_weight,
                              .supposed = how->supposed,
                              .n_supposed = how->n_supposed };
        e = rv_deep_time_is_up(place)
                ? rv_fail(RV_E_TIMEOUT, "the time was up after %zu of %zu questions", i, n)
                : rv_memory_search(place->memory, rv_memory_of(probes[i].user), &q, arena, &hits);
        if (!e) {
            score(&probes[i], &hits, &sum);
        }
        rv_arena_reset(arena);
    }
    rv_arena_free(arena);
    if (!e && n > 0) {
        *out = (rv_probes_score){ sum.recall / (double)n, sum.ndcg / (double)n };
    }
    return e;
}
