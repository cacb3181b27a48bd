/* The thread that keeps the fast indexes: opens what was saved, builds what is missing, feeds in what was written meanwhile, takes out
 * what was removed, saves. Searches are right without it: they compare exactly what it has not done yet. */
#include "memory/memory_priv.h"
#include "base/clock.h"
#include "base/cond.h"
#include "base/log.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    HNSW_FROM = 500000, /* below, rabitq answers as fast and is built and changed many times faster */
    TOGETHER = 16,      /* rows that are taken in while searches wait: some ms at most */
    REPAIR_ROWS = 256,
    SAVE_CHANGES = 1024,
    ROUND_MS = 50,
    WORDS_FROM = 512,  /* texts; FTS5 takes a millisecond for twice as many */
    WORDS_DEAD = 1024, /* removed texts, and half of all: the index of words is made anew */
    LINKS_MAX = 128    /* that hnsw takes */
};

#define OUTGROWN                                                                                             \
    1.25 /* times the rows it was measured on: what a breadth finds falls as rows come, most where lists split */

static rv_err path_of(const rv_memory *m, size_t kind, char out[PATH_MAX])
{
    int n = snprintf(out, PATH_MAX, "%s/%s.idx", m->folder, rv_fast_kinds[kind]);
    return n < PATH_MAX ? RV_OK : rv_fail(RV_E_ARG, "%s: the path is too long", m->folder);
}

bool rv_keeper_stopped(rv_memory *m)
{
    pthread_mutex_lock(&m->keeping);
    bool stop = m->keeper_stop;
    pthread_mutex_unlock(&m->keeping);
    return stop;
}

static void warn(const char *event, const char *kind, const char *what_now)
{
    rv_log(RV_LOG_WARN, event, "index", kind, "why", rv_err_text(), "action", what_now, (char *)NULL);
}

/* ---- which, and with what ---- */

static bool is_wanted(const rv_memory *m, size_t kind)
{
    const char *want = m->tuning.index;
    if (m->n_live < m->tuning.index_from || strcmp(want, "flat") == 0) {
        return false;
    }
    if (strcmp(want, "auto") == 0) {
        want = m->n_live < HNSW_FROM ? "rabitq" : "hnsw";
    }
    return strcmp(want, "both") == 0 || strcmp(want, rv_fast_kinds[kind]) == 0;
}

/* Under state. */
static rv_index_config config_for(const rv_memory *m, size_t kind, size_t n)
{
    static const struct {
        size_t below, m, ef_build;
    } by_size[] = { { 100000, 16, 100 }, { 1000000, 32, 200 }, { 10000000, 48, 300 }, { SIZE_MAX, 64, 400 } };
    size_t at = 0;
    while (n >= by_size[at].below) {
        at++;
    }
    size_t links = m->tuning.m < LINKS_MAX ? m->tuning.m : LINKS_MAX;
    return (rv_index_config){ .kind = rv_fast_kinds[kind],
                              .dim = m->embedder.dim,
                              .m = links ? links : by_size[at].m,
                              .ef_build = m->tuning.ef_build ? m->tuning.ef_build : by_size[at].ef_build };
}

/* ---- taking one up ---- */

static void count_lag(const rv_memory *m, fast *f)
{
    f->n_missing = f->n_stale = 0;
    size_t words = m->live.n > f->has.n ? m->live.n : f->has.n;
    for (size_t i = 0; i < words; i++) {
        uint64_t live = rv_idset_word(&m->live, i), has = rv_idset_word(&f->has, i);
        f->n_missing += (size_t)__builtin_popcountll(live & ~has);
        f->n_stale += (size_t)__builtin_popcountll(has & ~live);
    }
}

/* f may be NULL: from now on there is none. */
static void take_up(rv_memory *m, size_t kind, fast *f)
{
    pthread_rwlock_wrlock(&m->state);
    fast *old = m->fasts[kind];
    if (f) {
        count_lag(m, f);
        m->flat_ns = f->flat_ns;
    }
    m->fasts[kind] = f;
    pthread_rwlock_unlock(&m->state);
    rv_fast_free(old);
}

/* Searches use it while all of it is checked: a page at a time, and exactly where one of theirs is damaged. */
static void open_saved(rv_memory *m, size_t kind)
{
    char path[PATH_MAX];
    fast *f = NULL;
    rv_err e = path_of(m, kind, path);
    e = e ? e : rv_fast_open(m, path, rv_fast_kinds[kind], &f);
    if (!e && f) {
        take_up(m, kind, f);
        e = rv_index_check_pages(f->index);
        char why[256];
        snprintf(why, sizeof why, "%s", e ? rv_err_text() : "");
        e = e ? rv_fail(e, "%s: %s", path, why) : RV_OK;
    }
    if (e) {
        warn("memory.index_damaged", rv_fast_kinds[kind],
             "made again from the vectors; meanwhile all are compared");
        take_up(m, kind, NULL);
        unlink(path);
    }
}

