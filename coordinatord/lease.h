/* Leases: granting a session to a worker, taking it away, and noticing that a worker is lost.
 *
 * A lease is (session, epoch): +1 each time one is granted or taken away, stored before the worker
 * hears of it. How long it is still good is kept in memory, by the monotonic clock, from the moment
 * the coordinator heard the heartbeat: later than the worker's own count, which starts at the
 * sending. After a restart every stored lease gets a full new term, so that workers can greet
 * again. */
#pragma once

#include "coordinator.h"

/* Something changed: look for sessions to assign at the end of this turn. */
void lease_dispatch(struct coordinator *c);
void lease_dispatch_now(void *coordinator);

/* The session in memory, when (worker, session, epoch) is the lease in force; else NULL. */
struct session *lease_held(struct coordinator *c, const struct worker *w, const char *session_id,
                           uint64_t epoch);
struct session *lease_held_by(struct coordinator *c, const struct rpc_peer *peer,
                              const char *session_id, uint64_t epoch);

/* The holder of (s, epoch) is gone or has let it go: a session with work to do is queued again, or
 * failed after losses_max; one without (idle, paused) only loses its slot. Nothing when the epoch
 * is no longer that. */
void lease_lost(struct coordinator *c, struct session *s, uint64_t epoch, const char *why);

/* The worker tells of its slot: into the session object. */
void lease_slot(struct coordinator *c, struct session *s, const struct worker *w);

void lease_renew(struct coordinator *c, struct session *s);
/* Looks for leases that ran out; several times a second. */
void lease_sweep(struct coordinator *c);
