/* The slots. Lengths are logarithms, so that twice as long is one step, wherever it begins. Vector work is dot products with
 * rows of the space: 89 of them for 256 dimensions are 2 microseconds. */
#include "router/features.h"

#include "base/str.h"
#include "kernels/kernels.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const rv_slot_group rv_slots[] = {
    { "token_count", 0, 1, true, "lg(tokens) / lg(4096), at most 1" },
    { "language_id", 1, 8, true,
      "one of en zh es fr de ja, other in Latin letters, other; fewer than 20 letters: the last two" },
    { "domain_encoding", 9, 16, true, "softmax(10 cos(question, domain)), 16 named domains" },
    { "user_frequency", 25, 1, true, "lg(1 + requests of the user in the last hour) / lg(256)" },
    { "query_type", 26, 6, true,
      "factual reasoning creative code conversational instruction: softmax of cue words" },
    { "l2_norm", 32, 1, false,
      "length of the vector before normalising; our embedders give unit vectors only" },
    { "principal_components", 33, 8, true, "score / (3 sqrt(eigenvalue)), clipped to 1" },
    { "entropy", 41, 1, true, "H(e_i^2) / ln(dim)" },
    { "sparsity", 42, 1, true, "Hoyer: (sqrt(dim) - |e|_1) / (sqrt(dim) - 1)" },
    { "cluster_assignment", 43, 4, true, "cosine to the four nearest of 64 centroids" },
    { "pc_residual", 47, 1, true, "1 - sum of squared scores / |e - mean|^2" },
    { "k_retrieved", 48, 1, true, "hits / 64" },
    { "distances", 49, 4, true, "mean, deviation, least, largest: cosine distance / 2, deviation / 0.5" },
    { "hit_entropy", 53, 1, true, "H(softmax(-distance / 0.1)) / ln(hits)" },
    { "graph_depth", 54, 1, false, "mean hops of the context / 2" },
    { "recall_estimate", 55, 1, true, "min(1, asked for / 64)" },
    { "neighborhood_density", 56, 16, true, "histogram of distances on 0..1, the last bin open, / hits" },
    { "coherence", 72, 16, true,
      "how the hits cover the words of the question (cover.h): memory does not hand out their vectors" },
    { "hit_kinds", 88, 6, true, "share of documents, notes, qa, agent steps, facts, concepts" },
    { "edge_weight", 94, 1, false, "mean weight of the subgraph's edges" },
    { "majority_domain", 95, 1, false, "share of hits in the domain most of them are in" },
    { "latency_budget", 96, 1, true, "lg(1 + budget in ms) / lg(8192), at most 1; none: 1" },
    { "device_class", 97, 4, true, "one of edge mobile server cluster" },
    { "privacy_level", 101, 4, true, "one of public internal confidential local-only" },
    { "memory_available", 105, 1, false, "free share of the pool" },
    { "battery_level", 106, 1, false, "0..1; mains: 1" },
    { "concurrent_requests", 107, 1, false, "running / allowed" },
    { "historical_accuracy", 108, 16, true,
      "4 models x mean quality, latency / budget, successes, lg(1 + count) / lg(1024)" },
    { "accel", 124, 1, false, "0 none, 0.5 NPU, 1 GPU" },
    { "turn_index", 125, 1, true, "min(1, turn / 20)" },
    { "kv_resident", 126, 1, false, "cached share of the session's beginning" },
    { "queue_pressure", 127, 1, false, "p95 latency / target - 1, clipped to 1" },
    { NULL, 0, 0, false, NULL },
};
_Static_assert(RV_SLOT_PRESSURE + 1 == RV_SLOTS && RV_SLOT_K == 48 && RV_SLOT_LATENCY == 96 &&
                   RV_SLOT_NORM == 32,
               "the four blocks are 32, 16, 48 and 32 long");

const char *const rv_domain_names[RV_SLOT_DOMAINS] = { "code",     "maths",    "science", "medicine",
                                                       "law",      "finance",  "history", "geography",
                                                       "arts",     "sport",    "support", "product",
                                                       "personal", "language", "news",    "other" };
