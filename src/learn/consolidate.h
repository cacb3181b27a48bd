/* Exact consolidation of adapters: the product of all factors of an adapter, however many were stacked, at a rank that is wanted. What is left out
 * is the least that any adapter of that rank can leave out (Eckart and Young 1936). */
#ifndef RV_LEARN_CONSOLIDATE_H
#define RV_LEARN_CONSOLIDATE_H
#include "model/lora.h"

/**
 * rv_lora_consolidate - each pair of `from` at exactly `rank`, scale 1: wider ones cut by their singular values, narrower ones widened by factors
 * that change nothing yet (A drawn from seed, B zero).
 *
 * discarded  out: of the pairs that were cut the sum of the squared singular values that are left out, of that of all; 0 .. 1. The squared
 *            Frobenius distance of the products is that part
 * Errors:    RV_E_ARG rank.  RV_E_NOMEM.
 */
rv_err rv_lora_consolidate(const rv_alloc *mem, const rv_lora *from, const rv_lfm2_file *file, size_t rank,
                           uint64_t seed, rv_lora **out, double *discarded) RV_MUST_CHECK;
#endif
