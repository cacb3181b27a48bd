/* What do concepts and dreams do to finding? Conversations of LoCoMo, each one user's memory, joined turn by turn; every second question is rated,
 * with the turns that hold its answer; the other half measures. Prints nDCG@10 and recall@10 of that half: as it is, with the edges of all concepts,
 * and what the stages themselves decided on the rated half; with the time each took.
 *
 *     bench_learn_deep EMBEDDER DOCS.jsonl QUERIES.jsonl [CONVERSATION ..]     formats of `ruvllm eval retrieval` */
#include "bench.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "learn/deep.h"
#include "learn/episode.h"
#include "learn/overlay.h"
#include "learn/probes.h"
#include "store/witness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NAME = 64, FOUND = 64 };

static rv_err by_embed(const void *self, const char *text, size_t n, float *out)
{
    return rv_embed_text(self, text, n, out);
}

typedef struct bench {
    rv_db *db;
    rv_memory *memory;
    rv_embed *embed;
    json_t *ids; /* name of a document -> node */
    rv_arena *arena;
    rv_probe *probes; /* [n] that measure */
    size_t n, rated;
} bench;

static bool wanted(const char *scope, int argc, char **argv)
{
    bool any = argc == 0;
    for (int i = 0; i < argc; i++) {
        any = any || strcmp(scope, argv[i]) == 0;
    }
    return any;
}

/* conv-26/D1:3 */
static void scope_of(const char *id, char out[NAME])
{
    snprintf(out, NAME, "%.*s", (int)strcspn(id, "/"), id);
}

static json_t *next_line(char **at)
{
    json_t *row = NULL;
    size_t n = strcspn(*at, "\n");
    if (n == 0) {
        return NULL;
    }
    must(rv_json_parse(*at, n, &row));
    *at += n + ((*at)[n] == '\n');
    return row;
}

static void add_documents(bench *b, const char *path, int argc, char **argv)
{
    char *bytes, *at, scope[NAME], before[NAME] = "";
    size_t n;
    int64_t last = 0;
    must(rv_file_read(&rv_heap, path, 1u << 30, &bytes, &n));
    at = bytes;
    for (json_t *row; (row = next_line(&at)); json_decref(row)) {
        const char *id = json_string_value(json_object_get(row, "id"));
        int64_t node;
        bool added;
        scope_of(id, scope);
        if (!wanted(scope, argc, argv)) {
            continue;
        }
        rv_memory_new new = { .type = "note",
                              .text = json_string_value(json_object_get(row, "text")),
                              .created_ms = 1000 };
        must(rv_memory_add(b->memory, rv_memory_of(scope), &new, &node, &added));
        if (added && last && strcmp(scope, before) == 0) {
            must(rv_memory_link(b->memory, rv_memory_whole(), node, last, "follows", 1));
        }
        last = node;
        strcpy(before, scope);
        json_object_set_new(b->ids, id, json_integer(node));
    }
    rv_free(&rv_heap, bytes);
}

static void rate(bench *b, const rv_probe *p, size_t number)
{
    char id[40], answer[FOUND * 8] = "";
    sqlite3 *conn;
    for (size_t i = 0; i < p->n_useful; i++) {
        snprintf(answer + strlen(answer), sizeof answer - strlen(answer), "[%zu] ", i + 1);
    }
    snprintf(id, sizeof id, "q%zu", number);
    rv_episode e = { .request_id = id,
                     .session_id = "s",
                     .user = p->user,
                     .question = p->question,
                     .answer = answer,
                     .model = "m",
                     .sources = p->useful,
                     .n_sources = p->n_useful,
                     .created_ms = 2000 + (int64_t)number };
    must(rv_db_begin(b->db, &conn));
    must(rv_episode_append(conn, &e));
    must(rv_db_exec(conn, "INSERT INTO feedback VALUES (?1, 'rating', 5, '', 0, 3000)", "t", id));
    must(rv_db_commit(b->db));
    b->rated++;
}

