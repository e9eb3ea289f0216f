/* What all providers share: how long to wait before the next attempt. */
#include "provider.h"

#define BACKOFF_FIRST (500 * USEC_PER_MSEC)
#define BACKOFF_MAX (8 * USEC_PER_SEC)
#define RETRY_AFTER_MAX (300 * USEC_PER_SEC)

uint64_t provider_backoff(unsigned attempt, uint64_t retry_after_usec, uint32_t random)
{
        uint64_t wait;

        if (retry_after_usec > 0)
                return MIN(retry_after_usec, RETRY_AFTER_MAX);
        wait = attempt > 5 ? BACKOFF_MAX : BACKOFF_FIRST << (MAX(attempt, 1U) - 1);
        wait = MIN(wait, BACKOFF_MAX);
        return wait - wait / 4 * (random % 1024) / 1024;
}
