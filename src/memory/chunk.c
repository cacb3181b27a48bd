/* A text becomes chunks in three steps. A reader (Markdown through md4c, or lines) hands over headings and the pieces of
 * paragraphs, without their markup; a paragraph is split into sentences, each with its place in the source; the sentences
 * of one section are filled into chunks of even size. A chunk begins with the headings above it, so that it can be found and
 * understood alone: "Library. Opening hours. It opens at ten." */
#include "memory/memory_priv.h"

#include <md4c.h>
#include <stdlib.h>
#include <string.h>

enum {
    WORDS_MOST = 120,
    WORDS_AIM = 100,
    WORD_BYTES =
        1024, /* a longer word, or more blanks, count as several: no chunk is larger than a node may be */
    LEVELS = 6,
    HEADING_BYTES = 200
};

typedef struct
    piece { /* of a paragraph: bytes at [at ..) come from [from ..) of the source, which may be longer */
    size_t at, n, from, n_from;
} piece;

typedef struct sentence {
    size_t at, n;    /* in text */
    size_t from, to; /* in the source */
    size_t words;
    size_t paragraph, section;
} sentence;

typedef struct reader {
    const rv_alloc *mem;
    rv_arena *arena;
    const char *source;
    size_t n_source;
    rv_text text;        /* of all paragraphs, markup removed */
    size_t paragraph_at; /* where the one at hand begins */
    size_t paragraphs;
    piece *pieces; /* [n_pieces] of it */
    size_t n_pieces, piece_room;
    sentence *sentences; /* [n_sentences] */
    size_t n_sentences, sentence_room;
    rv_str headings[LEVELS]; /* above the text at hand */
    rv_str *sections;        /* [n_sections] headings joined; section 0 has none */
    size_t n_sections, section_room;
    bool section_used; /* a sentence stands below the last heading */
    int last_level;    /* of the last heading, 0: none */
    rv_str title;
    size_t heading_from, heading_to; /* the last heading in the source */
    bool verbatim;                   /* inside a code block */
    rv_err error;
} reader;

static void *grow(reader *r, void *at, size_t *room, size_t n, size_t size)
{
    if (n < *room) {
        return at;
    }
    size_t more = *room ? 2 * *room : 64, bytes;
    void *bigger = rv_mul_size(more, size, &bytes) ? rv_resize(r->mem, at, bytes) : NULL;
    if (!bigger) {
        r->error = rv_fail(RV_E_NOMEM, "no memory to cut a text of %zu bytes", r->n_source);
        return at;
    }
    *room = more;
    return bigger;
}

/* ---- sentences ---- */

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f' || c == '\v';
}

/* Scripts that put no space between words: two characters count as one word. */
static bool is_dense(uint32_t code)
{
    return code >= 0x2e80 && code < 0xd7b0;
}

/* Of more than most, no longer counted: some number above it. */
static size_t count_words(const char *at, size_t n, size_t most)
{
    size_t words = 0, dense = 0, run = 0, blanks = 0; /* run, blanks: bytes of the word, the blanks at hand */
    for (size_t i = 0; i < n && words + (dense + 1) / 2 <= most;) {
        uint32_t code = 0;
        size_t k = rv_utf8_decode(at + i, n - i, &code);
        k = k ? k : 1;
        bool space = k == 1 && is_space(at[i]), part = !space && !is_dense(code);
        bool goes_on = run > 0 && run + k <= WORD_BYTES;
        dense += is_dense(code);
        blanks = !space ? 0 : blanks < WORD_BYTES ? blanks + 1 : 1;
        words += (part && !goes_on) || blanks == WORD_BYTES;
        run = !part ? 0 : goes_on ? run + k : k;
        i += k;
    }
    return words + (dense + 1) / 2;
}

