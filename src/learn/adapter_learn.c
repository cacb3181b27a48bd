/* What is learned is used for questions like the corrected ones alone (RV_ADAPTER_LIKE); rows come in three kinds. Each correction is asked as it was and in wordings with some words left out, so that the answer hangs on the
 * words that matter; two such wordings are only measured. Answers that stood (not corrected, not rated low) are repeated as they were
 * given, passages and all, so that they stay; a third of them is only measured. */
#include "learn/adapter_learn.h"
#include "base/clock.h"
#include "kernels/kernels.h"

#include <string.h>

enum {
    WORDINGS = 8,      /* of a correction, besides its own */
    WORDINGS_HELD = 2, /* and those that are only measured */
    CORRECTIONS_MAX = 2000,
    ANCHORS_MAX = 256,
    ROW_TOKENS = 1024,
    PASS_TOKENS = 1024,
    STEPS_PER_CORRECTION = 30,
    BATCH = 16,
    ARENA_BYTES = 96 << 20
};

typedef struct work {
    const rv_adapter_learning *how;
    rv_arena *arena;
    rv_lfm2_file *file;
    rv_lfm2_grad *g;
    rv_lora *current, *lora; /* NULL: none is in use; the candidate */
    rv_rng rng;
    rv_adapter_rows train, held, anchors, held_anchors;
    float *mix;
    float *keys; /* [corrections][dim] their questions; NULL without an embedder */
    size_t spared;
    double started_ms;
    size_t steps, corrections;
} work;

/* ---- rows ---- */

/* The question with some of its words left out, never all. */
static const char *worded(work *w, const char *question)
{
    size_t n = strlen(question), kept = 0;
    double drop = 0.1 + 0.4 * rv_rng_unit(&w->rng);
    char *out = rv_arena_strdup(w->arena, question), *to = out;
    for (size_t at = 0; out && at < n;) {
        size_t length = strcspn(question + at, " ");
        if (length && rv_rng_unit(&w->rng) >= drop) {
            if (to > out) {
                *to++ = ' ';
            }
            memcpy(to, question + at, length);
            to += length;
            kept++;
        }
        at += length + 1;
    }
    if (out && kept) {
        *to = 0;
    }
    return !out ? NULL : kept ? out : question;
}

static rv_err add_row(const work *w, rv_adapter_rows *to, const char *question, const char *const *passages,
                      size_t n, const char *answer, size_t line)
{
    json_t *messages = NULL, *row = NULL;
    RV_TRY(w->how->prompt(question, passages, n, &messages));
    row = json_pack("{s:o, s:s}", "messages", messages, "answer", answer);
    rv_err e = row ? rv_adapter_rows_add(to, row, line) : rv_fail(RV_E_NOMEM, "making rows");
    json_decref(row);
    return e == RV_E_TOO_LARGE || e == RV_E_ARG ? RV_OK
                                                : e; /* too long or empty: it cannot be learned this way */
}

/* Would what is learned be used for this question? */
static rv_err is_like(const work *w, const char *question, bool *like)
{
    *like = true;
    if (!w->keys) {
        return RV_OK;
    }
    size_t dim = rv_embed_dim(w->how->embed);
    float *vector = rv_arena_take(w->arena, dim * sizeof *vector);
    if (!vector) {
        return rv_fail(RV_E_NOMEM, "making rows");
    }
    RV_TRY(rv_embed_text(w->how->embed, question, strlen(question), vector));
    *like = false;
    for (size_t i = 0; i < w->corrections && !*like; i++) {
        *like = rv_kernels_best()->dot_f32(w->keys + i * dim, vector, dim) >= RV_ADAPTER_LIKE;
    }
    return RV_OK;
}

