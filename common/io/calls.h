/* The table of calls that wait for a reply, shared by rpc.c and fdlink.c: found by correlation in
 * constant time, ended by deadline, bounded. */
#pragma once

#include "fdlink.h"

struct calls;
struct call {
        const struct wire_msg *type; /* of the request */
        const void *owner;           /* peer or connection it went to */
        rpc_reply_fn rpc;
        fdlink_reply_fn fd;
        void *userdata;
};

/* `expired` is told of each call that ran out of time, after the call left the table. */
int calls_new(sd_event *e, size_t max, void (*expired)(void *userdata, const struct call *c),
              void *userdata, struct calls **ret) mustuse;
struct calls *calls_free(struct calls *t); /* the calls in it are forgotten */
DEFINE_CLEANUP(struct calls, calls_free)

/* -EAGAIN when `max` calls are waiting. */
int calls_add(struct calls *t, const struct call *c, uint64_t timeout_usec,
              uint8_t ret_correlation[static WIRE_CORRELATION]) mustuse;
/* The waiting call with that correlation, or NULL: then it was never ours, ended or timed out. */
const struct call *calls_find(struct calls *t, const uint8_t correlation[static WIRE_CORRELATION]);
/* Takes it out. */
bool calls_take(struct calls *t, const uint8_t correlation[static WIRE_CORRELATION],
                struct call *ret);
/* Takes out one call of the owner (NULL = any), going on from *iter (0 at first). */
bool calls_take_next(struct calls *t, const void *owner, size_t *iter, struct call *ret);
void calls_cancel(struct calls *t, const void *userdata);
size_t calls_count(const struct calls *t);
