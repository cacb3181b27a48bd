/* The prompt, and which passages get into it, over hits made by hand. */
#include "pipeline/pipeline_priv.h"
#include "test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct fixture {
    rv_backend *backend;
    rv_engine *engine;
    rv_arena *arena;
    rv_pipeline pipeline;
    rv_request request;
    rv_memory_node nodes[16];
} fixture;

static void open_fixture(fixture *f, uint32_t n_ctx, const char *query)
{
    const char *file = source_path("tests/data/golden/a-q8_0.gguf");
    rv_backend_options how = {
        .threads = 1, .max_context = n_ctx, .kv_type = RV_F16, .max_loaded = 1, .files = &file, .n_files = 1
    };
    *f = (fixture){ .pipeline = { .max_sources = 5 } };
    CHECK_OK(rv_backend_open(&rv_heap, &how, &f->backend));
    CHECK_OK(rv_backend_take(f->backend, "a-q8_0", &f->engine));
    CHECK_OK(rv_arena_new(&rv_heap, 1 << 20, &f->arena));
    CHECK_OK(rv_request_init(&f->request, f->arena));
    f->request.query = query;
    f->request.query_bytes = strlen(query);
    f->request.hits.at = f->nodes;
}

static void close_fixture(fixture *f)
{
    rv_backend_put(f->backend, f->engine);
    rv_backend_close(f->backend);
    rv_arena_free(f->arena);
}

static void add_hit(fixture *f, int64_t id, const char *text, int64_t corrected_by)
{
    f->nodes[f->request.hits.n++] = (rv_memory_node){ .id = id,
                                                      .type = "chunk",
                                                      .text = text,
                                                      .source = "notes.md",
                                                      .user = "",
                                                      .origin_side = "both",
                                                      .corrected_by = corrected_by,
                                                      .vector_score = 0.5,
                                                      .words_score = 2,
                                                      .score = 1.0 / (double)(60 + f->request.hits.n) };
}

static rv_memory_node *last_hit(fixture *f)
{
    return &f->nodes[f->request.hits.n - 1];
}

static void check_sources(const fixture *f, const char *expected)
{
    char found[200] = "";
    for (size_t i = 0; i < f->request.n_sources; i++) {
        char one[32];
        snprintf(one, sizeof one, "%s%lld", i ? " " : "", (long long)f->request.sources[i].id);
        strcat(found, one);
    }
    CHECK(strcmp(found, expected) == 0, "sources %s, expected %s", found, expected);
}

TEST(passages_come_in_the_order_of_their_score_and_no_more_than_allowed)
{
    fixture f;
    open_fixture(&f, 512, "Who?");
    for (int64_t id = 1; id <= 7; id++) {
        add_hit(&f, id, "A short passage.", 0);
    }
    CHECK_OK(rv_stage_attend(&f.pipeline, &f.request, f.engine));
    check_sources(&f, "1 2 3 4 5");
    CHECK(strstr(f.request.stage_note[RV_STAGE_ATTEND], "fused score"), "%s",
          f.request.stage_note[RV_STAGE_ATTEND]);
    CHECK(f.request.sources[0].score > f.request.sources[4].score, "scores");
    close_fixture(&f);
}

TEST(a_correction_stands_before_what_it_corrects)
{
    fixture f;
    open_fixture(&f, 512, "Who?");
    add_hit(&f, 1, "Other.", 0);
    add_hit(&f, 2, "Wrong in this part. Right in the other.", 4);
    add_hit(&f, 3, "More.", 0);
    add_hit(&f, 4, "Correction.", 0);
    f.nodes[3].score =
        f.nodes[1].score; /* only as near as what it corrects: the question is about something else */
    CHECK_OK(rv_stage_attend(&f.pipeline, &f.request, f.engine));
    check_sources(&f, "1 4 2 3");
    close_fixture(&f);
}

TEST(a_correction_of_something_else_in_a_passage_stands_behind_it)
{
    for (int found = 0; found < 2; found++) {
        fixture f;
        open_fixture(&f, 512, "Who?");
        add_hit(&f, 2, "Wrong in this part. Right in the other.", 4);
        add_hit(&f, 4, "Correction.", 0);
        f.nodes[1].vector_score = found ? 0.4 : NAN;
        CHECK_OK(rv_stage_attend(&f.pipeline, &f.request, f.engine));
        check_sources(&f, "2 4");
        close_fixture(&f);
    }
}

