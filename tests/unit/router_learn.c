/* Learning and deciding: what was asked before is remembered through edits, a held-out question goes where it is answered, bad
 * rows are refused, bytes come back the same. */
#include "router/measure.h"
#include "router/router.h"
#include "test.h"

#include "base/rng.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 240, TEXT = 200 };

/* Sums are for the large tier alone, capitals for both; the words around them are drawn. */
typedef struct questions {
    char text[ROWS][TEXT];
    rv_router_row rows[ROWS];
} questions;

static void make(questions *q, uint64_t seed)
{
    static const char *const words[] = { "please", "today",  "quickly", "for", "my",   "friend",  "who",
                                         "asked",  "again",  "kindly",  "now", "this", "morning", "before",
                                         "school", "starts", "because", "we",  "need", "it" };
    rv_rng rng;
    rv_rng_init(&rng, seed);
    for (int i = 0; i < ROWS; i++) {
        bool sum = rv_rng_below(&rng, 2);
        char *at = q->text[i];
        int n =
            sum ? snprintf(at, TEXT, "Calculate the sum of %d and %d", (int)rv_rng_below(&rng, 900),
                           (int)rv_rng_below(&rng, 900))
                : snprintf(at, TEXT, "What is the capital city of country%d", (int)rv_rng_below(&rng, 5000));
        for (int w = 0; w < 8; w++) {
            n += snprintf(at + n, TEXT - (size_t)n, " %s", words[rv_rng_below(&rng, RV_COUNT(words))]);
        }
        q->rows[i] = (rv_router_row){ .text = at, .n = (size_t)n, .weight = 1 };
        q->rows[i].quality[0] = sum ? 0 : 1;
        q->rows[i].quality[1] = 1;
        q->rows[i].draft[0].confidence = q->rows[i].draft[1].confidence = (float)NAN;
        q->rows[i].cost[0] = 0.1f;
        q->rows[i].cost[1] = 1;
    }
}

static const char *const names[] = { "small", "large" };

static rv_router *learned(questions *q)
{
    rv_router_set set = { q->rows, ROWS, 2, names, 0, "", NULL };
    rv_router_how how = rv_router_how_default();
    rv_router_trained trained;
    rv_router *r;
    how.cost_share = 0.6;
    CHECK_OK(rv_router_train(&rv_heap, &set, &how, &trained, &r));
    return r;
}

static rv_routed routed_so(const rv_router *r, const char *text, uint32_t allowed, bool cascade)
{
    rv_routed out;
    void *scratch = malloc(rv_router_scratch_bytes(r));
    rv_router_route(r, &(rv_slot_input){ .text = text, .n = strlen(text), .device = 2 }, allowed, cascade,
                    scratch, &out);
    free(scratch);
    return out;
}

static rv_routed routed(const rv_router *r, const char *text, uint32_t allowed)
{
    return routed_so(r, text, allowed, true);
}

static questions asked, fresh;

/* Of the questions as they are; lives as long as the program. */
static const rv_router *standard(void)
{
    static rv_router *r;
    if (!r) {
        make(&asked, 1);
        make(&fresh, 2);
        r = learned(&asked);
    }
    return r;
}

TEST(a_new_question_goes_to_the_smallest_tier_that_answers_it)
{
    const rv_router *r = standard();
    int right = 0;
    double brier = 0;
    for (int i = 0; i < ROWS; i++) {
        rv_routed got = routed(r, fresh.text[i], 0);
        bool small = fresh.rows[i].quality[0] > 0.5f;
        right += got.tier == (small ? 0 : 1);
        brier += pow(got.p_right[0] - fresh.rows[i].quality[0], 2) / ROWS;
        CHECK(got.confidence >= 0 && got.confidence <= 1, "confidence %g", got.confidence);
    }
    CHECK(right >= ROWS * 97 / 100, "%d of %d", right, ROWS);
    CHECK(brier < 0.03, "mean squared error %g", brier);
}

TEST(no_decision_is_outside_what_is_allowed)
{
    const rv_router *r = standard();
    for (int i = 0; i < ROWS; i++) {
        CHECK(routed(r, asked.text[i], 1).tier == 0, "row %d", i);
        CHECK(routed(r, asked.text[i], 2).tier == 1, "row %d", i);
        CHECK(routed(r, asked.text[i], 0xffffffffu).tier < 2, "row %d", i);
    }
}

