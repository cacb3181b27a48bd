#ifndef RV_BASE_CLOCK_H
#define RV_BASE_CLOCK_H
#include <stddef.h>
#include <stdint.h>

uint64_t rv_clock_ns(void);      /* monotonic */
double rv_clock_ms(void);        /* monotonic, for latencies */
int64_t rv_clock_wall_ms(void);  /* UTC, milliseconds since 1970 */
/** rv_clock_iso - wall_ms as 2026-01-31T23:59:59.123Z into out[32]. */
void rv_clock_iso(int64_t wall_ms, char out[32]);

#endif
