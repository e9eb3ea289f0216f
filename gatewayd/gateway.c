/* The manager of gatewayd: settings, construction in order, teardown in the opposite order. */
#include "gatewayd/gateway.h"

#include <sys/resource.h>

#include "common/io/jobs.h"
#include "common/io/log.h"
#include "gatewayd/audit.h"
#include "gatewayd/doc-cache.h"
#include "gatewayd/fanout.h"
#include "gatewayd/held.h"
#include "gatewayd/metrics.h"
#include "gatewayd/proxies.h"
#include "gatewayd/rate.h"
#include "gatewayd/relay.h"
#include "gatewayd/sink-private.h"
#include "gatewayd/spend.h"
#include "gatewayd/static.h"

#define STOP_USEC USEC_PER_SEC
#define TELL_USEC (5 * USEC_PER_SEC)
#define STOP_CHECK_USEC (20 * USEC_PER_MSEC)
#define JOBS_MAX 4096u
#define RATE_KEYS_MAX 100000u /* tokens and addresses */
#define AT(member) offsetof(struct gateway_settings, member)

const struct setting gateway_settings_table[] = {
        { "listen", SETTING_STRING, AT(listen), "127.0.0.1:8765",
          .help = "Address and port of everything, or the path of a Unix socket." },
        { "documents_listen", SETTING_STRING, AT(documents_listen), "127.0.0.1:8766",
          .help = "The same for a listener that serves documents only; empty: none." },
        { "metrics_listen", SETTING_STRING, AT(metrics_listen), "",
          .help = "The same for GET /metrics alone, without a token: only loopback addresses and "
                  "Unix sockets; empty: none." },
        { "listen_public", SETTING_BOOL, AT(listen_public), "no",
          .help = "Allows addresses that are not loopback. Needs a proxy that speaks TLS in front: "
                  "a "
                  "public_url of https, or listen_insecure." },
        { "listen_insecure", SETTING_BOOL, AT(listen_insecure), "no",
          .help = "Allows that without TLS: tokens can be read on the way." },
        { "public_url", SETTING_STRING, AT(public_url), "",
          .help = "How others reach this address, such as https://berth.example; told to agents as "
                  "endpoint_url. Empty: http:// and listen." },
        { "allowed_origins", SETTING_STRING, AT(allowed_origins), "",
          .help = "Origins besides our own whose pages may open WebSockets, as "
                  "scheme://host[:port], by commas." },
        { "web_dir", SETTING_PATH, AT(web_dir), "", .help = "Folder of the page; empty: no page." },
        { "demo_dir", SETTING_PATH, AT(demo_dir), "",
          .help = "Folder served at /demo/; empty: none." },
        { "demo", SETTING_BOOL, AT(demo), "no",
          .help = "Tells the page that the model is a scripted demo." },
        { "coordinator_socket", SETTING_PATH, AT(coordinator_socket), "/run/berth/hub/gateway.sock",
          .help = "Socket on which coordinatord takes requests." },
        { "bus_socket", SETTING_PATH, AT(bus_socket), "/run/berth/hub/bus.sock",
          .help = "Socket on which coordinatord publishes." },
        { "documents_socket", SETTING_PATH, AT(documents_socket), "/run/berth/documents/docs.sock",
          .help = "Socket on which docserverd takes requests; empty: no documents." },
        { "documents_descriptor_socket", SETTING_PATH, AT(documents_descriptor_socket),
          "/run/berth/documents/docs-fd.sock",
          .help = "Socket on which docserverd hands out descriptors; empty: no documents." },
        { "database", SETTING_STRING, AT(database), "dbname=berth user=berth_gatewayd",
          .help = "How to reach PostgreSQL, in libpq's keywords; the role only reads." },
        { "database_passfile", SETTING_PATH, AT(database_passfile), "",
          .help = "libpq password file; empty: libpq's default." },
        { "database_connections", SETTING_INT, AT(database_connections), "4", "1", "64",
          .help = "Connections to PostgreSQL." },
        { "connections_max", SETTING_INT, AT(connections_max), "10000", "4", "100000",
          .help = "Client connections at once; the oldest idle ones give way." },
        { "connections_per_address", SETTING_INT, AT(connections_per_address), "256", "1", "100000",
          .help = "The same per client address; Unix sockets do not count." },
        { "body_max", SETTING_SIZE, AT(body_max), "1M", "1K", "64M",
          .help = "Largest request body, but for uploads." },
        { "upload_max", SETTING_SIZE, AT(upload_max), "5G", "1K", "1024T",
          .help = "Largest upload; docserverd has a limit of the same name." },
        { "document_cache", SETTING_SIZE, AT(document_cache), "16M", "0", "1G",
          .help = "Memory for small documents that were just read; 0: none are remembered." },
        { "head_timeout", SETTING_DURATION, AT(head_timeout), "5s", "100ms", "60s",
          .help = "Time for a request head to arrive." },
        { "body_timeout", SETTING_DURATION, AT(body_timeout), "30s", "100ms", "10min",
          .help = "Time for a body to arrive; for an upload, for each next 4 KiB." },
        { "idle_timeout", SETTING_DURATION, AT(idle_timeout), "60s", "100ms", "1h",
          .help = "How long a connection may wait between requests." },
        { "write_timeout", SETTING_DURATION, AT(write_timeout), "30s", "100ms", "10min",
          .help = "How long a client may read nothing of an answer." },
        { "request_timeout", SETTING_DURATION, AT(request_timeout), "1900ms", "100ms", "60s",
          .help = "How long another daemon may take to answer; then 503, which a client may get "
                  "after 2 s." },
        { "coordinator_wait", SETTING_DURATION, AT(coordinator_wait), "1300ms", "0", "30s",
          .help = "How long a request waits for a coordinator that is away, such as one that "
                  "restarts, before it is answered 503; 0: not at all." },
        { "trusted_proxies", SETTING_STRING, AT(trusted_proxies), "",
          .help = "Proxies whose X-Forwarded-For is believed: addresses and networks by commas, "
                  "unix for Unix sockets." },
        { "requests_per_second", SETTING_INT, AT(requests_per_second), "2000", "0", "1000000",
          .help = "Requests of one token, and of one address without any; beyond it and the burst: "
                  "429, at once or, when there are many, 250 ms late. 0: no limit." },
        { "requests_burst", SETTING_INT, AT(requests_burst), "10000", "1", "10000000",
          .help = "Requests of one token that may come at once." },
        { "expensive_per_second", SETTING_INT, AT(expensive_per_second), "200", "0", "1000000",
          .help = "The same for requests that make work (POST, but for events and logs)." },
        { "expensive_burst", SETTING_INT, AT(expensive_burst), "2000", "1", "10000000",
          .help = "Such requests that may come at once." },
        { "failures_per_second", SETTING_INT, AT(failures_per_second), "5", "0", "1000000",
          .help = "Failed logins of one address; beyond it and the burst: 429. 0: no limit." },
        { "failures_burst", SETTING_INT, AT(failures_burst), "100", "1", "10000000",
          .help = "Failed logins of one address that may come at once." },
        { "ping_interval", SETTING_DURATION, AT(ping_interval), "20s", "100ms", "10min",
          .help = "Time between pings to WebSocket clients; two unanswered ones end a client." },
};
const size_t n_gateway_settings = ARRAY_LEN(gateway_settings_table);

