/* /documents/search, /documents/{id}/text: what is in documents. */
#include "gatewayd/documents.h"

#define QUERY_MAX 2000
#define RESULTS_MAX 100u
#define OFFSET_MAX 1000u

struct search_body {
        const char *query;
        json_t *tags;
        int64_t limit, per_document;
        const char *mode, *cursor;
        bool any;
};
static const struct json_field search_fields[] = {
        JSON_FIELD(struct search_body, query, JSON_KIND_STRING, .min = 1, .max = QUERY_MAX,
                   .required = true),
        JSON_FIELD(struct search_body, tags, JSON_KIND_ARRAY, .max = DOCUMENT_TAGS_MAX),
        JSON_FIELD(struct search_body, limit, JSON_KIND_INT, .min = 1, .max = RESULTS_MAX),
        JSON_FIELD(struct search_body, per_document, JSON_KIND_INT, .min = 1, .max = 20),
        JSON_FIELD(struct search_body, mode, JSON_KIND_STRING, .max = 10),
        JSON_FIELD(struct search_body, cursor, JSON_KIND_STRING, .max = 100),
        JSON_FIELD(struct search_body, any, JSON_KIND_BOOL),
};

static size_t names_of(const struct document_tags *tags, const char **out)
{
        for (size_t i = 0; i < tags->n; i++)
                out[i] = tags->tags[i];
        return tags->n;
}

/* ---- searches ---- */

/* docserverd gives next_offset; clients get an opaque next_cursor. */
static void on_found(void *userdata, int r, const void *reply)
{
        static const char mark[] = "\"next_offset\":";
        struct http_request *req = userdata;
        const struct document_found *m = reply;
        cleanup_buf struct buf b = BUF_INIT;
        char number[24], cursor[40];
        size_t at = 0, n = 0;

        if (r < 0) {
                http_reply_rpc_error(req, r, reply);
                return;
        }
        /* It is the last member: look from the end. */
        for (at = m->results_json.len; at > 0; at--)
                if (str_starts(m->results_json.data + at - 1, mark))
                        break;
        if (at == 0) {
                http_reply_json(req, 200, m->results_json);
                return;
        }
        const char *value = m->results_json.data + at - 1 + strlen(mark);
        while (n < sizeof(number) - 1 && value[n] >= '0' && value[n] <= '9')
                n++;
        buf_put(&b, m->results_json.data, at - 1);
        if (n > 0) {
                (void) snprintf(number, sizeof(number), "o%.*s", (int) n, value);
                base64url_encode(number, strlen(number), cursor);
                buf_putf(&b, "\"next_cursor\":\"%s\"}", cursor);
        } else
                buf_puts(&b, "\"next_cursor\":null}");
        http_reply_json_take(req, 200, &b);
}

static int read_cursor(const char *text, uint64_t *ret)
{
        cleanup_free void *data = NULL;
        cleanup_free char *number = NULL;
        size_t n;

        *ret = 0;
        if (!text)
                return 0;
        if (base64url_decode(text, strlen(text), &data, &n) < 0)
                return -EINVAL;
        number = xstrndup(data, n);
        if (number[0] != 'o' || parse_u64(number + 1, ret) < 0 || *ret > OFFSET_MAX)
                return -EINVAL;
        return 0;
}

static void search(struct http_request *req, struct document_search *m,
                   const struct document_tags *tags, const char *mode, const char *cursor)
{
        const char *names[DOCUMENT_TAGS_MAX];
        uint64_t offset;

        if (read_cursor(cursor, &offset) < 0) {
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, "cursor",
                                 "cursor is not one of an earlier page.");
                return;
        }
        if (search_mode_parse(mode ? mode : "auto", &m->mode) < 0) {
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, "mode", "mode must be auto or text.");
                return;
        }
        m->tenant = req->principal.tenant;
        m->tags = names;
        m->n_tags = names_of(tags, names);
        m->offset = (uint32_t) offset;
        (void) documents_call(req, &wire_document_search, m,
                              req->gateway->settings->request_timeout, on_found);
}

