/* One sequence lives as long as the engine. What it holds from the last request is kept, and the next one
 * starts at the last length that both share and whose convolution state is known: where the sequence ends (a
 * conversation that goes on), or a mark. Marks are left where the next prompt is likely to part from this
 * one: where this one parted from the prompt before (the end of a common beginning), before the last token of
 * the prompt (asking again), and every MARK_EVERY tokens. Resuming gives the same bits as starting over,
 * because chunks do not change logits. */
#include "engine/engine.h"
#include "base/clock.h"
#include "base/rng.h"
#include "engine/sampler_priv.h"
#include "engine/stream_priv.h"
#include "kv/kv.h"
#include "model/lfm2.h"

#include <string.h>

enum {
    CONTEXT_DEFAULT = 8192,
    MARK_EVERY = 256,
    NLL_ROWS = 16 /* rows of logits held at a time */
};

struct rv_engine {
    const rv_alloc *mem;
    rv_lfm2_file *file;
    rv_tok *tok;
    rv_lfm2 *model;
    rv_kv *kv;
    rv_kv_seq *seq;
    rv_sampler *sampler;
    float *logits; /* [n_vocab] */
    int32_t *ids;  /* [n_ctx + 1] what seq holds; beyond that the token not yet fed */
    char *path;
    rv_engine_info info;

    rv_turn *turn;     /* who has it owns all that changes above */
    rv_turn *own_turn; /* ours to free, or NULL */
};

rv_engine_options rv_engine_options_default(void)
{
    return (rv_engine_options){ .kv_type = RV_F16 };
}

/* ---- opening ---- */

static rv_err open_cache(rv_engine *e, rv_type type)
{
    rv_kv_shape shape = rv_lfm2_kv_shape(e->file, type);
    size_t pages = (e->info.n_ctx + RV_KV_PAGE_TOKENS - 1) / RV_KV_PAGE_TOKENS;
    size_t budget = pages * rv_kv_page_bytes(&shape) + (1 + RV_KV_MARKS) * rv_kv_state_bytes(&shape);
    RV_TRY(rv_kv_new(e->mem, &shape, budget, &e->kv));
    RV_TRY(rv_kv_seq_new(e->kv, e->info.n_ctx, &e->seq));
    e->info.resident_bytes = rv_lfm2_resident_bytes(e->model) + budget;
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
                                .fingerprint = rv_gguf_fingerprint(e->file->gguf) };
    if (e->info.n_ctx < 2) {
        return rv_fail(RV_E_ARG, "%s: a context of %u tokens, expected at least 2", e->path, e->info.n_ctx);
    }
    RV_TRY(name_model(e));
    return find_family(e);
}

/* In our turn, because packing the weights is work for the pool. */
static rv_err open_model(rv_engine *e, rv_engine_options how)
{
    e->turn = how.turn;
    if (!e->turn) {
        RV_TRY(rv_turn_new(e->mem, &e->own_turn));
        e->turn = e->own_turn;
    }
    rv_turn_begin(e->turn, NULL);
    rv_lfm2_options options = { .pool = how.pool, .act_f32 = how.act_f32 };
    rv_err err = rv_lfm2_open(e->mem, e->file, options, &e->model);
    rv_turn_end(e->turn);
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
    RV_TRY(open_cache(e, how.kv_type));
    RV_TRY(rv_sampler_new(e->mem, rv_kernels_best(), e->info.shape.n_vocab, &e->sampler));
    e->logits = rv_new_array(e->mem, e->info.shape.n_vocab, sizeof *e->logits);
    e->ids = rv_new_array(e->mem, (size_t)e->info.n_ctx + 1, sizeof *e->ids);
    return e->logits && e->ids ? RV_OK : rv_fail(RV_E_NOMEM, "%s: opening", path);
}

