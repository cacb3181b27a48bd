/* Models of this machine. `lock` guards the list (who is loaded, held, used when) and is never held while a model is read or
 * runs. A thread of its own loads what is asked for, one after another, so that who asks can give up waiting. The engines
 * share one pool, which has one job at a time, so they share a turn for their steps as well. */
#include "backend/backend.h"

#include "base/clock.h"
#include "base/cond.h"
#include "base/file.h"
#include "base/metrics.h"
#include "engine/turn.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* What one prompt may cost before the model's own limit is looked at: 16 MiB of ids, 64 MiB of text. */
enum { MAX_PROMPT_IDS = 4 << 20, MAX_PROMPT_BYTES = 64 << 20 };
enum { LOOK_MS = 20 }; /* how often who waits for a model looks at its cancel flag: nobody signals that */

const char *const rv_tier_names[RV_TIERS] = { "350m", "700m", "1.2b", "2.6b" };

typedef struct model {
    char *path, *name; /* name: of the file, without .gguf */
    const char *id;    /* a tier's name, else name */
    int tier;
    uint64_t file_bytes;
    int64_t created;
    rv_engine *engine; /* NULL: not loaded */
    size_t held, waiting;
    uint64_t used; /* when it was last taken, in takes */
    double used_ms;
    uint64_t wanted; /* when it was asked for, in takes; 0: nobody wants it loaded */
    uint64_t tries;  /* to load it that are over; how the last one ended: */
    rv_err err;
    char why[256];
    uint32_t n_ctx;
    size_t resident_bytes;
    uint64_t vocabulary; /* rv_tok_hash, once it was loaded */
} model;

enum { DRAFT_OFF = -2, DRAFT_ANY = -1 };

struct rv_backend {
    const rv_alloc *mem;
    rv_pool *pool;
    rv_turn *turn;
    rv_engine_options engine_options;
    size_t max_loaded;
    int draft_tier; /* or one of these: */
    char *packed_dir;
    model *models;           /* [n_models] fixed after open */
    size_t n_models, chosen; /* chosen: the default, n_models when there is none */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* an engine came, went, is wanted or held less */
    pthread_t loader;
    bool has_loader, closing;
    bool dropping; /* the loader closes an engine, which writes its conversations */
    double wait_ms;
    uint64_t takes;
};

static rv_metric metrics[] = {
    { .kind = RV_GAUGE, .name = "ruvllm_models_loaded", .help = "Models in memory." },
    { .kind = RV_COUNTER, .name = "ruvllm_model_loads_total", .help = "Models read from their files." },
    { .kind = RV_COUNTER,
      .name = "ruvllm_model_evictions_total",
      .help = "Models dropped to make room for another." },
    { .kind = RV_HISTOGRAM, .name = "ruvllm_model_load_seconds", .help = "Time to read a model." },
};
enum { LOADED, LOADS, EVICTIONS, LOAD_TIME };

static void register_metrics(void)
{
    rv_metrics_register(metrics, RV_COUNT(metrics));
}

/* ---- the list ---- */

/* Copies the file's name without folders and .gguf. */
static char *name_of(const rv_alloc *mem, const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *base = slash ? slash + 1 : path;
    size_t n = strlen(base);
    if (n > 5 && strcmp(base + n - 5, ".gguf") == 0) {
        n -= 5;
    }
    return rv_strndup(mem, base, n);
}

static rv_err add_model(rv_backend *b, const char *path, int tier)
{
    char what[32] = "model";
    if (tier >= 0) {
        snprintf(what, sizeof what, "tier %s", rv_tier_names[tier]);
    }
    struct stat st;
    if (stat(path, &st) < 0) {
        return rv_fail(errno == ENOENT || errno == ENOTDIR ? RV_E_NOT_FOUND : RV_E_IO, "%s: %s: %s", what,
                       path, strerror(errno));
    }
    if (!S_ISREG(st.st_mode)) {
        return rv_fail(RV_E_IO, "%s: %s: not a file", what, path);
    }
    model m = { .tier = tier,
                .file_bytes = (uint64_t)st.st_size,
                .created = (int64_t)st.st_mtime,
                .path = rv_strdup(b->mem, path),
                .name = name_of(b->mem, path) };
    if (!m.path || !m.name) {
        rv_free(b->mem, m.path);
        rv_free(b->mem, m.name);
        return rv_fail(RV_E_NOMEM, "%s: %s", what, path);
    }
    m.id = tier >= 0 ? rv_tier_names[tier] : m.name;
    b->models[b->n_models++] = m;
    return RV_OK;
}

