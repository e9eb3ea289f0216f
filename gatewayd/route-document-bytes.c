/* GET /documents/{id}: the bytes, by a descriptor of docserverd's, with ranges and conditions. */
#include <strings.h>

#include "gatewayd/conditional.h"
#include "gatewayd/documents.h"

static void open_document(struct http_request *req, bool hint);

static struct conditions conditions_of(struct http_request *req)
{
        return (struct conditions){
                .if_match = http_header(req, "if-match"),
                .if_unmodified_since = http_header(req, "if-unmodified-since"),
                .if_none_match = http_header(req, "if-none-match"),
                .if_modified_since = http_header(req, "if-modified-since"),
                .if_range = http_header(req, "if-range"),
        };
}

static void reply_bytes(struct http_request *req, const struct document_opened *m,
                        enum range_result range, uint64_t first, uint64_t length, int fd)
{
        cleanup_free char *disposition = content_disposition(m->filename);
        http_reply_header(req, "Accept-Ranges", "bytes");
        http_reply_header(req, "Content-Disposition", "%s", disposition);
        /* Whatever it says it is, it never runs as a page of ours. */
        http_reply_header(req, "Content-Security-Policy", "default-src 'none'; sandbox");
        http_reply_header(req, "Cross-Origin-Resource-Policy", "same-origin");
        if (range == RANGE_OUTSIDE) {
                fd_close(fd);
                http_reply_header(req, "Content-Range", "bytes */%" PRIu64, m->size_bytes);
                http_reply_problem(req, 416, "range_not_satisfiable", "Range",
                                   "The document has only %" PRIu64 " bytes.", m->size_bytes);
                return;
        }
        if (range == RANGE_PART)
                http_reply_header(req, "Content-Range", "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64,
                                  first, first + length - 1, m->size_bytes);
        http_reply_fd(req, range == RANGE_PART ? 206 : 200, m->content_type, fd, first, length);
}

static void reply_document(struct http_request *req, const struct document_opened *m, int fd)
{
        const struct conditions c = conditions_of(req);
        time_t modified = (time_t) (m->updated_at_us / USEC_PER_SEC);
        uint64_t first = 0, length = m->size_bytes;
        enum range_result range = RANGE_WHOLE;
        char date[DATE_TEXT_MAX];

        enum condition_result condition = conditions_check(&c, m->checksum, modified);
        /* A range is for GET only, and only of the version the client has begun with. */
        if (req->method == HTTP_GET &&
            range_allowed(&c, m->checksum, modified, (time_t) (now_realtime() / USEC_PER_SEC)))
                range = range_parse(http_header(req, "range"), m->size_bytes, &first, &length);
        if (m->has_partial && m->partial && condition == CONDITION_GO && range == RANGE_WHOLE) {
                fd_close(fd);
                open_document(req, false); /* more is wanted than was asked for */
                return;
        }
        date_text(modified, date);
        http_reply_header(req, "ETag", "\"%s\"", m->checksum);
        http_reply_header(req, "Last-Modified", "%s", date);
        http_reply_header(req, "Cache-Control", "private, no-cache");
        if (condition == CONDITION_GO) {
                reply_bytes(req, m, range, first, length, fd);
                return;
        }
        fd_close(fd);
        if (condition == CONDITION_NOT_MODIFIED)
                http_reply_empty(req, 304);
        else
                http_reply_error(req, ERROR_CODE_PRECONDITION_FAILED, NULL,
                                 "The document has changed since; read it again.");
}

static void on_opened(void *userdata, int r, const void *reply, int fd)
{
        struct http_request *req = userdata;
        if (r < 0) {
                fd_close(fd);
                http_reply_rpc_error(req, r, reply);
        } else if (fd < 0)
                open_document(req, false); /* on its way from the object store */
        else
                reply_document(req, reply, fd);
}

/* first-last with both ends: what may be fetched of a document that is not at hand. */
static bool range_hint(struct http_request *req, struct document_open *m)
{
        const char *range = http_header(req, "range");
        if (req->method != HTTP_GET || !range || http_header(req, "if-range") ||
            strncasecmp(range, "bytes=", 6) != 0 || range[6] < '0' || range[6] > '9')
                return false;
        return range_parse(range, UINT64_MAX, &m->range_first, &m->range_length) == RANGE_PART;
}

static void open_document(struct http_request *req, bool hint)
{
        struct gateway *g = req->gateway;
        uint64_t version = (uintptr_t) req->userdata;
        struct document_open m = { .tenant = req->principal.tenant,
                                   .document_id = req->params[0],
                                   .has_version = version > 0,
                                   .version = (uint32_t) version };
        m.has_range_first = m.has_range_length = hint && range_hint(req, &m);
        int r = g->documents_fd
                        ? fdlink_call(g->documents_fd, &wire_document_open, &m,
                                      MIN(g->settings->request_timeout, GATEWAY_ANSWER_USEC),
                                      on_opened, req)
                        : -EHOSTUNREACH;
        if (r < 0)
                http_reply_busy(req, "document service");
}

static void bytes(struct http_request *req)
{
        static const char *const known[] = { "version", NULL };
        uint64_t version;
        if (!document_id(req) || http_query_only(req, known) < 0 ||
            http_query_u64(req, "version", 1, INT32_MAX, 0, &version) < 0)
                return;
        req->userdata = (void *) (uintptr_t) version;
        open_document(req, true);
}

static const struct route table[] = {
        { HTTP_GET, "/documents/{id}", bytes, .auth = ROUTE_TICKET, .listeners = LISTENER_BOTH },
};
const struct route_table document_bytes_routes = { table, ARRAY_LEN(table) };
