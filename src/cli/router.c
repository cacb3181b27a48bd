/* router train, score, eval, explain: learning from rows whose outcome is known, and what came of it. */
#include "cli/router_priv.h"

#include "base/file.h"
#include "base/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- train ---- */

static void draw(void *self, size_t done, size_t total)
{
    cmd_bar_draw(self, "learning", done, total);
}

static rv_err train(const rv_app *app, router_data *d, const rv_router_how *how, rv_router_trained *trained,
                    rv_router **out)
{
    size_t dim = d->embed ? rv_embed_dim(d->embed) : 0, n = 0;
    const char *names[RV_ROUTER_TIERS];
    float *domains = calloc(RV_SLOT_DOMAINS * dim + 1, sizeof *domains);
    rv_router_row *rows = calloc(d->n, sizeof *rows);
    rv_err e = domains && rows ? RV_OK : rv_fail(RV_E_NOMEM, "learning");
    for (size_t i = 0; i < d->n && !e; i++) {
        if (!d->at[i].test) {
            rows[n++] = d->rows[i];
        }
    }
    for (size_t t = 0; t < d->tiers; t++) {
        names[t] = d->names[t];
    }
    if (!e && dim > 0) {
        e = rv_app_domains(app, domains);
    }
    if (!e) {
        rv_router_set set = {
            rows, n, d->tiers, names, dim, d->embed ? rv_embed_name(d->embed) : "", domains
        };
        e = rv_router_train(&rv_heap, &set, how, trained, out);
    }
    free(domains);
    free(rows);
    return e;
}

static rv_err save(const rv_router *r, const char *path)
{
    uint8_t *bytes = NULL;
    size_t n = 0;
    RV_TRY(rv_router_pack(&rv_heap, r, &bytes, &n));
    rv_err e = rv_file_replace(path, bytes, n);
    rv_free(&rv_heap, bytes);
    return e;
}

int cmd_router_train(cmd_line *line)
{
    const char *path = cmd_value(line, "data", NULL), *to = cmd_value(line, "out", NULL);
    int64_t seed = 1;
    rv_router_how how = rv_router_how_default();
    if (!path || (!to && strcmp(line->command->name, "router train") == 0)) {
        return cmd_usage(line, "--data FILE and --out FILE are needed");
    }
    if (!cmd_int(line, "seed", 0, INT32_MAX, &seed) ||
        !cmd_float(line, "cost-share", 0.01, 1, &how.cost_share)) {
        return CMD_USAGE;
    }
    how.seed = (uint64_t)seed;
    rv_config *config = NULL;
    rv_app *app = NULL;
    router_data d = { 0 };
    rv_router *r = NULL;
    rv_router_trained trained;
    cmd_bar bar;
    cmd_bar_init(&bar);
    how.progress = draw;
    how.self = &bar;
    rv_err e = router_data_choose(&d, cmd_value(line, "tiers", NULL));
    e = e ? e : cmd_open(line, 0, &config, &app);
    if (!e) {
        d.embed = rv_app_pipeline(app)->embed;
        e = router_data_read(&d, path);
    }
    e = e ? e : train(app, &d, &how, &trained, &r);
    cmd_bar_end(&bar);
    e = e ? e : save(r, to);
    e = e ? e : router_report(line, &d, r, &trained);
    rv_router_free(r);
    router_data_drop(&d);
    cmd_close(config, app);
    return e ? cmd_fail(e) : CMD_DONE;
}

/* ---- weights of the command line ---- */

static rv_err open_weights(const cmd_line *line, const rv_app *app, rv_router **out)
{
    const char *path = cmd_value(line, "weights", NULL);
    const rv_embed *embed = rv_app_pipeline((rv_app *)app)->embed;
    RV_TRY(path ? rv_router_open(&rv_heap, path, out) : rv_app_read_router(app, out));
    path = path ? path : "the router in use";
    const char *learned = rv_router_embedder(*out);
    if (rv_router_dim(*out) > 0 &&
        (strcmp(learned, rv_embed_name(embed)) != 0 || rv_router_dim(*out) != rv_embed_dim(embed))) {
        rv_err e =
            rv_fail(RV_E_CONFIG, "%s was learned with the embedder %s, configured is %s (embedding.model)",
                    path, learned, rv_embed_name(embed));
        rv_router_free(*out);
        *out = NULL;
        return e;
    }
    return RV_OK;
}

