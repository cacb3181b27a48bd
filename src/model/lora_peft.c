/* Adapters in the form of Hugging Face PEFT: adapter_config.json and adapter_model.safetensors in one folder. The scale goes into
 * lora_B, so that alpha = rank everywhere and pairs of several ranks need no more than PEFT's own rank_pattern. */
#include "model/lora_peft.h"
#include "base/file.h"
#include "base/json.h"

#include <stdio.h>
#include <string.h>

static const char *const modules[RV_LFM2_PARTS] = {
    [RV_LFM2_IN_PROJ] = "conv.in_proj", [RV_LFM2_OUT_PROJ] = "conv.out_proj",
    [RV_LFM2_Q] = "self_attn.q_proj",   [RV_LFM2_K] = "self_attn.k_proj",
    [RV_LFM2_V] = "self_attn.v_proj",   [RV_LFM2_O] = "self_attn.out_proj",
    [RV_LFM2_GATE] = "feed_forward.w1", [RV_LFM2_UP] = "feed_forward.w3",
    [RV_LFM2_DOWN] = "feed_forward.w2",
};

static void module_name(const rv_lora *l, size_t product, char out[64])
{
    if (product + 1 == l->n_pairs) {
        snprintf(out, 64, "lm_head");
    } else {
        snprintf(out, 64, "model.layers.%zu.%s", product / RV_LFM2_PARTS, modules[product % RV_LFM2_PARTS]);
    }
}

static bool describe(json_t *head, const char *module, const char *half, size_t rows, size_t cols, size_t *at)
{
    char name[128];
    snprintf(name, sizeof name, "base_model.model.%s.%s.weight", module, half);
    size_t end = *at + rows * cols * sizeof(float);
    json_t *one = json_pack("{s:s, s:[I,I], s:[I,I]}", "dtype", "F32", "shape", (json_int_t)rows,
                            (json_int_t)cols, "data_offsets", (json_int_t)*at, (json_int_t)end);
    *at = end;
    return one && json_object_set_new(head, name, one) == 0;
}

static rv_err write_weights(const rv_lora *l, const char *path)
{
    json_t *head = json_object();
    size_t data = 0;
    bool ok = head != NULL;
    for (size_t i = 0; i < l->n_pairs && ok; i++) {
        const rv_lora_pair *p = &l->pairs[i];
        char module[64];
        module_name(l, i, module);
        ok = !p->rank || (describe(head, module, "lora_A", p->rank, p->cols, &data) &&
                          describe(head, module, "lora_B", p->rows, p->rank, &data));
    }
    rv_text text, out;
    rv_text_init(&text, l->mem, 1 << 26);
    rv_text_init(&out, l->mem, ((size_t)1 << 27) + data);
    if (ok) {
        rv_json_text(head, &text);
    }
    while (text.n % 8 && !text.failed) {
        rv_text_addc(&text, ' ');
    }
    uint64_t n = text.n;
    rv_text_add(&out, (const char *)&n, sizeof n);
    rv_text_add(&out, rv_text_get(&text), text.n);
    for (size_t i = 0; i < l->n_pairs; i++) {
        const rv_lora_pair *p = &l->pairs[i];
        rv_text_add(&out, (const char *)p->a, p->rank * p->cols * sizeof *p->a);
        for (size_t r = 0; r < p->rows && p->rank; r++) {
            for (size_t j = 0; j < p->rank; j++) {
                float b = p->scale * p->b[j * p->rows + r];
                rv_text_add(&out, (const char *)&b, sizeof b);
            }
        }
    }
    rv_err e = !ok ? rv_fail(RV_E_NOMEM, "exporting an adapter") : rv_text_check(&text);
    if (!e) {
        e = rv_text_check(&out);
    }
    if (!e) {
        e = rv_file_replace(path, out.at, out.n);
    }
    rv_text_deinit(&text);
    rv_text_deinit(&out);
    json_decref(head);
    return e;
}

static json_t *config_of(const rv_lora *l, const char *base)
{
    json_t *targets = json_array(), *ranks = json_object(), *alphas = json_object();
    size_t first = 0;
    bool seen[RV_LFM2_PARTS + 1] = { false };
    for (size_t i = 0; i < l->n_pairs; i++) {
        const rv_lora_pair *p = &l->pairs[i];
        size_t part = i + 1 == l->n_pairs ? RV_LFM2_PARTS : i % RV_LFM2_PARTS;
        char module[64];
        if (!p->rank) {
            continue;
        }
        first = first ? first : p->rank;
        module_name(l, i, module);
        if (p->rank != first) {
            json_object_set_new(ranks, module, json_integer((json_int_t)p->rank));
            json_object_set_new(alphas, module, json_integer((json_int_t)p->rank));
        }
        if (!seen[part]) {
            const char *dot = strrchr(module, '.');
            json_array_append_new(targets, json_string(dot ? dot + 1 : module));
        }
        seen[part] = true;
    }
    return json_pack("{s:s, s:s, s:s, s:I, s:I, s:f, s:s, s:b, s:o, s:o, s:o}", "peft_type", "LORA",
                     "task_type", "CAUSAL_LM", "base_model_name_or_path", base, "r", (json_int_t)first,
                     "lora_alpha", (json_int_t)first, "lora_dropout", 0.0, "bias", "none", "inference_mode",
                     1, "target_modules", targets, "rank_pattern", ranks, "alpha_pattern", alphas);
}

rv_err rv_lora_write_peft(const rv_lora *l, const char *folder, const char *base)
{
    RV_TRY(rv_dir_make(folder));
    char *weights = rv_path_join(l->mem, folder, "adapter_model.safetensors");
    char *config = rv_path_join(l->mem, folder, "adapter_config.json");
    json_t *body = config_of(l, base);
    rv_text text;
    rv_text_init(&text, l->mem, 1 << 20);
    rv_err e =
        weights && config && body ? write_weights(l, weights) : rv_fail(RV_E_NOMEM, "exporting an adapter");
    if (!e) {
        rv_json_text(body, &text);
        e = rv_text_check(&text);
    }
    if (!e) {
        e = rv_file_replace(config, text.at, text.n);
    }
    rv_text_deinit(&text);
    json_decref(body);
    rv_free(l->mem, weights);
    rv_free(l->mem, config);
    return e;
}
