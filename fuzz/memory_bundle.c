/* Two readers of a bundle. An input that begins with an even byte is a head: it is refused, or its witness fits and the files it names are
 * read. One that begins with an odd byte is lines of nodes, then after a byte 0 lines of edges, published with a head that fits them: each
 * line is refused, or is a node within the limits; a lake reads it too, and all three agree. */
#include "memory/bundle.h"
#include "memory/lake.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DIM = 4, ARENA = 32 << 20 };

static rv_err no_text(const void *self, const char *text, size_t n, float *out)
{
    (void)self, (void)text, (void)n;
    memset(out, 0, DIM * sizeof *out);
    return RV_OK;
}

static const char *folder(void)
{
    static char dir[64];
    if (!dir[0]) {
        snprintf(dir, sizeof dir, "%s",
                 access("/dev/shm", W_OK) == 0 ? "/dev/shm/ruvllm-fuzz.XXXXXX" : "/tmp/ruvllm-fuzz.XXXXXX");
        if (!mkdtemp(dir)) {
            abort();
        }
    }
    return dir;
}

static void publish(const char *dir, const char *nodes, size_t n_nodes, const char *edges, size_t n_edges)
{
    rv_bundle_writer *w;
    rv_bundle_head head = { .data_ref = "fuzz",
                            .space = "toy",
                            .dim = DIM,
                            .n_nodes = 3,
                            .n_vectors = 2,
                            .n_edges = 2,
                            .next_id = 1000 };
    char witness[RV_BUNDLE_HEX + 1];
    uint32_t dim = DIM;
    static const float row[DIM] = { 1, 0, 0, 0 };
    assert(rv_bundle_create(&rv_heap, dir, &w) == RV_OK);
    assert(rv_bundle_write(w, RV_BUNDLE_NODES, nodes, n_nodes) == RV_OK &&
           rv_bundle_write(w, RV_BUNDLE_EDGES, edges, n_edges) == RV_OK);
    for (int i = 0; i < 2; i++) {
        assert(rv_bundle_write(w, RV_BUNDLE_VECTORS, &dim, sizeof dim) == RV_OK);
        assert(rv_bundle_write(w, RV_BUNDLE_VECTORS, row, sizeof row) == RV_OK);
    }
    assert(rv_bundle_publish(w, &head, witness) == RV_OK);
    rv_bundle_writer_free(w);
}

static void read_all(const rv_bundle *b)
{
    rv_arena *arena;
    assert(rv_arena_new(&rv_heap, ARENA, &arena) == RV_OK);
    for (size_t at = 0, more = 1; more;) {
        rv_bundle_node n;
        bool next;
        rv_arena_reset(arena);
        if (rv_bundle_read_node(b, &at, arena, &n, &next)) {
            break;
        }
        more = next;
        assert(!next || (n.node.id > 0 && n.vector < (int64_t)b->head.n_vectors && n.node.confidence >= 0 &&
                         n.node.confidence <= 1));
    }
    for (size_t at = 0, more = 1; more;) {
        rv_bundle_edge e;
        bool next;
        rv_arena_reset(arena);
        if (rv_bundle_read_edge(b, &at, arena, &e, &next)) {
            break;
        }
        more = next;
        assert(!next || (e.from > 0 && e.to > 0 && isfinite(e.weight)));
    }
    rv_arena_free(arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const char *dir = folder();
    char path[128];
    rv_bundle b;
    if (n < 1 || n > 1 << 20) {
        return 0;
    }
    snprintf(path, sizeof path, "%s/%s", dir, RV_BUNDLE_FILE);
    if (data[0] & 1) {
        const uint8_t *zero = memchr(data + 1, 0, n - 1);
        size_t n_nodes = zero ? (size_t)(zero - data) - 1 : n - 1;
        unlink(path);
        publish(dir, (const char *)data + 1, n_nodes, zero ? (const char *)zero + 1 : "",
                zero ? n - n_nodes - 2 : 0);
        assert(rv_bundle_open(&rv_heap, dir, &b) == RV_OK);
        read_all(&b);
        rv_bundle_close(&b);
        rv_lake *lake;
        rv_lake_hits hits;
        rv_arena *arena;
        assert(rv_lake_new(&rv_heap, (rv_memory_embedder){ .name = "toy", .dim = DIM, .text = no_text }, 0,
                           &lake) == RV_OK);
        assert(rv_lake_add(lake, dir, RV_LAKE_FRESH, 0) == RV_OK &&
               rv_arena_new(&rv_heap, ARENA, &arena) == RV_OK);
        (void)!rv_lake_search(lake, (const float[DIM]){ 1, 1, 0, 0 }, 10, arena, &hits);
        rv_arena_free(arena);
        rv_lake_free(lake);
        return 0;
    }
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data + 1, 1, n - 1, f) != n - 1 || fclose(f) != 0) {
        abort();
    }
    if (rv_bundle_open(&rv_heap, dir, &b) == RV_OK) {
        read_all(&b);
        rv_bundle_close(&b);
    }
    return 0;
}
