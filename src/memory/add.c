/* Adding. Callers that come together share one transaction: whoever finds nobody writing takes all that wait (rv_memory_add), so
 * that the two syncs of the disk, which are most of the time of an add, are paid once for all of them. */
#include "memory/memory_priv.h"
#include "base/clock.h"
#include "base/cond.h"
#include "memory/sense.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    GROUP_MAX = 128,
    GROUP_BYTES = 8 << 20,
    WHY_BYTES = 1024,
    LINKS_EACH = 3 + RV_MEMORY_NEAR,
    CONTAINS_MAX = 64,
    AWAIT_MS = 2
};

/* ---- what may be added ---- */

static rv_err check_field(const char *name, const char *text, size_t max)
{
    size_t n = text ? strlen(text) : 0;
    bool good = n <= max && rv_utf8_valid(text ? text : "", n);
    for (size_t i = 0; good && i < n; i++) {
        good = (unsigned char)text[i] >= ' ' && text[i] != 127;
    }
    return good ? RV_OK
                : rv_fail(RV_E_ARG, "%s: expected at most %zu bytes of UTF-8 without control characters",
                          name, max);
}

rv_err rv_memory_check_scope(rv_memory_scope scope, const char *const *tags, size_t n_tags)
{
    if (scope.whose != RV_SCOPE_USER) {
        return rv_fail(RV_E_ARG, "user: expected whose it is to be");
    }
    RV_TRY(check_field("user", scope.user, RV_MEMORY_USER_BYTES));
    if (n_tags > RV_MEMORY_TAGS_MAX) {
        return rv_fail(RV_E_ARG, "tags: %zu, expected at most %d", n_tags, RV_MEMORY_TAGS_MAX);
    }
    for (size_t i = 0; i < n_tags; i++) {
        if (!tags[i] || !tags[i][0]) {
            return rv_fail(RV_E_ARG, "tags: an empty one");
        }
        RV_TRY(check_field("tags", tags[i], RV_MEMORY_TAG_BYTES));
    }
    return RV_OK;
}

bool rv_memory_good_type(const char *type)
{
    size_t n = type ? strspn(type, "abcdefghijklmnopqrstuvwxyz_") : 0;
    return n >= 1 && n <= 32 && type[n] == 0;
}

rv_err rv_memory_check_new(const rv_memory_new *new, rv_memory_scope scope, size_t text_bytes)
{
    if (!rv_memory_good_type(new->type)) {
        return rv_fail(RV_E_ARG, "type: expected 1 .. 32 of the letters a-z and _");
    }
    if (text_bytes < 1 || text_bytes > RV_MEMORY_TEXT_MAX) {
        return rv_fail(text_bytes ? RV_E_TOO_LARGE : RV_E_ARG, "text: %zu bytes, expected 1 .. %d",
                       text_bytes, RV_MEMORY_TEXT_MAX);
    }
    if (!rv_utf8_valid(new->text, text_bytes) || memchr(new->text, 0, text_bytes)) {
        return rv_fail(RV_E_ARG, "text: expected valid UTF-8 without zero bytes");
    }
    RV_TRY(check_field("source", new->source, RV_MEMORY_SOURCE_BYTES));
    RV_TRY(check_field("origin", new->origin, RV_MEMORY_ORIGIN_BYTES));
    RV_TRY(rv_memory_check_scope(scope, new->tags, new->n_tags));
    if (!(new->confidence >= 0 && new->confidence <= 1)) {
        return rv_fail(RV_E_ARG, "confidence: %g, expected 0 .. 1", new->confidence);
    }
    if (new->ttl_ms < 0 || new->ttl_ms > INT64_MAX / 4 || new->created_ms < 0 ||
        new->created_ms > INT64_MAX / 4) {
        return rv_fail(RV_E_ARG, "ttl_ms, created_ms: out of range");
    }
    if (new->n_contains > CONTAINS_MAX) {
        return rv_fail(RV_E_ARG, "contains: %zu nodes, expected at most %d", new->n_contains, CONTAINS_MAX);
    }
    if (new->metadata && !json_is_object(new->metadata)) {
        return rv_fail(RV_E_ARG, "metadata: expected an object");
    }
    return new->offset <= INT64_MAX &&new->length <= INT64_MAX
               ? RV_OK
               : rv_fail(RV_E_ARG, "offset, length: too large");
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

rv_err rv_memory_join_tags(const rv_alloc *mem, const char *const *tags, size_t n, rv_text *out)
{
    if (n == 0) {
        return RV_OK;
    }
    const char **sorted = rv_new_array(mem, n, sizeof *sorted);
    if (!sorted) {
        return rv_fail(RV_E_NOMEM, "memory: no room for tags");
    }
    memcpy(sorted, tags, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_name);
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || strcmp(sorted[i], sorted[i - 1]) != 0) {
            rv_text_adds(out, i ? "\n" : "");
            rv_text_adds(out, sorted[i]);
        }
    }
    rv_free(mem, sorted);
    return rv_text_check(out);
}

