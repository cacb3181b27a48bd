#include "base/rng.h"
#include "kv/kv.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>

enum { LAYERS = 4, DIM = 8, CHANNELS = 6, TAPS = 3 };
static const uint32_t heads[LAYERS] = { 0, 2, 0, 1 };

static rv_kv_shape shape_of(rv_type type)
{
    return (rv_kv_shape){ .type = type,
                          .n_layers = LAYERS,
                          .n_kv_heads = heads,
                          .head_dim = DIM,
                          .conv_channels = CHANNELS,
                          .conv_taps = TAPS };
}

TEST(sizes_are_those_of_their_parts)
{
    rv_kv_shape shape = shape_of(RV_F16);
    CHECK(rv_kv_page_bytes(&shape) == 3 * 2 * 16 * DIM * 2, "%zu", rv_kv_page_bytes(&shape));
    CHECK(rv_kv_state_bytes(&shape) == 2 * CHANNELS * (TAPS - 1) * 4, "%zu", rv_kv_state_bytes(&shape));
    shape.type = RV_F32;
    CHECK(rv_kv_page_bytes(&shape) == 3 * 2 * 16 * DIM * 4, "%zu", rv_kv_page_bytes(&shape));
}

/* What a plain array would hold: the number written for a layer, head and position of a sequence. */
static float number(uint32_t tag, size_t layer, size_t head, size_t position, size_t i)
{
    return (float)((tag * 31 + layer * 7 + head * 5 + position * 3 + i) % 2048); /* exact in f16 */
}

static void write_tokens(rv_kv_seq *seq, uint32_t tag, size_t n)
{
    const rv_kernels *k = rv_kernels_at(RV_CPU_SCALAR);
    size_t past = rv_kv_seq_tokens(seq);
    for (size_t p = past; p < past + n; p++) {
        for (size_t l = 0; l < LAYERS; l++) {
            for (size_t h = 0; h < heads[l]; h++) {
                float key[DIM], value[DIM];
                for (size_t i = 0; i < DIM; i++) {
                    key[i] = number(tag, l, h, p, i);
                    value[i] = number(tag + 1, l, h, p, i);
                }
                rv_kv_put(seq, k, l, h, p, key, value);
            }
            for (size_t i = 0; !heads[l] && i < CHANNELS * (TAPS - 1); i++) {
                rv_kv_conv(seq, l)[i] = number(tag, l, 0, p, i);
            }
        }
    }
    rv_kv_advance(seq, n);
}

static float element(rv_type type, const void *at, size_t i)
{
    return type == RV_F32 ? ((const float *)at)[i] : rv_f16_to_f32(((const uint16_t *)at)[i]);
}

static void check_tokens(rv_kv_seq *seq, const uint32_t *tags)
{
    rv_type type = rv_kv_type(seq);
    size_t n = rv_kv_seq_tokens(seq);
    for (size_t p = 0; p < n; p++) {
        for (size_t l = 0; l < LAYERS; l++) {
            for (size_t h = 0; h < heads[l]; h++) {
                for (size_t i = 0; i < DIM; i++) {
                    size_t at = p % RV_KV_PAGE_TOKENS * DIM + i;
                    float key = element(type, rv_kv_keys(seq, l, h, p / RV_KV_PAGE_TOKENS), at);
                    float value = element(type, rv_kv_values(seq, l, h, p / RV_KV_PAGE_TOKENS), at);
                    CHECK(key == number(tags[p], l, h, p, i) && value == number(tags[p] + 1, l, h, p, i),
                          "layer %zu head %zu position %zu: %g %g", l, h, p, (double)key, (double)value);
                }
            }
            for (size_t i = 0; !heads[l] && i < CHANNELS * (TAPS - 1); i++) {
                float expected = n ? number(tags[n - 1], l, 0, n - 1, i) : 0;
                CHECK(rv_kv_conv(seq, l)[i] == expected, "state of layer %zu after %zu tokens", l, n);
            }
        }
    }
}

/* One sequence beside a plain record of what was written to it. */
typedef struct twin {
    rv_kv_seq *seq;
    uint32_t tags[200];
    bool marked[201];
} twin;

