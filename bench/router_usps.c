/* How well does the cell learn? USPS digits by rows, 16 steps of 16 numbers, hidden 32, 1,932 parameters; float32 and int8, three
 * seeds, one JSON line each. Training digits are moved by up to one pixel; a tenth of them tells when to stop; the test set is
 * looked at once, at the end.
 * Usage: bench_router_usps FOLDER [SEEDS [EPOCHS]]    with the usps-*.gz files */
#include "base/clock.h"
#include "router/grnn.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 16, DIGITS = 10, MAX_IMAGES = 100000 };

typedef struct digits {
    uint8_t *pixels, *labels; /* [n][SIDE * SIDE], [n] */
    size_t n;
    bool *held_out;
} digits;

static size_t read_idx(const char *folder, const char *name, size_t header, uint8_t **out)
{
    char command[4200];
    snprintf(command, sizeof command, "gzip -dc '%s/%s'", folder, name);
    FILE *in = popen(command, "r");
    size_t room = (size_t)MAX_IMAGES * SIDE * SIDE, n = 0;
    uint8_t *bytes = malloc(room);
    if (in && bytes) {
        n = fread(bytes, 1, room, in);
    }
    if (!in || pclose(in) != 0 || n < header) {
        fprintf(stderr, "%s/%s: cannot be read\n", folder, name);
        exit(1);
    }
    memmove(bytes, bytes + header, n - header);
    *out = bytes;
    return n - header;
}

static digits read_digits(const char *folder, const char *part)
{
    digits d;
    char name[64];
    snprintf(name, sizeof name, "usps-%s-images-idx3-ubyte.gz", part);
    d.n = read_idx(folder, name, 16, &d.pixels) / (SIDE * SIDE);
    snprintf(name, sizeof name, "usps-%s-labels-idx1-ubyte.gz", part);
    if (read_idx(folder, name, 8, &d.labels) != d.n) {
        fprintf(stderr, "%s: images and labels do not match\n", part);
        exit(1);
    }
    d.held_out = calloc(d.n, 1);
    for (size_t i = 0; i < d.n; i++) {
        d.held_out[i] = i % 10 == 9;
    }
    return d;
}

static size_t sample(void *self, size_t i, rv_rng *rng, float *x)
{
    const digits *d = self;
    const uint8_t *pixels = d->pixels + i * SIDE * SIDE;
    int down = rng ? (int)rv_rng_below(rng, 3) - 1 : 0, right = rng ? (int)rv_rng_below(rng, 3) - 1 : 0;
    for (int y = 0; y < SIDE; y++) {
        for (int column = 0; column < SIDE; column++) {
            int from_y = y - down, from_x = column - right;
            bool inside = from_y >= 0 && from_y < SIDE && from_x >= 0 && from_x < SIDE;
            x[y * SIDE + column] = inside ? pixels[from_y * SIDE + from_x] / 127.5f - 1 : -1;
        }
    }
    return SIDE;
}

static double loss(void *self, size_t i, const float *out, float *d_out)
{
    const digits *d = self;
    double largest = out[0], sum = 0;
    for (int k = 1; k < DIGITS; k++) {
        largest = fmax(largest, out[k]);
    }
    for (int k = 0; k < DIGITS; k++) {
        sum += exp(out[k] - largest);
    }
    for (int k = 0; d_out && k < DIGITS; k++) {
        d_out[k] = (float)(exp(out[k] - largest) / sum) - (k == d->labels[i]);
    }
    return log(sum) - (out[d->labels[i]] - largest);
}

static double accuracy(const rv_grnn *g, digits *d)
{
    static float x[SIDE * SIDE];
    size_t right = 0;
    for (size_t i = 0; i < d->n; i++) {
        float state[32] = { 0 }, out[DIGITS];
        sample(d, i, NULL, x);
        for (int t = 0; t < SIDE; t++) {
            rv_grnn_step(g, x + t * SIDE, state);
        }
        rv_grnn_head(g, state, out);
        int best = 0;
        for (int k = 1; k < DIGITS; k++) {
            best = out[k] > out[best] ? k : best;
        }
        right += best == d->labels[i];
    }
    return 100.0 * (double)right / (double)d->n;
}

static void fail(void)
{
    fprintf(stderr, "%s\n", rv_err_text());
    exit(1);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: %s FOLDER [SEEDS [EPOCHS]]\n", argv[0]);
        return 2;
    }
    digits train = read_digits(argv[1], "train"), test = read_digits(argv[1], "test");
    rv_grnn_task task = { &train, train.n, sample, loss, train.held_out };
    int seeds = argc > 2 ? atoi(argv[2]) : 3;
    size_t epochs = argc > 3 ? (size_t)atoi(argv[3]) : 60;
    double sum[2] = { 0 };
    for (int seed = 1; seed <= seeds; seed++) {
        rv_grnn_shape shape = { SIDE, 32, DIGITS, 0, 0 };
        rv_grnn_how how = { .epochs = { epochs, 0, epochs / 6 },
                            .batch = 32,
                            .rate = 5e-3,
                            .clip = 1,
                            .decay = 1e-3,
                            .int8 = true,
                            .seed = (uint64_t)seed };
        rv_grnn_fit *fit;
        rv_grnn *cells[2];
        rv_grnn_report report;
        double began = rv_clock_ms(), score[2];
        if (rv_grnn_fit_new(&rv_heap, &shape, (uint64_t)seed, &fit) ||
            rv_grnn_fit_run(fit, &task, &how, &report)) {
            fail();
        }
        for (int q = 0; q < 2; q++) {
            if (rv_grnn_from_fit(&rv_heap, fit, q, &cells[q])) {
                fail();
            }
            score[q] = accuracy(cells[q], &test);
            sum[q] += score[q];
        }
        printf("{\"test\": \"usps\", \"seed\": %d, \"parameters\": %zu, \"epochs\": %zu, \"held_out_loss\": "
               "%.4f, "
               "\"accuracy_f32\": %.2f, \"accuracy_int8\": %.2f, \"bytes_f32\": %zu, \"bytes_int8\": %zu, "
               "\"seconds\": %.0f}\n",
               seed, rv_grnn_n_params(cells[0]), report.epochs, report.held_out_loss, score[0], score[1],
               rv_grnn_bytes(cells[0]), rv_grnn_bytes(cells[1]), (rv_clock_ms() - began) / 1000);
        fflush(stdout);
        rv_grnn_free(cells[0]);
        rv_grnn_free(cells[1]);
        rv_grnn_fit_free(fit);
    }
    printf("{\"test\": \"usps\", \"seeds\": %d, \"mean_f32\": %.2f, \"mean_int8\": %.2f, \"goal\": 93.5}\n",
           seeds, sum[0] / seeds, sum[1] / seeds);
    return 0;
}
