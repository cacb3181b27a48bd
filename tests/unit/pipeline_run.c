/* The loop on a real (random, or when it is there trained) model and a real store. */
#include "base/file.h"
#include "base/rng.h"
#include "learn/retrieval.h"
#include "learn/routing.h"
#include "pipeline/pipeline.h"
#include "store/policy.h"
#include "store/session.h"
#include "store/witness.h"
#include "test.h"

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct fixture {
    const char *dir, *model;
    rv_pipeline p;
    rv_arena *arena;
} fixture;

static rv_err embed_text(const void *self, const char *text, size_t n, float *out)
{
    return rv_embed_text(self, text, n, out);
}

static void open_fixture_at(fixture *f, const char *dir, const char *model)
{
    *f = (fixture){ .dir = dir, .model = model };
    rv_pipeline *p = &f->p;
    p->learning = true;
    CHECK_OK(rv_arena_new(&rv_heap, 16 << 20, &f->arena));
    CHECK_OK(rv_db_open(&rv_heap, dir, &p->db));
    CHECK_OK(rv_embed_open(&rv_heap, "hash", &p->embed));
    rv_memory_embedder embedder = { rv_embed_name(p->embed), rv_embed_dim(p->embed), embed_text, p->embed };
    CHECK_OK(rv_memory_open(&rv_heap, p->db, dir, embedder, &p->memory));
    rv_backend_options how = {
        .threads = 1, .max_context = 512, .kv_type = RV_F16, .max_loaded = 1, .files = &model, .n_files = 1
    };
    CHECK_OK(rv_backend_open(&rv_heap, &how, &p->backend));
    CHECK_OK(rv_pipeline_setup(p));
}

static void open_fixture(fixture *f)
{
    open_fixture_at(f, temp_dir(), source_path("tests/data/golden/a-q8_0.gguf"));
}

static void close_fixture(fixture *f)
{
    rv_backend_close(f->p.backend);
    rv_memory_close(f->p.memory);
    rv_db_close(f->p.db);
    rv_embed_close(f->p.embed);
    rv_arena_free(f->arena);
}

static int64_t note(fixture *f, const char *text, const char *user)
{
    rv_memory_new node = { .type = "note", .text = text, .source = "user" };
    int64_t id = 0;
    bool added;
    CHECK_OK(rv_memory_add(f->p.memory, rv_memory_of(user), &node, &id, &added));
    return id;
}

static rv_request request(fixture *f, const char *query)
{
    rv_request r;
    CHECK_OK(rv_request_init(&r, f->arena));
    r.query = query;
    r.max_tokens = 8;
    return r;
}

static size_t count_turns(fixture *f, const char *session)
{
    rv_turn *turns = NULL;
    size_t n = 0;
    CHECK_OK(rv_session_recent(f->p.db, session, "", 100, f->arena, &turns, &n));
    return n;
}

static size_t count_records(fixture *f, const char *request_id)
{
    rv_witness_record *records = NULL;
    size_t n = 0;
    CHECK_OK(rv_witness_get(f->p.db, request_id, f->arena, &records, &n));
    return n;
}

static bool has_episode(fixture *f, const char *request_id)
{
    rv_episode e;
    return rv_episode_get(f->p.db, request_id, f->arena, &e) == RV_OK;
}

TEST(a_request_goes_through_every_stage_and_is_recorded)
{
    fixture f;
    open_fixture(&f);
    int64_t id = note(&f, "The lamp in the hall is green.", NULL);
    note(&f, "Tickets cost three euros.", NULL);
    rv_request r = request(&f, "Which colour is the lamp in the hall?");
    CHECK_OK(rv_pipeline_run(&f.p, &r));
    CHECK(r.vector && r.hits.n > 0, "%zu hits", r.hits.n);
    CHECK(r.n_sources >= 1 && r.sources[0].id == id, "%zu sources", r.n_sources);
    CHECK(strcmp(r.sources[0].type, "note") == 0 && strcmp(r.sources[0].origin, "user") == 0, "%s",
          r.sources[0].origin);
    CHECK(strcmp(r.routed_model, "a-q8_0") == 0 && r.fallback && strcmp(r.reason, "router not trained") == 0,
          "%s", r.reason);
    CHECK(r.text && r.generated.completion_tokens > 0 && r.generated.completion_tokens <= 8, "%zu tokens",
          r.generated.completion_tokens);
    CHECK(r.confidence > 0 && r.confidence <= 1, "%g", r.confidence);
    CHECK(r.sampling.temperature == 0, "greedy by default, found %g", (double)r.sampling.temperature);
    double sum = 0;
    for (int i = 0; i < RV_STAGES; i++) {
        CHECK(r.stage_ms[i] >= 0, "%s", rv_stage_names[i]);
        sum += r.stage_ms[i];
        CHECK(i == RV_STAGE_ATTEND || r.stage_note[i] == NULL, "%s: %s", rv_stage_names[i], r.stage_note[i]);
    }
    CHECK(sum <= r.total_ms + 0.01 && sum > 0.9 * r.total_ms, "stages %g, all %g", sum, r.total_ms);

    CHECK(strlen(r.request_id) == 36 && r.session_id && count_turns(&f, r.session_id) == 1, "session");
    rv_episode e;
    CHECK_OK(rv_episode_get(f.p.db, r.request_id, f.arena, &e));
    CHECK(strcmp(e.question, r.query) == 0 && strcmp(e.answer, r.text) == 0 &&
              strcmp(e.session_id, r.session_id) == 0,
          "episode");
    CHECK(e.n_sources == r.n_sources && e.sources[0] == id, "episode's sources");
    CHECK(count_records(&f, r.request_id) == 1, "witness");
    uint64_t count;
    CHECK_OK(rv_witness_verify(f.p.db, &count));

    rv_request again = request(&f, "Which colour is the lamp in the hall?");
    CHECK_OK(rv_pipeline_run(&f.p, &again));
    CHECK(strcmp(again.text, r.text) == 0, "\"%s\" and \"%s\"", again.text, r.text);
    close_fixture(&f);
}

