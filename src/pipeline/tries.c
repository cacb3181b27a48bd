#include "pipeline/tries.h"

#include "base/log.h"
#include "base/metrics.h"
#include "base/str.h"
#include "learn/episode.h"
#include "router/cover.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

enum { WAITING_MAX = 16, ANSWER_MAX_BYTES = 64 << 10, RECORD_MAX_BYTES = 1 << 20 };

struct rv_tries {
    const rv_alloc *mem;
    rv_db *db;
    rv_backend *backend;
    pthread_t thread;
    atomic_bool stop, cancel; /* the thread; what it asks right now */
    pthread_mutex_t lock;     /* for all below */
    pthread_cond_t changed;
    rv_try waiting[WAITING_MAX]; /* in order */
    size_t n_waiting;
    bool busy;
};

static rv_metric counters[] = {
    { .kind = RV_COUNTER,
      .name = "ruvllm_router_tries_total",
      .help = "Answers of other tiers, to learn from." },
    { .kind = RV_COUNTER,
      .name = "ruvllm_router_tries_dropped_total",
      .help = "Tries dropped: too many waited, or something was forgotten." },
};
enum { TRIES, DROPPED };

static void register_metrics(void)
{
    rv_metrics_register(counters, RV_COUNT(counters));
}

static bool on_piece(void *self, const rv_piece *piece)
{
    rv_text *text = self;
    rv_text_add(text, piece->text, piece->n);
    return !text->failed;
}

/* rv_says_fill of an answer, as a list; NULL: it is not known what was asked. */
static json_t *says_of(const rv_try *one, const char *answer)
{
    enum { PASSAGES_MAX = 16 };
    rv_str passages[PASSAGES_MAX];
    float says[RV_SAYS];
    size_t n = 0, size = json_array_size(one->asked);
    if (size == 0) {
        return NULL;
    }
    for (; n + 1 < size && n < PASSAGES_MAX; n++) {
        const json_t *text = json_array_get(one->asked, n + 1);
        passages[n] = rv_str_of(json_string_value(text), json_string_length(text));
    }
    const json_t *question = json_array_get(one->asked, 0);
    rv_says_fill(rv_str_of(json_string_value(question), json_string_length(question)), passages, n,
                 rv_str_of(answer, strlen(answer)), says);
    json_t *list = json_array();
    for (size_t i = 0; i < RV_SAYS; i++) {
        json_array_append_new(list, json_real((double)says[i]));
    }
    return list;
}

/* {"model", "text", "confidence", "tokens", "says"}, or NULL: the model gave no answer, which is a line in the log. */
static json_t *ask(rv_tries *t, const rv_try *one, const char *model)
{
    rv_text text;
    rv_generated got = { 0 };
    rv_backend_request request = { .model = model, .messages = one->messages };
    rv_text_init(&text, t->mem, ANSWER_MAX_BYTES);
    request.how = (rv_generate){ .max_tokens = one->max_tokens,
                                 .sampling = one->sampling,
                                 .n_logprobs = -1,
                                 .tenant = one->tenant,
                                 .cancel = &t->cancel,
                                 .on_piece = on_piece,
                                 .self = &text };
    rv_err e = rv_backend_generate(t->backend, &request, &got);
    json_t *said = NULL;
    if (!e && got.completion_tokens > 0 && !text.failed && got.finish != RV_FINISH_CANCELLED) {
        said = json_pack("{s:s, s:s, s:f, s:I, s:o*}", "model", model, "text", rv_text_get(&text),
                         "confidence", exp(got.mean_logprob), "tokens",
                         (json_int_t)(got.prompt_tokens + got.completion_tokens), "says",
                         says_of(one, rv_text_get(&text)));
        rv_metric_add(&counters[TRIES], 1);
    } else if (e && e != RV_E_CANCELLED) {
        rv_log(RV_LOG_WARN, "router.try", "request", one->request_id, "model", model, "error", rv_err_text(),
               (char *)NULL);
    }
    rv_text_deinit(&text);
    return said;
}

