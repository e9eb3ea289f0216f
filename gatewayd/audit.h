/* What the audit log is told by the gateway. An act that coordinatord stores carries who asks with
 * its request and is recorded in the same commit; acts of docserverd, refusals (401, 403, 429) and
 * the like are rows that are sent in order, again and again until stored, each once. Refusals are
 * bounded by rate, per address and in all; what is left out is counted in the next row. */
#pragma once

#include "gatewayd/http.h"

struct audit;
struct audit *audit_new(struct gateway *g);
struct audit *audit_free(struct audit *a);
DEFINE_CLEANUP(struct audit, audit_free)
/* The context for a call that carries out the request: "" when it is no act, or an earlier call of
 * the same request carried it. Borrowed until the next call. */
const char *audit_context(struct http_request *req);
/* The request is answered with this status: records what no call carried. */
void audit_answered(struct http_request *req, int status);
size_t audit_waiting(const struct audit *a); /* bytes not yet stored */
