/* One request: prompt to sequence, logits to tokens to text, on the caller's thread. What is computed between two
 * tokens, together with those of others, is in batch.c. */
#include "engine/engine.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/rng.h"
#include "engine/batch_priv.h"
#include "engine/draft_model_priv.h"
#include "engine/sampler_priv.h"
#include "engine/stream_priv.h"

#include <inttypes.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum {
    CONTEXT_DEFAULT = 8192,
    SEQUENCES_DEFAULT = 8,
    SEQUENCES_MAX = 64,
    PACKED_FILE_BYTES = 32 << 20, /* smaller models are packed faster than a file is found */
    NLL_ROWS = 16,                /* rows of logits held at a time */
    ASK_EVERY = 16                /* times that the smaller model promises too little it is asked once */
};

struct rv_engine {
    const rv_alloc *mem;
    rv_lfm2_file *file;
    rv_tok *tok;
    rv_lfm2 *model;
    rv_kv *kv;
    rv_budget *budget, *own_budget; /* of the cache; ours to free, or NULL */
    rv_batch *batch;
    rv_sampler **samplers; /* [max_sequences] one for each seat of the batch */
    size_t max_sequences;
    bool no_drafts;
    rv_habits habits;
    char *path;
    rv_engine_info info;

    rv_turn *turn;     /* of the pool */
    rv_turn *own_turn; /* ours to free, or NULL */
};

rv_engine_options rv_engine_options_default(void)
{
    return (rv_engine_options){ .kv_type = RV_F16 };
}

/* ---- opening ---- */

/* What a cache for so many tokens needs: states of all sequences and their marks, and whole contexts, the last one maybe
 * shorter. False: more than can be counted. */
static bool cache_bytes(const rv_engine *e, const rv_kv_shape *shape, size_t tokens, size_t *out)
{
    size_t n_ctx = e->info.n_ctx, whole, rest = rv_kv_tokens_bytes(shape, tokens % n_ctx);
    size_t states = (2 + RV_KV_MARKS) * e->max_sequences * rv_kv_state_bytes(shape);
    return rv_mul_size(tokens / n_ctx, rv_kv_tokens_bytes(shape, n_ctx), &whole) &&
           rv_add_size(whole, rest, &whole) && rv_add_size(whole, states, out);
}

static rv_err check_budget(const rv_engine *e, const rv_kv_shape *shape)
{
    size_t states = 2 * e->max_sequences * rv_kv_state_bytes(shape), bytes;
    if (!rv_add_size(rv_kv_tokens_bytes(shape, e->info.n_ctx), states, &bytes) ||
        bytes > rv_budget_bytes(e->budget)) {
        return rv_fail(
            RV_E_ARG,
            "%s: one sequence of %u tokens needs %zu bytes beside the states of %zu, the memory pool has "
            "%zu; shorten the context or give the pool more",
            e->path, e->info.n_ctx, rv_kv_tokens_bytes(shape, e->info.n_ctx), 2 * e->max_sequences,
            rv_budget_bytes(e->budget));
    }
    return RV_OK;
}

/* Whatever decides the bits of keys and values beside the model, folded into one number. */
static uint64_t maker_of(const rv_engine *e, bool act_f32)
{
    uint64_t hash = rv_kv_shape_hash(e->kv);
    const char *const words[] = { RV_VERSION, rv_kernels_best()->name, act_f32 ? "float32" : "int8" };
    for (size_t i = 0; i < RV_COUNT(words); i++) {
        for (const char *at = words[i]; *at; at++) {
            hash = (hash ^ (uint8_t)*at) * 0x100000001b3u; /* FNV-1a */
        }
    }
    return hash;
}

