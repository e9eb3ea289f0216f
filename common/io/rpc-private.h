/* Inside of rpc-*.c: the structs and who calls whom. rpc-link.c receives and dispatches; rpc-peer.c
 * knows who is there; rpc-call.c sends calls and replies. */
#pragma once

#include "calls.h"
#include "common/base/list.h"
#include "common/base/map.h"
#include "daemon.h"
#include "rpc.h"
#include "zsock.h"

#define RPC_ID_MAX 64 /* bytes of a ROUTER's name for a connection */
#define RPC_PEERS_MAX 4096
#define RPC_NAME_MAX 65 /* process and instance, with NUL */

struct rpc_peer {
        struct list link; /* of a server's list */
        struct rpc_link *l;
        char id[RPC_ID_MAX];
        size_t id_len; /* 0 = the server, seen from a client */
        char process[RPC_NAME_MAX], instance[RPC_NAME_MAX];
        bool up;
        bool lost;      /* found out in a place where callbacks must not run; rpc_reap ends it */
        uint64_t heard; /* when it last said something */
        struct zsock_budget *budget;
        void *userdata;
        struct list requests; /* that it sent and that await our reply */
        size_t n_requests;
};

struct rpc_request {
        struct list link;
        struct rpc_peer *peer; /* NULL once gone */
        const struct wire_msg *type;
        uint8_t correlation[WIRE_CORRELATION];
        char *context;     /* NULL = none */
        struct otlp *otlp; /* may be NULL */
        struct otlp_span span;
        bool in_handler; /* the dispatcher looks at it once more and frees it */
        bool replied;
};

struct rpc_link {
        sd_event *event;
        void *zmq;
        char *endpoint;
        bool is_server;
        const struct rpc_route *routes;
        size_t n_routes;
        void (*on_peer)(void *userdata, struct rpc_peer *peer, enum rpc_peer_event what);
        void *userdata;
        uint64_t silence_usec;
        size_t queue_max;
        struct otlp *otlp;

        struct zsock z;
        struct zsock monitor;                           /* tells of connections made and lost */
        char process[RPC_NAME_MAX], instance[UUID_MAX]; /* ours */
        struct calls *calls;
        struct wire_arena *arena; /* of the message being handled */
        struct buf out;           /* of the message being sent */
        struct span context;      /* likewise */
        struct list peers;        /* a server's */
        struct map *by_id;        /* a server's, by hex of the id */
        struct rpc_peer *server;  /* a client's */
        struct loop_timer tick;
        uint64_t tick_due;
        struct loop_task reap;
        bool greeted; /* client: a ping went out on this connection */
        bool reopen;  /* client: the connection is to be made anew; whatever comes is old */
        bool closed;  /* rpc_link_free was called; memory goes at the end of the turn */
};

/* rpc-link.c */
int rpc_link_open(struct rpc_link *l) mustuse; /* makes the sockets */
void rpc_link_drain(struct rpc_link *l);

/* rpc-peer.c */
struct rpc_peer *rpc_peer_new(struct rpc_link *l, struct span id);
struct rpc_peer *rpc_peer_find(struct rpc_link *l, struct span id);
void rpc_peer_free(void *p); /* memory only */
void rpc_peer_close(struct rpc_peer *p, int r,
                    bool tell); /* calls end with r; frees a server's peer */
/* ping, pong and link_reset, from peer p or (p NULL) from a connection that has not greeted yet. */
void rpc_peer_greeting(struct rpc_link *l, struct rpc_peer *p, struct span id, const void *msg,
                       const struct wire_msg *type);
void rpc_peer_reset(struct rpc_link *l, struct span id); /* tells a connection to greet (again) */
void rpc_peer_connected(struct rpc_link *l);             /* from the monitor */
void rpc_peer_disconnected(struct rpc_link *l);
void rpc_peer_tick(void *userdata);
void rpc_peer_reap(void *userdata);

/* rpc-call.c */
int rpc_transmit(struct rpc_link *l, struct span id, struct zsock_budget *g,
                 const struct wire_msg *type, const void *msg, uint8_t flags,
                 const uint8_t *correlation) mustuse;
/* The same to a peer; notes when it turns out to be gone. */
int rpc_peer_transmit(struct rpc_peer *p, const struct wire_msg *type, const void *msg,
                      uint8_t flags, const uint8_t *correlation) mustuse;
void rpc_call_expired(void *userdata, const struct call *c);
void rpc_request_dispatch(struct rpc_peer *p, const struct rpc_route *route,
                          const struct wire_envelope *e, const void *msg);
void rpc_reply_dispatch(struct rpc_peer *p, const struct wire_envelope *e,
                        const struct wire_msg *type);
