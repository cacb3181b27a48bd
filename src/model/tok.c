/* Tokens are kept as the bytes they stand for, not in the printable alphabet of the file, so text is looked up as it is.
 * Text is cut at special tokens (a sorted list, narrowed byte by byte), then into pieces, then each piece is either a
 * token itself or merged: pairs wait in a heap by (rank, place), so a piece of n bytes costs n log n whatever it holds.
 * Merges work on ids: opening checks that both sides and the result of each are tokens, and that every byte is one. */
#include "model/tok.h"
#include "model/gguf_priv.h"
#include "model/tok_priv.h"

#include "base/rng.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TOKENS        (1u << 20)
#define MAX_MERGES        (1u << 20)
#define MAX_TOKEN_BYTES   1024 /* real vocabularies stay below 256 */
#define MAX_SPECIAL_BYTES 128  /* bounds what one position of a text can cost */

/* The file's own numbers. 6, one byte as "<0x41>", belongs to another kind of vocabulary. */
typedef enum token_type { NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED } token_type;

/* Two name spaces: what merges make, and what stands for its literal text. */
typedef enum space { PIECE, LITERAL } space;

typedef struct merge {
    int32_t left, right, result; /* the place in the list is the rank */
} merge;

typedef struct special_token {
    rv_str text;
    int32_t id;
} special_token;

typedef struct specials {
    special_token *sorted; /* by bytes, a prefix before what it begins */
    size_t n;
    bool starts[256];
} specials;

struct rv_tok {
    const rv_alloc *mem;
    size_t n_tokens, n_merges, longest;
    char *bytes;     /* all tokens, back to back */
    uint32_t *start; /* [n_tokens + 1] into bytes */
    uint8_t *type, *spaces;
    uint64_t seed;
    uint32_t *token_slots, *merge_slots; /* open addressing; 0 free, else id + 1 or rank + 1 */
    size_t token_mask, merge_mask;
    merge *merges;
    specials cuts[2]; /* by rv_tok_special: user-defined; those and control */
    int32_t byte_id[256];
    int32_t bos, ends[3];
    bool adds_bos;
};

/* ---- the alphabet ---- */

/* The byte a character of the alphabet stands for, or -1: printable Latin-1 is itself, the other 68 bytes follow from
 * U+0100 in their order. */
static int byte_of(uint32_t code)
{
    if ((code >= 33 && code <= 126) || (code >= 161 && code <= 172) || (code >= 174 && code <= 255)) {
        return (int)code;
    }
    if (code < 256 || code >= 256 + 68) {
        return -1;
    }
    int k = (int)code - 256;
    return k < 33 ? k : k < 67 ? 127 + k - 33 : 173;
}

/* Bytes of a text in the alphabet into out[text.n]; false when some character is not of it. */
static bool decode_alphabet(rv_str text, char *out, size_t *n)
{
    size_t k = 0;
    for (size_t at = 0; at < text.n;) {
        uint32_t code;
        size_t length = rv_utf8_decode(text.at + at, text.n - at, &code);
        int byte = length ? byte_of(code) : -1;
        if (byte < 0) {
            return false;
        }
        out[k++] = (char)byte;
        at += length;
    }
    *n = k;
    return true;
}

/* ---- tables ---- */

static rv_str bytes_of(const rv_tok *tok, size_t id)
{
    return rv_str_of(tok->bytes + tok->start[id], tok->start[id + 1] - tok->start[id]);
}

static uint32_t *token_slot(const rv_tok *tok, space where, rv_str bytes)
{
    size_t at = rv_hash64(bytes.at, bytes.n, tok->seed + where) & tok->token_mask;
    for (; tok->token_slots[at]; at = (at + 1) & tok->token_mask) {
        size_t id = tok->token_slots[at] - 1;
        rv_str have = bytes_of(tok, id);
        if (tok->spaces[id] == where && have.n == bytes.n && memcmp(have.at, bytes.at, bytes.n) == 0) {
            break;
        }
    }
    return &tok->token_slots[at];
}

static int32_t find_token(const rv_tok *tok, space where, rv_str bytes)
{
    return (int32_t)*token_slot(tok, where, bytes) - 1;
}

