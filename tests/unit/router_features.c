/* The 128 slots: every offset, each definition against numbers worked out by hand, and any bytes. */
#include "router/features.h"
#include "test.h"

#include "base/rng.h"

#include <math.h>
#include <string.h>

enum { DIM = 4 };

/* A space in which everything can be worked out: domain d points along axis d % 4, centroid c along c % 4 with length 1. */
typedef struct small_space {
    float domains[RV_SLOT_DOMAINS * DIM], mean[DIM], pcs[RV_SLOT_PCS * DIM], spread[RV_SLOT_PCS],
        centroids[RV_SLOT_CENTROIDS * DIM];
    rv_slot_space space;
} small_space;

static small_space *made_space(void)
{
    static small_space s;
    memset(&s, 0, sizeof s);
    for (int i = 0; i < RV_SLOT_DOMAINS; i++) {
        s.domains[i * DIM + i % DIM] = 1;
    }
    for (int i = 0; i < RV_SLOT_CENTROIDS; i++) {
        s.centroids[i * DIM + i % DIM] = i < 2 ? 1 : 0.1f; /* the first two are nearest to axes 0 and 1 */
    }
    for (int i = 0; i < RV_SLOT_PCS; i++) {
        s.pcs[i * DIM + i % DIM] = i < DIM ? 1 : 0;
        s.spread[i] = 0.5f;
    }
    s.space = (rv_slot_space){ DIM, s.domains, s.mean, s.pcs, s.spread, s.centroids };
    return &s;
}

static void fill(const rv_slot_input *in, float out[RV_SLOTS])
{
    rv_slots_fill(&made_space()->space, in, out, NULL);
}

static void check(const float *slots, int at, double expected)
{
    char name[64];
    rv_slot_name((size_t)at, name, sizeof name);
    CHECK(fabs(slots[at] - expected) <= 1e-5, "slot %d %s: %g, expected %g", at, name, slots[at], expected);
}

TEST(the_groups_cover_the_128_slots_without_gaps_and_stand_where_they_always_stood)
{
    /* Weights files hold numbers by slot: these places never change. */
    static const struct {
        const char *name;
        size_t at;
    } places[] = { { "token_count", 0 },
                   { "language_id", 1 },
                   { "domain_encoding", 9 },
                   { "user_frequency", 25 },
                   { "query_type", 26 },
                   { "l2_norm", 32 },
                   { "principal_components", 33 },
                   { "entropy", 41 },
                   { "sparsity", 42 },
                   { "cluster_assignment", 43 },
                   { "pc_residual", 47 },
                   { "k_retrieved", 48 },
                   { "distances", 49 },
                   { "hit_entropy", 53 },
                   { "graph_depth", 54 },
                   { "recall_estimate", 55 },
                   { "neighborhood_density", 56 },
                   { "coherence", 72 },
                   { "hit_kinds", 88 },
                   { "edge_weight", 94 },
                   { "majority_domain", 95 },
                   { "latency_budget", 96 },
                   { "device_class", 97 },
                   { "privacy_level", 101 },
                   { "memory_available", 105 },
                   { "battery_level", 106 },
                   { "concurrent_requests", 107 },
                   { "historical_accuracy", 108 },
                   { "accel", 124 },
                   { "turn_index", 125 },
                   { "kv_resident", 126 },
                   { "queue_pressure", 127 } };
    size_t at = 0;
    for (size_t g = 0; rv_slots[g].name; g++) {
        CHECK(g < RV_COUNT(places) && strcmp(rv_slots[g].name, places[g].name) == 0 &&
                  rv_slots[g].at == places[g].at,
              "group %zu is %s at %zu", g, rv_slots[g].name, rv_slots[g].at);
        CHECK(rv_slots[g].at == at, "%s begins at %zu, expected %zu", rv_slots[g].name, rv_slots[g].at, at);
        at += rv_slots[g].n;
    }
    CHECK(at == RV_SLOTS, "%zu slots", at);
}