TEST(what_was_corrected_for_this_very_question_is_left_out)
{
    static const struct {
        const char *query, *fact, *sources;
    } cases[] = {
        { "When does it open?", "Correction: Q: When does it open? A: 9:30", "4 3" },
        { "when does it OPEN", "Correction: Q: When does it open? A: 9:30", "4 3" },
        { "When does it open", "Correction: Q: When does it open A: 9:30", "4 3" },
        { "When does it", "Correction: Q: When does it open? A: 9:30", "4 2 3" },
        { "When does it open today?", "Correction: Q: When does it open? A: 9:30", "4 2 3" },
        { "When does it close?", "Correction: Q: When does it open? A: 9:30", "4 2 3" },
        { "When does it open?", "It opens at 9:30 now.", "4 2 3" },
    };
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        fixture f;
        open_fixture(&f, 512, cases[i].query);
        add_hit(&f, 2, "It opens at 9:00. It closes at 18:00.", 4);
        add_hit(&f, 3, "More.", 0);
        add_hit(&f, 4, cases[i].fact, 0);
        CHECK_OK(rv_stage_attend(&f.pipeline, &f.request, f.engine));
        check_sources(&f, cases[i].sources);
        close_fixture(&f);
    }
}

TEST(a_correction_of_an_alike_question_about_something_else_is_no_passage)
{
    static const char zoo[] = "Correction: Q: How many hens does the Wrawn zoo have? A: 13",
                      kettles[] = "Correction: Q: For how long can kettles be borrowed? A: 48 hours";
    static const struct {
        const char *query, *fact, *sources;
    } cases[] = {
        { "How many hens are there in the Wrawn zoo?", zoo, "4 2 3" },
        { "how many hens has the wrawn zoo", zoo, "4 2 3" },
        { "How many hens does the Taud farm have?", zoo, "2 3" },
        { "What is the number of hens in Taud?", zoo, "2 3" },
        { "How long may I borrow kettles?", kettles, "4 2 3" },
        { "How long can I borrow tickets?", kettles, "2 3" },
        { "How long can I borrow tickets?", "Kettles: 48 hours", "4 2 3" }, /* not made from feedback */
        { "\xe5\x9b\xbe\xe4\xb9\xa6\xe9\xa6\x86", "Correction: Q: \xe5\x9b\xbe\xe4\xb9\xa6? A: 1",
          "4 2 3" }, /* no blanks */
        { "Who?", "Correction: Q:  A: 1", "4 2 3" },
        { "Who?", "Correction: Q: A: ", "4 2 3" },
    };
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        fixture f;
        open_fixture(&f, 512, cases[i].query);
        add_hit(&f, 2, "The Taud farm has 20 hens. The Wrawn zoo has 12 hens.", 4);
        add_hit(&f, 3, "Tickets can be borrowed for 3 nights. Kettles can be borrowed for two.", 0);
        add_hit(&f, 4, cases[i].fact, 0);
        for (size_t far = 0; far < 4; far++) { /* candidates, too weak to be passages */
            static const char *const texts[] = { "Benches can be borrowed.", "Boats can be borrowed.",
                                                 "Carpets can be borrowed.", "The Clewsso inn has 9 hens." };
            add_hit(&f, 5 + (int64_t)far, texts[far], 0);
            f.nodes[3 + far].words_score = NAN;
            f.nodes[3 + far].vector_score = 0;
        }
        CHECK_OK(rv_stage_attend(&f.pipeline, &f.request, f.engine));
        check_sources(&f, cases[i].sources);
        close_fixture(&f);
    }
}

