/* router learn, router stats, learn attention, learn status, learn rollback: what was learned, as versions. */
#include "cli/cli.h"

#include "app/learning.h"
#include "app/routing.h"
#include "base/clock.h"
#include "base/json.h"

#include <string.h>

enum { ARENA_BYTES = 16 << 20, SHOWN = 20 };

int cmd_router_learn(cmd_line *line)
{
    rv_config *config = NULL;
    rv_app *app = NULL;
    rv_routing_done done = { 0 };
    rv_err e = cmd_open(line, RV_APP_ALL, &config, &app);
    e = e ? e : rv_app_learn_router(app, &done);
    if (!e && line->json) {
        cmd_print(json_pack("{s:s, s:b, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:s}", "kind", RV_ROUTING_POLICY,
                            "accepted", (int)done.accepted, "version", (json_int_t)done.version, "episodes",
                            (json_int_t)done.episodes, "questions", (json_int_t)done.questions, "held_out",
                            (json_int_t)done.held_out, "before", done.before, "after", done.after, "error",
                            done.error, "why", done.why));
    } else if (!e) {
        printf("router version %lld from %zu rated episodes (%zu questions)\n  %s\n", (long long)done.version,
               done.episodes, done.questions, done.why);
    }
    cmd_close(config, app);
    return e ? cmd_fail(e) : CMD_DONE;
}

static json_t *info_json(const rv_policy_info *p)
{
    json_t *metrics = NULL, *data = NULL;
    char when[32];
    rv_clock_iso(p->created_ms, when);
    if (rv_json_parse(p->metrics, strlen(p->metrics), &metrics) ||
        rv_json_parse(p->data, strlen(p->data), &data)) {
        json_decref(metrics);
        return NULL;
    }
    return json_pack("{s:s, s:I, s:I, s:b, s:s, s:I, s:s, s:o, s:o}", "kind", p->kind, "version",
                     (json_int_t)p->version, "parent", (json_int_t)p->parent, "in_use", (int)p->in_use,
                     "created", when, "bytes", (json_int_t)p->bytes, "note", p->note, "metrics", metrics,
                     "data", data);
}

static json_t *loop_json(const rv_loop_row *r)
{
    char began[32], ended[32];
    rv_clock_iso(r->began_ms, began);
    rv_clock_iso(r->ended_ms, ended);
    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:s?, s:I, s:b, s:s?, s:f, s:f, s:s}", "loop", r->loop,
                     "stage", r->stage, "run", (json_int_t)r->run, "state", r->state, "began", began, "ended",
                     r->ended_ms ? ended : NULL, "changed", (json_int_t)r->changed, "accepted",
                     (int)r->accepted, "measure", *r->measure ? r->measure : NULL, "before", r->before,
                     "after", r->after, "why", r->why);
}

static void print_loop(const rv_loop_row *r)
{
    char when[32];
    rv_clock_iso(r->began_ms, when);
    printf("%-10s %-10s %.19s  %s%s", r->loop, r->stage, when,
           strcmp(r->state, "begun") == 0 ? "not finished" : r->state, r->accepted ? ", accepted" : "");
    if (*r->measure) {
        printf("; %s %.4f before, %.4f after", r->measure, r->before, r->after);
    }
    printf("\n    %s\n", *r->why ? r->why : "the next run goes on here");
}

/* Loops that have not done anything yet. */
static void print_missing(const rv_loop_row *rows, size_t n)
{
    static const struct {
        const char *loop, *how;
    } loops[] = { { "background", "a server does it every hour; now: ruvllm learn run" },
                  { "deep", "ruvllm learn run --deep" },
                  { "instant", "it learns from feedback" } };
    for (size_t l = 0; l < sizeof loops / sizeof *loops; l++) {
        size_t i = 0;
        while (i < n && strcmp(rows[i].loop, loops[l].loop) != 0) {
            i++;
        }
        if (i == n) {
            printf("%-10s nothing yet: %s\n", loops[l].loop, loops[l].how);
        }
    }
}

static void print_version(const rv_policy_info *p)
{
    char when[32];
    rv_clock_iso(p->created_ms, when);
    printf("%c %s version %lld (from %lld)  %.19s\n    %s\n", p->in_use ? '*' : ' ', p->kind,
           (long long)p->version, (long long)p->parent, when, p->note);
}

