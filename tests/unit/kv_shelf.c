/* Sequences on disk: what was written comes back bit for bit, and whatever has happened to a file, nothing else does. */
#include "base/log.h"
#include "base/rng.h"
#include "kv/shelf.h"
#include "test.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LAYERS = 3, DIM = 16, CHANNELS = 8, TAPS = 3, MOST = 400 };
static const uint32_t heads[LAYERS] = { 0, 2, 1 };
static const rv_shelf_key ours = { 1, 2, 0, 0 };

/* A cache, and sequences with random numbers in them. */
typedef struct cache {
    rv_budget *budget;
    rv_kv *kv;
} cache;

static cache new_cache(rv_type type)
{
    rv_kv_shape shape = { .type = type,
                          .n_layers = LAYERS,
                          .n_kv_heads = heads,
                          .head_dim = DIM,
                          .conv_channels = CHANNELS,
                          .conv_taps = TAPS,
                          .window = RV_KVQ_TOKENS };
    cache c = { 0 };
    CHECK_OK(rv_budget_new(&rv_heap, 8 << 20, &c.budget));
    CHECK_OK(rv_kv_new(&rv_heap, &shape, c.budget, &c.kv));
    return c;
}

static void free_cache(cache *c)
{
    CHECK_OK(rv_kv_check(c->kv));
    rv_kv_free(c->kv);
    rv_budget_free(c->budget);
}

static rv_kv_seq *random_seq(cache *c, rv_rng *rng, size_t n, int32_t *ids)
{
    const rv_kernels *k = rv_kernels_best();
    rv_kv_seq *seq = NULL;
    CHECK_OK(rv_kv_seq_new(c->kv, MOST, &seq));
    CHECK_OK(rv_kv_reserve(seq, n));
    for (size_t p = 0; p < n; p++) {
        ids[p] = (int32_t)rv_rng_below(rng, 1000);
        for (size_t l = 0; l < LAYERS; l++) {
            for (size_t h = 0; h < heads[l]; h++) {
                float key[DIM], value[DIM];
                for (size_t i = 0; i < DIM; i++) {
                    key[i] = rv_rng_normal(rng);
                    value[i] = rv_rng_normal(rng);
                }
                rv_kv_put(seq, k, l, h, p, key, value);
            }
        }
    }
    for (size_t b = 0; b < rv_kv_blocks_before(seq, n - 1); b++) {
        for (size_t l = 0; l < LAYERS; l++) {
            for (size_t h = 0; h < heads[l]; h++) {
                rv_kv_fill(seq, k, l, h, b);
            }
        }
    }
    float *mark = n > 70 ? rv_kv_mark(seq, 64) : NULL;
    for (size_t i = 0; i < CHANNELS * (TAPS - 1); i++) {
        rv_kv_conv(seq, 0)[i] = rv_rng_normal(rng);
        if (mark) {
            mark[i] = rv_rng_normal(rng);
        }
    }
    rv_kv_advance(seq, n);
    rv_kv_rewind(seq, n);
    return seq;
}

static bool equal(const rv_kv_seq *a, const rv_kv_seq *b)
{
    rv_kv_outline x, y;
    rv_kv_outline_get(a, &x);
    rv_kv_outline_get(b, &y);
    bool same = x.n_tokens == y.n_tokens && x.n_blocks == y.n_blocks && x.n_marks == y.n_marks &&
                memcmp(x.marks, y.marks, x.n_marks * sizeof *x.marks) == 0;
    void *p, *q;
    size_t n, m;
    for (size_t i = 0; same && rv_kv_part(a, i, &p, &n); i++) {
        same = rv_kv_part(b, i, &q, &m) && n == m && memcmp(p, q, n) == 0;
    }
    return same;
}

static rv_shelf *open_shelf(const char *dir, uint64_t bytes)
{
    rv_shelf *s = NULL;
    CHECK_OK(rv_shelf_open(&rv_heap, dir, bytes, &s));
    return s;
}