TEST(both_passages_of_a_question_in_two_steps_are_in_the_prompt)
{
    fixture f;
    open_fixture(&f);
    int64_t first = note(&f, "Anna Keller works at Sashife Foods.", "anna");
    int64_t second = note(&f, "They say Sashife Foods has Pascan for its seat.", "anna");
    int64_t third = note(&f, "Tickets cost three euros.", "anna");
    note(&f, "Sashife Foods went to Drumvou.", "bert");
    rv_request r = request(&f, "Where is the employer of Anna Keller based?");
    r.user = "anna";
    CHECK_OK(rv_pipeline_run(&f.p, &r));
    CHECK(r.n_sources == 2 && r.sources[0].id == first && r.sources[1].id == second, "%zu sources, not %lld",
          r.n_sources, (long long)third);
    close_fixture(&f);
}

TEST(the_answer_as_json_has_every_field_of_the_design)
{
    fixture f;
    open_fixture(&f);
    note(&f, "The lamp in the hall is green.", NULL);
    rv_request r = request(&f, "Which lamp?");
    CHECK_OK(rv_pipeline_run(&f.p, &r));
    json_t *json = rv_request_json(&r);
    CHECK(json, "no JSON");
    static const char *const fields[] = { "request_id", "session_id", "text",         "finish_reason",
                                          "confidence", "sources",    "routing_info", "usage",
                                          "latency",    "stages" };
    static const char *const routing[] = { "model",      "context_size", "temperature", "top_p",
                                           "confidence", "model_probs",  "fallback",    "reason" };
    static const char *const usage[] = { "prompt_tokens", "completion_tokens", "cached_tokens" };
    static const char *const latency[] = { "embedding_ms", "retrieval_ms",  "routing_ms",
                                           "attention_ms", "generation_ms", "total_ms" };
    static const char *const source[] = { "id", "type", "text", "score", "origin" };
    const struct {
        const json_t *object;
        const char *const *names;
        size_t n;
    } shapes[] = {
        { json, fields, RV_COUNT(fields) },
        { json_object_get(json, "routing_info"), routing, RV_COUNT(routing) },
        { json_object_get(json, "usage"), usage, RV_COUNT(usage) },
        { json_object_get(json, "latency"), latency, RV_COUNT(latency) },
        { json_array_get(json_object_get(json, "sources"), 0), source, RV_COUNT(source) },
    };
    for (size_t i = 0; i < RV_COUNT(shapes); i++) {
        CHECK(json_object_size(shapes[i].object) == shapes[i].n, "shape %zu has %zu fields", i,
              json_object_size(shapes[i].object));
        for (size_t k = 0; k < shapes[i].n; k++) {
            CHECK(json_object_get(shapes[i].object, shapes[i].names[k]), "no %s", shapes[i].names[k]);
        }
    }
    CHECK(json_array_size(json_object_get(json_object_get(json, "routing_info"), "model_probs")) == 4,
          "model_probs");
    CHECK(
        strstr(json_string_value(json_object_get(json_object_get(json, "stages"), "attend")), "fused score"),
        "stages.attend");
    json_decref(json);
    close_fixture(&f);
}

TEST(private_requests_leave_nothing_behind)
{
    fixture f;
    open_fixture(&f);
    rv_request r = request(&f, "Who am I?");
    r.private = true;
    r.session_id = "mine";
    CHECK_OK(rv_pipeline_run(&f.p, &r));
    CHECK(count_turns(&f, "mine") == 0 && !has_episode(&f, r.request_id) &&
              count_records(&f, r.request_id) == 0,
          "recorded");
    CHECK(strstr(r.stage_note[RV_STAGE_LEARN], "private"), "%s", r.stage_note[RV_STAGE_LEARN]);
    close_fixture(&f);
}

TEST(without_learning_there_is_a_turn_and_a_record_but_no_episode)
{
    fixture f;
    open_fixture(&f);
    f.p.learning = false;
    rv_request r = request(&f, "Who am I?");
    CHECK_OK(rv_pipeline_run(&f.p, &r));
    CHECK(count_turns(&f, r.session_id) == 1 && !has_episode(&f, r.request_id) &&
              count_records(&f, r.request_id) == 1,
          "recorded");
    close_fixture(&f);
}

