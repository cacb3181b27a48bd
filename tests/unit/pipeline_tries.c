/* Tries: what they leave behind, and that nothing is left of those that fail, do not fit, are dropped, or run when the program ends. */
#include "pipeline/tries.h"

#include "base/metrics.h"
#include "base/str.h"
#include "learn/episode.h"
#include "learn/routing.h"
#include "test.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct fixture {
    rv_db *db;
    rv_backend *backend;
    rv_tries *tries;
} fixture;

static fixture opened(void)
{
    fixture f = { NULL, NULL, NULL };
    rv_backend_options how = { .threads = 1, .max_context = 512, .kv_type = RV_F16, .max_loaded = 2 };
    how.tiers[0] = how.tiers[1] = source_path("tests/data/golden/a-q8_0.gguf");
    CHECK_OK(rv_db_open(&rv_heap, temp_dir(), &f.db));
    CHECK_OK(rv_episode_setup(f.db));
    CHECK_OK(rv_backend_open(&rv_heap, &how, &f.backend));
    CHECK_OK(rv_tries_new(&rv_heap, f.db, f.backend, &f.tries));
    return f;
}

static void closed(fixture *f)
{
    rv_tries_free(f->tries);
    rv_backend_close(f->backend);
    rv_db_close(f->db);
}

static void name(int number, char id[37])
{
    snprintf(id, 37, "00000000-0000-4000-8000-%012u", (unsigned)number);
}

static void add_episode(fixture *f, int number)
{
    char id[37];
    sqlite3 *conn;
    name(number, id);
    rv_episode e = { .request_id = id,
                     .session_id = "s",
                     .question = "q",
                     .answer = "a",
                     .model = "2.6b",
                     .created_ms = number,
                     .route = "{\"explored\": true}" };
    CHECK_OK(rv_db_begin(f->db, &conn));
    CHECK_OK(rv_episode_append(conn, &e));
    CHECK_OK(rv_db_commit(f->db));
}

#define QUESTION "which lamp is green?"
#define PASSAGE  "The green lamp stands in the hall."

/* A try of both tiers. */
static rv_try try_of(int number, size_t max_tokens)
{
    rv_try one = { .models = { "350m", "700m" }, .n_models = 2, .max_tokens = max_tokens };
    one.sampling = (rv_sampling){ .temperature = 0, .top_p = 1, .repeat_penalty = 1 };
    one.messages = json_pack("[{s:s, s:s}]", "role", "user", "content", "Question: " QUESTION);
    one.asked = json_pack("[s, s]", QUESTION, PASSAGE);
    name(number, one.request_id);
    return one;
}

/* What is kept beside the episode, NULL: nothing; the caller's. */
static json_t *tries_of(fixture *f, int number)
{
    char id[37];
    json_t *list, *found = NULL, *row;
    size_t i;
    name(number, id);
    CHECK_OK(rv_routing_decisions(f->db, 1000, &list));
    json_array_foreach(list, i, row)
    {
        if (strcmp(json_string_value(json_object_get(row, "request_id")), id) == 0) {
            found = json_incref(json_object_get(json_object_get(row, "routing"), "tries"));
        }
    }
    json_decref(list);
    return found;
}

/* Waits for what the thread does: there is no other sign of it than its record. */
static json_t *wait_for_tries(fixture *f, int number)
{
    json_t *found;
    while (!(found = tries_of(f, number))) {
        usleep(1000);
    }
    return found;
}

static long counted(const char *metric)
{
    rv_text text;
    char line[128];
    rv_text_init(&text, &rv_heap, 16 << 20);
    rv_metrics_text(&text);
    snprintf(line, sizeof line, "\n%s ", metric);
    const char *at = strstr(rv_text_get(&text), line);
    long n = at ? strtol(at + strlen(line), NULL, 10) : -1;
    rv_text_deinit(&text);
    return n;
}

