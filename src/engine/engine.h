/* The engine: one model file, its tokenizer and cache, and the generation of text from it on a compute pool, for
 * many callers at once. */
#ifndef RV_ENGINE_ENGINE_H
#define RV_ENGINE_ENGINE_H
#include "base/pool.h"
#include "engine/turn.h"
#include "kv/shelf.h"
#include "model/chat.h"
#include "model/lora.h"
#include "model/tok.h"

typedef struct rv_engine rv_engine;

typedef struct rv_engine_options {
    rv_pool *pool;          /* shared compute pool; NULL: the calling thread alone */
    rv_turn *turn;          /* of that pool, for engines that share it; NULL: nobody else uses the pool */
    uint32_t max_context;   /* 0: the model's, at most 8192; never more than the model's */
    rv_type kv_type;        /* as in rv_kv_shape; RV_F32 is 0: begin with the default below */
    bool act_f32;           /* keep activations in float32 (measuring) */
    uint32_t max_sequences; /* answered together; 0: 8, at most 64 */
    bool no_drafts;         /* RV_DRAFTS_AUTO means off */
    size_t cache_tokens;    /* the cache holds, of all sequences together; 0: twice the context */
    rv_budget
        *budget; /* claim from this one instead, shared with others; outlives the engine. NULL: an own one */
    rv_shelf
        *shelf; /* where sequences go that are idle or in the way; outlives the engine. NULL: they are lost */
    bool no_packing; /* as in rv_lfm2_options */
    const char *
        packed_dir; /* folder for packed weights, of models that are worth it; made when missing. NULL: none */
} rv_engine_options;

/** rv_engine_options_default - zero but kv_type RV_F16. */
rv_engine_options rv_engine_options_default(void);

/**
 * rv_engine_open - map and check the file, bring its weights into the layout of this CPU's kernels (on the
 * pool, in turn), make a cache.
 *
 * how     its pool and turn outlive the engine
 *
 * Errors: those of rv_lfm2_file_open and rv_tok_open.  RV_E_ARG a wrong kv_type, a context below 2, a cache of less than the context, too many
 * sequences, a budget too small for one sequence (the text has both numbers).
 *         RV_E_UNSUPPORTED a quantised cache for heads of an odd size.  RV_E_NOMEM.
 */
rv_err rv_engine_open(const rv_alloc *mem, const char *path, rv_engine_options how,
                      rv_engine **out) RV_MUST_CHECK;
void rv_engine_close(rv_engine *engine); /* accepts NULL; no generation may run */

typedef struct rv_engine_info {
    const char *path;
    rv_str name; /* general.name, else the file's name */
    rv_lfm2_shape shape;
    uint32_t n_ctx;        /* tokens one sequence may hold */
    rv_chat_family family; /* RV_CHAT_NONE: completions only */
    uint64_t fingerprint;
    uint64_t vocabulary;   /* rv_tok_hash */
    size_t resident_bytes; /* weights in our layout, scratch, and the cache when it is full */
} rv_engine_info;

/** rv_engine_open_lora - rv_lora_open for this engine's file; closed with rv_lora_close when no generation uses it. */
rv_err rv_engine_open_lora(const rv_engine *engine, const rv_alloc *mem, const char *path,
                           rv_lora **out) RV_MUST_CHECK;

/** rv_engine_get_info, rv_engine_tok - borrowed, valid until close. Immutable, any thread. */
const rv_engine_info *rv_engine_get_info(const rv_engine *engine);
const rv_tok *rv_engine_tok(const rv_engine *engine);

typedef struct rv_bias {
    int32_t id;
    float bias;
} rv_bias;

/* Applied in this order: repeat, frequency and presence penalty, bias, temperature, top_k, top_p, min_p. */
typedef struct rv_sampling {
    float temperature;    /* 0: greedy; to 100 */
    int32_t top_k;        /* 0: off */
    float top_p;          /* 1: off; 0 .. 1 of the weight that is left, after temperature and top_k */
    float min_p;          /* 0: off; 0 .. 1 of the largest weight, after temperature */
    float repeat_penalty; /* 1: off; over the last repeat_last tokens of prompt and answer, each token once */
    int32_t repeat_last;
    float presence_penalty, frequency_penalty; /* 0: off; over the answer */
    uint64_t seed;
    const rv_bias *bias; /* [n_bias] added to logits; -100 bans, 100 forces */
    size_t n_bias;
} rv_sampling;

/** rv_sampling_default - the model card's: temperature 0.3, min_p 0.15, repeat_penalty 1.05 over 64 tokens,
 * no others. */
rv_sampling rv_sampling_default(void);

#define RV_MAX_LOGPROBS 20
typedef struct rv_token_prob {
    int32_t id;
    float logprob;
} rv_token_prob;

/* What the caller sees while the answer grows: whole UTF-8 characters only (malformed bytes of a token become
 * U+FFFD), nothing that may still become a stop string. There is a piece for each token but the end token. */
typedef struct rv_piece {
    const char *text; /* [n] bytes, not terminated; n is 0 when a token's text completes only later */
    size_t n;
    int32_t token;            /* the token just sampled; -1 for the rest flushed at the end */
    float logprob;            /* of that token under the model (temperature 1, no penalties, no filters) */
    const rv_token_prob *top; /* [n_top] best first, when asked for */
    size_t n_top;
} rv_piece;

typedef enum rv_finish { RV_FINISH_STOP, RV_FINISH_LENGTH, RV_FINISH_CANCELLED } rv_finish;