/* Case and punctuation changed, or some words left out. */
static void edit(const char *text, int drop_every, char *out)
{
    size_t n = 0;
    int word = 0;
    for (const char *at = text; *at;) {
        size_t len = strcspn(at, " ");
        if (!drop_every || ++word % drop_every != 0) {
            for (size_t i = 0; i < len; i++) {
                out[n++] = drop_every ? at[i] : (char)toupper((unsigned char)at[i]);
            }
            out[n++] = drop_every ? ' ' : ',';
            out[n++] = ' ';
        }
        at += len + (at[len] == ' ');
    }
    out[n] = 0;
}

TEST(a_question_that_was_asked_before_is_remembered_through_edits)
{
    static questions odd; /* outcomes against all reason: only memory can know them */
    make(&odd, 1);
    for (int i = 0; i < ROWS; i++) {
        odd.rows[i].quality[0] = i % 3 == 0;
    }
    rv_router *r = learned(&odd);
    for (int edits = 0; edits < 3; edits++) {
        int same = 0, seen = 0;
        for (int i = 0; i < ROWS; i++) {
            char text[3 * TEXT];
            edit(odd.text[i], edits == 0 ? 0 : edits == 1 ? 10 : 4, text);
            rv_routed got = routed(r, text, 0);
            seen += got.seen;
            same += got.tier == (odd.rows[i].quality[0] > 0.5f ? 0 : 1);
        }
        CHECK(seen >= ROWS * 95 / 100 && same >= ROWS * 95 / 100, "edit %d: %d remembered, %d as then, of %d",
              edits, seen, same, ROWS);
    }
    CHECK(!routed(r, "An entirely different thing about oceans and their tides", 0).seen,
          "remembered what was never asked");
    rv_router_free(r);
}

TEST(bytes_come_back_to_the_same_decisions_and_damage_is_seen)
{
    const rv_router *r = standard();
    rv_router *again, *no;
    uint8_t *bytes;
    size_t n;
    CHECK_OK(rv_router_pack(&rv_heap, r, &bytes, &n));
    CHECK_OK(rv_router_unpack(&rv_heap, bytes, n, &again));
    for (int i = 0; i < 50; i++) {
        rv_routed a = routed(r, fresh.text[i], 0), b = routed(again, fresh.text[i], 0);
        CHECK(a.p_right[0] == b.p_right[0] && a.p_right[1] == b.p_right[1] && a.tier == b.tier &&
                  a.confidence == b.confidence,
              "row %d decides otherwise", i);
    }
    CHECK(strcmp(rv_router_tier_name(again, 1), "large") == 0, "%s", rv_router_tier_name(again, 1));
    rv_rng rng;
    rv_rng_init(&rng, 3);
    for (int round = 0; round < 40; round++) {
        size_t at = rv_rng_below(&rng, n);
        bytes[at] ^= 0x41;
        rv_err e = rv_router_unpack(&rv_heap, bytes, n, &no);
        CHECK(e == RV_E_CORRUPT || e == RV_E_FORMAT || e == RV_E_UNSUPPORTED, "byte %zu: %s", at,
              rv_err_name(e));
        bytes[at] ^= 0x41;
    }
    CHECK_ERR(rv_router_unpack(&rv_heap, bytes, n - 1, &no), RV_E_CORRUPT);
    CHECK_ERR(rv_router_unpack(&rv_heap, bytes, 30, &no), RV_E_FORMAT);
    rv_free(&rv_heap, bytes);
    rv_router_free(again);
}

TEST(the_reasons_name_slots_that_are_set)
{
    const rv_router *r = standard();
    rv_routed got = routed(r, "Calculate the sum of 3 and 4 please", 0);
    rv_router_reason why[5];
    rv_router_why(r, &got, 0, why, 5);
    CHECK(why[0].effect != 0, "nothing moved the decision");
    for (int i = 1; i < 5; i++) {
        CHECK(fabsf(why[i].effect) <= fabsf(why[i - 1].effect), "reason %d is larger than the one before", i);
    }
}