static void write_seq(rv_shelf *s, const rv_kv_seq *seq, const int32_t *ids)
{
    rv_kv_outline outline;
    rv_kv_outline_get(seq, &outline);
    CHECK_OK(rv_shelf_write(s, &ours, &outline, ids, seq));
}

/* The sequence the shelf has for these tokens, or NULL; it must be `want`. */
static bool comes_back(rv_shelf *s, cache *c, const int32_t *ids, size_t n, const rv_kv_seq *want)
{
    rv_shelf_find found;
    if (!rv_shelf_look(s, &ours, ids, n, &found)) {
        return false;
    }
    rv_kv_seq *seq = NULL;
    static int32_t read[MOST];
    CHECK_OK(rv_kv_seq_new(c->kv, MOST, &seq));
    bool good =
        rv_kv_rebuild(seq, &found.outline) == RV_OK && rv_shelf_read(s, &ours, &found, seq, read) == RV_OK;
    if (good) {
        rv_kv_rebuilt(seq, &found.outline);
        CHECK(memcmp(read, ids, found.outline.n_tokens * sizeof *read) == 0, "tokens of another sequence");
        CHECK(equal(seq, want), "other numbers came back");
    }
    rv_kv_seq_free(seq);
    return good;
}

TEST(what_is_put_on_the_shelf_comes_back_bit_for_bit)
{
    static const rv_type types[] = { RV_F16, RV_F32, RV_Q8_0, RV_Q4_1 };
    static const size_t lengths[] = { 1, 15, 16, 64, 65, 128, 200, 399 };
    rv_rng rng;
    rv_rng_init(&rng, 4);
    for (size_t i = 0; i < RV_COUNT(types) * RV_COUNT(lengths); i++) {
        const char *dir = temp_path("kv");
        cache c = new_cache(types[i % RV_COUNT(types)]);
        int32_t ids[MOST];
        size_t n = lengths[i / RV_COUNT(types)];
        rv_kv_seq *seq = random_seq(&c, &rng, n, ids);
        rv_shelf *s = open_shelf(dir, 1 << 24);
        write_seq(s, seq, ids);
        CHECK(comes_back(s, &c, ids, n, seq), "%zu tokens", n);
        rv_shelf_close(s);
        s = open_shelf(dir, 1 << 24); /* after a restart */
        CHECK(comes_back(s, &c, ids, n, seq), "%zu tokens", n);
        rv_shelf_close(s);
        rv_kv_seq_free(seq);
        free_cache(&c);
    }
}

static size_t files_in(const char *dir, char *name)
{
    DIR *folder = opendir(dir);
    size_t n = 0;
    for (struct dirent *e; (e = readdir(folder));) {
        if (e->d_name[0] != '.') {
            snprintf(name, 256, "%s", e->d_name);
            n++;
        }
    }
    closedir(folder);
    return n;
}

TEST(only_the_same_model_program_adapter_and_tenant_find_it)
{
    const char *dir = temp_path("kv");
    cache c = new_cache(RV_F16);
    rv_rng rng;
    rv_rng_init(&rng, 5);
    int32_t ids[MOST];
    rv_kv_seq *seq = random_seq(&c, &rng, 100, ids);
    rv_shelf *s = open_shelf(dir, 1 << 24);
    write_seq(s, seq, ids);
    rv_shelf_find found;
    static const rv_shelf_key others[] = { { 7, 2, 0, 0 }, { 1, 7, 0, 0 }, { 1, 2, 7, 0 }, { 1, 2, 0, 7 } };
    for (size_t i = 0; i < RV_COUNT(others); i++) {
        CHECK(!rv_shelf_look(s, &others[i], ids, 100, &found), "key %zu", i);
    }
    CHECK(rv_shelf_look(s, &ours, ids, 100, &found) && found.reusable == 100, "all of it");
    CHECK(rv_shelf_look(s, &ours, ids, 99, &found) && found.reusable == 64, "to the mark");
    CHECK(!rv_shelf_look(s, &ours, ids, 63, &found), "no mark before");
    int32_t other = ids[70]++;
    CHECK(rv_shelf_look(s, &ours, ids, 100, &found) && found.reusable == 64, "%zu, parted at 70",
          found.reusable);
    ids[70] = other;
    ids[0]++;
    CHECK(!rv_shelf_look(s, &ours, ids, 100, &found), "another beginning");
    rv_shelf_close(s);
    rv_kv_seq_free(seq);
    free_cache(&c);
}

