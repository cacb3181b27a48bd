/* memory add, keep, import, export, search, get, list, rm, link, around, path, stats, check, compact */
#include "cli/cli.h"

#include "base/clock.h"
#include "base/json.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MAX_ANSWER = 256 << 20, NAMED_FILES = 10, REMOVED_AT_ONCE = 100 };

static bool parse_id(const char *text, int64_t *id)
{
    return rv_parse_i64(rv_str_from(text), id) && *id > 0;
}

static size_t values_of(const cmd_line *line, const char *option, const char **out)
{
    size_t n = 0;
    for (size_t i = 0; i < line->n_given; i++) {
        if (strcmp(line->given[i].option->name, option) == 0) {
            out[n++] = line->given[i].value;
        }
    }
    return n;
}

/* How long: 30m 12h 7d */
static bool parse_span(const char *text, int64_t *ms)
{
    static const struct {
        char letter;
        int64_t ms;
    } units[] = { { 's', 1000 }, { 'm', 60000 }, { 'h', 3600000 }, { 'd', 86400000 } };
    size_t n = strlen(text);
    int64_t count;
    for (size_t u = 0; n > 1 && u < RV_COUNT(units); u++) {
        if (text[n - 1] == units[u].letter && rv_parse_i64(rv_str_of(text, n - 1), &count) && count >= 0 &&
            count < 1000000) {
            *ms = count * units[u].ms;
            return true;
        }
    }
    return false;
}

/* 2026-01-31, 2026-01-31T12:00:00Z, or an age: 30m 12h 7d */
static bool parse_time(const char *text, int64_t *ms)
{
    struct tm t = { 0 };
    const char *end = strptime(text, "%Y-%m-%d", &t);
    if (end && *end == 'T') {
        end = strptime(end, "T%H:%M:%S", &t);
        end = end && *end == 'Z' ? end + 1 : end;
    }
    if (end && *end == 0) {
        struct tm made = t;
        *ms = (int64_t)timegm(&made) * 1000;
        return made.tm_mday == t.tm_mday && made.tm_mon == t.tm_mon &&
               made.tm_sec == t.tm_sec; /* no 31 February */
    }
    int64_t age;
    if (!parse_span(text, &age)) {
        return false;
    }
    *ms = rv_clock_wall_ms() - age;
    return true;
}

/* --user: that user's and everybody's; without it the whole store, whose owner is at the keyboard. */
static rv_memory_scope scope_of(const cmd_line *line)
{
    const char *user = cmd_value(line, "user", NULL);
    return user ? rv_memory_of(user) : rv_memory_whole();
}

static bool read_filter(const cmd_line *line, rv_memory_filter *f)
{
    *f = (rv_memory_filter){ .type = cmd_value(line, "type", NULL),
                             .tag = cmd_value(line, "tag", NULL),
                             .source = cmd_value(line, "source", NULL) };
    const struct {
        const char *name;
        int64_t *ms;
    } times[] = { { "since", &f->since_ms }, { "until", &f->until_ms } };
    for (size_t i = 0; i < RV_COUNT(times); i++) {
        const char *text = cmd_value(line, times[i].name, NULL);
        if (text && !parse_time(text, times[i].ms)) {
            cmd_usage(line,
                      "--%s takes 2026-01-31, 2026-01-31T12:00:00Z or an age like 30m, 12h, 7d, found `%s`",
                      times[i].name, text);
            return false;
        }
    }
    return true;
}

static json_t *node_json(const rv_memory_node *n, bool scored)
{
    json_t *tags = json_array();
    for (size_t i = 0; i < n->n_tags; i++) {
        json_array_append_new(tags, json_string(n->tags[i]));
    }
    char created[32];
    rv_clock_iso(n->created_ms, created);
    json_t *row = json_pack("{s:I, s:s, s:s, s:s, s:s, s:s, s:o, s:f, s:s, s:I, s:I, s:I}", "id",
                            (json_int_t)n->id, "type", n->type, "text", n->text, "source", n->source, "user",
                            n->user, "origin", n->origin, "tags", tags, "confidence", n->confidence,
                            "created", created, "corrected_by", (json_int_t)n->corrected_by, "offset",
                            (json_int_t)n->offset, "length", (json_int_t)n->length);
    json_t *metadata = NULL;
    if (rv_json_parse(n->metadata, strlen(n->metadata), &metadata) == RV_OK) {
        json_object_set_new(row, "metadata", metadata);
    }
    if (n->pinned) {
        json_object_set_new(row, "pinned", json_true());
    }
    if (n->expires_ms) {
        char ends[32];
        rv_clock_iso(n->expires_ms, ends);
        json_object_set_new(row, "expires", json_string(ends));
    }
    if (n->used) {
        char last[32];
        rv_clock_iso(n->used_ms, last);
        json_object_set_new(row, "used", json_integer(n->used));
        json_object_set_new(row, "last_used", json_string(last));
    }
    if (scored) {
        json_object_set_new(row, "score", json_real(n->score));
        json_object_set_new(row, "found_by", json_string(n->origin_side));
    }
    return row;
}

