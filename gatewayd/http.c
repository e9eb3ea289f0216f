/* Answers: every final call of a request ends here and hands finished bytes to the connection. */
#include "gatewayd/http-private.h"

#include <unistd.h>

#include "common/base/json.h"
#include "common/io/log.h"
#include "gatewayd/audit.h"
#include "gatewayd/gateway.h"
#include "gatewayd/metrics.h"
#include "gatewayd/rights.h"

#define SKIP_BODY_MAX                                                                              \
        65536u /* an unread rest of a body up to this size is read and thrown away                 \
                */

static const struct {
        int status;
        const char *text;
} status_texts[] = {
        { 101, "Switching Protocols" },
        { 200, "OK" },
        { 201, "Created" },
        { 202, "Accepted" },
        { 204, "No Content" },
        { 206, "Partial Content" },
        { 301, "Moved Permanently" },
        { 302, "Found" },
        { 304, "Not Modified" },
        { 400, "Bad Request" },
        { 401, "Unauthorized" },
        { 403, "Forbidden" },
        { 404, "Not Found" },
        { 405, "Method Not Allowed" },
        { 406, "Not Acceptable" },
        { 408, "Request Timeout" },
        { 409, "Conflict" },
        { 412, "Precondition Failed" },
        { 413, "Content Too Large" },
        { 414, "URI Too Long" },
        { 415, "Unsupported Media Type" },
        { 416, "Range Not Satisfiable" },
        { 417, "Expectation Failed" },
        { 422, "Unprocessable Content" },
        { 426, "Upgrade Required" },
        { 429, "Too Many Requests" },
        { 431, "Request Header Fields Too Large" },
        { 500, "Internal Server Error" },
        { 503, "Service Unavailable" },
        { 504, "Gateway Timeout" },
        { 507, "Insufficient Storage" },
};

const char *http_status_text(int status)
{
        for (size_t i = 0; i < ARRAY_LEN(status_texts); i++)
                if (status_texts[i].status == status)
                        return status_texts[i].text;
        return "Status";
}

int http_status_of(enum error_code code)
{
        static const int statuses[ERROR_CODE_MAX] = {
                [ERROR_CODE_INTERNAL] = 500,      [ERROR_CODE_BAD_REQUEST] = 400,
                [ERROR_CODE_UNAUTHORIZED] = 401,  [ERROR_CODE_FORBIDDEN] = 403,
                [ERROR_CODE_NOT_FOUND] = 404,     [ERROR_CODE_CONFLICT] = 409,
                [ERROR_CODE_TOO_LARGE] = 413,     [ERROR_CODE_UNSUPPORTED_MEDIA_TYPE] = 415,
                [ERROR_CODE_UNPROCESSABLE] = 422, [ERROR_CODE_RATE_LIMITED] = 429,
                [ERROR_CODE_UNAVAILABLE] = 503,   [ERROR_CODE_TIMEOUT] = 503,
                [ERROR_CODE_STALE_EPOCH] = 409,   [ERROR_CODE_PRECONDITION_FAILED] = 412,
                [ERROR_CODE_GONE] = 410,          [ERROR_CODE_QUOTA_EXCEEDED] = 507,
        };

        return (unsigned) code < ERROR_CODE_MAX && statuses[code] ? statuses[code] : 500;
}

void http_reply_header(struct http_request *req, const char *name, const char *fmt, ...)
{
        struct http_request_private *p = req->priv;
        char value[2048];
        va_list ap;

        va_start(ap, fmt);
        (void) vsnprintf(value, sizeof(value), fmt, ap);
        va_end(ap);
        for (char *s = value; *s; s++)
                if ((unsigned char) *s < 0x20 || *s == 0x7f)
                        *s = '_';
        if (p->headers.len > 4096)
                return;
        buf_putf(&p->headers, "%s: %s\r\n", name, value);
        p->has_cache_control |= streq(name, "Cache-Control");
        p->has_retry_after |= streq(name, "Retry-After");
}

/* Every answer has some: printf is a third of the work of a small one. */
static void put_number(struct buf *b, uint64_t n)
{
        char text[20];
        size_t i = sizeof(text);

        do
                text[--i] = (char) ('0' + n % 10);
        while (n /= 10);
        buf_put(b, text + i, sizeof(text) - i);
}

void http_reply_header_lines(struct http_request *req, struct span lines)
{
        struct http_request_private *p = req->priv;

        buf_put(&p->headers, lines.data, lines.len);
        p->has_cache_control |= memmem(lines.data, lines.len, "Cache-Control:", 14) != NULL;
}

