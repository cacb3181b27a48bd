#include "memory/sense.h"
#include "memory/memory.h"
#include "base/rng.h"

#include <pthread.h>
#include <string.h>
#include <utf8proc.h>

enum {
    LOOK_BYTES = 65536,
    TOKEN_CHARS = 100,
    REPEAT_LEAST = 12,
    VALUE_WORDS = 3,
    TYPO_BYTES = 5,
    HASHES = 18,
    SURFACE = 24, /* bytes of a word as it is written; longer ones are in none of the lists */
    LANGUAGE_LOOK = 4096,
    TELL_WORDS = 3
};

/* ---- quality ---- */

static bool is_space(unsigned char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_vowel(unsigned char c)
{
    return strchr("aeiouyAEIOUY", c) != NULL;
}

typedef struct tally {
    size_t chars, letters,
        longest; /* characters without spaces and marks; letters: and digits, of any script */
    size_t tokens, latin,
        odd; /* words of ASCII letters; without a vowel or with four consonants in a row at their beginning */
    size_t words, distinct;
} tally;

static void count_ascii(tally *t, const char *at, size_t n)
{
    size_t letters = 0, vowels = 0, digits = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)at[i];
        bool letter = (c | 32) >= 'a' && (c | 32) <= 'z';
        letters += letter;
        digits += c >= '0' && c <= '9';
        vowels += letter && is_vowel(c);
    }
    if (letters >= 4 && letters + digits == n) {
        t->latin++;
        t->odd += vowels == 0 || digits * 3 > letters || vowels * 6 < letters;
    }
}

static void count_token(tally *t, const char *at, size_t n)
{
    size_t chars = 0;
    uint32_t code;
    for (size_t i = 0, k; i < n; i += k) {
        k = rv_utf8_decode(at + i, n - i, &code);
        utf8proc_category_t kind = k ? utf8proc_category((utf8proc_int32_t)code) : UTF8PROC_CATEGORY_CN;
        bool mark = kind >= UTF8PROC_CATEGORY_MN && kind <= UTF8PROC_CATEGORY_ME;
        chars += !mark;
        t->letters += (kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO) ||
                      (kind >= UTF8PROC_CATEGORY_ND && kind <= UTF8PROC_CATEGORY_NO);
        k = k ? k : 1; /* the text was cut here */
    }
    t->chars += chars;
    t->longest = chars > t->longest ? chars : t->longest;
    count_ascii(t, at, n);
}

double rv_sense_quality(const char *text, size_t n, const char **why)
{
    tally t = { 0 };
    uint64_t seen[1024] = { 0 };
    n = n > LOOK_BYTES ? LOOK_BYTES : n;
    for (size_t at = 0; at < n;) {
        size_t from = at;
        while (at < n && !is_space((unsigned char)text[at])) {
            at++;
        }
        if (at > from) {
            count_token(&t, text + from, at - from);
            uint64_t hash = rv_hash64(text + from, at - from, 1);
            uint64_t *slot = &seen[hash % 1024];
            t.words++;
            t.distinct +=
                *slot !=
                hash; /* a slot that two words share counts them anew: fewer repetitions are seen, never more */
            *slot = hash;
        }
        at += at < n && is_space((unsigned char)text[at]);
    }
    const char *found = t.letters == 0                                        ? "no letters or digits"
                        : t.longest > TOKEN_CHARS && t.longest * 2 > t.chars  ? "one long token"
                        : t.letters * 2 < t.chars                             ? "mostly signs"
                        : t.latin >= 4 && t.odd * 2 > t.latin                 ? "made of no words"
                        : t.words >= REPEAT_LEAST && t.distinct * 4 < t.words ? "repeats itself"
                                                                              : NULL;
    *why = found ? found : "";
    return !found ? 1 : t.letters == 0 ? 0 : 0.3;
}

/* ---- what a text says ---- */

/* What a word is, beside one of a language. A value comes behind a LEAD ("room 7" and "page 7" are names; "in 2019" says when), and some words may
 * stand between (German "am" is one: "ist am 3. Mai"). "a" is an article in English, and leads to a value in French. A language is told without
 * the words of TOLD_APART, or one "nicht" more would make it another. */
