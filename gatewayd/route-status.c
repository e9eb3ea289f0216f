/* How Berth is: /ready for scripts, /status and /workers for people. */
#include "gatewayd/fanout.h"
#include "gatewayd/query.h"
#include "gatewayd/route.h"

static bool links_up(const struct gateway *g, bool *coordinator, bool *documents)
{
        *coordinator = rpc_peer_up(rpc_client_peer(g->coordinator));
        *documents = !g->documents || rpc_peer_up(rpc_client_peer(g->documents));
        return *coordinator && *documents;
}

static void ready_reply(struct http_request *req, bool database, int64_t workers)
{
        bool coordinator, documents;
        bool ready = links_up(req->gateway, &coordinator, &documents) && database && workers > 0;
        char text[200];

        snprintf(text, sizeof(text),
                 "{\"ready\":%s,\"database\":%s,\"coordinator\":%s,\"documents\":%s,\"workers\":"
                 "%" PRId64 "}",
                 ready ? "true" : "false", database ? "true" : "false",
                 coordinator ? "true" : "false", documents ? "true" : "false", workers);
        if (!ready)
                http_reply_header(req, "Retry-After", "1");
        http_reply_json(req, ready ? 200 : 503, span_of(text));
}

static void on_ready(void *userdata, int r, PGresult **results, size_t n,
                     const struct pg_error *error)
{
        ready_reply(userdata, r == 0, r == 0 ? pg_i64(results[0], 0, 0) : 0);
}

/* A worker counts when it is online and its slot is not being made for the first time. */
static void ready(struct http_request *req)
{
        if (!pg_pool_up(req->gateway->pg) ||
            pg_query(req->gateway->pg, on_ready, req,
                     "SELECT count(*) FROM core.worker WHERE online AND state IN ('warm', 'busy', "
                     "'resetting')",
                     "") < 0)
                ready_reply(req, false, 0);
}

/* ---- /status ---- */

static void put_daemon(struct buf *b, const char *name, bool ok, const char *version,
                       const char *detail)
{
        buf_putf(b, "{\"name\":\"%s\",\"ok\":%s,\"version\":", name, ok ? "true" : "false");
        if (version)
                buf_put_json_string(b, version, strlen(version));
        else
                buf_puts(b, "null");
        buf_putf(b, ",\"detail\":%s}", detail ? detail : "{}");
}

static void put_gateway(struct buf *b, const struct gateway *g)
{
        cleanup_buf struct buf detail = BUF_INIT;
        struct http_server_stats s;

        http_server_stats(g->http, &s);
        buf_putf(&detail,
                 "{\"connections\":%zu,\"accepted\":%" PRIu64 ",\"refused\":%" PRIu64
                 ",\"requests\":%" PRIu64
                 ",\"subscribers\":%zu,\"websockets\":%zu,\"cursor\":%" PRIu64
                 ",\"database_waiting\":%zu}",
                 s.connections, s.accepted, s.refused, s.requests, fanout_subscribers(g->fanout),
                 ws_server_clients(g->ws), fanout_cursor(g->fanout), pg_pool_waiting(g->pg));
        put_daemon(b, "gatewayd", true, BERTH_VERSION, detail.data);
}

static void on_status(void *userdata, int r, PGresult **results, size_t n,
                      const struct pg_error *error)
{
        struct http_request *req = userdata;
        struct gateway *g = req->gateway;
        cleanup_buf struct buf b = BUF_INIT;
        bool coordinator, documents;

        links_up(g, &coordinator, &documents);
        buf_putf(&b,
                 "{\"version\":\"%s\",\"demo\":%s,\"uptime_seconds\":%" PRIu64
                 ",\"database\":%s,\"daemons\":[",
                 BERTH_VERSION, g->settings->demo ? "true" : "false",
                 (now_realtime() - g->started_us) / USEC_PER_SEC, r == 0 ? "true" : "false");
        put_gateway(&b, g);
        buf_puts(&b, ",");
        if (r == 0 && PQntuples(results[0]) > 0)
                put_daemon(&b, "coordinatord", coordinator, pg_str(results[0], 0, 1),
                           pg_str(results[0], 0, 0));
        else
                put_daemon(&b, "coordinatord", coordinator, NULL, NULL);
        buf_puts(&b, ",");
        bool told = r == 0 && PQntuples(results[3]) > 0;
        put_daemon(&b, "docserverd", documents, told ? pg_str(results[3], 0, 1) : NULL,
                   told ? pg_str(results[3], 0, 0) : NULL);
        for (int i = 0; r == 0 && i < PQntuples(results[1]); i++) {
                cleanup_free char *name = xasprintf("workerd@%s", pg_str(results[1], i, 0));
                buf_puts(&b, ",");
                put_daemon(&b, name, pg_bool(results[1], i, 1), pg_str(results[1], i, 2),
                           pg_str(results[1], i, 3));
        }
        /* What is stored and not handed out yet: more than 0 for long is trouble on the bus. */
        uint64_t stored =
                r == 0 && PQntuples(results[0]) > 0 ? (uint64_t) pg_i64(results[0], 0, 2) : 0;
        uint64_t out = fanout_cursor(g->fanout);
        buf_putf(&b, "],\"lag_events\":%" PRIu64 ",\"sessions\":{",
                 stored > out ? stored - out : 0);
        for (int i = 0; r == 0 && i < PQntuples(results[2]); i++)
                buf_putf(&b, "%s\"%s\":%s", i ? "," : "", pg_str(results[2], i, 0),
                         pg_str(results[2], i, 1));
        buf_puts(&b, "},\"warm\":");
        const char *warm = r == 0 && PQntuples(results[0]) > 0 ? pg_str(results[0], 0, 3) : NULL;
        buf_puts(&b, strempty(warm) ? "[]" : warm);
        buf_puts(&b, "}");
        http_reply_json_take(req, 200, &b);
}

