/* Feedback on a request: first it is kept, then it teaches. */
#include "pipeline/pipeline.h"

#include "base/log.h"

rv_err rv_pipeline_feedback(const rv_pipeline *p, const rv_feedback *feedback, rv_feedback_done *out)
{
    RV_TRY(rv_feedback_store(p->db, p->memory, feedback, out));
    if (p->instant && rv_instant_feedback(p->instant, feedback, out)) {
        rv_log(RV_LOG_WARN, "learn.failed", "request", feedback->request_id, "error", rv_err_text(),
               (char *)NULL);
    }
    return RV_OK;
}