static rv_err add_correction(work *w, const char *question, const char *answer, size_t line)
{
    if (w->keys) {
        size_t dim = rv_embed_dim(w->how->embed);
        RV_TRY(rv_embed_text(w->how->embed, question, strlen(question), w->keys + w->corrections * dim));
    }
    w->corrections++;
    RV_TRY(add_row(w, &w->train, question, NULL, 0, answer, line));
    for (size_t i = 0; i < WORDINGS + WORDINGS_HELD; i++) {
        const char *other = worded(w, question);
        if (!other) {
            return rv_fail(RV_E_NOMEM, "making rows");
        }
        RV_TRY(add_row(w, i < WORDINGS ? &w->train : &w->held, other, NULL, 0, answer, line));
    }
    return RV_OK;
}

typedef struct said {
    const char *question, *answer, *request;
} said;

/* The newest first; strings in arena. */
static rv_err read_said(work *w, const char *sql, int64_t limit, said **out, size_t *n)
{
    sqlite3 *conn;
    sqlite3_stmt *s = NULL;
    bool row = true;
    said *list = rv_arena_take(w->arena, (size_t)limit * sizeof *list);
    *n = 0;
    if (!list) {
        return rv_fail(RV_E_NOMEM, "reading corrections");
    }
    RV_TRY(rv_db_reader(w->how->db, &conn));
    rv_err e = rv_db_prepare(conn, &s, sql, "ti", w->how->user, limit);
    while (!e && !(e = rv_db_step(s, &row)) && row) {
        said *one = &list[(*n)++];
        const char **texts[] = { &one->question, &one->answer, &one->request };
        for (int i = 0; i < (int)RV_COUNT(texts) && !e; i++) {
            *texts[i] = rv_arena_strdup(w->arena, (const char *)sqlite3_column_text(s, i));
            e = *texts[i] ? RV_OK : rv_fail(RV_E_NOMEM, "reading corrections");
        }
    }
    sqlite3_finalize(s);
    rv_db_reader_done(w->how->db, conn);
    *out = list;
    return e;
}

static rv_err read_corrections(work *w)
{
    said *list;
    size_t n;
    RV_TRY(read_said(w,
                     "SELECT e.question, f.correction, e.request_id FROM feedback f JOIN episode e ON "
                     "e.request_id = f.request_id"
                     " WHERE f.kind = 'correction' AND e.user = ?1 ORDER BY f.created_ms DESC LIMIT ?2",
                     w->how->newest ? (int64_t)w->how->newest : CORRECTIONS_MAX, &list, &n));
    if (w->how->embed && n) {
        w->keys = rv_arena_take(w->arena, n * rv_embed_dim(w->how->embed) * sizeof *w->keys);
        if (!w->keys) {
            return rv_fail(RV_E_NOMEM, "making rows");
        }
    }
    for (size_t i = 0; i < n; i++) {
        RV_TRY(add_correction(w, list[i].question, list[i].answer, i + 1));
    }
    return RV_OK;
}

static rv_err add_anchor(work *w, const said *one, size_t number)
{
    rv_episode episode;
    const char *passages[16];
    size_t n = 0;
    bool like;
    RV_TRY(is_like(w, one->question, &like));
    if (!like) {
        w->spared++;
        return RV_OK;
    }
    RV_TRY(rv_episode_get(w->how->db, one->request, w->arena, &episode));
    for (size_t i = 0; w->how->memory && i < episode.n_sources && n < RV_COUNT(passages); i++) {
        rv_memory_node node;
        rv_err e = rv_memory_get(w->how->memory, episode.sources[i], w->arena, &node);
        if (e == RV_E_NOT_FOUND) {
            return RV_OK; /* the answer's numbers would point elsewhere */
        }
        if (e) {
            return e;
        }
        passages[n++] = node.text;
    }
    return add_row(w, number % 3 ? &w->anchors : &w->held_anchors, one->question, passages, n, one->answer,
                   number);
}

