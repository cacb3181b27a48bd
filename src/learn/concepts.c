/* From groups of memories to concepts. The nodes come first, each whole in its own transaction and the same again when the stage is done again;
 * then their edges, as a version, if they help; then concepts go whose group is no more. */
#include "learn/deep.h"

#include "base/rng.h"
#include "learn/graph_view.h"
#include "learn/overlay.h"
#include "learn/probes.h"
#include "learn/ward.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LEAST = 4,
    MOST = 64, /* members */
    CONCEPTS_MAX = 1024,
    KEYWORDS = 5,
    SENTENCE_LEAST = 60,
    SENTENCE_BYTES = 240,
    PROBES = 500,
    ARENA_BYTES = 512 << 20
};
static const float COHESION = 0.6F,
                   ALIKE = 0.5F;  /* two tight groups that have nothing in common have a cohesion of 0.7 */
static const double USUAL = 0.25; /* of all memories: a word in more of them says nothing */
static const char SOURCE[] = "learn";

/* ---- words ---- */

/* One word of one node; each word of a node once. */
typedef struct word {
    uint64_t hash;
    const char *at;
    uint32_t n, node;
} word;

typedef struct making {
    const rv_deep_place *place;
    rv_arena *arena;
    rv_graph_view view;
    word *words; /* [first_word[view.n]] by node */
    size_t *first_word;
    uint64_t *common; /* [n_common] hashes of all words, each as often as nodes of the view have it, sorted */
    size_t n_common;
    int64_t *concepts; /* [n] made or met */
    size_t n, made, gone, members;
    rv_memory_edge *edges; /* [n_edges] */
    size_t n_edges;
} making;

static rv_err no_room(void)
{
    return rv_fail(RV_E_NOMEM, "making concepts");
}

static bool is_letter(unsigned char c)
{
    return c >= 0x80 || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
}

/* The next word of at least three bytes from *at on, as small letters in out. */
static size_t next_word(const char **at, char out[32])
{
    for (;;) {
        while (**at && !is_letter((unsigned char)**at)) {
            ++*at;
        }
        const char *from = *at;
        while (is_letter((unsigned char)**at)) {
            ++*at;
        }
        size_t n = (size_t)(*at - from);
        if (n == 0 || (n >= 3 && n < 32)) {
            for (size_t i = 0; i < n; i++) {
                out[i] = from[i] >= 'A' && from[i] <= 'Z' ? (char)(from[i] | 32) : from[i];
            }
            out[n] = 0;
            return n;
        }
    }
}

static int by_hash(const void *a, const void *b)
{
    uint64_t x = ((const word *)a)->hash, y = ((const word *)b)->hash;
    return x < y ? -1 : x > y;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static size_t words_of(const char *text, uint32_t node, rv_arena *arena, word *out, size_t room)
{
    char small[32];
    size_t n = 0, kept = 0;
    for (size_t bytes; n < room && (bytes = next_word(&text, small)) > 0;) {
        const char *copy = rv_arena_strndup(arena, small, bytes);
        out[n++] = (word){ rv_hash64(small, bytes, 0), copy ? copy : "", (uint32_t)bytes, node };
    }
    qsort(out, n, sizeof *out, by_hash);
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || out[i].hash != out[kept - 1].hash) {
            out[kept++] = out[i];
        }
    }
    return kept;
}

static rv_err read_words(making *m)
{
    enum { EACH = 256 };
    m->first_word = rv_arena_take(m->arena, (m->view.n + 1) * sizeof *m->first_word);
    m->words = rv_arena_take(m->arena, m->view.n * EACH * sizeof *m->words);
    m->common = rv_arena_take(m->arena, m->view.n * EACH * sizeof *m->common);
    if (!m->first_word || !m->words || !m->common) {
        return no_room();
    }
    for (size_t i = 0; i < m->view.n; i++) {
        size_t at = m->first_word[i];
        m->first_word[i + 1] =
            at + words_of(m->view.nodes[i].text, (uint32_t)i, m->arena, m->words + at, EACH);
    }
    m->n_common = m->first_word[m->view.n];
    for (size_t i = 0; i < m->n_common; i++) {
        m->common[i] = m->words[i].hash;
    }
    qsort(m->common, m->n_common, sizeof *m->common, by_number);
    return RV_OK;
}