TEST(a_longer_one_replaces_its_beginning_and_the_least_used_goes_first)
{
    const char *dir = temp_path("kv");
    char name[256], path[4096];
    cache c = new_cache(RV_F16);
    rv_rng rng;
    rv_rng_init(&rng, 6);
    static int32_t ids[6][MOST];
    rv_kv_seq *seqs[6];
    for (size_t i = 0; i < 6; i++) {
        seqs[i] = random_seq(&c, &rng, 100, ids[i]);
    }
    rv_shelf *s = open_shelf(dir, 1 << 24);
    write_seq(s, seqs[0], ids[0]);
    uint64_t each = rv_shelf_get_stats(s).bytes;
    memcpy(ids[1], ids[0], 60 * sizeof ids[0][0]); /* shares a beginning, and is no continuation */
    write_seq(s, seqs[1], ids[1]);
    CHECK(rv_shelf_get_stats(s).files == 2 && files_in(dir, name) == 2, "both stay");
    write_seq(s, seqs[0], ids[0]);
    CHECK(rv_shelf_get_stats(s).files == 2 && files_in(dir, name) == 2, "the same again replaces itself");
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600, "mode %o", st.st_mode & 0777);
    CHECK(stat(dir, &st) == 0 && (st.st_mode & 0777) == 0700, "mode %o", st.st_mode & 0777);
    rv_shelf_close(s);

    s = open_shelf(dir, 3 * each + 10);
    write_seq(s, seqs[2], ids[2]);
    CHECK(comes_back(s, &c, ids[1], 100, seqs[1]), "used once more");
    for (size_t i = 3; i < 5; i++) {
        write_seq(s, seqs[i], ids[i]);
        CHECK(rv_shelf_get_stats(s).bytes <= 3 * each && files_in(dir, name) <= 3, "%zu files",
              files_in(dir, name));
    }
    rv_shelf_find found;
    CHECK(!rv_shelf_look(s, &ours, ids[0], 100, &found) && !rv_shelf_look(s, &ours, ids[2], 100, &found),
          "the oldest");
    CHECK(comes_back(s, &c, ids[1], 100, seqs[1]), "it was used");
    rv_shelf_close(s);

    s = open_shelf(dir, each + 10); /* the limit was lowered */
    CHECK(rv_shelf_get_stats(s).files == 1 && files_in(dir, name) == 1, "one has room");
    rv_kv_outline outline;
    rv_kv_outline_get(seqs[5], &outline);
    rv_shelf_close(s);
    s = open_shelf(dir, each - 1);
    CHECK_ERR(rv_shelf_write(s, &ours, &outline, ids[5], seqs[5]), RV_E_TOO_LARGE);
    rv_shelf_close(s);
    for (size_t i = 0; i < 6; i++) {
        rv_kv_seq_free(seqs[i]);
    }
    free_cache(&c);
}

static void put_file(const char *path, const uint8_t *bytes, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0 && write(fd, bytes, n) == (ssize_t)n, "%s", path);
    close(fd);
}

