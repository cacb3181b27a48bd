/* Routing learned from feedback, replayed: what every tier answers to every question is recorded (bench/learn_routing.py --controls
 * DIR), so choosing, rating, learning and the gate run as in the program, and nothing is generated. Minutes become seconds, and what
 * needs many runs can be asked: other orders, other settings, ratings that were turned round.
 *
 *     bench_learn_replay DIR EMBEDDER [questions [seed [explore [threshold [cost_share [flipped]]]]]]
 *
 * Files of DIR are named TIER-BYTES.jsonl; a token costs BYTES. flipped: of 100 ratings, how many say the opposite. One JSON line for each
 * half, with the quality of always the largest beside it. */
#include "bench.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/rng.h"
#include "embed/embed.h"
#include "learn/episode.h"
#include "learn/judge.h"
#include "learn/routing.h"
#include "router/box.h"
#include "store/policy.h"
#include "store/witness.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TIERS_MAX = RV_ROUTER_TIERS, HITS_MAX = 16, LEAST_NEW = 100, TEXT_ROOM = 512 };

typedef struct told {
    char text[TEXT_ROOM];
    double confidence, tokens;
    float says[RV_SAYS];
    bool right;
} told;

typedef struct asked {
    char *question;
    float *distances; /* [n] of its passages */
    float cover[RV_COVER];
    uint8_t kinds[HITS_MAX];
    size_t n;
    told by[TIERS_MAX];
    bool have[TIERS_MAX];
} asked;

typedef struct half {
    double n, right, big, cost, big_cost, cheapest, model[TIERS_MAX], drafts, tried, fallback;
} half;

static struct {
    rv_embed *embed;
    asked *at;
    size_t n, tiers;
    char names[TIERS_MAX][32];
    const char *name[TIERS_MAX];
    float costs[TIERS_MAX];
    float domains[RV_SLOT_DOMAINS * 1024];
} world;

/* ---- reading ---- */

static void find_tiers(const char *dir, char paths[TIERS_MAX][512])
{
    DIR *d = opendir(dir);
    struct dirent *entry;
    while (d && (entry = readdir(d)) && world.tiers < TIERS_MAX) {
        char *dash = strrchr(entry->d_name, '-');
        if (dash && strstr(dash, ".jsonl")) {
            size_t at = world.tiers++;
            float cost = (float)atof(dash + 1);
            for (; at > 0 && world.costs[at - 1] > cost; at--) {
                world.costs[at] = world.costs[at - 1];
                memcpy(world.names[at], world.names[at - 1], sizeof world.names[at]);
                memcpy(paths[at], paths[at - 1], sizeof paths[at]);
            }
            world.costs[at] = cost;
            snprintf(world.names[at], sizeof world.names[at], "%.*s", (int)(dash - entry->d_name),
                     entry->d_name);
            snprintf(paths[at], sizeof paths[at], "%s/%s", dir, entry->d_name);
        }
    }
    if (d) {
        closedir(d);
    }
    for (size_t t = 0; t < world.tiers; t++) {
        world.name[t] = world.names[t];
    }
}

static asked *find(const char *question, const json_t *passages)
{
    size_t dim = rv_embed_dim(world.embed), n = json_array_size(passages);
    for (size_t i = 0; i < world.n; i++) {
        if (strcmp(world.at[i].question, question) == 0 && world.at[i].n == n) {
            return &world.at[i];
        }
    }
    world.at = realloc(world.at, (world.n + 1) * sizeof *world.at);
    asked *a = &world.at[world.n++];
    *a = (asked){ .question = strdup(question), .n = n < HITS_MAX ? n : HITS_MAX };
    a->distances = calloc(HITS_MAX, sizeof *a->distances);
    float *q = calloc(2 * dim, sizeof *q), *v = q + dim;
    must(rv_embed_text(world.embed, question, strlen(question), q));
    for (size_t p = 0; p < a->n; p++) {
        const char *text = json_string_value(json_array_get(passages, p));
        double dot = 0;
        must(rv_embed_text(world.embed, text, strlen(text), v));
        for (size_t k = 0; k < dim; k++) {
            dot += (double)q[k] * v[k];
        }
        a->distances[p] = (float)(1 - dot);
        a->kinds[p] = 1;
    }
    rv_str texts[HITS_MAX];
    for (size_t p = 0; p < a->n; p++) {
        const char *text = json_string_value(json_array_get(passages, p));
        texts[p] = rv_str_of(text, strlen(text));
    }
    rv_cover_fill(rv_str_of(question, strlen(question)), texts, a->n, a->cover);
    free(q);
    return a;
}

