/* A search ranks by vector and by words, joins the two lists, puts corrections in place of what they correct (of a passage that says more,
 * beside it), and reads only the best k records. */
#include "memory/bridge.h"
#include "memory/memory_priv.h"
#include "base/clock.h"
#include "base/rng.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Graph: the best SEEDS give a part of their score to what they are joined with, and a part of that goes one step further. SEEDS
 * and the part were looked for on three of the ten conversations of LoCoMo (docs/guide/memory.md); more seeds lift what is
 * beside the point. */
enum {
    SIDE_LEAST = 100, /* of the words; of the vectors, where each costs more, */
    NEAR_PART = 3,    /* a third of that: what stands behind in one side is seldom among the best of both */
    CORRECTIONS_DEEP = 64,
    ASKED_WORDS = 32,      /* of a question, and of what was corrected, that are compared */
    SENTENCE_WORDS = 3,    /* fewer are a heading */
    ONE_THING_BYTES = 300, /* a longer text says more than one thing, whatever its signs */
    QUERY_BYTES = 16384,
    SEEDS = 5,
    EDGES_EACH = 16,  /* that are followed from a node, the newest */
    REACH_MOST = 256, /* nodes that only the graph found */
    NAMERS = 3,       /* of the best, whose names are followed, */
    BRIDGED = 2,      /* to so many nodes in all: each passage more costs, */
    NOT_PASSED = 3    /* and these do not pass the best three: a question of one step has its answer there */
};

static const double VECTOR_WEIGHT = 1.5;
static const double NARROW_RECALL = 0.5;

/* A node that has so much of the best score, or more, is asked for names; what holds one gets the half of that node's score, less when
 * several do. With a fifth, as along edges, it stood behind all that shares a word with the question. */
static const double NAMER_PART = 0.75;
static const double BRIDGE_PART = 0.5;

static const char *const mode_names[RV_MEMORY_MODES] = { [RV_MEMORY_HYBRID] = "hybrid",
                                                         [RV_MEMORY_VECTOR] = "vector",
                                                         [RV_MEMORY_WORDS] = "words",
                                                         [RV_MEMORY_GRAPH] = "graph" };

rv_err rv_memory_mode_of(const char *name, rv_memory_mode *out)
{
    for (size_t i = 0; i < RV_MEMORY_MODES; i++) {
        if (strcmp(name, mode_names[i]) == 0) {
            *out = (rv_memory_mode)i;
            return RV_OK;
        }
    }
    return rv_fail(RV_E_ARG, "mode: expected \"graph\", \"hybrid\", \"vector\" or \"words\", found \"%s\"",
                   name);
}

const char *rv_memory_mode_name(rv_memory_mode mode)
{
    return mode_names[mode];
}

/* ---- search ---- */

/* One node on its way into the result. */
typedef struct candidate {
    int64_t id;
    size_t vector_rank, words_rank; /* from 1; 0: that side did not find it */
    double vector_score, words_score, score;
    double support; /* what its neighbours give it */
    bool corrected; /* stands behind what has the same score: its correction */
    bool below;     /* corrected by a node that the filter keeps out: stands below all others */
    bool gone;      /* left out: its correction is here */
    bool bridged;   /* holds a name that one of the best holds */
} candidate;

typedef struct searching {
    rv_memory *m;
    rv_memory_scope scope;
    const rv_memory_query *q;
    sqlite3 *conn;
    matcher filter, seen; /* seen: what the scope sees, whether it passes or not */
    passing passing;
    const float *vector;    /* NULL: that side is not asked */
    const char *words;      /* FTS5 query, "" : that side is not asked */
    rv_words *cutter;       /* NULL: that side is not asked */
    size_t text_bytes;      /* of the question */
    size_t side;            /* how many each side gives at most */
    rv_hit *hits;           /* [side] */
    rv_words_hit *by_words; /* [n_by_words] of side */
    size_t n_by_words;
    candidate *at; /* [4 * side + 2 * REACH_MOST] */
    size_t n;
    size_t n_sorted;     /* the first of them ascend by id */
    bool cut;            /* a side had more to give */
    double vector_share; /* of the cosine in a score, 0 .. 1; the rest is the words' */
    rv_memory_plan plan;
} searching;

