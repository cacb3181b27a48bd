/* From a text to others that hold the same name. For the folder only. */
#ifndef RV_MEMORY_BRIDGE_H
#define RV_MEMORY_BRIDGE_H
#include "memory/memory_priv.h"

enum { RV_NAME_WORDS = 4, RV_NAME_HOLDERS = 8, RV_BRIDGES_MOST = 32 };

/* What a search has at hand. */
typedef struct rv_bridging {
    const rv_memory *m;
    sqlite3 *conn;
    rv_words *words;
    const char *question;
    size_t question_bytes;
    passing passing;    /* its bits are set, also when there is no filter */
    uint64_t asked[64]; /* [n_asked] the question's stems, by hash; of rv_bridges_of */
    size_t n_asked;
} rv_bridging;

typedef struct rv_bridge {
    int64_t id;
    double part; /* 1 / how many other texts that pass hold the name: 1 .. 1 / RV_NAME_HOLDERS */
} rv_bridge;

typedef struct rv_bridges {
    rv_bridge at[RV_BRIDGES_MOST]; /* [n] each text once, with the rarest name it is found by */
    size_t n;
} rv_bridges;

/** rv_bridges_of - the texts that pass and hold a name of this text which is not in the question. Of what more than RV_NAME_HOLDERS hold none.
 * Looks at the beginning of the text only, so that its length does not matter.
 * Errors: RV_E_NOMEM; what the database says. Under state. */
rv_err rv_bridges_of(rv_bridging *b, int64_t id, rv_bridges *out) RV_MUST_CHECK;
#endif
