/* A collection as files: out and back without loss, verified to the last byte, replaced in one step. */
#include "memory_helpers.h"
#include "base/clock.h"
#include "memory/bundle.h"

#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static rv_arena *arena(void)
{
    static rv_arena *a;
    if (!a) {
        CHECK_OK(rv_arena_new(&rv_heap, (size_t)256 << 20, &a));
    }
    rv_arena_reset(a);
    return a;
}

/* A store with all there can be: a file, corrections, tags, users, metadata, a pin, an end, a use, a moved edge, a gap of ids. */
static store full_store(const char *dir)
{
    store s = store_open(dir);
    char path[4200];
    snprintf(path, sizeof path, "%s-page.md", dir);
    FILE *f = fopen(path, "w");
    CHECK(f && fputs("# Library\n\nIt opens at ten.\n\n## Rooms\n\nThere is one hall.\n", f) >= 0 &&
              fclose(f) == 0,
          "%s", path);
    rv_memory_import done = { 0 };
    CHECK_OK(rv_memory_import_paths(s.m, rv_memory_of("ann"), (const char *const[]){ path }, 1,
                                    (const char *const[]){ "b", "a" }, 2, NULL, NULL, &done));
    json_t *metadata = json_loads("{\"x\": [1, 2.5, \"\\u00e9\"], \"a\": null}", 0, NULL);
    int64_t id, gone;
    bool added;
    CHECK_OK(rv_memory_add(s.m, rv_memory_of(NULL),
                           &(rv_memory_new){ .type = "note",
                                             .text = "line\none \"two\" \xc3\xa9",
                                             .source = "user",
                                             .origin = "r-1",
                                             .confidence = 0.3,
                                             .metadata = metadata,
                                             .pinned = true,
                                             .created_ms = 1700000000001 },
                           &id, &added));
    json_decref(metadata);
    CHECK_OK(rv_memory_add(
        s.m, rv_memory_of("ann"),
        &(rv_memory_new){ .type = "fact", .text = "It opens at nine.", .corrects = 2, .ttl_ms = 1000000 },
        &id, &added));
    CHECK_OK(rv_memory_add(s.m, rv_memory_of(NULL),
                           &(rv_memory_new){ .type = "note", .text = "this one goes" }, &gone, &added));
    for (int i = 0; i < 700; i++) {
        char text[64];
        snprintf(text, sizeof text, "note number %d of many words", i);
        add_note(s.m, text);
    }
    size_t removed;
    CHECK_OK(rv_memory_rm(s.m, rv_memory_whole(), gone, NULL, &removed));
    CHECK_OK(rv_memory_link(s.m, rv_memory_whole(), id, 4, "my_edge", 0.123456789));
    rv_memory_reweigh_later(s.m, rv_memory_whole(),
                            &(rv_memory_outcome){ .anchor = 3, .used = (const int64_t[]){ 2 }, .n_used = 1 });
    rv_memory_flush(s.m);
    CHECK_OK(
        rv_memory_rm(s.m, rv_memory_whole(), add_note(s.m, "the last id is given and gone"), NULL, &removed));
    return s;
}

static rv_memory_exported export_to(rv_memory *m, const char *dir)
{
    rv_memory_exported out;
    CHECK_OK(rv_memory_export(m, rv_memory_whole(), dir, &(rv_memory_export_options){ .name = "all" }, NULL,
                              NULL, &out));
    return out;
}

/* The bytes of one part of the bundle in dir. */
static rv_str part_of(const char *dir, rv_bundle_part part)
{
    rv_bundle b;
    CHECK_OK(rv_bundle_open(&rv_heap, dir, &b));
    char *copy = rv_strndup(&rv_heap, (const char *)b.parts[part].at, b.parts[part].n);
    rv_str out = { copy, b.parts[part].n };
    rv_bundle_close(&b);
    return out;
}