static rv_err open_cache(rv_engine *e, rv_engine_options how)
{
    rv_kv_shape shape = rv_lfm2_kv_shape(e->file, how.kv_type);
    if ((how.kv_type == RV_Q8_0 || how.kv_type == RV_Q4_1) && !rv_kvq_has(how.kv_type, shape.head_dim)) {
        return rv_fail(RV_E_UNSUPPORTED,
                       "%s: a quantised cache needs a head size that is a multiple of 16, it is %zu", e->path,
                       shape.head_dim);
    }
    size_t n_ctx = e->info.n_ctx, tokens = how.cache_tokens ? how.cache_tokens : 2 * n_ctx, bytes;
    if (tokens < n_ctx) {
        return rv_fail(RV_E_ARG, "%s: a cache of %zu tokens for a context of %zu", e->path, tokens, n_ctx);
    }
    if (!cache_bytes(e, &shape, tokens, &bytes)) {
        return rv_fail(RV_E_NOMEM, "%s: no memory for a cache of %zu tokens", e->path, tokens);
    }
    e->budget = how.budget;
    if (!e->budget) {
        RV_TRY(rv_budget_new(e->mem, bytes, &e->own_budget));
        e->budget = e->own_budget;
    }
    RV_TRY(check_budget(e, &shape));
    rv_batch_options batch = { .turn = e->turn,
                               .n_ctx = e->info.n_ctx,
                               .max_sequences = e->max_sequences,
                               .n_vocab = e->info.shape.n_vocab,
                               .state_bytes = rv_kv_state_bytes(&shape),
                               .budget = e->budget };
    RV_TRY(rv_kv_new(e->mem, &shape, e->budget, &e->kv));
    batch.shelf = how.shelf;
    batch.key = (rv_shelf_key){ .model = e->info.fingerprint, .maker = maker_of(e, how.act_f32) };
    RV_TRY(rv_batch_new(e->mem, e->model, e->kv, batch, &e->batch));
    e->info.resident_bytes =
        rv_lfm2_resident_bytes(e->model) + (e->own_budget ? bytes : rv_budget_bytes(e->budget));
    return RV_OK;
}

static rv_err open_samplers(rv_engine *e)
{
    e->samplers = rv_new_array(e->mem, e->max_sequences, sizeof *e->samplers);
    if (!e->samplers) {
        return rv_fail(RV_E_NOMEM, "%s: opening", e->path);
    }
    for (size_t i = 0; i < e->max_sequences; i++) {
        RV_TRY(rv_sampler_new(e->mem, rv_kernels_best(), e->info.shape.n_vocab, &e->samplers[i]));
    }
    return RV_OK;
}

static rv_err name_model(rv_engine *e)
{
    const char *slash = strrchr(e->path, '/');
    e->info.name = rv_str_from(slash ? slash + 1 : e->path);
    bool found = false;
    rv_str name;
    RV_TRY(rv_gguf_get_string(e->file->gguf, "general.name", &name, &found));
    if (found && name.n) {
        e->info.name = name;
    }
    return RV_OK;
}

/* The family decides nothing here: completions work without one, and asking for a chat says what is missing.
 */
static rv_err find_family(rv_engine *e)
{
    rv_err err = rv_chat_family_of(e->file->gguf, &e->info.family);
    if (err == RV_E_UNSUPPORTED) {
        e->info.family = RV_CHAT_NONE;
        err = RV_OK;
    }
    return err;
}

static rv_err open_file(rv_engine *e, uint32_t max_context)
{
    RV_TRY(rv_lfm2_file_open(e->mem, e->path, false, &e->file));
    RV_TRY(rv_tok_open(e->mem, e->file->gguf, &e->tok));
    const rv_lfm2_shape *shape = &e->file->shape;
    if (rv_tok_count(e->tok) != shape->n_vocab) {
        return rv_fail(RV_E_FORMAT, "%s: tokenizer.ggml.tokens has %zu tokens, token_embd.weight %u rows",
                       e->path, rv_tok_count(e->tok), shape->n_vocab);
    }
    uint32_t wanted = max_context ? max_context : CONTEXT_DEFAULT;
    e->info = (rv_engine_info){ .path = e->path,
                                .shape = *shape,
                                .n_ctx = wanted < shape->n_ctx_train ? wanted : shape->n_ctx_train,
                                .fingerprint = rv_gguf_fingerprint(e->file->gguf),
                                .vocabulary = rv_tok_hash(e->tok) };
    if (e->info.n_ctx < 2) {
        return rv_fail(RV_E_ARG, "%s: a context of %u tokens, expected at least 2", e->path, e->info.n_ctx);
    }
    RV_TRY(name_model(e));
    return find_family(e);
}