/* Kinds of damage as ../shared/hostile/mangle.py has them; returns the new length. */
static size_t damage(rv_rng *rng, const uint8_t *good, const uint8_t *old, size_t n, uint8_t *out)
{
    size_t page = rv_rng_below(rng, 2) ? 512 : 4096, at = rv_rng_below(rng, n / page + 1) * page;
    size_t from = rv_rng_below(rng, n / page + 1) * page;
    size_t len = n - at < page ? n - at : page, there = n - from < len ? n - from : len;
    memcpy(out, good, n);
    switch (rv_rng_below(rng, 9)) {
    case 0: return rv_rng_below(rng, n);
    case 1: memset(out + n, (int)rv_rng_below(rng, 256), 777); return n + 777;
    case 2: out[rv_rng_below(rng, 256)] ^= (uint8_t)(1u << rv_rng_below(rng, 8)); return n;
    case 3: out[rv_rng_below(rng, n)] ^= (uint8_t)(1u << rv_rng_below(rng, 8)); return n;
    case 4: memset(out + at, 0, len); return n;
    case 5: memset(out + at, 0xff, len); return n;
    case 6: memcpy(out + at, good + from, there); return n;
    case 7: memcpy(out + at, old + at, len); return n;
    default: memcpy(out + at, old + at, n - at); return n;
    }
}

TEST(a_damaged_file_gives_nothing_or_the_same)
{
    enum { ROUNDS = 1500 };
    static uint8_t file[2][1 << 20], bad[(1 << 20) + 777];
    static int32_t ids[2][MOST];
    rv_rng rng;
    rv_rng_init(&rng, 8);
    cache c = new_cache(RV_Q8_0);
    rv_kv_seq *seqs[2];
    size_t n[2];
    char name[256], path[4096];
    const char *dir = NULL;
    for (size_t i = 0; i < 2; i++) { /* of one size, so that pages of the one fit the other */
        dir = temp_path("kv");
        seqs[i] = random_seq(&c, &rng, 200, ids[i]);
        rv_shelf *s = open_shelf(dir, 1 << 24);
        write_seq(s, seqs[i], ids[i]);
        rv_shelf_close(s);
        CHECK(files_in(dir, name) == 1, "one file");
        snprintf(path, sizeof path, "%s/%s", dir, name);
        FILE *f = fopen(path, "rb");
        n[i] = f ? fread(file[i], 1, sizeof file[i], f) : 0;
        fclose(f);
    }
    CHECK(n[0] == n[1] && n[0] > 4096, "%zu and %zu bytes", n[0], n[1]);
    size_t refused = 0, same = 0;
    rv_log_setup(RV_LOG_ERROR, false);
    for (size_t round = 0; round < ROUNDS; round++) {
        size_t m = damage(&rng, file[1], file[0], n[1], bad);
        put_file(path, bad, m);
        rv_shelf *s = open_shelf(dir, 1 << 24);
        bool whole = m == n[1] && memcmp(bad, file[1], m) == 0,
             old = m == n[0] && memcmp(bad, file[0], m) == 0;
        bool good = comes_back(s, &c, ids[1], 200, seqs[1]); /* checks that nothing else comes back */
        CHECK(good == whole, "round %zu: came back %d, untouched %d", round, good, whole);
        rv_shelf_find found;
        if (!whole && !old) {
            CHECK(!rv_shelf_look(s, &ours, ids[1], 200, &found) || !comes_back(s, &c, ids[1], 200, seqs[1]),
                  "once");
            if (rv_shelf_look(s, &ours, ids[0], 200, &found)) {
                CHECK(!comes_back(s, &c, ids[0], 200, seqs[0]), "round %zu: the older one", round);
            }
            /* it stays listed only when its first tokens are nobody's any more, so that nobody finds it */
            bool listed =
                rv_shelf_look(s, &ours, ids[1], 200, &found) || rv_shelf_look(s, &ours, ids[0], 200, &found);
            CHECK(!listed && (files_in(dir, name) == 0 || rv_shelf_get_stats(s).files == 1), "round %zu",
                  round);
        }
        rv_shelf_close(s);
        refused += !good;
        same += good;
    }
    CHECK(refused > ROUNDS / 2 && same > 0, "%zu refused, %zu the same", refused, same);
    /* what stood beside it from a crash goes, what is not ours stays */
    snprintf(path, sizeof path, "%s/new.abcdef", dir);
    put_file(path, bad, 10);
    snprintf(path, sizeof path, "%s/README", dir);
    put_file(path, bad, 10);
    rv_shelf_close(open_shelf(dir, 1 << 24));
    CHECK(files_in(dir, name) >= 1 && access(path, F_OK) == 0, "somebody else's file");
    snprintf(path, sizeof path, "%s/new.abcdef", dir);
    CHECK(access(path, F_OK) != 0, "a trace of a crash");
    for (size_t i = 0; i < 2; i++) {
        rv_kv_seq_free(seqs[i]);
    }
    free_cache(&c);
}

