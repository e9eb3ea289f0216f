/* GET /documents/{id}: the bytes, by a descriptor of docserverd's, with ranges and conditions. */
#include <strings.h>

#include "gatewayd/conditional.h"
#include "gatewayd/doc-cache.h"
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

/* Where the bytes are: in a file that is ours to close, or in memory that is not. */
struct source {
        int fd;
        struct span body;
        struct span validators, describing; /* header lines */
};

static void render_lines(struct document_lines *l, const struct document_opened *m)
{
        cleanup_free char *disposition = content_disposition(m->filename);
        char date[DATE_TEXT_MAX];
        date_text((time_t) (m->updated_at_us / USEC_PER_SEC), date);
        buf_putf(&l->text,
                 "ETag: \"%s\"\r\nLast-Modified: %s\r\nCache-Control: private, no-cache\r\n",
                 m->checksum, date);
        l->validators = l->text.len;
        /* Whatever it says it is, it never runs as a page of ours. */
        buf_putf(&l->text,
                 "Accept-Ranges: bytes\r\nContent-Disposition: %s\r\nContent-Security-Policy: "
                 "default-src 'none'; sandbox\r\nCross-Origin-Resource-Policy: same-origin\r\n",
                 disposition);
}

static void reply_bytes(struct http_request *req, const struct document_opened *m,
                        enum range_result range, uint64_t first, uint64_t length,
                        const struct source *from)
{
        http_reply_header_lines(req, from->describing);
        if (range == RANGE_OUTSIDE) {
                fd_close(from->fd);
                http_reply_header(req, "Content-Range", "bytes */%" PRIu64, m->size_bytes);
                http_reply_problem(req, 416, "range_not_satisfiable", "Range",
                                   "The document has only %" PRIu64 " bytes.", m->size_bytes);
                return;
        }
        if (range == RANGE_PART)
                http_reply_header(req, "Content-Range", "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64,
                                  first, first + length - 1, m->size_bytes);
        int status = range == RANGE_PART ? 206 : 200;
        if (from->fd >= 0)
                http_reply_fd(req, status, m->content_type, from->fd, first, length);
        else
                http_reply_bytes(req, status, m->content_type,
                                 (struct span){ from->body.data + first, (size_t) length });
}

static void reply_document(struct http_request *req, const struct document_opened *m,
                           const struct source *from)
{
        const struct conditions c = conditions_of(req);
        time_t modified = (time_t) (m->updated_at_us / USEC_PER_SEC);
        uint64_t first = 0, length = m->size_bytes;
        enum range_result range = RANGE_WHOLE;

        enum condition_result condition = conditions_check(&c, m->checksum, modified);
        /* A range is for GET only, and only of the version the client has begun with. */
        if (req->method == HTTP_GET &&
            range_allowed(&c, m->checksum, modified, (time_t) (now_realtime() / USEC_PER_SEC)))
                range = range_parse(http_header(req, "range"), m->size_bytes, &first, &length);
        bool partial = m->has_partial && m->partial && range == RANGE_WHOLE;
        bool nothing = from->fd < 0 && !from->body.data && range != RANGE_OUTSIDE;
        if (condition == CONDITION_GO && (partial || nothing)) {
                fd_close(from->fd);
                open_document(req, !partial); /* more is wanted than is at hand */
                return;
        }
        http_reply_header_lines(req, from->validators);
        if (condition == CONDITION_GO) {
                reply_bytes(req, m, range, first, length, from);
                return;
        }
        fd_close(from->fd);
        if (condition == CONDITION_NOT_MODIFIED)
                http_reply_empty(req, 304);
        else
                http_reply_error(req, ERROR_CODE_PRECONDITION_FAILED, NULL,
                                 "The document has changed since; read it again.");
}

/* docserverd is asked. */
struct call {
        struct http_request *req;
        uint64_t stamp; /* doc-cache.h */
};

static void on_opened(void *userdata, int r, const void *reply, int fd)
{
        struct call *call = userdata;
        struct http_request *req = call->req;
        if (r < 0) {
                fd_close(fd);
                http_reply_rpc_error(req, r, reply);
        } else if (fd < 0)
                open_document(req, false); /* on its way from the object store */
        else {
                struct document_lines lines = { 0 };
                render_lines(&lines, reply);
                doc_cache_keep(req->gateway->doc_cache, call->stamp, req->principal.tenant,
                               req->params[0], reply, &lines, fd);
                reply_document(req, reply,
                               &(struct source){
                                       .fd = fd,
                                       .validators = { lines.text.data, lines.validators },
                                       .describing = { lines.text.data + lines.validators,
                                                       lines.text.len - lines.validators },
                               });
                buf_done(&lines.text);
        }
        free(call);
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
        if (!g->documents_fd) {
                http_reply_busy(req, "document service");
                return;
        }
        struct call *call = xnew(struct call);
        call->req = req;
        if (version == 0)
                call->stamp = doc_cache_stamp(g->doc_cache, m.tenant, m.document_id);
        int r = fdlink_call(g->documents_fd, &wire_document_open, &m,
                            MIN(g->settings->request_timeout, GATEWAY_ANSWER_USEC), on_opened,
                            call);
        if (r < 0) {
                free(call);
                http_reply_busy(req, "document service");
        }
}

static void bytes(struct http_request *req)
{
        static const char *const known[] = { "version", NULL };
        uint64_t version;
        if (!document_id(req) || http_query_only(req, known) < 0 ||
            http_query_u64(req, "version", 1, INT32_MAX, 0, &version) < 0)
                return;
        req->userdata = (void *) (uintptr_t) version;
        const struct doc_entry *kept =
                version == 0 ? doc_cache_find(req->gateway->doc_cache, req->principal.tenant,
                                              req->params[0])
                             : NULL;
        if (kept)
                reply_document(req, &kept->meta,
                               &(struct source){ .fd = -1,
                                                 .body = kept->body,
                                                 .validators = kept->validators,
                                                 .describing = kept->describing });
        else
                open_document(req, true);
}

static const struct route table[] = {
        { HTTP_GET, "/documents/{id}", bytes, .auth = ROUTE_TICKET, .listeners = LISTENER_BOTH },
};
const struct route_table document_bytes_routes = { table, ARRAY_LEN(table) };