/* ---- a group ---- */

/* An add that waits. It is its caller's until it is done. */
struct adding {
    pthread_cond_t *
        caller; /* waits for the last of its adds, or for its turn to write; NULL but in the first and the last */
    const rv_memory_new *new;
    rv_memory_scope scope;
    record record;
    rv_text tags, metadata;         /* of the record */
    rv_text all_tags, all_metadata; /* of the node that says the same, with what this one says beyond it */
    float *own_vector;
    const float *vector; /* NULL: not searched */
    near_mark mark;
    rv_cut cut;
    near near_nodes[RV_MEMORY_NEAR];
    size_t n_near;
    int64_t id, corrects; /* corrects: what it says, or what it was found to contradict */
    bool added, near;
    double quality;
    const char *odd; /* what is */
    bool done;
    rv_err e;
    char why[WHY_BYTES];
    adding *next;
};

/* What shares one transaction. */
typedef struct group {
    rv_memory *m;
    adding *at[GROUP_MAX]; /* [n] */
    size_t n;
    record *records; /* [n_records] */
    float *vectors;  /* [n_records][dim] */
    size_t n_records;
    link_row *links; /* [n_links] */
    size_t n_links;
    bool vectors_used;
    link_row *back; /* [n_back] edges that go */
    size_t n_back;
    use_row *use; /* [n_use] */
    size_t n_use;
    edit_row *edits; /* [n_edits] */
    size_t n_edits;
} group;

/* The node that says the same already, 0: none. stmt: find_same_sql. */
static const char find_same_sql[] =
    "SELECT id FROM nodes WHERE same=?1 AND type=?2 AND user=?3 AND text=?4 ORDER BY id";

static bool str_same(rv_str a, rv_str b)
{
    return a.n == b.n && memcmp(a.at, b.at, a.n) == 0;
}

static rv_err find_same(const group *g, sqlite3_stmt *stmt, const record *r, int64_t *id)
{
    for (size_t i = 0; i < g->n_records; i++) {
        const record *other = &g->records[i];
        if (str_same(other->type, r->type) && str_same(other->user, r->user) &&
            str_same(other->text, r->text)) {
            *id = other->id;
            return RV_OK;
        }
    }
    bool row;
    RV_TRY(rv_db_bind(stmt, "isss", rv_record_same(r), r->type.at, r->type.n, r->user.at, r->user.n,
                      r->text.at, r->text.n));
    *id = 0;
    do { /* one that is damaged is none */
        RV_TRY(rv_db_step(stmt, &row));
        *id = row ? sqlite3_column_int64(stmt, 0) : 0;
    } while (row && !rv_memory_find(g->m, *id));
    return RV_OK;
}

static bool has_edge(const rv_memory *m, int64_t from, int64_t to, unsigned type)
{
    rv_graph_edge e;
    for (rv_graph_cursor c = { 0 }; rv_graph_next(m->graph, to, RV_GRAPH_IN, &c, &e);) {
        if (e.from == from && e.type == type) {
            return true;
        }
    }
    return false;
}

