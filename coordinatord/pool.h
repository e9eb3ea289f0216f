/* How many workers there should be: a pure function of workers, queue and time; and who starts and
 * stops them.
 *
 * Wanted are as many as hold a session or are waited for, and `spare` warm ones beside them, within
 * min and max. Missing ones are started at once, lowest number first; those too many, the free
 * ones with the highest numbers, are stopped when they have been free for `idle`; never one that
 * holds a session, or keeps a slot ready that a target wants.
 */
#pragma once

#include "common/base/util.h"

#define POOL_NUMBER_MAX 1000 /* workers are named 1 to this at most */
#define POOL_STEP 4          /* started or stopped at a time */

struct pool_worker {
        unsigned number;
        bool usable;         /* linked, neither draining nor broken */
        bool there;          /* linked, whatever its state */
        bool busy;           /* holds a session, or one is on its way */
        bool needed;         /* keeps a slot ready that a target wants (warm.h): stays */
        bool starting;       /* was asked for and has not greeted yet */
        uint64_t free_since; /* monotonic */
};
struct pool_limits {
        uint64_t min, max, spare; /* max 0 = the pool is not ours to change */
        uint64_t idle_usec;
};
struct pool_plan {
        unsigned start[POOL_STEP], stop[POOL_STEP];
        size_t n_start, n_stop;
};
/* waiting: sessions in the queue that no free worker can take. */
void pool_plan(const struct pool_worker *workers, size_t n, size_t waiting,
               const struct pool_limits *l, uint64_t now, struct pool_plan *ret);

struct coordinator;
struct pool;
int pool_new(struct coordinator *c, struct pool **ret) mustuse;
struct pool *pool_free(struct pool *p);
DEFINE_CLEANUP(struct pool, pool_free)
void pool_tick(struct pool *p); /* once a second */