TEST(a_store_comes_back_as_it_was)
{
    const char *dir = temp_path("data"), *bundle = temp_path("bundle"), *again = temp_path("again");
    store s = full_store(dir);
    rv_memory_exported out = export_to(s.m, bundle);
    CHECK(out.nodes > 700 && out.edges >= 5 && out.vectors == out.nodes - 1 && out.generation == 1,
          "%zu nodes", out.nodes);
    int64_t next = add_note(s.m, "what would be next");
    store_close(&s);

    store t = store_open(temp_path("other"));
    rv_memory_restored done = { 0 };
    CHECK_OK(rv_memory_restore(t.m, bundle, NULL, NULL, &done));
    CHECK(done.nodes == out.nodes && done.there == 0 && done.edges == out.edges, "%zu nodes, %zu edges",
          done.nodes, done.edges);
    CHECK_OK(rv_memory_check(t.m));
    rv_memory_exported back = export_to(t.m, again);
    CHECK(back.nodes == out.nodes && back.edges == out.edges && back.vectors == out.vectors, "%zu nodes",
          back.nodes);
    for (int p = 0; p < RV_BUNDLE_PARTS;
         p++) { /* byte for byte: ids, times, tags, edges, provenance, pins, vectors */
        rv_str x = part_of(bundle, (rv_bundle_part)p), y = part_of(again, (rv_bundle_part)p);
        CHECK(x.n == y.n && memcmp(x.at, y.at, x.n) == 0, "part %d differs", p);
        free((char *)x.at);
        free((char *)y.at);
    }
    rv_memory_node node;
    CHECK_OK(rv_memory_get(t.m, rv_memory_whole(), 2, arena(), &node));
    CHECK(node.corrected_by == 5 && node.used == 1 && node.used_ms > 0, "corrected by %lld, used %u",
          (long long)node.corrected_by, node.used);
    CHECK_OK(rv_memory_get(t.m, rv_memory_whole(), 4, arena(), &node));
    CHECK(node.pinned && node.created_ms == 1700000000001 && strcmp(node.origin, "r-1") == 0, "%s",
          node.origin);
    int64_t id = add_note(t.m, "what would be next");
    CHECK(id == next, "the next id is %lld, was %lld", (long long)id, (long long)next);
    store_close(&t);
}

static bool stop_after_some(void *self, size_t done, size_t total)
{
    (void)total;
    return done < *(size_t *)self;
}

TEST(a_restore_that_was_stopped_goes_on)
{
    const char *bundle = temp_path("bundle");
    store s = full_store(temp_path("data"));
    rv_memory_exported out = export_to(s.m, bundle);
    store_close(&s);
    store t = store_open(temp_path("other"));
    rv_memory_restored done = { 0 };
    size_t some = 256;
    CHECK_ERR(rv_memory_restore(t.m, bundle, stop_after_some, &some, &done), RV_E_CANCELLED);
    CHECK(done.nodes > 0 && done.nodes < out.nodes, "%zu", done.nodes);
    CHECK_OK(rv_memory_check(t.m));
    rv_memory_restored rest = { 0 };
    CHECK_OK(rv_memory_restore(t.m, bundle, NULL, NULL, &rest));
    CHECK(rest.there == done.nodes && rest.there + rest.nodes == out.nodes && rest.edges == out.edges,
          "%zu there", rest.there);
    CHECK_OK(rv_memory_check(t.m));
    store_close(&t);
    store u = store_open(temp_path("third"));
    add_note(u.m, "another store");
    CHECK_ERR(rv_memory_restore(u.m, bundle, NULL, NULL, &rest), RV_E_ARG);
    CHECK(strstr(rv_err_text(), "node 1 "), "%s", rv_err_text());
    CHECK_OK(rv_memory_check(u.m));
    store_close(&u);
}