static void read_tier(size_t tier, const char *path)
{
    FILE *f = fopen(path, "r");
    char *line = NULL;
    size_t room = 0;
    while (f && getline(&line, &room, f) > 0) {
        json_t *row = NULL;
        must(rv_json_parse(line, strlen(line), &row));
        const json_t *ask = json_object_get(row, "asked");
        asked *a = find(json_string_value(json_array_get(ask, 1)), json_array_get(ask, 0));
        told *by = &a->by[tier];
        snprintf(by->text, sizeof by->text, "%s", json_string_value(json_object_get(row, "text")));
        by->confidence = json_number_value(json_object_get(row, "confidence"));
        by->tokens = json_number_value(json_object_get(row, "tokens"));
        by->right = json_is_true(json_object_get(row, "right"));
        const json_t *shown = json_object_get(row, "sources");
        rv_str passages[HITS_MAX];
        size_t n = json_array_size(shown) < HITS_MAX ? json_array_size(shown) : HITS_MAX;
        for (size_t p = 0; p < n; p++) {
            const json_t *text = json_array_get(shown, p);
            passages[p] = rv_str_of(json_string_value(text), json_string_length(text));
        }
        rv_says_fill(rv_str_of(a->question, strlen(a->question)), passages, n,
                     rv_str_of(by->text, strlen(by->text)), by->says);
        a->have[tier] = true;
        json_decref(row);
    }
    free(line);
    if (f) {
        fclose(f);
    }
}

/* ---- living through it ---- */

typedef struct life {
    rv_db *db;
    rv_router_box *box;
    sqlite3 *conn; /* of the episodes since the last round: one transaction */
    rv_rng rng;
    rv_router *router;
    int64_t version;
    double explore, threshold, share;
    int flipped;
    size_t rated, learned;
    bool shows;
} life;

/* vector [dim] is filled too. */
static rv_slot_input input_of(const asked *a, float *vector)
{
    must(rv_embed_text(world.embed, a->question, strlen(a->question), vector));
    return (rv_slot_input){ .text = a->question,
                            .n = strlen(a->question),
                            .vector = vector,
                            .device = 2,
                            .privacy = 1,
                            .distances = a->distances,
                            .kinds = a->kinds,
                            .n_hits = a->n,
                            .cover = a->cover,
                            .k = a->n };
}

static rv_draft draft_of(const told *t)
{
    return rv_draft_of(t->confidence, t->text, strlen(t->text), t->says);
}

/* The tiers that answer one after the other. */
static size_t answers_of(const rv_router *router, const rv_routed *routed, size_t tier, const asked *a,
                         size_t order[RV_ROUTER_ANSWERS])
{
    rv_draft drafts[RV_ROUTER_TIERS];
    for (size_t t = 0; t < world.tiers; t++) {
        drafts[t] = draft_of(&a->by[t]);
    }
    return rv_router_follow(router, routed, tier, drafts, (uint32_t)(1u << world.tiers) - 1, order);
}

static double cost_of(const asked *a, const size_t *order, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += a->by[order[i]].tokens * (double)world.costs[order[i]];
    }
    return sum;
}

/* What a router would make of all questions from here on, had it been used: quality and cost, both less those of always the largest.
 * Nobody learns from it: it shows whether the gate kept the right one. */
