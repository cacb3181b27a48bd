/* Forgetting in the running system: what is in memory follows what the store says. */
#include "app/app_priv.h"
#include "app/routing.h"
#include "base/file.h"
#include "base/log.h"

#include <stdio.h>

/* Also when this run keeps no conversations, or has no models open: an earlier one may have. */
static rv_err drop_conversations(void *self, size_t *files)
{
    rv_app *app = self;
    if (app->pipeline.backend) {
        rv_backend_forget(app->pipeline.backend);
    }
    if (app->shelf) {
        return rv_shelf_clear(app->shelf, files);
    }
    char *dir = rv_path_join(app->mem, rv_config_data_dir(app->config), "kv");
    rv_shelf *shelf = NULL;
    rv_err e = dir ? RV_OK : rv_fail(RV_E_NOMEM, "forgetting");
    *files = 0;
    if (!e && rv_file_exists(dir)) {
        e = rv_shelf_open(app->mem, dir, UINT64_MAX, &shelf);
        e = e ? e : rv_shelf_clear(shelf, files);
        rv_shelf_close(shelf);
    }
    rv_free(app->mem, dir);
    return e;
}

static rv_err refresh(void *self)
{
    rv_app *app = self;
    RV_TRY(app->pipeline.instant ? rv_instant_reload(app->pipeline.instant) : RV_OK);
    RV_TRY(app->pipeline.attention ? rv_attention_reload(app->pipeline.attention) : RV_OK);
    RV_TRY(app->pipeline.bank ? rv_bank_reload(app->pipeline.bank) : RV_OK);
    RV_TRY(app_settle_edges(app));
    return rv_app_reload_router(app);
}

static rv_forget_place place_of(rv_app *app)
{
    const rv_pipeline *p = &app->pipeline;
    return (rv_forget_place){ .db = p->db,
                              .memory = p->memory,
                              .adapters = p->adapters,
                              .conversations = drop_conversations,
                              .refresh = refresh,
                              .self = app };
}

static rv_err forget(void *self, const char *user, const int64_t *ids, size_t n, rv_forgotten *out)
{
    rv_app *app = self;
    rv_forget_place place = place_of(app);
    atomic_fetch_add(&app->forgetting, 1);
    pthread_rwlock_wrlock(&app->quiet);
    atomic_fetch_add(&app->forgotten, 1);
    if (app->pipeline.tries) { /* they have read what is to go, and leave conversations behind */
        rv_tries_drop(app->pipeline.tries);
    }
    rv_err e = rv_forget(&place, user, ids, n, out);
    pthread_rwlock_unlock(&app->quiet);
    atomic_fetch_sub(&app->forgetting, 1);
    return e;
}

void app_open_forget(rv_app *app)
{
    rv_forget_place place = place_of(app);
    rv_forgotten done;
    bool was = false;
    rv_err e = rv_forget_resume(&place, &was, &done);
    if (e) {
        rv_log(RV_LOG_ERROR, "forget.unfinished", "error", rv_err_text(), "doing",
               "the next start tries again", (char *)NULL);
    } else if (was) {
        rv_log(RV_LOG_WARN, "forget.finished", "what", "a forgetting that was cut short", (char *)NULL);
    }
    app->pipeline.forget = forget;
    app->pipeline.forget_self = app;
}