/* ---- building ---- */

static bool go_on(void *self, size_t done)
{
    (void)done;
    return !rv_keeper_stopped(self);
}

typedef struct rows {
    int64_t *ids;
    const float **at;
    size_t n;
    rv_index_config config; /* that fits so many */
} rows;

static rv_err gather(rv_memory *m, size_t kind, fast *f, rows *r)
{
    pthread_rwlock_rdlock(&m->state);
    f->scrubs = m->scrubs;
    f->moves = m->moves;
    r->config = config_for(m, kind, m->n_live);
    r->ids = rv_new_array(m->mem, m->n_live + 1, sizeof *r->ids);
    r->at = rv_new_array(m->mem, m->n_live + 1, sizeof *r->at);
    rv_err e =
        r->ids && r->at ? RV_OK : rv_fail(RV_E_NOMEM, "memory: no room to index %zu vectors", m->n_live);
    if (!e && m->n_entries) {
        e = rv_idset_reserve(m->mem, &f->has, m->entries[m->n_entries - 1].id);
    }
    for (size_t i = 0; !e && i < m->n_entries; i++) {
        if (m->entries[i].row) {
            r->ids[r->n] = m->entries[i].id;
            r->at[r->n++] = m->entries[i].row; /* mapped until the memory closes */
            rv_idset_add(&f->has, m->entries[i].id);
        }
    }
    pthread_rwlock_unlock(&m->state);
    return e;
}

static rv_err build_into(rv_memory *m, size_t kind, fast *f)
{
    rows r = { 0 };
    rv_err e = gather(m, kind, f, &r);
    e = e ? e : rv_index_new(m->mem, &r.config, &f->index);
    e = e ? e : rv_index_build(f->index, NULL, r.ids, r.at, r.n, go_on, m);
    e = e ? e : rv_fast_gauge(m, f, r.ids, r.at, r.n);
    f->n_built = f->n_unsaved = r.n;
    rv_free(m->mem, r.ids);
    rv_free(m->mem, r.at);
    return e;
}

static rv_err build(rv_memory *m, size_t kind)
{
    fast *f = rv_new(m->mem, sizeof *f);
    if (!f) {
        return rv_fail(RV_E_NOMEM, "memory: no room for an index");
    }
    f->mem = m->mem;
    rv_err e = build_into(m, kind, f);
    if (e) {
        rv_fast_free(f);
        return e;
    }
    take_up(m, kind, f);
    return RV_OK;
}

/* An index that takes in rows as well as it was built is only measured again. */
static rv_err measure_anew(rv_memory *m, size_t kind)
{
    fast *f = m->fasts[kind], now = { .mem = m->mem, .index = f->index };
    rows r = { 0 };
    rv_err e = gather(m, kind, &now, &r);
    e = e ? e : rv_fast_gauge(m, &now, r.ids, r.at, r.n);
    if (!e) {
        pthread_rwlock_wrlock(&m->state);
        memcpy(f->gauges, now.gauges, sizeof f->gauges);
        f->n_gauges = now.n_gauges;
        f->scan_ns = now.scan_ns;
        f->flat_ns = m->flat_ns = now.flat_ns;
        f->n_built = r.n;
        pthread_rwlock_unlock(&m->state);
    }
    rv_idset_deinit(m->mem, &now.has);
    rv_free(m->mem, r.ids);
    rv_free(m->mem, r.at);
    return e;
}

/* ---- following ---- */

static rv_err thaw(rv_memory *m, fast *f)
{
    if (!f->map.at) {
        return RV_OK;
    }
    rv_index *ours;
    RV_TRY(rv_fast_thaw(m, f, &ours));
    pthread_rwlock_wrlock(&m->state);
    rv_index *old = f->index;
    f->index = ours;
    pthread_rwlock_unlock(&m->state);
    rv_index_free(old);
    rv_file_unmap(&f->map);
    return RV_OK;
}

/* A few ids of a & ~b. */
static size_t some_of(const idset *a, const idset *b, int64_t out[TOGETHER])
{
    size_t n = 0;
    for (size_t i = 0; i < a->n && n < TOGETHER; i++) {
        for (uint64_t left = a->at[i] & ~rv_idset_word(b, i); left && n < TOGETHER; left &= left - 1) {
            out[n++] = (int64_t)(i * 64) + __builtin_ctzll(left);
        }
    }
    return n;
}

