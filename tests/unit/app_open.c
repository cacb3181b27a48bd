/* What rv_app_open opens for which command, and which models it finds. */
#include "app/app.h"
#include "app/learning.h"
#include "base/file.h"
#include "base/metrics.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct fixture {
    char home[1024], models[1200], data[1200];
    rv_config *config;
    rv_app *app;
} fixture;

static void put_model(const char *folder, const char *name)
{
    char path[2400], *bytes = NULL;
    size_t n = 0;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    CHECK_OK(rv_file_read(&rv_heap, source_path("tests/data/golden/a-q8_0.gguf"), 1 << 20, &bytes, &n));
    CHECK_OK(rv_dir_make(folder));
    CHECK_OK(rv_file_replace(path, bytes, n));
    rv_free(&rv_heap, bytes);
}

static void start(fixture *f)
{
    *f = (fixture){ .config = NULL };
    snprintf(f->home, sizeof f->home, "%s", temp_dir());
    snprintf(f->models, sizeof f->models, "%s/models", f->home);
    snprintf(f->data, sizeof f->data, "%s/data", f->home);
    setenv("HOME", f->home, 1);
    setenv("RUVLLM_DATA", f->data, 1);
    setenv("RUVLLM_MODELS", f->models, 1);
    unsetenv("RUVLLM_CONFIG");
    CHECK_OK(rv_config_load(&rv_heap, NULL, &f->config));
}

static void set(fixture *f, const char *key, const char *value)
{
    CHECK_OK(rv_config_set(f->config, key, value, "--set"));
}

static void stop(fixture *f)
{
    rv_app_close(f->app);
    f->app = NULL;
}

static void end(fixture *f)
{
    stop(f);
    rv_config_free(f->config);
}

static void check_models(fixture *f, const char *expected)
{
    CHECK_OK(rv_app_open(&rv_heap, f->config, RV_APP_MODELS, &f->app));
    rv_backend_model models[8];
    size_t n = rv_backend_models(rv_app_pipeline(f->app)->backend, models, RV_COUNT(models));
    char found[400] = "";
    for (size_t i = 0; i < n; i++) {
        strcat(strcat(strcat(found, i ? " " : ""), models[i].id), models[i].is_default ? "*" : "");
    }
    CHECK(strcmp(found, expected) == 0, "found \"%s\", expected \"%s\"", found, expected);
    stop(f);
}

TEST(a_command_opens_only_what_it_needs)
{
    fixture f;
    start(&f);
    put_model(f.models, "demo-s.gguf");
    CHECK_OK(rv_app_open(&rv_heap, f.config, RV_APP_MODELS, &f.app));
    rv_pipeline *p = rv_app_pipeline(f.app);
    CHECK(p->backend && p->embed && !p->db && !p->memory, "models alone");
    CHECK(access(f.data, F_OK) != 0, "a data folder was made for a command that needs none");
    CHECK(strcmp(rv_app_models_dir(f.app), f.models) == 0, "%s", rv_app_models_dir(f.app));
    stop(&f);

    CHECK_OK(rv_app_open(&rv_heap, f.config, RV_APP_MEMORY, &f.app));
    p = rv_app_pipeline(f.app);
    CHECK(!p->backend && p->embed && p->db && p->memory, "memory alone");
    stop(&f);

    CHECK_OK(rv_app_open(&rv_heap, f.config, RV_APP_ALL, &f.app));
    p = rv_app_pipeline(f.app);
    CHECK(p->backend && p->embed && p->db && p->memory && p->max_sources == 5 && p->learning, "all");
    rv_app *second = NULL;
    CHECK_ERR(rv_app_open(&rv_heap, f.config, RV_APP_ALL, &second), RV_E_BUSY);
    end(&f);
}

