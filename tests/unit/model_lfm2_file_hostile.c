/* Every malformed file of the hostile corpus is refused with a sentence that names what is wrong, and every sound one is
 * accepted, as its manifest says. The corpus is written by a Python script beside the repository. */
#include "base/json.h"
#include "model/chat.h"
#include "model/lfm2_file.h"
#include "model/tok.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Everything that a run needs of a file. */
static rv_err open_all(const char *path)
{
    rv_lfm2_file *f = NULL;
    rv_tok *tok = NULL;
    rv_chat_family family;
    rv_err e = rv_lfm2_file_open(&rv_heap, path, true, &f);
    e = e ? e : rv_tok_open(&rv_heap, f->gguf, &tok);
    e = e ? e : rv_chat_family_of(f->gguf, &family);
    rv_tok_close(tok);
    rv_lfm2_file_close(f);
    return e;
}

/* Each group of the manifest's "must" has a word that the sentence holds, whatever the case of its letters. */
static const char *missing_group(const json_t *must, const char *text)
{
    for (size_t g = 0; g < json_array_size(must); g++) {
        const json_t *words = json_array_get(must, g);
        bool any = false;
        for (size_t w = 0; w < json_array_size(words); w++) {
            any = any || strcasestr(text, json_string_value(json_array_get(words, w)));
        }
        if (!any) {
            return json_string_value(json_array_get(words, 0));
        }
    }
    return NULL;
}

TEST(every_hostile_file_is_refused_for_the_right_reason)
{
    const char *script = shared_path("hostile/make_hostile_gguf.py");
    if (!script || system("command -v python3 > /dev/null") != 0) {
        SKIP("needs python3 and ../shared/hostile/make_hostile_gguf.py");
    }
    const char *dir = temp_dir();
    char command[4096], path[4096], *line = NULL;
    size_t room = 0;
    int n = 0, n_bad = 0;
    snprintf(command, sizeof command, "python3 '%s' gen '%s' > /dev/null", script, dir);
    CHECK(system(command) == 0, "%s", command);
    snprintf(path, sizeof path, "%s/manifest.jsonl", dir);
    FILE *manifest = fopen(path, "r");
    CHECK(manifest, "%s", path);
    while (getline(&line, &room, manifest) > 0) {
        json_t *row = NULL;
        CHECK_OK(rv_json_parse(line, strlen(line), &row));
        const char *file = json_string_value(json_object_get(row, "file"));
        const char *expect = json_string_value(json_object_get(row, "expect"));
        snprintf(path, sizeof path, "%s/%s", dir, file);
        rv_err e = open_all(path);
        const char *text = e ? rv_err_text() : "",
                   *missing = missing_group(json_object_get(row, "must"), text);
        bool wrong = (strcmp(expect, "reject") == 0 && (!e || missing)) || (strcmp(expect, "load") == 0 && e);
        for (const char *c = text; *c; c++) {
            wrong = wrong || (unsigned char)*c < 0x20 || *c == 0x7f;
        }
        if (wrong) {
            print_message("# %s: expected %s, word '%s', got %s: %s\n", file, expect, missing ? missing : "",
                          rv_err_name(e), text);
            n_bad++;
        }
        n++;
        json_decref(row);
    }
    free(line);
    fclose(manifest);
    CHECK(n > 200 && n_bad == 0, "%d of %d files", n_bad, n);
}
