/* Displays: bytes between viewers' WebSockets and the descriptors that workers hand out;
 * screenshots. */
#pragma once

#include "gatewayd/http.h"
#include "gatewayd/route.h"

struct relay;
int relay_new(struct gateway *g, struct relay **ret) mustuse;
struct relay *relay_free(struct relay *r); /* after every sink is gone */
DEFINE_CLEANUP(struct relay, relay_free)
size_t relay_viewers(const struct relay *r);
/* The hook of the control lease: of the viewers of this session those of this token may send keys
 * and pointer, the others may not. NULL = nobody. */
void relay_set_controller(struct relay *r, const char *session_id, const char *token_hash);

extern const struct route_table relay_routes;
