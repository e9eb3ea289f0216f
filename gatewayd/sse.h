/* Server-sent events: a response that stays open; a comment every 10 s keeps it alive. */
#pragma once

#include "gatewayd/http.h"
#include "gatewayd/sink.h"

/* Final call of a request: 200 text/event-stream and a sink. On failure the request has been
 * answered. */
int sse_accept(struct http_request *req, const struct sink_ops *ops, void *userdata,
               struct sink **ret) mustuse;
/* Last-Event-ID as a number. 0 with *ret; -ENOENT absent; -EINVAL replied 400. */
int sse_last_event_id(struct http_request *req, uint64_t *ret) mustuse;
