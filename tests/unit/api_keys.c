/* Keys are read from lines, lines that are wrong are named without the key in them, and a header is somebody's or nobody's. */
#include "api/keys.h"
#include "test.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define ANNA "anna-0123456789abcdef"
#define BERT "bert-0123456789abcdef"

static rv_err read_text(const char *text, mode_t mode, rv_api_keys **out)
{
    const char *path = temp_path("keys");
    FILE *f = fopen(path, "w");
    CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0 && chmod(path, mode) == 0, "%s", path);
    return rv_api_keys_read(&rv_heap, path, out);
}

TEST(a_key_is_found_by_its_header_and_others_are_nobodys)
{
    rv_api_keys *keys;
    CHECK_OK(read_text("# ours\nanna " ANNA "\n\n  bert\t" BERT "  \n", 0600, &keys));
    static const struct {
        const char *header, *name;
    } cases[] = { { "Bearer " ANNA, "anna" },
                  { "bearer  " BERT " ", "bert" },
                  { NULL, NULL },
                  { "", NULL },
                  { "Bearer ", NULL },
                  { "Bearer wrong", NULL },
                  { "Basic " ANNA, NULL },
                  { ANNA, NULL },
                  { "Bearer " ANNA "x", NULL },
                  { "Bearer anna-0123456789abcde", NULL } };
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        const char *found = rv_api_keys_find(keys, cases[i].header);
        CHECK((found == NULL) == (cases[i].name == NULL) && (!found || strcmp(found, cases[i].name) == 0),
              "case %zu: %s", i, found ? found : "nobody's");
    }
    rv_api_keys_free(keys);
    rv_api_keys_free(NULL);
}

TEST(wrong_files_are_refused_by_line_and_no_key_is_shown)
{
    static const struct {
        const char *text, *says;
    } cases[] = { { "", "no key" },
                  { "# nothing\n", "no key" },
                  { "anna " ANNA "\nbert short\n", ":2:" },
                  { "anna\n", ":1:" },
                  { "an/na " ANNA "\n", ":1:" },
                  { "anna " ANNA " more\n", ":1:" },
                  { "anna " ANNA "\nanna " BERT "\n", ":2:" },
                  { "anna " ANNA "\nbert " ANNA "\n", ":2:" } };
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        rv_api_keys *keys;
        CHECK_ERR(read_text(cases[i].text, 0600, &keys), RV_E_CONFIG);
        CHECK(strstr(rv_err_text(), cases[i].says) && !strstr(rv_err_text(), "0123456789"), "case %zu: %s", i,
              rv_err_text());
    }
    rv_api_keys *keys;
    CHECK_ERR(read_text("anna " ANNA "\n", 0644, &keys), RV_E_CONFIG);
    CHECK(strstr(rv_err_text(), "chmod 600"), "%s", rv_err_text());
    CHECK(rv_api_keys_read(&rv_heap, "/nowhere/keys", &keys) != RV_OK, "there is no such file");
}

TEST(without_memory_no_keys_are_read)
{
    const char *path = temp_path("keys");
    FILE *f = fopen(path, "w");
    CHECK(f && fputs("anna " ANNA "\n", f) >= 0 && fclose(f) == 0 && chmod(path, 0600) == 0, "%s", path);
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_api_keys *keys = NULL;
        rv_err e = rv_api_keys_read(&m.alloc, path, &keys);
        CHECK((e == RV_E_NOMEM) == m.failed, "call %ld: %s", m.fail_at, rv_err_name(e));
        rv_api_keys_free(keys);
    }
}
