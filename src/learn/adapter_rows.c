#include "learn/adapter_rows.h"
#include "base/file.h"

#include <stdlib.h>
#include <string.h>

enum { FILE_MAX_BYTES = 1 << 30, ROWS_MAX = 1 << 22 };

void rv_adapter_rows_init(rv_adapter_rows *rows, const rv_alloc *mem, const rv_tok *tok,
                          rv_chat_family family, size_t max_tokens)
{
    *rows = (rv_adapter_rows){ .mem = mem, .tok = tok, .family = family, .max_tokens = max_tokens };
}

void rv_adapter_rows_deinit(rv_adapter_rows *rows)
{
    for (size_t i = 0; i < rows->n; i++) {
        rv_free(rows->mem, rows->at[i].ids);
    }
    rv_free(rows->mem, rows->at);
    rows->at = NULL;
    rows->n = rows->room = 0;
}

static rv_err keep(rv_adapter_rows *rows, const rv_ids *ids, size_t first, size_t line)
{
    if (ids->n > rows->max_tokens) {
        return rv_fail(RV_E_TOO_LARGE, "a row of %zu tokens, at most %zu are taken", ids->n,
                       rows->max_tokens);
    }
    if (rows->n == rows->room) {
        size_t room = rows->room ? 2 * rows->room : 64;
        rv_adapter_row *at = room <= ROWS_MAX ? rv_resize(rows->mem, rows->at, room * sizeof *at) : NULL;
        if (!at) {
            return rv_fail(RV_E_NOMEM, "no memory for %zu rows", room);
        }
        rows->at = at;
        rows->room = room;
    }
    int32_t *copy = rv_new_array(rows->mem, ids->n, sizeof *copy);
    if (!copy) {
        return rv_fail(RV_E_NOMEM, "no memory for a row");
    }
    memcpy(copy, ids->at, ids->n * sizeof *copy);
    rows->at[rows->n++] = (rv_adapter_row){ .ids = copy, .n = ids->n, .first = first, .line = line };
    return RV_OK;
}

static rv_err encode_prompt(const rv_adapter_rows *rows, const json_t *messages, const char *prompt, size_t n,
                            rv_ids *ids)
{
    if (messages) {
        rv_text text;
        rv_text_init(&text, rows->mem, (size_t)1 << 24);
        rv_chat_options how = { .add_generation_prompt = true };
        rv_err e = rows->family == RV_CHAT_NONE
                       ? rv_fail(RV_E_ARG, "messages: this model has no chat format; use prompt")
                       : rv_chat_render(rows->tok, rows->family, messages, NULL, how, &text, ids);
        rv_text_deinit(&text);
        return e;
    }
    if (rv_tok_adds_bos(rows->tok)) {
        RV_TRY(rv_ids_add(ids, rv_tok_bos(rows->tok)));
    }
    return rv_tok_encode(rows->tok, prompt, n, RV_TOK_SPECIAL, ids);
}

static rv_err add(rv_adapter_rows *rows, const json_t *messages, const char *prompt, size_t n_prompt,
                  const char *answer, size_t n_answer, size_t line)
{
    rv_ids ids;
    rv_ids_init(&ids, rows->mem, (size_t)1 << 24);
    rv_err e = encode_prompt(rows, messages, prompt, n_prompt, &ids);
    size_t first = ids.n;
    if (!e && first == 0) {
        e = rv_fail(RV_E_ARG, "the prompt is empty");
    }
    if (!e) {
        e = rv_tok_encode(rows->tok, answer, n_answer, RV_TOK_PLAIN, &ids);
    }
    int32_t end = rv_tok_find(rows->tok, messages ? "<|im_end|>" : "<|endoftext|>");
    if (!e && end >= 0) {
        e = rv_ids_add(&ids, end);
    }
    if (!e && ids.n == first) {
        e = rv_fail(RV_E_ARG, "answer: it is empty");
    }
    if (!e) {
        e = keep(rows, &ids, first, line);
    }
    rv_ids_deinit(&ids);
    return e;
}

