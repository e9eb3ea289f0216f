/* HTTP/1.1 as a server: connections, requests, responses. Nothing here blocks.
 *
 * A route handler (route.h) gets a struct http_request and ends it by exactly one final call:
 * http_reply_*, http_drop, ws_accept (ws.h) or sse_accept (sse.h); at once or turns later, after
 * which the request must not be touched. The request lives until then even when the client is long
 * gone: answering a gone client is right and does nothing. So a pending rpc or database call may
 * hold the request as its userdata without more ado; on_gone is only for those who can save work by
 * cancelling.
 *
 * Everything is bounded: head 16 KiB and 100 headers within 5 s, body by the route, one request at
 * a time per connection (pipelined ones wait unread), idle connections 60 s, responses that do not
 * move 30 s. */
#pragma once

#include <jansson.h>
#include <systemd/sd-event.h>

#include "common/base/buf.h"
#include "gatewayd/auth.h"
#include "gatewayd/http-head.h"
#include "proto/wire.h"

#define HTTP_PARAMS_MAX 4u

struct gateway;
struct http_conn;
struct route;

struct http_request {
        struct gateway *gateway;
        const struct route *route;
        enum http_method method;
        unsigned listener;                   /* LISTENER_* it came through */
        const char *path;                    /* decoded */
        const char *params[HTTP_PARAMS_MAX]; /* {name} parts of the pattern, in order, decoded */
        struct principal principal;          /* who asks; tenant is always set */

        /* Body of ROUTE_BODY_JSON*: parsed, strict (json.h); NULL when optional and absent. Owned
         * by the request. body_digest is the SHA-256 of its bytes, for Idempotency-Key. */
        json_t *json;
        char body_digest[SHA256_HEX];

        /* Body of ROUTE_BODY_STREAM: the handler sets both before it returns, then gets the bytes
         * as they come (decoded) and once on_end: r 0 = whole; -EMSGSIZE over the limit, -EBADMSG
         * broken chunks, -ETIMEDOUT stalled, -ECONNRESET gone: then reply with
         * http_reply_body_error. No more calls after a reply. */
        uint64_t content_length; /* UINT64_MAX when not announced */
        void (*on_data)(struct http_request *req, struct span data);
        void (*on_end)(struct http_request *req, int r);

        /* Optional: the client went away before the answer (not called after a final call). */
        void (*on_gone)(struct http_request *req);
        void *userdata; /* the handler's own */

        struct http_request_private *priv;
};

/* ---- asking ---- */
const char *http_header(const struct http_request *req,
                        const char *lower);                         /* first; NULL = absent */
void http_header_wipe(struct http_request *req, const char *lower); /* its values become "" */
const char *http_query(const struct http_request *req,
                       const char *name); /* decoded; NULL = absent */
bool http_gone(const struct http_request *req);
const char *http_request_id(const struct http_request *req); /* also sent as X-Request-Id */
/* Its place in its trace, for what is done for it: the client's `traceparent`, or a trace that
 * begins here; may be unset. */
const struct trace_context *http_request_trace(const struct http_request *req);
/* A decimal query parameter within [min, max], fallback when absent. On a bad one replies 400 and
 * returns -EINVAL: the handler just returns. */
int http_query_u64(struct http_request *req, const char *name, uint64_t min, uint64_t max,
                   uint64_t fallback, uint64_t *ret) mustuse;
/* Refuses parameters that are not in the NULL-terminated list ("token" is always known): replies
 * 400 and returns -EINVAL. */
int http_query_only(struct http_request *req, const char *const *names) mustuse;
/* Idempotency-Key: NULL when absent; replies 400 and returns -EINVAL when longer than 200 or not
 * printable. */
int http_idempotency_key(struct http_request *req, const char **ret) mustuse;
/* True when Accept prefers or names the media type ("text/event-stream"). */
bool http_accepts(const struct http_request *req, const char *media_type);

