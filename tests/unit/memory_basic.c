/* Adding, finding, listing, linking, correcting and removing; and that all of it is there after a restart. */
#include "memory_helpers.h"

static rv_arena *arena(void)
{
    static rv_arena *a;
    if (!a) {
        CHECK_OK(rv_arena_new(&rv_heap, (size_t)256 << 20, &a));
    }
    rv_arena_reset(a);
    return a;
}

static rv_memory_hits ask_as(rv_memory *m, rv_memory_scope scope, rv_memory_query q)
{
    rv_memory_hits hits = { 0 };
    CHECK_OK(rv_memory_search(m, scope, &q, arena(), &hits));
    return hits;
}

static rv_memory_hits ask(rv_memory *m, rv_memory_query q)
{
    return ask_as(m, rv_memory_whole(), q);
}

static int64_t add_as(rv_memory *m, const char *user, const char *text, int64_t corrects)
{
    int64_t id = 0;
    bool added = false;
    rv_memory_new new = { .type = corrects ? "fact" : "note", .text = text, .corrects = corrects };
    CHECK_OK(rv_memory_add(m, rv_memory_of(user), &new, &id, &added));
    return id;
}

static size_t place_of(const rv_memory_hits *hits, int64_t id)
{
    size_t i = 0;
    while (i < hits->n && hits->at[i].id != id) {
        i++;
    }
    return i;
}

static bool has(const rv_memory_hits *hits, int64_t id)
{
    return place_of(hits, id) < hits->n;
}

TEST(what_was_added_is_read_back_whole_also_after_a_restart)
{
    const char *dir = temp_path("data");
    store s = store_open(dir);
    json_t *metadata = json_pack("{s:i,s:s}", "page", 3, "by", "Ada");
    const char *tags[] = { "zoo", "art", "zoo" };
    rv_memory_new new = { .type = "note",
                          .text = "The heron stands in the pond.",
                          .source = "birds.md",
                          .tags = tags,
                          .n_tags = 3,
                          .origin = "req-1",
                          .confidence = 0.5,
                          .metadata = metadata,
                          .offset = 7,
                          .length = 29 };
    int64_t id = 0;
    bool added = false;
    CHECK_OK(rv_memory_add(s.m, rv_memory_of("ada"), &new, &id, &added));
    json_decref(metadata);
    CHECK(id > 0 && added, "id %lld", (long long)id);
    for (int round = 0; round < 2; round++) {
        rv_memory_node n;
        CHECK_OK(rv_memory_get(s.m, rv_memory_whole(), id, arena(), &n));
        CHECK(strcmp(n.type, "note") == 0 && strcmp(n.text, new.text) == 0 &&
                  strcmp(n.source, "birds.md") == 0,
              "%s", n.text);
        CHECK(strcmp(n.user, "ada") == 0 && strcmp(n.origin, "req-1") == 0 && n.confidence == 0.5, "%s",
              n.user);
        CHECK(n.n_tags == 2 && strcmp(n.tags[0], "art") == 0 && strcmp(n.tags[1], "zoo") == 0, "%zu tags",
              n.n_tags);
        CHECK(n.offset == 7 && n.length == 29 && n.created_ms > 1600000000000, "%llu",
              (unsigned long long)n.offset);
        CHECK(strcmp(n.metadata, "{\"page\":3,\"by\":\"Ada\"}") == 0, "%s", n.metadata);
        rv_memory_hits hits = ask(s.m, (rv_memory_query){ .text = "heron pond", .k = 1 });
        CHECK(hits.n == 1 && hits.at[0].id == id && strcmp(hits.at[0].origin_side, "both") == 0,
              "round %d: %zu", round, hits.n);
        CHECK_OK(rv_memory_check(s.m));
        store_close(&s);
        s = store_open(dir);
    }
    store_close(&s);
}

TEST(the_same_text_is_kept_once_for_each_type_and_user)
{
    store s = store_open(temp_path("data"));
    int64_t first = add_as(s.m, NULL, "Bees sleep at night.", 0),
            other = add_as(s.m, "ann", "Bees sleep at night.", 0), id;
    bool added = true;
    CHECK_OK(rv_memory_add(s.m, rv_memory_of(NULL),
                           &(rv_memory_new){ .type = "note", .text = "Bees sleep at night." }, &id, &added));
    CHECK(id == first && !added && other != first, "%lld, %lld, %lld", (long long)first, (long long)other,
          (long long)id);
    CHECK_OK(rv_memory_add(s.m, rv_memory_of(NULL),
                           &(rv_memory_new){ .type = "fact", .text = "Bees sleep at night." }, &id, &added));
    CHECK(id != first && id != other && added, "%lld", (long long)id);
    rv_memory_stats stats;
    CHECK_OK(rv_memory_get_stats(s.m, &stats));
    CHECK(stats.nodes == 3 && stats.notes == 2 && stats.facts == 1 && stats.vectors == 3, "%zu nodes",
          stats.nodes);
    store_close(&s);
}

static rv_memory_hits tagged(rv_memory *m, const char *tag, rv_memory_query q)
{
    q.filter.tag = tag;
    return ask(m, q);
}

