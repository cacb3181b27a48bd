/* The container: what is read back, what is refused, and that no prefix or changed byte of a file leads outside of it. */
#include "unit/model_gguf_make.h"

#include "base/rng.h"
#include "model/lfm2_file.h"
#include "model/tok.h"

static rv_gguf *opened(make *m)
{
    rv_gguf *g = NULL;
    make_file(m);
    CHECK_OK(rv_gguf_open_bytes(&rv_heap, "made", m->file, m->n, &g));
    return g;
}

/* Opening fails, and the sentence holds the word. */
static void refused(make *m, const char *word)
{
    rv_gguf *g = NULL;
    make_file(m);
    CHECK_ERR(rv_gguf_open_bytes(&rv_heap, "made", m->file, m->n, &g), RV_E_FORMAT);
    CHECK(strstr(rv_err_text(), word), "no '%s' in: %s", word, rv_err_text());
    make_free(m);
}

TEST(values_of_every_type_are_read_back)
{
    make m = { 0 };
    static const struct {
        const char *key;
        uint32_t type;
        uint64_t bits;
        size_t bytes;
        uint64_t value;
    } integers[] = {
        { "u8", RV_GGUF_U8, 255, 1, 255 },
        { "i8", RV_GGUF_I8, 7, 1, 7 },
        { "u16", RV_GGUF_U16, 65535, 2, 65535 },
        { "i16", RV_GGUF_I16, 300, 2, 300 },
        { "u32", RV_GGUF_U32, UINT32_MAX, 4, UINT32_MAX },
        { "i32", RV_GGUF_I32, 70000, 4, 70000 },
        { "u64", RV_GGUF_U64, UINT64_MAX, 8, UINT64_MAX },
        { "i64", RV_GGUF_I64, INT64_MAX, 8, INT64_MAX },
    };
    for (size_t i = 0; i < RV_COUNT(integers); i++) {
        make_key(&m, integers[i].key, integers[i].type);
        make_bytes(&m, &integers[i].bits, integers[i].bytes);
    }
    make_key(&m, "minus", RV_GGUF_I16);
    make_bytes(&m, &(int16_t){ -2 }, 2);
    make_f32(&m, "f32", 0.25f);
    make_key(&m, "f64", RV_GGUF_F64);
    make_bytes(&m, &(double){ 0.5 }, 8);
    make_key(&m, "huge", RV_GGUF_F64);
    make_bytes(&m, &(double){ 1e300 }, 8);
    make_key(&m, "yes", RV_GGUF_BOOL);
    make_bytes(&m, "\1", 1);
    make_key(&m, "two", RV_GGUF_BOOL);
    make_bytes(&m, "\2", 1);
    make_text(&m, "text", "a\xc3\xa9");
    make_text(&m, "latin1", "a\xe9");
    make_array(&m, "names", RV_GGUF_STRING, 3);
    make_string(&m, "one");
    make_string(&m, "");
    make_string(&m, "three");
    make_array(&m, "none", RV_GGUF_STRING, 0);
    make_array(&m, "numbers", RV_GGUF_I8, 3);
    make_bytes(&m, "\x01\xff\x7f", 3);
    rv_gguf *g = opened(&m);

    for (size_t i = 0; i < RV_COUNT(integers); i++) {
        uint64_t x = 0;
        CHECK_OK(rv_gguf_get_u64(g, integers[i].key, 0, UINT64_MAX, &x, NULL));
        CHECK(x == integers[i].value, "%s is %llu", integers[i].key, (unsigned long long)x);
    }
    uint64_t x = 5;
    float f;
    bool flag, found = true;
    rv_str s;
    CHECK_ERR(rv_gguf_get_u64(g, "minus", 0, UINT64_MAX, &x, NULL), RV_E_FORMAT);
    CHECK(strstr(rv_err_text(), "minus is -2"), "%s", rv_err_text());
    CHECK_ERR(rv_gguf_get_u64(g, "u8", 0, 254, &x, NULL), RV_E_FORMAT);
    CHECK_ERR(rv_gguf_get_u64(g, "f32", 0, 254, &x, NULL), RV_E_FORMAT);
    CHECK_OK(rv_gguf_get_u64(g, "absent", 0, 9, &x, &found));
    CHECK(!found && x == 5, "an absent key changed something");
    CHECK_ERR(rv_gguf_get_u64(g, "absent", 0, 9, &x, NULL), RV_E_FORMAT);
    CHECK_OK(rv_gguf_get_f32(g, "f32", &f, NULL));
    CHECK(f == 0.25f, "%g", (double)f);
    CHECK_OK(rv_gguf_get_f32(g, "f64", &f, NULL));
    CHECK(f == 0.5f, "%g", (double)f);
    CHECK_OK(rv_gguf_get_f32(g, "minus", &f, NULL));
    CHECK(f == -2.0f, "%g", (double)f);
    CHECK_ERR(rv_gguf_get_f32(g, "huge", &f, NULL), RV_E_FORMAT);
    CHECK_ERR(rv_gguf_get_f32(g, "text", &f, NULL), RV_E_FORMAT);
    CHECK_OK(rv_gguf_get_bool(g, "yes", &flag, NULL));
    CHECK(flag, "true reads as false");
    CHECK_ERR(rv_gguf_get_bool(g, "two", &flag, NULL), RV_E_FORMAT);
    CHECK_ERR(rv_gguf_get_bool(g, "u8", &flag, NULL), RV_E_FORMAT);
    CHECK_OK(rv_gguf_get_string(g, "text", &s, NULL));
    CHECK(rv_str_eq(s, "a\xc3\xa9"), "%.*s", (int)s.n, s.at);
    CHECK_ERR(rv_gguf_get_string(g, "latin1", &s, NULL), RV_E_FORMAT);
    CHECK_ERR(rv_gguf_get_string(g, "names", &s, NULL), RV_E_FORMAT);

    const rv_gguf_value *v = NULL;
    const uint8_t *at = NULL;
    static const char *const names[] = { "one", "", "three" };
    CHECK_OK(rv_gguf_get_array(g, "names", RV_GGUF_STRING, &v, NULL));
    for (size_t i = 0; i < 3; i++) {
        CHECK(rv_gguf_array_next(v, &at, &s) && rv_str_eq(s, names[i]), "string %zu", i);
    }
    CHECK(!rv_gguf_array_next(v, &at, &s), "a fourth string");
    at = NULL;
    CHECK_OK(rv_gguf_get_array(g, "none", RV_GGUF_STRING, &v, NULL));
    CHECK(!rv_gguf_array_next(v, &at, &s), "a string in an empty array");
    CHECK_ERR(rv_gguf_get_array(g, "names", RV_GGUF_U64, &v, NULL), RV_E_FORMAT);
    CHECK_OK(rv_gguf_get_array(g, "numbers", RV_GGUF_U64, &v, NULL));
    CHECK(rv_gguf_array_u64(v, 0) == 1 && (int64_t)rv_gguf_array_u64(v, 1) == -1 &&
              rv_gguf_array_u64(v, 2) == 127,
          "array of i8");
    CHECK(rv_gguf_value_count(g) == m.n_keys && rv_gguf_tensor_count(g) == 0, "counts");
    CHECK(rv_str_eq(rv_gguf_value_at(g, 2)->key, "u16"), "order of keys");
    rv_gguf_close(g);
    make_free(&m);
}

