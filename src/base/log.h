/* Log: one line per event to stderr, logfmt or JSON. Values are escaped, so text from outside cannot forge a line. */
#ifndef RV_BASE_LOG_H
#define RV_BASE_LOG_H
#include <stdbool.h>
#include "base/err.h"

typedef enum rv_log_level { RV_LOG_ERROR, RV_LOG_WARN, RV_LOG_INFO, RV_LOG_DEBUG } rv_log_level;

/** rv_log_setup - once, before threads start. json: JSON lines instead of logfmt. */
void rv_log_setup(rv_log_level level, bool json);
bool rv_log_parse_level(const char *text, rv_log_level *out);

/**
 * rv_log - event is a short fixed name ("http.request"); then pairs of key, value strings, ended by NULL:
 *     rv_log(RV_LOG_INFO, "server.ready", "address", addr, "data", dir, (char *)NULL);
 * Threads: any thread, one write per line.
 */
void rv_log(rv_log_level level, const char *event, ...) __attribute__((sentinel));
#endif
