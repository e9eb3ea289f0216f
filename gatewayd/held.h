/* Requests for the coordinator while it is away: they wait for it, so that a restart or a standby
 * that takes over costs clients some time and no answer. Nothing of them was sent yet, so waiting
 * repeats nothing. Bounded in number, bytes and time (`coordinator_wait`). */
#pragma once

#include "gatewayd/gateway.h"

struct held;
int held_new(struct gateway *g, struct held **ret) mustuse;
struct held *held_free(struct held *h); /* answers those that wait: 503 */
DEFINE_CLEANUP(struct held, held_free)
/* Keeps a copy of the call until the coordinator is up, then makes it with what is left of the
 * time; fn gets the request as userdata. Who waits too long is answered 503. False: it cannot wait
 * (too many do, or the setting is 0); the request is not touched then. One whose message breaks a
 * limit is answered 413. */
bool held_add(struct held *h, struct http_request *req, const struct wire_msg *type,
              const void *msg, const char *context, rpc_reply_fn fn);
void held_up(struct held *h); /* the coordinator is there */
size_t held_waiting(const struct held *h);