const char *const rv_domain_texts[RV_SLOT_DOMAINS] = {
    "computer program source code function python algorithm array string compile bug software",
    "mathematics algebra equation geometry calculus probability theorem number solve integral arithmetic",
    "physics chemistry biology science experiment energy molecule cell force planet atom evolution",
    "medicine patient disease treatment symptoms doctor clinical diagnosis drug blood surgery",
    "law legal court contract statute defendant plaintiff constitution crime rights liability",
    "finance economics bank money market investment tax interest price accounting stock firm",
    "history war empire century king revolution treaty ancient colonial president",
    "geography country city river mountain capital population continent map climate",
    "art music film novel poem painting philosophy religion ethics author character",
    "sport game team player match score football championship race tournament",
    "technical support error install reset device network connection account password setup",
    "product tool order shipping price customer warranty feature purchase store",
    "personal family friend feeling work home plan advice relationship birthday",
    "language grammar word sentence meaning translate pronoun verb vocabulary spelling",
    "news government election policy minister report yesterday announced international public",
    "question statement following answer true false none of the above",
};
const char *const rv_type_names[RV_SLOT_TYPES] = { "factual", "reasoning",      "creative",
                                                   "code",    "conversational", "instruction" };
static const char *const language_names[8] = { "en", "zh", "es", "fr", "de", "ja", "latin", "other" };

size_t rv_slot_name(size_t slot, char *out, size_t room)
{
    const rv_slot_group *g = rv_slots;
    while (g->name && slot >= g->at + g->n) {
        g++;
    }
    size_t i = slot - g->at;
    const char *of = "";
    if (g->at == RV_SLOT_DOMAIN) {
        of = rv_domain_names[i];
    } else if (g->at == RV_SLOT_TYPE) {
        of = rv_type_names[i];
    } else if (g->at == RV_SLOT_LANGUAGE) {
        of = language_names[i];
    }
    int n = g->n == 1 ? snprintf(out, room, "%s", g->name)
                      : snprintf(out, room, "%s[%zu]%s%s", g->name, i, *of ? " " : "", of);
    return n > 0 && (size_t)n < room ? (size_t)n : room - 1;
}

static float clip(double x, double low, double high)
{
    return x >= low ? (float)(x <= high ? x : high) : (float)low; /* NaN becomes low */
}

static float lg_share(double n, double full)
{
    return clip(log2(1 + n) / log2(full), 0, 1);
}

/* ---- language ---- */

/* Frequent words that the other languages here do not have. */
static const char *const language_words[][12] = {
    { "the", "of", "and", "is", "to", "what", "which", "that", "are", "with", "for", "how" },
    { NULL },
    { "el", "los", "una", "que", "por", "para", "como", "es", "del", "las", "con", "cual" },
    { "le", "les", "une", "des", "est", "pour", "dans", "qui", "quel", "avec", "sur", "pas" },
    { "der", "die", "und", "das", "ist", "nicht", "ein", "eine", "mit", "wie", "den", "von" },
};

typedef struct letters {
    size_t all, latin, han, kana;
    uint32_t words[5]; /* by language, as above */
    bool foreign[5];
} letters;

static void count_word(letters *l, const char *word, size_t n)
{
    for (int lang = 0; lang < 5; lang++) {
        for (int i = 0; i < 12 && language_words[lang][i]; i++) {
            l->words[lang] += rv_str_eq(rv_str_of(word, n), language_words[lang][i]);
        }
    }
}