/* The edges a asks for that are not there yet, and those of likeness, behind those of the group. */
static rv_err wanted_links(group *g, const adding *a)
{
    const rv_memory *m = g->m;
    const rv_memory_new *new = a->new;
    const struct {
        int64_t other;
        bool to_us;
        const char *type;
        unsigned number;
    } wanted[] = { { new->parent, true, "contains", m->contains },
                   { a->corrects, false, "corrects", m->corrects },
                   { new->derived_from, false, "derived", m->derived } };
    size_t n = g->n_links;
    matcher seen = rv_matcher_of(m, a->scope, NULL);
    for (size_t i = 0; i < RV_COUNT(wanted); i++) {
        if (wanted[i].other == 0) {
            continue;
        }
        RV_TRY(rv_matcher_need(&seen, wanted[i].other));
        if (wanted[i].other == a->id) {
            return rv_fail(RV_E_ARG, "%s: the same text as node %lld itself", wanted[i].type,
                           (long long)a->id);
        }
        int64_t from = wanted[i].to_us ? wanted[i].other : a->id,
                to = wanted[i].to_us ? a->id : wanted[i].other;
        if (a->added || !has_edge(m, from, to, wanted[i].number)) {
            g->links[n++] = (link_row){ .from = from, .to = to, .type = wanted[i].type, .weight = 1 };
        }
    }
    for (size_t i = 0; i < new->n_contains; i++) {
        int64_t part = new->contains[i];
        if (!rv_matcher_has(&seen, part) || part == a->id) {
            return rv_fail(RV_E_NOT_FOUND, "node %lld is not in the memory", (long long)part);
        }
        if (a->added || !has_edge(m, a->id, part, m->contains)) {
            g->links[n++] = (link_row){ .from = a->id, .to = part, .type = "contains", .weight = 1 };
        }
    }
    for (size_t i = 0; a->added && i < a->n_near; i++) {
        if (a->near_nodes[i].id != a->corrects &&
            rv_memory_find(m, a->near_nodes[i].id)) { /* it may be gone meanwhile */
            g->links[n++] = (link_row){ .from = a->id,
                                        .to = a->near_nodes[i].id,
                                        .type = "same_topic",
                                        .weight = (double)a->near_nodes[i].cosine };
        }
    }
    g->n_links = n;
    return RV_OK;
}

/* What a says of how long it is kept. Said again without a time, or pinned, a text stays. */
static void put_use(group *g, const adding *a)
{
    const entry *e = rv_memory_find(g->m, a->id);
    use_row before = e ? rv_use_of(e) : (use_row){ .id = a->id };
    size_t at = 0;
    while (at < g->n_use && g->use[at].id != a->id) {
        at++;
    }
    before = at < g->n_use ? g->use[at] : before;
    int64_t ends = a->new->ttl_ms ? rv_memory_now_ms(g->m) + a->new->ttl_ms : 0;
    bool known = !a->added;
    use_row now = before;
    now.pinned |= a->new->pinned;
    now.expires_ms = !known                        ? ends
                     : !ends || !before.expires_ms ? 0
                     : ends > before.expires_ms    ? ends
                                                   : before.expires_ms;
    if (now.pinned != before.pinned || now.expires_ms != before.expires_ms) {
        g->use[at] = now;
        g->n_use = at == g->n_use ? at + 1 : g->n_use;
    }
}

/* ---- what a repeat says beyond what is there ---- */

static rv_str first_tag(rv_str tags)
{
    const char *end = tags.n ? memchr(tags.at, '\n', tags.n) : NULL;
    return rv_str_of(tags.at, end ? (size_t)(end - tags.at) : tags.n);
}

static rv_str behind_tag(rv_str tags, rv_str first)
{
    size_t n = first.n < tags.n ? first.n + 1 : first.n;
    return rv_str_of(tags.at + n, tags.n - n);
}

