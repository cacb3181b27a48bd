/* A fast index as a file beside the segments (docs/formats/index.md): a page that says which store it is of and what was measured, the
 * index as rv_index_save writes it, and for each of its rows the id and the checksum that the segment holds with the row. A row
 * whose checksum is another one today is not the row that was indexed, so a file out of another time of the store is found
 * out, whatever its numbers say. */
#include "memory/memory_priv.h"
#include "base/rng.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PAGE = 4096, BUFFER = 1 << 20, VERSION = 1 };
static const char magic[8] = { 'R', 'V', 'N', 'E', 'A', 'R', '\r', '\n' };

typedef struct page {
    char magic[8];
    uint32_t version, bytes;
    uint64_t store, index_bytes, n_rows, n_built;
    uint32_t n_gauges;
    float scan_ns, flat_ns;
    uint32_t unused;
    gauge gauges[RV_GAUGES_MAX];
} page;
_Static_assert(sizeof(page) <= PAGE - 8 && sizeof(gauge) == 20, "the page ends with its own checksum");

/* A row of the index: 16 bytes of the file. */
typedef struct pledge {
    int64_t id;
    uint64_t sum; /* rv_segments_row_sum */
} pledge;

/* ---- writing ---- */

typedef struct sink {
    int fd;
    const char *path;
    uint8_t *buffer; /* [BUFFER] */
    size_t n;
    uint64_t total;
} sink;

static rv_err fail_file(const char *path, const char *what)
{
    int why = errno;
    return rv_fail(why == ENOSPC || why == EDQUOT ? RV_E_NO_SPACE : RV_E_IO, "%s: %s: %s", path, what,
                   strerror(why));
}

static rv_err flush(sink *s)
{
    for (size_t done = 0; done < s->n;) {
        ssize_t k = write(s->fd, s->buffer + done, s->n - done);
        if (k < 0 && errno == EINTR) {
            continue;
        }
        if (k < 0) {
            return fail_file(s->path, "cannot write");
        }
        done += (size_t)k;
    }
    s->n = 0;
    return RV_OK;
}

static rv_err put(void *self, const void *bytes, size_t n)
{
    sink *s = self;
    s->total += n;
    for (size_t done = 0; done < n;) {
        size_t part = n - done < BUFFER - s->n ? n - done : BUFFER - s->n;
        memcpy(s->buffer + s->n, (const uint8_t *)bytes + done, part);
        s->n += part;
        done += part;
        if (s->n == BUFFER) {
            RV_TRY(flush(s));
        }
    }
    return RV_OK;
}

/* Those of its rows that live: a removed one is removed from the index when the file is opened. */
static rv_err pledges_of(rv_memory *m, const fast *f, pledge **out, size_t *n)
{
    *n = 0;
    pthread_rwlock_rdlock(&m->state);
    pledge *at = rv_new_array(m->mem, m->n_entries + 1, sizeof *at);
    for (size_t i = 0; at && i < m->n_entries; i++) {
        const entry *e = &m->entries[i];
        if (e->row && rv_idset_has(&f->has, e->id)) {
            at[(*n)++] = (pledge){ e->id, rv_segments_row_sum(e->row, m->embedder.dim) };
        }
    }
    pthread_rwlock_unlock(&m->state);
    *out = at;
    return at ? RV_OK : rv_fail(RV_E_NOMEM, "memory: no room to save an index");
}

static rv_err write_all(rv_memory *m, const fast *f, const pledge *pledges, size_t n, sink *s)
{
    uint8_t first[PAGE] = { 0 };
    RV_TRY(put(s, first, PAGE)); /* the true one comes last, when the lengths are known */
    RV_TRY(rv_index_save(f->index, put, s));
    page p = { .version = VERSION,
               .bytes = PAGE,
               .store = m->store,
               .index_bytes = s->total - PAGE,
               .n_rows = n,
               .n_built = f->n_built,
               .n_gauges = (uint32_t)f->n_gauges,
               .scan_ns = f->scan_ns,
               .flat_ns = f->flat_ns };
    memcpy(p.magic, magic, sizeof magic);
    memcpy(p.gauges, f->gauges, sizeof p.gauges);
    memcpy(first, &p, sizeof p);
    uint64_t sum = rv_hash64(first, PAGE - 8, 0), rows = rv_hash64(pledges, n * sizeof *pledges, 0);
    memcpy(first + PAGE - 8, &sum, 8);
    RV_TRY(put(s, pledges, n * sizeof *pledges));
    RV_TRY(put(s, &rows, sizeof rows));
    RV_TRY(flush(s));
    return pwrite(s->fd, first, PAGE, 0) == PAGE ? RV_OK : fail_file(s->path, "cannot write");
}

/* Into its place, unless it may hold codes of rows that a scrub has erased. */
static rv_err put_in_place(rv_memory *m, const fast *f, const char *beside, const char *path)
{
    rv_err e = RV_OK;
    pthread_rwlock_rdlock(&m->state); /* a scrub counts itself first and removes files then */
    if (f->scrubs != m->scrubs) {
        unlink(beside);
    } else if (rename(beside, path) < 0) {
        e = fail_file(path, "cannot rename over it");
    }
    pthread_rwlock_unlock(&m->state);
    return e;
}