static void status(struct http_request *req)
{
        struct pg_batch *b = tenant_batch(req);
        int r;

        pg_batch_add(b,
                     "SELECT json, json ->> 'version', (json ->> 'cursor')::bigint, "
                     "json ->> 'warm' FROM core.status WHERE process = 'coordinatord' AND "
                     "updated_at > now() - interval '12 seconds'",
                     "");
        /* A session of another tenant shows only that the slot is taken. */
        pg_batch_add(b,
                     "SELECT w.worker_id, w.online AND w.state <> 'broken', w.version, "
                     "json_build_object('state', w.state, 'kind', w.kind, "
                     "'session_id', s.session_id, 'default_model', w.load ->> 'default_model', "
                     "'load', w.load, 'limits', w.limits)::text FROM core.worker w "
                     "LEFT JOIN core.session s ON s.session_id = w.session_id AND s.tenant = $1 "
                     "ORDER BY w.worker_id",
                     "s", req->principal.tenant);
        pg_batch_add(b,
                     "SELECT status, count(*) FROM core.session WHERE tenant = $1 GROUP BY status "
                     "ORDER BY status",
                     "s", req->principal.tenant);
        pg_batch_add(b,
                     "SELECT json, json::json ->> 'version' FROM docs.status WHERE updated_at > "
                     "now() - interval '15 seconds'",
                     "");
        r = pg_submit(req->gateway->pg, b, on_status, req);
        if (r < 0)
                on_status(req, r, NULL, 0, NULL);
}

/* ---- /workers ---- */

static void on_workers(void *userdata, int r, PGresult **results, size_t n,
                       const struct pg_error *error)
{
        struct http_request *req = userdata;

        if (r < 0)
                return database_failed(req, r, error);
        list_reply(req, results[0], "workers", UINT64_MAX);
}

static void workers(struct http_request *req)
{
        /* A session of another tenant shows only that the slot is taken. */
        database_query(
                req, on_workers,
                "SELECT json_build_object('worker_id', w.worker_id, 'state', w.state, 'kind', "
                "w.kind, "
                "'kinds', w.kinds, 'online', w.online, 'draining', w.draining, 'version', "
                "w.version, "
                "'session_id', s.session_id, 'slot', w.slot, 'load', w.load, 'limits', w.limits, "
                "'greeted_at', core.timestamp_text(w.greeted_at), "
                "'heartbeat_at', core.timestamp_text(w.heartbeat_at))::text FROM core.worker w "
                "LEFT JOIN core.session s ON s.session_id = w.session_id AND s.tenant = $1 "
                "ORDER BY w.worker_id",
                "s", req->principal.tenant);
}

static void drain(struct http_request *req)
{
        const struct worker_drain m = { .worker_id = req->params[0] };

        if (strlen(m.worker_id) > 64)
                return http_reply_error(req, ERROR_CODE_NOT_FOUND, NULL,
                                        "there is no worker with this id");
        coordinator_call(req, &wire_worker_drain, &m, empty_reply);
}

static const struct route table[] = {
        { HTTP_GET, "/ready", ready, .auth = ROUTE_PUBLIC },
        { HTTP_GET, "/status", status },
        { HTTP_GET, "/workers", workers },
        { HTTP_POST, "/workers/{id}/drain", drain, .role = ROLE_ADMIN,
          .body = ROUTE_BODY_JSON_OPTIONAL },
};
const struct route_table status_routes = { table, ARRAY_LEN(table) };
