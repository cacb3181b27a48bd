/* Memory that runs out while the workers are started: a clean error, and no thread left behind. */
#include "test.h"

#include "api/api.h"

TEST(an_api_without_memory_is_not_there)
{
    rv_pipeline pipeline = { 0 };
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_api *api = NULL;
        rv_err e = rv_api_new(&m.alloc, &pipeline,
                              (rv_api_options){ .workers = 3, .max_queue = 1, .version = "t" }, &api);
        CHECK((e == RV_E_NOMEM) == m.failed, "call %ld: %s", m.fail_at, rv_err_name(e));
        rv_api_free(api);
    }
}
