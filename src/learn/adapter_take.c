/* What is open: adapters that are in use or held, those of one user and of everybody added up into a third one when first taken together, and the
 * questions that versions are for. All of it can be given up when others need the room, but for what somebody holds. */
#include "learn/adapter_priv.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "kernels/kernels.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static rv_metric damaged = { .kind = RV_COUNTER,
                             .name = "ruvllm_adapters_damaged_total",
                             .help =
                                 "Files of adapters that could not be read; the version before was used." };

/* ---- room for others ---- */

/* Which goes first of those that nobody holds; NULL: none. */
static held **cheapest(rv_adapters *a, double *score)
{
    held **best = NULL;
    *score = INFINITY;
    for (held **link = &a->open; *link; link = &(*link)->next) {
        held *h = *link;
        double s = h->refs || !h->lora ? (double)INFINITY
                                       : rv_budget_score((rv_clock_ms() - h->used_ms) / 1e3, 0, h->open_ms,
                                                         h->lora->n_weights * sizeof(float));
        if (s < *score) {
            *score = s;
            best = link;
        }
    }
    return best;
}

static double offer(void *self)
{
    rv_adapters *a = self;
    double score;
    if (pthread_mutex_trylock(&a->lock)) {
        return INFINITY;
    }
    (void)cheapest(a, &score);
    pthread_mutex_unlock(&a->lock);
    return score;
}

/* With the lock. */
static bool drop_cheapest(rv_adapters *a)
{
    double score;
    held **link = cheapest(a, &score), *h = link ? *link : NULL;
    if (h) {
        *link = h->next;
        rv_lora_close(h->lora);
        rv_free(a->mem, h);
    }
    return h != NULL;
}

static bool give(void *self)
{
    rv_adapters *a = self;
    if (pthread_mutex_trylock(&a->lock)) {
        return false;
    }
    bool gave = drop_cheapest(a);
    pthread_mutex_unlock(&a->lock);
    return gave;
}

void adapters_open_room(rv_adapters *a)
{
    rv_metrics_register(&damaged, 1); /* again is without effect */
    a->giver = (rv_budget_giver){ .offer = offer, .give = give, .self = a };
    a->weights = a->budget ? rv_budget_mem(a->budget, RV_BUDGET_ADAPTERS) : a->mem;
    if (a->budget) {
        rv_budget_join(a->budget, &a->giver);
    }
}

void adapters_close_room(rv_adapters *a)
{
    if (a->budget) {
        rv_budget_leave(a->budget, &a->giver);
    }
    adapters_free_keys(a);
    while (a->open) {
        held *h = a->open;
        a->open = h->next;
        rv_lora_close(h->lora);
        rv_free(a->mem, h);
    }
}

/* ---- the questions a version is for ---- */

void adapters_free_keys(rv_adapters *a)
{
    while (a->keys) {
        keys *k = a->keys;
        a->keys = k->next;
        rv_free(a->mem, k->at);
        rv_free(a->mem, k);
    }
}

void adapters_drop_keys(rv_adapters *a, int64_t id)
{
    keys **link = &a->keys;
    while (*link && (*link)->id != id) {
        link = &(*link)->next;
    }
    keys *k = *link;
    if (k) {
        *link = k->next;
        rv_free(a->mem, k->at);
        rv_free(a->mem, k);
    }
}

static rv_err read_keys(rv_adapters *a, int64_t id, keys *out)
{
    sqlite3 *conn;
    sqlite3_stmt *s = NULL;
    bool row = false;
    RV_TRY(rv_db_reader(a->db, &conn));
    rv_err e =
        rv_db_prepare(conn, &s, "SELECT embedder, dim, keys FROM adapter_key WHERE adapter = ?1", "i", id);
    e = e ? e : rv_db_step(s, &row);
    if (!e && row) {
        int64_t dim = sqlite3_column_int64(s, 1);
        size_t bytes = (size_t)sqlite3_column_bytes(s, 2);
        if (dim < 1 || dim > 1 << 20 || bytes == 0 || bytes % ((size_t)dim * sizeof(float)) != 0) {
            e = rv_fail(RV_E_CORRUPT, "adapter %lld: %zu bytes of keys of %lld dimensions", (long long)id,
                        bytes, (long long)dim);
        } else if (!(out->at = rv_new(a->mem, bytes))) {
            e = rv_fail(RV_E_NOMEM, "an adapter's keys");
        } else {
            memcpy(out->at, sqlite3_column_blob(s, 2), bytes);
            out->dim = (size_t)dim;
            out->n = bytes / (out->dim * sizeof(float));
            snprintf(out->embedder, sizeof out->embedder, "%s", (const char *)sqlite3_column_text(s, 0));
        }
    }
    sqlite3_finalize(s);
    rv_db_reader_done(a->db, conn);
    return e;
}

