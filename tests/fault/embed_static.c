/* Opening an embedder file while the 1st, 2nd, 3rd... allocation fails: a clean error each time, nothing held. */
#include "embed/embed.h"
#include "embed_static_make.h"
#include "test.h"

TEST(opening_reports_that_memory_ran_out)
{
    made_file f = make_file();
    const char *path = write_file(f.at, f.n);
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_embed *embed = NULL;
        rv_err e = rv_embed_open(&m.alloc, path, &embed);
        CHECK((e == RV_E_NOMEM) == m.failed, "call %ld: %s", m.fail_at, rv_err_name(e));
        CHECK((embed != NULL) == !e, "call %ld: %s", m.fail_at, rv_err_name(e));
        rv_embed_close(embed);
    }
    unlink(path);
}

TEST(a_folder_an_empty_file_and_no_file_are_refused)
{
    rv_embed *embed = NULL;
    CHECK_ERR(rv_embed_open(&rv_heap, "/tmp/", &embed), RV_E_IO);
    const char *path = write_file((const uint8_t *)"", 0);
    CHECK_ERR(rv_embed_open(&rv_heap, path, &embed), RV_E_FORMAT);
    unlink(path);
    CHECK_ERR(rv_embed_open(&rv_heap, path, &embed), RV_E_NOT_FOUND);
    CHECK(!embed && strstr(rv_err_text(), path), "%s", rv_err_text());
}
