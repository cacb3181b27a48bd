#include "learn/ewc.h"

#include <math.h>
#include <string.h>

enum { TASKS_KEPT = 10 };
static const double keep = 0.999, least = 1e-6,
                    forget = 0.9; /* hand-set: the newest thousand samples count */

rv_err rv_ewc_new(const rv_alloc *mem, size_t n, float lambda, rv_ewc **out)
{
    rv_ewc *e = rv_new(mem, sizeof *e);
    float *all = rv_new_array(mem, 3 * n, sizeof *all);
    if (!e || !all) {
        rv_free(mem, e);
        rv_free(mem, all);
        return rv_fail(RV_E_NOMEM, "no memory to protect %zu weights", n);
    }
    *e = (rv_ewc){
        .mem = mem, .n = n, .fisher = all, .pull = all + n, .place = all + 2 * n, .lambda = lambda
    };
    *out = e;
    return RV_OK;
}

void rv_ewc_free(rv_ewc *e)
{
    if (e) {
        rv_free(e->mem, e->fisher);
        rv_free(e->mem, e);
    }
}

void rv_ewc_observe(rv_ewc *e, const float *gradient)
{
    for (size_t i = 0; i < e->n; i++) {
        e->fisher[i] = (float)keep * e->fisher[i] + (float)(1 - keep) * gradient[i] * gradient[i];
    }
    e->samples++;
}

bool rv_ewc_task_end(rv_ewc *e, const float *weights, float quality)
{
    if (e->samples < RV_EWC_MIN_SAMPLES) {
        return false;
    }
    double bias = 1 - pow(keep, (double)e->samples), mean = 0;
    for (size_t i = 0; i < e->n; i++) {
        mean += ((double)e->fisher[i] / bias + least) / (double)e->n;
    }
    double fade = e->tasks >= TASKS_KEPT ? forget : 1,
           lambda = (double)e->lambda * (0.5 + 0.5 * (double)quality);
    for (size_t i = 0; i < e->n; i++) {
        double strength = lambda * ((double)e->fisher[i] / bias + least) / mean;
        e->pull[i] = (float)(fade * (double)e->pull[i] + strength);
        e->place[i] = (float)(fade * (double)e->place[i] + strength * (double)weights[i]);
    }
    memset(e->fisher, 0, e->n * sizeof *e->fisher);
    e->samples = 0;
    e->tasks++;
    return true;
}

void rv_ewc_step(const rv_ewc *e, float rate, float *weights)
{
    for (size_t i = 0; i < e->n; i++) {
        weights[i] = (weights[i] + rate * e->place[i]) / (1 + rate * e->pull[i]);
    }
}

double rv_ewc_penalty(const rv_ewc *e, const float *weights)
{
    double sum = 0;
    for (size_t i = 0; i < e->n; i++) {
        double w = (double)weights[i];
        sum += 0.5 * (double)e->pull[i] * w * w - (double)e->place[i] * w;
    }
    return sum;
}