void http_render_head(struct http_request *req, struct buf *out, int status,
                      const char *content_type, uint64_t length, bool close)
{
        struct http_request_private *p = req->priv;

        buf_puts(out, "HTTP/1.1 ");
        put_number(out, (uint64_t) status);
        buf_puts(out, " ");
        buf_puts(out, http_status_text(status));
        buf_puts(out, "\r\nDate: ");
        buf_puts(out, http_date(req->gateway->http));
        buf_puts(out, "\r\nX-Request-Id: ");
        buf_puts(out, p->id);
        buf_puts(out, "\r\nX-Content-Type-Options: nosniff\r\n");
        if (!p->has_cache_control)
                buf_puts(out, "Cache-Control: no-store\r\n");
        if (p->rate.limit > 0)
                buf_putf(out,
                         "RateLimit-Limit: %" PRIu64 "\r\nRateLimit-Remaining: %" PRIu64
                         "\r\nRateLimit-Reset: %" PRIu64 "\r\n",
                         p->rate.limit, p->rate.remaining,
                         (p->rate.reset_usec + USEC_PER_SEC - 1) / USEC_PER_SEC);
        if (content_type) {
                buf_puts(out, "Content-Type: ");
                buf_puts(out, content_type);
                buf_puts(out, "\r\n");
        }
        if (length != UINT64_MAX) {
                buf_puts(out, "Content-Length: ");
                put_number(out, length);
                buf_puts(out, "\r\n");
        }
        if (close)
                buf_puts(out, "Connection: close\r\n");
        else if (p->head->minor == 0)
                buf_puts(out, "Connection: keep-alive\r\n");
        if (p->headers.len > 0)
                buf_put(out, buf_head(&p->headers), buf_pending(&p->headers));
        buf_puts(out, "\r\n");
}

/* May the connection serve another request after this one, whose body may not have been read to its
 * end? */
static bool must_close(const struct http_conn *c, const struct http_request *req)
{
        if (c->close || !req->priv->head->keep_alive)
                return true;
        if (c->body_done)
                return false;
        return c->body_chunked || c->want_continue || c->body_left > SKIP_BODY_MAX;
}

/* Only requests of those who are known are recorded: strangers do not fill anybody's collector. */
static void end_span(struct http_request *req, int status)
{
        struct http_request_private *p = req->priv;
        struct otlp_span *s = &p->span;

        if (!req->route || req->route->auth == ROUTE_PUBLIC || !req->principal.name[0])
                return;
        otlp_name(s, "%s %s", http_method_name(req->method), req->route->pattern);
        otlp_text(s, "http.request.method", http_method_name(req->method));
        otlp_text(s, "http.route", req->route->pattern);
        otlp_number(s, "http.response.status_code", (uint64_t) status);
        otlp_text(s, "berth.tenant", req->principal.tenant);
        otlp_text(s, "berth.request_id", p->id);
        if (str_starts(req->route->pattern, "/sessions/{id}"))
                otlp_text(s, "session.id", req->params[0]);
        if (status >= 500)
                otlp_failed(s, http_status_text(status));
        struct trace_context at = s->at; /* the line of the log behind this still shows it */
        otlp_end(req->gateway->daemon->otlp, s);
        s->at = at;
}

/* One line and one count for every answer, also when nobody waits for it any more. Acts and what
 * went wrong on our side are told at the usual level, reading at debug. */
static void answered(struct http_request *req, int status, uint64_t usec)
{
        const struct http_request_private *p = req->priv;
        const struct principal *who = &req->principal;
        const char *about = req->route && str_starts(req->route->pattern, "/sessions/{id}")
                                    ? req->params[0]
                                    : "";
        /* 503 is a part that is away: whoever lost it says so, once. */
        int level = status >= 500 && status != 503            ? LOG_WARNING
                    : req->route && rights_is_act(req->route) ? LOG_INFO
                                                              : LOG_DEBUG;

        end_span(req, status);
        if (req->listener != LISTENER_METRICS)
                metrics_answered(req->gateway->metrics, req->route, req->method, status, usec);
        if (!log_wanted(level))
                return;
        TRACE_SCOPE(&p->span.at);
        LOG_SCOPE("SESSION", about);
        LOG_SCOPE("REQUEST", p->id);
        LOG_SCOPE("TENANT", who->tenant);
        LOG_SCOPE("PEER", p->address);
        log_at(level, "%s %s by %s: %d in %" PRIu64 ".%03" PRIu64 " ms",
               http_method_name(req->method), req->path, who->name[0] ? who->name : "nobody",
               status, (usec == UINT64_MAX ? 0 : usec) / 1000,
               (usec == UINT64_MAX ? 0 : usec) % 1000);
}

/* Takes fd (may be -1) in every case; ends the request. Without a file length is that of the body.
 */
static void finish(struct http_request *req, int status, const char *content_type, struct span body,
                   int fd, uint64_t offset, uint64_t length)
{
        struct http_request_private *p = req->priv;
        struct http_conn *c = p->conn;
        cleanup_close int file = fd;

        answered(req, status, now_monotonic() - p->began_us);
        if (!c) {
                http_request_free(req);
                return;
        }
        audit_answered(req, status);
        c->close = must_close(c, req);
        bool bodyless = status == 204 || status == 304;
        http_render_head(req, &c->out, status, content_type, bodyless ? UINT64_MAX : length,
                         c->close);
        if (!bodyless && !p->has_head_method) {
                if (file >= 0) {
                        c->file = TAKE_FD(file);
                        c->file_offset = offset;
                        c->file_left = length;
                } else if (body.len > 0)
                        buf_put(&c->out, body.data, body.len);
        }
        c->req = NULL;
        c->paused = false;
        http_conn_set_state(c, CONN_SENDING);
        http_request_free(req);
        http_conn_send(c);
}

