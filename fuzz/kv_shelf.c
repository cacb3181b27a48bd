/* Any bytes are a conversation that is refused, or one whose tokens and numbers are those in the bytes. The first byte
 * chooses which checksums are made right again after the fuzzer changed the rest. */
#include "kv/shelf.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

enum { HEADER = 256, SUM_AT = HEADER - 8, MOST = 300, FIX_HEADER = 1, FIX_BODY = 2, QUANTISED = 4 };

static char dir[64], path[128];

static void leave(void)
{
    unlink(path);
    rmdir(dir);
}

static void enter(void)
{
    if (!dir[0]) {
        snprintf(dir, sizeof dir, "%s/ruvllm-fuzz.XXXXXX",
                 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        assert(mkdtemp(dir));
        snprintf(path, sizeof path, "%s/%016x.kv", dir, 1);
        atexit(leave);
    }
}

static void fix(uint8_t *file, size_t n, uint8_t what)
{
    if (n < HEADER + 8) {
        return;
    }
    uint64_t sum;
    if (what & FIX_HEADER) {
        sum = XXH64(file, SUM_AT, 0);
        memcpy(file + SUM_AT, &sum, 8);
    }
    memcpy(&sum, file + SUM_AT, 8);
    if (what & FIX_BODY) {
        sum = XXH64(file + HEADER, n - HEADER - 8, sum);
        memcpy(file + n - 8, &sum, 8);
    }
}

static void use(rv_shelf *s, const uint8_t *file, size_t n, bool quantised)
{
    static const uint32_t heads[2] = { 1, 0 };
    rv_kv_shape shape = { .type = quantised ? RV_Q4_1 : RV_F16,
                          .n_layers = 2,
                          .n_kv_heads = heads,
                          .head_dim = 16,
                          .conv_channels = 2,
                          .conv_taps = 3,
                          .window = RV_KVQ_TOKENS };
    rv_budget *budget = NULL;
    rv_kv *kv = NULL;
    rv_kv_seq *seq = NULL;
    rv_shelf_key key;
    rv_shelf_find found;
    static int32_t asked[MOST], ids[1 << 16];
    assert(!rv_budget_new(&rv_heap, 1 << 20, &budget) && !rv_kv_new(&rv_heap, &shape, budget, &kv) &&
           !rv_kv_seq_new(kv, MOST, &seq));
    memcpy(&key, file + 16, sizeof key);
    size_t n_asked = (n - HEADER) / 4 < MOST ? (n - HEADER) / 4 : MOST;
    memcpy(asked, file + HEADER, n_asked * sizeof *asked);
    if (rv_shelf_look(s, &key, asked, n_asked, &found)) {
        assert(found.reusable && found.reusable <= n_asked && found.reusable <= found.outline.n_tokens);
        if (!rv_kv_rebuild(seq, &found.outline)) {
            if (!rv_shelf_read(s, &key, &found, seq, ids)) {
                rv_kv_rebuilt(seq, &found.outline);
                assert(memcmp(ids, asked, found.reusable * sizeof *ids) == 0);
                assert(rv_kv_rewind(seq, found.reusable) == found.reusable);
                assert(rv_kv_check(kv) == RV_OK);
            } else {
                assert(!rv_shelf_look(s, &key, asked, n_asked, &found));
            }
        }
    }
    rv_kv_seq_free(seq);
    rv_kv_free(kv);
    rv_budget_free(budget);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 1 || n > 1 << 18) {
        return 0;
    }
    enter();
    uint8_t what = data[0], *file = malloc(n);
    assert(file);
    memcpy(file, data + 1, --n);
    fix(file, n, what);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert(fd >= 0 && write(fd, file, n) == (ssize_t)n);
    close(fd);
    rv_shelf *s = NULL;
    assert(rv_shelf_open(&rv_heap, dir, 1 << 20, &s) == RV_OK);
    if (n >= HEADER) {
        use(s, file, n, what & QUANTISED);
    }
    rv_shelf_close(s);
    free(file);
    return 0;
}
