/* What is learned is used for questions like the corrected ones alone (RV_ADAPTER_LIKE); rows come in three kinds. Each correction is asked
 * as it was and in wordings with some words left out, so that the answer hangs on the words that matter; two such wordings are only measured.
 * Answers that stood (not corrected, not rated low) are repeated as they were given, passages and all, so that they stay; a third of them, the
 * same ones each time, is only measured. Of more corrections or answers than there is room for a reservoir keeps a uniform sample.
 *
 * A micro round trains factors of rank 2 on top of a base that stays. Any other round begins with both consolidated into one (learn/consolidate.h),
 * and may hold what earlier rounds learned by springs (learn/ewc.h): each base version is the end of a task, and the springs are measured anew at its
 * weights, because consolidation changes what a single weight means. */
#include "learn/adapter_learn.h"
#include "base/clock.h"
#include "kernels/kernels.h"
#include "learn/consolidate.h"
#include "learn/reservoir.h"

#include <string.h>
#include <unistd.h>

enum {
    WORDINGS = 8,      /* of a correction, besides its own */
    WORDINGS_HELD = 2, /* and those that are only measured */
    CORRECTIONS_MAX = 2000,
    ANCHORS_MAX = 256,
    ROW_TOKENS = 1024,
    PASS_TOKENS = 1024,
    STEPS_PER_CORRECTION = 30,
    MEASURED = 16,   /* rows between two looks at the time */
    SAVE_EVERY = 20, /* steps */
    GUARD_ROWS = 200,
    ARENA_BYTES = 96 << 20
};

typedef struct work {
    const rv_adapter_learning *how;
    rv_arena *arena;
    rv_lfm2_file *file;
    rv_lfm2_grad *g;
    rv_lora *current, *lora; /* NULL: none is in use; the candidate */
    rv_lora *own,
        *base;      /* of a micro round: the factors that learn, and what stays under them (NULL: nothing) */
    int64_t now_id; /* the version in use when it began, 0: none */
    int64_t base_id, since_ms; /* the base version in use, 0: none; when it was made */
    int64_t read_ms;           /* when reading began, of day */
    bool *frozen;              /* [lora->n_weights] of a micro round on a base */
    rv_ewc *guard;             /* NULL: nothing is held */
    size_t n_old;              /* first rows of train: corrections that the base has learned from */
    rv_rng rng;
    rv_adapter_rows train, held, anchors, held_anchors;
    float *mix;
    float *keys; /* [corrections][dim] their questions; NULL without an embedder */
    size_t spared;
    double started_ms, measure_ms; /* how long measuring takes */
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
    int64_t created_ms;
} said;

static rv_err copy_said(const work *w, sqlite3_stmt *s, said *out)
{
    const char **texts[] = { &out->question, &out->answer, &out->request };
    for (int i = 0; i < (int)RV_COUNT(texts); i++) {
        *texts[i] = rv_arena_strdup(w->arena, (const char *)sqlite3_column_text(s, i));
        if (!*texts[i]) {
            return rv_fail(RV_E_NOMEM, "reading corrections");
        }
    }
    out->created_ms = sqlite3_column_int64(s, 3);
    return RV_OK;
}

/* The newest ones, or a uniform sample of all; oldest first. */
static rv_err read_said(const work *w, const char *sql, size_t newest, size_t room, said **out, size_t *n)
{
    sqlite3 *conn;
    sqlite3_stmt *s = NULL;
    bool row = true;
    rv_reservoir all;
    said *list = rv_arena_take(w->arena, room * sizeof *list);
    if (!list) {
        return rv_fail(RV_E_NOMEM, "reading corrections");
    }
    rv_reservoir_init(&all, room, 1); /* the same seed: as more come, most of the sample stays */
    RV_TRY(rv_db_reader(w->how->db, &conn));
    rv_err e = rv_db_prepare(conn, &s, sql, "ti", w->how->user, newest ? (int64_t)newest : (int64_t)-1);
    while (!e && !(e = rv_db_step(s, &row)) && row) {
        size_t slot;
        e = rv_reservoir_offer(&all, &slot) ? copy_said(w, s, &list[slot]) : RV_OK;
    }
    sqlite3_finalize(s);
    rv_db_reader_done(w->how->db, conn);
    *out = list;
    *n = all.seen < room ? (size_t)all.seen : room;
    return e;
}