static void append(twin *t, rv_kv *kv, size_t n, uint32_t tag, bool mark)
{
    size_t past = rv_kv_seq_tokens(t->seq), used = rv_kv_used_bytes(kv);
    rv_err e = rv_kv_reserve(t->seq, n);
    if (e) {
        CHECK(e == RV_E_FULL || (e == RV_E_CONTEXT && past + n > 200), "%s", rv_err_text());
        CHECK(rv_kv_used_bytes(kv) <= used && rv_kv_seq_tokens(t->seq) == past, "a refusal changes nothing");
        return;
    }
    for (size_t p = past; p < past + n; p++) {
        t->tags[p] = tag;
    }
    write_tokens(t->seq, tag, n);
    float *state = mark && n ? rv_kv_mark(t->seq, past + n) : NULL;
    for (size_t l = 0; state && l < LAYERS; l++) {
        if (!heads[l]) {
            memcpy(state + rv_kv_conv_at(t->seq, l), rv_kv_conv(t->seq, l),
                   CHANNELS * (TAPS - 1) * sizeof *state);
        }
    }
    if (state) {
        t->marked[past + n] = true;
    }
}

/* Returns whether something was copied. */
static bool copy(twin *to, const twin *from, size_t n)
{
    rv_kv_rewind(to->seq, 0);
    memset(to->marked, 0, sizeof to->marked);
    size_t expected = rv_kv_rewindable(from->seq, n);
    rv_err e = rv_kv_copy(to->seq, from->seq, n);
    CHECK(e == RV_OK || e == RV_E_FULL, "%s", rv_err_text());
    CHECK(rv_kv_seq_tokens(to->seq) == (e ? 0 : expected), "%zu copied, expected %zu",
          rv_kv_seq_tokens(to->seq), expected);
    memcpy(to->tags, from->tags, sizeof to->tags);
    memcpy(to->marked, from->marked, (expected + 1) * sizeof *to->marked);
    return !e && expected;
}

TEST(random_use_agrees_with_a_plain_record)
{
    static const rv_type types[] = { RV_F16, RV_F32 };
    for (size_t type = 0; type < RV_COUNT(types); type++) {
        rv_kv_shape shape = shape_of(types[type]);
        size_t budget = 20 * rv_kv_page_bytes(&shape) + 9 * rv_kv_state_bytes(&shape) + 17;
        rv_kv *kv = NULL;
        CHECK_OK(rv_kv_new(&rv_heap, &shape, budget, &kv));
        twin t[3] = { 0 };
        rv_rng rng;
        rv_rng_init(&rng, 77 + type);
        size_t refused = 0, rewound = 0, copied = 0;
        for (int round = 0; round < 4000; round++) {
            twin *one = &t[rv_rng_below(&rng, 3)];
            uint64_t what = rv_rng_below(&rng, 10);
            if (!one->seq) {
                CHECK_OK(rv_kv_seq_new(kv, 200, &one->seq));
            } else if (what < 6) {
                size_t n = rv_rng_below(&rng, 40), past = rv_kv_seq_tokens(one->seq);
                append(one, kv, n, (uint32_t)round, what < 3);
                refused += n && rv_kv_seq_tokens(one->seq) == past;
            } else if (what < 9) {
                size_t past = rv_kv_seq_tokens(one->seq), n = rv_rng_below(&rng, past + 2);
                size_t foreseen = rv_kv_rewindable(one->seq, n), left = rv_kv_rewind(one->seq, n);
                CHECK(left == foreseen, "%zu left, foreseen %zu", left, foreseen);
                CHECK(n >= past ? left == past : left <= n, "%zu left of %zu, asked for %zu", left, past, n);
                CHECK(left == past || left == 0 || one->marked[left], "back to %zu, which has no mark", left);
                rewound += left > 0 && left < past;
                memset(one->marked + left + 1, 0, sizeof one->marked - left - 1);
            } else if (rv_rng_below(&rng, 3) == 0) {
                twin *other = &t[rv_rng_below(&rng, 3)];
                copied += other != one && other->seq && copy(one, other, rv_rng_below(&rng, 200));
            } else if (rv_rng_below(&rng, 4) == 0) {
                rv_kv_seq_free(one->seq);
                *one = (twin){ 0 };
            }
            CHECK_OK(rv_kv_check(kv));
            CHECK(rv_kv_used_bytes(kv) <= budget, "round %d: %zu of %zu bytes", round, rv_kv_used_bytes(kv),
                  budget);
            for (size_t i = 0; i < 3; i++) {
                if (t[i].seq) {
                    check_tokens(t[i].seq, t[i].tags);
                }
            }
        }
        CHECK(refused > 50 && rewound > 50 && copied > 20,
              "%zu refused, %zu rewound, %zu copied: the test is too tame", refused, rewound, copied);
        for (size_t i = 0; i < 3; i++) {
            rv_kv_seq_free(t[i].seq);
        }
        CHECK(rv_kv_used_bytes(kv) == 0, "%zu bytes left in use", rv_kv_used_bytes(kv));
        CHECK_OK(rv_kv_check(kv));
        rv_kv_free(kv);
    }
}

