/* HTTP/1.1 requests, byte by byte: a pure reader without sockets or clocks, so that it can be fuzzed whole. Where RFC 9112
 * lets a server choose between guessing and refusing, it refuses: one framing per request, CRLF line ends only, no folded
 * headers, no space before a colon, no control bytes. Two programs that read the same bytes can then not disagree about
 * where a request ends. */
#ifndef RV_NET_HTTP_PARSE_H
#define RV_NET_HTTP_PARSE_H
#include "base/str.h"

#define RV_HTTP_FIELDS_MAX 256
#define RV_HTTP_LINE_MAX   8192 /* request line, bytes */
#define RV_HTTP_HEAD_MAX   65536

typedef struct rv_http_limits {
    size_t line_bytes; /* request line, without its end; at most 1 MiB */
    size_t head_bytes; /* all header lines together, and all trailer lines together; at most 1 MiB */
    size_t body_bytes;
} rv_http_limits;

typedef enum rv_http_state {
    RV_HTTP_MORE,     /* all bytes taken, the request is not complete */
    RV_HTTP_COMPLETE, /* bytes after *used belong to the next request */
    RV_HTTP_REFUSED   /* status and why say it; the connection cannot go on */
} rv_http_state;

typedef enum rv_http_phase {
    RV_HTTP_AT_LINE, /* the request line, after at most two empty lines */
    RV_HTTP_AT_FIELDS,
    RV_HTTP_AT_BODY, /* Content-Length bytes, or the bytes of a chunk */
    RV_HTTP_AT_CHUNK_SIZE,
    RV_HTTP_AT_CHUNK_END, /* the line end after a chunk's bytes */
    RV_HTTP_AT_TRAILERS,
    RV_HTTP_AT_END
} rv_http_phase;

typedef struct rv_http_parser {
    const rv_alloc *mem;
    rv_http_limits limits;
    rv_http_phase phase;
    rv_text head; /* strings of the request line and the headers, zero-terminated; then the line being read */
    size_t line;  /* where in head the line being read begins */
    size_t spent; /* bytes of header (or trailer) lines so far */
    uint64_t missing; /* bytes of the body or chunk still to come */
    int empty_lines;
    bool after_cr, any; /* any: a byte of this request was seen */
    bool chunked, has_length, has_host;

    /* Valid from RV_HTTP_COMPLETE on; wants_continue as soon as the headers are in. Offsets into head. */
    size_t method, path, query, host; /* query, host: 0 when absent */
    struct rv_http_field {
        uint32_t name, value;
    } fields[RV_HTTP_FIELDS_MAX];
    size_t n_fields;
    rv_text body;
    bool keep_alive; /* HTTP/1.1 and no "Connection: close" */
    bool http10;
    bool wants_continue; /* the client waits for 100 before it sends the body */

    /* Valid after RV_HTTP_REFUSED */
    int status; /* 400, 411, 413, 414, 417, 431, 501, 503 or 505 */
    const char *why;
} rv_http_parser;

/** rv_http_parser_init - for one request. Memory is taken as bytes arrive, never for what a header announces. */
void rv_http_parser_init(rv_http_parser *p, const rv_alloc *mem, rv_http_limits limits);
void rv_http_parser_deinit(rv_http_parser *p);

/**
 * rv_http_parse - take up to n bytes. *used: how many were taken (all of them unless COMPLETE or REFUSED). Cutting the
 * same bytes differently gives the same result. Not to be called again after COMPLETE or REFUSED.
 */
rv_http_state rv_http_parse(rv_http_parser *p, const char *at, size_t n, size_t *used);

/** rv_http_parser_string - a string of head by its offset. Valid until the next rv_http_parse. */
const char *rv_http_parser_string(const rv_http_parser *p, size_t offset);
/** rv_http_parser_field - value of a header, name in any case; of several the first; NULL when absent. */
const char *rv_http_parser_field(const rv_http_parser *p, const char *name);
/** rv_http_query_get - append the decoded value of name in a raw query ("a=1&b=%20") to out; false when it is not there. */
bool rv_http_query_get(const char *query, const char *name, rv_text *out);
/** rv_http_query_known - is every name in a raw query one of names[n]? */
bool rv_http_query_known(const char *query, const char *const *names, size_t n);
/** rv_http_list_has - is token (any case) an element of a comma-separated header value? */
bool rv_http_list_has(const char *list, const char *token);
#endif
