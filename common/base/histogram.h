/* Counts of durations in fixed buckets, as Prometheus wants them: each daemon fills its own,
 * gatewayd writes them out. */
#pragma once

#include "util.h"

#define HISTOGRAM_BOUNDS 14u
/* Upper ends in microseconds, each included; what is longer than the last is in counts' last. */
extern const uint64_t histogram_bounds[HISTOGRAM_BOUNDS];

struct histogram {
        uint64_t counts[HISTOGRAM_BOUNDS + 1]; /* each bucket for itself, not summed up */
        uint64_t sum_usec;
};

void histogram_add(struct histogram *h, uint64_t usec);
