/* A request on its way: kept from arrival to answer, through reading its session, the hub and back.
 *
 * Each step is a function of the request; a step that cannot go on calls request_refuse and
 * request_end. A request of a gateway that is not answered within request_timeout is answered
 * `unavailable`; if the hub has already begun with it, it still happens (its Idempotency-Key tells
 * the client, if it asks again). */
#pragma once

#include "coordinator.h"

struct request {
        struct list link;      /* in coordinator.requests */
        struct list wait_link; /* in session.waiters */
        struct coordinator *c;
        struct rpc_request *rpc; /* NULL once answered, or for one of the coordinator's own */
        struct rpc_peer *peer;   /* who asked; only to be compared */
        uint64_t deadline;       /* monotonic; 0 = waits as long as it takes */
        bool sticky;             /* happens even when its answer is late */
        bool late;
        bool of_holder;  /* of the worker that holds the session: nobody new wants something */
        bool replayed;   /* kept by routes whose replay goes the same way again */
        const void *msg; /* own copy of the message */
        struct buf frame;
        struct wire_arena *arena;
        char *key; /* in coordinator.keys */
        struct session *session;
        struct trace_context trace; /* may be unset */
        struct hub_entry entry;
        void (*step)(struct request *q);
        int (*apply)(struct request *q, struct session *s, struct hub_batch *b);
        void (*done)(struct request *q, const struct hub_batch *b); /* stored: answer */
        void (*replay)(struct request *q, const PGresult *found);
        const char *digest;
        char *audit;                        /* who asks: audit.h; NULL = nobody's act */
        bool audited;                       /* its row is written, or part of its commit */
        void (*release)(struct request *q); /* of what the route keeps beside; may be NULL */
};

/* `size` >= sizeof(struct request), which is the first member. type: the message is copied; NULL:
 * it is not (q->msg stays NULL). Refuses and returns NULL when too many requests are under way or,
 * for from_client, when the database is known to be away. */
struct request *request_new(struct coordinator *c, size_t size, struct rpc_peer *peer,
                            struct rpc_request *rpc, const struct wire_msg *type, const void *msg,
                            bool from_client);
void request_refuse(struct request *q, enum error_code code, const char *fmt, ...)
        printf_like(3, 4);
void request_reply(struct request *q, const void *reply);
void request_end(struct request *q);

/* Runs `step` with q->session loaded (it may turn out not to exist). Always calls it later or now,
 * or ends q. */
void request_with_session(struct request *q, const char *session_id,
                          void (*step)(struct request *q));

/* Looks for an earlier request with this key. None: runs `step`. One with the same digest: runs
 * `replay`, which ends q. Else refuses with conflict. key NULL: runs `step`. */
void request_once(struct request *q, const char *tenant, const char *scope, const char *key,
                  const char *digest, void (*step)(struct request *q),
                  void (*replay)(struct request *q, const PGresult *found));

/* Gives the request to the hub: apply (may run again), then done or an error answer, then the end.
 */
void request_submit(struct request *q, size_t weight, size_t events,
                    int (*apply)(struct request *q, struct session *s, struct hub_batch *b),
                    void (*done)(struct request *q, const struct hub_batch *b));
/* For apply: the session must be there and be the tenant's. */
int request_check_session(struct request *q, const struct session *s, const char *tenant) mustuse;

void requests_sweep(struct coordinator *c);   /* answers those that are late */
void requests_end_all(struct coordinator *c); /* at the end of the daemon */
