/* list, show, embed, version */
#include "cli/cli.h"

#include "base/json.h"

#include <stdlib.h>
#include <string.h>

int cmd_list(cmd_line *line)
{
    rv_config *config = NULL;
    rv_app *app = NULL;
    rv_err e = cmd_open(line, RV_APP_MODELS, &config, &app);
    if (e) {
        return cmd_fail(e);
    }
    rv_backend_model models[256];
    size_t n = rv_backend_models(rv_app_pipeline(app)->backend, models, RV_COUNT(models));
    n = n < RV_COUNT(models) ? n : RV_COUNT(models);
    if (!line->json) {
        if (n == 0) {
            fprintf(stderr,
                    "No models. Name files under [tiers] in the configuration, or `ruvllm run FILE.gguf`.\n");
        } else {
            printf("%-20s %-6s %10s  %s\n", "NAME", "TIER", "SIZE", "FILE");
        }
    }
    for (size_t i = 0; i < n; i++) {
        const rv_backend_model *m = &models[i];
        const char *tier = m->tier >= 0 ? rv_tier_names[m->tier] : "-";
        char *whole = realpath(m->path, NULL);
        const char *path = whole ? whole : m->path;
        if (line->json) {
            json_t *row = json_pack("{s:s, s:s, s:I, s:s, s:b}", "id", m->id, "tier", tier, "bytes",
                                    (json_int_t)m->file_bytes, "path", path, "loaded", m->loaded);
            cmd_print(row);
        } else {
            char size[16];
            cmd_bytes(size, m->file_bytes);
            printf("%-20s %-6s %10s  ", m->id, tier, size);
            cmd_safe(stdout, path, strlen(path));
            putchar('\n');
        }
        free(whole);
    }
    cmd_close(config, app);
    return CMD_DONE;
}

static const char *family_name(rv_chat_family family)
{
    return family == RV_CHAT_LFM2 ? "lfm2" : family == RV_CHAT_LFM2_5 ? "lfm2.5" : "none";
}

/* "Q8_0 44, F32 23": how many tensors of each type */
static void type_counts(const rv_gguf *g, rv_text *out)
{
    size_t count[RV_TYPE_LIMIT] = { 0 };
    for (size_t i = 0; i < rv_gguf_tensor_count(g); i++) {
        count[rv_gguf_tensor_at(g, i)->type]++;
    }
    for (uint32_t t = 0; t < RV_TYPE_LIMIT; t++) {
        if (count[t]) {
            rv_text_addf(out, "%s%s %zu", out->n ? ", " : "", rv_type_get(t)->name, count[t]);
        }
    }
}

static void show(const cmd_line *line, const rv_lfm2_file *f, const rv_tok *tok, rv_chat_family family)
{
    const rv_lfm2_shape *s = &f->shape;
    rv_str name = rv_str_from("");
    rv_err ignored = rv_gguf_get_string(f->gguf, "general.name", &name, &(bool){ false });
    (void)ignored; /* a file without a name is fine */
    size_t attention = 0;
    for (uint32_t l = 0; l < s->n_layers; l++) {
        attention += s->n_kv_heads[l] > 0;
    }
    rv_text types;
    rv_text_init(&types, &rv_heap, 4096);
    type_counts(f->gguf, &types);
    if (line->json) {
        json_t *kv_heads = json_array();
        for (uint32_t l = 0; l < s->n_layers; l++) {
            json_array_append_new(kv_heads, json_integer(s->n_kv_heads[l]));
        }
        json_t *row = json_pack(
            "{s:s, s:s%, s:s, s:i, s:I, s:I, s:I, s:i, s:i, s:i, s:i, s:i, s:o, s:i, s:f, s:f, s:i, s:I, "
            "s:i, s:s, s:s}",
            "path", rv_gguf_path(f->gguf), "name", name.at, name.n, "architecture", "lfm2", "gguf_version",
            (int)rv_gguf_version(f->gguf), "file_bytes", (json_int_t)rv_gguf_file_bytes(f->gguf),
            "weight_bytes", (json_int_t)s->weight_bytes, "parameters", (json_int_t)s->n_params, "layers",
            (int)s->n_layers, "hidden", (int)s->hidden, "ff", (int)s->ff, "heads", (int)s->n_heads,
            "head_dim", (int)s->head_dim, "kv_heads", kv_heads, "conv_taps", (int)s->conv_taps, "rope_theta",
            (double)s->rope_theta, "norm_eps", (double)s->norm_eps, "vocabulary", (int)s->n_vocab, "context",
            (json_int_t)s->n_ctx_train, "bos", (int)rv_tok_bos(tok), "chat", family_name(family), "types",
            rv_text_get(&types));
        cmd_print(row);
    } else {
        char size[16];
        cmd_bytes(size, rv_gguf_file_bytes(f->gguf));
        printf("model        ");
        cmd_safe(stdout, name.at, name.n);
        printf("\nfile         ");
        cmd_safe(stdout, rv_gguf_path(f->gguf), strlen(rv_gguf_path(f->gguf)));
        printf(" (%s, GGUF %u)\n", size, rv_gguf_version(f->gguf));
        printf("architecture lfm2, %u layers: %zu attention, %zu gated convolution of %u taps\n", s->n_layers,
               attention, s->n_layers - attention, s->conv_taps);
        printf("parameters   %.3g million\n", (double)s->n_params / 1e6);
        printf("width        hidden %u, feed-forward %u, %u heads of %u\n", s->hidden, s->ff, s->n_heads,
               s->head_dim);
        printf("vocabulary   %u tokens, chat format %s\n", s->n_vocab, family_name(family));
        printf("context      %u tokens in training, rope base %g\n", s->n_ctx_train, (double)s->rope_theta);
        printf("tensors      %s\n", rv_text_get(&types));
    }
    rv_text_deinit(&types);
}