/* By the text in the file, whichever space it fell into. */
static int32_t find_text(const rv_tok *tok, rv_str text)
{
    char bytes[MAX_TOKEN_BYTES];
    size_t n;
    int32_t id = find_token(tok, LITERAL, text);
    if (id < 0 && text.n <= sizeof bytes && decode_alphabet(text, bytes, &n)) {
        id = find_token(tok, PIECE, rv_str_of(bytes, n));
    }
    return id;
}

static uint32_t *merge_slot(const rv_tok *tok, int32_t left, int32_t right)
{
    uint64_t key = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) ^ tok->seed;
    key = (key ^ key >> 32) * 0x9e3779b97f4a7c15u;
    key = (key ^ key >> 29) * (tok->seed | 1);
    size_t at = (key ^ key >> 32) & tok->merge_mask;
    for (; tok->merge_slots[at]; at = (at + 1) & tok->merge_mask) {
        const merge *m = &tok->merges[tok->merge_slots[at] - 1];
        if (m->left == left && m->right == right) {
            break;
        }
    }
    return &tok->merge_slots[at];
}

static size_t slots_for(size_t n)
{
    size_t room = 16;
    while (room < 2 * n) {
        room *= 2;
    }
    return room;
}

/* ---- opening ---- */

static rv_err check_kind(const rv_gguf *g)
{
    static const char *const same_rule[] = { "lfm2", "llama-bpe", "llama3", "llama-v3" };
    rv_str model, pre;
    RV_TRY(rv_gguf_get_string(g, "tokenizer.ggml.model", &model, NULL));
    if (!rv_str_eq(model, "gpt2")) {
        return rv_fail(RV_E_UNSUPPORTED, "%s: tokenizer.ggml.model is '%.*s', supported is 'gpt2'",
                       rv_gguf_path(g), RV_SHOWN(model));
    }
    RV_TRY(rv_gguf_get_string(g, "tokenizer.ggml.pre", &pre, NULL));
    for (size_t i = 0; i < RV_COUNT(same_rule); i++) {
        if (rv_str_eq(pre, same_rule[i])) {
            return RV_OK;
        }
    }
    return rv_fail(RV_E_UNSUPPORTED, "%s: tokenizer.ggml.pre is '%.*s', supported is 'lfm2'", rv_gguf_path(g),
                   RV_SHOWN(pre));
}

static rv_err bad_token(const rv_gguf *g, size_t id, rv_str text, const char *what)
{
    return rv_fail(RV_E_FORMAT, "%s: tokenizer.ggml.tokens[%zu] '%.*s' %s", rv_gguf_path(g), id,
                   RV_SHOWN(text), what);
}

static rv_err read_token(rv_tok *tok, const rv_gguf *g, size_t id, rv_str text, uint64_t type)
{
    char bytes[MAX_TOKEN_BYTES];
    size_t n;
    if (text.n == 0) {
        return bad_token(g, id, text, "is empty: length 0");
    }
    if (text.n > MAX_TOKEN_BYTES) {
        return bad_token(g, id, text, "is too long: at most 1024 bytes are allowed");
    }
    if (!rv_utf8_valid(text.at, text.n)) {
        return bad_token(g, id, text, "is not valid UTF-8");
    }
    if (type < NORMAL || type > UNUSED) {
        return rv_fail(RV_E_FORMAT, "%s: tokenizer.ggml.token_type[%zu] is %lld, expected 1 to 5",
                       rv_gguf_path(g), id, (long long)type);
    }
    bool special = type == CONTROL || type == USER_DEFINED;
    if (special && text.n > MAX_SPECIAL_BYTES) {
        return bad_token(g, id, text, "is too long: a control or user-defined token has at most 128 bytes");
    }
    if (find_text(tok, text) >= 0) {
        return bad_token(g, id, text, "is a duplicate: an earlier token has the same text");
    }
    space where = type == NORMAL && decode_alphabet(text, bytes, &n) ? PIECE : LITERAL;
    if (where == LITERAL) {
        memcpy(bytes, text.at, text.n);
        n = text.n;
    }
    memcpy(tok->bytes + tok->start[id], bytes, n);
    tok->start[id + 1] = tok->start[id] + (uint32_t)n;
    tok->type[id] = (uint8_t)type;
    tok->spaces[id] = (uint8_t)where;
    tok->longest = n > tok->longest ? n : tok->longest;
    *token_slot(tok, where, bytes_of(tok, id)) = (uint32_t)id + 1;
    return RV_OK;
}