static void print_status(const cmd_line *line, int64_t rated, const rv_loop_row *rows, size_t n_rows,
                         const rv_policy_info *list, size_t n)
{
    if (line->json) {
        json_t *versions = json_array(), *loops = json_array();
        for (size_t i = 0; i < n; i++) {
            json_array_append_new(versions, info_json(&list[i]));
        }
        for (size_t i = 0; i < n_rows; i++) {
            json_array_append_new(loops, loop_json(&rows[i]));
        }
        cmd_print(json_pack("{s:I, s:o, s:o}", "rated_episodes", (json_int_t)rated, "loops", loops,
                            "versions", versions));
        return;
    }
    printf("%lld episodes were rated\n", (long long)rated);
    for (size_t i = 0; i < n_rows; i++) {
        print_loop(&rows[i]);
    }
    print_missing(rows, n_rows);
    for (size_t i = 0; i < n; i++) {
        print_version(&list[i]);
    }
}

int cmd_learn_status(cmd_line *line)
{
    rv_config *config = NULL;
    rv_app *app = NULL;
    rv_arena *arena = NULL;
    rv_policy_info *list = NULL;
    rv_loop_row *rows = NULL;
    size_t n = 0, n_rows = 0;
    int64_t rated = 0;
    rv_err e = cmd_open(line, RV_APP_MEMORY, &config, &app);
    e = e ? e : rv_arena_new(&rv_heap, ARENA_BYTES, &arena);
    e = e ? e : rv_routing_rated(rv_app_pipeline(app)->db, &rated);
    e = e ? e : rv_loop_list(rv_app_pipeline(app)->db, arena, &rows, &n_rows);
    e = e ? e : rv_policy_list(rv_app_pipeline(app)->db, NULL, SHOWN, arena, &list, &n);
    if (!e) {
        print_status(line, rated, rows, n_rows, list, n);
    }
    rv_arena_free(arena);
    int code = e ? cmd_fail(e) : CMD_DONE;
    cmd_close(config, app);
    return code;
}

/* ---- learn run ---- */

static bool not_interrupted(void *self)
{
    (void)self;
    return !atomic_load(&cmd_cancel);
}

int cmd_learn_run(cmd_line *line)
{
    rv_config *config = NULL;
    rv_app *app = NULL;
    rv_arena *arena = NULL;
    rv_loop_done done;
    rv_loop_row *rows = NULL;
    size_t n = 0;
    bool deep = cmd_has(line, "deep");
    if (cmd_has(line, "model") || cmd_has(line, "user")) {
        return deep ? cmd_usage(line, "--deep is for all models and users") : cmd_learn_adapter(line);
    }
    rv_err e = cmd_open(line, RV_APP_ALL, &config, &app);
    cmd_catch_interrupt();
    e = e ? e : rv_arena_new(&rv_heap, ARENA_BYTES, &arena);
    e = e ? e : rv_app_learn(app, deep, not_interrupted, NULL, &done);
    e = e ? e : rv_loop_list(rv_app_pipeline(app)->db, arena, &rows, &n);
    if (!e && line->json) {
        json_t *stages = json_array();
        for (size_t i = 0; i < n; i++) {
            if (strcmp(rows[i].loop, deep ? "deep" : "background") == 0) {
                json_array_append_new(stages, loop_json(&rows[i]));
            }
        }
        cmd_print(json_pack("{s:I, s:I, s:b, s:b, s:o}", "ran", (json_int_t)done.ran, "failed",
                            (json_int_t)done.failed, "resumed", (int)done.resumed, "unfinished",
                            (int)done.unfinished, "stages", stages));
    } else if (!e) {
        for (size_t i = 0; i < n; i++) {
            if (strcmp(rows[i].loop, deep ? "deep" : "background") == 0) {
                print_loop(&rows[i]);
            }
        }
        printf("%s", done.unfinished ? "the time was up; the next run goes on here\n" : "");
    }
    rv_arena_free(arena);
    int code = e ? cmd_fail(e) : done.failed ? CMD_FAILED : CMD_DONE;
    cmd_close(config, app);
    return code;
}

