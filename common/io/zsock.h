/* One ZeroMQ socket as a source of the sd-event loop; used by rpc.c and bus.c only.
 *
 * ZeroMQ's descriptor is edge-like: it becomes readable when something changed, and any call on the
 * socket may swallow that. So: when it fires, the owner drains until ZMQ_EVENTS has no POLLIN;
 * after a send the events are looked at again before the loop sleeps (a prepare callback). */
#pragma once

#include <sys/stat.h>
#include <systemd/sd-event.h>
#include <zmq.h>

#include "proto/wire.h"

struct zsock {
        void *sock;
        sd_event_source *io;
        sd_event_source *again; /* more was left than one turn may handle */
        bool dirty;             /* the socket was used since its events were looked at */
        void (*readable)(void *userdata);
        void *userdata;
        char *path; /* ipc:// that is bound: our socket file, while it is this one */
        dev_t dev;
        ino_t ino;
};

/* LINGER 0, queues of `hwm` messages each way, frames up to max_frame bytes (-1 = no limit). */
int zsock_open(struct zsock *z, void *zmq, int type, size_t hwm, int64_t max_frame) mustuse;
int zsock_set(struct zsock *z, int option, int value) mustuse;

/* `readable` takes messages with zsock_recv until it gives -EAGAIN or it has had enough for one
 * turn; in the latter case it is called again in the next turn. It may close the socket. */
int zsock_watch(struct zsock *z, sd_event *e, void (*readable)(void *userdata),
                void *userdata) mustuse;

/* Binds; for ipc:// the file gets `mode`, is never visible with more, and replaces a stale socket
 * only: -EADDRINUSE when somebody listens, -EEXIST when it is no socket. Closing removes the file
 * unless another has taken its place. */
int zsock_bind(struct zsock *z, const char *endpoint, int mode) mustuse;
int zsock_connect(struct zsock *z, const char *endpoint) mustuse;

int zsock_recv(struct zsock *z, zmq_msg_t *msg) mustuse; /* -EAGAIN when there is nothing */
/* ZeroMQ's queues count messages, not bytes. A budget counts the bytes of the large frames that
 * were sent and not yet written to the other side; it outlives its owner while some are on their
 * way. */
struct zsock_budget;
#define ZSOCK_LARGE (16 * 1024)
#define ZSOCK_BUDGET_MAX (64 * 1024 * 1024)
struct zsock_budget *zsock_budget_new(void);
void zsock_budget_unref(struct zsock_budget *g); /* NULL is fine */

/* Sends what is in b, on a ROUTER to the peer `to` (else {NULL, 0}), and empties b whatever
 * happens; large buffers are handed over, not copied. -EAGAIN when the queue is full, -ENOBUFS when
 * a large frame is over the budget, -EHOSTUNREACH when that peer is gone. g may be NULL for small
 * ones. */
int zsock_send(struct zsock *z, struct span to, struct buf *b, struct zsock_budget *g) mustuse;

void zsock_close(struct zsock *z); /* fine twice and on a zeroed struct */

static inline void zmq_msg_donep(zmq_msg_t *m)
{
        zmq_msg_close(m);
}
#define cleanup_zmq_msg CLEANUP(zmq_msg_donep)