static rv_err read_tokens(rv_tok *tok, const rv_gguf *g)
{
    const rv_gguf_value *tokens, *kinds;
    RV_TRY(rv_gguf_get_array(g, "tokenizer.ggml.tokens", RV_GGUF_STRING, &tokens, NULL));
    RV_TRY(rv_gguf_get_array(g, "tokenizer.ggml.token_type", RV_GGUF_U64, &kinds, NULL));
    if (tokens->count < 1 || tokens->count > MAX_TOKENS) {
        return rv_fail(RV_E_FORMAT, "%s: tokenizer.ggml.tokens has %llu entries, expected 1 to %u",
                       rv_gguf_path(g), (unsigned long long)tokens->count, MAX_TOKENS);
    }
    if (kinds->count != tokens->count) {
        return rv_fail(RV_E_FORMAT,
                       "%s: tokenizer.ggml.token_type has %llu entries, expected %llu as in tokens",
                       rv_gguf_path(g), (unsigned long long)kinds->count, (unsigned long long)tokens->count);
    }
    size_t n = (size_t)tokens->count;
    tok->token_mask = slots_for(n) - 1;
    tok->bytes = rv_new(tok->mem, tokens->bytes); /* decoded they are never longer than in the file */
    tok->start = rv_new_array(tok->mem, n + 1, sizeof *tok->start);
    tok->type = rv_new_array(tok->mem, n, sizeof *tok->type);
    tok->spaces = rv_new_array(tok->mem, n, sizeof *tok->spaces);
    tok->token_slots = rv_new_array(tok->mem, tok->token_mask + 1, sizeof *tok->token_slots);
    if (!tok->bytes || !tok->start || !tok->type || !tok->spaces || !tok->token_slots) {
        return rv_fail(RV_E_NOMEM, "%s: %zu tokens", rv_gguf_path(g), n);
    }
    const uint8_t *at = NULL;
    rv_str text;
    for (size_t id = 0; rv_gguf_array_next(tokens, &at, &text); id++) {
        RV_TRY(read_token(tok, g, id, text, rv_gguf_array_u64(kinds, id)));
        tok->n_tokens++;
    }
    for (int b = 0; b < 256; b++) {
        char byte = (char)b;
        tok->byte_id[b] = find_token(tok, PIECE, rv_str_of(&byte, 1));
        if (tok->byte_id[b] < 0) {
            return rv_fail(RV_E_FORMAT, "%s: tokenizer.ggml.tokens has no token for the byte 0x%02x",
                           rv_gguf_path(g), b);
        }
    }
    return RV_OK;
}

static rv_err bad_merge(const rv_gguf *g, size_t rank, rv_str text, const char *what)
{
    return rv_fail(RV_E_FORMAT, "%s: tokenizer.ggml.merges[%zu] '%.*s' %s", rv_gguf_path(g), rank,
                   RV_SHOWN(text), what);
}