/* Where the packed weights of this model are kept; NULL: nowhere. A file that others would find has the model's name for
 * people, and its fingerprint for us. */
static rv_err packed_file(const rv_engine *e, rv_engine_options how, char **path)
{
    *path = NULL;
    if (!how.packed_dir || how.no_packing || e->file->shape.weight_bytes < PACKED_FILE_BYTES) {
        return RV_OK;
    }
    const char *slash = strrchr(e->path, '/');
    char name[300];
    snprintf(name, sizeof name, "%.255s-%016" PRIx64 ".rvpack", slash ? slash + 1 : e->path,
             e->info.fingerprint);
    *path = rv_path_join(e->mem, how.packed_dir, name);
    return *path ? rv_dir_make(how.packed_dir) : rv_fail(RV_E_NOMEM, "%s: opening", e->path);
}

/* In our turn, because packing the weights is work for the pool. */
static rv_err open_model(rv_engine *e, rv_engine_options how)
{
    e->turn = how.turn;
    if (!e->turn) {
        RV_TRY(rv_turn_new(e->mem, &e->own_turn));
        e->turn = e->own_turn;
    }
    char *path = NULL;
    if (packed_file(e, how, &path)) { /* only speed is lost */
        rv_log(RV_LOG_WARN, "model.packed", "not_made", rv_err_text(), (char *)NULL);
        rv_free(e->mem, path);
        path = NULL;
    }
    rv_turn_begin(e->turn, NULL);
    rv_lfm2_options options = { .pool = how.pool,
                                .act_f32 = how.act_f32,
                                .max_segments = e->max_sequences,
                                .max_rows = e->max_sequences + RV_DRAFTS_STEP,
                                .packed_file = path,
                                .no_packing = how.no_packing };
    rv_err err = rv_lfm2_open(e->mem, e->file, options, &e->model);
    rv_turn_end(e->turn);
    rv_free(e->mem, path);
    return err;
}

static rv_err open_parts(rv_engine *e, const char *path, rv_engine_options how)
{
    e->path = rv_strdup(e->mem, path);
    if (!e->path) {
        return rv_fail(RV_E_NOMEM, "%s: opening", path);
    }
    RV_TRY(open_file(e, how.max_context));
    RV_TRY(open_model(e, how));
    RV_TRY(open_cache(e, how));
    return open_samplers(e);
}

rv_err rv_engine_open(const rv_alloc *mem, const char *path, rv_engine_options how, rv_engine **out)
{
    if (how.kv_type != RV_F16 && how.kv_type != RV_F32 && how.kv_type != RV_Q8_0 && how.kv_type != RV_Q4_1) {
        return rv_fail(RV_E_ARG, "type %d for keys and values, expected F16, F32, Q8_0 or Q4_1",
                       (int)how.kv_type);
    }
    if (how.max_sequences > SEQUENCES_MAX) {
        return rv_fail(RV_E_ARG, "%u sequences, expected at most %d", how.max_sequences, SEQUENCES_MAX);
    }
    rv_engine *e = rv_new(mem, sizeof *e);
    if (!e) {
        return rv_fail(RV_E_NOMEM, "%s: opening", path);
    }
    e->mem = mem;
    rv_habits_init(&e->habits);
    e->no_drafts = how.no_drafts;
    e->max_sequences = how.max_sequences ? how.max_sequences : SEQUENCES_DEFAULT;
    rv_err err = open_parts(e, path, how);
    if (err) {
        rv_engine_close(e);
        return err;
    }
    *out = e;
    return RV_OK;
}

void rv_engine_close(rv_engine *e)
{
    if (!e) {
        return;
    }
    for (size_t i = 0; e->samplers && i < e->max_sequences; i++) {
        rv_sampler_free(e->samplers[i]);
    }
    rv_free(e->mem, e->samplers);
    rv_batch_free(e->batch);
    rv_kv_free(e->kv);
    rv_budget_free(e->own_budget);
    rv_lfm2_close(e->model);
    rv_tok_close(e->tok);
    rv_lfm2_file_close(e->file);
    rv_turn_free(e->own_turn);
    rv_habits_deinit(&e->habits);
    rv_free(e->mem, e->path);
    rv_free(e->mem, e);
}

