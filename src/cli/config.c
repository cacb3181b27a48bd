/* config check, config show */
#include "cli/cli.h"

#include "base/json.h"

#include <string.h>

/* A file that is well made may be for another machine, so what it names and is not here is said and is no fault of the file's. */
int cmd_config_check(cmd_line *line)
{
    rv_config *config = NULL;
    rv_err e = line->n_args ? rv_config_load(&rv_heap, line->args[0], &config) : cmd_config(line, &config);
    if (e) {
        return cmd_fail(e);
    }
    const char *missing = rv_app_check(config) ? rv_err_text() : NULL;
    if (line->json) {
        cmd_print(json_pack("{s:b, s:b, s:s*}", "ok", 1, "starts", missing == NULL, "why", missing));
    } else if (missing) {
        printf("well made, but nothing starts with it here: ");
        cmd_safe(stdout, missing, strlen(missing));
        putchar('\n');
    } else {
        printf("fine\n");
    }
    rv_config_free(config);
    return CMD_DONE;
}

static void show_value(const cmd_line *line, const char *key, const char *value, const char *origin,
                       bool active)
{
    if (line->json) {
        json_t *row =
            json_pack("{s:s, s:s?, s:s, s:b}", "key", key, "value", value, "origin", origin, "used", active);
        cmd_print(row);
        return;
    }
    printf("%s = ", key);
    cmd_safe(stdout, value ? value : "(unset)", strlen(value ? value : "(unset)"));
    if (cmd_has(line, "origin")) {
        printf("    # %s", origin);
    }
    printf("%s\n", active ? "" : "    # not used yet");
}

int cmd_config_show(cmd_line *line)
{
    rv_config *config = NULL;
    rv_err e = cmd_config(line, &config);
    if (e) {
        return cmd_fail(e);
    }
    for (size_t i = 0; i < rv_config_n_keys; i++) {
        const rv_config_key *k = &rv_config_keys[i];
        char key[128];
        snprintf(key, sizeof key, "%s.%s", k->section, k->name);
        show_value(line, key, rv_config_string(config, key), rv_config_origin(config, key), k->active);
    }
    rv_config_free(config);
    return CMD_DONE;
}