/* First those that the base has learned from. */
static rv_err read_corrections(work *w)
{
    said *list;
    size_t n;
    RV_TRY(
        read_said(w,
                  "SELECT * FROM (SELECT e.question, f.correction, e.request_id, f.created_ms FROM feedback f"
                  " JOIN episode e ON e.request_id = f.request_id WHERE f.kind = 'correction' AND e.user = ?1"
                  " ORDER BY f.created_ms DESC LIMIT ?2) ORDER BY 4",
                  w->how->newest, CORRECTIONS_MAX, &list, &n));
    if (w->how->embed && n) {
        w->keys = rv_arena_take(w->arena, n * rv_embed_dim(w->how->embed) * sizeof *w->keys);
        if (!w->keys) {
            return rv_fail(RV_E_NOMEM, "making rows");
        }
    }
    for (int old = 1; old >= 0; old--) {
        for (size_t i = 0; i < n; i++) {
            if ((list[i].created_ms <= w->since_ms) == old) {
                RV_TRY(add_correction(w, list[i].question, list[i].answer, i + 1));
            }
        }
        w->n_old = old ? w->train.n : w->n_old;
    }
    return RV_OK;
}

static rv_err add_anchor(work *w, const said *one)
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
        rv_err e =
            rv_memory_get(w->how->memory, rv_memory_of(episode.user), episode.sources[i], w->arena, &node);
        if (e == RV_E_NOT_FOUND) {
            return RV_OK; /* the answer's numbers would point elsewhere */
        }
        if (e) {
            return e;
        }
        passages[n++] = node.text;
    }
    bool held = rv_hash64(one->request, strlen(one->request), 0) % 3 == 0;
    return add_row(w, held ? &w->held_anchors : &w->anchors, one->question, passages, n, one->answer, 0);
}