static void get_search(struct http_request *req)
{
        static const char *const known[] = { "q",    "tags",   "limit", "cursor", "per_document",
                                             "mode", "prefix", "any",   NULL };
        const char *q = http_query(req, "q"), *prefix = http_query(req, "prefix"),
                   *any = http_query(req, "any");
        struct document_search m = { .query = q };
        struct document_tags tags = { 0 };
        struct json_problem problem = { 0 };
        uint64_t limit, per_document;

        if (http_query_only(req, known) < 0 ||
            http_query_u64(req, "limit", 1, RESULTS_MAX, 20, &limit) < 0 ||
            http_query_u64(req, "per_document", 1, 20, 1, &per_document) < 0)
                return;
        if (strempty(q) || strlen(q) > QUERY_MAX) {
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, "q",
                                 "q must be what to look for, 1 to 2000 bytes.");
                return;
        }
        if ((prefix && parse_bool(prefix, &m.prefix) < 0) || (any && parse_bool(any, &m.any) < 0)) {
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, prefix ? "prefix" : "any",
                                 "prefix and any must be yes or no.");
                return;
        }
        if (document_tags_parse(&tags, span_of(http_query(req, "tags")), &problem) < 0) {
                document_problem(req, &problem);
                return;
        }
        m.limit = (uint32_t) limit;
        m.per_document = (uint32_t) per_document;
        search(req, &m, &tags, http_query(req, "mode"), http_query(req, "cursor"));
}

static void post_search(struct http_request *req)
{
        struct search_body b = { .limit = 20, .per_document = 3 };
        struct document_tags tags = { 0 };
        struct json_problem problem = { 0 };

        if (json_read(req->json, search_fields, ARRAY_LEN(search_fields), &b, &problem) < 0 ||
            (b.tags && document_tags_from_json(&tags, b.tags, &problem) < 0)) {
                document_problem(req, &problem);
                return;
        }
        struct document_search m = { .query = b.query,
                                     .limit = (uint32_t) b.limit,
                                     .per_document = (uint32_t) b.per_document,
                                     .any = b.any };
        search(req, &m, &tags, b.mode, b.cursor);
}

/* ---- /documents/{id}/text ---- */

static void on_text(void *userdata, int r, const void *reply)
{
        struct http_request *req = userdata;
        const struct document_text_is *m = reply;
        cleanup_buf struct buf b = BUF_INIT;

        if (r < 0) {
                http_reply_rpc_error(req, r, reply);
                return;
        }
        buf_putf(&b, "{\"text_status\":\"%s\",\"text\":", m->status);
        buf_put_json_string(&b, m->text.data, m->text.len);
        buf_puts(&b, "}");
        http_reply_json_take(req, 200, &b);
}

static void text(struct http_request *req)
{
        static const char *const known[] = { NULL };
        const char *id = document_id(req);

        if (!id || http_query_only(req, known) < 0)
                return;
        (void) documents_call(
                req, &wire_document_text,
                &(struct document_text){ .tenant = req->principal.tenant, .document_id = id },
                req->gateway->settings->request_timeout, on_text);
}

static void on_again(void *userdata, int r, const void *reply)
{
        document_reply(userdata, 202, r, reply);
}

static void read_again(struct http_request *req)
{
        const char *id = document_id(req);

        if (id)
                (void) documents_call(req, &wire_document_read_again,
                                      &(struct document_read_again){
                                              .tenant = req->principal.tenant, .document_id = id },
                                      req->gateway->settings->request_timeout, on_again);
}

static const struct route table[] = {
        { HTTP_GET, "/documents/search", get_search, .listeners = LISTENER_BOTH },
        { HTTP_POST, "/documents/search", post_search, .body = ROUTE_BODY_JSON,
          .listeners = LISTENER_BOTH },
        { HTTP_GET, "/documents/{id}/text", text, .listeners = LISTENER_BOTH },
        { HTTP_POST, "/documents/{id}/text", read_again, .role = ROLE_USER,
          .body = ROUTE_BODY_JSON_OPTIONAL, .listeners = LISTENER_BOTH },
};
const struct route_table document_search_routes = { table, ARRAY_LEN(table) };