static int by_id(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

static candidate *find_candidate(searching *s, int64_t id)
{
    candidate key = { .id = id }, *found = bsearch(&key, s->at, s->n_sorted, sizeof key, by_id);
    for (size_t i = s->n_sorted; !found && i < s->n; i++) {
        found = s->at[i].id == id ? &s->at[i] : NULL;
    }
    return found;
}

static int by_rank(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    if (x->gone != y->gone) {
        return x->gone ? 1 : -1;
    }
    if (x->below != y->below) {
        return x->below ? 1 : -1;
    }
    if (x->score != y->score) {
        return x->score > y->score ? -1 : 1;
    }
    if (x->corrected != y->corrected) {
        return x->corrected ? 1 : -1;
    }
    return x->id > y->id ? -1 : x->id < y->id; /* the newer one */
}

static rv_err ask_vectors(searching *s, double recall)
{
    size_t found = 0, k = s->side / NEAR_PART > s->q->k ? s->side / NEAR_PART : s->q->k;
    k = k < RV_INDEX_K_MAX ? k : RV_INDEX_K_MAX;
    if (s->vector) {
        rv_filter bits = { .bits = s->passing.bits, .n_bits = s->passing.n_bits };
        const rv_filter *filter = s->passing.bits ? &bits : NULL;
        /* The part that was asked for is one of the k; those beyond are there to be joined with the words'. */
        nearest_plan plan = rv_nearest_plan(s->m, filter, s->passing.n, s->q->k, recall);
        RV_TRY(rv_nearest_search(s->m, &plan, s->vector, filter, k, s->hits, &found));
        s->plan = plan.said;
    }
    for (size_t i = 0; i < found; i++) {
        s->at[s->n++] = (candidate){ .id = s->hits[i].id,
                                     .vector_rank = i + 1,
                                     .vector_score = (double)s->hits[i].score };
    }
    s->cut |= found == k;
    return RV_OK;
}

/* The cosine of what only the words found. Their rows lie anywhere in the files: the next one is on its way from memory while one is
 * compared. */
static void add_cosines(searching *s)
{
    const size_t line = 64 / sizeof(float);
    for (size_t i = 0; s->vector && i < s->n; i++) {
        float cosine;
        const entry *next = i + 1 < s->n ? rv_memory_find(s->m, s->at[i + 1].id) : NULL;
        for (size_t d = 0; next && next->row && !s->at[i + 1].vector_rank && d < s->m->embedder.dim;
             d += line) {
            __builtin_prefetch(next->row + d);
        }
        if (!s->at[i].vector_rank && rv_index_score(s->m->index, s->vector, s->at[i].id, &cosine)) {
            s->at[i].vector_score = (double)cosine;
        }
    }
}

static rv_err ask_postings(searching *s)
{
    const rv_memory *m = s->m;
    return rv_postings_search(m->postings, s->cutter, s->q->text, s->text_bytes,
                              s->passing.bits ? s->passing.bits : m->live.at, m->live.n * 64, s->side,
                              s->by_words, &s->n_by_words);
}

static rv_err ask_words(searching *s)
{
    s->n_by_words = 0;
    if (!s->words[0]) {
        return RV_OK;
    }
    if (s->m->postings) {
        return ask_postings(s);
    }
    sqlite3_stmt *stmt;
    RV_TRY(rv_db_prepare(s->conn, &stmt, "SELECT rowid, rank FROM words WHERE words MATCH ?1 ORDER BY rank",
                         "t", s->words));
    rv_err e = RV_OK;
    for (bool row = true; !e && row && s->n_by_words < s->side;) {
        e = rv_db_step(stmt, &row);
        int64_t id = !e && row ? sqlite3_column_int64(stmt, 0) : 0;
        if (id && (s->passing.bits ? rv_passes(&s->passing, id) : rv_memory_find(s->m, id) != NULL)) {
            s->by_words[s->n_by_words++] = (rv_words_hit){ id, (float)-sqlite3_column_double(stmt, 1) };
        }
    }
    sqlite3_finalize(stmt);
    return e;
}

static void put_words(searching *s)
{
    for (size_t i = 0; i < s->n_by_words; i++) {
        s->at[s->n++] = (candidate){ .id = s->by_words[i].id,
                                     .words_rank = i + 1,
                                     .words_score = (double)s->by_words[i].score };
    }
    s->cut |= s->n_by_words == s->side;
}

/* Both lists into one, each node once. */
static void join(searching *s)
{
    qsort(s->at, s->n, sizeof *s->at, by_id);
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) {
        const candidate *c = &s->at[i];
        if (n > 0 && s->at[n - 1].id == c->id) {
            candidate *into = &s->at[n - 1];
            into->vector_rank = c->vector_rank ? c->vector_rank : into->vector_rank;
            into->words_rank = c->words_rank ? c->words_rank : into->words_rank;
            into->vector_score = c->vector_rank ? c->vector_score : into->vector_score;
            into->words_score = c->words_rank ? c->words_score : into->words_score;
        } else {
            s->at[n++] = *c;
        }
    }
    s->n = s->n_sorted = n;
}

