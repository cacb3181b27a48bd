/* What is accepted can be written, and the written text reads back as the same value. */
#include "base/json.h"

#include <assert.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    json_t *first = NULL, *second = NULL;
    rv_err e = rv_json_parse((const char *)data, n, &first);
    if (e) {
        assert(!first && e == RV_E_FORMAT);
        return 0;
    }
    rv_text t;
    rv_text_init(&t, &rv_heap, 16 * n + 64);
    rv_json_text(first, &t);
    assert(!t.failed);
    e = rv_json_parse(t.at, t.n, &second);
    assert(e == RV_OK && json_equal(first, second));
    if (json_is_string(first)) { /* our own writer of strings agrees with jansson's */
        json_decref(second);
        rv_text_clear(&t);
        rv_json_string(&t, json_string_value(first), json_string_length(first));
        e = rv_json_parse(t.at, t.n, &second);
        assert(e == RV_OK && json_equal(first, second));
    }
    json_decref(second);
    json_decref(first);
    rv_text_deinit(&t);
    return 0;
}
