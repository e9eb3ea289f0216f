/* The takeover lease: which person drives a session's desktop, if any.
 *
 * One holder at a time: a token, or one viewer of a token. It is in force while the session holds a
 * slot, until it is given back, taken by another, or not renewed for control_ttl. Stored with the
 * session; how long it is still good is kept in memory, by the monotonic clock, and starts anew
 * after a restart. Whenever it changes a control event is stored and the worker is told, and each
 * heartbeat says it again. */
#pragma once

#include "coordinator.h"

enum control_mode control_mode(const struct session *s);

/* The column `control` of the row: a JSON text that the caller frees, NULL = nobody. */
char *control_text(const struct session *s) mustuse;
/* -EBADMSG when it makes no sense: then nobody holds it. */
int control_read(struct session *s, const char *text) mustuse;

/* Ends leases that ran out; several times a second. */
void control_sweep(struct coordinator *c);

int route_control_set(void *c, struct rpc_peer *p, struct rpc_request *req, const void *msg);
int route_control_input(void *c, struct rpc_peer *p, struct rpc_request *req, const void *msg);