/* Also in other words, and when the first one is of the same moment. */
TEST(a_text_that_is_said_again_brings_its_tags_and_metadata)
{
    const char *dir = temp_path("data"), *tags[] = { "bb", "ab" }, *more[] = { "c", "a", "bb" };
    json_t *old = json_pack("{s:i, s:s}", "page", 3, "by", "Ada"),
           *new = json_pack("{s:s, s:i}", "by", "Eve", "year", 1843);
    store s = store_open(dir);
    int64_t id, again;
    bool added;
    rv_memory_new one = { .type = "note",
                          .text = "The heron stands in the pond.",
                          .tags = tags,
                          .n_tags = 2 },
                  two = one;
    one.metadata = old;
    two.tags = more;
    two.n_tags = 3;
    two.metadata = new;
    CHECK_OK(rv_memory_add(s.m, rv_memory_of(NULL), &one, &id, &added));
    CHECK_OK(rv_memory_add(s.m, rv_memory_of(NULL), &two, &again, &added));
    CHECK(again == id && !added, "%lld", (long long)again);
    two.text = "the heron STANDS in the pond!";
    two.examined = true;
    two.tags = (const char *[]){ "near" };
    two.n_tags = 1;
    CHECK_OK(rv_memory_add(s.m, rv_memory_of(NULL), &two, &again, &added));
    CHECK(again == id && !added, "%lld", (long long)again);
    rv_memory_new both[] = { { .type = "note", .text = "A wren sings.", .tags = tags, .n_tags = 1 },
                             { .type = "note", .text = "A wren sings.", .tags = more, .n_tags = 1 } };
    rv_memory_scope scopes[] = { rv_memory_of(NULL), rv_memory_of(NULL) };
    rv_memory_added out[2];
    size_t done;
    CHECK_OK(rv_memory_add_many(s.m, scopes, both, 2, out, &done));
    CHECK(done == 2 && out[0].added && !out[1].added && out[1].id == out[0].id, "%zu", done);
    for (int opened = 0; opened < 2; opened++) {
        static const char *const all[] = { "a", "ab", "bb", "c", "near" };
        rv_memory_node n;
        CHECK_OK(rv_memory_get(s.m, rv_memory_whole(), id, arena(), &n));
        CHECK(n.n_tags == RV_COUNT(all), "%zu tags", n.n_tags);
        for (size_t i = 0; i < n.n_tags; i++) {
            CHECK(strcmp(n.tags[i], all[i]) == 0, "%zu: %s", i, n.tags[i]);
        }
        CHECK(strcmp(n.metadata, "{\"page\":3,\"by\":\"Eve\",\"year\":1843}") == 0, "%s", n.metadata);
        rv_memory_hits hits = tagged(s.m, "c", (rv_memory_query){ .text = "heron pond", .k = 9 });
        CHECK(hits.n == 2 && hits.at[0].id == id && hits.at[1].id == out[0].id, "%zu hits", hits.n);
        hits = tagged(s.m, "near", (rv_memory_query){ .text = "heron", .k = 9, .mode = RV_MEMORY_WORDS });
        CHECK(hits.n == 1 && hits.at[0].id == id, "%zu hits", hits.n);
        CHECK_OK(rv_memory_check(s.m));
        store_close(&s);
        s = store_open(dir);
    }
    char names[32][16];
    const char *many[32];
    for (int i = 0; i < 32; i++) {
        snprintf(names[i], sizeof names[i], "t%02d", i);
        many[i] = names[i];
    }
    two.tags = many;
    two.n_tags = 32;
    two.examined = false;
    two.text = one.text;
    CHECK_ERR(rv_memory_add(s.m, rv_memory_of(NULL), &two, &again, &added), RV_E_ARG);
    CHECK(strstr(rv_err_text(), "tags: 37") != NULL, "%s", rv_err_text());
    char *big = rv_new(&rv_heap, 65000);
    memset(big, 'x', 64999);
    json_object_set_new(new, "long", json_string(big));
    two.n_tags = 0;
    CHECK_OK(rv_memory_add(s.m, rv_memory_of(NULL), &two, &again, &added));
    big[600] = 0;
    json_object_set_new(new, "longer", json_string(big));
    json_object_del(new, "long");
    CHECK_ERR(rv_memory_add(s.m, rv_memory_of(NULL), &two, &again, &added), RV_E_TOO_LARGE);
    CHECK(tagged(s.m, "t00", (rv_memory_query){ .text = "heron", .k = 9 }).n == 0, "refused, and found");
    CHECK_OK(rv_memory_check(s.m));
    rv_free(&rv_heap, big);
    json_decref(old);
    json_decref(new);
    store_close(&s);
}

/* In any order of their ids, few and many of a tag: lists become bits. */
TEST(nodes_that_get_a_tag_later_are_found_by_it)
{
    enum { N = 600 };
    static char texts[N][40];
    static rv_memory_new new[N];
    static rv_memory_scope scopes[N];
    static rv_memory_added out[N];
    const char *dir = temp_path("data"), *tags[] = { "late" };
    store s = store_open(dir);
    size_t done, n = 0;
    for (size_t i = 0; i < N; i++) {
        snprintf(texts[i], sizeof texts[i], "heron %c%c%c", (char)('a' + i % 26), (char)('a' + i / 26 % 26),
                 'k');
        new[i] = (rv_memory_new){ .type = "note", .text = texts[i] };
        scopes[i] = rv_memory_of(NULL);
    }
    CHECK_OK(rv_memory_add_many(s.m, scopes, new, N, out, &done));
    for (size_t round = 1; round <= 64; round *= 4) {
        rv_memory_new again[N];
        size_t k = 0;
        for (size_t i = N; i-- > 0;) {
            if (i % 64 < round && (round == 1 || i % 64 >= round / 4)) {
                again[k] = new[i];
                again[k].tags = tags;
                again[k++].n_tags = 1;
            }
        }
        again[k] = (rv_memory_new){ .type = "note", .text = texts[0], .tags = tags, .n_tags = 1 };
        CHECK_OK(rv_memory_add_many(s.m, scopes, again, k + 1, out, &done));
        n += k;
        rv_memory_hits hits = tagged(s.m, "late", (rv_memory_query){ .text = "heron", .k = 1000 });
        CHECK(hits.n == n, "%zu of %zu that have the tag", hits.n, n);
    }
    CHECK(n == N, "%zu", n);
    CHECK_OK(rv_memory_check(s.m));
    store_close(&s);
}