/* Under state, alone. */
static rv_err take_in(rv_memory *m, fast *f)
{
    int64_t ids[TOGETHER];
    RV_TRY(rv_index_reserve(f->index, TOGETHER));
    if (f->n_stale > 0) {
        size_t n = some_of(&f->has, &m->live, ids);
        rv_index_remove(f->index, ids, n);
        for (size_t i = 0; i < n; i++) {
            rv_idset_remove(&f->has, ids[i]);
        }
        f->n_stale -= n;
        f->n_unsaved += n;
    }
    size_t n = f->n_missing > 0 ? some_of(&m->live, &f->has, ids) : 0;
    if (n > 0) {
        RV_TRY(rv_idset_reserve(m->mem, &f->has, ids[n - 1]));
    }
    for (size_t i = 0; i < n; i++) {
        rv_index_add(f->index, ids[i], rv_memory_find(m, ids[i])->row);
        rv_idset_add(&f->has, ids[i]);
    }
    f->n_missing -= n;
    f->n_unsaved += n;
    return RV_OK;
}

static rv_err follow(rv_memory *m, fast *f)
{
    rv_err e = RV_OK;
    for (bool left = true; !e && left && !rv_keeper_stopped(m);) {
        pthread_rwlock_rdlock(&m->state);
        left = f->n_missing > 0 || f->n_stale > 0;
        pthread_rwlock_unlock(&m->state);
        e = left ? thaw(m, f) : RV_OK;
        if (left && !e) {
            pthread_rwlock_wrlock(&m->state);
            e = take_in(m, f);
            pthread_rwlock_unlock(&m->state);
        }
    }
    for (bool left = !e && !f->map.at; left && !rv_keeper_stopped(m);) {
        pthread_rwlock_wrlock(&m->state);
        left = rv_index_repair(f->index, REPAIR_ROWS);
        pthread_rwlock_unlock(&m->state);
    }
    return e;
}

static void save(rv_memory *m, size_t kind)
{
    char path[PATH_MAX];
    fast *f = m->fasts[kind];
    rv_err e = path_of(m, kind, path);
    e = e ? e : rv_fast_save(m, f, path);
    if (e) {
        f->n_unsaved = 0; /* tried again after as many changes more */
        warn("memory.index_not_saved", rv_fast_kinds[kind], "it is made again at the next start");
    }
}

/* ---- one round ---- */

/* What state says about a kind, at one moment. */
typedef struct condition {
    bool wanted, there, behind,
        outgrown; /* behind: has to be built anew, or is so quicker than by following */
    size_t n_live;
} condition;

static condition condition_of(rv_memory *m, size_t kind)
{
    pthread_rwlock_rdlock(&m->state);
    const fast *f = m->fasts[kind];
    condition c = { .wanted = is_wanted(m, kind), .there = f != NULL, .n_live = m->n_live };
    c.outgrown = f && (double)m->n_live > OUTGROWN * (double)f->n_built;
    c.behind = f && (f->scrubs != m->scrubs ||
                     (f->n_missing > m->tuning.index_from && f->n_missing > m->n_live / 2));
    if (c.outgrown && (strcmp(rv_fast_kinds[kind], "hnsw") != 0 ||
                       config_for(m, kind, m->n_live).m != rv_index_get_config(f->index)->m)) {
        c.behind = true; /* lists are made for a number of rows, links as well but for few such numbers */
    }
    pthread_rwlock_unlock(&m->state);
    return c;
}

static void tend(rv_memory *m, size_t kind, bool save_now)
{
    condition c = condition_of(m, kind);
    if (c.wanted && !c.there && !m->looked[kind]) {
        m->looked[kind] = true;
        open_saved(m, kind);
        c = condition_of(m, kind);
    }
    rv_err e = RV_OK;
    if (c.wanted && (!c.there || c.behind) && c.n_live >= m->not_before[kind]) {
        e = build(m, kind);
    } else if (!c.wanted && c.there && m->fasts[1 - kind]) {
        take_up(m, kind, NULL); /* the other one took its place */
    }
    fast *f = m->fasts[kind];
    e = e || !f ? e : follow(m, f);
    if (f && !e && c.there && c.outgrown && !c.behind) {
        e = measure_anew(m, kind);
    }
    if (e && e != RV_E_CANCELLED) {
        m->not_before[kind] = 2 * c.n_live;
        warn("memory.index_failed", rv_fast_kinds[kind], "vectors are compared one by one");
    }
    if (f && !e && f->n_unsaved > (save_now ? 0 : SAVE_CHANGES + f->n_built / 8) && !rv_keeper_stopped(m)) {
        save(m, kind);
    }
}

static void tend_words(rv_memory *m)
{
    pthread_rwlock_rdlock(&m->state);
    size_t n = m->n_live;
    bool due = m->postings ? m->n_postings_dead > WORDS_DEAD && m->n_postings_dead > n : n >= WORDS_FROM;
    pthread_rwlock_unlock(&m->state);
    if (!due || n < m->words_not_before) {
        return;
    }
    rv_err e = rv_memory_index_words(m);
    if (e && e != RV_E_CANCELLED) {
        m->words_not_before = 2 * n;
        warn("memory.index_failed", "words", "the index on the disk answers");
    }
}

