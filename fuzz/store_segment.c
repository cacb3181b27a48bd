/* Any bytes are a vector file whose rows come back with the right sum, or are refused; appending goes on either way. The first
 * byte chooses what is made right again after the fuzzer changed it, so that it gets past the checksums. */
#include "store/segment.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

enum { DIM = 4, HEADER = 4096, STRIDE = 64, ROWS = 8, FIX_HEADER = 1, FIX_ROWS = 2 };

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
        snprintf(path, sizeof path, "%s/00000001.seg", dir);
        atexit(leave);
    }
}

static void fix(uint8_t *file, size_t n, uint8_t what)
{
    if (what & FIX_HEADER && n >= HEADER) {
        uint64_t sum = XXH64(file, HEADER - 8, 0);
        memcpy(file + HEADER - 8, &sum, 8);
    }
    for (uint32_t i = 0; what & FIX_ROWS && i < ROWS && HEADER + (i + 1) * STRIDE <= n; i++) {
        uint8_t *row = file + HEADER + i * STRIDE;
        uint64_t id = i + 1, sum;
        memcpy(row + DIM * 4, &id, 8);
        sum = XXH64(row, DIM * 4 + 8, (uint64_t)1 << 32 | i);
        memcpy(row + DIM * 4 + 8, &sum, 8);
    }
}

static bool put_file(const uint8_t *file, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    bool good = fd >= 0 && write(fd, file, n) == (ssize_t)n;
    close(fd);
    return good;
}

static void use(rv_segments *s)
{
    const float *row;
    for (uint32_t i = 0; i < ROWS; i++) {
        rv_err e = rv_segments_get(s, (rv_segment_row){ 1, i }, i + 1, &row);
        assert(e == RV_OK || e == RV_E_CORRUPT);
        float sum = 0;
        for (size_t d = 0; !e && d < DIM; d++) {
            sum += row[d]; /* readable */
        }
        (void)sum;
    }
    static const float vectors[DIM] = { 1, 0, 0, 0 };
    rv_segment_row at;
    assert(rv_segments_append(s, &(int64_t){ 77 }, vectors, 1, &at) == RV_OK);
    assert(rv_segments_get(s, at, 77, &row) == RV_OK && memcmp(row, vectors, sizeof vectors) == 0);
    char second[128];
    snprintf(second, sizeof second, "%s/%08u.seg", dir, at.segment);
    if (at.segment != 1) {
        unlink(second);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 1 || n > 3 * HEADER) {
        return 0;
    }
    enter();
    uint8_t *file = malloc(n);
    assert(file);
    memcpy(file, data + 1, n - 1);
    fix(file, n - 1, data[0]);
    assert(put_file(file, n - 1));
    free(file);
    rv_segment_config config = {
        .dir = dir, .store = 0x0807060504030201, .embedder = "fuzz", .dim = DIM, .max_bytes = 8192
    };
    rv_segments *s = NULL;
    rv_err e = rv_segments_open(&rv_heap, &config, &s);
    assert(e == RV_OK || e == RV_E_CORRUPT ||
           e == RV_E_NOMEM); /* NOMEM: a header may ask for a larger mapping than there is */
    if (!e) {
        use(s);
    }
    rv_segments_close(s);
    return 0;
}