TEST(fields_out_of_their_limits_are_named)
{
    store s = store_open(temp_path("data"));
    char *big = rv_new(&rv_heap, (1 << 20) + 2);
    memset(big, 'a', (1 << 20) + 1);
    const char *no_tag[] = { "" };
    const struct {
        rv_memory_new new;
        rv_err code;
        const char *names;
    } cases[] = {
        { { .type = "Note", .text = "x" }, RV_E_ARG, "type" },
        { { .type = NULL, .text = "x" }, RV_E_ARG, "type" },
        { { .type = "note", .text = "" }, RV_E_ARG, "text" },
        { { .type = "note", .text = "\xff\xfe" }, RV_E_ARG, "text" },
        { { .type = "note", .text = "a\0b", .text_bytes = 3 }, RV_E_ARG, "text" },
        { { .type = "note", .text = big }, RV_E_TOO_LARGE, "text" },
        { { .type = "note", .text = "x", .tags = no_tag, .n_tags = 1 }, RV_E_ARG, "tags" },
        { { .type = "note", .text = "x", .confidence = 1.5 }, RV_E_ARG, "confidence" },
        { { .type = "note", .text = "x", .confidence = NAN }, RV_E_ARG, "confidence" },
        { { .type = "note", .text = "x", .corrects = 99 }, RV_E_NOT_FOUND, "99" },
        { { .type = "note", .text = "x", .parent = -1 }, RV_E_NOT_FOUND, "-1" },
    };
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        int64_t id = 0;
        bool added = false;
        CHECK_ERR(rv_memory_add(s.m, rv_memory_of(NULL), &cases[i].new, &id, &added), cases[i].code);
        CHECK(id == 0 && strstr(rv_err_text(), cases[i].names), "case %zu: %s", i, rv_err_text());
    }
    int64_t id = 0;
    bool added;
    const rv_memory_scope nobodys[] = { rv_memory_of("a\nb"), rv_memory_whole(), { 0 } };
    for (size_t i = 0; i < RV_COUNT(nobodys); i++) {
        CHECK_ERR(
            rv_memory_add(s.m, nobodys[i], &(rv_memory_new){ .type = "note", .text = "x" }, &id, &added),
            RV_E_ARG);
        CHECK(strstr(rv_err_text(), "user"), "scope %zu: %s", i, rv_err_text());
    }
    rv_free(&rv_heap, big);
    CHECK_OK(rv_memory_check(s.m));
    store_close(&s);
}

TEST(user_text_is_never_query_syntax)
{
    store s = store_open(temp_path("data"));
    int64_t id = add_note(s.m, "The parrot says AND, OR and NOT, and NEAR the column text.");
    static const char *const queries[] = { "parrot AND",   "\"parrot",        "parrot*",
                                           "text:parrot",  "NEAR(parrot",     "-parrot",
                                           "^parrot",      "(parrot",         "parrot \"\" OR OR",
                                           "{parrot}:x",   "par\"rot parrot", "parrot;--",
                                           "parrot + \xff" };
    for (size_t i = 0; i < RV_COUNT(queries); i++) {
        rv_memory_hits hits =
            ask(s.m, (rv_memory_query){ .text = queries[i], .k = 3, .mode = RV_MEMORY_WORDS });
        CHECK(hits.n == 1 && hits.at[0].id == id, "%s: %zu hits", queries[i], hits.n);
    }
    static const char *const nothing[] = { "", "\"\"", "***", "()", " \t\n", "...?!", "zebra" };
    for (size_t i = 0; i < RV_COUNT(nothing); i++) {
        rv_memory_hits hits =
            ask(s.m, (rv_memory_query){ .text = nothing[i], .k = 3, .mode = RV_MEMORY_WORDS });
        CHECK(hits.n == 0, "%s: %zu hits", nothing[i], hits.n);
    }
    store_close(&s);
}

TEST(words_are_found_in_other_forms_and_without_accents)
{
    store s = store_open(temp_path("data"));
    int64_t id = add_note(s.m, "The café was painting its walls.");
    rv_memory_hits hits =
        ask(s.m, (rv_memory_query){ .text = "CAFE paints", .k = 1, .mode = RV_MEMORY_WORDS });
    CHECK(hits.n == 1 && hits.at[0].id == id && hits.at[0].words_score > 0 && isnan(hits.at[0].vector_score),
          "%zu", hits.n);
    store_close(&s);
}

/* Three types, three owners, four tags, sources and times: what a filter takes is counted by hand. */
TEST(filters_take_exactly_what_they_say)
{
    store s = store_open(temp_path("data"));
    static const char *const types[] = { "note", "fact", "qa" }, *const users[] = { NULL, "ann", "bob" };
    static const char *const tags[] = { "t0", "t1", "t2", "t3" }, *const sources[] = { "a.md", "b.md" };
    enum { N = 72 };
    for (int i = 0; i < N; i++) {
        char text[64];
        snprintf(text, sizeof text, "common word number %c%c", 'a' + i / 26, 'a' + i % 26);
        int64_t id;
        bool added;
        CHECK_OK(rv_memory_add(s.m, rv_memory_of(users[i / 3 % 3]),
                               &(rv_memory_new){ .type = types[i % 3],
                                                 .text = text,
                                                 .tags = &tags[i % 4],
                                                 .n_tags = 1,
                                                 .source = sources[i % 2] },
                               &id, &added));
    }
    static const struct {
        rv_memory_filter filter;
        size_t n;
        const char *user; /* NULL: the whole store */
    } cases[] = {
        { { 0 }, 72, NULL },
        { { .type = "fact" }, 24, NULL },
        { { .type = "chunk" }, 0, NULL },
        { { .tag = "t1" }, 18, NULL },
        { { .tag = "none" }, 0, NULL },
        { { .source = "b.md" }, 36, NULL },
        { { .source = "b.md", .tag = "t0" }, 0, NULL },
        { { 0 }, 48, "ann" },
        { { 0 }, 24, "nobody" },
        { { 0 }, 24, "" },
        { { .type = "qa" }, 16, "bob" },
        { { .type = "qa" }, 8, "nobody" },
        { { .since_ms = 4000000000000 }, 0, NULL },
        { { .until_ms = 1000 }, 0, NULL },
        { { .since_ms = 1000, .until_ms = 4000000000000 }, 72, NULL },
    };
    for (size_t c = 0; c < RV_COUNT(cases); c++) {
        rv_memory_hits hits = { 0 };
        rv_memory_scope scope = cases[c].user ? rv_memory_of(cases[c].user) : rv_memory_whole();
        CHECK_OK(rv_memory_list(s.m, scope, &cases[c].filter, 1000, 0, arena(), &hits));
        CHECK(hits.n == cases[c].n, "case %zu: list has %zu", c, hits.n);
        for (int mode = 0; mode < 3; mode++) {
            hits = ask_as(s.m, scope,
                          (rv_memory_query){ .text = "common words",
                                             .k = 100,
                                             .mode = (rv_memory_mode)mode,
                                             .filter = cases[c].filter });
            CHECK(hits.n == cases[c].n, "case %zu: mode %d finds %zu", c, mode, hits.n);
            for (size_t i = 1; i < hits.n; i++) {
                CHECK(hits.at[i].score <= hits.at[i - 1].score, "case %zu mode %d: place %zu", c, mode, i);
            }
        }
    }
    store_close(&s);
}

