/* Stored events, the bytes that belong to them, and the streams that follow them live. */
#include "gatewayd/content.h"
#include "gatewayd/fanout.h"
#include "gatewayd/query.h"
#include "gatewayd/route.h"
#include "gatewayd/sse.h"
#include "gatewayd/ws.h"

/* What a page is about while the database is asked. Freed by its callback. */
struct page {
        struct http_request *req;
        uint64_t limit;
        uint64_t after;
        bool given;     /* the reader named a position */
        char epoch[64]; /* of the history that the position is of, "" = not said */
        bool deltas;
};

static struct page *page_new(struct http_request *req)
{
        struct page *p = xnew(struct page);
        const char *epoch = http_query(req, "epoch");

        p->req = req;
        snprintf(p->epoch, sizeof(p->epoch), "%s", epoch ? epoch : "");
        return p;
}

static void events_reply(struct page *p, const PGresult *rows, uint64_t newest, const char *epoch)
{
        cleanup_buf struct buf b = BUF_INIT;

        buf_puts(&b, "{\"events\":[");
        for (int i = 0; i < PQntuples(rows); i++) {
                buf_puts(&b, i ? "," : "");
                buf_puts(&b, pg_str(rows, i, 0));
        }
        buf_putf(&b, "],\"newest\":%" PRIu64 ",\"epoch\":\"%s\",", newest, epoch);
        bounded_page_end(&b, rows, p->limit);
        http_reply_json_take(p->req, 200, &b);
}

/* Newest and oldest event of a session; what is not there any more was removed by retention. And
 * whose history that is. */
#define SESSION_RANGE                                                                              \
        "SELECT last_seq, COALESCE((SELECT min(seq) FROM core.event WHERE session_id = $1), "      \
        "last_seq + 1), db_epoch FROM core.session, core.hub WHERE session_id = $1 AND tenant = "  \
        "$2"
#define ALL_RANGE "SELECT cursor, (SELECT id + 1 FROM core.event_expired), db_epoch FROM core.hub"

/* The range's row against the reader's position. True after the request was answered. */
static bool refused_as_gone(struct page *p, const PGresult *range)
{
        uint64_t oldest = (uint64_t) pg_i64(range, 0, 1);

        if (p->given && p->epoch[0] && !streq(p->epoch, pg_str(range, 0, 2))) {
                another_history(p->req);
                return true;
        }
        if (!p->given || p->after + 1 >= oldest)
                return false;
        events_gone(p->req, oldest);
        return true;
}

static void on_events(void *userdata, int r, PGresult **results, size_t n,
                      const struct pg_error *error)
{
        cleanup_free struct page *p = userdata;

        if (r < 0)
                database_failed(p->req, r, error);
        else if (PQntuples(results[0]) == 0)
                no_session(p->req);
        else if (!refused_as_gone(p, results[n - 1]))
                events_reply(p, results[1], (uint64_t) pg_i64(results[0], 0, 0),
                             pg_str(results[n - 1], 0, 2));
}

/* types=message,post_tool -> {message,post_tool}. -EINVAL after a reply. */
static int types_filter(struct http_request *req, char **ret)
{
        cleanup_free char *words = xstrdup(http_query(req, "types"));
        cleanup_buf struct buf b = BUF_INIT;
        char *save = NULL;

        if (!words)
                return 0;
        for (char *w = strtok_r(words, ",", &save); w; w = strtok_r(NULL, ",", &save)) {
                enum event_type t;
                if (event_type_parse(w, &t) < 0) {
                        http_reply_error(req, ERROR_CODE_BAD_REQUEST, "types",
                                         "types must be a comma list of event types, such as "
                                         "message,post_tool");
                        return -EINVAL;
                }
                buf_putf(&b, "%s%s", b.len ? "," : "{", w);
        }
        if (b.len == 0) {
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, "types",
                                 "types must name at least one event type");
                return -EINVAL;
        }
        buf_puts(&b, "}");
        *ret = buf_take(&b, NULL);
        return 0;
}

static void submit(struct page *p, struct pg_batch *b, pg_done_fn fn)
{
        struct http_request *req = p->req;
        int r = pg_submit(req->gateway->pg, b, fn, p);

        if (r < 0)
                free(p);
        database_asked(req, r);
}

