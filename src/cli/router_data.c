/* The JSONL of `router train` and `router eval`: one question a line, with the quality and cost of every tier that is known. */
#include "cli/router_priv.h"

#include "base/file.h"
#include "base/json.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ROWS = 1 << 20 };
#define STEP_WITHOUT_COST                                                                                    \
    10.0 /* each tier costs this much more than the one before when nothing says what it costs */

void router_data_drop(router_data *d)
{
    for (size_t i = 0; i < d->n; i++) {
        free(d->at[i].text);
        free(d->at[i].task);
        free(d->at[i].vector);
    }
    free(d->at);
    free(d->rows);
}

rv_err router_data_choose(router_data *d, const char *list)
{
    for (const char *at = list; at && *at;) {
        size_t n = strcspn(at, ",");
        if (n == 0 || n >= NAME_ROOM || d->tiers == RV_ROUTER_TIERS) {
            return rv_fail(RV_E_ARG, "--tiers: up to %d names of at most %d bytes, with commas",
                           RV_ROUTER_TIERS, NAME_ROOM - 1);
        }
        snprintf(d->names[d->tiers++], NAME_ROOM, "%.*s", (int)n, at);
        at += n + (at[n] == ',');
        d->chosen = true;
    }
    return RV_OK;
}

/* Billions of parameters that a model's name tells: "gemma-2-27b-it" 27, "mixtral-8x7b" 56; 0 when it tells none. */
static double size_in_name(const char *name)
{
    double found = 0;
    for (const char *at = name; *at; at++) {
        char *end;
        if (*at < '0' || *at > '9' || (at > name && ((at[-1] >= '0' && at[-1] <= '9') || at[-1] == '.'))) {
            continue;
        }
        double size = strtod(at, &end), times = 1;
        if (*end == 'x' && end[1] >= '0' && end[1] <= '9') {
            times = size;
            size = strtod(end + 1, &end);
        }
        bool ends = (*end == 'b' || *end == 'B') &&
                    !((end[1] >= 'a' && end[1] <= 'z') || (end[1] >= '0' && end[1] <= '9'));
        found = ends ? times * size : found;
    }
    return found;
}

static float cost_of(const json_t *row, const char *name, size_t prompt_bytes)
{
    const json_t *usd = json_object_get(json_object_get(row, "usd"), name);
    if (json_is_number(usd)) {
        return (float)json_number_value(usd);
    }
    const json_t *chars = json_object_get(json_object_get(row, "outchars"), name);
    double size = size_in_name(name);
    return json_is_number(chars) && size > 0
               ? (float)(size * ((double)prompt_bytes + json_number_value(chars)) / 4)
               : NAN;
}

static rv_err take_names(router_data *d, const json_t *ok)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)ok, name, value)
    {
        bool there = false;
        for (size_t t = 0; t < d->tiers; t++) {
            there = there || strcmp(d->names[t], name) == 0;
        }
        if (!there && d->tiers < RV_ROUTER_TIERS && strlen(name) < NAME_ROOM) {
            snprintf(d->names[d->tiers++], NAME_ROOM, "%s", name);
        }
    }
    return d->tiers > 0 ? RV_OK : rv_fail(RV_E_ARG, "ok: expected an object of tier names and 0 or 1");
}

static bool make_room(router_data *d)
{
    if (d->n < d->room) {
        return true;
    }
    size_t room = d->room ? 2 * d->room : 1024;
    router_datum *at = realloc(d->at, room * sizeof *at);
    d->at = at ? at : d->at;
    rv_router_row *rows = realloc(d->rows, room * sizeof *rows);
    d->rows = rows ? rows : d->rows;
    d->room = at && rows ? room : d->room;
    return at && rows;
}