static rv_err read_merge(rv_tok *tok, const rv_gguf *g, size_t rank, rv_str text)
{
    char bytes[2 * MAX_TOKEN_BYTES];
    size_t n_left, n_right;
    const char *gap = memchr(text.at, ' ', text.n);
    rv_str left = rv_str_of(text.at, gap ? (size_t)(gap - text.at) : 0);
    rv_str right = rv_str_of(gap ? gap + 1 : text.at, gap ? text.n - left.n - 1 : 0);
    if (!left.n || !right.n || memchr(right.at, ' ', right.n)) {
        return bad_merge(g, rank, text, "is a malformed merge, expected two tokens and a space between");
    }
    if (left.n > MAX_TOKEN_BYTES || right.n > MAX_TOKEN_BYTES || !decode_alphabet(left, bytes, &n_left) ||
        !decode_alphabet(right, bytes + n_left, &n_right)) {
        return bad_merge(g, rank, text, "is a merge of what cannot be tokens");
    }
    merge *m = &tok->merges[rank];
    m->left = find_token(tok, PIECE, rv_str_of(bytes, n_left));
    m->right = find_token(tok, PIECE, rv_str_of(bytes + n_left, n_right));
    m->result = find_token(tok, PIECE, rv_str_of(bytes, n_left + n_right));
    if (m->left < 0 || m->right < 0) {
        return bad_merge(g, rank, text, "is a merge of pieces that are not tokens");
    }
    if (m->result < 0) {
        return bad_merge(g, rank, text, "is a merge whose result is not a token");
    }
    uint32_t *slot = merge_slot(tok, m->left, m->right);
    *slot = *slot ? *slot : (uint32_t)rank + 1; /* the same pair again: the better rank stays */
    return RV_OK;
}

static rv_err read_merges(rv_tok *tok, const rv_gguf *g)
{
    const rv_gguf_value *merges;
    RV_TRY(rv_gguf_get_array(g, "tokenizer.ggml.merges", RV_GGUF_STRING, &merges, NULL));
    if (merges->count > MAX_MERGES) {
        return rv_fail(RV_E_FORMAT, "%s: tokenizer.ggml.merges has %llu entries, expected at most %u",
                       rv_gguf_path(g), (unsigned long long)merges->count, MAX_MERGES);
    }
    tok->n_merges = (size_t)merges->count;
    tok->merge_mask = slots_for(tok->n_merges) - 1;
    tok->merges = rv_new_array(tok->mem, tok->n_merges + 1, sizeof *tok->merges);
    tok->merge_slots = rv_new_array(tok->mem, tok->merge_mask + 1, sizeof *tok->merge_slots);
    if (!tok->merges || !tok->merge_slots) {
        return rv_fail(RV_E_NOMEM, "%s: %zu merges", rv_gguf_path(g), tok->n_merges);
    }
    const uint8_t *at = NULL;
    rv_str text;
    for (size_t rank = 0; rv_gguf_array_next(merges, &at, &text); rank++) {
        RV_TRY(read_merge(tok, g, rank, text));
    }
    return RV_OK;
}

static int by_bytes(const void *a, const void *b)
{
    rv_str x = ((const special_token *)a)->text, y = ((const special_token *)b)->text;
    int order = memcmp(x.at, y.at, x.n < y.n ? x.n : y.n);
    return order ? order : (x.n > y.n) - (x.n < y.n);
}

static rv_err collect_specials(rv_tok *tok, rv_tok_special which)
{
    specials *s = &tok->cuts[which];
    for (int pass = 0; pass < 2; pass++) { /* count, then fill */
        s->n = 0;
        for (size_t id = 0; id < tok->n_tokens; id++) {
            if (tok->type[id] != USER_DEFINED && !(which == RV_TOK_SPECIAL && tok->type[id] == CONTROL)) {
                continue;
            }
            if (pass == 1) {
                s->sorted[s->n] = (special_token){ bytes_of(tok, id), (int32_t)id };
                s->starts[(uint8_t)s->sorted[s->n].text.at[0]] = true;
            }
            s->n++;
        }
        if (pass == 0) {
            s->sorted = rv_new_array(tok->mem, s->n + 1, sizeof *s->sorted);
            if (!s->sorted) {
                return rv_fail(RV_E_NOMEM, "%zu special tokens", s->n);
            }
        }
    }
    qsort(s->sorted, s->n, sizeof *s->sorted, by_bytes);
    return RV_OK;
}

static rv_err read_id(const rv_tok *tok, const rv_gguf *g, const char *key, int32_t *out)
{
    uint64_t id;
    bool found;
    RV_TRY(rv_gguf_get_u64(g, key, 0, tok->n_tokens - 1, &id, &found));
    *out = found ? (int32_t)id : -1;
    return RV_OK;
}

