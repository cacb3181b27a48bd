/* The engine: one model file, its tokenizer and compute pool, and the generation of text from it. */
#ifndef RV_ENGINE_ENGINE_H
#define RV_ENGINE_ENGINE_H
#include "base/pool.h"
#include "model/chat.h"
#include "model/lfm2_file.h"
#include "model/tok.h"
#include <stdatomic.h>

typedef struct rv_engine rv_engine;

typedef struct rv_engine_options {
    rv_pool *pool;        /* shared compute pool; NULL: the calling thread alone */
    uint32_t max_context; /* 0: the model's, at most 8192; never more than the model's */
    rv_type kv_type;      /* RV_F16 (0 also means this) or RV_F32 */
    bool act_f32;         /* keep activations in float32 (measuring) */
} rv_engine_options;

/** rv_engine_options_default - zero but kv_type RV_F16. */
rv_engine_options rv_engine_options_default(void);

rv_err rv_engine_open(const rv_alloc *mem, const char *path, rv_engine_options how, rv_engine **out) RV_MUST_CHECK;
void rv_engine_close(rv_engine *engine); /* accepts NULL; no generation may run */

typedef struct rv_engine_info {
    const char *path;
    rv_str name;             /* general.name, else the file's name */
    rv_lfm2_shape shape;
    uint32_t n_ctx;          /* tokens one sequence may hold */
    rv_chat_family family;
    uint64_t fingerprint;
    size_t resident_bytes;   /* weights in our layout + caches */
} rv_engine_info;
const rv_engine_info *rv_engine_get_info(const rv_engine *engine); /* immutable, any thread */
const rv_tok *rv_engine_tok(const rv_engine *engine);

typedef struct rv_bias { int32_t id; float bias; } rv_bias;

typedef struct rv_sampling {
    float temperature;      /* 0: greedy */
    int32_t top_k;          /* 0: off */
    float top_p;            /* 1: off */
    float min_p;            /* 0: off */
    float repeat_penalty;   /* 1: off; over the last repeat_last tokens of prompt and answer */
    int32_t repeat_last;
    float presence_penalty, frequency_penalty; /* 0: off; over the answer */
    uint64_t seed;
    const rv_bias *bias;
    size_t n_bias;
} rv_sampling;
/** rv_sampling_default - the model card's: temperature 0.3, min_p 0.15, repeat_penalty 1.05 over 64 tokens, no others. */
rv_sampling rv_sampling_default(void);

#define RV_MAX_LOGPROBS 20
typedef struct rv_token_prob { int32_t id; float logprob; } rv_token_prob;

/* What the caller sees while the answer grows: whole UTF-8 characters only, nothing that may still become a stop string. */
typedef struct rv_piece {
    const char *text;   /* n bytes, may be empty when a token only completes later */
    size_t n;
    int32_t token;      /* the token just sampled; -1 for the rest flushed at the end */
    float logprob;      /* of that token under the model (temperature 1, no filters) */
    const rv_token_prob *top; /* [n_top] best first, when asked for */
    size_t n_top;
} rv_piece;

typedef enum rv_finish { RV_FINISH_STOP, RV_FINISH_LENGTH, RV_FINISH_CANCELLED } rv_finish;

typedef struct rv_generate {
    const int32_t *prompt;
    size_t n_prompt;            /* 1 .. n_ctx - 1 */
    size_t max_tokens;          /* 0: as many as fit */
    rv_sampling sampling;
    const char *const *stops;   /* [n_stops] not part of the text */
    size_t n_stops;
    int n_logprobs;             /* -1: none wanted; 0: of the token; up to RV_MAX_LOGPROBS best beside it */
    bool ignore_end;            /* go on past the end token (benchmarks) */
    bool keep_control;          /* print control tokens (raw completions that want them; tool calls need their markers) */
    const atomic_bool *cancel;  /* may be NULL; looked at before every token and prefill chunk */
    bool (*on_piece)(void *self, const rv_piece *piece); /* false: stop (counts as cancelled). May be NULL */
    void *self;
} rv_generate;

typedef struct rv_generated {
    rv_finish finish;
    const char *stop;           /* the stop string that ended it, else NULL */
    size_t prompt_tokens, cached_tokens, completion_tokens;
    double prefill_ms, decode_ms, wait_ms;
    double mean_logprob, min_logprob; /* of the answer's tokens; 0 when there are none */
} rv_generated;

/**
 * rv_engine_generate - prefill the prompt, then sample token by token until an end token, a stop string, max_tokens, the
 * context's end or cancellation. The same prompt, sampling and seed give the same text, whatever ran before.
 * Errors:  RV_E_CONTEXT the prompt does not fit (text has both numbers).  RV_E_ARG an id or a setting out of range.
 * Threads: any thread; callers wait for each other.
 */
rv_err rv_engine_generate(rv_engine *engine, const rv_generate *how, rv_generated *out) RV_MUST_CHECK;

/**
 * rv_engine_logits - rows of float32 [n_ids - from][n_vocab], positions from..n_ids-1, prompt fed in pieces of chunk
 * tokens (0: as the engine likes). For measuring.
 */
rv_err rv_engine_logits(rv_engine *engine, const int32_t *ids, size_t n_ids, size_t from, size_t chunk, float *out) RV_MUST_CHECK;
/** rv_engine_nll - sum of -log p(ids[i] | ids[..i)) for i in [1, n); for perplexity. */
rv_err rv_engine_nll(rv_engine *engine, const int32_t *ids, size_t n, double *out) RV_MUST_CHECK;

/** rv_engine_bench - time prefill of n_prompt random ids and decode of n_gen tokens, n_batch sequences one after another
 * where batching is not there; milliseconds out. */
rv_err rv_engine_bench(rv_engine *engine, size_t n_prompt, size_t n_gen, double *prefill_ms, double *decode_ms) RV_MUST_CHECK;
#endif
