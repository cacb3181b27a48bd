/* Any bytes that a judge somewhere else answers with are a quality of 0 .. 1, or no judgement. */
#include "app/judge.h"

#include <assert.h>
#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    double quality = 7;
    rv_err e = rv_remote_judge_read((const char *)data, n, &quality);
    assert(e == RV_OK && (isnan(quality) || (quality >= 0 && quality <= 1)));
    return 0;
}