/* Tokens guessed from prompt and answer (an answer often quotes), or by a smaller model, and computed together, which is faster
 * where they are right. They never change what is said, nor how it is drawn. */
typedef enum rv_drafts {
    RV_DRAFTS_AUTO, /* as many as pay: right often enough, for what they cost here */
    RV_DRAFTS_OFF,
    RV_DRAFTS_ALL /* as many as there is room for, of the smaller model if there is one (tests, and counting how often they
                     are right) */
} rv_drafts;

typedef struct rv_generate {
    const int32_t *prompt;
    size_t n_prompt;   /* 1 .. n_ctx - 1 */
    size_t max_tokens; /* 0: as many as fit */
    rv_sampling sampling;
    const rv_lora *lora;      /* adapter of this engine's file, alive until the answer is there; NULL: none */
    const char *const *stops; /* [n_stops] UTF-8, not empty, at most 64; not part of the text */
    size_t n_stops;
    int n_logprobs;  /* -1: none wanted; 0: of the token; up to RV_MAX_LOGPROBS best beside it */
    bool ignore_end; /* go on past the end token (benchmarks) */
    rv_drafts drafts;
    rv_engine *
        draft_model; /* a smaller model with the same vocabulary, which may be at other work meanwhile; alive until the
                               answer is there. NULL: none */
    /* whose request it is: tenants get seats and time for prompts in turns, and take over nothing of each other's. 0: turns of its
     * own; what is kept of such requests is kept for all of them */
    uint64_t tenant;
    bool keep_control; /* print control tokens (raw completions, and tool calls, which need their markers) */
    bool private;      /* never written to the shelf */
    const atomic_bool
        *cancel; /* may be NULL; looked at while waiting, before every token and every prefill chunk */
    bool (*on_piece)(void *self, const rv_piece *piece); /* false: stop (counts as cancelled). May be NULL */
    void *self;
} rv_generate;

typedef struct rv_generated {
    rv_finish finish;
    const char *stop; /* the stop string that ended it, of the caller's, else NULL */
    size_t prompt_tokens;
    size_t cached_tokens;     /* of the prompt: taken over from requests before */
    size_t completion_tokens; /* sampled, the end token included */
    size_t drafted,
        accepted; /* guessed tokens that were computed; those of them that are part of the answer */
    size_t model_drafted, model_accepted; /* those of them that the draft model guessed */
    size_t steps;                         /* the answer took after the prompt */
    double prefill_ms, decode_ms, wait_ms;
    double mean_logprob, min_logprob; /* of the sampled tokens; 0 when there are none */
} rv_generated;

/**
 * rv_engine_generate - prefill the prompt, then sample token by token until an end token, a stop string,
 * max_tokens, the context's end or cancellation. The same prompt, sampling and seed give the same text,
 * whatever ran before, whoever is answered beside it, with any number of threads.
 *
 * Errors:  RV_E_CONTEXT the prompt does not fit (the text has both numbers).  RV_E_ARG an id or a setting out
 * of range, a draft model with another vocabulary. RV_E_CORRUPT the model gave no finite logit.  RV_E_NOMEM.  RV_E_FULL the budget has
 * no room for all it may say, and nobody is answered who would give some back. A later call works after any of them.
 * Threads: any thread. Callers are answered together, max_sequences of them, as far as the cache has room for all
 * they may say; the others wait, in order. on_piece runs on the caller's thread, must not call back, and may take
 * its time without holding up the others.
 */
rv_err rv_engine_generate(rv_engine *engine, const rv_generate *how, rv_generated *out) RV_MUST_CHECK;

/**
 * rv_engine_logits - rows of float32 [n_ids - from][n_vocab], positions from .. n_ids - 1, lora as in rv_generate, prompt fed in
 * pieces of at most chunk tokens (0: as the engine likes). For measuring; from an empty sequence that is forgotten
 * afterwards. Errors:  RV_E_CONTEXT n_ids is not 1 .. n_ctx.  RV_E_ARG an id or from out of range.
 * Threads: any thread; callers wait as for rv_engine_generate, and take turns with answers, a step each.
 */
rv_err rv_engine_logits(rv_engine *engine, const rv_lora *lora, const int32_t *ids, size_t n_ids, size_t from,
                        size_t chunk, float *out) RV_MUST_CHECK;

/** rv_engine_nll - sum of -log p(ids[i] | ids[0 .. i-1]) for i in 1 .. n - 1; for perplexity. RV_E_CORRUPT a logit is not finite.
 * Otherwise as rv_engine_logits. */
rv_err rv_engine_nll(rv_engine *engine, const rv_lora *lora, const int32_t *ids, size_t n,
                     double *out) RV_MUST_CHECK;

/** rv_engine_bench - time to take in n_prompt random tokens, and n_gen random tokens one by one with logits
 * each; both behind `depth` others whose time does not count, without sampling. Either may be 0. RV_E_CONTEXT: more than
 * n_ctx. Otherwise as rv_engine_logits. */
rv_err rv_engine_bench(rv_engine *engine, size_t depth, size_t n_prompt, size_t n_gen, double *prefill_ms,
                       double *decode_ms) RV_MUST_CHECK;

/** rv_engine_forget - what is kept of earlier requests goes: nothing of them is taken over by later ones, or written to the shelf any more.
 * Any thread; requests may run, theirs goes when they end. */
void rv_engine_forget(rv_engine *engine);

/** rv_engine_check - the rules of the cache and of who holds what in it. Any thread. RV_E_CORRUPT names what is
 * broken. */
rv_err rv_engine_check(rv_engine *engine) RV_MUST_CHECK;
#endif
