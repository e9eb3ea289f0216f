/* The log of a session: POST /log adds an entry, GET /stream follows it; GET /download gives what
 * the session has worked with and made. */
#include "gatewayd/conditional.h"
#include "gatewayd/content.h"
#include "gatewayd/fanout.h"
#include "gatewayd/query.h"
#include "gatewayd/route.h"
#include "gatewayd/sse.h"
#include "gatewayd/upload.h"

#define DATA_MAX 262144u

/* ---- POST /log ---- */

struct log_body {
        char *session_id, *level, *message;
        json_t *data;
};
static const struct json_field log_fields[] = {
        JSON_FIELD(struct log_body, session_id, JSON_KIND_STRING, .min = 1, .max = 64,
                   .required = true),
        JSON_FIELD(struct log_body, level, JSON_KIND_STRING, .min = 1, .max = 32),
        JSON_FIELD(struct log_body, message, JSON_KIND_STRING, .min = 1, .max = 65536,
                   .required = true),
        JSON_FIELD(struct log_body, data, JSON_KIND_OBJECT, .nullable = true),
};

/* In lower case, as programs differ: letters only. */
static bool read_level(char *level)
{
        for (char *p = level; *p; p++) {
                if (*p >= 'A' && *p <= 'Z')
                        *p = (char) (*p - 'A' + 'a');
                if (*p < 'a' || *p > 'z')
                        return false;
        }
        return true;
}

static void on_logged(void *userdata, int r, const void *reply)
{
        struct http_request *req = userdata;
        const struct log_appended *m = reply;
        char text[120];

        if (r < 0)
                return http_reply_rpc_error(req, r, reply);
        snprintf(text, sizeof(text),
                 "{\"status\":\"logged\",\"id\":%" PRIu64 ",\"seq\":%" PRIu64 "}", m->id, m->seq);
        http_reply_json(req, 201, span_of(text));
}

static void post_log(struct http_request *req)
{
        struct log_body b = { 0 };
        struct json_problem p = { 0 };
        char level[33] = "info";

        if (json_read(req->json, log_fields, ARRAY_LEN(log_fields), &b, &p) < 0)
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST, p.field[0] ? p.field : NULL,
                                        "%s", p.message);
        if (b.level)
                snprintf(level, sizeof(level), "%s", b.level);
        if (!read_level(level))
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST, "level",
                                        "level must be a word such as debug, info, warning or "
                                        "error");
        if (!session_id_ok(b.session_id))
                return no_session(req);
        cleanup_free char *data = b.data && !json_is_null(b.data) ? json_text(b.data) : NULL;
        if (data && strlen(data) > DATA_MAX)
                return http_reply_error(req, ERROR_CODE_TOO_LARGE, "data", "data may have 256 KiB");
        struct log_append m = { .tenant = req->principal.tenant,
                                .session_id = b.session_id,
                                .level = level,
                                .message = span_of(b.message),
                                .data = span_of(data),
                                .request_digest = req->body_digest };
        if (http_idempotency_key(req, &m.idempotency_key) < 0)
                return;
        coordinator_call(req, &wire_log_append, &m, on_logged);
}

/* ---- GET /stream ---- */

struct follow {
        struct http_request *req;
        uint64_t after;
        bool given;
};

static void on_session(void *userdata, int r, PGresult **results, size_t n,
                       const struct pg_error *error)
{
        /* Entries, and how the run goes. */
        static const uint32_t types =
                UINT32_C(1) << EVENT_TYPE_LOG | UINT32_C(1) << EVENT_TYPE_STATUS |
                UINT32_C(1) << EVENT_TYPE_ERROR | UINT32_C(1) << EVENT_TYPE_SESSION_STOP;
        cleanup_free struct follow *f = userdata;
        struct http_request *req = f->req;

        if (r < 0)
                return database_failed(req, r, error);
        if (PQntuples(results[0]) == 0)
                return no_session(req);
        uint64_t last = (uint64_t) pg_i64(results[0], 0, 0);
        uint64_t oldest = (uint64_t) pg_i64(results[0], 0, 1);
        if (f->given && f->after + 1 < oldest)
                return events_gone(req, oldest);
        if (f->given && f->after > last)
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST, "Last-Event-ID",
                                        "Last-Event-ID is beyond the newest event (%" PRIu64
                                        "): start again without it",
                                        last);
        fanout_session_stream(req->gateway->fanout, req, http_query(req, "session_id"), last,
                              f->given ? f->after : oldest - 1, types, false);
}

