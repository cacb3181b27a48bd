/* What the files of an import share. */
#ifndef RV_MEMORY_IMPORT_PRIV_H
#define RV_MEMORY_IMPORT_PRIV_H
#include "memory/memory_priv.h"

typedef enum file_kind {
    RV_FILE_TEXT,
    RV_FILE_MARKDOWN,
    RV_FILE_HTML,
    RV_FILE_PDF,
    RV_FILE_ROWS,
    RV_FILE_KINDS
} file_kind;

/** rv_file_kind_of - by the end of its name; RV_FILE_KINDS: we do not read it. */
file_kind rv_file_kind_of(const char *path);

typedef struct importing {
    rv_memory *m;
    rv_memory_scope scope;
    const char *const *tags;
    size_t n_tags;
    rv_text joined_tags;
    rv_memory_import *done;
    rv_memory_progress progress; /* NULL: nobody asks */
    void *self;
    uint64_t read, total; /* bytes of the files before this one, of all */
    size_t failed;        /* files and folders that were left out, */
    rv_err first;         /* of the first of them, */
    char why[1024];       /* and why */
} importing;

/** rv_import_tell - so many bytes of this file are done. RV_E_CANCELLED: the import ends here. */
rv_err rv_import_tell(const importing *job, const char *path, size_t bytes) RV_MUST_CHECK;

/* A file as text. */
typedef struct read_text {
    const char *at;    /* valid UTF-8 without zero bytes */
    size_t n, skipped; /* skipped: bytes of the file before it */
    text_kind kind;
    bool placed;  /* its bytes are those of the file */
    bool paged;   /* pages part at form feeds */
    rv_text made; /* when it was made and not borrowed */
} read_text;

/**
 * rv_import_read - the bytes of a file of a kind (not of rows) as text; to be freed with rv_text_deinit(&out->made), also after an error.
 *
 * Errors: RV_E_FORMAT not UTF-8 (byte), or a PDF that is damaged, locked or without text.  RV_E_UNSUPPORTED a PDF, and pdftotext is
 *         not installed.  RV_E_TIMEOUT, RV_E_TOO_LARGE a PDF took more time or gives more text than it may.  RV_E_NOMEM.
 */
rv_err rv_import_read(const rv_alloc *mem, const char *path, file_kind kind, const char *bytes, size_t n,
                      read_text *out) RV_MUST_CHECK;

/** rv_import_rows - lines of JSON objects as nodes. RV_E_FORMAT, RV_E_ARG, RV_E_TOO_LARGE with path and line; nothing of the file was added then.
 * RV_E_CANCELLED, and what the memory says; some lines are in the memory. */
rv_err rv_import_rows(importing *job, const char *path, const char *bytes, size_t n) RV_MUST_CHECK;

/** rv_first_invalid - where a text stops being UTF-8 without zero bytes; n: nowhere. */
size_t rv_first_invalid(const char *text, size_t n);
#endif