enum {
    NEGATION = 1 << 0, /* folded, as stems come; the others: as written */
    HALF = 1 << 1,     /* what stands before the t of "isn't" and "don't", which is a negation */
    TOLD_APART = 1 << 2,
    LEAD = 1 << 3,
    GOES_ON = 1 << 4,
    PERSON = 1 << 5, /* who is spoken of */
    FILLER = 1 << 6, /* without them a sentence says the same */
    ASKING = 1 << 7, /* what begins a question, or an order */
    MONTH = 1 << 8,  /* beside a number they are a date */
    KINDS_SLOTS = 1024
};

/* Each between spaces. */
static const struct {
    unsigned kind;
    const char *words;
} kinds[] = {
    { NEGATION, "not no never t cannot nicht kein keine keinen keinem keiner keines nie pas jamais non mai "
                "niet geen nooit int inte ing ikk ikke ei nem nao nunc nunca не нет degil" },
    { HALF, "isn aren wasn weren don doesn didn won wouldn couldn shouldn hasn haven hadn" },
    { TOLD_APART, "not no nicht pas ne non niet geen ikke ikkje ei inte nem não nu değil" },
    { LEAD, "is are was were am at until till has have had costs cost equals ist sind um bis hat kostet "
            "est es ha" },
    { GOES_ON, "on about around only now exactly nearly already" },
    { PERSON, "i me my mine you your yours he him his she her hers we us our ours ich mich mir mein meine "
              "meinen meinem meiner du dich dir dein deine deinen deinem deiner er sie ihr ihre ihren ihrem "
              "ihrer sein seine seinen seinem seiner wir uns unser unsere unseren je j tu il elle nous vous "
              "mon ma mes ton ta tes sa ses notre nos votre vos yo mi mis tus io mio mia tuo tua suo sua ik "
              "mijn jij jouw hij zij wij onze eu meu minha" },
    { FILLER, "a an the do does did der die das den dem des ein eine einen einem einer le la les un une des "
              "el los las una il lo gli het de een o os as um uma" },
    { ASKING, "who whom whose what when where why which how is are was were do does did can could will "
              "would shall should may might must has have had tell show please help" },
    { MONTH, "january february march april may june july august september october november december jan "
             "feb mar apr jun jul aug sep sept oct nov dec januar februar märz mai juni juli oktober "
             "dezember janvier février mars avril juin juillet août septembre octobre novembre décembre "
             "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre "
             "gennaio febbraio aprile maggio giugno luglio settembre ottobre dicembre januari februari "
             "maart mei augustus" },
};

/* By the number they say. Those that say something else in another language ("due", "once", "cent") are left out. */
static const struct {
    const char *digits, *words;
} number_words[] = {
    { "0", "zero null zéro cero" },
    { "1", "one eins" },
    { "2", "two zwei deux dos twee" },
    { "3", "three drei trois tres tre drie" },
    { "4", "four vier quatre cuatro quattro" },
    { "5", "five fünf cinq cinco cinque vijf" },
    { "6", "six sechs seis zes" },
    { "7", "seven sieben siete sette zeven" },
    { "8", "eight acht huit ocho" },
    { "9", "nine neun nueve negen" },
    { "10", "ten zehn dix diez dieci tien" },
    { "11", "eleven elf onze undici" },
    { "12", "twelve zwölf douze doce dodici twaalf" },
    { "13", "thirteen dreizehn treize" },
    { "14", "fourteen vierzehn quatorze" },
    { "15", "fifteen fünfzehn quinze" },
    { "16", "sixteen sechzehn seize" },
    { "17", "seventeen siebzehn" },
    { "18", "eighteen achtzehn" },
    { "19", "nineteen neunzehn" },
    { "20", "twenty zwanzig vingt veinte venti twintig" },
    { "30", "thirty dreißig dreissig trente treinta trenta dertig" },
    { "40", "forty vierzig quarante cuarenta quaranta veertig" },
    { "50", "fifty fünfzig cinquante cincuenta cinquanta vijftig" },
    { "60", "sixty sechzig soixante sesenta sessanta zestig" },
    { "70", "seventy siebzig" },
    { "80", "eighty achtzig" },
    { "90", "ninety neunzig" },
    { "100", "hundred hundert cien cento honderd" },
    { "1000", "thousand tausend duizend" },
};