static void try_all(rv_tries *t, const rv_try *one)
{
    json_t *list = json_array();
    rv_text text;
    for (size_t i = 0; i < one->n_models && !atomic_load(&t->cancel); i++) {
        json_t *said = ask(t, one, one->models[i]);
        if (said) {
            json_array_append_new(list, said);
        }
    }
    rv_text_init(&text, t->mem, RECORD_MAX_BYTES);
    if (json_array_size(list) == one->n_models) { /* some of them alone would not be a fair sample */
        rv_json_text(list, &text);
        rv_err e = rv_text_check(&text);
        e = e ? e : rv_episode_add_tries(t->db, one->request_id, rv_text_get(&text));
        if (e) {
            rv_log(RV_LOG_WARN, "router.try", "request", one->request_id, "error", rv_err_text(),
                   (char *)NULL);
        }
    }
    rv_text_deinit(&text);
    json_decref(list);
}

static void *work(void *arg)
{
    rv_tries *t = arg;
    pthread_mutex_lock(&t->lock);
    while (!atomic_load(&t->stop)) {
        if (t->n_waiting == 0) {
            pthread_cond_wait(&t->changed, &t->lock);
            continue;
        }
        rv_try one = t->waiting[0];
        memmove(t->waiting, t->waiting + 1, --t->n_waiting * sizeof one);
        t->busy = true;
        pthread_mutex_unlock(&t->lock);
        try_all(t, &one);
        json_decref(one.messages);
        json_decref(one.asked);
        pthread_mutex_lock(&t->lock);
        t->busy = false;
        pthread_cond_broadcast(&t->changed);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

rv_err rv_tries_new(const rv_alloc *mem, rv_db *db, rv_backend *backend, rv_tries **out)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_metrics);
    rv_tries *t = rv_new(mem, sizeof *t);
    if (!t) {
        return rv_fail(RV_E_NOMEM, "starting to try other tiers");
    }
    *t = (rv_tries){ .mem = mem, .db = db, .backend = backend };
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->changed, NULL);
    sigset_t all, old;
    sigfillset(&all); /* signals are for the main thread */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int failed = pthread_create(&t->thread, NULL, work, t);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (failed) {
        pthread_cond_destroy(&t->changed);
        pthread_mutex_destroy(&t->lock);
        rv_free(mem, t);
        return rv_fail(RV_E_NOMEM, "starting to try other tiers: %s", strerror(failed));
    }
    *out = t;
    return RV_OK;
}

static void drop_waiting(rv_tries *t)
{
    for (size_t i = 0; i < t->n_waiting; i++) {
        json_decref(t->waiting[i].messages);
        json_decref(t->waiting[i].asked);
    }
    t->n_waiting = 0;
}

void rv_tries_free(rv_tries *t)
{
    if (!t) {
        return;
    }
    pthread_mutex_lock(&t->lock);
    atomic_store(&t->stop, true);
    atomic_store(&t->cancel, true);
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    drop_waiting(t);
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->lock);
    rv_free(t->mem, t);
}

void rv_tries_put(rv_tries *t, rv_try *one)
{
    pthread_mutex_lock(&t->lock);
    bool room = one->messages && one->n_models > 0 && t->n_waiting < WAITING_MAX;
    if (room) {
        t->waiting[t->n_waiting++] = *one;
        pthread_cond_broadcast(&t->changed);
    }
    pthread_mutex_unlock(&t->lock);
    if (!room) {
        rv_metric_add(&counters[DROPPED], 1);
        json_decref(one->messages);
        json_decref(one->asked);
    }
    one->messages = one->asked = NULL;
}

void rv_tries_drop(rv_tries *t)
{
    pthread_mutex_lock(&t->lock);
    rv_metric_add(&counters[DROPPED], (int64_t)(t->n_waiting + t->busy));
    drop_waiting(t);
    atomic_store(&t->cancel, true);
    while (t->busy) {
        pthread_cond_wait(&t->changed, &t->lock);
    }
    atomic_store(&t->cancel, atomic_load(&t->stop));
    pthread_mutex_unlock(&t->lock);
}
