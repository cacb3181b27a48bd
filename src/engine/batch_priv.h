/* Many callers, one forward pass: sequences that grow together, step by step.
 *
 * Steps have no thread of their own. A caller says how far its sequence is to go and waits; whoever waits while
 * nobody steps runs the next step for all that are ready, then all whose wish is fulfilled go on (sample, give
 * out text) on their own threads, at the same time. The last one to come back starts the next step. One that
 * does not come back soon (its reader is slow) is not waited for until it does.
 *
 * A step holds one token of every answer, and the rest of its room goes to prompts: in the order of their
 * arrival, each QUANTUM tokens before it goes to the end of the line, and those of the same tenant with it. While
 * answers are under way the room is bounded so that none of them is silent for longer than SILENCE_MS: by what a
 * token of a prompt took so far, and what passes between two steps.
 *
 * An answer may bring a draft: a guess at the tokens that follow, which are fed together with the one that is known
 * and can be taken back. Reading the weights once for several tokens costs less than reading them for each, but not
 * nothing, so a step takes in as many drafts as promise the most tokens in its time. What a step of so many tokens
 * costs is measured as it goes, and whether answers alone in their steps are sooner done without any.
 *
 * A caller is let in when there is a seat (max_sequences) and the cache can promise it all it may ever hold, so
 * no running sequence can fail for want of room; until then it waits. Next is the first in line of the tenant that
 * has the fewest seats, and of those of the one that was let in least lately. Sequences without a
 * caller are kept for their beginnings: a new prompt takes the longest common one over (when it is more than
 * half of that sequence) or copies it. They are given up, least recently used first, when room is needed; of several
 * models with one budget the sequence that is worth least (rv_budget_score).
 *
 * With a shelf (kv/shelf.h), a thread writes what nobody has used for a while, or what has to make room, to disk; only then
 * is it given up. A prompt whose beginning is there is let in with it, and read back on the caller's thread.
 *
 * Nothing of this changes a bit of any logits (model/lfm2.h), so it cannot change an answer. */
#ifndef RV_ENGINE_BATCH_PRIV_H
#define RV_ENGINE_BATCH_PRIV_H
#include "engine/draft_priv.h"
#include "engine/turn.h"
#include "kv/shelf.h"
#include "model/lfm2.h"

#define RV_DRAFTS_STEP 16 /* of all answers of a step */

typedef struct rv_batch rv_batch;

typedef struct rv_batch_options {
    rv_turn *turn;        /* of the pool the model computes on; held for one step at a time */
    uint32_t n_ctx;       /* tokens of the longest sequence */
    size_t max_sequences; /* callers that are served together */
    size_t n_vocab;
    size_t state_bytes; /* of the cache */
    rv_budget *budget;  /* of the cache */
    rv_shelf *shelf;    /* for sequences that nobody uses; NULL: none */
    rv_shelf_key key;   /* of this model there */
} rv_batch_options;