TEST(a_question_fills_its_own_slots)
{
    static const char text[] = "What is the capital of France, and which river flows through it?";
    float s[RV_SLOTS];
    fill(&(rv_slot_input){ .text = text, .n = sizeof text - 1, .tokens = 64 }, s);
    check(s, 0, 6.0 / 12);
    check(s, 1, 1); /* English */
    check(s, 25, 0);
    /* Cues: "what ", "which " and "capital" are factual, none of the others stands there. */
    double e = exp(3), sum = e + 5;
    check(s, 26, e / sum);
    for (int t = 1; t < RV_SLOT_TYPES; t++) {
        check(s, 26 + t, 1 / sum);
    }
    for (int i = 9; i < 25; i++) {
        check(s, i, 0); /* no vector */
    }
}

TEST(languages_are_told_apart)
{
    static const struct {
        const char *text;
        int at;
    } texts[] = { { "How do the birds find their way in the dark of the night?", 1 },
                  { "\u8fd9\u662f\u4e00\u4e2a\u95ee\u9898\uff0c\u6211\u4eec\u60f3\u77e5\u9053\u5929\u6c14"
                    "\u600e\u4e48\u6837\u5462\u8c22\u8c22\u4f60\u4eec\u5927\u5bb6",
                    2 },
                  { "El perro que come las manzanas del vecino es muy feliz por la tarde", 3 },
                  { "Le chat est dans la maison avec les enfants pour une heure", 4 },
                  { "Der Hund ist nicht mit der Katze und das Kind spielt von allein", 5 },
                  { "\u3053\u308c\u306f\u4f55\u3067\u3059\u304b\u3001\u3068\u3066\u3082\u304a\u3082\u3057"
                    "\u308d\u3044\u672c\u3060\u3068\u304a\u3082\u3044\u307e\u3059\u306d",
                    6 },
                  { "short one", 7 },
                  { "12 + 34 = ?", 8 },
                  { "\u042d\u0442\u043e \u043e\u0447\u0435\u043d\u044c \u0432\u0430\u0436\u043d\u044b\u0439 "
                    "\u0432\u043e\u043f\u0440\u043e\u0441 \u0434\u043b\u044f \u043d\u0430\u0441",
                    8 } };
    for (size_t i = 0; i < RV_COUNT(texts); i++) {
        float s[RV_SLOTS];
        fill(&(rv_slot_input){ .text = texts[i].text, .n = strlen(texts[i].text) }, s);
        for (int l = 1; l <= 8; l++) {
            CHECK(s[l] == (l == texts[i].at), "\"%s\": slot %d is %g", texts[i].text, l, s[l]);
        }
    }
}

TEST(a_vector_fills_the_slots_of_the_embedding)
{
    const float e[DIM] = { 0.8f, 0.6f, 0, 0 };
    float s[RV_SLOTS];
    int cluster = -1;
    rv_slot_input in = { .text = "", .vector = e };
    rv_slots_fill(&made_space()->space, &in, s, &cluster);
    double sum = 4 * (exp(8) + exp(6) + 2);
    for (int d = 0; d < RV_SLOT_DOMAINS; d++) {
        check(s, 9 + d, (d % 4 == 0 ? exp(8) : d % 4 == 1 ? exp(6) : 1) / sum);
    }
    check(s, 32, 0);
    check(s, 33, 0.8 / 1.5);
    check(s, 34, 0.6 / 1.5);
    check(s, 35, 0);
    check(s, 40, 0);
    check(s, 41, -(0.64 * log(0.64) + 0.36 * log(0.36)) / log(4));
    check(s, 42, (2 - 1.4) / (2 - 1));
    CHECK(cluster == 0, "cluster %d", cluster);
    check(s, 43, 0.8);
    check(s, 44, 0.6);
    check(s, 45, 0.08);
    check(s, 46, 0.08);
    check(s, 47, 0);
}