static int language_of(const char *text, size_t n)
{
    letters l = { 0 };
    char word[16];
    size_t in_word = 0;
    n = n < 512 ? n : 512; /* enough to tell */
    for (size_t at = 0; at <= n;) {
        uint32_t c = 0;
        size_t len = at < n ? rv_utf8_decode(text + at, n - at, &c) : 0;
        at += len ? len : 1;
        uint32_t lower = c | 32;
        bool latin = (lower >= 'a' && lower <= 'z') || (c >= 0xc0 && c <= 0x24f);
        l.latin += latin;
        l.han += c >= 0x4e00 && c <= 0x9fff;
        l.kana += c >= 0x3040 && c <= 0x30ff;
        l.all += latin || c >= 0x370;
        if (latin && c < 128 && in_word < sizeof word) {
            word[in_word++] = (char)lower;
        } else if (!latin && in_word > 0) {
            count_word(&l, word, in_word);
            in_word = 0;
        } else if (latin) {
            in_word = sizeof word; /* too long for the list, or accented */
        }
    }
    if (l.all < 20) {
        return l.latin * 2 >= l.all && l.all > 0 ? 6 : 7;
    }
    if (l.kana * 10 > l.all) {
        return 5;
    }
    if (l.han * 2 > l.all) {
        return 1;
    }
    if (l.latin * 2 < l.all) {
        return 7;
    }
    int best = 0;
    for (int lang = 1; lang < 5; lang++) {
        best = l.words[lang] > l.words[best] ? lang : best;
    }
    return l.words[best] > 0 ? best : 6;
}

/* ---- kind of question ---- */

static const struct {
    const char *cue;
    int type;
} cues[] = {
    { "what ", 0 },   { "who ", 0 },        { "when ", 0 },    { "where ", 0 },    { "which ", 0 },
    { "capital", 0 }, { "how many", 1 },    { "why ", 1 },     { "prove", 1 },     { "calculate", 1 },
    { "if ", 1 },     { "solve", 1 },       { "how much", 1 }, { "therefore", 1 }, { "write a story", 2 },
    { "poem", 2 },    { "imagine", 2 },     { "slogan", 2 },   { "def ", 3 },      { "function", 3 },
    { "return ", 3 }, { "python", 3 },      { "code", 3 },     { "();", 3 },       { "hello", 4 },
    { "thank", 4 },   { "how are you", 4 }, { "please", 4 },   { "i feel", 4 },    { "you think", 4 },
    { "summar", 5 },  { "translate", 5 },   { "rewrite", 5 },  { "list ", 5 },     { "explain", 5 },
    { "convert", 5 },
};

static void fill_type(const char *text, size_t n, float *out)
{
    char folded[385]; /* the kind of a question shows early */
    size_t kept = n < sizeof folded - 1 ? n : sizeof folded - 1;
    for (size_t i = 0; i < kept; i++) {
        char c = text[i];
        folded[i] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c ? c : ' ';
    }
    folded[kept] = 0;
    double sum = 0, score[RV_SLOT_TYPES] = { 0 };
    for (size_t i = 0; i < RV_COUNT(cues); i++) {
        score[cues[i].type] += strstr(folded, cues[i].cue) != NULL;
    }
    for (int t = 0; t < RV_SLOT_TYPES; t++) {
        sum += exp(score[t]);
    }
    for (int t = 0; t < RV_SLOT_TYPES; t++) {
        out[t] = (float)(exp(score[t]) / sum);
    }
}

/* ---- embedding ---- */

static void fill_domain(const rv_kernels *k, const rv_slot_space *s, const float *e, float *out)
{
    double sum = 0;
    for (int d = 0; d < RV_SLOT_DOMAINS; d++) {
        out[d] = (float)exp(10.0 * k->dot_f32(s->domains + (size_t)d * s->dim, e, s->dim));
        sum += out[d];
    }
    for (int d = 0; d < RV_SLOT_DOMAINS; d++) {
        out[d] = (float)(out[d] / sum);
    }
}

static void fill_shape(const float *e, size_t dim, float *entropy, float *sparsity)
{
    double h = 0, l1 = 0;
    for (size_t i = 0; i < dim; i++) {
        float square = e[i] * e[i];
        l1 += fabsf(e[i]);
        h -= square > 1e-12f ? square * logf(square) : 0;
    }
    double root = sqrt((double)dim);
    *entropy = dim > 1 ? clip(h / log((double)dim), 0, 1) : 0;
    *sparsity = dim > 1 ? clip((root - l1) / (root - 1), 0, 1) : 0;
}

