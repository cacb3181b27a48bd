/* What was corrected is known: the very same question is answered with its correction, and no model runs. A model that writes a
 * name it was told can still misspell it, and costs time; the correction is the user's own words. When the question is another one
 * a model answers, and an answer that quotes a correction is spelled as the user spelled it. */
#include "pipeline/pipeline_priv.h"

#include "router/cover.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

/* Words that stand nowhere, this like the correction, are the correction misspelled. "Sk gives" for "Skelve" is at .57, "yes" or "four chairs" below .3. */
#define ALIKE 0.5
/* That much is enough for the correction that the answer cites: "Z band" for "Zofa" is at .4. */
#define ALIKE_CITED 0.35

/* Next letter or digit (ASCII as small letters, others as they are), 0 at the end. */
static int next_letter(const char **at, const char *end)
{
    while (*at < end) {
        unsigned char c = (unsigned char)*(*at)++;
        if (c >= 0x80 || isalnum(c)) {
            return tolower(c);
        }
    }
    return 0;
}

bool rv_recall_is_correction(const char *fact)
{
    return strncmp(fact, RV_RECALL_HEAD, strlen(RV_RECALL_HEAD)) == 0;
}

const char *rv_recall_same_question(const rv_request *r, const char *fact)
{
    static const char answer[] = " A: ";
    if (!rv_recall_is_correction(fact)) {
        return NULL;
    }
    const char *a = fact + strlen(RV_RECALL_HEAD), *a_end = fact + strlen(fact), *b = r->query,
               *b_end = b + r->query_bytes;
    for (int x; (x = next_letter(&b, b_end)) != 0;) {
        if (next_letter(&a, a_end) != x) {
            return NULL;
        }
    }
    while (*a && *a != ' ' && (unsigned char)*a < 0x80 && !isalnum((unsigned char)*a)) {
        a++; /* the question's last sign */
    }
    return strncmp(a, answer, sizeof answer - 1) == 0 ? a + sizeof answer - 1 : NULL;
}

/* Alone: in a conversation the same words may ask for something else. A model that the request names is asked, and so is one
 * when the request wants what only a model gives. */
static bool may_recall(const rv_request *r)
{
    bool named = r->model && strcmp(r->model, "auto") != 0;
    bool alone = r->n_history == 0 && (!r->messages || json_array_size(r->messages) == 1);
    return !named && alone && r->extra.n_logprobs < 0 && r->extra.n_stops == 0;
}

rv_err rv_recall(rv_request *r)
{
    const rv_memory_node *best = NULL;
    for (size_t i = 0; may_recall(r) && i < r->hits.n; i++) {
        const rv_memory_node *node = &r->hits.at[i];
        bool fits =
            strcmp(node->type, "fact") == 0 && !node->corrected_by && rv_recall_same_question(r, node->text);
        best = fits && (!best || node->id > best->id) ? node : best;
    }
    if (!best) {
        return RV_OK;
    }
    r->sources = rv_arena_take(r->arena, sizeof *r->sources);
    r->text = rv_arena_printf(r->arena, "[1] %s", rv_recall_same_question(r, best->text));
    if (!r->sources || !r->text) {
        r->text = NULL;
        return rv_fail(RV_E_NOMEM, "answering from memory");
    }
    r->sources[0] = (rv_source){ best->id, best->type, best->text, best->source, best->score };
    r->n_sources = 1;
    r->routed_model = RV_RECALL_MODEL;
    r->fallback = false;
    r->router_confidence = r->confidence = best->confidence;
    memset(r->model_probs, 0, sizeof r->model_probs);
    r->reason = "this question was corrected: its correction is the answer, no model ran";
    r->generated = (rv_generated){ .finish = RV_FINISH_STOP };
    r->stage_note[RV_STAGE_ATTEND] = r->stage_note[RV_STAGE_BACKEND] = "not needed: answered from memory";
    rv_piece piece = { .text = r->text, .n = strlen(r->text), .token = -1 };
    if (r->extra.on_piece && !r->extra.on_piece(r->extra.self, &piece)) {
        return rv_fail(RV_E_CANCELLED, "the answer was cancelled");
    }
    return RV_OK;
}

/* The value of a correction, [1 .. *n] bytes up to the end of the text; NULL: it has none, or more than is quoted. */
static const char *value_of(const char *fact, size_t *n)
{
    const char *value = rv_recall_is_correction(fact) ? strstr(fact, " A: ") : NULL;
    *n = value ? strlen(value + 4) : 0;
    return *n > 0 && *n <= RV_RECALL_QUOTE_BYTES ? value + 4 : NULL;
}