void http_reply_json(struct http_request *req, int status, struct span json)
{
        http_reply_bytes(req, status, "application/json", json);
}

void http_reply_json_take(struct http_request *req, int status, struct buf *json)
{
        http_reply_bytes(req, status, "application/json",
                         (struct span){ buf_head(json), buf_pending(json) });
        buf_done(json);
}

void http_reply_bytes(struct http_request *req, int status, const char *content_type,
                      struct span body)
{
        finish(req, status, content_type, body, -1, 0, body.len);
}

void http_reply_empty(struct http_request *req, int status)
{
        finish(req, status, NULL, (struct span){ 0 }, -1, 0, 0);
}

void http_reply_fd(struct http_request *req, int status, const char *content_type, int fd,
                   uint64_t offset, uint64_t len)
{
        finish(req, status, content_type, (struct span){ 0 }, fd, offset, len);
}

printf_like(5, 0) static void reply_problem(struct http_request *req, int status, const char *code,
                                            const char *field, const char *fmt, va_list ap)
{
        cleanup_buf struct buf b = { 0 };
        char message[512];

        (void) vsnprintf(message, sizeof(message), fmt, ap);
        /* A message may quote input: cut it where it stops being UTF-8. */
        size_t n = strlen(message);
        while (n > 0 && !utf8_valid(message, n))
                n--;
        buf_puts(&b, "{\"error\":{\"code\":");
        buf_put_json_string(&b, code, strlen(code));
        buf_puts(&b, ",\"message\":");
        buf_put_json_string(&b, message, n);
        if (field && utf8_valid(field, strlen(field))) {
                buf_puts(&b, ",\"field\":");
                buf_put_json_string(&b, field, strlen(field));
        }
        buf_puts(&b, "}}");
        if ((status == 503 || status == 429) && !req->priv->has_retry_after)
                http_reply_header(req, "Retry-After", "1");
        if (status == 401)
                http_reply_header(req, "WWW-Authenticate", "Bearer realm=\"berth\"");
        http_reply_json_take(req, status, &b);
}

void http_reply_error(struct http_request *req, enum error_code code, const char *field,
                      const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        reply_problem(req, http_status_of(code), error_code_name(code), field, fmt, ap);
        va_end(ap);
}

void http_reply_problem(struct http_request *req, int status, const char *code, const char *field,
                        const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        reply_problem(req, status, code, field, fmt, ap);
        va_end(ap);
}

void http_reply_busy(struct http_request *req, const char *what)
{
        http_reply_error(req, ERROR_CODE_UNAVAILABLE, NULL,
                         "The %s cannot be reached right now; try again.", what);
}

void http_reply_rpc_error(struct http_request *req, int r, const void *reply)
{
        const struct error_reply *e = reply;

        if (r == -EREMOTEIO && e)
                http_reply_error(req, e->code, e->field, "%s",
                                 e->message ? e->message : "The request failed.");
        else if (r == -EMSGSIZE)
                http_reply_error(req, ERROR_CODE_TOO_LARGE, NULL,
                                 "A part of the request is too large.");
        else
                http_reply_busy(req, "service behind this call");
}

void http_reply_body_error(struct http_request *req, int r)
{
        if (r == -EMSGSIZE)
                http_reply_error(req, ERROR_CODE_TOO_LARGE, NULL,
                                 "The body is larger than is allowed here.");
        else if (r == -ETIMEDOUT)
                http_reply_problem(req, 408, "request_timeout", NULL,
                                   "The body arrived too slowly.");
        else if (r == -ECONNRESET)
                http_drop(req);
        else
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, NULL,
                                 "The chunks of the body are broken.");
}

void http_drop(struct http_request *req)
{
        struct http_conn *c = req->priv->conn;

        if (c)
                c->req = NULL;
        http_request_free(req);
        if (c)
                http_conn_end(c);
}

int http_take_over(struct http_request *req, struct http_takeover *ret)
{
        struct http_conn *c = req->priv->conn;

        if (!c)
                return -ECONNRESET;
        if (req->priv->forwarded)
                http_slot_rehome(c->server, c->slot, req->priv->address);
        const int status = req->priv->ws_handshake ? 101 : 200;
        answered(req, status, UINT64_MAX);
        audit_answered(req, status);
        http_conn_unpoll(c);
        *ret = (struct http_takeover){ .fd = TAKE_FD(c->fd), .slot = TAKE_PTR(c->slot) };
        (void) snprintf(ret->peer, sizeof(ret->peer), "%s", c->peer);
        ret->n_early = buf_pending(&c->in);
        if (ret->n_early > 0) {
                ret->early = xmalloc(ret->n_early);
                memcpy(ret->early, buf_head(&c->in), ret->n_early);
        }
        ret->grant = auth_grant_take(req->gateway->auth, req->principal.token_hash);
        c->req = NULL;
        http_conn_end(c);
        http_request_free(req);
        return 0;
}