static void foretell(const life *l, const rv_router *router, size_t from)
{
    size_t big = world.tiers - 1;
    float *vector = calloc(rv_embed_dim(world.embed), sizeof *vector);
    void *scratch = malloc(rv_router_scratch_bytes(router));
    double right = 0, cost = 0, big_right = 0, big_cost = 0, model[TIERS_MAX] = { 0 }, drafts = 0, fell = 0;
    for (size_t i = from; i < world.n; i++) {
        const asked *a = &world.at[i];
        rv_routed routed;
        rv_slot_input in = input_of(a, vector);
        rv_choice_how how = { .usual = big,
                              .allowed = (uint32_t)(1u << world.tiers) - 1,
                              .threshold = l->threshold };
        rv_router_route(router, &in, 0, true, scratch, &routed);
        rv_choice choice = rv_router_choose(&routed, &how);
        size_t order[RV_ROUTER_ANSWERS], n = answers_of(router, &routed, choice.tier, a, order),
                                         tier = order[n - 1];
        fell += choice.fallback;
        cost += cost_of(a, order, n);
        drafts += n > 1;
        model[tier]++;
        right += a->by[tier].right;
        big_right += a->by[big].right;
        big_cost += a->by[big].tokens * (double)world.costs[big];
    }
    double n = (double)(world.n - from);
    fprintf(stderr, "    on what comes: quality %+.4f, cost %.4f, went on %.3f, default %.3f, shares",
            (right - big_right) / n, cost / big_cost, drafts / n, fell / n);
    for (size_t t = 0; t < world.tiers; t++) {
        fprintf(stderr, " %.3f", model[t] / n);
    }
    fprintf(stderr, "\n");
    free(scratch);
    free(vector);
}

/* The box counts tries by whether a router is in use. */
static void show_box(life *l)
{
    uint8_t *bytes = NULL;
    size_t n = 0;
    rv_router *copy = NULL;
    must(rv_router_pack(&rv_heap, l->router, &bytes, &n));
    must(rv_router_unpack(&rv_heap, bytes, n, &copy));
    must(rv_router_publish(l->box, copy, l->version));
    rv_free(&rv_heap, bytes);
}

static void learn(life *l, size_t from)
{
    rv_routing_job job = { .db = l->db,
                           .embed = world.embed,
                           .domains = world.domains,
                           .tiers = world.name,
                           .costs = world.costs,
                           .n_tiers = world.tiers,
                           .usual = world.tiers - 1,
                           .threshold = l->threshold,
                           .cascade = true,
                           .capacity = 100000,
                           .cost_share = l->share,
                           .now = l->router,
                           .now_version = l->version };
    rv_routing_done done;
    rv_router *fresh = NULL;
    double start = rv_clock_ms();
    if (rv_routing_learn(&job, &done, &fresh)) {
        fprintf(stderr, "%zu: %s\n", l->rated, rv_err_text());
        return;
    }
    fprintf(stderr, "%zu: %s (%.0f ms)\n", l->rated, done.why, rv_clock_ms() - start);
    if (l->shows) {
        rv_router *candidate = NULL;
        uint8_t *bytes = NULL;
        size_t n = 0;
        must(rv_policy_read(l->db, &rv_heap, RV_ROUTING_POLICY, done.version, &bytes, &n));
        must(rv_router_unpack(&rv_heap, bytes, n, &candidate));
        foretell(l, candidate, from);
        rv_router_free(candidate);
        rv_free(&rv_heap, bytes);
    }
    if (fresh) {
        rv_router_free(l->router);
        l->router = fresh;
        l->version = done.version;
        show_box(l);
    }
}

static json_t *numbers(const float *at, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list, json_real((double)at[i]));
    }
    return list;
}

static json_t *other_json(const asked *a, size_t tier)
{
    return json_pack("{s:s, s:f, s:s, s:f, s:o}", "model", world.names[tier], "confidence",
                     a->by[tier].confidence, "text", a->by[tier].text, "tokens", a->by[tier].tokens, "says",
                     numbers(a->by[tier].says, RV_SAYS));
}