TEST(a_filter_makes_a_collection_with_its_edges)
{
    const char *bundle = temp_path("bundle");
    store s = full_store(temp_path("data"));
    rv_memory_exported out;
    rv_memory_export_options how = { .name = "page", .filter = { .tag = "a" }, .memory_class = "handbook" };
    CHECK_OK(rv_memory_export(s.m, rv_memory_whole(), bundle, &how, NULL, NULL, &out));
    CHECK(out.nodes == 3 && out.vectors == 2 && out.edges == 3, "%zu nodes, %zu edges", out.nodes, out.edges);
    rv_bundle b;
    CHECK_OK(rv_bundle_open(&rv_heap, bundle, &b));
    CHECK(strcmp(b.head.memory_class, "handbook") == 0 && strcmp(b.head.data_ref, "page") == 0, "%s",
          b.head.data_ref);
    rv_bundle_close(&b);
    store_close(&s);
}

TEST(publishing_again_replaces_the_old_and_leaves_nothing_behind)
{
    const char *bundle = temp_path("bundle");
    store s = store_open(temp_path("data"));
    add_note(s.m, "one");
    rv_memory_exported first = export_to(s.m, bundle);
    add_note(s.m, "two");
    rv_memory_exported second = export_to(s.m, bundle);
    CHECK(second.generation == 2 && strcmp(first.witness, second.witness) != 0, "%llu",
          (unsigned long long)second.generation);
    size_t files = 0;
    DIR *dir = opendir(bundle);
    for (struct dirent *at; (at = readdir(dir));) {
        files += at->d_name[0] != '.' || strlen(at->d_name) > 2;
    }
    closedir(dir);
    CHECK(files == 4, "%zu files", files);
    store_close(&s);
}

/* The head with one text in place of another. */
static void change_head(const char *bundle, const char *from, const char *to)
{
    char path[4200];
    char *text;
    size_t n;
    snprintf(path, sizeof path, "%s/%s", bundle, RV_BUNDLE_FILE);
    CHECK_OK(rv_file_read(&rv_heap, path, 1 << 20, &text, &n));
    char *at = strstr(text, from);
    CHECK(at != NULL, "no %s in %s", from, text);
    rv_text out;
    rv_text_init(&out, &rv_heap, 1 << 20);
    rv_text_add(&out, text, (size_t)(at - text));
    rv_text_adds(&out, to);
    rv_text_adds(&out, at + strlen(from));
    CHECK_OK(rv_file_replace(path, rv_text_get(&out), out.n));
    rv_text_deinit(&out);
    rv_free(&rv_heap, text);
}

TEST(a_changed_bundle_is_refused_by_name)
{
    static const struct {
        const char *from, *to, *says;
        rv_err e;
    } cases[] = {
        { "\"generation\":1", "\"generation\":2", "rvf_witness", RV_E_CORRUPT },
        { "\"n\":2", "\"n\":3", "rvf_witness", RV_E_CORRUPT },
        { "\"dim\":64", "\"dim\":0", "dim", RV_E_FORMAT },
        { "\"dim\":64", "\"dim\":8193", "dim", RV_E_FORMAT },
        { "\"dim\":64", "\"dim\":65", "files", RV_E_FORMAT },
        { "\"vectors\":2,", "\"vectors\":100000000000,", "vectors", RV_E_FORMAT },
        { "\"format_version\":3", "\"format_version\":4", "format_version", RV_E_UNSUPPORTED },
        { "\"format_version\":3", "\"format_version\":2", "format_version", RV_E_UNSUPPORTED },
        { "\"name\":\"nodes-", "\"name\":\"../nodes-", "files", RV_E_FORMAT },
        { "\"name\":\"nodes-", "\"name\":\"/etc/passwd", "files", RV_E_FORMAT },
        { "\"metric\":\"cosine\"", "\"metric\":\"l2\"", "metric", RV_E_UNSUPPORTED },
        { "\"data_ref\":\"all\"", "\"data_ref\":3", "data_ref", RV_E_FORMAT },
        { "\"content_hash\":\"", "\"content_hash\":\"x", "content_hash", RV_E_FORMAT },
        { "{", "[", "", RV_E_FORMAT },
    };
    store s = store_open(temp_path("data"));
    add_note(s.m, "one");
    add_note(s.m, "two");
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        const char *bundle = temp_path("bundle");
        export_to(s.m, bundle);
        change_head(bundle, cases[i].from, cases[i].to);
        rv_bundle b;
        rv_err e = rv_bundle_open(&rv_heap, bundle, &b);
        CHECK(e == cases[i].e && strstr(rv_err_text(), cases[i].says), "%zu: %s %s", i, rv_err_name(e),
              rv_err_text());
    }
    store_close(&s);
}

