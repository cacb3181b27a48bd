#include "memory/lake.h"
#include "base/clock.h"
#include "memory/bundle.h"
#include "vector/index.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STALE_TIMES = 10, K_MAX = 1000, LINE_BYTES = 16 << 20 };

/* A bundle in memory. Immutable once it is in the cache. */
typedef struct cached {
    char witness[RV_BUNDLE_HEX + 1];
    rv_bundle bundle;
    rv_index *index; /* ids are rows of at */
    struct row {
        int64_t id;
        size_t at; /* of its line */
    } * rows;      /* [n] */
    size_t n, bytes;
    size_t refs;   /* shards that point here do not count, searches do */
    uint64_t used; /* when last, in searches */
    struct cached *next;
} cached;

typedef struct shard {
    char *dir;
    rv_consistency consistency;
    int64_t ttl_ms;
    char witness[RV_BUNDLE_HEX + 1]; /* what it holds, as far as one has looked; "": not yet */
    double checked_ms;               /* last look that succeeded */
    char read[RV_BUNDLE_HEX + 1];    /* what could be read last, and */
    double read_ms;                  /* the last look that found it there */
} shard;

struct rv_lake {
    const rv_alloc *mem;
    rv_memory_embedder embedder;
    size_t cache_bytes;
    pthread_mutex_t lock; /* all below */
    pthread_mutex_t
        priming; /* held while a bundle is read, so that two that want the same read it once; before lock */
    shard shards[RV_LAKE_SHARDS];
    size_t n_shards;
    cached *first;
    rv_lake_stats stats;
};

rv_err rv_lake_new(const rv_alloc *mem, rv_memory_embedder embedder, size_t cache_bytes, rv_lake **out)
{
    rv_lake *lake = rv_new(mem, sizeof *lake);
    if (!lake) {
        return rv_fail(RV_E_NOMEM, "no memory for bundles");
    }
    *lake = (rv_lake){ .mem = mem, .embedder = embedder, .cache_bytes = cache_bytes };
    pthread_mutex_init(&lake->lock, NULL);
    pthread_mutex_init(&lake->priming, NULL);
    *out = lake;
    return RV_OK;
}

static void free_cached(rv_lake *lake, cached *c)
{
    if (c) {
        rv_index_free(c->index);
        rv_bundle_close(&c->bundle);
        rv_free(lake->mem, c->rows);
        rv_free(lake->mem, c);
    }
}

void rv_lake_free(rv_lake *lake)
{
    if (!lake) {
        return;
    }
    for (cached *c = lake->first, *next; c; c = next) {
        next = c->next;
        free_cached(lake, c);
    }
    for (size_t i = 0; i < lake->n_shards; i++) {
        rv_free(lake->mem, lake->shards[i].dir);
    }
    pthread_mutex_destroy(&lake->lock);
    pthread_mutex_destroy(&lake->priming);
    rv_free(lake->mem, lake);
}

static shard *find_shard(rv_lake *lake, const char *dir)
{
    for (size_t i = 0; i < lake->n_shards; i++) {
        if (strcmp(lake->shards[i].dir, dir) == 0) {
            return &lake->shards[i];
        }
    }
    return NULL;
}

rv_err rv_lake_add(rv_lake *lake, const char *dir, rv_consistency consistency, int64_t ttl_ms)
{
    pthread_mutex_lock(&lake->lock);
    rv_err e = find_shard(lake, dir) ? rv_fail(RV_E_ARG, "%s: it was added already", dir)
               : lake->n_shards == RV_LAKE_SHARDS
                   ? rv_fail(RV_E_FULL, "%s: %d bundles are searched already", dir, RV_LAKE_SHARDS)
                   : RV_OK;
    char *copy = e ? NULL : rv_strdup(lake->mem, dir);
    if (copy) {
        lake->shards[lake->n_shards++] = (shard){ .dir = copy, .consistency = consistency, .ttl_ms = ttl_ms };
    } else if (!e) {
        e = rv_fail(RV_E_NOMEM, "no memory for bundles");
    }
    pthread_mutex_unlock(&lake->lock);
    return e;
}

