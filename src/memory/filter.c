/* Which nodes pass a filter, as bits by id, before anything is compared. For each value of a field there is the set of ids that have
 * it: a list while they are few, bits from where these are no larger. A filter is the intersection of such sets, so it costs a
 * pass over bits (16 KB for 100,000 nodes) and not over nodes; the index then scans what passes, or asks the bits on its way. */
#include "memory/memory_priv.h"

#include <string.h>

rv_err rv_idset_reserve(const rv_alloc *mem, idset *set, int64_t id)
{
    size_t need = (size_t)(id / 64) + 1;
    void *at = set->at;
    RV_TRY(rv_memory_grow(mem, &at, &set->room, need, sizeof *set->at));
    set->at = at;
    if (need > set->n) {
        memset(set->at + set->n, 0, (need - set->n) * sizeof *set->at);
        set->n = need;
    }
    return RV_OK;
}

void rv_idset_deinit(const rv_alloc *mem, idset *set)
{
    rv_free(mem, set->at);
    *set = (idset){ 0 };
}

/* ---- the nodes that live ---- */

rv_err rv_live_reserve(rv_memory *m, int64_t id)
{
    size_t before = m->live.n;
    void *at = m->spans;
    RV_TRY(rv_memory_grow(m->mem, &at, &m->span_room, (size_t)(id / 64) + 1, sizeof *m->spans));
    m->spans = at;
    RV_TRY(rv_idset_reserve(m->mem, &m->live, id));
    for (size_t i = before; i < m->live.n; i++) {
        m->spans[i] = (span){ INT64_MAX, INT64_MIN };
    }
    return RV_OK;
}

void rv_live_add(rv_memory *m, int64_t id, int64_t created_ms)
{
    span *s = &m->spans[id / 64];
    s->oldest = created_ms < s->oldest ? created_ms : s->oldest;
    s->newest = created_ms > s->newest ? created_ms : s->newest;
    rv_idset_add(&m->live, id);
    m->n_live++;
}

void rv_live_remove(rv_memory *m, int64_t id)
{
    m->n_live -= rv_idset_has(&m->live, id);
    rv_idset_remove(&m->live, id);
}

/* ---- the nodes that have a value ---- */

rv_err rv_holders_reserve(rv_memory *m, holders_by by, uint32_t name, int64_t highest, size_t n)
{
    if (name >= m->n_holders[by]) {
        size_t more = m->names.n + 64;
        holders *at = rv_resize(m->mem, m->holders[by], more * sizeof *at);
        if (!at) {
            return rv_fail(RV_E_NOMEM, "memory: no room for %zu names", more);
        }
        memset(at + m->n_holders[by], 0, (more - m->n_holders[by]) * sizeof *at);
        m->holders[by] = at;
        m->n_holders[by] = more;
    }
    holders *h = &m->holders[by][name];
    highest = h->n > 0 && h->at[h->n - 1] > highest ? h->at[h->n - 1] : highest;
    if (h->bits.n || h->n * 64 > (size_t)highest) {
        RV_TRY(rv_idset_reserve(m->mem, &h->bits, highest));
        for (size_t i = 0; i < h->n; i++) {
            rv_idset_add(&h->bits, h->at[i]);
        }
        rv_free(m->mem, h->at);
        h->at = NULL;
        h->n = h->room = 0;
        return RV_OK;
    }
    void *at = h->at;
    RV_TRY(rv_memory_grow(m->mem, &at, &h->room, h->n + n, sizeof *h->at));
    h->at = at;
    return RV_OK;
}

void rv_holders_put(rv_memory *m, holders_by by, uint32_t name, int64_t id)
{
    holders *h = &m->holders[by][name];
    if (h->bits.n) {
        rv_idset_add(&h->bits, id);
        return;
    }
    size_t at = h->n; /* nearly always the end */
    while (at > 0 && h->at[at - 1] > id) {
        at--;
    }
    if (at == 0 || h->at[at - 1] != id) {
        memmove(h->at + at + 1, h->at + at, (h->n - at) * sizeof *h->at);
        h->at[at] = id;
        h->n++;
    }
}