TEST(what_the_other_tiers_say_is_kept_with_what_it_cost)
{
    fixture f = opened();
    long before = counted("ruvllm_router_tries_total");
    add_episode(&f, 1);
    rv_try one = try_of(1, 8);
    rv_tries_put(f.tries, &one);
    CHECK(!one.messages, "messages are taken");
    json_t *list = wait_for_tries(&f, 1);
    CHECK(json_array_size(list) == 2, "%zu tries", json_array_size(list));
    for (size_t i = 0; i < 2; i++) {
        json_t *said = json_array_get(list, i);
        rv_try same = try_of(1, 8);
        rv_generated got = { 0 };
        rv_backend_request request = { .model = same.models[i], .messages = same.messages };
        request.how = (rv_generate){ .max_tokens = 8, .sampling = same.sampling, .n_logprobs = -1 };
        CHECK_OK(rv_backend_generate(f.backend, &request, &got));
        size_t tokens = (size_t)json_integer_value(json_object_get(said, "tokens"));
        CHECK(tokens == got.prompt_tokens + got.completion_tokens, "%s: %zu tokens, %zu and %zu",
              same.models[i], tokens, got.prompt_tokens, got.completion_tokens);
        CHECK(strcmp(json_string_value(json_object_get(said, "model")), same.models[i]) == 0, "model %zu", i);
        double sure = json_number_value(json_object_get(said, "confidence"));
        CHECK(sure > 0 && sure <= 1, "confidence %g", sure);
        const char *text = json_string_value(json_object_get(said, "text"));
        const json_t *says = json_object_get(said, "says");
        const rv_str passage = rv_str_of(PASSAGE, strlen(PASSAGE));
        float wanted[RV_SAYS];
        rv_says_fill(rv_str_of(QUESTION, strlen(QUESTION)), &passage, 1, rv_str_of(text, strlen(text)),
                     wanted);
        CHECK(json_array_size(says) == RV_SAYS && wanted[4] == 1, "%zu numbers", json_array_size(says));
        for (size_t k = 0; k < RV_SAYS; k++) {
            CHECK((float)json_number_value(json_array_get(says, k)) == wanted[k],
                  "number %zu of what it says", k);
        }
        json_decref(same.messages);
        json_decref(same.asked);
    }
    CHECK(counted("ruvllm_router_tries_total") == before + 2, "%ld tries counted, %ld before",
          counted("ruvllm_router_tries_total"), before);
    json_decref(list);
    closed(&f);
}

TEST(a_try_that_fails_leaves_nothing_and_the_next_one_runs)
{
    fixture f = opened();
    add_episode(&f, 1);
    add_episode(&f, 2);
    rv_try bad = try_of(1, 8), good = try_of(2, 8);
    bad.models[1] = "2.6b"; /* there is none: what the first said alone would not be a fair sample */
    rv_tries_put(f.tries, &bad);
    rv_tries_put(f.tries, &good);
    json_decref(wait_for_tries(&f, 2));
    CHECK(!tries_of(&f, 1), "half a try was kept");

    rv_try long_one = try_of(1, 8);
    char *long_text = malloc(100001);
    memset(long_text, 'a', 100000);
    long_text[100000] = 0;
    json_object_set_new(json_array_get(long_one.messages, 0), "content", json_string(long_text));
    free(long_text);
    rv_tries_put(f.tries, &long_one); /* does not fit the context */
    add_episode(&f, 3);
    good = try_of(3, 8);
    rv_tries_put(f.tries, &good);
    json_decref(wait_for_tries(&f, 3));
    CHECK(!tries_of(&f, 1), "a prompt that does not fit was answered");
    closed(&f);
}

TEST(an_episode_that_is_gone_stays_gone)
{
    fixture f = opened();
    add_episode(&f, 2);
    rv_try gone = try_of(1, 8), next = try_of(2, 8);
    rv_tries_put(f.tries, &gone);
    rv_tries_put(f.tries, &next);
    json_decref(wait_for_tries(&f, 2));
    json_t *list;
    CHECK_OK(rv_routing_decisions(f.db, 10, &list));
    CHECK(json_array_size(list) == 1, "%zu episodes", json_array_size(list));
    json_decref(list);
    closed(&f);
}