/* A WebSocket client takes three descriptors: its socket and a pair for libwebsockets (ws.c). */
static void raise_descriptor_limit(const struct gateway_settings *s)
{
        struct rlimit limit;
        rlim_t want = (rlim_t) s->connections_max * 3 + 256;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
                return;
        limit.rlim_cur = MIN(want, limit.rlim_max);
        if (limit.rlim_cur < want)
                log_warning("only %llu descriptors are allowed, connections_max would need %llu",
                            (unsigned long long) limit.rlim_cur, (unsigned long long) want);
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
                (void) log_errno(LOG_WARNING, errno, "cannot set the limit of descriptors");
}

static int connect_database(struct gateway *g)
{
        struct pg_config config = {
                .conninfo = g->settings->database,
                .passfile = strempty(g->settings->database_passfile)
                                    ? NULL
                                    : g->settings->database_passfile,
                .application = "gatewayd",
                .connections = (unsigned) g->settings->database_connections,
                .queue_max = 2000,
                .queue_timeout_usec = USEC_PER_SEC, /* then 503: a client may wait 2 s in all */
                .statement_timeout_usec = 1500 * USEC_PER_MSEC,
                .silence_usec = 1700 * USEC_PER_MSEC,
        };
        int r = pg_pool_new(g->event, &config, &g->pg);

        return r < 0 ? log_errno(LOG_ERR, r, "cannot use the database settings") : 0;
}

/* A standby coordinator serves within 4 s of the moment the first one stands still. */
#define LINK_SILENCE_USEC (2500 * USEC_PER_MSEC)

