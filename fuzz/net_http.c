/* Bytes as a stream of requests, once whole and once cut into pieces: requests, their bodies and the place and reason of a
 * refusal have to agree. The first two bytes choose how to cut. */
#include "net/http_parse.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

static const rv_http_limits limits = { 256, 1024, 512 };

typedef struct reading {
    rv_http_parser parser;
    size_t requests;
    uint64_t sum; /* of everything a handler could see */
    int refused;  /* status, 0: not */
    const char *why;
    size_t at; /* bytes taken in all */
} reading;

static void mix(reading *r, const void *bytes, size_t n)
{
    const uint8_t *at = bytes;
    for (size_t i = 0; i < n; i++) {
        r->sum = (r->sum ^ at[i]) * 0x100000001b3u;
    }
    r->sum = (r->sum ^ n) * 0x100000001b3u;
}

static void see(reading *r)
{
    const rv_http_parser *p = &r->parser;
    const size_t strings[] = { p->method, p->path, p->query, p->host };
    for (size_t i = 0; i < RV_COUNT(strings); i++) {
        assert(strings[i] < p->head.n);
        const char *s = rv_http_parser_string(p, strings[i]);
        mix(r, s, strlen(s));
    }
    for (size_t i = 0; i < p->n_fields; i++) {
        const char *name = rv_http_parser_string(p, p->fields[i].name);
        const char *value = rv_http_parser_string(p, p->fields[i].value);
        assert(*name && !strpbrk(name, " \t\r\n") && !strpbrk(value, "\r\n"));
        assert(rv_http_parser_field(p, name) != NULL);
        mix(r, name, strlen(name));
        mix(r, value, strlen(value));
    }
    const char *path = rv_http_parser_string(p, p->path);
    assert(rv_utf8_valid(path, strlen(path)));
    assert(p->body.n <= limits.body_bytes && p->n_fields <= RV_HTTP_FIELDS_MAX);
    rv_text value = { 0 };
    rv_text_init(&value, &rv_heap, 1 << 16);
    if (p->query && rv_http_query_get(rv_http_parser_string(p, p->query), "a", &value)) {
        mix(r, rv_text_get(&value), value.n);
    }
    static const char *const names[] = { "a", "b" };
    if (p->query && rv_http_query_known(rv_http_parser_string(p, p->query), names, 2)) {
        mix(r, names, sizeof names);
    }
    rv_text_deinit(&value);
    mix(r, rv_text_get(&p->body), p->body.n);
    mix(r, (const bool[]){ p->keep_alive, p->http10, p->wants_continue }, 3);
    r->requests++;
}

static void feed(reading *r, const char *at, size_t n)
{
    while (n > 0 && !r->refused) {
        size_t used = 0;
        rv_http_state state = rv_http_parse(&r->parser, at, n, &used);
        assert(used > 0 && used <= n && (state != RV_HTTP_MORE || used == n));
        at += used;
        n -= used;
        r->at += used;
        if (state == RV_HTTP_COMPLETE) {
            see(r);
            rv_http_parser_deinit(&r->parser);
            rv_http_parser_init(&r->parser, &rv_heap, limits);
        } else if (state == RV_HTTP_REFUSED) {
            assert(r->parser.status >= 400 && r->parser.why);
            r->refused = r->parser.status;
            r->why = r->parser.why;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 2) {
        return 0;
    }
    uint32_t cut = (uint32_t)data[0] << 8 | data[1];
    const char *bytes = (const char *)data + 2;
    n -= 2;

    reading whole = { .requests = 0 }, pieces = { .requests = 0 };
    rv_http_parser_init(&whole.parser, &rv_heap, limits);
    rv_http_parser_init(&pieces.parser, &rv_heap, limits);
    feed(&whole, bytes, n);
    for (size_t from = 0; from < n && !pieces.refused;) {
        cut = cut * 1664525 + 1013904223;
        size_t step = 1 + (cut >> 16) % ((cut & 3) ? 4 : 200);
        step = step < n - from ? step : n - from;
        feed(&pieces, bytes + from, step);
        from += step;
    }
    assert(whole.requests == pieces.requests && whole.sum == pieces.sum);
    assert(whole.refused == pieces.refused && whole.why == pieces.why && whole.at == pieces.at);
    assert(whole.parser.phase == pieces.parser.phase && whole.parser.body.n == pieces.parser.body.n);
    rv_http_parser_deinit(&whole.parser);
    rv_http_parser_deinit(&pieces.parser);
    return 0;
}