static int compare_tags(rv_str a, rv_str b)
{
    int c = memcmp(a.at, b.at, a.n < b.n ? a.n : b.n);
    return c ? c : a.n < b.n ? -1 : a.n > b.n;
}

/* Both are sorted, as rv_memory_join_tags leaves them. */
static rv_err join_both(rv_str old, rv_str more, rv_text *out)
{
    size_t n = 0;
    for (; old.n || more.n; n++) {
        rv_str x = first_tag(old), y = first_tag(more);
        int order = !y.n ? -1 : !x.n ? 1 : compare_tags(x, y);
        rv_text_adds(out, n ? "\n" : "");
        rv_text_add(out, order <= 0 ? x.at : y.at, order <= 0 ? x.n : y.n);
        old = order <= 0 ? behind_tag(old, x) : old;
        more = order >= 0 ? behind_tag(more, y) : more;
    }
    return n <= RV_MEMORY_TAGS_MAX
               ? rv_text_check(out)
               : rv_fail(RV_E_ARG, "tags: %zu with those of the node that is there, expected at most %d", n,
                         RV_MEMORY_TAGS_MAX);
}

static rv_err join_metadata(rv_str old, const rv_text *more, rv_text *out)
{
    json_t *all, *new = NULL;
    if (more->n == 0) {
        rv_text_add(out, old.at, old.n);
        return rv_text_check(out);
    }
    RV_TRY(rv_json_parse(old.at, old.n, &all));
    rv_err e = rv_json_parse(rv_text_get(more), more->n, &new);
    if (!e && json_object_update(all, new)) {
        e = rv_fail(RV_E_NOMEM, "memory: no room for metadata");
    }
    if (!e) {
        rv_json_text(all, out);
        e = rv_text_check(out);
    }
    json_decref(all);
    json_decref(new);
    return e || out->n <= RV_MEMORY_METADATA_BYTES
               ? e
               : rv_fail(RV_E_TOO_LARGE, "metadata: more than %d bytes with that of the node that is there",
                         RV_MEMORY_METADATA_BYTES);
}

static const char read_node_sql[] = "SELECT " RV_RECORD_COLUMNS " FROM nodes WHERE id=?1";

/* The tags of a are added to those of the node that says the same, and of its metadata the keys of a win. *more: that changes it, to what
 * *out says. It waits for the next group when that node is not on the disk as it will be. */
static rv_err join_node(const group *g, sqlite3 *conn, adding *a, int64_t same, edit_row *out, bool *more,
                        bool *full)
{
    *more = false;
    if (a->tags.n == 0 && a->metadata.n == 0) {
        return RV_OK;
    }
    for (size_t i = 0; i < g->n_edits; i++) {
        *full |= g->edits[i].id == same;
    }
    record r = { 0 };
    for (size_t i = 0; i < g->n_records; i++) {
        r = g->records[i].id == same ? g->records[i] : r;
    }
    bool waits = r.id != 0, row = true;
    if (!waits && !*full) {
        sqlite3_stmt *stmt;
        RV_TRY(rv_db_reader_kept(g->m->db, conn, &stmt, read_node_sql));
        RV_TRY(rv_db_bind(stmt, "i", same));
        RV_TRY(rv_db_step(stmt, &row));
        RV_TRY(row ? rv_record_read(stmt, &r) : RV_OK);
    }
    if (*full || !row) {
        return RV_OK;
    }
    rv_text_clear(&a->all_tags);
    rv_text_clear(&a->all_metadata);
    RV_TRY(join_both(r.tags, a->record.tags, &a->all_tags));
    RV_TRY(join_metadata(r.metadata, &a->metadata, &a->all_metadata));
    rv_str tags = rv_str_of(rv_text_get(&a->all_tags), a->all_tags.n),
           metadata = rv_str_of(rv_text_get(&a->all_metadata), a->all_metadata.n);
    *more = !str_same(tags, r.tags) || !str_same(metadata, r.metadata);
    *full = *more && waits;
    r.tags = tags;
    r.metadata = metadata;
    *out = (edit_row){ .id = same, .tags = tags, .metadata = metadata, .sum = rv_record_sum(&r) };
    return RV_OK;
}

