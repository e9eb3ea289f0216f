/* Which session gets which worker: a pure function of queue, workers and time.
 *
 * Tenants take turns: a session's place is the number of slots that its tenant holds plus the
 * number of its sessions that were queued before; among equals, and within one tenant, first come,
 * first served. A tenant at its limit of slots waits for its own. Among the sessions that a worker
 * can serve at all (a worker has one image); a session that none can serve now never holds up those
 * behind it. Among free workers the best fit wins: warm slot of the right kind and size; warm slot
 * of the right kind; cold slot; warm slot of another kind. When no worker is free or about to be
 * free, the session that has been idle longest (and long enough) gives up its slot. */
#pragma once

#include "proto/wire.h"

struct sched_session {
        enum slot_kind kind;
        const char *image;      /* NULL = any */
        uint32_t width, height; /* 0 = any */
        uint64_t queued_us;
        const char *tenant; /* NULL = all are one */
        uint64_t slots_max; /* of the tenant, where there is one; UINT64_MAX = no limit */
};

struct sched_worker {
        uint32_t kinds;      /* bit set of enum slot_kind it can make */
        enum slot_kind kind; /* the slot it has, when state is warm */
        enum slot_state state;
        const char *image; /* of all its slots; NULL = unknown */
        uint32_t width, height;
        bool usable;        /* linked, not draining, not broken */
        const char *tenant; /* whose session holds it; NULL = nobody's */
        bool taken;         /* holds a session, or one is on its way */
        bool coming; /* taken or not ready, but will be free by itself soon (resetting, creating) */
        uint64_t free_since; /* monotonic; ties go to the longest free */
        uint64_t not_before; /* monotonic; no session before (it just refused one) */
        uint64_t idle_since; /* monotonic; its session is idle since then, 0 = it is not idle */
};

struct sched_result {
        struct {
                size_t session, worker; /* indexes into the inputs */
        } * assign;
        size_t n_assign;
        size_t *evict; /* workers whose idle session should go */
        size_t n_evict;
        uint64_t wake_at; /* monotonic; ask again then; 0 = only when something changes */
};

/* `sessions` in any order; their place decides, then queued_us, then the index. idle_hold: how long
 * a session may stay idle with a slot that others wait for. Release the result with
 * sched_result_done. */
void scheduler_run(const struct sched_session *sessions, size_t n_sessions,
                   const struct sched_worker *workers, size_t n_workers, uint64_t now,
                   uint64_t idle_hold, struct sched_result *ret);
void sched_result_done(struct sched_result *r);