int cmd_show(cmd_line *line)
{
    char *path = NULL;
    rv_lfm2_file *f = NULL;
    rv_tok *tok = NULL;
    rv_chat_family family = RV_CHAT_NONE;
    rv_err e = cmd_model_path(line, line->args[0], &path);
    if (!e) {
        e = rv_lfm2_file_open(&rv_heap, path, true, &f);
    }
    if (!e) {
        e = rv_tok_open(&rv_heap, f->gguf, &tok);
    }
    if (!e) {
        e = rv_chat_family_of(f->gguf, &family);
    }
    if (!e) {
        show(line, f, tok, family);
    }
    rv_tok_close(tok);
    rv_lfm2_file_close(f);
    rv_free(&rv_heap, path);
    return e ? cmd_fail(e) : CMD_DONE;
}

int cmd_embed(cmd_line *line)
{
    rv_config *config = NULL;
    rv_app *app = NULL;
    float *vector = NULL;
    rv_err e = cmd_open(line, 0, &config, &app);
    const rv_embed *embed = e ? NULL : rv_app_pipeline(app)->embed;
    if (!e && !(vector = rv_new_array(&rv_heap, rv_embed_dim(embed), sizeof *vector))) {
        e = rv_fail(RV_E_NOMEM, "embedding");
    }
    if (!e) {
        e = rv_embed_text(embed, line->args[0], strlen(line->args[0]), vector);
    }
    if (!e) {
        rv_text out;
        rv_text_init(&out, &rv_heap, (size_t)1 << 24);
        if (line->json) {
            rv_text_addf(&out, "{\"embedder\":\"%s\",\"dimension\":%zu,\"vector\":", rv_embed_name(embed),
                         rv_embed_dim(embed));
        }
        rv_text_addc(&out, '[');
        for (size_t i = 0; i < rv_embed_dim(embed); i++) {
            rv_text_adds(&out, i ? "," : "");
            rv_json_float(&out, vector[i]);
        }
        rv_text_adds(&out, line->json ? "]}" : "]");
        e = rv_text_check(&out);
        puts(rv_text_get(&out));
        rv_text_deinit(&out);
    }
    rv_free(&rv_heap, vector);
    cmd_close(config, app);
    return e ? cmd_fail(e) : CMD_DONE;
}

int cmd_version(cmd_line *line)
{
    const char *level = rv_kernels_best()->name;
    if (line->json) {
        json_t *row =
            json_pack("{s:s, s:s, s:s}", "version", RV_VERSION, "compiler", __VERSION__, "cpu", level);
        cmd_print(row);
    } else {
        printf("ruvllm %s (compiler %s, CPU level %s)\n", RV_VERSION, __VERSION__, level);
    }
    return CMD_DONE;
}
