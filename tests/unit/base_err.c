#include "base/err.h"
#include "test.h"

#include <pthread.h>
#include <string.h>

TEST(every_code_has_a_name_a_status_and_a_type)
{
    static const rv_err codes[] = {
#define CODE(name, status, type, text) RV_E_##name,
        RV_ERR_MAP(CODE)
#undef CODE
    };
    for (size_t i = 0; i < RV_COUNT(codes); i++) {
        CHECK(strlen(rv_err_name(codes[i])) > 1, "code %d", codes[i]);
        CHECK(rv_err_http(codes[i]) >= 400 && rv_err_http(codes[i]) < 600, "%s: %d", rv_err_name(codes[i]),
              rv_err_http(codes[i]));
        CHECK(strstr(rv_err_type(codes[i]), "error"), "%s: %s", rv_err_name(codes[i]), rv_err_type(codes[i]));
    }
    CHECK(strcmp(rv_err_name(RV_E_NOT_FOUND), "NOT_FOUND") == 0 && rv_err_http(RV_E_NOT_FOUND) == 404,
          "NOT_FOUND");
    CHECK(strcmp(rv_err_name(RV_OK), "OK") == 0 && rv_err_http(RV_OK) == 200, "OK");
    CHECK(strcmp(rv_err_name((rv_err)999), "IO") == 0, "an unknown code is no crash");
}

TEST(the_sentence_is_kept_and_can_be_put_into_the_next)
{
    CHECK(rv_fail(RV_E_FORMAT, "%s: version %d", "a.gguf", 9) == RV_E_FORMAT, "the code is returned");
    CHECK(strcmp(rv_err_text(), "a.gguf: version 9") == 0, "%s", rv_err_text());
    CHECK_ERR(rv_fail(RV_E_IO, "opening: %s", rv_err_text()), RV_E_IO);
    CHECK(strcmp(rv_err_text(), "opening: a.gguf: version 9") == 0, "%s", rv_err_text());
    CHECK_ERR(rv_err_set_text(RV_E_ARG, "from elsewhere\n"), RV_E_ARG);
    CHECK(strcmp(rv_err_text(), "from elsewhere\\n") == 0, "%s", rv_err_text());
    CHECK_ERR(rv_err_set_text(RV_E_ARG, rv_err_text()), RV_E_ARG);
    CHECK(strcmp(rv_err_text(), "from elsewhere\\n") == 0, "setting it to itself: %s", rv_err_text());
    CHECK_ERR(rv_err_set_text(RV_E_ARG, NULL), RV_E_ARG);
    CHECK(strcmp(rv_err_text(), "") == 0, "%s", rv_err_text());
}

TEST(names_from_outside_cannot_write_to_the_terminal)
{
    (void)rv_fail(RV_E_FORMAT, "%s", "\x1b]0;owned\x07 \xff \xc3\xa4 a\tb\r\n");
    CHECK(strcmp(rv_err_text(), "\\u001b]0;owned\\u0007 \\xff \xc3\xa4 a\\tb\\r\\n") == 0, "%s",
          rv_err_text());
}

TEST(long_sentences_are_cut_between_characters)
{
    char text[5000];
    for (size_t shift = 0; shift < 4; shift++) {
        memset(text, 'x', shift);
        for (size_t i = shift; i + 2 < sizeof text; i += 2) {
            memcpy(text + i, "\xc3\xa4", 3);
        }
        (void)rv_fail(RV_E_FORMAT, "%s", text);
        size_t n = strlen(rv_err_text());
        CHECK(n >= 1020 && n <= 1023, "%zu bytes kept", n);
        CHECK(strncmp(rv_err_text(), text, n) == 0, "a character was cut: ...%s", rv_err_text() + n - 8);
        (void)rv_err_set_text(RV_E_FORMAT, text);
        CHECK(strlen(rv_err_text()) == n, "%zu", strlen(rv_err_text()));
    }
}

static void *fail_elsewhere(void *arg)
{
    *(int *)arg = rv_err_text()[0] == 0;
    (void)rv_fail(RV_E_IO, "another thread");
    return NULL;
}

TEST(each_thread_has_its_own_sentence)
{
    pthread_t thread;
    int empty = 0;
    (void)rv_fail(RV_E_IO, "this thread");
    CHECK(pthread_create(&thread, NULL, fail_elsewhere, &empty) == 0, "pthread_create");
    pthread_join(thread, NULL);
    CHECK(empty, "a new thread has no sentence");
    CHECK(strcmp(rv_err_text(), "this thread") == 0, "%s", rv_err_text());
}

static rv_err tried(rv_err code, int *after)
{
    RV_TRY(code);
    *after = 1;
    return RV_OK;
}

TEST(try_passes_errors_on)
{
    int after = 0;
    CHECK_ERR(tried(RV_E_FULL, &after), RV_E_FULL);
    CHECK(!after, "went on");
    CHECK_OK(tried(RV_OK, &after));
    CHECK(after, "did not go on");
}