int cmd_learn_attention(cmd_line *line)
{
    rv_config *config = NULL;
    rv_app *app = NULL;
    rv_attention_learned done;
    int64_t seed = 1;
    if (!cmd_int(line, "seed", 0, INT64_MAX, &seed)) {
        return CMD_USAGE;
    }
    rv_err e = cmd_open(line, RV_APP_MEMORY, &config, &app);
    if (!e && !rv_app_pipeline(app)->attention) {
        e = rv_fail(RV_E_CONFIG, "learning.enabled is false: nothing is learned from feedback");
    }
    if (!e) {
        e = rv_attention_learn(rv_app_pipeline(app)->attention, rv_app_pipeline(app)->good_rating,
                               (uint64_t)seed, NULL, &done);
    }
    if (!e && line->json) {
        cmd_print(json_pack("{s:I, s:I, s:f, s:f, s:I, s:s}", "learned_from", (json_int_t)done.learned_from,
                            "held_back", (json_int_t)done.held, "ndcg_before", done.before, "ndcg_after",
                            done.after, "version", (json_int_t)done.version, "outcome", done.why));
    } else if (!e) {
        printf("%zu questions to learn from, %zu held back", done.learned_from, done.held);
        if (done.after > 0) {
            printf("; nDCG@10 on those: %.3f before, %.3f after", done.before, done.after);
        }
        printf("\n%s\n", done.why);
    }
    int code = e ? cmd_fail(e) : CMD_DONE;
    cmd_close(config, app);
    return code;
}

static bool is_kind(const char *name)
{
    static const char *const kinds[] = { "router",   "retrieval", "attention", "patterns",
                                         "concepts", "dreams",    "sides" };
    for (size_t i = 0; i < RV_COUNT(kinds); i++) {
        if (strcmp(name, kinds[i]) == 0) {
            return true;
        }
    }
    return false;
}

int cmd_learn_rollback(cmd_line *line)
{
    rv_config *config = NULL;
    rv_app *app = NULL;
    int64_t version = 0;
    const char *kind = line->n_args > 0 ? line->args[0] : RV_ROUTING_POLICY;
    if (!is_kind(kind)) {
        return cmd_usage(
            line, "KIND is router, retrieval, attention, patterns, concepts, dreams or sides, found `%s`",
            kind);
    }
    rv_err e = cmd_open(line, RV_APP_MEMORY, &config, &app);
    e = e ? e : rv_app_rollback(app, kind, "by command", &version);
    if (!e && line->json) {
        cmd_print(json_pack("{s:s, s:I}", "kind", kind, "version", (json_int_t)version));
    } else if (!e && version > 0) {
        printf("%s version %lld is in use\n", kind, (long long)version);
    } else if (!e) {
        printf("no version of %s is in use any more\n", kind);
    }
    cmd_close(config, app);
    return e ? cmd_fail(e) : CMD_DONE;
}

/* ---- forget ---- */

static void print_forgotten(const rv_forgotten *f)
{
    printf("%zu memories, %zu questions with their answers and %zu records are forgotten\n", f->memories,
           f->requests, f->records);
    printf("%zu vectors were overwritten, %zu kept conversations and the history of this terminal removed, "
           "the files written anew\n",
           f->vectors, f->conversations);
    if (f->adapters) {
        printf("adapters: %zu versions removed; `ruvllm learn run` learns again from what is left\n",
               f->adapters);
    }
    for (size_t i = 0; i < f->n_policies; i++) {
        printf("%s: %lld versions erased, ", f->policies[i].kind, (long long)f->policies[i].erased);
        if (f->policies[i].version) {
            printf("version %lld from before is in use\n", (long long)f->policies[i].version);
        } else {
            printf("none is in use any more\n");
        }
    }
    if (!f->adapters && f->n_policies == 0) {
        printf("nothing had been learned from them\n");
    }
}

static rv_err read_ids(const cmd_line *line, int64_t *ids)
{
    for (size_t i = 0; i < line->n_args; i++) {
        if (!rv_parse_i64(rv_str_from(line->args[i]), &ids[i]) || ids[i] < 1) {
            return rv_fail(RV_E_CONFIG, "%s is no id of a memory; `ruvllm memory search` shows them",
                           line->args[i]);
        }
    }
    return RV_OK;
}

