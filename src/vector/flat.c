/* Exact search: the query is compared with every row. 384 floats are 1.5 KB, so the scan moves memory and little else;
 * the filter is asked only about rows that would enter the best k, which soon are few. Ids are kept in ascending order. */
#include "vector/index.h"
#include "kernels/kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct entry {
    int64_t id;
    const float *row;
} entry;

struct rv_index {
    const rv_alloc *mem;
    const rv_kernels *kernels;
    size_t dim;
    entry *at; /* [n] ascending ids */
    size_t n, room;
};

rv_err rv_index_new(const rv_alloc *mem, const char *kind, size_t dim, rv_index **out)
{
    if (strcmp(kind, "flat") != 0) {
        return rv_fail(RV_E_NOT_FOUND, "there is no index \"%s\"; there is: flat", kind);
    }
    rv_index *index = rv_new(mem, sizeof *index);
    if (!index) {
        return rv_fail(RV_E_NOMEM, "no memory for an index");
    }
    *index = (rv_index){ .mem = mem, .kernels = rv_kernels_best(), .dim = dim };
    *out = index;
    return RV_OK;
}

void rv_index_free(rv_index *index)
{
    if (index) {
        rv_free(index->mem, index->at);
        rv_free(index->mem, index);
    }
}

size_t rv_index_count(const rv_index *index)
{
    return index->n;
}

rv_err rv_index_reserve(rv_index *index, size_t n)
{
    if (n <= index->room - index->n) {
        return RV_OK;
    }
    if (n > RV_INDEX_ROWS_MAX - index->n) {
        return rv_fail(RV_E_FULL, "an index holds at most %zu vectors", RV_INDEX_ROWS_MAX);
    }
    size_t room = index->n + n;
    room = room > 2 * index->room ? room : 2 * index->room;
    entry *at = rv_resize(index->mem, index->at, room * sizeof *at);
    if (!at) {
        return rv_fail(RV_E_NOMEM, "no memory for an index of %zu vectors", room);
    }
    index->at = at;
    index->room = room;
    return RV_OK;
}

void rv_index_add(rv_index *index, int64_t id, const float *row)
{
    size_t place = index->n; /* new ids are the highest: no step but after a rebuild */
    while (place > 0 && index->at[place - 1].id > id) {
        index->at[place] = index->at[place - 1];
        place--;
    }
    index->at[place] = (entry){ id, row };
    index->n++;
}

size_t rv_index_remove(rv_index *index, const int64_t *ids, size_t n)
{
    size_t kept = 0, next = 0, before = index->n;
    for (size_t i = 0; i < index->n; i++) {
        while (next < n && ids[next] < index->at[i].id) {
            next++;
        }
        if (next == n || ids[next] != index->at[i].id) {
            index->at[kept++] = index->at[i];
        }
    }
    index->n = kept;
    return before - kept;
}

/* ---- search: hits is a heap with the worst on top, until it is sorted at the end ---- */

static bool better(rv_hit a, rv_hit b)
{
    return a.score > b.score || (a.score == b.score && a.id < b.id);
}

static void sift_down(rv_hit *heap, size_t n, size_t at)
{
    rv_hit moving = heap[at];
    for (;;) {
        size_t child = 2 * at + 1;
        if (child + 1 < n && better(heap[child], heap[child + 1])) {
            child++;
        }
        if (child >= n || !better(moving, heap[child])) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moving;
}

static void push(rv_hit *heap, size_t *n, size_t k, rv_hit hit)
{
    if (*n == k) {
        heap[0] = hit;
        sift_down(heap, k, 0);
        return;
    }
    size_t at = (*n)++;
    for (; at > 0 && better(heap[(at - 1) / 2], hit); at = (at - 1) / 2) {
        heap[at] = heap[(at - 1) / 2];
    }
    heap[at] = hit;
}

bool rv_index_cosine(const rv_index *index, const float *query, int64_t id, float *out)
{
    size_t low = 0, high = index->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (index->at[middle].id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == index->n || index->at[low].id != id) {
        return false;
    }
    *out = index->kernels->dot_f32(query, index->at[low].row, index->dim);
    return true;
}

void rv_index_search(const rv_index *index, const float *query, size_t k, rv_index_filter filter,
                     const void *self, rv_hit *hits, size_t *found)
{
    size_t n = 0;
    for (size_t i = 0; k > 0 && i < index->n; i++) {
        rv_hit hit = { index->at[i].id, index->kernels->dot_f32(query, index->at[i].row, index->dim) };
        if ((n < k || better(hit, hits[0])) && (!filter || filter(self, hit.id))) {
            push(hits, &n, k, hit);
        }
    }
    *found = n;
    while (n > 1) { /* the worst goes to the end */
        rv_hit worst = hits[0];
        hits[0] = hits[--n];
        sift_down(hits, n, 0);
        hits[n] = worst;
    }
}

rv_err rv_index_check(const rv_index *index)
{
    for (size_t i = 0; i < index->n; i++) {
        if (i > 0 && index->at[i - 1].id >= index->at[i].id) {
            return rv_fail(RV_E_CORRUPT, "index: id %lld stands after %lld", (long long)index->at[i].id,
                           (long long)index->at[i - 1].id);
        }
        double length = 0;
        for (size_t d = 0; d < index->dim; d++) {
            length += (double)index->at[i].row[d] * index->at[i].row[d];
        }
        if (length != 0 && !(fabs(length - 1) <= 1e-3)) {
            return rv_fail(RV_E_CORRUPT, "index: vector of %lld has length %g, expected 1 or 0",
                           (long long)index->at[i].id, sqrt(length));
        }
    }
    return RV_OK;
}
