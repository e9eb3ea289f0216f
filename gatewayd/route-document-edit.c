/* PATCH /documents/{id}/content: replaces a text or a range of bytes; the result is a new version.
 */
#include "gatewayd/conditional.h"
#include "gatewayd/documents.h"

#define TEXT_MAX 262144u

struct edit_body {
        char *old, *new, *data;
        int64_t offset, length;
        bool all;
};
static const struct json_field edit_fields[] = {
        JSON_FIELD(struct edit_body, old, JSON_KIND_STRING, .min = 1, .max = TEXT_MAX),
        JSON_FIELD(struct edit_body, new, JSON_KIND_STRING, .max = TEXT_MAX),
        JSON_FIELD(struct edit_body, data, JSON_KIND_STRING, .max = 4 * TEXT_MAX / 3 + 4),
        JSON_FIELD(struct edit_body, offset, JSON_KIND_INT, .min = 0, .max = INT64_MAX),
        JSON_FIELD(struct edit_body, length, JSON_KIND_INT, .min = 0, .max = INT64_MAX),
        JSON_FIELD(struct edit_body, all, JSON_KIND_BOOL),
};

static void on_edited(void *userdata, int r, const void *reply)
{
        document_reply(userdata, 200, r, reply);
}

static bool has(const struct http_request *req, const char *name)
{
        return json_object_get(req->json, name);
}

/* One of: old (with new, all), or offset (with length, and new or data). NULL, or what is wrong. */
static const char *shape_problem(const struct http_request *req)
{
        if (has(req, "old") == has(req, "offset"))
                return "Give either old, the text to replace, or offset, the first byte.";
        if (has(req, "new") == has(req, "data") || (has(req, "old") && has(req, "data")))
                return "Give new, the text to put there; data, bytes in base64, goes with offset "
                       "only.";
        if (has(req, "old") && has(req, "length"))
                return "length goes with offset only.";
        if (has(req, "offset") && has(req, "all"))
                return "all goes with old only.";
        return NULL;
}

/* -EINVAL: answered. */
static int read_if_match(struct http_request *req, char *tag, size_t size, const char **ret)
{
        int r = etag_single(http_header(req, "if-match"), tag, size);
        if (r == -EINVAL)
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, "If-Match",
                                 "If-Match must be the ETag of the version to edit, or *.");
        else if (r < 0)
                http_reply_error(req, ERROR_CODE_PRECONDITION_FAILED, "If-Match",
                                 "If-Match must be one strong ETag.");
        *ret = r == 1 ? tag : NULL;
        return r < 0 ? -EINVAL : 0;
}

static void edit(struct http_request *req)
{
        struct edit_body b = { 0 };
        struct json_problem p = { 0 };
        char tag[DOCUMENT_TAG_MAX + 1];
        cleanup_free void *bytes = NULL;
        struct document_edit m = { .tenant = req->principal.tenant,
                                   .document_id = document_id(req) };

        if (!m.document_id || read_if_match(req, tag, sizeof(tag), &m.if_match) < 0)
                return;
        if (json_read(req->json, edit_fields, ARRAY_LEN(edit_fields), &b, &p) < 0) {
                document_problem(req, &p);
                return;
        }
        const char *why = shape_problem(req);
        if (why) {
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, NULL, "%s", why);
                return;
        }
        m.by_text = b.old != NULL;
        m.all = b.all;
        m.offset = (uint64_t) b.offset;
        m.length = (uint64_t) b.length;
        m.old_text = span_of(b.old);
        m.new_text = span_of(b.new ? b.new : "");
        if (b.data && base64_decode(b.data, strlen(b.data), &bytes, &m.new_text.len) < 0) {
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, "data", "data must be base64.");
                return;
        }
        if (b.data)
                m.new_text.data = bytes;
        if (m.new_text.len > TEXT_MAX) {
                http_reply_error(req, ERROR_CODE_TOO_LARGE, "data", "An edit may have 256 KiB.");
                return;
        }
        (void) documents_call(req, &wire_document_edit, &m,
                              req->gateway->settings->request_timeout + 10 * USEC_PER_SEC,
                              on_edited);
}

static const struct route table[] = {
        { HTTP_PATCH, "/documents/{id}/content", edit, .role = ROLE_USER, .body = ROUTE_BODY_JSON,
          .listeners = LISTENER_BOTH },
};
const struct route_table document_edit_routes = { table, ARRAY_LEN(table) };