static rv_err read_anchors(work *w)
{
    said *list;
    size_t n;
    RV_TRY(read_said(w,
                     "SELECT e.question, e.answer, e.request_id FROM episode e WHERE e.user = ?1 AND "
                     "e.answer <> '' AND NOT EXISTS"
                     " (SELECT 1 FROM feedback f WHERE f.request_id = e.request_id AND (f.kind = "
                     "'correction' OR f.rating <= 2))"
                     " AND NOT EXISTS (SELECT 1 FROM feedback f JOIN episode o ON o.request_id = f.request_id"
                     " WHERE f.kind = 'correction' AND o.question = e.question)"
                     " ORDER BY e.created_ms DESC LIMIT ?2",
                     ANCHORS_MAX, &list, &n));
    for (size_t i = 0; i < n; i++) {
        RV_TRY(add_anchor(w, &list[i], i));
    }
    return RV_OK;
}

/* ---- training ---- */

static size_t largest_rank(const rv_lora *l)
{
    size_t most = 0;
    for (size_t i = 0; i < l->n_pairs; i++) {
        most = l->pairs[i].rank > most ? l->pairs[i].rank : most;
    }
    return most;
}

/* The version in use, and a candidate that goes on from it, or a new one when that is too narrow. */
static rv_err open_candidate(work *w)
{
    const rv_adapter_learning *how = w->how;
    const rv_engine_info *info = rv_engine_get_info(how->engine);
    int64_t now = rv_adapters_in_use(how->adapters, info->fingerprint, how->user);
    const char *path;
    if (now) {
        RV_TRY(rv_adapters_path(how->adapters, now, w->arena, &path));
        rv_err e = rv_engine_open_lora(how->engine, path, &w->current);
        if (e == RV_E_NOMEM) {
            return e; /* any other: damaged, and so not what answers come from */
        }
    }
    if (w->current && largest_rank(w->current) >= how->rank) {
        return rv_lora_copy(&rv_heap, w->current, &w->lora);
    }
    return rv_lora_new(&rv_heap, w->file, (1u << RV_LFM2_PARTS) - 1, how->rank, 2 * (float)how->rank,
                       how->seed, &w->lora);
}

static rv_err measure(work *w, const rv_lora *lora, double *held, double *anchors)
{
    RV_TRY(rv_adapter_loss(w->g, lora, w->held.at, w->held.n, held));
    *anchors = 0;
    return w->held_anchors.n ? rv_adapter_loss(w->g, lora, w->held_anchors.at, w->held_anchors.n, anchors)
                             : RV_OK;
}

typedef struct watch {
    work *w;
    size_t steps;
    bool out_of_time, stopped;
} watch;

static bool on_step(void *self, size_t step, double loss)
{
    watch *o = self;
    const rv_adapter_learning *how = o->w->how;
    o->w->steps = step;
    o->stopped = how->on_step && !how->on_step(how->self, step, o->steps, loss);
    o->out_of_time = rv_clock_ms() - o->w->started_ms > 1000 * how->max_seconds;
    return !o->stopped && !o->out_of_time;
}

/* One part in four of what is trained on are answers that stood. */
static rv_err mix_rows(work *w)
{
    size_t n = w->train.n;
    w->mix = rv_new_array(&rv_heap, n + w->anchors.n, sizeof *w->mix);
    if (!w->mix) {
        return rv_fail(RV_E_NOMEM, "training an adapter");
    }
    for (size_t i = 0; i < n + w->anchors.n; i++) {
        w->mix[i] = i < n ? 3 / (float)n : 1 / (float)w->anchors.n;
    }
    return RV_OK;
}

static rv_err train(work *w)
{
    size_t n = w->train.n, all = n + w->anchors.n, wanted = STEPS_PER_CORRECTION * w->corrections / 2 + 30;
    rv_adapter_row *rows = rv_new_array(&rv_heap, all, sizeof *rows);
    if (!rows) {
        return rv_fail(RV_E_NOMEM, "training an adapter");
    }
    memcpy(rows, w->train.at, n * sizeof *rows);
    if (w->anchors.n) {
        memcpy(rows + n, w->anchors.at, w->anchors.n * sizeof *rows);
    }
    rv_adapter_training t = rv_adapter_training_default();
    t.steps = wanted < w->how->max_steps ? wanted : w->how->max_steps;
    t.batch = BATCH;
    t.rate = 6e-3f;
    t.seed = w->how->seed;
    t.mix = w->mix;
    watch o = { .w = w, .steps = t.steps };
    t.on_step = on_step;
    t.self = &o;
    rv_err e = rv_adapter_train(w->g, w->lora, rows, all, &t);
    rv_free(&rv_heap, rows);
    return e == RV_E_CANCELLED && !o.stopped ? RV_OK
                                             : e; /* what the time was enough for is judged like everything */
}

