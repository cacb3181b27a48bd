/* eval retrieval: how well the memory finds. The documents go through the public interface into a store of their own below
 * /dev/shm (or TMPDIR), every question is searched as the product does it, and the store is removed. */
#include "cli/cli.h"

#include "base/clock.h"
#include "base/json.h"

#include <errno.h>
#include <ftw.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TOP = 10, ARENA_BYTES = 64 << 20 };
static const rv_memory_mode shown[] = { RV_MEMORY_WORDS, RV_MEMORY_VECTOR, RV_MEMORY_HYBRID,
                                        RV_MEMORY_GRAPH };

typedef struct question {
    json_t *json; /* holds what follows */
    const char *id, *text, *scope;
    int64_t *rel; /* [n_rel] nodes, each once */
    size_t n_rel;
} question;

typedef struct retrieval_job {
    rv_memory *memory;
    rv_arena *arena;
    const char *part; /* only questions of this part; NULL: all */
    int64_t category; /* only questions of this one; 0: all */
    json_t *nodes;    /* document id -> node */
    size_t n_docs, n_same, n_follows;
    question *at; /* [n] */
    size_t n, room;
    FILE *run;
    bool json;
    const rv_embed *embed;
} retrieval_job;

/* ---- reading ---- */

typedef rv_err (*each_line)(retrieval_job *job, json_t *row); /* keeps row with json_incref */

static rv_err read_lines(retrieval_job *job, const char *path, each_line work)
{
    FILE *in = fopen(path, "rb");
    if (!in) {
        return rv_fail(RV_E_NOT_FOUND, "%s: cannot be read: %s", path, strerror(errno));
    }
    char *text = NULL;
    size_t room = 0, n = 0, number = 0;
    rv_err e = RV_OK;
    while (!e && cmd_next_line(in, &text, &room, &n, &e)) {
        number++;
        if (n == 0) {
            continue;
        }
        if (atomic_load(&cmd_cancel)) {
            e = rv_fail(RV_E_CANCELLED, "interrupted");
            break;
        }
        json_t *row = NULL;
        e = rv_json_parse(text, n, &row);
        if (!e) {
            e = work(job, row);
        }
        json_decref(row);
        if (e) {
            e = rv_fail(e, "%s:%zu: %s", path, number, rv_err_text());
        }
    }
    free(text);
    fclose(in);
    return e;
}

/* Of "a0c3", which stands behind "a0c2": that one's node; 0 when there is no such document, or the id does not end in a number
 * behind something else. */
static int64_t one_before(const retrieval_job *job, const char *id)
{
    size_t n = strlen(id), digits = 0;
    while (digits < n && id[n - digits - 1] >= '0' && id[n - digits - 1] <= '9') {
        digits++;
    }
    uint64_t number;
    char before[1024];
    if (digits == 0 || digits == n || n >= sizeof before ||
        !rv_parse_u64(rv_str_of(id + n - digits, digits), &number) || number == 0) {
        return 0;
    }
    snprintf(before, sizeof before, "%.*s%llu", (int)(n - digits), id, (unsigned long long)(number - 1));
    return json_integer_value(json_object_get(job->nodes, before));
}

/* "conv-26/D1:1" belongs to the scope "conv-26", which becomes its tag. A document whose id has the next number follows the one
 * before, as the chunks of an imported file do. */
static rv_err add_document(retrieval_job *job, json_t *row)
{
    const char *id = NULL, *text = NULL;
    RV_TRY(rv_json_need_string(row, "id", &id, NULL));
    RV_TRY(rv_json_need_string(row, "text", &text, NULL));
    size_t n_scope = strcspn(id, "/");
    char *scope = id[n_scope] == '/' ? rv_strndup(&rv_heap, id, n_scope) : NULL;
    const char *const tags[] = { scope };
    rv_memory_new node = {
        .type = "note", .text = text, .source = id, .tags = scope ? tags : NULL, .n_tags = scope != NULL
    };
    int64_t at = 0;
    bool added = false;
    rv_err e = rv_memory_add(job->memory, rv_memory_of(NULL), &node, &at, &added);
    rv_free(&rv_heap, scope);
    RV_TRY(e);
    if (json_object_get(job->nodes, id)) {
        return rv_fail(RV_E_FORMAT, "document \"%s\" is there twice", id);
    }
    int64_t before = one_before(job, id);
    if (added && before) {
        RV_TRY(rv_memory_link(job->memory, rv_memory_whole(), at, before, "follows", 1));
        job->n_follows++;
    }
    job->n_docs++;
    job->n_same += !added; /* the same text under another id is one node: finding it finds both */
    return json_object_set_new(job->nodes, id, json_integer(at)) == 0 ? RV_OK
                                                                      : rv_fail(RV_E_NOMEM, "documents");
}