rv_err rv_engine_open_lora(const rv_engine *e, const rv_alloc *mem, const char *path, rv_lora **out)
{
    return rv_lora_open(mem, path, e->file, out);
}

const rv_engine_info *rv_engine_get_info(const rv_engine *e)
{
    return &e->info;
}
const rv_tok *rv_engine_tok(const rv_engine *e)
{
    return e->tok;
}

/* ---- generating ---- */

static rv_err check_request(const rv_engine *e, const rv_generate *how)
{
    size_t n_vocab = e->info.shape.n_vocab;
    if (how->n_prompt < 1) {
        return rv_fail(RV_E_ARG, "the prompt is empty, expected at least one token");
    }
    if (how->n_prompt >= e->info.n_ctx) {
        return rv_fail(
            RV_E_CONTEXT,
            "the prompt has %zu tokens, the context holds %u and one has to be left for the answer",
            how->n_prompt, e->info.n_ctx);
    }
    for (size_t i = 0; i < how->n_prompt; i++) {
        if (how->prompt[i] < 0 || (size_t)how->prompt[i] >= n_vocab) {
            return rv_fail(RV_E_ARG, "prompt: token %zu is %d, expected 0 to %zu", i, how->prompt[i],
                           n_vocab - 1);
        }
    }
    if (how->n_logprobs < -1 || how->n_logprobs > RV_MAX_LOGPROBS) {
        return rv_fail(RV_E_ARG, "%d log-probabilities, expected -1 to %d", how->n_logprobs, RV_MAX_LOGPROBS);
    }
    const rv_engine *d = how->draft_model;
    if (d && (d->info.vocabulary != e->info.vocabulary || d->info.shape.n_vocab != n_vocab)) {
        return rv_fail(RV_E_ARG,
                       "%s cannot guess for %s: the tokens of its vocabulary (%u) are not the same (%zu)",
                       d->path, e->path, d->info.shape.n_vocab, n_vocab);
    }
    RV_TRY(rv_stream_check(how->stops, how->n_stops));
    return rv_sampling_check(&how->sampling, n_vocab);
}

static void count_token(rv_generated *done, float logprob)
{
    double p = (double)logprob;
    done->min_logprob = done->completion_tokens == 0 || p < done->min_logprob ? p : done->min_logprob;
    done->completion_tokens++;
    done->mean_logprob += (p - done->mean_logprob) / (double)done->completion_tokens;
}

static bool is_cancelled(const rv_generate *how)
{
    return how->cancel && atomic_load_explicit(how->cancel, memory_order_relaxed);
}

static bool give(const rv_generate *how, const rv_piece *piece)
{
    return !how->on_piece || how->on_piece(how->self, piece);
}

/* An answer under way. */
typedef struct answer {
    rv_engine *e;
    rv_call *call;
    const rv_generate *how;
    rv_rng rng;
    rv_draft draft;
    rv_draft_model model;
    rv_stream *stream;
    rv_generated *done;
    size_t n;       /* tokens of prompt and answer */
    size_t guessed; /* tokens behind them that a guess has put there, fed or not */
    size_t unasked; /* times the smaller model did not promise enough */
} answer;

/* Samples the token behind the n there are. */
static rv_err sample(answer *a, rv_piece *piece, rv_token_prob *top)
{
    rv_sampler *sampler = a->e->samplers[a->call->seat];
    rv_logits_row row = { rv_batch_logits(a->e->batch, a->call, a->n),
                          rv_batch_blocks(a->e->batch, a->call, a->n) };
    double normaliser = rv_sampler_normalise(sampler, row);
    *piece = (rv_piece){ .text = "", .top = top };
    if (a->how->n_logprobs > 0) {
        piece->n_top = rv_sampler_top(sampler, row.logits, normaliser, top, (size_t)a->how->n_logprobs);
    }
    rv_history past = { a->call->ids, a->n, a->how->n_prompt };
    piece->token = rv_sampler_next(sampler, &a->how->sampling, &a->rng, past, row);
    if (piece->token < 0) {
        return rv_fail(RV_E_CORRUPT,
                       "%s: the model gave no finite logit after %zu tokens; `ruvllm show` checks the file",
                       a->e->path, a->n);
    }
    piece->logprob = (float)((double)row.logits[piece->token] - normaliser);
    return RV_OK;
}