TEST(k_are_found_when_k_pass_however_rare_they_are)
{
    store s = store_open(temp_path("data"));
    int64_t rare[5];
    for (int i = 0; i < 400; i++) {
        char text[64];
        snprintf(text, sizeof text, "river river stone %d", i);
        bool is_rare = i % 80 == 79;
        int64_t id = add_as(s.m, is_rare ? "ann" : "bob", text, 0);
        if (is_rare) {
            rare[i / 80] = id;
        }
    }
    for (int mode = 0; mode < 3; mode++) {
        rv_memory_query q = { .text = "river", .k = 5, .mode = (rv_memory_mode)mode };
        rv_memory_hits hits = ask_as(s.m, rv_memory_of("ann"), q);
        CHECK(hits.n == 5, "mode %d: %zu", mode, hits.n);
        for (int i = 0; i < 5; i++) {
            CHECK(has(&hits, rare[i]), "mode %d: %lld", mode, (long long)rare[i]);
        }
    }
    store_close(&s);
}

TEST(a_list_is_read_page_by_page_newest_first)
{
    store s = store_open(temp_path("data"));
    int64_t ids[25], after = 0;
    for (int i = 0; i < 25; i++) {
        char text[16];
        snprintf(text, sizeof text, "n %d", i);
        ids[i] = add_note(s.m, text);
    }
    size_t seen = 0;
    for (rv_memory_hits hits = { .n = 1 }; hits.n > 0;) {
        CHECK_OK(rv_memory_list(s.m, rv_memory_whole(), NULL, 7, after, arena(), &hits));
        for (size_t i = 0; i < hits.n; i++, seen++) {
            CHECK(hits.at[i].id == ids[24 - seen], "place %zu: %lld", seen, (long long)hits.at[i].id);
            after = hits.at[i].id;
        }
    }
    CHECK(seen == 25, "%zu", seen);
    rv_memory_hits hits;
    CHECK_ERR(rv_memory_list(s.m, rv_memory_whole(), NULL, 0, 0, arena(), &hits), RV_E_ARG);
    store_close(&s);
}

TEST(hybrid_weighs_the_cosine_by_the_best_one_also_for_what_one_side_found)
{
    store s = store_open(temp_path("data"));
    for (int i = 0; i < 300;
         i++) { /* the vector side gives 100: the one about otters, long, is not among them */
        char text[64];
        snprintf(text, sizeof text, "river stone %c%c", 'a' + i % 26, 'a' + i / 26);
        add_note(s.m, text);
    }
    int64_t otter = add_note(s.m, "otter alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu");
    static double words[302], cosine[302]; /* by id, which here count from 1 */
    rv_memory_query q = { .text = "river stone otter", .k = 302, .mode = RV_MEMORY_WORDS };
    rv_memory_hits hits = ask(s.m, q);
    double best = hits.at[0].score;
    for (size_t i = 0; i < hits.n; i++) {
        words[hits.at[i].id] = hits.at[i].score;
    }
    q.mode = RV_MEMORY_VECTOR;
    hits = ask(s.m, q);
    CHECK(hits.n == 301 && hits.at[250].score > 0, "%zu", hits.n);
    double nearest = hits.at[0].score;
    for (size_t i = 0; i < hits.n; i++) {
        cosine[hits.at[i].id] = hits.at[i].score;
    }
    q.mode = RV_MEMORY_HYBRID;
    q.k = 20;
    hits = ask(s.m, q);
    size_t place = 0;
    while (place < hits.n && hits.at[place].id != otter) {
        place++;
    }
    CHECK(hits.n == 20 && place < hits.n, "the only one with a rare word is among the first");
    CHECK(strcmp(hits.at[place].origin_side, "words") == 0 && isnan(hits.at[place].vector_score), "%s",
          hits.at[place].origin_side);
    double weight = 1.5 * nearest;
    for (size_t i = 0; i < hits.n; i++) {
        double expected = (words[hits.at[i].id] / best + weight * cosine[hits.at[i].id]) / (1 + weight);
        double err = fabs(hits.at[i].score - expected);
        CHECK(err <= 1e-6, "place %zu: %g, expected %g", i, hits.at[i].score, expected);
    }
    store_close(&s);
}

TEST(a_correction_takes_the_place_of_what_it_corrects)
{
    store s = store_open(temp_path("data"));
    int64_t wrong = add_note(s.m, "The pool opens at seven."),
            right = add_as(s.m, NULL, "Eight o'clock is when they let you in.", wrong);
    for (int mode = 0; mode < 3; mode++) {
        rv_memory_query q = { .text = "When does the pool open, at seven?",
                              .k = 5,
                              .mode = (rv_memory_mode)mode };
        rv_memory_hits hits = ask(s.m, q);
        CHECK(has(&hits, right) && !has(&hits, wrong), "mode %d: %zu hits", mode, hits.n);
        q.with_corrected = true;
        hits = ask(s.m, q);
        size_t first = place_of(&hits, right), second = place_of(&hits, wrong);
        CHECK(first < second && second < hits.n && hits.at[second].corrected_by == right, "mode %d: %zu, %zu",
              mode, first, second);
        CHECK(hits.at[first].score >= hits.at[second].score, "mode %d", mode);
    }
    rv_memory_hits hits =
        ask(s.m, (rv_memory_query){ .text = "pool seven", .k = 5, .mode = RV_MEMORY_WORDS });
    CHECK(hits.n == 1 && strcmp(hits.at[0].origin_side, "graph") == 0, "%s", hits.at[0].origin_side);

    size_t removed = 0; /* without its correction it counts again */
    CHECK_OK(rv_memory_rm(s.m, rv_memory_whole(), right, NULL, &removed));
    hits = ask(s.m, (rv_memory_query){ .text = "pool seven", .k = 5 });
    CHECK(removed == 1 && has(&hits, wrong) && hits.at[0].corrected_by == 0, "%zu", hits.n);
    store_close(&s);
}