static rv_err relevant_nodes(const retrieval_job *job, const json_t *list, question *q)
{
    q->rel = rv_new_array(&rv_heap, json_array_size(list) + 1, sizeof *q->rel);
    if (!q->rel) {
        return rv_fail(RV_E_NOMEM, "questions");
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *id = json_string_value(json_array_get(list, i));
        const json_t *node = id ? json_object_get(job->nodes, id) : NULL;
        if (!node) {
            return rv_fail(RV_E_FORMAT, "rel: no document has the id %s", id ? id : "(not a string)");
        }
        int64_t at = json_integer_value(node);
        size_t seen = 0;
        while (seen < q->n_rel && q->rel[seen] != at) {
            seen++;
        }
        if (seen == q->n_rel) {
            q->rel[q->n_rel++] = at;
        }
    }
    return q->n_rel ? RV_OK : rv_fail(RV_E_FORMAT, "rel: expected at least one document");
}

static rv_err add_question(retrieval_job *job, json_t *row)
{
    question q = { 0 };
    const char *part = "";
    json_t *rel = NULL;
    RV_TRY(rv_json_need_string(row, "id", &q.id, NULL));
    RV_TRY(rv_json_need_string(row, "q", &q.text, NULL));
    RV_TRY(rv_json_get_string(row, "scope", &q.scope, NULL));
    RV_TRY(rv_json_get_string(row, "part", &part, NULL));
    RV_TRY(rv_json_get_array(row, "rel", &rel));
    int64_t category = 0;
    RV_TRY(rv_json_get_int(row, "cat", 0, INT64_MAX, &category));
    if ((job->part && strcmp(part, job->part) != 0) || (job->category && category != job->category)) {
        return RV_OK;
    }
    if (job->n == job->room) {
        size_t room = job->room ? 2 * job->room : 1024;
        question *more = rv_resize(&rv_heap, job->at, room * sizeof *more);
        if (!more) {
            return rv_fail(RV_E_NOMEM, "questions");
        }
        job->at = more;
        job->room = room;
    }
    rv_err e = relevant_nodes(job, rel, &q);
    q.json = json_incref(row);
    job->at[job->n++] = q; /* freed with the job, also after an error */
    return e;
}

/* ---- measuring ---- */

typedef struct figures {
    double recall, mrr, ndcg, ms; /* sums over the questions */
} figures;

static bool is_relevant(const question *q, int64_t id)
{
    for (size_t i = 0; i < q->n_rel; i++) {
        if (q->rel[i] == id) {
            return true;
        }
    }
    return false;
}

static void count_hits(const question *q, const rv_memory_hits *hits, figures *f)
{
    size_t found = 0, first = 0;
    double gain = 0, ideal = 0;
    for (size_t i = 0; i < hits->n; i++) {
        if (is_relevant(q, hits->at[i].id)) {
            found++;
            first = first ? first : i + 1;
            gain += 1 / log2((double)i + 2);
        }
    }
    for (size_t i = 0; i < q->n_rel && i < TOP; i++) {
        ideal += 1 / log2((double)i + 2);
    }
    f->recall += (double)found / (double)q->n_rel;
    f->mrr += first ? 1 / (double)first : 0;
    f->ndcg += gain / ideal;
}

static rv_err ask(retrieval_job *job, const question *q, rv_memory_mode mode, figures *f)
{
    rv_memory_query query = { .text = q->text, .mode = mode, .k = TOP, .filter = { .tag = q->scope } };
    rv_memory_hits hits = { 0 };
    double from = rv_clock_ms();
    rv_err e = rv_memory_search(job->memory, rv_memory_whole(), &query, job->arena, &hits);
    if (e) {
        return rv_fail(e, "question %s: %s", q->id, rv_err_text());
    }
    f->ms += rv_clock_ms() - from;
    count_hits(q, &hits, f);
    for (size_t i = 0; job->run && i < hits.n; i++) {
        fprintf(job->run, "%s Q0 %s %zu %.9g ruvllm-%s\n", q->id, hits.at[i].source, i + 1, hits.at[i].score,
                rv_memory_mode_name(mode));
    }
    rv_arena_reset(job->arena);
    return RV_OK;
}