static rv_err read_vocabulary(rv_tok *tok, const rv_gguf *g)
{
    int32_t padding;
    bool found;
    RV_TRY(check_kind(g));
    RV_TRY(rv_random_bytes(&tok->seed, sizeof tok->seed)); /* so that no file can bring texts that collide */
    RV_TRY(read_tokens(tok, g));
    RV_TRY(read_merges(tok, g));
    RV_TRY(collect_specials(tok, RV_TOK_PLAIN));
    RV_TRY(collect_specials(tok, RV_TOK_SPECIAL));
    RV_TRY(read_id(tok, g, "tokenizer.ggml.bos_token_id", &tok->bos));
    RV_TRY(read_id(tok, g, "tokenizer.ggml.eos_token_id", &tok->ends[0]));
    RV_TRY(read_id(tok, g, "tokenizer.ggml.padding_token_id", &padding)); /* checked, not used */
    tok->ends[1] = rv_tok_find(tok, "<|endoftext|>");
    tok->ends[2] = rv_tok_find(tok, "<|im_end|>");
    tok->adds_bos = true;
    RV_TRY(rv_gguf_get_bool(g, "tokenizer.ggml.add_bos_token", &tok->adds_bos, &found));
    tok->adds_bos = tok->adds_bos && tok->bos >= 0;
    return RV_OK;
}

rv_err rv_tok_open(const rv_alloc *mem, const rv_gguf *g, rv_tok **out)
{
    rv_tok *tok = rv_new(mem, sizeof *tok);
    if (!tok) {
        return rv_fail(RV_E_NOMEM, "%s: a tokenizer", rv_gguf_path(g));
    }
    tok->mem = mem;
    rv_err e = read_vocabulary(tok, g);
    if (e) {
        rv_tok_close(tok);
        return e;
    }
    *out = tok;
    return RV_OK;
}

void rv_tok_close(rv_tok *tok)
{
    if (!tok) {
        return;
    }
    rv_free(tok->mem, tok->bytes);
    rv_free(tok->mem, tok->start);
    rv_free(tok->mem, tok->type);
    rv_free(tok->mem, tok->spaces);
    rv_free(tok->mem, tok->token_slots);
    rv_free(tok->mem, tok->merge_slots);
    rv_free(tok->mem, tok->merges);
    rv_free(tok->mem, tok->cuts[RV_TOK_PLAIN].sorted);
    rv_free(tok->mem, tok->cuts[RV_TOK_SPECIAL].sorted);
    rv_free(tok->mem, tok);
}

/* ---- questions ---- */

size_t rv_tok_count(const rv_tok *tok)
{
    return tok->n_tokens;
}

int32_t rv_tok_bos(const rv_tok *tok)
{
    return tok->bos;
}

bool rv_tok_adds_bos(const rv_tok *tok)
{
    return tok->adds_bos;
}

bool rv_tok_is_end(const rv_tok *tok, int32_t id)
{
    return id >= 0 && (id == tok->ends[0] || id == tok->ends[1] || id == tok->ends[2]);
}

bool rv_tok_is_control(const rv_tok *tok, int32_t id)
{
    assert(id >= 0 && (size_t)id < tok->n_tokens);
    return tok->type[id] == CONTROL;
}

uint64_t rv_tok_hash(const rv_tok *tok)
{
    uint64_t hash = rv_hash64(tok->start, (tok->n_tokens + 1) * sizeof *tok->start, tok->n_tokens);
    hash = rv_hash64(tok->bytes, tok->start[tok->n_tokens], hash);
    return rv_hash64(tok->type, tok->n_tokens, hash);
}

int32_t rv_tok_find(const rv_tok *tok, const char *text)
{
    return find_text(tok, rv_str_from(text));
}

rv_str rv_tok_bytes(const rv_tok *tok, int32_t id)
{
    assert(id >= 0 && (size_t)id < tok->n_tokens);
    return bytes_of(tok, (size_t)id);
}

void rv_tok_decode(const rv_tok *tok, const int32_t *ids, size_t n, bool with_control, rv_text *out)
{
    for (size_t i = 0; i < n; i++) {
        if (with_control || !rv_tok_is_control(tok, ids[i])) {
            rv_str bytes = rv_tok_bytes(tok, ids[i]);
            rv_text_add(out, bytes.at, bytes.n);
        }
    }
}