TEST(a_correction_of_one_thing_leaves_the_rest_of_a_passage)
{
    store s = store_open(temp_path("data"));
    int64_t id = 0;
    bool added;
    rv_memory_new passage = { .type = "chunk",
                              .text = "Cafe. The cafe opens at nine in the morning. A bowl of soup costs 4 "
                                      "euros. Bread comes from the mill." };
    CHECK_OK(rv_memory_add(s.m, rv_memory_of(NULL), &passage, &id, &added));
    int64_t by = add_as(s.m, NULL, "Correction: Q: When does the cafe open? A: 12:00", id);
    add_note(s.m, "The soup kitchen of the church is closed.");
    for (int mode = 0; mode < RV_MEMORY_MODES; mode++) {
        rv_memory_query q = { .text = "bowl of soup costs", .k = 3, .mode = (rv_memory_mode)mode };
        rv_memory_hits hits = ask(s.m, q);
        CHECK(hits.n > 0 && hits.at[0].id == id && hits.at[0].corrected_by == by, "mode %d", mode);
        CHECK(place_of(&hits, by) > 1, "mode %d: the correction is about something else", mode);
        q.with_corrected = true;
        hits = ask(s.m, q);
        CHECK(place_of(&hits, by) < place_of(&hits, id), "mode %d: asked for, it comes with it", mode);
        q = (rv_memory_query){ .text = "when is the cafe open", .k = 3, .mode = (rv_memory_mode)mode };
        hits = ask(s.m, q);
        CHECK(hits.at[0].id == by && has(&hits, id), "mode %d: what was corrected is asked for", mode);
    }
    /* a heading and one sentence are one thing */
    passage.text = "Pool. Opening hours. The pool opens at seven.";
    CHECK_OK(rv_memory_add(s.m, rv_memory_of(NULL), &passage, &id, &added));
    by = add_as(s.m, NULL, "At eight they let you in.", id);
    rv_memory_hits hits = ask(s.m, (rv_memory_query){ .text = "pool opening hours", .k = 5 });
    CHECK(hits.at[0].id == by && !has(&hits, id), "%zu hits", hits.n);
    store_close(&s);
}

TEST(the_last_of_several_corrections_counts)
{
    store s = store_open(temp_path("data"));
    int64_t a = add_note(s.m, "Tea costs one euro."), b = add_as(s.m, NULL, "Tea costs two euro.", a),
            c = add_as(s.m, NULL, "Tea costs three euro.", b);
    rv_memory_query q = { .text = "What does tea cost?", .k = 5 };
    rv_memory_hits hits = ask(s.m, q);
    CHECK(hits.n == 1 && hits.at[0].id == c, "%zu hits", hits.n);
    int64_t again = 0; /* back to the first price: no circle */
    bool added = true;
    CHECK_OK(rv_memory_add(s.m, rv_memory_of(NULL),
                           &(rv_memory_new){ .type = "note", .text = "Tea costs one euro.", .corrects = c },
                           &again, &added));
    CHECK(again == a && !added, "%lld", (long long)again);
    hits = ask(s.m, q);
    CHECK(hits.n == 1 && hits.at[0].id == a && hits.at[0].corrected_by == 0, "%zu hits, first %lld", hits.n,
          (long long)hits.at[0].id);
    CHECK_OK(rv_memory_check(s.m));
    CHECK_ERR(rv_memory_add(s.m, rv_memory_of(NULL),
                            &(rv_memory_new){ .type = "note", .text = "Tea costs one euro.", .corrects = a },
                            &again, &added),
              RV_E_ARG);
    store_close(&s);
}

TEST(a_correction_of_one_user_is_nothing_to_another)
{
    store s = store_open(temp_path("data"));
    int64_t shared = add_note(s.m, "The meeting is on Tuesday."),
            anns = add_as(s.m, "ann", "For me it is on Friday.", shared);
    add_note(s.m, "The meeting room has a window.");
    rv_memory_query q = { .text = "meeting Tuesday", .k = 5 };
    rv_memory_hits hits = ask_as(s.m, rv_memory_of("ann"), q);
    CHECK(has(&hits, anns) && !has(&hits, shared), "ann: %zu hits", hits.n);
    hits = ask_as(s.m, rv_memory_of("bob"), q);
    CHECK(hits.at[0].id == shared && hits.at[0].corrected_by == 0 && !has(&hits, anns), "bob: first is %lld",
          (long long)hits.at[0].id);
    store_close(&s);
}

TEST(what_is_corrected_from_outside_the_filter_ranks_last)
{
    store s = store_open(temp_path("data"));
    int64_t wrong = add_note(s.m, "The gate is green."), fine = add_note(s.m, "A gate squeaks.");
    add_as(s.m, NULL, "The gate is blue.", wrong);
    rv_memory_hits hits =
        ask(s.m, (rv_memory_query){ .text = "the gate is green", .k = 5, .filter = { .type = "note" } });
    CHECK(hits.n == 2 && hits.at[0].id == fine && hits.at[1].id == wrong, "%zu hits", hits.n);
    store_close(&s);
}

TEST(k_stay_found_when_many_are_left_out_for_their_corrections)
{
    store s = store_open(temp_path("data"));
    int64_t right = add_note(s.m, "Something else entirely.");
    for (int i = 0; i < 300; i++) {
        char text[64];
        snprintf(text, sizeof text, "lake lake lake %d", i);
        CHECK_OK(rv_memory_link(s.m, rv_memory_whole(), right, add_note(s.m, text), "corrects", 1));
    }
    int64_t far[4];
    for (int i = 0; i < 4; i++) {
        char text[64];
        snprintf(text, sizeof text, "a lake among mountains and very many other words %d", i);
        far[i] = add_note(s.m, text);
    }
    rv_memory_hits hits = ask(s.m, (rv_memory_query){ .text = "lake", .k = 5 });
    CHECK(hits.n == 5 && has(&hits, right), "%zu hits", hits.n);
    for (int i = 0; i < 4; i++) {
        CHECK(has(&hits, far[i]), "%lld", (long long)far[i]);
    }
    store_close(&s);
}