TEST(what_learning_is_configured_to_do_reaches_those_who_learn)
{
    static const struct {
        const char *threshold;
        int good; /* rating */
    } good[] = { { "0", 1 }, { "0.25", 2 }, { "0.7", 4 }, { "0.75", 4 }, { "0.8", 5 }, { "1", 5 } };
    fixture f;
    start(&f);
    CHECK_OK(rv_app_open(&rv_heap, f.config, RV_APP_MEMORY, &f.app));
    rv_adapter_learning how = rv_app_adapter_learning(f.app);
    CHECK(how.batch == RV_ADAPTER_BATCH && how.rate == RV_ADAPTER_RATE && how.springs == 0.1F,
          "%zu rows, rate %g, springs %g when nothing is set", how.batch, (double)how.rate,
          (double)how.springs);
    CHECK(rv_app_pipeline(f.app)->good_rating == RV_GOOD_RATING, "%d", rv_app_pipeline(f.app)->good_rating);
    stop(&f);
    set(&f, "learning.batch_size", "5");
    set(&f, "learning.learning_rate", "0.25");
    set(&f, "learning.ewc_lambda", "7.5");
    for (size_t i = 0; i < RV_COUNT(good); i++) {
        set(&f, "learning.quality_threshold", good[i].threshold);
        CHECK_OK(rv_app_open(&rv_heap, f.config, RV_APP_MEMORY, &f.app));
        how = rv_app_adapter_learning(f.app);
        CHECK(how.batch == 5 && how.rate == 0.25F && how.springs == 7.5F, "%zu rows, rate %g, springs %g",
              how.batch, (double)how.rate, (double)how.springs);
        CHECK(rv_app_pipeline(f.app)->good_rating == good[i].good, "%s: %d", good[i].threshold,
              rv_app_pipeline(f.app)->good_rating);
        stop(&f);
    }
    end(&f);
}

/* Packed weights of a small router, as a file. */
static void put_router(const char *path)
{
    enum { ROWS = 40, TEXT = 64 };
    static char text[ROWS][TEXT];
    static rv_router_row rows[ROWS];
    static const char *const names[] = { "small", "large" };
    for (int i = 0; i < ROWS; i++) {
        int n = snprintf(text[i], TEXT, "question number %d about %s", i, i % 2 ? "sums" : "towns");
        rows[i] = (rv_router_row){ .text = text[i], .n = (size_t)n, .weight = 1 };
        rows[i].quality[0] = i % 2 == 0;
        rows[i].quality[1] = 1;
        rows[i].cost[0] = 1;
        rows[i].cost[1] = 5;
        rows[i].draft[0].confidence = rows[i].draft[1].confidence = -1;
    }
    rv_router_set set = { rows, ROWS, 2, names, 0, "", NULL };
    rv_router_how how = rv_router_how_default();
    how.hidden = 4;
    how.rank = 2;
    rv_router_trained trained;
    rv_router *r = NULL;
    uint8_t *bytes = NULL;
    size_t n = 0;
    CHECK_OK(rv_router_train(&rv_heap, &set, &how, &trained, &r));
    CHECK_OK(rv_router_pack(&rv_heap, r, &bytes, &n));
    CHECK_OK(rv_file_replace(path, bytes, n));
    rv_free(&rv_heap, bytes);
    rv_router_free(r);
}

static long pool_used(const char *class)
{
    rv_text text;
    char line[100];
    rv_text_init(&text, &rv_heap, 1 << 20);
    rv_metrics_text(&text);
    snprintf(line, sizeof line, "ruvllm_pool_used_bytes{class=\"%s\"} ", class);
    const char *at = strstr(rv_text_get(&text), line);
    CHECK(at, "no line %s", line);
    long value = strtol(at + strlen(line), NULL, 10);
    rv_text_deinit(&text);
    return value;
}

TEST(router_weights_count_in_the_memory_pool_and_need_room_there)
{
    fixture f;
    start(&f);
    put_model(f.models, "demo-s.gguf");
    char path[2400];
    snprintf(path, sizeof path, "%s/weights.bin", f.home);
    put_router(path);
    set(&f, "router.weights_path", path);
    static const char *const sizes[] = { "0", "64" }; /* without a bound, and in one pool with the models */
    for (size_t i = 0; i < RV_COUNT(sizes); i++) {
        set(&f, "inference.pool_mb", sizes[i]);
        CHECK_OK(rv_app_open(&rv_heap, f.config, RV_APP_ALL, &f.app));
        CHECK(pool_used("router") > 2000, "pool of %s: %ld bytes of weights", sizes[i], pool_used("router"));
        stop(&f);
        CHECK(pool_used("router") == 0, "pool of %s: %ld bytes left", sizes[i], pool_used("router"));
    }
    end(&f);
}

