/* Files become chunks at headings and sentences, once, with the place they came from. */
#include "memory_helpers.h"
#include "base/clock.h"
#include "base/file.h"

#include <stdlib.h>
#include <sys/stat.h>
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

static const char *write_file(const char *dir, const char *name, const char *text)
{
    static char path[4200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    CHECK(f != NULL, "%s", path);
    fwrite(text, 1, strlen(text), f);
    fclose(f);
    return path;
}

static rv_memory_import import(rv_memory *m, const char *path)
{
    rv_memory_import done = { 0 };
    CHECK_OK(rv_memory_import_paths(m, rv_memory_of(NULL), &path, 1, NULL, 0, NULL, NULL, &done));
    return done;
}

/* The chunks in the order of the file. */
static rv_memory_hits chunks(rv_memory *m)
{
    rv_memory_hits hits;
    CHECK_OK(rv_memory_list(m, rv_memory_whole(), &(rv_memory_filter){ .type = "chunk" }, 1000, 0, arena(),
                            &hits));
    for (size_t i = 0; i < hits.n / 2; i++) {
        rv_memory_node swap = hits.at[i];
        hits.at[i] = hits.at[hits.n - 1 - i];
        hits.at[hits.n - 1 - i] = swap;
    }
    return hits;
}

static void check_chunks(const char *name, const char *text, const char *const *expected, size_t n)
{
    store s = store_open(temp_path("data"));
    import(s.m, write_file(temp_dir(), name, text));
    rv_memory_hits hits = chunks(s.m);
    for (size_t i = 0; i < n && i < hits.n; i++) {
        CHECK(strcmp(hits.at[i].text, expected[i]) == 0, "%s, chunk %zu: \"%s\"", name, i, hits.at[i].text);
    }
    CHECK(hits.n == n, "%s: %zu chunks, expected %zu", name, hits.n, n);
    store_close(&s);
}

TEST(markdown_is_cut_at_headings_and_loses_its_markup)
{
    static const char text[] =
        "---\ntitle: x\n---\n# Library\n\nIntro with *stress* and [a link](http://x.y).\n\n## Opening hours\n"
        "The library opens at **9:00**.\nIt closes at 18:00.\n\n- Monday\n- Tuesday &amp; Friday\n\n"
        "### Holidays\n\nClosed.\n\n## Rooms?\n\n| room | floor |\n|---|---|\n| hall | 1 |\n\n"
        "```\nint x;\nint y;\n```\n<b>html</b>\n# Empty\n# Last\n";
    static const char *const expected[] = {
        "Library. Intro with stress and a link.",
        "Library. Opening hours. The library opens at 9:00. It closes at 18:00.\nMonday\nTuesday & Friday",
        "Library. Opening hours. Holidays. Closed.",
        "Library. Rooms? room | floor\nhall | 1\nint x; int y;\nhtml",
        "Empty.",
        "Last.",
    };
    check_chunks("a.md", text, expected, RV_COUNT(expected));
}

TEST(plain_text_is_cut_at_blank_lines_and_sentences)
{
    static const char *const expected[] = {
        "Dear Dr. Hall, it is 3.5 km. See you.\nSecond, e.g. this one. Third!"
    };
    check_chunks("a.txt",
                 "Dear Dr. Hall,\r\n  it is 3.5 km. See\r\nyou.\r\n\r\n\r\nSecond, e.g. this one. Third!\n",
                 expected, 1);
    static const char *const byte_order_mark[] = { "Hello." };
    check_chunks("b.txt", "\xef\xbb\xbfHello.", byte_order_mark, 1);
    check_chunks("c.txt", "", NULL, 0);
    check_chunks("d.md", " \n\n", NULL, 0);
}

TEST(long_sections_become_even_chunks_of_whole_sentences)
{
    char text[20000];
    size_t n = 0;
    for (int i = 0; i < 40; i++) { /* 40 sentences of 10 words: 400 words */
        n += (size_t)snprintf(text + n, sizeof text - n,
                              "Sentence number %d has a total of exactly ten words. ", i);
    }
    store s = store_open(temp_path("data"));
    import(s.m, write_file(temp_dir(), "long.txt", text));
    rv_memory_hits hits = chunks(s.m);
    CHECK(hits.n == 4, "%zu chunks", hits.n);
    for (size_t i = 0; i < hits.n; i++) {
        size_t words = 1, length = strlen(hits.at[i].text);
        for (size_t k = 0; k < length; k++) {
            words += hits.at[i].text[k] == ' ';
        }
        CHECK(words >= 60 && words <= 120 && hits.at[i].text[length - 1] == '.', "chunk %zu has %zu words", i,
              words);
    }
    store_close(&s);
}

TEST(a_text_without_sentences_or_spaces_is_cut_all_the_same)
{
    char *text = rv_new(&rv_heap, 60001);
    for (size_t i = 0; i < 20000; i++) {
        memcpy(text + 3 * i, "字", 3);
    }
    store s = store_open(temp_path("data"));
    import(s.m, write_file(temp_dir(), "dense.txt", text));
    rv_memory_hits hits = chunks(s.m);
    CHECK(hits.n >= 80 && hits.n <= 110, "%zu chunks", hits.n);
    memset(text, 'x', 60000);
    import(s.m, write_file(temp_dir(), "one-word.txt", text));
    for (size_t i = 0; i < 30000; i++) {
        memcpy(text + 2 * i, "y ", 2);
    }
    import(s.m, write_file(temp_dir(), "words.md", text));
    hits = chunks(s.m);
    CHECK(hits.n > 250, "%zu chunks", hits.n);
    for (size_t i = 0; i < hits.n; i++) {
        CHECK(rv_utf8_valid(hits.at[i].text, strlen(hits.at[i].text)), "chunk %zu", i);
    }
    rv_free(&rv_heap, text);
    store_close(&s);
}

TEST(a_sentence_of_megabytes_is_cut_in_one_pass)
{
    enum { BYTES = 6 << 20, LIMIT_MS = 20000 }; /* looking at all that is left for each chunk takes minutes */
    char *text = rv_new(&rv_heap, BYTES);
    rv_memory_import done = { 0 };
    for (size_t i = 0; i < BYTES; i++) {
        text[i] = i % 8 == 7 ? ' ' : 'w';
    }
    store s = store_open(temp_path("data"));
    double began = rv_clock_ms();
    CHECK_OK(rv_memory_import_bytes(s.m, rv_memory_of(NULL), "one.txt", text, BYTES, NULL, 0, &done));
    CHECK(rv_clock_ms() - began < LIMIT_MS, "%.0f ms", rv_clock_ms() - began);
    CHECK(done.chunks_added > 6000 && done.chunks_added < 8000, "%zu chunks", done.chunks_added);
    rv_free(&rv_heap, text);
    store_close(&s);
}

/* Four bytes of text each: what a file may take in memory is said before it is taken, and keeps no other file out. */
TEST(a_file_of_headings_alone_has_so_many_chunks_and_not_more)
{
    enum { TAKEN = 60000, TOO_MANY = 150000 };
    const char *dir = temp_dir();
    char *text = rv_new(&rv_heap, 4 * TOO_MANY + 1);
    rv_memory_import done = { 0 };
    for (size_t i = 0; i < TOO_MANY; i++) {
        memcpy(text + 4 * i, "# a\n", 4);
    }
    store s = store_open(temp_path("data"));
    write_file(dir, "a.md", text);
    write_file(dir, "b.txt", "B text.");
    CHECK_ERR(rv_memory_import_paths(s.m, rv_memory_of(NULL), &dir, 1, NULL, 0, NULL, NULL, &done),
              RV_E_TOO_LARGE);
    CHECK(strstr(rv_err_text(), "a.md") && strstr(rv_err_text(), "100000"), "%s", rv_err_text());
    CHECK(done.files == 1 && done.chunks_added == 1, "%zu files, %zu chunks", done.files, done.chunks_added);
    text[4 * TAKEN] = 0;
    CHECK_OK(
        rv_memory_import_bytes(s.m, rv_memory_of(NULL), "a.md", text, (size_t)4 * TAKEN, NULL, 0, &done));
    CHECK(done.chunks_added == TAKEN + 1, "%zu chunks", done.chunks_added);
    rv_free(&rv_heap, text);
    store_close(&s);
}

TEST(a_chunk_names_the_bytes_it_came_from)
{
    static const char text[] =
        "# Tea\n\nGreen *tea* is green.  Black tea\nis black.\n\n## Milk\n\nIt is white.\n";
    store s = store_open(temp_path("data"));
    import(s.m, write_file(temp_dir(), "tea.md", text));
    rv_memory_hits hits = chunks(s.m);
    CHECK(hits.n == 2, "%zu", hits.n);
    static const char *const sources[] = { "Green *tea* is green.  Black tea\nis black.", "It is white." };
    for (size_t i = 0; i < 2; i++) {
        const rv_memory_node *h = &hits.at[i];
        CHECK(h->offset + h->length < sizeof text && h->length == strlen(sources[i]), "%llu",
              (unsigned long long)h->length);
        CHECK(memcmp(text + h->offset, sources[i], h->length) == 0, "%.*s", (int)h->length, text + h->offset);
    }
    store_close(&s);
}

TEST(an_unchanged_file_adds_nothing_and_a_changed_one_is_replaced)
{
    const char *dir = temp_dir();
    char *path = rv_strdup(&rv_heap, write_file(dir, "a.md", "# A\nOne two.\n\n# B\nThree four.\n"));
    store s = store_open(temp_path("data"));
    rv_memory_import first = import(s.m, path), second = import(s.m, path);
    CHECK(first.files == 1 && first.chunks_added == 2 && first.unchanged == 0, "%zu", first.chunks_added);
    CHECK(second.files == 1 && second.chunks_added == 0 && second.unchanged == 1, "%zu", second.chunks_added);

    int64_t fact = 0; /* a correction of B outlives an edit of A */
    bool added = false;
    rv_memory_hits hits = chunks(s.m);
    CHECK_OK(rv_memory_add(s.m, rv_memory_of(NULL),
                           &(rv_memory_new){ .type = "fact", .text = "Five.", .corrects = hits.at[1].id },
                           &fact, &added));
    write_file(dir, "a.md", "# A\nOne ten.\n\n# B\nThree four.\n\n# C\nSix.\n");
    rv_memory_import third = import(s.m, path);
    CHECK(third.replaced == 1 && third.chunks_added == 3 && third.chunks_removed == 2, "%zu, %zu",
          third.chunks_added, third.chunks_removed);
    hits = chunks(s.m);
    CHECK(hits.n == 3 && strcmp(hits.at[0].text, "A. One ten.") == 0, "%zu: %s", hits.n, hits.at[0].text);
    CHECK(hits.at[0].corrected_by == 0 && hits.at[1].corrected_by == fact, "%lld",
          (long long)hits.at[1].corrected_by);
    CHECK_OK(rv_memory_check(s.m));

    size_t removed = 0;
    CHECK_OK(rv_memory_list(s.m, rv_memory_whole(), &(rv_memory_filter){ .type = "document" }, 10, 0, arena(),
                            &hits));
    CHECK(hits.n == 1 && strcmp(hits.at[0].text, "A") == 0, "%zu", hits.n);
    CHECK_OK(rv_memory_rm(s.m, rv_memory_whole(), hits.at[0].id, NULL, &removed));
    CHECK(removed == 4, "a document takes its chunks along: %zu", removed);
    CHECK(import(s.m, path).chunks_added == 3, "it can be imported again");
    CHECK_OK(rv_memory_check(s.m));
    store_close(&s);
    rv_free(&rv_heap, path);
}

static rv_memory_import import_text(rv_memory *m, const char *user, const char *text)
{
    rv_memory_import done = { 0 };
    CHECK_OK(rv_memory_import_bytes(m, rv_memory_of(user), "heron.txt", text, strlen(text), NULL, 0, &done));
    return done;
}

static int64_t only_document(rv_memory *m, const char *user)
{
    rv_memory_hits hits;
    CHECK_OK(rv_memory_list(m, rv_memory_of(user), &(rv_memory_filter){ .type = "document" }, 10, 0, arena(),
                            &hits));
    CHECK(hits.n == 1, "%zu documents", hits.n);
    return hits.at[0].id;
}

static bool is_there(rv_memory *m, int64_t id)
{
    rv_memory_node node;
    return rv_memory_get(m, rv_memory_whole(), id, arena(), &node) == RV_OK;
}

static int64_t add_to(rv_memory *m, const char *user, const char *type, const char *text, int64_t parent)
{
    int64_t id = 0;
    bool added = false;
    CHECK_OK(rv_memory_add(m, rv_memory_of(user),
                           &(rv_memory_new){ .type = type, .text = text, .parent = parent }, &id, &added));
    return id;
}

/* Whoever sees two nodes can join them; what hangs on a document so is not the document's. */
TEST(a_document_takes_its_own_chunks_and_nothing_else)
{
    store s = store_open(temp_path("data"));
    import_text(s.m, NULL, "The heron stands on one leg by the canal.");
    int64_t everybodys = only_document(s.m, NULL), note = add_note(s.m, "Lamps are lit at dusk."),
            annas = add_to(s.m, "ann", "note", "Ann saw that heron too.", everybodys),
            quote = add_to(s.m, "ann", "chunk", "Ann's heron is grey.", everybodys);
    rv_memory_import done = import_text(s.m, NULL, "The heron flew away from the canal today.");
    CHECK(done.replaced == 1 && done.chunks_added == 1 && done.chunks_removed == 1, "%zu chunks went",
          done.chunks_removed);
    CHECK(is_there(s.m, annas) && is_there(s.m, quote), "an import took what is another's");

    everybodys = only_document(s.m, NULL);
    size_t removed = 0;
    CHECK_OK(rv_memory_link(s.m, rv_memory_of("ann"), everybodys, annas, "contains", 1));
    CHECK_OK(rv_memory_rm(s.m, rv_memory_of(NULL), everybodys, NULL, &removed));
    CHECK(removed == 2 && is_there(s.m, annas), "%zu went with everybody's document", removed);

    import_text(s.m, "bob", "Bob says hello to the lamp.");
    int64_t bobs = only_document(s.m, "bob"), own = add_to(s.m, "bob", "note", "Bob is here.", bobs);
    CHECK_OK(rv_memory_link(s.m, rv_memory_of("bob"), bobs, note, "contains", 1));
    CHECK_OK(rv_memory_rm(s.m, rv_memory_of("bob"), bobs, NULL, &removed));
    CHECK(removed == 2 && is_there(s.m, note) && is_there(s.m, own), "%zu went with bob's document", removed);
    CHECK_OK(rv_memory_check(s.m));
    store_close(&s);
}

TEST(a_document_that_ends_takes_its_chunks_along)
{
    static const char text[] = "The heron stands on one leg by the canal.";
    store s = store_open(temp_path("data"));
    import_text(s.m, "bob", text);
    int64_t document = only_document(s.m, "bob"), own = add_to(s.m, "bob", "note", "Bob is here.", document),
            ends = 1;
    size_t removed = 0;
    CHECK_OK(rv_memory_keep(s.m, rv_memory_of("bob"), document, NULL, &ends));
    CHECK_OK(rv_memory_expire(s.m, &removed));
    CHECK(removed == 2 && is_there(s.m, own) && chunks(s.m).n == 0, "%zu ended, %zu chunks are left", removed,
          chunks(s.m).n);
    CHECK(import_text(s.m, "bob", text).chunks_added == 1 && chunks(s.m).n == 1, "%zu chunks", chunks(s.m).n);
    CHECK_OK(rv_memory_check(s.m));
    store_close(&s);
}

TEST(chunks_hang_on_their_document_in_order)
{
    store s = store_open(temp_path("data"));
    import(s.m, write_file(temp_dir(), "a.md", "# A\nOne.\n# B\nTwo.\n# C\nThree.\n"));
    rv_memory_hits hits = chunks(s.m);
    rv_memory_edge *edges;
    size_t n;
    CHECK_OK(rv_memory_neighbours(s.m, rv_memory_whole(), hits.at[1].id, arena(), &edges, &n));
    bool contained = false, follows = false, followed = false;
    for (size_t i = 0; i < n; i++) {
        contained |= strcmp(edges[i].type, "contains") == 0 && edges[i].from == 1 && edges[i].to == 3;
        follows |= strcmp(edges[i].type, "follows") == 0 && edges[i].from == 3 && edges[i].to == 2;
        followed |= strcmp(edges[i].type, "follows") == 0 && edges[i].from == 4 && edges[i].to == 3;
    }
    CHECK(n == 3 && contained && follows && followed, "%zu edges", n);
    store_close(&s);
}

static bool count_progress(void *self, const char *path, uint64_t done, uint64_t total)
{
    (void)path;
    size_t *calls = self;
    ++*calls;
    CHECK(done == 7 * *calls && total == 21, "%llu of %llu bytes", (unsigned long long)done,
          (unsigned long long)total);
    return true;
}

TEST(a_folder_is_walked_without_hidden_files_and_links)
{
    const char *dir = temp_dir();
    char path[4300];
    snprintf(path, sizeof path, "%s/sub", dir);
    mkdir(path, 0700);
    write_file(dir, "b.txt", "B text.");
    write_file(dir, "sub/a.MD", "A text.");
    write_file(dir, "c.markdown", "C text.");
    write_file(dir, "d.docx", "no");
    write_file(dir, ".hidden.md", "no");
    snprintf(path, sizeof path, "%s/sub/loop", dir);
    CHECK(symlink(dir, path) == 0, "symlink");
    store s = store_open(temp_path("data"));
    rv_memory_import done = { 0 };
    size_t calls = 0;
    const char *tags[] = { "folder" };
    CHECK_OK(
        rv_memory_import_paths(s.m, rv_memory_of("ann"), &dir, 1, tags, 1, count_progress, &calls, &done));
    CHECK(done.files == 3 && done.chunks_added == 3 && calls == 3, "%zu files, %zu chunks", done.files,
          done.chunks_added);
    rv_memory_hits hits;
    CHECK_OK(rv_memory_list(s.m, rv_memory_of("ann"), &(rv_memory_filter){ .tag = "folder" }, 10, 0, arena(),
                            &hits));
    CHECK(hits.n == 6, "%zu", hits.n);
    store_close(&s);
}

TEST(files_that_cannot_be_imported_are_named)
{
    store s = store_open(temp_path("data"));
    rv_memory_import done = { 0 };
    CHECK_ERR(rv_memory_import_paths(s.m, rv_memory_of(NULL), (const char *const[]){ "/nowhere/at/all" }, 1,
                                     NULL, 0, NULL, NULL, &done),
              RV_E_NOT_FOUND);
    const char *path = write_file(temp_dir(), "x.docx", "x");
    CHECK_ERR(rv_memory_import_paths(s.m, rv_memory_of(NULL), &path, 1, NULL, 0, NULL, NULL, &done),
              RV_E_ARG);
    path = write_file(temp_dir(), "x.txt", "good \xff bad");
    CHECK_ERR(rv_memory_import_paths(s.m, rv_memory_of(NULL), &path, 1, NULL, 0, NULL, NULL, &done),
              RV_E_FORMAT);
    CHECK(strstr(rv_err_text(), "byte 5"), "%s", rv_err_text());
    CHECK(done.files == 0, "%zu", done.files);
    CHECK_OK(rv_memory_check(s.m));
    store_close(&s);
}

TEST(html_is_read_as_its_text_with_headings)
{
    static const char page[] =
        "<!DOCTYPE html><html><head><title>Ignored</title><style>p { x: y }</style><script>var a = "
        "'<p>no';</script></head>"
        "<body><nav><ul><li>Menu<br>more</ul></nav><h1>Library</h1><p>Open at <b>nine</b>,\n closed&nbsp;at "
        "six.<br>Not on Sundays"
        "<h2>Rooms &amp; halls</h2><table><tr><th>room<th>floor<tr><td>hall<td>1</table>"
        "<p>caf\xc3\xa9 &eacute;t&eacute; \x02 end</p></body></html>";
    static const char *const expected[] = {
        "Library. Open at nine, closed at six. Not on Sundays",
        "Library. Rooms & halls. room | floor\nhall | 1\ncaf\xc3\xa9 \xc3\xa9t\xc3\xa9 end",
    };
    check_chunks("a.html", page, expected, RV_COUNT(expected));
    static const char *const titled[] = { "A page. Some text." };
    check_chunks("b.htm", "<title>A page</title><p>Some text.", titled, 1);
    static const char *const latin[] = { "caf\xc3\xa9" };
    check_chunks("c.html", "<meta charset=iso-8859-1><p>caf\xe9", latin, 1);
    check_chunks("d.html", "", NULL, 0);
    check_chunks("e.html", "<script>only this", NULL, 0);
}

/* A PDF of two pages, small enough to be written by hand; pdftotext makes its table anew. */
static const char *make_pdf(void)
{
    static char pdf[2000];
    snprintf(pdf, sizeof pdf,
             "%%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R 6 0 "
             "R]/Count 2>>endobj\n"
             "3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 300]/Contents 4 0 R/Resources<</Font<</F 5 0 "
             "R>>>>>>endobj\n"
             "4 0 obj<</Length 53>>stream\nBT /F 12 Tf 20 200 Td (The first page is short.) Tj ET\nendstream "
             "endobj\n"
             "5 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj\n"
             "6 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 300]/Contents 7 0 R/Resources<</Font<</F 5 0 "
             "R>>>>>>endobj\n"
             "7 0 obj<</Length 54>>stream\nBT /F 12 Tf 20 200 Td (The second page is last.) Tj ET\nendstream "
             "endobj\n"
             "trailer<</Root 1 0 R>>\n%%%%EOF\n");
    return pdf;
}

TEST(a_pdf_is_read_by_another_program_with_its_pages)
{
    if (system("command -v pdftotext >/dev/null") != 0) {
        SKIP("pdftotext is not installed");
    }
    store s = store_open(temp_path("data"));
    const char *path = write_file(temp_dir(), "a.pdf", make_pdf());
    rv_memory_import done = import(s.m, path);
    CHECK(done.files == 1 && done.chunks_added == 1, "%zu chunks", done.chunks_added);
    rv_memory_hits hits = chunks(s.m);
    CHECK(strstr(hits.at[0].text, "The first page is short.") &&
              strstr(hits.at[0].text, "The second page is last."),
          "%s", hits.at[0].text);
    CHECK(strcmp(hits.at[0].metadata, "{\"page\":1}") == 0, "%s", hits.at[0].metadata);
    done = import(s.m, path);
    CHECK(done.unchanged == 1, "%zu", done.unchanged);
    path = write_file(temp_dir(), "bad.pdf", "%PDF-1.4 nothing of it");
    CHECK_ERR(rv_memory_import_paths(s.m, rv_memory_of(NULL), &path, 1, NULL, 0, NULL, NULL, &done),
              RV_E_FORMAT);
    CHECK(strstr(rv_err_text(), "bad.pdf"), "%s", rv_err_text());
    char *before = strdup(getenv("PATH"));
    setenv("PATH", "/nowhere", 1);
    rv_err e = rv_memory_import_paths(s.m, rv_memory_of(NULL), &path, 1, NULL, 0, NULL, NULL, &done);
    bool told = strstr(rv_err_text(), "poppler-utils") != NULL;
    setenv("PATH", before, 1);
    free(before);
    CHECK(e == RV_E_UNSUPPORTED && told, "%s", rv_err_text());
    store_close(&s);
}

TEST(rows_of_jsonl_become_nodes_once)
{
    store s = store_open(temp_path("data"));
    static const char rows[] =
        "{\"text\":\"Tea at "
        "four.\",\"tags\":[\"tea\"],\"created_ms\":1700000000123,\"user\":\"ann\",\"extra\":1}\n\n"
        "{\"text\":\"It is the ninth.\",\"type\":\"fact\",\"confidence\":0.5,\"metadata\":{\"a\":1}}\n"
        "{\"text\":\"part of a file\",\"type\":\"chunk\"}\n";
    const char *path = write_file(temp_dir(), "a.jsonl", rows);
    rv_memory_import done = import(s.m, path);
    CHECK(done.files == 1 && done.notes_added == 2, "%zu", done.notes_added);
    done = import(s.m, path);
    CHECK(done.notes_added == 0, "%zu", done.notes_added);
    rv_memory_node node;
    CHECK_OK(rv_memory_get(s.m, rv_memory_whole(), 1, arena(), &node));
    CHECK(node.created_ms == 1700000000123 && strcmp(node.user, "ann") == 0 && node.n_tags == 1, "%s",
          node.user);
    CHECK_OK(rv_memory_get(s.m, rv_memory_whole(), 2, arena(), &node));
    CHECK(node.confidence == 0.5 && strcmp(node.type, "fact") == 0 && strcmp(node.metadata, "{\"a\":1}") == 0,
          "%s", node.metadata);
    static const char *const bad[] = { "{\"text\":3}\n",
                                       "[",
                                       "{}",
                                       "{\"text\":\"x\",\"type\":\"A\"}",
                                       "{\"text\":\"a\\u0000b\"}",
                                       "{\"text\":\"x\",\"tags\":[\"\"]}",
                                       "{\"text\":\"x\",\"source\":\"a\\u0001\"}" };
    for (size_t i = 0; i < RV_COUNT(bad); i++) {
        char text[9000];
        size_t n = 0;
        for (int k = 0; k < 200; k++) { /* more than are added at once */
            n += (size_t)snprintf(text + n, sizeof text - n, "{\"text\":\"fine %d\"}\n", k);
        }
        snprintf(text + n, sizeof text - n, "%s", bad[i]);
        path = write_file(temp_dir(), "bad.jsonl", text);
        rv_err e = rv_memory_import_paths(s.m, rv_memory_of(NULL), &path, 1, NULL, 0, NULL, NULL, &done);
        CHECK((e == RV_E_ARG || e == RV_E_FORMAT) && strstr(rv_err_text(), ": line 201") &&
                  !strstr(rv_err_text(), "line 1 "),
              "%zu: %s", i, rv_err_text());
    }
    rv_memory_stats stats;
    CHECK_OK(rv_memory_get_stats(s.m, &stats));
    CHECK(stats.notes == 1, "nothing of a file with a line that is refused is in: %zu", stats.notes);
    store_close(&s);
}

TEST(a_file_that_cannot_be_read_does_not_keep_the_others_out)
{
    const char *dir = temp_dir();
    write_file(dir, "a.txt", "good \xff bad");
    write_file(dir, "b.txt", "B text.");
    store s = store_open(temp_path("data"));
    rv_memory_import done = { 0 };
    CHECK_ERR(rv_memory_import_paths(s.m, rv_memory_of(NULL), &dir, 1, NULL, 0, NULL, NULL, &done),
              RV_E_FORMAT);
    CHECK(strstr(rv_err_text(), "1 of 2 were") && strstr(rv_err_text(), "a.txt"), "%s", rv_err_text());
    CHECK(done.files == 1 && done.failed == 1 && done.chunks_added == 1, "%zu", done.files);
    store_close(&s);
}

static bool stop_at_once(void *self, const char *path, uint64_t done, uint64_t total)
{
    (void)self, (void)path, (void)done, (void)total;
    return false;
}

TEST(a_file_of_rows_tells_how_far_it_is_and_can_be_stopped)
{
    enum { ROWS = 400 };
    const char *dir = temp_dir();
    char path[4300];
    snprintf(path, sizeof path, "%s/rows.jsonl", dir);
    FILE *f = fopen(path, "w");
    for (int i = 0; i < ROWS; i++) {
        fprintf(f, "{\"text\":\"row %d of a file\"}\n", i);
    }
    fclose(f);
    store s = store_open(temp_path("data"));
    rv_memory_import done = { 0 };
    CHECK_ERR(rv_memory_import_paths(s.m, rv_memory_of(NULL), (const char *const[]){ path }, 1, NULL, 0,
                                     stop_at_once, NULL, &done),
              RV_E_CANCELLED);
    size_t first = done.notes_added;
    CHECK(first > 0 && first < ROWS, "%zu rows before it stopped", first);
    rv_memory_import again = import(s.m, path);
    CHECK(again.notes_added == ROWS - first, "%zu, then %zu", first, again.notes_added);
    store_close(&s);
}

TEST(of_several_paths_those_that_are_there_are_read)
{
    const char *dir = temp_dir(), *a = write_file(dir, "a.txt", "A text.");
    char loop[4300];
    snprintf(loop, sizeof loop, "%s/loop", dir);
    CHECK(symlink(loop, loop) == 0, "symlink");
    store s = store_open(temp_path("data"));
    rv_memory_import done = { .failed_files = json_array() };
    CHECK_ERR(rv_memory_import_paths(s.m, rv_memory_of(NULL),
                                     (const char *const[]){ loop, "/nowhere/at/\xff", a, "/nowhere.docx" }, 4,
                                     NULL, 0, NULL, NULL, &done),
              RV_E_IO);
    CHECK(strstr(rv_err_text(), "3 of 4") && strstr(rv_err_text(), "/loop"), "%s", rv_err_text());
    CHECK(done.files == 1 && done.failed == 3, "%zu files, %zu failed", done.files, done.failed);
    const char *second = json_string_value(json_object_get(json_array_get(done.failed_files, 1), "path"));
    CHECK(json_array_size(done.failed_files) == 3 && second && strncmp(second, "/nowhere/at/", 12) == 0,
          "%zu named", json_array_size(done.failed_files));
    json_decref(done.failed_files);
    store_close(&s);
}

/* The files as nobody, who may not read all of them; root may. */
TEST(what_may_not_be_read_does_not_keep_the_others_out)
{
    if (geteuid() != 0) {
        SKIP("only root can become nobody");
    }
    const char *dir = temp_dir(), *data = temp_path("data");
    static const char *const folders[] = { "", "/locked", "/shut" };
    char path[4300];
    for (size_t i = 0; i < RV_COUNT(folders); i++) {
        snprintf(path, sizeof path, "%s%s", dir, folders[i]);
        CHECK(i == 0 || mkdir(path, 0755) == 0, "%s", path);
    }
    write_file(dir, "a.txt", "A text.");
    CHECK(chmod(write_file(dir, "m.txt", "M text."), 0) == 0, "chmod");
    write_file(dir, "locked/b.txt", "B text.");
    write_file(dir, "shut/c.txt", "C text.");
    write_file(dir, "z.txt", "Z text.");
    snprintf(path, sizeof path, "%s/locked", dir);
    CHECK(chmod(path, 0) == 0, "chmod");
    snprintf(path, sizeof path, "%s/shut", dir);
    CHECK(chmod(path, 0444) == 0, "its names can be read, nothing else"); /* as by cp -r of a modest umask */
    CHECK(chmod(dir, 0755) == 0 && mkdir(data, 0777) == 0 && chmod(data, 0777) == 0, "chmod");
    snprintf(path, sizeof path, "%s/..", data);
    CHECK(chmod(path, 0755) == 0 && seteuid(65534) == 0, "nobody");
    store s = store_open(data);
    rv_memory_import done = { .failed_files = json_array() };
    rv_err e = rv_memory_import_paths(s.m, rv_memory_of(NULL), &dir, 1, NULL, 0, NULL, NULL, &done);
    bool told = strstr(rv_err_text(), "3 of 5") && strstr(rv_err_text(), "/locked: ");
    store_close(&s);
    CHECK(seteuid(0) == 0, "root again");
    CHECK(e == RV_E_IO && told, "%s", rv_err_text());
    CHECK(done.files == 2 && done.failed == 3 && done.chunks_added == 2, "%zu files, %zu failed", done.files,
          done.failed);
    static const char *const names[] = { "/locked", "/shut", "/m.txt" };
    for (size_t i = 0; i < RV_COUNT(names); i++) {
        const char *name = json_string_value(json_object_get(json_array_get(done.failed_files, i), "path"));
        CHECK(name && strstr(name, names[i]), "%zu: %s", i, name ? name : "none");
    }
    json_decref(done.failed_files);
}

TEST(documents_whose_files_are_gone_are_told_and_stay)
{
    const char *dir = temp_dir();
    char *gone = rv_strdup(&rv_heap, write_file(dir, "b.txt", "B text.")), beside[4300], inside[4300];
    const char *roots[] = { inside, dir, beside };
    write_file(dir, "a.txt", "A text.");
    snprintf(beside, sizeof beside, "%s-2", dir);
    snprintf(inside, sizeof inside, "%s/sub", dir);
    CHECK(mkdir(beside, 0700) == 0 && mkdir(inside, 0700) == 0, "mkdir");
    char *other = rv_strdup(&rv_heap, write_file(beside, "c.txt", "C text.")),
         *below = rv_strdup(&rv_heap, write_file(inside, "d.txt", "D text."));
    store s = store_open(temp_path("data"));
    rv_memory_import done = import(s.m, dir);
    CHECK(done.files == 3 && done.gone == 0, "%zu", done.gone);
    import(s.m, other);
    CHECK(unlink(gone) == 0 && unlink(other) == 0 && unlink(below) == 0, "unlink");
    done = import(s.m, dir);
    CHECK(done.files == 1 && done.unchanged == 1 && done.gone == 2 && chunks(s.m).n == 4, "%zu", done.gone);
    CHECK_OK(rv_memory_import_paths(s.m, rv_memory_of("ann"), &dir, 1, NULL, 0, NULL, NULL, &done));
    CHECK(done.gone == 2, "they are not ann's: %zu", done.gone);
    done = (rv_memory_import){ .gone_files = json_array() };
    CHECK_OK(rv_memory_import_paths(s.m, rv_memory_of(NULL), roots, 3, NULL, 0, NULL, NULL, &done));
    const json_t *first = json_array_get(done.gone_files, 0);
    CHECK(done.gone == 3 && json_array_size(done.gone_files) == 3, "%zu, each once", done.gone);
    CHECK(strcmp(json_string_value(json_object_get(first, "path")), gone) == 0, "the path it had");
    size_t removed = 0;
    CHECK_OK(rv_memory_rm(s.m, rv_memory_whole(), json_integer_value(json_object_get(first, "id")), NULL,
                          &removed));
    CHECK(removed == 2, "the id removes it with its chunk: %zu", removed);
    json_decref(done.gone_files);
    rv_free(&rv_heap, gone);
    rv_free(&rv_heap, other);
    rv_free(&rv_heap, below);
    store_close(&s);
}

TEST(an_import_that_was_stopped_goes_on_where_it_was)
{
    const char *dir = temp_dir();
    write_file(dir, "a.txt", "A text.");
    write_file(dir, "b.txt", "B text.");
    store s = store_open(temp_path("data"));
    rv_memory_import done = { 0 };
    CHECK_ERR(rv_memory_import_paths(s.m, rv_memory_of(NULL), &dir, 1, NULL, 0, stop_at_once, NULL, &done),
              RV_E_CANCELLED);
    CHECK(done.files == 1 && done.left == 1, "%zu, %zu left", done.files, done.left);
    CHECK(strstr(rv_err_text(), "1 of 2 files") && strstr(rv_err_text(), "the same command"), "%s",
          rv_err_text());
    rv_memory_import again = import(s.m, dir);
    CHECK(again.files == 2 && again.unchanged == 1 && again.chunks_added == 1, "%zu", again.unchanged);
    store_close(&s);
}

TEST(names_from_outside_stay_inside)
{
    static const char *const bad[] = { "",         "/etc/a.md", "../a.md", "a/../b.md", "a//b.md",
                                       "a/./b.md", ".a.md",     "a/.b.md", "a\\b.md",   "a\nb.md",
                                       "a\xff.md", "a.exe",     "a",       "a.md/" };
    store s = store_open(temp_path("data"));
    rv_memory_import done = { 0 };
    for (size_t i = 0; i < RV_COUNT(bad); i++) {
        CHECK_ERR(rv_memory_import_bytes(s.m, rv_memory_of(NULL), bad[i], "text", 4, NULL, 0, &done),
                  RV_E_ARG);
    }
    CHECK_OK(rv_memory_import_bytes(s.m, rv_memory_of(NULL), "trips/rome.md", "# Rome\n\nOld.", 12, NULL, 0,
                                    &done));
    rv_memory_hits hits = chunks(s.m);
    CHECK(hits.n == 1 && strcmp(hits.at[0].source, "trips/rome.md") == 0, "%zu", hits.n);
    store_close(&s);
}

/* A path becomes the source of nodes, and a name may become a text: in the answers, and in a bundle, these are JSON. */
TEST(a_file_whose_name_is_no_text_is_left_out_by_name)
{
    const char *dir = temp_dir();
    static const char *const names[] = { "caf\xe9.txt", "esc\x1b[2J.txt" };
    write_file(dir, "a.txt", "A text.");
    for (size_t i = 0; i < RV_COUNT(names); i++) {
        write_file(dir, names[i], "Another text.");
    }
    store s = store_open(temp_path("data"));
    rv_memory_import done = { .failed_files = json_array() };
    CHECK_ERR(rv_memory_import_paths(s.m, rv_memory_of(NULL), &dir, 1, NULL, 0, NULL, NULL, &done), RV_E_ARG);
    CHECK(done.files == 1 && done.failed == RV_COUNT(names) && done.left == 0, "%zu files, %zu failed",
          done.files, done.failed);
    for (size_t i = 0; i < RV_COUNT(names); i++) {
        const json_t *one = json_array_get(done.failed_files, i);
        CHECK(json_string_value(json_object_get(one, "path")) &&
                  json_string_value(json_object_get(one, "why")),
              "%zu", i);
    }
    json_decref(done.failed_files);
    rv_memory_hits all;
    CHECK_OK(rv_memory_list(s.m, rv_memory_whole(), NULL, 100, 0, arena(), &all));
    for (size_t i = 0; i < all.n; i++) {
        CHECK(rv_utf8_valid(all.at[i].source, strlen(all.at[i].source)) &&
                  rv_utf8_valid(all.at[i].text, strlen(all.at[i].text)),
              "node %lld", (long long)all.at[i].id);
    }
    rv_memory_exported out;
    CHECK_OK(rv_memory_export(s.m, rv_memory_whole(), temp_path("bundle"),
                              &(rv_memory_export_options){ .name = "all" }, NULL, NULL, &out));
    store_close(&s);
}