TEST(an_answer_needs_neither_embedder_nor_memory_nor_store)
{
    fixture f;
    open_fixture(&f);
    note(&f, "The lamp in the hall is green.", NULL);
    rv_pipeline p = f.p;
    p.embed = NULL;
    rv_request r = request(&f, "Which lamp?");
    CHECK_OK(rv_pipeline_run(&p, &r));
    CHECK(r.n_sources == 1 && r.stage_note[RV_STAGE_EMBED], "words alone find %zu", r.n_sources);
    p.memory = NULL;
    p.db = NULL;
    r = request(&f, "Which lamp?");
    CHECK_OK(rv_pipeline_run(&p, &r));
    CHECK(r.n_sources == 0 && r.stage_note[RV_STAGE_MEMORY] && r.stage_note[RV_STAGE_LEARN] && r.text,
          "notes");
    p.backend = NULL;
    r = request(&f, "Which lamp?");
    CHECK_ERR(rv_pipeline_run(&p, &r), RV_E_NOT_FOUND);
    close_fixture(&f);
}

TEST(a_memory_that_fails_costs_the_passages_and_says_so)
{
    fixture f;
    open_fixture(&f);
    note(&f, "The lamp in the hall is green.", NULL);
    sqlite3 *conn = NULL;
    CHECK_OK(rv_db_begin(f.p.db, &conn));
    CHECK(sqlite3_exec(conn, "DROP TABLE words", NULL, NULL, NULL) == SQLITE_OK, "%s", sqlite3_errmsg(conn));
    CHECK_OK(rv_db_commit(f.p.db));
    rv_request r = request(&f, "Which lamp?");
    CHECK_OK(rv_pipeline_run(&f.p, &r));
    CHECK(r.n_sources == 0 && r.text && r.stage_note[RV_STAGE_MEMORY], "%zu sources", r.n_sources);
    CHECK(has_episode(&f, r.request_id), "the rest went on");
    close_fixture(&f);
}

TEST(a_store_that_fails_costs_the_record_and_says_so)
{
    fixture f;
    open_fixture(&f);
    rv_db_stop(f.p.db);
    rv_request r = request(&f, "Which lamp?");
    CHECK_OK(rv_pipeline_run(&f.p, &r));
    CHECK(r.text && r.stage_note[RV_STAGE_LEARN], "no note");
    CHECK(!has_episode(&f, r.request_id) && count_turns(&f, r.session_id) == 0, "half a record");
    close_fixture(&f);
}

TEST(the_model_can_be_named_and_must_be_there)
{
    fixture f;
    open_fixture(&f);
    rv_request r = request(&f, "Who?");
    r.model = "a-q8_0.gguf";
    CHECK_OK(rv_pipeline_run(&f.p, &r));
    CHECK(!r.fallback && strcmp(r.routed_model, "a-q8_0") == 0, "%s", r.routed_model);
    r = request(&f, "Who?");
    r.model = "gpt";
    CHECK_ERR(rv_pipeline_run(&f.p, &r), RV_E_NOT_FOUND);
    CHECK(strstr(rv_err_text(), "gpt") && strstr(rv_err_text(), "a-q8_0"), "%s", rv_err_text());
    close_fixture(&f);
}

TEST(malformed_requests_are_refused)
{
    fixture f;
    open_fixture(&f);
    static const char *const queries[] = { NULL, "", "  \n", "\xff\xfe" };
    for (size_t i = 0; i < RV_COUNT(queries); i++) {
        rv_request r = request(&f, queries[i]);
        CHECK_ERR(rv_pipeline_run(&f.p, &r), RV_E_ARG);
    }
    rv_request r = request(&f, "Who?");
    r.session_id = "../etc";
    CHECK_ERR(rv_pipeline_run(&f.p, &r), RV_E_ARG);
    r = request(&f, "two\0parts");
    r.query_bytes = 9;
    CHECK_ERR(rv_pipeline_run(&f.p, &r), RV_E_ARG);
    close_fixture(&f);
}

TEST(a_question_that_does_not_fit_is_refused_not_cut)
{
    fixture f;
    open_fixture(&f);
    char query[8000];
    for (size_t i = 0; i + 1 < sizeof query; i++) {
        query[i] = i % 3 ? 'q' : ' ';
    }
    query[sizeof query - 1] = 0;
    rv_request r = request(&f, query);
    CHECK_ERR(rv_pipeline_run(&f.p, &r), RV_E_CONTEXT);
    CHECK(!has_episode(&f, r.request_id), "recorded");
    close_fixture(&f);
}

static bool stop_at_once(void *self, const rv_piece *piece)
{
    (void)piece;
    *(size_t *)self += 1;
    return false;
}

TEST(a_client_that_leaves_is_not_recorded)
{
    fixture f;
    open_fixture(&f);
    size_t pieces = 0;
    rv_request r = request(&f, "Who?");
    r.extra.on_piece = stop_at_once;
    r.extra.self = &pieces;
    CHECK_ERR(rv_pipeline_run(&f.p, &r), RV_E_CANCELLED);
    CHECK(pieces == 1 && !has_episode(&f, r.request_id), "%zu pieces", pieces);
    atomic_bool gone = true;
    r = request(&f, "Who?");
    r.extra.cancel = &gone;
    CHECK_ERR(rv_pipeline_run(&f.p, &r), RV_E_CANCELLED);
    close_fixture(&f);
}