static model *find_path(rv_backend *b, const char *path)
{
    for (size_t i = 0; i < b->n_models; i++) {
        if (strcmp(b->models[i].path, path) == 0) {
            return &b->models[i];
        }
    }
    return NULL;
}

/* Ids come before file names, so that a file called 350m.gguf cannot hide a tier. */
static model *find_name(rv_backend *b, const char *name)
{
    for (size_t i = 0; i < b->n_models; i++) {
        if (strcmp(b->models[i].id, name) == 0) {
            return &b->models[i];
        }
    }
    size_t n = strlen(name);
    n -= n > 5 && strcmp(name + n - 5, ".gguf") == 0 ? 5 : 0;
    for (size_t i = 0; i < b->n_models; i++) {
        if (strlen(b->models[i].name) == n && memcmp(b->models[i].name, name, n) == 0) {
            return &b->models[i];
        }
    }
    return find_path(b, name);
}

static rv_err not_found(rv_backend *b, const char *name)
{
    if (b->n_models == 0) {
        return rv_fail(RV_E_NOT_FOUND,
                       "there is no model: name files under [tiers], or put demo-*.gguf into the folder "
                       "RUVLLM_MODELS names");
    }
    char list[400] = "";
    size_t used = 0;
    for (size_t i = 0; i < b->n_models && used < sizeof list - 64; i++) {
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%.48s", i ? ", " : "", b->models[i].id);
    }
    return rv_fail(RV_E_NOT_FOUND, "no model \"%.200s\"; there are: %s", name, list);
}

static rv_err add_files(rv_backend *b, const rv_backend_options *how)
{
    for (int t = 0; t < RV_TIERS; t++) {
        if (how->tiers[t]) {
            RV_TRY(add_model(b, how->tiers[t], t));
        }
    }
    for (size_t i = 0; i < how->n_files; i++) {
        if (!find_path(b, how->files[i])) {
            RV_TRY(add_model(b, how->files[i], -1));
        }
    }
    const char *wish = how->default_model;
    if (wish && !find_name(b, wish)) {
        if (!rv_file_exists(wish)) {
            return not_found(b, wish);
        }
        RV_TRY(add_model(b, wish, -1));
    }
    for (size_t i = 0; i < b->n_models; i++) {
        for (size_t j = 0; j < i; j++) {
            if (strcmp(b->models[i].id, b->models[j].id) == 0) {
                return rv_fail(RV_E_ARG, "%s and %s would both be called \"%s\"; rename one",
                               b->models[j].path, b->models[i].path, b->models[i].id);
            }
        }
    }
    b->chosen = b->n_models;
    if (wish) {
        b->chosen = (size_t)(find_name(b, wish) - b->models);
    } else if (b->n_models > 0) {
        b->chosen = 0; /* tiers stand first, smallest to largest */
        while (b->chosen + 1 < b->n_models && b->models[b->chosen + 1].tier >= 0) {
            b->chosen++;
        }
    }
    return RV_OK;
}

/* ---- who guesses for whom ---- */

static rv_err read_vocabulary(const rv_backend *b, const char *path, uint64_t *hash, size_t *n)
{
    rv_gguf *g = NULL;
    rv_tok *tok = NULL;
    rv_err e = rv_gguf_open(b->mem, path, &g);
    if (!e) {
        e = rv_tok_open(b->mem, g, &tok);
    }
    if (!e) {
        *hash = rv_tok_hash(tok);
        *n = rv_tok_count(tok);
    }
    rv_tok_close(tok);
    rv_gguf_close(g);
    return e;
}

