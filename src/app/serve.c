/* The server's life: what it refuses to start with, where it can be reached, how it ends. */
#include "api/api.h"
#include "app/app_priv.h"
#include "app/learning.h"
#include "app/routing.h"
#include "base/log.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { MAX_WORKERS = 64, MAX_HEADER_BYTES = 32 << 10 };

/* Signal handlers take no argument, so this is the one thing they can reach. Set before they are, cleared after. */
static rv_http_server *volatile serving;

static void on_signal(int number)
{
    (void)number;
    rv_http_server *server = serving; /* once: the main thread may clear it meanwhile */
    if (server) {
        rv_http_stop(server); /* a second one ends at once */
    }
}

static void catch_signals(struct sigaction old[2])
{
    struct sigaction ours = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    sigemptyset(&ours.sa_mask);
    sigaction(SIGTERM, &ours, &old[0]);
    sigaction(SIGINT, &ours, &old[1]);
}

static bool is_loopback(const char *address)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, address, &v4) == 1) {
        return ntohl(v4.s_addr) >> 24 == 127;
    }
    if (inet_pton(AF_INET6, address, &v6) == 1) {
        return IN6_IS_ADDR_LOOPBACK(&v6); /* the names of no other one are checked by rv_http_listen */
    }
    return strcmp(address, "localhost") == 0;
}

static rv_err check_exposure(const rv_config *c)
{
    static const char *const wishes[] = { "server.tls_cert", "server.tls_key" };
    for (size_t i = 0; i < RV_COUNT(wishes); i++) {
        if (rv_config_string(c, wishes[i])) {
            return rv_fail(
                RV_E_CONFIG,
                "%s: %s is set, but this version has no TLS and will not start as if it had; unset it and "
                "put a proxy in front",
                rv_config_origin(c, wishes[i]), wishes[i]);
        }
    }
    const char *listen = rv_config_string(c, "server.listen");
    bool keys = rv_config_string(c, "server.api_keys_file") != NULL;
    if (!is_loopback(listen) && !keys && !rv_config_bool(c, "server.insecure")) {
        return rv_fail(RV_E_CONFIG,
                       "%s: server.listen is %s, which others can reach, and no API keys are asked for; set "
                       "server.api_keys_file, listen on 127.0.0.1, or say --insecure if that is meant",
                       rv_config_origin(c, "server.listen"), listen);
    }
    return RV_OK;
}

/* On standard error, and in the data folder for who finds it in use. */
static void print_where(rv_app *app, const char *listen, int port, bool with_key)
{
    const char *open = strchr(listen, ':') ? "[" : "", *close = *open ? "]" : "";
    char base[128];
    snprintf(base, sizeof base, "http://%s%s%s:%d", open, listen, close, port);
    rv_db_tell(app->pipeline.db, base);
    rv_backend_model models[RV_TIERS + 1];
    size_t n = rv_backend_models(app->pipeline.backend, models, RV_COUNT(models));
    fprintf(stderr,
            "ruvllm %s is listening\n  API      %s/v1\n  metrics  %s/v1/metrics\n  data     %s\n  models  ",
            RV_VERSION, base, base, rv_config_data_dir(app->config));
    for (size_t i = 0; i < n && i < RV_COUNT(models); i++) {
        fprintf(stderr, " %s%s", models[i].id, models[i].is_default ? " (default)" : "");
    }
    fprintf(stderr, "%s\nTry it:\n  curl -s %s%s/v1/query -d '{\"query\": \"What do you know?\"}'\n",
            n ? "" : " none yet", with_key ? "-H 'Authorization: Bearer YOUR_KEY' " : "", base);
}

/* From here to put_engine a user's words become weights: nothing is forgotten meanwhile. */
static rv_err take_engine(void *self, const char *model, rv_engine **out)
{
    const rv_pipeline *p = &((rv_app *)self)->pipeline;
    rv_pipeline_enter(p);
    rv_err e = rv_backend_take(p->backend, model, out);
    if (e) {
        rv_pipeline_leave(p);
    }
    return e;
}

static void put_engine(void *self, rv_engine *engine)
{
    const rv_pipeline *p = &((rv_app *)self)->pipeline;
    rv_backend_put(p->backend, engine);
    rv_pipeline_leave(p);
}

static bool nobody_forgets(void *self)
{
    return atomic_load(&((rv_app *)self)->forgetting) == 0;
}

static void stop_loop(rv_app *app)
{
    rv_adapter_loop_free(app->pipeline.adapter_loop);
    app->pipeline.adapter_loop = NULL;
    rv_tries_free(app->pipeline.tries);
    app->pipeline.tries = NULL;
}