static void on_coordinator(void *userdata, struct rpc_peer *peer, enum rpc_peer_event what)
{
        struct gateway *g = userdata;

        if (what == RPC_PEER_UP)
                held_up(g->held);
}

static const struct rpc_route documents_routes[] = {
        { &wire_ask_sources, route_ask_sources },
        { &wire_ask_delta, route_ask_delta },
};

/* config: what this link has of its own. */
static int connect_daemon(struct gateway *g, const char *path, struct rpc_config config,
                          struct rpc_link **ret)
{
        cleanup_free char *endpoint = xasprintf("ipc://%s", path);

        config.event = g->event;
        config.zmq = g->daemon->zmq;
        config.endpoint = endpoint;
        config.userdata = g;
        config.silence_usec = LINK_SILENCE_USEC;
        int r = rpc_client_new(&config, ret);

        return r < 0 ? log_errno(LOG_ERR, r, "cannot use the socket %s", path) : 0;
}

static int connect_links(struct gateway *g)
{
        const struct gateway_settings *s = g->settings;
        int r = connect_database(g);

        if (r >= 0)
                r = connect_daemon(g, s->coordinator_socket,
                                   (struct rpc_config){ .on_peer = on_coordinator },
                                   &g->coordinator);
        if (r >= 0 && !strempty(s->documents_socket))
                r = connect_daemon(g, s->documents_socket,
                                   (struct rpc_config){ .routes = documents_routes,
                                                        .n_routes = ARRAY_LEN(documents_routes) },
                                   &g->documents);
        if (r >= 0 && !strempty(s->documents_descriptor_socket)) {
                r = fdlink_client_new(g->event, s->documents_descriptor_socket, &g->documents_fd);
                if (r < 0)
                        r = log_errno(LOG_ERR, r, "cannot use the socket %s",
                                      s->documents_descriptor_socket);
        }
        return r;
}

static int listen_on(struct gateway *g, const char *address, unsigned listener)
{
        const struct gateway_settings *s = g->settings;
        bool wide = listener != LISTENER_METRICS && s->listen_public &&
                    (s->listen_insecure || str_starts(s->public_url, "https://"));
        int r = http_server_listen(g->http, address, listener, wide);
        if (r == -EADDRNOTAVAIL && listener == LISTENER_METRICS) {
                log_error("metrics_listen = %s: not loopback, and nobody is asked for a token "
                          "there; let the scraper use a token at /metrics of the other listener",
                          address);
                return r;
        }
        if (r == -EADDRNOTAVAIL && s->listen_public && !wide) {
                log_error(
                        "%s is not loopback, and nothing says that tokens are not read on the way: "
                        "set public_url to the https:// address of the TLS proxy in front, or "
                        "listen_insecure = yes",
                        address);
                return r;
        }
        if (r == -EADDRNOTAVAIL && !s->listen_public) {
                log_error("%s, or the address of the socket unit in its place, is not loopback; "
                          "set listen_public = yes to allow that, with a TLS proxy in front",
                          address);
                return r;
        }
        return r < 0 ? log_errno(LOG_ERR, r, "cannot listen on %s", address) : 0;
}

static int listen_all(struct gateway *g)
{
        const struct gateway_settings *s = g->settings;
        const char *const addresses[] = { s->listen, s->documents_listen, s->metrics_listen };
        static const unsigned listeners[] = { LISTENER_MAIN, LISTENER_DOCUMENTS, LISTENER_METRICS };
        unsigned used = 0;

        for (size_t i = 0; i < ARRAY_LEN(listeners); i++) {
                if (strempty(addresses[i]))
                        continue;
                int r = listen_on(g, addresses[i], listeners[i]);
                if (r < 0)
                        return r;
                used |= listeners[i];
        }
        http_server_listens(used);
        return 0;
}

static void on_stopping(void *userdata)
{
        struct gateway *g = userdata;

        if (sink_set_empty(g->sinks) || now_monotonic() >= g->stop_by_us)
                daemon_quit(g->daemon, 0);
        else
                loop_timer_arm(&g->stopping, STOP_CHECK_USEC);
}

void gateway_stop(struct gateway *g)
{
        if (g->stop_by_us)
                return;
        g->stop_by_us = now_monotonic() + STOP_USEC;
        http_server_stop_listening(g->http);
        sink_set_close_all(g->sinks, SINK_CLOSE_SHUTDOWN, "restarting");
        loop_timer_arm(&g->stopping, STOP_CHECK_USEC);
}

