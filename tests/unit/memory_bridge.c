/* Names that lead from what was found to what says more of them: with FTS5, and with the index of words in memory. */
#include "memory_helpers.h"

#include <stdlib.h>

static rv_arena *arena;

static void arena_begin(void)
{
    CHECK_OK(rv_arena_new(&rv_heap, 64 << 20, &arena));
}

static void arena_end(void)
{
    rv_arena_free(arena);
}

static int64_t add_for(rv_memory *m, const char *user, const char *text)
{
    int64_t id = 0;
    bool added = false;
    rv_memory_new new = { .type = "note", .text = text, .source = "user" };
    CHECK_OK(rv_memory_add(m, rv_memory_of(user), &new, &id, &added));
    return id;
}

static rv_memory_hits ask(rv_memory *m, rv_memory_scope scope, const char *text, rv_memory_filter filter)
{
    rv_memory_hits hits;
    rv_memory_query q = { .text = text, .k = 256, .mode = RV_MEMORY_GRAPH, .filter = filter };
    CHECK_OK(rv_memory_search(m, scope, &q, arena, &hits));
    return hits;
}

static const rv_memory_node *hit_of(const rv_memory_hits *hits, int64_t id)
{
    for (size_t i = 0; i < hits->n; i++) {
        if (hits->at[i].id == id) {
            return &hits->at[i];
        }
    }
    return NULL;
}

static bool is_bridged(const rv_memory_hits *hits, int64_t id)
{
    const rv_memory_node *node = hit_of(hits, id);
    return node && strcmp(node->origin_side, "graph") == 0;
}

/* So many notes that the words of all are kept in memory; none shares a word with another text. */
static void fill(rv_memory *m)
{
    for (int i = 0; i < 600; i++) {
        char text[64];
        snprintf(text, sizeof text, "qx%c%cq zy%c%cz", 'a' + i / 26, 'a' + i % 26, 'b' + i % 25,
                 'a' + i / 25);
        add_note(m, text);
    }
    CHECK_OK(rv_memory_settle(m));
}

static const char employer[] = "Anna Keller works at Sashife Foods.",
                  seat[] = "Since spring Sashife Foods has Pascan for its seat.",
                  question[] = "Where is the employer of Anna Keller based?";

TEST(what_holds_a_name_of_the_best_is_found_through_it)
{
    for (int large = 0; large < 2; large++) {
        store s = store_open(temp_path(large ? "large" : "small"));
        arena_begin();
        int64_t first = add_note(s.m, employer), second = add_note(s.m, seat);
        if (large) {
            fill(s.m);
        }
        rv_memory_hits hits = ask(s.m, rv_memory_whole(), question, (rv_memory_filter){ 0 });
        CHECK(hits.n >= 2 && hits.at[0].id == first, "large %d: %zu", large, hits.n);
        CHECK(is_bridged(&hits, second) && hit_of(&hits, second) <= &hits.at[3], "large %d", large);
        arena_end();
        store_close(&s);
    }
}

TEST(names_are_runs_codes_and_pairs_in_any_script)
{
    static const struct {
        const char *question, *first, *second;
    } cases[] = {
        { "Who leads the owner of the lathe?", "We share the lathe with the energy project.",
          "Nina Braun heads our energy project." },
        { "What does the code of the gate open?", "The gate has HYR08 on it.",
          "Cellars want HYR08, or force." },
        { "Who is mayor where Olga lives?", "Olga moved to Z\xc3\xbcrichberg.",
          "A vote made Ben mayoress, Z\xc3\xbcrichberg says." },
        { "\xd0\x93\xd0\xb4\xd0\xb5 \xd1\x80\xd0\xb0\xd0\xb1\xd0\xbe\xd1\x82\xd0\xb0\xd0\xb5\xd1\x82 Olga?",
          "Olga \xd0\xb2 \xd0\xa1\xd0\xb0\xd1\x88\xd0\xb8\xd1\x84\xd0\xb5.",
          "\xd0\x94\xd0\xbe\xd0\xbc \xd1\x83 \xd0\xa1\xd0\xb0\xd1\x88\xd0\xb8\xd1\x84\xd0\xb5." },
        { "Which town has the seat of the choir?", "Duxley holds the seat of the choir.",
          "Trains leave for Duxley at noon." }, /* begins a sentence, but one other text has it */
    };
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        char name[32];
        snprintf(name, sizeof name, "data%zu", i);
        store s = store_open(temp_path(name));
        arena_begin();
        add_note(s.m, cases[i].first);
        int64_t second = add_note(s.m, cases[i].second);
        rv_memory_hits hits = ask(s.m, rv_memory_whole(), cases[i].question, (rv_memory_filter){ 0 });
        CHECK(is_bridged(&hits, second), "%s", cases[i].question);
        arena_end();
        store_close(&s);
    }
}