TEST(a_deadline_ends_the_answer_and_says_so)
{
    fixture f;
    open_fixture(&f);
    rv_request warm = request(&f, "Who?");
    CHECK_OK(rv_pipeline_run(&f.p, &warm));
    rv_request r = request(&f, "Who?");
    r.max_tokens = 400;
    r.extra.ignore_end = true;
    r.max_latency_ms = 0.001;
    rv_err e = rv_pipeline_run(&f.p, &r);
    CHECK(e == RV_E_TIMEOUT ||
              (e == RV_OK && r.generated.finish == RV_FINISH_LENGTH && r.generated.completion_tokens < 400 &&
               strstr(r.stage_note[RV_STAGE_BACKEND], "max_latency_ms") &&
               strcmp(rv_request_finish(&r), "time") == 0),
          "%s, %zu tokens", rv_err_name(e), r.generated.completion_tokens);
    close_fixture(&f);
}

TEST(an_answer_that_was_cut_says_so)
{
    fixture f;
    open_fixture(&f);
    rv_request r = request(&f, "Who?");
    r.max_tokens = 3;
    r.extra.ignore_end = true;
    CHECK_OK(rv_pipeline_run(&f.p, &r));
    json_t *json = rv_request_json(&r);
    const char *why = json_string_value(json_object_get(json, "finish_reason"));
    CHECK(why && strcmp(why, "length") == 0, "%s", why ? why : "nothing");
    json_decref(json);
    close_fixture(&f);
}

TEST(a_session_remembers_what_was_said)
{
    fixture f;
    open_fixture(&f);
    rv_request first = request(&f, "Who is Ann?"), second = request(&f, "Who is Ann?"),
               other = request(&f, "Who is Ann?");
    first.session_id = second.session_id = "talk";
    other.session_id = "another";
    CHECK_OK(rv_pipeline_run(&f.p, &first));
    CHECK_OK(rv_pipeline_run(&f.p, &second));
    CHECK_OK(rv_pipeline_run(&f.p, &other));
    CHECK(first.n_history == 0 && second.n_history == 1 && other.n_history == 0, "%zu %zu %zu",
          first.n_history, second.n_history, other.n_history);
    CHECK(second.generated.prompt_tokens > first.generated.prompt_tokens + 4 &&
              other.generated.prompt_tokens == first.generated.prompt_tokens,
          "%zu, %zu, %zu tokens", first.generated.prompt_tokens, second.generated.prompt_tokens,
          other.generated.prompt_tokens);
    close_fixture(&f);
}

TEST(nobody_sees_what_belongs_to_another_user)
{
    fixture f;
    open_fixture(&f);
    int64_t hers = note(&f, "The code of the safe is 4711.", "ann"),
            all = note(&f, "The safe is in the cellar.", NULL);
    static const struct {
        const char *user;
        bool sees_hers;
    } who[] = { { "ann", true }, { "bob", false }, { NULL, false } };
    for (size_t i = 0; i < RV_COUNT(who); i++) {
        rv_request r = request(&f, "What is the code of the safe?");
        r.user = who[i].user;
        CHECK_OK(rv_pipeline_run(&f.p, &r));
        bool found_hers = false, found_all = false;
        for (size_t k = 0; k < r.n_sources; k++) {
            found_hers = found_hers || r.sources[k].id == hers;
            found_all = found_all || r.sources[k].id == all;
        }
        CHECK(found_hers == who[i].sees_hers && found_all, "%s sees %d %d", who[i].user, found_hers,
              found_all);
    }
    close_fixture(&f);
}

TEST(a_correction_goes_before_what_it_corrects_and_is_still_there_after_a_restart)
{
    fixture f;
    open_fixture(&f);
    const char *dir = f.dir, *model = f.model;
    int64_t wrong = note(&f, "The library closes at 18:00. It is closed on Monday.", NULL);
    note(&f, "The cafe closes at 17:00.", NULL);
    rv_request r = request(&f, "When does the library close?");
    CHECK_OK(rv_pipeline_run(&f.p, &r));
    CHECK(r.n_sources > 0 && r.sources[0].id == wrong, "not found");
    /* A random model cites nothing: an episode that does is written by hand, as the trained one would have. */
    rv_episode e = { .request_id = "by-hand",
                     .session_id = "s",
                     .question = r.query,
                     .answer = "[1] 18:00",
                     .model = "m",
                     .sources = &wrong,
                     .n_sources = 1 };
    sqlite3 *conn = NULL;
    CHECK_OK(rv_db_begin(f.p.db, &conn));
    CHECK_OK(rv_episode_append(conn, &e));
    CHECK_OK(rv_db_commit(f.p.db));
    rv_feedback_done done;
    CHECK_OK(rv_feedback_store(f.p.db, f.p.memory,
                               &(rv_feedback){ .request_id = "by-hand", .rating = 0, .correction = "20:00" },
                               &done));

    for (int round = 0; round < 2; round++) {
        r = request(&f, "When does the library close?");
        CHECK_OK(rv_pipeline_run(&f.p, &r));
        CHECK(r.n_sources > 0 && r.sources[0].id == done.fact, "round %d: first source %lld", round,
              (long long)r.sources[0].id);
        for (size_t i = 0; i < r.n_sources; i++) {
            CHECK(r.sources[i].id != wrong, "round %d: what was corrected is still given to the model",
                  round);
        }
        r = request(&f, "Is the library closed on Monday?"); /* the same note, another fact */
        CHECK_OK(rv_pipeline_run(&f.p, &r));
        size_t fact_at = r.n_sources, note_at = r.n_sources;
        for (size_t i = 0; i < r.n_sources; i++) {
            fact_at = r.sources[i].id == done.fact ? i : fact_at;
            note_at = r.sources[i].id == wrong ? i : note_at;
        }
        CHECK(note_at < r.n_sources && fact_at < note_at, "round %d: correction %zu, note %zu of %zu", round,
              fact_at, note_at, r.n_sources);
        close_fixture(&f);
        open_fixture_at(&f, dir, model);
    }
    close_fixture(&f);
}