/* A tier that was named to guess can do so for one of the larger ones at least. */
static rv_err check_draft_tier(rv_backend *b, const char *name)
{
    model *draft = NULL, *last = NULL;
    uint64_t own, other = 0;
    size_t n_own, n_other = 0;
    for (size_t i = 0; i < b->n_models; i++) {
        draft = b->models[i].tier == b->draft_tier ? &b->models[i] : draft;
    }
    if (!draft) {
        return rv_fail(RV_E_ARG, "draft model %s: there is no such tier; name another one, auto or off",
                       name);
    }
    if (b->max_loaded < 2) {
        return rv_fail(
            RV_E_ARG,
            "draft model %s: only %zu model may be in memory (inference.max_loaded_models), and it "
            "needs one beside it",
            name, b->max_loaded);
    }
    RV_TRY(read_vocabulary(b, draft->path, &own, &n_own));
    for (size_t i = 0; i < b->n_models && (!last || other != own); i++) {
        model *m = &b->models[i];
        if (m->tier >= 0 && m->file_bytes > draft->file_bytes) {
            last = m;
            RV_TRY(read_vocabulary(b, m->path, &other, &n_other));
        }
    }
    if (!last) {
        return rv_fail(RV_E_ARG, "draft model %s: no tier is larger; name another one, auto or off", name);
    }
    return other == own
               ? RV_OK
               : rv_fail(
                     RV_E_ARG,
                     "draft model %s (%zu tokens): no larger tier has the same vocabulary (%s: %zu tokens); "
                     "name another one, auto or off",
                     name, n_own, last->id, n_other);
}

static rv_err choose_draft_tier(rv_backend *b, const char *name)
{
    b->draft_tier = !name || strcmp(name, "off") == 0 ? DRAFT_OFF : DRAFT_ANY;
    for (int t = 0; name && t < RV_TIERS; t++) {
        if (strcmp(name, rv_tier_names[t]) == 0) {
            b->draft_tier = t;
            return check_draft_tier(b, name);
        }
    }
    return RV_OK;
}

static void *load_wanted(void *arg);

static rv_err start_loader(rv_backend *b)
{
    int failed = pthread_create(&b->loader, NULL, load_wanted, b);
    b->has_loader = !failed;
    return failed ? rv_fail(RV_E_NOMEM, "no thread to load models: %s", strerror(failed)) : RV_OK;
}

rv_err rv_backend_open(const rv_alloc *mem, const rv_backend_options *how, rv_backend **out)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_metrics);

    rv_backend *b = rv_new(mem, sizeof *b);
    if (!b) {
        return rv_fail(RV_E_NOMEM, "opening the models");
    }
    *b = (rv_backend){ .mem = mem,
                       .max_loaded = how->max_loaded ? how->max_loaded : 1,
                       .wait_ms = how->load_wait_ms };
    pthread_mutex_init(&b->lock, NULL);
    rv_cond_init(&b->changed);
    if (how->packed_dir && !(b->packed_dir = rv_strdup(mem, how->packed_dir))) {
        rv_backend_close(b);
        return rv_fail(RV_E_NOMEM, "opening the models");
    }
    b->models = rv_new_array(mem, RV_TIERS + how->n_files + 1, sizeof *b->models);
    rv_err e = b->models ? add_files(b, how) : rv_fail(RV_E_NOMEM, "opening the models");
    if (!e) {
        e = choose_draft_tier(b, how->draft_model);
    }
    if (!e) {
        e = rv_pool_new(mem, how->threads, &b->pool);
    }
    if (!e) {
        e = rv_turn_new(mem, &b->turn);
    }
    if (e) {
        rv_backend_close(b);
        return e;
    }
    b->engine_options = rv_engine_options_default();
    b->engine_options.pool = b->pool;
    b->engine_options.turn = b->turn;
    b->engine_options.max_context = how->max_context;
    b->engine_options.kv_type = how->kv_type;
    b->engine_options.budget = how->budget;
    b->engine_options.shelf = how->shelf;
    b->engine_options.no_drafts = how->no_drafts;
    b->engine_options.no_packing = how->no_packing;
    b->engine_options.packed_dir = b->packed_dir;
    e = start_loader(b);
    if (e) {
        rv_backend_close(b);
        return e;
    }
    *out = b;
    return RV_OK;
}