TEST(tensors_are_found_by_name_with_shape_and_place)
{
    for (uint32_t version = 2; version <= 3; version++) {
        make m = { .version = version, .alignment = 128 };
        make_u32(&m, "general.alignment", 128);
        make_add(&m, "a", RV_Q8_0, 64, 3);
        make_add(&m, "b", RV_F32, 5, 0);
        make_add(&m, "c", RV_Q6_K, 256, 2);
        rv_gguf *g = opened(&m);
        const rv_gguf_tensor *t = rv_gguf_tensor_find(g, "c");
        CHECK(t && t == rv_gguf_tensor_at(g, 2) && t->type == RV_Q6_K && t->bytes == 420, "tensor c");
        CHECK(t->dim[0] == 256 && t->dim[1] == 2 && t->dim[2] == 1 && t->dim[3] == 1 && t->n_dims == 2,
              "shape of c");
        CHECK(t->at == make_at(&m, "c") && (size_t)(t->at - m.file) % 128 == 0, "place of c");
        CHECK(!rv_gguf_tensor_find(g, "d") && !rv_gguf_tensor_find(g, ""), "found what is not there");
        CHECK(rv_gguf_version(g) == version && rv_gguf_file_bytes(g) == m.n, "version or size");
        rv_gguf_tensor_release(g, t);
        uint64_t before = rv_gguf_fingerprint(g);
        CHECK(before == rv_gguf_fingerprint(g), "the fingerprint changes by itself");
        make_at(&m, "b")[3] ^= 1;
        CHECK(before != rv_gguf_fingerprint(g), "the fingerprint does not see a changed weight");
        rv_gguf_close(g);
        make_free(&m);
    }
}

