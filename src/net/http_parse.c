/* One byte class table, one function per line kind, one loop. RFC 9112 and 9110 name the rules; where a rule here is
 * stricter than they ask, the line says so. */
#include "net/http_parse.h"

#include <string.h>
#include <strings.h>

enum { EMPTY_LINES_MAX = 2, CHUNK_LINE_MAX = 256, METHOD_MAX = 32, BODY_STEP = 16384 };

void rv_http_parser_init(rv_http_parser *p, const rv_alloc *mem, rv_http_limits limits)
{
    *p = (rv_http_parser){ .mem = mem, .limits = limits };
    /* Twice: the decoded path stands beside the line, and the trailer line being read behind the headers. */
    rv_text_init(&p->head, mem, 2 * (limits.line_bytes + limits.head_bytes) + 1024);
    rv_text_init(&p->body, mem, limits.body_bytes);
}

void rv_http_parser_deinit(rv_http_parser *p)
{
    rv_text_deinit(&p->head);
    rv_text_deinit(&p->body);
}

const char *rv_http_parser_string(const rv_http_parser *p, size_t offset)
{
    return rv_text_get(&p->head) + offset;
}

const char *rv_http_parser_field(const rv_http_parser *p, const char *name)
{
    for (size_t i = 0; i < p->n_fields; i++) {
        if (strcasecmp(rv_http_parser_string(p, p->fields[i].name), name) == 0) {
            return rv_http_parser_string(p, p->fields[i].value);
        }
    }
    return NULL;
}

static rv_http_state refuse(rv_http_parser *p, int status, const char *why)
{
    p->status = status;
    p->why = why;
    p->phase = RV_HTTP_AT_END;
    return RV_HTTP_REFUSED;
}

/* ---- characters ---- */

static bool is_token_char(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_token(const char *at, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!is_token_char((unsigned char)at[i])) {
            return false;
        }
    }
    return n > 0;
}

/* host [":" port]; names, IPv4 and bracketed IPv6 as they are seen in practice: fewer characters than RFC 3986 has. */
static bool is_host(const char *at, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)at[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              (c != 0 && strchr("-._:[]", c) != NULL))) {
            return false;
        }
    }
    return n > 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Append the decoded bytes; false on a bad escape or one that gives a control byte. */