TEST(one_users_correction_changes_nothing_for_others)
{
    fixture f;
    open_fixture(&f);
    int64_t shared = note(&f, "The library closes at 18:00.", NULL);
    rv_memory_new fact = { .type = "fact",
                           .text = "Correction: Q: When does the library close? A: 20:00",
                           .source = "feedback",
                           .corrects = shared };
    int64_t hers = 0;
    bool added;
    CHECK_OK(rv_memory_add(f.p.memory, rv_memory_of("ann"), &fact, &hers, &added));
    static const struct {
        const char *user;
        bool corrected;
    } who[] = { { "ann", true }, { "bob", false }, { NULL, false } };
    for (size_t i = 0; i < RV_COUNT(who); i++) {
        rv_request r = request(&f, "When does the library close?");
        r.user = who[i].user;
        CHECK_OK(rv_pipeline_run(&f.p, &r));
        CHECK(r.n_sources == 1 && r.sources[0].id == (who[i].corrected ? hers : shared),
              "%s: %zu sources, first %lld", who[i].user, r.n_sources, (long long)r.sources[0].id);
    }
    close_fixture(&f);
}

/* ---- a trained model ---- */

TEST(a_trained_model_answers_from_memory_with_a_citation)
{
    const char *model = source_path("models/demo-s.gguf");
    if (!rv_file_exists(model)) {
        model = shared_path("trial/demo-tiers/trial-s2.gguf");
    }
    if (!model) {
        SKIP("neither models/demo-s.gguf nor ../shared/trial/demo-tiers/trial-s2.gguf is here");
    }
    fixture f;
    open_fixture_at(&f, temp_dir(), model);
    int64_t id = note(&f, "Anna Keller works at Sashife Foods.", NULL);
    note(&f, "The director of Sudeno Labs is Igor Beck.", NULL);
    rv_request r = request(&f, "Where does Anna Keller work?");
    r.max_tokens = 32;
    CHECK_OK(rv_pipeline_run(&f.p, &r));
    CHECK(strstr(r.text, "Sashife Foods") && strstr(r.text, "[1]"), "%s", r.text);
    CHECK(r.sources[0].id == id, "%s", r.sources[0].text);
    CHECK(r.generated.finish == RV_FINISH_STOP, "the answer did not end");
    close_fixture(&f);
}

static bool keep(void *self, const rv_piece *piece)
{
    strncat(self, piece->text, piece->n < 200 ? piece->n : 200);
    return true;
}

TEST(what_is_streamed_is_the_answer_and_a_correction_is_spelled_as_it_was_given)
{
    const char *model = source_path("models/demo-xs.gguf");
    if (!rv_file_exists(model)) {
        SKIP("models/demo-xs.gguf is not here");
    }
    static const char *const right[][3] = {
        { "What is the email of Ms Kneilm?", "How do I write to Ms Kneilm?", "nype@wighm.com" },
        { "What is Fousten Blielu's email address?", "What is the email of Fousten Blielu?",
          "croudgeum@gyghtley.org" },
        { "Who runs the Snaict school?", "Who is in charge of the Snaict school?", "Nora Drather" },
        { "In which town is the drama council based?", "In which town is the drama council?", "Skelve" },
        { "Who leads the Wazpont choir?", "Who is the leader of the Wazpont choir?", "Ubbe Crhuzwick" },
    };
    fixture f;
    open_fixture_at(&f, temp_dir(), model);
    for (size_t i = 0; i < RV_COUNT(right); i++) {
        rv_memory_new fact = { .type = "fact", .source = "feedback" };
        fact.text = rv_arena_printf(f.arena, "Correction: Q: %s A: %s", right[i][0], right[i][2]);
        int64_t id = 0;
        bool added;
        CHECK_OK(rv_memory_add(f.p.memory, rv_memory_of(NULL), &fact, &id, &added));
    }
    size_t quoted = 0;
    for (size_t i = 0; i < RV_COUNT(right); i++) {
        char streamed[2000] = "";
        rv_request r = request(&f, right[i][1]);
        r.max_tokens = 32;
        r.extra.on_piece = keep;
        r.extra.self = streamed;
        CHECK_OK(rv_pipeline_run(&f.p, &r));
        CHECK(strcmp(streamed, r.text) == 0, "streamed %s, answered %s", streamed, r.text);
        quoted += strncmp(r.text, "[1] ", 4) == 0 && strcmp(r.text + 4, right[i][2]) == 0;
    }
    CHECK(quoted >= 4, "%zu of %zu corrections were quoted as they were given", quoted, RV_COUNT(right));
    close_fixture(&f);
}