void rv_backend_close(rv_backend *b)
{
    if (!b) {
        return;
    }
    if (b->has_loader) {
        pthread_mutex_lock(&b->lock);
        b->closing = true;
        pthread_cond_broadcast(&b->changed);
        pthread_mutex_unlock(&b->lock);
        pthread_join(b->loader, NULL);
    }
    for (size_t i = 0; i < b->n_models; i++) {
        assert(b->models[i].held == 0);
        if (b->models[i].engine) {
            rv_engine_close(b->models[i].engine);
            rv_metric_add(&metrics[LOADED], -1);
        }
        rv_free(b->mem, b->models[i].path);
        rv_free(b->mem, b->models[i].name);
    }
    rv_free(b->mem, b->models);
    rv_free(b->mem, b->packed_dir);
    rv_turn_free(b->turn);
    rv_pool_free(b->pool);
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->lock);
    rv_free(b->mem, b);
}

size_t rv_backend_models(rv_backend *b, rv_backend_model *out, size_t max)
{
    pthread_mutex_lock(&b->lock);
    for (size_t i = 0; i < b->n_models && i < max; i++) {
        const model *m = &b->models[i];
        out[i] = (rv_backend_model){ .id = m->id,
                                     .path = m->path,
                                     .tier = m->tier,
                                     .loaded = m->engine != NULL,
                                     .loading = !m->engine && m->wanted,
                                     .is_default = i == b->chosen,
                                     .file_bytes = m->file_bytes,
                                     .n_ctx = m->n_ctx,
                                     .created = m->created,
                                     .held = m->held,
                                     .resident_bytes = m->engine ? m->resident_bytes : 0,
                                     .idle_ms = m->engine ? rv_clock_ms() - m->used_ms : 0 };
    }
    pthread_mutex_unlock(&b->lock);
    return b->n_models;
}

rv_err rv_backend_resolve(rv_backend *b, const char *name, const char **id)
{
    bool any = !name || !*name || strcmp(name, "default") == 0;
    const model *m = !any ? find_name(b, name) : b->chosen < b->n_models ? &b->models[b->chosen] : NULL;
    if (!m) {
        return not_found(b, any ? "default" : name);
    }
    *id = m->id;
    return RV_OK;
}

/* ---- loading ---- */

/* With the lock: whether another model may be loaded now, and which one has to go for it (NULL: none). */
static bool find_room(rv_backend *b, model **victim)
{
    size_t loaded = 0;
    *victim = NULL;
    for (size_t i = 0; i < b->n_models; i++) {
        model *m = &b->models[i];
        loaded += m->engine != NULL;
        if (m->engine && m->held == 0 && m->waiting == 0 && (!*victim || m->used < (*victim)->used)) {
            *victim = m;
        }
    }
    if (loaded < b->max_loaded) {
        *victim = NULL;
        return true;
    }
    return *victim != NULL;
}

/* By the loader, with the lock, which is let go while the engine closes. */
static void drop_engine(rv_backend *b, model *m)
{
    rv_engine *old = m->engine;
    m->engine = NULL;
    b->dropping = true;
    pthread_mutex_unlock(&b->lock);
    rv_engine_close(old);
    rv_metric_add(&metrics[EVICTIONS], 1);
    rv_metric_add(&metrics[LOADED], -1);
    pthread_mutex_lock(&b->lock);
    b->dropping = false;
    pthread_cond_broadcast(&b->changed);
}

/* By the loader, without the lock. */
static rv_err open_engine(rv_backend *b, const char *path, rv_engine **out)
{
    double start = rv_clock_ms();
    rv_err e = rv_engine_open(b->mem, path, b->engine_options, out);
    if (!e) {
        rv_metric_add(&metrics[LOADS], 1);
        rv_metric_add(&metrics[LOADED], 1);
        rv_metric_time(&metrics[LOAD_TIME], rv_clock_ms() - start);
    }
    return e;
}

static model *next_wanted(rv_backend *b)
{
    model *first = NULL;
    for (size_t i = 0; i < b->n_models; i++) {
        model *m = &b->models[i];
        if (!m->engine && m->wanted && (!first || m->wanted < first->wanted)) {
            first = m;
        }
    }
    return first;
}

