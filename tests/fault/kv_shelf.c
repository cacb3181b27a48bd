/* Without memory a conversation is not read now; its file is no worse for it. */
#include "kv/shelf.h"
#include "base/log.h"
#include "test.h"

enum { TOKENS = 40 };
static const uint32_t heads[] = { 1, 0 };
static const rv_shelf_key key = { 1, 2, 0, 0 };

static rv_kv_seq *new_seq(rv_kv *kv)
{
    rv_kv_seq *seq = NULL;
    CHECK_OK(rv_kv_seq_new(kv, TOKENS, &seq));
    return seq;
}

TEST(every_failed_allocation_of_writing_and_reading_leaves_what_is_there)
{
    rv_kv_shape shape = {
        .type = RV_F32, .n_layers = 2, .n_kv_heads = heads, .head_dim = 4, .conv_channels = 4, .conv_taps = 3
    };
    rv_budget *budget = NULL;
    rv_kv *kv = NULL;
    rv_kv_outline outline;
    rv_shelf *s = NULL;
    int32_t ids[TOKENS] = { 1, 2, 3 };
    const char *dir = temp_path("kv");
    rv_log_setup(RV_LOG_ERROR, false);
    CHECK_OK(rv_budget_new(&rv_heap, 1 << 20, &budget));
    CHECK_OK(rv_kv_new(&rv_heap, &shape, budget, &kv));
    rv_kv_seq *seq = new_seq(kv);
    CHECK_OK(rv_kv_reserve(seq, TOKENS));
    rv_kv_advance(seq, TOKENS);
    rv_kv_outline_get(seq, &outline);
    CHECK_OK(rv_shelf_open(&rv_heap, dir, 1 << 24, &s));
    CHECK_OK(rv_shelf_write(s, &key, &outline, ids, seq));
    rv_shelf_close(s);
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_kv_seq *again = new_seq(kv);
        rv_shelf_find found;
        rv_err e = rv_shelf_open(&m.alloc, dir, 1 << 24, &s);
        if (!e) {
            CHECK(rv_shelf_look(s, &key, ids, TOKENS, &found), "call %ld: the file is gone", m.fail_at);
            CHECK_OK(rv_kv_rebuild(again, &found.outline));
            e = rv_shelf_read(s, &key, &found, again, ids);
            e = e ? e : rv_shelf_write(s, &key, &outline, ids, seq);
            CHECK(rv_shelf_get_stats(s).files == 1, "call %ld: %zu files", m.fail_at,
                  rv_shelf_get_stats(s).files);
            rv_shelf_close(s);
        }
        CHECK(e == RV_OK || (e == RV_E_NOMEM && m.failed), "call %ld: %s: %s", m.fail_at, rv_err_name(e),
              rv_err_text());
        rv_kv_seq_free(again);
    }
    rv_kv_seq_free(seq);
    rv_kv_free(kv);
    rv_budget_free(budget);
}