static void live(life *l, const asked *a, size_t i, half *h)
{
    size_t tiers = world.tiers, big = tiers - 1, best = 0;
    rv_routed routed = { .tiers = tiers };
    void *scratch = l->router ? malloc(rv_router_scratch_bytes(l->router)) : NULL;
    float *vector = calloc(rv_embed_dim(world.embed), sizeof *vector);
    rv_choice_how how = { .usual = big, .allowed = (uint32_t)(1u << tiers) - 1, .threshold = l->threshold };
    double draw = rv_rng_unit(&l->rng), explores = rv_router_explores(l->box, l->explore);
    bool explored = draw < explores;
    if (l->router) {
        rv_slot_input in = input_of(a, vector);
        rv_router_route(l->router, &in, 0, true, scratch, &routed);
    }
    rv_choice choice = rv_router_choose(l->router ? &routed : NULL, &how);
    size_t order[RV_ROUTER_ANSWERS] = { choice.tier }, n = 1;
    if (l->router) {
        n = answers_of(l->router, &routed, choice.tier, a, order);
    }
    size_t tier = order[n - 1];
    uint32_t answered = 0;
    for (size_t k = 0; k < n; k++) {
        answered |= 1u << order[k];
    }
    for (best = 0; best < tiers && !a->by[best].right; best++) {
    }
    best = best == tiers ? 0 : best;
    h->n += 1;
    h->right += a->by[tier].right;
    h->big += a->by[big].right;
    h->cost += cost_of(a, order, n);
    h->big_cost += a->by[big].tokens * (double)world.costs[big];
    h->cheapest += tier == best;
    h->model[tier] += 1;
    h->drafts += n > 1;
    h->tried += explored;
    h->fallback += choice.fallback;

    char id[37], hits[1024] = "";
    snprintf(id, sizeof id, "00000000-0000-4000-8000-%012u", (unsigned)i);
    for (size_t p = 0, at = 0; p < a->n; p++) {
        at += (size_t)snprintf(hits + at, sizeof hits - at, "%s[%.4f,1]", p ? "," : "",
                               (double)a->distances[p]);
    }
    json_t *how_it_went = json_object(), *tries = json_array(), *list = NULL;
    char brackets[1100];
    snprintf(brackets, sizeof brackets, "[%s]", hits);
    must(rv_json_parse(brackets, strlen(brackets), &list));
    json_object_set_new(how_it_went, "hits", list);
    json_object_set_new(how_it_went, "cover", numbers(a->cover, RV_COVER));
    json_object_set_new(how_it_went, "says", numbers(a->by[tier].says, RV_SAYS));
    json_object_set_new(how_it_went, "tokens", json_real(a->by[tier].tokens));
    if (!choice.fallback) {
        json_object_set_new(how_it_went, "version", json_integer((json_int_t)l->version));
    }
    json_t *drafts = json_array();
    for (size_t k = 0; k + 1 < n; k++) {
        json_array_append_new(drafts, other_json(a, order[k]));
    }
    json_object_set_new(how_it_went, "drafts", drafts);
    for (size_t t = 0; t < tiers; t++) {
        double each = (double)world.costs[t];
        if (!(answered >> t & 1) && rv_router_tries(draw, explores, each, (double)world.costs[big])) {
            json_array_append_new(tries, other_json(a, t));
            h->cost += a->by[t].tokens * each;
        }
    }
    json_object_set_new(how_it_went, "explored", json_boolean(explored));
    if (json_array_size(tries) > 0) {
        json_object_set(how_it_went, "tries", tries);
    }
    char *route = json_dumps(how_it_went, 0);
    rv_episode e = { .request_id = id,
                     .session_id = "s",
                     .question = a->question,
                     .answer = a->by[tier].text,
                     .model = world.names[tier],
                     .confidence = a->by[tier].confidence,
                     .created_ms = (int64_t)i,
                     .route = route };
    bool good = a->by[tier].right != ((int)rv_rng_below(&l->rng, 100) < l->flipped);
    must(l->conn ? RV_OK : rv_db_begin(l->db, &l->conn));
    must(rv_episode_append(l->conn, &e));
    must(rv_db_exec(l->conn, "INSERT INTO feedback VALUES (?1, 'rating', ?2, '', 0, 0)", "ti", id,
                    (int64_t)(good ? 5 : 1)));
    rv_router_count_answer(l->box);
    rv_router_count_rating(l->box);
    json_decref(tries);
    json_decref(how_it_went);
    free(route);
    free(scratch);
    free(vector);
    if (++l->rated - l->learned >= (LEAST_NEW > l->learned / 5 ? LEAST_NEW : l->learned / 5)) {
        l->learned = l->rated;
        l->conn = NULL;
        must(rv_db_commit(l->db));
        learn(l, i + 1);
    }
}