static void stream(struct http_request *req)
{
        static const char *const known[] = { "session_id", "after_seq", NULL };
        const char *id = http_query(req, "session_id");
        uint64_t after, last;

        if (http_query_only(req, known) < 0 ||
            http_query_u64(req, "after_seq", 0, INT64_MAX, 0, &after) < 0)
                return;
        if (!id)
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST, "session_id",
                                        "session_id must name a session");
        int r = sse_last_event_id(req, &last);
        if (r == -EINVAL)
                return;
        if (!session_id_ok(id))
                return no_session(req);
        if (r == 0 && last > INT64_MAX)
                return http_reply_error(req, ERROR_CODE_BAD_REQUEST, "Last-Event-ID",
                                        "Last-Event-ID must be the id of an event of this stream.");
        struct follow *f = xnew(struct follow);
        f->req = req;
        f->after = r == 0 ? last : after;
        f->given = r == 0 || http_query(req, "after_seq");
        r = pg_query_as(
                req->gateway->pg, req->principal.tenant, on_session, f,
                "SELECT last_seq, COALESCE((SELECT min(seq) FROM core.event WHERE session_id "
                "= $1), last_seq + 1) FROM core.session WHERE session_id = $1 AND tenant = $2",
                "ss", id, req->principal.tenant);
        if (r < 0)
                free(f);
        database_asked(req, r);
}

/* ---- GET /download/{volume_name} ---- */

static void no_volume(struct http_request *req)
{
        http_reply_error(req, ERROR_CODE_NOT_FOUND, NULL, "There is no volume with this name.");
}

static void on_packed(void *userdata, int r, const void *reply, int fd)
{
        struct http_request *req = userdata;
        const struct volume_opened *m = reply;
        uint64_t first = 0, length;

        if (r < 0 || fd < 0) {
                fd_close(fd);
                http_reply_rpc_error(req, r < 0 ? r : -EPROTO, reply);
                return;
        }
        cleanup_free char *name = xasprintf("%s.zip", req->params[0]);
        cleanup_free char *disposition = content_disposition(name);
        length = m->size_bytes;
        http_reply_header(req, "Content-Disposition", "%s", disposition);
        http_reply_header(req, "Cache-Control", "private, no-store");
        http_reply_fd(req, 200, "application/zip", fd, first, length);
}

static void on_volume(void *userdata, int r, PGresult **results, size_t n,
                      const struct pg_error *error)
{
        struct http_request *req = userdata;
        struct gateway *g = req->gateway;

        if (r < 0)
                return database_failed(req, r, error);
        if (PQntuples(results[0]) == 0)
                return no_volume(req);
        struct volume_open m = { .tenant = req->principal.tenant, .volume_name = req->params[0] };
        r = g->documents_fd
                    ? fdlink_call(g->documents_fd, &wire_volume_open, &m,
                                  upload_read_timeout(g, (uint64_t) pg_i64(results[0], 0, 0)),
                                  on_packed, req)
                    : -EHOSTUNREACH;
        if (r < 0)
                http_reply_busy(req, "document service");
}

static void download(struct http_request *req)
{
        static const char *const known[] = { NULL };
        const char *name = req->params[0];

        if (http_query_only(req, known) < 0)
                return;
        if (strlen(name) > 100 || !str_starts(name, "dataset-volume-") ||
            !session_id_ok(name + strlen("dataset-volume-")))
                return no_volume(req);
        database_query(req, on_volume,
                       "SELECT (v.size_bytes + coalesce((SELECT sum(size_bytes) FROM docs.document "
                       "d WHERE d.session_id = v.session_id AND d.tenant = v.tenant), 0))::bigint "
                       "FROM docs.volume v WHERE v.name = $1 AND v.tenant = $2 AND v.ready",
                       "ss", name, req->principal.tenant);
}

static const struct route table[] = {
        { HTTP_POST, "/log", post_log, .role = ROLE_USER, .body = ROUTE_BODY_JSON },
        { HTTP_GET, "/stream", stream, .auth = ROUTE_TICKET },
        { HTTP_GET, "/download/{volume_name}", download, .auth = ROUTE_TICKET },
};
const struct route_table log_routes = { table, ARRAY_LEN(table) };