/* Tokens per time of a step that takes in the best number of n guesses, each of which costs as much by itself too. */
static double best_rate(rv_batch *b, const double *chances, size_t n, double each_ms)
{
    double expected = 1, best = expected / rv_batch_step_ms(b, 1);
    for (size_t i = 0; i < n; i++) {
        expected += chances[i];
        best = fmax(best, expected / (rv_batch_step_ms(b, i + 2) + (double)(i + 1) * each_ms));
    }
    return best;
}

/* Whether the smaller model promises more than the guesses there are; where it does not, it is asked now and then, because
 * how well it guesses changes. */
static bool is_worth_asking(answer *a)
{
    double chances[RV_DRAFTS_MAX], each_ms = rv_batch_step_ms(a->model.batch, 1);
    double hope = rv_draft_hope(&a->e->habits);
    for (size_t i = 0; i < RV_DRAFTS_MAX; i++) {
        chances[i] = (i ? chances[i - 1] : 1) * hope;
    }
    rv_batch *b = a->e->batch;
    return best_rate(b, chances, RV_DRAFTS_MAX, each_ms) > best_rate(b, a->call->chances, a->guessed, 0) ||
           ++a->unasked % ASK_EVERY == 0;
}

/* One more guess of the smaller model, behind n that it just made, is worth its time if it raises tokens per time. */
static bool is_worth_more(answer *a, const double *chances, size_t n)
{
    double each_ms = rv_batch_step_ms(a->model.batch, 1), expected = 1;
    for (size_t i = 0; i < n; i++) {
        expected += chances[i];
    }
    rv_batch *b = a->e->batch;
    double ms = rv_batch_step_ms(b, n + 1) + (double)n * each_ms;
    double more_ms = rv_batch_step_ms(b, n + 2) - rv_batch_step_ms(b, n + 1) + each_ms;
    return chances[n - 1] * rv_draft_hope(&a->e->habits) * ms > expected * more_ms;
}

/* In place of the guess there is. */
static void ask_model(answer *a, size_t most)
{
    rv_call *c = a->call;
    bool all = a->how->drafts == RV_DRAFTS_ALL;
    if (!all && !rv_batch_wants_model(a->e->batch, c)) {
        rv_draft_model_end(&a->model);
        return;
    }
    if (!all && !is_worth_asking(a)) {
        return;
    }
    double start = rv_clock_ms(), chances[RV_DRAFTS_MAX];
    int32_t token = -1;
    float p[RV_DRAFTS_MAX];
    size_t n = 0;
    rv_rng rng = a->rng;
    rv_history past = { c->ids, a->n, a->how->n_prompt };
    while (n < most && rv_draft_model_next(&a->model, past, n, &a->how->sampling, &rng, &token, &p[n])) {
        c->ids[a->n + n++] = token;
        rv_draft_by_model(&a->draft, p, n);
        rv_draft_chances(&a->draft, &a->e->habits, c->ids[a->n - 1], c->ids + a->n, n, chances);
        if (rv_tok_is_end(a->e->tok, token) || (!all && !is_worth_more(a, chances, n))) {
            break;
        }
    }
    if (n) {
        a->guessed = n;
        memcpy(c->chances, chances, n * sizeof *chances);
    }
    c->guess_ms = rv_clock_ms() - start;
}