/* Written, synced, renamed. The file beside has one name, so that a kill leaves one behind at most. */
static rv_err write_file(rv_memory *m, const fast *f, const pledge *pledges, size_t n, const char *path)
{
    char beside[PATH_MAX];
    if (snprintf(beside, sizeof beside, "%s.new", path) >= (int)sizeof beside) {
        return rv_fail(RV_E_ARG, "%s: the path is too long", path);
    }
    sink s = { .path = beside, .buffer = rv_new(m->mem, BUFFER) };
    s.fd = s.buffer ? open(beside, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
    rv_err e = !s.buffer  ? rv_fail(RV_E_NOMEM, "memory: no room to save an index")
               : s.fd < 0 ? fail_file(beside, "cannot create")
                          : write_all(m, f, pledges, n, &s);
    if (!e && fdatasync(s.fd) < 0) {
        e = fail_file(beside, "cannot sync");
    }
    if (s.fd >= 0) {
        close(s.fd);
    }
    e = e ? e : put_in_place(m, f, beside, path);
    if (e && s.fd >= 0) {
        unlink(beside);
    }
    rv_free(m->mem, s.buffer);
    return e;
}

rv_err rv_fast_save(rv_memory *m, fast *f, const char *path)
{
    pledge *pledges;
    size_t n;
    RV_TRY(pledges_of(m, f, &pledges, &n));
    rv_err e = write_file(m, f, pledges, n, path);
    rv_free(m->mem, pledges);
    if (!e) {
        f->n_unsaved =
            0; /* the name is durable a little later, or the index is made again: nothing waits for it */
    }
    return e;
}

/* ---- reading ---- */

static rv_err fail_damaged(const char *path, const char *what)
{
    return rv_fail(RV_E_CORRUPT, "%s: %s", path, what);
}

static rv_err read_page(const rv_memory *m, const char *path, const rv_map *map, page *p)
{
    if (map->n < PAGE || memcmp(map->at, magic, sizeof magic) != 0) {
        return rv_fail(RV_E_FORMAT, "%s: not an index of the memory", path);
    }
    uint64_t sum;
    memcpy(p, map->at, sizeof *p);
    memcpy(&sum, map->at + PAGE - 8, 8);
    if (p->version != VERSION || p->bytes != PAGE) {
        return rv_fail(RV_E_FORMAT, "%s: version %u, this program reads %d", path, p->version, VERSION);
    }
    if (sum != rv_hash64(map->at, PAGE - 8, 0)) {
        return fail_damaged(path, "the first page does not fit its checksum");
    }
    if (p->store != m->store) {
        return fail_damaged(path, "belongs to another store");
    }
    uint64_t rest = map->n - PAGE;
    if (p->n_gauges > RV_GAUGES_MAX || p->index_bytes > rest || rest - p->index_bytes < 8 ||
        (rest - p->index_bytes - 8) / sizeof(pledge) != p->n_rows ||
        (rest - p->index_bytes - 8) % sizeof(pledge) != 0) {
        return fail_damaged(path, "its lengths do not fit each other");
    }
    uint64_t rows;
    const uint8_t *at = map->at + PAGE + p->index_bytes;
    memcpy(&rows, at + p->n_rows * sizeof(pledge), 8);
    return rows == rv_hash64(at, p->n_rows * sizeof(pledge), 0)
               ? RV_OK
               : fail_damaged(path, "the list of its rows does not fit its checksum");
}

/* The ids of the file that still live, all with the rows they had. last: of the last row; has has room up to it. */
static rv_err take_pledges(const rv_memory *m, const char *path, const uint8_t *at, size_t n, int64_t last,
                           idset *has)
{
    int64_t before = 0;
    for (size_t i = 0; i < n; i++) {
        pledge p;
        memcpy(&p, at + i * sizeof p, sizeof p);
        if (p.id <= before || p.id > last) {
            return fail_damaged(path, "its rows are out of order");
        }
        before = p.id;
        const entry *e = rv_memory_find(m, p.id);
        if (!e || !e->row) {
            continue;
        }
        if (rv_segments_row_sum(e->row, m->embedder.dim) != p.sum) {
            return fail_damaged(path, "it holds other vectors than the store");
        }
        rv_idset_add(has, p.id);
    }
    return RV_OK;
}

typedef struct finding {
    rv_memory *m;
    const idset *has;
    idset *prune; /* the same, when it may be changed: an id that went meanwhile leaves it; else NULL */
} finding;

static rv_err find_rows(void *self, const int64_t *ids, size_t n, const float **rows)
{
    const finding *f = self;
    pthread_rwlock_rdlock(&f->m->state);
    for (size_t i = 0; i < n; i++) {
        const entry *e = rv_idset_has(f->has, ids[i]) ? rv_memory_find(f->m, ids[i]) : NULL;
        rows[i] = e ? e->row : NULL;
        if (!rows[i] && f->prune) {
            rv_idset_remove(f->prune, ids[i]);
        }
    }
    pthread_rwlock_unlock(&f->m->state);
    return RV_OK;
}

/* The index holds what `has` says and nothing else. */
static rv_err check_index(const rv_memory *m, const char *path, const fast *f, const char *kind)
{
    size_t n = 0;
    bool all = strcmp(rv_index_get_config(f->index)->kind, kind) == 0 &&
               rv_index_get_config(f->index)->dim == m->embedder.dim;
    for (size_t i = 0; all && i < f->has.n; i++) {
        for (uint64_t left = f->has.at[i]; all && left; left &= left - 1) {
            all = rv_index_has(f->index, (int64_t)(i * 64) + __builtin_ctzll(left));
            n++;
        }
    }
    return all && n == rv_index_count(f->index) ? RV_OK
                                                : fail_damaged(path, "it holds other rows than it says");
}

static rv_err open_index(rv_memory *m, const fast *f, idset *prune, rv_index **out)
{
    page p;
    memcpy(&p, f->map.at, sizeof p);
    finding how = { m, &f->has, prune };
    return rv_index_open(m->mem, f->map.at + PAGE, (size_t)p.index_bytes, find_rows, &how, out);
}

static rv_err open_fast(rv_memory *m, const char *path, const char *kind, fast *f)
{
    page p;
    RV_TRY(read_page(m, path, &f->map, &p));
    const uint8_t *pledges = f->map.at + PAGE + p.index_bytes;
    int64_t last = 0;
    if (p.n_rows > 0) {
        memcpy(&last, pledges + (p.n_rows - 1) * sizeof(pledge), sizeof last);
    }
    pthread_rwlock_rdlock(&m->state);
    rv_err e = last < 0 || (uint64_t)last / 64 >= m->live.n + 1
                   ? fail_damaged(path, "it is newer than the store")
                   : rv_idset_reserve(m->mem, &f->has, last);
    e = e ? e : take_pledges(m, path, pledges, (size_t)p.n_rows, last, &f->has);
    pthread_rwlock_unlock(&m->state);
    RV_TRY(e);
    RV_TRY(open_index(m, f, &f->has, &f->index));
    RV_TRY(check_index(m, path, f, kind));
    memcpy(f->gauges, p.gauges, sizeof f->gauges);
    f->n_gauges = p.n_gauges;
    f->scan_ns = p.scan_ns;
    f->flat_ns = p.flat_ns;
    f->n_built = (size_t)p.n_built;
    return RV_OK;
}

rv_err rv_fast_open(rv_memory *m, const char *path, const char *kind, fast **out)
{
    *out = NULL;
    if (!rv_file_exists(path)) {
        return RV_OK;
    }
    fast *f = rv_new(m->mem, sizeof *f);
    if (!f) {
        return rv_fail(RV_E_NOMEM, "%s: opening", path);
    }
    f->mem = m->mem;
    pthread_rwlock_rdlock(&m->state);
    f->scrubs = m->scrubs;
    f->moves = m->moves;
    pthread_rwlock_unlock(&m->state);
    rv_err e = rv_file_map(path, &f->map);
    e = e ? e : open_fast(m, path, kind, f);
    if (e) {
        char why[1024];
        snprintf(why, sizeof why, "%s", rv_err_text());
        e = strncmp(why, path, strlen(path)) == 0
                ? e
                : rv_fail(e, "%s: %s", path, why); /* vector/ knows bytes, no files */
        rv_fast_free(f);
        return e;
    }
    *out = f;
    return RV_OK;
}

rv_err rv_fast_thaw(rv_memory *m, const fast *f, rv_index **out)
{
    rv_index *index;
    RV_TRY(open_index(m, f, NULL, &index));
    rv_err e = rv_index_reserve(index, 0);
    if (e) {
        rv_index_free(index);
        return e;
    }
    *out = index;
    return RV_OK;
}

void rv_fast_free(fast *f)
{
    if (!f) {
        return;
    }
    rv_index_free(f->index);
    rv_file_unmap(&f->map);
    rv_idset_deinit(f->mem, &f->has);
    rv_free(f->mem, f);
}

rv_err rv_fast_forget(const char *folder)
{
    static const char *const ends[] = { "", ".new" };
    for (size_t i = 0; i < RV_FASTS * RV_COUNT(ends); i++) {
        char path[PATH_MAX];
        if (snprintf(path, sizeof path, "%s/%s.idx%s", folder, rv_fast_kinds[i % RV_FASTS],
                     ends[i / RV_FASTS]) >= (int)sizeof path) {
            return rv_fail(RV_E_ARG, "%s: the path is too long", folder);
        }
        if (unlink(path) < 0 && errno != ENOENT) {
            return fail_file(path, "cannot be removed");
        }
    }
    return rv_file_exists(folder) ? rv_dir_sync(folder) : RV_OK; /* or a power loss brings them back */
}