TEST(a_word_of_everyday_use_is_no_bridge)
{
    static const char *const others[] = {
        "They open our doors at noon.",     /* "doors", and words that are in every text */
        "Foods are not kept here.",         /* a part of a name */
        "In 1947 rain fell for 12 days.",   /* numbers */
        "Keller was here, and Anna too.",   /* what the question holds leads nowhere */
        "With whom are you, and why then?", /* the commonest words, capital or not */
    };
    store s = store_open(temp_path("data"));
    arena_begin();
    add_note(s.m, "With doors from 1947 Anna Keller works at Sashife Foods for 12 euros.");
    int64_t ids[RV_COUNT(others)];
    for (size_t i = 0; i < RV_COUNT(others); i++) {
        ids[i] = add_note(s.m, others[i]);
    }
    int64_t named = add_note(s.m, seat);
    rv_memory_hits hits = ask(s.m, rv_memory_whole(), question, (rv_memory_filter){ 0 });
    CHECK(is_bridged(&hits, named), "one of two is left to the others");
    for (size_t i = 0; i < RV_COUNT(others); i++) {
        CHECK(!is_bridged(&hits, ids[i]), "%s", others[i]);
    }
    arena_end();
    store_close(&s);
}

TEST(what_many_texts_hold_is_no_name_and_two_are_brought_at_most)
{
    for (int large = 0; large < 2; large++) {
        for (int many = 0; many < 2; many++) {
            char name[32];
            snprintf(name, sizeof name, "data%d%d", large, many);
            store s = store_open(temp_path(name));
            arena_begin();
            add_note(s.m, employer);
            size_t n = many ? 12 : 6, bridged = 0;
            for (size_t i = 0; i < n; i++) {
                char text[96];
                snprintf(text, sizeof text, "%c%c%c Sashife Foods", (char)('b' + i), (char)('c' + i),
                         (char)('d' + i));
                add_note(s.m, text);
            }
            if (large) {
                fill(s.m);
            }
            rv_memory_hits hits = ask(s.m, rv_memory_whole(), question, (rv_memory_filter){ 0 });
            for (size_t i = 0; i < hits.n; i++) {
                bridged += strcmp(hits.at[i].origin_side, "graph") == 0;
            }
            CHECK(bridged == (many ? 0 : 2), "large %d: %zu of %zu", large, bridged, n);
            arena_end();
            store_close(&s);
        }
    }
}

TEST(what_is_bridged_does_not_pass_the_best_three)
{
    store s = store_open(temp_path("data"));
    arena_begin();
    add_note(s.m, "The employer of Anna Keller is Sashife Foods.");
    add_note(s.m, "The employer of Bert Keller is based on trust.");
    int64_t third = add_note(s.m, "The employer of Anna is based on hope.");
    int64_t second = add_note(s.m, seat);
    add_note(s.m, "Anna sings.");
    rv_memory_hits hits = ask(s.m, rv_memory_whole(), question, (rv_memory_filter){ 0 });
    CHECK(hits.n == 5 && hits.at[3].id == second, "%zu", hits.n);
    CHECK(hit_of(&hits, third) < &hits.at[3], "behind it");
    arena_end();
    store_close(&s);
}

TEST(anothers_text_is_never_reached_by_a_name)
{
    for (int large = 0; large < 2; large++) {
        store s = store_open(temp_path(large ? "large" : "small"));
        arena_begin();
        add_for(s.m, "anna", employer);
        int64_t others = add_for(s.m, "bert", seat);
        if (large) {
            fill(s.m);
        }
        rv_memory_hits hits = ask(s.m, rv_memory_of("anna"), question, (rv_memory_filter){ 0 });
        CHECK(hits.n > 0 && !hit_of(&hits, others), "large %d", large);
        int64_t own = add_for(s.m, "anna", "Ask for Sashife Foods in Pascan."), all = add_note(s.m, seat);
        hits = ask(s.m, rv_memory_of("anna"), question, (rv_memory_filter){ 0 });
        CHECK(!hit_of(&hits, others) && is_bridged(&hits, own) && is_bridged(&hits, all), "large %d", large);
        hits = ask(s.m, rv_memory_of("bert"), question, (rv_memory_filter){ 0 });
        CHECK(!hit_of(&hits, own), "large %d: whose name was not found leads nowhere", large);
        arena_end();
        store_close(&s);
    }
}

