/* A request whose arena runs out at every call in turn: refused cleanly, or answered with notes, never half recorded. */
#include "pipeline/pipeline.h"
#include "store/witness.h"
#include "test.h"

#include <stdio.h>
#include <string.h>

static rv_err embed_text(const void *self, const char *text, size_t n, float *out)
{
    return rv_embed_text(self, text, n, out);
}

static void open_pipeline(rv_pipeline *p)
{
    const char *dir = temp_dir(), *model = source_path("tests/data/golden/a-q8_0.gguf");
    rv_backend_options how = {
        .threads = 1, .max_context = 512, .kv_type = RV_F16, .max_loaded = 1, .files = &model, .n_files = 1
    };
    *p = (rv_pipeline){ .learning = true };
    CHECK_OK(rv_db_open(&rv_heap, dir, &p->db));
    CHECK_OK(rv_embed_open(&rv_heap, "hash", &p->embed));
    rv_memory_embedder embedder = { rv_embed_name(p->embed), rv_embed_dim(p->embed), embed_text, p->embed };
    CHECK_OK(rv_memory_open(&rv_heap, p->db, dir, embedder, &p->memory));
    CHECK_OK(rv_backend_open(&rv_heap, &how, &p->backend));
    CHECK_OK(rv_pipeline_setup(p));
    for (int i = 0; i < 40; i++) { /* enough text that the arena needs several blocks */
        char text[2000];
        size_t n = (size_t)snprintf(text, sizeof text, "The lamp number %d is green.", i);
        memset(text + n, ' ', sizeof text - 2 - n);
        text[sizeof text - 2] = '.';
        text[sizeof text - 1] = 0;
        rv_memory_new node = { .type = "note", .text = text, .source = "user" };
        int64_t id;
        bool added;
        CHECK_OK(rv_memory_add(p->memory, rv_memory_of(NULL), &node, &id, &added));
    }
}

static void close_pipeline(rv_pipeline *p)
{
    rv_backend_close(p->backend);
    rv_memory_close(p->memory);
    rv_db_close(p->db);
    rv_embed_close(p->embed);
}

/* All of a request is recorded or nothing is. */
static void check_record(rv_pipeline *p, const rv_request *r, bool answered)
{
    rv_arena *arena = NULL;
    rv_episode episode;
    rv_witness_record *records = NULL;
    size_t n = 0;
    CHECK_OK(rv_arena_new(&rv_heap, 1 << 20, &arena));
    bool has_episode = rv_episode_get(p->db, r->request_id, arena, &episode) == RV_OK;
    CHECK_OK(rv_witness_get(p->db, r->request_id, arena, &records, &n));
    CHECK(has_episode == (n == 1), "episode %d, %zu witness records", has_episode, n);
    CHECK(answered || !has_episode, "recorded, but not answered");
    CHECK(!answered || has_episode || r->stage_note[RV_STAGE_LEARN], "not recorded, and not said so");
    rv_arena_free(arena);
}

TEST(an_arena_that_cannot_grow_is_a_clean_error_or_a_note)
{
    rv_pipeline p;
    open_pipeline(&p);
    size_t answered = 0;
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_arena *arena = NULL;
        rv_request r = { .query = NULL };
        rv_err e = rv_arena_new(&m.alloc, 1 << 20, &arena);
        if (!e) {
            CHECK_OK(rv_request_init(&r, arena));
            r.query = "Which lamp is green?";
            r.max_tokens = 2;
            e = rv_pipeline_run(&p, &r);
            check_record(&p, &r, e == RV_OK);
            answered += e == RV_OK;
        }
        CHECK(e == RV_OK || (e == RV_E_NOMEM && m.failed), "call %ld: %s %s", m.fail_at, rv_err_name(e),
              rv_err_text());
        rv_arena_free(arena);
    }
    CHECK(answered > 0, "never answered");
    uint64_t count;
    CHECK_OK(rv_witness_verify(p.db, &count));
    close_pipeline(&p);
}

TEST(an_arena_too_small_by_any_amount_is_a_clean_error_or_a_note)
{
    rv_pipeline p;
    open_pipeline(&p);
    size_t answered = 0, refused = 0;
    for (size_t bytes = 64; bytes < 200000; bytes += bytes / 3) {
        rv_arena *arena = NULL;
        rv_request r;
        CHECK_OK(rv_arena_new(&rv_heap, bytes, &arena));
        CHECK_OK(rv_request_init(&r, arena));
        r.query = "Which lamp is green?";
        r.max_tokens = 2;
        rv_err e = rv_pipeline_run(&p, &r);
        CHECK(e == RV_OK || e == RV_E_NOMEM, "%zu bytes: %s %s", bytes, rv_err_name(e), rv_err_text());
        check_record(&p, &r, e == RV_OK);
        answered += e == RV_OK;
        refused += e != RV_OK;
        rv_arena_free(arena);
    }
    CHECK(answered > 0 && refused > 0, "%zu answered, %zu refused", answered, refused);
    close_pipeline(&p);
}