/* Does a say what another of the group says, or its opposite? Then it comes with the next one, when the other is in the memory. */
static rv_err meets_group(const group *g, const adding *a, bool *out)
{
    *out = false;
    for (size_t i = 0; !*out && a->vector && g->vectors_used && i < g->n_records; i++) {
        RV_TRY(rv_near_meets(g->m, &a->record, a->vector, &g->records[i], g->vectors + i * g->m->embedder.dim,
                             out));
    }
    return RV_OK;
}

static bool is_corrected(const rv_memory *m, rv_memory_scope scope, int64_t id)
{
    matcher seen = rv_matcher_of(m, scope, NULL);
    return rv_matcher_corrected_by(&seen, id) != 0;
}

/* Puts a into the group; *full: it did not go in, because it cannot share a transaction with those that are there, or they with
 * it. Saying a text again as a correction takes edges away, which has to be seen by whoever comes next. */
static rv_err put_in(group *g, sqlite3_stmt *stmt, adding *a, bool *full)
{
    int64_t same;
    near_found like = { 0 };
    edit_row edit;
    bool more = false;
    RV_TRY(find_same(g, stmt, &a->record, &same));
    if (a->new->examined && (!same || rv_memory_find(g->m, same))) {
        RV_TRY(meets_group(g, a, full));
        if (*full) {
            return RV_OK;
        }
        if (!same || is_corrected(g->m, a->scope, same)) { /* said again it is right again */
            RV_TRY(rv_near_find(g->m, sqlite3_db_handle(stmt), &a->record, a->vector, &like));
        }
    }
    a->corrects = a->new->corrects ? a->new->corrects : like.opposite;
    a->near = !same && like.same && like.same != a->new->corrects;
    same = a->near ? like.same : same;
    bool alone = (same && a->corrects) || !a->vector;
    *full =
        g->n == GROUP_MAX || g->n_back > 0 || (alone && g->n > 0) || (g->n_records > 0 && !g->vectors_used);
    if (!*full && same) {
        RV_TRY(join_node(g, sqlite3_db_handle(stmt), a, same, &edit, &more, full));
    }
    if (*full) {
        return RV_OK;
    }
    a->added = !same;
    a->id = same ? same : rv_memory_take_ids(g->m, 1);
    a->record.id = a->id;
    size_t n_links = g->n_links;
    RV_TRY(wanted_links(g, a));
    rv_err e = same && a->corrects ? rv_memory_edges_taken_back(g->m, same, &g->back, &g->n_back) : RV_OK;
    if (e) {
        g->n_links = n_links;
        return e;
    }
    if (!same) {
        if (a->vector) {
            size_t dim = g->m->embedder.dim;
            memcpy(g->vectors + g->n_records * dim, a->vector, dim * sizeof(float));
        }
        g->vectors_used = a->vector != NULL;
        g->records[g->n_records++] = a->record;
    }
    if (more) {
        g->edits[g->n_edits++] = edit;
    }
    put_use(g, a);
    g->at[g->n++] = a;
    return RV_OK;
}

static void keep_error(adding *a, rv_err e)
{
    a->e = e;
    snprintf(a->why, sizeof a->why, "%s", rv_err_text());
}

/* Moves adds from *rest into the group. One that is refused (a node it names is not there) leaves the list alone, with its
 * error. */
static rv_err fill_group(group *g, adding **rest)
{
    sqlite3 *conn;
    sqlite3_stmt *stmt = NULL;
    RV_TRY(rv_db_reader(g->m->db, &conn));
    rv_err e = rv_db_reader_kept(g->m->db, conn, &stmt, find_same_sql);
    bool full = false;
    for (size_t bytes = 0; !e && *rest && !full && bytes < GROUP_BYTES;) {
        adding *a = *rest;
        rv_err refused = put_in(g, stmt, a, &full);
        if (refused) {
            keep_error(a, refused);
        }
        if (!full) {
            bytes += a->record.text.n;
            *rest = a->next;
        }
    }
    rv_db_reader_done(g->m->db, conn);
    return e;
}

