/* The recall side writes a lot of little: what was used, and which edges moved. A sync for each would cost more than the recall, and losing
 * the last second of it in a crash harms nobody, so it is queued and written together. Records (adds, feedback) never come this way. */
#include "memory/memory_priv.h"
#include "base/clock.h"
#include "base/cond.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

enum { QUEUE_MAX = 1000, FULL_MS = 50, IDS_MAX = 64, EDGES_MAX = 8192, EXPIRE_MS = 60000 };

typedef struct queued {
    int64_t anchor;
    double rating;
    uint16_t n_used, n_unused;
    int64_t ids[2 * IDS_MAX]; /* used, then unused */
    int64_t at_ms;            /* UTC */
    double queued_ms;         /* monotonic */
} queued;

/* ---- one batch ---- */

static int by_id(const void *a, const void *b)
{
    const use_row *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* One row for each node that is still there, with its new count. */
static size_t count_used(const rv_memory *m, const queued *all, size_t n, use_row *rows)
{
    size_t n_rows = 0, kept = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < all[i].n_used; k++) {
            rows[n_rows++] = (use_row){ .id = all[i].ids[k], .used = 1, .used_ms = all[i].at_ms };
        }
    }
    qsort(rows, n_rows, sizeof *rows, by_id);
    for (size_t i = 0; i < n_rows;) {
        const entry *e = rv_memory_find(m, rows[i].id);
        use_row sum = e ? rv_use_of(e) : (use_row){ 0 };
        int64_t id = rows[i].id;
        for (; i < n_rows && rows[i].id == id; i++) {
            sum.used += sum.used < UINT32_MAX;
            sum.used_ms = rows[i].used_ms > sum.used_ms ? rows[i].used_ms : sum.used_ms;
        }
        if (e) {
            rows[kept++] = sum;
        }
    }
    return kept;
}

static rv_err write_batch(rv_memory *m, const queued *all, size_t n)
{
    size_t used = 0, n_links = 0;
    for (size_t i = 0; i < n; i++) {
        used += all[i].n_used;
    }
    use_row *rows = rv_new_array(m->mem, used + 1, sizeof *rows);
    link_row *links = rv_new_array(m->mem, EDGES_MAX, sizeof *links);
    rv_err e = rows && links ? RV_OK : rv_fail(RV_E_NOMEM, "memory: no room to write back");
    if (!e) {
        pthread_mutex_lock(&m->writing);
        matcher all_seen = rv_matcher_of(m, rv_memory_whole(), NULL); /* what was queued was seen then */
        size_t n_rows = count_used(m, all, n, rows);
        for (size_t i = 0; i < n; i++) {
            rv_memory_outcome o = { .anchor = all[i].anchor,
                                    .used = all[i].ids,
                                    .unused = all[i].ids + all[i].n_used,
                                    .n_used = all[i].n_used,
                                    .n_unused = all[i].n_unused,
                                    .rating = all[i].rating };
            rv_memory_moved(&all_seen, &o, links, &n_links, EDGES_MAX);
        }
        change c = { .use = rows, .n_use = n_rows, .link = links, .n_link = n_links };
        e = n_rows || n_links ? rv_memory_apply(m, &c) : RV_OK;
        pthread_mutex_unlock(&m->writing);
    }
    rv_free(m->mem, rows);
    rv_free(m->mem, links);
    rv_metric_add(&rv_memory_metrics[e ? RV_MEMORY_DROPPED : RV_MEMORY_WRITTEN_BACK], (int64_t)n);
    rv_metric_add(&rv_memory_metrics[RV_MEMORY_BATCHES], 1);
    return e;
}

/* ---- the thread ---- */

/* Under queueing: takes what is queued, and lets those that wait for room go on. */
static void write_queued(rv_memory *m)
{
    size_t n = m->n_queued < m->batch ? m->n_queued : m->batch;
    memcpy(m->taken, m->queue, n * sizeof *m->taken);
    memmove(m->queue, m->queue + n, (m->n_queued - n) * sizeof *m->queue);
    m->n_queued -= n;
    m->back_busy = true;
    pthread_cond_broadcast(&m->drained);
    pthread_mutex_unlock(&m->queueing);
    rv_err e = write_batch(m, m->taken, n);
    if (e) {
        rv_log(RV_LOG_WARN, "memory.writeback_failed", "error", rv_err_text(), "doing",
               "leaving out what was to be written", (char *)NULL);
    }
    pthread_mutex_lock(&m->queueing);
    m->back_busy = false;
    pthread_cond_broadcast(&m->drained);
}