rv_err rv_holders_add(rv_memory *m, holders_by by, uint32_t name, int64_t id)
{
    RV_TRY(rv_holders_reserve(m, by, name, id, 1));
    rv_holders_put(m, by, name, id);
    return RV_OK;
}

void rv_holders_free(rv_memory *m)
{
    for (int by = 0; by < RV_BYS; by++) {
        for (size_t i = 0; i < m->n_holders[by]; i++) {
            rv_free(m->mem, m->holders[by][i].at);
            rv_idset_deinit(m->mem, &m->holders[by][i].bits);
        }
        rv_free(m->mem, m->holders[by]);
    }
    rv_idset_deinit(m->mem, &m->live);
    rv_idset_deinit(m->mem, &m->corrected);
    rv_free(m->mem, m->spans);
}

/* ---- a filter ---- */

static bool set_name(const rv_memory *m, const char *name, bool *set, uint32_t *out)
{
    *set = name != NULL;
    return !name || rv_names_find(&m->names, name, out);
}

matcher rv_matcher_of(const rv_memory *m, rv_memory_scope scope, const rv_memory_filter *filter)
{
    matcher f = { .m = m, .nothing = scope.whose == RV_SCOPE_UNSAID };
    if (scope.whose == RV_SCOPE_USER && !set_name(m, scope.user, &f.user_set, &f.user)) {
        f.unknown_user = true; /* who sees what is everybody's */
    }
    if (filter) {
        f.since_ms = filter->since_ms;
        f.until_ms = filter->until_ms;
        f.nothing |= !set_name(m, filter->type, &f.type_set, &f.type) ||
                     !set_name(m, filter->tag, &f.tag_set, &f.tag) ||
                     !set_name(m, filter->source, &f.source_set, &f.source);
    }
    return f;
}

matcher rv_matcher_own(const rv_memory *m, rv_memory_scope scope, const rv_memory_filter *filter)
{
    matcher f = rv_matcher_of(m, scope, filter);
    f.only_user = true;
    f.nothing |= f.unknown_user;
    return f;
}

matcher rv_matcher_search(const rv_memory *m, rv_memory_scope scope, const rv_memory_filter *filter)
{
    matcher f = rv_matcher_of(m, scope, filter);
    f.but_set = !f.type_set && rv_names_find(&m->names, "concept", &f.but);
    return f;
}

bool rv_matcher_takes(const matcher *f, const entry *e)
{
    if (f->nothing || (f->but_set && e->type == f->but) || (f->type_set && e->type != f->type) ||
        (f->source_set && e->source != f->source) ||
        (f->user_set && e->user != f->user && (e->user != 0 || f->only_user)) ||
        e->created_ms < f->since_ms || (f->until_ms && e->created_ms > f->until_ms)) {
        return false;
    }
    bool tagged = !f->tag_set;
    for (uint32_t i = 0; !tagged && i < e->n_tags; i++) {
        tagged = f->m->tags[e->tags_at + i] == f->tag;
    }
    return tagged;
}

bool rv_matcher_has(const matcher *f, int64_t id)
{
    const entry *e = rv_memory_find(f->m, id);
    return e && rv_matcher_takes(f, e);
}

rv_err rv_matcher_need(const matcher *f, int64_t id)
{
    return rv_matcher_has(f, id) ? RV_OK
                                 : rv_fail(RV_E_NOT_FOUND, "node %lld is not in the memory", (long long)id);
}

int64_t rv_matcher_corrected_by(const matcher *f, int64_t id)
{
    int64_t newest = 0;
    rv_graph_edge edge;
    for (rv_graph_cursor c = { 0 };
         rv_idset_has(&f->m->corrected, id) && rv_graph_next(f->m->graph, id, RV_GRAPH_IN, &c, &edge);) {
        if (edge.type == f->m->corrects && edge.from > newest) {
            const entry *by = rv_memory_find(f->m, edge.from);
            bool seen = by && (!f->user_set || by->user == 0 || by->user == f->user);
            newest = seen ? edge.from : newest;
        }
    }
    return newest;
}

/* ---- all that pass ---- */

/* The bits under way, and as much room again. */
typedef struct narrowing {
    const rv_memory *m;
    uint64_t *bits, *other; /* [n] */
    size_t n;
} narrowing;

