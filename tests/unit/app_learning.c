/* The loops of the running system: what they leave alone. */
#include "app/app.h"
#include "app/learning_priv.h"
#include "base/clock.h"
#include "base/file.h"
#include "test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct fixture {
    rv_config *config;
    rv_app *app;
    rv_pipeline *p;
} fixture;

static void start(fixture *f)
{
    char models[1200], path[2400], *bytes = NULL;
    size_t n = 0;
    const char *home = temp_dir();
    snprintf(models, sizeof models, "%s/models", home);
    snprintf(path, sizeof path, "%s/demo-s.gguf", models);
    CHECK_OK(rv_file_read(&rv_heap, source_path("tests/data/golden/a-q8_0.gguf"), 1 << 20, &bytes, &n));
    CHECK_OK(rv_dir_make(models));
    CHECK_OK(rv_file_replace(path, bytes, n));
    rv_free(&rv_heap, bytes);
    setenv("HOME", home, 1);
    setenv("RUVLLM_MODELS", models, 1);
    snprintf(path, sizeof path, "%s/data", home);
    setenv("RUVLLM_DATA", path, 1);
    unsetenv("RUVLLM_CONFIG");
    CHECK_OK(rv_config_load(&rv_heap, NULL, &f->config));
    CHECK_OK(rv_config_set(f->config, "learning.adapters", "true", "--set"));
    CHECK_OK(rv_app_open(&rv_heap, f->config, RV_APP_ALL, &f->app));
    f->p = rv_app_pipeline(f->app);
}

static void end(fixture *f)
{
    rv_app_close(f->app);
    rv_config_free(f->config);
}

/* What the stage said of its last run. */
static void check_stage(fixture *f, const char *stage, const char *says)
{
    rv_arena *arena;
    rv_loop_row *rows;
    size_t n, i = 0;
    CHECK_OK(rv_arena_new(&rv_heap, 1 << 20, &arena));
    CHECK_OK(rv_loop_list(f->p->db, arena, &rows, &n));
    while (i < n && (strcmp(rows[i].loop, "background") != 0 || strcmp(rows[i].stage, stage) != 0)) {
        i++;
    }
    CHECK(i < n && strstr(rows[i].why, says), "%s: %s", stage, i < n ? rows[i].why : "it did not run");
    rv_arena_free(arena);
}

/* An answer of a model that is there, corrected at that time. Its number is the user's name. */
static void corrected_by(fixture *f, const char *user, const char *model, int64_t at_ms)
{
    sqlite3 *conn;
    rv_episode e = { .request_id = user,
                     .session_id = "s",
                     .user = user,
                     .question = "where is the key of the shed",
                     .answer = "here",
                     .model = model,
                     .created_ms = 1 };
    CHECK_OK(rv_db_begin(f->p->db, &conn));
    CHECK_OK(rv_episode_append(conn, &e));
    CHECK_OK(rv_db_exec(conn, "INSERT INTO feedback VALUES (?1, 'correction', 0, 'under the mat', 0, ?2)",
                        "ti", user, at_ms));
    CHECK_OK(rv_db_commit(f->p->db));
}

static void corrected(fixture *f, const char *model, int64_t at_ms)
{
    corrected_by(f, "anna", model, at_ms);
}

/* The first model that is there. */
static rv_backend_model model_of(fixture *f, uint64_t *fingerprint)
{
    rv_backend_model model;
    rv_engine *engine;
    CHECK(rv_backend_models(f->p->backend, &model, 1) == 1, "models");
    CHECK_OK(rv_backend_take(f->p->backend, model.id, &engine));
    *fingerprint = rv_engine_get_info(engine)->fingerprint;
    rv_backend_put(f->p->backend, engine);
    return model;
}

TEST(an_adapter_that_was_taken_back_is_not_learned_again_from_the_same_corrections)
{
    fixture f;
    rv_loop_done done;
    rv_lfm2_file *file;
    rv_lora *lora;
    uint64_t fingerprint;
    int64_t id;
    start(&f);
    rv_backend_model model = model_of(&f, &fingerprint);
    corrected(&f, model.id, 1000);
    CHECK_OK(rv_lfm2_file_open(&rv_heap, source_path("tests/data/golden/a-q8_0.gguf"), false, &file));
    CHECK_OK(rv_lora_new(&rv_heap, file, 1 << RV_LFM2_Q, 2, 4, 1, &lora));
    rv_adapter_version v = { .model = fingerprint, .user = "anna", .origin = "learn" };
    CHECK_OK(rv_adapters_publish(f.p->adapters, &v, lora, &id));
    CHECK_OK(rv_adapters_use(f.p->adapters, fingerprint, "anna", 0));
    rv_lora_close(lora);
    rv_lfm2_file_close(file);
    CHECK_OK(rv_app_learn(f.app, false, NULL, NULL, &done));
    check_stage(&f, "adapters", "no corrections since");
    CHECK(rv_adapters_in_use(f.p->adapters, fingerprint, "anna") == 0, "a version is in use");
    end(&f);
}

