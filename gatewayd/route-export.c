/* Videos of a session's recording: asking for one, how far it is, calling it off. The video itself
 * is a document. */
#include "common/base/json.h"
#include "gatewayd/content.h"
#include "gatewayd/documents.h"

#define CALL_USEC(req) MIN((req)->gateway->settings->request_timeout, GATEWAY_ANSWER_USEC)

static void reply(struct http_request *req, int status, int r, const void *answer)
{
        const struct recording_export_reply *m = answer;

        if (r < 0)
                http_reply_rpc_error(req, r, answer);
        else
                http_reply_json(req, status, m->export_json);
}

/* ---- asking ---- */

static void on_queued(void *userdata, int r, const void *answer)
{
        reply(userdata, 202, r, answer);
}

static const char *format_of(struct http_request *req)
{
        struct body {
                const char *format;
        } b = { .format = "webm" };
        static const struct json_field fields[] = {
                JSON_FIELD(struct body, format, JSON_KIND_STRING, .min = 1, .max = 8),
        };
        struct json_problem problem = { 0 };

        if (req->json && json_read(req->json, fields, ARRAY_LEN(fields), &b, &problem) < 0) {
                document_problem(req, &problem);
                return NULL;
        }
        if (streq(b.format, "webm") || streq(b.format, "mp4"))
                return b.format;
        http_reply_error(req, ERROR_CODE_BAD_REQUEST, "format", "format must be webm or mp4.");
        return NULL;
}

static void on_found(void *userdata, int r, PGresult **results, size_t n,
                     const struct pg_error *error)
{
        struct http_request *req = userdata;
        const char *format;

        if (r < 0)
                return database_failed(req, r, error);
        if (PQntuples(results[0]) == 0)
                return no_session(req);
        format = format_of(req);
        if (!format)
                return;
        const char *name = pg_str(results[0], 0, 0);
        cleanup_free char *filename = xasprintf("%s.%s", name, format);
        if (document_filename_problem(filename)) {
                free(filename);
                filename = xasprintf("recording-%s.%s", req->params[0], format);
        }
        (void) documents_call(req, &wire_recording_export,
                              &(struct recording_export){ .tenant = req->principal.tenant,
                                                          .session_id = req->params[0],
                                                          .format = format,
                                                          .filename = filename },
                              CALL_USEC(req), on_queued);
}

static void begin(struct http_request *req)
{
        if (!session_id_ok(req->params[0]))
                return no_session(req);
        database_query(req, on_found,
                       "SELECT COALESCE(NULLIF(session_name, ''), 'recording') FROM core.session "
                       "WHERE session_id = $1 AND tenant = $2",
                       "ss", req->params[0], req->principal.tenant);
}

/* ---- how far it is ---- */

static void no_export(struct http_request *req)
{
        http_reply_error(req, ERROR_CODE_NOT_FOUND, NULL, "The session has no export of that id.");
}

static void on_read(void *userdata, int r, PGresult **results, size_t n,
                    const struct pg_error *error)
{
        struct http_request *req = userdata;

        if (r < 0)
                return database_failed(req, r, error);
        if (PQntuples(results[0]) == 0)
                return no_export(req);
        http_reply_json(req, 200, span_of(pg_str(results[0], 0, 0)));
}

/* Export ids are as long as session ids and of the same characters. */
static bool ids_ok(struct http_request *req)
{
        if (!session_id_ok(req->params[0]))
                no_session(req);
        else if (!session_id_ok(req->params[1]))
                no_export(req);
        else
                return true;
        return false;
}

static void show(struct http_request *req)
{
        static const char *const known[] = { NULL };

        if (!ids_ok(req))
                return;
        if (http_query_only(req, known) < 0)
                return;
        database_query(req, on_read,
                       "SELECT docs.export_json(e)::text FROM docs.recording_export e "
                       "WHERE id = $1 AND session_id = $2 AND tenant = $3",
                       "sss", req->params[1], req->params[0], req->principal.tenant);
}

/* ---- calling it off ---- */

static void on_cancelled(void *userdata, int r, const void *answer)
{
        reply(userdata, 200, r, answer);
}

static void cancel(struct http_request *req)
{
        if (!ids_ok(req))
                return;
        (void) documents_call(req, &wire_recording_export_cancel,
                              &(struct recording_export_cancel){ .tenant = req->principal.tenant,
                                                                 .session_id = req->params[0],
                                                                 .export_id = req->params[1] },
                              CALL_USEC(req), on_cancelled);
}

static const struct route table[] = {
        { HTTP_POST, "/sessions/{id}/recording/export", begin, .role = ROLE_USER,
          .body = ROUTE_BODY_JSON_OPTIONAL },
        { HTTP_GET, "/sessions/{id}/recording/exports/{export}", show },
        { HTTP_DELETE, "/sessions/{id}/recording/exports/{export}", cancel, .role = ROLE_USER },
};
const struct route_table export_routes = { table, ARRAY_LEN(table) };