static void fill_pcs(const rv_kernels *k, const rv_slot_space *s, const float *e, float *out)
{
    double mean_e = k->dot_f32(s->mean, e, s->dim), mean_2 = k->dot_f32(s->mean, s->mean, s->dim);
    double away = k->dot_f32(e, e, s->dim) - 2 * mean_e + mean_2, held = 0;
    for (int p = 0; p < RV_SLOT_PCS; p++) {
        const float *axis = s->pcs + (size_t)p * s->dim;
        double score = k->dot_f32(axis, e, s->dim) - k->dot_f32(axis, s->mean, s->dim);
        held += score * score;
        out[RV_SLOT_PC + p] = s->spread[p] > 0 ? clip(score / (3 * s->spread[p]), -1, 1) : 0;
    }
    out[RV_SLOT_RESIDUAL] = away > 0 ? clip(1 - held / away, 0, 1) : 0;
}

static int fill_clusters(const rv_kernels *k, const rv_slot_space *s, const float *e, float *out)
{
    float best[4] = { -1, -1, -1, -1 };
    int nearest = -1;
    for (int c = 0; c < RV_SLOT_CENTROIDS; c++) {
        float cosine = k->dot_f32(s->centroids + (size_t)c * s->dim, e, s->dim);
        nearest = cosine > best[0] ? c : nearest;
        for (int i = 0; i < 4; i++) {
            if (cosine > best[i]) {
                memmove(best + i + 1, best + i, (size_t)(3 - i) * sizeof *best);
                best[i] = cosine;
                break;
            }
        }
    }
    for (int i = 0; i < 4; i++) {
        out[i] = clip(best[i], -1, 1);
    }
    return nearest;
}

/* ---- what memory found ---- */

static void fill_hits(const rv_slot_input *in, float *out)
{
    size_t hits = in->n_hits < RV_SLOT_HITS ? in->n_hits : RV_SLOT_HITS, n = 0;
    double sum = 0, squares = 0, least = 2, largest = 0, weights = 0, h = 0;
    if (hits == 0) {
        return;
    }
    for (size_t i = 0; i < hits; i++) {
        if (in->kinds) {
            out[RV_SLOT_KINDS + (in->kinds[i] < 6 ? in->kinds[i] : 0)] += 1 / (float)hits;
        }
        double d = in->distances ? in->distances[i] : NAN;
        if (!(d >= 0 && d <= 2)) {
            continue;
        }
        n++;
        sum += d;
        squares += d * d;
        least = d < least ? d : least;
        largest = d > largest ? d : largest;
        weights += exp(-d / 0.1);
        out[RV_SLOT_DENSITY + (d < 1 ? (int)(d * 16) : 15)] += 1;
    }
    out[RV_SLOT_K] = (float)hits / RV_SLOT_HITS;
    out[RV_SLOT_RECALL] = clip((double)in->k / 64, 0, 1);
    if (n == 0) {
        return;
    }
    for (int b = 0; b < 16; b++) {
        out[RV_SLOT_DENSITY + b] /= (float)n;
    }
    for (size_t i = 0; i < hits; i++) {
        double d = in->distances[i], p = d >= 0 && d <= 2 ? exp(-d / 0.1) / weights : 0;
        h -= p > 1e-12 ? p * log(p) : 0;
    }
    double mean = sum / (double)n, variance = squares / (double)n - mean * mean;
    out[RV_SLOT_DISTANCE] = (float)(mean / 2);
    out[RV_SLOT_DISTANCE + 1] = (float)(sqrt(variance > 0 ? variance : 0) / 0.5);
    out[RV_SLOT_DISTANCE + 2] = (float)(least / 2);
    out[RV_SLOT_DISTANCE + 3] = (float)(largest / 2);
    out[RV_SLOT_HIT_ENTROPY] = n > 1 ? (float)(h / log((double)n)) : 0;
}