/* Under writing. */
static rv_err write_group(group *g, adding **rest)
{
    size_t n = 0, n_links = 0, floats;
    for (const adding *a = *rest; a && n < GROUP_MAX; a = a->next) {
        n++;
        n_links += LINKS_EACH + a->new->n_contains;
    }
    g->records = rv_new_array(g->m->mem, n, sizeof *g->records);
    g->links = rv_new_array(g->m->mem, n_links, sizeof *g->links);
    g->use = rv_new_array(g->m->mem, n, sizeof *g->use);
    g->edits = rv_new_array(g->m->mem, n, sizeof *g->edits);
    g->vectors =
        rv_mul_size(n, g->m->embedder.dim, &floats) ? rv_new_array(g->m->mem, floats, sizeof(float)) : NULL;
    if (!g->records || !g->links || !g->vectors || !g->use || !g->edits) {
        return rv_fail(RV_E_NOMEM, "memory: no room to write");
    }
    RV_TRY(fill_group(g, rest));
    change c = { .add = g->records,
                 .n_add = g->n_records,
                 .vectors = g->vectors_used ? g->vectors : NULL,
                 .link = g->links,
                 .n_link = g->n_links,
                 .unlink = g->back,
                 .n_unlink = g->n_back,
                 .use = g->use,
                 .n_use = g->n_use,
                 .edit = g->edits,
                 .n_edit = g->n_edits };
    return c.n_add || c.n_link || c.n_unlink || c.n_use || c.n_edit ? rv_memory_apply(g->m, &c) : RV_OK;
}

/* Writes the first of the list with all that can go along; what is left is the new list. Under writing. */
static void write_some(rv_memory *m, adding **rest)
{
    group g = { .m = m };
    adding *first = *rest;
    rv_err e = write_group(&g, rest);
    for (size_t i = 0; e && i < g.n; i++) {
        keep_error(g.at[i], e);
    }
    if (e && *rest == first) { /* it did not get as far as a group: what failed would fail again */
        keep_error(first, e);
        *rest = first->next;
    }
    rv_free(m->mem, g.records);
    rv_free(m->mem, g.links);
    rv_free(m->mem, g.vectors);
    rv_free(m->mem, g.back);
    rv_free(m->mem, g.use);
    rv_free(m->mem, g.edits);
    rv_metric_add(&rv_memory_metrics[RV_MEMORY_ADDS], e ? 0 : (int64_t)g.n);
}

/* ---- all that wait ---- */

/* Under waiting: those from first to (not including) end are done. When others came meanwhile, there are several callers, and
 * those that are done now may be back at once: the next group is worth a short wait. */
static void wake(rv_memory *m, adding *first, const adding *end)
{
    size_t n = 0;
    for (; first != end; n++) {
        adding *next = first->next; /* it may be gone as soon as it is done */
        first->done = true;
        if (first->caller) {
            pthread_cond_signal(first->caller); /* it needs the lock before it can be gone */
        }
        first = next;
    }
    m->n_awaited = m->n_waiting > 0 ? m->n_waiting + n : 0;
}

/* Under waiting: until all that are expected are there, for at most a quarter of what the last group took: what is lost when
 * they do not come is less than what is won when they do. */
static void await_more(rv_memory *m)
{
    double ms = m->write_ms / 4 < AWAIT_MS ? m->write_ms / 4 : AWAIT_MS;
    double until = rv_clock_ms() + ms;
    for (double left = ms; m->n_waiting < m->n_awaited && left > 0; left = until - rv_clock_ms()) {
        rv_cond_wait_ms(&m->arrived, &m->waiting, left);
    }
}