/* How many nodes have the word. */
static size_t nodes_with(const making *m, uint64_t hash)
{
    size_t low = 0, high = m->n_common, n = 0;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (m->common[middle] < hash) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    while (low + n < m->n_common && m->common[low + n] == hash) {
        n++;
    }
    return n;
}

/* ---- a group's text ---- */

typedef struct scored {
    word word;
    double score;
} scored;

/* Words that half of the group has, those first that the rest has least. */
static size_t keywords(const making *m, const size_t *members, size_t n, word *room, scored best[KEYWORDS])
{
    size_t n_words = 0, n_best = 0;
    for (size_t i = 0; i < n; i++) {
        size_t from = m->first_word[members[i]], to = m->first_word[members[i] + 1];
        memcpy(room + n_words, m->words + from, (to - from) * sizeof *room);
        n_words += to - from;
    }
    qsort(room, n_words, sizeof *room, by_hash);
    for (size_t i = 0, same; i < n_words; i += same) {
        same = 1;
        while (i + same < n_words && room[i + same].hash == room[i].hash) {
            same++;
        }
        double share = (double)same / (double)n,
               usual = (double)nodes_with(m, room[i].hash) / (double)m->view.n;
        scored one = { room[i], share * log(1 / usual) };
        if (2 * same < n || usual > USUAL) {
            continue;
        }
        size_t at = n_best < KEYWORDS ? n_best++ : KEYWORDS;
        if (at == KEYWORDS && one.score <= best[--at].score) {
            continue;
        }
        for (; at > 0 && best[at - 1].score < one.score; at--) {
            best[at] = best[at - 1];
        }
        best[at] = one;
    }
    return n_best;
}

/* Its first sentences that say something together (a heading alone does not), or what of them is not too long. */
static size_t sentence_of(const char *text)
{
    size_t n = 0, last = 0;
    for (; text[n] && n < SENTENCE_BYTES; n++) {
        last = text[n] == ' ' ? n : last;
        if (n >= SENTENCE_LEAST && strchr(".!?", text[n]) && (text[n + 1] == ' ' || text[n + 1] == 0)) {
            return n + 1;
        }
    }
    return text[n] && last ? last : rv_utf8_whole(text, n);
}

static rv_err text_of(const making *m, const size_t *members, size_t n, size_t middle, rv_text *out)
{
    scored best[KEYWORDS];
    size_t n_words = 0;
    for (size_t i = 0; i < n; i++) {
        n_words += m->first_word[members[i] + 1] - m->first_word[members[i]];
    }
    word *room = rv_new_array(&rv_heap, n_words + 1, sizeof *room);
    if (!room) {
        return no_room();
    }
    size_t n_best = keywords(m, members, n, room, best);
    for (size_t i = 0; i < n_best; i++) {
        rv_text_addf(out, "%s%s", i ? ", " : "", best[i].word.at);
    }
    rv_free(&rv_heap, room);
    const char *text = m->view.nodes[middle].text;
    rv_text_adds(out, n_best ? ": " : "");
    for (size_t i = 0, bytes = sentence_of(text); i < bytes; i++) {
        rv_text_addc(out, text[i] == '\n' || text[i] == '\r' || text[i] == '\t' ? ' ' : text[i]);
    }
    return rv_text_check(out);
}

/* ---- a concept ---- */

/* Cosines of the members to their middle. */
static rv_err near_middle(const making *m, const size_t *members, size_t n, float cosines[MOST])
{
    size_t dim = m->view.dim;
    float *middle = rv_new_array(&rv_heap, dim, sizeof *middle);
    double length = 0;
    if (!middle) {
        return no_room();
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t d = 0; d < dim; d++) {
            middle[d] += m->view.nodes[members[i]].vector[d];
        }
    }
    for (size_t d = 0; d < dim; d++) {
        length += (double)middle[d] * (double)middle[d];
    }
    for (size_t i = 0; i < n; i++) {
        double dot = 0;
        for (size_t d = 0; d < dim; d++) {
            dot += (double)middle[d] * (double)m->view.nodes[members[i]].vector[d];
        }
        cosines[i] = (float)(dot / sqrt(length));
    }
    rv_free(&rv_heap, middle);
    return RV_OK;
}