static void on_telling(void *userdata)
{
        struct gateway *g = userdata;
        struct http_server_stats s;

        http_server_stats(g->http, &s);
        if (!g->stop_by_us)
                daemon_status(g->daemon,
                              "Listening on %s: %zu connections, %zu following, %" PRIu64
                              " requests/s%s%s",
                              g->settings->listen, s.connections, fanout_subscribers(g->fanout),
                              (s.requests - g->told_requests) / (TELL_USEC / USEC_PER_SEC),
                              pg_pool_up(g->pg) ? "" : "; without the database",
                              rpc_peer_up(rpc_client_peer(g->coordinator))
                                      ? ""
                                      : "; without the coordinator");
        g->told_requests = s.requests;
        loop_timer_arm(&g->telling, TELL_USEC);
}

static int read_proxies(struct gateway *g)
{
        cleanup_free char *bad = NULL;
        int r = proxies_new(g->settings->trusted_proxies, &g->proxies, &bad);

        if (r < 0)
                log_error("setting trusted_proxies: '%s' is no address and no network such as "
                          "10.0.0.0/8 (at most %u, none of length 0)",
                          bad, PROXIES_MAX);
        return r;
}

int gateway_new(struct daemon *d, const struct gateway_settings *s, struct gateway **ret)
{
        CLEANUP(gateway_freep) struct gateway *g = xnew(struct gateway);

        g->daemon = d;
        g->event = d->event;
        g->settings = s;
        uuid_make(g->instance);
        g->started_us = now_realtime();
        raise_descriptor_limit(s);
        g->rates = rate_table_new(RATE_KEYS_MAX);
        list_init(&g->asks);
        g->metrics = metrics_new();
        int r = read_proxies(g);
        if (r >= 0)
                r = held_new(g, &g->held);
        if (r >= 0)
                r = connect_links(g);
        if (r >= 0) {
                g->doc_cache = doc_cache_new(g, s->document_cache);
                r = loop_timer_init(&g->stopping, g->event, on_stopping, g);
        }
        if (r >= 0)
                r = loop_timer_init(&g->telling, g->event, on_telling, g);
        if (r >= 0)
                r = auth_new(g, &g->auth);
        if (r >= 0)
                r = static_files_new(g, &g->files);
        if (r >= 0)
                r = sink_set_new(g, &g->sinks);
        if (r >= 0)
                r = ws_server_new(g, &g->ws);
        if (r >= 0)
                r = relay_new(g, &g->relay);
        if (r >= 0)
                r = fanout_new(g, &g->fanout);
        if (r >= 0)
                r = jobs_new(g->event, JOBS_MAX, &g->jobs);
        if (r >= 0 && (!(g->audit = audit_new(g)) || !(g->spend = spend_new(g))))
                r = -ENOMEM;
        if (r >= 0)
                r = http_server_new(g, &g->http);
        if (r < 0)
                return log_errno(LOG_ERR, r, "cannot start");
        r = listen_all(g);
        if (r < 0)
                return r;
        on_telling(g);
        *ret = TAKE_PTR(g);
        return 0;
}

struct gateway *gateway_free(struct gateway *g)
{
        if (!g)
                return NULL;
        /* Clients first: their gone() still finds everything. Then connections; requests that wait
         * for another daemon or the database live on until that link ends their call, and answer to
         * nobody. */
        g->sinks = sink_set_free(g->sinks);
        g->http = http_server_free(g->http);
        (void) jobs_free(TAKE_PTR(g->jobs));
        g->fanout = fanout_free(g->fanout);
        g->relay = relay_free(g->relay);
        g->ws = ws_server_free(g->ws);
        g->audit = audit_free(g->audit);
        g->held = held_free(g->held);
        (void) rpc_link_free(TAKE_PTR(g->coordinator));
        (void) rpc_link_free(TAKE_PTR(g->documents));
        g->spend = spend_free(g->spend);
        (void) fdlink_client_free(TAKE_PTR(g->documents_fd));
        g->doc_cache = doc_cache_free(g->doc_cache);
        g->auth = auth_free(g->auth);
        (void) pg_pool_free(TAKE_PTR(g->pg));
        g->rates = rate_table_free(g->rates);
        g->proxies = proxies_free(g->proxies);
        g->files = static_files_free(g->files);
        loop_timer_done(&g->stopping);
        loop_timer_done(&g->telling);
        g->metrics = metrics_free(g->metrics);
        loop_defer_flush(g->event);
        free(g);
        return NULL;
}
