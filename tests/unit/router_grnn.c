/* The cell: values of an independent reference, gradients against differences in double, what learning does, and bytes. */
#include "router/grnn.h"
#include "test.h"

#include "base/json.h"

#include <math.h>
#include <string.h>

/* ---- roll-outs of a float64 reference ---- */

static json_t *golden(void)
{
    const char *path = shared_path("data/vision/fastgrnn_golden.json");
    return path ? json_load_file(path, 0, NULL) : NULL;
}

/* Numbers of nested arrays, one after the other. */
static size_t flatten(const json_t *value, float *out, size_t n)
{
    if (!json_is_array(value)) {
        out[n] = (float)json_number_value(value);
        return n + 1;
    }
    for (size_t i = 0; i < json_array_size(value); i++) {
        n = flatten(json_array_get(value, i), out, n);
    }
    return n;
}

static void check_golden(const char *kind, rv_grnn_shape shape, const char *const names[4])
{
    json_t *all = golden();
    if (!all) {
        SKIP("../shared/data/vision is not there");
    }
    static const rv_grnn_part parts[4] = { RV_GRNN_W, RV_GRNN_W2, RV_GRNN_U, RV_GRNN_U2 };
    const json_t *one = json_object_get(all, kind);
    rv_grnn_fit *fit;
    rv_grnn *cell;
    float x[64], h[64], out[1];
    CHECK_OK(rv_grnn_fit_new(&rv_heap, &shape, 1, &fit));
    for (int i = 0; i < 4; i++) {
        if (names[i]) {
            flatten(json_object_get(one, names[i]), rv_grnn_fit_part(fit, parts[i]), 0);
        }
    }
    flatten(json_object_get(all, "bg"), rv_grnn_fit_part(fit, RV_GRNN_B_Z), 0);
    flatten(json_object_get(all, "bh"), rv_grnn_fit_part(fit, RV_GRNN_B_H), 0);
    flatten(json_object_get(all, "x"), x, 0);
    size_t steps = flatten(json_object_get(one, "h"), h, 0) / shape.hidden;
    CHECK(steps == 6, "%zu steps", steps);
    CHECK_OK(rv_grnn_from_fit(&rv_heap, fit, false, &cell));
    rv_grnn_fit_forward(fit, x, steps, NULL, out);
    float state[8] = { 0 };
    for (size_t t = 0; t < steps; t++) {
        rv_grnn_step(cell, x + t * shape.input, state);
        for (size_t i = 0; i < shape.hidden; i++) {
            float expected = h[t * shape.hidden + i], learning = rv_grnn_fit_state(fit, t)[i];
            CHECK(fabsf(state[i] - expected) <= 1e-5f, "step %zu, h[%zu]: %g, expected %g", t, i, state[i],
                  expected);
            CHECK(fabsf(learning - expected) <= 1e-5f, "learning form, step %zu, h[%zu]: %g, expected %g", t,
                  i, learning, expected);
        }
    }
    rv_grnn_free(cell);
    rv_grnn_fit_free(fit);
    json_decref(all);
}

TEST(full_matrices_follow_the_reference)
{
    check_golden("full", (rv_grnn_shape){ 5, 4, 1, 0, 0 }, (const char *const[]){ "W", NULL, "U", NULL });
}

TEST(low_rank_matrices_follow_the_reference)
{
    check_golden("low_rank", (rv_grnn_shape){ 5, 4, 1, 3, 2 },
                 (const char *const[]){ "W1", "W2", "U1", "U2" });
}

/* ---- gradients ---- */

enum { STEPS = 5 };

/* sum of w * (M x), in double, of the two sides of the cell */
static void apply(const double *m, const double *m2, size_t rank, size_t hidden, size_t cols, const double *x,
                  double *p)
{
    double inner[16] = { 0 };
    size_t rows = rank ? rank : hidden;
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < cols; c++) {
            (rank ? inner : p)[r] += m[r * cols + c] * x[c];
        }
    }
    for (size_t r = 0; rank && r < hidden; r++) {
        for (size_t c = 0; c < rank; c++) {
            p[r] += m2[r * rank + c] * inner[c];
        }
    }
}