static struct known_word {
    const char *at;
    size_t n;
    unsigned kinds;
    const char *digits; /* NULL: it is no number */
} known[KINDS_SLOTS];
static pthread_once_t known_once = PTHREAD_ONCE_INIT;

/* The place of a word, or the empty one where it would be. */
static struct known_word *place_of(const char *at, size_t n)
{
    size_t slot = (size_t)rv_hash64(at, n, 0) % KINDS_SLOTS;
    while (known[slot].at && (known[slot].n != n || memcmp(known[slot].at, at, n) != 0)) {
        slot = (slot + 1) % KINDS_SLOTS;
    }
    return &known[slot];
}

static void know(const char *words, unsigned kind, const char *digits)
{
    for (const char *at = words; *at;) {
        size_t n = strcspn(at, " ");
        struct known_word *w = place_of(at, n);
        w->at = at;
        w->n = n;
        w->kinds |= kind;
        w->digits = digits ? digits : w->digits;
        at += n + (at[n] == ' ');
    }
}

static void know_all(void)
{
    for (size_t i = 0; i < RV_COUNT(kinds); i++) {
        know(kinds[i].words, kinds[i].kind, NULL);
    }
    for (size_t i = 0; i < RV_COUNT(number_words); i++) {
        know(number_words[i].words, 0, number_words[i].digits);
    }
}

static bool is_a(unsigned kind, const char *at, size_t n)
{
    return (place_of(at, n)->kinds & kind) != 0;
}

/* A word as it is written, the letters of ASCII in small; longer than out: nothing of it. */
static size_t surface_of(const char *at, size_t n, char out[SURFACE])
{
    for (size_t i = 0; i < n && n <= SURFACE; i++) {
        out[i] = (char)(at[i] >= 'A' && at[i] <= 'Z' ? at[i] + 32 : at[i]);
    }
    return n <= SURFACE ? n : 0;
}

static bool is_letter(unsigned char c)
{
    return (c | 32) >= 'a' && (c | 32) <= 'z' ? true : c >= 0x80;
}

static rv_language language_of(const char *text, size_t n)
{
    char kept[LANGUAGE_LOOK], word[SURFACE];
    size_t n_kept = 0;
    n = n > sizeof kept ? sizeof kept : n;
    for (size_t at = 0; at < n;) {
        size_t from = at;
        while (at < n && is_letter((unsigned char)text[at])) {
            at++;
        }
        if (!is_a(TOLD_APART, word, surface_of(text + from, at - from, word))) {
            memcpy(kept + n_kept, text + from, at - from);
            n_kept += at - from;
        }
        if (at < n) {
            kept[n_kept++] = text[at++];
        }
    }
    rv_language language = rv_words_language(kept, n_kept, false);
    return language ? language : RV_LANGUAGE_ENGLISH;
}

/* Reading a text word by word. */
typedef struct sensing {
    const char *text;
    size_t n, used;
    rv_language language;
    rv_sense *out;
    uint64_t lead;      /* of the word before, if a value may come next */
    size_t end;         /* of the word before, in text */
    bool number, month; /* what it was */
    char last;          /* byte of the text that is no space */
} sensing;

static uint64_t chained(uint64_t before, const char *at, size_t n)
{
    return rv_hash64(at, n, before);
}

/* A word that is no content of its own. */
static void pass_over(sensing *s, const char *at, size_t n)
{
    rv_sense *out = s->out;
    bool half = is_a(HALF, at, n);
    const char *verb = half && n == 3 && memcmp(at, "won", 3) == 0 ? "will" : NULL; /* "won't" */
    n = verb ? 4 : half ? n - 1 : n;
    at = verb ? verb : at;
    out->common = chained(out->common, at, n);
    if (!is_a(FILLER, at, n)) {
        out->but_common = chained(out->but_common, at, n);
    }
}

/* What may stand between the parts of a value: "8:15", "555 1234", "May 3, 2026", "3. Mai". */
static bool joins_value(const sensing *s, size_t at, bool month)
{
    size_t n = at - s->end;
    const char *gap = s->text + s->end;
    return (n == 1 && gap[0] && strchr(" :.,/-'", gap[0])) ||
           (n == 2 && gap[1] == ' ' && (gap[0] == ',' || gap[0] == ')' || (month && gap[0] == '.')));
}