static bool add_decoded(rv_text *out, const char *at, size_t n, bool plus_is_space)
{
    for (size_t i = 0; i < n; i++) {
        char c = at[i];
        if (c == '%') {
            int high = i + 2 < n ? hex_digit(at[i + 1]) : -1;
            int low = i + 2 < n ? hex_digit(at[i + 2]) : -1;
            if (high < 0 || low < 0) {
                return false;
            }
            c = (char)(high * 16 + low);
            if ((unsigned char)c < 0x20 || c == 0x7f) {
                return false;
            }
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        rv_text_addc(out, c);
    }
    return true;
}

bool rv_http_query_get(const char *query, const char *name, rv_text *out)
{
    size_t name_n = strlen(name);
    while (query && *query) {
        size_t n = strcspn(query, "&");
        if (n >= name_n && memcmp(query, name, name_n) == 0 && (n == name_n || query[name_n] == '=')) {
            size_t from = n == name_n ? n : name_n + 1;
            return add_decoded(out, query + from, n - from, true);
        }
        query += n + (query[n] == '&');
    }
    return false;
}

bool rv_http_query_known(const char *query, const char *const *names, size_t n)
{
    while (query && *query) {
        size_t length = strcspn(query, "&"), name_n = strcspn(query, "=&"), i = 0;
        while (i < n && (strlen(names[i]) != name_n || memcmp(names[i], query, name_n) != 0)) {
            i++;
        }
        if (i == n && length > 0) {
            return false;
        }
        query += length + (query[length] == '&');
    }
    return true;
}

bool rv_http_list_has(const char *list, const char *token)
{
    while (list && *list) {
        size_t n = strcspn(list, ",");
        rv_str element = rv_str_trim(rv_str_of(list, n));
        if (element.n == strlen(token) && strncasecmp(element.at, token, element.n) == 0) {
            return true;
        }
        list += n + (list[n] == ',');
    }
    return false;
}

/* ---- lines: at[0..n) lies at p->line in head, without its CRLF, and is followed by a zero ---- */

/* HTTP/1.0 and HTTP/1.1 are read; a later 1.x would have to be answered as 1.1, but nobody sends it. */
static rv_http_state read_version(rv_http_parser *p, const char *version)
{
    if (strcmp(version, "HTTP/1.1") == 0 || strcmp(version, "HTTP/1.0") == 0) {
        p->http10 = version[7] == '0';
        p->keep_alive = !p->http10;
        return RV_HTTP_MORE;
    }
    bool shaped = strlen(version) == 8 && memcmp(version, "HTTP/", 5) == 0 && version[6] == '.' &&
                  version[5] >= '0' && version[5] <= '9' && version[7] >= '0' && version[7] <= '9';
    return shaped ? refuse(p, 505, "this server speaks HTTP/1.1")
                  : refuse(p, 400, "the request line does not end in HTTP/1.1");
}

/* "/path?query", "*", or "http://host/path?query" (which RFC 9112 section 3.2.2 wants understood). */
static rv_http_state read_target(rv_http_parser *p, size_t target)
{
    const char *at = rv_http_parser_string(p, target);
    if (strncasecmp(at, "http://", 7) == 0) {
        size_t host_n = strcspn(at + 7, "/?");
        if (!is_host(at + 7, host_n)) {
            return refuse(p, 400, "the request target names no host");
        }
        char *host = p->head.at + target;
        memmove(host, at + 7, host_n); /* to the front, which makes room for its zero */
        host[host_n] = 0;
        p->host = target;
        target += 7 + host_n;
        at = rv_http_parser_string(p, target);
    }
    if (*at != '/' && strcmp(at, "*") != 0) {
        return refuse(p, 400, "the request target is not a path");
    }
    for (const char *c = at; *c; c++) {
        if ((unsigned char)*c >= 0x80 || *c == '#' || *c == '\\') {
            return refuse(p, 400, "the request target has a character that must be percent-encoded");
        }
    }
    size_t path_n = strcspn(at, "?");
    if (at[path_n] == '?') {
        p->query = target + path_n + 1;
    }
    /* Decoded once, here: what is refused and what is routed are the same bytes. head may move while it grows. */
    rv_text path = { 0 };
    rv_text_init(&path, p->mem, p->limits.line_bytes);
    rv_text rest = { 0 };
    rv_text_init(&rest, p->mem, p->limits.line_bytes);
    bool good = add_decoded(&path, at, path_n, false) &&
                add_decoded(&rest, at + path_n, strlen(at + path_n), true) &&
                rv_utf8_valid(rv_text_get(&path), path.n);
    bool room = !path.failed && !rest.failed;
    p->path = p->head.n;
    rv_text_add(&p->head, rv_text_get(&path), path.n);
    rv_text_addc(&p->head, 0);
    rv_text_deinit(&path);
    rv_text_deinit(&rest);
    if (!good) {
        return refuse(p, 400, "the request target has a bad percent escape");
    }
    return room ? RV_HTTP_MORE : refuse(p, 503, "out of memory");
}

static rv_http_state read_request_line(rv_http_parser *p, char *at, size_t n)
{
    if (n == 0) { /* RFC 9112 section 2.2: a client may send one too many */
        p->head.n = p->line;
        return ++p->empty_lines <= EMPTY_LINES_MAX ? RV_HTTP_MORE
                                                   : refuse(p, 400, "empty lines before the request");
    }
    char *space = memchr(at, ' ', n), *last = memrchr(at, ' ', n);
    if (!space || space == last || memchr(space + 1, ' ', (size_t)(last - space - 1))) {
        return refuse(p, 400, "the request line is not METHOD TARGET HTTP/1.1");
    }
    if (!is_token(at, (size_t)(space - at)) || memchr(at, '\t', n)) {
        return refuse(p, 400, "the method is not a word");
    }
    if (space - at > METHOD_MAX) {
        return refuse(p, 501, "no such method");
    }
    *space = 0;
    *last = 0;
    p->method = p->line;
    size_t target = (size_t)(space + 1 - p->head.at);
    rv_http_state state = read_version(p, last + 1);
    if (state == RV_HTTP_MORE) {
        state = read_target(p, target);
    }
    p->phase = state == RV_HTTP_MORE ? RV_HTTP_AT_FIELDS : RV_HTTP_AT_END;
    return state;
}

static rv_http_state read_length(rv_http_parser *p, const char *value)
{
    uint64_t length = 0;
    size_t n = strspn(value, "0123456789");
    if (n == 0 || value[n] != 0) {
        return refuse(p, 400, "Content-Length is not a number");
    }
    if (p->has_length) { /* stricter than RFC 9110 section 8.6: equal ones are refused too */
        return refuse(p, 400, "more than one Content-Length");
    }
    if (n > 19 || !rv_parse_u64(rv_str_of(value, n), &length) || length > p->limits.body_bytes) {
        return refuse(p, 413, "the body is larger than this server takes");
    }
    p->has_length = true;
    p->missing = length;
    return RV_HTTP_MORE;
}

/* Headers that decide about framing and the connection; the others are only kept. */
static rv_http_state weigh_field(rv_http_parser *p, const char *name, const char *value, size_t value_at)
{
    if (strcasecmp(name, "Content-Length") == 0) {
        return read_length(p, value);
    }
    if (strcasecmp(name, "Transfer-Encoding") == 0) {
        if (p->chunked) {
            return refuse(p, 400, "more than one Transfer-Encoding");
        }
        if (strcasecmp(value, "chunked") != 0) {
            return refuse(p, 501, "the only Transfer-Encoding here is chunked");
        }
        p->chunked = true;
    } else if (strcasecmp(name, "Host") == 0) {
        if (p->has_host) {
            return refuse(p, 400, "more than one Host");
        }
        if (!is_host(value, strlen(value))) {
            return refuse(p, 400, "Host is not a host name");
        }
        if (!p->host) { /* the host of an absolute target stands above the header: RFC 9112 section 3.2.2 */
            p->host = value_at;
        }
        p->has_host = true;
    } else if (strcasecmp(name, "Connection") == 0) {
        if (rv_http_list_has(value, "close")) {
            p->keep_alive = false;
        }
    } else if (strcasecmp(name, "Expect") == 0) {
        if (strcasecmp(value, "100-continue") != 0) {
            return refuse(p, 417, "the only Expect here is 100-continue");
        }
        p->wants_continue = !p->http10;
    }
    return RV_HTTP_MORE;
}

static rv_http_state end_of_fields(rv_http_parser *p)
{
    if (!p->has_host && !p->http10) {
        return refuse(p, 400, "Host is missing");
    }
    if (p->chunked && (p->has_length || p->http10)) {
        return refuse(p, 400,
                      p->http10 ? "HTTP/1.0 has no Transfer-Encoding"
                                : "both Content-Length and Transfer-Encoding");
    }
    p->head.n = p->line;
    p->spent = 0;
    if (p->chunked) {
        p->phase = RV_HTTP_AT_CHUNK_SIZE;
        return RV_HTTP_MORE;
    }
    p->phase = p->missing > 0 ? RV_HTTP_AT_BODY : RV_HTTP_AT_END;
    return p->missing > 0 ? RV_HTTP_MORE : RV_HTTP_COMPLETE;
}

static rv_http_state read_field(rv_http_parser *p, char *at, size_t n)
{
    if (n == 0) {
        return end_of_fields(p);
    }
    char *colon = memchr(at, ':', n);
    if (!colon) {
        return refuse(p, 400, "a header line has no colon");
    }
    if (!is_token(at, (size_t)(colon - at))) { /* a folded line, a space before the colon, an empty name */
        return refuse(p, 400, "a header name is not a word");
    }
    if (p->n_fields == RV_HTTP_FIELDS_MAX) {
        return refuse(p, 431, "more than 256 header lines");
    }
    *colon = 0;
    char *value = colon + 1, *end = at + n;
    while (value < end && (*value == ' ' || *value == '\t')) {
        value++;
    }
    while (end > value && (end[-1] == ' ' || end[-1] == '\t')) {
        end--;
    }
    *end = 0;
    size_t name_at = p->line, value_at = (size_t)(value - p->head.at);
    rv_http_state state = weigh_field(p, at, value, value_at);
    p->fields[p->n_fields++] = (struct rv_http_field){ (uint32_t)name_at, (uint32_t)value_at };
    return state;
}

/* Size in hex, then nothing or extensions, which are dropped (RFC 9112 section 7.1.1). */
static rv_http_state read_chunk_size(rv_http_parser *p, const char *at)
{
    uint64_t size = 0;
    size_t n = 0;
    for (; hex_digit(at[n]) >= 0; n++) {
        if (n == 16) {
            return refuse(p, 400, "a chunk size has too many digits");
        }
        size = size * 16 + (uint64_t)hex_digit(at[n]);
    }
    if (n == 0 || (at[n] != 0 && at[n] != ';')) {
        return refuse(p, 400, "a chunk size is not a hexadecimal number");
    }
    if (size > p->limits.body_bytes - p->body.n) {
        return refuse(p, 413, "the body is larger than this server takes");
    }
    p->missing = size;
    p->phase = size > 0 ? RV_HTTP_AT_BODY : RV_HTTP_AT_TRAILERS;
    return RV_HTTP_MORE;
}

static rv_http_state read_line(rv_http_parser *p)
{
    p->head.at[p->head.n - 1] = 0;   /* the CR */
    char *at = p->head.at + p->line; /* moves when head grows: only until then */
    size_t n = p->head.n - 1 - p->line;
    rv_http_state state = RV_HTTP_MORE;
    switch (p->phase) {
    case RV_HTTP_AT_LINE:
        state = read_request_line(p, at, n);
        p->line = p->head.n;
        return state;
    case RV_HTTP_AT_FIELDS:
        state = read_field(p, at, n);
        p->line = p->head.n;
        return state;
    case RV_HTTP_AT_CHUNK_SIZE: state = read_chunk_size(p, at); break;
    case RV_HTTP_AT_CHUNK_END: /* only an empty line may stand here */
        state = n == 0 ? RV_HTTP_MORE : refuse(p, 400, "a chunk is longer than its size");
        p->phase = state == RV_HTTP_MORE ? RV_HTTP_AT_CHUNK_SIZE : RV_HTTP_AT_END;
        break;
    case RV_HTTP_AT_TRAILERS: /* read past: nothing in a trailer may change what the headers said */
        if (n == 0) {
            p->phase = RV_HTTP_AT_END;
            state = RV_HTTP_COMPLETE;
        } else if (!memchr(at, ':', n) || !is_token(at, (size_t)((char *)memchr(at, ':', n) - at))) {
            state = refuse(p, 400, "a trailer line is not a header");
        }
        break;
    case RV_HTTP_AT_BODY:
    case RV_HTTP_AT_END: break;
    }
    p->head.n = p->line; /* chunk sizes and trailers are not kept */
    return state;
}

/* Is the line being read already too long? */
static rv_http_state check_room(rv_http_parser *p)
{
    size_t line_n = p->head.n - p->line;
    switch (p->phase) {
    case RV_HTTP_AT_LINE:
        return line_n > p->limits.line_bytes ? refuse(p, 414, "the request line is too long") : RV_HTTP_MORE;
    case RV_HTTP_AT_FIELDS:
    case RV_HTTP_AT_TRAILERS:
        return ++p->spent > p->limits.head_bytes ? refuse(p, 431, "the headers are too large") : RV_HTTP_MORE;
    case RV_HTTP_AT_CHUNK_END:
        return line_n > 1 ? refuse(p, 400, "a chunk is longer than its size") : RV_HTTP_MORE;
    case RV_HTTP_AT_CHUNK_SIZE:
        return line_n > CHUNK_LINE_MAX ? refuse(p, 400, "a chunk size line is too long") : RV_HTTP_MORE;
    case RV_HTTP_AT_BODY:
    case RV_HTTP_AT_END: break;
    }
    return RV_HTTP_MORE;
}

static rv_http_state take_line_byte(rv_http_parser *p, char c)
{
    if (c == '\n') {
        if (!p->after_cr) { /* stricter than RFC 9112 section 2.2, which lets it pass */
            return refuse(p, 400, "a line ends in LF without CR");
        }
        p->after_cr = false;
        return read_line(p);
    }
    if (p->after_cr) {
        return refuse(p, 400, "a CR is not followed by LF");
    }
    if (((unsigned char)c < 0x20 && c != '\t' && c != '\r') || c == 0x7f) {
        return refuse(p, 400, "a control byte in the request line or a header");
    }
    p->after_cr = c == '\r';
    rv_text_addc(&p->head, c);
    if (p->head.failed) {
        return refuse(p, 503, "out of memory");
    }
    return check_room(p);
}

static rv_http_state take_body_bytes(rv_http_parser *p, const char *at, size_t n)
{
    rv_text_add(&p->body, at, n);
    if (p->body.failed) {
        return refuse(p, 503, "out of memory");
    }
    p->missing -= n;
    if (p->missing > 0) {
        return RV_HTTP_MORE;
    }
    p->phase = p->chunked ? RV_HTTP_AT_CHUNK_END : RV_HTTP_AT_END;
    return p->chunked ? RV_HTTP_MORE : RV_HTTP_COMPLETE;
}

rv_http_state rv_http_parse(rv_http_parser *p, const char *at, size_t n, size_t *used)
{
    rv_http_state state = RV_HTTP_MORE;
    size_t i = 0;
    while (i < n && state == RV_HTTP_MORE) {
        p->any = true;
        if (p->phase == RV_HTTP_AT_BODY) {
            size_t take = p->missing < n - i ? (size_t)p->missing : n - i;
            state = take_body_bytes(p, at + i, take);
            i += take;
        } else {
            state = take_line_byte(p, at[i++]);
        }
    }
    *used = i;
    return state;
}