static rv_err print_figures(const retrieval_job *job, const char *mode, const figures *f)
{
    double n = (double)job->n;
    rv_memory_stats stats;
    RV_TRY(rv_memory_get_stats(job->memory, &stats));
    if (job->json) {
        json_t *row = json_pack("{s:s, s:s, s:I, s:I, s:f, s:f, s:f, s:f}", "mode", mode, "embedder",
                                stats.embedder, "documents", (json_int_t)job->n_docs, "questions",
                                (json_int_t)job->n, "recall@10", f->recall / n, "mrr@10", f->mrr / n,
                                "ndcg@10", f->ndcg / n, "ms_per_question", f->ms / n);
        cmd_print(row);
    } else {
        printf("%-8s %10.4f %10.4f %10.4f %10.2f\n", mode, f->recall / n, f->mrr / n, f->ndcg / n, f->ms / n);
        fflush(stdout);
    }
    return RV_OK;
}

static rv_err measure(retrieval_job *job, rv_memory_mode mode)
{
    figures f = { 0 };
    for (size_t i = 0; i < job->n; i++) {
        if (atomic_load(&cmd_cancel)) {
            return rv_fail(RV_E_CANCELLED, "interrupted");
        }
        RV_TRY(ask(job, &job->at[i], mode, &f));
    }
    return print_figures(job, rv_memory_mode_name(mode), &f);
}

/* ---- graph attention ---- */

enum { FOLDS = 5, ATTEND_HITS = 64, ATTEND_NODES = 192, ATTEND_ARENA = 1 << 20 };

/* A question with what attention sees for it, and where in `at` of the job it stands. */
typedef struct looked {
    rv_attend_example example;
    int64_t *ids; /* [example.n] */
    size_t fold;
} looked;

static rv_err look(retrieval_job *job, const question *q, rv_arena *arena, looked *out)
{
    rv_memory_query query = {
        .text = q->text, .mode = RV_MEMORY_HYBRID, .k = ATTEND_HITS, .filter = { .tag = q->scope }
    };
    rv_memory_bounds bounds = { .max_hops = 1, .max_nodes = ATTEND_NODES, .max_edges = 8 };
    rv_memory_hits hits = { 0 };
    rv_memory_subgraph graph = { 0 };
    size_t dim = rv_embed_dim(job->embed);
    float *vector = rv_arena_take(arena, dim * sizeof *vector);
    if (!vector) {
        return rv_fail(RV_E_NOMEM, "questions");
    }
    RV_TRY(rv_embed_text(job->embed, q->text, strlen(q->text), vector));
    RV_TRY(rv_memory_search(job->memory, rv_memory_whole(), &query, arena, &hits));
    if (hits.n > 0) {
        RV_TRY(rv_memory_subgraph_of(job->memory, rv_memory_whole(), &hits, &query.filter, bounds, arena,
                                     &graph));
    }
    rv_attend_node *nodes;
    RV_TRY(rv_evidence_nodes(job->memory, &graph, &hits, vector, dim, rv_clock_wall_ms(), arena, &nodes));
    bool *used = rv_arena_take(arena, graph.n + 1);
    out->ids = rv_arena_take(arena, (graph.n + 1) * sizeof *out->ids);
    if (!used || !out->ids) {
        return rv_fail(RV_E_NOMEM, "questions");
    }
    for (size_t i = 0; i < graph.n; i++) {
        out->ids[i] = graph.at[i].node.id;
        used[i] = is_relevant(q, out->ids[i]);
    }
    out->example = (rv_attend_example){ vector, nodes, graph.n, used };
    const char *group = q->scope ? q->scope : q->id;
    out->fold = rv_hash64(group, strlen(group), 0) % FOLDS;
    return RV_OK;
}

/* Of the questions in fold, or of all others but the one behind it; only those with something relevant among their nodes. */
static size_t choose(const looked *all, size_t n, size_t fold, bool held, rv_attend_example *out)
{
    size_t chosen = 0;
    for (size_t i = 0; i < n; i++) {
        bool mine = held ? all[i].fold == fold : all[i].fold != fold && all[i].fold != (fold + 1) % FOLDS;
        bool any = false;
        for (size_t j = 0; j < all[i].example.n; j++) {
            any |= all[i].example.used[j];
        }
        if (mine && any) {
            out[chosen++] = all[i].example;
        }
    }
    return chosen;
}

