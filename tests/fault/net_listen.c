/* Memory that runs out while a server starts, and while it reads and answers one request: nothing is held, nothing hangs. */
#include "../unit/http_client.h"

#include "net/http.h"

#include <pthread.h>
#include <stdlib.h>

static void handle(void *self, rv_http_request *r)
{
    (void)self;
    rv_str body = rv_http_body(r);
    rv_http_answer(r, 200, "text/plain", NULL, body.at, body.n);
}

static void *serve(void *server)
{
    if (rv_http_run(server, WAIT_MS) != RV_OK) {
        abort();
    }
    return NULL;
}

/* Status of the answer; 0: the connection was closed without one. The server's allocator is only used by its thread now. */
static int one_request(rv_http_server *server)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, serve, server) == 0, "thread");
    int fd = dial(rv_http_port(server));
    say(fd, "POST /a?b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello");
    const char *answer = hear(fd, NULL);
    int status = answer[0] ? atoi(answer + strlen("HTTP/1.1 ")) : 0;
    CHECK(status != 200 || strstr(answer, "\r\n\r\nhello"), "%s", answer);
    close(fd);
    rv_http_stop(server);
    pthread_join(thread, NULL);
    return status;
}

TEST(a_server_without_memory_refuses_or_closes_and_holds_nothing)
{
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_http_options how = { .listen = "127.0.0.1",
                                .max_connections = 4,
                                .max_body_bytes = 1000,
                                .max_header_bytes = 1000,
                                .request_timeout_ms = WAIT_MS,
                                .handle = handle };
        rv_http_server *server = NULL;
        rv_err e = rv_http_listen(&m.alloc, &how, &server);
        CHECK(e == RV_OK || (e == RV_E_NOMEM && m.failed), "call %ld: %s", m.fail_at, rv_err_name(e));
        if (!e) {
            int status = one_request(server);
            CHECK(m.failed ? status == 0 || status == 503 : status == 200, "call %ld: %d", m.fail_at, status);
        }
        rv_http_free(server);
    }
}