/* One word more, or one that goes on with the value before it; false: there is no room. */
static bool put_word(sensing *s, const rv_word *word, const char *at, size_t n, bool number, bool month)
{
    rv_sense *out = s->out;
    bool goes_with = out->n > 0 && ((s->number && (number || month)) || (s->month && number)) &&
                     joins_value(s, word->at, month);
    if (s->used + n > sizeof out->letters || (!goes_with && out->n == RV_SENSE_WORDS)) {
        return false;
    }
    memcpy(out->letters + s->used, at, n);
    if (goes_with) {
        struct sense_word *value = &out->words[out->n - 1];
        value->hash = chained(value->hash, at, n);
        value->n = (uint16_t)(value->n + n);
        value->number = true;
    } else {
        out->words[out->n++] = (struct sense_word){ .hash = chained(2, at, n),
                                                    .lead = s->lead,
                                                    .at = (uint16_t)s->used,
                                                    .n = (uint16_t)n,
                                                    .number = number };
    }
    s->used += n;
    s->number = number || goes_with;
    s->month = month && !goes_with;
    return true;
}

/* What a value behind this word stands behind; what may stand between keeps it. */
static uint64_t lead_of(const sensing *s, const char *at, size_t n)
{
    bool on =
        is_a(GOES_ON, at, n) || (s->language == RV_LANGUAGE_GERMAN && n == 2 && memcmp(at, "am", 2) == 0);
    bool leads_to_value = is_a(LEAD, at, n) || (s->language != RV_LANGUAGE_ENGLISH && n == 1 && at[0] == 'a');
    return on ? s->lead : leads_to_value ? chained(3, at, n) : 0;
}

static bool has_digit(rv_str a)
{
    bool found = false;
    for (size_t i = 0; i < a.n; i++) {
        found |= a.at[i] >= '0' && a.at[i] <= '9';
    }
    return found;
}

/* False: the text is too long. */
static bool take_word(sensing *s, const rv_word *word)
{
    char surface[SURFACE];
    size_t n = surface_of(s->text + word->at, word->n, surface);
    bool first = s->out->n == 0 && s->out->common == 0;
    const char *digits = word->common ? NULL : place_of(surface, n)->digits;
    bool number = digits || has_digit(word->stem), month = is_a(MONTH, surface, n);
    bool afternoon = s->number && n == 2 && (memcmp(surface, "am", 2) == 0 || memcmp(surface, "pm", 2) == 0);
    bool negation = is_a(NEGATION, word->stem.at, word->stem.n) && !(month && s->number);
    bool answer =
        negation && first && word->at + n < s->n && s->text[word->at + n] == ','; /* "No, I like tea" */
    s->out->asks |= first && s->last != '.' && is_a(ASKING, surface, n);
    if (is_a(PERSON, surface, n)) {
        s->out->persons = chained(s->out->persons, surface, n);
    }
    bool good = true;
    if (negation && !answer) {
        good = s->out->n < RV_SENSE_WORDS;
        if (good) {
            s->out->words[s->out->n++] =
                (struct sense_word){ .hash = 1, .at = (uint16_t)s->used, .negation = true };
        }
        if (n == 6 && memcmp(surface, "cannot", 6) == 0) {
            pass_over(s, "can", 3);
        }
        s->number = s->month = false;
    } else if (word->common || answer || is_a(HALF, surface, n)) {
        pass_over(s, surface, n);
        s->number = s->month = false;
    } else if (digits) {
        good = put_word(s, word, digits, strlen(digits), true, false);
    } else {
        good = put_word(s, word, word->stem.at, word->stem.n, number || afternoon, month);
    }
    s->lead = lead_of(s, surface, n);
    s->end = word->at + word->n;
    return good;
}