/* What it contained before and does not now. */
static rv_err drop_others(const making *m, int64_t concept, const int64_t *ids, size_t n)
{
    rv_memory_edge *edges;
    size_t many = 0, n_edges = 0;
    RV_TRY(rv_memory_neighbours(m->place->memory, rv_memory_whole(), concept, m->arena, &edges, &n_edges));
    for (size_t i = 0; i < n_edges; i++) {
        size_t at = 0;
        while (at < n && ids[at] != edges[i].to) {
            at++;
        }
        if (edges[i].from == concept && strcmp(edges[i].type, "contains") == 0 && at == n) {
            edges[many] = edges[i];
            edges[many++].weight = 0;
        }
    }
    return many ? rv_memory_relink(m->place->memory, rv_memory_whole(), edges, many) : RV_OK;
}

static rv_err make(making *m, const size_t *members, size_t n)
{
    float cosines[MOST];
    int64_t ids[MOST], id;
    size_t middle = 0;
    bool added;
    rv_text text;
    RV_TRY(near_middle(m, members, n, cosines));
    for (size_t i = 0; i < n; i++) {
        ids[i] = m->view.nodes[members[i]].id;
        middle = cosines[i] > cosines[middle] ? i : middle;
    }
    rv_text_init(&text, &rv_heap, 4096);
    rv_err e = text_of(m, members, n, members[middle], &text);
    if (!e) {
        const char *user = m->view.nodes[members[0]].user;
        rv_memory_new new = {
            .type = "concept", .text = rv_text_get(&text), .source = SOURCE, .contains = ids, .n_contains = n
        };
        e = rv_memory_add(m->place->memory, rv_memory_of(user), &new, &id, &added);
    }
    rv_text_deinit(&text);
    if (e == RV_E_NOT_FOUND) {
        return RV_OK; /* one of them was removed meanwhile */
    }
    RV_TRY(e);
    RV_TRY(added ? RV_OK : drop_others(m, id, ids, n));
    rv_deep_passing(m->place, "concept");
    m->concepts[m->n++] = id;
    m->made += added;
    m->members += n;
    for (size_t i = 0; i < n; i++) {
        double weight = fmin(1, fmax(0.01, (double)cosines[i]));
        m->edges[m->n_edges++] =
            (rv_memory_edge){ id, ids[i], rv_overlay_types[RV_OVERLAY_CONCEPTS], weight };
    }
    return RV_OK;
}

/* The vectors under a group. */
static size_t leaves(const rv_ward_group *groups, size_t n, size_t group, size_t *stack, size_t *out)
{
    size_t depth = 0, found = 0;
    stack[depth++] = group;
    while (depth > 0) {
        size_t at = stack[--depth];
        if (at < n) {
            out[found++] = at;
        } else {
            stack[depth++] = groups[at].left;
            stack[depth++] = groups[at].right;
        }
    }
    return found;
}

/* From the top: the largest groups that hold together. */
static rv_err cut(making *m, size_t first, size_t n, const rv_ward_group *groups, size_t *room)
{
    size_t *stack = room, *inner = room + 2 * n, *members = room + 4 * n, depth = 0;
    stack[depth++] = 2 * n - 2;
    while (depth > 0 && m->n < CONCEPTS_MAX) {
        size_t at = stack[--depth];
        const rv_ward_group *g = &groups[at];
        if (g->size < LEAST) {
            continue;
        }
        if (g->size <= MOST && g->cohesion >= COHESION && g->alike >= ALIKE) {
            size_t many = leaves(groups, n, at, inner, members);
            for (size_t i = 0; i < many; i++) {
                members[i] += first;
            }
            RV_TRY(make(m, members, many));
        } else {
            stack[depth++] = g->left;
            stack[depth++] = g->right;
        }
    }
    return RV_OK;
}

static bool goes_on(void *self)
{
    return !rv_deep_time_is_up(self);
}

