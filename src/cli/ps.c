/* ps: what a running server has in memory, asked of its own API. */
#include "cli/cli.h"

#include "base/json.h"

#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { ANSWER_BYTES = 1 << 20, KEY_BYTES = 256, PATIENCE_S = 5 };

static int dial(const char *host, const char *port)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *all = NULL;
    int fd = -1;
    if (getaddrinfo(host, port, &hints, &all) != 0) {
        return -1;
    }
    for (const struct addrinfo *a = all; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        struct timeval patience = { .tv_sec = PATIENCE_S };
        if (fd >= 0) {
            setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
            setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        }
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(all);
    return fd;
}

/* The whole answer, terminated; its bytes, or -1. */
static ssize_t exchange(int fd, const char *request, char *answer, size_t room)
{
    for (size_t sent = 0, n = strlen(request); sent < n;) {
        ssize_t k = send(fd, request + sent, n - sent, MSG_NOSIGNAL);
        if (k < 0) {
            return -1;
        }
        sent += (size_t)k;
    }
    size_t got = 0;
    for (ssize_t k = 1; k > 0 && got + 1 < room; got += k > 0 ? (size_t)k : 0) {
        k = recv(fd, answer + got, room - 1 - got, 0);
        if (k < 0) {
            return -1;
        }
    }
    answer[got] = 0;
    return (ssize_t)got;
}

/* The header with the key of RUVLLM_API_KEY, or nothing where there is none. */
static rv_err key_header(const char *key, char out[KEY_BYTES + 32])
{
    size_t n = key ? strlen(key) : 0;
    out[0] = 0;
    for (size_t i = 0; i < n; i++) {
        if (n > KEY_BYTES || key[i] <= ' ' || key[i] >= 127) {
            return rv_fail(RV_E_CONFIG, "RUVLLM_API_KEY holds no key: that is at most %d visible characters",
                           KEY_BYTES);
        }
    }
    if (n > 0) {
        snprintf(out, KEY_BYTES + 32, "Authorization: Bearer %s\r\n", key);
    }
    return RV_OK;
}

static rv_err ask_models(const rv_config *c, json_t **models)
{
    static char answer[ANSWER_BYTES];
    const char *key = getenv("RUVLLM_API_KEY");
    char header[KEY_BYTES + 32], request[KEY_BYTES + 128];
    RV_TRY(key_header(key, header));
    snprintf(request, sizeof request,
             "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n%sConnection: close\r\n\r\n", header);
    const char *host = rv_config_string(c, "server.listen"), *port = rv_config_string(c, "server.port");
    int fd = dial(host, port);
    if (fd < 0) {
        return rv_fail(RV_E_NOT_FOUND, "no server answers at %s port %s; start one with `ruvllm serve`", host,
                       port);
    }
    ssize_t n = exchange(fd, request, answer, sizeof answer);
    int failed = errno;
    close(fd);
    if (n < 0) {
        return rv_fail(RV_E_IO, "the server at %s port %s: %s", host, port, strerror(failed));
    }
    if (strncmp(answer, "HTTP/1.1 401 ", 13) == 0) {
        return rv_fail(RV_E_CONFIG,
                       *header ? "the server at %s port %s does not know the key in RUVLLM_API_KEY"
                               : "the server at %s port %s asks for an API key: put one into RUVLLM_API_KEY",
                       host, port);
    }
    const char *body = strstr(answer, "\r\n\r\n");
    json_t *all = NULL;
    if (strncmp(answer, "HTTP/1.1 200 ", 13) == 0 && body) {
        all = json_loads(body + 4, 0, NULL);
    }
    *models = json_incref(json_object_get(all, "data"));
    json_decref(all);
    return json_is_array(*models)
               ? RV_OK
               : rv_fail(RV_E_FORMAT, "what answers at %s port %s is no ruvllm server", host, port);
}

static void print_model(const cmd_line *line, const json_t *m)
{
    const json_t *ours = json_object_get(m, "ruvllm");
    bool loaded = json_is_true(json_object_get(ours, "loaded")),
         loading = json_is_true(json_object_get(ours, "loading"));
    const char *id = json_string_value(json_object_get(m, "id"));
    json_int_t bytes = json_integer_value(json_object_get(ours, "resident_bytes"));
    json_int_t requests = json_integer_value(json_object_get(ours, "requests"));
    double idle = json_number_value(json_object_get(ours, "idle_seconds"));
    if (!id || (!loaded && !loading)) {
        return;
    }
    const char *state = loading ? "loading" : requests ? "busy" : "idle";
    if (line->json) {
        cmd_print(json_pack("{s:s, s:s, s:I, s:I, s:f}", "id", id, "state", state, "bytes", bytes, "requests",
                            requests, "idle_seconds", idle));
        return;
    }
    char size[16];
    cmd_bytes(size, (uint64_t)bytes);
    cmd_safe(stdout, id, strlen(id));
    printf("%*s %-8s %10s %9lld %8.0f s\n", (int)(strlen(id) < 20 ? 20 - strlen(id) : 0), "", state, size,
           (long long)requests, idle);
}

int cmd_ps(cmd_line *line)
{
    rv_config *config = NULL;
    json_t *models = NULL, *m;
    size_t i;
    rv_err e = cmd_config(line, &config);
    if (!e) {
        e = ask_models(config, &models);
    }
    if (!e && !line->json) {
        printf("%-20s %-8s %10s %9s %10s\n", "MODEL", "STATE", "MEMORY", "REQUESTS", "IDLE");
    }
    json_array_foreach(models, i, m)
    {
        print_model(line, m);
    }
    json_decref(models);
    rv_config_free(config);
    return e ? cmd_fail(e) : CMD_DONE;
}