void rv_sense_of(rv_words *w, const char *text, size_t n, rv_sense *out)
{
    rv_word word;
    pthread_once(&known_once, know_all);
    sensing s = { .text = text, .n = n, .language = language_of(text, n), .out = out };
    out->n = 0;
    out->persons = out->common = out->but_common = 0;
    for (size_t end = n; end > 0 && !s.last; end--) {
        s.last = (char)(is_space((unsigned char)text[end - 1]) ? 0 : text[end - 1]);
    }
    out->asks = s.last == '?';
    rv_words_begin(w, text, n, RV_LANGUAGE_SET(s.language));
    while (rv_words_next(w, &word)) {
        if (!take_word(&s, &word)) {
            out->n = 0;
            return;
        }
    }
}

size_t rv_sense_keys(const rv_sense *s, uint64_t scope, int64_t out[RV_SENSE_KEYS])
{
    uint64_t least[HASHES];
    if (s->n < RV_SENSE_LEAST) {
        return 0;
    }
    for (size_t h = 0; h < HASHES; h++) {
        least[h] = UINT64_MAX;
        for (size_t i = 0; i < s->n; i++) {
            if (s->words[i].number || s->words[i].negation) {
                continue;
            }
            uint64_t x =
                (s->words[i].hash ^ (h + 1) * 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u; /* splitmix64 */
            x = (x ^ x >> 27) * 0x94d049bb133111ebu;
            x ^= x >> 31;
            least[h] = x < least[h] ? x : least[h];
        }
        if (least[h] == UINT64_MAX) {
            return 0; /* nothing but numbers */
        }
    }
    for (size_t k = 0; k < RV_SENSE_KEYS; k++) {
        out[k] = (int64_t)rv_hash64(&least[k * (HASHES / RV_SENSE_KEYS)],
                                    HASHES / RV_SENSE_KEYS * sizeof *least, scope + k);
    }
    return RV_SENSE_KEYS;
}

/* ---- two texts ---- */

/* Equal, but for one letter that is another, missing, too many, or swapped with its neighbour. */
static bool is_typo(const char *a, size_t n_a, const char *b, size_t n_b)
{
    size_t from = 0, longer = n_a > n_b ? n_a : n_b, shorter = n_a < n_b ? n_a : n_b;
    if (longer < TYPO_BYTES || longer - shorter > 1) {
        return false;
    }
    while (from < shorter && a[from] == b[from]) {
        from++;
    }
    if (n_a != n_b) {
        const char *l = n_a > n_b ? a : b, *s = n_a > n_b ? b : a;
        return memcmp(l + from + 1, s + from, shorter - from) == 0;
    }
    bool swapped = from + 1 < n_a && a[from] == b[from + 1] && a[from + 1] == b[from] &&
                   memcmp(a + from + 2, b + from + 2, n_a - from - 2) == 0;
    return swapped || from == n_a || memcmp(a + from + 1, b + from + 1, n_a - from - 1) == 0;
}

static bool same_word(const rv_sense *a, size_t i, const rv_sense *b, size_t k)
{
    const struct sense_word *x = &a->words[i], *y = &b->words[k];
    return x->hash == y->hash || (!x->number && !y->number && !x->negation && !y->negation &&
                                  is_typo(a->letters + x->at, x->n, b->letters + y->at, y->n));
}

/* Does newer leave out only words that carry neither number nor negation, and say no other? */
static bool says_no_more(const rv_sense *newer, const rv_sense *older)
{
    size_t i = 0;
    for (size_t k = 0; k < older->n; k++) {
        if (i < newer->n && same_word(newer, i, older, k)) {
            i++;
        } else if (older->words[k].number || older->words[k].negation) {
            return false;
        }
    }
    return i == newer->n && newer->n * 5 >= older->n * 4;
}

/* Of two words nothing may be another but for case and signs. */
static bool same_words(const rv_sense *a, const rv_sense *b)
{
    bool same = a->n == b->n && a->common == b->common;
    for (size_t i = 0; same && i < a->n; i++) {
        same = a->words[i].hash == b->words[i].hash;
    }
    return same;
}

/* One of them has a single negation that the other lacks. */
static bool negated(const rv_sense *longer, const rv_sense *shorter)
{
    size_t extra = 0;
    if (longer->n != shorter->n + 1) {
        return false;
    }
    for (size_t k = 0; k < longer->n; k++) {
        if (k - extra < shorter->n && longer->words[k].hash == shorter->words[k - extra].hash) {
            continue;
        }
        if (extra || !longer->words[k].negation) {
            return false;
        }
        extra = 1;
    }
    return extra == 1;
}

/* One value is another, behind the same word and near the end; of two words it is the last. */
static bool other_value(const rv_sense *newer, const rv_sense *older)
{
    size_t different = 0, at_end = newer->n > RV_SENSE_LEAST ? VALUE_WORDS : 1;
    if (newer->n != older->n) {
        return false;
    }
    for (size_t i = 0; i < newer->n; i++) {
        const struct sense_word *x = &newer->words[i], *y = &older->words[i];
        if (x->hash != y->hash) {
            different++;
            if (!x->number || !y->number || !x->lead || x->lead != y->lead || i + at_end < newer->n) {
                return false;
            }
        }
    }
    return different == 1;
}

rv_sense_relation rv_sense_compare(const rv_sense *newer, const rv_sense *older)
{
    size_t least = newer->n < older->n ? newer->n : older->n;
    if (least < RV_SENSE_LEAST || newer->persons != older->persons) {
        return RV_SENSE_OTHER;
    }
    if (newer->n > RV_SENSE_LEAST ? says_no_more(newer, older) : same_words(newer, older)) {
        return RV_SENSE_SAME;
    }
    bool alike = least > RV_SENSE_LEAST || newer->but_common == older->but_common;
    return alike && !newer->asks && !older->asks &&
                   (negated(newer, older) || negated(older, newer) || other_value(newer, older))
               ? RV_SENSE_OPPOSITE
               : RV_SENSE_OTHER;
}

/* ---- told or asked ---- */

/* The next word in small letters, at most room - 1 bytes of it; 0 at the end. */
static size_t next_word(const char *text, size_t n, size_t *at, char *word, size_t room)
{
    size_t k = 0;
    while (*at < n && is_space((unsigned char)text[*at])) {
        (*at)++;
    }
    for (; *at < n && !is_space((unsigned char)text[*at]); (*at)++) {
        char c = text[*at];
        if (k + 1 < room && strchr(",.;:!", c) == NULL) {
            word[k++] = (char)(c >= 'A' && c <= 'Z' ? c | 32 : c);
        }
    }
    word[k] = 0;
    return k;
}

static bool stands_in(const char *word, const char *const *list)
{
    for (; *list && strcmp(*list, word) != 0; list++) {
    }
    return *list != NULL;
}

bool rv_memory_tells(const char *text, size_t n)
{
    static const char *const asks[] = {
        "who",       "whom",      "whose",  "what",   "when", "where", "why",     "which",    "how",
        "is",        "are",       "was",    "were",   "do",   "does",  "did",     "can",      "could",
        "will",      "would",     "shall",  "should", "may",  "might", "must",    "has",      "have",
        "had",       "tell",      "show",   "list",   "give", "find",  "explain", "describe", "summarise",
        "summarize", "compare",   "write",  "say",    "make", "help",  "please",  "let",      "name",
        "count",     "translate", "answer", "use",    "read", "look",  "think",   "forget",   "hello",
        "hi",        "hey",       "thanks", "thank",  "good", "great", "ok",      "okay",     "yes",
        "no",        "sorry",     "bye",    "and",    "or",   "but",   "so",      "then",     NULL
    };
    static const char *const wants[] = { "want",  "wanted", "need",  "wonder", "wish",
                                         "mean",  "ask",    "asked", "think",  "guess",
                                         "would", "cannot", "can't", "don't",  NULL };
    char first[24], second[24];
    size_t at = 0, words = 2;
    while (n > 0 && is_space((unsigned char)text[n - 1])) {
        n--;
    }
    if (n == 0 || text[n - 1] != '.' || memchr(text, '?', n) ||
        !next_word(text, n, &at, first, sizeof first) || !next_word(text, n, &at, second, sizeof second)) {
        return false;
    }
    for (char more[4]; next_word(text, n, &at, more, sizeof more) > 0;) {
        words++;
    }
    bool self = strcmp(first, "i") == 0 || strcmp(first, "we") == 0;
    return words > TELL_WORDS && !stands_in(first, asks) && !(self && stands_in(second, wants));
}