int cmd_router_eval(cmd_line *line)
{
    const char *path = cmd_value(line, "data", NULL);
    rv_config *config = NULL;
    rv_app *app = NULL;
    rv_router *r = NULL;
    router_data d = { 0 };
    if (!path) {
        return cmd_usage(line, "--data FILE is needed");
    }
    rv_err e = cmd_open(line, cmd_has(line, "weights") ? 0 : RV_APP_MEMORY, &config, &app);
    e = e ? e : open_weights(line, app, &r);
    if (!e) {
        d.embed = rv_app_pipeline(app)->embed;
        d.tiers = rv_router_tiers(r);
        for (size_t t = 0; t < d.tiers; t++) {
            snprintf(d.names[t], NAME_ROOM, "%s", rv_router_tier_name(r, t));
        }
        e = router_data_read(&d, path);
    }
    e = e ? e : router_report(line, &d, r, NULL);
    rv_router_free(r);
    router_data_drop(&d);
    cmd_close(config, app);
    return e ? cmd_fail(e) : CMD_DONE;
}

/* ---- score ---- */

typedef struct scorer {
    const rv_router *r;
    const rv_embed *embed;
    void *scratch;
    float *vector;
} scorer;

static rv_err open_scorer(const rv_router *r, const rv_embed *embed, scorer *s)
{
    *s = (scorer){ r, embed, malloc(rv_router_scratch_bytes(r)), calloc(rv_embed_dim(embed), sizeof(float)) };
    return s->scratch && s->vector ? RV_OK : rv_fail(RV_E_NOMEM, "scoring");
}

static void close_scorer(scorer *s)
{
    free(s->scratch);
    free(s->vector);
}

static rv_err score_text(scorer *s, const char *text, size_t n, rv_routed *out)
{
    RV_TRY(rv_embed_text(s->embed, text, n, s->vector));
    rv_slot_input in = router_input_of(s->r, text, n, s->vector);
    rv_router_route(s->r, &in, 0, true, s->scratch, out);
    return RV_OK;
}

static json_t *numbers_json(const float *at, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list, json_real((double)at[i]));
    }
    return list;
}

static json_t *routed_json(const rv_router *r, const rv_routed *routed)
{
    json_t *tiers = json_array();
    for (size_t t = 0; t < routed->tiers; t++) {
        json_array_append_new(tiers, json_string(rv_router_tier_name(r, t)));
    }
    return json_pack("{s:o, s:I, s:f, s:o, s:o, s:b}", "p_right",
                     numbers_json(routed->p_right, routed->tiers), "tier", (json_int_t)routed->tier,
                     "confidence", (double)routed->confidence, "cost",
                     numbers_json(routed->cost, routed->tiers), "tiers", tiers, "seen", (int)routed->seen);
}

static rv_err score_line(scorer *s, const char *text, size_t n, json_t **out)
{
    json_t *row = NULL;
    const char *prompt = NULL;
    size_t n_prompt = 0;
    rv_routed routed;
    RV_TRY(rv_json_parse(text, n, &row));
    rv_err e = rv_json_need_string(row, "prompt", &prompt, &n_prompt);
    e = e ? e : score_text(s, prompt, n_prompt, &routed);
    if (!e) {
        *out = routed_json(s->r, &routed);
    }
    json_decref(row);
    return e;
}

int cmd_router_score(cmd_line *line)
{
    rv_config *config = NULL;
    rv_app *app = NULL;
    rv_router *r = NULL;
    scorer s = { 0 };
    char *text = NULL;
    size_t room = 0, n = 0, number = 0;
    rv_err e = cmd_open(line, cmd_has(line, "weights") ? 0 : RV_APP_MEMORY, &config, &app);
    e = e ? e : open_weights(line, app, &r);
    e = e ? e : open_scorer(r, rv_app_pipeline(app)->embed, &s);
    while (!e && cmd_next_line(stdin, &text, &room, &n, &e)) {
        json_t *out = NULL;
        number++;
        if (n == 0) {
            continue;
        }
        e = score_line(&s, text, n, &out);
        if (e) {
            e = rv_fail(e, "line %zu: %s", number, rv_err_text());
        } else {
            cmd_print(out);
        }
    }
    free(text);
    close_scorer(&s);
    rv_router_free(r);
    cmd_close(config, app);
    return e ? cmd_fail(e) : CMD_DONE;
}

/* ---- explain ---- */

enum { REASONS = 8, SHOWN_PAST = 5 };