TEST(when_too_many_wait_the_rest_is_dropped_and_nobody_waits)
{
    enum { PUT = 60, KEPT = 17 }; /* 16 wait, one runs */
    fixture f = opened();
    long before = counted("ruvllm_router_tries_dropped_total");
    json_t *messages[PUT];
    for (int i = 0; i < PUT; i++) {
        rv_try one = try_of(i, 400);
        messages[i] = json_incref(one.messages);
        rv_tries_put(f.tries, &one);
    }
    long dropped = counted("ruvllm_router_tries_dropped_total") - before;
    CHECK(dropped > 0 && dropped <= PUT - 16, "%ld of %d dropped", dropped, PUT);
    rv_tries_free(f.tries); /* while it tries: the rest is dropped too */
    f.tries = NULL;
    for (int i = 0; i < PUT; i++) {
        CHECK(messages[i]->refcount == 1, "the messages of try %d are still held", i);
        json_decref(messages[i]);
    }
    closed(&f);
}

TEST(what_runs_when_all_are_dropped_leaves_nothing_and_tries_go_on_after)
{
    fixture f = opened();
    for (int i = 1; i <= 5; i++) {
        add_episode(&f, i);
        rv_try one = try_of(i, 400);
        rv_tries_put(f.tries, &one);
    }
    rv_tries_drop(f.tries); /* somebody forgets */
    json_t *kept[6] = { NULL };
    size_t n = 0;
    for (int i = 1; i <= 5; i++) {
        kept[i] = tries_of(&f, i);
        n += kept[i] != NULL;
    }
    add_episode(&f, 6);
    rv_try one = try_of(6, 8);
    rv_tries_put(f.tries, &one);
    json_decref(wait_for_tries(&f, 6));
    for (int i = 1; i <= 5; i++) {
        json_t *now = tries_of(&f, i);
        CHECK((now != NULL) == (kept[i] != NULL), "try %d was recorded after it was dropped", i);
        json_decref(now);
        json_decref(kept[i]);
    }
    CHECK(n < 5, "all were done before they could be dropped");
    closed(&f);
}

TEST(a_prompt_that_could_not_be_made_is_passed_over)
{
    fixture f = opened();
    rv_try none = try_of(1, 8);
    json_decref(none.messages);
    json_decref(none.asked);
    none.messages = NULL;
    rv_tries_put(f.tries, &none);
    rv_try nobody = try_of(1, 8);
    nobody.n_models = 0;
    rv_tries_put(f.tries, &nobody);
    CHECK(!nobody.messages, "messages are taken");
    closed(&f);
}

TEST(without_memory_there_is_no_thread)
{
    fixture f = opened();
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_tries *tries = NULL;
        rv_err e = rv_tries_new(&m.alloc, f.db, f.backend, &tries);
        CHECK((e == RV_E_NOMEM) == m.failed, "call %ld: %s", m.fail_at, rv_err_name(e));
        rv_tries_free(tries);
    }
    rv_tries_free(NULL);
    closed(&f);
}

/* An allocator that gives nothing while poor is set, to any thread. */
static atomic_bool poor;

static void *poor_resize(void *self, void *old, size_t bytes)
{
    return atomic_load(&poor) && bytes > 0 ? NULL : rv_heap.resize(self, old, bytes);
}

static void *poor_aligned(void *self, size_t align, size_t bytes)
{
    return atomic_load(&poor) ? NULL : rv_heap.aligned(self, align, bytes);
}

TEST(while_there_is_no_memory_nothing_is_kept_and_afterwards_tries_go_on)
{
    static const rv_alloc tight = { NULL, poor_resize, poor_aligned };
    fixture f = opened();
    rv_tries_free(f.tries);
    CHECK_OK(rv_tries_new(&tight, f.db, f.backend, &f.tries));
    add_episode(&f, 1);
    add_episode(&f, 2);
    atomic_store(&poor, true);
    rv_try one = try_of(1, 8);
    json_t *messages = json_incref(one.messages);
    rv_tries_put(f.tries, &one);
    while (__atomic_load_n(&messages->refcount, __ATOMIC_ACQUIRE) > 1) {
        usleep(1000); /* until it was given up */
    }
    json_decref(messages);
    atomic_store(&poor, false);
    one = try_of(2, 8);
    rv_tries_put(f.tries, &one);
    json_decref(wait_for_tries(&f, 2));
    CHECK(!tries_of(&f, 1), "something was kept");
    closed(&f);
}