/* Found by asking: the first question was answered with the correction, which shares only "maps" with it. */
TEST(a_correction_that_says_nothing_of_what_is_asked_about_is_no_passage)
{
    static const char fact[] = "Correction: Q: By whom are maps collected? A: Rita Karkcain";
    static const char *const texts[] = { "Ivory maps are bought by Lara Skestut.",
                                         "Ivory bottles are lent for 66 minutes.",
                                         "Daithcrem Group deals in ivory shoes.",
                                         "The Clowg playground owns 1341 maps.", fact };
    static const struct {
        const char *query;
        bool about;
    } cases[] = { { "By whom are ivory maps bought?", false },
                  { "Who collects the maps?", true },
                  { "Who is the collector of maps?", true },
                  { "Who buys bottles?", false } };
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        fixture f;
        open_fixture(&f, 512, cases[i].query);
        for (size_t t = 0; t < RV_COUNT(texts); t++) {
            add_hit(&f, 2 + (int64_t)t, texts[t], 0);
        }
        CHECK(rv_recall_is_about(&f.request, last_hit(&f)) == cases[i].about, "%s", cases[i].query);
        close_fixture(&f);
    }
}

/* Found by asking: the words of both have little in common. */
TEST(a_correction_that_is_nearest_in_meaning_is_a_passage)
{
    static const struct {
        const char *query;
        double nearest, other; /* of the correction, of a passage */
        bool about;
    } cases[] = { { "How many inhabitants does Fyshia have?", 0.6, 0.5, true },
                  { "How many inhabitants does Fyshia have?", 0.45, 0.4, false },
                  { "How many inhabitants does Fyshia have?", 0.6, 0.61, false },
                  { "How many inhabitants does Fyshia have?", 0.6, NAN, true },
                  { "How many inhabitants does Fyshia have?", NAN, 0.5, false },
                  { "How many inhabitants does Puffulton have?", 0.6, 0.5, false } };
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        fixture f;
        open_fixture(&f, 512, cases[i].query);
        add_hit(&f, 1, "12 inhabitants does Puffulton have, and Fyshia have 5.", 0);
        f.nodes[0].vector_score = cases[i].other;
        add_hit(&f, 2, "Many inhabitants of Fyshia have boats.", 0);
        add_hit(&f, 3, "Correction: Q: How many people live in Fyshia? A: 4", 0);
        last_hit(&f)->vector_score = cases[i].nearest;
        CHECK(rv_recall_is_about(&f.request, last_hit(&f)) == cases[i].about, "row %zu", i);
        close_fixture(&f);
    }
}

/* Near enough by itself, but a passage that nobody corrected holds more of the question. */
TEST(a_correction_stands_back_behind_a_passage_that_holds_more_of_the_question)
{
    static const char fact[] = "Correction: Q: How long may teams borrow tickets? A: 9 days";
    static const char *const others[] = { "Correction: Q: How long is the mill open? A: 4 hours",
                                          "Correction: Q: How long is the bridge? A: 6 metres",
                                          "Tickets cost 3 euros.", "The mill has 12 benches." };
    static const struct {
        const char *query, *passage;
        bool about;
    } cases[] = { { "How long can I borrow benches?", "I can borrow benches for 20 days.", false },
                  { "How long can I borrow benches?", "Benches are green.", true },
                  { "How long may teams borrow tickets?", "Teams may borrow tickets for 5 days.", true } };
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        fixture f;
        open_fixture(&f, 512, cases[i].query);
        for (size_t t = 0; t < RV_COUNT(others); t++) {
            add_hit(&f, 2 + (int64_t)t, others[t], 0);
        }
        add_hit(&f, 10, cases[i].passage, 0);
        add_hit(&f, 11, fact, 0);
        CHECK(rv_recall_is_about(&f.request, last_hit(&f)) == cases[i].about, "%s %s", cases[i].query,
              cases[i].passage);
        close_fixture(&f);
    }
}

TEST(what_says_nothing_but_what_was_wrong_is_left_out)
{
    static const struct {
        const char *text, *sources;
    } cases[] = {
        { "It opens at 9.30", "4 3" },        { "It opens at 9:00.", "4 3" },
        { "It opens at 9:00.\n", "4 3" },     { "It opens late. It closes early.", "4 2 3" },
        { "Title\nIt opens late.", "4 3" },   { "It opens late!\nIt closes early", "4 2 3" },
        { "It opens at 9:00?! Yes.", "4 3" },
    };
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        fixture f;
        open_fixture(&f, 512, "Is it open?");
        add_hit(&f, 2, cases[i].text, 4);
        add_hit(&f, 3, "More.", 0);
        add_hit(&f, 4, "Correction: Q: When does it open? A: 9:30", 0);
        CHECK_OK(rv_stage_attend(&f.pipeline, &f.request, f.engine));
        check_sources(&f, cases[i].sources);
        close_fixture(&f);
    }
}