/* The witness is no secret: whoever made the bundle made it fit. What a store could not be opened with again is refused. */
TEST(a_use_that_a_store_cannot_hold_is_refused)
{
    static const struct {
        const char *used;
        rv_err e;
    } cases[] = {
        { "0", RV_OK }, { "4294967295", RV_OK }, { "4294967296", RV_E_FORMAT }, { "-1", RV_E_FORMAT }
    };
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        char line[200];
        int n = snprintf(
            line, sizeof line,
            "{\"id\":1,\"created_ms\":1,\"type\":\"note\",\"text\":\"one\",\"vector\":0,\"used\":%s}\n",
            cases[i].used);
        rv_bundle b = {
            .head = { .data_ref = "made", .dim = TOY_DIM, .n_nodes = 1, .n_vectors = 1, .next_id = 2 }
        };
        b.parts[RV_BUNDLE_NODES] = (rv_map){ (const uint8_t *)line, (size_t)n };
        rv_bundle_node node;
        bool more;
        size_t at = 0;
        rv_err e = rv_bundle_read_node(&b, &at, arena(), &node, &more);
        CHECK(e == cases[i].e && (!e || strstr(rv_err_text(), "used")), "used %s: %s %s", cases[i].used,
              rv_err_name(e), rv_err_text());
    }
}

TEST(a_type_that_a_store_does_not_have_is_refused)
{
    static const struct {
        const char *type;
        rv_err e;
    } cases[] = { { "note", RV_OK },
                  { "of_their_own", RV_OK },
                  { "", RV_E_FORMAT },
                  { "note\\u001b[2J", RV_E_FORMAT },
                  { "a note", RV_E_FORMAT } };
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        char lines[2][200];
        snprintf(lines[0], sizeof lines[0], "{\"id\":1,\"created_ms\":1,\"type\":\"%s\",\"text\":\"one\"}\n",
                 cases[i].type);
        snprintf(lines[1], sizeof lines[1], "{\"from\":1,\"to\":2,\"created_ms\":1,\"type\":\"%s\"}\n",
                 cases[i].type);
        rv_bundle b = { .head = { .data_ref = "made", .dim = TOY_DIM, .n_nodes = 1, .next_id = 3 } };
        b.parts[RV_BUNDLE_NODES] = (rv_map){ (const uint8_t *)lines[0], strlen(lines[0]) };
        b.parts[RV_BUNDLE_EDGES] = (rv_map){ (const uint8_t *)lines[1], strlen(lines[1]) };
        rv_bundle_node node;
        rv_bundle_edge edge;
        bool more;
        size_t at = 0;
        rv_err e = rv_bundle_read_node(&b, &at, arena(), &node, &more);
        CHECK(e == cases[i].e && (!e || strstr(rv_err_text(), "type")), "node %zu: %s", i, rv_err_text());
        at = 0;
        e = rv_bundle_read_edge(&b, &at, arena(), &edge, &more);
        CHECK(e == cases[i].e && (!e || strstr(rv_err_text(), "type")), "edge %zu: %s", i, rv_err_text());
    }
}

static void part_path(const char *bundle, const char *begins, char out[4300])
{
    DIR *dir = opendir(bundle);
    for (struct dirent *at; (at = readdir(dir));) {
        if (strncmp(at->d_name, begins, strlen(begins)) == 0) {
            snprintf(out, 4300, "%s/%s", bundle, at->d_name);
        }
    }
    closedir(dir);
}

