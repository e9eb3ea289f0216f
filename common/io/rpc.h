/* Requests, replies and one-way messages between Berth's processes, over ZeroMQ in the sd-event
 * loop.
 *
 * A link is either a server (ROUTER, bound) with many peers, or a client (DEALER, connected) with
 * one. Every message is one frame: the envelope of proto/wire.h and the body. Both sides may send
 * requests. Each received message is looked up in the link's route table (like OpenSSH's monitor):
 * a message that is not in the table, does not decode, or is larger than the schema's largest ends
 * that peer with RPC_PEER_GONE. Calls never block: when the peer's queue is full rpc_call fails
 * with -EAGAIN at once, and every call ends exactly once: by its reply, an error reply, or
 * -ETIMEDOUT.
 *
 * What is sent inside a TRACE_SCOPE takes the trace along; a handler runs inside the trace of what
 * came. With an exporter each request that came in a trace is a span of its own, from its arrival
 * to its reply, and the handler's scope is that span.
 *
 * Clients reconnect by themselves (ZeroMQ, 10 ms to 1 s). A client link reports on_up after the
 * server's first answer to its greeting and on_down when the server has been silent for
 * `silence_usec` (both sides send a ping each silence/3), or when the server answers with another
 * instance id (it was restarted): then all pending calls end with -ECONNRESET: the third state of
 * rule R5, whoever called must look whether it happened. */
#pragma once

#include <systemd/sd-event.h>

#include "common/base/util.h"
#include "otlp.h"
#include "proto/wire.h"

struct rpc_link;
struct rpc_peer;    /* server: one connected client; client: the server */
struct rpc_request; /* a received request that awaits its reply; ends by exactly one rpc_reply* */

struct rpc_route {
        const struct wire_msg *type;
        /* msg is the decoded struct, borrowed until the handler returns. req is NULL for one-way
         * messages. A negative result of a request handler that did not reply becomes an error
         * reply. */
        int (*handle)(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                      const void *msg);
};

enum rpc_peer_event { RPC_PEER_UP, RPC_PEER_GONE };

struct rpc_config {
        sd_event *event;
        void *zmq;
        const char *endpoint; /* "ipc:///run/berth/coord.sock" */
        int mode;             /* server: permissions of the socket file, 0 = 0600 */
        const struct rpc_route *routes;
        size_t n_routes;
        void (*on_peer)(void *userdata, struct rpc_peer *peer,
                        enum rpc_peer_event what); /* may be NULL */
        void *userdata;
        uint64_t silence_usec; /* 0 = 5 s */
        size_t queue_max;      /* messages queued per peer; 0 = 10000 */
        size_t calls_max;      /* pending calls; 0 = 10000 */
        struct otlp *otlp;     /* may be NULL; outlives the link */
};

/* A server replaces a stale socket file only: -EADDRINUSE while somebody listens, which a server of
 * this very process does for some milliseconds after its rpc_link_free; -EEXIST when the file is no
 * socket. */
int rpc_server_new(const struct rpc_config *c, struct rpc_link **ret) mustuse;
int rpc_client_new(const struct rpc_config *c, struct rpc_link **ret) mustuse;
struct rpc_link *rpc_link_free(struct rpc_link *l); /* pending calls end with -ECANCELED */
DEFINE_CLEANUP(struct rpc_link, rpc_link_free)

struct rpc_peer *rpc_client_peer(struct rpc_link *l); /* the server's peer object; always there */
bool rpc_peer_up(const struct rpc_peer *p);
void rpc_peer_set_userdata(struct rpc_peer *p, void *userdata);
void *rpc_peer_userdata(const struct rpc_peer *p);
void rpc_peer_end(struct rpc_peer *p, const char *why); /* forget it; it may greet again */

const char *
rpc_peer_process(const struct rpc_peer *p); /* its program's name, "" before it greeted */

/* rpc_call and rpc_send do not wait: -ENOTCONN when the peer is not up, -EAGAIN when its queue
 * (messages; 64 MiB of large frames) or the table of calls is full, -EMSGSIZE/-EINVAL/-EILSEQ when
 * msg breaks a limit; then fn never runs. fn runs later, never inside rpc_call. The end of a peer
 * ends its calls first, then on_peer tells of it.
 *
 * r == 0: `reply` is the decoded reply of the type that the schema names for the request, borrowed.
 * r == -EREMOTEIO: the peer answered with an error; `reply` is a struct error_reply.
 * else -ETIMEDOUT, -ECONNRESET, -ECANCELED and reply NULL. */
typedef void (*rpc_reply_fn)(void *userdata, int r, const void *reply);
int rpc_call(struct rpc_peer *p, const struct wire_msg *type, const void *msg,
             uint64_t timeout_usec, rpc_reply_fn fn, void *userdata) mustuse;
/* The same with a context that the receiver asks by rpc_request_context; "" = none. */
int rpc_call_context(struct rpc_peer *p, const struct wire_msg *type, const void *msg,
                     const char *context, uint64_t timeout_usec, rpc_reply_fn fn,
                     void *userdata) mustuse;
/* Forgets every pending call of this link with this userdata; their callbacks never run. */
void rpc_cancel(struct rpc_link *l, void *userdata);
int rpc_send(struct rpc_peer *p, const struct wire_msg *type,
             const void *msg) mustuse; /* one way */

/* Both end req, whatever they return; outside a handler its memory is gone at once. A peer that
 * does not read its replies is ended (-EAGAIN). */
int rpc_reply(struct rpc_request *req,
              const void *msg); /* type = the schema's reply of the request */
int rpc_reply_error(struct rpc_request *req, enum error_code code, const char *fmt, ...)
        printf_like(3, 4);
const char *rpc_request_context(const struct rpc_request *req);               /* "" = none came */
const struct trace_context *rpc_request_trace(const struct rpc_request *req); /* may be unset */
struct rpc_peer *
rpc_request_peer(struct rpc_request *req); /* NULL once the peer is gone; replying is still right */

/* The bus: PUB bound by the coordinator, SUB in every gateway. No history, no guarantee: a hint. */
struct bus;
typedef void (*bus_fn)(void *userdata, const struct wire_msg *type, const void *msg,
                       struct span frame);
int bus_publisher_new(sd_event *e, void *zmq, const char *endpoint, int mode,
                      struct bus **ret) mustuse;
int bus_subscriber_new(sd_event *e, void *zmq, const char *endpoint,
                       const struct wire_msg *const *types, size_t n_types, bus_fn fn,
                       void *userdata, struct bus **ret) mustuse;
int bus_publish(struct bus *b, const struct wire_msg *type, const void *msg) mustuse;
struct bus *bus_free(struct bus *b);
DEFINE_CLEANUP(struct bus, bus_free)
