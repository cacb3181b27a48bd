/* Which nodes pass a filter, before anything is compared: the shortest list of those that have one of its values is gone through,
 * so a filter that few pass costs what those few cost. The index then scans them, or asks the bits on its way. */
#include "memory/memory_priv.h"

#include <string.h>

rv_err rv_holders_add(rv_memory *m, holders_by by, uint32_t name, int64_t id)
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
    if (h->n > 0 && h->at[h->n - 1] == id) {
        return RV_OK;
    }
    void *at = h->at;
    RV_TRY(rv_memory_grow(m->mem, &at, &h->room, h->n + 1, sizeof *h->at));
    h->at = at;
    h->at[h->n++] = id;
    return RV_OK;
}

void rv_holders_free(rv_memory *m)
{
    for (int by = 0; by < RV_BYS; by++) {
        for (size_t i = 0; i < m->n_holders[by]; i++) {
            rv_free(m->mem, m->holders[by][i].at);
        }
        rv_free(m->mem, m->holders[by]);
    }
}

static const holders nobody;

static const holders *holders_of(const rv_memory *m, holders_by by, uint32_t name)
{
    return name < m->n_holders[by] ? &m->holders[by][name] : &nobody;
}

/* The lists (one, or that of a user and that of everybody) whose nodes hold all that can pass. Their number; 0: no list does. */
static size_t shortest(const matcher *f, const holders *out[2])
{
    const struct {
        bool set;
        holders_by by;
        uint32_t name;
    } values[] = { { f->type_set, RV_BY_TYPE, f->type },
                   { f->source_set, RV_BY_SOURCE, f->source },
                   { f->tag_set, RV_BY_TAG, f->tag },
                   { f->user_set, RV_BY_USER, f->user } };
    size_t best = SIZE_MAX, n = 0;
    for (size_t i = 0; i < RV_COUNT(values); i++) {
        const holders *own = holders_of(f->m, values[i].by, values[i].name);
        bool both = values[i].by == RV_BY_USER && !f->only_user && f->user != 0;
        const holders *all = both ? holders_of(f->m, RV_BY_USER, 0) : &nobody;
        if (values[i].set && own->n + all->n < best) {
            best = own->n + all->n;
            out[0] = own;
            out[1] = all;
            n = both ? 2 : 1;
        }
    }
    return best < f->m->n_entries / 8
               ? n
               : 0; /* finding an entry by its id costs as much as looking at eight in a row */
}

static void set_bit(passing *p, const matcher *f, const entry *e)
{
    if (e && e->row && rv_matcher_takes(f, e)) {
        uint64_t bit = (uint64_t)(e->id - p->first);
        p->bits[bit / 64] |= (uint64_t)1 << bit % 64;
        p->n++;
    }
}

rv_err rv_passing_of(const matcher *f, passing *out)
{
    const rv_memory *m = f->m;
    bool any =
        f->nothing || f->type_set || f->tag_set || f->source_set || f->user_set || f->since_ms || f->until_ms;
    *out = (passing){ 0 };
    if (!any) {
        return RV_OK;
    }
    const holders *lists[2];
    size_t n_lists = f->nothing ? 0 : shortest(f, lists);
    int64_t last = m->n_entries ? m->entries[m->n_entries - 1].id : 0;
    passing p = { .first = m->n_entries ? m->entries[0].id : 0 };
    p.n_bits = (size_t)(last - p.first) + 1;
    p.bits = rv_new_array(m->mem, p.n_bits / 64 + 1, sizeof *p.bits);
    if (!p.bits) {
        return rv_fail(RV_E_NOMEM, "memory: no room for a filter of %zu nodes", m->n_entries);
    }
    for (size_t l = 0; l < n_lists; l++) {
        for (size_t i = 0; i < lists[l]->n; i++) {
            set_bit(&p, f, rv_memory_find(m, lists[l]->at[i]));
        }
    }
    for (size_t i = 0; n_lists == 0 && !f->nothing && i < m->n_entries; i++) {
        set_bit(&p, f, &m->entries[i]);
    }
    *out = p;
    return RV_OK;
}

void rv_passing_deinit(const rv_memory *m, passing *p)
{
    rv_free(m->mem, p->bits);
    *p = (passing){ 0 };
}
