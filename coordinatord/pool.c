/* Decides how many workers there should be; no state, no clock, no I/O. */
#include "pool.h"

static const struct pool_worker *find(const struct pool_worker *workers, size_t n, unsigned number)
{
        for (size_t i = 0; i < n; i++)
                if (workers[i].number == number)
                        return &workers[i];
        return NULL;
}

static void plan_start(const struct pool_worker *workers, size_t n, uint64_t missing,
                       const struct pool_limits *l, struct pool_plan *ret)
{
        for (unsigned number = 1; number <= l->max && missing > 0 && ret->n_start < POOL_STEP;
             number++) {
                const struct pool_worker *w = find(workers, n, number);
                if (w && (w->there || w->starting))
                        continue;
                ret->start[ret->n_start++] = number;
                missing--;
        }
}

/* The free worker with the highest number below `below` that is not needed; NULL = none. */
static const struct pool_worker *next_free(const struct pool_worker *workers, size_t n,
                                           unsigned below)
{
        const struct pool_worker *best = NULL;
        for (size_t i = 0; i < n; i++) {
                const struct pool_worker *w = &workers[i];
                if (w->usable && !w->busy && !w->needed && w->number < below &&
                    (!best || w->number > best->number))
                        best = w;
        }
        return best;
}

void pool_plan(const struct pool_worker *workers, size_t n, size_t waiting,
               const struct pool_limits *l, uint64_t now, struct pool_plan *ret)
{
        struct pool_plan plan = { 0 };
        uint64_t have = 0, all = 0, busy = 0;
        for (size_t i = 0; i < n; i++) {
                have += workers[i].usable || workers[i].starting;
                all += workers[i].there || workers[i].starting;
                busy += workers[i].busy;
        }
        uint64_t wanted = MIN(MAX(busy + waiting + l->spare, l->min), l->max);
        if (l->max > 0 && have < wanted && all < l->max)
                plan_start(workers, n, MIN(wanted - have, l->max - all), l, &plan);
        unsigned below = POOL_NUMBER_MAX + 1;
        for (uint64_t extra = have > wanted ? have - wanted : 0;
             l->max > 0 && extra > 0 && plan.n_stop < POOL_STEP; extra--) {
                const struct pool_worker *w = next_free(workers, n, below);
                if (!w)
                        break;
                below = w->number;
                if (w->free_since + l->idle_usec <= now)
                        plan.stop[plan.n_stop++] = w->number;
        }
        *ret = plan;
}