static rv_err judge(work *w, rv_adapter_learned *out)
{
    const rv_adapter_learning *how = w->how;
    RV_TRY(measure(w, w->lora, &out->after, &out->anchors_after));
    if (!(out->after <= RV_ADAPTER_MARGIN * out->before)) {
        out->why = "refused: not enough better on wordings it was not trained on";
        return RV_OK;
    }
    if (!(out->anchors_after <= RV_ADAPTER_ANCHOR_LIMIT * out->anchors_before)) {
        out->why = "refused: answers that stood would change";
        return RV_OK;
    }
    rv_adapter_version v = { .model = rv_engine_get_info(how->engine)->fingerprint,
                             .user = how->user,
                             .origin = "learn",
                             .rows = (int64_t)w->corrections,
                             .before = out->before,
                             .after = out->after,
                             .keys = w->keys,
                             .n_keys = w->keys ? w->corrections : 0,
                             .dim = w->keys ? rv_embed_dim(how->embed) : 0,
                             .embedder = w->keys ? rv_embed_name(how->embed) : "" };
    RV_TRY(rv_adapters_publish(how->adapters, &v, w->lora, &out->version));
    out->why = "published";
    return RV_OK;
}

static rv_err learn(work *w, rv_adapter_learned *out)
{
    const rv_engine_info *info = rv_engine_get_info(w->how->engine);
    rv_adapter_rows *const kinds[] = { &w->train, &w->held, &w->anchors, &w->held_anchors };
    RV_TRY(rv_arena_new(&rv_heap, ARENA_BYTES, &w->arena));
    for (size_t i = 0; i < RV_COUNT(kinds); i++) {
        rv_adapter_rows_init(kinds[i], &rv_heap, rv_engine_tok(w->how->engine), info->family, ROW_TOKENS);
    }
    RV_TRY(read_corrections(w));
    RV_TRY(read_anchors(w));
    out->corrections = w->corrections;
    out->anchors = w->anchors.n + w->held_anchors.n;
    out->spared = w->spared;
    if (w->train.n == 0 || w->held.n == 0) {
        out->why = "nothing to learn: no corrections";
        return RV_OK;
    }
    RV_TRY(rv_lfm2_file_open(&rv_heap, info->path, false, &w->file));
    RV_TRY(rv_lfm2_grad_new(&rv_heap, w->file, w->how->pool, PASS_TOKENS, &w->g));
    RV_TRY(open_candidate(w));
    RV_TRY(measure(w, w->current, &out->before, &out->anchors_before));
    RV_TRY(mix_rows(w));
    RV_TRY(train(w));
    out->steps = w->steps;
    return judge(w, out);
}

rv_err rv_adapter_learn(const rv_adapter_learning *how, rv_adapter_learned *out)
{
    work w = { .how = how, .started_ms = rv_clock_ms() };
    rv_adapter_learned done = { 0 };
    rv_rng_init(&w.rng, how->seed);
    rv_err e = learn(&w, &done);
    rv_free(&rv_heap, w.mix);
    rv_lora_close(w.current);
    rv_lora_close(w.lora);
    rv_lfm2_grad_free(w.g);
    rv_lfm2_file_close(w.file);
    rv_adapter_rows_deinit(&w.train);
    rv_adapter_rows_deinit(&w.held);
    rv_adapter_rows_deinit(&w.anchors);
    rv_adapter_rows_deinit(&w.held_anchors);
    rv_arena_free(w.arena);
    if (!e) {
        *out = done;
    }
    return e;
}
