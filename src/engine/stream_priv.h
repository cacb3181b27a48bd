/* Bytes of tokens on their way to the reader: whole characters only, nothing that may still become a stop
 * string. What comes out does not depend on how the bytes were cut into tokens. Malformed bytes become U+FFFD
 * each. */
#ifndef RV_ENGINE_STREAM_PRIV_H
#define RV_ENGINE_STREAM_PRIV_H
#include "base/str.h"

typedef struct rv_stream {
    const char *const *stops; /* [n_stops] */
    size_t n_stops;
    rv_text raw;  /* start of a character, or nothing */
    rv_text held; /* whole characters: given, then not yet given */
    size_t given;
    const char *stop; /* the stop string that was found, or NULL */
} rv_stream;

/** rv_stream_check - RV_E_ARG: a stop string is empty or not UTF-8, or there are too many. */
rv_err rv_stream_check(const char *const *stops, size_t n_stops) RV_MUST_CHECK;
/** rv_stream_init - stops stay the caller's and outlive the stream. */
void rv_stream_init(rv_stream *s, const rv_alloc *mem, const char *const *stops, size_t n_stops);
void rv_stream_deinit(rv_stream *s);

/**
 * rv_stream_push - text that may go out now, valid until the next call. After it s->stop may be set: the text
 * ends before that stop string, the one that was complete first (of several at once the longest), and nothing
 * comes after. rv_stream_end - the rest, when no stop string was found; an unfinished character as U+FFFD.
 * Running out of memory shows in rv_stream_failed.
 */
rv_str rv_stream_push(rv_stream *s, const char *bytes, size_t n);
rv_str rv_stream_end(rv_stream *s);
bool rv_stream_failed(const rv_stream *s);
#endif