static void print_node(const cmd_line *line, const rv_memory_node *n, bool scored)
{
    if (line->json) {
        json_t *row = node_json(n, scored);
        cmd_print(row);
        return;
    }
    bool colour = cmd_colour(stdout);
    printf("%s%lld%s  %s", colour ? "\033[1m" : "", (long long)n->id, colour ? "\033[0m" : "", n->type);
    if (scored) {
        printf("  %.4f %s", n->score, n->origin_side);
    }
    if (*n->source) {
        printf("  ");
        cmd_safe(stdout, n->source, strlen(n->source));
    }
    if (n->corrected_by) {
        printf("  corrected by %lld", (long long)n->corrected_by);
    }
    if (n->expires_ms) {
        char ends[32];
        rv_clock_iso(n->expires_ms, ends);
        printf("  until %.16s", ends);
    }
    printf(n->pinned ? "  pinned\n    " : "\n    ");
    size_t length = strlen(n->text), shown = length > 240 ? 240 : length;
    shown = rv_utf8_whole(n->text, shown);
    for (size_t i = 0; i < shown;) { /* one line: line ends become spaces */
        size_t run = strcspn(n->text + i, "\r\n");
        run = run < shown - i ? run : shown - i;
        cmd_safe(stdout, n->text + i, run);
        i += run;
        if (i < shown) {
            putchar(' ');
            i++;
        }
    }
    printf("%s\n", shown < length ? " ..." : "");
}

/* Every command here: open, do, close. */
typedef struct memory_job {
    cmd_line *line;
    rv_memory *memory;
    rv_arena *arena;
} memory_job;

static int with_parts(cmd_line *line, rv_app_parts parts, rv_err (*work)(memory_job *job))
{
    rv_config *config = NULL;
    rv_app *app = NULL;
    memory_job job = { .line = line };
    rv_err e = rv_arena_new(&rv_heap, MAX_ANSWER, &job.arena);
    if (!e) {
        e = cmd_open(line, parts, &config, &app);
    }
    if (!e) {
        job.memory = rv_app_pipeline(app)->memory;
        e = work(&job);
    }
    int code = e ? cmd_fail(e) : CMD_DONE;
    cmd_close(config, app);
    rv_arena_free(job.arena);
    return code;
}

static int with_memory(cmd_line *line, rv_err (*work)(memory_job *job))
{
    return with_parts(line, RV_APP_MEMORY, work);
}

static rv_err add(memory_job *job)
{
    const char *tags[CMD_MAX_GIVEN];
    rv_memory_new node = { .type = cmd_value(job->line, "type", "note"),
                           .text = job->line->args[0],
                           .source = cmd_value(job->line, "source", "user"),
                           .tags = tags };
    if (strcmp(node.type, "note") != 0 && strcmp(node.type, "fact") != 0) {
        return rv_fail(RV_E_CONFIG,
                       "--type is note or fact, found `%s`; the others are made by import and feedback",
                       node.type);
    }
    node.n_tags = values_of(job->line, "tag", tags);
    node.pinned = cmd_has(job->line, "pin");
    const char *ttl = cmd_value(job->line, "ttl", NULL);
    if (ttl && (!parse_span(ttl, &node.ttl_ms) || node.ttl_ms == 0)) {
        return rv_fail(RV_E_CONFIG, "--ttl takes a time like 30m, 12h or 7d, found `%s`", ttl);
    }
    const char *corrects = cmd_value(job->line, "corrects", NULL);
    if (corrects && !parse_id(corrects, &node.corrects)) {
        return rv_fail(RV_E_CONFIG, "--corrects takes an id, found `%s`", corrects);
    }
    node.examined = !cmd_has(job->line, "as-is");
    rv_memory_added a;
    size_t done;
    rv_memory_scope scope = rv_memory_of(cmd_value(job->line, "user", NULL));
    RV_TRY(rv_memory_add_many(job->memory, &scope, &node, 1, &a, &done));
    if (job->line->json) {
        json_t *row = json_pack("{s:I, s:b}", "id", (json_int_t)a.id, "added", a.added);
        if (a.near) {
            json_object_set_new(row, "near", json_true());
        }
        if (a.corrects) {
            json_object_set_new(row, "corrects", json_integer(a.corrects));
        }
        if (*a.odd) {
            json_object_set_new(row, "odd", json_string(a.odd));
        }
        cmd_print(row);
        return RV_OK;
    }
    printf("%lld%s", (long long)a.id,
           a.near    ? " (was there already, in other words)"
           : a.added ? ""
                     : " (was there already)");
    if (a.corrects) {
        printf(" (corrects %lld)", (long long)a.corrects);
    }
    if (*a.odd) {
        printf(" (less sure of it: %s)", a.odd);
    }
    putchar('\n');
    return RV_OK;
}

