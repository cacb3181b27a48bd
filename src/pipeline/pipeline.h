/* One request, top to bottom: embed, memory, router, attend, backend, learn. */
#ifndef RV_PIPELINE_PIPELINE_H
#define RV_PIPELINE_PIPELINE_H
#include "backend/backend.h"
#include "base/arena.h"
#include "embed/embed.h"
#include "learn/episode.h"
#include "memory/memory.h"
#include "store/db.h"

/* What a pipeline stands on; all borrowed, shared by every request. */
typedef struct rv_pipeline {
    rv_db *db;
    rv_embed *embed;
    rv_memory *memory;
    rv_backend *backend;
    size_t max_sources;     /* passages in the prompt, 1..8 */
    bool learning;          /* write episodes and answers back */
} rv_pipeline;

/** rv_pipeline_setup - migrations and metrics of what the pipeline writes. Once, before the first run. */
rv_err rv_pipeline_setup(rv_pipeline *p) RV_MUST_CHECK;

typedef enum rv_stage { RV_STAGE_EMBED, RV_STAGE_MEMORY, RV_STAGE_ROUTER, RV_STAGE_ATTEND, RV_STAGE_BACKEND, RV_STAGE_LEARN, RV_STAGES } rv_stage;
extern const char *const rv_stage_names[RV_STAGES]; /* "embed" "memory" "router" "attend" "backend" "learn" */

typedef struct rv_source {
    int64_t id;
    const char *type, *text, *origin; /* origin: file or "user"/"feedback" */
    double score;
} rv_source;

typedef struct rv_request {
    rv_arena *arena;         /* born in the caller; everything below lives there */
    /* in */
    const char *query;
    size_t query_bytes;
    const json_t *messages;  /* chat history ending with the user's message, or NULL: query alone */
    const char *session_id;  /* NULL: a new one is made */
    const char *user;        /* NULL: everybody's memory only */
    const char *model;       /* NULL or "auto": the router decides; else this one (resolved id) */
    double max_latency_ms;   /* 0: none */
    size_t max_tokens;       /* 0: 256 */
    double temperature, top_p; /* < 0: the router decides */
    bool private;            /* nothing is written: no episode, no session turn, no witness text */
    rv_generate extra;       /* stops, logprobs, penalties, seed, cancel; on_piece is the stream (may be NULL) */
    bool sampling_set;       /* extra.sampling was filled by the caller */

    /* out, in the order the stages fill them */
    char request_id[37];
    const float *vector;     /* [dim]; NULL: not embedded */
    rv_memory_hits hits;
    const char *routed_model;
    size_t context_tokens;   /* budget for passages */
    double router_confidence, model_probs[RV_TIERS];
    bool fallback;
    const char *reason;
    rv_sampling sampling;
    rv_source *sources;      /* [n_sources] in prompt order */
    size_t n_sources;
    const char *text;        /* the answer */
    double confidence;       /* exp(mean log-probability) of the answer's tokens, 0..1 */
    rv_generated generated;
    double stage_ms[RV_STAGES], total_ms;
    const char *stage_note[RV_STAGES]; /* why a stage was left out or failed softly; NULL: it ran */
} rv_request;

/** rv_request_init - defaults (temperature and top_p -1, default sampling) and a fresh request id. */
rv_err rv_request_init(rv_request *r, rv_arena *arena) RV_MUST_CHECK;

/**
 * rv_pipeline_run - straight through on the calling thread. A stage that fails softly (embedding, memory, router, attend) leaves
 * its field empty and records why; generation failing is the request failing. The answer is recorded (turn, episode,
 * witness) in one transaction before it returns.
 * Threads: any thread, one request each.
 */
rv_err rv_pipeline_run(const rv_pipeline *p, rv_request *r) RV_MUST_CHECK;

/** rv_request_json - the answer of POST /v1/query as DESIGN gives it. NULL without memory. Caller's. */
json_t *rv_request_json(const rv_request *r);
#endif