/* The loss sum_o w_o y_o, written down again from the equations, in double. */
static double loss_of(const rv_grnn_shape *s, double *const part[RV_GRNN_PARTS], const float *x,
                      const float *weights)
{
    double h[16] = { 0 }, in[16], total = 0;
    double zeta = 1 / (1 + exp(-*part[RV_GRNN_ZETA])), nu = 1 / (1 + exp(-*part[RV_GRNN_NU]));
    for (int t = 0; t < STEPS; t++) {
        double p[16] = { 0 };
        for (size_t i = 0; i < s->input; i++) {
            in[i] = x[(size_t)t * s->input + i];
        }
        apply(part[RV_GRNN_W], part[RV_GRNN_W2], s->rank_w, s->hidden, s->input, in, p);
        apply(part[RV_GRNN_U], part[RV_GRNN_U2], s->rank_u, s->hidden, s->hidden, h, p);
        for (size_t i = 0; i < s->hidden; i++) {
            double z = 1 / (1 + exp(-p[i] - part[RV_GRNN_B_Z][i])), c = tanh(p[i] + part[RV_GRNN_B_H][i]);
            h[i] = (zeta * (1 - z) + nu) * c + z * h[i];
        }
    }
    for (size_t o = 0; o < s->outputs; o++) {
        double y = part[RV_GRNN_B][o];
        for (size_t i = 0; i < s->hidden; i++) {
            y += part[RV_GRNN_V][o * s->hidden + i] * h[i];
        }
        total += weights[o] * y;
    }
    return total;
}

static void check_gradients(rv_grnn_shape shape)
{
    rv_grnn_fit *fit;
    double *part[RV_GRNN_PARTS];
    float x[STEPS * 16], weights[16], out[16];
    rv_rng rng;
    rv_rng_init(&rng, 7);
    CHECK_OK(rv_grnn_fit_new(&rv_heap, &shape, 3, &fit));
    for (int p = 0; p < RV_GRNN_PARTS; p++) {
        size_t rows, cols;
        rv_grnn_part_size(&shape, (rv_grnn_part)p, &rows, &cols);
        float *at = rv_grnn_fit_part(fit, (rv_grnn_part)p);
        part[p] = calloc(rows * cols + 1, sizeof(double));
        for (size_t i = 0; i < rows * cols; i++) {
            at[i] = 0.5f * rv_rng_normal(&rng);
            part[p][i] = at[i];
        }
    }
    for (size_t i = 0; i < STEPS * shape.input; i++) {
        x[i] = rv_rng_normal(&rng);
    }
    for (size_t i = 0; i < shape.outputs; i++) {
        weights[i] = rv_rng_normal(&rng);
    }
    rv_grnn_fit_forward(fit, x, STEPS, NULL, out);
    rv_grnn_fit_backward(fit, weights);
    for (int p = 0; p < RV_GRNN_PARTS; p++) {
        size_t rows, cols;
        rv_grnn_part_size(&shape, (rv_grnn_part)p, &rows, &cols);
        const float *got = rv_grnn_fit_grad(fit, (rv_grnn_part)p);
        for (size_t i = 0; i < rows * cols; i++) {
            double was = part[p][i], up, down;
            part[p][i] = was + 1e-5;
            up = loss_of(&shape, part, x, weights);
            part[p][i] = was - 1e-5;
            down = loss_of(&shape, part, x, weights);
            part[p][i] = was;
            double expected = (up - down) / 2e-5;
            CHECK(fabs(got[i] - expected) <= 1e-3 * fmax(fabs(expected), 1e-2),
                  "tensor %d [%zu]: %g, expected %g", p, i, got[i], expected);
        }
    }
    for (int p = 0; p < RV_GRNN_PARTS; p++) {
        free(part[p]);
    }
    rv_grnn_fit_free(fit);
}

TEST(gradients_of_full_matrices_are_the_differences)
{
    check_gradients((rv_grnn_shape){ 7, 6, 3, 0, 0 });
}

TEST(gradients_of_low_rank_matrices_are_the_differences)
{
    check_gradients((rv_grnn_shape){ 7, 6, 3, 4, 2 });
}

/* ---- learning ---- */

enum { SAMPLES = 600, INPUT = 20 };

typedef struct toy {
    float x[SAMPLES][2][INPUT];
    int y[SAMPLES];
    bool held[SAMPLES];
} toy;

/* Two steps; the answer hangs on the sum of a number of the first and one of the second, so the state has to carry it. */
static void make_toy(toy *t)
{
    rv_rng rng;
    rv_rng_init(&rng, 11);
    for (int i = 0; i < SAMPLES; i++) {
        for (int k = 0; k < 2 * INPUT; k++) {
            t->x[i][k / INPUT][k % INPUT] = rv_rng_normal(&rng);
        }
        t->y[i] = t->x[i][0][3] + t->x[i][1][5] > 0;
        t->held[i] = i % 4 == 0;
    }
}

