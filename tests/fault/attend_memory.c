/* Memory that runs out while weights are made, copied, read or trained: a clean error, and weights as they were. */
#include "test.h"

#include "attend/attend.h"

#include <string.h>

TEST(weights_survive_running_out_of_memory_at_every_call)
{
    float query[4] = { 1 }, vectors[2][4] = { { 1 }, { 0, 1 } };
    bool used[2] = { false, true };
    rv_attend_node nodes[2] = { { .vector = vectors[0] }, { .vector = vectors[1] } };
    nodes[0].evidence[RV_EVIDENCE_PATH] = 1;
    rv_attend_example x = { query, nodes, 2, used };
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_attend_weights *w = NULL, *copy = NULL, *read = NULL;
        double before, after;
        uint8_t file[4096];
        rv_err e = rv_attend_new(&m.alloc, 4, false, 1, &w);
        e = e ? e : rv_attend_copy(w, &copy);
        if (!e) {
            CHECK(rv_attend_file_bytes(w) <= sizeof file, "%zu bytes", rv_attend_file_bytes(w));
            rv_attend_write(w, file);
            e = rv_attend_read(&m.alloc, file, rv_attend_file_bytes(w), &read);
        }
        e = e ? e
              : rv_attend_train(w, rv_kernels_at(RV_CPU_SCALAR), &x, 1, &x, 1, rv_attend_training_default(),
                                &before, &after);
        CHECK((e == RV_E_NOMEM) == m.failed && (e == RV_OK || e == RV_E_NOMEM), "call %ld: %s", m.fail_at,
              rv_err_name(e));
        rv_attend_free(w);
        rv_attend_free(copy);
        rv_attend_free(read);
    }
}