/* The memories of one user, view.nodes[first .. first + n). */
static rv_err group(making *m, size_t first, size_t n)
{
    if (n < LEAST) {
        return RV_OK;
    }
    const float **vectors = rv_new_array(&rv_heap, n, sizeof *vectors);
    rv_ward_group *groups = rv_new_array(&rv_heap, 2 * n, sizeof *groups);
    size_t *room = rv_new_array(&rv_heap, 5 * n, sizeof *room);
    rv_err e = vectors && groups && room ? RV_OK : no_room();
    for (size_t i = 0; !e && i < n; i++) {
        vectors[i] = m->view.nodes[first + i].vector;
    }
    e = e ? e : rv_ward(&rv_heap, vectors, n, m->view.dim, goes_on, (void *)m->place, groups);
    e = e ? e : cut(m, first, n, groups, room);
    rv_free(&rv_heap, room);
    rv_free(&rv_heap, groups);
    rv_free(&rv_heap, vectors);
    return e;
}

static rv_err group_all(making *m)
{
    m->concepts = rv_arena_take(m->arena, CONCEPTS_MAX * sizeof *m->concepts);
    m->edges = rv_arena_take(m->arena, (m->view.n + 1) * sizeof *m->edges);
    if (!m->concepts || !m->edges) {
        return no_room();
    }
    for (size_t first = 0, n; first < m->view.n; first += n) {
        n = 1;
        while (first + n < m->view.n &&
               strcmp(m->view.nodes[first].user, m->view.nodes[first + n].user) == 0) {
            n++;
        }
        RV_TRY(group(m, first, n));
    }
    return RV_OK;
}

/* ---- what is no more ---- */

static bool in_view(const making *m, int64_t id)
{
    for (size_t i = 0; i < m->view.n; i++) {
        if (m->view.nodes[i].id == id) {
            return true;
        }
    }
    return false;
}

/* Not while edges of it are in use; and of a group that lies outside of what was looked at nothing is known. */
static rv_err is_stale(const making *m, int64_t concept, bool *stale)
{
    rv_memory_edge *edges;
    size_t n = 0;
    *stale = true;
    for (size_t i = 0; i < m->n; i++) {
        *stale = *stale && m->concepts[i] != concept;
    }
    RV_TRY(*stale ? rv_memory_neighbours(m->place->memory, rv_memory_whole(), concept, m->arena, &edges, &n)
                  : RV_OK);
    for (size_t i = 0; i < n; i++) {
        rv_memory_node node;
        bool used = edges[i].from == concept && strcmp(edges[i].type, "derived") == 0;
        rv_err e = rv_memory_get(m->place->memory, rv_memory_whole(), edges[i].to, m->arena, &node);
        if (e && e != RV_E_NOT_FOUND) {
            return e;
        }
        bool known = e || node.corrected_by || in_view(m, edges[i].to);
        *stale = *stale && !used && known;
    }
    return RV_OK;
}

static rv_err remove_stale(making *m)
{
    rv_memory_filter filter = { .type = "concept", .source = SOURCE };
    rv_memory_hits list;
    for (int64_t below = 0;;) {
        RV_TRY(rv_memory_list(m->place->memory, rv_memory_whole(), &filter, 256, below, m->arena, &list));
        if (list.n == 0) {
            return RV_OK;
        }
        for (size_t i = 0; i < list.n; i++) {
            bool stale;
            size_t removed = 0;
            below = list.at[i].id;
            RV_TRY(is_stale(m, below, &stale));
            RV_TRY(stale ? rv_memory_rm(m->place->memory, rv_memory_whole(), below, NULL, &removed) : RV_OK);
            m->gone += removed;
        }
    }
}

/* ---- the measure ---- */

typedef struct judged {
    size_t n_probes;
    rv_probes_score before, after;
    bool better;
} judged;