TEST(an_unsure_answer_goes_on_to_the_larger_tier_and_a_sure_one_does_not)
{
    static questions q;
    make(&q, 3);
    rv_rng rng;
    rv_rng_init(&rng, 4);
    for (int i = 0; i < ROWS;
         i++) { /* one kind of question; only the answer's own confidence tells whether it is right */
        bool right = rv_rng_below(&rng, 3) != 0;
        q.rows[i].quality[0] = right;
        q.rows[i].quality[1] = rv_rng_below(&rng, 20) != 0;
        q.rows[i].draft[0] = (rv_draft){ .confidence = right ? 0.9f : 0.4f, .cites = 1 };
    }
    rv_router *r = learned(&q);
    rv_routed got = routed(r, "What is the capital city of country77777 tonight", 0);
    size_t next = 9;
    CHECK(rv_router_checks(r, &got, 0, 0, 3), "it could never be true");
    CHECK(rv_router_escalates(
              r, &got, &(rv_given){ 1, { 0 }, { (rv_draft){ .confidence = 0.3f, .cites = 1 } } }, 3, &next) &&
              next == 1,
          "an unsure answer stays");
    CHECK(!rv_router_escalates(
              r, &got, &(rv_given){ 1, { 0 }, { (rv_draft){ .confidence = 0.95f, .cites = 1 } } }, 3, &next),
          "a sure one goes on");
    CHECK(!rv_router_escalates(
              r, &got, &(rv_given){ 1, { 0 }, { (rv_draft){ .confidence = 0.3f, .cites = 1 } } }, 1, &next),
          "to a tier that is not allowed");
    CHECK(!rv_router_checks(r, &got, 0, 1, 3), "beyond the last");
    CHECK(!rv_router_checks(standard(), &got, 0, 0, 3), "without a rated answer");

    /* Right two times in three is too little to be shown unseen, but its answer says which ones those are: it is asked first. */
    static questions other;
    int first[2] = { 0 };
    make(&other, 9);
    for (int i = 0; i < ROWS; i++) {
        rv_routed with = routed_so(r, other.text[i], 0, true),
                  without = routed_so(r, other.text[i], 0, false);
        first[0] += without.tier == 0 && !without.seen;
        first[1] += with.tier == 0 && !with.seen;
        CHECK(with.worth[0] >= without.worth[0] - 1e-3f && with.worth[1] == without.worth[1],
              "row %d: %g and %g, without a check %g and %g", i, (double)with.worth[0], (double)with.worth[1],
              (double)without.worth[0], (double)without.worth[1]);
    }
    CHECK(first[1] > ROWS * 9 / 10 && first[0] < ROWS / 10,
          "of %d the small tier is asked %d first when its answer is checked, %d when not", ROWS, first[1],
          first[0]);
    rv_router_free(r);
}

TEST(what_a_draft_cites_is_counted)
{
    static const struct {
        const char *text;
        int cites;
    } cases[] = { { "Not in the passages.", 0 },
                  { "[1] 9:00", 1 },
                  { "[2] [11] Tomas", 2 },
                  { "", 0 },
                  { "[", 0 },
                  { "[1", 0 },
                  { "[] [x] [1.5]", 0 },
                  { "a[3]b", 1 },
                  { "[[4]]", 1 },
                  { "[12345678901234567890123]", 1 } };
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        CHECK(rv_draft_of(0.5, cases[i].text, strlen(cases[i].text), NULL).cites == cases[i].cites, "\"%s\"",
              cases[i].text);
    }
}

/* One kind of question, every draft as sure as the other: those that cite nothing are wrong. */
TEST(a_draft_that_cites_nothing_goes_on_when_such_drafts_were_wrong)
{
    static questions q;
    make(&q, 3);
    rv_rng rng;
    rv_rng_init(&rng, 5);
    for (int i = 0; i < ROWS; i++) {
        bool right = rv_rng_below(&rng, 4) != 0;
        q.rows[i].quality[0] = right;
        q.rows[i].draft[0] = (rv_draft){ .confidence = 0.8f, .cites = right };
    }
    rv_router *r = learned(&q);
    rv_routed got = routed(r, "What is the capital city of country77777 tonight", 0);
    size_t next = 9;
    CHECK(rv_router_escalates(
              r, &got, &(rv_given){ 1, { 0 }, { (rv_draft){ .confidence = 0.8f, .cites = 0 } } }, 3, &next) &&
              next == 1,
          "it stays");
    CHECK(!rv_router_escalates(
              r, &got, &(rv_given){ 1, { 0 }, { (rv_draft){ .confidence = 0.8f, .cites = 1 } } }, 3, &next),
          "one that cites goes on too");
    rv_router_free(r);
}

