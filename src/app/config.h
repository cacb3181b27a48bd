/* Configuration: one table of keys (section, name, type, range, built-in value, help). Values come from flag, then
 * RUVLLM_SECTION_KEY, then user file, then system file, then built-in; each remembers where it came from. */
#ifndef RV_APP_CONFIG_H
#define RV_APP_CONFIG_H
#include "base/alloc.h"
#include "base/err.h"
#include "base/str.h"
#include "backend/backend.h"

typedef enum rv_config_type { RV_CONFIG_STRING, RV_CONFIG_INT, RV_CONFIG_FLOAT, RV_CONFIG_BOOL, RV_CONFIG_PATH, RV_CONFIG_CHOICE, RV_CONFIG_LIST } rv_config_type;

typedef struct rv_config_key {
    const char *section, *name; /* "server", "port" */
    rv_config_type type;
    double low, high;           /* INT, FLOAT */
    const char *choices;        /* CHOICE: "edge|server|gpu" */
    const char *built_in;       /* as text; NULL: unset */
    const char *help;
    bool active;                /* false: accepted and checked, but what it steers is not there yet (config show says so) */
} rv_config_key;
extern const rv_config_key rv_config_keys[];
extern const size_t rv_config_n_keys;

typedef struct rv_config rv_config;
/** rv_config_load - file: NULL for the usual places. Errors are RV_E_CONFIG: "file:line: section.key: found ..., allowed ...". */
rv_err rv_config_load(const rv_alloc *mem, const char *file, rv_config **out) RV_MUST_CHECK;
void rv_config_free(rv_config *c); /* accepts NULL */
/** rv_config_set - from a flag: key "server.port", value as text; origin is what `config show --origin` prints ("--port"). */
rv_err rv_config_set(rv_config *c, const char *key, const char *value, const char *origin) RV_MUST_CHECK;

const char *rv_config_string(const rv_config *c, const char *key); /* NULL when unset */
int64_t rv_config_int(const rv_config *c, const char *key);
double rv_config_float(const rv_config *c, const char *key);
bool rv_config_bool(const rv_config *c, const char *key);
const char *rv_config_origin(const rv_config *c, const char *key); /* "built-in", "/etc/...:12", "RUVLLM_SERVER_PORT", "--port" */
const char *rv_config_tier(const rv_config *c, int tier); /* [tiers] file, NULL when unset */
const char *rv_config_data_dir(const rv_config *c);       /* absolute; --data, RUVLLM_DATA, system.data_dir, XDG */
#endif