static void session_events(struct http_request *req)
{
        static const char *const known[] = {
                "after_seq", "limit", "types", "cursor", "epoch", NULL
        };
        cleanup_free char *types = NULL;
        uint64_t limit, after, cursor;
        struct pg_batch *b;
        struct page *p;

        if (http_query_only(req, known) < 0 ||
            http_query_u64(req, "limit", 1, 1000, 100, &limit) < 0 ||
            http_query_u64(req, "after_seq", 0, INT64_MAX, 0, &after) < 0 ||
            http_query_u64(req, "cursor", 0, INT64_MAX, 0, &cursor) < 0 ||
            types_filter(req, &types) < 0)
                return;
        if (!session_id_ok(req->params[0]))
                return no_session(req);
        p = page_new(req);
        p->limit = limit;
        p->after = MAX(after, cursor);
        p->given = http_query(req, "after_seq") || http_query(req, "cursor");
        b = tenant_batch(req);
        pg_batch_add(b, "SELECT last_seq FROM core.session WHERE session_id = $1 AND tenant = $2",
                     "ss", req->params[0], req->principal.tenant);
        pg_batch_add(b,
                     BOUNDED_PAGE("seq",
                                  "SELECT json, seq FROM core.event WHERE session_id = $1 AND "
                                  "tenant = $2 AND seq > $3 AND ($4::text[] IS NULL OR "
                                  "event_type = ANY($4::text[])) ORDER BY seq LIMIT $5"),
                     "ssusu", req->params[0], req->principal.tenant, p->after, types, limit);
        pg_batch_add(b, SESSION_RANGE, "ss", req->params[0], req->principal.tenant);
        submit(p, b, on_events);
}

static void all_events(struct http_request *req)
{
        static const char *const known[] = { "after", "limit", "types", "cursor", "epoch", NULL };
        cleanup_free char *types = NULL;
        uint64_t limit, after, cursor;
        struct pg_batch *b;
        struct page *p;

        if (http_query_only(req, known) < 0 ||
            http_query_u64(req, "limit", 1, 1000, 100, &limit) < 0 ||
            http_query_u64(req, "after", 0, INT64_MAX, 0, &after) < 0 ||
            http_query_u64(req, "cursor", 0, INT64_MAX, 0, &cursor) < 0 ||
            types_filter(req, &types) < 0)
                return;
        p = page_new(req);
        p->limit = limit;
        p->after = MAX(after, cursor);
        p->given = http_query(req, "after") || http_query(req, "cursor");
        b = tenant_batch(req);
        pg_batch_add(b, "SELECT cursor FROM core.hub", "");
        pg_batch_add(b,
                     BOUNDED_PAGE("id", "SELECT json, id FROM core.event WHERE tenant = $1 AND "
                                        "id > $2 AND ($3::text[] IS NULL OR "
                                        "event_type = ANY($3::text[])) ORDER BY id LIMIT $4"),
                     "susu", req->principal.tenant, p->after, types, limit);
        pg_batch_add(b, ALL_RANGE, "");
        submit(p, b, on_events);
}

/* ---- attachments ---- */

static void on_attachment(void *userdata, int r, PGresult **results, size_t n,
                          const struct pg_error *error)
{
        struct http_request *req = userdata;
        cleanup_free void *data = NULL;
        size_t len;

        if (r < 0)
                return database_failed(req, r, error);
        if (PQntuples(results[0]) == 0 || pg_bytea(results[0], 0, 1, &data, &len) < 0)
                return http_reply_error(req, ERROR_CODE_NOT_FOUND, NULL,
                                        "there is no such attachment");
        /* Named by its content: it never changes. */
        http_reply_header(req, "Cache-Control", "private, max-age=31536000, immutable");
        http_reply_header(req, "X-Content-Type-Options", "nosniff");
        http_reply_bytes(req, 200, pg_str(results[0], 0, 0), (struct span){ data, len });
}

static void attachment(struct http_request *req)
{
        if (!session_id_ok(req->params[0]) || strlen(req->params[1]) != SHA256_HEX - 1)
                return http_reply_error(req, ERROR_CODE_NOT_FOUND, NULL,
                                        "there is no such attachment");
        database_query(req, on_attachment,
                       "SELECT a.media_type, a.data FROM core.attachment a JOIN core.session s "
                       "USING (session_id) "
                       "WHERE a.session_id = $1 AND s.tenant = $2 AND a.digest = $3",
                       "sss", req->params[0], req->principal.tenant, req->params[1]);
}

/* ---- streams ---- */

static void on_stream_session(void *userdata, int r, PGresult **results, size_t n,
                              const struct pg_error *error)
{
        cleanup_free struct page *p = userdata;
        struct http_request *req = p->req;
        uint64_t last;

        if (r < 0)
                return database_failed(req, r, error);
        if (PQntuples(results[0]) == 0)
                return no_session(req);
        last = (uint64_t) pg_i64(results[0], 0, 0);
        if (refused_as_gone(p, results[0]))
                return;
        if (!p->given)
                p->after = (uint64_t) pg_i64(results[0], 0, 1) - 1;
        if (p->after > last)
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST, "after_seq",
                                        "after_seq is beyond the newest event (%" PRIu64
                                        "): start again without it",
                                        last);
        fanout_session_stream(req->gateway->fanout, req, req->params[0], last, p->after, 0,
                              p->deltas);
}