/* Three tiers, the first two right on one of two questions by chance, and as sure of either: only that both right say the same tells. */
TEST(what_two_tiers_say_alike_is_shown_and_otherwise_a_third_is_asked)
{
    static questions q;
    static const char *const three[] = { "small", "middle", "large" };
    const float costs[] = { 0.1f, 0.2f, 1 };
    make(&q, 3);
    rv_rng rng;
    rv_rng_init(&rng, 6);
    for (int i = 0; i < ROWS; i++) {
        for (int t = 0; t < 3; t++) {
            bool right = t == 2 || rv_rng_below(&rng, 10) < 5;
            float sure = 0.5f + 0.4f * (float)rv_rng_unit(&rng);
            char text[32];
            snprintf(text, sizeof text, "[1] %s%d", right ? "right" : "wrong", right ? 0 : t);
            q.rows[i].quality[t] = right;
            q.rows[i].draft[t] = rv_draft_of(sure, text, strlen(text), (float[RV_SAYS]){ 0 });
            q.rows[i].cost[t] = costs[t];
        }
    }
    rv_router_set set = { q.rows, ROWS, 3, three, 0, "", NULL };
    rv_router_how how = rv_router_how_default();
    rv_router_trained trained;
    rv_router *r;
    how.cost_share = 0.7;
    CHECK_OK(rv_router_train(&rv_heap, &set, &how, &trained, &r));
    rv_routed got = routed(r, "What is the capital city of country77777 tonight", 0);
    rv_given given = { 2,
                       { 0, 1 },
                       { rv_draft_of(0.65, "[1] a", 5, (float[RV_SAYS]){ 0 }),
                         rv_draft_of(0.65, "[2] A.", 6, (float[RV_SAYS]){ 0 }) } };
    size_t next = 9;
    CHECK(!rv_router_escalates(r, &got, &given, 7, &next),
          "two that say the same are not enough: %g, price %g", (double)rv_router_chance(r, &got, &given),
          trained.lambda);
    float alike = rv_router_chance(r, &got, &given);
    given.draft[1] = rv_draft_of(0.65, "[2] b", 5, (float[RV_SAYS]){ 0 });
    float apart = rv_router_chance(r, &got, &given);
    CHECK(alike > 0.7f && apart < 0.4f, "alike %g, apart %g", (double)alike, (double)apart);
    CHECK(rv_router_escalates(r, &got, &given, 7, &next) && next == 2,
          "two that contradict each other are enough");
    CHECK(!rv_router_escalates(r, &got, &given, 3, &next), "to a tier that is not allowed");
    given = (rv_given){ 3, { 0, 1, 2 }, { given.draft[0], given.draft[1], given.draft[1] } };
    CHECK(!rv_router_escalates(r, &got, &given, 15, &next), "after the last");

    rv_draft drafts[3];
    size_t order[RV_ROUTER_ANSWERS];
    for (int i = 0; i < ROWS; i++) {
        memcpy(drafts, q.rows[i].draft, sizeof drafts);
        got = routed(r, q.text[i], 0);
        got.seen = false; /* as if asked for the first time */
        size_t n = rv_router_follow(r, &got, 0, drafts, 7, order);
        CHECK(n >= 1 && n <= 3 && order[0] == 0, "row %d: %zu answers", i, n);
        for (size_t k = 1; k < n; k++) {
            CHECK(order[k] > order[k - 1], "row %d: tier %zu after %zu", i, order[k], order[k - 1]);
        }
        drafts[0].confidence = (float)NAN;
        CHECK(rv_router_follow(r, &got, 0, drafts, 7, order) == 1, "row %d: nothing is known of the first",
              i);
    }
    rv_router_free(r);
}

