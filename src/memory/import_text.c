/* From a file to text: bytes as they are, HTML through libxml2, PDF through pdftotext in a process of its own. */
#include "memory/import_priv.h"
#include "base/child.h"
#include "memory/html.h"

#include <string.h>
#include <strings.h>

enum { TEXT_BYTES = 64 << 20, PDF_MEMORY = 1 << 30, PDF_CPU_S = 60, PDF_WALL_S = 120 };

file_kind rv_file_kind_of(const char *path)
{
    static const struct {
        const char *end;
        file_kind kind;
    } ends[] = { { ".txt", RV_FILE_TEXT },   { ".md", RV_FILE_MARKDOWN }, { ".markdown", RV_FILE_MARKDOWN },
                 { ".html", RV_FILE_HTML },  { ".htm", RV_FILE_HTML },    { ".pdf", RV_FILE_PDF },
                 { ".jsonl", RV_FILE_ROWS }, { ".ndjson", RV_FILE_ROWS } };
    size_t n = strlen(path);
    for (size_t i = 0; i < RV_COUNT(ends); i++) {
        size_t k = strlen(ends[i].end);
        if (n > k && strcasecmp(path + n - k, ends[i].end) == 0) {
            return ends[i].kind;
        }
    }
    return RV_FILE_KINDS;
}

size_t rv_first_invalid(const char *text, size_t n)
{
    size_t at = 0;
    uint32_t code;
    for (size_t k; at < n && (k = rv_utf8_decode(text + at, n - at, &code)) > 0 && code != 0;) {
        at += k;
    }
    return at;
}

static rv_err read_pdf(const rv_alloc *mem, const char *path, const char *bytes, size_t n, rv_text *out)
{
    static const rv_child_limits limits = {
        .output_bytes = TEXT_BYTES, .memory_bytes = PDF_MEMORY, .cpu_s = PDF_CPU_S, .wall_s = PDF_WALL_S
    };
    static const char *const argv[] = { "pdftotext", "-q",        "-enc", "UTF-8", "-eol",
                                        "unix",      "/dev/fd/3", "-",    NULL };
    char *program = rv_child_find(mem, argv[0]);
    if (!program) {
        return rv_fail(RV_E_UNSUPPORTED,
                       "%s: PDF is read with pdftotext, which is not installed; on Debian: apt-get install "
                       "poppler-utils",
                       path);
    }
    int code = 0;
    rv_err e = rv_child_run(program, argv, bytes, n, &limits, out, &code);
    rv_free(mem, program);
    if (e) {
        return rv_fail(e, "%s: %s", path, rv_err_text());
    }
    if (code != 0) {
        return rv_fail(RV_E_FORMAT,
                       "%s: pdftotext cannot read it (exit code %d): it is damaged, needs a password, or "
                       "needs more than %d MiB or %d s",
                       path, code, PDF_MEMORY >> 20, PDF_CPU_S);
    }
    const char *text = rv_text_get(out);
    return text[strspn(text, " \n\r\t\f")]
               ? RV_OK
               : rv_fail(RV_E_FORMAT, "%s: there is no text in it, only images; run it through OCR first",
                         path);
}

rv_err rv_import_read(const rv_alloc *mem, const char *path, file_kind kind, const char *bytes, size_t n,
                      read_text *out)
{
    *out = (read_text){ .kind = kind == RV_FILE_MARKDOWN ? RV_TEXT_MARKDOWN : RV_TEXT_PLAIN };
    rv_text_init(&out->made, mem, TEXT_BYTES);
    if (kind == RV_FILE_TEXT || kind == RV_FILE_MARKDOWN) {
        out->placed = true;
        out->skipped = n >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
        out->at = bytes + out->skipped;
        out->n = n - out->skipped;
    } else {
        out->paged = kind == RV_FILE_PDF;
        out->kind = kind == RV_FILE_HTML ? RV_TEXT_HEADED : RV_TEXT_PLAIN;
        rv_err e = kind == RV_FILE_HTML ? rv_html_text(bytes, n, &out->made)
                                        : read_pdf(mem, path, bytes, n, &out->made);
        if (e) {
            return e;
        }
        out->at = rv_text_get(&out->made);
        out->n = out->made.n;
    }
    size_t bad = rv_first_invalid(out->at, out->n);
    if (bad == out->n) {
        return RV_OK;
    }
    if (out->placed && out->at[bad] == 0) {
        return rv_fail(RV_E_FORMAT, "%s: byte %zu is a zero byte: this is no text", path, bad + out->skipped);
    }
    return out->placed ? rv_fail(RV_E_FORMAT,
                                 "%s: byte %zu is not UTF-8 text; convert the file, for example with iconv",
                                 path, bad + out->skipped)
                       : rv_fail(RV_E_FORMAT, "%s: what was read from it is not text", path);
}
