/* GET /metrics: the whole installation for Prometheus. The gateway's own figures are at hand, the
 * coordinator's are in its row of core.status (at most 5 s old), docserverd's in docs.status, those
 * of slots and documents in their tables. Without the database the page has what the gateway knows,
 * and berth_database_up 0.
 */
#include "common/base/json.h"
#include "gatewayd/fanout.h"
#include "gatewayd/metrics.h"
#include "gatewayd/query.h"
#include "gatewayd/relay.h"
#include "gatewayd/route.h"

#define TEXT_FORMAT "text/plain; version=0.0.4; charset=utf-8"

static void put_gauge(struct buf *b, const char *name, const char *help, uint64_t v)
{
        metric_head(b, name, "gauge", help);
        metric_u64(b, name, v);
}

static uint64_t number(const json_t *object, const char *key)
{
        const json_t *v = json_object_get(object, key);

        return json_is_integer(v) && json_integer_value(v) > 0 ? (uint64_t) json_integer_value(v)
                                                               : 0;
}

static void put_own(struct buf *b, const struct gateway *g)
{
        struct http_server_stats s;

        metric_head(b, "berth_build_info", "gauge", "The version of this gateway; always 1.");
        buf_puts(b, "berth_build_info{version=\"" BERTH_VERSION "\"} 1\n");
        http_server_stats(g->http, &s);
        put_gauge(b, "berth_http_connections", "Open connections of clients.", s.connections);
        metric_head(b, "berth_http_connections_total", "counter", "Connections taken.");
        metric_u64(b, "berth_http_connections_total", s.accepted);
        put_gauge(b, "berth_websocket_clients", "Open WebSockets.", ws_server_clients(g->ws));
        put_gauge(b, "berth_stream_subscribers", "Clients that follow events.",
                  fanout_subscribers(g->fanout));
        put_gauge(b, "berth_display_viewers", "Viewers of desktops.", relay_displays(g->relay));
        put_gauge(b, "berth_terminals", "Open terminals in slots.", relay_terminals(g->relay));
        put_gauge(b, "berth_gateway_cursor", "The newest event this gateway has handed out.",
                  fanout_cursor(g->fanout));
        put_gauge(b, "berth_database_waiting", "Queries that wait for a connection.",
                  pg_pool_waiting(g->pg));
        metrics_put(g->metrics, b);
        metrics_put_process(b, g->started_us);
}

/* ---- the coordinator's ---- */

static const struct {
        const char *key, *metric, *type, *help;
        bool usec;
} plain[] = {
        { "cursor", "berth_coordinator_cursor", "gauge", "The newest stored event." },
        { "sessions_queued", "berth_sessions_queued", "gauge", "Sessions that wait for a slot." },
        { "sessions_leased", "berth_sessions_leased", "gauge", "Sessions that a worker holds." },
        { "requests_waiting", "berth_coordinator_requests_waiting", "gauge",
          "Requests that are not answered yet." },
        { "hub_waiting", "berth_hub_waiting", "gauge", "Entries that wait for a commit." },
        { "hub_stuck_usec", "berth_hub_commit_age_seconds", "gauge",
          "How long the commit under way has been waiting.", true },
        { "commit_retries", "berth_hub_commit_retries_total", "counter",
          "Commits that were sent again." },
        { "commits_refused", "berth_hub_commits_refused_total", "counter",
          "Commits that the database refused." },
        { "hub_queue_full", "berth_hub_queue_full_total", "counter",
          "Events and acts refused because the queue was full." },
        { "leases_granted", "berth_leases_granted_total", "counter", "Sessions given to workers." },
        { "leases_lost", "berth_leases_lost_total", "counter", "Sessions whose worker was lost." },
        { "stale_appends", "berth_stale_appends_total", "counter",
          "Events refused because the worker's lease was over." },
        { "live_dropped", "berth_live_dropped_total", "counter", "Live events thrown away." },
};

static void put_set(struct buf *b, const json_t *figures, const char *set, const char *metric,
                    const char *type, const char *label, const char *help)
{
        const char *key;
        json_t *v;

        metric_head(b, metric, type, help);
        json_object_foreach (json_object_get(figures, set), key, v) {
                buf_putf(b, "%s{", metric);
                metric_label(b, label, key, true);
                buf_putf(b, "} %" PRIu64 "\n", (uint64_t) json_integer_value(v));
        }
}

