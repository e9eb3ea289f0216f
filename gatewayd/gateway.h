/* The manager of gatewayd: owns the loop's sources, the links to the other daemons and every table.
 */
#pragma once

#include "common/io/daemon.h"
#include "common/io/fdlink.h"
#include "common/io/pg.h"
#include "common/io/rpc.h"
#include "gatewayd/auth.h"
#include "gatewayd/http.h"
#include "gatewayd/ws.h"

struct gateway_settings {
        char *listen;           /* "127.0.0.1:8765", or a path */
        char *documents_listen; /* "" = none */
        char *metrics_listen;   /* "" = none */
        bool listen_public, listen_insecure;
        char *public_url;      /* "" = from listen */
        char *allowed_origins; /* comma list of scheme://host[:port] */
        char *web_dir;
        char *demo_dir; /* "" = none; served at /demo/ */
        bool demo;
        char *coordinator_socket;
        char *bus_socket;
        char *documents_socket;
        char *documents_descriptor_socket;
        char *database;
        char *database_passfile;
        uint64_t database_connections;
        uint64_t connections_max;
        uint64_t connections_per_address;
        uint64_t body_max;
        uint64_t upload_max;
        uint64_t head_timeout, body_timeout, idle_timeout, write_timeout; /* us */
        uint64_t request_timeout;  /* us: calls to other daemons */
        uint64_t coordinator_wait; /* us: for one that is away */
        uint64_t ping_interval;    /* us */
        char *trusted_proxies;     /* comma list of addresses and networks; "unix" */
        uint64_t requests_per_second, requests_burst;   /* of one token */
        uint64_t expensive_per_second, expensive_burst; /* the same for POST */
        uint64_t document_cache;
        uint64_t failures_per_second, failures_burst; /* failed logins of one address */
};
extern const struct setting gateway_settings_table[];
extern const size_t n_gateway_settings;

/* What a client may wait for when a part is away, before it is told so. */
#define GATEWAY_ANSWER_USEC (1900 * USEC_PER_MSEC)

struct fanout; /* fanout.h: who is subscribed to what */
struct static_files;
struct sink_set; /* sink-private.h */
struct relay;    /* relay.h */
struct audit;
struct doc_cache;
struct held;    /* held.h */
struct spend;   /* spend.h */
struct metrics; /* metrics.h */
struct rate_table;
struct proxies; /* proxies.h */

struct gateway {
        struct daemon *daemon;
        sd_event *event;
        const struct gateway_settings *settings;
        char instance[UUID_MAX];            /* new at each start */
        uint64_t started_us;                /* realtime */
        struct pg_pool *pg;                 /* read-only role */
        struct rpc_link *coordinator;       /* rpc_client_peer() is whom to call */
        struct rpc_link *documents;         /* docserverd; NULL without the setting */
        struct jobs *jobs;                  /* the file thread: upload.c */
        struct fdlink_client *documents_fd; /* its descriptor socket; NULL without the setting */
        struct doc_cache *doc_cache;
        struct spend *spend;
        struct list asks; /* route-ask.c: questions that docserverd has */
        struct auth *auth;
        struct http_server *http;
        struct audit *audit;
        struct held *held;
        struct metrics *metrics;
        struct rate_table *rates;
        struct proxies *proxies;
        struct sink_set *sinks;
        struct ws_server *ws;
        struct relay *relay;
        struct static_files *files;
        struct fanout *fanout;
        struct loop_timer stopping;
        struct loop_timer telling; /* what systemctl status says */
        uint64_t told_requests;
        uint64_t stop_by_us; /* monotonic; 0 = not stopping */
};

/* What docserverd sends by itself. */
int route_ask_sources(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                      const void *msg);
int route_ask_delta(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                    const void *msg);

int gateway_new(struct daemon *d, const struct gateway_settings *s, struct gateway **ret) mustuse;
/* Begins an orderly end: streams are closed with 1012, then the loop is left, within a second. */
void gateway_stop(struct gateway *g);
struct gateway *gateway_free(struct gateway *g);
DEFINE_CLEANUP(struct gateway, gateway_free)