/* One caller's sequence, from the first rv_batch_feed to rv_batch_end. */
typedef struct rv_call {
    /* set before the first call */
    const int32_t *prompt; /* [n_prompt] copied to ids when let in */
    size_t n_prompt;
    size_t most_tokens;        /* the sequence will ever hold; up to n_ctx */
    bool private;              /* its tokens are not written to the shelf, nor what goes on from them */
    const rv_lora *lora;       /* NULL: none; sequences of one adapter are no use to another */
    uint64_t tenant;           /* 0: nobody else's */
    const atomic_bool *cancel; /* looked at while waiting; may be NULL */
    bool measuring; /* takes nothing over, leaves nothing behind, steps alone: many rows of logits */
    bool guessing;  /* for the answer of another model: comes back cancelled when it is not let in at once */
    size_t chunk;   /* of a prompt, at most so many tokens a step; 0: as many as there is room for */

    /* set before any call: logits of tokens logits_from .. until - 1 go to logits. Without measuring they are
     * of the last token and of the drafts, and at rv_batch_logits(). */
    size_t logits_from;
    float *logits;

    /* set before any call, when the prompt is in: ids[until .. until + n_drafts - 1] are a guess, of which as many are
     * fed as is worth while, or, with all_drafts, as there is room for. chances: that the first 1, 2 .. of them are all
     * right. */
    size_t n_drafts;
    double chances[RV_DRAFTS_MAX];
    bool all_drafts;
    bool has_model;  /* that guesses, if it is asked to (rv_batch_wants_model) */
    double guess_ms; /* it took for these guesses */

    /* results */
    int32_t *ids;  /* [n_ctx + 1] of the sequence, once let in; the caller writes what is to be fed next */
    size_t seat;   /* 0 .. max_sequences - 1, nobody else's until the end */
    size_t cached; /* tokens of the prompt taken over */
    size_t fed;    /* tokens the sequence holds: until, and the drafts that were fed */
    double admitted_ms; /* rv_clock_ms */
    bool cancelled;

    /* the batch's own */
    int state;
    struct rv_call *next;         /* in the line of those who wait to be let in */
    struct entry *entry;          /* its sequence; NULL: not let in */
    rv_shelf_find found;          /* what is read back, when state says so */
    size_t until, parted, drafts; /* drafts: of the step under way */
    size_t goal;                  /* tokens this feed is done with: until, or a draft behind it */
    uint64_t joined;              /* the line; rv_batch.rounds */
    double hopeless_since;        /* rv_clock_ms; 0: there is somebody who may make room for it */
    uint64_t stamp;               /* place in the order of prompts */
    size_t quantum;               /* tokens since it got that place */
    bool late;
    rv_err err;
    char text[200];
} rv_call;

/** rv_batch_new - model, cache and turn are borrowed; makes its sequences in the cache, two per seat. The cache has
 * room for one of n_ctx tokens beside the states of all. */
rv_err rv_batch_new(const rv_alloc *mem, rv_lfm2 *model, rv_kv *kv, rv_batch_options how,
                    rv_batch **out) RV_MUST_CHECK;
void rv_batch_free(rv_batch *b); /* accepts NULL; nobody is let in or waits */

/**
 * rv_batch_feed - wait until the sequence holds ids[0 .. until - 1], and maybe drafts; the first call waits to be let in as well.
 * With call->cancelled set it came back early, after at most one step.
 *
 * Errors:  those of rv_lfm2_run.  RV_E_FULL it cannot be let in: what has its room has it for good.
 * Threads: any thread, one for each call.
 */
rv_err rv_batch_feed(rv_batch *b, rv_call *call, size_t until) RV_MUST_CHECK;
void rv_batch_end(rv_batch *b, rv_call *call); /* after any outcome */

/** rv_batch_draft - feed ids[fed] too, as a draft, whose logits decide the next one. At most RV_DRAFTS_MAX of them behind a
 * feed. Otherwise as rv_batch_feed. */
rv_err rv_batch_draft(rv_batch *b, rv_call *call) RV_MUST_CHECK;

/** rv_batch_wants_model - whether the answer should have guesses of its model now: it is alone in its steps, and they save
 * time, or it is their turn to show whether they do. rv_batch_step_ms - what a step of n answering tokens takes; 0: not
 * known. Any thread. */
bool rv_batch_wants_model(rv_batch *b, const rv_call *call);
double rv_batch_step_ms(rv_batch *b, size_t n);

/** rv_batch_logits - behind token `after` - 1 of the sequence: until .. fed of the last feed. rv_batch_blocks - what is known of
 * them. rv_batch_take_back - drop
 * the drafts behind the first n tokens, n from until on; before ids[n] is written. Threads: as for rv_batch_feed. */
const float *rv_batch_logits(const rv_batch *b, const rv_call *call, size_t after);
const rv_logits_block *rv_batch_blocks(const rv_batch *b, const rv_call *call, size_t after);
void rv_batch_take_back(rv_batch *b, rv_call *call, size_t n);

/** rv_batch_forget - no sequence is taken over by later calls or written to the shelf: idle ones are emptied, running ones when they end.
 * Waits for one that is being written. Any thread. */
void rv_batch_forget(rv_batch *b);

/** rv_batch_check - nothing is held by nobody, and rv_kv_check. Any thread, between two steps. */
rv_err rv_batch_check(rv_batch *b) RV_MUST_CHECK;
#endif
