/* Names that lead on. "Where is the employer of Anna Keller based?" finds the note that she works at Sashife Foods; where that is, another
 * note says, and it may share no word with the question. So the names in what was found that the question does not hold are looked up: the
 * index of words is the graph, and no edge has to be stored.
 *
 * What a name is, is told without knowing a language, and never by what is rare alone, since in a store of two notes every word is:
 *   - a run of capitalised words, or of words with letters and digits ("Sashife Foods", "HYR08"), in few texts;
 *   - where a capital tells nothing, at the beginning of a sentence, in a single other text;
 *   - two words beside each other of which one or none has a capital ("the street committee"), in a single other text.
 * Never one of the commonest words of a language, nor a word of the question. Only sentences that hold a word of the question count, and the ones
 * behind them ("He reports to Priya Raman."): the other names of a long text lead elsewhere.
 *
 * Chosen on half of 3,419 made questions, of which the other half was kept to measure (docs/guide/memory.md). */
#include "memory/bridge.h"
#include "base/rng.h"

#include <string.h>
#include <utf8proc.h>

enum {
    LOOK_CHARS = 2048, /* of a text, */
    LOOK_WORDS = 160,  /* and of these; a chunk has about 60 to 120 */
    NAMES = 16,        /* that are looked up for a text in memory, */
    NAMES_ON_DISK = 8, /* and by FTS5, where each costs more */
    WALK = 1024        /* texts that hold a name, of other users too; what more hold is no name */
};

typedef struct word {
    rv_str at; /* in the text */
    size_t sentence;
    bool good;    /* may be part of a name */
    bool capital; /* or has digits and letters */
    bool begins;  /* a sentence: its capital tells nothing */
    bool joined;  /* to the one before, by a blank, a hyphen or an apostrophe */
} word;

typedef struct text_words {
    word at[LOOK_WORDS];
    size_t n;
    bool asked[LOOK_WORDS + 1]; /* sentence + 1: it holds a word of the question */
    bool any_asked;
} text_words;

typedef struct name {
    const word *words; /* [n] */
    size_t n;
    size_t most; /* texts that may hold it */
} name;

/* ---- the question ---- */

static uint32_t languages_for(const rv_bridging *b, const char *text, size_t n)
{
    if (b->m->postings) {
        return rv_postings_languages(b->m->postings);
    }
    rv_language language = rv_words_language(text, n, false);
    return RV_LANGUAGE_SET(language ? language : RV_LANGUAGE_ENGLISH);
}

/* The question is cut by the rules of the text at hand, as both are compared. */
static void read_question(rv_bridging *b, uint32_t languages)
{
    rv_word w;
    b->n_asked = 0;
    rv_words_begin(b->words, b->question, b->question_bytes, languages);
    while (b->n_asked < RV_COUNT(b->asked) && rv_words_next(b->words, &w)) {
        if (!w.common) {
            b->asked[b->n_asked++] = rv_hash64(w.stem.at, w.stem.n, 0);
        }
    }
}

static bool is_asked(const rv_bridging *b, rv_str stem)
{
    uint64_t hash = rv_hash64(stem.at, stem.n, 0);
    size_t i = 0;
    while (i < b->n_asked && b->asked[i] != hash) {
        i++;
    }
    return i < b->n_asked;
}

/* ---- words of a text ---- */

static bool is_capital(rv_str at)
{
    uint32_t code = 0;
    bool digits = false, letters = false;
    for (size_t i = 0; i < at.n; i++) {
        bool digit = at.at[i] >= '0' && at.at[i] <= '9';
        digits |= digit;
        letters |= !digit;
    }
    if (digits || rv_utf8_decode(at.at, at.n, &code) == 0) {
        return digits && letters;
    }
    utf8proc_category_t kind = utf8proc_category((utf8proc_int32_t)code);
    return kind == UTF8PROC_CATEGORY_LU || kind == UTF8PROC_CATEGORY_LT;
}

static bool is_number(rv_str at)
{
    size_t i = 0;
    while (i < at.n && at.at[i] >= '0' && at.at[i] <= '9') {
        i++;
    }
    return i == at.n;
}

static word word_of(const char *text, const rv_word *w, const word *before)
{
    word new = { .at = rv_str_of(text + w->at, w->n), .begins = !before };
    if (before) {
        const char *gap = before->at.at + before->at.n;
        size_t n_gap = (size_t)(new.at.at - gap);
        for (size_t i = 0; i < n_gap; i++) {
            new.begins |= gap[i] != 0 && strchr(".!?:\n", gap[i]) != NULL;
        }
        new.joined = n_gap == 1 && (*gap == ' ' || *gap == '-' || *gap == '\'');
        new.sentence = before->sentence + new.begins;
    }
    new.good = !w->common && w->n > 1 && !is_number(new.at);
    new.capital = is_capital(new.at);
    return new;
}

static void read_words(const rv_bridging *b, const char *text, size_t n, uint32_t languages, text_words *out)
{
    rv_word w;
    *out = (text_words){ 0 };
    size_t number = SIZE_MAX;
    rv_words_begin(b->words, text, n, languages);
    while (rv_words_next(b->words, &w) && (w.word == number || out->n < LOOK_WORDS)) {
        if (w.word != number) { /* the first of its stems */
            out->at[out->n] = word_of(text, &w, out->n ? &out->at[out->n - 1] : NULL);
            out->n++;
            number = w.word;
        }
        word *at = &out->at[out->n - 1];
        if (is_asked(b, w.stem)) {
            at->good = false;
            out->asked[at->sentence + 1] = out->any_asked = true;
        }
    }
}

/* ---- names ---- */