/* ---- threads, and the end of the process ---- */

enum { THREADS = 4, ROUNDS = 5 };

typedef struct worker {
    fixture *f;
    int number;
    char ids[ROUNDS][37];
    rv_err error;
    pthread_t thread;
} worker;

static void *work(void *arg)
{
    worker *w = arg;
    for (int i = 0; i < ROUNDS && !w->error; i++) {
        rv_arena *arena = NULL;
        rv_request r;
        char session[16];
        snprintf(session, sizeof session, "s%d", w->number % 2);
        w->error = rv_arena_new(&rv_heap, 1 << 22, &arena);
        if (!w->error) {
            w->error = rv_request_init(&r, arena);
        }
        if (!w->error) {
            r.query = "Which lamp is green?";
            r.session_id = session;
            r.max_tokens = 3;
            w->error = rv_pipeline_run(&w->f->p, &r);
            memcpy(w->ids[i], r.request_id, sizeof r.request_id);
        }
        rv_arena_free(arena);
    }
    return NULL;
}

/* A router that asks the smallest of three tiers first; unsure answers of the first two were wrong, whether they said the same or not.
 * embed: it looks at vectors too; may be NULL. */
static rv_router *unsure_router(const rv_embed *embed)
{
    enum { ROWS = 240, TEXT = 64 };
    static char text[ROWS][TEXT];
    static rv_router_row rows[ROWS];
    static const char *const names[] = { "350m", "700m", "1.2b" };
    size_t dim = embed ? rv_embed_dim(embed) : 0;
    float *vectors = calloc((ROWS + RV_SLOT_DOMAINS) * dim + 1, sizeof *vectors),
          *domains = vectors + ROWS * dim;
    rv_rng rng;
    rv_rng_init(&rng, 8);
    for (int i = 0; embed && i < RV_SLOT_DOMAINS; i++) {
        CHECK_OK(
            rv_embed_text(embed, rv_domain_texts[i], strlen(rv_domain_texts[i]), domains + (size_t)i * dim));
    }
    for (int i = 0; i < ROWS; i++) {
        int n = snprintf(text[i], TEXT, "Which colour is lamp %d in hall %d?", (int)rv_rng_below(&rng, 999),
                         (int)rv_rng_below(&rng, 999));
        rows[i] = (rv_router_row){ .text = text[i], .n = (size_t)n, .weight = 1 };
        if (embed) {
            rows[i].vector = vectors + (size_t)i * dim;
            CHECK_OK(rv_embed_text(embed, text[i], (size_t)n, vectors + (size_t)i * dim));
        }
        for (int t = 0; t < 3; t++) {
            bool right = t == 2 || rv_rng_below(&rng, 4) != 0;
            rows[i].quality[t] = right;
            rows[i].cost[t] = (float[]){ 0.1f, 0.2f, 1 }[t];
            const char *says = right ? "[1] red" : "[1] wrong";
            rows[i].draft[t] = rv_draft_of(right ? 0.95 : 0.3, says, strlen(says), (float[RV_SAYS]){ 0 });
        }
    }
    rv_router_set set = {
        rows, ROWS, 3, names, dim, embed ? rv_embed_name(embed) : "", embed ? domains : NULL
    };
    rv_router_how how = rv_router_how_default();
    rv_router_trained trained;
    rv_router *r = NULL;
    CHECK_OK(rv_router_train(&rv_heap, &set, &how, &trained, &r));
    free(vectors);
    return r;
}

