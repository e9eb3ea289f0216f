/* Displays and terminals: bytes between viewers' WebSockets and the descriptors that workers hand
 * out; screenshots. */
#pragma once

#include "common/io/fdlink.h"
#include "gatewayd/http.h"
#include "gatewayd/route.h"

struct relay;
int relay_new(struct gateway *g, struct relay **ret) mustuse;
struct relay *relay_free(struct relay *r); /* after every sink is gone */
DEFINE_CLEANUP(struct relay, relay_free)
size_t relay_displays(const struct relay *r);  /* viewers of displays now */
size_t relay_terminals(const struct relay *r); /* terminals open now */
/* Who drives the session, or its end, may have changed: read again (NULL = any session). A hint: it
 * is read once a second anyway while somebody looks on. */
void relay_changed(struct relay *r, const char *session_id);
/* The holder set the clipboard: counts as something done. */
void relay_pasted(struct relay *r, const char *session_id);
/* A request to the descriptor socket of a worker. As fdlink_call; -EAGAIN: too many workers. */
int relay_worker_call(struct relay *r, const char *endpoint, const struct wire_msg *type,
                      const void *msg, uint64_t timeout_usec, fdlink_reply_fn fn,
                      void *userdata) mustuse;

extern const struct route_table relay_routes;