/* ---- lists of ids ---- */

void rv_ids_init(rv_ids *ids, const rv_alloc *mem, size_t max)
{
    *ids = (rv_ids){ .mem = mem, .max = max };
}

void rv_ids_deinit(rv_ids *ids)
{
    rv_free(ids->mem, ids->at);
    *ids = (rv_ids){ .mem = ids->mem, .max = ids->max };
}

rv_err rv_ids_add(rv_ids *ids, int32_t id)
{
    if (ids->n == ids->max) {
        return rv_fail(RV_E_TOO_LARGE, "more than %zu tokens", ids->max);
    }
    if (ids->n == ids->room) {
        size_t room = ids->room ? 2 * ids->room : 256, bytes;
        room = room < ids->max ? room : ids->max;
        int32_t *at = rv_mul_size(room, sizeof *at, &bytes) ? rv_resize(ids->mem, ids->at, bytes) : NULL;
        if (!at) {
            return rv_fail(RV_E_NOMEM, "%zu tokens", room);
        }
        ids->at = at;
        ids->room = room;
    }
    ids->at[ids->n++] = id;
    return RV_OK;
}

/* ---- encoding ---- */

/* What one call of rv_tok_encode works with. Symbols of the piece are a list threaded through an array; a merged symbol
 * stays at the place of its left half. heap holds rank << 32 | place of the left symbol, smallest first; an entry whose
 * pair is gone is found out when it comes up. */
typedef struct symbol {
    int32_t id; /* -1: merged into its left neighbour */
    uint32_t before, after;
} symbol;

#define NONE UINT32_MAX

typedef struct work {
    const rv_tok *tok;
    rv_ids *out;
    symbol *symbols;
    uint64_t *heap;
    size_t room, n_heap;
} work;

static rv_err work_grow(work *w, size_t n)
{
    if (n <= w->room) {
        return RV_OK;
    }
    size_t room = n < 256 ? 256 : n;
    rv_free(w->tok->mem, w->symbols);
    rv_free(w->tok->mem, w->heap);
    w->room = 0;
    w->symbols = rv_new_array(w->tok->mem, room, sizeof *w->symbols);
    w->heap =
        rv_new_array(w->tok->mem, room, 2 * sizeof *w->heap); /* n - 1 pairs, and each merge adds one more */
    if (!w->symbols || !w->heap) {
        return rv_fail(RV_E_NOMEM, "tokenising a piece of %zu bytes", n);
    }
    w->room = room;
    return RV_OK;
}

static void heap_push(work *w, uint64_t x)
{
    size_t at = w->n_heap++;
    while (at > 0 && w->heap[(at - 1) / 2] > x) {
        w->heap[at] = w->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    w->heap[at] = x;
}

static uint64_t heap_pop(work *w)
{
    uint64_t top = w->heap[0], x = w->heap[--w->n_heap];
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < w->n_heap; at = child) {
        if (child + 1 < w->n_heap && w->heap[child + 1] < w->heap[child]) {
            child++;
        }
        if (w->heap[child] >= x) {
            break;
        }
        w->heap[at] = w->heap[child];
    }
    w->heap[at] = x;
    return top;
}

/* Puts the pair that begins at place in line, if it can be merged. */
static void offer(work *w, uint32_t place)
{
    if (place == NONE || w->symbols[place].after == NONE) {
        return;
    }
    uint32_t rank = *merge_slot(w->tok, w->symbols[place].id, w->symbols[w->symbols[place].after].id);
    if (rank) {
        heap_push(w, (uint64_t)(rank - 1) << 32 | place);
    }
}

