/* The rows that a filter lets pass, side by side. The filter of a user or of a tag comes again, as the same bits: then the codes of the rows
 * that it leaves are copied once, and every search with it reads them as one stream, in place of looking up each id and fetching each
 * code from where it is. A filter is known again by all of its bits; any change of the index ends what was gathered. */
#include "vector/index_priv.h"
#include "base/rng.h"

#include <pthread.h>
#include <string.h>

enum {
    KEPT = 4,             /* filters; one that comes again after so many others was not worth it */
    ROWS_LEAST = 64,      /* fewer are compared as fast from where they are */
    BYTES_MOST = 4 << 20, /* of codes; more would not stay in a cache */
    SAMPLED = 8           /* words of the bits that tell filters apart at first sight */
};

struct rv_gathers {
    pthread_mutex_t lock; /* all below, and the refs of what was gathered */
    rv_gathered *at[KEPT];
    uint64_t seen[KEPT]; /* marks of the last filters */
    size_t n_seen;
    uint64_t clock;
};

rv_gathers *rv_gathers_new(const rv_alloc *mem)
{
    rv_gathers *all = rv_new(mem, sizeof *all);
    if (all) {
        pthread_mutex_init(&all->lock, NULL);
    }
    return all;
}

void rv_gathers_free(const rv_alloc *mem, rv_gathers *all)
{
    if (all) {
        rv_gathers_forget(mem, all);
        pthread_mutex_destroy(&all->lock);
        rv_free(mem, all);
    }
}

static size_t words_of(const rv_filter *filter)
{
    return (filter->n_bits + 63) / 64;
}

static uint64_t mark_of(const rv_filter *filter, size_t n)
{
    uint64_t some[SAMPLED + 2] = { n, (uint64_t)filter->first };
    const size_t n_words = words_of(filter);
    for (size_t i = 0; i < SAMPLED; i++) {
        some[2 + i] = filter->bits[i * n_words / SAMPLED];
    }
    return rv_hash64(some, sizeof some, filter->n_bits);
}

/* One reference less. Under lock. */
static void let_go(const rv_alloc *mem, rv_gathered *g)
{
    if (g && --g->refs == 0) {
        rv_free(mem, g->bits);
        rv_free(mem, g->codes);
        rv_free(mem, g);
    }
}

void rv_gathers_forget(const rv_alloc *mem, rv_gathers *all)
{
    pthread_mutex_lock(&all->lock);
    for (size_t i = 0; i < KEPT; i++) {
        let_go(mem, all->at[i]);
        all->at[i] = NULL;
    }
    pthread_mutex_unlock(&all->lock);
}

void rv_gathered_give(const rv_alloc *mem, rv_gathers *all, rv_gathered *g)
{
    pthread_mutex_lock(&all->lock);
    let_go(mem, g);
    pthread_mutex_unlock(&all->lock);
}

rv_gathered *rv_gathered_take(const rv_alloc *mem, rv_gathers *all, const rv_filter *filter, size_t n,
                              bool *again)
{
    rv_gathered *found = NULL;
    *again = false;
    if (n < ROWS_LEAST) {
        return NULL;
    }
    const uint64_t mark = mark_of(filter, n);
    pthread_mutex_lock(&all->lock);
    for (size_t i = 0; i < KEPT; i++) {
        found = all->at[i] && all->at[i]->mark == mark ? all->at[i] : found;
        *again |= all->seen[i] == mark;
    }
    if (found) {
        found->refs++;
        found->used = ++all->clock;
    } else if (!*again) {
        all->seen[all->n_seen++ % KEPT] = mark;
    }
    pthread_mutex_unlock(&all->lock);
    if (found && (found->n_bits != filter->n_bits || found->first != filter->first ||
                  memcmp(found->bits, filter->bits, words_of(filter) * sizeof *filter->bits) != 0)) {
        rv_gathered_give(mem, all, found); /* another one with the same mark */
        found = NULL;
        *again = false;
    }
    return found;
}

bool rv_gathered_fits(const rv_rows *rows, size_t n)
{
    return n <= BYTES_MOST / rows->stride;
}

rv_err rv_gathered_new(const rv_alloc *mem, const rv_rows *rows, const rv_filter *filter, size_t room,
                       rv_gathered **out)
{
    const size_t bytes = words_of(filter) * sizeof *filter->bits;
    rv_gathered *g = rv_new(mem, sizeof *g);
    uint64_t *bits = g ? rv_new(mem, bytes) : NULL;
    uint8_t *codes = bits ? rv_new_aligned(mem, RV_ROWS_ALIGN,
                                           room * (rows->stride + sizeof *g->scales + sizeof *g->slots))
                          : NULL;
    if (!codes) {
        rv_free(mem, bits);
        rv_free(mem, g);
        return rv_fail(RV_E_NOMEM, "no memory to search %zu vectors", room);
    }
    memcpy(bits, filter->bits, bytes);
    *g = (rv_gathered){ .bits = bits,
                        .n_bits = filter->n_bits,
                        .first = filter->first,
                        .mark = mark_of(filter, room),
                        .codes = codes,
                        .scales = (rv_row_scale *)(void *)(codes + room * rows->stride),
                        .refs = 1 };
    g->slots = (uint32_t *)(void *)(g->scales + room);
    *out = g;
    return RV_OK;
}

void rv_gathered_keep(const rv_alloc *mem, rv_gathers *all, rv_gathered *g)
{
    pthread_mutex_lock(&all->lock);
    size_t place = 0; /* an empty one, the same filter's, or the one that was not used for longest */
    for (size_t i = 0; i < KEPT; i++) {
        const rv_gathered *there = all->at[i], *best = all->at[place];
        if (best &&
            (!there || there->mark == g->mark || (best->mark != g->mark && there->used < best->used))) {
            place = i;
        }
    }
    let_go(mem, all->at[place]);
    g->used = ++all->clock;
    g->refs++;
    all->at[place] = g;
    pthread_mutex_unlock(&all->lock);
}
