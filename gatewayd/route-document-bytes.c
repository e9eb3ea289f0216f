/* GET /documents/{id}: the bytes, by a descriptor of docserverd's, with ranges and conditions. */
#include "gatewayd/conditional.h"
#include "gatewayd/documents.h"

static void reply_bytes(struct http_request *req, const struct document_opened *m, int fd)
{
        uint64_t first = 0, length = m->size_bytes;
        enum range_result range = RANGE_WHOLE;
        const char *if_range = http_header(req, "if-range");
        char tag[96];

        /* A range is for GET only, and only of the version the client has begun with. */
        if (req->method == HTTP_GET &&
            (!if_range ||
             (etag_single(if_range, tag, sizeof(tag)) == 1 && streq(tag, m->checksum))))
                range = range_parse(http_header(req, "range"), m->size_bytes, &first, &length);
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

static void on_opened(void *userdata, int r, const void *reply, int fd)
{
        struct http_request *req = userdata;
        const struct document_opened *m = reply;

        if (r < 0 || fd < 0) {
                fd_close(fd);
                http_reply_rpc_error(req, r < 0 ? r : -EPROTO, reply);
                return;
        }
        http_reply_header(req, "ETag", "\"%s\"", m->checksum);
        http_reply_header(req, "Cache-Control", "private, no-cache");
        if (etag_listed(http_header(req, "if-none-match"), m->checksum)) {
                fd_close(fd);
                http_reply_empty(req, 304);
                return;
        }
        cleanup_free char *disposition = content_disposition(m->filename);
        http_reply_header(req, "Accept-Ranges", "bytes");
        http_reply_header(req, "Content-Disposition", "%s", disposition);
        /* Whatever it says it is, it never runs as a page of ours. */
        http_reply_header(req, "Content-Security-Policy", "default-src 'none'; sandbox");
        http_reply_header(req, "Cross-Origin-Resource-Policy", "same-origin");
        reply_bytes(req, m, fd);
}

static void bytes(struct http_request *req)
{
        static const char *const known[] = { "version", NULL };
        const char *id = document_id(req);
        uint64_t version;
        if (!id || http_query_only(req, known) < 0 ||
            http_query_u64(req, "version", 1, INT32_MAX, 0, &version) < 0)
                return;
        struct gateway *g = req->gateway;
        struct document_open m = { .tenant = req->principal.tenant,
                                   .document_id = id,
                                   .has_version = version > 0,
                                   .version = (uint32_t) version };
        int r = g->documents_fd
                        ? fdlink_call(g->documents_fd, &wire_document_open, &m,
                                      MIN(g->settings->request_timeout, GATEWAY_ANSWER_USEC),
                                      on_opened, req)
                        : -EHOSTUNREACH;
        if (r < 0)
                http_reply_busy(req, "document service");
}

static const struct route table[] = {
        { HTTP_GET, "/documents/{id}", bytes, .auth = ROUTE_TICKET, .listeners = LISTENER_BOTH },
};
const struct route_table document_bytes_routes = { table, ARRAY_LEN(table) };