static rv_err merge_piece(work *w, const char *at, size_t n)
{
    RV_TRY(work_grow(w, n));
    symbol *s = w->symbols;
    for (uint32_t i = 0; i < n; i++) {
        s[i] = (symbol){ w->tok->byte_id[(uint8_t)at[i]], i ? i - 1 : NONE, i + 1 < n ? i + 1 : NONE };
    }
    w->n_heap = 0;
    for (uint32_t i = 0; i < n; i++) {
        offer(w, i);
    }
    while (w->n_heap) {
        uint64_t top = heap_pop(w);
        const merge *m = &w->tok->merges[top >> 32];
        uint32_t left = (uint32_t)top, right = s[left].after;
        if (s[left].id != m->left || right == NONE || s[right].id != m->right) {
            continue;
        }
        s[left].id = m->result;
        s[left].after = s[right].after;
        s[right].id = -1;
        if (s[right].after != NONE) {
            s[s[right].after].before = left;
        }
        offer(w, s[left].before);
        offer(w, left);
    }
    for (uint32_t i = 0; i != NONE; i = s[i].after) {
        RV_TRY(rv_ids_add(w->out, s[i].id));
    }
    return RV_OK;
}

static rv_err encode_plain(work *w, const char *at, size_t n)
{
    while (n > 0) {
        size_t length = rv_tok_split(at, n);
        int32_t id = length <= w->tok->longest ? find_token(w->tok, PIECE, rv_str_of(at, length)) : -1;
        if (id >= 0) {
            RV_TRY(rv_ids_add(w->out, id));
        } else {
            RV_TRY(merge_piece(w, at, length));
        }
        at += length;
        n -= length;
    }
    return RV_OK;
}

/* The longest special token that at[n] begins with. */
static const special_token *match_special(const specials *s, const char *at, size_t n)
{
    const special_token *best = NULL;
    size_t low = 0, high = s->n;
    for (size_t depth = 0; low < high; depth++) {
        if (s->sorted[low].text.n == depth) { /* all the others in the range go on from here */
            best = &s->sorted[low++];
        }
        if (depth == n) {
            break;
        }
        uint8_t wanted = (uint8_t)at[depth];
        for (size_t end = high; low < end;) { /* first with this byte */
            size_t middle = (low + end) / 2;
            if ((uint8_t)s->sorted[middle].text.at[depth] < wanted) {
                low = middle + 1;
            } else {
                end = middle;
            }
        }
        for (size_t begin = low; begin < high;) { /* behind the last */
            size_t middle = (begin + high) / 2;
            if ((uint8_t)s->sorted[middle].text.at[depth] <= wanted) {
                begin = middle + 1;
            } else {
                high = middle;
            }
        }
    }
    return best;
}

/* Cuts at the special tokens of each span; what lies between two cuts is one text, whichever spans it came from. */
static rv_err encode_text(work *w, const char *text, const rv_tok_span *spans, size_t n_spans)
{
    size_t from = 0, at = 0, end = 0;
    for (size_t i = 0; i < n_spans; i++) {
        const specials *cuts = &w->tok->cuts[spans[i].special];
        end += spans[i].n;
        while (at < end) {
            const special_token *found =
                cuts->starts[(uint8_t)text[at]] ? match_special(cuts, text + at, end - at) : NULL;
            if (!found) {
                at++;
                continue;
            }
            RV_TRY(encode_plain(w, text + from, at - from));
            RV_TRY(rv_ids_add(w->out, found->id));
            from = at += found->text.n;
        }
    }
    return encode_plain(w, text + from, end - from);
}

rv_err rv_tok_encode_spans(const rv_tok *tok, const char *text, const rv_tok_span *spans, size_t n_spans,
                           rv_ids *out)
{
    size_t n = 0;
    for (size_t i = 0; i < n_spans; i++) {
        n += spans[i].n;
    }
    /* No token is longer than longest, so such a text cannot fit, and need not be worked through to see that. */
    if (n / tok->longest > out->max - out->n || n >= NONE) {
        return rv_fail(RV_E_TOO_LARGE, "a text of %zu bytes makes more than %zu tokens", n,
                       out->max - out->n);
    }
    size_t before = out->n;
    work w = { .tok = tok, .out = out };
    rv_err e = encode_text(&w, text, spans, n_spans);
    rv_free(tok->mem, w.symbols);
    rv_free(tok->mem, w.heap);
    if (e) {
        out->n = before;
    }
    return e;
}

rv_err rv_tok_encode(const rv_tok *tok, const char *text, size_t n, rv_tok_special special, rv_ids *out)
{
    return rv_tok_encode_spans(tok, text, &(rv_tok_span){ n, special }, 1, out);
}
