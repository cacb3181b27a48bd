/* Any bytes are learned edges, as many as they say and of weights that a graph takes, or are refused. */
#include "learn/overlay.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    rv_memory_edge *edges = NULL;
    size_t many = 0;
    if (rv_overlay_parse(data, n, "creative", &edges, &many)) {
        assert(!edges && *rv_err_text());
        return 0;
    }
    assert(n == 16 + 20 * many);
    for (size_t i = 0; i < many; i++) {
        assert(edges[i].weight > 0 && edges[i].weight <= 1 && strcmp(edges[i].type, "creative") == 0);
    }
    rv_free(&rv_heap, edges);
    return 0;
}
