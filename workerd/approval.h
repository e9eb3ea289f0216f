/* Asks a person, through the coordinator, for something that is not a call of a tool.
 *
 * How the egress proxy asks for the network: when it refuses a host that the session's policy says
 * may be asked for, the worker calls approvals_ask_network(session_approvals(session), host, port,
 * details, fn, userdata). A card shows on the page and in `berthctl approvals`; the session goes on
 * meanwhile (the request of the slot hangs, or is refused and tried again later: as you like). fn
 * comes once, from the loop: allowed or not, and for how long. ALLOW_ONCE is for this asking: let
 * this one request through. ALLOW_SESSION: let this host and port through until the session is
 * dropped here; a worker that takes the session over asks again and is answered at once, without a
 * person. The same for DENY_*: after DENY_SESSION do not ask again for it. What is asked is exactly
 * {"host": host, "port": port}, so normalise the host first; `details` (method, path, which
 * program) is shown and binds nothing. Nobody deciding within coordinatord's approval_timeout
 * denies once.
 *
 * The same asking twice at the same time is one card. At most APPROVALS_MAX are under way. Losing
 * the coordinator or a message does no harm: what is under way is asked for again every 15 s, which
 * by then only reads how it stands. Calls of tools ask by themselves: agent-approval.c. */
#pragma once

#include "common/base/json.h"
#include "common/io/daemon.h"
#include "common/io/rpc.h"

#define APPROVALS_MAX 32

enum approval_verdict {
        APPROVAL_DENY_ONCE, /* also: too late, cancelled, cannot be asked */
        APPROVAL_DENY_SESSION,
        APPROVAL_ALLOW_ONCE,
        APPROVAL_ALLOW_SESSION,
};
typedef void (*approval_fn)(void *userdata, enum approval_verdict verdict);

struct approvals;
/* Of the session that this worker holds in that epoch. */
int approvals_new(sd_event *event, struct rpc_link *link, const char *session_id, uint64_t epoch,
                  struct approvals **ret) mustuse;
/* What is under way is forgotten: no fn comes any more. Its approvals stay pending. */
struct approvals *approvals_free(struct approvals *a);
DEFINE_CLEANUP(struct approvals, approvals_free)

/* subject: one line for people. bound: exactly what is asked for, an object. details: an object or
 * NULL. Nothing is kept of the three. -EAGAIN: too many are under way. */
int approvals_ask(struct approvals *a, enum approval_kind kind, const char *subject,
                  const json_t *bound, const json_t *details, approval_fn fn,
                  void *userdata) mustuse;
int approvals_ask_network(struct approvals *a, const char *host, uint16_t port,
                          const json_t *details, approval_fn fn, void *userdata) mustuse;
void approvals_forget(struct approvals *a, const void *userdata); /* its fn never comes */
/* The coordinator told of a decision. */
void approvals_told(struct approvals *a, const struct approval_notify *m);