TEST(broken_containers_are_refused_by_name)
{
    make m = { 0 };
    make_u32(&m, "twice", 1);
    make_u32(&m, "twice", 2);
    refused(&m, "twice");
    make_text(&m, "bell\a", "x");
    refused(&m, "0x07");
    make_key(&m, "x", 13);
    make_bytes(&m, "12345678", 8);
    refused(&m, "type 13");
    make_array(&m, "x", RV_GGUF_ARRAY, 1);
    refused(&m, "nested");
    make_array(&m, "x", RV_GGUF_U64, (UINT64_C(1) << 61) + 1);
    make_bytes(&m, "12345678", 8);
    refused(&m, "too large");
    make_u32(&m, "general.alignment", 48);
    refused(&m, "power of two");
    make_add(&m, "t", RV_F32, 8, 0);
    make_add(&m, "t", RV_F32, 8, 0);
    refused(&m, "duplicate");
    make_add(&m, "t", RV_Q8_0, 64, 1);
    m.tensors[0].dim[0] = 48;
    refused(&m, "no multiple");
    make_add(&m, "t", RV_F32, 8, 0);
    m.tensors[0].type = 31;
    refused(&m, "type 31");
    make_add(&m, "t", RV_F32, 8, 1);
    m.tensors[0].dim[1] = UINT64_C(1) << 62;
    refused(&m, "too many elements");
    m.version = 4;
    refused(&m, "version 4");
}

TEST(a_hash_finds_among_65536_names_and_refuses_one_more)
{
    for (int over = 0; over < 2; over++) {
        make m = { 0 };
        char name[64];
        uint32_t n = RV_GGUF_MAX_VALUES + (uint32_t)over;
        for (uint32_t i = 0; i < n; i++) {
            snprintf(name, sizeof name, "key.%u", i);
            make_u32(&m, name, i);
        }
        if (over) {
            refused(&m, "too large");
            continue;
        }
        rv_gguf *g = opened(&m);
        double opened_ms = test_cpu_ms(), part = 0;
        for (uint32_t i = 0; i < n; i++) {
            uint64_t x = 0;
            snprintf(name, sizeof name, "key.%u", i);
            CHECK_OK(rv_gguf_get_u64(g, name, 0, UINT32_MAX, &x, NULL));
            CHECK(x == i, "%s is %llu", name, (unsigned long long)x);
            part = i == n / 16 ? test_cpu_ms() - opened_ms : part;
        }
        double took = test_cpu_ms() - opened_ms;
        CHECK(took <= 80 * (part + 1), "%.1f ms for a part, %.1f ms for 16 of them", part, took);
        rv_gguf_close(g);
        make_free(&m);
    }
}