rv_err rv_engine_open(const rv_alloc *mem, const char *path, rv_engine_options how, rv_engine **out)
{
    if (how.kv_type != RV_F16 && how.kv_type != RV_F32) {
        return rv_fail(RV_E_ARG, "type %d for keys and values, expected F16 or F32", (int)how.kv_type);
    }
    rv_engine *e = rv_new(mem, sizeof *e);
    if (!e) {
        return rv_fail(RV_E_NOMEM, "%s: opening", path);
    }
    e->mem = mem;
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
    rv_free(e->mem, e->ids);
    rv_free(e->mem, e->logits);
    rv_sampler_free(e->sampler);
    rv_kv_seq_free(e->seq);
    rv_kv_free(e->kv);
    rv_lfm2_close(e->model);
    rv_tok_close(e->tok);
    rv_lfm2_file_close(e->file);
    rv_turn_free(e->own_turn);
    rv_free(e->mem, e->path);
    rv_free(e->mem, e);
}

const rv_engine_info *rv_engine_get_info(const rv_engine *e)
{
    return &e->info;
}
const rv_tok *rv_engine_tok(const rv_engine *e)
{
    return e->tok;
}

static bool cancelled(const atomic_bool *cancel)
{
    return cancel && atomic_load_explicit(cancel, memory_order_relaxed);
}

/* ---- feeding ---- */

/* Appends ids to the sequence, with logits of those from `from` on, and remembers them. */
static rv_err feed(rv_engine *e, const int32_t *ids, size_t n, size_t from, float *logits, size_t mark_after)
{
    size_t past = rv_kv_seq_tokens(e->seq);
    rv_lfm2_step step = {
        .ids = ids, .n = n, .logits_from = from, .logits = logits, .mark_after = mark_after
    };
    RV_TRY(rv_lfm2_run(e->model, e->seq, &step));
    memmove(e->ids + past, ids, n * sizeof *ids);
    return RV_OK;
}

static size_t common_beginning(const rv_engine *e, const int32_t *ids, size_t n)
{
    size_t fed = rv_kv_seq_tokens(e->seq), same = 0;
    while (same < fed && same < n && e->ids[same] == ids[same]) {
        same++;
    }
    return same;
}

/* Where in tokens (past, past + n] to leave a mark, counted from past; 0: nowhere. */
static size_t place_mark(size_t past, size_t n, size_t parted, size_t n_prompt)
{
    size_t last = n_prompt - 1, grid = (past + n) / MARK_EVERY * MARK_EVERY;
    const size_t wanted[] = { parted, last, grid };
    for (size_t i = 0; i < RV_COUNT(wanted); i++) {
        if (wanted[i] > past && wanted[i] <= past + n) {
            return wanted[i] - past;
        }
    }
    return 0;
}