static void put_tools(struct buf *b, const json_t *tools)
{
        static const char *const results[] = { "ok", "error" };
        const char *name;
        json_t *v;

        metric_head(b, "berth_tool_calls_total", "counter", "Tool calls that ended.");
        json_object_foreach ((json_t *) tools, name, v)
                for (size_t i = 0; i < 2; i++) {
                        buf_puts(b, "berth_tool_calls_total{");
                        metric_label(b, "tool", name, true);
                        buf_putf(b, ",result=\"%s\"} %" PRIu64 "\n", results[i],
                                 (uint64_t) json_integer_value(json_array_get(v, i)));
                }
}

static void put_commits(struct buf *b, const json_t *commits)
{
        const json_t *counts = json_object_get(commits, "counts");
        struct histogram h = { .sum_usec = number(commits, "sum_usec") };

        for (size_t i = 0; i < ARRAY_LEN(h.counts); i++)
                h.counts[i] = (uint64_t) json_integer_value(json_array_get(counts, i));
        metric_head(b, "berth_hub_commit_seconds", "histogram",
                    "From the sending of a group commit until it is known stored.");
        metric_histogram(b, "berth_hub_commit_seconds", "", &h);
}

/* Of the targets in pool_warm; without one there is nothing to say. */
static void put_warm(struct buf *b, const json_t *targets)
{
        static const struct {
                const char *key, *metric, *help;
        } of[] = {
                { "target", "berth_warm_target", "Slots that free workers are to keep ready." },
                { "ready", "berth_warm_ready", "Slots of a target that are ready." },
                { "making", "berth_warm_making", "Slots of a target that are being made." },
        };
        const json_t *t;
        size_t k;

        for (size_t i = 0; i < ARRAY_LEN(of) && json_array_size(targets) > 0; i++) {
                metric_head(b, of[i].metric, "gauge", of[i].help);
                json_array_foreach ((json_t *) targets, k, t) {
                        const char *image = json_string_value(json_object_get(t, "image"));
                        const char *kind = json_string_value(json_object_get(t, "kind"));
                        buf_putf(b, "%s{", of[i].metric);
                        metric_label(b, "kind", kind ? kind : "", true);
                        metric_label(b, "image", image ? image : "", false);
                        buf_putf(b, "} %" PRIu64 "\n", number(t, of[i].key));
                }
        }
}

static void put_coordinator(struct buf *b, const char *text)
{
        struct json_problem problem;
        cleanup_json json_t *j = NULL;

        if (json_parse(text, strlen(text), &j, &problem) < 0)
                return;
        for (size_t i = 0; i < ARRAY_LEN(plain); i++) {
                uint64_t v = number(j, plain[i].key);
                metric_head(b, plain[i].metric, plain[i].type, plain[i].help);
                if (plain[i].usec)
                        buf_putf(b, "%s %" PRIu64 ".%06" PRIu64 "\n", plain[i].metric,
                                 v / USEC_PER_SEC, v % USEC_PER_SEC);
                else
                        metric_u64(b, plain[i].metric, v);
        }
        const json_t *f = json_object_get(j, "figures");
        uint64_t cost = number(f, "cost_microusd");
        put_set(b, f, "sessions", "berth_sessions", "gauge", "status",
                "Sessions that are not over; those that ended count in transitions.");
        put_set(b, f, "transitions", "berth_session_transitions_total", "counter", "to",
                "Sessions that entered a state.");
        put_set(b, f, "events", "berth_events_total", "counter", "type", "Events stored.");
        put_commits(b, json_object_get(f, "commits"));
        put_tools(b, json_object_get(f, "tools"));
        put_set(b, f, "tokens", "berth_model_tokens_total", "counter", "direction",
                "Tokens of model calls.");
        metric_head(b, "berth_cost_usd_total", "counter", "What model calls cost, in US dollars.");
        buf_putf(b, "berth_cost_usd_total %" PRIu64 ".%06" PRIu64 "\n", cost / 1000000,
                 cost % 1000000);
        put_warm(b, json_object_get(j, "warm"));
}

/* ---- workers ---- */

static const struct {
        const char *key, *metric, *type, *help;
        bool usec;
} of_slot[] = {
        { "memory_bytes", "berth_slot_memory_bytes", "gauge", "Memory of the slot." },
        { "processes", "berth_slot_processes", "gauge", "Processes in the slot." },
        { "cpu_usec", "berth_slot_cpu_seconds", "gauge",
          "CPU time of the processes that are in the slot now; falls when they end.", true },
        { "memory_kills", "berth_slot_memory_kills", "gauge",
          "Programs of this slot that were ended at its memory limit." },
        { "fork_refusals", "berth_slot_fork_refusals", "gauge",
          "Programs of this slot that were refused at its limit of processes." },
};