/* Hybrid: BM25 / the best BM25 and the cosine, weighted 1 to what feedback measured of both sides (learn/sides.h), or else to
 * VECTOR_WEIGHT * the best cosine: where nothing is really near, the words decide. Where a node stands in a list says less than by how much it is better: joining by ranks lost against words alone
 * (docs/guide/memory.md, where the weight was chosen too). */
static void fuse(searching *s)
{
    double best = 0, nearest = 0;
    int64_t now = rv_memory_now_ms(s->m);
    for (size_t i = 0; i < s->n; i++) {
        best = s->at[i].words_score > best ? s->at[i].words_score : best;
        nearest = s->at[i].vector_score > nearest ? s->at[i].vector_score : nearest;
    }
    double weight = s->q->vector_weight > 0   ? s->q->vector_weight
                    : s->m->vector_weight > 0 ? s->m->vector_weight
                                              : VECTOR_WEIGHT * nearest;
    s->vector_share = weight / (1 + weight);
    for (size_t i = 0; i < s->n; i++) {
        candidate *c = &s->at[i];
        double by_words = best > 0 ? c->words_score / best : 0;
        switch (s->q->mode) {
        case RV_MEMORY_VECTOR: c->score = c->vector_score; break;
        case RV_MEMORY_WORDS: c->score = c->words_score; break;
        default: c->score = by_words + (c->vector_score - by_words) * s->vector_share; break;
        }
        c->score = c->score > 0 ? c->score * rv_memory_worth(s->m, c->id, now) : c->score;
    }
}

/* ---- graph ---- */

/* What corrects this node in the end: a correction may itself have been corrected. 0: nothing does. */
static int64_t last_correction(const matcher *f, int64_t id)
{
    int64_t last = 0;
    for (int step = 0; step < CORRECTIONS_DEEP; step++) {
        int64_t next = rv_matcher_corrected_by(f, last ? last : id);
        if (!next) {
            break;
        }
        last = next;
    }
    return last;
}

/* The candidate of a node, which may not be one yet; NULL: it does not pass, or too many were reached. */
static candidate *reach(searching *s, int64_t id)
{
    candidate *c = find_candidate(s, id);
    float cosine = 0;
    if (!c && s->n - s->n_sorted < REACH_MOST && rv_matcher_has(&s->filter, id) &&
        rv_memory_find(s->m, id)->row) {
        if (s->vector) {
            (void)rv_index_score(s->m->index, s->vector, id, &cosine);
        }
        c = &s->at[s->n++];
        *c = (candidate){ .id = id,
                          .vector_score = (double)cosine,
                          .score = (double)cosine * s->vector_share };
    }
    return c;
}

static void support(searching *s, int64_t id, double by)
{
    candidate *c = reach(s, id);
    if (c && c->support < by) {
        c->support = by;
    }
}