TEST(every_byte_counts_and_links_are_not_followed)
{
    store s = store_open(temp_path("data"));
    add_note(s.m, "one");
    static const char *const names[] = { "nodes", "vectors", "edges" };
    for (size_t i = 0; i < 2; i++) {
        const char *bundle = temp_path("bundle");
        char path[4300], elsewhere[4320];
        export_to(s.m, bundle);
        part_path(bundle, names[i], path);
        FILE *f = fopen(path, "r+b");
        CHECK(f && fseek(f, 20, SEEK_SET) == 0, "%s", path);
        int c = fgetc(f);
        CHECK(fseek(f, 20, SEEK_SET) == 0 && fputc(c ^ 1, f) != EOF && fclose(f) == 0, "%s", path);
        rv_bundle b;
        CHECK_ERR(rv_bundle_open(&rv_heap, bundle, &b), RV_E_CORRUPT);
        snprintf(elsewhere, sizeof elsewhere, "%s.away", path);
        CHECK(rename(path, elsewhere) == 0 && symlink(elsewhere, path) == 0, "%s", path);
        CHECK_ERR(rv_bundle_open(&rv_heap, bundle, &b), RV_E_IO);
        unlink(path);
        CHECK_ERR(rv_bundle_open(&rv_heap, bundle, &b), RV_E_NOT_FOUND);
    }
    rv_bundle b;
    CHECK_ERR(rv_bundle_open(&rv_heap, "/nowhere/at/all", &b), RV_E_NOT_FOUND);
    CHECK_ERR(rv_bundle_open(&rv_heap, temp_dir(), &b), RV_E_NOT_FOUND);
    store_close(&s);
}

TEST(a_kill_while_publishing_leaves_the_old_bundle_or_the_new_one)
{
    const char *bundle = temp_path("bundle");
    store s = store_open(temp_path("data"));
    for (int i = 0; i < 50; i++) {
        char text[64];
        snprintf(text, sizeof text, "text %d", i);
        add_note(s.m, text);
    }
    double from = rv_clock_ms();
    export_to(s.m, bundle);
    double takes_us = 1000 * (rv_clock_ms() - from);
    rv_bundle b;
    uint64_t last = 1, moved = 0;
    for (int round = 0; round < 40; round++) {
        pid_t child = fork();
        CHECK(child >= 0, "fork");
        if (child == 0) {
            rv_memory_exported out;
            while (rv_memory_export(s.m, rv_memory_whole(), bundle,
                                    &(rv_memory_export_options){ .name = "all" }, NULL, NULL,
                                    &out) == RV_OK) {
            }
            _exit(1);
        }
        usleep(
            (useconds_t)(takes_us * (1 + round * 7 % 40) / 10)); /* from a tenth of a publication to four */
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        CHECK_OK(rv_bundle_open(&rv_heap, bundle, &b));
        CHECK(b.head.generation >= last && b.head.n_nodes == 50, "generation %llu after %llu",
              (unsigned long long)b.head.generation, (unsigned long long)last);
        moved += b.head.generation > last;
        last = b.head.generation;
        rv_bundle_close(&b);
    }
    CHECK(moved > 0, "no child ever published");
    export_to(s.m, bundle); /* and what the killed ones left is cleared away */
    size_t files = 0;
    DIR *dir = opendir(bundle);
    for (struct dirent *at; (at = readdir(dir));) {
        files += at->d_name[0] != '.' || strlen(at->d_name) > 2;
    }
    closedir(dir);
    CHECK(files == 4, "%zu files", files);
    store_close(&s);
}