/* Read before the memory is opened: nobody waits for it while the text comes. */
int cmd_memory_add(cmd_line *line)
{
    char *text = NULL;
    if (line->n_args == 0 && isatty(STDIN_FILENO)) {
        return cmd_usage(line, "TEXT is missing");
    }
    if (line->n_args == 0) {
        rv_err e = cmd_read_input("text", &text);
        if (e) {
            return cmd_fail(e);
        }
        line->args[line->n_args++] = text; /* the words of the command left room */
    }
    int code = with_memory(line, add);
    rv_free(&rv_heap, text);
    return code;
}

static rv_err keep(memory_job *job)
{
    bool pin = cmd_has(job->line, "pin"), unpin = cmd_has(job->line, "unpin");
    const char *ttl = cmd_value(job->line, "ttl", NULL);
    int64_t span = 0, ends = 0, id;
    bool never = ttl && strcmp(ttl, "never") == 0;
    if (pin == unpin && (pin || !ttl)) {
        return rv_fail(RV_E_CONFIG, "one of --pin, --unpin and --ttl is needed");
    }
    if (ttl && !never && !parse_span(ttl, &span)) {
        return rv_fail(RV_E_CONFIG, "--ttl takes a time like 30m, 12h or 7d, or never; found `%s`", ttl);
    }
    ends = never ? 0 : rv_clock_wall_ms() + span;
    for (size_t i = 0; i < job->line->n_args; i++) {
        if (!parse_id(job->line->args[i], &id)) {
            return rv_fail(RV_E_CONFIG, "an id is a whole number above 0, found `%s`", job->line->args[i]);
        }
    }
    for (size_t i = 0; i < job->line->n_args; i++) {
        (void)parse_id(job->line->args[i], &id);
        RV_TRY(rv_memory_keep(job->memory, scope_of(job->line), id, pin || unpin ? &pin : NULL,
                              ttl ? &ends : NULL));
        rv_memory_node node;
        RV_TRY(rv_memory_get(job->memory, scope_of(job->line), id, job->arena, &node));
        print_node(job->line, &node, false);
    }
    return RV_OK;
}

int cmd_memory_keep(cmd_line *line)
{
    return with_memory(line, keep);
}

static bool bundle_progress(void *self, size_t done, size_t total)
{
    cmd_bar_draw(self, "nodes", done, total);
    return !cmd_cancel;
}

static bool vectors_progress(void *self, size_t done, size_t total)
{
    cmd_bar_draw(self, "vectors", done, total);
    return !cmd_cancel;
}

static rv_err export_bundle(memory_job *job)
{
    const char *dir = job->line->args[0], *slash = strrchr(dir, '/');
    rv_memory_export_options how = { .name =
                                         cmd_value(job->line, "name", slash && slash[1] ? slash + 1 : dir),
                                     .memory_class = cmd_value(job->line, "class", NULL) };
    rv_memory_exported done;
    cmd_bar bar;
    if (!read_filter(job->line, &how.filter)) {
        return rv_fail(RV_E_CONFIG, "nothing was exported");
    }
    cmd_bar_init(&bar);
    cmd_catch_interrupt();
    rv_err e = rv_memory_export(job->memory, scope_of(job->line), dir, &how, bundle_progress, &bar, &done);
    cmd_bar_end(&bar);
    RV_TRY(e);
    if (job->line->json) {
        cmd_print(json_pack("{s:I, s:I, s:I, s:I, s:I, s:s}", "nodes", (json_int_t)done.nodes, "edges",
                            (json_int_t)done.edges, "vectors", (json_int_t)done.vectors, "damaged",
                            (json_int_t)done.damaged, "generation", (json_int_t)done.generation, "witness",
                            done.witness));
    } else {
        printf("%zu nodes, %zu edges, %zu vectors; generation %llu, witness %s\n", done.nodes, done.edges,
               done.vectors, (unsigned long long)done.generation, done.witness);
    }
    return done.damaged ? rv_fail(RV_E_CORRUPT,
                                  "damaged nodes that are not in the bundle: %zu (named above); the rest "
                                  "was published",
                                  done.damaged)
                        : RV_OK;
}

int cmd_memory_export(cmd_line *line)
{
    return with_memory(line, export_bundle);
}

static rv_err import_bundle(memory_job *job, const char *dir)
{
    rv_memory_restored done = { 0 };
    cmd_bar bar;
    if (cmd_has(job->line, "user") || cmd_has(job->line, "tag")) {
        return rv_fail(RV_E_CONFIG, "%s is a bundle: its nodes keep their own users and tags", dir);
    }
    cmd_bar_init(&bar);
    cmd_catch_interrupt();
    rv_err e = rv_memory_restore(job->memory, dir, bundle_progress, &bar, &done);
    cmd_bar_end(&bar);
    RV_TRY(e);
    if (job->line->json) {
        cmd_print(json_pack("{s:I, s:I, s:I}", "nodes", (json_int_t)done.nodes, "unchanged",
                            (json_int_t)done.there, "edges", (json_int_t)done.edges));
    } else {
        printf("%zu nodes restored, %zu were there; %zu edges\n", done.nodes, done.there, done.edges);
    }
    return RV_OK;
}