TEST(who_corrected_something_long_ago_gets_a_round_when_the_others_have_had_theirs)
{
    fixture f;
    rv_loop_done done;
    rv_lfm2_file *file;
    rv_lora *lora;
    uint64_t fingerprint;
    int64_t id;
    start(&f);
    rv_backend_model model = model_of(&f, &fingerprint);
    corrected_by(&f, "anna", model.id, 1);
    CHECK_OK(rv_lfm2_file_open(&rv_heap, source_path("tests/data/golden/a-q8_0.gguf"), false, &file));
    CHECK_OK(rv_lora_new(&rv_heap, file, 1 << RV_LFM2_Q, 2, 4, 1, &lora));
    for (int i = 0; i < 40; i++) {
        char user[16];
        snprintf(user, sizeof user, "user %d", i);
        corrected_by(&f, user, model.id, 1000 + i);
        rv_adapter_version v = { .model = fingerprint, .user = user, .origin = "learn" };
        CHECK_OK(rv_adapters_publish(f.p->adapters, &v, lora, &id));
    }
    rv_lora_close(lora);
    rv_lfm2_file_close(file);
    CHECK_OK(rv_app_learn(f.app, false, NULL, NULL, &done));
    check_stage(&f, "adapters", "of 1 published");
    end(&f);
}

TEST(one_whose_round_fails_keeps_nobody_from_having_theirs)
{
    fixture f;
    rv_loop_done done;
    uint64_t fingerprint;
    sqlite3 *conn;
    start(&f);
    rv_backend_model model = model_of(&f, &fingerprint);
    corrected_by(&f, "anna", model.id, 1000);
    corrected_by(&f, "bert", model.id, 2000);
    rv_episode e = { .request_id = "damaged",
                     .session_id = "s",
                     .user = "bert",
                     .question = "where is the boat",
                     .answer = "at the jetty",
                     .model = model.id,
                     .created_ms = 1 };
    CHECK_OK(rv_db_begin(f.p->db, &conn));
    CHECK_OK(rv_episode_append(conn, &e));
    CHECK_OK(rv_db_exec(conn, "UPDATE episode SET sources = '[1,' WHERE request_id = 'damaged'", ""));
    CHECK_OK(
        rv_db_exec(conn, "UPDATE episode SET question = 'where is the boat?' WHERE request_id = 'bert'", ""));
    CHECK_OK(rv_db_commit(f.p->db));
    CHECK_OK(rv_app_learn(f.app, false, NULL, NULL, &done));
    check_stage(&f, "adapters", "of 1 published");
    check_stage(&f, "adapters", "1 failed");
    end(&f);
}

typedef struct told {
    fixture *f;
    int rounds, forgets; /* in so many of them somebody forgets */
    bool dropped;        /* the last one */
} told;

/* Reads, trains, and would publish. Who forgets while it trains does not wait for it. */
static rv_err round_of(learning *l, const rv_gate *gate, void *out)
{
    told *t = out;
    rv_pipeline *p = t->f->p;
    rv_forgotten done;
    RV_TRY(rv_gate_go_on(gate));
    rv_gate_leave(gate);
    if (t->rounds++ < t->forgets) {
        corrected(t->f, "m", rv_clock_wall_ms());
        CHECK_OK(p->forget(p->forget_self, "anna", NULL, 0, &done));
        CHECK(done.requests == 1, "%zu requests", done.requests);
    }
    rv_err e = rv_gate_enter(gate);
    t->dropped = e != RV_OK;
    CHECK(atomic_load(&l->app->forgetting) == 0, "somebody forgets");
    return e;
}

TEST(a_round_begins_again_when_something_is_forgotten_while_it_trains)
{
    fixture f;
    start(&f);
    learning l = { .app = f.app };
    told twice = { .f = &f, .forgets = 2 }, late = { .f = &f, .forgets = 1 };
    CHECK_OK(app_learn_round(&l, INFINITY, round_of, &twice));
    CHECK(twice.rounds == 3 && !twice.dropped, "%d rounds", twice.rounds);
    CHECK_ERR(app_learn_round(&l, 0, round_of, &late), RV_E_CANCELLED);
    CHECK(late.rounds == 1 && late.dropped && l.yields && !l.ended, "%d rounds", late.rounds);
    end(&f);
}

static bool never(void *self)
{
    (void)self;
    return false;
}

TEST(a_round_ends_when_it_is_told_to)
{
    fixture f;
    start(&f);
    learning l = { .app = f.app, .go_on = never };
    told t = { .f = &f };
    CHECK_ERR(app_learn_round(&l, INFINITY, round_of, &t), RV_E_CANCELLED);
    CHECK(t.rounds == 0 && l.ended, "%d rounds", t.rounds);
    end(&f);
}