static void add_questions(bench *b, const char *path, int argc, char **argv)
{
    char *bytes, *at;
    size_t n, seen = 0;
    must(rv_file_read(&rv_heap, path, 1u << 30, &bytes, &n));
    at = bytes;
    b->probes = rv_arena_take(b->arena, 100000 * sizeof *b->probes);
    for (json_t *row; (row = next_line(&at)); json_decref(row)) {
        const char *scope = json_string_value(json_object_get(row, "scope"));
        const json_t *rel = json_object_get(row, "rel");
        if (!wanted(scope, argc, argv)) {
            continue;
        }
        int64_t *useful = rv_arena_take(b->arena, FOUND * sizeof *useful);
        float *vector = rv_arena_take(b->arena, rv_embed_dim(b->embed) * sizeof *vector);
        rv_probe p = { .question = rv_arena_strdup(b->arena, json_string_value(json_object_get(row, "q"))),
                       .user = rv_arena_strdup(b->arena, scope),
                       .vector = vector,
                       .useful = useful };
        if (!useful || !vector || !p.question || !p.user) {
            fprintf(stderr, "no memory\n");
            exit(1);
        }
        for (size_t i = 0; i < json_array_size(rel) && p.n_useful < FOUND; i++) {
            const json_t *node = json_object_get(b->ids, json_string_value(json_array_get(rel, i)));
            if (node) {
                useful[p.n_useful++] = json_integer_value(node);
            }
        }
        must(rv_embed_text(b->embed, p.question, strlen(p.question), vector));
        if (p.n_useful > 0 && seen++ % 2) {
            rate(b, &p, seen);
        } else if (p.n_useful > 0) {
            b->probes[b->n++] = p;
        }
    }
    rv_free(&rv_heap, bytes);
}

static void measure(const bench *b, const char *what, const rv_memory_edge *supposed, size_t n)
{
    rv_probes_score s = { 0 };
    must(rv_probes_measure(
        &(rv_deep_place){ .memory = b->memory, .until_ms = rv_clock_ms() + 3600e3 }, b->probes, b->n,
        &(rv_memory_query){ .mode = RV_MEMORY_GRAPH, .supposed = supposed, .n_supposed = n }, &s));
    printf("{\"edges\":\"%s\",\"n_edges\":%zu,\"questions\":%zu,\"ndcg_10\":%.4f,\"recall_10\":%.4f}\n", what,
           n, b->n, s.ndcg, s.recall);
    fflush(stdout);
}

/* An edge of weight 1 from every concept to what it contains. */
static void measure_concepts(const bench *b)
{
    sqlite3 *conn;
    sqlite3_stmt *s = NULL;
    bool row = true;
    rv_memory_edge *edges = rv_arena_take(b->arena, 100000 * sizeof *edges);
    size_t n = 0;
    must(rv_db_reader(b->db, &conn));
    must(rv_db_prepare(conn, &s, "SELECT from_id, to_id FROM edges WHERE type = 'contains'", ""));
    for (must(rv_db_step(s, &row)); row && n < 100000; must(rv_db_step(s, &row))) {
        edges[n++] = (rv_memory_edge){ sqlite3_column_int64(s, 0), sqlite3_column_int64(s, 1), "derived", 1 };
    }
    sqlite3_finalize(s);
    rv_db_reader_done(b->db, conn);
    measure(b, "all concepts, weight 1", edges, n);
}

static void run(const bench *b, const char *what, rv_err (*stage)(const rv_deep_place *, rv_loop_report *))
{
    rv_loop_report r = { 0 };
    double from = rv_clock_ms();
    rv_deep_place place = { .db = b->db, .memory = b->memory, .embed = b->embed, .until_ms = from + 3600e3 };
    must(stage(&place, &r));
    printf("{\"stage\":\"%s\",\"seconds\":%.2f,\"accepted\":%s,\"before\":%.4f,\"after\":%.4f,\"rated\":%zu,"
           "\"why\":\"%s\"}\n",
           what, (rv_clock_ms() - from) / 1000, r.accepted ? "true" : "false", r.before, r.after, b->rated,
           r.why);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    char dir[] = "/tmp/bench_learn_deep.XXXXXX";
    bench b = { .ids = json_object() };
    if (argc < 4 || !mkdtemp(dir)) {
        fprintf(stderr, "bench_learn_deep EMBEDDER DOCS.jsonl QUERIES.jsonl [CONVERSATION ..]\n");
        return 2;
    }
    must(rv_embed_open(&rv_heap, argv[1], &b.embed));
    must(rv_arena_new(&rv_heap, 1u << 30, &b.arena));
    must(rv_db_open(&rv_heap, dir, &b.db));
    rv_memory_embedder e = { rv_embed_name(b.embed), rv_embed_dim(b.embed), by_embed, b.embed };
    must(rv_memory_open(&rv_heap, b.db, dir, e, &b.memory));
    must(rv_witness_setup(b.db));
    must(rv_policy_setup(b.db));
    must(rv_episode_setup(b.db));
    add_documents(&b, argv[2], argc - 4, argv + 4);
    add_questions(&b, argv[3], argc - 4, argv + 4);
    measure(&b, "none but those of the conversation", NULL, 0);
    run(&b, "concepts", rv_deep_concepts);
    measure_concepts(&b);
    run(&b, "dreams", rv_deep_dreams);
    measure(&b, "as the stages left it", NULL, 0);
    rv_memory_close(b.memory);
    rv_db_close(b.db);
    rv_arena_free(b.arena);
    rv_embed_close(b.embed);
    json_decref(b.ids);
    printf("{\"folder\":\"%s\"}\n", dir);
    return 0;
}