static bool import_progress(void *self, const char *path, uint64_t done, uint64_t total)
{
    cmd_bar_draw(self, path, done, total);
    return !cmd_cancel;
}

static void print_import(const cmd_line *line, const rv_memory_import *done)
{
    if (line->json) {
        cmd_print(json_pack(
            "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:O, s:O}", "files", (json_int_t)done->files,
            "unchanged", (json_int_t)done->unchanged, "replaced", (json_int_t)done->replaced, "chunks_added",
            (json_int_t)done->chunks_added, "chunks_removed", (json_int_t)done->chunks_removed, "notes_added",
            (json_int_t)done->notes_added, "failed", (json_int_t)done->failed, "left", (json_int_t)done->left,
            "failed_files", done->failed_files, "gone_files", done->gone_files));
        return;
    }
    printf("%zu files: %zu chunks added, %zu removed; %zu files unchanged", done->files, done->chunks_added,
           done->chunks_removed, done->unchanged);
    printf(done->notes_added ? "; %zu notes added\n" : "\n", done->notes_added);
}

/* The first is told with the exit code. */
static void tell_failed(const rv_memory_import *done)
{
    for (size_t i = 1; i < done->failed && i < NAMED_FILES; i++) {
        const char *why = json_string_value(json_object_get(json_array_get(done->failed_files, i), "why"));
        fprintf(stderr, "left out: ");
        cmd_safe(stderr, why ? why : "", why ? strlen(why) : 0);
        fputc('\n', stderr);
    }
    if (done->failed > NAMED_FILES) {
        fprintf(stderr, "and %zu more; --json names all\n", done->failed - NAMED_FILES);
    }
}

/* Documents whose files are no longer there go on answering; nobody said that they are to go. */
static void tell_gone(const cmd_line *line, const rv_memory_import *done)
{
    const char *data = cmd_value(line, "data", NULL);
    size_t shown = done->gone < REMOVED_AT_ONCE ? done->gone : REMOVED_AT_ONCE;
    if (done->gone == 0) {
        return;
    }
    fprintf(stderr, "%zu documents in memory came from there, and their files are gone:\n", done->gone);
    for (size_t i = 0; i < done->gone && i < NAMED_FILES; i++) {
        const char *path = json_string_value(json_object_get(json_array_get(done->gone_files, i), "path"));
        fprintf(stderr, "  ");
        cmd_safe(stderr, path ? path : "", path ? strlen(path) : 0);
        fputc('\n', stderr);
    }
    if (done->gone > NAMED_FILES) {
        fprintf(stderr, "  and %zu more; --json names all\n", done->gone - NAMED_FILES);
    }
    fprintf(stderr, "They still answer. %s removes them:\n  ruvllm memory rm",
            shown < done->gone ? "This, and then the same import again," : "This");
    for (size_t i = 0; i < shown; i++) {
        fprintf(stderr, " %" JSON_INTEGER_FORMAT,
                json_integer_value(json_object_get(json_array_get(done->gone_files, i), "id")));
    }
    if (data) {
        fprintf(stderr, " --data '");
        cmd_safe(stderr, data, strlen(data));
        fputc('\'', stderr);
    }
    fputc('\n', stderr);
}

static rv_err import_paths(memory_job *job)
{
    const char *tags[CMD_MAX_GIVEN];
    size_t n_tags = values_of(job->line, "tag", tags);
    rv_memory_import done = { 0 };
    cmd_bar bar;
    if (job->line->n_args == 1 && rv_memory_is_bundle(job->line->args[0])) {
        return import_bundle(job, job->line->args[0]);
    }
    cmd_bar_init(&bar);
    bar.bytes = true;
    cmd_catch_interrupt();
    done.failed_files = json_array();
    done.gone_files = json_array();
    rv_err e = rv_memory_import_paths(job->memory, rv_memory_of(cmd_value(job->line, "user", NULL)),
                                      (const char *const *)job->line->args, job->line->n_args, tags, n_tags,
                                      import_progress, &bar, &done);
    char why[1024];
    snprintf(why, sizeof why, "%s", e ? rv_err_text() : "");
    cmd_bar_end(&bar);
    rv_err settled = RV_OK;
    if (!e || done.files > 0 || job->line->json ||
        e == RV_E_CANCELLED) {                   /* what was done before an error is done */
        settled = rv_memory_settle(job->memory); /* the next start finds the index */
        print_import(job->line, &done);
    }
    if (e == RV_E_CANCELLED) {
        fprintf(stderr, "ruvllm: %s\n", why); /* the exit code alone would not tell how to go on */
    }
    tell_failed(&done);
    tell_gone(job->line, &done);
    json_decref(done.failed_files);
    json_decref(done.gone_files);
    return e ? rv_err_set_text(e, why) : settled;
}

int cmd_memory_import(cmd_line *line)
{
    return with_memory(line, import_paths);
}

