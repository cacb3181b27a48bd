/* Feedback on a request: first it is kept, then it teaches. */
#include "pipeline/pipeline.h"

#include "base/log.h"

rv_err rv_pipeline_feedback(const rv_pipeline *p, const rv_feedback *feedback, rv_feedback_done *out)
{
    rv_pipeline_enter(p);
    rv_err e = rv_feedback_store(p->db, p->memory, feedback, out);
    if (!e && p->routers) {
        rv_router_count_rating(p->routers);
    }
    if (!e && p->instant && rv_instant_feedback(p->instant, feedback, out)) {
        rv_log(RV_LOG_WARN, "learn.failed", "request", feedback->request_id, "error", rv_err_text(),
               (char *)NULL);
    }
    rv_pipeline_leave(p);
    return e;
}
