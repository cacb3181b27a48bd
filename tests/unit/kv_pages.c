#include "base/rng.h"
#include "kv/kv.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>

enum { LAYERS = 4, DIM = 16, CHANNELS = 6, TAPS = 3, MOST = 400 };
static const uint32_t heads[LAYERS] = { 0, 2, 0, 1 };

static rv_kv_shape shape_of(rv_type type)
{
    return (rv_kv_shape){ .type = type,
                          .n_layers = LAYERS,
                          .n_kv_heads = heads,
                          .head_dim = DIM,
                          .conv_channels = CHANNELS,
                          .conv_taps = TAPS,
                          .window = RV_KVQ_TOKENS };
}

TEST(sizes_are_those_of_their_parts)
{
    rv_kv_shape shape = shape_of(RV_F16);
    enum { ELEMENTS = 3 * 2 * 16 * DIM, HEADER = 64 };
    CHECK(rv_kv_page_bytes(&shape) == HEADER + ELEMENTS * 2, "%zu", rv_kv_page_bytes(&shape));
    CHECK(rv_kv_state_bytes(&shape) == 2 * CHANNELS * (TAPS - 1) * 4, "%zu", rv_kv_state_bytes(&shape));
    CHECK(rv_kv_block_bytes(&shape) == 0, "%zu", rv_kv_block_bytes(&shape));
    CHECK(rv_kv_tokens_bytes(&shape, 1000) == 63 * rv_kv_page_bytes(&shape), "%zu",
          rv_kv_tokens_bytes(&shape, 1000));
    shape.type = RV_F32;
    CHECK(rv_kv_page_bytes(&shape) == HEADER + ELEMENTS * 4, "%zu", rv_kv_page_bytes(&shape));
    CHECK(rv_kv_tokens_bytes(&shape, SIZE_MAX - 20) == SIZE_MAX, "no overflow");
    shape.type = RV_Q8_0;
    shape.head_dim = 64; /* where groups are whole */
    size_t bits = 8 * (rv_kv_block_bytes(&shape) - HEADER) * 100 / (3 * 2 * 64 * 64);
    CHECK(bits == 850, "%zu hundredths of a bit per element", bits);
    shape.type = RV_Q4_1;
    bits = 8 * (rv_kv_block_bytes(&shape) - HEADER) * 100 / (3 * 2 * 64 * 64);
    CHECK(bits == 475, "%zu hundredths of a bit per element", bits);
}

/* A cache with a budget of its own. */
typedef struct cache {
    rv_budget *budget;
    rv_kv *kv;
} cache;

static cache new_cache(const rv_kv_shape *shape, size_t bytes)
{
    cache c = { 0 };
    CHECK_OK(rv_budget_new(&rv_heap, bytes, &c.budget));
    CHECK_OK(rv_kv_new(&rv_heap, shape, c.budget, &c.kv));
    return c;
}

static void free_cache(cache *c)
{
    rv_kv_free(c->kv);
    rv_budget_free(c->budget);
}

/* What a plain array would hold: the number written for a layer, head and position of a sequence. */
static float number(uint32_t tag, size_t layer, size_t head, size_t position, size_t i)
{
    return (float)((tag * 31 + layer * 7 + head * 5 + position * 3 + i) % 2048); /* exact in f16 */
}

static void fill_blocks(rv_kv_seq *seq, size_t tokens)
{
    for (size_t b = rv_kv_blocks_filled(seq); tokens && b < rv_kv_blocks_before(seq, tokens - 1); b++) {
        for (size_t l = 0; l < LAYERS; l++) {
            for (size_t h = 0; h < heads[l]; h++) {
                rv_kv_fill(seq, rv_kernels_at(RV_CPU_SCALAR), l, h, b);
            }
        }
    }
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
    fill_blocks(seq, past + n);
    rv_kv_advance(seq, n);
}

static float element(rv_type type, const void *at, size_t i)
{
    return type == RV_F32 ? ((const float *)at)[i] : rv_f16_to_f32(((const uint16_t *)at)[i]);
}