/* A filter that was passed over would show what it was to keep out. */
static rv_err check_bundle_options(const cmd_line *line)
{
    static const char *const others[] = { "type",  "tag",  "source", "user",    "since",
                                          "until", "mode", "recall", "explain", "with-corrected" };
    for (size_t i = 0; i < RV_COUNT(others); i++) {
        if (cmd_has(line, others[i])) {
            return rv_fail(RV_E_CONFIG,
                           "--%s is of the store; with --bundle all of a bundle is searched, by meaning",
                           others[i]);
        }
    }
    return RV_OK;
}

/* The bundles that were named, as one list; what is in the store itself is not asked. */
static rv_err search_bundles(memory_job *job, const char *const *dirs, size_t n, size_t k)
{
    rv_lake *lake = NULL;
    rv_lake_hits hits;
    rv_memory_embedder embedder = rv_memory_get_embedder(job->memory);
    float *vector = rv_arena_take(job->arena, embedder.dim * sizeof *vector);
    rv_err e = vector ? RV_OK : rv_fail(RV_E_NOMEM, "no memory to search");
    e = e ? e : embedder.text(embedder.self, job->line->args[0], strlen(job->line->args[0]), vector);
    e = e ? e : rv_lake_new(&rv_heap, embedder, SIZE_MAX, &lake);
    for (size_t i = 0; !e && i < n; i++) {
        e = rv_lake_add(lake, dirs[i], RV_LAKE_FRESH, 0);
    }
    e = e ? e : rv_lake_search(lake, vector, k, job->arena, &hits);
    rv_lake_free(lake);
    RV_TRY(e);
    if (hits.failed) {
        fprintf(stderr, "ruvllm: %zu of %zu bundles could not be searched: ", hits.failed, n);
        cmd_safe(stderr, hits.first_failure, strlen(hits.first_failure));
        fputc('\n', stderr);
    }
    for (size_t i = 0; i < hits.n; i++) {
        if (job->line->json) {
            json_t *row = node_json(&hits.at[i].node, true);
            json_object_set_new(row, "bundle", json_string(hits.at[i].bundle));
            cmd_print(row);
        } else {
            printf("[");
            cmd_safe(stdout, hits.at[i].bundle, strlen(hits.at[i].bundle));
            printf("] ");
            print_node(job->line, &hits.at[i].node, true);
        }
    }
    return RV_OK;
}

static rv_err search(memory_job *job)
{
    rv_memory_query q = { .text = job->line->args[0], .k = 10 };
    const char *mode = cmd_value(job->line, "mode", "graph");
    int64_t k = 10;
    if (rv_memory_mode_of(mode, &q.mode)) {
        return rv_fail(RV_E_CONFIG, "--mode is graph, hybrid, vector or words, found `%s`", mode);
    }
    if (!read_filter(job->line, &q.filter) || !cmd_int(job->line, "limit", 1, 1000, &k)) {
        return rv_fail(RV_E_CONFIG, "nothing was searched");
    }
    const char *bundles[CMD_MAX_GIVEN];
    size_t n_bundles = values_of(job->line, "bundle", bundles);
    if (n_bundles > 0) {
        RV_TRY(check_bundle_options(job->line));
        return search_bundles(job, bundles, n_bundles, (size_t)k);
    }
    q.k = (size_t)k;
    q.with_corrected = cmd_has(job->line, "with-corrected");
    const char *recall = cmd_value(job->line, "recall", NULL);
    if (recall && strcmp(recall, "exact") == 0) {
        q.recall = 1;
    } else if (!cmd_float(job->line, "recall", 0.5, 1, &q.recall)) {
        return rv_fail(RV_E_CONFIG, "nothing was searched");
    }
    rv_memory_hits hits;
    RV_TRY(rv_memory_search(job->memory, scope_of(job->line), &q, job->arena, &hits));
    for (size_t i = 0; i < hits.n; i++) {
        print_node(job->line, &hits.at[i], true);
    }
    if (hits.n == 0 && !job->line->json) {
        fprintf(stderr, "Nothing found.\n");
    }
    json_t *plan = cmd_has(job->line, "explain") ? rv_memory_plan_json(&hits.plan) : NULL;
    if (plan && job->line->json) {
        cmd_print(json_pack("{s:o}", "plan", plan));
    } else if (plan) {
        fprintf(stderr, "%s\n", json_string_value(json_object_get(plan, "why")));
        json_decref(plan);
    }
    return RV_OK;
}

int cmd_memory_search(cmd_line *line)
{
    return with_memory(line, search);
}