static bool is_supposed(const searching *s, const rv_graph_edge *e)
{
    for (size_t i = 0; i < s->q->n_supposed; i++) {
        const rv_memory_edge *other = &s->q->supposed[i];
        if (other->from == e->from && other->to == e->to &&
            strcmp(other->type, rv_graph_type_name(s->m->graph, e->type)) == 0) {
            return true;
        }
    }
    return false;
}

/* rv_memory_edge_strength of a type that may have no number yet. */
static double strength_of(const rv_memory *m, const char *type)
{
    const unsigned special[] = { m->contains, m->corrects, m->same_topic };
    for (size_t i = 0; i < RV_COUNT(special); i++) {
        if (strcmp(rv_graph_type_name(m->graph, special[i]), type) == 0) {
            return rv_memory_edge_strength(m, special[i]);
        }
    }
    return rv_memory_edge_strength(m, UINT_MAX);
}

/* An edge to what is another user's is none. */
static bool is_seen(const searching *s, int64_t id)
{
    return !s->seen.user_set || rv_matcher_has(&s->seen, id);
}

/* What a node gives along edges that are only supposed. */
static size_t gives_supposed(const searching *s, int64_t id, double score, size_t n, near out[2 * EDGES_EACH],
                             double by[2 * EDGES_EACH])
{
    for (size_t i = 0; i < s->q->n_supposed && n < 2 * EDGES_EACH; i++) {
        const rv_memory_edge *e = &s->q->supposed[i];
        double part = strength_of(s->m, e->type) * (double)fminf((float)e->weight, 1);
        int64_t other = e->from == id ? e->to : e->from;
        if ((e->from == id || e->to == id) && part > 0 && is_seen(s, other)) {
            out[n].id = other;
            by[n++] = part * score;
        }
    }
    return n;
}

/* What a node gives to each of its neighbours. */
static size_t gives(const searching *s, int64_t id, double score, near out[2 * EDGES_EACH],
                    double by[2 * EDGES_EACH])
{
    size_t n = 0;
    rv_graph_edge e;
    for (int side = 0; side < 2; side++) {
        size_t limit = n + EDGES_EACH;
        for (rv_graph_cursor c = { 0 };
             n < limit && rv_graph_next(s->m->graph, id, (rv_graph_side)side, &c, &e);) {
            double part = rv_memory_edge_strength(s->m, e.type) * (e.weight < 1 ? (double)e.weight : 1);
            int64_t other = side == RV_GRAPH_OUT ? e.to : e.from;
            if (part > 0 && !is_supposed(s, &e) && is_seen(s, other)) {
                out[n].id = other;
                by[n++] = part * score;
            }
        }
    }
    return gives_supposed(s, id, score, n, out, by);
}

static bool goes_before(near x, near y)
{
    return x.cosine > y.cosine || (x.cosine == y.cosine && x.id > y.id);
}

/* A node keeps the largest of what it is given; what is lifted gives nothing on beyond the second step. */
static void go_along_edges(searching *s, near seed)
{
    near one[2 * EDGES_EACH], two[2 * EDGES_EACH];
    double by_one[2 * EDGES_EACH], by_two[2 * EDGES_EACH];
    size_t n_one = gives(s, seed.id, (double)seed.cosine, one, by_one);
    for (size_t k = 0; k < n_one; k++) {
        support(s, one[k].id, by_one[k]);
        size_t n_two = gives(s, one[k].id, by_one[k], two, by_two);
        for (size_t l = 0; l < n_two; l++) {
            if (two[l].id != seed.id) {
                support(s, two[l].id, by_two[l]);
            }
        }
    }
}

/* What a node would have for its score with this support. */
static double standing(searching *s, int64_t id, double by)
{
    const candidate *c = find_candidate(s, id);
    float cosine = 0;
    if (!c && s->vector) {
        (void)rv_index_score(s->m->index, s->vector, id, &cosine);
    }
    return by + (c ? c->score : (double)cosine * s->vector_share);
}

typedef struct bridged {
    int64_t id;
    double by, score;
} bridged;