/* Where what is said behind the citation begins, n when that is still to come; 0: the answer does not begin with one citation of one
 * passage. */
static size_t said_from(const rv_request *r, const char *answer, size_t n)
{
    size_t number = 0, i = rv_cite_at(rv_str_of(answer, n), &number);
    if (i == 0) {
        bool begun = n > 0 && answer[0] == '[';
        for (size_t k = 1; begun && k < n; k++) {
            begun = isdigit((unsigned char)answer[k]);
        }
        return begun ? n : 0;
    }
    if (number < 1 || number > r->n_sources) {
        return 0;
    }
    while (i < n && answer[i] == ' ') {
        i++;
    }
    return i == n || answer[i] != '[' ? i : 0;
}

typedef struct letters {
    uint32_t at[RV_RECALL_QUOTE_BYTES]; /* code points, ASCII as small letters */
    size_t n;
} letters;

static letters letters_of(const char *text, size_t n)
{
    letters out = { .n = 0 };
    for (size_t i = 0, step; i < n && out.n < RV_RECALL_QUOTE_BYTES; i += step) {
        uint32_t code = 0;
        step = rv_utf8_decode(text + i, n - i, &code);
        if (step == 0) { /* malformed: a byte is a letter of its own */
            code = (unsigned char)text[i];
            step = 1;
        }
        out.at[out.n++] = code < 0x80 ? (uint32_t)tolower((int)code) : code;
    }
    return out;
}

/* Twice the letters that both have in common, in order, over all: 1 when they are the same. */
static double alike(const letters *a, const letters *b)
{
    size_t row[RV_RECALL_QUOTE_BYTES + 1] = { 0 };
    for (size_t i = 0; i < a->n; i++) {
        size_t corner = 0;
        for (size_t j = 0; j < b->n; j++) {
            const size_t above = row[j + 1];
            row[j + 1] = a->at[i] == b->at[j] ? corner + 1 : row[j] > above ? row[j] : above;
            corner = above;
        }
    }
    return a->n + b->n > 0 ? 2 * (double)row[b->n] / (double)(a->n + b->n) : 0;
}

static bool stands_in(const char *text, rv_str word)
{
    rv_str rest = rv_str_of(text, strlen(text)), one;
    while (rv_word_next(&rest, &one)) {
        if (one.n == word.n && strncasecmp(one.at, word.at, word.n) == 0) {
            return true;
        }
    }
    return false;
}

/* A word of it stands neither in a passage nor in the question. */
static bool is_made_up(const rv_request *r, rv_str said)
{
    rv_str word;
    while (rv_word_next(&said, &word)) {
        bool known = stands_in(r->query, word);
        for (size_t i = 0; i < r->n_sources; i++) {
            known = known || stands_in(r->sources[i].text, word);
        }
        if (!known) {
            return true;
        }
    }
    return false;
}

bool rv_recall_quotes(const rv_request *r, const char *answer, size_t n)
{
    const size_t from = said_from(r, answer, n);
    bool any = false;
    if (from == 0 || n - from > RV_RECALL_QUOTE_BYTES || r->extra.n_logprobs >= 0) {
        return false;
    }
    for (size_t i = 0; i < r->n_sources && !any; i++) {
        size_t value_bytes;
        any = value_of(r->sources[i].text, &value_bytes) != NULL;
    }
    return any;
}

const char *rv_recall_spelled(const rv_request *r, const char *answer)
{
    size_t n = strlen(answer), from = said_from(r, answer, n), best = r->n_sources, cited = 0;
    double most = 0;
    if (!rv_recall_quotes(r, answer, n)) {
        return answer;
    }
    (void)rv_cite_at(rv_str_of(answer, n), &cited);
    while (n > from && strchr(" .", answer[n - 1])) {
        n--;
    }
    if (!is_made_up(r, rv_str_of(answer + from, n - from))) {
        return answer; /* of words that were there: it may say something else than the correction, and be right */
    }
    const letters said = letters_of(answer + from, n - from);
    for (size_t i = 0; i < r->n_sources; i++) {
        size_t value_bytes;
        const char *value = value_of(r->sources[i].text, &value_bytes);
        const letters given = letters_of(value, value ? value_bytes : 0);
        double now = alike(&said, &given);
        if (now >= (i + 1 == cited ? ALIKE_CITED : ALIKE) && now >= most) {
            most = now;
            best = i;
        }
    }
    size_t value_bytes;
    return best == r->n_sources ? answer
                                : rv_arena_printf(r->arena, "[%zu] %s", best + 1,
                                                  value_of(r->sources[best].text, &value_bytes));
}
