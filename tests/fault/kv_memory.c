#include "kv/kv.h"
#include "test.h"

TEST(every_failed_allocation_is_a_clean_error)
{
    static const uint32_t heads[] = { 1, 0 };
    rv_kv_shape shape = {
        .type = RV_F32, .n_layers = 2, .n_kv_heads = heads, .head_dim = 4, .conv_channels = 4, .conv_taps = 3
    };
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_budget *budget = NULL;
        rv_kv *kv = NULL;
        rv_kv_seq *seq = NULL;
        rv_err e = rv_budget_new(&m.alloc, 1 << 16, &budget);
        if (!e) {
            e = rv_kv_new(&m.alloc, &shape, budget, &kv);
        }
        if (!e) {
            e = rv_kv_seq_new(kv, 40, &seq);
        }
        if (!e) {
            e = rv_kv_reserve(seq, 40);
        }
        if (!e) {
            bool failed = m.failed;
            float *mark = rv_kv_mark(seq, 3);
            CHECK((mark == NULL) == (m.failed && !failed), "a mark is missing only without memory");
            rv_kv_advance(seq, 40);
            rv_err check = rv_kv_check(kv);
            CHECK(check == RV_OK || check == RV_E_NOMEM, "%s", rv_err_text());
        }
        CHECK(e == RV_OK || e == RV_E_NOMEM, "call %ld: %s", m.fail_at, rv_err_name(e));
        rv_kv_seq_free(seq);
        rv_kv_free(kv);
        rv_budget_free(budget);
    }
}