TEST(the_same_answer_has_the_same_hash_and_another_has_not)
{
    static const char *const alike[] = { "[1] 9:00", "9:00.", " [12][3] 9 00", "9[4]00" }, *const apart[] = {
        "", "9:01", "[9:00", "900 1", "900\xc3\xa9"
    };
    char long_one[1000], long_other[1000];
    uint64_t hash = rv_answer_hash(rv_str_from(alike[0]));
    for (size_t i = 0; i < RV_COUNT(alike); i++) {
        CHECK(rv_answer_hash(rv_str_from(alike[i])) == hash, "\"%s\"", alike[i]);
    }
    for (size_t i = 0; i < RV_COUNT(apart); i++) {
        CHECK((rv_answer_hash(rv_str_from(apart[i])) == hash) == (i == 2), "\"%s\"", apart[i]);
    }
    CHECK(rv_answer_hash(rv_str_from("Tomas")) == rv_answer_hash(rv_str_from("tomas")), "case");
    CHECK(rv_answer_hash(rv_str_from("[1] .")) == 0 && rv_answer_hash(rv_str_from("")) == 0,
          "nothing is said");
    memset(long_one, 'a', sizeof long_one);
    memset(long_other, 'A', sizeof long_other);
    for (size_t n = 250; n < 1000; n += 6) {
        uint64_t one = rv_answer_hash(rv_str_of(long_one, n));
        CHECK(one && one == rv_answer_hash(rv_str_of(long_other, n)), "%zu letters", n);
        CHECK(one != rv_answer_hash(rv_str_of(long_one, n - 1)), "%zu letters and one less", n);
    }
}

TEST(rows_that_cannot_be_learned_from_are_refused)
{
    static questions bad;
    make(&bad, 1);
    rv_router_set set = { bad.rows, ROWS, 2, names, 0, "", NULL };
    rv_router_how how = rv_router_how_default();
    rv_router_trained trained;
    rv_router *r;
    set.n = 10;
    CHECK_ERR(rv_router_train(&rv_heap, &set, &how, &trained, &r), RV_E_ARG);
    set.n = ROWS;
    set.tiers = 0;
    CHECK_ERR(rv_router_train(&rv_heap, &set, &how, &trained, &r), RV_E_ARG);
    set.tiers = 2;
    bad.rows[7].quality[1] = 1.5f;
    CHECK_ERR(rv_router_train(&rv_heap, &set, &how, &trained, &r), RV_E_ARG);
    CHECK(strstr(rv_err_text(), "row 7"), "%s", rv_err_text());
    for (int i = 0; i < ROWS; i++) {
        bad.rows[i].quality[1] = (float)NAN;
    }
    CHECK_ERR(rv_router_train(&rv_heap, &set, &how, &trained, &r), RV_E_ARG);
    CHECK(strstr(rv_err_text(), "large"), "%s", rv_err_text());
}

/* ---- figures ---- */

TEST(figures_of_a_perfect_order_and_of_none_are_what_they_are_by_hand)
{
    const float weak[4] = { 0, 1, 0, 1 }, strong[4] = { 1, 1, 0, 1 }, good[4] = { 9, 2, 1, 3 },
                wrong[4] = { 1, 0, 1, 0 };
    rv_measured_pair m;
    CHECK_OK(rv_measure_two(&rv_heap, &(rv_measure_pair){ good, weak, strong, 4 }, wrong, 50, &m));
    CHECK(fabs(m.apgr.value - 0.875) <= 1e-9, "apgr %g",
          m.apgr.value); /* rises in the first quarter, then stays 1 */
    CHECK(m.cpt50 == 25 && m.cpt80 == 25, "cpt %g %g", m.cpt50, m.cpt80);
    CHECK(m.auc == 1 && m.accuracy == 1 && m.ece == 0, "auc %g accuracy %g ece %g", m.auc, m.accuracy, m.ece);
    const float half[4] = { 0.5f, 0.5f, 0.5f, 0.5f };
    CHECK(rv_measure_auc(&rv_heap, half, wrong, 4) == 0.5, "auc of a constant");
    CHECK(fabs(rv_measure_ece(half, wrong, 4)) <= 1e-9, "ece of the base rate");
    const float p[4] = { 0.5f, 1, 0.2f, 0.9f }, cost[4] = { 0.1f, 1, 0.1f, 1 }, quality[4] = { 1, 1, 0, 1 };
    rv_measure_many many = { p, cost, quality, cost, 2, 2 };
    rv_point best = rv_measure_best(&many, 0.6);
    CHECK(best.quality == 1 && fabs(best.cost - 0.55) <= 1e-6, "quality %g cost %g", best.quality, best.cost);
    CHECK(fabs(rv_measure_hull(&many, 0.55) - 0.75) <= 1e-6, "hull %g", rv_measure_hull(&many, 0.55));
}