static void *run(void *self)
{
    rv_memory *m = self;
    double expired_ms = rv_clock_ms();
    pthread_mutex_lock(&m->queueing);
    while (!(m->back_stop && m->n_queued == 0)) {
        double now = rv_clock_ms();
        double due = m->n_queued ? m->queue[0].queued_ms + m->batch_ms - now : EXPIRE_MS;
        if (m->n_queued >= m->batch || (m->n_queued && (due <= 0 || m->back_now || m->back_stop))) {
            write_queued(m);
        } else if (now - expired_ms >= EXPIRE_MS) {
            size_t removed;
            pthread_mutex_unlock(&m->queueing);
            if (rv_memory_expire(m, &removed)) {
                rv_log(RV_LOG_WARN, "memory.expire_failed", "error", rv_err_text(), "doing",
                       "trying again in a minute", (char *)NULL);
            }
            pthread_mutex_lock(&m->queueing);
            expired_ms = now;
        } else {
            double left = expired_ms + EXPIRE_MS - now;
            rv_cond_wait_ms(&m->queued, &m->queueing, due < left ? due : left);
        }
    }
    pthread_mutex_unlock(&m->queueing);
    return NULL;
}

/* Under queueing: false when there is no memory or no thread. */
static bool start(rv_memory *m)
{
    if (m->back_runs || m->back_stop) {
        return m->back_runs;
    }
    m->queue = m->queue ? m->queue : rv_new_array(m->mem, QUEUE_MAX, sizeof *m->queue);
    m->taken = m->taken ? m->taken : rv_new_array(m->mem, QUEUE_MAX, sizeof *m->taken);
    m->back_runs = m->queue && m->taken && pthread_create(&m->back, NULL, run, m) == 0;
    return m->back_runs;
}

void rv_writeback_start(rv_memory *m)
{
    pthread_mutex_lock(&m->queueing);
    (void)start(m); /* without it nodes end at the next open */
    pthread_mutex_unlock(&m->queueing);
}

/* ids [n]; NULL when there are none */
static uint16_t put_seen(const matcher *seen, const int64_t *ids, size_t n, int64_t out[IDS_MAX])
{
    uint16_t kept = 0;
    for (size_t i = 0; i < n && kept < IDS_MAX; i++) {
        if (rv_matcher_has(seen, ids[i])) {
            out[kept++] = ids[i];
        }
    }
    return kept;
}

void rv_memory_reweigh_later(rv_memory *m, rv_memory_scope scope, const rv_memory_outcome *o)
{
    queued q = { .rating = o->rating >= 1 && o->rating <= 5 ? o->rating : 0,
                 .at_ms = rv_memory_now_ms(m),
                 .queued_ms = rv_clock_ms() };
    pthread_rwlock_rdlock(&m->state);
    matcher seen = rv_matcher_of(m, scope, NULL);
    q.anchor = rv_matcher_has(&seen, o->anchor) ? o->anchor : 0;
    q.n_used = put_seen(&seen, o->used, o->n_used, q.ids);
    q.n_unused = put_seen(&seen, o->unused, o->n_unused, q.ids + q.n_used);
    pthread_rwlock_unlock(&m->state);
    pthread_mutex_lock(&m->queueing);
    bool runs = start(m);
    if (runs && m->n_queued == QUEUE_MAX) {
        rv_metric_add(&rv_memory_metrics[RV_MEMORY_WAITS], 1);
        double until = q.queued_ms + FULL_MS;
        for (double left = FULL_MS; m->n_queued == QUEUE_MAX && left > 0; left = until - rv_clock_ms()) {
            rv_cond_wait_ms(&m->drained, &m->queueing, left);
        }
    }
    bool room = runs && m->n_queued < QUEUE_MAX;
    if (room) {
        m->queue[m->n_queued++] = q;
        if (m->n_queued == 1 || m->n_queued >= m->batch) {
            pthread_cond_signal(&m->queued);
        }
    }
    pthread_mutex_unlock(&m->queueing);
    rv_metric_add(&rv_memory_metrics[room ? RV_MEMORY_QUEUED : RV_MEMORY_DROPPED], 1);
}

void rv_memory_flush(rv_memory *m)
{
    pthread_mutex_lock(&m->queueing);
    while (m->back_runs && (m->n_queued > 0 || m->back_busy)) {
        m->back_now = true;
        pthread_cond_signal(&m->queued);
        pthread_cond_wait(&m->drained, &m->queueing);
    }
    m->back_now = false;
    pthread_mutex_unlock(&m->queueing);
}

void rv_writeback_stop(rv_memory *m)
{
    pthread_mutex_lock(&m->queueing);
    bool runs = m->back_runs;
    m->back_stop = true;
    m->back_runs = false;
    pthread_cond_broadcast(&m->queued);
    pthread_cond_broadcast(&m->drained);
    pthread_mutex_unlock(&m->queueing);
    if (runs) {
        pthread_join(m->back, NULL);
    }
    rv_free(m->mem, m->queue);
    rv_free(m->mem, m->taken);
    m->queue = m->taken = NULL;
}