static void *load_wanted(void *arg)
{
    rv_backend *b = arg;
    pthread_mutex_lock(&b->lock);
    while (!b->closing) {
        model *m = next_wanted(b), *victim;
        if (!m || !find_room(b, &victim)) {
            pthread_cond_wait(&b->changed, &b->lock);
            continue;
        }
        if (victim) {
            drop_engine(b, victim);
            continue;
        }
        rv_engine *fresh = NULL;
        pthread_mutex_unlock(&b->lock);
        rv_err e = open_engine(b, m->path, &fresh);
        pthread_mutex_lock(&b->lock);
        if (fresh) {
            m->n_ctx = rv_engine_get_info(fresh)->n_ctx;
            m->resident_bytes = rv_engine_get_info(fresh)->resident_bytes;
            m->vocabulary = rv_engine_get_info(fresh)->vocabulary;
        }
        m->engine = fresh;
        m->wanted = 0;
        m->tries++;
        m->err = e;
        m->used = ++b->takes;
        m->used_ms = rv_clock_ms();
        snprintf(m->why, sizeof m->why, "%s", e ? rv_err_text() : "");
        pthread_cond_broadcast(&b->changed);
    }
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

static void want(rv_backend *b, model *m)
{
    if (!m->engine && !m->wanted) {
        m->wanted = ++b->takes;
        pthread_cond_broadcast(&b->changed);
    }
}

void rv_backend_warm(rv_backend *b)
{
    pthread_mutex_lock(&b->lock);
    if (b->chosen < b->n_models) {
        want(b, &b->models[b->chosen]);
    }
    pthread_mutex_unlock(&b->lock);
}

void rv_backend_forget(rv_backend *b)
{
    for (size_t i = 0; i < b->n_models;
         i++) { /* one at a time, held: a model that is loaded meanwhile has nothing to forget */
        pthread_mutex_lock(&b->lock);
        while (b->dropping) { /* what it writes is there when we return */
            pthread_cond_wait(&b->changed, &b->lock);
        }
        rv_engine *engine = b->models[i].engine;
        b->models[i].held += engine != NULL;
        pthread_mutex_unlock(&b->lock);
        if (engine) {
            rv_engine_forget(engine);
            rv_backend_put(b, engine);
        }
    }
}

/* With the lock: waits until m is loaded. */
static rv_err await(rv_backend *b, model *m, const atomic_bool *cancel)
{
    double start = rv_clock_ms();
    for (uint64_t tries = m->tries; !m->engine;) {
        double left = b->wait_ms > 0 ? start + b->wait_ms - rv_clock_ms() : INFINITY;
        if (tries != m->tries && m->err) {
            return rv_fail(m->err, "%s", m->why);
        }
        if (cancel && atomic_load_explicit(cancel, memory_order_relaxed)) {
            return rv_fail(RV_E_CANCELLED, "cancelled while waiting for a model");
        }
        want(b, m);
        if (left <= 0) {
            return rv_fail(RV_E_FULL, "model %s is being loaded; ask again in a moment", m->id);
        }
        if (cancel || left < INFINITY) {
            rv_cond_wait_ms(&b->changed, &b->lock, cancel && left > LOOK_MS ? LOOK_MS : left);
        } else {
            pthread_cond_wait(&b->changed, &b->lock);
        }
    }
    return RV_OK;
}

static rv_err take(rv_backend *b, const char *id, const atomic_bool *cancel, rv_engine **out)
{
    model *m = find_name(b, id);
    if (!m) {
        return not_found(b, id);
    }
    pthread_mutex_lock(&b->lock);
    m->waiting++;
    rv_err e = await(b, m, cancel);
    m->waiting--;
    if (!e) {
        m->held++;
        m->used = ++b->takes;
        m->used_ms = rv_clock_ms();
        *out = m->engine;
    }
    pthread_mutex_unlock(&b->lock);
    return e;
}

rv_err rv_backend_take(rv_backend *b, const char *id, rv_engine **out)
{
    return take(b, id, NULL, out);
}

void rv_backend_put(rv_backend *b, rv_engine *engine)
{
    pthread_mutex_lock(&b->lock);
    for (size_t i = 0; i < b->n_models; i++) {
        if (b->models[i].engine == engine) {
            assert(b->models[i].held > 0);
            b->models[i].held--;
            b->models[i].used_ms = rv_clock_ms();
        }
    }
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
}

/* Who guesses for an engine that is held; held as well, NULL: nobody. Never waits: a tier that is to guess and is not there yet
 * comes for later requests. */
static rv_engine *take_draft_model(rv_backend *b, const rv_engine *engine)
{
    if (b->draft_tier == DRAFT_OFF) {
        return NULL;
    }
    pthread_mutex_lock(&b->lock);
    const model *m = NULL;
    model *draft = NULL;
    for (size_t i = 0; i < b->n_models; i++) {
        m = b->models[i].engine == engine ? &b->models[i] : m;
    }
    for (size_t i = 0; i < b->n_models; i++) {
        model *d = &b->models[i];
        bool meant = d->tier >= 0 && (b->draft_tier == DRAFT_ANY || d->tier == b->draft_tier);
        if (!meant || d->file_bytes >= m->file_bytes) {
            continue;
        }
        if (d->engine && d->vocabulary == m->vocabulary && (!draft || d->file_bytes < draft->file_bytes)) {
            draft = d;
        } else if (!d->engine && b->draft_tier != DRAFT_ANY && !d->err) {
            want(b, d);
        }
    }
    if (draft) {
        draft->held++;
        draft->used = ++b->takes;
        draft->used_ms = rv_clock_ms();
    }
    pthread_mutex_unlock(&b->lock);
    return draft ? draft->engine : NULL;
}

/* ---- generating ---- */

static rv_err prompt_ids(const rv_engine *engine, const rv_backend_request *r, const rv_alloc *mem,
                         rv_ids *ids)
{
    const rv_tok *tok = rv_engine_tok(engine);
    if (r->messages) {
        rv_text text;
        rv_text_init(&text, mem, MAX_PROMPT_BYTES);
        rv_err e = rv_chat_render(tok, rv_engine_get_info(engine)->family, r->messages, r->tools,
                                  (rv_chat_options){ .add_generation_prompt = true }, &text, ids);
        rv_text_deinit(&text);
        return e;
    }
    if (rv_tok_adds_bos(tok)) {
        RV_TRY(rv_ids_add(ids, rv_tok_bos(tok)));
    }
    size_t before = ids->n;
    RV_TRY(rv_tok_encode(tok, r->prompt, r->prompt_bytes, RV_TOK_SPECIAL, ids));
    if (before == 1 && ids->n > 1 && ids->at[1] == ids->at[0]) { /* the text brought its own */
        memmove(ids->at, ids->at + 1, (ids->n - 1) * sizeof *ids->at);
        ids->n--;
    }
    return RV_OK;
}

rv_err rv_backend_generate(rv_backend *b, const rv_backend_request *request, rv_generated *out)
{
    rv_engine *engine;
    RV_TRY(take(b, request->model, request->how.cancel, &engine));
    rv_ids ids;
    rv_ids_init(&ids, b->mem, MAX_PROMPT_IDS);
    rv_generate how = request->how;
    how.prompt = request->prompt_ids;
    how.n_prompt = request->n_prompt_ids;
    rv_err e = RV_OK;
    if (!request->prompt_ids) {
        e = prompt_ids(engine, request, b->mem, &ids);
        how.prompt = ids.at;
        how.n_prompt = ids.n;
    }
    if (!e) {
        how.draft_model = take_draft_model(b, engine);
        e = rv_engine_generate(engine, &how, out);
        if (how.draft_model) {
            rv_backend_put(b, how.draft_model);
        }
    }
    rv_ids_deinit(&ids);
    rv_backend_put(b, engine);
    return e;
}

rv_err rv_backend_count_tokens(rv_backend *b, const char *id, const char *text, size_t n, size_t *out)
{
    rv_engine *engine;
    RV_TRY(rv_backend_take(b, id, &engine));
    rv_ids ids;
    rv_ids_init(&ids, b->mem, MAX_PROMPT_IDS);
    rv_err e = rv_tok_encode(rv_engine_tok(engine), text, n, RV_TOK_PLAIN, &ids);
    if (!e) {
        *out = ids.n;
    }
    rv_ids_deinit(&ids);
    rv_backend_put(b, engine);
    return e;
}
