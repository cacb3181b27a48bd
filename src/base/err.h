/* Errors. A function that can fail because of the world returns rv_err; the sentence that explains it is kept for the
 * calling thread and read with rv_err_text(). Codes are few: one exists only when a caller acts on it differently. */
#ifndef RV_BASE_ERR_H
#define RV_BASE_ERR_H

#include <stdarg.h>
#include <stddef.h>

#define RV_MUST_CHECK         __attribute__((warn_unused_result))
#define RV_PRINTF(text, args) __attribute__((format(printf, text, args)))
#define RV_COUNT(array)       (sizeof(array) / sizeof((array)[0]))

/* X(name, HTTP status, OpenAI error type, short text) */
#define RV_ERR_MAP(X)                                                                                        \
    X(NOMEM, 503, "server_error", "out of memory")                                                           \
    X(IO, 500, "server_error", "reading or writing failed")                                                  \
    X(FORMAT, 400, "invalid_request_error", "malformed input")                                               \
    X(ARG, 400, "invalid_request_error", "invalid argument")                                                 \
    X(CONTEXT, 400, "exceed_context_size_error", "the prompt does not fit the context")                      \
    X(NOT_FOUND, 404, "invalid_request_error", "not found")                                                  \
    X(TOO_LARGE, 413, "invalid_request_error", "too large")                                                  \
    X(LIMIT, 429, "rate_limit_error", "too many, try again later")                                           \
    X(FULL, 503, "server_error", "no room left, try again later")                                            \
    X(NO_SPACE, 507, "server_error", "the disk is full")                                                     \
    X(BUSY, 503, "server_error", "in use by another process")                                                \
    X(CORRUPT, 500, "server_error", "stored data is damaged")                                                \
    X(CANCELLED, 499, "server_error", "cancelled")                                                           \
    X(TIMEOUT, 504, "server_error", "took too long")                                                         \
    X(CONFIG, 500, "server_error", "wrong configuration")                                                    \
    X(UNSUPPORTED, 501, "server_error", "not supported")

typedef enum rv_err {
    RV_OK = 0,
#define RV_ERR_ENUM(name, status, type, text) RV_E_##name,
    RV_ERR_MAP(RV_ERR_ENUM)
#undef RV_ERR_ENUM
} rv_err;

/**
 * rv_fail - keep the explanation for this thread and return code, so that the sentence is written once, where the
 * facts are at hand: what, which, found, expected, what to do next. At most 1023 bytes are kept; control bytes
 * and malformed UTF-8 are escaped, because names from files end up here.
 * Threads: any thread; the text belongs to the thread.
 */
rv_err rv_fail(rv_err code, const char *format, ...) RV_PRINTF(2, 3);

/** rv_err_text - the last sentence kept on this thread; "" when none. Valid until the next rv_fail of this thread. */
const char *rv_err_text(void);

/** rv_err_set_text - put back a sentence that crossed threads in a job's own struct. Returns code. */
rv_err rv_err_set_text(rv_err code, const char *text);

/** rv_err_name - "NOMEM"; rv_err_http - HTTP status; rv_err_type - OpenAI error type. Immutable, any thread. */
const char *rv_err_name(rv_err code);
int rv_err_http(rv_err code);
const char *rv_err_type(rv_err code);

#define RV_TRY(call)                                                                                         \
    do {                                                                                                     \
        rv_err rv_try_e = (call);                                                                            \
        if (rv_try_e) {                                                                                      \
            return rv_try_e;                                                                                 \
        }                                                                                                    \
    } while (0)

#endif