/* Among the best BRIDGED, sorted, each node once. */
static void put_bridged(bridged best[BRIDGED + 1], size_t *n, bridged one)
{
    size_t at = 0, end;
    while (at < *n && best[at].id != one.id) {
        at++;
    }
    if (at < *n && best[at].score >= one.score) {
        return;
    }
    end = at < *n ? at : *n < BRIDGED ? (*n)++ : BRIDGED;
    for (; end > 0 && best[end - 1].score < one.score; end--) {
        best[end] = best[end - 1];
    }
    best[end] = one;
}

/* The best found give to those that hold a name they hold: memory/bridge.h. What was corrected leads where its correction does. */
static rv_err follow_names(searching *s, const near *seeds, size_t n)
{
    const rv_memory *m = s->m;
    rv_bridging b = { .m = m,
                      .conn = s->conn,
                      .words = s->cutter,
                      .question = s->q->text,
                      .question_bytes = s->text_bytes < QUERY_BYTES ? s->text_bytes : QUERY_BYTES };
    b.passing = s->passing.bits ? s->passing : (passing){ m->live.at, m->live.n * 64, m->n_live };
    bridged best[BRIDGED + 1];
    size_t n_best = 0, before = n < NOT_PASSED ? n : NOT_PASSED;
    for (size_t i = 0; i < n && i < NAMERS; i++) {
        double score = (double)seeds[i].cosine;
        int64_t last = last_correction(&s->filter, seeds[i].id);
        rv_bridges found;
        if (score <= 0 || score < NAMER_PART * (double)seeds[0].cosine ||
            !find_candidate(s, seeds[i].id)->words_rank) {
            continue;
        }
        RV_TRY(rv_bridges_of(&b, last && rv_matcher_has(&s->filter, last) ? last : seeds[i].id, &found));
        for (size_t k = 0; k < found.n; k++) {
            double by = BRIDGE_PART * score * sqrt(found.at[k].part);
            if (found.at[k].id != seeds[0].id) {
                put_bridged(best, &n_best, (bridged){ found.at[k].id, by, standing(s, found.at[k].id, by) });
            }
        }
    }
    double most = before ? nextafter(find_candidate(s, seeds[before - 1].id)->score, -INFINITY) : 0;
    for (size_t i = 0; i < n_best; i++) {
        candidate *c = reach(s, best[i].id);
        if (c) {
            c->bridged = true;
            c->score = fmax(c->score, fmin(c->score + best[i].by, most));
        }
    }
    return RV_OK;
}

static size_t best_seeds(const searching *s, near seeds[SEEDS + 1])
{
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) { /* sorted */
        near one = { s->at[i].id, (float)s->at[i].score };
        size_t at = n < SEEDS ? n++ : SEEDS;
        for (; at > 0 && goes_before(one, seeds[at - 1]); at--) {
            seeds[at] = seeds[at - 1];
        }
        seeds[at] = one;
    }
    return n;
}

static rv_err ask_graph(searching *s)
{
    near seeds[SEEDS + 1];
    size_t n = best_seeds(s, seeds);
    for (size_t i = 0; i < n; i++) {
        go_along_edges(s, seeds[i]);
    }
    for (size_t i = 0; i < s->n; i++) {
        s->at[i].score += s->at[i].support;
    }
    return s->cutter ? follow_names(s, seeds, best_seeds(s, seeds)) : RV_OK;
}

bool rv_memory_says_more(const char *text, size_t n)
{
    size_t sentences = 0, words = 0;
    for (size_t i = 0; i < n && n <= ONE_THING_BYTES; i++) {
        bool blank = text[i] == ' ' || text[i] == '\n' || text[i] == '\t' || text[i] == '\r';
        bool word_ends = !blank && (i + 1 == n || strchr(" \n\t\r", text[i + 1]));
        words += word_ends;
        if (i + 1 == n || text[i] == '\n' || (word_ends && strchr(".!?", text[i]))) {
            sentences += words >= SENTENCE_WORDS;
            words = 0;
        }
    }
    return n > ONE_THING_BYTES || sentences > 1;
}

/* What a correction corrects: of `Correction: Q: question A: answer`, as feedback writes it, the question; of others all. */
static rv_str what_it_corrects(rv_str text)
{
    static const char head[] = "Correction: Q: ";
    size_t from = strlen(head), to = from;
    if (text.n < from || memcmp(text.at, head, from) != 0) {
        return text;
    }
    while (to + 4 <= text.n && memcmp(text.at + to, " A: ", 4) != 0) {
        to++;
    }
    return rv_str_of(text.at + from, to - from);
}