static void guess(answer *a)
{
    rv_call *c = a->call;
    size_t left = c->most_tokens - a->n, most = left < RV_DRAFTS_MAX ? left : RV_DRAFTS_MAX;
    bool off = a->how->drafts == RV_DRAFTS_OFF || (a->how->drafts == RV_DRAFTS_AUTO && a->e->no_drafts);
    a->guessed = off ? 0 : rv_draft_guess(&a->draft, c->ids, a->n, c->ids + a->n, most);
    rv_draft_chances(&a->draft, &a->e->habits, c->ids[a->n - 1], c->ids + a->n, a->guessed, c->chances);
    c->all_drafts = a->how->drafts == RV_DRAFTS_ALL;
    c->has_model = !off && a->model.batch;
    c->guess_ms = 0;
    if (c->has_model) {
        ask_model(a, most);
    }
    c->n_drafts = a->guessed;
}

/* The sampled token joins the others, and the sequence gets to hold it: it does already when it was guessed and fed,
 * else it is fed, with a new guess behind it. */
static rv_err go_on(answer *a, int32_t token)
{
    rv_call *c = a->call;
    if (a->guessed) {
        bool right = c->ids[a->n] == token;
        rv_draft_learn(&a->draft, &a->e->habits, c->ids[a->n - 1], right);
        a->guessed = right ? a->guessed - 1 : 0;
        if (right && a->n < c->fed) {
            a->done->accepted++;
            a->done->model_accepted += rv_draft_is_by_model(&a->draft);
            a->n++;
            return RV_OK;
        }
    }
    if (a->n < c->fed) {
        rv_batch_take_back(a->e->batch, c, a->n);
    }
    c->ids[a->n++] = token;
    guess(a);
    RV_TRY(rv_batch_feed(a->e->batch, c, a->n));
    size_t drafted = c->fed > a->n ? c->fed - a->n : 0;
    a->done->steps++;
    a->done->drafted += drafted;
    a->done->model_drafted += rv_draft_is_by_model(&a->draft) ? drafted : 0;
    return RV_OK;
}

static rv_err add_text(answer *a, rv_piece *piece)
{
    if (a->how->keep_control || !rv_tok_is_control(a->e->tok, piece->token)) {
        rv_str bytes = rv_tok_bytes(a->e->tok, piece->token);
        rv_str text = rv_stream_push(a->stream, bytes.at, bytes.n);
        if (rv_stream_failed(a->stream)) {
            return rv_fail(RV_E_NOMEM, "no memory for the answer");
        }
        piece->text = text.at;
        piece->n = text.n;
    }
    return RV_OK;
}

/* With the logits of the prompt's last token at hand. */
static rv_err decode(answer *a)
{
    rv_generated *done = a->done;
    size_t limit = a->call->most_tokens + 1 - a->n;
    for (done->finish = RV_FINISH_LENGTH;;) {
        rv_piece piece;
        rv_token_prob top[RV_MAX_LOGPROBS];
        RV_TRY(sample(a, &piece, top));
        count_token(done, piece.logprob);
        if (!a->how->ignore_end && rv_tok_is_end(a->e->tok, piece.token)) {
            done->finish = RV_FINISH_STOP;
            break;
        }
        RV_TRY(add_text(a, &piece));
        if (!give(a->how, &piece)) {
            done->finish = RV_FINISH_CANCELLED;
            return RV_OK;
        }
        if (a->stream->stop) {
            done->finish = RV_FINISH_STOP;
            done->stop = a->stream->stop;
            return RV_OK;
        }
        if (done->completion_tokens == limit) {
            break;
        }
        RV_TRY(go_on(a, piece.token));
        if (a->call->cancelled || is_cancelled(a->how)) {
            done->finish = RV_FINISH_CANCELLED;
            return RV_OK;
        }
    }
    rv_str rest = rv_stream_end(a->stream);
    if (rv_stream_failed(a->stream)) {
        return rv_fail(RV_E_NOMEM, "no memory for the answer");
    }
    if (a->stream->stop) {
        done->finish = RV_FINISH_STOP;
        done->stop = a->stream->stop;
    }
    if (rest.n && !give(a->how, &(rv_piece){ .text = rest.at, .n = rest.n, .token = -1 })) {
        done->finish = RV_FINISH_CANCELLED;
    }
    return RV_OK;
}

