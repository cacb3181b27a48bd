/* Index files (docs/formats/index.md): one header, the arrays of rows and kind as they lie in memory, a checksum for every 64 KB.
 * Opening reads the header, the checksums and what is small; everything else is read where it lies. */
#include "base/rng.h"
#include "vector/index_priv.h"

#include <math.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "index files are mapped: this needs a little-endian machine"
#endif

enum {
    VERSION = 1,
    HEADER_BYTES = 4096,
    KIND_BYTES = 16,
    TAG_CODES = 1,
    TAG_SCALES,
    TAG_IDS,
    TAG_LIVE,
    TAG_KEPT,
    TAG_MAP,
    TAG_MATRIX,
    FIND_TOGETHER = 4096
};
static const char magic[8] = { 'R', 'V', 'I', 'D', 'X', '\r', '\n', 26 };

typedef struct header {
    char magic[8];
    uint32_t version, bytes; /* VERSION, HEADER_BYTES */
    char kind[KIND_BYTES];
    uint32_t metric, keep;
    uint64_t dim, seed, m, m0, ef_build, ef, lists, probes, bits;
    uint64_t n_slots, n_live, n_sections, file_bytes,
        sums_at; /* sums: XXH64 of each page before them, then of these */
    struct {
        uint64_t tag, at, n;
    } sections[RV_SECTIONS_MAX];
    uint32_t rotation, unused;
} header;
_Static_assert(sizeof(header) <= HEADER_BYTES - 8, "the header's own checksum is its last 8 bytes");

void rv_sections_put(rv_sections *s, uint32_t tag, const void *at, size_t n)
{
    s->at[s->n++] = (rv_section){ tag, at, n };
}

rv_err rv_sections_map(const rv_sections *s, uint32_t tag, size_t n, const void **out)
{
    for (size_t i = 0; i < s->n; i++) {
        if (s->at[i].tag == tag && s->at[i].n == n) {
            *out = s->at[i].at;
            return RV_OK;
        }
        if (s->at[i].tag == tag) {
            return rv_fail(RV_E_CORRUPT, "index file: part %u has %zu bytes, expected %zu", tag, s->at[i].n,
                           n);
        }
    }
    return rv_fail(RV_E_CORRUPT, "index file: part %u is missing", tag);
}

rv_err rv_sections_get(const rv_sections *s, uint32_t tag, size_t n, const void **out)
{
    RV_TRY(rv_sections_map(s, tag, n, out));
    rv_pages_touch(s->pages, *out, n);
    return rv_pages_state(s->pages);
}

static size_t kept_each(const rv_rows *r)
{
    return r->keep == RV_KEEP_F32 ? 4 * r->dim : r->keep == RV_KEEP_BF16 ? 2 * r->dim : 0;
}

static void row_sections(const rv_rows *r, rv_sections *out)
{
    rv_sections_put(out, TAG_CODES, r->codes, r->n * r->stride);
    rv_sections_put(out, TAG_SCALES, r->scales, r->stride ? r->n * sizeof *r->scales : 0);
    rv_sections_put(out, TAG_IDS, r->ids, r->n * sizeof *r->ids);
    rv_sections_put(out, TAG_LIVE, r->live, (r->n + 63) / 64 * 8);
    rv_sections_put(out, TAG_KEPT, r->kept, r->n * kept_each(r));
    rv_sections_put(out, TAG_MAP, r->map, r->map_size * sizeof *r->map);
    if (r->rotation && rv_rotation_matrix(r->rotation)) {
        rv_sections_put(out, TAG_MATRIX, rv_rotation_matrix(r->rotation), r->dim * r->dim * sizeof(float));
    }
}

/* ---- writing ---- */

typedef struct writer {
    rv_index_write *write;
    void *self;
    uint8_t *page; /* [RV_PAGE_BYTES] */
    size_t n_page;
    uint64_t *sums; /* [n] */
    size_t n_sums;
    rv_err e;
} writer;

static void flush_page(writer *w)
{
    if (!w->e && w->n_page) {
        w->sums[w->n_sums++] = rv_hash64(w->page, w->n_page, 0);
        w->e = w->write(w->self, w->page, w->n_page);
    }
    w->n_page = 0;
}

