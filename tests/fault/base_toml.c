#include "base/toml.h"
#include "test.h"

#include <stdio.h>
#include <string.h>

TEST(a_document_is_read_whole_or_not_at_all_when_memory_runs_out)
{
    static const char text[] =
        "a.b = [1, { c = \"d\" }]\n[e.f]\ng = 2026-01-31\nh = 1_000.5\n[[i]]\n\"j\" = '''k'''\n";
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_toml *doc = NULL;
        rv_err e = rv_toml_parse(&m.alloc, "t.toml", text, strlen(text), &doc);
        CHECK(e == (m.failed ? RV_E_NOMEM : RV_OK), "call %ld: %s", m.fail_at, rv_err_text());
        CHECK((doc == NULL) == m.failed, "call %ld: out", m.fail_at);
        rv_toml_free(doc);
    }
}

TEST(growing_the_key_table_can_fail_too)
{
    char text[4000];
    size_t n = 0;
    for (int i = 0; i < 200; i++) {
        n += (size_t)snprintf(text + n, sizeof text - n, "k%d=1\n", i);
    }
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_toml *doc = NULL;
        rv_err e = rv_toml_parse(&m.alloc, "t.toml", text, n, &doc);
        CHECK(e == (m.failed ? RV_E_NOMEM : RV_OK), "call %ld: %s", m.fail_at, rv_err_text());
        rv_toml_free(doc);
    }
}