static void show(const char *name, const half *h)
{
    printf(
        "{\"test\": \"%s\", \"questions\": %.0f, \"quality\": %.4f, \"always_largest\": %.4f, "
        "\"difference\": %.4f, \"cost\": %.4f, "
        "\"cheapest_right_tier\": %.4f, \"went_on\": %.3f, \"tried\": %.3f, \"default\": %.3f, \"shares\": [",
        name, h->n, h->right / h->n, h->big / h->n, (h->right - h->big) / h->n, h->cost / h->big_cost,
        h->cheapest / h->n, h->drafts / h->n, h->tried / h->n, h->fallback / h->n);
    for (size_t t = 0; t < world.tiers; t++) {
        printf("%s%.3f", t ? ", " : "", h->model[t] / h->n);
    }
    printf("]}\n");
    fflush(stdout);
}

static double number(int argc, char **argv, int at, double otherwise)
{
    return argc > at ? atof(argv[at]) : otherwise;
}

int main(int argc, char **argv)
{
    char paths[TIERS_MAX][512], folder[] = "/tmp/ruvllm-replay-XXXXXX";
    if (argc < 3 || !mkdtemp(folder)) {
        fprintf(stderr,
                "usage: %s DIR EMBEDDER [questions [seed [explore [threshold [cost_share [flipped]]]]]]\n",
                argv[0]);
        return 2;
    }
    must(rv_embed_open(&rv_heap, argv[2], &world.embed));
    for (size_t d = 0; d < RV_SLOT_DOMAINS; d++) {
        must(rv_embed_text(world.embed, rv_domain_texts[d], strlen(rv_domain_texts[d]),
                           world.domains + d * rv_embed_dim(world.embed)));
    }
    find_tiers(argv[1], paths);
    for (size_t t = 0; t < world.tiers; t++) {
        read_tier(t, paths[t]);
    }
    life l = { .explore = number(argc, argv, 5, 0.05),
               .threshold = number(argc, argv, 6, 0.7),
               .share = number(argc, argv, 7, 0.45),
               .flipped = (int)number(argc, argv, 8, 0),
               .shows = getenv("REPLAY_SHOWS") != NULL };
    rv_rng_init(&l.rng, (uint64_t)number(argc, argv, 4, 1));
    must(rv_router_box_new(&rv_heap, &l.box));
    must(rv_db_open(&rv_heap, folder, &l.db));
    must(rv_witness_setup(l.db));
    must(rv_policy_setup(l.db));
    must(rv_episode_setup(l.db));
    must(rv_judge_setup(l.db));
    for (size_t i = world.n; i > 1; i--) {
        size_t j = rv_rng_below(&l.rng, i);
        asked other = world.at[j];
        world.at[j] = world.at[i - 1];
        world.at[i - 1] = other;
    }
    size_t n = (size_t)number(argc, argv, 3, 3000);
    n = n < world.n ? n : world.n;
    half halves[2];
    memset(halves, 0, sizeof halves);
    for (size_t i = 0; i < n; i++) {
        live(&l, &world.at[i], i, &halves[i >= n / 2]);
    }
    must(l.conn ? rv_db_commit(l.db) : RV_OK);
    show("first half", &halves[0]);
    show("second half", &halves[1]);
    rv_router_free(l.router);
    rv_router_box_free(l.box);
    rv_db_close(l.db);
    char remove[600];
    snprintf(remove, sizeof remove, "rm -r %s", folder);
    return system(remove) ? 1 : 0;
}