static json_t *past_json(const rv_router *r, const char *text, size_t n)
{
    const rv_past *past = rv_router_past(r);
    rv_past_text *read = malloc(sizeof *read);
    rv_past_found *found = malloc(sizeof *found);
    void *scratch = malloc(rv_past_scratch_bytes(past));
    json_t *list = json_array();
    if (read && found && scratch) {
        rv_past_read(text, n, read);
        rv_past_find(past, read, NULL, NULL, 0, scratch, found);
        for (size_t i = 0; i < found->n_words && i < SHOWN_PAST; i++) {
            size_t n_head;
            const char *head = rv_past_head(past, found->words[i].row, &n_head);
            n_head = rv_utf8_whole(head, n_head);
            json_t *right = json_array();
            for (size_t t = 0; t < rv_router_tiers(r); t++) {
                float q = rv_past_quality(past, found->words[i].row, t);
                json_array_append_new(right, q >= 0 ? json_real((double)q) : json_null());
            }
            json_array_append_new(list, json_pack("{s:s%, s:f, s:o}", "text", head, n_head, "likeness",
                                                  (double)found->words[i].likeness, "right", right));
        }
    }
    free(read);
    free(found);
    free(scratch);
    return list;
}

static json_t *explain(const rv_router *r, const rv_routed *routed, const char *text, size_t n)
{
    rv_router_reason why[REASONS];
    json_t *out = routed_json(r, routed), *reasons = json_array(), *parts = json_object(),
           *slots = json_array();
    rv_router_why(r, routed, routed->tier, why, REASONS);
    for (int i = 0; i < REASONS && why[i].effect != 0; i++) {
        char name[64];
        rv_slot_name(why[i].slot, name, sizeof name);
        json_array_append_new(reasons, json_pack("{s:I, s:s, s:f, s:f}", "slot", (json_int_t)why[i].slot,
                                                 "name", name, "value", (double)routed->slots[why[i].slot],
                                                 "effect", (double)why[i].effect));
    }
    for (int k = 0; k < RV_ROUTER_PARTS; k++) {
        float odds[RV_ROUTER_TIERS];
        for (size_t t = 0; t < routed->tiers; t++) {
            odds[t] = 1 / (1 + expf(-routed->part[t][k]));
        }
        json_object_set_new(parts, rv_router_part_names[k], numbers_json(odds, routed->tiers));
    }
    for (int i = 0; i < RV_SLOTS; i++) {
        json_array_append_new(slots, json_real((double)routed->slots[i]));
    }
    json_object_set_new(out, "parts", parts);
    json_object_set_new(out, "reasons", reasons);
    json_object_set_new(out, "past", past_json(r, text, n));
    json_object_set_new(out, "slots", slots);
    return out;
}

static void print_explained(const json_t *all)
{
    size_t i;
    json_t *one;
    json_int_t tier = json_integer_value(json_object_get(all, "tier"));
    printf("%s  (%s, confidence %.2f)\n",
           json_string_value(json_array_get(json_object_get(all, "tiers"), (size_t)tier)),
           json_is_true(json_object_get(all, "seen")) ? "remembered" : "predicted",
           json_number_value(json_object_get(all, "confidence")));
    json_array_foreach(json_object_get(all, "tiers"), i, one)
    {
        printf("  %-24s right %.2f  cost %.3f\n", json_string_value(one),
               json_number_value(json_array_get(json_object_get(all, "p_right"), i)),
               json_number_value(json_array_get(json_object_get(all, "cost"), i)));
    }
    printf("features that moved the cell's view of it:\n");
    json_array_foreach(json_object_get(all, "reasons"), i, one)
    {
        printf("  %+.3f  %-32s %.3f\n", json_number_value(json_object_get(one, "effect")),
               json_string_value(json_object_get(one, "name")),
               json_number_value(json_object_get(one, "value")));
    }
    printf("nearest past requests:\n");
    json_array_foreach(json_object_get(all, "past"), i, one)
    {
        const char *text = json_string_value(json_object_get(one, "text"));
        size_t n = strcspn(text, "\r\n");
        printf("  %.2f  ", json_number_value(json_object_get(one, "likeness")));
        cmd_safe(stdout, text, n);
        putchar('\n');
    }
}

int cmd_router_explain(cmd_line *line)
{
    rv_config *config = NULL;
    rv_app *app = NULL;
    rv_router *r = NULL;
    scorer s = { 0 };
    rv_routed routed;
    size_t n = strlen(line->args[0]);
    rv_err e = cmd_open(line, cmd_has(line, "weights") ? 0 : RV_APP_MEMORY, &config, &app);
    e = e ? e : open_weights(line, app, &r);
    e = e ? e : open_scorer(r, rv_app_pipeline(app)->embed, &s);
    e = e ? e : score_text(&s, line->args[0], n, &routed);
    if (!e) {
        json_t *all = explain(r, &routed, line->args[0], n);
        if (line->json) {
            cmd_print(all);
        } else {
            print_explained(all);
            json_decref(all);
        }
    }
    close_scorer(&s);
    rv_router_free(r);
    cmd_close(config, app);
    return e ? cmd_fail(e) : CMD_DONE;
}
