/* A client made of a socket, for tests of the server: what it sends is exactly what the test says. */
#ifndef RV_TESTS_HTTP_CLIENT_H
#define RV_TESTS_HTTP_CLIENT_H
#include "test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { WAIT_MS = 20000 }; /* far beyond what any of it takes */

#define GET(path) "GET " path " HTTP/1.1\r\nHost: localhost\r\n\r\n"

static inline void nap(int ms)
{
    nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000L }, NULL);
}

static inline int dial(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    CHECK(connect(fd, (struct sockaddr *)&to, sizeof to) == 0, "connect: %s", strerror(errno));
    return fd;
}

static inline void say(int fd, const char *text)
{
    size_t n = strlen(text);
    CHECK(write(fd, text, n) == (ssize_t)n, "write: %s", strerror(errno));
}

/** hear - everything up to the end, or until `until` was seen. Valid until the next call. */
static inline const char *hear(int fd, const char *until)
{
    static char buffer[1 << 16];
    size_t n = 0;
    buffer[0] = 0;
    while (n < sizeof buffer - 1 && !(until && strstr(buffer, until))) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        CHECK(poll(&p, 1, WAIT_MS) == 1, "nothing came; so far: %s", buffer);
        ssize_t got = read(fd, buffer + n, sizeof buffer - 1 - n);
        if (got <= 0) {
            break;
        }
        n += (size_t)got;
        buffer[n] = 0;
    }
    return buffer;
}

static inline size_t occurrences(const char *text, const char *word)
{
    size_t n = 0;
    for (const char *at = text; (at = strstr(at, word)) != NULL; at += strlen(word)) {
        n++;
    }
    return n;
}

static inline void expect(const char *text, const char *word)
{
    CHECK(strstr(text, word) != NULL, "no \"%s\" in: %s", word, text);
}
#endif