/* ---- all ---- */

void rv_slots_history(const rv_slot_history *history, float *out)
{
    for (int m = 0; m < RV_SLOT_MODELS; m++) {
        float *h = out + RV_SLOT_HISTORY + 4 * m;
        h[0] = clip(history[m].quality, 0, 1);
        h[1] = clip(history[m].latency, 0, 1);
        h[2] = clip(history[m].success, 0, 1);
        h[3] = lg_share(history[m].count, 1024);
    }
}

void rv_slots_fill(const rv_slot_space *space, const rv_slot_input *in, float *out, int *cluster)
{
    const rv_kernels *k = rv_kernels_best();
    int nearest = -1;
    memset(out, 0, RV_SLOTS * sizeof *out);
    size_t tokens = in->tokens ? in->tokens : in->n / 4;
    out[RV_SLOT_TOKENS] = clip(log2((double)(tokens > 0 ? tokens : 1)) / 12, 0, 1);
    out[RV_SLOT_LANGUAGE + language_of(in->text, in->n)] = 1;
    fill_type(in->text, in->n, out + RV_SLOT_TYPE);
    if (space->dim > 0 && in->vector) {
        fill_domain(k, space, in->vector, out + RV_SLOT_DOMAIN);
        fill_pcs(k, space, in->vector, out);
        fill_shape(in->vector, space->dim, &out[RV_SLOT_ENTROPY], &out[RV_SLOT_SPARSITY]);
        nearest = fill_clusters(k, space, in->vector, out + RV_SLOT_CLUSTER);
    }
    fill_hits(in, out);
    for (int i = 0; in->cover && i < RV_COVER; i++) {
        out[RV_SLOT_COHERENCE + i] = clip(in->cover[i], 0, 1);
    }
    out[RV_SLOT_LATENCY] = in->latency_ms > 0 ? lg_share(in->latency_ms, 8192) : 1;
    out[RV_SLOT_DEVICE + (in->device & 3)] = 1;
    out[RV_SLOT_PRIVACY + (in->privacy & 3)] = 1;
    rv_slots_history(in->history, out);
    out[RV_SLOT_TURN] = clip(in->turn / 20.0, 0, 1);
    if (cluster) {
        *cluster = nearest;
    }
}

/* ---- surface ---- */

enum {
    S_BYTES,
    S_WORDS,
    S_WORD_LENGTH,
    S_DIGITS,
    S_UPPER,
    S_PUNCT,
    S_LINES,
    S_QUESTIONS,
    S_COMMAS,
    S_STOPS,
    S_MATHS,
    S_DOLLARS,
    S_BRACES,
    S_BLANK,
    S_QUOTES,
    S_NUMBERS,
    S_LONG_NUMBER,
    S_BACKSLASH,
    S_HIGH,
    S_OPTIONS,
    S_LAST_LINE,
    S_LONGEST_LINE,
    S_NOT,
    S_STATEMENT,
    S_FOLLOWING,
    S_CODE,
    S_HOW_MANY,
    S_ALL_OF,
    S_TRUE,
    S_CAPITALS,
    S_SENTENCES,
    S_FIRST
};
_Static_assert(S_FIRST + 1 == RV_SURFACE, "32 statistics");

static float words_there(const char *text, size_t n, const char *const *words)
{
    float found = 0;
    for (size_t w = 0; words[w]; w++) {
        found += memmem(text, n, words[w], strlen(words[w])) != NULL;
    }
    return found;
}

