/* WebSocket: the handshake is checked here, RFC 6455 is spoken by libwebsockets, which only ws.c
 * knows. */
#pragma once

#include "gatewayd/http.h"
#include "gatewayd/sink.h"

struct ws_server;
struct ws_options {
        const char *subprotocol; /* chosen when the client offered it; NULL = none */
        size_t message_max;      /* from the client; 0 = 1 MiB */
};

int ws_server_new(struct gateway *g, struct ws_server **ret) mustuse;
struct ws_server *
ws_server_free(struct ws_server *s); /* ends all clients; gone() is called for each */
DEFINE_CLEANUP(struct ws_server, ws_server_free)
size_t ws_server_clients(const struct ws_server *s);

/* The request asks for an upgrade to WebSocket (its handshake was checked before the handler ran).
 */
bool ws_requested(const struct http_request *req);
/* Checks the handshake of a request whose Connection names upgrade, Origin included. False: it was
 * answered. */
bool ws_check_handshake(struct http_request *req);
/* Final call of a request for which ws_requested() is true: 101 and a sink. On failure the request
 * has been answered. */
int ws_accept(struct http_request *req, const struct ws_options *options,
              const struct sink_ops *ops, void *userdata, struct sink **ret) mustuse;
