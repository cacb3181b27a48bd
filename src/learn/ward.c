/* A group is its middle (the mean of its vectors, not made longer) and its size; that is all that Ward's distance needs. Groups that were
 * joined are out of the list of those that live. */
#include "learn/ward.h"

#include "kernels/kernels.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef struct state {
    const rv_kernels *k;
    size_t dim;
    float *middles;   /* [n][dim], by slot; a join goes into one of its two slots */
    size_t *group_of; /* [n] group in a slot */
    size_t *size;     /* [n] of the group in a slot */
    size_t *alive;    /* [n_alive] slots */
    size_t n_alive;
} state;

static double cost(const state *s, size_t a, size_t b)
{
    double na = (double)s->size[a], nb = (double)s->size[b];
    return na * nb / (na + nb) *
           (double)s->k->l2sq_f32(s->middles + a * s->dim, s->middles + b * s->dim, s->dim);
}

/* The nearest living slot; `prefer` wins a tie, so that a chain ends. */
static size_t nearest(const state *s, size_t of, size_t prefer)
{
    size_t best = prefer;
    double least = prefer == SIZE_MAX ? INFINITY : cost(s, of, prefer);
    for (size_t i = 0; i < s->n_alive; i++) {
        size_t slot = s->alive[i];
        double c = slot == of || slot == prefer ? INFINITY : cost(s, of, slot);
        best = c < least ? slot : best;
        least = c < least ? c : least;
    }
    return best;
}

/* b goes into a. The length of the middle of unit vectors is their mean cosine to its direction. */
static void join(state *s, size_t a, size_t b, size_t number, rv_ward_group *groups)
{
    float *x = s->middles + a * s->dim, *y = s->middles + b * s->dim;
    float alike =
        s->k->dot_f32(x, y, s->dim) / sqrtf(s->k->dot_f32(x, x, s->dim) * s->k->dot_f32(y, y, s->dim));
    float wa = (float)s->size[a] / (float)(s->size[a] + s->size[b]);
    for (size_t d = 0; d < s->dim; d++) {
        x[d] = wa * x[d] + (1 - wa) * y[d];
    }
    s->size[a] += s->size[b];
    groups[number] = (rv_ward_group){ .left = s->group_of[a],
                                      .right = s->group_of[b],
                                      .size = s->size[a],
                                      .alike = alike,
                                      .cohesion = sqrtf(s->k->dot_f32(x, x, s->dim)) };
    s->group_of[a] = number;
    size_t at = 0;
    while (s->alive[at] != b) {
        at++;
    }
    s->alive[at] = s->alive[--s->n_alive];
}

static rv_err join_all(state *s, size_t n, size_t *chain, bool (*go_on)(void *), void *self,
                       rv_ward_group *groups)
{
    size_t length = 0;
    for (size_t number = n; number < 2 * n - 1;) {
        if (length == 0) {
            chain[length++] = s->alive[0];
        }
        size_t last = chain[length - 1], before = length > 1 ? chain[length - 2] : SIZE_MAX;
        size_t next = nearest(s, last, before);
        if (next != before) {
            chain[length++] = next;
            continue;
        }
        if (go_on && !go_on(self)) {
            return rv_fail(RV_E_CANCELLED, "grouping was stopped after %zu of %zu joins", number - n, n - 1);
        }
        join(s, before, last, number++, groups);
        length -= 2;
    }
    return RV_OK;
}

rv_err rv_ward(const rv_alloc *mem, const float *const *vectors, size_t n, size_t dim, bool (*go_on)(void *),
               void *self, rv_ward_group *groups)
{
    if (n == 0) {
        return rv_fail(RV_E_ARG, "nothing to group");
    }
    size_t floats;
    state s = { .k = rv_kernels_best(), .dim = dim, .n_alive = n };
    s.middles = rv_mul_size(n, dim, &floats) ? rv_new_array(mem, floats, sizeof *s.middles) : NULL;
    s.group_of = rv_new_array(mem, n, sizeof *s.group_of);
    s.size = rv_new_array(mem, n, sizeof *s.size);
    s.alive = rv_new_array(mem, n, sizeof *s.alive);
    size_t *chain = rv_new_array(mem, n + 1, sizeof *chain);
    rv_err e = s.middles && s.group_of && s.size && s.alive && chain
                   ? RV_OK
                   : rv_fail(RV_E_NOMEM, "no memory to group %zu vectors", n);
    for (size_t i = 0; !e && i < n; i++) {
        memcpy(s.middles + i * dim, vectors[i], dim * sizeof(float));
        s.group_of[i] = s.alive[i] = i;
        s.size[i] = 1;
        groups[i] = (rv_ward_group){ .size = 1, .cohesion = 1, .alike = 1 };
    }
    e = e ? e : join_all(&s, n, chain, go_on, self, groups);
    rv_free(mem, chain);
    rv_free(mem, s.alive);
    rv_free(mem, s.size);
    rv_free(mem, s.group_of);
    rv_free(mem, s.middles);
    return e;
}