/* Columns: worker_id, kind, state or offline, load. */
static void put_slots(struct buf *b, const PGresult *rows, json_t *const *loads)
{
        metric_head(b, "berth_worker_up", "gauge", "Whether the worker is linked.");
        for (int i = 0; i < PQntuples(rows); i++) {
                buf_puts(b, "berth_worker_up{");
                metric_label(b, "worker", pg_str(rows, i, 0), true);
                buf_putf(b, "} %d\n", !streq(pg_str(rows, i, 2), "offline"));
        }
        for (size_t k = 0; k < ARRAY_LEN(of_slot); k++) {
                metric_head(b, of_slot[k].metric, of_slot[k].type, of_slot[k].help);
                for (int i = 0; i < PQntuples(rows); i++) {
                        uint64_t v = number(loads[i], of_slot[k].key);
                        if (streq(pg_str(rows, i, 2), "offline"))
                                continue;
                        buf_putf(b, "%s{", of_slot[k].metric);
                        metric_label(b, "worker", pg_str(rows, i, 0), true);
                        if (of_slot[k].usec)
                                buf_putf(b, "} %" PRIu64 ".%06" PRIu64 "\n", v / USEC_PER_SEC,
                                         v % USEC_PER_SEC);
                        else
                                buf_putf(b, "} %" PRIu64 "\n", v);
                }
        }
}

static void put_model_calls(struct buf *b, const PGresult *rows, json_t *const *loads)
{
        const char *provider, *result;
        json_t *results, *v;

        metric_head(b, "berth_model_requests_total", "counter",
                    "Attempts to call a model, by the worker that made them.");
        for (int i = 0; i < PQntuples(rows); i++) {
                if (streq(pg_str(rows, i, 2), "offline"))
                        continue;
                json_object_foreach (json_object_get(loads[i], "model_calls"), provider, results)
                        json_object_foreach (results, result, v) {
                                buf_puts(b, "berth_model_requests_total{");
                                metric_label(b, "worker", pg_str(rows, i, 0), true);
                                metric_label(b, "provider", provider, false);
                                metric_label(b, "result", result, false);
                                buf_putf(b, "} %" PRIu64 "\n", (uint64_t) json_integer_value(v));
                        }
        }
}

static void put_workers(struct buf *b, const PGresult *rows)
{
        size_t n = (size_t) PQntuples(rows);
        cleanup_free json_t **loads = xnewn(json_t *, n + 1);
        struct json_problem problem;

        for (size_t i = 0; i < n; i++) {
                const char *text = pg_str(rows, (int) i, 3);
                if (json_parse(text, strlen(text), &loads[i], &problem) < 0)
                        loads[i] = NULL;
        }
        put_slots(b, rows, loads);
        put_model_calls(b, rows, loads);
        for (size_t i = 0; i < n; i++)
                json_decref(loads[i]);
}

/* Columns: kind, state, count. */
static void put_slot_counts(struct buf *b, const PGresult *rows)
{
        metric_head(b, "berth_slots", "gauge", "Slots, by kind and state.");
        for (int i = 0; i < PQntuples(rows); i++) {
                buf_puts(b, "berth_slots{");
                metric_label(b, "kind", pg_str(rows, i, 0), true);
                metric_label(b, "state", pg_str(rows, i, 1), false);
                buf_putf(b, "} %s\n", pg_str(rows, i, 2));
        }
}

/* ---- traces ---- */

static void put_span_counts(struct buf *b, const char *process, const char *worker,
                            const struct otlp_counts *c)
{
        const struct {
                const char *result;
                uint64_t n;
        } counts[] = { { "sent", c->sent },
                       { "dropped", c->dropped },
                       { "rejected", c->rejected } };

        for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
                buf_puts(b, "berth_trace_spans_total{");
                metric_label(b, "process", process, true);
                if (worker)
                        metric_label(b, "worker", worker, false);
                buf_putf(b, ",result=\"%s\"} %" PRIu64 "\n", counts[i].result, counts[i].n);
        }
}

/* text: JSON with a member "spans". */
static void put_told_counts(struct buf *b, const char *process, const char *worker,
                            const char *text)
{
        struct json_problem problem;
        cleanup_json json_t *j = NULL;

        if (json_parse(text, strlen(text), &j, &problem) < 0)
                return;
        const json_t *spans = json_object_get(j, "spans");
        if (!spans)
                return;
        const struct otlp_counts c = { .sent = number(spans, "sent"),
                                       .dropped = number(spans, "dropped"),
                                       .rejected = number(spans, "rejected") };
        put_span_counts(b, process, worker, &c);
}

