/* eval judge: how often the judges agree with people, beside "longer wins". */
#include "cli/cli.h"

#include "app/judge.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"

#include <errno.h>
#include <math.h>
#include <string.h>

enum { PAIRS_MAX = 100000, TEXT_BYTES = 256 << 20 };

typedef struct judge_set {
    const char *name;
    rv_judge_pair *at; /* [n] */
    size_t n;
} judge_set;

typedef struct judge_job {
    rv_arena *arena;
    judge_set sets[3]; /* PandaLM, LLMBar: its natural, and its adversarial pairs */
    cmd_bar bar;
    const char *now;
    size_t limit;
} judge_job;

static const char *field(judge_job *job, const json_t *row, const char *name)
{
    const char *text = json_string_value(json_object_get(row, name));
    return text ? rv_arena_strdup(job->arena, text) : NULL;
}

/* {"instruction", "input"?, "a", "b", "label", "set"?} */
static rv_err add_pair(judge_job *job, bool panda, const json_t *row)
{
    const char *asked = field(job, row, "instruction"), *input = field(job, row, "input"),
               *a = field(job, row, "a"), *b = field(job, row, "b"),
               *of = json_string_value(json_object_get(row, "set"));
    const json_t *label = json_object_get(row, "label");
    judge_set *set = &job->sets[panda ? 0 : of && strcmp(of, "Natural") == 0 ? 1 : 2];
    if (!asked || !a || !b || !json_is_integer(label) || json_integer_value(label) < 0 ||
        json_integer_value(label) > 2) {
        return rv_fail(RV_E_FORMAT, "expected \"instruction\", \"a\", \"b\" and \"label\" 0, 1 or 2");
    }
    if (set->n == job->limit) {
        return RV_OK;
    }
    if (input && *input) {
        asked = rv_arena_printf(job->arena, "%s\n%s", asked, input);
    }
    set->at[set->n++] = (rv_judge_pair){ { .question = asked, .answer = a },
                                         { .question = asked, .answer = b },
                                         (int)json_integer_value(label) };
    return asked ? RV_OK : rv_fail(RV_E_NOMEM, "reading pairs");
}

static rv_err read_pairs(judge_job *job, const char *folder, const char *name, bool panda)
{
    char *path = rv_path_join(&rv_heap, folder, name), *text = NULL;
    FILE *in = path ? fopen(path, "rb") : NULL;
    size_t room = 0, n = 0, number = 0;
    rv_err e =
        in ? RV_OK : rv_fail(RV_E_NOT_FOUND, "%s: cannot be read: %s", path ? path : folder, strerror(errno));
    while (!e && cmd_next_line(in, &text, &room, &n, &e)) {
        json_t *row = NULL;
        number++;
        if (n == 0) {
            continue;
        }
        e = rv_json_parse(text, n, &row);
        e = e ? e : add_pair(job, panda, row);
        json_decref(row);
        if (e && e != RV_E_NOMEM) {
            char why[512];
            snprintf(why, sizeof why, "%s", rv_err_text());
            e = rv_fail(e, "%s, line %zu: %s", path, number, why);
        }
    }
    if (in) {
        fclose(in);
    }
    rv_free(&rv_heap, text);
    rv_free(&rv_heap, path);
    return e;
}

static bool go_on(void *self, size_t pair)
{
    judge_job *job = self;
    cmd_bar_draw(&job->bar, job->now, pair, job->limit);
    return !atomic_load(&cmd_cancel);
}

static void print_measured(const cmd_line *line, const rv_judge *j, const judge_set *set,
                           const rv_judge_measured *m, double ms)
{
    if (line->json) {
        cmd_print(json_pack("{s:s, s:s, s:I, s:I, s:I, s:f, s:f}", "judge", j->name, "set", set->name,
                            "pairs", (json_int_t)m->pairs, "ties", (json_int_t)m->ties, "unjudged",
                            (json_int_t)m->unjudged, "right", m->right, "seconds", ms / 1000));
        return;
    }
    printf("%-24s %-18s %5zu pairs  %5.1f %% right  %5zu unjudged\n", j->name, set->name, m->pairs,
           100 * m->right, m->unjudged);
}