/* Where in the source the byte of the text at hand came from; at_end: the place after the byte before it. */
static size_t source_of(const reader *r, size_t at, bool at_end)
{
    size_t found = r->n_pieces ? r->pieces[0].from : 0;
    for (size_t low = 0, high = r->n_pieces; low < high;) {
        size_t middle = (low + high) / 2;
        const piece *p = &r->pieces[middle];
        if (p->at < at || (p->at == at && !at_end)) {
            size_t inside = at - p->at;
            found = p->from + (inside < p->n ? inside : p->n_from);
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return found;
}

static void add_sentence(reader *r, size_t at, size_t end)
{
    const char *text = rv_text_get(&r->text);
    while (at < end && is_space(text[at])) {
        at++;
    }
    while (end > at && is_space(text[end - 1])) {
        end--;
    }
    if (at == end) {
        return;
    }
    r->sentences = grow(r, r->sentences, &r->sentence_room, r->n_sentences, sizeof *r->sentences);
    if (!r->error) {
        r->sentences[r->n_sentences++] = (sentence){ .at = at,
                                                     .n = end - at,
                                                     .from = source_of(r, at, false),
                                                     .to = source_of(r, end, true),
                                                     .words = count_words(text + at, end - at, SIZE_MAX - 1),
                                                     .paragraph = r->paragraphs,
                                                     .section = r->n_sections - 1 };
        r->section_used = true;
    }
}

/* A sentence of more than WORDS_MOST words is cut between words, a word as long as that anywhere between characters. */
static void add_long_sentence(reader *r, size_t at, size_t end)
{
    const char *text = rv_text_get(&r->text);
    while (!r->error && count_words(text + at, end - at, WORDS_MOST) > WORDS_MOST) {
        size_t halves = 0, cut = at, run = 0, blanks = 0; /* half words; bytes as above */
        while (cut < end && halves < 2 * WORDS_MOST) {
            uint32_t code = 0;
            size_t k = rv_utf8_decode(text + cut, end - cut, &code);
            k = k ? k : 1;
            bool space = k == 1 && is_space(text[cut]), part = !space && !is_dense(code);
            bool full = run + k > WORD_BYTES;
            blanks = !space ? 0 : blanks < WORD_BYTES ? blanks + 1 : 1;
            halves += (run > 0 && (!part || full)) || blanks == WORD_BYTES ? 2 : 0;
            if (part && halves >= 2 * WORDS_MOST) {
                break;
            }
            halves += is_dense(code);
            run = !part ? 0 : full ? k : run + k;
            cut += k;
        }
        add_sentence(r, at, cut);
        at = cut;
    }
    add_sentence(r, at, end);
}

/* Words that end in a period and go on. */
static const char *const short_forms[] = {
    "mr", "mrs",  "ms", "dr", "prof", "st",  "no",  "vs",  "approx", "fig", "vol", "inc", "ltd", "jr",
    "sr", "dept", "cf", "ca", "al",   "e.g", "i.e", "z.b", "d.h",    "bzw", "nr",  "str", "tel",
};

/* Does the period at text[dot] end a sentence that began at `at`? */
static bool period_ends(const char *text, size_t at, size_t dot)
{
    size_t from = dot;
    while (from > at && !is_space(text[from - 1]) && text[from - 1] != '(') {
        from--;
    }
    size_t n = dot - from;
    char word[8];
    if (n == 0 || n >= sizeof word) {
        return true;
    }
    bool digits = true;
    for (size_t i = 0; i < n; i++) {
        char c = text[from + i];
        word[i] = (char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
        digits = digits && c >= '0' && c <= '9';
    }
    word[n] = 0;
    if ((n == 1 && !digits) || (digits && from == at)) {
        return false; /* an initial, or the number of a list */
    }
    for (size_t i = 0; i < RV_COUNT(short_forms); i++) {
        if (strcmp(word, short_forms[i]) == 0) {
            return false;
        }
    }
    return true;
}

static bool starts_with(const char *text, size_t at, size_t end, const char *what)
{
    size_t n = strlen(what);
    return end - at >= n && memcmp(text + at, what, n) == 0;
}

/* Length of the mark at `at` that may end a sentence, 0: none. wide: it needs no space after it. */
static size_t end_mark(const char *text, size_t at, size_t end, bool *wide)
{
    *wide = starts_with(text, at, end, "。") || starts_with(text, at, end, "！") ||
            starts_with(text, at, end, "？");
    if (*wide || starts_with(text, at, end, "…")) {
        return 3;
    }
    return text[at] == '.' || text[at] == '!' || text[at] == '?';
}

static void split_paragraph(reader *r, size_t at, size_t end)
{
    static const char *const closers[] = { "\"", "'", ")", "]", "”", "’", "»", "」", "*", "_" };
    const char *text = rv_text_get(&r->text);
    for (size_t i = at; i < end && !r->error;) {
        bool wide;
        size_t n = end_mark(text, i, end, &wide);
        if (r->verbatim && text[i] == '\n') {
            add_long_sentence(r, at, i);
            at = ++i;
            continue;
        }
        if (n == 0) {
            i++;
            continue;
        }
        size_t dot = i;
        i += n;
        for (size_t k = 0; k < RV_COUNT(closers) && i < end; k++) {
            if (starts_with(text, i, end, closers[k])) {
                i += strlen(closers[k]);
                k = (size_t)-1; /* there may be several */
            }
        }
        size_t next = i;
        while (next < end && is_space(text[next])) {
            next++;
        }
        bool goes_on = next < end && text[next] >= 'a' && text[next] <= 'z';
        if (wide || (next > i && !goes_on && (text[dot] != '.' || period_ends(text, at, dot)))) {
            add_long_sentence(r, at, i);
            at = i = next;
        }
    }
    if (!r->error) {
        add_long_sentence(r, at, end);
    }
}

/* ---- what a reader hands over ---- */

/* text [n] stands for n_from bytes of the source: itself, or what an entity means */
static void add_piece(reader *r, const char *from, size_t n_from, const char *text, size_t n)
{
    r->pieces = grow(r, r->pieces, &r->piece_room, r->n_pieces, sizeof *r->pieces);
    if (!r->error) {
        r->pieces[r->n_pieces++] = (piece){ r->text.n, n, (size_t)(from - r->source), n_from };
        rv_text_add(&r->text, text, n);
    }
}

static void end_paragraph(reader *r)
{
    if (!r->error && r->text.n > r->paragraph_at) {
        split_paragraph(r, r->paragraph_at, r->text.n);
        r->paragraphs++;
    }
    r->paragraph_at = r->text.n;
    r->n_pieces = 0;
}

/* Headings of all levels, each as a sentence: "Library. Opening hours. " */
static rv_str join_headings(reader *r)
{
    rv_text joined;
    rv_text_init(&joined, r->mem, LEVELS * (HEADING_BYTES + 2) + 1);
    for (int level = 0; level < LEVELS; level++) {
        rv_str h = r->headings[level];
        if (h.n > 0) {
            rv_text_add(&joined, h.at, h.n);
            rv_text_adds(&joined, strchr(".?!:", h.at[h.n - 1]) ? " " : ". ");
        }
    }
    char *copy = rv_text_check(&joined) ? NULL : rv_arena_strndup(r->arena, rv_text_get(&joined), joined.n);
    rv_str out = rv_str_of(copy, joined.n);
    rv_text_deinit(&joined);
    if (!copy) {
        r->error = rv_fail(RV_E_NOMEM, "no memory to cut a text of %zu bytes", r->n_source);
    }
    return out;
}

static void add_section(reader *r)
{
    r->sections = grow(r, r->sections, &r->section_room, r->n_sections, sizeof *r->sections);
    if (!r->error) {
        r->sections[r->n_sections] = join_headings(r);
        r->n_sections++;
        r->section_used = false;
    }
}

/* The last heading has neither text nor headings below it: it would be lost, and so becomes a sentence without words of its
 * own, because its words stand above every chunk of its section. */
static void keep_bare_heading(reader *r)
{
    if (r->headings[r->last_level - 1].n == 0) {
        return;
    }
    r->sentences = grow(r, r->sentences, &r->sentence_room, r->n_sentences, sizeof *r->sentences);
    if (!r->error) {
        r->sentences[r->n_sentences++] = (sentence){ .from = r->heading_from,
                                                     .to = r->heading_to,
                                                     .section = r->n_sections - 1,
                                                     .paragraph = r->paragraphs };
    }
}

/* The paragraph at hand was a heading. */
static void end_heading(reader *r, int level)
{
    if (r->last_level >= level && !r->section_used) {
        keep_bare_heading(r);
    }
    size_t n = r->text.n - r->paragraph_at;
    const char *at = rv_text_get(&r->text) + r->paragraph_at;
    rv_str heading = rv_str_trim(rv_str_of(at, rv_utf8_whole(at, n > HEADING_BYTES ? HEADING_BYTES : n)));
    char *copy = rv_arena_strndup(r->arena, heading.at, heading.n);
    if (!copy || r->error) {
        r->error =
            r->error ? r->error : rv_fail(RV_E_NOMEM, "no memory to cut a text of %zu bytes", r->n_source);
        return;
    }
    for (int l = level; l < LEVELS; l++) {
        r->headings[l] = rv_str_of("", 0);
    }
    r->headings[level - 1] = rv_str_of(copy, heading.n);
    r->title = r->title.n ? r->title : r->headings[level - 1];
    r->heading_from = source_of(r, r->paragraph_at, false);
    r->heading_to = source_of(r, r->text.n, true);
    r->last_level = level;
    r->paragraph_at = r->text.n;
    r->n_pieces = 0;
    add_section(r);
}

/* ---- readers ---- */

/* Blank lines end a paragraph. */
static void read_lines(reader *r, bool headed)
{
    for (size_t at = 0; at < r->n_source && !r->error;) {
        const char *from = r->source + at, *end = memchr(from, '\n', r->n_source - at);
        size_t n = end ? (size_t)(end - from) : r->n_source - at;
        int level = headed && from[0] >= 1 && from[0] <= LEVELS ? from[0] : 0;
        rv_str line = rv_str_trim(rv_str_of(from + (level > 0), n - (level > 0)));
        if (level > 0) {
            end_paragraph(r);
            add_piece(r, line.at, line.n, line.at, line.n);
            end_heading(r, level);
        } else if (line.n == 0) {
            end_paragraph(r);
        } else {
            if (r->text.n > r->paragraph_at) {
                rv_text_addc(&r->text, ' ');
            }
            add_piece(r, line.at, line.n, line.at, line.n);
        }
        at += n + 1;
    }
    end_paragraph(r);
}

static int enter_block(MD_BLOCKTYPE type, void *detail, void *self)
{
    reader *r = self;
    if (type == MD_BLOCK_TD || type == MD_BLOCK_TH) {
        if (r->text.n > r->paragraph_at) {
            rv_text_adds(&r->text, " | ");
        }
        return r->error;
    }
    end_paragraph(r); /* an item's text may stand before the list inside it */
    r->verbatim = type == MD_BLOCK_CODE;
    (void)detail;
    return r->error;
}

static int leave_block(MD_BLOCKTYPE type, void *detail, void *self)
{
    reader *r = self;
    if (type == MD_BLOCK_TD || type == MD_BLOCK_TH) {
        return r->error;
    }
    if (type == MD_BLOCK_H) {
        end_heading(r, (int)((const MD_BLOCK_H_DETAIL *)detail)->level);
    } else {
        end_paragraph(r);
    }
    r->verbatim = false;
    return r->error;
}

static int ignore_span(MD_SPANTYPE type, void *detail, void *self)
{
    (void)type, (void)detail, (void)self;
    return 0;
}

static int add_text(MD_TEXTTYPE type, const MD_CHAR *text, MD_SIZE size, void *self)
{
    static const char *const entities[][2] = { { "&amp;", "&" },   { "&lt;", "<" },  { "&gt;", ">" },
                                               { "&quot;", "\"" }, { "&#39;", "'" }, { "&nbsp;", " " } };
    reader *r = self;
    if (type == MD_TEXT_BR || type == MD_TEXT_SOFTBR) {
        rv_text_addc(&r->text, ' ');
        return 0;
    }
    if (type == MD_TEXT_HTML) {
        return 0;
    }
    const char *means = text;
    size_t n = size;
    for (size_t i = 0; type == MD_TEXT_ENTITY && i < RV_COUNT(entities); i++) {
        if (rv_str_eq(rv_str_of(text, size), entities[i][0])) {
            means = entities[i][1];
            n = strlen(means);
        }
    }
    if (text >= r->source && text < r->source + r->n_source) {
        add_piece(r, text, size, means, n);
    } else {
        rv_text_add(&r->text, text, size); /* md4c's own: the line ends of code */
    }
    return r->error;
}

/* A block of settings between lines of three dashes, as site generators want it, is no text. */
static size_t front_matter(const char *text, size_t n)
{
    if (!starts_with(text, 0, n, "---\n")) {
        return 0;
    }
    const char *end = memmem(text + 3, n - 3, "\n---\n", 5);
    return end ? (size_t)(end - text) + 5 : 0;
}

static void read_markdown(reader *r)
{
    static const MD_PARSER parser = { .flags = MD_FLAG_TABLES | MD_FLAG_STRIKETHROUGH | MD_FLAG_TASKLISTS,
                                      .enter_block = enter_block,
                                      .leave_block = leave_block,
                                      .enter_span = ignore_span,
                                      .leave_span = ignore_span,
                                      .text = add_text };
    size_t skip = front_matter(r->source, r->n_source);
    int rc = md_parse(r->source + skip, (MD_SIZE)(r->n_source - skip), &parser, r);
    if (rc && !r->error) {
        r->error = rv_fail(RV_E_NOMEM, "no memory to read Markdown of %zu bytes", r->n_source);
    }
}

/* ---- chunks ---- */

static rv_err build_chunk(const reader *r, const sentence *from, const sentence *to, chunk *out)
{
    rv_str path = r->sections[from->section];
    size_t n = path.n;
    for (const sentence *s = from; s < to; s++) {
        n += s->n + 1;
    }
    char *at = rv_arena_take(r->arena, n + 1), *end = at;
    if (!at) {
        return rv_fail(RV_E_NOMEM, "no memory to cut a text of %zu bytes", r->n_source);
    }
    memcpy(end, path.at, path.n);
    end += path.n;
    for (const sentence *s = from; s < to; s++) {
        if (s > from) {
            *end++ = s->paragraph == s[-1].paragraph ? ' ' : '\n';
        }
        memcpy(end, rv_text_get(&r->text) + s->at, s->n);
        end += s->n;
    }
    *out = (chunk){ rv_str_trim(rv_str_of(at, (size_t)(end - at))), from->from, to[-1].to - from->from };
    return RV_OK;
}

/* The sentences of each section in chunks of about equal size. */
static rv_err fill_chunks(const reader *r, chunks *out)
{
    out->at = rv_arena_take(r->arena, r->n_sentences * sizeof *out->at);
    out->n = 0;
    if (!out->at) {
        return rv_fail(RV_E_NOMEM, "no memory to cut a text of %zu bytes", r->n_source);
    }
    if (r->n_sentences == 0) {
        return RV_OK;
    }
    const sentence *s = r->sentences, *last = s + r->n_sentences;
    while (s < last) {
        size_t left = 0;
        const sentence *end = s;
        for (; end < last && end->section == s->section; end++) {
            left += end->words;
        }
        while (s < end) {
            size_t parts = left <= WORDS_MOST ? 1 : (left + WORDS_AIM - 1) / WORDS_AIM,
                   aim = (left + parts - 1) / parts, words = 0;
            const sentence *from = s;
            while (s < end && (s == from || parts == 1 || (words < aim && words + s->words <= WORDS_MOST))) {
                words += s->words;
                s++;
            }
            left -= words;
            RV_TRY(build_chunk(r, from, s, &out->at[out->n++]));
        }
    }
    return RV_OK;
}

rv_err rv_chunks_of(const rv_alloc *mem, const char *text, size_t n, text_kind kind, rv_arena *arena,
                    chunks *out)
{
    reader r = { .mem = mem, .arena = arena, .source = text, .n_source = n };
    rv_text_init(&r.text, mem, 4 * n + 1024);
    for (int level = 0; level < LEVELS; level++) {
        r.headings[level] = rv_str_of("", 0);
    }
    add_section(&r);
    if (!r.error && kind == RV_TEXT_MARKDOWN) {
        read_markdown(&r);
    } else if (!r.error) {
        read_lines(&r, kind == RV_TEXT_HEADED);
    }
    if (!r.error && r.last_level && !r.section_used) {
        keep_bare_heading(&r);
    }
    rv_err e = r.error ? r.error : rv_text_check(&r.text);
    chunks found = { .title = r.title };
    if (!e) {
        e = fill_chunks(&r, &found);
    }
    rv_free(mem, r.pieces);
    rv_free(mem, r.sentences);
    rv_free(mem, r.sections);
    rv_text_deinit(&r.text);
    if (!e) {
        *out = found;
    }
    return e;
}