TEST(what_cannot_be_mapped_is_an_error_of_its_own)
{
    rv_gguf *g = NULL;
    CHECK_ERR(rv_gguf_open(&rv_heap, temp_path("nothing.gguf"), &g), RV_E_NOT_FOUND);
    CHECK_ERR(rv_gguf_open(&rv_heap, temp_dir(), &g), RV_E_IO);
    const char *empty = temp_path("empty.gguf");
    FILE *f = fopen(empty, "wb");
    CHECK(f, "%s", empty);
    fclose(f);
    CHECK_ERR(rv_gguf_open(&rv_heap, empty, &g), RV_E_FORMAT);
    CHECK(strstr(rv_err_text(), "empty"), "%s", rv_err_text());
}

TEST(released_bytes_are_read_again_when_wanted)
{
    rv_gguf *g = NULL;
    CHECK_OK(rv_gguf_open(&rv_heap, source_path("tests/data/golden/a-q8_0.gguf"), &g));
    uint64_t before = rv_gguf_fingerprint(g);
    for (size_t i = 0; i < rv_gguf_tensor_count(g); i++) {
        rv_gguf_tensor_release(g, rv_gguf_tensor_at(g, i));
    }
    CHECK(rv_gguf_fingerprint(g) == before, "other bytes after the release");
    rv_gguf_close(g);
}

/* Opens as far as it goes; whatever comes, only what was given may be read. */
static void try_all(const uint8_t *bytes, size_t n)
{
    rv_gguf *g = NULL;
    rv_tok *tok = NULL;
    rv_lfm2_file *f = NULL;
    rv_err e = rv_gguf_open_bytes(&rv_heap, "made", bytes, n, &g);
    CHECK((e == RV_OK) == (g != NULL), "code %s", rv_err_name(e));
    if (g && rv_tok_open(&rv_heap, g, &tok) == RV_OK) {
        rv_tok_close(tok);
    }
    rv_gguf_close(g);
    if (rv_lfm2_file_open_bytes(&rv_heap, "made", bytes, n, true, &f) == RV_OK) {
        rv_lfm2_file_close(f);
    }
}

static const make_shape tiny = { RV_F32, 8, 8, 2, 0, 3, 2, { 0, 1 }, false, false };

TEST(no_prefix_of_a_model_is_read_past_its_end)
{
    make m = { 0 };
    make_model(&m, &tiny);
    make_file(&m);
    uint8_t *fence =
        fenced_bytes(0); /* the first byte that cannot be read; pages before it hold the prefix */
    for (size_t n = 0; n < m.n; n += n < m.data_at ? 7 : 501) {
        fence =
            fenced_bytes((n + 7) / 8 * 8); /* at a multiple of 8, so up to 7 bytes lie behind the prefix */
        memcpy(fence, m.file, n);
        rv_gguf *g = NULL;
        CHECK_ERR(rv_gguf_open_bytes(&rv_heap, "made", fence, n, &g), RV_E_FORMAT);
    }
    try_all(m.file, m.n);
    make_free(&m);
}

TEST(changed_bytes_of_a_model_never_lead_outside_of_it)
{
    make m = { 0 };
    rv_rng rng;
    rv_rng_init(&rng, 20);
    make_model(&m, &tiny);
    make_file(&m);
    size_t room = (m.n + 7) / 8 * 8;
    uint8_t *copy = fenced_bytes(room);
    for (int round = 0; round < 1500; round++) {
        memcpy(copy, m.file, m.n);
        for (uint64_t k = 0; k <= rv_rng_below(&rng, 3); k++) {
            size_t at = rv_rng_below(&rng, m.data_at);
            static const uint8_t likely[] = { 0, 1, 0x7f, 0x80, 0xff };
            uint64_t pick = rv_rng_below(&rng, 8);
            copy[at] = pick < RV_COUNT(likely) ? likely[pick] : (uint8_t)rv_rng_next(&rng);
        }
        try_all(copy, m.n);
    }
    make_free(&m);
}