static void write_waiting(rv_memory *m)
{
    pthread_mutex_lock(&m->writing);
    pthread_mutex_lock(&m->waiting);
    await_more(m);
    adding *rest = m->first_waiting;
    m->first_waiting = m->last_waiting = NULL;
    m->n_waiting = 0;
    pthread_mutex_unlock(&m->waiting);
    while (rest) {
        adding *first = rest;
        double from = rv_clock_ms();
        write_some(m, &rest);
        pthread_mutex_lock(&m->waiting);
        m->write_ms = rv_clock_ms() - from;
        wake(m, first, rest);
        pthread_mutex_unlock(&m->waiting);
    }
    pthread_mutex_unlock(&m->writing);
}

/* first .. last are a list of their own; all of it becomes durable, or has its error, before this returns. */
static void wait_for(rv_memory *m, adding *first, adding *last, size_t n)
{
    pthread_cond_t own;
    pthread_cond_init(&own, NULL);
    first->caller = last->caller = &own;
    pthread_mutex_lock(&m->waiting);
    *(m->last_waiting ? &m->last_waiting->next : &m->first_waiting) = first;
    m->last_waiting = last;
    m->n_waiting += n;
    pthread_cond_signal(&m->arrived);
    while (!last->done) { /* they are done in their order */
        if (m->adds_written) {
            pthread_cond_wait(&own, &m->waiting);
            continue;
        }
        m->adds_written = true;
        pthread_mutex_unlock(&m->waiting);
        write_waiting(m);
        pthread_mutex_lock(&m->waiting);
        m->adds_written = false;
        if (m->first_waiting) { /* one of those that came meanwhile writes for all of them */
            pthread_cond_signal(m->first_waiting->caller);
        }
    }
    pthread_mutex_unlock(&m->waiting);
    pthread_cond_destroy(&own);
}

/* ---- one add, from what the caller gave ---- */

static void free_adding(const rv_memory *m, adding *a)
{
    rv_free(m->mem, a->own_vector);
    if (a->cut.mem) {
        rv_cut_deinit(&a->cut);
    }
    rv_text_deinit(&a->tags);
    rv_text_deinit(&a->metadata);
    rv_text_deinit(&a->all_tags);
    rv_text_deinit(&a->all_metadata);
}

/* Its words, for the index of words, if there is one. */
static rv_err cut(rv_memory *m, adding *a)
{
    pthread_rwlock_rdlock(&m->state);
    bool wanted = a->vector && m->postings;
    pthread_rwlock_unlock(&m->state);
    rv_words *words;
    if (!wanted) {
        return RV_OK;
    }
    RV_TRY(rv_words_new(m->mem, &words));
    rv_err e = rv_postings_cut(m->mem, words, a->record.text.at, a->record.text.n, &a->cut);
    a->record.cut = e ? NULL : &a->cut;
    rv_words_free(words);
    return e;
}