TEST(tiers_take_the_demo_model_of_their_size_unless_set)
{
    fixture f;
    start(&f);
    check_models(&f, "");
    put_model(f.models, "demo-xs.gguf");
    put_model(f.models, "demo-m.gguf");
    check_models(&f, "350m 1.2b*");
    put_model(f.models, "other.gguf");
    set(&f, "tiers.2.6b", "other"); /* by name, beside the demo models */
    check_models(&f, "350m 1.2b 2.6b*");
    set(&f, "inference.model", "1.2b");
    check_models(&f, "350m 1.2b* 2.6b");
    set(&f, "inference.models", "350m,2.6b");
    set(&f, "inference.model", "other.gguf"); /* the same file as a tier's is that tier */
    check_models(&f, "350m 2.6b*");
    char own[2400];
    snprintf(own, sizeof own, "%s/models", f.data);
    put_model(own, "mine.gguf");
    set(&f, "inference.model", "mine");
    check_models(&f, "350m 2.6b mine*");
    end(&f);
}

TEST(models_that_are_not_there_are_named)
{
    fixture f;
    start(&f);
    set(&f, "tiers.350m", "/nowhere/a.gguf");
    CHECK_ERR(rv_app_open(&rv_heap, f.config, RV_APP_MODELS, &f.app), RV_E_NOT_FOUND);
    CHECK(strstr(rv_err_text(), "tier 350m") && strstr(rv_err_text(), "/nowhere/a.gguf"), "%s",
          rv_err_text());
    set(&f, "tiers.350m", "https://example.org/a.gguf");
    CHECK_ERR(rv_app_open(&rv_heap, f.config, RV_APP_MODELS, &f.app), RV_E_UNSUPPORTED);
    CHECK(strstr(rv_err_text(), "tiers.350m"), "%s", rv_err_text());
    rv_config_free(f.config);
    start(&f);
    set(&f, "embedding.model", "none-such");
    CHECK_ERR(rv_app_open(&rv_heap, f.config, RV_APP_MEMORY, &f.app), RV_E_NOT_FOUND);
    CHECK(strstr(rv_err_text(), "hash"), "%s", rv_err_text());
    rv_config_free(f.config);
}

static void check_embedder(fixture *f, const char *expected)
{
    CHECK_OK(rv_app_open(&rv_heap, f->config, 0, &f->app));
    CHECK(strcmp(rv_embed_name(rv_app_pipeline(f->app)->embed), expected) == 0, "%s",
          rv_embed_name(rv_app_pipeline(f->app)->embed));
    stop(f);
}

TEST(the_embedder_of_the_models_is_taken_when_it_is_there)
{
    fixture f;
    start(&f);
    check_embedder(&f, "hash"); /* no folder */
    set(&f, "embedding.model", "static");
    CHECK_ERR(rv_app_open(&rv_heap, f.config, 0, &f.app), RV_E_NOT_FOUND);
    CHECK(strstr(rv_err_text(), "embedder.rvemb"), "%s", rv_err_text());
    setenv("RUVLLM_MODELS", RV_SOURCE "/models", 1);
    check_embedder(&f, "static-minilm-256-3");
    set(&f, "embedding.model", "auto");
    check_embedder(&f, "static-minilm-256-3");
    set(&f, "embedding.model", "hash");
    check_embedder(&f, "hash");
    set(&f, "embedding.model", RV_SOURCE "/models/embedder.rvemb");
    check_embedder(&f, "static-minilm-256-3");
    rv_config_free(f.config);
    start(&f); /* a damaged one is named, not passed over */
    put_model(f.models, "embedder.rvemb");
    CHECK_ERR(rv_app_open(&rv_heap, f.config, 0, &f.app), RV_E_FORMAT);
    CHECK(strstr(rv_err_text(), "embedder.rvemb"), "%s", rv_err_text());
    rv_config_free(f.config);
}

TEST(the_server_refuses_to_be_exposed_and_to_pretend)
{
    fixture f;
    start(&f);
    CHECK_OK(rv_app_open(&rv_heap, f.config, RV_APP_ALL, &f.app));
    static const char *const outside[] = { "0.0.0.0", "::", "192.0.2.1", "::ffff:192.0.2.1",
                                           "::ffff:127.0.0.1" };
    for (size_t i = 0; i < RV_COUNT(outside); i++) {
        set(&f, "server.listen", outside[i]);
        CHECK_ERR(rv_app_serve(f.app), RV_E_CONFIG);
        CHECK(strstr(rv_err_text(), outside[i]) && strstr(rv_err_text(), "--insecure"), "%s", rv_err_text());
    }
    set(&f, "server.listen", "127.0.0.1");
    set(&f, "server.tls_cert", "/etc/cert.pem");
    CHECK_ERR(rv_app_serve(f.app), RV_E_CONFIG);
    CHECK(strstr(rv_err_text(), "server.tls_cert"), "%s", rv_err_text());
    end(&f);
}