rv_err rv_adapter_rows_add(rv_adapter_rows *rows, const json_t *object, size_t line)
{
    static const char *const known[] = { "prompt", "messages", "answer", "cell", "id" };
    json_t *messages = NULL;
    const char *prompt = NULL, *answer = NULL, *key;
    size_t n_prompt = 0, n_answer = 0;
    json_t *value;
    if (!json_is_object(object)) {
        return rv_fail(RV_E_ARG, "expected an object");
    }
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        bool is_known = false;
        for (size_t i = 0; i < RV_COUNT(known); i++) {
            is_known |= strcmp(key, known[i]) == 0;
        }
        if (!is_known) {
            return rv_fail(RV_E_ARG, "unknown field `%.64s`, expected prompt or messages, and answer", key);
        }
    }
    RV_TRY(rv_json_get_array(object, "messages", &messages));
    RV_TRY(rv_json_get_string(object, "prompt", &prompt, &n_prompt));
    RV_TRY(rv_json_need_string(object, "answer", &answer, &n_answer));
    if (!messages == !prompt) {
        return rv_fail(RV_E_ARG, "expected either prompt or messages");
    }
    if (n_answer == 0) {
        return rv_fail(RV_E_ARG, "answer: it is empty");
    }
    return add(rows, messages, prompt, n_prompt, answer, n_answer, line);
}

rv_err rv_adapter_rows_pair(rv_adapter_rows *rows, const char *question, const char *answer, size_t line)
{
    if (rows->family == RV_CHAT_NONE) {
        return add(rows, NULL, question, strlen(question), answer, strlen(answer), line);
    }
    json_t *messages = json_pack("[{s:s, s:s}]", "role", "user", "content", question);
    rv_err e = messages ? add(rows, messages, NULL, 0, answer, strlen(answer), line)
                        : rv_fail(RV_E_ARG, "a question that is not UTF-8, or no memory");
    json_decref(messages);
    return e;
}

rv_err rv_adapter_rows_read(rv_adapter_rows *rows, const char *path)
{
    char *text = NULL;
    size_t n = 0, line = 0, before = rows->n;
    RV_TRY(rv_file_read(rows->mem, path, FILE_MAX_BYTES, &text, &n));
    rv_err e = RV_OK;
    for (size_t at = 0, end; at < n && !e; at = end + 1) {
        const char *newline = memchr(text + at, '\n', n - at);
        end = newline ? (size_t)(newline - text) : n;
        rv_str row = rv_str_trim(rv_str_of(text + at, end - at));
        line++;
        if (row.n == 0) {
            continue;
        }
        json_t *object = NULL;
        e = rv_json_parse(row.at, row.n, &object);
        if (!e) {
            e = rv_adapter_rows_add(rows, object, line);
        }
        json_decref(object);
        if (e) {
            e = rv_fail(e, "%s: line %zu: %s", path, line, rv_err_text());
        }
    }
    rv_free(rows->mem, text);
    if (!e && rows->n == before) {
        e = rv_fail(RV_E_ARG, "%s: it holds no rows", path);
    }
    return e;
}

static int by_hash(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b; /* hash, place */
    return x[0] != y[0] ? (x[0] < y[0] ? -1 : 1) : x[1] < y[1] ? -1 : x[1] > y[1];
}

rv_err rv_adapter_rows_split(rv_adapter_rows *rows, double share, uint64_t seed, size_t *held)
{
    uint64_t *order = rv_new_array(rows->mem, 2 * rows->n, sizeof *order);
    rv_adapter_row *at = rv_new_array(rows->mem, rows->room, sizeof *at);
    if (!order || !at) {
        rv_free(rows->mem, order);
        rv_free(rows->mem, at);
        return rv_fail(RV_E_NOMEM, "no memory for %zu rows", rows->n);
    }
    for (size_t i = 0; i < rows->n; i++) {
        order[2 * i] = rv_hash64(rows->at[i].ids, rows->at[i].first * sizeof(int32_t), seed);
        order[2 * i + 1] = i;
    }
    qsort(order, rows->n, 2 * sizeof *order, by_hash);
    size_t n = (size_t)(share * (double)rows->n);
    n = share > 0 && n == 0 ? 1 : n;
    while (n > 0 && n < rows->n && order[2 * n] == order[2 * n - 2]) {
        n++;
    }
    for (size_t i = 0; i < rows->n; i++) {
        at[i] = rows->at[order[2 * i + 1]];
    }
    rv_free(rows->mem, order);
    rv_free(rows->mem, rows->at);
    rows->at = at;
    if (n >= rows->n) {
        return rv_fail(RV_E_ARG, "%zu rows are too few to hold some of them out", rows->n);
    }
    *held = n;
    return RV_OK;
}