static void put_holders(const narrowing *w, holders_by by, uint32_t name)
{
    if (name >= w->m->n_holders[by]) {
        return;
    }
    const holders *h = &w->m->holders[by][name];
    for (size_t i = 0; i < h->bits.n && i < w->n; i++) {
        w->other[i] |= h->bits.at[i];
    }
    for (size_t i = 0; i < h->n; i++) {
        size_t word = (size_t)(h->at[i] / 64);
        if (word < w->n) { /* the id of a change that failed may lie beyond what lives */
            w->other[word] |= (uint64_t)1 << h->at[i] % 64;
        }
    }
}

/* Those that have the value, or everybody's as well. */
static void narrow(const narrowing *w, holders_by by, uint32_t name, bool or_nobodys)
{
    memset(w->other, 0, w->n * sizeof *w->other);
    put_holders(w, by, name);
    if (or_nobodys) {
        put_holders(w, by, 0);
    }
    for (size_t i = 0; i < w->n; i++) {
        w->bits[i] &= w->other[i];
    }
}

/* 64 ids that follow each other were mostly made at about the same time: nearly all words pass as a whole, or not at all. */
static void narrow_time(const narrowing *w, const matcher *f)
{
    int64_t until = f->until_ms ? f->until_ms : INT64_MAX;
    for (size_t i = 0; i < w->n; i++) {
        span s = w->m->spans[i];
        if (s.oldest >= f->since_ms && s.newest <= until) {
            continue;
        }
        for (uint64_t left = s.newest < f->since_ms || s.oldest > until ? 0 : w->bits[i]; left;
             left &= left - 1) {
            int bit = __builtin_ctzll(left);
            const entry *e = rv_memory_find(w->m, (int64_t)(i * 64) + bit);
            if (!e || e->created_ms < f->since_ms || e->created_ms > until) {
                w->bits[i] &= ~((uint64_t)1 << bit);
            }
        }
        w->bits[i] = s.newest < f->since_ms || s.oldest > until ? 0 : w->bits[i];
    }
}

rv_err rv_passing_of(const matcher *f, passing *out)
{
    const rv_memory *m = f->m;
    *out = (passing){ 0 };
    if (!f->nothing && !f->type_set && !f->but_set && !f->tag_set && !f->source_set && !f->user_set &&
        !f->since_ms && !f->until_ms) {
        return RV_OK;
    }
    narrowing w = { .m = m, .n = m->live.n };
    w.bits = rv_new_array(m->mem, 2 * w.n + 1, sizeof *w.bits);
    if (!w.bits) {
        return rv_fail(RV_E_NOMEM, "memory: no room for a filter of %zu nodes", m->n_entries);
    }
    w.other = w.bits + w.n;
    if (!f->nothing && w.n > 0) {
        memcpy(w.bits, m->live.at, w.n * sizeof *w.bits);
    }
    if (f->type_set) {
        narrow(&w, RV_BY_TYPE, f->type, false);
    }
    if (f->but_set) {
        put_holders(&w, RV_BY_TYPE, f->but);
        for (size_t i = 0; i < w.n; i++) {
            w.bits[i] &= ~w.other[i];
        }
    }
    if (f->source_set) {
        narrow(&w, RV_BY_SOURCE, f->source, false);
    }
    if (f->tag_set) {
        narrow(&w, RV_BY_TAG, f->tag, false);
    }
    if (f->user_set) {
        narrow(&w, RV_BY_USER, f->user, !f->only_user);
    }
    if (f->since_ms || f->until_ms) {
        narrow_time(&w, f);
    }
    *out = (passing){ .bits = w.bits, .n_bits = w.n * 64 };
    for (size_t i = 0; i < w.n; i++) {
        out->n += (size_t)__builtin_popcountll(w.bits[i]);
    }
    if (out->n == m->n_live && !f->nothing) { /* all: as good as no filter, and quicker */
        rv_passing_deinit(m, out);
    }
    return RV_OK;
}

void rv_passing_deinit(const rv_memory *m, passing *p)
{
    rv_free(m->mem, p->bits);
    *p = (passing){ 0 };
}