/* With the lock. */
static rv_err find_keys(rv_adapters *a, int64_t id, const keys **out)
{
    for (*out = a->keys; *out; *out = (*out)->next) {
        if ((*out)->id == id) {
            return RV_OK;
        }
    }
    keys *k = rv_new(a->mem, sizeof *k);
    if (!k) {
        return rv_fail(RV_E_NOMEM, "an adapter's keys");
    }
    *k = (keys){ .id = id };
    rv_err e = read_keys(a, id, k);
    if (e == RV_E_CORRUPT) { /* like no question: what it learned by heart must not change others */
        *k = (keys){ .id = id, .n = 1 };
        rv_metric_add(&damaged, 1);
        rv_log(RV_LOG_WARN, "adapter.damaged", "error", rv_err_text(), "doing", "it is used for no question",
               (char *)NULL);
        e = RV_OK;
    }
    if (e) {
        rv_free(a->mem, k);
        return e;
    }
    k->next = a->keys;
    a->keys = k;
    *out = k;
    return RV_OK;
}

/* With the lock. Is the version for such a question? */
static rv_err is_for(rv_adapters *a, const rv_adapter_question *q, int64_t id, bool *yes)
{
    const keys *k = NULL;
    RV_TRY(find_keys(a, id, &k));
    bool like = k->n == 0;
    if (!like && q && q->dim == k->dim && strcmp(q->embedder, k->embedder) == 0) {
        const rv_kernels *kernels = rv_kernels_best();
        for (size_t i = 0; i < k->n && !like; i++) {
            like = kernels->dot_f32(k->at + i * k->dim, q->vector, k->dim) >= RV_ADAPTER_LIKE;
        }
    }
    *yes = like;
    return RV_OK;
}

/* With the lock. What of a user's is for a question: a micro adapter with what it stands on, that alone, or nothing (0). */
static rv_err for_question(rv_adapters *a, const use *u, const rv_adapter_question *q, int64_t *id)
{
    const int64_t ids[] = { u ? u->id : 0, u ? u->base : 0 };
    *id = 0;
    for (size_t i = 0; i < RV_COUNT(ids) && *id == 0; i++) {
        bool yes = false;
        RV_TRY(ids[i] ? is_for(a, q, ids[i], &yes) : RV_OK);
        *id = yes ? ids[i] : 0;
    }
    return RV_OK;
}

/* ---- taking ---- */

static int64_t number_of(rv_adapters *a, const char *sql, int64_t id)
{
    int64_t number = 0;
    sqlite3 *conn;
    if (!rv_db_reader(a->db, &conn)) {
        if (rv_db_int(conn, &number, sql, "i", id)) {
            number = 0;
        }
        rv_db_reader_done(a->db, conn);
    }
    return number < id ? number : 0;
}

static rv_err open_file(const rv_adapters *a, const rv_engine *engine, const rv_alloc *mem, int64_t id,
                        rv_lora **out)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%lld.gguf", a->folder, (long long)id);
    return rv_engine_open_lora(engine, mem, path, out);
}

static rv_err open_files(rv_adapters *a, const rv_engine *engine, const rv_alloc *mem, int64_t id,
                         rv_lora **own, rv_lora **base)
{
    int64_t under = number_of(a, "SELECT base FROM adapter WHERE id = ?1", id);
    rv_lora *first = NULL, *second = NULL;
    RV_TRY(open_file(a, engine, mem, id, &first));
    rv_err e = under ? open_file(a, engine, mem, under, &second) : RV_OK;
    if (e) {
        rv_lora_close(first);
        return e;
    }
    *own = first;
    *base = second;
    return RV_OK;
}

rv_err rv_adapters_open_files(rv_adapters *a, const rv_engine *engine, int64_t id, rv_lora **own,
                              rv_lora **base)
{
    return open_files(a, engine, a->mem, id, own, base);
}

static rv_err open_whole(rv_adapters *a, const rv_engine *engine, int64_t id, rv_lora **out)
{
    rv_lora *own = NULL, *base = NULL;
    RV_TRY(open_files(a, engine, a->weights, id, &own, &base));
    if (!base) {
        *out = own;
        return RV_OK;
    }
    rv_err e = rv_lora_stack(a->weights, base, own, out);
    rv_lora_close(own);
    rv_lora_close(base);
    return e;
}