static rv_err get(memory_job *job)
{
    int64_t id;
    if (!parse_id(job->line->args[0], &id)) {
        return rv_fail(RV_E_CONFIG, "an id is a whole number above 0, found `%s`", job->line->args[0]);
    }
    rv_memory_node node;
    rv_memory_edge *edges;
    size_t n;
    RV_TRY(rv_memory_get(job->memory, scope_of(job->line), id, job->arena, &node));
    RV_TRY(rv_memory_neighbours(job->memory, scope_of(job->line), id, job->arena, &edges, &n));
    if (job->line->json) {
        json_t *row = node_json(&node, false), *list = json_array();
        for (size_t i = 0; i < n; i++) {
            json_array_append_new(list, json_pack("{s:I, s:I, s:s, s:f}", "from", (json_int_t)edges[i].from,
                                                  "to", (json_int_t)edges[i].to, "type", edges[i].type,
                                                  "weight", edges[i].weight));
        }
        json_object_set_new(row, "edges", list);
        cmd_print(row);
        return RV_OK;
    }
    char created[32];
    rv_clock_iso(node.created_ms, created);
    printf("%lld  %s  %s", (long long)node.id, node.type, created);
    printf(*node.user ? "  user " : "");
    cmd_safe(stdout, node.user, strlen(node.user));
    printf(*node.source ? "  from " : "");
    cmd_safe(stdout, node.source, strlen(node.source));
    if (node.length) {
        printf(" bytes %llu..%llu", (unsigned long long)node.offset,
               (unsigned long long)(node.offset + node.length));
    }
    for (size_t i = 0; i < node.n_tags; i++) {
        printf(i ? ", " : "\n    tags ");
        cmd_safe(stdout, node.tags[i], strlen(node.tags[i]));
    }
    if (node.expires_ms) {
        char ends[32];
        rv_clock_iso(node.expires_ms, ends);
        printf("\n    until %s", ends);
    }
    printf("%s\n\n", node.pinned ? "\n    pinned" : "");
    cmd_safe(stdout, node.text, strlen(node.text));
    putchar('\n');
    for (size_t i = 0; i < n; i++) {
        printf("%s%lld -%s-> %lld\n", i ? "" : "\n", (long long)edges[i].from, edges[i].type,
               (long long)edges[i].to);
    }
    return RV_OK;
}

int cmd_memory_get(cmd_line *line)
{
    return with_memory(line, get);
}

/* A misspelt type would be an empty list. Rows that were imported may have types of their own. */
static rv_err check_type(const memory_job *job, const char *type)
{
    static const char *const types[] = { "document", "chunk", "note", "fact", "qa", "concept" };
    rv_memory_filter filter = { .type = type };
    rv_memory_hits hits = { .n = 0 };
    for (size_t i = 0; type && i < RV_COUNT(types); i++) {
        if (strcmp(type, types[i]) == 0) {
            return RV_OK;
        }
    }
    RV_TRY(type ? rv_memory_list(job->memory, rv_memory_whole(), &filter, 1, 0, job->arena, &hits) : RV_OK);
    return !type || hits.n > 0
               ? RV_OK
               : rv_fail(
                     RV_E_CONFIG,
                     "--type is document, chunk, note, fact, qa, concept, or one that imported rows have; "
                     "nothing here has the type `%.40s`",
                     type);
}

static rv_err list(memory_job *job)
{
    rv_memory_filter filter;
    int64_t limit = 50, after = 0;
    if (!read_filter(job->line, &filter) || !cmd_int(job->line, "limit", 1, 10000, &limit) ||
        !cmd_int(job->line, "after", 1, INT64_MAX, &after)) {
        return rv_fail(RV_E_CONFIG, "nothing was listed");
    }
    rv_memory_hits hits;
    RV_TRY(check_type(job, filter.type));
    RV_TRY(
        rv_memory_list(job->memory, scope_of(job->line), &filter, (size_t)limit, after, job->arena, &hits));
    for (size_t i = 0; i < hits.n; i++) {
        print_node(job->line, &hits.at[i], false);
    }
    return RV_OK;
}

int cmd_memory_list(cmd_line *line)
{
    return with_memory(line, list);
}

static rv_err rm(memory_job *job)
{
    rv_memory_filter filter;
    size_t total = 0, removed = 0;
    if (!read_filter(job->line, &filter)) {
        return rv_fail(RV_E_CONFIG, "nothing was removed");
    }
    RV_TRY(check_type(job, filter.type));
    if (job->line->n_args == 0) {
        RV_TRY(rv_memory_rm(job->memory, scope_of(job->line), 0, &filter, &total));
    }
    int64_t id;
    rv_memory_node node;
    for (size_t i = 0; i < job->line->n_args; i++) { /* all of them before the first is removed */
        if (!parse_id(job->line->args[i], &id)) {
            return rv_fail(RV_E_CONFIG, "an id is a whole number above 0, found `%s`", job->line->args[i]);
        }
        RV_TRY(rv_memory_get(job->memory, scope_of(job->line), id, job->arena, &node));
    }
    for (size_t i = 0; i < job->line->n_args; i++) {
        (void)parse_id(job->line->args[i], &id);
        rv_err e = rv_memory_rm(job->memory, scope_of(job->line), id, &filter, &removed);
        if (e) {
            return rv_fail(e, "%s (%zu removed before)", rv_err_text(), total);
        }
        total += removed;
        if (removed == 0 && !rv_memory_get(job->memory, scope_of(job->line), id, job->arena, &node)) {
            return rv_fail(RV_E_NOT_FOUND,
                           "memory %lld is not among what the options name (%zu removed before)",
                           (long long)id, total);
        }
    }
    if (job->line->json) {
        json_t *row = json_pack("{s:I}", "removed", (json_int_t)total);
        cmd_print(row);
    } else {
        printf("%zu removed\n", total);
    }
    return RV_OK;
}