static size_t asked_words(const searching *s, rv_str text, rv_language language, uint64_t out[ASKED_WORDS])
{
    size_t n = 0;
    rv_word word;
    rv_words_begin(s->cutter, text.at, text.n, RV_LANGUAGE_SET(language));
    while (n < ASKED_WORDS && rv_words_next(s->cutter, &word)) {
        uint64_t hash = rv_hash64(word.stem.at, word.stem.n, 0);
        bool known = word.common || rv_words_empty(text.at + word.at, word.n);
        for (size_t i = 0; !known && i < n; i++) {
            known = out[i] == hash;
        }
        if (!known) {
            out[n++] = hash;
        }
    }
    return n;
}

/* Is the question about what was corrected? More than half of the words of both have to be words of the other: of "When does the library
 * open?" and "When does the cafe open?" only half are. */
static bool asks_for(const searching *s, rv_str correction)
{
    uint64_t asked[ASKED_WORDS], said[ASKED_WORDS];
    if (!s->cutter) {
        return false;
    }
    size_t bytes = s->text_bytes < QUERY_BYTES ? s->text_bytes : QUERY_BYTES, shared = 0;
    rv_language language = rv_words_language(correction.at, correction.n, false);
    language = language ? language : RV_LANGUAGE_ENGLISH;
    size_t n_asked = asked_words(s, rv_str_of(s->q->text, bytes), language, asked);
    size_t n_said = asked_words(s, what_it_corrects(correction), language, said);
    for (size_t i = 0; i < n_asked; i++) {
        for (size_t k = 0; k < n_said; k++) {
            shared += asked[i] == said[k];
        }
    }
    return shared * (n_asked + n_said) > n_asked * n_said; /* shared/asked + shared/said > 1 */
}

/* The text of a node, until the next one is read; empty: it was removed meanwhile. */
static rv_err read_text(const node_reader *reader, int64_t id, rv_str *out)
{
    record row = { 0 };
    bool found;
    RV_TRY(rv_db_bind(reader->stmt, "i", id));
    RV_TRY(rv_db_step(reader->stmt, &found));
    RV_TRY(found ? rv_record_read(reader->stmt, &row) : RV_OK);
    *out = found ? row.text : rv_str_from("");
    return RV_OK;
}

/* Where the correction of a node stands, and whether the node goes. The whole of a short text was corrected; of a passage that says more, one
 * thing: it stays, and the correction comes with it only when that is asked for. */
static rv_err put_correction(searching *s, const node_reader *reader, candidate *of, int64_t last)
{
    const char *type = s->m->names.at[rv_memory_find(s->m, of->id)->type];
    bool whole = true, wanted = true;
    rv_str text;
    if (!s->q->with_corrected && strcmp(type, "fact") != 0 && strcmp(type, "qa") != 0) {
        RV_TRY(read_text(reader, of->id, &text));
        whole = !rv_memory_says_more(text.at, text.n);
    }
    if (!whole) {
        RV_TRY(read_text(reader, last, &text));
        wanted = asks_for(s, text);
    }
    of->gone = whole && !s->q->with_corrected;
    candidate *correction = wanted ? find_candidate(s, last) : NULL;
    if (wanted && !correction) {
        correction = &s->at[s->n++];
        *correction = (candidate){ .id = last, .score = of->score };
    }
    if (wanted) {
        correction->score = of->score > correction->score ? of->score : correction->score;
    }
    return RV_OK;
}

/* A correction that passes the filter stands at least where the best of what it corrects stands, found or not. What is
 * corrected stands behind it, or is left out. */
static rv_err put_corrections(searching *s)
{
    size_t n = s->n; /* those that are appended are last corrections, and not corrected themselves */
    node_reader reader;
    RV_TRY(rv_node_reader_begin(&reader, &s->filter, s->conn));
    for (size_t i = 0; i < n; i++) {
        int64_t last = last_correction(&s->filter, s->at[i].id);
        if (!last) {
            continue;
        }
        s->at[i].corrected = true;
        if (rv_matcher_has(&s->filter, last)) {
            RV_TRY(put_correction(s, &reader, &s->at[i], last));
        } else {
            s->at[i].below = true;
        }
    }
    return RV_OK;
}

