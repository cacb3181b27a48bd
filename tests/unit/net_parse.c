/* The request reader against a table of what must be taken and what must be refused, each fed whole, byte by byte, and in
 * two parts cut at every place. */
#include "test.h"

#include "net/http_parse.h"

#include <stdio.h>
#include <string.h>

static const rv_http_limits limits = { 200, 1000, 64 };

typedef struct outcome {
    int status;      /* 200: complete; 0: more wanted; else the refusal */
    size_t used;     /* bytes of the input that were taken */
    char seen[1024]; /* method, path, query and body */
} outcome;

static outcome read_cut(const char *bytes, size_t n, size_t cut, size_t step)
{
    outcome o = { 0 };
    rv_http_parser p;
    rv_http_parser_init(&p, &rv_heap, limits);
    rv_http_state state = RV_HTTP_MORE;
    while (o.used < n && state == RV_HTTP_MORE) {
        size_t take = o.used < cut ? cut - o.used : step, used = 0;
        state = rv_http_parse(&p, bytes + o.used, take < n - o.used ? take : n - o.used, &used);
        o.used += used;
    }
    if (state == RV_HTTP_COMPLETE) {
        o.status = 200;
        snprintf(o.seen, sizeof o.seen, "%s %s ?%s [%s]%s%s", rv_http_parser_string(&p, p.method),
                 rv_http_parser_string(&p, p.path), p.query ? rv_http_parser_string(&p, p.query) : "",
                 rv_text_get(&p.body), p.keep_alive ? "" : " close", p.wants_continue ? " continue" : "");
    } else if (state == RV_HTTP_REFUSED) {
        o.status = p.status;
        snprintf(o.seen, sizeof o.seen, "%s", p.why);
    }
    rv_http_parser_deinit(&p);
    return o;
}

#define H "Host: h\r\n"

