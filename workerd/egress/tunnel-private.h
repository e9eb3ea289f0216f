/* What the files of a tunnel share: its client and its end are in tunnel.c, the origin in
 * tunnel-origin.c, the bytes between them in tunnel-bytes.c. */
#pragma once

#include <netinet/in.h>

#include "egress.h"

enum tunnel_state {
        TUNNEL_HEAD,    /* reading the request */
        TUNNEL_DIALING, /* resolving, connecting, TLS */
        TUNNEL_NAMING,  /* of a CONNECT to 443 in mode allow: waiting for the name in the hello */
        TUNNEL_OPEN,
        TUNNEL_CLOSING, /* an answer of ours is on its way out, then what comes is dropped */
        TUNNEL_STATE_MAX
};
/* One socket with what waits to be written to it. */
struct side {
        int fd;
        sd_event_source *io;
        struct buf out;
        bool eof;  /* nothing more comes from it */
        bool shut; /* it was told that nothing more comes */
};

struct tunnel {
        struct list link;
        struct proxy *proxy;
        enum tunnel_state state;
        struct side client, origin;
        struct buf head; /* the request, then the hello */
        struct request request;
        struct body body;
        bool framed; /* the client's bytes are a body with an end */
        bool told, dialled_tls;
        const struct credential *credential;
        struct lookup *lookup;
        struct address addresses[ADDRESSES_TRIED_MAX];
        size_t n_addresses, next_address;
        bool connected;
        SSL *tls;
        struct loop_timer deadline;
        struct loop_task again; /* pump: later, so that no step calls another in a circle */
        uint64_t began, up, down;
        char address[INET6_ADDRSTRLEN];
};

/* tunnel.c */
void tunnel_set_state(struct tunnel *t, enum tunnel_state to, uint64_t timeout);
void tunnel_side_done(struct side *s);
void tunnel_finish(struct tunnel *t, const char *reason);
/* Answers with an error a program can show to its user, and ends. */
void tunnel_refuse(struct tunnel *t, unsigned status, const char *reason, const char *fmt, ...)
        printf_like(4, 5);
/* After the client was told that the tunnel stands, nothing can be said to it in HTTP. */
void tunnel_cut(struct tunnel *t, const char *reason, const char *detail);

/* tunnel-bytes.c */
bool tunnel_drain(struct tunnel *t, struct side *s); /* false: the side is lost */
int tunnel_pass_up(struct tunnel *t, const char *data, size_t n) mustuse;
void tunnel_watch(struct side *s, bool in, bool out);
void tunnel_watch_both(struct tunnel *t);
/* The tunnel may be freed when these return. */
void tunnel_pump_open(struct tunnel *t);
void tunnel_pump_closing(struct tunnel *t);

/* tunnel-origin.c; the tunnel may be freed when these return */
void tunnel_reach(struct tunnel *t);
void tunnel_dial_next(struct tunnel *t);
void tunnel_check_name(struct tunnel *t);
