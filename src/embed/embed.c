/* Embedders by name or file. */
#include "embed/embed.h"
#include "embed/embed_priv.h"

#include <string.h>

struct rv_embed {
    const rv_alloc *mem;
    rv_static *table; /* NULL: the hash */
};

static bool is_file(const char *name)
{
    static const char ending[] = ".rvemb";
    size_t n = strlen(name), n_ending = sizeof ending - 1;
    return strchr(name, '/') || (n > n_ending && strcmp(name + n - n_ending, ending) == 0);
}

rv_err rv_embed_open(const rv_alloc *mem, const char *name, rv_embed **out)
{
    bool file = is_file(name);
    if (!file && strcmp(name, "hash") != 0) {
        return rv_fail(RV_E_NOT_FOUND, "there is no embedder \"%s\"; there is: hash, or a file NAME.rvemb",
                       name);
    }
    rv_embed *embed = rv_new(mem, sizeof *embed);
    if (!embed) {
        return rv_fail(RV_E_NOMEM, "no memory for embedder \"%s\"", name);
    }
    *embed = (rv_embed){ .mem = mem };
    rv_err e = file ? rv_static_open(mem, name, &embed->table) : RV_OK;
    if (e) {
        rv_embed_close(embed);
        return e;
    }
    *out = embed;
    return RV_OK;
}

void rv_embed_close(rv_embed *embed)
{
    if (embed) {
        rv_static_close(embed->table);
        rv_free(embed->mem, embed);
    }
}

const char *rv_embed_name(const rv_embed *embed)
{
    return embed->table ? rv_static_name(embed->table) : "hash";
}

size_t rv_embed_dim(const rv_embed *embed)
{
    return embed->table ? rv_static_dim(embed->table) : RV_EMBED_HASH_DIM;
}

static void count_token(void *self, uint32_t token)
{
    (void)token;
    ++*(size_t *)self;
}

size_t rv_embed_tokens(const rv_embed *embed, const char *text, size_t n)
{
    size_t tokens = 0;
    if (embed->table) {
        rv_static_tokens(embed->table, text, n, count_token, &tokens);
    }
    return tokens;
}

rv_err rv_embed_text(const rv_embed *embed, const char *text, size_t n, float *out)
{
    if (embed->table) {
        rv_static_text(embed->table, text, n, out);
    } else {
        rv_embed_hash_text(text, n, out);
    }
    return RV_OK;
}
