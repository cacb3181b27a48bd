/* Nothing here is synced to the disk: a file that a power failure left half written has wrong checksums, and is made
 * again. The bytes are written through the mapping that is read afterwards, so they are in memory once. */
#include "model/packed.h"
#include "base/alloc.h"
#include "base/file.h"
#include "base/rng.h"
#include "kernels/kernels.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { VERSION = 1, BLOCK = 1 << 20, PAGE = 4096 };

/* Integers little-endian, as on every machine this runs on. */
typedef struct header {
    char magic[8];
    uint32_t version, layout;
    uint64_t fingerprint, bytes; /* of the model file; of the weights */
    uint64_t sums;               /* XXH64 of the table of checksums */
    uint64_t self;               /* XXH64 of all above */
} header;

static const char magic[8] = "RVPACKED";

static size_t blocks_of(size_t bytes)
{
    return bytes / BLOCK + (bytes % BLOCK != 0);
}

/* Where the weights begin: behind header and checksums, at a page. 0: too many bytes to be true. */
static size_t weights_at(size_t bytes)
{
    size_t at = sizeof(header) + blocks_of(bytes) * sizeof(uint64_t);
    return bytes < SIZE_MAX / 2 ? (at + PAGE - 1) / PAGE * PAGE : 0;
}

/* ---- checksums ---- */

typedef struct sum_job {
    const uint8_t *weights;
    uint64_t *sums;        /* to be written; NULL: to be compared */
    const uint8_t *expect; /* [n_blocks] uint64, unaligned */
    size_t bytes;
    atomic_size_t wrong; /* a block that differs, plus one */
} sum_job;

static void sum_blocks(void *arg, int thread, int n_threads)
{
    sum_job *job = arg;
    size_t from, to;
    rv_pool_split(blocks_of(job->bytes), 1, thread, n_threads, &from, &to);
    for (size_t i = from; i < to; i++) {
        size_t left = job->bytes - i * BLOCK;
        uint64_t sum = rv_hash64(job->weights + i * BLOCK, left < BLOCK ? left : BLOCK, i);
        if (job->sums) {
            job->sums[i] = sum;
        } else if (memcmp(&sum, job->expect + i * sizeof sum, sizeof sum) != 0) {
            atomic_store(&job->wrong, i + 1);
        }
    }
}

rv_err rv_packed_check(const uint8_t *file, size_t n, uint64_t fingerprint, size_t bytes, rv_pool *pool)
{
    header h;
    if (n < sizeof h) {
        return rv_fail(RV_E_CORRUPT, "%zu bytes, no header", n);
    }
    memcpy(&h, file, sizeof h);
    if (memcmp(h.magic, magic, sizeof magic) != 0) {
        return rv_fail(RV_E_FORMAT, "not a file of packed weights");
    }
    if (h.self != rv_hash64(&h, offsetof(header, self), 0)) {
        return rv_fail(RV_E_CORRUPT, "its header is damaged");
    }
    if (h.version != VERSION || h.layout != RV_PACK_LAYOUT) {
        return rv_fail(RV_E_FORMAT, "version %u with layout %u, this program has %d and %d", h.version,
                       h.layout, VERSION, RV_PACK_LAYOUT);
    }
    if (h.fingerprint != fingerprint || h.bytes != bytes) {
        return rv_fail(RV_E_FORMAT, "made from another model file");
    }
    size_t at = weights_at(bytes), sums = blocks_of(bytes) * sizeof(uint64_t);
    if (!at || n < at || n - at != bytes) {
        return rv_fail(RV_E_CORRUPT, "%zu bytes, expected %zu", n, at + bytes);
    }
    if (h.sums != rv_hash64(file + sizeof h, sums, 0)) {
        return rv_fail(RV_E_CORRUPT, "its checksums are damaged");
    }
    sum_job job = { .weights = file + at, .expect = file + sizeof h, .bytes = bytes };
    rv_pool_run(pool, sum_blocks, &job);
    size_t wrong = atomic_load(&job.wrong);
    return wrong ? rv_fail(RV_E_CORRUPT, "block %zu is damaged", wrong - 1) : RV_OK;
}

