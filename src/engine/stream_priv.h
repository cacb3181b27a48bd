/* Bytes of tokens on their way to the reader: whole characters only, nothing that may still become a stop
 * string. What comes out does not depend on how the bytes were cut into tokens. Malformed bytes become U+FFFD
 * each. */
#ifndef RV_ENGINE_STREAM_PRIV_H
#define RV_ENGINE_STREAM_PRIV_H
#include "base/str.h"

#define RV_STOPS_MAX      64
#define RV_STOP_BYTES_MAX 4096

/* How far one stop string stands: Knuth, Morris and Pratt's automaton, one step for each byte of text. */
typedef struct rv_stop {
    const char *text;
    size_t n, matched; /* its first `matched` bytes are the end of the text */
    uint16_t *back;    /* [n] where to go on when the byte after 1 .. n is another one */
} rv_stop;

typedef struct rv_stream {
    const rv_alloc *mem;
    rv_stop stops[RV_STOPS_MAX];
    size_t n_stops;
    uint16_t *tables; /* of all stops */
    rv_text raw;      /* start of a character, or nothing */
    rv_text held;     /* whole characters: given, then not yet given */
    size_t given;
    const char *stop; /* the stop string that was found, or NULL */
} rv_stream;

/** rv_stream_check - RV_E_ARG: a stop string is empty or not UTF-8, too long, or there are too many. */
rv_err rv_stream_check(const char *const *stops, size_t n_stops) RV_MUST_CHECK;
/** rv_stream_init - of checked stops, which stay the caller's and outlive the stream. */
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
