/* A table of token vectors in a mapped file (docs/formats/embedder.md). A text is cut into word pieces as BERT does it: words at
 * white space, punctuation and Chinese characters, accents and case dropped, then always the longest piece that the vocabulary
 * has. The vector of a text is the sum of its pieces' rows at length 1; a row's weight is part of its scale.
 *
 * Every component is summed by itself in the order of the text, one IEEE multiply and add at a time: the same text gives the same
 * bits on every machine. */
#include "embed/embed_priv.h"
#include "base/file.h"
#include "base/rng.h"

#include <math.h>
#include <stdint.h>
#include <string.h>
#include <utf8proc.h>

enum {
    HEADER_BYTES = 128,
    NAME_BYTES = 48,
    DIM_MAX = 4096,
    TOKENS_MAX = 1 << 24,
    TOKEN_BYTES = 255,
    LICENCE_MAX = 1 << 20,
    ALIGN = 64,
    WORD_CHARS = 100, /* longer words are unknown, as in BERT */
    WORD_BYTES = 4 * WORD_CHARS,
    FOLD_MAX = 32, /* code points one code point decomposes to; Unicode has at most 4 */
    NO_TOKEN = 0
};
static const char magic[8] = { 'R', 'V', 'E', 'M', 'B', '\r', '\n', 0x1a };

struct rv_static {
    const rv_alloc *mem;
    rv_map map;
    char name[NAME_BYTES + 1];
    size_t dim;
    uint32_t n_tokens, unknown;
    size_t longest;        /* bytes of a token, without the mark of a continuation */
    const uint8_t *starts; /* u32 [n_tokens + 1] */
    const uint8_t *words;  /* bytes of all tokens */
    const uint8_t *scales; /* f32 [n_tokens] */
    const int8_t *rows;    /* [n_tokens][dim] */
    uint32_t *slots;       /* [n_slots] token + 1, by hash; NO_TOKEN: free */
    size_t n_slots;        /* a power of two, at least twice the tokens */
};

