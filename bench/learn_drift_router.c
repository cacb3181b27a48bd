/* What is left of one subject in the router after ten thousand ratings of another? Outcomes of subject A are rated, then those of subject B, and a round of
 * learning (learn/routing.h) makes a router of what is kept: nothing of A (the control), a store that has room for all, or one that is far too small.
 * Each JSON line: on held-back questions of A (the anchors) and of B, how often the router's guess whether a tier will be right is right, and its loss in nats;
 * and how much rarer the anchors' guesses are right than after A alone, with the standard error of that difference (over questions, each with its guesses).
 *
 *     bench_learn_drift_router mmlu.jsonl EMBEDDER SUBJECTS [RATINGS [SMALL [DIVISION]]]       rows of ../shared/data/routing
 *
 * SUBJECTS: words, comma-separated; a row whose task has one of them is of A. RATINGS of B: 10000. SMALL: 1000, the store that is too small.
 * DIVISION: 0, questions are held back as the rows say; n, another quarter of all rows, the n-th draw: a small subject has few questions in one of them. */
#include "bench.h"
#include "base/file.h"
#include "base/rng.h"
#include "embed/embed.h"
#include "learn/episode.h"
#include "learn/judge.h"
#include "learn/routing.h"
#include "store/policy.h"
#include "routing_rows.h"
#include "store/witness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    rv_embed *embed;
    routing_rows rows;
    bool *of_a; /* [rows.n] */
    float *domains;
    int8_t *first; /* [rows.n] right guesses of each anchor after A alone */
} world;

static bool is_of(const char *task, const char *subjects)
{
    char words[512];
    snprintf(words, sizeof words, "%s", subjects);
    for (char *save = NULL, *w = strtok_r(words, ",", &save); w; w = strtok_r(NULL, ",", &save)) {
        if (strstr(task, w)) {
            return true;
        }
    }
    return false;
}

static void read_rows(const char *path, const char *subjects, uint64_t division)
{
    world.rows = routing_rows_read(path);
    world.first = memory(calloc(world.rows.n + 1, sizeof *world.first));
    for (size_t i = 0; division > 0 && i < world.rows.n; i++) {
        const uint64_t draw[] = { i, division };
        world.rows.at[i].test = rv_hash64(draw, sizeof draw, 77) % 4 == 0;
    }
    world.of_a = memory(calloc(world.rows.n + 1, sizeof *world.of_a));
    for (size_t i = 0; i < world.rows.n; i++) {
        world.of_a[i] = is_of(world.rows.at[i].task, subjects);
    }
}

static bool is_right(const routing_row *r, size_t tier)
{
    return r->ok[tier] > 0.5;
}

/* Both tiers were asked; the larger one's answer was shown, and rated, or corrected. */
static void rate(sqlite3 *conn, const routing_row *r, size_t number, uint64_t id)
{
    char request[37], route[256];
    snprintf(request, sizeof request, "%08x-0000-4000-8000-%012zu", (unsigned)rv_hash64(&id, sizeof id, 1),
             number); /* as if drawn */
    snprintf(route, sizeof route,
             "{\"explored\":true,\"tries\":[{\"model\":\"%s\",\"confidence\":0.5,\"text\":\"%s\"}]}",
             world.rows.names[0], is_right(r, 0) ? "right" : "wrong");
    rv_episode e = { .request_id = request,
                     .session_id = "s",
                     .question = r->prompt,
                     .answer = is_right(r, 1) ? "right" : "wrong",
                     .model = world.rows.names[1],
                     .confidence = 0.5,
                     .created_ms = (int64_t)number,
                     .route = route };
    must(rv_episode_append(conn, &e));
    must(rv_db_exec(conn, "INSERT INTO feedback VALUES (?1, ?2, ?3, ?4, 0, 0)", "ttit", request,
                    is_right(r, 1) ? "rating" : "correction", (int64_t)(is_right(r, 1) ? 5 : 0),
                    is_right(r, 1) ? "" : "right"));
}

typedef struct found {
    double right, loss, fell, error;
} found;

static found test(const rv_router *router, bool of_a, bool first)
{
    float *vector = memory(calloc(rv_embed_dim(world.embed), sizeof *vector));
    void *scratch = memory(malloc(rv_router_scratch_bytes(router)));
    double n = 0, questions = 0, fell = 0, squares = 0;
    found all = { 0 };
    for (size_t i = 0; i < world.rows.n; i++) {
        const routing_row *r = &world.rows.at[i];
        if (!r->test || world.of_a[i] != of_a) {
            continue;
        }
        rv_routed routed;
        rv_slot_input in = { .text = r->prompt, .n = strlen(r->prompt), .vector = vector, .device = 2 };
        must(rv_embed_text(world.embed, r->prompt, in.n, vector));
        rv_router_route(router, &in, 0, true, scratch, &routed);
        int right = 0;
        for (int t = 0; t < 2; t++) {
            double p = fmin(0.999, fmax(0.001, (double)routed.p_right[t]));
            right += (p > 0.5) == is_right(r, t);
            all.loss -= log(is_right(r, t) ? p : 1 - p);
            n++;
        }
        if (of_a && first) {
            world.first[i] = (int8_t)right;
        }
        double d = (world.first[i] - right) / 2.0;
        all.right += right;
        fell += d;
        squares += d * d;
        questions++;
    }
    all.right /= n;
    all.loss /= n;
    all.fell = fell / questions;
    all.error = sqrt((squares / questions - all.fell * all.fell) / questions);
    free(scratch);
    free(vector);
    return all;
}

