/* Lines of JSON objects: {"text": ..., "type"?, "source"?, "user"?, "origin"?, "tags"?, "confidence"?, "created_ms"?, "metadata"?}. Other
 * keys are passed over, so that what an export or another program wrote can be read for its texts. A text that is there already (same
 * type and user) is not added again, which also makes the import of a file go on where it was cut short. */
#include "memory/import_priv.h"

#include <string.h>

enum { ROWS_MAX = 128 };

typedef struct rows {
    importing *job;
    const char *path;
    json_t *objects[ROWS_MAX]; /* [n] what the nodes borrow from */
    size_t lines[ROWS_MAX];
    rv_memory_new nodes[ROWS_MAX];
    rv_memory_scope scopes[ROWS_MAX];
    const char *tags[ROWS_MAX][RV_MEMORY_TAGS_MAX];
    size_t n;
} rows;

static rv_err at_line(const rows *r, size_t line, rv_err e)
{
    return rv_fail(e, "%s: line %zu: %s", r->path, line, rv_err_text());
}

static rv_err read_tags(const rows *r, const json_t *o, const char **tags, size_t *n)
{
    json_t *list = NULL;
    RV_TRY(rv_json_get_array(o, "tags", &list));
    size_t own = json_array_size(list);
    if (own + r->job->n_tags > RV_MEMORY_TAGS_MAX) {
        return rv_fail(RV_E_ARG, "tags: %zu, expected at most %d", own + r->job->n_tags, RV_MEMORY_TAGS_MAX);
    }
    for (size_t i = 0; i < own; i++) {
        tags[i] = json_string_value(json_array_get(list, i));
        if (!tags[i] || strlen(tags[i]) != json_string_length(json_array_get(list, i))) {
            return rv_fail(RV_E_ARG, "tags: expected texts without zero bytes");
        }
    }
    for (size_t i = 0; i < r->job->n_tags; i++) {
        tags[own + i] = r->job->tags[i];
    }
    *n = own + r->job->n_tags;
    return RV_OK;
}

static rv_err read_row(const rows *r, const json_t *o, const char **tags, rv_memory_new *out,
                       rv_memory_scope *scope)
{
    rv_memory_new node = { .type = "note", .source = r->path, .tags = tags };
    json_t *metadata = NULL;
    if (!json_is_object(o)) {
        return rv_fail(RV_E_ARG, "expected an object {\"text\": ...}");
    }
    RV_TRY(rv_json_need_string(o, "text", &node.text, &node.text_bytes));
    RV_TRY(node.text_bytes ? RV_OK : rv_fail(RV_E_ARG, "text: expected a text, found an empty one"));
    RV_TRY(rv_json_get_string(o, "type", &node.type, NULL));
    RV_TRY(rv_json_get_string(o, "source", &node.source, NULL));
    const char *user = r->job->scope.user; /* said by the caller, it is whose all of it is */
    RV_TRY(*user ? RV_OK : rv_json_get_string(o, "user", &user, NULL));
    RV_TRY(rv_json_get_string(o, "origin", &node.origin, NULL));
    RV_TRY(rv_json_get_double(o, "confidence", 0, 1, &node.confidence));
    RV_TRY(rv_json_get_int(o, "created_ms", 0, INT64_MAX / 2, &node.created_ms));
    RV_TRY(rv_json_get_object(o, "metadata", &metadata));
    RV_TRY(read_tags(r, o, tags, &node.n_tags));
    node.metadata = metadata;
    *out = node;
    *scope = rv_memory_of(user);
    return RV_OK;
}

static rv_err write_rows(rows *r)
{
    rv_memory_added added[ROWS_MAX];
    size_t done = 0, n = r->n;
    rv_err e = n ? rv_memory_add_many(r->job->m, r->scopes, r->nodes, n, added, &done) : RV_OK;
    for (size_t i = 0; i < done; i++) {
        r->job->done->notes_added += added[i].added;
    }
    if (e) {
        e = at_line(r, r->lines[done], e);
    }
    for (size_t i = 0; i < n; i++) {
        json_decref(r->objects[i]);
    }
    r->n = 0;
    return e;
}

static rv_err add_line(rows *r, const char *at, size_t n, size_t line)
{
    json_t *o = NULL;
    rv_err e = rv_json_parse(at, n, &o);
    e = e ? e : read_row(r, o, r->tags[r->n], &r->nodes[r->n], &r->scopes[r->n]);
    if (!e && (strcmp(r->nodes[r->n].type, "document") == 0 || strcmp(r->nodes[r->n].type, "chunk") == 0)) {
        json_decref(o); /* parts of files: they come with their file */
        return RV_OK;
    }
    if (e) {
        json_decref(o);
        return at_line(r, line, e);
    }
    r->objects[r->n] = o;
    r->lines[r->n++] = line;
    return r->n == ROWS_MAX ? write_rows(r) : RV_OK;
}

rv_err rv_import_rows(importing *job, const char *path, const char *bytes, size_t n)
{
    rows *r = rv_new(job->m->mem, sizeof *r);
    if (!r) {
        return rv_fail(RV_E_NOMEM, "%s: no memory to read it", path);
    }
    *r = (rows){ .job = job, .path = path };
    rv_err e = RV_OK;
    size_t line = 0;
    for (size_t at = 0; !e && at < n;) {
        const char *end = memchr(bytes + at, '\n', n - at);
        size_t length = end ? (size_t)(end - bytes) - at : n - at;
        line++;
        if (rv_str_trim(rv_str_of(bytes + at, length)).n > 0) {
            e = add_line(r, bytes + at, length, line);
        }
        at += length + 1;
        e = e || r->n ? e : rv_import_tell(job, path, at < n ? at : n);
    }
    char why[1024];
    strncpy(why, e ? rv_err_text() : "", sizeof why - 1);
    why[sizeof why - 1] = 0;
    rv_err written = write_rows(r); /* also what stands before a line that is refused */
    e = e && !written ? rv_err_set_text(e, why) : written;
    rv_free(job->m->mem, r);
    return e;
}