/* Leaves the logits of the prompt's last token in e->logits. */
static rv_err prefill(rv_engine *e, const rv_generate *how, rv_generated *done)
{
    size_t parted = common_beginning(e, how->prompt, how->n_prompt - 1);
    size_t past = rv_kv_rewind(e->seq, parted);
    done->cached_tokens = past;
    while (past < how->n_prompt) {
        if (cancelled(how->cancel)) {
            done->finish = RV_FINISH_CANCELLED;
            return RV_OK;
        }
        size_t most = rv_lfm2_max_chunk(e->model), left = how->n_prompt - past, n = left < most ? left : most;
        RV_TRY(feed(e, how->prompt + past, n, left > n ? n : n - 1, e->logits,
                    place_mark(past, n, parted, how->n_prompt)));
        past += n;
    }
    return RV_OK;
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
            return rv_fail(RV_E_ARG, "prompt token %zu is %d, expected 0 to %zu", i, how->prompt[i],
                           n_vocab - 1);
        }
    }
    if (how->n_logprobs < -1 || how->n_logprobs > RV_MAX_LOGPROBS) {
        return rv_fail(RV_E_ARG, "%d log-probabilities, expected -1 to %d", how->n_logprobs, RV_MAX_LOGPROBS);
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

static bool give(const rv_generate *how, const rv_piece *piece)
{
    return !how->on_piece || how->on_piece(how->self, piece);
}

/* Samples a token from e->logits behind the n tokens of e->ids, and puts it there. */
static rv_err sample(rv_engine *e, const rv_generate *how, rv_rng *rng, size_t n, rv_piece *piece,
                     rv_token_prob *top)
{
    double normaliser = rv_sampler_normalise(e->sampler, e->logits);
    *piece = (rv_piece){ .text = "", .top = top };
    if (how->n_logprobs > 0) {
        piece->n_top = rv_sampler_top(e->sampler, e->logits, normaliser, top, (size_t)how->n_logprobs);
    }
    rv_history past = { e->ids, n, how->n_prompt };
    piece->token = rv_sampler_next(e->sampler, &how->sampling, rng, past, e->logits);
    if (piece->token < 0) {
        return rv_fail(RV_E_CORRUPT,
                       "%s: the model gave no finite logit after %zu tokens; `ruvllm show` checks the file",
                       e->path, n);
    }
    piece->logprob = (float)((double)e->logits[piece->token] - normaliser);
    e->ids[n] = piece->token;
    return RV_OK;
}

static rv_err decode(rv_engine *e, const rv_generate *how, rv_stream *stream, rv_generated *done)
{
    size_t n = how->n_prompt, room = e->info.n_ctx - n;
    size_t limit = how->max_tokens && how->max_tokens < room ? how->max_tokens : room;
    rv_rng rng;
    rv_rng_init(&rng, how->sampling.seed);
    for (done->finish = RV_FINISH_LENGTH;;) {
        rv_piece piece;
        rv_token_prob top[RV_MAX_LOGPROBS];
        RV_TRY(sample(e, how, &rng, n, &piece, top));
        count_token(done, piece.logprob);
        if (!how->ignore_end && rv_tok_is_end(e->tok, piece.token)) {
            done->finish = RV_FINISH_STOP;
            break;
        }
        if (how->keep_control || !rv_tok_is_control(e->tok, piece.token)) {
            rv_str bytes = rv_tok_bytes(e->tok, piece.token);
            rv_str text = rv_stream_push(stream, bytes.at, bytes.n);
            if (rv_stream_failed(stream)) {
                return rv_fail(RV_E_NOMEM, "no memory for the answer");
            }
            piece.text = text.at;
            piece.n = text.n;
        }
        if (!give(how, &piece)) {
            done->finish = RV_FINISH_CANCELLED;
            return RV_OK;
        }
        if (stream->stop) {
            done->finish = RV_FINISH_STOP;
            done->stop = stream->stop;
            return RV_OK;
        }
        if (done->completion_tokens == limit) {
            break;
        }
        if (cancelled(how->cancel)) {
            done->finish = RV_FINISH_CANCELLED;
            return RV_OK;
        }
        RV_TRY(feed(e, e->ids + n, 1, 0, e->logits, 0));
        n++;
    }
    rv_str rest = rv_stream_end(stream);
    if (rv_stream_failed(stream)) {
        return rv_fail(RV_E_NOMEM, "no memory for the answer");
    }
    if (stream->stop) {
        done->finish = RV_FINISH_STOP;
        done->stop = stream->stop;
    }
    if (rest.n && !give(how, &(rv_piece){ .text = rest.at, .n = rest.n, .token = -1 })) {
        done->finish = RV_FINISH_CANCELLED;
    }
    return RV_OK;
}

rv_err rv_engine_generate(rv_engine *e, const rv_generate *how, rv_generated *out)
{
    RV_TRY(check_request(e, how));
    rv_generated done = { .prompt_tokens = how->n_prompt };
    double start = rv_clock_ms();
    if (!rv_turn_begin(e->turn, how->cancel)) {
        done.finish = RV_FINISH_CANCELLED;
        done.wait_ms = rv_clock_ms() - start;
        *out = done;
        return RV_OK;
    }
    double began = rv_clock_ms();
    rv_stream stream;
    rv_stream_init(&stream, e->mem, how->stops, how->n_stops);
    done.finish = RV_FINISH_LENGTH;
    rv_err err = prefill(e, how, &done);
    double prefilled = rv_clock_ms();
    if (!err && done.finish != RV_FINISH_CANCELLED) {
        err = decode(e, how, &stream, &done);
    }
    rv_stream_deinit(&stream);
    done.wait_ms = began - start;
    done.prefill_ms = prefilled - began;
    done.decode_ms = rv_clock_ms() - prefilled;
    rv_turn_end(e->turn);
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

static rv_err all_logits(rv_engine *e, const int32_t *ids, size_t n_ids, size_t from, size_t chunk,
                         float *out)
{
    size_t v = e->info.shape.n_vocab, n;
    rv_kv_rewind(e->seq, 0);
    for (size_t past = 0; past < n_ids; past += n) {
        n = n_ids - past < chunk ? n_ids - past : chunk;
        size_t skip = from <= past ? 0 : from - past < n ? from - past : n;
        RV_TRY(feed(e, ids + past, n, skip, skip < n ? out + (past + skip - from) * v : NULL, 0));
    }
    return RV_OK;
}

rv_err rv_engine_logits(rv_engine *e, const int32_t *ids, size_t n_ids, size_t from, size_t chunk, float *out)
{
    RV_TRY(check_ids(e, ids, n_ids));
    if (from >= n_ids) {
        return rv_fail(RV_E_ARG, "logits from token %zu, expected 0 to %zu", from, n_ids - 1);
    }
    size_t most = rv_lfm2_max_chunk(e->model);
    rv_turn_begin(e->turn, NULL);
    rv_err err = all_logits(e, ids, n_ids, from, chunk && chunk < most ? chunk : most, out);
    rv_turn_end(e->turn);
    return err;
}

static rv_err add_nll(rv_engine *e, const int32_t *ids, size_t n_ids, float *rows, double *sum)
{
    size_t v = e->info.shape.n_vocab, n,
           most = rv_lfm2_max_chunk(e->model) < NLL_ROWS ? rv_lfm2_max_chunk(e->model) : NLL_ROWS;
    rv_kv_rewind(e->seq, 0);
    for (size_t past = 0; past + 1 < n_ids; past += n) {
        n = n_ids - 1 - past < most ? n_ids - 1 - past : most;
        RV_TRY(feed(e, ids + past, n, 0, rows, 0));
        for (size_t i = 0; i < n; i++) {
            const float *row = rows + i * v;
            *sum += rv_sampler_normalise(e->sampler, row) - (double)row[ids[past + i + 1]];
        }
    }
    return RV_OK;
}

rv_err rv_engine_nll(rv_engine *e, const int32_t *ids, size_t n, double *out)
{
    RV_TRY(check_ids(e, ids, n));
    float *rows = rv_new_array(e->mem, (size_t)NLL_ROWS * e->info.shape.n_vocab, sizeof *rows);
    if (!rows) {
        return rv_fail(RV_E_NOMEM, "no memory for %d rows of logits", NLL_ROWS);
    }
    double sum = 0;
    rv_turn_begin(e->turn, NULL);
    rv_err err = add_nll(e, ids, n, rows, &sum);
    rv_turn_end(e->turn);
    rv_free(e->mem, rows);
    if (!err) {
        *out = sum;
    }
    return err;
}

/* n random tokens from an empty sequence, at most chunk at a time, logits of the last one of each chunk. */
static rv_err time_tokens(rv_engine *e, size_t n_tokens, size_t chunk, double *ms)
{
    rv_rng rng;
    rv_rng_init(&rng, 1);
    rv_kv_rewind(e->seq, 0);
    double start = rv_clock_ms();
    for (size_t past = 0, n; past < n_tokens; past += n) {
        n = n_tokens - past < chunk ? n_tokens - past : chunk;
        int32_t ids[RV_LFM2_CHUNK_MAX];
        for (size_t i = 0; i < n; i++) {
            ids[i] = (int32_t)rv_rng_below(&rng, e->info.shape.n_vocab);
        }
        RV_TRY(feed(e, ids, n, past + n < n_tokens && chunk > 1 ? n : n - 1, e->logits, 0));
    }
    *ms = rv_clock_ms() - start;
    return RV_OK;
}

rv_err rv_engine_bench(rv_engine *e, size_t n_prompt, size_t n_gen, double *prefill_ms, double *decode_ms)
{
    size_t longest = n_prompt > n_gen ? n_prompt : n_gen;
    if (longest > e->info.n_ctx) {
        return rv_fail(RV_E_CONTEXT, "%zu tokens, the context holds %u", longest, e->info.n_ctx);
    }
    double first = 0, second = 0;
    rv_turn_begin(e->turn, NULL);
    rv_err err = time_tokens(e, n_prompt, rv_lfm2_max_chunk(e->model), &first);
    if (!err) {
        err = time_tokens(e, n_gen, 1, &second);
    }
    rv_turn_end(e->turn);
    if (!err) {
        *prefill_ms = first;
        *decode_ms = second;
    }
    return err;
}
