/* Memory that runs out while a request is read: it is refused with 503, and nothing is held. */
#include "test.h"

#include "net/http_parse.h"

#include <string.h>

TEST(a_request_that_finds_no_memory_is_refused_whole)
{
    const char *bytes =
        "POST /path?q=1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_http_parser p;
        rv_http_parser_init(&p, &m.alloc, (rv_http_limits){ 1000, 1000, 1000 });
        size_t used;
        rv_http_state end = rv_http_parse(&p, bytes, strlen(bytes), &used);
        CHECK(end == (m.failed ? RV_HTTP_REFUSED : RV_HTTP_COMPLETE), "call %ld: state %d", m.fail_at,
              (int)end);
        CHECK(!m.failed || p.status == 503, "call %ld: status %d", m.fail_at, p.status);
        rv_http_parser_deinit(&p);
    }
}
