/* Any bytes are a file of the archive whose lines can be read, or are refused. */
#include "store/archive.h"
#include "store/witness.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char *text = NULL;
    size_t size = 0, at = 0;
    int64_t seq;
    rv_str body;
    if (rv_archive_unpack(&rv_heap, data, n, &text, &size)) {
        assert(!text);
        text = (char *)(uintptr_t)data; /* the lines are read all the same */
        size = n;
    }
    while (rv_witness_line(text, size, &at, &seq, &body)) {
        assert(seq >= 0 && at <= size && body.at >= text && body.n <= size &&
               body.at + body.n <= text + size);
    }
    if (text != (const char *)data) {
        assert(text[size] == 0);
        rv_free(&rv_heap, text);
    }
    return 0;
}