TEST(a_chain_of_corrections_gives_the_last_one_and_a_ring_ends)
{
    fixture f;
    open_fixture(&f, 512, "Who?");
    add_hit(&f, 1, "The first of them. And something more.", 2);
    add_hit(&f, 2, "The second of them. And something more.", 3);
    add_hit(&f, 3, "Third.", 0);
    f.nodes[1].type = f.nodes[2].type = "fact";
    CHECK_OK(rv_stage_attend(&f.pipeline, &f.request, f.engine));
    check_sources(&f, "3 1"); /* the second is outdated as a whole */
    close_fixture(&f);

    open_fixture(&f, 512, "Who?");
    add_hit(&f, 1, "A.", 2);
    add_hit(&f, 2, "B.", 3);
    add_hit(&f, 3, "C.", 1);
    add_hit(&f, 4, "Not in hits.", 99);
    CHECK_OK(rv_stage_attend(&f.pipeline, &f.request, f.engine));
    CHECK(f.request.n_sources >= 2 && f.request.n_sources <= 4, "%zu", f.request.n_sources);
    CHECK(f.request.sources[f.request.n_sources - 1].id == 4, "a correction nobody may see changes nothing");
    close_fixture(&f);
}

TEST(what_shares_no_word_and_is_far_in_meaning_is_dropped)
{
    fixture f;
    open_fixture(&f, 512, "Who?");
    add_hit(&f, 1, "Words alone.", 0);
    f.nodes[0].vector_score = NAN;
    add_hit(&f, 2, "Near, no words.", 0);
    f.nodes[1].words_score = NAN;
    add_hit(&f, 3, "Far, no words.", 0);
    f.nodes[2].words_score = NAN;
    f.nodes[2].vector_score = 0.02;
    add_hit(&f, 4, "Along the graph.", 0);
    f.nodes[3].words_score = f.nodes[3].vector_score = NAN;
    f.nodes[3].origin_side = "graph";
    CHECK_OK(rv_stage_attend(&f.pipeline, &f.request, f.engine));
    check_sources(&f, "1 2 4");
    close_fixture(&f);
}

TEST(what_does_not_fit_is_skipped_and_counted_and_the_rest_fits)
{
    fixture f;
    open_fixture(&f, 128, "Who?");
    char large[2000];
    memset(large, 'x', sizeof large);
    for (size_t i = 0; i < sizeof large; i += 5) {
        large[i] = ' ';
    }
    large[sizeof large - 1] = 0;
    add_hit(&f, 1, large, 0);
    add_hit(&f, 2, "Small.", 0);
    CHECK_OK(rv_stage_attend(&f.pipeline, &f.request, f.engine));
    check_sources(&f, "2");
    CHECK(strstr(f.request.stage_note[RV_STAGE_ATTEND], "1 passages did not fit"), "%s",
          f.request.stage_note[RV_STAGE_ATTEND]);

    /* Filled to the brim, the whole prompt has to fit with the answer's room left. */
    f.request.n_sources = f.request.hits.n = 0;
    for (int64_t id = 1; id <= 15; id++) {
        add_hit(&f, id, "Seven words are in this short passage.", 0);
    }
    f.pipeline.max_sources = 8;
    CHECK_OK(rv_stage_attend(&f.pipeline, &f.request, f.engine));
    CHECK(f.request.n_sources > 0, "nothing fitted");
    json_t *messages = NULL;
    rv_text text;
    rv_ids ids;
    rv_text_init(&text, &rv_heap, 1 << 20);
    rv_ids_init(&ids, &rv_heap, 1 << 20);
    CHECK_OK(rv_prompt_messages(&f.request, f.request.sources, f.request.n_sources, &messages));
    CHECK_OK(rv_chat_render(rv_engine_tok(f.engine), rv_engine_get_info(f.engine)->family, messages, NULL,
                            (rv_chat_options){ .add_generation_prompt = true }, &text, &ids));
    size_t room = 128 - rv_prompt_answer_tokens(&f.request, 128);
    CHECK(ids.n <= room, "%zu tokens in a room of %zu", ids.n, room);
    json_decref(messages);
    rv_ids_deinit(&ids);
    rv_text_deinit(&text);
    close_fixture(&f);
}