static const char *side_of(const candidate *c)
{
    return c->vector_rank && c->words_rank ? "both"
           : c->words_rank                 ? "words"
           : c->vector_rank && !c->bridged ? "vector"
                                           : "graph"; /* the vectors of a small store find all that it has */
}

static rv_err read_best(searching *s, rv_arena *arena, rv_memory_hits *out)
{
    node_reader reader;
    RV_TRY(rv_node_reader_begin(&reader, &s->filter, s->conn));
    rv_err e = RV_OK;
    out->n = 0;
    for (size_t i = 0; !e && i < s->n && !s->at[i].gone && out->n < s->q->k; i++) {
        const candidate *c = &s->at[i];
        rv_memory_node *node = &out->at[out->n];
        bool found = false;
        e = rv_node_read(&reader, c->id, arena, node, &found);
        if (e || !found) {
            continue;
        }
        node->score = c->score;
        node->vector_score = c->vector_rank ? c->vector_score : NAN;
        node->words_score = c->words_rank ? c->words_score : NAN;
        node->origin_side = side_of(c);
        out->n++;
    }
    return e;
}

static rv_err join_sides(searching *s, double recall)
{
    s->n = 0;
    s->cut = false;
    RV_TRY(ask_vectors(s, recall));
    put_words(s);
    join(s);
    add_cosines(s);
    fuse(s);
    return RV_OK;
}

/* Is one of the best k there by its vector alone? */
static bool vectors_decide(const searching *s)
{
    size_t better = 0; /* how many stand before the best of those */
    double best = -INFINITY;
    for (size_t i = 0; i < s->n; i++) {
        best = !s->at[i].words_rank && s->at[i].score > best ? s->at[i].score : best;
    }
    for (size_t i = 0; i < s->n; i++) {
        better += s->at[i].words_rank && s->at[i].score > best;
    }
    return better < s->q->k;
}

/* Where words are asked too, a narrow look at the vectors comes first. Mostly the best have words of the question, and their cosines
 * are exact however they were found; only when what vectors alone found is among them is it worth to look for all that is near. */
static rv_err rank(searching *s)
{
    bool narrow = s->n_by_words >= s->q->k && s->vector && s->q->recall == 0 && s->m->tuning.recall < 1;
    RV_TRY(join_sides(s, narrow ? NARROW_RECALL : s->q->recall));
    return narrow && vectors_decide(s) ? join_sides(s, 0) : RV_OK;
}

/* Under state. *enough: k were found, or no side has more to give. */
static rv_err search_once(searching *s, rv_arena *arena, rv_memory_hits *out, bool *enough)
{
    RV_TRY(ask_words(s));
    RV_TRY(rank(s));
    if (s->q->mode == RV_MEMORY_GRAPH) {
        RV_TRY(ask_graph(s));
    }
    RV_TRY(put_corrections(s));
    qsort(s->at, s->n, sizeof *s->at, by_rank);
    RV_TRY(read_best(s, arena, out));
    *enough = out->n == s->q->k || !s->cut;
    return RV_OK;
}

static rv_err search_all(searching *s, rv_arena *arena, rv_memory_hits *out)
{
    const rv_alloc *mem = s->m->mem;
    s->side = 2 * s->q->k > SIDE_LEAST ? 2 * s->q->k : SIDE_LEAST;
    for (bool enough = false; !enough;
         s->side *= 4) { /* again only when much was left out for its correction */
        s->hits = rv_new_array(mem, s->side, sizeof *s->hits);
        s->at = rv_new_array(mem, 4 * s->side + 2 * REACH_MOST, sizeof *s->at);
        s->by_words = rv_new_array(mem, s->side, sizeof *s->by_words);
        rv_err e = s->hits && s->at && s->by_words ? RV_OK : rv_fail(RV_E_NOMEM, "memory: no room to search");
        if (!e) {
            pthread_rwlock_rdlock(&s->m->state);
            s->filter = rv_matcher_search(s->m, s->scope, &s->q->filter);
            s->seen = rv_matcher_of(s->m, s->scope, NULL);
            e = rv_passing_of(&s->filter, &s->passing);
            e = e ? e : search_once(s, arena, out, &enough);
            rv_passing_deinit(s->m, &s->passing);
            pthread_rwlock_unlock(&s->m->state);
        }
        rv_free(mem, s->hits);
        rv_free(mem, s->at);
        rv_free(mem, s->by_words);
        RV_TRY(e);
    }
    return RV_OK;
}