static size_t toy_sample(void *self, size_t i, rv_rng *rng, float *x)
{
    (void)rng;
    memcpy(x, ((toy *)self)->x[i], sizeof((toy *)self)->x[i]);
    return 2;
}

static double toy_loss(void *self, size_t i, const float *out, float *d_out)
{
    double p = 1 / (1 + exp(-out[0])), y = ((toy *)self)->y[i];
    if (d_out) {
        d_out[0] = (float)(p - y);
    }
    return -log(fmax(y > 0 ? p : 1 - p, 1e-12));
}

static double toy_accuracy(const rv_grnn *g, const toy *t)
{
    int right = 0, n = 0;
    for (int i = 0; i < SAMPLES; i++) {
        float state[16] = { 0 }, out;
        if (t->held[i]) {
            rv_grnn_step(g, t->x[i][0], state);
            rv_grnn_step(g, t->x[i][1], state);
            rv_grnn_head(g, state, &out);
            right += (out > 0) == t->y[i];
            n++;
        }
    }
    return (double)right / n;
}

static rv_grnn_fit *learned(toy *t, double sparsity, bool int8)
{
    rv_grnn_task task = { t, SAMPLES, toy_sample, toy_loss, t->held };
    rv_grnn_how how = { .epochs = { 60, 20, 20 },
                        .batch = 16,
                        .rate = 1e-2,
                        .clip = 1,
                        .decay = 1e-2,
                        .sparsity = sparsity,
                        .int8 = int8,
                        .seed = 5 };
    rv_grnn_shape shape = { INPUT, 16, 1, 0, 4 };
    rv_grnn_fit *fit;
    rv_grnn_report report;
    CHECK_OK(rv_grnn_fit_new(&rv_heap, &shape, 5, &fit));
    CHECK_OK(rv_grnn_fit_run(fit, &task, &how, &report));
    CHECK(report.held_out_loss < 0.5, "held-out loss %g", report.held_out_loss);
    return fit;
}

TEST(what_the_first_step_said_is_learned_with_few_weights_and_survives_int8)
{
    static toy t;
    make_toy(&t);
    rv_grnn_fit *fit = learned(&t, 0.8, true);
    rv_grnn *cell, *small;
    CHECK_OK(rv_grnn_from_fit(&rv_heap, fit, false, &cell));
    CHECK_OK(rv_grnn_from_fit(&rv_heap, fit, true, &small));
    size_t full = 16 * INPUT + 2 * 16 * 4 + 16 + 2 * 16 + 1 + 2;
    CHECK(rv_grnn_n_params(cell) <= full - 16 * INPUT * 4 / 5, "%zu parameters of %zu",
          rv_grnn_n_params(cell), full);
    CHECK(toy_accuracy(cell, &t) >= 0.8, "accuracy %g", toy_accuracy(cell, &t));
    CHECK(toy_accuracy(small, &t) >= toy_accuracy(cell, &t) - 0.03, "int8 %g, float32 %g",
          toy_accuracy(small, &t), toy_accuracy(cell, &t));
    rv_grnn_free(cell);
    rv_grnn_free(small);
    rv_grnn_fit_free(fit);
}

TEST(the_same_seed_learns_the_same_numbers)
{
    static toy t;
    make_toy(&t);
    rv_grnn_fit *a = learned(&t, 0.5, false), *b = learned(&t, 0.5, false);
    CHECK(memcmp(rv_grnn_fit_part(a, RV_GRNN_W), rv_grnn_fit_part(b, RV_GRNN_W),
                 16 * INPUT * sizeof(float)) == 0,
          "two runs differ");
    rv_grnn_fit_free(a);
    rv_grnn_fit_free(b);
}

static double bad_loss(void *self, size_t i, const float *out, float *d_out)
{
    return i == 17 ? (double)NAN : toy_loss(self, i, out, d_out);
}

TEST(a_loss_that_is_no_number_and_an_empty_set_are_refused)
{
    static toy t;
    make_toy(&t);
    rv_grnn_task task = { &t, SAMPLES, toy_sample, bad_loss, NULL };
    rv_grnn_how how = { .epochs = { 1, 0, 0 }, .batch = 16, .rate = 1e-2, .clip = 1 };
    rv_grnn_shape shape = { INPUT, 16, 1, 0, 0 };
    rv_grnn_fit *fit;
    rv_grnn_report report;
    CHECK_OK(rv_grnn_fit_new(&rv_heap, &shape, 5, &fit));
    CHECK_ERR(rv_grnn_fit_run(fit, &task, &how, &report), RV_E_ARG);
    CHECK(strstr(rv_err_text(), "sample 17"), "%s", rv_err_text());
    task.n = 0;
    CHECK_ERR(rv_grnn_fit_run(fit, &task, &how, &report), RV_E_ARG);
    rv_grnn_fit_free(fit);
    shape.rank_u = 17;
    CHECK_ERR(rv_grnn_fit_new(&rv_heap, &shape, 5, &fit), RV_E_ARG);
}

