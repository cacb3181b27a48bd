#include "learn/adapter_loop.h"
#include "base/clock.h"
#include "base/log.h"
#include "learn/loop.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { WAITING_MAX = 64, NAME_MAX_BYTES = 256 };

typedef struct wish {
    char model[NAME_MAX_BYTES], user[NAME_MAX_BYTES];
} wish;

struct rv_adapter_loop {
    const rv_alloc *mem;
    rv_adapter_loop_options how;
    pthread_t thread;
    atomic_bool stop;
    pthread_mutex_t lock; /* for all below */
    pthread_cond_t changed;
    wish waiting[WAITING_MAX]; /* in order */
    size_t n_waiting;
    bool busy;
};

static bool on_step(void *self, size_t step, size_t steps, double loss)
{
    const rv_adapter_loop *loop = self;
    (void)step, (void)steps, (void)loss;
    return !atomic_load(&loop->stop) && (!loop->how.go_on || loop->how.go_on(loop->how.self));
}

static void report(const wish *w, rv_err e, const rv_adapter_learned *done)
{
    char before[32], after[32], version[32];
    if (e) {
        rv_log(RV_LOG_WARN, "adapter.learn", "model", w->model, "user", w->user, "error", rv_err_text(),
               (char *)NULL);
        return;
    }
    snprintf(before, sizeof before, "%.4f", done->before);
    snprintf(after, sizeof after, "%.4f", done->after);
    snprintf(version, sizeof version, "%lld", (long long)done->version);
    rv_log(RV_LOG_INFO, "adapter.learn", "model", w->model, "user", w->user, "outcome", done->why, "before",
           before, "after", after, "version", version, (char *)NULL);
}

/* In the state of the loops: what the newest round did. */
static void note(rv_adapter_loop *loop, int64_t began_ms, const rv_adapter_learned *done)
{
    rv_loop_report r = { .accepted = done->version > 0,
                         .changed = done->version,
                         .measure = done->after > 0 ? "loss" : NULL,
                         .before = done->before,
                         .after = done->after };
    snprintf(r.why, sizeof r.why, "%s", done->why);
    if (rv_loop_note(loop->how.learning.db, "instant", "adapters", began_ms, &r)) {
        rv_log(RV_LOG_WARN, "adapter.learn", "error", rv_err_text(), (char *)NULL);
    }
}

static rv_err round_of(rv_adapter_loop *loop, const wish *w, rv_adapter_learned *done)
{
    rv_engine *engine = NULL;
    RV_TRY(loop->how.take(loop->how.self, w->model, &engine));
    rv_adapter_learning how = loop->how.learning;
    how.engine = engine;
    how.pool = NULL;
    how.user = w->user;
    how.on_step = on_step;
    how.self = loop;
    rv_err e = rv_adapter_learn(&how, done);
    loop->how.put(loop->how.self, engine);
    return e;
}

static void learn(rv_adapter_loop *loop, const wish *w)
{
    rv_adapter_learned done = { 0 };
    int64_t began_ms = rv_clock_wall_ms();
    rv_err e;
    do {
        e = round_of(loop, w, &done);
    } while (e == RV_E_CANCELLED && !atomic_load(&loop->stop));
    if (e != RV_E_CANCELLED) {
        report(w, e, &done);
    }
    if (!e) {
        note(loop, began_ms, &done);
    }
}

static void *work(void *arg)
{
    rv_adapter_loop *loop = arg;
    (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid),
                      19); /* refused: it only takes more of the machine */
    pthread_mutex_lock(&loop->lock);
    while (!atomic_load(&loop->stop)) {
        if (loop->n_waiting == 0) {
            pthread_cond_wait(&loop->changed, &loop->lock);
            continue;
        }
        wish w = loop->waiting[0];
        memmove(loop->waiting, loop->waiting + 1, --loop->n_waiting * sizeof w);
        loop->busy = true;
        pthread_mutex_unlock(&loop->lock);
        learn(loop, &w);
        pthread_mutex_lock(&loop->lock);
        loop->busy = false;
        pthread_cond_broadcast(&loop->changed);
    }
    pthread_mutex_unlock(&loop->lock);
    return NULL;
}

rv_err rv_adapter_loop_new(const rv_alloc *mem, const rv_adapter_loop_options *how, rv_adapter_loop **out)
{
    rv_adapter_loop *loop = rv_new(mem, sizeof *loop);
    if (!loop) {
        return rv_fail(RV_E_NOMEM, "starting the adapters' loop");
    }
    loop->mem = mem;
    loop->how = *how;
    pthread_mutex_init(&loop->lock, NULL);
    pthread_cond_init(&loop->changed, NULL);
    sigset_t all, old;
    sigfillset(&all); /* signals are for the main thread */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int failed = pthread_create(&loop->thread, NULL, work, loop);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (failed) {
        pthread_cond_destroy(&loop->changed);
        pthread_mutex_destroy(&loop->lock);
        rv_free(mem, loop);
        return rv_fail(RV_E_NOMEM, "starting the adapters' loop: %s", strerror(failed));
    }
    *out = loop;
    return RV_OK;
}

void rv_adapter_loop_free(rv_adapter_loop *loop)
{
    if (!loop) {
        return;
    }
    pthread_mutex_lock(&loop->lock);
    atomic_store(&loop->stop, true);
    loop->n_waiting = 0;
    pthread_cond_broadcast(&loop->changed);
    pthread_mutex_unlock(&loop->lock);
    pthread_join(loop->thread, NULL);
    pthread_cond_destroy(&loop->changed);
    pthread_mutex_destroy(&loop->lock);
    rv_free(loop->mem, loop);
}

void rv_adapter_loop_notify(rv_adapter_loop *loop, const char *model, const char *user)
{
    wish w = { .model = "" };
    bool known = false;
    if (strlen(model) >= sizeof w.model || strlen(user) >= sizeof w.user) {
        return; /* learned by `learn run` only */
    }
    strcpy(w.model, model);
    strcpy(w.user, user);
    pthread_mutex_lock(&loop->lock);
    for (size_t i = 0; i < loop->n_waiting; i++) {
        known |= strcmp(loop->waiting[i].model, model) == 0 && strcmp(loop->waiting[i].user, user) == 0;
    }
    if (!known && loop->n_waiting < WAITING_MAX) {
        loop->waiting[loop->n_waiting++] = w;
        pthread_cond_broadcast(&loop->changed);
    }
    pthread_mutex_unlock(&loop->lock);
}

void rv_adapter_loop_wait(rv_adapter_loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    while (loop->n_waiting || loop->busy) {
        pthread_cond_wait(&loop->changed, &loop->lock);
    }
    pthread_mutex_unlock(&loop->lock);
}