static void begin_model(answer *a)
{
    const rv_engine *d = a->how->draft_model;
    if (d) {
        size_t most = a->call->most_tokens, room = d->info.n_ctx;
        a->model = (rv_draft_model){ .batch = d->batch,
                                     .samplers = d->samplers,
                                     .call = { .most_tokens = most < room ? most : room,
                                               .private = a->how->private,
                                               .tenant = a->how->tenant,
                                               .cancel = a->how->cancel } };
        rv_draft_model_end(&a->model);
    }
}

rv_err rv_engine_generate(rv_engine *e, const rv_generate *how, rv_generated *out)
{
    RV_TRY(check_request(e, how));
    rv_generated done = { .finish = RV_FINISH_CANCELLED, .prompt_tokens = how->n_prompt };
    size_t room = e->info.n_ctx - how->n_prompt;
    size_t limit = how->max_tokens && how->max_tokens < room ? how->max_tokens : room;
    rv_call call = { .prompt = how->prompt,
                     .n_prompt = how->n_prompt,
                     .most_tokens = how->n_prompt + limit - 1, /* the last one is not fed */
                     .lora = how->lora,
                     .private = how->private,
                     .tenant = how->tenant,
                     .cancel = how->cancel };
    rv_stream stream;
    rv_stream_init(&stream, e->mem, how->stops, how->n_stops);
    double start = rv_clock_ms();
    rv_err err = rv_batch_feed(e->batch, &call, how->n_prompt);
    double prefilled = rv_clock_ms(), began = call.ids ? call.admitted_ms : prefilled;
    if (!err && !call.cancelled) {
        answer a = {
            .e = e, .call = &call, .how = how, .stream = &stream, .done = &done, .n = how->n_prompt
        };
        rv_rng_init(&a.rng, how->sampling.seed);
        rv_draft_init(&a.draft);
        begin_model(&a);
        err = decode(&a);
        rv_draft_model_end(&a.model);
        if (!err && a.n < call.fed) { /* what is kept for the next request is what was said */
            rv_batch_take_back(e->batch, &call, a.n);
        }
    }
    rv_batch_end(e->batch, &call);
    rv_stream_deinit(&stream);
    done.cached_tokens = call.cached;
    done.wait_ms = began - start;
    done.prefill_ms = prefilled - began;
    done.decode_ms = rv_clock_ms() - prefilled;
    if (!err) {
        *out = done;
    }
    return err;
}

/* ---- measuring ---- */

static rv_err check_ids(const rv_engine *e, const int32_t *ids, size_t n)
{
    if (n < 1 || n > e->info.n_ctx) {
        return rv_fail(RV_E_CONTEXT, "%zu tokens, expected 1 to %u", n, e->info.n_ctx);
    }
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || (uint32_t)ids[i] >= e->info.shape.n_vocab) {
            return rv_fail(RV_E_ARG, "token %zu is %d, expected 0 to %u", i, ids[i],
                           e->info.shape.n_vocab - 1);
        }
    }
    return RV_OK;
}

static rv_call measurement(const rv_lora *lora, const int32_t *ids, size_t n)
{
    return (rv_call){ .lora = lora, .prompt = ids, .n_prompt = n, .most_tokens = n, .measuring = true };
}

rv_err rv_engine_logits(rv_engine *e, const rv_lora *lora, const int32_t *ids, size_t n_ids, size_t from,
                        size_t chunk, float *out)
{
    RV_TRY(check_ids(e, ids, n_ids));
    if (from >= n_ids) {
        return rv_fail(RV_E_ARG, "logits from token %zu, expected 0 to %zu", from, n_ids - 1);
    }
    rv_call call = measurement(lora, ids, n_ids);
    call.chunk = chunk;
    call.logits_from = from;
    call.logits = out;
    rv_err err = rv_batch_feed(e->batch, &call, n_ids);
    rv_batch_end(e->batch, &call);
    return err;
}

