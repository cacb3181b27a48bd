/* Any bytes are an embedder file that embeds any text at length 1 or 0, or are refused. The first byte chooses whether the
 * checksum is made right again after the fuzzer changed the file; behind the file stands the text. */
#include "embed/embed_priv.h"
#include "base/rng.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TEXT_BYTES = 48, DIM_MAX = 4096 };

static char path[64];

static void leave(void)
{
    unlink(path);
}

static void enter(void)
{
    if (!path[0]) {
        snprintf(path, sizeof path, "%s/ruvllm-fuzz-%ld.rvemb",
                 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", (long)getpid());
        atexit(leave);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 1 + TEXT_BYTES) {
        return 0;
    }
    enter();
    size_t n_file = n - 1 - TEXT_BYTES;
    uint8_t *file = malloc(n_file + 1);
    assert(file);
    memcpy(file, data + 1, n_file);
    if (data[0] & 1 && n_file >= 8) {
        uint64_t sum = rv_hash64(file, n_file - 8, 0);
        memcpy(file + n_file - 8, &sum, 8);
    }
    FILE *out = fopen(path, "wb");
    assert(out && fwrite(file, 1, n_file, out) == n_file && fclose(out) == 0);
    rv_static *s = NULL;
    if (rv_static_open(&rv_heap, path, &s) == RV_OK) {
        float v[DIM_MAX];
        rv_static_text(s, (const char *)data + n - TEXT_BYTES, TEXT_BYTES, v);
        double length = 0;
        for (size_t i = 0; i < rv_static_dim(s); i++) {
            length += (double)v[i] * (double)v[i];
        }
        assert(length == 0 || fabs(length - 1) <= 1e-4);
    }
    rv_static_close(s);
    free(file);
    return 0;
}
