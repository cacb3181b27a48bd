#include "app/config.h"
#include "base/file.h"
#include "test.h"

#include <string.h>

TEST(loading_a_configuration_survives_running_out_of_memory_at_every_call)
{
    const char *file = source_path("config/server-cpu.toml");
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_config *c = NULL;
        rv_err e = rv_config_load(&m.alloc, file, &c);
        CHECK((e == RV_E_NOMEM) == m.failed, "call %ld: %s %s", m.fail_at, rv_err_name(e), rv_err_text());
        if (!e) {
            CHECK(rv_config_int(c, "memory.hnsw_m") == 32, "call %ld", m.fail_at);
        }
        rv_config_free(c);
    }
}

TEST(setting_a_value_without_memory_keeps_the_old_one)
{
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_config *c = NULL;
        if (rv_config_load(&m.alloc, source_path("config/edge.toml"), &c) == RV_OK) {
            rv_err e = rv_config_set(c, "server.port", "9", "--port");
            CHECK(rv_config_int(c, "server.port") == (e ? 8080 : 9), "call %ld: %s", m.fail_at,
                  rv_err_name(e));
        }
        rv_config_free(c);
    }
}
