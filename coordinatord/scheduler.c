/* Picks workers for queued sessions; no state, no clock, no I/O. */
#include "scheduler.h"

#include "common/base/map.h"

struct order {
        uint64_t place; /* slots of the tenant + its sessions before this one */
        uint64_t queued_us;
        size_t index;
};

static int order_compare(const void *a, const void *b)
{
        const struct order *x = a, *y = b;

        if (x->place != y->place)
                return x->place < y->place ? -1 : 1;
        if (x->queued_us != y->queued_us)
                return x->queued_us < y->queued_us ? -1 : 1;
        return x->index < y->index ? -1 : x->index > y->index;
}

/* How many the tenant had before this one; counts it. */
static uint64_t take_share(struct map *shares, const char *tenant)
{
        uintptr_t n = (uintptr_t) map_get(shares, tenant);

        (void) map_set(shares, tenant, (void *) (n + 1));
        return n;
}

/* First by time, which counts the sessions of each tenant; then by place. held: slots by tenant. */
static void put_in_order(struct order *order, const struct sched_session *sessions, size_t n,
                         const struct map *held)
{
        cleanup_map struct map *before = map_new();

        for (size_t i = 0; i < n; i++)
                order[i] = (struct order){ 0, sessions[i].queued_us, i };
        qsort(order, n, sizeof(*order), order_compare);
        for (size_t i = 0; i < n; i++) {
                const char *tenant = sessions[order[i].index].tenant;
                tenant = tenant ? tenant : "";
                order[i].place = (uintptr_t) map_get(held, tenant) + take_share(before, tenant);
        }
        qsort(order, n, sizeof(*order), order_compare);
}

static bool can_make(const struct sched_worker *w, const struct sched_session *s)
{
        return w->usable && (w->kinds & (UINT32_C(1) << s->kind)) &&
               (!s->image || !w->image || streq(s->image, w->image));
}

/* 0 = no; higher is better. */
static int fitness(const struct sched_session *s, const struct sched_worker *w, uint64_t now)
{
        if (!can_make(w, s) || w->taken || w->not_before > now)
                return 0;
        if (w->state == SLOT_STATE_COLD)
                return 2;
        if (w->state != SLOT_STATE_WARM)
                return 0;
        if (w->kind != s->kind)
                return 1;
        bool size = (!s->width || s->width == w->width) && (!s->height || s->height == w->height);
        return size ? 4 : 3;
}

static bool pick_free(const struct sched_session *s, const struct sched_worker *workers, size_t n,
                      const bool *used, uint64_t now, size_t *ret)
{
        int best = 0;

        for (size_t i = 0; i < n; i++) {
                int f = used[i] ? 0 : fitness(s, &workers[i], now);
                if (f > best ||
                    (f == best && f > 0 && workers[i].free_since < workers[*ret].free_since)) {
                        best = f;
                        *ret = i;
                }
        }
        return best > 0;
}

/* A worker that will be free without anybody's doing; the session waits for that one. */
static bool pick_coming(const struct sched_session *s, const struct sched_worker *workers, size_t n,
                        const bool *used, uint64_t now, size_t *ret, uint64_t *wake_at)
{
        for (size_t i = 0; i < n; i++) {
                if (used[i] || !can_make(&workers[i], s))
                        continue;
                bool pausing = !workers[i].taken && workers[i].not_before > now;
                if (!workers[i].coming && !pausing)
                        continue;
                if (pausing && (*wake_at == 0 || workers[i].not_before < *wake_at))
                        *wake_at = workers[i].not_before;
                *ret = i;
                return true;
        }
        return false;
}

/* own: of the session's tenant only, which is at its limit. */
static bool pick_idle(const struct sched_session *s, const struct sched_worker *workers, size_t n,
                      const bool *used, bool own, size_t *ret)
{
        bool found = false;

        for (size_t i = 0; i < n; i++) {
                if (used[i] || !workers[i].idle_since || !can_make(&workers[i], s) ||
                    (own && !streq(workers[i].tenant, s->tenant)))
                        continue;
                if (!found || workers[i].idle_since < workers[*ret].idle_since)
                        *ret = i;
                found = true;
        }
        return found;
}

void scheduler_run(const struct sched_session *sessions, size_t n_sessions,
                   const struct sched_worker *workers, size_t n_workers, uint64_t now,
                   uint64_t idle_hold, struct sched_result *ret)
{
        cleanup_free struct order *order = xnewn(struct order, n_sessions + 1);
        cleanup_free bool *used = xnewn(bool, n_workers + 1);
        cleanup_map struct map *held = map_new(); /* slots by tenant, with what is assigned here */
        struct sched_result r = { 0 };

        r.assign = xcalloc(n_sessions + 1, sizeof(*r.assign));
        r.evict = xcalloc(n_workers + 1, sizeof(*r.evict));
        for (size_t i = 0; i < n_workers; i++)
                if (workers[i].taken && workers[i].tenant)
                        (void) take_share(held, workers[i].tenant);
        put_in_order(order, sessions, n_sessions, held);

        for (size_t i = 0; i < n_sessions; i++) {
                const struct sched_session *s = &sessions[order[i].index];
                size_t w = 0;
                bool full = s->tenant && (uintptr_t) map_get(held, s->tenant) >= s->slots_max;
                if (!full && pick_free(s, workers, n_workers, used, now, &w)) {
                        r.assign[r.n_assign].session = order[i].index;
                        r.assign[r.n_assign++].worker = w;
                        used[w] = true;
                        (void) take_share(held, s->tenant ? s->tenant : "");
                } else if (!full && pick_coming(s, workers, n_workers, used, now, &w, &r.wake_at)) {
                        used[w] = true;
                } else if (pick_idle(s, workers, n_workers, used, full, &w)) {
                        uint64_t due = workers[w].idle_since + idle_hold;
                        used[w] = true;
                        if (due <= now)
                                r.evict[r.n_evict++] = w;
                        else if (r.wake_at == 0 || due < r.wake_at)
                                r.wake_at = due;
                }
        }
        *ret = r;
}

void sched_result_done(struct sched_result *r)
{
        free(r->assign);
        free(r->evict);
        *r = (struct sched_result){ 0 };
}
