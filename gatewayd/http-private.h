/* What http.c (requests and answers), http-conn.c (connections) and http-listen.c (listeners,
 * limits) share. */
#pragma once

#include <sys/socket.h>

#include "common/base/list.h"
#include "common/base/map.h"
#include "common/io/daemon.h"
#include "gatewayd/http-body.h"
#include "gatewayd/http.h"
#include "gatewayd/rate.h"
#include "gatewayd/route.h"

struct auth_waiter;

/* One client address; counts what it holds, in http or handed over to ws and sse. */
struct http_peer {
        char *address;
        size_t count;
        struct list waiting; /* struct http_conn.by_peer: those that may be closed to make room,
                                oldest first */
};

/* What counts in the limits: one per open socket. */
struct http_slot {
        struct http_server *server;
        struct http_peer *peer; /* NULL for Unix sockets */
};

enum conn_state {
        CONN_HEAD,     /* waits for a request */
        CONN_AUTH,     /* finding out who asks */
        CONN_BODY,     /* reading the body for the handler */
        CONN_HANDLING, /* the handler has it */
        CONN_SENDING,  /* the answer is under way */
        CONN_SKIPPING, /* throwing away the rest of a body nobody wants */
        CONN_LINGER, /* all sent, write side shut; throws away input so that the answer is not lost
                        to a reset */
        CONN_CLOSED,
        CONN_STATE_MAX,
};

struct http_conn {
        struct http_server *server;
        struct http_slot *slot;
        unsigned listener;
        enum conn_state state;
        int fd;
        bool polled; /* in server->poll_fd */
        uint32_t events;
        struct loop_timer timer;
        char peer[64];
        char address[64]; /* of the peer, without its port; "unix" */
        struct buf in;
        bool eof;       /* the client has shut down its side */
        bool advancing; /* conn_advance is on the stack */
        bool used;      /* has served a request: the next may take its time */
        bool close;     /* after this answer */
        bool paused;    /* the handler wants no body now */
        bool want_continue;
        size_t skip_max;

        /* The body of the current request. */
        bool body_chunked, body_done;
        uint64_t body_left, body_seen, body_max, body_mark;
        struct http_chunked chunks;

        struct http_request *req;
        /* The answer under way. */
        struct buf out;
        int file;
        uint64_t file_offset, file_left;

        struct list ready;   /* server->ready: to be advanced at the end of this turn */
        struct list all;     /* server->conns */
        struct list by_age;  /* server->waiting, while in CONN_HEAD */
        struct list by_peer; /* peer->waiting, likewise */
};

struct http_request_private {
        struct http_conn *conn; /* NULL when the client is gone */
        char *bytes;            /* copy of the head; spans of head point here */
        struct http_head *head; /* shrunk to its headers */
        char *names[HTTP_QUERY_MAX], *values[HTTP_QUERY_MAX];
        size_t n_query;
        char *path_buf, *scratch, *query_buf, *header_buf;
        size_t header_len;
        struct buf body;    /* JSON routes */
        struct buf headers; /* of the answer */
        char id[48];
        char address[64]; /* of the client, as far as known; "unix" */
        bool forwarded;   /* a trusted proxy told it */
        struct rate_verdict rate;
        const char *limited; /* what there was too much of: its 429 waits for the timer */
        uint64_t retry_usec;
        bool audited;
        bool has_retry_after;
        bool has_head_method; /* HEAD: no body in the answer */
        bool has_cache_control;
        bool ended_body;   /* on_end was called */
        bool in_handler;   /* the handler has the request */
        bool ws_handshake; /* the handshake of a WebSocket was checked and is right */
        bool auth_pending;
        struct auth_waiter *auth_waiter; /* auth.c's own */
        int status;
        uint64_t began_us; /* monotonic */
        struct otlp_span span;
};

struct http_listener {
        struct http_server *server;
        int fd;
        unsigned listener;
        char *path; /* of a Unix socket, to unlink */
        sd_event_source *io;
        struct list link;
};

struct http_server {
        struct gateway *gateway;
        struct list listeners, conns, waiting, ready;
        struct map *peers;
        size_t n;
        /* The sockets of connections: an epoll of their own, whose ready ones are served many to a
         * turn of the loop, which costs as much as serving a small request. */
        int poll_fd;
        sd_event_source *poll;
        int reserve_fd; /* given up to accept and refuse when descriptors run out */
        struct loop_timer resume;
        struct loop_task advance;
        struct http_server_stats stats;
        uint64_t next_id;
        char date[40];
        uint64_t date_second;
};

/* http-open.c: a listening socket for http_server_listen. *ret_ours: a socket file is to be
 * unlinked when it closes; else it outlives us with the service manager. */
int http_open(const char *address, unsigned listener, bool public_ok, bool *ret_ours) mustuse;

/* http-listen.c */
void http_peer_note_waiting(struct http_conn *c, bool waiting);
const char *http_date(struct http_server *s);
/* May one more stream be opened for this address, which a proxy told? */
bool http_forwarded_room(struct http_server *s, const char *address);
/* Streams that come through a proxy count for the address it told. */
void http_slot_rehome(struct http_server *s, struct http_slot *slot, const char *address);

/* http-conn.c */
void http_conn_new(struct http_server *s, int fd, struct http_slot *slot, const char *peer,
                   const char *address, unsigned listener);
/* The only way to change a state; one that has ended stays so. */
void http_conn_set_state(struct http_conn *c, enum conn_state to);
void http_conn_end(
        struct http_conn *c); /* at once; the request, if any, learns that its client is gone */
void http_conn_advance(struct http_conn *c);
void http_conn_wake(struct http_conn *c);
void http_conn_advance_ready(void *userdata); /* the server's task */
int http_conn_poll_new(struct http_server *s) mustuse;
void http_conn_unpoll(struct http_conn *c);        /* before its socket is given away */
void http_conn_send(struct http_conn *c);          /* the answer is in out and file */
void http_conn_continue(struct http_request *req); /* after auth */
void http_conn_refuse(struct http_conn *c,
                      const struct http_refusal *why); /* a head that is not a request */

/* http-limit.c: false: it is, or will be, answered with 429. */
bool http_limit_token(struct http_request *req);               /* of the principal's token */
bool http_limit_logins(struct http_request *req, bool failed); /* failed: one more */
bool http_limit_public(struct http_request *req);              /* of calls that need no token */
void http_limit_refuse(struct http_request *req, const char *who, uint64_t retry_usec,
                       const char *what); /* who: the key of those who ask too much; what: static */
void http_limit_answer(struct http_request *req); /* the late ones, by the connection's timer */

/* http-request.c */
/* NULL with *why when path or query are bad. */
struct http_request *http_request_new(struct http_conn *c, const struct http_head *head,
                                      const char *bytes, size_t n, struct http_refusal *why);
void http_request_free(struct http_request *req);
void http_request_run(struct http_request *req); /* body is there (or streams): calls the handler */
/* Client side is gone: tells the handler, or frees the request when no handler has it. */
void http_request_lost(struct http_request *req, int r);
const char *http_status_text(int status);
/* The head of an answer with what was added by http_reply_header. length UINT64_MAX: until the
 * connection ends. */
void http_render_head(struct http_request *req, struct buf *out, int status,
                      const char *content_type, uint64_t length, bool close);
