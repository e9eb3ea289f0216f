/* /sessions/{id}/recording: what there is of it, its pieces, removing it. */
#include "gatewayd/content.h"
#include "gatewayd/documents.h"

#define CALL_USEC(req) MIN((req)->gateway->settings->request_timeout, GATEWAY_ANSWER_USEC)

/* ---- the index ---- */

static void on_listed(void *userdata, int r, PGresult **results, size_t n,
                      const struct pg_error *error)
{
        struct http_request *req = userdata;

        if (r < 0)
                return database_failed(req, r, error);
        if (PQntuples(results[0]) == 0)
                return no_session(req);
        http_reply_json(req, 200, span_of(pg_str(results[1], 0, 0)));
}

static const char index_sql[] =
        "SELECT json_build_object('started_at', min(e.started_at), 'ended_at', max(e.ended_at), "
        "'size_bytes', COALESCE(sum(size_bytes), 0), "
        "'dropped', COALESCE(min(piece) FILTER (WHERE epoch = first_epoch) > 1, false), "
        "'exports', (SELECT COALESCE(json_agg(docs.export_json(x) ORDER BY x.created_at DESC), "
        "'[]') FROM (SELECT * FROM docs.recording_export WHERE session_id = $1 AND tenant = $2 "
        "ORDER BY created_at DESC LIMIT 20) AS x), "
        "'pieces', COALESCE(json_agg(json_build_object('id', id, "
        "'url', '/sessions/' || session_id || '/recording/' || id, 'started_at', e.started_at, "
        "'ended_at', e.ended_at, 'first_seq', first_seq, 'last_seq', last_seq, 'width', width, "
        "'height', height, 'frames', frames, 'size_bytes', size_bytes) ORDER BY e.started_at, id), "
        "'[]'))::text FROM (SELECT id, session_id, epoch, piece, first_seq, last_seq, width, "
        "height, frames, size_bytes, min(epoch) OVER () AS first_epoch, "
        "to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') AS "
        "started_at, "
        "to_char(ended_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') AS ended_at "
        "FROM docs.recording_piece WHERE session_id = $1 AND tenant = $2) AS e";

static void list(struct http_request *req)
{
        static const char *const known[] = { NULL };
        struct pg_batch *b;

        if (!session_id_ok(req->params[0]))
                return no_session(req);
        if (http_query_only(req, known) < 0)
                return;
        b = tenant_batch(req);
        pg_batch_add(b, "SELECT 1 FROM core.session WHERE session_id = $1 AND tenant = $2", "ss",
                     req->params[0], req->principal.tenant);
        pg_batch_add(b, index_sql, "ss", req->params[0], req->principal.tenant);
        database_asked(req, pg_submit(req->gateway->pg, b, on_listed, req));
}

/* ---- a piece ---- */

static void on_opened(void *userdata, int r, const void *reply, int fd)
{
        struct http_request *req = userdata;
        const struct document_opened *m = reply;

        if (r < 0) {
                (void) fd_close(fd);
                return http_reply_rpc_error(req, r, reply);
        }
        if (fd < 0)
                return http_reply_busy(req, "document service");
        /* A piece never changes. */
        http_reply_header(req, "Cache-Control", "private, max-age=86400, immutable");
        http_reply_header(req, "Content-Disposition", "attachment; filename=\"recording.gz\"");
        http_reply_header(req, "X-Content-Type-Options", "nosniff");
        http_reply_fd(req, 200, "application/gzip", fd, 0, m->size_bytes);
}

static void on_found(void *userdata, int r, PGresult **results, size_t n,
                     const struct pg_error *error)
{
        struct http_request *req = userdata;
        struct gateway *g = req->gateway;
        const struct document_open m = { .tenant = req->principal.tenant,
                                         .document_id = req->params[1] };

        if (r < 0)
                return database_failed(req, r, error);
        if (PQntuples(results[0]) == 0)
                return http_reply_error(req, ERROR_CODE_NOT_FOUND, NULL,
                                        "The session's recording has no such piece.");
        r = g->documents_fd ? fdlink_call(g->documents_fd, &wire_document_open, &m, CALL_USEC(req),
                                          on_opened, req)
                            : -EHOSTUNREACH;
        if (r < 0)
                http_reply_busy(req, "document service");
}

static void piece(struct http_request *req)
{
        static const char *const known[] = { NULL };

        if (!session_id_ok(req->params[0]))
                return no_session(req);
        if (http_query_only(req, known) < 0)
                return;
        database_query(req, on_found,
                       "SELECT 1 FROM docs.recording_piece WHERE id = $1 AND session_id = $2 AND "
                       "tenant = $3",
                       "sss", req->params[1], req->params[0], req->principal.tenant);
}

/* ---- removing it ---- */

static void on_checked(void *userdata, int r, PGresult **results, size_t n,
                       const struct pg_error *error)
{
        struct http_request *req = userdata;
        const struct recording_drop m = { .tenant = req->principal.tenant,
                                          .session_id = req->params[0] };

        if (r < 0)
                return database_failed(req, r, error);
        if (PQntuples(results[0]) == 0)
                return no_session(req);
        (void) documents_call(req, &wire_recording_drop, &m, CALL_USEC(req), empty_reply);
}

static void drop(struct http_request *req)
{
        if (!session_id_ok(req->params[0]))
                return no_session(req);
        database_query(req, on_checked,
                       "SELECT 1 FROM core.session WHERE session_id = $1 AND tenant = $2", "ss",
                       req->params[0], req->principal.tenant);
}

static const struct route table[] = {
        { HTTP_GET, "/sessions/{id}/recording", list },
        { HTTP_DELETE, "/sessions/{id}/recording", drop, .role = ROLE_USER },
        { HTTP_GET, "/sessions/{id}/recording/{piece}", piece, .auth = ROUTE_TICKET },
};
const struct route_table recording_routes = { table, ARRAY_LEN(table) };
