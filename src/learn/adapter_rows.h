/* What an adapter is trained on: prompts with the answers they should have had, as tokens of one model. */
#ifndef RV_LEARN_ADAPTER_ROWS_H
#define RV_LEARN_ADAPTER_ROWS_H
#include "base/json.h"
#include "model/chat.h"
#include "model/lfm2_grad.h"
#include "model/tok.h"

typedef struct rv_adapter_row {
    int32_t *ids;    /* [n] prompt, answer, end token */
    size_t n, first; /* first: where the answer begins */
    size_t line;     /* of its file, or as the caller numbers it */
} rv_adapter_row;

typedef struct rv_adapter_rows {
    const rv_alloc *mem;
    const rv_tok *tok;
    rv_chat_family family;
    size_t max_tokens;  /* of one row */
    rv_adapter_row *at; /* [n] */
    size_t n, room;
} rv_adapter_rows;

/** rv_adapter_rows_init - empty; tok outlives it. family: RV_CHAT_NONE takes no messages. */
void rv_adapter_rows_init(rv_adapter_rows *rows, const rv_alloc *mem, const rv_tok *tok,
                          rv_chat_family family, size_t max_tokens);
void rv_adapter_rows_deinit(rv_adapter_rows *rows);

/**
 * rv_adapter_rows_add - one row from {"prompt": text} (completed as it is) or {"messages": [...]} (a chat), and {"answer": text}.
 * "cell" and "id" may be there and are skipped.
 *
 * Errors:  RV_E_ARG a field that is missing, unknown, empty or of the wrong type.  RV_E_TOO_LARGE more than max_tokens.
 *          RV_E_NOMEM.  Those of rv_chat_render.
 */
rv_err rv_adapter_rows_add(rv_adapter_rows *rows, const json_t *object, size_t line) RV_MUST_CHECK;
/** rv_adapter_rows_pair - one row from a question and its answer: a chat when the model has one. Errors as above. */
rv_err rv_adapter_rows_pair(rv_adapter_rows *rows, const char *question, const char *answer,
                            size_t line) RV_MUST_CHECK;
/** rv_adapter_rows_read - all lines of a file; messages begin with its name and the line. RV_E_ARG: it holds no rows. */
rv_err rv_adapter_rows_read(rv_adapter_rows *rows, const char *path) RV_MUST_CHECK;

/**
 * rv_adapter_rows_split - put rows in an order that their prompts and seed decide, and say how many of the first are held out: share
 * of them, at least one when share > 0. Equal prompts stay on one side. RV_E_ARG: one side would be empty.
 */
rv_err rv_adapter_rows_split(rv_adapter_rows *rows, double share, uint64_t seed, size_t *held) RV_MUST_CHECK;
#endif
