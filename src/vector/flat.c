/* Exact search: the query is compared with every vector. The scan moves memory and little else; the filter is asked only about
 * rows that would enter the best k, which soon are few. */
#include "vector/index_priv.h"

static rv_err open_flat(rv_index *index, const rv_sections *file)
{
    (void)index;
    (void)file;
    return RV_OK;
}

static rv_err reserve(rv_index *index, size_t n, bool was_mapped)
{
    (void)n;
    for (uint32_t slot = 0; was_mapped && slot < index->rows.n; slot++) {
        if (!rv_rows_live(&index->rows, slot)) {
            rv_rows_recycle(&index->rows, slot);
        }
    }
    return RV_OK;
}

static void add(rv_index *index, uint32_t slot)
{
    (void)index;
    (void)slot;
}

static void remove_slots(rv_index *index, const uint32_t *slots, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        rv_rows_recycle(&index->rows, slots[i]);
    }
}

const rv_index_ops rv_flat_ops = {
    .kind = "flat",
    .scratch_bytes = sizeof(rv_scratch),
    .open = open_flat,
    .reserve = reserve,
    .add = add,
    .remove = remove_slots,
    .search = rv_index_scan,
};