static void check_block(const rv_kv_seq *seq, size_t l, size_t h, size_t block, const uint32_t *tags)
{
    static float runs[2][4][16 * DIM];
    static uint8_t expected[8192];
    rv_type type = rv_kv_store_type(seq);
    const float *keys[4] = { runs[0][0], runs[0][1], runs[0][2], runs[0][3] };
    const float *values[4] = { runs[1][0], runs[1][1], runs[1][2], runs[1][3] };
    for (size_t t = 0; t < RV_KVQ_TOKENS; t++) {
        size_t p = block * RV_KVQ_TOKENS + t;
        for (size_t i = 0; i < DIM; i++) {
            runs[0][t / 16][i * 16 + t % 16] = number(tags[p], l, h, p, i);
            runs[1][t / 16][t % 16 * DIM + i] = number(tags[p] + 1, l, h, p, i);
        }
    }
    size_t first = block ? 0 : RV_KV_PAGE_TOKENS;
    memset(expected, 0, sizeof expected);
    rv_kvq_pack_keys(type, DIM, keys, first, expected);
    CHECK(memcmp(expected, rv_kv_block_keys(seq, l, h, block), rv_kvq_keys(type, DIM).bytes) == 0,
          "keys of layer %zu head %zu block %zu", l, h, block);
    memset(expected, 0, sizeof expected);
    rv_kvq_pack_values(type, DIM, values, first, expected);
    CHECK(memcmp(expected, rv_kv_block_values(seq, l, h, block), rv_kvq_values(type, DIM).bytes) == 0,
          "values of layer %zu head %zu block %zu", l, h, block);
}

static void check_tokens(rv_kv_seq *seq, const uint32_t *tags)
{
    rv_type type = rv_kv_type(seq);
    size_t n = rv_kv_seq_tokens(seq), stored = rv_kv_blocks_filled(seq) * RV_KVQ_TOKENS;
    for (size_t l = 0; l < LAYERS; l++) {
        for (size_t h = 0; h < heads[l]; h++) {
            for (size_t b = 0; b < rv_kv_blocks_filled(seq); b++) {
                check_block(seq, l, h, b, tags);
            }
            for (size_t p = 0; p < n; p = p + 1 == 16 && stored ? stored : p + 1) {
                const void *keys = rv_kv_keys(seq, l, h, p / 16), *values = rv_kv_values(seq, l, h, p / 16);
                for (size_t i = 0; i < DIM; i++) {
                    float key = element(type, keys, i * 16 + p % 16),
                          value = element(type, values, p % 16 * DIM + i);
                    CHECK(key == number(tags[p], l, h, p, i) && value == number(tags[p] + 1, l, h, p, i),
                          "layer %zu head %zu position %zu: %g %g", l, h, p, (double)key, (double)value);
                }
            }
        }
        for (size_t i = 0; !heads[l] && i < CHANNELS * (TAPS - 1); i++) {
            float expected = n ? number(tags[n - 1], l, 0, n - 1, i) : 0;
            CHECK(rv_kv_conv(seq, l)[i] == expected, "state of layer %zu after %zu tokens", l, n);
        }
    }
}

/* One sequence beside a plain record of what was written to it. */
typedef struct twin {
    rv_kv_seq *seq;
    uint32_t tags[MOST];
    bool marked[MOST + 1];
} twin;

