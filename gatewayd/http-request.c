/* A request as handlers see it: making it from a parsed head, asking it, handing it to its handler.
 */
#include "gatewayd/http-private.h"

#include "common/base/json.h"
#include "common/io/log.h"
#include "gatewayd/gateway.h"
#include "gatewayd/proxies.h"

static void relocate(struct span *s, const char *from, const char *to)
{
        if (s->data)
                s->data = to + (s->data - from);
}

static struct http_head *head_dup(const struct http_head *head, const char *from, char *to)
{
        struct http_head *h = xmalloc(sizeof(*h));

        *h = *head;
        relocate(&h->target, from, to);
        relocate(&h->path, from, to);
        relocate(&h->query, from, to);
        relocate(&h->host, from, to);
        for (size_t i = 0; i < h->n_headers; i++) {
                relocate(&h->headers[i].name, from, to);
                relocate(&h->headers[i].value, from, to);
        }
        return h;
}

static int parse_query(struct http_request_private *p, struct span q, struct http_refusal *why)
{
        static const char bad_text[] =
                "The query of the request is not valid percent-encoded UTF-8.";
        char *out = p->query_buf = xmalloc(q.len + HTTP_QUERY_MAX * 2 + 2);

        while (q.len > 0) {
                const char *amp = memchr(q.data, '&', q.len);
                struct span pair = { q.data, amp ? (size_t) (amp - q.data) : q.len };
                q = amp ? (struct span){ amp + 1, q.len - pair.len - 1 } : (struct span){ 0 };
                if (pair.len == 0)
                        continue;
                const char *eq = memchr(pair.data, '=', pair.len);
                struct span name = { pair.data, eq ? (size_t) (eq - pair.data) : pair.len };
                struct span value = eq ? (struct span){ eq + 1, pair.len - name.len - 1 }
                                       : (struct span){ pair.data, 0 };
                if (p->n_query == HTTP_QUERY_MAX) {
                        *why = (struct http_refusal){ 400, "bad_request",
                                                      "The query has more than 32 parameters." };
                        return -EINVAL;
                }
                p->names[p->n_query] = out;
                if (http_query_decode(name, out) < 0)
                        goto bad;
                out += strlen(out) + 1;
                p->values[p->n_query] = out;
                if (http_query_decode(value, out) < 0)
                        goto bad;
                out += strlen(out) + 1;
                p->n_query++;
        }
        return 0;
bad:
        *why = (struct http_refusal){ 400, "bad_request", bad_text };
        return -EINVAL;
}

/* Who the client is: the peer, or whom trusted proxies name. */
static void find_address(struct http_request_private *p, const struct http_conn *c)
{
        const struct proxies *trusted = c->server->gateway->proxies;

        (void) snprintf(p->address, sizeof(p->address), "%s", c->address);
        for (size_t i = p->head->n_headers; i-- > 0;) {
                const struct http_header *h = &p->head->headers[i];
                struct span rest = h->value;
                if (!http_name_eq(h->name, "x-forwarded-for"))
                        continue;
                while (proxies_step(trusted, &rest, p->address)) {
                }
                if (rest.len > 0)
                        break;
        }
        p->forwarded = !streq(p->address, c->address);
}

/* A traceparent that cannot be read counts as none; so do several. */
static void begin_span(struct otlp *o, struct http_request_private *p)
{
        struct trace_context parent = { 0 };
        const char *text = NULL;
        size_t n = 0;

        for (size_t i = 0; i < p->head->n_headers; i++)
                if (http_name_eq(p->head->headers[i].name, "traceparent")) {
                        text = p->head->headers[i].value.data;
                        n++;
                }
        if (!o && n == 0)
                return;
        if (n != 1 || traceparent_parse(text, &parent) < 0)
                parent = (struct trace_context){ 0 };
        otlp_begin(o, &p->span, &parent, OTLP_SERVER, "request");
}