int cmd_forget(cmd_line *line)
{
    rv_config *config = NULL;
    rv_app *app = NULL;
    rv_forgotten done;
    const char *user = cmd_value(line, "user", NULL);
    if (line->n_args == 0 && (!user || !*user)) {
        return cmd_usage(line, "name memories by their ids, or a user with --user");
    }
    int64_t *ids = rv_new_array(&rv_heap, line->n_args + 1, sizeof *ids);
    rv_err e = ids ? read_ids(line, ids) : rv_fail(RV_E_NOMEM, "forgetting");
    e = e ? e : cmd_open(line, RV_APP_ALL, &config, &app);
    if (!e) {
        const rv_pipeline *p = rv_app_pipeline(app);
        e = p->forget(p->forget_self, user, ids, line->n_args, &done);
    }
    if (!e && line->json) {
        cmd_print(rv_forgotten_json(&done));
    } else if (!e) {
        print_forgotten(&done);
    }
    int code = e ? cmd_fail(e) : CMD_DONE;
    cmd_close(config, app);
    rv_free(&rv_heap, ids);
    return code;
}

/* ---- router stats ---- */

typedef struct tally {
    json_t *models; /* name -> {"requests", "rated", "quality"} */
    size_t n, decided, seen, explored, fallback, escalated;
} tally;

static void count_decision(tally *t, const json_t *d)
{
    const char *model = json_string_value(json_object_get(d, "model"));
    const json_t *routing = json_object_get(d, "routing");
    json_int_t rating = json_integer_value(json_object_get(d, "rating"));
    bool corrected = json_is_true(json_object_get(d, "corrected")), rated = rating > 0 || corrected;
    double quality = corrected ? 0 : (double)(rating - 1) / 4;
    json_t *m = json_object_get(t->models, model);
    if (!m) {
        m = json_pack("{s:i, s:i, s:f}", "requests", 0, "rated", 0, "quality", 0.0);
        json_object_set_new(t->models, model, m);
    }
    json_int_t n = json_integer_value(json_object_get(m, "rated"));
    double mean = json_real_value(json_object_get(m, "quality"));
    json_object_set_new(m, "requests", json_integer(json_integer_value(json_object_get(m, "requests")) + 1));
    if (rated) {
        json_object_set_new(m, "rated", json_integer(n + 1));
        json_object_set_new(m, "quality", json_real((mean * (double)n + quality) / (double)(n + 1)));
    }
    t->n++;
    t->decided += json_is_object(routing) && json_integer_value(json_object_get(routing, "version")) > 0;
    t->seen += json_is_true(json_object_get(routing, "seen"));
    t->explored += json_is_true(json_object_get(routing, "explored"));
    t->fallback += json_is_true(json_object_get(routing, "fallback"));
    t->escalated += json_array_size(json_object_get(routing, "drafts")) > 0;
}

int cmd_router_stats(cmd_line *line)
{
    rv_config *config = NULL;
    rv_app *app = NULL;
    json_t *decisions = NULL, *one;
    int64_t last = 1000;
    if (!cmd_int(line, "limit", 1, 100000, &last)) {
        return CMD_USAGE;
    }
    tally t = { .models = json_object() };
    rv_err e = cmd_open(line, RV_APP_MEMORY, &config, &app);
    e = e ? e : rv_routing_decisions(rv_app_pipeline(app)->db, (size_t)last, &decisions);
    size_t i;
    json_array_foreach(decisions, i, one)
    {
        count_decision(&t, one);
    }
    if (!e && line->json) {
        cmd_print(json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:O}", "requests", (json_int_t)t.n, "decided",
                            (json_int_t)t.decided, "seen", (json_int_t)t.seen, "explored",
                            (json_int_t)t.explored, "fallback", (json_int_t)t.fallback, "escalated",
                            (json_int_t)t.escalated, "models", t.models));
    } else if (!e) {
        const char *name;
        printf("last %zu requests: %zu decided by the router, %zu of them remembered, %zu with other tiers "
               "tried beside, %zu left to "
               "the default, %zu gone "
               "on to a larger model\n",
               t.n, t.decided, t.seen, t.explored, t.fallback, t.escalated);
        json_object_foreach(t.models, name, one)
        {
            json_int_t rated = json_integer_value(json_object_get(one, "rated"));
            printf("  %-20s %6lld requests, ", name, json_integer_value(json_object_get(one, "requests")));
            if (rated > 0) {
                printf("%lld rated, mean quality %.2f\n", rated,
                       json_real_value(json_object_get(one, "quality")));
            } else {
                printf("none rated\n");
            }
        }
    }
    json_decref(decisions);
    json_decref(t.models);
    cmd_close(config, app);
    return e ? cmd_fail(e) : CMD_DONE;
}
