/* libxml2's forgiving HTML parser as a stream of events; no tree is built, so a page costs its text. */
#include "memory/html.h"

#include <libxml/HTMLparser.h>
#include <pthread.h>
#include <string.h>

enum { FEED_BYTES = 65536, TITLE_BYTES = 1024 };

typedef struct page {
    rv_text *out;
    rv_text title;
    size_t skipping; /* elements open inside one that is left out, itself included; 0: text counts */
    bool in_title;
    int heading; /* level of the one at hand, 0: none */
    bool any_heading;
    size_t paragraph; /* where the one at hand begins */
    bool space;       /* one is due before the next word */
} page;

static bool one_of(const char *name, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(name, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* Elements that stand inside a line. All others part paragraphs, unknown ones too. */
static bool is_inline(const char *name)
{
    static const char *const names[] = { "a",    "abbr",   "acronym", "b",    "bdi", "bdo",   "big",
                                         "br",   "cite",   "code",    "data", "del", "dfn",   "em",
                                         "font", "i",      "img",     "ins",  "kbd", "label", "mark",
                                         "q",    "rp",     "rt",      "ruby", "s",   "samp",  "small",
                                         "span", "strike", "strong",  "sub",  "sup", "time",  "tt",
                                         "u",    "var",    "wbr" };
    return one_of(name, names, RV_COUNT(names));
}

static bool is_left_out(const char *name)
{
    static const char *const names[] = { "script", "style", "noscript", "template", "nav",      "svg",
                                         "math",   "head",  "select",   "button",   "textarea", "iframe",
                                         "audio",  "video", "canvas",   "object" };
    return one_of(name, names, RV_COUNT(names));
}

static void end_paragraph(page *p)
{
    if (p->out->n > p->paragraph) {
        rv_text_adds(p->out, "\n\n");
    }
    p->paragraph = p->out->n;
    p->space = false;
    p->heading = 0;
}

static int level_of(const char *name)
{
    return name[0] == 'h' && name[1] >= '1' && name[1] <= '6' && name[2] == 0 ? name[1] - '0' : 0;
}

static void on_start(void *self, const xmlChar *element, const xmlChar **attributes)
{
    page *p = self;
    const char *name = (const char *)element;
    (void)attributes;
    p->in_title |= strcmp(name, "title") == 0;
    if (p->skipping || is_left_out(name)) {
        p->skipping++; /* each has its end, <br> too: the parser says so */
    } else if (strcmp(name, "td") == 0 || strcmp(name, "th") == 0) {
        rv_text_adds(p->out, p->out->n > p->paragraph ? " | " : "");
        p->space = false;
    } else if (strcmp(name, "br") == 0) {
        rv_text_adds(p->out, p->out->n > p->paragraph ? "\n" : "");
        p->space = false;
    } else if (!is_inline(name)) {
        end_paragraph(p);
        p->heading = level_of(name);
    }
}

static void on_end(void *self, const xmlChar *element)
{
    page *p = self;
    const char *name = (const char *)element;
    p->in_title = p->in_title && strcmp(name, "title") != 0;
    if (p->skipping) {
        p->skipping--;
    } else if (!is_inline(name) && strcmp(name, "td") != 0 && strcmp(name, "th") != 0) {
        end_paragraph(p);
    }
}

static bool is_space(unsigned char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Runs of white space become one; control characters go, because the level of a heading is one. */
static void add_text(page *p, rv_text *to, const char *at, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)at[i];
        bool wide =
            c == 0xc2 && i + 1 < n && (unsigned char)at[i + 1] == 0xa0; /* a space that does not break */
        if (is_space(c) || wide) {
            p->space = true;
            i += wide;
            continue;
        }
        if (c < 32 || c == 127) {
            continue;
        }
        bool first = to == p->out && to->n == p->paragraph;
        if (first && p->heading) {
            rv_text_addc(to, (char)p->heading);
            p->any_heading = true;
        } else if (p->space && !first && to->n > 0 && to->at[to->n - 1] != '\n' && to->at[to->n - 1] != ' ') {
            rv_text_addc(to, ' ');
        }
        p->space = false;
        rv_text_addc(to, (char)c);
    }
}

static void on_text(void *self, const xmlChar *text, int n)
{
    page *p = self;
    if (p->in_title) {
        if (p->title.n + (size_t)n <= TITLE_BYTES) {
            add_text(p, &p->title, (const char *)text, (size_t)n);
        }
    } else if (!p->skipping) {
        add_text(p, p->out, (const char *)text, (size_t)n);
    }
}

static pthread_once_t parser_once = PTHREAD_ONCE_INIT;

static rv_err parse(page *p, const char *html, size_t n)
{
    htmlSAXHandler on = {
        .startElement = on_start, .endElement = on_end, .characters = on_text, .ignorableWhitespace = on_text
    };
    pthread_once(&parser_once, xmlInitParser);
    bool utf8 = rv_utf8_valid(html, n);
    htmlParserCtxtPtr parser = htmlCreatePushParserCtxt(
        &on, p, NULL, 0, NULL, utf8 ? XML_CHAR_ENCODING_UTF8 : XML_CHAR_ENCODING_NONE);
    if (!parser) {
        return rv_fail(RV_E_NOMEM, "no memory to read HTML");
    }
    htmlCtxtUseOptions(parser, HTML_PARSE_RECOVER | HTML_PARSE_NONET | HTML_PARSE_NOERROR |
                                   HTML_PARSE_NOWARNING | (utf8 ? HTML_PARSE_IGNORE_ENC : 0));
    for (size_t at = 0; at < n && !p->out->failed; at += FEED_BYTES) {
        htmlParseChunk(parser, html + at, (int)(n - at < FEED_BYTES ? n - at : FEED_BYTES), 0);
    }
    htmlParseChunk(parser, NULL, 0, 1);
    const xmlError *last = xmlCtxtGetLastError(parser);
    rv_err e =
        last && last->code == XML_ERR_NO_MEMORY ? rv_fail(RV_E_NOMEM, "no memory to read HTML") : RV_OK;
    htmlFreeParserCtxt(parser);
    return e;
}

/* The parser lets through what is no character in any encoding. */
static void drop_malformed(rv_text *text, size_t from)
{
    size_t to = from;
    for (size_t at = from; at < text->n;) {
        uint32_t code;
        size_t k = rv_utf8_decode(text->at + at, text->n - at, &code);
        memmove(text->at + to, text->at + at, k);
        to += k;
        at += k ? k : 1;
    }
    if (text->n > to) {
        text->n = to;
        text->at[to] = 0;
    }
}

rv_err rv_html_text(const char *html, size_t n, rv_text *out)
{
    page p = { .out = out, .paragraph = out->n };
    size_t from = out->n;
    rv_text_init(&p.title, out->mem, TITLE_BYTES + 8);
    rv_err e = parse(&p, html, n);
    end_paragraph(&p);
    drop_malformed(out, from);
    drop_malformed(&p.title, 0);
    if (!e && !p.any_heading && p.title.n > 0 && !out->failed) {
        rv_text all;
        rv_text_init(&all, out->mem, out->max);
        rv_text_add(&all, rv_text_get(out), from);
        rv_text_addf(&all, "\1%s\n\n", rv_text_get(&p.title));
        rv_text_add(&all, rv_text_get(out) + from, out->n - from);
        rv_text_deinit(out);
        *out = all;
    }
    rv_text_deinit(&p.title);
    return e ? e : rv_text_check(out);
}
