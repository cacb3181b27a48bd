/* Records, as a node stands on the disk, each with a checksum of all its fields; and entries, what is kept in memory of each. */
#include "memory/memory_priv.h"

#include <stdlib.h>
#include <string.h>

/* ---- records ---- */

static uint64_t add_str(uint64_t sum, rv_str s)
{
    return rv_db_sum_text(sum, s.at, s.n);
}

static uint64_t add_double(uint64_t sum, double x)
{
    int64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return rv_db_sum_int(sum, bits);
}

int64_t rv_record_sum(const record *r)
{
    uint64_t sum = rv_db_sum_int(0, r->id);
    sum = add_str(add_str(add_str(sum, r->type), r->text), r->source);
    sum = add_str(add_str(add_str(add_str(sum, r->user), r->origin), r->tags), r->metadata);
    sum = rv_db_sum_int(add_double(sum, r->confidence), r->created_ms);
    return (int64_t)rv_db_sum_int(rv_db_sum_int(sum, r->offset), r->length);
}

int64_t rv_record_same(const record *r)
{
    return (int64_t)add_str(add_str(add_str(0, r->type), r->user), r->text);
}

int64_t rv_edge_sum(int64_t from, int64_t to, rv_str type, double weight, int64_t created_ms)
{
    uint64_t sum = add_str(rv_db_sum_int(rv_db_sum_int(0, from), to), type);
    return (int64_t)rv_db_sum_int(add_double(sum, weight), created_ms);
}

rv_str rv_column_str(sqlite3_stmt *stmt, int column)
{
    const char *text = (const char *)sqlite3_column_text(stmt, column);
    return rv_str_of(text ? text : "", (size_t)sqlite3_column_bytes(stmt, column));
}

rv_err rv_record_read(sqlite3_stmt *stmt, record *out)
{
    *out = (record){ .id = sqlite3_column_int64(stmt, 0),
                     .type = rv_column_str(stmt, 1),
                     .text = rv_column_str(stmt, 2),
                     .source = rv_column_str(stmt, 3),
                     .user = rv_column_str(stmt, 4),
                     .origin = rv_column_str(stmt, 5),
                     .tags = rv_column_str(stmt, 6),
                     .metadata = rv_column_str(stmt, 7),
                     .confidence = sqlite3_column_double(stmt, 8),
                     .created_ms = sqlite3_column_int64(stmt, 9),
                     .offset = sqlite3_column_int64(stmt, 10),
                     .length = sqlite3_column_int64(stmt, 11) };
    if (rv_record_sum(out) != sqlite3_column_int64(stmt, 12)) {
        return rv_fail(
            RV_E_CORRUPT,
            "%s: node %lld does not fit its checksum; the file is damaged: restore it from a backup, or give "
            "the node up: ruvllm memory rm %lld",
            sqlite3_db_filename(sqlite3_db_handle(stmt), "main"), (long long)out->id, (long long)out->id);
    }
    return RV_OK;
}

/* ---- entries ---- */

const entry *rv_memory_find(const rv_memory *m, int64_t id)
{
    /* Ids ascend and few are missing: as many places as are missing are all where this one can be. */
    size_t n = m->n_entries, low = 0, high = n;
    if (n == 0 || id < m->entries[0].id || id > m->entries[n - 1].id) {
        return NULL;
    }
    uint64_t behind = (uint64_t)(m->entries[n - 1].id - id), before = (uint64_t)(id - m->entries[0].id);
    low = behind < n ? n - 1 - (size_t)behind : 0;
    high = before < n ? (size_t)before + 1 : n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (m->entries[middle].id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < m->n_entries && m->entries[low].id == id ? &m->entries[low] : NULL;
}

rv_err rv_memory_grow(const rv_alloc *mem, void **at, size_t *room, size_t need, size_t size)
{
    if (need <= *room) {
        return RV_OK;
    }
    size_t more = 2 * *room > need ? 2 * *room : need, bytes;
    void *bigger = rv_mul_size(more, size, &bytes) ? rv_resize(mem, *at, bytes) : NULL;
    if (!bigger) {
        return rv_fail(RV_E_NOMEM, "memory: no room for %zu entries", more);
    }
    *at = bigger;
    *room = more;
    return RV_OK;
}

rv_err rv_memory_reserve(rv_memory *m, size_t entries, size_t tags)
{
    void *e = m->entries, *t = m->tags;
    rv_err err = rv_memory_grow(m->mem, &e, &m->entry_room, m->n_entries + entries, sizeof *m->entries);
    m->entries = e;
    if (!err) {
        err = rv_memory_grow(m->mem, &t, &m->tag_room, m->n_tags + tags, sizeof *m->tags);
        m->tags = t;
    }
    return err;
}

/* The tag that a list begins with, and the list behind it. */
static rv_str next_tag(rv_str *tags)
{
    const char *end = memchr(tags->at, '\n', tags->n);
    rv_str tag = rv_str_of(tags->at, end ? (size_t)(end - tags->at) : tags->n);
    size_t n = tag.n + (end != NULL);
    *tags = rv_str_of(tags->at + n, tags->n - n);
    return tag;
}

/* One more behind all tags. */
static rv_err add_tag(rv_memory *m, rv_str tag)
{
    RV_TRY(rv_memory_reserve(m, 0, 1));
    RV_TRY(rv_names_add(&m->names, tag.at, tag.n, &m->tags[m->n_tags]));
    m->n_tags++;
    return RV_OK;
}

rv_err rv_memory_tags_of(rv_memory *m, rv_str tags, size_t n, uint32_t *at, uint32_t *n_tags)
{
    *at = (uint32_t)m->n_tags;
    for (*n_tags = 0; tags.n > 0; ++*n_tags) {
        RV_TRY(add_tag(m, next_tag(&tags)));
        RV_TRY(rv_holders_reserve(m, RV_BY_TAG, m->tags[m->n_tags - 1], m->next_id - 1, n));
    }
    return RV_OK;
}

void rv_memory_take_tags(rv_memory *m, int64_t id, uint32_t at, uint32_t n_tags)
{
    entry *e = &m->entries[rv_memory_find(m, id) - m->entries];
    e->tags_at = at;
    e->n_tags = n_tags;
    for (uint32_t i = 0; i < n_tags; i++) {
        rv_holders_put(m, RV_BY_TAG, m->tags[at + i], id);
    }
}

rv_err rv_memory_entry_of(rv_memory *m, const record *r, entry *out)
{
    entry e = { .id = r->id,
                .created_ms = r->created_ms,
                .tags_at = (uint32_t)m->n_tags,
                .confidence = (float)r->confidence };
    RV_TRY(rv_names_add(&m->names, r->type.at, r->type.n, &e.type));
    RV_TRY(rv_names_add(&m->names, r->user.at, r->user.n, &e.user));
    RV_TRY(rv_names_add(&m->names, r->source.at, r->source.n, &e.source));
    RV_TRY(rv_holders_add(m, RV_BY_TYPE, e.type, r->id));
    RV_TRY(rv_holders_add(m, RV_BY_USER, e.user, r->id));
    RV_TRY(rv_holders_add(m, RV_BY_SOURCE, e.source, r->id));
    for (rv_str tags = r->tags; tags.n > 0; e.n_tags++) {
        RV_TRY(add_tag(m, next_tag(&tags)));
        RV_TRY(rv_holders_add(m, RV_BY_TAG, m->tags[m->n_tags - 1], r->id));
    }
    *out = e;
    return RV_OK;
}