static rv_err add_nll(rv_engine *e, rv_call *call, double *sum)
{
    size_t v = e->info.shape.n_vocab, end;
    for (size_t past = 0; past + 1 < call->n_prompt; past = end) {
        end = call->n_prompt - 1 - past < NLL_ROWS ? call->n_prompt - 1 : past + NLL_ROWS;
        call->logits_from = past;
        RV_TRY(rv_batch_feed(e->batch, call, end));
        for (size_t i = past; i < end; i++) {
            const float *row = call->logits + (i - past) * v;
            *sum += rv_sampler_normalise(e->samplers[call->seat], (rv_logits_row){ row, NULL }) -
                    (double)row[call->prompt[i + 1]];
        }
    }
    return RV_OK;
}

rv_err rv_engine_nll(rv_engine *e, const rv_lora *lora, const int32_t *ids, size_t n, double *out)
{
    RV_TRY(check_ids(e, ids, n));
    float *rows = rv_new_array(e->mem, (size_t)NLL_ROWS * e->info.shape.n_vocab, sizeof *rows);
    if (!rows) {
        return rv_fail(RV_E_NOMEM, "no memory for %d rows of logits", NLL_ROWS);
    }
    double sum = 0;
    rv_call call = measurement(lora, ids, n);
    call.logits = rows;
    rv_err err = add_nll(e, &call, &sum);
    rv_batch_end(e->batch, &call);
    rv_free(e->mem, rows);
    if (!err && !isfinite(sum)) {
        err =
            rv_fail(RV_E_CORRUPT,
                    "%s: the model gave a logit that is not finite; `ruvllm show` checks the file", e->path);
    }
    if (!err) {
        *out = sum;
    }
    return err;
}

/* Tokens behind the first `depth`, at once or one by one, with logits of the last one each time. */
static rv_err time_tokens(rv_engine *e, const int32_t *ids, size_t depth, size_t n_tokens, bool singly,
                          float *row, double *ms)
{
    size_t end = depth + n_tokens;
    rv_call call = measurement(NULL, ids, end);
    call.logits = row;
    call.logits_from = end;
    rv_err err = depth && n_tokens ? rv_batch_feed(e->batch, &call, depth) : RV_OK;
    double start = rv_clock_ms();
    for (size_t n = depth; n < end && !err;) {
        n = singly ? n + 1 : end;
        call.logits_from = n - 1;
        err = rv_batch_feed(e->batch, &call, n);
    }
    *ms = rv_clock_ms() - start;
    rv_batch_end(e->batch, &call);
    return err;
}

rv_err rv_engine_bench(rv_engine *e, size_t depth, size_t n_prompt, size_t n_gen, double *prefill_ms,
                       double *decode_ms)
{
    size_t longest = n_prompt > n_gen ? n_prompt : n_gen, v = e->info.shape.n_vocab, n_ctx = e->info.n_ctx;
    if (longest > n_ctx || depth > n_ctx - longest) {
        return rv_fail(RV_E_CONTEXT, "%zu tokens behind %zu, the context holds %zu", longest, depth, n_ctx);
    }
    longest += depth;
    int32_t *ids = rv_new_array(e->mem, longest + 1, sizeof *ids);
    float *row = rv_new_array(e->mem, v, sizeof *row);
    rv_err err = ids && row ? RV_OK : rv_fail(RV_E_NOMEM, "no memory for %zu tokens", longest);
    rv_rng rng;
    rv_rng_init(&rng, 1);
    for (size_t i = 0; i < longest && !err; i++) {
        ids[i] = (int32_t)rv_rng_below(&rng, v);
    }
    double first = 0, second = 0;
    if (!err) {
        err = time_tokens(e, ids, depth, n_prompt, false, row, &first);
    }
    if (!err) {
        err = time_tokens(e, ids, depth, n_gen, true, row, &second);
    }
    rv_free(e->mem, row);
    rv_free(e->mem, ids);
    if (!err) {
        *prefill_ms = first;
        *decode_ms = second;
    }
    return err;
}

void rv_engine_forget(rv_engine *e)
{
    rv_batch_forget(e->batch);
}

rv_err rv_engine_check(rv_engine *e)
{
    return rv_batch_check(e->batch);
}