TEST(links_are_seen_from_both_ends_and_survive_a_restart)
{
    const char *dir = temp_path("data");
    store s = store_open(dir);
    int64_t a = add_note(s.m, "one"), b = add_note(s.m, "two");
    CHECK_OK(rv_memory_link(s.m, rv_memory_whole(), a, b, "same_topic", 0.5));
    CHECK_OK(rv_memory_link(s.m, rv_memory_whole(), a, b, "same_topic", 0.25));
    CHECK_OK(rv_memory_link(s.m, rv_memory_whole(), b, a, "cites", 1));
    for (int round = 0; round < 2; round++) {
        rv_memory_edge *edges;
        size_t n;
        CHECK_OK(rv_memory_neighbours(s.m, rv_memory_whole(), b, arena(), &edges, &n));
        CHECK(n == 2, "%zu", n);
        CHECK(edges[0].from == b && edges[0].to == a && strcmp(edges[0].type, "cites") == 0, "%s",
              edges[0].type);
        CHECK(edges[1].from == a && edges[1].to == b && edges[1].weight == 0.25, "%g", edges[1].weight);
        CHECK_OK(rv_memory_check(s.m));
        store_close(&s);
        s = store_open(dir);
    }
    CHECK_ERR(rv_memory_link(s.m, rv_memory_whole(), a, 77, "cites", 1), RV_E_NOT_FOUND);
    CHECK_ERR(rv_memory_link(s.m, rv_memory_whole(), a, a, "cites", 1), RV_E_ARG);
    CHECK_ERR(rv_memory_link(s.m, rv_memory_whole(), a, b, "no spaces", 1), RV_E_ARG);
    CHECK_ERR(rv_memory_link(s.m, rv_memory_whole(), a, b, "cites", 0), RV_E_ARG);
    CHECK_ERR(rv_memory_link(s.m, rv_memory_whole(), a, b, "cites", NAN), RV_E_ARG);
    store_close(&s);
}

TEST(removing_takes_what_was_named_and_nothing_else)
{
    const char *dir = temp_path("data");
    store s = store_open(dir);
    int64_t shared = add_as(s.m, NULL, "Shared knowledge about owls.", 0),
            anns = add_as(s.m, "ann", "Ann has an owl.", 0);
    int64_t bobs = add_as(s.m, "bob", "Bob has an owl.", 0);
    size_t removed = 99;
    CHECK_ERR(rv_memory_rm(s.m, rv_memory_whole(), 0, NULL, &removed), RV_E_ARG);
    CHECK_ERR(rv_memory_rm(s.m, rv_memory_of(NULL), 0, NULL, &removed), RV_E_ARG);
    CHECK_OK(rv_memory_rm(s.m, rv_memory_whole(), 4711, NULL, &removed));
    CHECK(removed == 0, "%zu", removed);
    CHECK_OK(rv_memory_rm(s.m, rv_memory_of("ann"), shared, NULL, &removed)); /* not hers */
    CHECK(removed == 0, "%zu", removed);
    CHECK_OK(rv_memory_rm(s.m, rv_memory_of("ann"), 0, NULL, &removed));
    CHECK(removed == 1, "%zu", removed);
    for (int round = 0; round < 2; round++) {
        rv_memory_hits hits = ask(s.m, (rv_memory_query){ .text = "owl knowledge Ann Bob", .k = 10 });
        CHECK(hits.n == 2 && has(&hits, shared) && has(&hits, bobs), "round %d: %zu", round, hits.n);
        rv_memory_node node;
        CHECK_ERR(rv_memory_get(s.m, rv_memory_whole(), anns, arena(), &node), RV_E_NOT_FOUND);
        CHECK_OK(rv_memory_check(s.m));
        store_close(&s);
        s = store_open(dir);
    }
    int64_t next = add_note(s.m, "After it.");
    CHECK(next > bobs, "the id of a removed node is not given again: %lld", (long long)next);
    store_close(&s);
}

TEST(a_lost_vector_file_is_made_again_from_the_texts)
{
    const char *dir = temp_path("data");
    store s = store_open(dir);
    int64_t ids[600];
    for (int i = 0; i < 600; i++) {
        char text[64];
        snprintf(text, sizeof text, "word%c%c%c", 'a' + i / 100, 'a' + i / 10 % 10, 'a' + i % 10);
        ids[i] = add_note(s.m, text);
        if (i == 0) {
            i = 590; /* a few are enough, the last ones */
        }
    }
    store_close(&s);
    char file[4200];
    snprintf(file, sizeof file, "%s/vectors/00000001.seg", dir);
    CHECK(remove(file) == 0, "%s", file);
    s = store_open(dir);
    rv_memory_hits hits = ask(s.m, (rv_memory_query){ .text = "wordfjj", .k = 1, .mode = RV_MEMORY_VECTOR });
    CHECK(hits.n == 1 && hits.at[0].id == ids[599], "%lld", (long long)hits.at[0].id);
    CHECK_OK(rv_memory_check(s.m));
    store_close(&s);
}

TEST(an_emptied_database_does_not_start_over_the_old_vectors)
{
    const char *dir = temp_path("data");
    store s = store_open(dir);
    add_note(s.m, "Remember me.");
    store_close(&s);
    char path[4200];
    snprintf(path, sizeof path, "%s/ruvllm.db", dir);
    FILE *f = fopen(path, "w");
    fclose(f);
    CHECK_ERR(store_open_with(&rv_heap, dir, toy, &s), RV_E_CORRUPT);
}

