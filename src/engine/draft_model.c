#include "engine/draft_model_priv.h"

#include "base/log.h"

#include <math.h>
#include <string.h>

/* Its sequence holds the tokens of the answer, and their logits are at hand. */
static rv_err follow(rv_draft_model *m, rv_history past)
{
    rv_call *c = &m->call;
    if (!c->entry) {
        c->prompt = past.ids;
        c->n_prompt = past.n;
        return rv_batch_feed(m->batch, c, past.n);
    }
    size_t same = c->until;
    while (same < c->fed && same < past.n && c->ids[same] == past.ids[same]) {
        same++;
    }
    if (same < c->fed) {
        rv_batch_take_back(m->batch, c, same);
    }
    if (same == past.n) {
        return RV_OK;
    }
    memcpy(c->ids + same, past.ids + same, (past.n - same) * sizeof *c->ids);
    return rv_batch_feed(m->batch, c, past.n);
}

bool rv_draft_model_next(rv_draft_model *m, rv_history past, size_t n_guessed, const rv_sampling *how,
                         rv_rng *rng, int32_t *token, float *p)
{
    rv_call *c = &m->call;
    bool room =
        m->batch && past.n + n_guessed <= c->most_tokens && (!n_guessed || c->fed - c->until < RV_DRAFTS_MAX);
    if (!room) {
        return false;
    }
    if (n_guessed) {
        c->ids[c->fed] = *token;
    }
    rv_err e = n_guessed ? rv_batch_draft(m->batch, c) : follow(m, past);
    if (e || c->cancelled) { /* only speed is lost */
        rv_draft_model_end(m);
        m->batch = NULL;
        if (e) {
            rv_log(RV_LOG_WARN, "draft_model.failed", "why", rv_err_text(), (char *)NULL);
        }
        return false;
    }
    rv_sampler *sampler = m->samplers[c->seat];
    rv_logits_row row = { rv_batch_logits(m->batch, c, c->fed), rv_batch_blocks(m->batch, c, c->fed) };
    rv_history all = { c->ids, c->fed, past.n_prompt };
    *token = rv_sampler_next(sampler, how, rng, all, row);
    if (*token < 0) {
        return false;
    }
    *p = expf((float)((double)row.logits[*token] - rv_sampler_normalise(sampler, row)));
    return true;
}

void rv_draft_model_end(rv_draft_model *m)
{
    rv_call *c = &m->call;
    if (m->batch && c->entry) {
        if (c->fed > c->until) { /* what is kept for the next request is what was said */
            rv_batch_take_back(m->batch, c, c->until);
        }
        rv_batch_end(m->batch, c);
    }
    m->call = (rv_call){ .most_tokens = c->most_tokens,
                         .private = c->private,
                         .tenant = c->tenant,
                         .cancel = c->cancel,
                         .guessing = true };
}
