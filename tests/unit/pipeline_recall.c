/* When the correction of this very question is the answer, and when a model has to be asked all the same. */
#include "pipeline/pipeline_priv.h"
#include "test.h"

#include <string.h>

typedef struct fixture {
    rv_arena *arena;
    rv_request request;
    rv_memory_node nodes[4];
    char streamed[100];
    bool stop;
} fixture;

static bool on_piece(void *self, const rv_piece *piece)
{
    fixture *f = self;
    strncat(f->streamed, piece->text, piece->n);
    return !f->stop;
}

static void open_fixture(fixture *f, const char *query)
{
    *f = (fixture){ 0 };
    CHECK_OK(rv_arena_new(&rv_heap, 1 << 20, &f->arena));
    CHECK_OK(rv_request_init(&f->request, f->arena));
    f->request.query = query;
    f->request.query_bytes = strlen(query);
    f->request.hits.at = f->nodes;
    f->request.routed_model = "700m";
    f->request.extra.on_piece = on_piece;
    f->request.extra.self = f;
}

static void add(fixture *f, int64_t id, const char *type, const char *text, int64_t corrected_by)
{
    f->nodes[f->request.hits.n++] = (rv_memory_node){ .id = id,
                                                      .type = type,
                                                      .text = text,
                                                      .source = "feedback",
                                                      .confidence = 1,
                                                      .corrected_by = corrected_by };
}

TEST(a_corrected_question_is_answered_with_its_correction)
{
    fixture f;
    open_fixture(&f, "when does the Workshop open");
    add(&f, 3, "chunk", "The workshop opens at 21:30.", 9);
    add(&f, 5, "fact", "Correction: Q: When does the workshop open? A: 20:00", 9);
    add(&f, 9, "fact", "Correction: Q: When does the workshop open? A: 21:00, on Fridays", 0);
    add(&f, 7, "fact", "Correction: Q: When does the workshop open? A: noon", 0);
    CHECK_OK(rv_recall(&f.request));
    CHECK(f.request.text && strcmp(f.request.text, "[1] 21:00, on Fridays") == 0, "%s", f.request.text);
    CHECK(strcmp(f.streamed, f.request.text) == 0, "streamed %s", f.streamed);
    CHECK(f.request.n_sources == 1 && f.request.sources[0].id == 9, "source %lld",
          (long long)f.request.sources[0].id);
    CHECK(strcmp(f.request.routed_model, "memory") == 0 && !f.request.fallback, "model %s",
          f.request.routed_model);
    CHECK(f.request.generated.completion_tokens == 0 && f.request.confidence == 1, "nothing was generated");
    rv_arena_free(f.arena);
}

TEST(other_questions_and_other_nodes_are_no_answer)
{
    static const struct {
        const char *query, *type, *text;
    } rows[] = {
        { "When does the workshop open?", "fact", "Correction: Q: When does the workshop close? A: 21:00" },
        { "When does the workshop open?", "fact",
          "Correction: Q: When does the workshop open today? A: 21:00" },
        { "When does the workshop open today?", "fact",
          "Correction: Q: When does the workshop open? A: 21:00" },
        { "When does the workshop open?", "qa", "Correction: Q: When does the workshop open? A: 21:00" },
        { "When does the workshop open?", "fact", "The workshop opens at 21:00." },
        { "When does the workshop open?", "fact", "Correction: Q: When does the workshop open?" },
        { "?", "fact", "Correction: Q: When does the workshop open? A: 21:00" },
    };
    for (size_t i = 0; i < RV_COUNT(rows); i++) {
        fixture f;
        open_fixture(&f, rows[i].query);
        add(&f, 4, rows[i].type, rows[i].text, 0);
        CHECK_OK(rv_recall(&f.request));
        CHECK(!f.request.text && f.request.n_sources == 0 && strcmp(f.request.routed_model, "700m") == 0,
              "row %zu", i);
        rv_arena_free(f.arena);
    }
}

TEST(a_model_is_asked_when_the_request_wants_one)
{
    enum { NAMED, IN_A_CONVERSATION, LOGPROBS, STOPS, WAYS };
    static const char *const stops[] = { "." };
    for (int way = 0; way < WAYS; way++) {
        fixture f;
        open_fixture(&f, "When?");
        add(&f, 4, "fact", "Correction: Q: When? A: 21:00", 0);
        f.request.model = way == NAMED ? "350m" : "auto";
        f.request.n_history = way == IN_A_CONVERSATION;
        f.request.extra.n_logprobs = way == LOGPROBS ? 0 : -1;
        f.request.extra.stops = stops;
        f.request.extra.n_stops = way == STOPS;
        CHECK_OK(rv_recall(&f.request));
        CHECK(!f.request.text && !f.streamed[0], "way %d", way);
        rv_arena_free(f.arena);
    }
}

TEST(a_client_that_left_is_an_error_and_no_memory_too)
{
    fixture f;
    open_fixture(&f, "When?");
    add(&f, 4, "fact", "Correction: Q: When? A: 21:00", 0);
    f.stop = true;
    CHECK_ERR(rv_recall(&f.request), RV_E_CANCELLED);
    rv_arena *tiny;
    CHECK_OK(rv_arena_new(&rv_heap, 16, &tiny));
    f.request.arena = tiny;
    f.request.text = NULL;
    CHECK_ERR(rv_recall(&f.request), RV_E_NOMEM);
    CHECK(!f.request.text, "half an answer");
    rv_arena_free(tiny);
    rv_arena_free(f.arena);
}

