/* Descriptors between Berth's processes: one SOCK_SEQPACKET socket per server process, one request
 * and one reply per packet (envelope and body as in rpc.h), at most one descriptor with the reply
 * (SCM_RIGHTS). The server checks SO_PEERCRED against its own uid, root and the uids allowed. */
#pragma once

#include <systemd/sd-event.h>
#include <sys/types.h>

#include "rpc.h"

struct fdlink_server;
struct fdlink_request;
struct fdlink_route {
        const struct wire_msg *type;
        int (*handle)(void *userdata, struct fdlink_request *req, const void *msg);
};
struct fdlink_server_config {
        sd_event *event;
        const char *path;
        int mode; /* of the socket file, 0 = 0600 */
        const uid_t *uids;
        size_t n_uids; /* 0 with uids NULL = same uid only */
        bool any_uid;  /* the directory's permissions decide */
        const struct fdlink_route *routes;
        size_t n_routes;
        /* A connection of which a handler has seen a request ended (peer gone, link error, server
         * freed); what was given to it can be dropped. May be NULL. */
        void (*on_end)(void *userdata, uint64_t connection);
        void *userdata;
};
int fdlink_server_new(const struct fdlink_server_config *c, struct fdlink_server **ret) mustuse;
struct fdlink_server *fdlink_server_free(struct fdlink_server *s);
DEFINE_CLEANUP(struct fdlink_server, fdlink_server_free)
/* fd may be -1; it is duplicated to the peer and stays the caller's. */
int fdlink_reply(struct fdlink_request *req, const void *msg, int fd);
/* Number of the connection that asked: counts from 1 and is never used again. Still right once it
 * ended. */
uint64_t fdlink_request_connection(const struct fdlink_request *req);
int fdlink_reply_error(struct fdlink_request *req, enum error_code code, const char *fmt, ...)
        printf_like(3, 4);

/* A client connects on the first call and again after a loss. Calls pending at a loss end with
 * -ECONNRESET. */
struct fdlink_client;
int fdlink_client_new(sd_event *e, const char *path, struct fdlink_client **ret) mustuse;
struct fdlink_client *fdlink_client_free(struct fdlink_client *c);
DEFINE_CLEANUP(struct fdlink_client, fdlink_client_free)
/* As rpc_reply_fn; fd is the receiver's to close (-1 when none came). */
typedef void (*fdlink_reply_fn)(void *userdata, int r, const void *reply, int fd);
int fdlink_call(struct fdlink_client *c, const struct wire_msg *type, const void *msg,
                uint64_t timeout_usec, fdlink_reply_fn fn, void *userdata) mustuse;
void fdlink_cancel(struct fdlink_client *c, void *userdata);
/* fn is called when a connection ends, before calls that wait are told. From then on the connection
 * is read before all else that is ready in a turn, so that nobody acts on what a server has said
 * whose end could be known. */
void fdlink_client_on_lost(struct fdlink_client *c, void (*fn)(void *userdata), void *userdata);