/* results: of metrics(), or NULL without the database. */
static void put_traces(struct buf *b, const struct gateway *g, PGresult *const *results)
{
        struct otlp_counts own;

        metric_head(b, "berth_trace_spans_total", "counter",
                    "Spans for the collector of traces: sent, dropped before, rejected by it.");
        otlp_counts(g->daemon->otlp, &own);
        put_span_counts(b, "gatewayd", NULL, &own);
        if (!results)
                return;
        if (PQntuples(results[0]) > 0)
                put_told_counts(b, "coordinatord", NULL, pg_str(results[0], 0, 0));
        for (int i = 0; i < PQntuples(results[1]); i++)
                if (!streq(pg_str(results[1], i, 2), "offline"))
                        put_told_counts(b, "workerd", pg_str(results[1], i, 0),
                                        pg_str(results[1], i, 3));
        if (PQntuples(results[4]) > 0)
                put_told_counts(b, "docserverd", NULL, pg_str(results[4], 0, 0));
}

static void on_metrics(void *userdata, int r, PGresult **results, size_t n,
                       const struct pg_error *error)
{
        struct http_request *req = userdata;
        struct gateway *g = req->gateway;
        cleanup_buf struct buf b = BUF_INIT;

        put_gauge(&b, "berth_database_up", "Whether the database answers the gateway.", r == 0);
        put_gauge(&b, "berth_coordinator_up", "Whether the coordinator is linked.",
                  rpc_peer_up(rpc_client_peer(g->coordinator)));
        put_gauge(&b, "berth_documents_up", "Whether docserverd is linked.",
                  g->documents && rpc_peer_up(rpc_client_peer(g->documents)));
        put_own(&b, g);
        if (r == 0) {
                if (PQntuples(results[0]) > 0)
                        put_coordinator(&b, pg_str(results[0], 0, 0));
                put_workers(&b, results[1]);
                put_slot_counts(&b, results[2]);
                put_gauge(&b, "berth_documents_bytes",
                          "Bytes of all versions of documents and of volumes.",
                          (uint64_t) pg_i64(results[3], 0, 0));
                put_gauge(&b, "berth_documents", "Documents.", (uint64_t) pg_i64(results[3], 0, 1));
        }
        put_traces(&b, g, r == 0 ? results : NULL);
        http_reply_bytes(req, 200, TEXT_FORMAT, (struct span){ b.data, b.len });
}

/* Figures of all tenants: sums, no tenant's name is in them. */
static void metrics(struct http_request *req)
{
        struct gateway *g = req->gateway;
        struct pg_batch *b;

        if (req->route->auth != ROUTE_PUBLIC && !streq(req->principal.tenant, "default"))
                return http_reply_error(req, ERROR_CODE_FORBIDDEN, NULL,
                                        "Figures of the installation are for tokens of the tenant "
                                        "default.");
        if (!pg_pool_up(g->pg))
                return on_metrics(req, -EAGAIN, NULL, 0, NULL);
        b = pg_batch_new();
        pg_batch_tenant(b, PG_ALL_TENANTS);
        pg_batch_add(b,
                     "SELECT json FROM core.status WHERE process = 'coordinatord' AND "
                     "updated_at > now() - interval '12 seconds'",
                     "");
        pg_batch_add(b,
                     "SELECT worker_id, kind, CASE WHEN online THEN state ELSE 'offline' END, load "
                     "FROM core.worker ORDER BY worker_id LIMIT 1000",
                     "");
        pg_batch_add(b,
                     "SELECT kind, CASE WHEN online THEN state ELSE 'offline' END AS state, "
                     "count(*) FROM core.worker GROUP BY 1, 2 ORDER BY 1, 2",
                     "");
        pg_batch_add(b,
                     "SELECT COALESCE(sum(bytes), 0)::bigint, COALESCE(sum(documents), 0)::bigint "
                     "FROM docs.usage",
                     "");
        pg_batch_add(
                b, "SELECT json FROM docs.status WHERE updated_at > now() - interval '12 seconds'",
                "");
        int r = pg_submit(g->pg, b, on_metrics, req);
        if (r < 0)
                on_metrics(req, r, NULL, 0, NULL);
}

static const struct route table[] = {
        { HTTP_GET, "/metrics", metrics },
        { HTTP_GET, "/metrics", metrics, .auth = ROUTE_PUBLIC, .listeners = LISTENER_METRICS },
};
const struct route_table metrics_routes = { table, ARRAY_LEN(table) };
