#include "kernels/bits/bits_priv.h"

size_t rv_bits_count_neon(const uint64_t *words, size_t n_words)
{
    return count_bits(words, n_words);
}

size_t rv_bits_list_neon(const uint64_t *words, size_t n_words, uint32_t *out, size_t *n_out)
{
    return list_bits(words, n_words, out, n_out);
}