TEST(an_answer_that_misspells_a_correction_is_spelled_as_the_correction)
{
    static const struct {
        const char *answer, *spelled;
    } rows[] = {
        { "[1] Sk gives", "[1] Skelve" },
        { "[1]lve", "[1] Skelve" },
        { "[00001] Sk gives", "[1] Skelve" },
        { "[2] n cir@wighm.com.", "[2] nype@wighm.com" },
        { "[1] Ske band", "[1] Skelve" }, /* less alike, but it is cited */
        { "[2] Ske band", NULL },
        { "[1] Skelve", NULL }, /* as it was given */
        { "[1] skelve", NULL },
        { "[1] Skelve.", NULL },
        { "[1] at 9:00", NULL }, /* like "at 20:00", but of words that are there */
        { "[1] he opens it at 9:00", NULL },
        { "[1] yes", NULL }, /* something else */
        { "[1] four chairs", NULL },
        { "[1] Kelveton", NULL }, /* stands in another passage */
        { "[3] nipe@wighm.com",
          "[2] nype@wighm.com" },           /* the passage beside it, perhaps the one it corrects */
        { "[4] \u306f\u306b\u307b", NULL }, /* letters are compared, not bytes */
        { "[4] \u0422\u0430\u043c\u0431\u043e\u0432", NULL },
        { "[4] \u041a\u0430\u0437\u044c", "[6] \u041a\u0430\u0437\u0430\u043d\u044c" },
        { "[4] \u3053", NULL },      /* stands in a passage, where words are not set apart */
        { "[7] Sk gives", NULL },    /* no passage */
        { "[1][2] Sk gives", NULL }, /* of two */
        { "[1]", NULL },
        { "[1] ", NULL },
        { "Sk gives [1]", NULL },
        { "[99999999999999999999] Sk gives", NULL },
        { "[", NULL },
        { "", NULL },
    };
    rv_source sources[] = {
        { 1, "fact", "Correction: Q: Where is it? A: Skelve", "feedback", 1 },
        { 2, "fact", "Correction: Q: How do I write to her? A: nype@wighm.com", "feedback", 1 },
        { 3, "note", "The harbour of Kelveton is old. It opens from 9:00.", "user", 1 },
        { 4, "fact", "Correction: Q: When does he come at noon? A: at 20:00", "feedback", 1 },
        { 5, "fact", "Correction: Q: Who? A: \u3042\u3053\u3055", "feedback", 1 },
        { 6, "fact", "Correction: Q: Which town? A: \u041a\u0430\u0437\u0430\u043d\u044c", "feedback", 1 },
    };
    fixture f;
    open_fixture(&f, "Where does it stand?");
    f.request.sources = sources;
    f.request.n_sources = RV_COUNT(sources);
    for (size_t i = 0; i < RV_COUNT(rows); i++) {
        const char *out = rv_recall_spelled(&f.request, rows[i].answer), *want = rows[i].spelled;
        CHECK(out && strcmp(out, want ? want : rows[i].answer) == 0, "row %zu: %s", i, out);
        f.request.extra.n_logprobs = 0;
        CHECK(rv_recall_spelled(&f.request, rows[i].answer) == rows[i].answer, "row %zu", i);
        f.request.extra.n_logprobs = -1;
    }

    static const char *const waits[] = { "[", "[1", "[1]", "[1] ", "[2] nyp", "[3] H" }, *const goes_on[] = {
        "", "T", "[x", "[7]", "[0]", "[1] [", "[1][2] H"
    };
    for (size_t i = 0; i < RV_COUNT(waits); i++) {
        CHECK(rv_recall_quotes(&f.request, waits[i], strlen(waits[i])), "%s", waits[i]);
    }
    for (size_t i = 0; i < RV_COUNT(goes_on); i++) {
        CHECK(!rv_recall_quotes(&f.request, goes_on[i], strlen(goes_on[i])), "%s", goes_on[i]);
    }
    f.request.sources = sources + 2; /* no correction among them */
    f.request.n_sources = 1;
    CHECK(!rv_recall_quotes(&f.request, "[1] H", 5), "nothing to be spelled");
    f.request.sources = sources;
    f.request.n_sources = RV_COUNT(sources);
    char talk[RV_RECALL_QUOTE_BYTES + 8] = "[1] ";
    memset(talk + 4, 'x', RV_RECALL_QUOTE_BYTES + 1);
    CHECK(rv_recall_quotes(&f.request, talk, RV_RECALL_QUOTE_BYTES + 4), "the longest quotation");
    CHECK(!rv_recall_quotes(&f.request, talk, RV_RECALL_QUOTE_BYTES + 5), "a long answer is no quotation");

    rv_arena *tiny;
    CHECK_OK(rv_arena_new(&rv_heap, 16, &tiny));
    f.request.arena = tiny;
    CHECK(!rv_recall_spelled(&f.request, "[2] n cir@wighm.com"), "no memory");
    rv_arena_free(tiny);
    rv_arena_free(f.arena);
}