TEST(what_memory_found_fills_the_slots_of_the_search)
{
    const float distances[4] = { 0.1f, 0.3f, (float)NAN, 1.2f };
    const uint8_t kinds[4] = { 0, 2, 0, 4 };
    float s[RV_SLOTS];
    fill(&(rv_slot_input){ .text = "", .distances = distances, .kinds = kinds, .n_hits = 4, .k = 16 }, s);
    double mean = 1.6 / 3, variance = (0.01 + 0.09 + 1.44) / 3 - mean * mean;
    double w[3] = { exp(-1), exp(-3), exp(-12) }, sum = w[0] + w[1] + w[2], h = 0;
    for (int i = 0; i < 3; i++) {
        h -= w[i] / sum * log(w[i] / sum);
    }
    check(s, 48, 4.0 / 64);
    check(s, 49, mean / 2);
    check(s, 50, sqrt(variance) / 0.5);
    check(s, 51, 0.05);
    check(s, 52, 0.6);
    check(s, 53, h / log(3));
    check(s, 54, 0);
    check(s, 55, 16.0 / 64);
    for (int b = 0; b < 16; b++) {
        check(s, 56 + b, b == 1 || b == 4 || b == 15 ? 1.0 / 3 : 0);
    }
    for (int b = 72; b < 88; b++) {
        check(s, b, 0);
    }
    check(s, 88, 0.5);
    check(s, 89, 0);
    check(s, 90, 0.25);
    check(s, 92, 0.25);
    fill(&(rv_slot_input){ .text = "" }, s);
    for (int b = 48; b < 96; b++) {
        check(s, b, 0);
    }
}

TEST(the_system_fills_its_slots)
{
    float s[RV_SLOTS];
    rv_slot_input in = { .text = "", .latency_ms = 1023, .device = 2, .privacy = 3, .turn = 5 };
    for (int m = 0; m < RV_SLOT_MODELS; m++) {
        in.history[m] = (rv_slot_history){ 0.1f * (float)m, 0.2f, 0.3f, 31 };
    }
    fill(&in, s);
    check(s, 96, 10.0 / 13);
    for (int d = 0; d < 4; d++) {
        check(s, 97 + d, d == 2);
        check(s, 101 + d, d == 3);
    }
    for (int i = 105; i < 108; i++) {
        check(s, i, 0);
    }
    for (int m = 0; m < RV_SLOT_MODELS; m++) {
        check(s, 108 + 4 * m, 0.1 * m);
        check(s, 109 + 4 * m, 0.2);
        check(s, 110 + 4 * m, 0.3);
        check(s, 111 + 4 * m, 0.5);
    }
    check(s, 124, 0);
    check(s, 125, 0.25);
    check(s, 126, 0);
    check(s, 127, 0);
    fill(&(rv_slot_input){ .text = "" }, s);
    check(s, 96, 1); /* no budget */
}

TEST(any_bytes_and_numbers_give_finite_slots)
{
    rv_rng rng;
    rv_rng_init(&rng, 5);
    for (int round = 0; round < 300; round++) {
        size_t n = rv_rng_below(&rng, 700);
        uint8_t *text = fenced_bytes(n);
        for (size_t i = 0; i < n; i++) {
            text[i] = (uint8_t)(round % 2 ? rv_rng_next(&rng) : 'a' + rv_rng_below(&rng, 30));
        }
        float e[DIM] = { rv_rng_normal(&rng), 0, round % 5 ? 1 : 0, 0 },
              distances[3] = { (float)INFINITY, -3, (float)NAN };
        float s[RV_SLOTS], surface[RV_SURFACE];
        rv_slot_input in = { .text = (const char *)text,
                             .n = n,
                             .vector = e,
                             .distances = distances,
                             .n_hits = 3,
                             .latency_ms = 1e300 };
        fill(&in, s);
        rv_surface((const char *)text, n, surface);
        for (int i = 0; i < RV_SLOTS; i++) {
            CHECK(isfinite(s[i]) && fabsf(s[i]) <= 2, "round %d: slot %d is %g", round, i, s[i]);
        }
        for (int i = 0; i < RV_SURFACE; i++) {
            CHECK(isfinite(surface[i]), "round %d: statistic %d is %g", round, i, surface[i]);
        }
    }
}
