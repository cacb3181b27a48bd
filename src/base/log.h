/* Log: one line per event to stderr, logfmt or JSON. Values are escaped, so text from outside cannot forge a line. */
#ifndef RV_BASE_LOG_H
#define RV_BASE_LOG_H
#include "base/err.h"
#include <stdbool.h>

typedef enum rv_log_level { RV_LOG_ERROR, RV_LOG_WARN, RV_LOG_INFO, RV_LOG_DEBUG } rv_log_level;

/** rv_log_setup - once, before threads start. json: JSON lines instead of logfmt. Until then: info and above, logfmt. */
void rv_log_setup(rv_log_level level, bool json);

/** rv_log_parse_level - error, warn, info or debug; false and *out untouched for anything else. */
bool rv_log_parse_level(const char *text, rv_log_level *out);

/**
 * rv_log - event is a short fixed name ("http.request"); then pairs of key, value strings, ended by NULL:
 *     rv_log(RV_LOG_INFO, "server.ready", "address", addr, "data", dir, (char *)NULL);
 * Keys are fixed names too. Values are cut at 4 KiB; NULL is an empty one. A line over 64 KiB becomes event=log.lost.
 * Threads: any thread, one write per line.
 */
void rv_log(rv_log_level level, const char *event, ...) __attribute__((sentinel));
#endif
