/* backend: prompt to answer, streamed to the caller while it comes. */
#include "pipeline/pipeline_priv.h"

#include "base/clock.h"
#include "base/rng.h"

#include <math.h>
#include <string.h>

enum { ANSWER_MAX_BYTES = 16 << 20 };

typedef struct listener {
    const rv_request *request; /* extra.on_piece and extra.self as the caller gave them */
    rv_text text;
    size_t shown;       /* bytes of it that the caller has */
    double deadline_ms; /* 0: none */
    bool late;
} listener;

/* All up to n that the caller does not have; piece: the newest of it, when it is alone. */
static bool show(listener *l, const char *text, size_t n, const rv_piece *piece)
{
    const rv_generate *caller = &l->request->extra;
    const rv_piece rest = { .text = text + l->shown, .n = n - l->shown, .token = -1 };
    const bool alone = piece && piece->n == rest.n;
    l->shown = n;
    return !caller->on_piece || caller->on_piece(caller->self, alone ? piece : &rest);
}

static bool on_piece(void *self, const rv_piece *piece)
{
    listener *l = self;
    rv_text_add(&l->text, piece->text, piece->n);
    const bool wait = l->request->held_back || rv_recall_quotes(l->request, rv_text_get(&l->text), l->text.n);
    if (!l->text.failed && !wait && !show(l, rv_text_get(&l->text), l->text.n, piece)) {
        return false;
    }
    l->late = l->deadline_ms > 0 && rv_clock_ms() > l->deadline_ms;
    return !l->late && !l->text.failed;
}

double rv_stage_time(const rv_request *r)
{
    double sum = 0;
    for (int i = 0; i < RV_STAGES; i++) {
        sum += r->stage_ms[i];
    }
    return sum;
}

static rv_err take_answer(rv_request *r, listener *l)
{
    RV_TRY(rv_text_check(&l->text));
    r->text = rv_arena_strndup(r->arena, rv_text_get(&l->text), l->text.n);
    r->text = r->text ? rv_recall_spelled(r, r->text) : NULL;
    if (!r->text) {
        return rv_fail(RV_E_NOMEM, "keeping the answer");
    }
    r->late = l->late;
    if (l->late) {
        r->generated.finish = RV_FINISH_LENGTH;
        r->stage_note[RV_STAGE_BACKEND] = "stopped at max_latency_ms";
        if (l->text.n == 0) {
            return rv_fail(RV_E_TIMEOUT, "no answer within %.0f ms", r->max_latency_ms);
        }
    } else if (r->generated.finish == RV_FINISH_CANCELLED) {
        return rv_fail(RV_E_CANCELLED, "the answer was cancelled");
    }
    const size_t n = strlen(r->text);
    if (!r->held_back && l->shown < n && !show(l, r->text, n, NULL)) {
        return rv_fail(RV_E_CANCELLED, "the answer was cancelled");
    }
    r->confidence = r->generated.completion_tokens > 0 ? exp(r->generated.mean_logprob) : 0;
    rv_stage_count_tokens(r->generated.prompt_tokens, r->generated.completion_tokens);
    return RV_OK;
}

/* With the adapters that are in use for this model and user, and for such a question. */
static rv_err generate(const rv_pipeline *p, rv_request *r, rv_backend_request *request)
{
    if (!p->adapters) {
        return rv_backend_generate(p->backend, request, &r->generated);
    }
    rv_engine *engine;
    const rv_lora *lora = NULL;
    RV_TRY(rv_backend_take(p->backend, r->routed_model, &engine));
    rv_adapter_question question = { 0 };
    if (r->plain) {
        question = (rv_adapter_question){ rv_embed_name(p->embed), r->plain, rv_embed_dim(p->embed) };
    }
    uint64_t model = rv_engine_get_info(engine)->fingerprint;
    bool any = rv_adapters_in_use(p->adapters, model, "") ||
               (r->user && rv_adapters_in_use(p->adapters, model, r->user));
    rv_err e =
        any ? rv_adapters_take(p->adapters, engine, r->user, r->plain ? &question : NULL, &lora) : RV_OK;
    if (!e) {
        request->how.lora = lora;
        e = rv_backend_generate(p->backend, request, &r->generated);
        rv_adapters_put(p->adapters, lora);
    }
    rv_backend_put(p->backend, engine);
    return e;
}

rv_err rv_stage_backend(const rv_pipeline *p, rv_request *r)
{
    json_t *messages;
    RV_TRY(rv_prompt_messages(r, r->sources, r->n_sources, &messages));
    listener l = { .request = r };
    rv_text_init(&l.text, &rv_heap, ANSWER_MAX_BYTES);
    if (r->max_latency_ms > 0) {
        l.deadline_ms = rv_clock_ms() - rv_stage_time(r) + r->max_latency_ms;
    }
    rv_backend_request request = { .model = r->routed_model, .messages = messages, .how = r->extra };
    request.how.max_tokens = r->max_tokens ? r->max_tokens : RV_PIPELINE_DEFAULT_TOKENS;
    request.how.sampling = r->sampling;
    request.how.tenant = r->user ? rv_hash64(r->user, strlen(r->user), 0) : 0;
    request.how.on_piece = on_piece;
    request.how.private = r->private;
    request.how.self = &l;
    rv_err e = generate(p, r, &request);
    if (!e) {
        e = take_answer(r, &l);
    }
    r->shown = l.shown;
    rv_text_deinit(&l.text);
    json_decref(messages);
    return e;
}

rv_err rv_stage_backend_show(rv_request *r)
{
    const rv_piece whole = { .text = r->text, .n = strlen(r->text), .token = -1 };
    if (r->extra.on_piece && whole.n > 0 && !r->extra.on_piece(r->extra.self, &whole)) {
        return rv_fail(RV_E_CANCELLED, "the answer was cancelled");
    }
    return RV_OK;
}
