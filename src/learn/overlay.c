#include "learn/overlay.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER = 16, EDGE = 20, EDGES_MAX = 1 << 20 };
static const char magic[8] = { 'r', 'v', 'e', 'd', 'g', 'e', '\r', '\n' };

const char *const rv_overlay_names[RV_OVERLAYS] = { "concepts", "dreams" };
const char *const rv_overlay_types[RV_OVERLAYS] = { "derived", "creative" };

static rv_err no_room(void)
{
    return rv_fail(RV_E_NOMEM, "learned edges");
}

/* ---- as bytes ---- */

static void put(uint8_t *at, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
}

static uint64_t get(const uint8_t *at, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++) {
        value |= (uint64_t)at[i] << (8 * i);
    }
    return value;
}

static void write_edges(const rv_memory_edge *edges, size_t n, uint8_t *out)
{
    memcpy(out, magic, sizeof magic);
    put(out + 8, 1, 4);
    put(out + 12, n, 4);
    for (size_t i = 0; i < n; i++) {
        uint8_t *at = out + HEADER + i * EDGE;
        float weight = (float)edges[i].weight;
        uint32_t bits;
        memcpy(&bits, &weight, sizeof bits);
        put(at, (uint64_t)edges[i].from, 8);
        put(at + 8, (uint64_t)edges[i].to, 8);
        put(at + 16, bits, 4);
    }
}

typedef struct edges {
    const char *type;
    rv_memory_edge *at; /* [n] */
    size_t n;
} edges;

rv_err rv_overlay_parse(const uint8_t *bytes, size_t n, const char *type, rv_memory_edge **out, size_t *n_out)
{
    size_t many = n < HEADER ? 0 : get(bytes + 12, 4);
    if (n < HEADER || memcmp(bytes, magic, sizeof magic) != 0 || get(bytes + 8, 4) != 1 || many > EDGES_MAX ||
        n != HEADER + many * EDGE) {
        return rv_fail(RV_E_FORMAT, "learned edges: %zu bytes, not a file that we read", n);
    }
    rv_memory_edge *list = rv_new_array(&rv_heap, many + 1, sizeof *list);
    if (!list) {
        return no_room();
    }
    for (size_t i = 0; i < many; i++) {
        const uint8_t *at = bytes + HEADER + i * EDGE;
        uint32_t bits = (uint32_t)get(at + 16, 4);
        float weight;
        memcpy(&weight, &bits, sizeof weight);
        list[i] = (rv_memory_edge){ (int64_t)get(at, 8), (int64_t)get(at + 8, 8), type, (double)weight };
        if (!(weight > 0 && weight <= 1)) {
            rv_free(&rv_heap, list);
            return rv_fail(RV_E_FORMAT, "learned edges: the weight of edge %zu is %g", i + 1, (double)weight);
        }
    }
    *out = list;
    *n_out = many;
    return RV_OK;
}

static rv_err take(void *self, const uint8_t *bytes, size_t n)
{
    edges *out = self;
    return rv_overlay_parse(bytes, n, out->type, &out->at, &out->n);
}

/* ---- the graph ---- */

static const char *const graph_sql[RV_OVERLAYS] = {
    "SELECT e.from_id, e.to_id, e.weight FROM edges e JOIN nodes n ON n.id = e.from_id"
    " WHERE e.type = 'derived' AND n.type = 'concept'",
    "SELECT from_id, to_id, weight FROM edges WHERE type = 'creative'",
};

rv_err rv_overlay_read(rv_db *db, rv_overlay_kind kind, rv_memory_edge **out, size_t *n)
{
    sqlite3 *conn;
    sqlite3_stmt *s = NULL;
    bool row = true;
    rv_memory_edge *list = NULL;
    size_t found = 0, room = 0;
    RV_TRY(rv_db_reader(db, &conn));
    rv_err e = rv_db_prepare(conn, &s, graph_sql[kind], "");
    while (!e && !(e = rv_db_step(s, &row)) && row) {
        if (found == room) {
            room = room ? 2 * room : 256;
            rv_memory_edge *more = rv_resize(&rv_heap, list, room * sizeof *more);
            if (!more) {
                e = no_room();
                break;
            }
            list = more;
        }
        list[found++] = (rv_memory_edge){ sqlite3_column_int64(s, 0), sqlite3_column_int64(s, 1),
                                          rv_overlay_types[kind], sqlite3_column_double(s, 2) };
    }
    sqlite3_finalize(s);
    rv_db_reader_done(db, conn);
    if (e) {
        rv_free(&rv_heap, list);
        return e;
    }
    *out = list;
    *n = found;
    return RV_OK;
}