/* The query's vector at length 1; *out NULL when it has no length: it is near to nothing. */
static rv_err vector_of(rv_memory *m, const rv_memory_query *q, size_t text_bytes, float *vector,
                        const float **out)
{
    size_t dim = m->embedder.dim;
    if (q->vector) {
        memcpy(vector, q->vector, dim * sizeof *vector);
    } else {
        RV_TRY(m->embedder.text(m->embedder.self, q->text, text_bytes, vector));
    }
    double length = 0;
    for (size_t i = 0; i < dim; i++) {
        length += (double)vector[i] * (double)vector[i];
    }
    if (!isfinite(length)) {
        return rv_fail(RV_E_ARG, "vector: expected finite numbers");
    }
    for (size_t i = 0; length > 0 && i < dim; i++) {
        vector[i] = (float)((double)vector[i] / sqrt(length));
    }
    *out = length > 0 ? vector : NULL;
    return RV_OK;
}

rv_err rv_memory_search(rv_memory *m, rv_memory_scope scope, const rv_memory_query *q, rv_arena *arena,
                        rv_memory_hits *out)
{
    size_t text_bytes = !q->text ? 0 : q->text_bytes ? q->text_bytes : strlen(q->text);
    if (q->k < 1 || q->k > RV_MEMORY_K_MAX) {
        return rv_fail(RV_E_ARG, "k: %zu, expected 1 .. %d", q->k, RV_MEMORY_K_MAX);
    }
    if (text_bytes > RV_MEMORY_TEXT_MAX) {
        return rv_fail(RV_E_TOO_LARGE, "query: %zu bytes, expected at most %d", text_bytes,
                       RV_MEMORY_TEXT_MAX);
    }
    if (!q->text && (q->mode == RV_MEMORY_WORDS || !q->vector)) {
        return rv_fail(RV_E_ARG, "query: expected a text");
    }
    rv_text words;
    rv_text_init(&words, m->mem, QUERY_BYTES);
    if (q->recall != 0 && !(q->recall >= 0.5 && q->recall <= 1)) {
        return rv_fail(RV_E_ARG, "recall: %g, expected 0.5 .. 1", q->recall);
    }
    searching s = { .m = m, .scope = scope, .q = q, .text_bytes = text_bytes, .plan = { .path = "none" } };
    float *vector = rv_new_array(m->mem, m->embedder.dim, sizeof *vector);
    rv_memory_hits hits = { .at = rv_arena_take(arena, q->k * sizeof *hits.at) };
    rv_err e = vector && hits.at ? RV_OK : rv_fail(RV_E_NOMEM, "memory: no room to search");
    if (!e && q->mode != RV_MEMORY_WORDS) {
        e = vector_of(m, q, text_bytes, vector, &s.vector);
    }
    if (!e && q->mode != RV_MEMORY_VECTOR && q->text) {
        rv_words_query(q->text, text_bytes, &words);
        e = rv_text_check(&words);
        e = e ? e : rv_words_new(m->mem, &s.cutter);
    }
    s.words = rv_text_get(&words);
    if (!e) {
        e = rv_db_reader(m->db, &s.conn);
        if (!e) {
            e = search_all(&s, arena, &hits);
            rv_db_reader_done(m->db, s.conn);
        }
    }
    rv_free(m->mem, vector);
    rv_text_deinit(&words);
    rv_words_free(s.cutter);
    if (!e) {
        *out = hits;
        out->plan = s.plan;
    }
    return e;
}