TEST(a_session_of_ten_thousand_turns_keeps_its_state_small)
{
    rv_grnn_shape shape = { 128, 64, 12, 0, 8 };
    rv_grnn_fit *fit;
    rv_grnn *cell;
    rv_rng rng;
    float x[128], h[64] = { 0 };
    rv_rng_init(&rng, 2);
    CHECK_OK(rv_grnn_fit_new(&rv_heap, &shape, 9, &fit));
    CHECK_OK(rv_grnn_from_fit(&rv_heap, fit, false, &cell));
    for (int turn = 0; turn < 10000; turn++) {
        for (int i = 0; i < 128; i++) {
            x[i] = rv_rng_normal(&rng);
        }
        rv_grnn_step(cell, x, h);
        for (int i = 0; i < 64; i++) {
            CHECK(fabsf(h[i]) < 4, "turn %d: h[%d] = %g", turn, i, h[i]);
        }
    }
    rv_grnn_free(cell);
    rv_grnn_fit_free(fit);
}

/* ---- bytes ---- */

TEST(bytes_read_back_to_the_same_cell_and_cut_ones_are_refused)
{
    for (int form = 0; form < 4; form++) {
        rv_grnn_shape shape = { 20, 12, 3, 0, form & 1 ? 4 : 0 };
        rv_grnn_fit *fit;
        rv_grnn *cell, *again;
        CHECK_OK(rv_grnn_fit_new(&rv_heap, &shape, 9, &fit));
        for (int i = 0; i < 20 * 12; i++) {
            rv_grnn_fit_part(fit, RV_GRNN_W)[i] *= i % 5 == 0;
        }
        CHECK_OK(rv_grnn_from_fit(&rv_heap, fit, form & 2, &cell));
        size_t n = rv_grnn_bytes(cell), used = 0;
        uint8_t *bytes = fenced_bytes(n);
        rv_grnn_write(cell, bytes);
        CHECK_OK(rv_grnn_read(&rv_heap, bytes, n, &used, &again));
        CHECK(used == n, "%zu of %zu bytes used", used, n);
        float x[20], a[12] = { 0 }, b[12] = { 0 };
        for (int i = 0; i < 20; i++) {
            x[i] = (float)i / 10 - 1;
        }
        rv_grnn_step(cell, x, a);
        rv_grnn_step(again, x, b);
        CHECK(memcmp(a, b, sizeof a) == 0, "form %d: another h", form);
        for (size_t cut = 0; cut < n; cut++) {
            rv_grnn *no;
            CHECK_ERR(rv_grnn_read(&rv_heap, bytes + (n - cut), cut, &used, &no), RV_E_FORMAT);
        }
        rv_grnn_free(cell);
        rv_grnn_free(again);
        rv_grnn_fit_free(fit);
    }
}

TEST(the_pull_of_an_input_is_the_difference_it_makes)
{
    rv_grnn_shape shape = { 20, 12, 3, 0, 4 };
    rv_grnn_fit *fit;
    rv_grnn *cell;
    float x[20], pull[20], out[3], h0[12] = { 0 };
    CHECK_OK(rv_grnn_fit_new(&rv_heap, &shape, 9, &fit));
    CHECK_OK(rv_grnn_from_fit(&rv_heap, fit, false, &cell));
    for (int i = 0; i < 20; i++) {
        x[i] = (float)i / 10 - 1;
    }
    rv_grnn_pull(cell, x, h0, 2, pull);
    for (int i = 0; i < 20; i++) {
        float was = x[i], y[2];
        for (int side = 0; side < 2; side++) {
            float h[12] = { 0 };
            x[i] = was + (side ? 0.01f : -0.01f);
            rv_grnn_step(cell, x, h);
            rv_grnn_head(cell, h, out);
            y[side] = out[2];
        }
        x[i] = was;
        float expected = (y[1] - y[0]) / 0.02f;
        CHECK(fabsf(pull[i] - expected) <= 1e-3f, "input %d: %g, expected %g", i, pull[i], expected);
    }
    rv_grnn_free(cell);
    rv_grnn_fit_free(fit);
}