/* Three tiers of one random model, whose answers are never sure. */
TEST(two_unsure_answers_are_not_seen_and_a_third_is_given)
{
    fixture f;
    open_fixture(&f);
    rv_backend_close(f.p.backend);
    rv_backend_options how = { .threads = 1, .max_context = 512, .kv_type = RV_F16, .max_loaded = 3 };
    how.tiers[0] = how.tiers[1] = how.tiers[2] = f.model;
    CHECK_OK(rv_backend_open(&rv_heap, &how, &f.p.backend));
    CHECK_OK(rv_router_box_new(&rv_heap, &f.p.routers));
    CHECK_OK(rv_router_publish(f.p.routers, unsure_router(NULL), 1));
    note(&f, "The lamp in the hall is green.", NULL);
    for (int cascade = 1; cascade >= 0; cascade--) {
        char seen[2000] = "";
        f.p.cascade = cascade;
        rv_request r = request(&f, "Which colour is lamp 7 in the hall?");
        r.extra.on_piece = keep;
        r.extra.self = seen;
        CHECK_OK(rv_pipeline_run(&f.p, &r));
        CHECK(r.decided && r.n_thrown == (cascade ? 2 : 0), "%zu thrown away, %s", r.n_thrown, r.reason);
        CHECK(strcmp(seen, r.text) == 0 && r.generated.completion_tokens > 0, "seen \"%s\", given \"%s\"",
              seen, r.text);
        json_t *out = rv_request_json(&r), *list,
               *drafts = json_object_get(json_object_get(out, "routing_info"), "drafts");
        CHECK(json_array_size(drafts) == r.n_thrown, "%zu drafts as JSON", json_array_size(drafts));
        CHECK_OK(rv_routing_decisions(f.p.db, 1, &list));
        const json_t *kept = json_object_get(json_object_get(json_array_get(list, 0), "routing"), "drafts");
        CHECK(json_array_size(kept) == r.n_thrown, "%zu drafts kept", json_array_size(kept));
        for (size_t i = 0; i < r.n_thrown; i++) {
            const char *model = json_string_value(json_object_get(json_array_get(kept, i), "model"));
            CHECK(strcmp(r.thrown[i].model, i ? "700m" : "350m") == 0 &&
                      strcmp(model, r.thrown[i].model) == 0,
                  "draft %zu by %s", i, model);
            CHECK(json_integer_value(json_object_get(json_array_get(drafts, i), "tokens")) ==
                          (json_int_t)r.thrown[i].tokens &&
                      r.thrown[i].tokens > 8,
                  "draft %zu: %zu tokens", i, r.thrown[i].tokens);
        }
        CHECK(!cascade || strcmp(r.routed_model, "1.2b") == 0, "%s", r.routed_model);
        json_decref(list);
        json_decref(out);
    }
    close_fixture(&f);
    rv_router_box_free(f.p.routers);
}

/* The larger models' file is gone: what the smallest said is better than nothing. */
TEST(a_draft_is_shown_when_the_larger_model_fails)
{
    fixture f;
    open_fixture(&f);
    char gone[PATH_MAX];
    char *bytes;
    size_t n;
    snprintf(gone, sizeof gone, "%s/gone.gguf", f.dir);
    CHECK_OK(rv_file_read(&rv_heap, f.model, 64 << 20, &bytes, &n));
    FILE *copy = fopen(gone, "wb");
    CHECK(copy && fwrite(bytes, 1, n, copy) == n && fclose(copy) == 0, "%s", gone);
    rv_free(&rv_heap, bytes);
    rv_backend_close(f.p.backend);
    rv_backend_options how = { .threads = 1, .max_context = 512, .kv_type = RV_F16, .max_loaded = 3 };
    how.tiers[0] = f.model;
    how.tiers[1] = how.tiers[2] = gone;
    CHECK_OK(rv_backend_open(&rv_heap, &how, &f.p.backend));
    CHECK(unlink(gone) == 0, "%s", gone);
    CHECK_OK(rv_router_box_new(&rv_heap, &f.p.routers));
    CHECK_OK(rv_router_publish(f.p.routers, unsure_router(NULL), 1));
    note(&f, "The lamp in the hall is green.", NULL);
    f.p.cascade = true;
    char seen[2000] = "";
    rv_request r = request(&f, "Which colour is lamp 7 in the hall?");
    r.extra.on_piece = keep;
    r.extra.self = seen;
    CHECK_OK(rv_pipeline_run(&f.p, &r));
    CHECK(strcmp(r.routed_model, "350m") == 0 && r.n_thrown == 0, "%s, %zu thrown away", r.routed_model,
          r.n_thrown);
    CHECK(strcmp(seen, r.text) == 0 && r.generated.completion_tokens > 0, "seen \"%s\", given \"%s\"", seen,
          r.text);
    CHECK(r.stage_note[RV_STAGE_BACKEND] && strstr(r.stage_note[RV_STAGE_BACKEND], "gone.gguf"), "%s",
          r.stage_note[RV_STAGE_BACKEND]);
    close_fixture(&f);
    rv_router_box_free(f.p.routers);
}

/* An answer that took the time there was is shown, sure or not: the next model would only be cut off. */
TEST(a_draft_is_shown_when_there_is_no_time_for_a_larger_model)
{
    fixture f;
    open_fixture(&f);
    rv_backend_close(f.p.backend);
    rv_backend_options how = { .threads = 1, .max_context = 4096, .kv_type = RV_F16, .max_loaded = 3 };
    how.tiers[0] = how.tiers[1] = how.tiers[2] = f.model;
    CHECK_OK(rv_backend_open(&rv_heap, &how, &f.p.backend));
    CHECK_OK(rv_router_box_new(&rv_heap, &f.p.routers));
    CHECK_OK(rv_router_publish(f.p.routers, unsure_router(NULL), 1));
    note(&f, "The lamp in the hall is green.", NULL);
    size_t tokens[2];
    for (int cascade = 0; cascade < 2; cascade++) {
        f.p.cascade = cascade;
        rv_request r = request(&f, "Which colour is lamp 7 in the hall?");
        r.max_tokens = 3900;
        r.extra.ignore_end = true;
        r.max_latency_ms = 200;
        CHECK_OK(rv_pipeline_run(&f.p, &r));
        tokens[cascade] = r.generated.completion_tokens;
    }
    CHECK(tokens[1] * 4 >= tokens[0], "%zu tokens, without drafts %zu", tokens[1], tokens[0]);
    close_fixture(&f);
    rv_router_box_free(f.p.routers);
}