TEST(searching_with_a_given_vector_needs_no_text)
{
    store s = store_open(temp_path("data"));
    int64_t id = add_note(s.m, "A lonely lighthouse.");
    float v[TOY_DIM];
    CHECK_OK(toy_text(NULL, "lighthouse", 10, v));
    for (int i = 0; i < TOY_DIM; i++) {
        v[i] *= 17; /* any length */
    }
    rv_memory_hits hits = ask(s.m, (rv_memory_query){ .vector = v, .k = 1, .mode = RV_MEMORY_VECTOR });
    CHECK(hits.n == 1 && hits.at[0].id == id && hits.at[0].score <= 1.0001 && isnan(hits.at[0].words_score),
          "%g", hits.at[0].score);
    rv_memory_hits none;
    CHECK_ERR(rv_memory_search(s.m, rv_memory_whole(), &(rv_memory_query){ .k = 1 }, arena(), &none),
              RV_E_ARG);
    CHECK_ERR(
        rv_memory_search(s.m, rv_memory_whole(), &(rv_memory_query){ .text = "x", .k = 0 }, arena(), &none),
        RV_E_ARG);
    CHECK_ERR(rv_memory_search(s.m, rv_memory_whole(), &(rv_memory_query){ .text = "x", .k = 1001 }, arena(),
                               &none),
              RV_E_ARG);
    v[3] = NAN;
    CHECK_ERR(rv_memory_search(s.m, rv_memory_whole(),
                               &(rv_memory_query){ .vector = v, .k = 1, .mode = RV_MEMORY_VECTOR }, arena(),
                               &none),
              RV_E_ARG);
    store_close(&s);
}

TEST(filters_give_the_same_as_looking_at_every_node)
{
    store s = store_open(temp_path("data"));
    rv_arena *arena;
    CHECK_OK(rv_arena_new(&rv_heap, 64 << 20, &arena));
    enum { NODES = 400 };
    static const char *const users[] = { NULL, "ann", "bob" };
    static const char *const kinds[] = { "note", "fact" };
    int64_t ids[NODES];
    for (int i = 0; i < NODES; i++) {
        char text[64], tag[8], source[16];
        const char *tags[2] = { tag, i % 50 == 0 ? "rare" : "common" };
        bool added;
        snprintf(text, sizeof text, "text with word%c and number%c%c%c", 'a' + i % 5, 'a' + i % 26,
                 'a' + i / 26 % 26, 'q' + i % 3);
        snprintf(tag, sizeof tag, "t%d", i % 7);
        snprintf(source, sizeof source, "s%d", i % 90);
        CHECK_OK(rv_memory_add(
            s.m, rv_memory_of(users[i % 3]),
            &(rv_memory_new){
                .type = kinds[i % 2], .text = text, .source = source, .tags = tags, .n_tags = 2 },
            &ids[i], &added));
    }
    for (int i = 0; i < NODES; i += 9) { /* lists that hold dead ids */
        size_t removed;
        CHECK_OK(rv_memory_rm(s.m, rv_memory_whole(), ids[i], NULL, &removed));
    }
    const rv_memory_filter filters[] = {
        { .tag = "rare" },
        { .tag = "t3" },
        { .source = "s17" },
        { .source = "s17", .type = "note" },
        { .type = "fact", .tag = "rare" },
        { .type = "unknown" },
        { .until_ms = 1 },
        { .since_ms = 1, .source = "s3" },
    };
    const rv_memory_scope scopes[] = { rv_memory_whole(), rv_memory_of("ann"), rv_memory_of("nobody") };
    for (size_t c = 0; c < RV_COUNT(scopes) * RV_COUNT(filters); c++) {
        size_t i = c % RV_COUNT(filters);
        rv_memory_scope scope = scopes[c / RV_COUNT(filters)];
        rv_memory_hits listed, found;
        rv_arena_reset(arena);
        CHECK_OK(rv_memory_list(s.m, scope, &filters[i], 1000, 0, arena, &listed));
        for (int mode = 0; mode < RV_MEMORY_MODES; mode++) {
            rv_memory_query q = {
                .text = "text number word", .k = 1000, .mode = (rv_memory_mode)mode, .filter = filters[i]
            };
            CHECK_OK(rv_memory_search(s.m, scope, &q, arena, &found));
            CHECK(found.n == listed.n, "filter %zu, %s: %zu found, %zu pass", i,
                  rv_memory_mode_name((rv_memory_mode)mode), found.n, listed.n);
        }
    }
    rv_memory_recall_report r;
    CHECK_OK(rv_memory_recall(s.m, 50, 10, &r));
    CHECK(r.asked == 50 && r.recall == 1 && r.least == 1, "%zu asked, %g, %g", r.asked, r.recall, r.least);
    CHECK(rv_memory_recall(s.m, 50, 0, &r) == RV_E_ARG, "k 0");
    rv_arena_free(arena);
    store_close(&s);
}

static rv_err other_text(const void *self, const char *text, size_t n, float *out)
{
    rv_err e = toy_text(self, text, n, out);
    for (int i = 0; i < TOY_DIM; i++) {
        out[i] = -out[i];
    }
    return e;
}

TEST(another_embedder_is_refused_until_the_vectors_are_made_anew)
{
    const char *dir = temp_path("data");
    store s = store_open(dir);
    add_note(s.m, "the heron stands in the reeds");
    int64_t other = add_note(s.m, "a boat passes");
    store_close(&s);
    rv_memory_embedder embedder = { .name = "other", .dim = TOY_DIM, .text = other_text };
    CHECK(store_open_with(&rv_heap, dir, embedder, &s) == RV_E_CONFIG &&
              strstr(rv_err_text(), "memory reembed"),
          "%s", rv_err_text());
    rv_db *db;
    CHECK_OK(rv_db_open(&rv_heap, dir, &db));
    CHECK_OK(rv_memory_forget_vectors(db));
    rv_db_close(db);
    for (int again = 0; again < 2; again++) {
        CHECK_OK(store_open_with(&rv_heap, dir, embedder, &s));
        CHECK_OK(rv_memory_check(s.m));
        rv_arena *arena;
        rv_memory_hits hits;
        CHECK_OK(rv_arena_new(&rv_heap, 1 << 20, &arena));
        CHECK_OK(rv_memory_search(s.m, rv_memory_whole(),
                                  &(rv_memory_query){ .text = "boat", .k = 1, .mode = RV_MEMORY_VECTOR },
                                  arena, &hits));
        CHECK(hits.n == 1 && hits.at[0].id == other, "%zu", hits.n);
        rv_arena_free(arena);
        store_close(&s);
    }
    CHECK_ERR(store_open_with(&rv_heap, dir, toy, &s), RV_E_CONFIG);
}