/* ---- reading a bundle ---- */

/* Ids that a correction of the same bundle stands for, ascending. */
static int by_id(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static rv_err read_corrected(rv_lake *lake, const rv_bundle *b, rv_arena *arena, int64_t **out, size_t *n)
{
    size_t room = 0;
    *out = NULL;
    *n = 0;
    for (size_t at = 0;;) {
        rv_bundle_edge e;
        bool more;
        rv_arena_reset(arena);
        RV_TRY(rv_bundle_read_edge(b, &at, arena, &e, &more));
        if (!more) {
            break;
        }
        if (strcmp(e.type, "corrects") == 0) {
            if (*n == room) {
                room = 2 * room + 16;
                int64_t *bigger = rv_resize(lake->mem, *out, room * sizeof *bigger);
                if (!bigger) {
                    return rv_fail(RV_E_NOMEM, "no memory for a bundle");
                }
                *out = bigger;
            }
            (*out)[(*n)++] = e.to;
        }
    }
    if (*n > 0) {
        qsort(*out, *n, sizeof **out, by_id);
    }
    return RV_OK;
}

static rv_err read_rows(const rv_bundle *b, rv_arena *arena, const int64_t *corrected, size_t n_corrected,
                        cached *c)
{
    int64_t last = 0;
    size_t lines = 0;
    for (size_t at = 0;;) {
        rv_bundle_node node;
        bool more;
        size_t from = at;
        rv_arena_reset(arena);
        RV_TRY(rv_bundle_read_node(b, &at, arena, &node, &more));
        if (!more) {
            return lines == b->head.n_nodes
                       ? RV_OK
                       : rv_fail(RV_E_FORMAT, "%s: %zu nodes, %llu by its head", b->head.data_ref, lines,
                                 (unsigned long long)b->head.n_nodes);
        }
        lines++;
        if (node.node.id <= last || lines > b->head.n_nodes) {
            return rv_fail(RV_E_FORMAT, "%s: node %lld: expected ids that ascend", b->head.data_ref,
                           (long long)node.node.id);
        }
        last = node.node.id;
        bool hidden = n_corrected && bsearch(&last, corrected, n_corrected, sizeof last, by_id);
        if (node.vector >= 0 && !hidden) {
            if (c->n == b->head.n_vectors) {
                return rv_fail(RV_E_FORMAT, "%s: more nodes than vectors", b->head.data_ref);
            }
            c->rows[c->n] = (struct row){ last, from };
            rv_index_add(c->index, (int64_t)c->n, rv_bundle_vector(b, (size_t)node.vector));
            c->n++;
        }
    }
}

static rv_err read_bundle(rv_lake *lake, const char *dir, cached *c)
{
    rv_arena *arena = NULL;
    int64_t *corrected = NULL;
    size_t n_corrected = 0;
    RV_TRY(rv_bundle_open(lake->mem, dir, &c->bundle));
    const rv_bundle_head *h = &c->bundle.head;
    if (h->dim != lake->embedder.dim || strcmp(h->space, lake->embedder.name) != 0) {
        return rv_fail(RV_E_CONFIG,
                       "%s: its vectors are by embedder \"%.63s\" with %zu dimensions, and \"%s\" with %zu "
                       "is configured: they cannot be compared",
                       dir, h->space, h->dim, lake->embedder.name, lake->embedder.dim);
    }
    size_t n = (size_t)h->n_vectors;
    c->rows = rv_new_array(lake->mem, n + 1, sizeof *c->rows);
    rv_err e = c->rows ? RV_OK : rv_fail(RV_E_NOMEM, "%s: no memory for %zu rows", dir, n);
    e = e ? e
          : rv_index_new(lake->mem, &(rv_index_config){ .kind = "flat", .dim = h->dim, .keep = RV_KEEP_F32 },
                         &c->index);
    e = e ? e : rv_index_reserve(c->index, n);
    e = e ? e : rv_arena_new(lake->mem, LINE_BYTES, &arena);
    e = e ? e : read_corrected(lake, &c->bundle, arena, &corrected, &n_corrected);
    e = e ? e : read_rows(&c->bundle, arena, corrected, n_corrected, c);
    rv_free(lake->mem, corrected);
    rv_arena_free(arena);
    memcpy(c->witness, c->bundle.witness, sizeof c->witness);
    c->bytes = n * (sizeof *c->rows + 4 * h->dim) + c->bundle.parts[RV_BUNDLE_NODES].n;
    return e ? rv_fail(e, "%s: %s", dir, rv_err_text()) : RV_OK;
}

/* ---- the cache; all under lock ---- */

static cached *find_cached(rv_lake *lake, const char *witness)
{
    cached *c = lake->first;
    while (c && strcmp(c->witness, witness) != 0) {
        c = c->next;
    }
    return *witness ? c : NULL;
}

/* Least recently used first, until what nobody is searching fits. */
static void evict(rv_lake *lake)
{
    for (;;) {
        size_t bytes = 0;
        cached **oldest = NULL;
        for (cached **at = &lake->first; *at; at = &(*at)->next) {
            bytes += (*at)->bytes;
            if ((*at)->refs == 0 && (!oldest || (*at)->used < (*oldest)->used)) {
                oldest = at;
            }
        }
        if (bytes <= lake->cache_bytes || !oldest) {
            return;
        }
        cached *gone = *oldest;
        *oldest = gone->next;
        free_cached(lake, gone);
        lake->stats.evictions++;
    }
}

static void release(rv_lake *lake, cached *c)
{
    pthread_mutex_lock(&lake->lock);
    c->refs--;
    evict(lake);
    pthread_mutex_unlock(&lake->lock);
}

/* What the folder of a shard says now. Changes nothing when it cannot be told. */
static rv_err look(rv_lake *lake, shard *s)
{
    char now[RV_BUNDLE_HEX + 1];
    pthread_mutex_unlock(&lake->lock); /* the disk may be slow; shards never go away */
    rv_err e = rv_bundle_witness(lake->mem, s->dir, now);
    pthread_mutex_lock(&lake->lock);
    lake->stats.checks++;
    if (!e) {
        lake->stats.invalidations += *s->witness && strcmp(s->witness, now) != 0;
        memcpy(s->witness, now, sizeof now);
        s->checked_ms = rv_clock_ms();
    }
    return e;
}

/* What was read before may be served in place of what is gone or damaged, for a time. */
static cached *find_stale(rv_lake *lake, const shard *s)
{
    double age = rv_clock_ms() - s->read_ms;
    return s->consistency == RV_LAKE_EVENTUAL && age <= STALE_TIMES * (double)s->ttl_ms
               ? find_cached(lake, s->read)
               : NULL;
}

/* What to search, as the shard's consistency wants it; *out NULL: it has to be read. */
static rv_err choose(rv_lake *lake, shard *s, bool *stale, cached **out)
{
    double age = rv_clock_ms() - s->checked_ms;
    bool due = !*s->witness || s->consistency == RV_LAKE_FRESH ||
               (s->consistency == RV_LAKE_EVENTUAL && age > (double)s->ttl_ms);
    rv_err e = due ? look(lake, s) : RV_OK;
    *out = e ? find_stale(lake, s) : find_cached(lake, s->witness);
    *stale = e && *out;
    return *stale ? RV_OK : e;
}

static void note_read(shard *s)
{
    memcpy(s->read, s->witness, sizeof s->read);
    s->read_ms = s->checked_ms;
}

/* A reference to what the shard holds, read when it is not in memory. */
static rv_err acquire(rv_lake *lake, shard *s, bool *stale, cached **out)
{
    pthread_mutex_lock(&lake->lock);
    bool frozen =
        s->consistency == RV_LAKE_FROZEN && *s->witness; /* to what was read once, or refreshed to */
    cached *c = NULL;
    rv_err e = choose(lake, s, stale, &c);
    bool shared = false;
    for (size_t i = 0; c && i < lake->n_shards; i++) {
        shared |= &lake->shards[i] != s && strcmp(lake->shards[i].witness, s->witness) == 0;
    }
    if (c) {
        if (!*stale) {
            note_read(s);
        }
        c->refs++;
        c->used = ++lake->stats.searches;
        lake->stats.hits++;
        lake->stats.shared_hits += shared;
    }
    pthread_mutex_unlock(&lake->lock);
    if (e || c) {
        *out = c;
        return e;
    }
    pthread_mutex_lock(&lake->priming);
    pthread_mutex_lock(&lake->lock);
    c = find_cached(lake, s->witness); /* somebody may have read it meanwhile */
    if (c) {
        c->refs++;
    }
    pthread_mutex_unlock(&lake->lock);
    if (!c) {
        double from = rv_clock_ms();
        c = rv_new(lake->mem, sizeof *c);
        e = c ? RV_OK : rv_fail(RV_E_NOMEM, "no memory for a bundle");
        if (!e) {
            *c = (cached){ .refs = 1 };
            e = read_bundle(lake, s->dir, c);
        }
        pthread_mutex_lock(&lake->lock);
        if (!e && frozen && strcmp(s->witness, c->witness) != 0) {
            e = rv_fail(RV_E_NOT_FOUND,
                        "%s: it is frozen to a bundle that was published over, and there was no room to keep "
                        "that one; refresh it",
                        s->dir);
        }
        if (!e) {
            memcpy(s->witness, c->witness,
                   sizeof s->witness); /* published anew between look and read: this is what was read */
            c->used = ++lake->stats.searches;
            c->next = lake->first;
            lake->first = c;
            lake->stats.primes++;
            lake->stats.prime_ms += rv_clock_ms() - from;
        }
        cached *old = e ? find_stale(lake, s) : NULL;
        if (old) {
            old->refs++;
            old->used = ++lake->stats.searches;
            *stale = true;
        } else if (!e) {
            note_read(s);
        }
        pthread_mutex_unlock(&lake->lock);
        if (e) {
            free_cached(lake, c);
            c = old;
        }
        e = old ? RV_OK : e;
    }
    pthread_mutex_unlock(&lake->priming);
    *out = e ? NULL : c;
    return e;
}

/* ---- search ---- */

typedef struct found {
    cached *from;
    size_t row;
    float score;
} found;

static int best_first(const void *a, const void *b)
{
    const found *x = a, *y = b;
    int names = strcmp(x->from->bundle.head.data_ref, y->from->bundle.head.data_ref);
    int64_t i = x->from->rows[x->row].id, k = y->from->rows[y->row].id;
    return x->score != y->score ? (x->score > y->score ? -1 : 1) : names ? names : i < k ? -1 : i > k;
}

static bool same_node(const found *a, const found *b)
{
    return a->from->rows[a->row].id == b->from->rows[b->row].id &&
           strcmp(a->from->bundle.head.data_ref, b->from->bundle.head.data_ref) == 0;
}

static rv_err read_hits(const found *all, size_t n, size_t k, rv_arena *arena, rv_lake_hits *out)
{
    out->at = rv_arena_take(arena, k * sizeof *out->at);
    if (!out->at) {
        return rv_fail(RV_E_NOMEM, "no memory for a result");
    }
    for (size_t i = 0; i < n && out->n < k; i++) {
        bool known =
            false; /* equal nodes have equal scores unless two generations are searched: look at all before */
        for (size_t j = 0; !known && j < i; j++) {
            known = same_node(&all[i], &all[j]);
        }
        if (known) {
            continue;
        }
        rv_bundle_node node;
        bool more;
        size_t at = all[i].from->rows[all[i].row].at;
        RV_TRY(rv_bundle_read_node(&all[i].from->bundle, &at, arena, &node, &more));
        const char *name = rv_arena_strdup(arena, all[i].from->bundle.head.data_ref);
        if (!name) {
            return rv_fail(RV_E_NOMEM, "no memory for a result");
        }
        node.node.score = (double)all[i].score;
        node.node.vector_score = node.node.score;
        node.node.origin_side = "vector";
        out->at[out->n++] = (rv_lake_hit){ node.node, name };
    }
    return RV_OK;
}

rv_err rv_lake_search(rv_lake *lake, const float *vector, size_t k, rv_arena *arena, rv_lake_hits *out)
{
    rv_lake_hits hits = { 0 };
    cached *held[RV_LAKE_SHARDS];
    size_t n_held = 0, n_all = 0, dim = lake->embedder.dim;
    double length = 0;
    for (size_t d = 0; d < dim; d++) {
        length += (double)vector[d] * (double)vector[d];
    }
    if (k < 1 || k > K_MAX || !(length > 0) || !isfinite(length)) {
        return rv_fail(RV_E_ARG,
                       "k: %zu, expected 1 .. %d, and a vector of finite numbers that are not all 0", k,
                       K_MAX);
    }
    float *unit = rv_new_array(lake->mem, dim, sizeof *unit);
    found *all = rv_new_array(lake->mem, k * RV_LAKE_SHARDS, sizeof *all);
    rv_hit *near = rv_new_array(lake->mem, k, sizeof *near);
    rv_err e = unit && all && near ? RV_OK : rv_fail(RV_E_NOMEM, "no memory to search bundles"),
           first = RV_OK;
    for (size_t d = 0; !e && d < dim; d++) {
        unit[d] = (float)((double)vector[d] / sqrt(length));
    }
    pthread_mutex_lock(&lake->lock);
    size_t n_shards = lake->n_shards;
    pthread_mutex_unlock(&lake->lock);
    for (size_t i = 0; !e && i < n_shards; i++) {
        bool stale = false;
        size_t n = 0;
        cached *c = NULL;
        rv_err one = acquire(lake, &lake->shards[i], &stale, &c);
        if (one) {
            first = hits.failed ? first : one;
            snprintf(hits.first_failure, sizeof hits.first_failure, "%s",
                     hits.failed ? hits.first_failure : rv_err_text());
            hits.failed++;
            continue;
        }
        held[n_held++] = c;
        hits.stale += stale;
        e = rv_index_search(c->index, unit, &(rv_search){ .k = k }, near, &n);
        for (size_t j = 0; !e && j < n; j++) {
            all[n_all++] = (found){ c, (size_t)near[j].id, near[j].score };
        }
    }
    if (!e && n_all > 0) {
        qsort(all, n_all, sizeof *all, best_first);
    }
    e = e ? e : read_hits(all, n_all, k, arena, &hits);
    for (size_t i = 0; i < n_held; i++) {
        release(lake, held[i]);
    }
    rv_free(lake->mem, unit);
    rv_free(lake->mem, all);
    rv_free(lake->mem, near);
    if (!e && hits.failed > 0 && n_held == 0) {
        return rv_err_set_text(first, hits.first_failure);
    }
    if (!e) {
        *out = hits;
    }
    return e;
}

rv_err rv_lake_refresh(rv_lake *lake, const char *dir, rv_lake_state *out)
{
    pthread_mutex_lock(&lake->lock);
    shard *s = find_shard(lake, dir);
    rv_err e = s ? RV_OK : rv_fail(RV_E_NOT_FOUND, "%s: no such bundle was added", dir);
    if (s && *s->witness) {
        char before[RV_BUNDLE_HEX + 1];
        memcpy(before, s->witness, sizeof before);
        e = look(lake, s);
        *out = e == RV_E_NOT_FOUND               ? RV_LAKE_MISSING
               : strcmp(before, s->witness) == 0 ? RV_LAKE_UP_TO_DATE
                                                 : RV_LAKE_INVALIDATED;
        e = e == RV_E_NOT_FOUND ? RV_OK : e;
    } else if (s) {
        *out = RV_LAKE_UP_TO_DATE;
    }
    pthread_mutex_unlock(&lake->lock);
    return e;
}

void rv_lake_get_stats(rv_lake *lake, rv_lake_stats *out)
{
    pthread_mutex_lock(&lake->lock);
    *out = lake->stats;
    for (const cached *c = lake->first; c; c = c->next) {
        out->cached++;
        out->cached_bytes += c->bytes;
    }
    pthread_mutex_unlock(&lake->lock);
}