static void append(twin *t, rv_kv *kv, size_t n, uint32_t tag, bool mark)
{
    size_t past = rv_kv_seq_tokens(t->seq), used = rv_kv_used_bytes(kv);
    rv_err e = rv_kv_reserve(t->seq, n);
    if (e) {
        CHECK(e == RV_E_FULL || (e == RV_E_CONTEXT && past + n > MOST), "%s", rv_err_text());
        CHECK(rv_kv_used_bytes(kv) <= used && rv_kv_seq_tokens(t->seq) == past, "a refusal changes nothing");
        return;
    }
    for (size_t p = past; p < past + n; p++) {
        t->tags[p] = tag;
    }
    float *state = mark && n ? rv_kv_mark(t->seq, past + n) : NULL;
    write_tokens(t->seq, tag, n);
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

/* Writes the sequence down, forgets it, and builds it again; true when there was room for that. */
static bool rebuild(twin *t)
{
    rv_kv_outline outline;
    rv_kv_rewind(t->seq, MOST);
    rv_kv_outline_get(t->seq, &outline);
    static uint8_t file[1 << 20];
    size_t used = 0, n;
    void *at;
    for (size_t i = 0; rv_kv_part(t->seq, i, &at, &n); i++) {
        CHECK(used + n <= sizeof file, "larger than thought");
        memcpy(file + used, at, n);
        used += n;
    }
    rv_kv_rewind(t->seq, 0);
    if (outline.n_tokens == 0) {
        CHECK_ERR(rv_kv_rebuild(t->seq, &outline), RV_E_FORMAT);
        return false;
    }
    rv_err e = rv_kv_rebuild(t->seq, &outline);
    if (e) {
        CHECK(e == RV_E_FULL && rv_kv_seq_tokens(t->seq) == 0, "%s", rv_err_text());
        return false;
    }
    used = 0;
    for (size_t i = 0; rv_kv_part(t->seq, i, &at, &n); i++) {
        memcpy(at, file + used, n);
        used += n;
    }
    rv_kv_rebuilt(t->seq, &outline);
    return true;
}

enum { TWINS = 4 };

/* Appends up to 100 tokens by a promise, in steps: cannot fail once promised. */
static void append_promised(twin *t, rv_rng *rng, uint32_t tag)
{
    size_t past = rv_kv_seq_tokens(t->seq), n = 1 + rv_rng_below(rng, 100);
    if (past + n > MOST || rv_kv_promise(t->seq, past + n)) {
        return;
    }
    CHECK(rv_kv_promised(t->seq, past + n) == 0, "promised already");
    for (size_t done = 0, take; done < n; done += take) {
        take = 1 + rv_rng_below(rng, n - done);
        CHECK_OK(rv_kv_reserve(t->seq, take));
        for (size_t p = past + done; p < past + done + take; p++) {
            t->tags[p] = tag;
        }
        write_tokens(t->seq, tag, take);
    }
    rv_kv_rewind(t->seq, MOST); /* the promise ends */
}

typedef struct tally {
    size_t refused, rewound, copied, rebuilt;
} tally;

static void random_operation(twin *t, twin *one, rv_kv *kv, rv_rng *rng, uint32_t round, tally *did)
{
    uint64_t what = rv_rng_below(rng, 12);
    size_t past = one->seq ? rv_kv_seq_tokens(one->seq) : 0;
    if (!one->seq) {
        rv_err e = rv_kv_seq_new(kv, MOST, &one->seq);
        CHECK(e == RV_OK || e == RV_E_FULL, "%s", rv_err_text());
    } else if (what < 6) {
        size_t n = rv_rng_below(rng, 70);
        append(one, kv, n, round, what < 3);
        did->refused += n && rv_kv_seq_tokens(one->seq) == past;
    } else if (what < 9) {
        size_t n = rv_rng_below(rng, past + 2), foreseen = rv_kv_rewindable(one->seq, n);
        size_t left = rv_kv_rewind(one->seq, n);
        CHECK(left == foreseen, "%zu left, foreseen %zu", left, foreseen);
        CHECK(n >= past ? left == past : left <= n, "%zu left of %zu, asked for %zu", left, past, n);
        CHECK(left == past || left == 0 || one->marked[left], "back to %zu, which has no mark", left);
        did->rewound += left > 0 && left < past;
        memset(one->marked + left + 1, 0, sizeof one->marked - left - 1);
    } else if (what == 9) {
        twin *other = &t[rv_rng_below(rng, TWINS)];
        did->copied += other != one && other->seq && copy(one, other, rv_rng_below(rng, MOST));
    } else if (what == 10) {
        append_promised(one, rng, round);
    } else if (rv_rng_below(rng, 3)) {
        did->rebuilt += rebuild(one);
    } else {
        rv_kv_seq_free(one->seq);
        *one = (twin){ 0 };
    }
}

TEST(random_use_agrees_with_a_plain_record)
{
    enum { ROUNDS = 10000 };
    static const rv_type types[] = { RV_F16, RV_F32, RV_Q8_0, RV_Q4_1 };
    static twin t[TWINS];
    for (size_t type = 0; type < RV_COUNT(types); type++) {
        rv_kv_shape shape = shape_of(types[type]);
        size_t bytes = 48 * rv_kv_page_bytes(&shape) + 12 * rv_kv_state_bytes(&shape) + 17;
        cache c = new_cache(&shape, bytes);
        rv_rng rng;
        rv_rng_init(&rng, 77 + type);
        tally did = { 0 };
        memset(t, 0, sizeof t);
        for (uint32_t round = 0; round < ROUNDS; round++) {
            twin *one = &t[rv_rng_below(&rng, TWINS)];
            random_operation(t, one, c.kv, &rng, round, &did);
            CHECK_OK(rv_kv_check(c.kv));
            CHECK(rv_kv_used_bytes(c.kv) + rv_budget_room(c.budget) == bytes, "round %u: %zu bytes in use",
                  (unsigned)round, rv_kv_used_bytes(c.kv));
            for (size_t i = 0; i < TWINS;
                 i++) { /* the others now and then: they may share what was written */
                if (t[i].seq && (&t[i] == one || round % 16 == 0)) {
                    check_tokens(t[i].seq, t[i].tags);
                }
            }
        }
        CHECK(did.refused > 50 && did.rewound > 50 && did.copied > 20 && did.rebuilt > 20,
              "%zu refused, %zu rewound, %zu copied, %zu rebuilt: the test is too tame", did.refused,
              did.rewound, did.copied, did.rebuilt);
        CHECK(rv_budget_peak(c.budget) <= bytes, "the budget was passed");
        for (size_t i = 0; i < TWINS; i++) {
            rv_kv_seq_free(t[i].seq);
        }
        CHECK(rv_kv_used_bytes(c.kv) == 0, "%zu bytes left in use", rv_kv_used_bytes(c.kv));
        CHECK_OK(rv_kv_check(c.kv));
        free_cache(&c);
    }
}

TEST(sequences_with_one_beginning_hold_it_once)
{
    static const rv_type types[] = { RV_F16, RV_Q8_0 };
    for (size_t type = 0; type < RV_COUNT(types); type++) {
        rv_kv_shape shape = shape_of(types[type]);
        cache c = new_cache(&shape, 100 * rv_kv_page_bytes(&shape));
        rv_kv_seq *a = NULL, *b = NULL;
        CHECK_OK(rv_kv_seq_new(c.kv, MOST, &a));
        CHECK_OK(rv_kv_seq_new(c.kv, MOST, &b));
        CHECK_OK(rv_kv_reserve(a, 320));
        write_tokens(a, 1, 320);
        size_t before = rv_kv_used_bytes(c.kv);
        CHECK_OK(rv_kv_copy(b, a, 320));
        /* what is in half precision and will be a block is not shared: one window */
        size_t most = types[type] == RV_F16 ? 0 : 4 * rv_kv_page_bytes(&shape);
        CHECK(rv_kv_used_bytes(c.kv) <= before + most, "%zu bytes, %zu before", rv_kv_used_bytes(c.kv),
              before);
        CHECK_OK(rv_kv_reserve(b, 20));
        write_tokens(b, 7, 20);
        uint32_t tags[MOST];
        for (size_t i = 0; i < MOST; i++) {
            tags[i] = i < 320 ? 1 : 7;
        }
        check_tokens(a, tags);
        check_tokens(b, tags);
        rv_kv_seq_free(a);
        check_tokens(b, tags);
        CHECK_OK(rv_kv_check(c.kv));
        rv_kv_seq_free(b);
        free_cache(&c);
    }
}

TEST(tokens_are_taken_back_with_the_state_they_left)
{
    static const rv_type types[] = { RV_F16, RV_Q8_0 };
    for (size_t type = 0; type < RV_COUNT(types); type++) {
        rv_kv_seq *seq = NULL;
        rv_kv_shape shape = shape_of(types[type]);
        size_t floats = rv_kv_state_bytes(&shape) / sizeof(float);
        float *kept = fenced_floats(floats);
        cache c = new_cache(&shape, 60 * rv_kv_page_bytes(&shape));
        CHECK_OK(rv_kv_seq_new(c.kv, MOST, &seq));
        CHECK_OK(rv_kv_promise(seq, 300));
        uint32_t tags[MOST];
        for (size_t before = 10; before < 290; before += 9) { /* now and then over the border of a window */
            size_t past = rv_kv_seq_tokens(seq);
            CHECK_OK(rv_kv_reserve(seq, before - past));
            if (past == 10) {
                CHECK(rv_kv_mark(seq, 12) != NULL, "no room for a mark");
            }
            write_tokens(seq, 1, before - past);
            for (size_t l = 0; l < LAYERS; l++) {
                for (size_t i = 0; !heads[l] && i < CHANNELS * (TAPS - 1); i++) {
                    kept[rv_kv_conv_at(seq, l) + i] = rv_kv_conv(seq, l)[i];
                }
            }
            CHECK_OK(rv_kv_reserve(seq, 8));
            write_tokens(seq, 3, 8);
            rv_kv_take_back(seq, before, kept);
            CHECK(rv_kv_seq_tokens(seq) == before, "%zu tokens", rv_kv_seq_tokens(seq));
            CHECK_OK(rv_kv_check(c.kv));
            for (size_t i = 0; i < before; i++) {
                tags[i] = 1;
            }
            check_tokens(seq, tags);
        }
        CHECK(rv_kv_rewindable(seq, 20) == (types[type] == RV_F16 ? 12 : 0), "the mark");
        rv_kv_seq_free(seq);
        free_cache(&c);
    }
}

TEST(the_mark_closest_behind_another_makes_room)
{
    rv_kv_shape shape = shape_of(RV_F32);
    rv_kv_seq *seq = NULL;
    cache c = new_cache(&shape, 64 * rv_kv_page_bytes(&shape) + 64 * rv_kv_state_bytes(&shape));
    CHECK_OK(rv_kv_seq_new(c.kv, 1000, &seq));
    CHECK_OK(rv_kv_reserve(seq, 1000));
    for (size_t i = 1; i <= RV_KV_MARKS; i++) {
        CHECK(rv_kv_mark(seq, i == 5 ? 84 : 20 * i), "mark %zu", i); /* the fifth lies 4 behind the fourth */
    }
    CHECK(!rv_kv_mark(seq, 30), "not past the last one");
    CHECK(rv_kv_mark(seq, 900), "one more");
    rv_kv_advance(seq, 1000);
    CHECK_OK(rv_kv_check(c.kv));
    CHECK(rv_kv_rewind(seq, 99) == 80, "84 made room");
    CHECK(rv_kv_rewind(seq, 79) == 60, "60 stayed");
    rv_kv_seq_free(seq);
    free_cache(&c);
}

TEST(a_budget_without_room_is_a_clear_no)
{
    rv_kv_shape shape = shape_of(RV_F16);
    rv_kv_seq *seq = NULL;
    cache c = new_cache(&shape, rv_kv_state_bytes(&shape) - 1);
    CHECK_ERR(rv_kv_seq_new(c.kv, 16, &seq), RV_E_FULL);
    free_cache(&c);
    c = new_cache(&shape, rv_kv_state_bytes(&shape) + rv_kv_page_bytes(&shape));
    CHECK_OK(rv_kv_seq_new(c.kv, 100, &seq));
    CHECK_ERR(rv_kv_reserve(seq, 17), RV_E_FULL);
    CHECK_OK(rv_kv_reserve(seq, 16));
    CHECK_ERR(rv_kv_reserve(seq, 101), RV_E_CONTEXT);
    CHECK_OK(rv_kv_check(c.kv));
    rv_kv_seq_free(seq);
    free_cache(&c);
}