/* Tries ask all tiers; where they would push each other out of memory, requests would wait for that. */
static bool tiers_fit(const rv_app *app)
{
    rv_backend_model models[RV_TIERS];
    size_t n = rv_backend_models(app->pipeline.backend, models, RV_COUNT(models)), tiers = 0;
    for (size_t i = 0; i < n && i < RV_COUNT(models); i++) {
        tiers += models[i].tier >= 0;
    }
    return (int64_t)tiers <= rv_config_int(app->config, "inference.max_loaded_models");
}

/* Rank 2 and two seconds: enough for the newest corrections, `learn run` does the rest. */
static rv_err start_loop(rv_app *app)
{
    rv_pipeline *p = &app->pipeline;
    rv_adapter_loop_options how = { .learning = rv_app_adapter_learning(app),
                                    .take = take_engine,
                                    .put = put_engine,
                                    .go_on = nobody_forgets,
                                    .self = app };
    how.learning.rank = 2;
    how.learning.micro = true;
    how.learning.springs = 0; /* the base under it stays as it is */
    how.learning.newest = 16;
    how.learning.max_steps = 200;
    how.learning.max_seconds = 2;
    if (rv_config_bool(app->config, "learning.adapters")) {
        RV_TRY(rv_adapter_loop_new(app->mem, &how, &p->adapter_loop));
    }
    bool tries = p->learning && p->db && p->explore > 0 && tiers_fit(app);
    rv_err e = tries ? rv_tries_new(app->mem, p->db, p->backend, &p->tries) : RV_OK;
    if (e) {
        stop_loop(app);
    }
    return e;
}

static rv_err serve(rv_app *app, const rv_api_keys *keys)
{
    const rv_config *c = app->config;
    int64_t workers = rv_config_int(c, "system.max_concurrent_requests");
    rv_api_options api_options = { .workers = (int)(workers < MAX_WORKERS ? workers : MAX_WORKERS),
                                   .max_queue = (size_t)rv_config_int(c, "server.max_queue"),
                                   .version = RV_VERSION,
                                   .keys = keys };
    rv_api *api = NULL;
    rv_http_server *server = NULL;
    struct sigaction old[2];
    RV_TRY(start_loop(app));
    rv_err e = rv_api_new(app->mem, &app->pipeline, api_options, &api);
    if (e) {
        stop_loop(app);
        return e;
    }
    rv_http_options http_options = {
        .listen = rv_config_string(c, "server.listen"),
        .port = (int)rv_config_int(c, "server.port"),
        .max_connections = (size_t)rv_config_int(c, "server.max_connections"),
        .max_body_bytes = (size_t)rv_config_int(c, "server.max_body_bytes"),
        .max_header_bytes = MAX_HEADER_BYTES,
        .request_timeout_ms = (int)rv_config_int(c, "server.request_timeout_ms"),
        .admit = rv_api_admit,
        .handle = rv_api_handle,
        .self = api,
    };
    e = rv_http_listen(app->mem, &http_options, &server);
    if (!e) {
        e = rv_app_start_learner(app);
    }
    if (!e) {
        serving = server;
        catch_signals(old);
        print_where(app, http_options.listen, rv_http_port(server), keys != NULL);
        if (rv_config_bool(c, "inference.warm_start")) {
            rv_backend_warm(app->pipeline.backend);
        }
        e = rv_http_run(server, (int)rv_config_int(c, "server.drain_ms"));
        /* What still runs is waited for: an import, a round of learning. Who will not wait ends the program, as any other. */
        sigaction(SIGTERM, &old[0], NULL);
        sigaction(SIGINT, &old[1], NULL);
        serving = NULL;
        rv_log(RV_LOG_INFO, "server.stopped", (char *)NULL);
    }
    rv_app_stop_learner(app);
    rv_api_free(api); /* finishes what is queued, and needs the server's requests for it */
    stop_loop(app);
    rv_http_free(server);
    return e;
}

rv_err rv_app_check(const rv_config *config)
{
    const char *path = rv_config_string(config, "server.api_keys_file");
    rv_app *app;
    rv_api_keys *keys = NULL;
    RV_TRY(rv_app_open(&rv_heap, config, RV_APP_MODELS, &app));
    rv_app_close(app);
    RV_TRY(path ? rv_api_keys_read(&rv_heap, path, &keys) : RV_OK);
    rv_api_keys_free(keys);
    return RV_OK;
}

rv_err rv_app_serve(rv_app *app)
{
    const char *path = rv_config_string(app->config, "server.api_keys_file");
    rv_api_keys *keys = NULL;
    RV_TRY(check_exposure(app->config));
    RV_TRY(path ? rv_api_keys_read(app->mem, path, &keys) : RV_OK);
    rv_err e = serve(app, keys);
    rv_api_keys_free(keys);
    return e;
}
