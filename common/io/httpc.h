/* HTTP client: libcurl's multi interface in the sd-event loop. Used by workerd (models) and
 * coordinatord (webhooks). Connections are kept and reused; HTTP/2 when the server offers it over
 * TLS. Redirects are not followed; a proxy comes from the environment (https_proxy, no_proxy). At
 * most 1000 requests at once over 128 connections (64 per host; the others wait, within their stall
 * time), 256 KiB of headers per answer. All functions may be called inside the callbacks. */
#pragma once

#include <sys/socket.h>

#include <systemd/sd-event.h>

#include "common/base/util.h"

struct httpc;
struct httpc_request;

struct httpc_config {
        const char *method;
        const char *url;
        const char *const *headers;    /* "Name: value", NULL-terminated */
        struct span body;              /* copied */
        uint64_t connect_timeout_usec; /* 0 = 10 s */
        uint64_t stall_usec;           /* no byte moved for this long: -ETIMEDOUT; 0 = 60 s */
        uint64_t total_usec;           /* 0 = none */
        size_t body_max;               /* of the answer; beyond it -EMSGSIZE; 0 = 64 MiB */
        const char *ca_file;           /* PEM of the authorities to trust; NULL = the system's */
        const char
                *unix_socket; /* path that is connected to whatever the URL's host; NULL = none */
        const char
                *proxy; /* URL; NULL = the environment's, "" = none whatever the environment says */
        /* Judges each address before a connection to it is made; false ends the request with
         * -EACCES. With a proxy that is the proxy's address. A connection that is reused was judged
         * when it was made: requests that are judged need an httpc of their own. May be NULL. */
        bool (*may_connect)(void *userdata, const struct sockaddr *address);
        /* All may be NULL. on_head comes first, with the HTTP status (>= 200), then one on_header
         * for each header, then on_data with bytes as they arrive. */
        void (*on_head)(void *userdata, long status);
        void (*on_header)(void *userdata, const char *name,
                          struct span value); /* name in lower case */
        void (*on_data)(void *userdata, struct span data);
        /* r: 0 = the whole answer arrived (any status); -ETIMEDOUT, -ECONNREFUSED, -ECONNRESET,
         * -EMSGSIZE, -EPROTO (also TLS), -EHOSTUNREACH, -EACCES; text says more. Not called after
         * httpc_cancel. The request is gone when it returns. */
        void (*on_done)(void *userdata, int r, long status, const char *text);
        void *userdata;
};
int httpc_new(sd_event *e, struct httpc **ret) mustuse;
struct httpc *httpc_free(struct httpc *h); /* cancels everything */
DEFINE_CLEANUP(struct httpc, httpc_free)
/* -EINVAL: bad URL, method or header; -EAGAIN: too many requests. No callback runs before it
 * returns. ret may be NULL. */
int httpc_start(struct httpc *h, const struct httpc_config *c, struct httpc_request **ret) mustuse;
void httpc_cancel(struct httpc_request *r); /* at once, also from inside its own callbacks */