/* Everything that needs no lock. Whatever it returns, free_adding is due. */
static rv_err prepare(rv_memory *m, rv_memory_scope scope, const rv_memory_new *new, adding *a)
{
    *a = (adding){ .new = new, .scope = scope };
    rv_text_init(&a->tags, m->mem, RV_MEMORY_TAGS_MAX * (RV_MEMORY_TAG_BYTES + 1));
    rv_text_init(&a->metadata, m->mem, RV_MEMORY_METADATA_BYTES);
    rv_text_init(&a->all_tags, m->mem, 2 * RV_MEMORY_TAGS_MAX * (RV_MEMORY_TAG_BYTES + 1));
    rv_text_init(&a->all_metadata, m->mem, 2 * RV_MEMORY_METADATA_BYTES);
    size_t text_bytes = new->text_bytes ? new->text_bytes : strlen(new->text);
    RV_TRY(rv_memory_check_new(new, scope, text_bytes));
    RV_TRY(rv_memory_join_tags(m->mem, new->tags, new->n_tags, &a->tags));
    if (new->metadata) {
        if (json_dumpb(new->metadata, NULL, 0, JSON_COMPACT) > RV_MEMORY_METADATA_BYTES) {
            return rv_fail(RV_E_TOO_LARGE, "metadata: more than %d bytes", RV_MEMORY_METADATA_BYTES);
        }
        rv_json_text(new->metadata, &a->metadata);
        RV_TRY(rv_text_check(&a->metadata));
    }
    if (strcmp(new->type, "document") != 0) {
        a->own_vector = rv_new_array(m->mem, m->embedder.dim, sizeof *a->own_vector);
        RV_TRY(a->own_vector ? m->embedder.text(m->embedder.self, new->text, text_bytes, a->own_vector)
                             : rv_fail(RV_E_NOMEM, "memory: no room for a vector"));
        a->vector = a->own_vector;
    }
    a->quality = 1;
    a->odd = "";
    if (new->examined) {
        a->quality = rv_sense_quality(new->text, text_bytes, &a->odd);
        if (a->quality == 0) {
            return rv_fail(RV_E_ARG, "text: %s: there is nothing by which it could be found", a->odd);
        }
    }
    a->record = (record){ .type = rv_str_from(new->type),
                          .text = rv_str_of(new->text, text_bytes),
                          .source = rv_str_from(new->source ? new->source : ""),
                          .user = rv_str_from(scope.user),
                          .origin = rv_str_from(new->origin ? new->origin : ""),
                          .tags = rv_str_of(rv_text_get(&a->tags), a->tags.n),
                          .metadata = rv_str_from(a->metadata.n ? rv_text_get(&a->metadata) : "{}"),
                          .confidence = (new->confidence > 0 ? new->confidence : 1) * a->quality,
                          .created_ms = new->created_ms ? new->created_ms : rv_clock_wall_ms(),
                          .offset = (int64_t) new->offset,
                          .length = (int64_t) new->length };
    RV_TRY(rv_near_mark(m, &a->record, &a->mark));
    a->record.mark = &a->mark;
    RV_TRY(cut(m, a));
    bool about = strcmp(new->type, "concept") == 0; /* it has its edges from what it is about */
    a->n_near = a->vector && !about ? rv_memory_near(m, a->vector, a->near_nodes) : 0;
    return RV_OK;
}

rv_err rv_memory_add_many(rv_memory *m, const rv_memory_scope *scopes, const rv_memory_new *new, size_t n,
                          rv_memory_added *out, size_t *done)
{
    double from = rv_clock_ms();
    adding *all = rv_new_array(m->mem, n + 1, sizeof *all);
    if (!all) {
        return rv_fail(RV_E_NOMEM, "memory: no room to add %zu texts", n);
    }
    rv_err e = RV_OK;
    size_t ready = 0, prepared = 0;
    for (; !e && prepared < n;
         prepared++) { /* those before the first that is refused are added all the same */
        e = prepare(m, scopes[prepared], &new[prepared], &all[prepared]);
        ready += !e;
    }
    char why[WHY_BYTES];
    snprintf(why, sizeof why, "%s", e ? rv_err_text() : "");
    for (size_t i = 1; i < ready; i++) {
        all[i - 1].next = &all[i];
    }
    if (ready > 0) {
        wait_for(m, &all[0], &all[ready - 1], ready);
    }
    *done = 0;
    while (*done < ready && !all[*done].e) {
        const adding *a = &all[*done];
        out[*done] = (rv_memory_added){ a->id, a->added, a->near, a->added ? a->corrects : 0, a->odd };
        ++*done;
    }
    if (*done < ready) {
        e = rv_err_set_text(all[*done].e, all[*done].why);
    } else if (e) {
        e = rv_err_set_text(e, why);
    }
    for (size_t i = 0; i < prepared; i++) {
        free_adding(m, &all[i]);
    }
    rv_free(m->mem, all);
    rv_metric_time(&rv_memory_metrics[RV_MEMORY_ADD_TIME], rv_clock_ms() - from);
    return e;
}

rv_err rv_memory_add(rv_memory *m, rv_memory_scope scope, const rv_memory_new *new, int64_t *id, bool *added)
{
    rv_memory_added one;
    size_t done;
    RV_TRY(rv_memory_add_many(m, &scope, new, 1, &one, &done));
    *id = one.id;
    *added = one.added;
    return RV_OK;
}