/* The nodes of a question in the order of their scores, the first TOP as hits. */
static void count_ranked(const question *q, const looked *l, const float *scores, figures *f)
{
    rv_memory_node best[TOP];
    rv_memory_hits hits = { .at = best };
    bool taken[RV_ATTEND_NODES_MAX] = { false };
    while (hits.n < TOP && hits.n < l->example.n) {
        size_t next = SIZE_MAX;
        for (size_t i = 0; i < l->example.n; i++) {
            next = !taken[i] && (next == SIZE_MAX || scores[i] > scores[next]) ? i : next;
        }
        taken[next] = true;
        best[hits.n++] = (rv_memory_node){ .id = l->ids[next] };
    }
    count_hits(q, &hits, f);
}

/* Learns on three fifths of the questions (whole scopes), is accepted or not on another, and ranks the last one. */
static rv_err attend_fold(retrieval_job *job, const looked *all, size_t fold, rv_attend_example *learn,
                          rv_attend_example *held, figures *f, size_t *accepted)
{
    const rv_kernels *k = rv_kernels_best();
    size_t n_learn = choose(all, job->n, fold, false, learn),
           n_held = choose(all, job->n, (fold + 1) % FOLDS, true, held);
    rv_attend_weights *w = NULL;
    double before = 0, after = 0;
    RV_TRY(rv_attend_new(&rv_heap, rv_embed_dim(job->embed), true, fold + 1, &w));
    void *scratch = rv_new(&rv_heap, rv_attend_scratch_bytes(w, ATTEND_NODES));
    rv_err e = scratch ? rv_attend_train(w, k, learn, n_learn, held, n_held, rv_attend_training_default(),
                                         &before, &after)
                       : rv_fail(RV_E_NOMEM, "graph attention");
    *accepted += !e && after > before;
    for (size_t i = 0; !e && i < job->n; i++) {
        float scores[RV_ATTEND_NODES_MAX];
        if (all[i].fold == fold) {
            rv_attend_rank(w, k, all[i].example.query, all[i].example.nodes, all[i].example.n, scratch,
                           scores, NULL);
            count_ranked(&job->at[i], &all[i], scores, f);
        }
    }
    rv_free(&rv_heap, scratch);
    rv_attend_free(w);
    return e;
}

/* Graph attention, cross-validated: every question is ranked by weights that saw neither it nor anything of its scope. */
static rv_err measure_attend(retrieval_job *job)
{
    rv_arena *arena = NULL;
    figures f = { 0 };
    size_t accepted = 0;
    looked *all = rv_new_array(&rv_heap, job->n, sizeof *all);
    rv_attend_example *chosen = rv_new_array(&rv_heap, 2 * job->n, sizeof *chosen);
    rv_err e = all && chosen ? rv_arena_new(&rv_heap, job->n * (size_t)ATTEND_ARENA, &arena)
                             : rv_fail(RV_E_NOMEM, "graph attention");
    double from = rv_clock_ms();
    for (size_t i = 0; !e && i < job->n; i++) {
        e = look(job, &job->at[i], arena, &all[i]);
    }
    double ms = rv_clock_ms() - from;
    for (size_t fold = 0; !e && fold < FOLDS; fold++) {
        e = attend_fold(job, all, fold, chosen, chosen + job->n, &f, &accepted);
    }
    if (!e) {
        f.ms = ms;
        e = print_figures(job, "attend", &f);
        if (!job->json) {
            printf("attend: %zu of %d folds learned something that ranked held-back questions better\n",
                   accepted, FOLDS);
        }
    }
    rv_arena_free(arena);
    rv_free(&rv_heap, all);
    rv_free(&rv_heap, chosen);
    return e;
}

