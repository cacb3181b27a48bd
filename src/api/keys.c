#include "api/keys.h"

#include "base/file.h"
#include "base/str.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { KEYS_MAX = 1024, FILE_MAX = 1 << 20, NAME_MAX_BYTES = 64, KEY_MIN = 16, KEY_MAX = 256, DIGEST = 32 };

typedef struct one_key {
    char name[NAME_MAX_BYTES + 1];
    unsigned char digest[DIGEST];
} one_key;

struct rv_api_keys {
    const rv_alloc *mem;
    size_t n;
    one_key at[KEYS_MAX];
};

static bool digest_of(rv_str key, unsigned char out[DIGEST])
{
    unsigned len = DIGEST;
    return EVP_Digest(key.at, key.n, out, &len, EVP_sha256(), NULL) == 1;
}

static bool is_name(rv_str s)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    bool good = s.n >= 1 && s.n <= NAME_MAX_BYTES;
    for (size_t i = 0; good && i < s.n; i++) {
        good = s.at[i] && strchr(allowed, s.at[i]);
    }
    return good;
}

static bool is_key(rv_str s)
{
    bool good = s.n >= KEY_MIN && s.n <= KEY_MAX;
    for (size_t i = 0; good && i < s.n; i++) {
        good = s.at[i] > ' ' && s.at[i] < 127;
    }
    return good;
}

/* The key itself is never part of a message. */
static rv_err add_line(rv_api_keys *keys, const char *path, size_t line, rv_str text)
{
    one_key *key = &keys->at[keys->n];
    size_t n = 0;
    while (n < text.n && text.at[n] != ' ' && text.at[n] != '\t') {
        n++;
    }
    rv_str name = rv_str_of(text.at, n), secret = rv_str_trim(rv_str_of(text.at + n, text.n - n));
    if (!is_name(name) || !is_key(secret)) {
        return rv_fail(
            RV_E_CONFIG,
            "%s:%zu: expected NAME KEY: a name of 1 to %d letters, digits, - _ or . and a key of %d to "
            "%d characters without blanks",
            path, line, NAME_MAX_BYTES, KEY_MIN, KEY_MAX);
    }
    if (keys->n == KEYS_MAX) {
        return rv_fail(RV_E_CONFIG, "%s:%zu: more than %d keys", path, line, KEYS_MAX);
    }
    memcpy(key->name, name.at, name.n);
    key->name[name.n] = 0;
    if (!digest_of(secret, key->digest)) {
        return rv_fail(RV_E_NOMEM, "%s: SHA-256", path);
    }
    for (size_t i = 0; i < keys->n; i++) {
        if (strcmp(keys->at[i].name, key->name) == 0 ||
            memcmp(keys->at[i].digest, key->digest, DIGEST) == 0) {
            return rv_fail(RV_E_CONFIG, "%s:%zu: the name or the key of %s is there already, as %s", path,
                           line, key->name, keys->at[i].name);
        }
    }
    keys->n++;
    return RV_OK;
}

static rv_err add_lines(rv_api_keys *keys, const char *path, rv_str text)
{
    for (size_t line = 1; text.n > 0; line++) {
        const char *end = memchr(text.at, '\n', text.n);
        size_t n = end ? (size_t)(end - text.at) : text.n;
        rv_str one = rv_str_trim(rv_str_of(text.at, n));
        if (one.n > 0 && one.at[0] != '#') {
            RV_TRY(add_line(keys, path, line, one));
        }
        n += end != NULL;
        text = rv_str_of(text.at + n, text.n - n);
    }
    return keys->n > 0 ? RV_OK : rv_fail(RV_E_CONFIG, "%s: there is no key in it; a line is NAME KEY", path);
}

rv_err rv_api_keys_read(const rv_alloc *mem, const char *path, rv_api_keys **out)
{
    struct stat info;
    char *text = NULL;
    size_t n = 0;
    if (stat(path, &info) == 0 && (info.st_mode & 077)) {
        return rv_fail(RV_E_CONFIG, "%s: others may read it (mode %03o); chmod 600 it", path,
                       (unsigned)info.st_mode & 0777);
    }
    RV_TRY(rv_file_read(mem, path, FILE_MAX, &text, &n));
    rv_api_keys *keys = rv_new(mem, sizeof *keys);
    rv_err e = keys ? RV_OK : rv_fail(RV_E_NOMEM, "%s: reading keys", path);
    if (!e) {
        keys->mem = mem;
        e = add_lines(keys, path, rv_str_of(text, n));
    }
    OPENSSL_cleanse(text, n);
    rv_free(mem, text);
    if (e) {
        rv_api_keys_free(keys);
        return e;
    }
    *out = keys;
    return RV_OK;
}

void rv_api_keys_free(rv_api_keys *keys)
{
    if (keys) {
        rv_free(keys->mem, keys);
    }
}

const char *rv_api_keys_find(const rv_api_keys *keys, const char *authorization)
{
    static const char scheme[] = "bearer ";
    unsigned char digest[DIGEST];
    const char *found = NULL;
    if (!authorization || strncasecmp(authorization, scheme, sizeof scheme - 1) != 0) {
        return NULL;
    }
    rv_str key = rv_str_trim(rv_str_from(authorization + sizeof scheme - 1));
    if (!is_key(key) || !digest_of(key, digest)) {
        return NULL;
    }
    for (size_t i = 0; i < keys->n; i++) { /* all of them, whichever it is */
        found = CRYPTO_memcmp(keys->at[i].digest, digest, DIGEST) == 0 ? keys->at[i].name : found;
    }
    return found;
}