static void session_stream(struct http_request *req)
{
        static const char *const known[] = { "after_seq", "deltas", "epoch", NULL };
        const char *deltas = http_query(req, "deltas");
        uint64_t after, id;
        struct pg_batch *b;
        struct page *p;
        bool want = true;
        int r;

        if (http_query_only(req, known) < 0 ||
            http_query_u64(req, "after_seq", 0, INT64_MAX, 0, &after) < 0)
                return;
        if (!ws_requested(req) && !http_accepts(req, "text/event-stream"))
                return http_reply_problem(
                        req, 406, "not_acceptable", NULL,
                        "ask for a WebSocket, or for text/event-stream in Accept");
        r = ws_requested(req) ? -ENOENT : sse_last_event_id(req, &id);
        if (r == -EINVAL)
                return;
        if (r == 0)
                after = id;
        if (deltas && parse_bool(deltas, &want) < 0)
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST, "deltas",
                                        "deltas must be true or false");
        if (!session_id_ok(req->params[0]))
                return no_session(req);
        p = page_new(req);
        p->after = after;
        p->given = r == 0 || http_query(req, "after_seq");
        p->deltas = want;
        b = tenant_batch(req);
        pg_batch_add(b, SESSION_RANGE, "ss", req->params[0], req->principal.tenant);
        submit(p, b, on_stream_session);
}

static void on_init(void *userdata, int r, PGresult **results, size_t n,
                    const struct pg_error *error)
{
        cleanup_free struct page *p = userdata;
        struct http_request *req = p->req;
        cleanup_buf struct buf b = BUF_INIT;
        uint64_t cursor;

        if (r < 0)
                return database_failed(req, r, error);
        cursor = (uint64_t) pg_i64(results[0], 0, 0);
        if (refused_as_gone(p, results[0]))
                return;
        if (p->after != UINT64_MAX && p->after > cursor)
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST, "after",
                                        "after is beyond the newest event (%" PRIu64
                                        "): start again without it",
                                        cursor);
        buf_puts(&b, "[");
        for (int i = 0; i < PQntuples(results[1]); i++)
                buf_putf(&b, "%s%s", i ? "," : "", pg_str(results[1], i, 0));
        buf_puts(&b, "]");
        fanout_all_sessions(req->gateway->fanout, req, (struct span){ b.data, b.len }, cursor,
                            pg_str(results[0], 0, 2), p->after == UINT64_MAX ? cursor : p->after);
}

static void all_sessions(struct http_request *req)
{
        static const char *const known[] = { "after", "epoch", NULL };
        struct pg_batch *b;
        struct page *p;
        uint64_t after;

        if (http_query_only(req, known) < 0 ||
            http_query_u64(req, "after", 0, INT64_MAX, UINT64_MAX, &after) < 0)
                return;
        if (!ws_requested(req))
                return http_reply_problem(req, 426, "upgrade_required", NULL, "/ws is a WebSocket");
        p = page_new(req);
        p->after = after;
        p->given = after != UINT64_MAX;
        b = tenant_batch(req);
        /* The cursor first: what happens between the two is sent as events, too. */
        pg_batch_add(b, ALL_RANGE, "");
        pg_batch_add(
                b,
                "SELECT json FROM (SELECT *, sum(octet_length(json)) OVER newest AS bytes FROM "
                "(SELECT core.session_json(s) AS json, created_at, session_id FROM "
                "core.session s WHERE tenant = $1 ORDER BY created_at DESC, session_id DESC "
                "LIMIT 10000) AS page WINDOW newest AS (ORDER BY created_at DESC, session_id "
                "DESC)) AS sized WHERE bytes < 33554432 ORDER BY created_at DESC, session_id "
                "DESC",
                "s", req->principal.tenant);
        submit(p, b, on_init);
}

static const struct route table[] = {
        { HTTP_GET, "/events", all_events },
        { HTTP_GET, "/events/{id}", session_events },
        { HTTP_GET, "/sessions/{id}/attachments/{digest}", attachment, .auth = ROUTE_TICKET },
        { HTTP_GET, "/sessions/{id}/stream", session_stream, .auth = ROUTE_TICKET,
          .upgrade = true },
        { HTTP_GET, "/ws", all_sessions, .auth = ROUTE_TICKET, .upgrade = true },
};
const struct route_table event_routes = { table, ARRAY_LEN(table) };