static rv_err judge(making *m, judged *out)
{
    const rv_deep_place *p = m->place;
    rv_probe *probes;
    rv_memory_edge *now = NULL;
    size_t n_now = 0;
    RV_TRY(rv_probes_read(p->db, p->embed, p->good, PROBES, m->arena, &probes, &out->n_probes));
    if (out->n_probes < RV_PROBES_LEAST) {
        return RV_OK;
    }
    RV_TRY(rv_overlay_read(p->db, RV_OVERLAY_CONCEPTS, &now, &n_now));
    rv_memory_edge *all = rv_arena_take(m->arena, (m->n_edges + n_now + 1) * sizeof *all);
    for (size_t i = 0; all && i < n_now; i++) { /* those of now go, unless they are made again */
        now[i].weight = 0;
        all[m->n_edges + i] = now[i];
    }
    rv_free(&rv_heap, now);
    if (!all) {
        return no_room();
    }
    memcpy(all, m->edges, m->n_edges * sizeof *all);
    RV_TRY(rv_probes_measure(p, probes, out->n_probes, &(rv_memory_query){ .mode = RV_MEMORY_GRAPH },
                             &out->before));
    RV_TRY(rv_probes_measure(
        p, probes, out->n_probes,
        &(rv_memory_query){ .mode = RV_MEMORY_GRAPH, .supposed = all, .n_supposed = m->n_edges + n_now },
        &out->after));
    out->better =
        out->after.ndcg >= out->before.ndcg + RV_DEEP_MARGIN && out->after.recall >= out->before.recall;
    return RV_OK;
}

static rv_err publish(making *m, const judged *j)
{
    char metrics[160], data[96];
    int64_t version;
    snprintf(metrics, sizeof metrics, "{\"ndcg_before\":%.4f,\"ndcg_after\":%.4f,\"questions\":%zu}",
             j->before.ndcg, j->after.ndcg, j->n_probes);
    snprintf(data, sizeof data, "{\"concepts\":%zu,\"memories\":%zu}", m->n, m->members);
    return rv_overlay_publish(m->place, RV_OVERLAY_CONCEPTS, m->edges, m->n_edges,
                              &(rv_policy_new){ .note = "rated questions find their passages better",
                                                .metrics = metrics,
                                                .data = data },
                              &version);
}

static void report(const making *m, const judged *j, rv_loop_report *out)
{
    char verdict[96];
    if (m->n == 0) {
        snprintf(verdict, sizeof verdict, "no four memories of one user are about the same thing");
    } else if (j->n_probes < RV_PROBES_LEAST) {
        snprintf(verdict, sizeof verdict,
                 "kept out of answers: %d rated questions measure them, there are %zu", RV_PROBES_LEAST,
                 j->n_probes);
    } else {
        snprintf(verdict, sizeof verdict, "%s on %zu rated questions",
                 j->better ? "used in answers: better" : "kept out of answers: not better by 0.005",
                 j->n_probes);
    }
    *out = (rv_loop_report){ .accepted = j->better,
                             .changed = (int64_t)(m->made + m->gone),
                             .measure = m->n && j->n_probes >= RV_PROBES_LEAST ? "nDCG@10" : NULL,
                             .before = j->before.ndcg,
                             .after = j->after.ndcg };
    snprintf(out->why, sizeof out->why, "%zu concepts of %zu memories, %zu new, %zu gone; %s", m->n,
             m->members, m->made, m->gone, verdict);
}

static rv_err run(making *m, rv_loop_report *out)
{
    const rv_deep_place *p = m->place;
    judged j = { 0 };
    RV_TRY(rv_graph_view_read(p->db, p->memory, RV_DEEP_NODES, m->arena, &m->view));
    RV_TRY(read_words(m));
    RV_TRY(group_all(m));
    RV_TRY(m->n ? judge(m, &j) : RV_OK);
    RV_TRY(j.better ? publish(m, &j) : RV_OK);
    rv_deep_passing(p, "stale");
    RV_TRY(remove_stale(m));
    report(m, &j, out);
    return RV_OK;
}

rv_err rv_deep_concepts(const rv_deep_place *place, rv_loop_report *out)
{
    making m = { .place = place };
    RV_TRY(rv_arena_new(&rv_heap, ARENA_BYTES, &m.arena));
    rv_err e = run(&m, out);
    rv_arena_free(m.arena);
    if (e == RV_E_TIMEOUT || e == RV_E_CANCELLED) {
        snprintf(out->why, sizeof out->why,
                 "the time was up: %zu concepts were made or met, no edge is used that was not before", m.n);
        out->changed = (int64_t)m.made;
        return RV_OK;
    }
    return e;
}
