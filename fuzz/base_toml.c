/* Any bytes are a document or a mistake that names its line; never anything else, and nothing stays behind. */
#include "base/toml.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    rv_toml *doc = NULL;
    rv_err e = rv_toml_parse(&rv_heap, "f", (const char *)data, n, &doc);
    if (e) {
        assert(!doc && (e == RV_E_FORMAT || e == RV_E_TOO_LARGE) && strncmp(rv_err_text(), "f:", 2) == 0);
        return 0;
    }
    /* The tree hangs together: a child's line is inside the document, keys of a table are different from empty views. */
    const rv_toml_value *v = rv_toml_root(doc);
    for (const rv_toml_value *c = v->child; c; c = c->next) {
        assert(c->line >= 1 && (size_t)c->line <= n + 1 && c->key.at);
        assert(rv_utf8_valid(c->key.at, c->key.n));
        assert(c->type != RV_TOML_STRING || rv_utf8_valid(c->string.at, c->string.n));
    }
    rv_toml_free(doc);
    return 0;
}