TEST(filters_hold_for_what_a_name_leads_to)
{
    for (int large = 0; large < 2; large++) {
        store s = store_open(temp_path(large ? "large" : "small"));
        arena_begin();
        static const char *const tags[] = { "work" };
        rv_memory_new new = { .type = "note", .text = employer, .source = "user", .tags = tags, .n_tags = 1 };
        int64_t id = 0;
        bool added = false;
        CHECK_OK(rv_memory_add(s.m, rv_memory_of(NULL), &new, &id, &added));
        int64_t without = add_note(s.m, seat);
        if (large) {
            fill(s.m);
        }
        rv_memory_filter filter = { .tag = "work" };
        rv_memory_hits hits = ask(s.m, rv_memory_whole(), question, filter);
        CHECK(hits.n == 1 && hits.at[0].id == id, "large %d: %zu", large, hits.n);
        new.text = "Sashife Foods has Pascan for its seat.";
        CHECK_OK(rv_memory_add(s.m, rv_memory_of(NULL), &new, &id, &added));
        hits = ask(s.m, rv_memory_whole(), question, filter);
        CHECK(hits.n == 2 && is_bridged(&hits, id) && !hit_of(&hits, without), "large %d: %zu", large,
              hits.n);
        arena_end();
        store_close(&s);
    }
}

TEST(what_was_corrected_leads_where_its_correction_does)
{
    store s = store_open(temp_path("data"));
    arena_begin();
    int64_t wrong = add_note(s.m, employer);
    int64_t old = add_note(s.m, seat), now = add_note(s.m, "Blaxley Mills has Drumvou for its seat.");
    rv_memory_new new = {
        .type = "fact", .text = "Anna Keller works at Blaxley Mills.", .source = "user", .corrects = wrong
    };
    int64_t id = 0;
    bool added = false;
    CHECK_OK(rv_memory_add(s.m, rv_memory_of(NULL), &new, &id, &added));
    rv_memory_hits hits = ask(s.m, rv_memory_whole(), question, (rv_memory_filter){ 0 });
    CHECK(is_bridged(&hits, now) && !is_bridged(&hits, old), "%zu", hits.n);
    arena_end();
    store_close(&s);
}

/* A MiB of names, each of them in a text of its own too: what is looked up is bounded, whatever the text holds. */
TEST(a_text_that_is_nothing_but_names_costs_no_more_than_its_beginning)
{
    enum { BYTES = 1000000 };
    store s = store_open(temp_path("data"));
    arena_begin();
    rv_text text;
    rv_text_init(&text, &rv_heap, SIZE_MAX);
    rv_text_adds(&text, "Anna Keller's employer ");
    for (unsigned i = 0; text.n < BYTES; i++) {
        rv_text_addf(&text, "Q%c%c%c%c ", 'a' + i % 26, 'a' + i / 26 % 26, 'a' + i / 676 % 26,
                     'a' + i / 17576 % 26);
    }
    CHECK_OK(rv_text_check(&text));
    int64_t first = add_for(s.m, NULL, rv_text_get(&text));
    int64_t near = add_note(s.m, "Qaaaa Qbaaa Qcaaa Qdaaa is near its beginning");
    int64_t far = add_note(s.m, "Qaaba Qbaba Qcaba Qdaba is far behind it");
    fill(s.m);
    rv_memory_hits hits = ask(s.m, rv_memory_whole(), question, (rv_memory_filter){ 0 });
    CHECK(hits.n > 0 && hits.at[0].id == first, "%zu", hits.n);
    CHECK(is_bridged(&hits, near), "the names it begins with");
    CHECK(!is_bridged(&hits, far), "not looked at");
    rv_text_deinit(&text);
    arena_end();
    store_close(&s);
}
