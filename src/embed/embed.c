/* Embedders by name: a table, one row each. */
#include "embed/embed.h"
#include "embed/embed_priv.h"

#include <string.h>

typedef struct kind {
    const char *name;
    size_t dim;
    void (*text)(const char *text, size_t n, float *out);
} kind;

static const kind kinds[] = {
    { "hash", RV_EMBED_HASH_DIM, rv_embed_hash_text },
};

struct rv_embed {
    const rv_alloc *mem;
    const kind *kind;
};

rv_err rv_embed_open(const rv_alloc *mem, const char *name, rv_embed **out)
{
    for (size_t i = 0; i < RV_COUNT(kinds); i++) {
        if (strcmp(kinds[i].name, name) == 0) {
            rv_embed *embed = rv_new(mem, sizeof *embed);
            if (!embed) {
                return rv_fail(RV_E_NOMEM, "no memory for embedder \"%s\"", name);
            }
            *embed = (rv_embed){ .mem = mem, .kind = &kinds[i] };
            *out = embed;
            return RV_OK;
        }
    }
    return rv_fail(RV_E_NOT_FOUND, "there is no embedder \"%s\"; there is: hash", name);
}

void rv_embed_close(rv_embed *embed)
{
    if (embed) {
        rv_free(embed->mem, embed);
    }
}

const char *rv_embed_name(const rv_embed *embed)
{
    return embed->kind->name;
}

size_t rv_embed_dim(const rv_embed *embed)
{
    return embed->kind->dim;
}

rv_err rv_embed_text(const rv_embed *embed, const char *text, size_t n, float *out)
{
    embed->kind->text(text, n, out);
    return RV_OK;
}
