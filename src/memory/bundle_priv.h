/* What reading and writing a bundle share. */
#ifndef RV_MEMORY_BUNDLE_PRIV_H
#define RV_MEMORY_BUNDLE_PRIV_H
#include "memory/bundle.h"

#include <openssl/evp.h>

enum {
    RV_BUNDLE_HASH = 32,
    RV_BUNDLE_VERSION = 3,
    RV_BUNDLE_RERANK = 20,
    RV_BUNDLE_SHORT = 16,
    RV_BUNDLE_NAME = 64
};

/* nodes-0123456789abcdef.jsonl: name, the first digits of its hash, end */
extern const struct rv_bundle_part_name {
    const char *name, *end;
} rv_bundle_parts[RV_BUNDLE_PARTS];
/** rv_bundle_good_name - exactly that, so that a name is no way out of the folder. */
bool rv_bundle_good_name(rv_bundle_part part, const char *name);

/* SHAKE-256 of 32 bytes. rv_shake_end takes ctx, NULL too: RV_E_NOMEM. */
EVP_MD_CTX *rv_shake_begin(void);
rv_err rv_shake_end(EVP_MD_CTX *ctx, unsigned char out[RV_BUNDLE_HASH]) RV_MUST_CHECK;
void rv_hex(const unsigned char *bytes, size_t n, char *out); /* [2 * n + 1] */

rv_err rv_bundle_content_hash(const uint64_t bytes[RV_BUNDLE_PARTS],
                              unsigned char digests[RV_BUNDLE_PARTS][RV_BUNDLE_HASH],
                              char out[RV_BUNDLE_HEX + 1]) RV_MUST_CHECK;
rv_err rv_bundle_witness_of(const rv_bundle_head *h, const char *content_hash,
                            char out[RV_BUNDLE_HEX + 1]) RV_MUST_CHECK;
/** rv_bundle_generation - of the bundle in a folder; 0 when there is none. A damaged one is an error, not replaced. */
rv_err rv_bundle_generation(const rv_alloc *mem, const char *dir, uint64_t *out) RV_MUST_CHECK;
#endif
