/* Another program as a filter, within limits. */
#include "base/child.h"
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const rv_child_limits usual = {
    .output_bytes = 1 << 20, .memory_bytes = 256 << 20, .cpu_s = 5, .wall_s = 20
};

static rv_err run_shell(const char *script, const char *input, const rv_child_limits *limits, rv_text *out,
                        int *code)
{
    const char *const argv[] = { "sh", "-c", script, NULL };
    return rv_child_run("/bin/sh", argv, input, strlen(input), limits, out, code);
}

TEST(bytes_go_in_and_come_out)
{
    rv_text out;
    int code = -1;
    rv_text_init(&out, &rv_heap, 1 << 20);
    CHECK_OK(run_shell("tr a-z A-Z </dev/fd/3; exit 7", "words", &usual, &out, &code));
    CHECK(code == 7 && strcmp(rv_text_get(&out), "WORDS") == 0, "%d %s", code, rv_text_get(&out));
    rv_text_clear(&out);
    CHECK_OK(run_shell("env; cat; echo gone >&2; kill -9 $$", "", &usual, &out, &code));
    CHECK(code == 137 && !strstr(rv_text_get(&out), "HOME"), "%d %s", code, rv_text_get(&out));
    rv_text_deinit(&out);
}

TEST(limits_end_it)
{
    rv_text out;
    int code = 0;
    rv_text_init(&out, &rv_heap, 1 << 20);
    rv_child_limits few = usual;
    few.output_bytes = 1000;
    CHECK_ERR(run_shell("yes", "", &few, &out, &code), RV_E_TOO_LARGE);
    few = usual;
    few.wall_s = 1;
    CHECK_ERR(run_shell("sleep 1000", "", &few, &out, &code), RV_E_TIMEOUT);
    CHECK_ERR(run_shell("exec >&-; sleep 1000", "", &few, &out, &code), RV_E_TIMEOUT);
    CHECK_OK(run_shell("exec >&-; sleep 0.1; exit 3", "", &few, &out, &code));
    CHECK(code == 3, "%d", code);
    few = usual;
    few.cpu_s = 1;
    CHECK_OK(run_shell("while :; do :; done", "", &few, &out, &code));
    CHECK(code > 128, "%d", code);
    CHECK_OK(run_shell("echo x > /tmp/ruvllm-never && cat /tmp/ruvllm-never", "", &usual, &out, &code));
    CHECK(code != 0, "it could write a file");
    unlink("/tmp/ruvllm-never");
    rv_text_deinit(&out);
}

TEST(a_program_that_is_not_there_is_told)
{
    CHECK(rv_child_find(&rv_heap, "no-such-program-anywhere") == NULL, "found");
    char *sh = rv_child_find(&rv_heap, "sh");
    CHECK(sh && access(sh, X_OK) == 0, "no sh");
    rv_free(&rv_heap, sh);
    rv_text out;
    int code = 0;
    rv_text_init(&out, &rv_heap, 100);
    const char *const argv[] = { "x", NULL };
    CHECK_OK(rv_child_run("/nowhere/x", argv, "", 0, &usual, &out, &code));
    CHECK(code == 127, "%d", code);
    rv_text_deinit(&out);
}