static rv_err measure_all(retrieval_job *job, const char *mode)
{
    if (job->n == 0) {
        return rv_fail(RV_E_FORMAT, "there is no question to ask");
    }
    RV_TRY(rv_memory_settle(job->memory)); /* all questions go to the same indexes */
    if (!job->json) {
        rv_memory_stats stats;
        RV_TRY(rv_memory_get_stats(job->memory, &stats));
        printf("%zu documents (%zu repeated, %zu follow another), %zu questions, embedder %s\n%-8s %10s %10s "
               "%10s "
               "%10s\n",
               job->n_docs, job->n_same, job->n_follows, job->n, stats.embedder, "mode", "recall@10",
               "mrr@10", "ndcg@10", "ms");
    }
    for (size_t i = 0; i < RV_COUNT(shown); i++) {
        if (!mode || strcmp(mode, rv_memory_mode_name(shown[i])) == 0) {
            RV_TRY(measure(job, shown[i]));
        }
    }
    return mode && strcmp(mode, "attend") == 0 ? measure_attend(job) : RV_OK;
}

/* ---- the store ---- */

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *at)
{
    (void)info, (void)kind, (void)at;
    return remove(path);
}

/* Every note is one durable transaction; in memory that costs no disk. */
static rv_err make_folder(char *out, size_t room)
{
    const char *tmp = getenv("TMPDIR");
    const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : tmp && *tmp ? tmp : "/tmp";
    int n = snprintf(out, room, "%s/ruvllm-eval-XXXXXX", base);
    if (n < 0 || (size_t)n >= room || !mkdtemp(out)) {
        out[0] = 0;
        return rv_fail(RV_E_IO, "%s: no folder could be made there: %s", base, strerror(errno));
    }
    return RV_OK;
}

static rv_err open_store(const cmd_line *line, const char *folder, rv_config **config, rv_app **app)
{
    rv_config *c = NULL;
    RV_TRY(cmd_config(line, &c));
    rv_err e = rv_config_set(c, "system.data_dir", folder, "eval retrieval");
    if (!e) {
        e = rv_app_open(&rv_heap, c, RV_APP_MEMORY, app);
    }
    if (e) {
        rv_config_free(c);
        return e;
    }
    *config = c;
    return RV_OK;
}

static void free_job(retrieval_job *job)
{
    for (size_t i = 0; i < job->n; i++) {
        json_decref(job->at[i].json);
        rv_free(&rv_heap, job->at[i].rel);
    }
    rv_free(&rv_heap, job->at);
    json_decref(job->nodes);
    rv_arena_free(job->arena);
}

int cmd_eval_retrieval(cmd_line *line)
{
    const char *docs = cmd_value(line, "docs", NULL), *queries = cmd_value(line, "queries", NULL);
    const char *mode = cmd_value(line, "mode", NULL), *run = cmd_value(line, "run", NULL);
    retrieval_job job = { .part = cmd_value(line, "part", NULL), .json = line->json };
    if (!docs || !queries) {
        return cmd_usage(line, "--docs and --queries are needed");
    }
    if (!cmd_int(line, "cat", 1, INT64_MAX, &job.category)) {
        return CMD_USAGE;
    }
    rv_memory_mode known;
    if (mode && strcmp(mode, "attend") != 0 && rv_memory_mode_of(mode, &known)) {
        return cmd_usage(line, "--mode is attend, graph, hybrid, vector or words, found `%s`", mode);
    }
    job.nodes = json_object();
    rv_config *config = NULL;
    rv_app *app = NULL;
    char folder[4096];
    cmd_catch_interrupt();
    rv_err e = make_folder(folder, sizeof folder);
    if (!e) {
        e = rv_arena_new(&rv_heap, ARENA_BYTES, &job.arena);
    }
    if (!e) {
        e = open_store(line, folder, &config, &app);
    }
    if (!e) {
        job.memory = rv_app_pipeline(app)->memory;
        job.embed = rv_app_pipeline(app)->embed;
        e = read_lines(&job, docs, add_document);
    }
    if (!e) {
        e = read_lines(&job, queries, add_question);
    }
    if (!e && run && !(job.run = fopen(run, "wb"))) {
        e = rv_fail(RV_E_IO, "%s: cannot be written: %s", run, strerror(errno));
    }
    if (!e) {
        e = measure_all(&job, mode);
    }
    if (job.run && fclose(job.run) != 0 && !e) {
        e = rv_fail(RV_E_IO, "%s: writing failed", run);
    }
    free_job(&job);
    cmd_close(config, app);
    if (folder[0] && nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS) != 0 && !e) {
        e = rv_fail(RV_E_IO, "%s: cannot be removed: %s", folder, strerror(errno));
    }
    return e ? cmd_fail(e) : CMD_DONE;
}
