/* What the dialects of model services share: one attempt at a call, from the request over its
 * stream of events to exactly one on_done, and the ways it can fail. A dialect is a table of what
 * differs; its call begins with a struct provider_call, its provider is a struct provider_service.
 */
#pragma once

#include "common/base/list.h"
#include "common/base/map.h"
#include "common/io/httpc.h"
#include "provider.h"
#include "sse.h"

#define PROVIDER_HEADERS_MAX 8
#define PROVIDER_TEXT(j, key) json_string_value(json_object_get((j), (key)))

struct provider_service;
struct provider_call {
        struct provider_service *service;
        struct list link;
        struct httpc_request *http;
        struct provider_events events; /* on_done is NULL once it was called */
        struct sse sse;
        struct buf body; /* of an error, or of an answer that is no stream */
        long status;     /* 0 = no head yet */
        bool whole;      /* the answer is one JSON object although a stream was asked for */
        char *model;
        char request_id[128];
        struct provider_retry retry;
};

/* What a body of an answer other than 200 says; borrowed of it. */
struct provider_refusal {
        const char *code; /* NULL = it names none */
        const char *text; /* NULL = it has none */
        bool final;       /* asking again never helps, whatever the headers say */
};

struct provider_dialect {
        const char *name;
        const char *path;              /* "/v1/messages" */
        const char *request_id_header; /* in small letters */
        bool takes_whole;              /* an answer of application/json is one event */
        size_t call_size;              /* the struct that begins with a provider_call, zeroed */
        /* Writes the body and adds headers of its own at *n_headers (PROVIDER_HEADERS_MAX;
         * literals, or what lives as long as the call). Negative: the call is not made. */
        int (*begin)(struct provider_call *c, const struct provider_request *r, struct buf *body,
                     const char **headers, size_t *n_headers);
        /* One event of the stream. -EBADMSG: it is over, stream_failure says why. */
        int (*event)(struct provider_call *c, struct span data);
        bool (*complete)(const struct provider_call *c); /* nothing more is to come */
        bool (*usable)(const struct provider_call *c);   /* the connection may end here */
        /* False: the stream itself did not say why it failed. Fills retry, code and message. */
        bool (*stream_failure)(const struct provider_call *c, struct provider_failure *f);
        void (*refusal)(const struct provider_call *c, const json_t *body,
                        struct provider_refusal *ret);
        /* True when something was learned of this model, and it is to be asked again at once. */
        bool (*learn)(struct provider_call *c, const char *message);
        /* Fills content, bad_calls (both new references), stop_reason, stop_detail, model, usage.
         */
        void (*reply)(struct provider_call *c, struct provider_reply *ret);
        void (*done)(struct provider_call *c);
};

#define PROVIDER_LEARNED_MAX 1000 /* models */
struct provider_service {
        struct provider provider;
        const struct provider_dialect *dialect;
        struct httpc *http;
        char *url, *key_header;
        uint64_t stall_usec;
        bool (*may_connect)(void *userdata, const struct sockaddr *address); /* NULL: any address */
        void *judge;                                                         /* its userdata */
        struct map *learned; /* model -> a number of the dialect's, for what it refused */
        struct list calls;
        void (*done)(struct provider_service *s); /* frees what the dialect keeps beside it */
};

/* Fills *s, whose memory provider.free frees. key_name is the header up to the key, as in
 * "x-api-key: "; key NULL or "": none is sent. url loses slashes at its end. */
void provider_service_init(struct provider_service *s, const struct provider_dialect *dialect,
                           struct httpc *http, const char *url, const char *key_name,
                           const char *key, uint64_t stall_usec);
uintptr_t provider_learned(const struct provider_service *s, const char *model); /* 0 = nothing */
/* False when no more models can be kept. */
bool provider_learns(struct provider_service *s, const char *model, uintptr_t what);