/* Backpressure for stream bodies: no on_data between pause and resume (beyond the one on the
 * stack). */
void http_body_pause(struct http_request *req);
void http_body_resume(struct http_request *req);

/* ---- answering: extra headers first (any number, <= 4 KiB together), then one final call ---- */
void http_reply_header(struct http_request *req, const char *name, const char *fmt, ...)
        printf_like(3, 4);
/* Finished lines, each with its CRLF: of what cannot hold line ends, and beyond the 4 KiB. */
void http_reply_header_lines(struct http_request *req, struct span lines);
void http_reply_json(struct http_request *req, int status, struct span json); /* copied */
void http_reply_json_take(struct http_request *req, int status,
                          struct buf *json); /* takes the memory */
void http_reply_bytes(struct http_request *req, int status, const char *content_type,
                      struct span body);
void http_reply_empty(struct http_request *req, int status); /* 204, 304 */
/* Sends len bytes of a file or memfd from offset by sendfile; the descriptor is taken in every
 * case. */
void http_reply_fd(struct http_request *req, int status, const char *content_type, int fd,
                   uint64_t offset, uint64_t len);
/* {"error":{"code","message","field"?}} with the status that belongs to the code (503 and 429 with
 * Retry-After). field may be NULL. */
void http_reply_error(struct http_request *req, enum error_code code, const char *field,
                      const char *fmt, ...) printf_like(4, 5);
/* The same with a status and code of HTTP's own (405 method_not_allowed, 416 range_not_satisfiable
 * ...). */
void http_reply_problem(struct http_request *req, int status, const char *code, const char *field,
                        const char *fmt, ...) printf_like(5, 6);
/* For the r and reply of a rpc_reply_fn or fdlink_reply_fn that failed; what names the thing asked
 * for. */
void http_reply_rpc_error(struct http_request *req, int r, const void *reply);
void http_reply_busy(struct http_request *req,
                     const char *what); /* 503: what cannot be reached right now */
void http_reply_body_error(struct http_request *req, int r);
void http_drop(struct http_request *req); /* no answer: ends the connection */

/* Which status an error code has on the network. */
int http_status_of(enum error_code code);

/* ---- the server (gateway.c) ---- */
enum { LISTENER_MAIN = 1, LISTENER_DOCUMENTS = 2, LISTENER_BOTH = 3, LISTENER_METRICS = 4 };

struct http_server;
struct http_server_stats {
        size_t connections;
        uint64_t accepted, refused, requests;
};
int http_server_new(struct gateway *g, struct http_server **ret) mustuse;
struct http_server *http_server_free(struct http_server *s);
DEFINE_CLEANUP(struct http_server, http_server_free)
/* address: "127.0.0.1:8765", "[::1]:8765", or "/path.sock" (mode 0660). -EADDRNOTAVAIL when it is
 * not loopback and public_ok is false. */
int http_server_listen(struct http_server *s, const char *address, unsigned listener,
                       bool public_ok) mustuse;
/* Once, after all of them: gives back what the service manager passed and nobody took, so that who
 * connects there is refused and does not wait for ever. used: LISTENER_* bits that are listened on.
 */
void http_server_listens(unsigned used);
/* Takes no more connections; those that are there go on. */
void http_server_stop_listening(struct http_server *s);
void http_server_stats(const struct http_server *s, struct http_server_stats *ret);

/* For ws.c and sse.c: takes the socket out of the connection and ends the request. early = bytes
 * that the client sent beyond the head (copied by the caller before it returns to the loop). */
struct http_takeover {
        int fd;
        char peer[64];
        char *early;
        size_t n_early;
        struct auth_grant *grant; /* auth_grant_release when the stream ends */
        void *slot; /* give back by http_slot_release when the socket is closed: it counts in the
                       limits */
};
int http_take_over(struct http_request *req, struct http_takeover *ret) mustuse;
void http_slot_release(struct http_server *s, void *slot);
