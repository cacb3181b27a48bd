/* Byte-level BPE tokenizer of the LFM2 family, read from a GGUF file. Linear-ish in the text: a hostile megabyte of one
 * letter costs little more than a megabyte of prose. */
#ifndef RV_MODEL_TOK_H
#define RV_MODEL_TOK_H
#include "model/gguf.h"

typedef struct rv_tok rv_tok;

/**
 * rv_tok_open - read and check vocabulary, merges and special ids. Everything is copied: the file may be closed after.
 *
 * out  the caller's, rv_tok_close
 *
 * Errors:  RV_E_FORMAT names key, index, found, expected.  RV_E_UNSUPPORTED another kind of tokenizer.  RV_E_NOMEM.
 * Threads: the result is immutable, any thread.
 */
rv_err rv_tok_open(const rv_alloc *mem, const rv_gguf *g, rv_tok **out) RV_MUST_CHECK;
void rv_tok_close(rv_tok *tok); /* accepts NULL */

size_t rv_tok_count(const rv_tok *tok);
/** rv_tok_hash - of the bytes and the kind of every token, in order: equal vocabularies have equal ones. */
uint64_t rv_tok_hash(const rv_tok *tok);
int32_t rv_tok_bos(const rv_tok *tok); /* -1: none */
/** rv_tok_adds_bos - a prompt begins with bos; a rendered chat already does. */
bool rv_tok_adds_bos(const rv_tok *tok);
/** rv_tok_is_end - eos of the file, <|endoftext|> or <|im_end|>: generation stops there. */
bool rv_tok_is_end(const rv_tok *tok, int32_t id);
bool rv_tok_is_control(const rv_tok *tok, int32_t id);
/** rv_tok_find - id of a token by its text in the file ("<|im_start|>"), or -1. */
int32_t rv_tok_find(const rv_tok *tok, const char *text);

typedef enum rv_tok_special {
    RV_TOK_PLAIN,  /* control texts are ordinary text: for whatever a user wrote */
    RV_TOK_SPECIAL /* control texts become their ids */
} rv_tok_special;

/* Growable list of ids with a maximum; past it RV_E_TOO_LARGE. */
typedef struct rv_ids {
    const rv_alloc *mem;
    int32_t *at;
    size_t n, room, max;
} rv_ids;
void rv_ids_init(rv_ids *ids, const rv_alloc *mem, size_t max);
void rv_ids_deinit(rv_ids *ids);
rv_err rv_ids_add(rv_ids *ids, int32_t id) RV_MUST_CHECK;

/**
 * rv_tok_encode - append the ids of text to out; no BOS. Malformed UTF-8 is tokenised byte by byte, so decoding gives
 * back exactly the bytes of the text.
 *
 * Errors:  RV_E_TOO_LARGE more ids than out->max.  RV_E_NOMEM.  After either out is as before.
 * Threads: any thread, each with its own out.
 */
rv_err rv_tok_encode(const rv_tok *tok, const char *text, size_t n, rv_tok_special special,
                     rv_ids *out) RV_MUST_CHECK;
/* A stretch of a text and how to read control texts in it. */
typedef struct rv_tok_span {
    size_t n;
    rv_tok_special special;
} rv_tok_span;

/**
 * rv_tok_encode_spans - the same for a text of spans, back to back: a control text becomes its id only inside one span
 * of RV_TOK_SPECIAL. Borders of spans are no borders of tokens, so the ids differ from those of the whole text in one
 * piece only where a control text was kept from being one.
 */
rv_err rv_tok_encode_spans(const rv_tok *tok, const char *text, const rv_tok_span *spans, size_t n_spans,
                           rv_ids *out) RV_MUST_CHECK;
/** rv_tok_bytes - the bytes a token stands for (control tokens: their literal text). Valid as long as tok. */
rv_str rv_tok_bytes(const rv_tok *tok, int32_t id);
/** rv_tok_decode - append the bytes of ids; control tokens are left out unless with_control. */
void rv_tok_decode(const rv_tok *tok, const int32_t *ids, size_t n, bool with_control, rv_text *out);
#endif