struct http_request *http_request_new(struct http_conn *c, const struct http_head *head,
                                      const char *bytes, size_t n, struct http_refusal *why)
{
        struct http_request *req = xnew(struct http_request);
        struct http_request_private *p = req->priv = xnew(struct http_request_private);

        p->conn = c;
        p->began_us = now_monotonic();
        p->bytes = xmalloc(n + 1);
        memcpy(p->bytes, bytes, n);
        p->bytes[n] = '\0';
        p->head = head_dup(head, bytes, p->bytes);
        for (size_t i = 0; i < p->head->n_headers; i++) /* a CR or white space follows each value */
                ((char *) p->head->headers[i].value.data)[p->head->headers[i].value.len] = '\0';
        (void) snprintf(p->id, sizeof(p->id), "%.8s-%" PRIu64, c->server->gateway->instance + 28,
                        ++c->server->next_id);
        p->has_head_method = head->method == HTTP_HEAD;
        begin_span(c->server->gateway->daemon->otlp, p);
        req->gateway = c->server->gateway;
        find_address(p, c);
        req->method = head->method;
        req->listener = c->listener;
        req->content_length = head->chunked ? UINT64_MAX : head->length;
        (void) snprintf(req->principal.tenant, sizeof(req->principal.tenant), "default");

        p->path_buf = xmalloc(p->head->path.len + 1);
        p->scratch = xmalloc(p->head->path.len + HTTP_PARAMS_MAX + 1);
        req->path = p->path_buf;
        if (http_path_decode(p->head->path, p->path_buf) < 0) {
                *why = (struct http_refusal){
                        400, "bad_request",
                        "The path of the request is not allowed: it must be percent-encoded "
                        "UTF-8 without empty, '.' or '..' segments."
                };
                http_request_free(req);
                return NULL;
        }
        if (parse_query(p, p->head->query, why) < 0) {
                http_request_free(req);
                return NULL;
        }
        return req;
}

void http_request_free(struct http_request *req)
{
        struct http_request_private *p = req->priv;

        if (p->auth_pending)
                auth_forget(req->gateway->auth, req);
        otlp_forget(&p->span);
        http_header_wipe(req, "authorization"); /* of one refused before it was looked at */
        json_decref(req->json);
        buf_done(&p->body);
        buf_done(&p->headers);
        free(p->bytes);
        free(p->head);
        free(p->path_buf);
        free(p->scratch);
        free(p->query_buf);
        free(p);
        free(req);
}

/* application/json, with parameters or without, and +json types. */
static bool is_json_type(const char *type)
{
        if (!type)
                return false;
        size_t n = strcspn(type, "; \t");
        struct span t = { type, n };
        return http_name_eq(t, "application/json") ||
               (n > 5 && http_name_eq((struct span){ type + n - 5, 5 }, "+json"));
}

static bool read_json(struct http_request *req)
{
        struct http_request_private *p = req->priv;
        struct json_problem problem = { 0 };
        size_t n = buf_pending(&p->body);

        sha256_hex(n ? buf_head(&p->body) : "", n, req->body_digest);
        if (n == 0) {
                if (req->route->body == ROUTE_BODY_JSON_OPTIONAL)
                        return true;
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, NULL,
                                 "The request needs a JSON body.");
                return false;
        }
        if (!is_json_type(http_header(req, "content-type"))) {
                http_reply_error(req, ERROR_CODE_UNSUPPORTED_MEDIA_TYPE, NULL,
                                 "The body must be sent as Content-Type: application/json.");
                return false;
        }
        if (json_parse(buf_head(&p->body), n, &req->json, &problem) < 0) {
                http_reply_error(req, ERROR_CODE_BAD_REQUEST,
                                 problem.field[0] ? problem.field : NULL,
                                 "The body is not valid JSON: %s", problem.message);
                return false;
        }
        buf_done(&p->body);
        return true;
}

void http_request_run(struct http_request *req)
{
        struct http_request_private *p = req->priv;

        if (req->route->body == ROUTE_BODY_JSON || req->route->body == ROUTE_BODY_JSON_OPTIONAL) {
                http_conn_set_state(p->conn, CONN_HANDLING);
                if (!read_json(req))
                        return;
        }
        TRACE_SCOPE(&p->span.at);
        p->in_handler = true;
        req->route->handle(req);
}

void http_request_lost(struct http_request *req, int r)
{
        struct http_request_private *p = req->priv;

        p->conn = NULL;
        if (!p->in_handler) {
                http_request_free(req);
                return;
        }
        if (req->on_end && !p->ended_body) {
                p->ended_body = true;
                req->on_end(req, r);
        } else if (req->on_gone)
                req->on_gone(req);
}

const char *http_header(const struct http_request *req, const char *name)
{
        const struct http_header *h = http_head_find(req->priv->head, name);

        return h ? h->value.data : NULL;
}