/* ---- files ---- */

rv_err rv_packed_open(const char *path, uint64_t fingerprint, size_t bytes, rv_pool *pool, rv_packed *out)
{
    rv_map map;
    RV_TRY(rv_file_map(path, &map));
    if (map.n) {
        madvise((void *)(uintptr_t)map.at, map.n, MADV_HUGEPAGE); /* refused: only slower; the same below */
        madvise((void *)(uintptr_t)map.at, map.n, MADV_WILLNEED);
    }
    rv_err e = rv_packed_check(map.at, map.n, fingerprint, bytes, pool);
    if (e) {
        rv_file_unmap(&map);
        return e;
    }
    uint8_t *at = (uint8_t *)(uintptr_t)map.at;
    *out = (rv_packed){ .map = at, .map_bytes = map.n, .weights = at + weights_at(bytes), .bytes = bytes };
    return RV_OK;
}

static rv_err begin_file(int fd, const char *path, size_t bytes, rv_packed *out)
{
    size_t n = weights_at(bytes) + bytes;
    int failed = posix_fallocate(fd, 0, (off_t)n); /* a full disk shows here, not as a signal while packing */
    if (failed) {
        return rv_fail(RV_E_IO, "%s: %s", path, strerror(failed));
    }
    void *map = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        return rv_fail(RV_E_IO, "%s: %s", path, strerror(errno));
    }
    madvise(map, n, MADV_HUGEPAGE);
    out->map = map;
    out->map_bytes = n;
    out->weights = out->map + weights_at(bytes);
    out->bytes = bytes;
    return RV_OK;
}

rv_err rv_packed_begin(const char *path, size_t bytes, rv_packed *out)
{
    if (!weights_at(bytes)) {
        return rv_fail(RV_E_IO, "%s: %zu bytes of weights", path, bytes);
    }
    size_t n = strlen(path) + sizeof ".XXXXXX";
    char *name = malloc(n);
    if (!name) {
        return rv_fail(RV_E_NOMEM, "%s", path);
    }
    snprintf(name, n, "%s.XXXXXX", path);
    int fd = mkostemp(name, O_CLOEXEC); /* mode 0600 */
    if (fd < 0) {
        rv_err e = rv_fail(RV_E_IO, "%s: %s", path, strerror(errno));
        free(name);
        return e;
    }
    *out = (rv_packed){ .temporary = name };
    rv_err e = begin_file(fd, path, bytes, out);
    close(fd);
    if (e) {
        rv_packed_close(out);
    }
    return e;
}

rv_err rv_packed_commit(rv_packed *p, const char *path, uint64_t fingerprint, rv_pool *pool)
{
    size_t n_sums = blocks_of(p->bytes) * sizeof(uint64_t);
    sum_job job = { .weights = p->weights,
                    .sums = (uint64_t *)(void *)(p->map + sizeof(header)),
                    .bytes = p->bytes };
    rv_pool_run(pool, sum_blocks, &job);
    header h = {
        .version = VERSION, .layout = RV_PACK_LAYOUT, .fingerprint = fingerprint, .bytes = p->bytes
    };
    memcpy(h.magic, magic, sizeof magic);
    h.sums = rv_hash64(job.sums, n_sums, 0);
    h.self = rv_hash64(&h, offsetof(header, self), 0);
    memcpy(p->map, &h, sizeof h);
    if (mprotect(p->map, p->map_bytes, PROT_READ) < 0 || rename(p->temporary, path) < 0) {
        return rv_fail(RV_E_IO, "%s: %s", path, strerror(errno));
    }
    free(p->temporary);
    p->temporary = NULL;
    return RV_OK;
}

void rv_packed_close(rv_packed *p)
{
    if (p->map) {
        munmap(p->map, p->map_bytes);
    }
    if (p->temporary) {
        unlink(p->temporary);
        free(p->temporary);
    }
    *p = (rv_packed){ 0 };
}