/* On all sets; what it is worth is decided on PandaLM. */
static rv_err measure(const cmd_line *line, judge_job *job, const rv_judge *j, rv_judge_measured *on_pandalm)
{
    for (size_t i = 0; i < RV_COUNT(job->sets); i++) {
        rv_judge_measured m;
        double start = rv_clock_ms();
        cmd_bar_init(&job->bar);
        job->now = j->name;
        rv_err e = rv_judge_measure(j, job->sets[i].at, job->sets[i].n, go_on, job, &m);
        cmd_bar_end(&job->bar);
        RV_TRY(e);
        if (m.pairs) {
            print_measured(line, j, &job->sets[i], &m, rv_clock_ms() - start);
        }
        *on_pandalm = i == 0 ? m : *on_pandalm;
    }
    return RV_OK;
}

static void print_trust(const cmd_line *line, const rv_judge *j, const rv_judge_measured *m, bool kept)
{
    double trust = rv_judge_trust_of(j, m);
    if (line->json) {
        cmd_print(json_pack("{s:s, s:f, s:b, s:b}", "judge", j->name, "weight", trust, "trusted",
                            trust > RV_JUDGE_PRIOR, "kept", kept));
        return;
    }
    printf("%s: %s%s\n", j->name,
           trust > RV_JUDGE_PRIOR ? "right often enough; its word weighs 0.7 of a rating"
           : j->words_only
               ? "only counts words, so it weighs no more than knowing nothing, whatever it was right on"
               : "below 70 % on PandaLM, so it weighs no more than knowing nothing",
           kept ? "; kept" : "");
}

static bool not_interrupted(void *self)
{
    (void)self;
    return !atomic_load(&cmd_cancel);
}

static rv_err judge_all(const cmd_line *line, judge_job *job, const rv_config *config, rv_app *app,
                        rv_engine *engine)
{
    rv_remote_judge remote;
    bool there = false, keep = cmd_has(line, "keep");
    rv_judge judges[4] = { rv_judge_longer(), rv_judge_heuristic(),
                           rv_judge_model(engine, rv_pipeline_prompt) };
    RV_TRY(rv_remote_judge_open(config, &remote, &there));
    if (there) {
        remote.go_on = not_interrupted;
        judges[3] = rv_remote_judge_as(&remote);
    }
    for (size_t i = 0; i < RV_COUNT(judges) - !there; i++) {
        rv_judge_measured m;
        RV_TRY(measure(line, job, &judges[i], &m));
        bool kept = keep && i > 0 && m.pairs > 0;
        RV_TRY(kept ? rv_judge_keep(rv_app_pipeline(app)->db, &judges[i], &m) : RV_OK);
        if (i > 0) {
            print_trust(line, &judges[i], &m, kept);
        }
    }
    return RV_OK;
}

int cmd_eval_judge(cmd_line *line)
{
    static const char *const names[] = { "PandaLM", "LLMBar natural", "LLMBar adversarial" };
    rv_config *config = NULL;
    rv_app *app = NULL;
    rv_engine *engine = NULL;
    const char *folder = line->args[0], *id = NULL;
    int64_t limit = PAIRS_MAX;
    judge_job job = { 0 };
    if (!cmd_int(line, "limit", 1, PAIRS_MAX, &limit)) {
        return CMD_USAGE;
    }
    job.limit = (size_t)limit;
    rv_err e = rv_arena_new(&rv_heap, TEXT_BYTES, &job.arena);
    for (size_t i = 0; !e && i < RV_COUNT(names); i++) {
        job.sets[i] =
            (judge_set){ names[i], rv_arena_take(job.arena, job.limit * sizeof *job.sets[i].at), 0 };
        e = job.sets[i].at ? RV_OK : rv_fail(RV_E_NOMEM, "reading pairs");
    }
    e = e ? e : read_pairs(&job, folder, "pandalm.jsonl", true);
    e = e ? e : read_pairs(&job, folder, "llmbar.jsonl", false);
    e = e ? e : cmd_open(line, cmd_has(line, "keep") ? RV_APP_ALL : RV_APP_MODELS, &config, &app);
    if (!e) {
        rv_backend *b = rv_app_pipeline(app)->backend;
        cmd_catch_interrupt();
        e = rv_backend_resolve(b, cmd_value(line, "model", NULL), &id);
        e = e ? e : rv_backend_take(b, id, &engine);
        e = e ? e : judge_all(line, &job, config, app, engine);
        if (engine) {
            rv_backend_put(b, engine);
        }
    }
    rv_arena_free(job.arena);
    int code = e ? cmd_fail(e) : CMD_DONE;
    cmd_close(config, app);
    return code;
}