static const struct {
    const char *bytes;
    size_t n; /* 0: up to the zero */
    int status;
    const char *seen; /* NULL: not looked at */
    size_t left;      /* bytes that belong to the next request */
} cases[] = {
    /* taken */
    { "GET / HTTP/1.1\r\n" H "\r\n", 0, 200, "GET / ? []", 0 },
    { "\r\n\r\nGET / HTTP/1.1\r\n" H "\r\n", 0, 200, "GET / ? []", 0 },
    { "GET /a%20b%2fc?x=%31&y HTTP/1.1\r\n" H "\r\n", 0, 200, "GET /a b/c ?x=%31&y []", 0 },
    { "GET / HTTP/1.0\r\n\r\n", 0, 200, "GET / ? [] close", 0 },
    { "GET / HTTP/1.1\r\n" H "Connection: x , Close\r\n\r\n", 0, 200, "GET / ? [] close", 0 },
    { "GET / HTTP/1.1\r\n" H "Connection: closed\r\n\r\n", 0, 200, "GET / ? []", 0 },
    { "OPTIONS * HTTP/1.1\r\n" H "\r\n", 0, 200, "OPTIONS * ? []", 0 },
    { "GET http://other:1/p?q HTTP/1.1\r\n" H "\r\n", 0, 200, "GET /p ?q []", 0 },
    { "POST / HTTP/1.1\r\n" H "content-length:3\r\n\r\nabcGET", 0, 200, "POST / ? [abc]", 3 },
    { "POST / HTTP/1.1\r\n" H "Content-Length: \t 0 \t\r\n\r\nX", 0, 200, "POST / ? []", 1 },
    { "POST / HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 1\r\n\r\na", 0, 200,
      "POST / ? [a] continue", 0 },
    { "POST / HTTP/1.1\r\n" H
      "Transfer-Encoding: Chunked\r\n\r\n3;x=1\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\nrest",
      0, 200, "POST / ? [abc0123456789]", 4 },
    { "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 9\r\n\r\n", 0, 200,
      "POST / ? []", 0 },
    { "GET / HTTP/1.1\r\n" H "X:\r\nY: a\tb \xff\r\n\r\n", 0, 200, "GET / ? []", 0 },
    /* not complete */
    { "", 0, 0, NULL, 0 },
    { "GET / HTTP/1.1\r\n" H, 0, 0, NULL, 0 },
    { "POST / HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nab", 0, 0, NULL, 0 },
    { "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n", 0, 0, NULL, 0 },
    /* request line */
    { "\r\n\r\n\r\nGET", 0, 400, NULL, 3 },
    { "GET /\r\n", 0, 400, NULL, 0 },
    { "GET  / HTTP/1.1\r\n", 0, 400, NULL, 0 },
    { "GET / x HTTP/1.1\r\n", 0, 400, NULL, 0 },
    { "GET\t/\tHTTP/1.1\r\n", 0, 400, NULL, 0 },
    { " / HTTP/1.1\r\n", 0, 400, NULL, 0 },
    { "G(T / HTTP/1.1\r\n", 0, 400, NULL, 0 },
    { "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1\r\n", 0, 501, NULL, 0 },
    { "GET / http/1.1\r\n", 0, 400, NULL, 0 },
    { "GET / HTTP/1.1x\r\n", 0, 400, NULL, 0 },
    { "GET / HTTP/2.0\r\n", 0, 505, NULL, 0 },
    { "GET / HTTP/1.2\r\n", 0, 505, NULL, 0 },
    { "GET / HTTP/1.1\n", 0, 400, NULL, 0 },
    { "GET / HTTP/1.1\rX", 0, 400, NULL, 0 },
    { "GET /\0 HTTP/1.1\r\n", 18, 400, NULL, 11 },
    { "\x16\x03\x01", 0, 400, NULL, 2 },
    { "GET x HTTP/1.1\r\n", 0, 400, NULL, 0 },
    { "GET /%zz HTTP/1.1\r\n", 0, 400, NULL, 0 },
    { "GET /%1 HTTP/1.1\r\n", 0, 400, NULL, 0 },
    { "GET /%00 HTTP/1.1\r\n", 0, 400, NULL, 0 },
    { "GET /%0a HTTP/1.1\r\n", 0, 400, NULL, 0 },
    { "GET /%ff HTTP/1.1\r\n", 0, 400, NULL, 0 },
    { "GET /?a=%0 HTTP/1.1\r\n", 0, 400, NULL, 0 },
    { "GET /\xff HTTP/1.1\r\n", 0, 400, NULL, 0 },
    { "GET /a\\b HTTP/1.1\r\n", 0, 400, NULL, 0 },
    { "GET /#a HTTP/1.1\r\n", 0, 400, NULL, 0 },
    { "GET http:///x HTTP/1.1\r\n", 0, 400, NULL, 0 },
    { "CONNECT a:80 HTTP/1.1\r\n", 0, 400, NULL, 0 },
    /* headers */
    { "GET / HTTP/1.1\r\n\r\n", 0, 400, "Host is missing", 0 },
    { "GET http://a/ HTTP/1.1\r\n\r\n", 0, 400, "Host is missing", 0 },
    { "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n", 0, 400, "more than one Host", 0 },
    { "GET / HTTP/1.1\r\nHost: a b\r\n", 0, 400, NULL, 0 },
    { "GET / HTTP/1.1\r\nHost:\r\n", 0, 400, NULL, 0 },
    { "GET / HTTP/1.1\r\n" H "NoColon\r\n", 0, 400, NULL, 0 },
    { "GET / HTTP/1.1\r\n" H "X : 1\r\n", 0, 400, NULL, 0 },
    { "GET / HTTP/1.1\r\n" H ": 1\r\n", 0, 400, NULL, 0 },
    { "GET / HTTP/1.1\r\n" H "X: a\r\n b\r\n", 0, 400, NULL, 0 },
    { "GET / HTTP/1.1\r\n X: a\r\n", 0, 400, NULL, 0 },
    { "GET / HTTP/1.1\r\n" H "X: a\rY: b\r\n", 0, 400, NULL, 6 },
    { "GET / HTTP/1.1\r\n" H "X: a\nY: b\r\n", 0, 400, NULL, 6 },
    { "GET / HTTP/1.1\r\n" H "X: \x01\r\n", 0, 400, NULL, 2 },
    { "GET / HTTP/1.1\r\n" H "X: \x7f\r\n", 0, 400, NULL, 2 },
    { "GET / HTTP/1.1\r\n" H "Expect: x\r\n", 0, 417, NULL, 0 },
    /* framing */
    { "POST / HTTP/1.1\r\n" H "Content-Length: 1\r\nContent-Length: 1\r\n", 0, 400, NULL, 0 },
    { "POST / HTTP/1.1\r\n" H "Content-Length: 1, 1\r\n", 0, 400, NULL, 0 },
    { "POST / HTTP/1.1\r\n" H "Content-Length: +1\r\n", 0, 400, NULL, 0 },
    { "POST / HTTP/1.1\r\n" H "Content-Length: -1\r\n", 0, 400, NULL, 0 },
    { "POST / HTTP/1.1\r\n" H "Content-Length: 0x1\r\n", 0, 400, NULL, 0 },
    { "POST / HTTP/1.1\r\n" H "Content-Length: 1.0\r\n", 0, 400, NULL, 0 },
    { "POST / HTTP/1.1\r\n" H "Content-Length:\r\n", 0, 400, NULL, 0 },
    { "POST / HTTP/1.1\r\n" H "Content-Length: 65\r\n", 0, 413, NULL, 0 },
    { "POST / HTTP/1.1\r\n" H "Content-Length: 18446744073709551617\r\n", 0, 413, NULL, 0 },
    { "POST / HTTP/1.1\r\n" H "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 0, 400, NULL, 0 },
    { "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 0, 400, NULL, 0 },
    { "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 0, 400, NULL,
      0 },
    { "POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n", 0, 501, NULL, 0 },
    { "POST / HTTP/1.1\r\n" H "Transfer-Encoding: identity\r\n", 0, 501, NULL, 0 },
    { "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 0, 400, NULL, 0 },
#define C "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"
    { C "\r\n", 0, 400, NULL, 0 },
    { C " 1\r\n", 0, 400, NULL, 0 },
    { C "1 \r\n", 0, 400, NULL, 0 },
    { C "0x1\r\n", 0, 400, NULL, 0 },
    { C "-1\r\n", 0, 400, NULL, 0 },
    { C "1g\r\n", 0, 400, NULL, 0 },
    { C "41\r\n", 0, 413, NULL, 0 },
    { C "ffffffffffffffff\r\n", 0, 413, NULL, 0 },
    { C "10000000000000000\r\n", 0, 400, NULL, 0 },
    { C "1\nab", 0, 400, NULL, 2 },
    { C "1\r\nab\r\n", 0, 400, NULL, 0 },
    { C "3f\r\n000000000000000000000000000000000000000000000000000000000000000\r\n2\r\n", 0, 413, NULL, 0 },
    { C "0\r\nno header\r\n", 0, 400, NULL, 0 },
#undef C
};

TEST(framing_is_taken_or_refused_as_the_table_says_however_it_is_cut)
{
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        size_t n = cases[i].n ? cases[i].n : strlen(cases[i].bytes);
        outcome whole = read_cut(cases[i].bytes, n, n, n);
        CHECK(whole.status == cases[i].status, "case %zu %s: %d (%s), expected %d", i, cases[i].bytes,
              whole.status, whole.seen, cases[i].status);
        CHECK(!cases[i].seen || strcmp(whole.seen, cases[i].seen) == 0, "case %zu %s: %s", i, cases[i].bytes,
              whole.seen);
        CHECK(whole.status != 200 || n - whole.used == cases[i].left, "case %zu %s: %zu left", i,
              cases[i].bytes, n - whole.used);
        for (size_t cut = 0; cut <= n; cut++) {
            outcome o = read_cut(cases[i].bytes, n, cut, cut == n ? 1 : n);
            CHECK(o.status == whole.status && o.used == whole.used && strcmp(o.seen, whole.seen) == 0,
                  "case %zu %s cut at %zu: %d %s, whole %d %s", i, cases[i].bytes, cut, o.status, o.seen,
                  whole.status, whole.seen);
        }
        outcome bytewise = read_cut(cases[i].bytes, n, 0, 1);
        CHECK(bytewise.status == whole.status && strcmp(bytewise.seen, whole.seen) == 0,
              "case %zu byte by byte: %d %s", i, bytewise.status, bytewise.seen);
    }
}

/* The status after head, then n times piece. */
static int after_many(const char *head, const char *piece, size_t n)
{
    rv_http_parser p;
    rv_http_parser_init(&p, &rv_heap, limits);
    size_t used;
    rv_http_state state = rv_http_parse(&p, head, strlen(head), &used);
    for (size_t i = 0; i < n && state == RV_HTTP_MORE; i++) {
        state = rv_http_parse(&p, piece, strlen(piece), &used);
    }
    CHECK(p.head.room <= 8192, "the head took %zu bytes", p.head.room);
    int status = state == RV_HTTP_REFUSED ? p.status : 0;
    rv_http_parser_deinit(&p);
    return status;
}

TEST(what_never_ends_is_refused_at_its_limit)
{
    CHECK(after_many("", "A", 1000000) == 414, "method");
    CHECK(after_many("GET /", "a", 1000000) == 414, "target");
    CHECK(after_many("GET / HTTP/1.1\r\n", "a", 1000000) == 431, "one header");
    CHECK(after_many("GET / HTTP/1.1\r\n", "A: b\r\n", 1000000) == 431, "many headers");
    const char *chunked = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    CHECK(after_many(chunked, "0", 1000000) == 400, "a chunk size");
    CHECK(after_many(chunked, "1\r\na\r\n", 1000000) == 413, "chunks");
    char with_end[256];
    snprintf(with_end, sizeof with_end, "%s1;", chunked);
    CHECK(after_many(with_end, "x", 1000000) == 400, "an extension");
    snprintf(with_end, sizeof with_end, "%s0\r\n", chunked);
    CHECK(after_many(with_end, "T: x\r\n", 1000000) == 431, "trailers");
}

TEST(headers_are_found_in_any_case_and_lists_by_element)
{
    const char *bytes =
        "GET /?a=1&ab=%41+b&c&a=2 HTTP/1.1\r\nHost: h\r\nX-One:  first \r\nx-one: second\r\n\r\n";
    rv_http_parser p;
    rv_http_parser_init(&p, &rv_heap, limits);
    size_t used;
    CHECK(rv_http_parse(&p, bytes, strlen(bytes), &used) == RV_HTTP_COMPLETE, "%s", p.why);
    CHECK(strcmp(rv_http_parser_field(&p, "X-ONE"), "first") == 0, "%s", rv_http_parser_field(&p, "X-ONE"));
    CHECK(!rv_http_parser_field(&p, "X-Two"), "found one");
    static const struct {
        const char *name, *value;
    } values[] = { { "a", "1" }, { "ab", "A b" }, { "c", "" }, { "b", NULL } };
    for (size_t i = 0; i < RV_COUNT(values); i++) {
        rv_text out;
        rv_text_init(&out, &rv_heap, 100);
        bool found = rv_http_query_get(rv_http_parser_string(&p, p.query), values[i].name, &out);
        CHECK(found == (values[i].value != NULL), "%s", values[i].name);
        CHECK(!found || strcmp(rv_text_get(&out), values[i].value) == 0, "%s: %s", values[i].name,
              rv_text_get(&out));
        rv_text_deinit(&out);
    }
    rv_http_parser_deinit(&p);
    CHECK(rv_http_list_has("a, CLOSE ,b", "close") && !rv_http_list_has("closed,a", "close") &&
              !rv_http_list_has(NULL, "x"),
          "lists");
}

TEST(parameters_that_nobody_knows_are_seen)
{
    static const char *const names[] = { "user", "tag" };
    static const struct {
        const char *query;
        bool known;
    } queries[] = { { "", true },          { "user=a", true },   { "tag=&user=b&", true },
                    { "user", true },      { "users=a", false }, { "use=a", false },
                    { "user=a&x", false }, { "=a", false },      { "user=a&&tag", true } };
    for (size_t i = 0; i < RV_COUNT(queries); i++) {
        CHECK(rv_http_query_known(queries[i].query, names, 2) == queries[i].known, "%s", queries[i].query);
    }
    CHECK(rv_http_query_known(NULL, names, 2), "no query");
}