int cmd_memory_rm(cmd_line *line)
{
    static const char *const filters[] = { "type", "tag", "source", "user", "since", "until" };
    bool named = line->n_args > 0;
    for (size_t i = 0; i < RV_COUNT(filters); i++) {
        named = named || cmd_has(line, filters[i]);
    }
    return named ? with_memory(line, rm) : cmd_usage(line, "name what to remove: an ID, or a filter");
}

static rv_err link_nodes(memory_job *job)
{
    int64_t from, to;
    double weight = 1;
    if (!parse_id(job->line->args[0], &from) || !parse_id(job->line->args[1], &to) ||
        !cmd_float(job->line, "weight", 0, 1, &weight)) {
        return rv_fail(RV_E_CONFIG, "two ids are needed");
    }
    return rv_memory_link(job->memory, scope_of(job->line), from, to,
                          cmd_value(job->line, "type", "same_topic"), weight);
}

int cmd_memory_link(cmd_line *line)
{
    return with_memory(line, link_nodes);
}

static rv_err need_id(const char *text, int64_t *id)
{
    return parse_id(text, id) ? RV_OK
                              : rv_fail(RV_E_CONFIG, "an id is a whole number above 0, found `%s`", text);
}

static json_t *subnode_json(const rv_memory_subgraph *g, const rv_memory_subnode *n)
{
    json_t *row = node_json(&n->node, false);
    json_object_set_new(row, "hop", json_integer((json_int_t)n->hop));
    if (n->hop > 0) {
        json_object_set_new(row, "by",
                            json_pack("{s:I, s:s, s:f, s:b}", "node", (json_int_t)g->at[n->parent].node.id,
                                      "type", n->edge, "weight", n->weight, "against", n->against));
    }
    return row;
}

static rv_err around(memory_job *job)
{
    rv_memory_filter filter;
    rv_memory_node start = { .score = 1 };
    int64_t hops = 2, limit = 50;
    RV_TRY(need_id(job->line->args[0], &start.id));
    if (!read_filter(job->line, &filter) || !cmd_int(job->line, "hops", 0, 8, &hops) ||
        !cmd_int(job->line, "limit", 1, 512, &limit)) {
        return rv_fail(RV_E_CONFIG, "nothing was looked for");
    }
    rv_memory_subgraph g;
    RV_TRY(rv_memory_subgraph_of(job->memory, scope_of(job->line), &(rv_memory_hits){ .at = &start, .n = 1 },
                                 &filter, (rv_memory_bounds){ (unsigned)hops, (size_t)limit, 64 }, job->arena,
                                 &g));
    for (size_t i = 0; i < g.n; i++) {
        const rv_memory_subnode *n = &g.at[i];
        if (job->line->json) {
            cmd_print(subnode_json(&g, n));
            continue;
        }
        if (n->hop > 0) {
            printf("%*s%s%s %.2f from %lld: ", 2 * (int)n->hop, "", n->edge, n->against ? " (against)" : "",
                   n->weight, (long long)g.at[n->parent].node.id);
        }
        print_node(job->line, &n->node, false);
    }
    return RV_OK;
}

int cmd_memory_around(cmd_line *line)
{
    return with_memory(line, around);
}

static rv_err path(memory_job *job)
{
    int64_t from, to, hops = 6;
    RV_TRY(need_id(job->line->args[0], &from));
    RV_TRY(need_id(job->line->args[1], &to));
    if (!cmd_int(job->line, "hops", 1, 16, &hops)) {
        return rv_fail(RV_E_CONFIG, "nothing was looked for");
    }
    rv_memory_edge *edges;
    size_t n;
    RV_TRY(
        rv_memory_path(job->memory, scope_of(job->line), from, to, (unsigned)hops, job->arena, &edges, &n));
    if (n == 0 && from != to) {
        return rv_fail(RV_E_NOT_FOUND, "no way of at most %lld steps leads from %lld to %lld",
                       (long long)hops, (long long)from, (long long)to);
    }
    for (size_t i = 0; i < n; i++) {
        if (job->line->json) {
            cmd_print(json_pack("{s:I, s:I, s:s, s:f}", "from", (json_int_t)edges[i].from, "to",
                                (json_int_t)edges[i].to, "type", edges[i].type, "weight", edges[i].weight));
        } else {
            printf("%lld -%s-> %lld  %.2f\n", (long long)edges[i].from, edges[i].type, (long long)edges[i].to,
                   edges[i].weight);
        }
    }
    return RV_OK;
}

int cmd_memory_path(cmd_line *line)
{
    return with_memory(line, path);
}