static int by_ends(const void *a, const void *b)
{
    const rv_memory_edge *x = a, *y = b;
    return x->from != y->from ? (x->from < y->from ? -1 : 1) : x->to < y->to ? -1 : x->to > y->to;
}

static bool holds(const rv_memory_edge *sorted, size_t n, const rv_memory_edge *edge)
{
    return n > 0 && bsearch(edge, sorted, n, sizeof *edge, by_ends) != NULL;
}

/* Those that are wanted and not there, and those that are there and not wanted. */
static rv_err bring_in_line(rv_memory *memory, edges *wanted, edges *there)
{
    rv_memory_edge *moves = rv_new_array(&rv_heap, wanted->n + there->n + 1, sizeof *moves);
    size_t n = 0;
    if (!moves) {
        return no_room();
    }
    if (wanted->n) {
        qsort(wanted->at, wanted->n, sizeof *wanted->at, by_ends);
    }
    if (there->n) {
        qsort(there->at, there->n, sizeof *there->at, by_ends);
    }
    for (size_t i = 0; i < wanted->n; i++) {
        if (!holds(there->at, there->n, &wanted->at[i])) {
            moves[n++] = wanted->at[i];
        }
    }
    for (size_t i = 0; i < there->n; i++) {
        if (!holds(wanted->at, wanted->n, &there->at[i])) {
            moves[n] = there->at[i];
            moves[n++].weight = 0;
        }
    }
    rv_err e = n ? rv_memory_relink(memory, rv_memory_whole(), moves, n) : RV_OK;
    rv_free(&rv_heap, moves);
    return e;
}

static rv_err has_versions(rv_db *db, rv_overlay_kind kind, bool *ever)
{
    sqlite3 *conn;
    int64_t n = 0;
    RV_TRY(rv_db_reader(db, &conn));
    rv_err e = rv_db_int(conn, &n, "SELECT EXISTS (SELECT 1 FROM policy WHERE kind = ?1)", "t",
                         rv_overlay_names[kind]);
    rv_db_reader_done(db, conn);
    *ever = n > 0;
    return e;
}

rv_err rv_overlay_settle(rv_db *db, rv_memory *memory, rv_overlay_kind kind, int64_t *version)
{
    edges wanted = { .type = rv_overlay_types[kind] }, there = { 0 };
    bool ever = false;
    *version = 0;
    RV_TRY(has_versions(db, kind, &ever));
    if (!ever) { /* nor edges: looking for them would cost a pass over all there are */
        return RV_OK;
    }
    RV_TRY(rv_policy_open(db, &rv_heap, rv_overlay_names[kind], take, &wanted, version));
    rv_err e = rv_overlay_read(db, kind, &there.at, &there.n);
    e = e ? e : bring_in_line(memory, &wanted, &there);
    rv_free(&rv_heap, wanted.at);
    rv_free(&rv_heap, there.at);
    return e;
}

/* ---- publishing ---- */

rv_err rv_overlay_publish(const rv_deep_place *place, rv_overlay_kind kind, const rv_memory_edge *list,
                          size_t n, const rv_policy_new *about, int64_t *version)
{
    rv_db *db = place->db;
    sqlite3 *conn;
    rv_policy_new policy = *about;
    int64_t now = 0, settled;
    size_t bytes = HEADER + n * EDGE;
    RV_TRY(rv_overlay_settle(db, place->memory, kind, &policy.parent));
    uint8_t *at = n <= EDGES_MAX ? rv_new(&rv_heap, bytes) : NULL;
    if (!at) {
        return no_room();
    }
    write_edges(list, n, at);
    policy.kind = rv_overlay_names[kind];
    policy.bytes = at;
    policy.n = bytes;
    policy.use = true;
    rv_err e = rv_db_begin(db, &conn);
    if (!e) {
        e = rv_policy_add(conn, &policy, &now);
        if (e) {
            rv_db_rollback(db);
        } else {
            e = rv_db_commit(db);
        }
    }
    rv_free(&rv_heap, at);
    RV_TRY(e);
    rv_deep_passing(place, "version");
    RV_TRY(rv_overlay_settle(db, place->memory, kind, &settled));
    *version = now;
    return RV_OK;
}