static uint32_t u32_at(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint64_t u64_at(const uint8_t *at)
{
    return u32_at(at) | (uint64_t)u32_at(at + 4) << 32;
}

static float f32_at(const uint8_t *at)
{
    uint32_t bits = u32_at(at);
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* ---- the vocabulary ---- */

/* A piece that continues a word is stored as "##" and its letters. */
typedef struct piece {
    const uint8_t *at;
    size_t n;
    bool continues;
} piece;

static piece token_at(const rv_static *s, uint32_t token)
{
    uint32_t from = u32_at(s->starts + 4 * (size_t)token), to = u32_at(s->starts + 4 * (size_t)token + 4);
    piece p = { s->words + from, to - from, false };
    if (p.n > 2 && p.at[0] == '#' && p.at[1] == '#') {
        p = (piece){ p.at + 2, p.n - 2, true };
    }
    return p;
}

/* FNV-1a, because the hashes of all beginnings of a word come out of one pass over it. */
static uint64_t hash_begin(bool continues)
{
    return continues ? 0x9e3779b97f4a7c15u : 0xcbf29ce484222325u;
}

static uint64_t hash_add(uint64_t hash, uint8_t byte)
{
    return (hash ^ byte) * 0x100000001b3u;
}

static size_t slot_of(const rv_static *s, uint64_t hash)
{
    return (size_t)((hash ^ hash >> 29) & (s->n_slots - 1));
}

/* Token + 1, or NO_TOKEN; *slot is where it is or would be. */
static uint32_t find_token(const rv_static *s, piece p, uint64_t hash, size_t *slot)
{
    size_t i = slot_of(s, hash);
    for (; s->slots[i] != NO_TOKEN; i = (i + 1) & (s->n_slots - 1)) {
        piece t = token_at(s, s->slots[i] - 1);
        if (t.n == p.n && t.continues == p.continues && memcmp(t.at, p.at, p.n) == 0) {
            break;
        }
    }
    *slot = i;
    return s->slots[i];
}

static rv_err index_tokens(rv_static *s, const char *path)
{
    for (s->n_slots = 16; s->n_slots < 2 * (size_t)s->n_tokens; s->n_slots *= 2) {
    }
    s->slots = rv_new_array(s->mem, s->n_slots, sizeof *s->slots);
    if (!s->slots) {
        return rv_fail(RV_E_NOMEM, "%s: no room for the vocabulary", path);
    }
    for (uint32_t token = 0; token < s->n_tokens; token++) {
        piece p = token_at(s, token);
        uint64_t hash = hash_begin(p.continues);
        for (size_t i = 0; i < p.n; i++) {
            hash = hash_add(hash, p.at[i]);
        }
        size_t slot;
        uint32_t other = find_token(s, p, hash, &slot);
        if (other != NO_TOKEN) {
            return rv_fail(RV_E_FORMAT, "%s: vocabulary: tokens %u and %u are the same", path, other - 1,
                           token);
        }
        s->slots[slot] = token + 1;
        s->longest = p.n > s->longest ? p.n : s->longest;
    }
    return RV_OK;
}

/* ---- the file ---- */

static size_t aligned(size_t n)
{
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

static rv_err check_name(const char *path, rv_static *s, const uint8_t *at)
{
    memcpy(s->name, at, NAME_BYTES);
    size_t n = strlen(s->name);
    bool good = n > 0 && n < NAME_BYTES && strspn(s->name, "abcdefghijklmnopqrstuvwxyz0123456789.-") == n;
    return good ? RV_OK : rv_fail(RV_E_FORMAT, "%s: name: expected 1 .. 47 of a-z, 0-9, dot and dash", path);
}

static rv_err check_tokens(const char *path, const rv_static *s)
{
    for (uint32_t t = 0; t < s->n_tokens; t++) {
        uint32_t from = u32_at(s->starts + 4 * (size_t)t), to = u32_at(s->starts + 4 * (size_t)t + 4);
        if (to <= from || to - from > TOKEN_BYTES) {
            return rv_fail(RV_E_FORMAT,
                           "%s: vocabulary: token %u goes from byte %u to %u, expected 1 .. %d bytes", path,
                           t, from, to, TOKEN_BYTES);
        }
        float scale = f32_at(s->scales + 4 * (size_t)t);
        if (!(scale >= 0 && scale <= 1e6f)) {
            return rv_fail(RV_E_FORMAT, "%s: scale of token %u is %g, expected 0 .. 1e6", path, t,
                           (double)scale);
        }
    }
    return RV_OK;
}

/* Places and sizes; what they hold is looked at later. */
static rv_err read_header(const char *path, rv_static *s)
{
    const uint8_t *at = s->map.at;
    size_t n = s->map.n;
    if (n < HEADER_BYTES + 8 || memcmp(at, magic, sizeof magic) != 0) {
        return rv_fail(RV_E_FORMAT, "%s: not an embedder file", path);
    }
    uint32_t version = u32_at(at + 8), header = u32_at(at + 12), dim = u32_at(at + 16),
             tokens = u32_at(at + 20);
    uint64_t word_bytes = u64_at(at + 24), licence_at = u64_at(at + 32), licence_bytes = u64_at(at + 40);
    s->unknown = u32_at(at + 48);
    if (version != 1 || header != HEADER_BYTES) {
        return rv_fail(RV_E_FORMAT,
                       "%s: embedder file of version %u with a header of %u bytes, we read 1 with %d", path,
                       version, header, HEADER_BYTES);
    }
    if (dim < 1 || dim > DIM_MAX) {
        return rv_fail(RV_E_FORMAT, "%s: dimension %u, expected 1 .. %d", path, dim, DIM_MAX);
    }
    if (tokens < 1 || tokens > TOKENS_MAX || word_bytes > (uint64_t)tokens * TOKEN_BYTES) {
        return rv_fail(RV_E_FORMAT, "%s: vocabulary of %u tokens in %llu bytes, expected 1 .. %d tokens",
                       path, tokens, (unsigned long long)word_bytes, TOKENS_MAX);
    }
    if (s->unknown >= tokens) {
        return rv_fail(RV_E_FORMAT, "%s: vocabulary: the unknown token is %u of %u", path, s->unknown,
                       tokens);
    }
    if (licence_bytes > LICENCE_MAX) {
        return rv_fail(RV_E_FORMAT, "%s: licence text of %llu bytes, expected at most %d", path,
                       (unsigned long long)licence_bytes, LICENCE_MAX);
    }
    size_t words_at = HEADER_BYTES + 4 * ((size_t)tokens + 1); /* all below 2^37: no overflow */
    size_t scales_at = aligned(words_at + (size_t)word_bytes),
           rows_at = aligned(scales_at + 4 * (size_t)tokens);
    size_t end = rows_at + (size_t)tokens * dim;
    if (licence_at != end || n != end + (size_t)licence_bytes + 8) {
        return rv_fail(
            RV_E_FORMAT,
            "%s: %zu bytes, licence at %llu; dimension %u and a vocabulary of %u tokens make %zu and %zu",
            path, n, (unsigned long long)licence_at, dim, tokens, end + (size_t)licence_bytes + 8, end);
    }
    s->dim = dim;
    s->n_tokens = tokens;
    s->starts = at + HEADER_BYTES;
    s->words = at + words_at;
    s->scales = at + scales_at;
    s->rows = (const int8_t *)at + rows_at;
    if (u32_at(s->starts) != 0 || u32_at(s->starts + 4 * (size_t)tokens) != word_bytes) {
        return rv_fail(RV_E_FORMAT, "%s: vocabulary: does not fill its %llu bytes", path,
                       (unsigned long long)word_bytes);
    }
    return check_name(path, s, at + 56);
}

rv_err rv_static_open(const rv_alloc *mem, const char *path, rv_static **out)
{
    rv_static *s = rv_new(mem, sizeof *s);
    if (!s) {
        return rv_fail(RV_E_NOMEM, "%s: opening", path);
    }
    *s = (rv_static){ .mem = mem };
    rv_err e = rv_file_map(path, &s->map);
    if (!e) {
        e = read_header(path, s);
    }
    if (!e && rv_hash64(s->map.at, s->map.n - 8, 0) != u64_at(s->map.at + s->map.n - 8)) {
        e = rv_fail(RV_E_CORRUPT, "%s: the checksum does not fit: the file is damaged", path);
    }
    if (!e) {
        e = check_tokens(path, s);
    }
    if (!e) {
        e = index_tokens(s, path);
    }
    if (e) {
        rv_static_close(s);
        return e;
    }
    *out = s;
    return RV_OK;
}

void rv_static_close(rv_static *s)
{
    if (s) {
        rv_file_unmap(&s->map);
        rv_free(s->mem, s->slots);
        rv_free(s->mem, s);
    }
}

const char *rv_static_name(const rv_static *s)
{
    return s->name;
}

size_t rv_static_dim(const rv_static *s)
{
    return s->dim;
}

/* ---- text to pieces ---- */

/* What has been read so far. */
typedef struct reader {
    const rv_static *s;
    rv_static_take take;
    void *self;
    uint8_t word[WORD_BYTES];
    size_t n_bytes, n_chars;
} reader;

/* The longest piece word[from..] begins with: its end, and token + 1; NO_TOKEN when there is none. */
static uint32_t longest_piece(const reader *r, size_t from, size_t *end)
{
    uint64_t hashes[TOKEN_BYTES + 1], hash = hash_begin(from > 0);
    size_t most = r->n_bytes - from < r->s->longest ? r->n_bytes - from : r->s->longest;
    for (size_t i = 0; i < most; i++) {
        hash = hash_add(hash, r->word[from + i]);
        hashes[i] = hash;
    }
    for (size_t n = most; n > 0; n--) {
        size_t slot;
        uint32_t found = find_token(r->s, (piece){ r->word + from, n, from > 0 }, hashes[n - 1], &slot);
        if (found != NO_TOKEN) {
            *end = from + n;
            return found;
        }
    }
    return NO_TOKEN;
}

/* A word with a part that no piece fits is unknown as a whole. */
static void end_word(reader *r)
{
    uint32_t tokens[WORD_BYTES];
    size_t n = 0, at = 0;
    bool known = r->n_chars <= WORD_CHARS;
    while (known && at < r->n_bytes) {
        uint32_t found = longest_piece(r, at, &at);
        known = found != NO_TOKEN;
        tokens[n++] = found - 1;
    }
    for (size_t i = 0; known && i < n; i++) {
        r->take(r->self, tokens[i]);
    }
    if (!known) {
        r->take(r->self, r->s->unknown);
    }
    r->n_bytes = r->n_chars = 0;
}

static void break_word(reader *r)
{
    if (r->n_chars > 0) {
        end_word(r);
    }
}

static void add_char(reader *r, utf8proc_int32_t code)
{
    if (r->n_chars++ < WORD_CHARS) {
        r->n_bytes += (size_t)utf8proc_encode_char(code, r->word + r->n_bytes);
    }
}

static bool is_chinese(utf8proc_int32_t c)
{
    return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) || (c >= 0xf900 && c <= 0xfaff) ||
           (c >= 0x20000 && c <= 0x2a6df) || (c >= 0x2a700 && c <= 0x2ceaf) || (c >= 0x2f800 && c <= 0x2fa1f);
}

/* A decomposed code point: accents are dropped, punctuation is a word by itself. */
static void add_folded(reader *r, utf8proc_int32_t code)
{
    utf8proc_category_t kind = utf8proc_category(code);
    if (kind == UTF8PROC_CATEGORY_MN) {
        return;
    }
    if (kind >= UTF8PROC_CATEGORY_PC && kind <= UTF8PROC_CATEGORY_PO) {
        break_word(r);
        add_char(r, code);
        break_word(r);
        return;
    }
    add_char(r, utf8proc_tolower(code));
}

static void add_wide(reader *r, utf8proc_int32_t code)
{
    utf8proc_category_t kind = utf8proc_category(code);
    if (code == 0x85 || (kind >= UTF8PROC_CATEGORY_ZS && kind <= UTF8PROC_CATEGORY_ZP)) {
        break_word(r);
        return;
    }
    if (code == 0xfffd || kind == UTF8PROC_CATEGORY_CN || kind >= UTF8PROC_CATEGORY_CC) {
        return; /* not there at all: a soft hyphen divides no word */
    }
    bool chinese = is_chinese(code);
    if (chinese) {
        break_word(r);
    }
    utf8proc_int32_t folded[FOLD_MAX];
    int boundary = 0;
    utf8proc_ssize_t n = utf8proc_decompose_char(code, folded, FOLD_MAX, UTF8PROC_DECOMPOSE, &boundary);
    for (utf8proc_ssize_t i = 0; i < n && i < FOLD_MAX; i++) {
        add_folded(r, folded[i]);
    }
    if (chinese) {
        break_word(r);
    }
}

static void add_ascii(reader *r, uint8_t c)
{
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) {
        add_char(r, c);
    } else if (c >= 'A' && c <= 'Z') {
        add_char(r, c + ('a' - 'A'));
    } else if (c == ' ' || (c >= '\t' && c <= '\r')) {
        break_word(r);
    } else if (c > ' ' && c < 0x7f) {
        break_word(r);
        add_char(r, c);
        break_word(r);
    } /* control bytes are not there at all */
}

void rv_static_tokens(const rv_static *s, const char *text, size_t n, rv_static_take take, void *self)
{
    reader r = { .s = s, .take = take, .self = self };
    for (size_t i = 0; i < n;) {
        uint8_t c = (uint8_t)text[i];
        if (c < 0x80) {
            add_ascii(&r, c);
            i++;
            continue;
        }
        utf8proc_int32_t code;
        size_t left = n - i > 4 ? 4 : n - i;
        utf8proc_ssize_t bytes =
            utf8proc_iterate((const utf8proc_uint8_t *)text + i, (utf8proc_ssize_t)left, &code);
        if (bytes < 1) {
            break_word(&r); /* not UTF-8: a border between words */
            i++;
            continue;
        }
        add_wide(&r, code);
        i += (size_t)bytes;
    }
    break_word(&r);
}

/* ---- pieces to a vector ---- */

typedef struct adding {
    const rv_static *s;
    float *out;
} adding;

static void add_row(void *self, uint32_t token)
{
    const adding *a = self;
    float scale = f32_at(a->s->scales + 4 * (size_t)token);
    const int8_t *row = a->s->rows + (size_t)token * a->s->dim;
    for (size_t i = 0; scale > 0 && i < a->s->dim; i++) {
        a->out[i] += scale * (float)row[i];
    }
}

void rv_static_text(const rv_static *s, const char *text, size_t n, float *out)
{
    memset(out, 0, s->dim * sizeof *out);
    adding a = { s, out };
    rv_static_tokens(s, text, n, add_row, &a);
    double length = 0;
    for (size_t i = 0; i < s->dim; i++) {
        length += (double)out[i] * (double)out[i];
    }
    double scale = length > 0 ? 1 / sqrt(length) : 0;
    for (size_t i = 0; i < s->dim; i++) {
        out[i] = (float)((double)out[i] * scale);
    }
}