static void put(writer *w, const void *bytes, size_t n)
{
    for (size_t done = 0; done < n && !w->e;) {
        size_t part = n - done < RV_PAGE_BYTES - w->n_page ? n - done : RV_PAGE_BYTES - w->n_page;
        memcpy(w->page + w->n_page, (const uint8_t *)bytes + done, part);
        w->n_page += part;
        done += part;
        if (w->n_page == RV_PAGE_BYTES) {
            flush_page(w);
        }
    }
}

static void put_zeros(writer *w, size_t n)
{
    static const uint8_t zeros[RV_ROWS_ALIGN];
    put(w, zeros, n);
}

static size_t aligned(size_t n)
{
    return (n + RV_ROWS_ALIGN - 1) / RV_ROWS_ALIGN * RV_ROWS_ALIGN;
}

static header header_of(const rv_index *index, const rv_sections *sections)
{
    const rv_index_config *c = &index->config;
    header h = { .version = VERSION,
                 .bytes = HEADER_BYTES,
                 .metric = c->metric,
                 .keep = c->keep,
                 .rotation = c->rotation,
                 .dim = c->dim,
                 .seed = c->seed,
                 .m = c->m,
                 .m0 = c->m0,
                 .ef_build = c->ef_build,
                 .ef = c->ef,
                 .lists = c->lists,
                 .probes = c->probes,
                 .bits = c->bits,
                 .n_slots = index->rows.n,
                 .n_live = index->rows.n_live,
                 .n_sections = sections->n };
    memcpy(h.magic, magic, sizeof magic);
    memcpy(h.kind, c->kind, strlen(c->kind)); /* the kinds' names are shorter than KIND_BYTES */
    size_t at = HEADER_BYTES;
    for (size_t i = 0; i < sections->n; i++) {
        h.sections[i].tag = sections->at[i].tag;
        h.sections[i].at = at;
        h.sections[i].n = sections->at[i].n;
        at += aligned(sections->at[i].n);
    }
    h.sums_at = at;
    h.file_bytes = at + (at + RV_PAGE_BYTES - 1) / RV_PAGE_BYTES * 8 + 8;
    return h;
}

rv_err rv_index_save(const rv_index *index, rv_index_write *write, void *self)
{
    RV_TRY(rv_pages_check(index->rows.pages)); /* damage would get a fitting checksum */
    rv_sections sections = { .n = 0 };
    row_sections(&index->rows, &sections);
    if (index->ops->sections) {
        index->ops->sections(index, &sections);
    }
    header h = header_of(index, &sections);
    uint8_t first[HEADER_BYTES] = { 0 };
    memcpy(first, &h, sizeof h);
    uint64_t sum = rv_hash64(first, HEADER_BYTES - 8, 0);
    memcpy(first + HEADER_BYTES - 8, &sum, 8);

    writer w = { .write = write, .self = self, .page = rv_new(index->mem, RV_PAGE_BYTES) };
    w.sums = rv_new_array(index->mem, (h.sums_at + RV_PAGE_BYTES - 1) / RV_PAGE_BYTES + 1, 8);
    if (!w.page || !w.sums) {
        w.e = rv_fail(RV_E_NOMEM, "no memory to save an index");
    }
    put(&w, first, sizeof first);
    for (size_t i = 0; i < sections.n; i++) {
        put(&w, sections.at[i].at, sections.at[i].n);
        put_zeros(&w, aligned(sections.at[i].n) - sections.at[i].n);
    }
    flush_page(&w);
    if (!w.e) {
        w.sums[w.n_sums] = rv_hash64(w.sums, w.n_sums * 8, 0);
        w.e = write(self, w.sums, w.n_sums * 8 + 8);
    }
    rv_free(index->mem, w.page);
    rv_free(index->mem, w.sums);
    return w.e;
}

/* ---- opening ---- */