TEST(what_is_anothers_is_not_there)
{
    store s = store_open(temp_path("data"));
    int64_t anns = add_as(s.m, "ann", "Ann keeps a heron.", 0),
            shared = add_note(s.m, "The pond has a heron."),
            anns_too = add_as(s.m, "ann", "Ann feeds the heron.", 0);
    CHECK_OK(rv_memory_link(s.m, rv_memory_of("ann"), anns, shared, "cites", 1));
    CHECK_OK(rv_memory_link(s.m, rv_memory_of("ann"), anns, anns_too, "cites", 1));
    CHECK_OK(rv_memory_link(s.m, rv_memory_of("ann"), anns_too, shared, "cites", 0.5));
    const rv_memory_scope others[] = { rv_memory_of("bob"), rv_memory_of(NULL), { 0 } };
    for (size_t i = 0; i < RV_COUNT(others); i++) {
        rv_memory_scope bob = others[i];
        rv_memory_node node;
        rv_memory_edge *edges;
        rv_memory_subgraph g;
        size_t n = 0, changed = 0, removed = 0;
        int64_t id;
        bool added, pin = true;
        CHECK_ERR(rv_memory_get(s.m, bob, anns, arena(), &node), RV_E_NOT_FOUND);
        CHECK(strstr(rv_err_text(), "is not in the memory"), "%s", rv_err_text());
        CHECK_ERR(rv_memory_neighbours(s.m, bob, anns, arena(), &edges, &n), RV_E_NOT_FOUND);
        CHECK_ERR(rv_memory_keep(s.m, bob, anns, &pin, NULL), RV_E_NOT_FOUND);
        CHECK_ERR(rv_memory_keep(s.m, rv_memory_of("bob"), shared, &pin, NULL), RV_E_NOT_FOUND);
        CHECK_ERR(rv_memory_link(s.m, bob, shared, anns, "cites", 1), RV_E_NOT_FOUND);
        CHECK_ERR(rv_memory_path(s.m, bob, anns, shared, 4, arena(), &edges, &n), RV_E_NOT_FOUND);
        CHECK_ERR(rv_memory_subgraph_of(s.m, bob,
                                        &(rv_memory_hits){ .at = &(rv_memory_node){ .id = anns }, .n = 1 },
                                        NULL, (rv_memory_bounds){ 2, 10, 10 }, arena(), &g),
                  RV_E_NOT_FOUND);
        CHECK_OK(rv_memory_rm(s.m, bob, anns, NULL, &removed));
        CHECK(removed == 0, "scope %zu: %zu removed", i, removed);
        CHECK_OK(rv_memory_relink(s.m, bob, &(rv_memory_edge){ anns, shared, "cites", 0 }, 1));
        CHECK_OK(rv_memory_reweigh(
            s.m, bob, &(rv_memory_outcome){ .anchor = shared, .unused = &anns, .n_unused = 1 }, &changed));
        CHECK(changed == 0, "scope %zu: %zu edges moved", i, changed);
        rv_memory_reweigh_later(s.m, bob, &(rv_memory_outcome){ .used = &anns, .n_used = 1 });
        rv_memory_flush(s.m);
        rv_memory_hits hits =
            ask_as(s.m, bob, (rv_memory_query){ .text = "Ann heron", .k = 10, .mode = RV_MEMORY_GRAPH });
        CHECK(!has(&hits, anns) && hits.n == (i < 2), "scope %zu: %zu hits", i, hits.n);
        if (i < 2) { /* and nothing of it shows beside what is there */
            rv_memory_new to_anns = { .type = "fact", .text = "Bob corrects.", .corrects = anns };
            CHECK_ERR(rv_memory_add(s.m, bob, &to_anns, &id, &added), RV_E_NOT_FOUND);
            CHECK_OK(rv_memory_neighbours(s.m, bob, shared, arena(), &edges, &n));
            CHECK(n == 0, "scope %zu: %zu edges", i, n);
        }
    }
    rv_memory_node node;
    rv_memory_edge *edges;
    size_t n = 0;
    CHECK_OK(rv_memory_get(s.m, rv_memory_of("ann"), anns, arena(), &node));
    CHECK(node.used == 0 && !node.pinned, "used %u", node.used);
    CHECK_OK(rv_memory_neighbours(s.m, rv_memory_of("ann"), anns, arena(), &edges, &n));
    CHECK(n == 2, "%zu edges", n);
    int64_t bobs = add_as(s.m, "bob", "Bob has a boat.", 0);
    CHECK_OK(rv_memory_link(s.m, rv_memory_whole(), bobs, anns, "cites", 1));
    CHECK_OK(rv_memory_link(s.m, rv_memory_whole(), bobs, shared, "cites", 0.1));
    CHECK_OK(rv_memory_path(s.m, rv_memory_of("ann"), anns, shared, 4, arena(), &edges, &n));
    CHECK(n == 1, "a way of %zu", n);
    CHECK_OK(rv_memory_relink(s.m, rv_memory_of("ann"), &(rv_memory_edge){ anns, shared, "cites", 0 }, 1));
    CHECK_OK(
        rv_memory_relink(s.m, rv_memory_of("ann"), &(rv_memory_edge){ anns_too, shared, "cites", 0 }, 1));
    CHECK_OK(rv_memory_path(s.m, rv_memory_of("ann"), anns, shared, 4, arena(), &edges, &n));
    CHECK(n == 0, "a way of %zu through what is bob's", n);
    CHECK_OK(rv_memory_path(s.m, rv_memory_whole(), anns, shared, 4, arena(), &edges, &n));
    CHECK(n == 2, "a way of %zu", n);
    CHECK_OK(rv_memory_check(s.m));
    store_close(&s);
}