/* No chunk is more than a node may be, whatever stands in the file, or the bundle that it is written to is one that no store takes. */
TEST(a_file_of_one_word_or_of_blanks_comes_back)
{
    enum { BYTES = 3 << 20 };
    const char *bundle = temp_path("bundle");
    char *text = rv_new(&rv_heap, BYTES);
    store s = store_open(temp_path("data"));
    for (int i = 0; i < 2; i++) {
        rv_memory_import imported = { 0 };
        memset(text, i ? ' ' : 'a', BYTES);
        text[0] = text[BYTES - 1] = 'b';
        CHECK_OK(rv_memory_import_bytes(s.m, rv_memory_of(NULL), i ? "blanks.txt" : "word.txt", text, BYTES,
                                        NULL, 0, &imported));
        CHECK(imported.chunks_added > 0, "%zu chunks", imported.chunks_added);
    }
    rv_memory_exported out = export_to(s.m, bundle);
    store_close(&s);
    store t = store_open(temp_path("other"));
    rv_memory_restored done = { 0 };
    CHECK_OK(rv_memory_restore(t.m, bundle, NULL, NULL, &done));
    CHECK(done.nodes == out.nodes, "%zu nodes, %zu exported", done.nodes, out.nodes);
    CHECK_OK(rv_memory_check(t.m));
    store_close(&t);
    rv_free(&rv_heap, text);
}

/* Between two tries the store was opened, and what had ended was removed. */
TEST(a_restore_goes_on_over_what_has_ended_meanwhile)
{
    const char *bundle = temp_path("bundle"), *dir = temp_path("other");
    store s = store_open(temp_path("data"));
    int64_t ends = add_note(s.m, "this one ends"), stays = add_note(s.m, "this one stays"), id = stays;
    char path[4200];
    snprintf(path, sizeof path, "%s-page.txt", dir);
    FILE *f = fopen(path, "w");
    CHECK(f && fputs("It opens at ten.\n\nIt closes at six.\n", f) >= 0 && fclose(f) == 0, "%s", path);
    rv_memory_import imported = { 0 };
    CHECK_OK(rv_memory_import_paths(s.m, rv_memory_of("ann"), (const char *const[]){ path }, 1, NULL, 0, NULL,
                                    NULL, &imported));
    int64_t document = stays + 1;
    for (int i = 0; i < 600; i++) {
        char text[64];
        snprintf(text, sizeof text, "note number %d of many words", i);
        id = add_note(s.m, text);
    }
    CHECK_OK(rv_memory_link(s.m, rv_memory_whole(), stays, ends, "cites", 1));
    CHECK_OK(rv_memory_link(s.m, rv_memory_whole(), document + 1, id, "cites", 1));
    const int64_t over = rv_clock_wall_ms() + 1500;
    CHECK_OK(rv_memory_keep(s.m, rv_memory_whole(), ends, NULL, &over));
    CHECK_OK(rv_memory_keep(s.m, rv_memory_whole(), document, NULL, &over));
    rv_memory_exported out = export_to(s.m, bundle);
    store_close(&s);
    CHECK(unlink(path) == 0, "%s", path);

    store t = store_open(dir);
    rv_memory_restored done = { 0 }, rest = { 0 };
    size_t some = 256;
    CHECK_ERR(rv_memory_restore(t.m, bundle, stop_after_some, &some, &done), RV_E_CANCELLED);
    store_close(&t);
    while (rv_clock_wall_ms() <= over) {
        usleep(20000);
    }
    t = store_open(dir);
    rv_memory_node node;
    CHECK_ERR(rv_memory_get(t.m, rv_memory_whole(), ends, arena(), &node), RV_E_NOT_FOUND);
    CHECK_OK(rv_memory_restore(t.m, bundle, NULL, NULL, &rest));
    CHECK(rest.there == done.nodes && rest.there + rest.nodes == out.nodes, "%zu there, %zu nodes",
          rest.there, rest.nodes);
    CHECK_OK(rv_memory_get(t.m, rv_memory_whole(), stays, arena(), &node));
    CHECK_OK(rv_memory_get(t.m, rv_memory_whole(), id, arena(), &node));
    CHECK_OK(rv_memory_check(t.m));
    /* what somebody removed is missed all the same */
    size_t removed;
    CHECK_OK(rv_memory_rm(t.m, rv_memory_whole(), stays, NULL, &removed));
    CHECK_ERR(rv_memory_restore(t.m, bundle, NULL, NULL, &rest), RV_E_ARG);
    store_close(&t);
}