TEST(a_file_exchanged_while_it_is_listed_gives_nothing)
{
    char name[256], path[4096];
    const char *dir = temp_path("kv");
    cache c = new_cache(RV_F16);
    rv_rng rng;
    rv_rng_init(&rng, 9);
    static int32_t ids[2][MOST];
    rv_kv_seq *a = random_seq(&c, &rng, 90, ids[0]), *b = random_seq(&c, &rng, 50, ids[1]);
    rv_shelf *s = open_shelf(dir, 1 << 24);
    write_seq(s, a, ids[0]);
    files_in(dir, name);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    write_seq(s, b, ids[1]);
    char other[4096];
    snprintf(other, sizeof other, "%s/%016x.kv", dir, 2);
    CHECK(access(other, F_OK) == 0 && rename(other, path) == 0, "%s", other);
    CHECK(!comes_back(s, &c, ids[0], 90, a), "the other one's bytes");
    CHECK(!comes_back(s, &c, ids[1], 50, b), "it is gone");
    CHECK(rv_shelf_get_stats(s).files == 0, "%zu files", rv_shelf_get_stats(s).files);
    rv_shelf_close(s);
    rv_kv_seq_free(a);
    rv_kv_seq_free(b);
    free_cache(&c);
}

/* No more files can be opened for a while, which a busy server knows. */
TEST(a_file_that_cannot_be_opened_now_is_read_later)
{
    cache c = new_cache(RV_F16);
    rv_rng rng;
    rv_rng_init(&rng, 10);
    int32_t ids[MOST];
    rv_kv_seq *seq = random_seq(&c, &rng, 100, ids), *again = NULL;
    rv_shelf *s = open_shelf(temp_path("kv"), 1 << 24);
    write_seq(s, seq, ids);
    rv_shelf_find found;
    CHECK(rv_shelf_look(s, &ours, ids, 100, &found), "it is there");
    CHECK_OK(rv_kv_seq_new(c.kv, MOST, &again));
    CHECK_OK(rv_kv_rebuild(again, &found.outline));
    struct rlimit all, none;
    CHECK(getrlimit(RLIMIT_NOFILE, &all) == 0, "limit");
    int next = dup(0);
    none = (struct rlimit){ (rlim_t)next, all.rlim_max };
    close(next);
    rv_log_setup(RV_LOG_ERROR, false);
    CHECK(next >= 0 && setrlimit(RLIMIT_NOFILE, &none) == 0, "limit");
    rv_err e = rv_shelf_read(s, &ours, &found, again, ids);
    CHECK(setrlimit(RLIMIT_NOFILE, &all) == 0, "limit");
    CHECK(e == RV_E_IO, "%s: %s", rv_err_name(e), rv_err_text());
    rv_kv_seq_free(again);
    CHECK(comes_back(s, &c, ids, 100, seq), "it is gone");
    rv_shelf_close(s);
    rv_kv_seq_free(seq);
    free_cache(&c);
}
