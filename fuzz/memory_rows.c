/* Lines of .jsonl from anybody: each becomes a node within its limits, or is refused with its number; the store stays whole. The input's first
 * byte says what kind of file the rest is. */
#include "memory/memory.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static rv_err toy(const void *self, const char *text, size_t n, float *out)
{
    (void)self;
    for (size_t i = 0; i < 4; i++) {
        out[i] = 0;
    }
    out[n ? (unsigned char)text[0] % 4 : 0] = 1;
    return RV_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char *const names[] = { "a.jsonl", "a.md", "a.html", "a.txt" };
    static rv_db *db;
    static rv_memory *m;
    static size_t runs;
    if (!m) {
        static char dir[64];
        snprintf(dir, sizeof dir, "%s",
                 access("/dev/shm", W_OK) == 0 ? "/dev/shm/ruvllm-fuzz.XXXXXX" : "/tmp/ruvllm-fuzz.XXXXXX");
        if (!mkdtemp(dir) || rv_db_open(&rv_heap, dir, &db) ||
            rv_memory_open(&rv_heap, db, dir, (rv_memory_embedder){ .name = "toy", .dim = 4, .text = toy },
                           &m)) {
            abort();
        }
    }
    if (n < 1) {
        return 0;
    }
    rv_memory_import done = { 0 };
    rv_err e = rv_memory_import_bytes(m, rv_memory_of(NULL), names[data[0] % 4], (const char *)data + 1,
                                      n - 1, NULL, 0, &done);
    assert(e == RV_OK || e == RV_E_FORMAT || e == RV_E_ARG || e == RV_E_TOO_LARGE || e == RV_E_NOMEM);
    if (++runs % 512 == 0) {
        size_t removed;
        assert(rv_memory_check(m) == RV_OK);
        assert(rv_memory_rm(m, rv_memory_whole(), 0, &(rv_memory_filter){ .until_ms = INT64_MAX },
                            &removed) == RV_OK);
    }
    return 0;
}