static rv_err read_header(const uint8_t *bytes, size_t n, header *h)
{
    if (n < HEADER_BYTES || memcmp(bytes, magic, sizeof magic) != 0) {
        return rv_fail(RV_E_FORMAT, "index file: it does not begin like one (%zu bytes)", n);
    }
    memcpy(h, bytes, sizeof *h);
    if (h->version != VERSION || h->bytes != HEADER_BYTES) {
        return rv_fail(RV_E_FORMAT, "index file: version %u, this program reads %d", h->version, VERSION);
    }
    uint64_t sum;
    memcpy(&sum, bytes + HEADER_BYTES - 8, 8);
    if (sum != rv_hash64(bytes, HEADER_BYTES - 8, 0)) {
        return rv_fail(RV_E_CORRUPT, "index file: the checksum of the header does not match");
    }
    if (h->file_bytes != n) {
        return rv_fail(RV_E_CORRUPT, "index file: %zu bytes, expected %llu", n,
                       (unsigned long long)h->file_bytes);
    }
    return RV_OK;
}

static rv_err read_sections(const uint8_t *bytes, size_t n, const header *h, rv_sections *out)
{
    if (h->n_sections > RV_SECTIONS_MAX || h->sums_at > n || h->sums_at < HEADER_BYTES ||
        n - h->sums_at != (h->sums_at + RV_PAGE_BYTES - 1) / RV_PAGE_BYTES * 8 + 8) {
        return rv_fail(RV_E_CORRUPT, "index file: the header's lengths do not fit each other");
    }
    for (size_t i = 0; i < h->n_sections; i++) {
        uint64_t at = h->sections[i].at, size = h->sections[i].n;
        if (at % RV_ROWS_ALIGN || at > h->sums_at || size > h->sums_at - at) {
            return rv_fail(RV_E_CORRUPT, "index file: part %llu lies beyond the end",
                           (unsigned long long)h->sections[i].tag);
        }
        rv_sections_put(out, (uint32_t)h->sections[i].tag, bytes + at, (size_t)size);
    }
    return RV_OK;
}

/* The arrays of the rows, as they lie in the file. */
static rv_err read_rows(rv_rows *r, const header *h, const rv_sections *s)
{
    if (h->n_slots > RV_INDEX_ROWS_MAX) {
        return rv_fail(RV_E_CORRUPT, "index file: %llu slots", (unsigned long long)h->n_slots);
    }
    size_t n = (size_t)h->n_slots, map_size = 0;
    for (size_t i = 0; i < s->n; i++) {
        map_size = s->at[i].tag == TAG_MAP ? s->at[i].n / sizeof *r->map : map_size;
    }
    if ((map_size & (map_size - 1)) != 0 || (n > 0 && map_size < n)) {
        return rv_fail(RV_E_CORRUPT, "index file: a table of %zu places for %zu ids", map_size, n);
    }
    const void *codes, *scales, *ids, *live, *kept, *map, *matrix = NULL;
    RV_TRY(rv_sections_map(s, TAG_CODES, n * r->stride, &codes));
    RV_TRY(rv_sections_map(s, TAG_SCALES, r->stride ? n * sizeof *r->scales : 0, &scales));
    RV_TRY(rv_sections_get(s, TAG_IDS, n * sizeof *r->ids, &ids));
    RV_TRY(rv_sections_get(s, TAG_LIVE, (n + 63) / 64 * 8, &live));
    RV_TRY(rv_sections_map(s, TAG_KEPT, n * kept_each(r), &kept));
    RV_TRY(rv_sections_map(s, TAG_MAP, map_size * sizeof *r->map, &map));
    if (h->rotation == RV_ROTATION_HAAR && r->stride) {
        RV_TRY(rv_sections_get(s, TAG_MATRIX, r->dim * r->dim * sizeof(float), &matrix));
    }
    RV_TRY(rv_rows_rotate(r, (rv_rotation_kind)h->rotation, h->seed, matrix));
    r->codes = (uint8_t *)(uintptr_t)codes; /* never written while mapped */
    r->scales = (rv_row_scale *)(uintptr_t)scales;
    r->ids = (int64_t *)(uintptr_t)ids;
    r->live = (uint64_t *)(uintptr_t)live;
    r->kept = (void *)(uintptr_t)kept;
    r->map = (uint32_t *)(uintptr_t)map;
    r->map_size = map_size;
    r->n = r->room = n;
    r->mapped = true;
    r->pages = s->pages;
    s->pages->late =
        (size_t)((const uint8_t *)kept - s->pages->file); /* few rows are ranked by their vectors */
    s->pages->late_end = s->pages->late + n * kept_each(r);
    for (size_t i = 0; i < (n + 63) / 64; i++) {
        uint64_t beyond = i == n / 64 ? ~(uint64_t)0 << n % 64 : 0;
        if (r->live[i] & beyond) {
            return rv_fail(RV_E_CORRUPT, "index file: a slot beyond the last one lives");
        }
        r->n_live += (size_t)__builtin_popcountll(r->live[i]);
    }
    return r->n_live == h->n_live ? RV_OK
                                  : rv_fail(RV_E_CORRUPT, "index file: %zu slots live, expected %llu",
                                            r->n_live, (unsigned long long)h->n_live);
}