static void *keep(void *arg)
{
    rv_memory *m = arg;
    (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid),
                      10); /* refused: it only takes more of the machine */
    pthread_mutex_lock(&m->keeping);
    while (!m->keeper_stop) {
        if (!m->keeper_due) {
            m->keeper_idle = true;
            pthread_cond_broadcast(&m->kept);
            pthread_cond_wait(&m->kept, &m->keeping);
            continue;
        }
        bool save_now = m->keeper_settle;
        m->keeper_due = m->keeper_settle = m->keeper_idle = false;
        pthread_mutex_unlock(&m->keeping);
        for (size_t kind = 0; kind < RV_FASTS; kind++) {
            tend(m, kind, save_now);
        }
        tend_words(m);
        pthread_mutex_lock(&m->keeping);
        double until = rv_clock_ms() + ROUND_MS; /* what is written in the meantime is taken in together */
        for (double left = ROUND_MS; m->keeper_due && !m->keeper_stop && !m->keeper_settle && left > 0;
             left = until - rv_clock_ms()) {
            rv_cond_wait_ms(&m->kept, &m->keeping, left);
        }
    }
    m->keeper_idle = true;
    pthread_cond_broadcast(&m->kept);
    pthread_mutex_unlock(&m->keeping);
    return NULL;
}

static bool start(rv_memory *m)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the threads that expect them */
    bool started = pthread_create(&m->keeper, NULL, keep, m) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started;
}

void rv_keeper_wake(rv_memory *m)
{
    pthread_rwlock_rdlock(&m->state);
    bool large = m->n_live >= m->tuning.index_from || m->n_live >= WORDS_FROM;
    pthread_rwlock_unlock(&m->state);
    pthread_mutex_lock(&m->keeping);
    bool told = m->keeper_due;
    m->keeper_due = true;
    if (large && !m->keeper_runs && !m->keeper_stop) {
        m->keeper_runs =
            start(m); /* not started: tried again at the next change; searches are exact meanwhile */
    }
    if (!told) {
        pthread_cond_broadcast(&m->kept);
    }
    pthread_mutex_unlock(&m->keeping);
}

void rv_keeper_stop(rv_memory *m)
{
    pthread_mutex_lock(&m->keeping);
    bool runs = m->keeper_runs;
    m->keeper_stop = true;
    m->keeper_runs = false;
    pthread_cond_broadcast(&m->kept);
    pthread_mutex_unlock(&m->keeping);
    if (runs) {
        pthread_join(m->keeper, NULL);
    }
    for (size_t kind = 0; kind < RV_FASTS; kind++) {
        if (m->fasts[kind] && m->fasts[kind]->n_unsaved > SAVE_CHANGES) {
            save(m, kind);
        }
        rv_fast_free(m->fasts[kind]);
        m->fasts[kind] = NULL;
    }
}

rv_err rv_memory_settle(rv_memory *m)
{
    pthread_mutex_lock(&m->keeping);
    if (m->keeper_runs) {
        m->keeper_settle = m->keeper_due = true;
        m->keeper_idle = false;
        pthread_cond_broadcast(&m->kept);
        while (!(m->keeper_idle && !m->keeper_due)) {
            pthread_cond_wait(&m->kept, &m->keeping);
        }
    }
    pthread_mutex_unlock(&m->keeping);
    return RV_OK;
}

rv_err rv_memory_tune(rv_memory *m, const rv_memory_tuning *tuning)
{
    static const char *const kinds[] = { "auto", "flat", "hnsw", "rabitq", "both" };
    rv_memory_tuning t = *tuning;
    t.index = t.index ? t.index : kinds[0];
    t.recall = t.recall > 0 ? t.recall : 0.99;
    t.index_from = t.index_from ? t.index_from : 1024;
    size_t kind = 0;
    while (kind < RV_COUNT(kinds) && strcmp(t.index, kinds[kind]) != 0) {
        kind++;
    }
    if (kind == RV_COUNT(kinds)) {
        return rv_fail(RV_E_ARG, "index: \"%s\", expected auto, flat, hnsw, rabitq or both", t.index);
    }
    if (!(t.recall >= 0.5 && t.recall <= 1)) {
        return rv_fail(RV_E_ARG, "recall: %g, expected 0.5 .. 1", t.recall);
    }
    t.index = kinds[kind];
    pthread_rwlock_wrlock(&m->state);
    m->tuning = t;
    pthread_rwlock_unlock(&m->state);
    rv_keeper_wake(m);
    return RV_OK;
}