void http_header_wipe(struct http_request *req, const char *name)
{
        struct http_head *head = req->priv->head;

        for (size_t i = 0; i < head->n_headers; i++) {
                struct http_header *h = &head->headers[i];
                if (!http_name_eq(h->name, name))
                        continue;
                explicit_bzero((char *) h->value.data, h->value.len);
                h->value.len = 0;
        }
}

const char *http_query(const struct http_request *req, const char *name)
{
        const struct http_request_private *p = req->priv;

        for (size_t i = 0; i < p->n_query; i++)
                if (streq(p->names[i], name))
                        return p->values[i];
        return NULL;
}

bool http_gone(const struct http_request *req)
{
        return !req->priv->conn;
}

const char *http_request_id(const struct http_request *req)
{
        return req->priv->id;
}

const struct trace_context *http_request_trace(const struct http_request *req)
{
        return &req->priv->span.at;
}

int http_query_u64(struct http_request *req, const char *name, uint64_t min, uint64_t max,
                   uint64_t fallback, uint64_t *ret)
{
        const char *text = http_query(req, name);
        uint64_t v = fallback;

        if (text && (parse_u64(text, &v) < 0 || v < min || v > max)) {
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, name,
                                 "%s must be a whole number from %" PRIu64 " to %" PRIu64 ".", name,
                                 min, max);
                return -EINVAL;
        }
        *ret = v;
        return 0;
}

int http_query_only(struct http_request *req, const char *const *names)
{
        const struct http_request_private *p = req->priv;

        for (size_t i = 0; i < p->n_query; i++) {
                bool known = streq(p->names[i], "token");
                for (size_t k = 0; names[k] && !known; k++)
                        known = streq(p->names[i], names[k]);
                for (size_t k = 0; k < i && known; k++)
                        if (streq(p->names[i], p->names[k])) {
                                http_reply_error(req, ERROR_CODE_BAD_REQUEST, p->names[i],
                                                 "The query parameter %s is given twice.",
                                                 p->names[i]);
                                return -EINVAL;
                        }
                if (!known) {
                        http_reply_error(req, ERROR_CODE_BAD_REQUEST, p->names[i],
                                         "This call has no query parameter of that name.");
                        return -EINVAL;
                }
        }
        return 0;
}

int http_idempotency_key(struct http_request *req, const char **ret)
{
        const char *key = http_header(req, "idempotency-key");

        if (key) {
                size_t n = strlen(key);
                bool good = n >= 1 && n <= 200;
                for (size_t i = 0; i < n && good; i++)
                        good = key[i] > 0x20 && key[i] < 0x7f;
                if (!good) {
                        http_reply_error(
                                req, ERROR_CODE_BAD_REQUEST, "Idempotency-Key",
                                "Idempotency-Key must be 1 to 200 printable ASCII characters.");
                        return -EINVAL;
                }
        }
        *ret = key;
        return 0;
}

/* q of one Accept member; 1 when it says nothing, 0 when it cannot be read as more than 0. */
static bool quality_positive(struct span parameters)
{
        for (size_t i = 0; i + 2 < parameters.len; i++)
                if ((parameters.data[i] == 'q' || parameters.data[i] == 'Q') &&
                    parameters.data[i + 1] == '=') {
                        for (size_t k = i + 2; k < parameters.len && parameters.data[k] != ';'; k++)
                                if (parameters.data[k] >= '1' && parameters.data[k] <= '9')
                                        return true;
                        return false;
                }
        return true;
}

bool http_accepts(const struct http_request *req, const char *media_type)
{
        const char *accept = http_header(req, "accept");

        while (accept && *accept) {
                size_t n = strcspn(accept, ",");
                size_t skip = strspn(accept, " \t");
                size_t type = strcspn(accept + skip, ";, \t");
                if (skip <= n && http_name_eq((struct span){ accept + skip, type }, media_type))
                        return quality_positive(
                                (struct span){ accept + skip + type, n - MIN(n, skip + type) });
                accept += n + (accept[n] == ',');
        }
        return false;
}

void http_body_pause(struct http_request *req)
{
        if (req->priv->conn)
                req->priv->conn->paused = true;
}

void http_body_resume(struct http_request *req)
{
        struct http_conn *c = req->priv->conn;

        if (!c || !c->paused)
                return;
        c->paused = false;
        http_conn_wake(c);
}