TEST(tokens_are_taken_back_with_the_state_they_left)
{
    rv_kv *kv = NULL;
    rv_kv_seq *seq = NULL;
    rv_kv_shape shape = shape_of(RV_F16);
    size_t floats = rv_kv_state_bytes(&shape) / sizeof(float);
    float *kept = fenced_floats(floats);
    CHECK_OK(rv_kv_new(&rv_heap, &shape, 16 * rv_kv_page_bytes(&shape), &kv));
    CHECK_OK(rv_kv_seq_new(kv, 64, &seq));
    CHECK_OK(rv_kv_reserve(seq, 64));
    CHECK(rv_kv_mark(seq, 10) != NULL, "no room for a mark");
    write_tokens(seq, 1, 15);
    for (size_t l = 0; l < LAYERS; l++) {
        for (size_t i = 0; !heads[l] && i < CHANNELS * (TAPS - 1); i++) {
            kept[rv_kv_conv_at(seq, l) + i] = rv_kv_conv(seq, l)[i];
        }
    }
    write_tokens(seq, 1, 4);
    size_t pages = rv_kv_seq_pages(seq);
    rv_kv_take_back(seq, 15, kept);
    CHECK(rv_kv_seq_tokens(seq) == 15 && rv_kv_seq_pages(seq) == pages, "%zu tokens", rv_kv_seq_tokens(seq));
    CHECK(rv_kv_conv(seq, 0)[0] == number(1, 0, 0, 14, 0), "state %g", (double)rv_kv_conv(seq, 0)[0]);
    CHECK_OK(rv_kv_check(kv));
    write_tokens(seq, 1, 2);
    CHECK(rv_kv_rewindable(seq, 16) == 10, "the mark is gone");
    CHECK_OK(rv_kv_check(kv));
    rv_kv_seq_free(seq);
    rv_kv_free(kv);
}

TEST(the_mark_closest_behind_another_makes_room)
{
    rv_kv_shape shape = shape_of(RV_F32);
    rv_kv *kv = NULL;
    rv_kv_seq *seq = NULL;
    CHECK_OK(
        rv_kv_new(&rv_heap, &shape, 64 * rv_kv_page_bytes(&shape) + 64 * rv_kv_state_bytes(&shape), &kv));
    CHECK_OK(rv_kv_seq_new(kv, 1000, &seq));
    CHECK_OK(rv_kv_reserve(seq, 1000));
    for (size_t i = 1; i <= RV_KV_MARKS; i++) {
        CHECK(rv_kv_mark(seq, i == 5 ? 84 : 20 * i), "mark %zu", i); /* the fifth lies 4 behind the fourth */
    }
    CHECK(!rv_kv_mark(seq, 30), "not past the last one");
    CHECK(rv_kv_mark(seq, 900), "one more");
    rv_kv_advance(seq, 1000);
    CHECK_OK(rv_kv_check(kv));
    CHECK(rv_kv_rewind(seq, 99) == 80, "84 made room");
    CHECK(rv_kv_rewind(seq, 79) == 60, "60 stayed");
    rv_kv_seq_free(seq);
    rv_kv_free(kv);
}

TEST(a_budget_without_room_is_a_clear_no)
{
    rv_kv_shape shape = shape_of(RV_F16);
    rv_kv *kv = NULL;
    rv_kv_seq *seq = NULL;
    CHECK_OK(rv_kv_new(&rv_heap, &shape, rv_kv_state_bytes(&shape) - 1, &kv));
    CHECK_ERR(rv_kv_seq_new(kv, 16, &seq), RV_E_FULL);
    rv_kv_free(kv);
    CHECK_OK(rv_kv_new(&rv_heap, &shape, rv_kv_state_bytes(&shape) + rv_kv_page_bytes(&shape), &kv));
    CHECK_OK(rv_kv_seq_new(kv, 100, &seq));
    CHECK_ERR(rv_kv_reserve(seq, 17), RV_E_FULL);
    CHECK_OK(rv_kv_reserve(seq, 16));
    CHECK_ERR(rv_kv_reserve(seq, 101), RV_E_CONTEXT);
    CHECK_OK(rv_kv_check(kv));
    rv_kv_seq_free(seq);
    rv_kv_free(kv);
}
