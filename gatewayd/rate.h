/* How often somebody may ask (GCRA): one time per key, in memory. A restart gives one extra burst.
 *
 * Keys are tokens and client addresses; the table is bounded, and who has not asked for longest is
 * forgotten first, which is right once its burst is full again. */
#pragma once

#include "common/base/util.h"

struct rate_table;
struct rate_limit {
        uint64_t per_second, burst; /* per_second 0 = no limit */
};
struct rate_verdict {
        bool allowed;
        uint64_t remaining;  /* that would be allowed right now, after this one */
        uint64_t reset_usec; /* until the whole burst is there again */
        uint64_t retry_usec; /* not allowed: until one is */
        uint64_t limit;      /* the burst; 0 = there is no limit */
};

struct rate_table *rate_table_new(size_t keys_max);
struct rate_table *rate_table_free(struct rate_table *t);
/* Pure but for the table: the caller gives the time (monotonic). Counts when it is allowed. */
struct rate_verdict rate_take(struct rate_table *t, const char *key, const struct rate_limit *l,
                              uint64_t now);
/* The same without counting: would one be allowed? */
struct rate_verdict rate_look(struct rate_table *t, const char *key, const struct rate_limit *l,
                              uint64_t now);
size_t rate_table_keys(const struct rate_table *t);
