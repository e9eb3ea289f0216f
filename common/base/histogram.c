/* Sorts durations into buckets. */
#include "histogram.h"

const uint64_t histogram_bounds[HISTOGRAM_BOUNDS] = {
        500,    1000,   2500,   5000,    10000,   25000,   50000,
        100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000,
};

void histogram_add(struct histogram *h, uint64_t usec)
{
        size_t i = 0;

        while (i < HISTOGRAM_BOUNDS && usec > histogram_bounds[i])
                i++;
        h->counts[i]++;
        h->sum_usec += usec;
}