static rv_err stats(memory_job *job)
{
    rv_memory_stats s;
    RV_TRY(rv_memory_get_stats(job->memory, &s));
    if (job->line->json) {
        json_t *row = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:i}", "nodes",
                                (json_int_t)s.nodes, "edges", (json_int_t)s.edges, "documents",
                                (json_int_t)s.documents, "chunks", (json_int_t)s.chunks, "notes",
                                (json_int_t)s.notes, "facts", (json_int_t)s.facts, "qas", (json_int_t)s.qas,
                                "vectors", (json_int_t)s.vectors, "vectors_dead", (json_int_t)s.vectors_dead,
                                "db_bytes", (json_int_t)s.db_bytes, "vector_bytes",
                                (json_int_t)s.vector_bytes, "embedder", s.embedder, "dimension", (int)s.dim);
        cmd_print(row);
        return RV_OK;
    }
    char db[16], vectors[16];
    cmd_bytes(db, s.db_bytes);
    cmd_bytes(vectors, s.vector_bytes);
    printf("nodes      %zu: %zu documents, %zu chunks, %zu notes, %zu facts, %zu questions with answers\n",
           s.nodes, s.documents, s.chunks, s.notes, s.facts, s.qas);
    printf("edges      %zu\n", s.edges);
    printf("vectors    %zu of %zu dimensions by %s, %zu dead\n", s.vectors, s.dim, s.embedder,
           s.vectors_dead);
    printf("on disk    %s records, %s vectors\n", db, vectors);
    return RV_OK;
}

int cmd_memory_stats(cmd_line *line)
{
    return with_memory(line, stats);
}

static rv_err check(memory_job *job)
{
    RV_TRY(rv_memory_check(job->memory));
    printf("%s\n", job->line->json ? "{\"ok\":true}" : "fine");
    return RV_OK;
}

int cmd_memory_check(cmd_line *line)
{
    return with_memory(line, check);
}

static rv_err compact(memory_job *job)
{
    rv_memory_stats before, after;
    rv_memory_compacted done;
    cmd_bar bar;
    RV_TRY(rv_memory_get_stats(job->memory, &before));
    cmd_bar_init(&bar);
    cmd_catch_interrupt();
    rv_err e = rv_memory_compact(job->memory, vectors_progress, &bar, &done);
    cmd_bar_end(&bar);
    RV_TRY(e);
    RV_TRY(rv_memory_settle(job->memory)); /* the next start finds the index */
    RV_TRY(rv_memory_get_stats(job->memory, &after));
    uint64_t had = before.db_bytes + before.vector_bytes, has = after.db_bytes + after.vector_bytes;
    if (job->line->json) {
        cmd_print(json_pack("{s:I, s:I, s:I, s:I, s:I}", "bytes_before", (json_int_t)had, "bytes",
                            (json_int_t)has, "vectors_erased", (json_int_t)done.erased, "vectors_copied",
                            (json_int_t)done.moved, "files_removed", (json_int_t)done.files));
        return RV_OK;
    }
    char from[16], to[16];
    cmd_bytes(from, had);
    cmd_bytes(to, has);
    printf("%s, %s before; %zu vectors erased, %zu copied, %zu files removed\n", to, from, done.erased,
           done.moved, done.files);
    return RV_OK;
}

int cmd_memory_compact(cmd_line *line)
{
    return with_memory(line, compact);
}

static rv_err reembed(memory_job *job)
{
    rv_memory_stats s;
    RV_TRY(rv_memory_get_stats(job->memory, &s));
    if (job->line->json) {
        cmd_print(json_pack("{s:I, s:s, s:i}", "vectors", (json_int_t)s.vectors, "embedder", s.embedder,
                            "dimension", (int)s.dim));
    } else {
        printf("%zu vectors of %zu dimensions made by %s\n", s.vectors, s.dim, s.embedder);
    }
    return RV_OK;
}

int cmd_memory_reembed(cmd_line *line)
{
    return with_parts(line, RV_APP_MEMORY | RV_APP_REEMBED, reembed);
}

static rv_err recall(memory_job *job)
{
    int64_t sample = 100, k = 10;
    if (!cmd_int(job->line, "sample", 1, 1000000, &sample) || !cmd_int(job->line, "limit", 1, 1000, &k)) {
        return rv_fail(RV_E_CONFIG, "nothing was measured");
    }
    rv_memory_recall_report r;
    RV_TRY(rv_memory_recall(job->memory, (size_t)sample, (size_t)k, &r));
    if (job->line->json) {
        cmd_print(json_pack("{s:s, s:I, s:I, s:f, s:f, s:f, s:f}", "index", r.index, "asked",
                            (json_int_t)r.asked, "k", (json_int_t)k, "recall", r.recall, "least", r.least,
                            "search_ms", r.search_ms, "exact_ms", r.exact_ms));
    } else {
        printf("recall@%lld %.4f over %zu of the store's own vectors, %.4f at the worst; index %s, %.3f ms a "
               "search, "
               "%.3f ms comparing all\n",
               (long long)k, r.recall, r.asked, r.least, r.index, r.search_ms, r.exact_ms);
    }
    return RV_OK;
}

int cmd_memory_recall(cmd_line *line)
{
    return with_memory(line, recall);
}