static void count_bytes(const char *text, size_t n, double *c)
{
    bool in_word = false, in_number = false;
    size_t digits = 0, line = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char b = (unsigned char)text[i];
        bool digit = b >= '0' && b <= '9', upper = b >= 'A' && b <= 'Z',
             letter = upper || (b >= 'a' && b <= 'z') || b >= 128;
        c[S_DIGITS] += digit;
        c[S_UPPER] += upper;
        c[S_PUNCT] += b > 32 && !digit && !letter;
        c[S_LINES] += b == '\n';
        c[S_QUESTIONS] += b == '?';
        c[S_COMMAS] += b == ',';
        c[S_STOPS] += b == '.';
        c[S_MATHS] += b == '+' || b == '=' || b == '^' || b == '*' || b == '<' || b == '>';
        c[S_DOLLARS] += b == '$';
        c[S_BRACES] += b == '{' || b == '}' || b == '(' || b == ')' || b == '[' || b == ']';
        c[S_BLANK] += b == '_';
        c[S_QUOTES] += b == '"' || b == '\'';
        c[S_BACKSLASH] += b == '\\';
        c[S_HIGH] += b >= 128;
        c[S_CAPITALS] += upper && !in_word;
        c[S_WORDS] += letter && !in_word;
        c[S_NUMBERS] += digit && !in_number;
        digits = digit ? digits + 1 : 0;
        c[S_LONG_NUMBER] = digits > c[S_LONG_NUMBER] ? (double)digits : c[S_LONG_NUMBER];
        c[S_OPTIONS] += b == '\n' && i + 2 < n && text[i + 1] >= 'A' && text[i + 1] <= 'J' &&
                        (text[i + 2] == '.' || text[i + 2] == ')');
        line = b == '\n' ? 0 : line + 1;
        c[S_LONGEST_LINE] = line > c[S_LONGEST_LINE] ? (double)line : c[S_LONGEST_LINE];
        c[S_SENTENCES] +=
            (b == '.' || b == '?' || b == '!') && (i + 1 == n || text[i + 1] == ' ' || text[i + 1] == '\n');
        in_word = letter;
        in_number = digit;
    }
    c[S_LAST_LINE] = (double)line;
}

void rv_surface(const char *text, size_t n, float *out)
{
    static const char *const nots[] = { " not ", " NOT ", "EXCEPT", "except", "n't", NULL };
    static const char *const statements[] = { "Statement 1", "Statement 2", NULL };
    static const char *const following[] = { "following", "which of", "Which of", NULL };
    static const char *const code[] = { "def ", "return", "[PYTHON]", "function", "assert", "==", NULL };
    static const char *const how_many[] = { "How many", "how many", "How much", "how much", NULL };
    static const char *const all_of[] = { "ll of the", "one of the", "I and II", "oth ", NULL };
    static const char *const truth[] = { "True", "False", "true", "false", NULL };
    static const char *const first[] = { "Find", "What", "Which", "A ", "If", "Let", "The", NULL };
    double c[RV_SURFACE] = { 0 }, all = (double)n + 1;
    count_bytes(text, n, c);
    for (int i = 0; i < RV_SURFACE; i++) {
        out[i] = (float)log2(1 + c[i]);
    }
    out[S_BYTES] = (float)log2(all);
    out[S_WORD_LENGTH] = (float)log2(1 + all / (1 + c[S_WORDS]));
    out[S_DIGITS] = (float)(c[S_DIGITS] / all);
    out[S_UPPER] = (float)(c[S_UPPER] / all);
    out[S_PUNCT] = (float)(c[S_PUNCT] / all);
    out[S_HIGH] = (float)(c[S_HIGH] / all);
    out[S_NOT] = words_there(text, n, nots);
    out[S_STATEMENT] = words_there(text, n, statements);
    out[S_FOLLOWING] = words_there(text, n, following);
    out[S_CODE] = words_there(text, n, code);
    out[S_HOW_MANY] = words_there(text, n, how_many);
    out[S_ALL_OF] = words_there(text, n, all_of);
    out[S_TRUE] = words_there(text, n, truth);
    out[S_FIRST] = 0;
    for (int w = 0; first[w]; w++) {
        if (rv_str_starts(rv_str_of(text, n), first[w])) {
            out[S_FIRST] = (float)(w + 1);
        }
    }
}