/* A claim that was refused looks like memory that is not there. */
static rv_err no_room(const rv_adapters *a)
{
    return a->budget
               ? rv_fail(RV_E_FULL,
                         "the memory pool of %zu bytes has room for %zu more, which is too little for an "
                         "adapter; ask again, or raise inference.pool_mb",
                         rv_budget_bytes(a->budget), rv_budget_room(a->budget))
               : rv_fail(RV_E_NOMEM, "no memory for an adapter");
}

/* The version, or the newest of its ancestors whose files are sound. NULL: none. */
static rv_err open_version(rv_adapters *a, const rv_engine *engine, int64_t id, rv_lora **out)
{
    *out = NULL;
    for (; id; id = number_of(a, "SELECT parent FROM adapter WHERE id = ?1", id)) {
        rv_err e;
        do { /* others were asked, and could not ask us */
            e = open_whole(a, engine, id, out);
        } while (e == RV_E_NOMEM && drop_cheapest(a));
        if (!e || e == RV_E_NOMEM) {
            return e ? no_room(a) : RV_OK;
        }
        rv_metric_add(&damaged, 1);
        rv_log(RV_LOG_WARN, "adapter.damaged", "error", rv_err_text(), "doing", "using the version before it",
               (char *)NULL);
    }
    return RV_OK;
}

static rv_err open_both(rv_adapters *a, const rv_engine *engine, held *h)
{
    rv_lora *shared = NULL, *own = NULL;
    rv_err e = open_version(a, engine, h->shared, &shared);
    if (!e) {
        e = open_version(a, engine, h->own, &own);
    }
    if (!e && shared && own) {
        do {
            e = rv_lora_stack(a->weights, shared, own, &h->lora);
        } while (e == RV_E_NOMEM && drop_cheapest(a));
        e = e == RV_E_NOMEM ? no_room(a) : e;
    } else if (!e) {
        h->lora = shared ? shared : own;
        return RV_OK;
    }
    rv_lora_close(shared);
    rv_lora_close(own);
    return e;
}

void adapters_tidy(rv_adapters *a)
{
    for (held **link = &a->open; *link;) {
        held *h = *link;
        bool used_shared = !h->shared, used_own = !h->own;
        for (const use *u = a->uses; u; u = u->next) {
            used_shared |= u->id == h->shared || u->base == h->shared;
            used_own |= u->id == h->own || u->base == h->own;
        }
        if (h->refs || (used_shared && used_own)) {
            link = &h->next;
            continue;
        }
        *link = h->next;
        rv_lora_close(h->lora);
        rv_free(a->mem, h);
    }
}

static rv_err find_or_open(rv_adapters *a, const rv_engine *engine, int64_t shared, int64_t own, held **out)
{
    for (held *h = a->open; h; h = h->next) {
        if (h->shared == shared && h->own == own) {
            *out = h;
            return RV_OK;
        }
    }
    held *h = rv_new(a->mem, sizeof *h);
    if (!h) {
        return rv_fail(RV_E_NOMEM, "taking an adapter");
    }
    *h = (held){ .shared = shared, .own = own };
    double start = rv_clock_ms();
    rv_err e = open_both(a, engine, h);
    h->used_ms = rv_clock_ms();
    h->open_ms = h->used_ms - start;
    if (e) {
        rv_free(a->mem, h);
        return e;
    }
    h->next = a->open;
    a->open = h;
    *out = h;
    return RV_OK;
}

rv_err rv_adapters_take(rv_adapters *a, const rv_engine *engine, const char *user,
                        const rv_adapter_question *question, const rv_lora **out)
{
    char model[17];
    adapters_model_text(rv_engine_get_info(engine)->fingerprint, model);
    pthread_mutex_lock(&a->lock);
    const use *shared = adapters_find_use(a, model, ""),
              *own = user && *user ? adapters_find_use(a, model, user) : NULL;
    int64_t shared_id = 0, own_id = 0;
    held *h = NULL;
    rv_err e = for_question(a, shared, question, &shared_id);
    e = e ? e : for_question(a, own, question, &own_id);
    if (!e && (shared_id || own_id)) {
        adapters_tidy(a);
        e = find_or_open(a, engine, shared_id, own_id, &h);
    }
    if (!e) {
        *out = h ? h->lora : NULL;
        if (*out) {
            h->refs++;
        }
    }
    pthread_mutex_unlock(&a->lock);
    return e;
}

void rv_adapters_put(rv_adapters *a, const rv_lora *lora)
{
    if (!lora) {
        return;
    }
    pthread_mutex_lock(&a->lock);
    for (held *h = a->open; h; h = h->next) {
        if (h->lora == lora) {
            h->refs--;
            h->used_ms = rv_clock_ms();
        }
    }
    adapters_tidy(a);
    pthread_mutex_unlock(&a->lock);
}