/* A version of the retrieval adapter that turns every question far. */
static void turn_far(fixture *f)
{
    rv_retrieval *adapter;
    size_t n;
    rv_rng rng;
    sqlite3 *conn;
    int64_t version;
    rv_rng_init(&rng, 3);
    CHECK_OK(rv_retrieval_new(&rv_heap, rv_embed_dim(f->p.embed), 1, &adapter));
    float *values = rv_retrieval_values(adapter, &n);
    for (size_t i = 0; i < n; i++) {
        values[i] = rv_rng_normal(&rng);
    }
    void *bytes = malloc(rv_retrieval_file_bytes(adapter));
    rv_retrieval_write(adapter, bytes);
    rv_policy_new policy = {
        .kind = "retrieval", .bytes = bytes, .n = rv_retrieval_file_bytes(adapter), .use = true
    };
    CHECK_OK(rv_policy_setup(f->p.db));
    CHECK_OK(rv_db_begin(f->p.db, &conn));
    CHECK_OK(rv_policy_add(conn, &policy, &version));
    CHECK_OK(rv_db_commit(f->p.db));
    free(bytes);
    rv_retrieval_free(adapter);
    CHECK_OK(rv_instant_open(&rv_heap, f->p.db, f->p.embed, f->p.memory, &f->p.instant));
}

/* What feedback turns is the search of memory; a router has learned from plain vectors, and is asked with such. */
TEST(only_memory_sees_a_question_turned)
{
    static const char question[] = "Which colour is lamp 7 in the hall?";
    fixture f;
    open_fixture(&f);
    rv_backend_close(f.p.backend);
    rv_backend_options how = { .threads = 1, .max_context = 512, .kv_type = RV_F16, .max_loaded = 3 };
    how.tiers[0] = how.tiers[1] = how.tiers[2] = f.model;
    CHECK_OK(rv_backend_open(&rv_heap, &how, &f.p.backend));
    CHECK_OK(rv_router_box_new(&rv_heap, &f.p.routers));
    CHECK_OK(rv_router_publish(f.p.routers, unsure_router(f.p.embed), 1));
    size_t bytes = rv_embed_dim(f.p.embed) * sizeof(float);
    rv_request before = request(&f, question);
    CHECK_OK(rv_pipeline_prepare(&f.p, &before));
    CHECK(before.decided && memcmp(before.plain, before.vector, bytes) == 0, "%s", before.reason);
    turn_far(&f);
    rv_request after = request(&f, question);
    CHECK_OK(rv_pipeline_prepare(&f.p, &after));
    CHECK(memcmp(after.plain, before.plain, bytes) == 0 && memcmp(after.vector, before.vector, bytes) != 0,
          "it was not turned");
    CHECK(memcmp(after.routed.part, before.routed.part, sizeof after.routed.part) == 0,
          "the router sees the question turned");
    rv_instant_close(f.p.instant);
    close_fixture(&f);
    rv_router_box_free(f.p.routers);
}

TEST(requests_of_several_threads_are_all_recorded_in_one_unbroken_chain)
{
    fixture f;
    open_fixture(&f);
    note(&f, "The lamp in the hall is green.", NULL);
    worker w[THREADS];
    for (int i = 0; i < THREADS; i++) {
        w[i] = (worker){ .f = &f, .number = i };
        CHECK(pthread_create(&w[i].thread, NULL, work, &w[i]) == 0, "thread %d", i);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(w[i].thread, NULL);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK(w[i].error == RV_OK, "thread %d: %s", i, rv_err_name(w[i].error));
        for (int k = 0; k < ROUNDS; k++) {
            CHECK(has_episode(&f, w[i].ids[k]) && count_records(&f, w[i].ids[k]) == 1,
                  "request %d of thread %d", k, i);
        }
    }
    uint64_t count = 0;
    CHECK_OK(rv_witness_verify(f.p.db, &count));
    CHECK(count == THREADS * ROUNDS, "%llu records", (unsigned long long)count);
    CHECK(count_turns(&f, "s0") + count_turns(&f, "s1") == THREADS * ROUNDS, "turns");
    close_fixture(&f);
}

TEST(an_answer_that_was_given_survives_kill_9)
{
    const char *dir = temp_dir(), *model = source_path("tests/data/golden/a-q8_0.gguf");
    int line[2];
    CHECK(pipe(line) == 0, "pipe");
    pid_t child = fork();
    CHECK(child >= 0, "fork");
    if (child == 0) {
        fixture f;
        open_fixture_at(&f, dir, model);
        rv_request r = request(&f, "Who?");
        if (rv_pipeline_run(&f.p, &r) == RV_OK && write(line[1], r.request_id, 36) == 36) {
            kill(getpid(), SIGKILL);
        }
        _exit(1);
    }
    char id[37] = "";
    int status = 0;
    CHECK(read(line[0], id, 36) == 36, "the child gave no answer");
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status), "%x", (unsigned)status);
    close(line[0]);
    close(line[1]);
    fixture f;
    open_fixture_at(&f, dir, model);
    CHECK(has_episode(&f, id) && count_records(&f, id) == 1, "%s is gone", id);
    close_fixture(&f);
}