/* Where the borrowed rows are. A live slot whose row is gone points to nothing and has to be removed. */
static rv_err borrow(rv_rows *r, rv_index_find *find, void *self, bool *gone)
{
    r->lent = rv_new_array(r->mem, r->n, sizeof *r->lent);
    if (!r->lent) {
        return rv_fail(RV_E_NOMEM, "no memory for an index of %zu vectors", r->n);
    }
    for (size_t from = 0; from < r->n; from += FIND_TOGETHER) {
        size_t n = r->n - from < FIND_TOGETHER ? r->n - from : FIND_TOGETHER;
        RV_TRY(find(self, r->ids + from, n, r->lent + from));
        for (size_t i = from; i < from + n; i++) {
            *gone |= !r->lent[i] && rv_rows_live(r, (uint32_t)i);
        }
    }
    return RV_OK;
}

static rv_err remove_gone(rv_index *index)
{
    RV_TRY(rv_index_reserve(index, 0));
    for (uint32_t slot = 0; slot < index->rows.n; slot++) {
        if (rv_rows_live(&index->rows, slot) && !index->rows.lent[slot]) {
            rv_rows_drop(&index->rows, slot);
            index->ops->remove(index, &slot, 1);
        }
    }
    return RV_OK;
}

static rv_err read_all(rv_index *index, const header *h, const rv_sections *sections, rv_index_find *find,
                       void *self)
{
    bool gone = false;
    RV_TRY(read_rows(&index->rows, h, sections));
    if (index->rows.keep == RV_KEEP_BORROWED) {
        RV_TRY(borrow(&index->rows, find, self, &gone));
    }
    RV_TRY(index->ops->open(index, sections));
    return gone ? remove_gone(index) : RV_OK;
}

rv_err rv_index_open(const rv_alloc *mem, const void *bytes, size_t n_bytes, rv_index_find *find, void *self,
                     rv_index **out)
{
    header h;
    rv_sections sections = { .n = 0 };
    RV_TRY(read_header(bytes, n_bytes, &h));
    RV_TRY(read_sections(bytes, n_bytes, &h, &sections));
    char kind[KIND_BYTES + 1] = "";
    memcpy(kind, h.kind, KIND_BYTES);
    rv_index_config config = { .kind = kind,
                               .dim = (size_t)h.dim,
                               .metric = (rv_index_metric)h.metric,
                               .keep = (rv_keep)h.keep,
                               .rotation = (rv_rotation_kind)h.rotation,
                               .seed = h.seed,
                               .m = (size_t)h.m,
                               .m0 = (size_t)h.m0,
                               .ef_build = (size_t)h.ef_build,
                               .ef = (size_t)h.ef,
                               .lists = (size_t)h.lists,
                               .probes = (size_t)h.probes,
                               .bits = (size_t)h.bits };
    if (config.keep == RV_KEEP_BORROWED && !find) {
        return rv_fail(RV_E_ARG, "index file: its vectors are elsewhere and nobody says where");
    }
    rv_index *index;
    rv_err e = rv_index_make(mem, &config, &index);
    if (e) { /* options that no index here would have written */
        return e == RV_E_NOMEM
                   ? e
                   : rv_fail(RV_E_CORRUPT, "index file: kind \"%s\" with %zu dimensions", kind, config.dim);
    }
    e = rv_pages_new(mem, bytes, (size_t)h.sums_at, &sections.pages);
    index->rows.pages = sections.pages;
    e = e ? e : read_all(index, &h, &sections, find, self);
    if (e) {
        rv_index_free(index);
        return e;
    }
    *out = index;
    return RV_OK;
}