static bool counts(const text_words *t, const word *w)
{
    return w->good && (!t->any_asked || t->asked[w->sentence + 1] || t->asked[w->sentence]);
}

/* How many words from this one on are a name by their capitals. */
static size_t run_at(const text_words *t, size_t from)
{
    size_t n = 0;
    while (n < RV_NAME_WORDS && from + n < t->n && t->at[from + n].capital && counts(t, &t->at[from + n]) &&
           (n == 0 || t->at[from + n].joined)) {
        n++;
    }
    return n;
}

static bool is_pair(const text_words *t, size_t from)
{
    if (from + 1 >= t->n) {
        return false;
    }
    const word *x = &t->at[from], *y = &t->at[from + 1];
    return counts(t, x) && counts(t, y) && !x->begins && y->joined && !(x->capital && y->capital);
}

static size_t find_names(const text_words *t, size_t most, name out[NAMES])
{
    size_t n = 0;
    for (size_t i = 0, run; i < t->n && n < most; i += run ? run : 1) {
        run = run_at(t, i);
        if (run > 0) {
            out[n++] = (name){ &t->at[i], run, run == 1 && t->at[i].begins ? 1 : RV_NAME_HOLDERS };
        }
        size_t last = i + (run ? run : 1) - 1;
        if (n < most && is_pair(t, last)) {
            out[n++] = (name){ &t->at[last], 2, 1 };
        }
    }
    return n;
}

/* ---- who holds them ---- */

static const char holders_sql[] = "SELECT rowid FROM words WHERE words MATCH ?1";

/* What rv_postings_holders does, where there are no postings: of less than some hundred texts there never are, and those are the stores in
 * which most is won. */
static rv_err ask_disk(const rv_bridging *b, const name *of, int64_t *ids, size_t max, size_t *found)
{
    sqlite3_stmt *stmt;
    rv_text query;
    rv_text_init(&query, b->m->mem, 1024);
    for (size_t i = 0; i < of->n; i++) { /* a word holds no quote */
        rv_text_addf(&query, "%s\"%.*s\"", i ? " " : "", (int)of->words[i].at.n, of->words[i].at.at);
    }
    rv_err e = rv_text_check(&query);
    e = e ? e : rv_db_reader_kept(b->m->db, b->conn, &stmt, holders_sql);
    e = e ? e : rv_db_bind(stmt, "t", rv_text_get(&query));
    *found = 0;
    bool row = true;
    for (size_t i = 0; !e && *found < max; i++) {
        e = rv_db_step(stmt, &row);
        if (e || !row) {
            break;
        }
        int64_t id = sqlite3_column_int64(stmt, 0);
        if (i == WALK) {
            *found = max;
        } else if (rv_passes(&b->passing, id)) {
            ids[(*found)++] = id;
        }
    }
    rv_text_deinit(&query);
    return e;
}

static rv_err ask_memory(const rv_bridging *b, const name *of, int64_t *ids, size_t max, size_t *found)
{
    rv_str words[RV_NAME_WORDS];
    for (size_t i = 0; i < of->n; i++) {
        words[i] = of->words[i].at;
    }
    return rv_postings_holders(b->m->postings, b->words, words, of->n, b->passing.bits, b->passing.n_bits,
                               WALK, ids, max, found);
}

static void keep(rv_bridges *out, int64_t id, double part)
{
    size_t i = 0;
    while (i < out->n && out->at[i].id != id) {
        i++;
    }
    if (i == out->n && i < RV_COUNT(out->at)) {
        out->at[out->n++] = (rv_bridge){ id, part };
    }
    if (i < out->n && out->at[i].part < part) {
        out->at[i].part = part;
    }
}

static rv_err follow(const rv_bridging *b, const name *of, int64_t from, rv_bridges *out)
{
    int64_t ids[RV_NAME_HOLDERS + 2]; /* the text itself, and one that is too many */
    size_t max = of->most + 2, found = 0, others = 0;
    RV_TRY((b->m->postings ? ask_memory : ask_disk)(b, of, ids, max, &found));
    if (found == max) {
        return RV_OK;
    }
    for (size_t i = 0; i < found; i++) {
        others += ids[i] != from;
    }
    for (size_t i = 0; i < found && others <= of->most; i++) {
        if (ids[i] != from) {
            keep(out, ids[i], 1 / (double)others);
        }
    }
    return RV_OK;
}

/* ---- a text ---- */

static const char text_sql[] = "SELECT substr(text, 1, ?2) FROM nodes WHERE id=?1";

rv_err rv_bridges_of(rv_bridging *b, int64_t id, rv_bridges *out)
{
    sqlite3_stmt *stmt;
    bool row = false;
    out->n = 0;
    RV_TRY(rv_db_reader_kept(b->m->db, b->conn, &stmt, text_sql));
    RV_TRY(rv_db_bind(stmt, "ii", id, (int64_t)LOOK_CHARS));
    RV_TRY(rv_db_step(stmt, &row));
    const char *text = row ? (const char *)sqlite3_column_text(stmt, 0) : NULL; /* until it is bound again */
    if (!text) {
        return row ? rv_db_fail(b->conn, "reading a text") : RV_OK; /* removed meanwhile */
    }
    size_t n = (size_t)sqlite3_column_bytes(stmt, 0), n_names;
    uint32_t languages = languages_for(b, text, n);
    text_words words;
    name of[NAMES];
    read_question(b, languages);
    read_words(b, text, n, languages, &words);
    RV_TRY(rv_words_failed(b->words));
    n_names = find_names(&words, b->m->postings ? NAMES : NAMES_ON_DISK, of);
    for (size_t i = 0; i < n_names; i++) {
        RV_TRY(follow(b, &of[i], id, out));
    }
    return RV_OK;
}
