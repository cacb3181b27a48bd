/* Time. Latencies are measured with the monotonic clock; records carry UTC. Threads: any thread. */
#ifndef RV_BASE_CLOCK_H
#define RV_BASE_CLOCK_H
#include <stddef.h>
#include <stdint.h>

/** rv_clock_ns, rv_clock_ms - monotonic since some point in the past; only differences mean something. */
uint64_t rv_clock_ns(void);
double rv_clock_ms(void);

/** rv_clock_wall_ms - UTC, milliseconds since 1970; may jump when somebody sets the clock. */
int64_t rv_clock_wall_ms(void);

/** rv_clock_iso - wall_ms as 2026-01-31T23:59:59.123Z into out[32]. Outside the years 0 to 9999: the nearest of them. */
void rv_clock_iso(int64_t wall_ms, char out[32]);

#endif