static rv_err read_outcomes(router_data *d, const json_t *json, const json_t *ok, rv_router_row *row,
                            size_t *known)
{
    *known = 0;
    for (size_t t = 0; t < RV_ROUTER_TIERS; t++) {
        const json_t *q = t < d->tiers ? json_object_get(ok, d->names[t]) : NULL;
        row->quality[t] = row->cost[t] = row->draft[t].confidence = NAN;
        if (q && (!json_is_number(q) || json_number_value(q) < 0 || json_number_value(q) > 1)) {
            return rv_fail(RV_E_ARG, "ok.%s: expected a number from 0 to 1", d->names[t]);
        }
        if (q) {
            row->quality[t] = (float)json_number_value(q);
            row->cost[t] = cost_of(json, d->names[t], row->n);
            (*known)++;
        }
    }
    return RV_OK;
}

static rv_err add_row(router_data *d, const json_t *json)
{
    const char *prompt = NULL, *split = "train", *task = "";
    json_t *ok = NULL;
    size_t n = 0, n_task = 0, known;
    RV_TRY(rv_json_need_string(json, "prompt", &prompt, &n));
    RV_TRY(rv_json_get_string(json, "split", &split, NULL));
    RV_TRY(rv_json_get_string(json, "task", &task, &n_task));
    RV_TRY(rv_json_get_object(json, "ok", &ok));
    if (strcmp(split, "train") != 0 && strcmp(split, "test") != 0) {
        return rv_fail(RV_E_ARG, "split: expected train or test, found %.32s", split);
    }
    if (!ok) {
        return rv_fail(RV_E_ARG, "ok: expected an object of tier names and 0 or 1");
    }
    if (d->tiers == 0) {
        RV_TRY(take_names(d, ok));
    }
    if (d->n == MAX_ROWS || !make_room(d)) {
        return rv_fail(RV_E_NOMEM, "reading rows");
    }
    rv_router_row row = { .n = n, .weight = 1 };
    router_datum own = { .n = n, .test = strcmp(split, "test") == 0 };
    RV_TRY(read_outcomes(d, json, ok, &row, &known));
    if (known == 0) {
        return RV_OK; /* of other models */
    }
    own.text = rv_strndup(&rv_heap, prompt, n);
    own.task = rv_strndup(&rv_heap, task ? task : "", n_task);
    own.vector = d->embed ? calloc(rv_embed_dim(d->embed), sizeof *own.vector) : NULL;
    d->at[d->n] = own;
    row.text = own.text;
    row.vector = own.vector;
    d->rows[d->n++] = row;
    if (!own.text || !own.task || (d->embed && !own.vector)) {
        return rv_fail(RV_E_NOMEM, "reading rows");
    }
    return d->embed ? rv_embed_text(d->embed, own.text, n, own.vector) : RV_OK;
}

rv_err router_data_read(router_data *d, const char *path)
{
    FILE *in = fopen(path, "rb");
    if (!in) {
        return rv_fail(RV_E_NOT_FOUND, "%s: cannot be read: %s", path, strerror(errno));
    }
    char *text = NULL;
    size_t room = 0, n = 0, number = 0;
    rv_err e = RV_OK;
    while (!e && cmd_next_line(in, &text, &room, &n, &e)) {
        json_t *row = NULL;
        number++;
        if (n == 0) {
            continue;
        }
        e = rv_json_parse(text, n, &row);
        e = e ? e : add_row(d, row);
        json_decref(row);
        if (e) {
            e = rv_fail(e, "%s:%zu: %s", path, number, rv_err_text());
        }
    }
    free(text);
    fclose(in);
    if (!e && d->n == 0) {
        e = rv_fail(RV_E_ARG, "%s: no rows", path);
    }
    for (size_t i = 0; i < d->n; i++) {
        d->rows[i].text = d->at[i].text;
        d->rows[i].vector = d->at[i].vector;
        for (size_t t = 0; t < d->tiers; t++) {
            d->known_costs = d->known_costs || d->rows[i].cost[t] >= 0;
        }
    }
    for (size_t i = 0; i < d->n && !d->known_costs; i++) {
        for (size_t t = 0; t < d->tiers; t++) {
            d->rows[i].cost[t] = (float)pow(STEP_WITHOUT_COST, (double)t + 1 - (double)d->tiers);
        }
    }
    return e;
}