/* One after the other, each once before any comes again. */
static const routing_row *next(bool of_a, size_t *at)
{
    do {
        *at = (*at + 1) % world.rows.n;
    } while (world.rows.at[*at].test || world.of_a[*at] != of_a);
    return &world.rows.at[*at];
}

static void round_of(rv_db *db, const char *what, size_t ratings, size_t capacity, bool first)
{
    static const float costs[] = { 1, 10 };
    const char *names[] = { world.rows.names[0], world.rows.names[1] };
    rv_routing_job job = { .db = db,
                           .embed = world.embed,
                           .domains = world.domains,
                           .tiers = names,
                           .costs = costs,
                           .n_tiers = 2,
                           .usual = 1,
                           .threshold = 0.7,
                           .capacity = capacity,
                           .cost_share = 0.45 };
    rv_routing_done done;
    rv_router *fresh = NULL;
    uint8_t *bytes;
    size_t n;
    must(rv_routing_learn(&job, &done, &fresh));
    rv_router_free(fresh);
    must(rv_policy_read(db, &rv_heap, RV_ROUTING_POLICY, done.version, &bytes, &n)); /* refused or not */
    must(rv_router_unpack(&rv_heap, bytes, n, &fresh));
    rv_free(&rv_heap, bytes);
    found anchors = test(fresh, true, first), b = test(fresh, false, false);
    printf("{\"after\":\"%s\",\"ratings\":%zu,\"kept\":%zu,\"questions\":%zu,\"anchors_right\":%.4f,"
           "\"anchors_loss\":%.4f,\"fell\":%.4f,\"error\":%.4f,\"b_right\":%.4f,\"b_loss\":%.4f}\n",
           what, ratings, done.episodes, done.questions, anchors.right, anchors.loss, anchors.fell,
           anchors.error, b.right, b.loss);
    fflush(stdout);
    rv_router_free(fresh);
}

int main(int argc, char **argv)
{
    char folder[] = "/tmp/ruvllm-drift-XXXXXX";
    if (argc < 4 || !mkdtemp(folder)) {
        fprintf(stderr,
                "bench_learn_drift_router mmlu.jsonl EMBEDDER SUBJECTS [RATINGS [SMALL [DIVISION]]]\n");
        return 2;
    }
    size_t ratings = argc > 4 ? strtoul(argv[4], NULL, 10) : 10000,
           small = argc > 5 ? strtoul(argv[5], NULL, 10) : 1000, n_a = 0, at = 0;
    rv_db *db;
    sqlite3 *conn;
    must(rv_embed_open(&rv_heap, argv[2], &world.embed));
    size_t dim = rv_embed_dim(world.embed);
    world.domains = memory(calloc(RV_SLOT_DOMAINS * dim, sizeof *world.domains));
    for (size_t d = 0; d < RV_SLOT_DOMAINS; d++) {
        must(rv_embed_text(world.embed, rv_domain_texts[d], strlen(rv_domain_texts[d]),
                           world.domains + d * dim));
    }
    read_rows(argv[1], argv[3], argc > 6 ? strtoul(argv[6], NULL, 10) : 0);
    must(rv_db_open(&rv_heap, folder, &db));
    must(rv_witness_setup(db));
    must(rv_policy_setup(db));
    must(rv_episode_setup(db));
    must(rv_judge_setup(db));
    for (size_t i = 0; i < world.rows.n; i++) {
        n_a += world.of_a[i] && !world.rows.at[i].test;
    }
    must(rv_db_begin(db, &conn));
    for (size_t i = 0; i < n_a; i++) {
        rate(conn, next(true, &at), i, i);
    }
    must(rv_db_commit(db));
    round_of(db, "subject A", n_a, 100000, true);
    must(rv_db_begin(db, &conn));
    for (size_t i = 0; i < ratings; i++) {
        rate(conn, next(false, &at), n_a + i, n_a + i);
    }
    must(rv_db_commit(db));
    round_of(db, "subject B, all kept", ratings, 100000, false);
    round_of(db, "subject B, a small store", ratings, small, false);
    must(rv_db_begin(db, &conn));
    must(rv_db_exec(
        conn,
        "DELETE FROM feedback WHERE request_id IN (SELECT request_id FROM episode WHERE created_ms < ?1)",
        "i", (int64_t)n_a));
    must(rv_db_exec(conn, "DELETE FROM episode WHERE created_ms < ?1", "i", (int64_t)n_a));
    must(rv_db_commit(db));
    round_of(db, "subject B alone", ratings, 100000, false);
    rv_db_close(db);
    rv_embed_close(world.embed);
    return 0;
}