TEST(the_oldest_turns_go_when_there_is_no_room_for_them)
{
    fixture f;
    open_fixture(&f, 256, "And now?");
    char long_answer[400];
    memset(long_answer, 'y', sizeof long_answer);
    for (size_t i = 0; i < sizeof long_answer; i += 4) {
        long_answer[i] = ' ';
    }
    long_answer[sizeof long_answer - 1] = 0;
    rv_turn turns[] = { { .question = "One?", .answer = long_answer },
                        { .question = "Two?", .answer = "Yes." } };
    f.request.history = turns;
    f.request.n_history = 2;
    CHECK_OK(rv_stage_attend(&f.pipeline, &f.request, f.engine));
    CHECK(f.request.n_history == 1 && strcmp(f.request.history[0].question, "Two?") == 0, "%zu turns",
          f.request.n_history);
    close_fixture(&f);
}

/* ---- the prompt ---- */

static const char *content(const json_t *messages, size_t i)
{
    return json_string_value(json_object_get(json_array_get(messages, i), "content"));
}

TEST(the_prompt_is_numbered_lines_and_the_question)
{
    rv_source passages[] = { { .text = "One\nline." }, { .text = "Two\r\n\tlines." } };
    rv_request r = { .query = "Why? (cut here)", .query_bytes = 4 };
    json_t *messages = NULL;
    CHECK_OK(rv_prompt_messages(&r, passages, 2, &messages));
    CHECK(json_array_size(messages) == 1, "%zu messages", json_array_size(messages));
    CHECK(strcmp(content(messages, 0), "[1] One line.\n[2] Two   lines.\nQuestion: Why?") == 0, "%s",
          content(messages, 0));
    json_decref(messages);
    CHECK_OK(rv_prompt_messages(&r, NULL, 0, &messages));
    CHECK(strcmp(content(messages, 0), "Question: Why?") == 0, "%s", content(messages, 0));
    json_decref(messages);
}

TEST(earlier_turns_come_before_it_without_passages)
{
    rv_turn turns[] = { { .question = "A?", .answer = "[1] a" }, { .question = "B?", .answer = "b" } };
    rv_source passage = { .text = "P." };
    rv_request r = { .query = "C?", .query_bytes = 2, .history = turns, .n_history = 2 };
    json_t *messages = NULL;
    CHECK_OK(rv_prompt_messages(&r, &passage, 1, &messages));
    static const char *const expected[] = { "Question: A?", "[1] a", "Question: B?", "b",
                                            "[1] P.\nQuestion: C?" };
    CHECK(json_array_size(messages) == RV_COUNT(expected), "%zu messages", json_array_size(messages));
    for (size_t i = 0; i < RV_COUNT(expected); i++) {
        CHECK(strcmp(content(messages, i), expected[i]) == 0, "%zu: %s", i, content(messages, i));
    }
    json_decref(messages);
}

TEST(given_messages_stay_but_for_the_last_which_becomes_the_question)
{
    json_t *given = json_pack("[{s:s, s:s}, {s:s, s:s}]", "role", "system", "content", "Be brief.", "role",
                              "user", "content", "C?");
    rv_turn turn = { .question = "not used", .answer = "not used" };
    rv_request r = { .query = "C?", .query_bytes = 2, .messages = given, .history = &turn, .n_history = 1 };
    json_t *messages = NULL;
    CHECK_OK(rv_prompt_messages(&r, NULL, 0, &messages));
    CHECK(json_array_size(messages) == 2, "%zu messages", json_array_size(messages));
    CHECK(strcmp(content(messages, 0), "Be brief.") == 0 && strcmp(content(messages, 1), "Question: C?") == 0,
          "%s, %s", content(messages, 0), content(messages, 1));
    json_decref(messages);
    CHECK(strcmp(content(given, 1), "C?") == 0, "the caller's messages were changed");
    json_decref(given);
}