static rv_err read_anchors(work *w)
{
    said *list;
    size_t n;
    RV_TRY(read_said(
        w,
        "SELECT e.question, e.answer, e.request_id, e.created_ms FROM episode e WHERE e.user = ?1 AND "
        "e.answer <> '' AND NOT EXISTS"
        " (SELECT 1 FROM feedback f WHERE f.request_id = e.request_id AND (f.kind = "
        "'correction' OR f.rating <= 2))"
        " AND NOT EXISTS (SELECT 1 FROM feedback f JOIN episode o ON o.request_id = f.request_id"
        " WHERE f.kind = 'correction' AND o.question = e.question)"
        " ORDER BY e.created_ms LIMIT ?2",
        0, ANCHORS_MAX, &list, &n));
    for (size_t i = 0; i < n; i++) {
        RV_TRY(add_anchor(w, &list[i]));
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

/* What is in use: the base, and the micro adapter on it. One that is damaged is not what answers come from. */
static rv_err open_current(work *w)
{
    const rv_adapter_learning *how = w->how;
    rv_adapter_version v, under;
    int64_t now = rv_adapters_in_use(how->adapters, rv_engine_get_info(how->engine)->fingerprint, how->user);
    w->now_id = now;
    if (!now) {
        return RV_OK;
    }
    rv_err e = rv_adapters_open_files(how->adapters, how->engine, now, &w->own, &w->base);
    if (e) {
        return e == RV_E_NOMEM ? e : RV_OK;
    }
    RV_TRY(rv_adapters_get(how->adapters, now, w->arena, &v));
    if (strcmp(v.origin, "micro") != 0) {
        w->base = w->own;
        w->own = NULL;
    }
    w->base_id = w->own ? v.base : now;
    if (w->base_id) {
        RV_TRY(rv_adapters_get(how->adapters, w->base_id, w->arena, &under));
        w->since_ms = under.created_ms;
    }
    return w->base && w->own ? rv_lora_stack(&rv_heap, w->base, w->own, &w->current)
                             : rv_lora_copy(&rv_heap, w->base ? w->base : w->own, &w->current);
}

/* The weights of a stack that are the base's. */
static rv_err freeze_base(work *w)
{
    w->frozen = rv_new_array(&rv_heap, w->lora->n_weights, sizeof *w->frozen);
    if (!w->frozen) {
        return rv_fail(RV_E_NOMEM, "training an adapter");
    }
    for (size_t i = 0; i < w->lora->n_pairs; i++) {
        const rv_lora_pair *p = &w->lora->pairs[i];
        size_t under = w->base->pairs[i].rank;
        if (under > 0) {
            memset(w->frozen + (p->a - w->lora->weights), true, under * p->cols);
            memset(w->frozen + (p->b - w->lora->weights), true, under * p->rows);
        }
    }
    return RV_OK;
}

/* A micro round goes on with the micro adapter there is, or begins one. */
static rv_err open_micro(work *w)
{
    const rv_adapter_learning *how = w->how;
    if (!w->own) {
        RV_TRY(rv_lora_new(&rv_heap, w->file, (1u << RV_LFM2_PARTS) - 1, how->rank, 2 * (float)how->rank,
                           how->seed, &w->own));
    }
    if (!w->base) {
        return rv_lora_copy(&rv_heap, w->own, &w->lora);
    }
    RV_TRY(rv_lora_stack(&rv_heap, w->base, w->own, &w->lora));
    return freeze_base(w);
}

/* The candidate: both in one, or the base as it is when it is alone and wide enough, or a new one. */
static rv_err open_candidate(work *w, rv_adapter_learned *out)
{
    const rv_adapter_learning *how = w->how;
    if (how->micro) {
        return open_micro(w);
    }
    if (!w->current) {
        return rv_lora_new(&rv_heap, w->file, (1u << RV_LFM2_PARTS) - 1, how->rank, 2 * (float)how->rank,
                           how->seed, &w->lora);
    }
    size_t wide = w->base ? largest_rank(w->base) : 0;
    out->consolidated = w->own != NULL;
    return !w->own && wide >= how->rank
               ? rv_lora_copy(&rv_heap, w->current, &w->lora)
               : rv_lora_consolidate(&rv_heap, w->current, w->file, wide > how->rank ? wide : how->rank,
                                     how->seed, &w->lora, &out->discarded);
}

/* Of a micro round: the factors that learned, out of the stack. */
static void take_own(work *w)
{
    for (size_t i = 0; i < w->lora->n_pairs; i++) {
        const rv_lora_pair *from = &w->lora->pairs[i];
        rv_lora_pair *to = &w->own->pairs[i];
        size_t under = w->base ? w->base->pairs[i].rank : 0;
        float scale = w->base ? to->scale : 1; /* a stack holds it in B */
        if (to->rank > 0) {
            memcpy(to->a, from->a + under * to->cols, to->rank * to->cols * sizeof *to->a);
            for (size_t k = 0; k < to->rank * to->rows; k++) {
                to->b[k] = from->b[under * to->rows + k] / scale;
            }
        }
    }
    rv_lora_changed(w->own);
}

/* Between two parts of what is not training: RV_E_CANCELLED. */
static rv_err goes_on(const work *w)
{
    const rv_adapter_learning *how = w->how;
    return !how->on_step || how->on_step(how->self, w->steps, how->max_steps, 0)
               ? RV_OK
               : rv_fail(RV_E_CANCELLED, "learning an adapter was stopped");
}

/* ---- what must not be forgotten ---- */

/* From the rows of before, and answers that stood, each looked at once or more. A quarter of the time at most: without enough samples nothing is
 * held, and the mix of rows has to do. */
static rv_err hold_what_was(work *w)
{
    size_t all = w->n_old + w->anchors.n, n = all < GUARD_ROWS ? all : GUARD_ROWS;
    double until = w->started_ms + 250 * w->how->max_seconds;
    if (!(w->how->springs > 0) || all == 0) {
        return RV_OK;
    }
    RV_TRY(rv_ewc_new(&rv_heap, w->lora->n_weights, w->how->springs, &w->guard));
    while (w->guard->samples < RV_EWC_MIN_SAMPLES || w->guard->samples < n) {
        size_t i = (size_t)w->guard->samples % n * all / n;
        const rv_adapter_row *row = i < w->n_old ? &w->train.at[i] : &w->anchors.at[i - w->n_old];
        if (rv_clock_ms() >= until) {
            break;
        }
        RV_TRY(goes_on(w));
        RV_TRY(rv_adapter_observe(w->g, w->lora, row, 1, w->guard));
    }
    if (!rv_ewc_task_end(w->guard, w->lora->weights, 1)) {
        rv_ewc_free(w->guard);
        w->guard = NULL;
    }
    return RV_OK;
}

static bool time_is_up(const work *w, double reserve_ms)
{
    return rv_clock_ms() - w->started_ms + reserve_ms > 1000 * w->how->max_seconds;
}

/* RV_E_TIMEOUT, RV_E_CANCELLED: between two of its parts. */
static rv_err loss_of(const work *w, const rv_lora *lora, const rv_adapter_rows *rows, double over_ms,
                      double *out)
{
    double sum = 0, targets = 0;
    for (size_t at = 0, n; at < rows->n; at += n) {
        double loss, here = 0;
        n = rows->n - at < MEASURED ? rows->n - at : MEASURED;
        for (size_t i = at; i < at + n; i++) {
            here += (double)(rows->at[i].n - rows->at[i].first);
        }
        if (time_is_up(w, -over_ms)) {
            return rv_fail(RV_E_TIMEOUT, "measuring an adapter");
        }
        RV_TRY(goes_on(w));
        RV_TRY(rv_adapter_loss(w->g, lora, rows->at + at, n, &loss));
        sum += loss * here;
        targets += here;
    }
    *out = targets > 0 ? sum / targets : 0;
    return RV_OK;
}

/* over_ms: how long after the end of the round it may still go on. */
static rv_err measure(const work *w, const rv_lora *lora, double over_ms, double *held, double *anchors)
{
    RV_TRY(loss_of(w, lora, &w->held, over_ms, held));
    return loss_of(w, lora, &w->held_anchors, over_ms, anchors);
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
    o->out_of_time = time_is_up(o->w, o->w->measure_ms); /* what was learned has to be measured too */
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
    t.batch = w->how->batch ? w->how->batch : RV_ADAPTER_BATCH;
    t.rate = w->how->rate > 0 ? w->how->rate : RV_ADAPTER_RATE;
    t.seed = w->how->seed;
    t.mix = w->mix;
    watch o = { .w = w, .steps = t.steps };
    t.on_step = on_step;
    t.self = &o;
    t.frozen = w->frozen;
    t.guard = w->guard;
    t.checkpoint = w->how->checkpoint;
    t.checkpoint_every = SAVE_EVERY;
    rv_err e = rv_adapter_train(w->g, w->lora, rows, all, &t);
    rv_free(&rv_heap, rows);
    if (t.checkpoint && !o.stopped) {
        unlink(t.checkpoint); /* there may be none; what the time was enough for is judged now */
    }
    return e == RV_E_CANCELLED && !o.stopped ? RV_OK
                                             : e; /* what the time was enough for is judged like everything */
}

static rv_err judge(work *w, rv_adapter_learned *out)
{
    const rv_adapter_learning *how = w->how;
    /* what was learned is not thrown away because the machine has more to do now than when the time was planned */
    RV_TRY(measure(w, w->lora, 500 * how->max_seconds, &out->after, &out->anchors_after));
    if (!(out->after <= RV_ADAPTER_MARGIN * out->before)) {
        out->why = "refused: not enough better on wordings it was not trained on";
        return RV_OK;
    }
    if (!(out->anchors_after <= RV_ADAPTER_ANCHOR_LIMIT * out->anchors_before)) {
        out->why = "refused: answers that stood would change";
        return RV_OK;
    }
    uint64_t model = rv_engine_get_info(how->engine)->fingerprint;
    if (rv_adapters_in_use(how->adapters, model, how->user) != w->now_id) {
        out->why = "refused: another version came into use meanwhile, and this one knows nothing of it";
        return RV_OK;
    }
    rv_adapter_version v = { .model = model,
                             .user = how->user,
                             .origin = how->micro ? "micro" : "learn",
                             .base = how->micro ? w->base_id : 0,
                             .rows = (int64_t)w->corrections,
                             .before = out->before,
                             .after = out->after,
                             .created_ms = w->read_ms,
                             .keys = w->keys,
                             .n_keys = w->keys ? w->corrections : 0,
                             .dim = w->keys ? rv_embed_dim(how->embed) : 0,
                             .embedder = w->keys ? rv_embed_name(how->embed) : "" };
    if (how->micro) {
        take_own(w);
    }
    RV_TRY(rv_adapters_publish(how->adapters, &v, how->micro ? w->own : w->lora, &out->version));
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
    RV_TRY(open_current(w));
    w->read_ms = rv_clock_wall_ms(); /* what is corrected while it trains is news for the next round */
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
    RV_TRY(open_candidate(w, out));
    double from = rv_clock_ms();
    RV_TRY(measure(w, w->current, 0, &out->before, &out->anchors_before));
    w->measure_ms = 2 * (rv_clock_ms() - from); /* with an adapter it takes longer */
    RV_TRY(hold_what_was(w));
    if (time_is_up(w, w->measure_ms)) {
        out->why = "refused: the time is too short to learn and to measure it";
        return RV_OK;
    }
    out->held = w->guard ? w->n_old : 0;
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
    if (e == RV_E_TIMEOUT) {
        done.why = "refused: the time was up before it was measured";
        e = RV_OK;
    }
    rv_free(&rv_heap, w.mix);
    rv_free(&rv_heap, w.frozen);
    rv_ewc_free(w.guard);
    rv_lora_close(w.own);
    rv_lora_close(w.base);
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
