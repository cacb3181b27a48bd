/* Configuration: one table of keys (section, name, type, range, built-in value, help). Values come from flag, then
 * RUVLLM_SECTION_KEY, then user file, then system file, then built-in; each remembers where it came from.
 *
 * The user file is $RUVLLM_CONFIG, or $RUVLLM_DATA/ruvllm.toml when RUVLLM_DATA puts everything under one folder, or
 * $XDG_CONFIG_HOME/ruvllm/ruvllm.toml; the system file is /etc/ruvllm/ruvllm.toml. Both may be absent, unless named by
 * RUVLLM_CONFIG. A relative path in a file starts at that file's folder, one in a flag or the environment at the
 * current folder; "~/" is the home folder. */
#ifndef RV_APP_CONFIG_H
#define RV_APP_CONFIG_H
#include "base/alloc.h"
#include "base/err.h"
#include "base/str.h"
#include "backend/backend.h"

/* PATH: made absolute.  MODEL: a tier, a name, a URL, or (with a slash or ~) a path made absolute.  ADDRESS: IPv4, IPv6
 * or "localhost".  URL: of http or https.  CHOICE: one of choices.  LIST: of strings out of choices. */
typedef enum rv_config_type {
    RV_CONFIG_STRING,
    RV_CONFIG_INT,
    RV_CONFIG_FLOAT,
    RV_CONFIG_BOOL,
    RV_CONFIG_PATH,
    RV_CONFIG_MODEL,
    RV_CONFIG_ADDRESS,
    RV_CONFIG_URL,
    RV_CONFIG_CHOICE,
    RV_CONFIG_LIST
} rv_config_type;

typedef struct rv_config_key {
    const char *section, *name; /* "server", "port" */
    rv_config_type type;
    double low, high;     /* INT, FLOAT */
    const char *choices;  /* CHOICE, LIST: "edge|server|gpu" */
    const char *built_in; /* as text; NULL: unset */
    const char *help;
    bool active; /* false: accepted and checked, but what it steers is not there yet (config show says so) */
    bool
        zero_asks; /* INT: 0 is also allowed in a flag or the environment ("pick one for me"), never in a file */
} rv_config_key;
extern const rv_config_key rv_config_keys[];
extern const size_t rv_config_n_keys;

typedef struct rv_config rv_config;

/**
 * rv_config_load - read files and environment.
 *
 * file  only this file, which must be there; NULL: the usual places (top of this header)
 * out   freed with rv_config_free
 *
 * Errors:  RV_E_CONFIG "file:line: section.key: found ..., allowed ..." for an unknown section or key (with the name that
 *          was probably meant), a wrong type, a value out of range, a file that is no TOML or cannot be read, and a
 *          variable RUVLLM_<known section>_<unknown key>.  RV_E_NOMEM.
 * Threads: one thread at a time.
 */
rv_err rv_config_load(const rv_alloc *mem, const char *file, rv_config **out) RV_MUST_CHECK;
void rv_config_free(rv_config *c); /* accepts NULL */

/** rv_config_set - from a flag: key "server.port", value as text; origin is what `config show --origin` prints ("--port").
 * A list is given with commas. Errors as rv_config_load; the configuration is as before. */
rv_err rv_config_set(rv_config *c, const char *key, const char *value, const char *origin) RV_MUST_CHECK;

/* Values: key is one of the table ("server.port"); asking for another is a mistake in our code. */
/** rv_config_string - of any type, as text (lists with commas); NULL when unset. Valid until the key is set again. */
const char *rv_config_string(const rv_config *c, const char *key);
int64_t rv_config_int(const rv_config *c, const char *key);
double rv_config_float(const rv_config *c, const char *key);
bool rv_config_bool(const rv_config *c, const char *key);
/** rv_config_origin - "built-in", "/etc/ruvllm/ruvllm.toml:12", "RUVLLM_SERVER_PORT", "--port". */
const char *rv_config_origin(const rv_config *c, const char *key);
/** rv_config_tier - the model given for a tier 0..3 in [tiers], NULL when unset. */
const char *rv_config_tier(const rv_config *c, int tier);
/** rv_config_data_dir - absolute; --data, RUVLLM_DATA, system.data_dir, $XDG_DATA_HOME/ruvllm, ~/.local/share/ruvllm. */
const char *rv_config_data_dir(const rv_config *c);

/** rv_config_packed_dir - where packed weights are kept, or NULL when they are not (or there is no memory): below the data
 * folder when one was named, else $XDG_CACHE_HOME/ruvllm or ~/.cache/ruvllm. Allocated. */
char *rv_config_packed_dir(const rv_config *c, const rv_alloc *mem);

/** rv_config_user_file - where the user's file is or would be (see the top); the one given to rv_config_load, if any. */
const char *rv_config_user_file(const rv_config *c);
/** rv_config_write_template - a file with every active key, commented out, with its help and built-in value; 0600, missing
 * folders are made. Errors: RV_E_ARG it is there already.  RV_E_IO. */
rv_err rv_config_write_template(const rv_config *c, const char *path) RV_MUST_CHECK;
#endif
