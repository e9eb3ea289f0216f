/* POST /models/test: does this key open that model? Nothing is kept: saving it is the operator's.
 */
#include "common/base/json.h"
#include "gatewayd/documents.h"

#define TIME_MS 30000u
#define ANSWER_USEC (40 * USEC_PER_SEC) /* the worker's time and the ways to it */

struct test_body {
        const char *provider, *base_url, *key, *model;
};
static const struct json_field fields[] = {
        JSON_FIELD(struct test_body, provider, JSON_KIND_STRING, .min = 1, .max = 20,
                   .required = true),
        JSON_FIELD(struct test_body, base_url, JSON_KIND_STRING, .min = 1, .max = 500),
        JSON_FIELD(struct test_body, key, JSON_KIND_STRING, .min = 1, .max = 500),
        JSON_FIELD(struct test_body, model, JSON_KIND_STRING, .min = 1, .max = 200,
                   .required = true),
};

static void on_tested(void *userdata, int r, const void *reply)
{
        struct http_request *req = userdata;
        const struct job_tested *m = reply;
        cleanup_buf struct buf b = BUF_INIT;

        if (r < 0) {
                http_reply_rpc_error(req, r, reply);
                return;
        }
        buf_putf(&b, "{\"ok\":%s,\"code\":", strempty(m->code) ? "true" : "false");
        buf_put_json_string(&b, strempty(m->code) ? "ok" : m->code,
                            strlen(strempty(m->code) ? "ok" : m->code));
        buf_puts(&b, ",\"message\":");
        buf_put_json_string(&b, m->message, strlen(m->message));
        buf_puts(&b, ",\"model\":");
        if (strempty(m->model))
                buf_puts(&b, "null");
        else
                buf_put_json_string(&b, m->model, strlen(m->model));
        buf_putf(&b, ",\"status\":%u,\"duration_ms\":%u,\"managed\":%s}", m->status, m->duration_ms,
                 m->managed ? "true" : "false");
        http_reply_json_take(req, 200, &b);
}

/* What goes into a header or a request line has neither blanks nor anything invisible. */
static bool plain(const char *s)
{
        for (; *s; s++)
                if (*s <= ' ' || *s > '~')
                        return false;
        return true;
}

static bool is_url(const char *s)
{
        const char *host = str_starts(s, "https://")  ? s + strlen("https://")
                           : str_starts(s, "http://") ? s + strlen("http://")
                                                      : NULL;

        return host && *host && *host != '/' && plain(s) && !strpbrk(s, "@?#\\");
}

static void test(struct http_request *req)
{
        struct test_body b = { 0 };
        struct json_problem problem = { 0 };
        char id[UUID_MAX];

        if (json_read(req->json, fields, ARRAY_LEN(fields), &b, &problem) < 0)
                document_problem(req, &problem);
        else if (!streq(b.provider, "anthropic") && !streq(b.provider, "openai"))
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, "provider",
                                 "provider must be anthropic or openai.");
        else if (b.base_url && !is_url(b.base_url))
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, "base_url",
                                 "base_url must be http:// or https:// with a host, without a user "
                                 "or a question mark.");
        else if (b.key && !plain(b.key))
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, "key",
                                 "key must be one word of visible ASCII characters.");
        else {
                uuid_make(id);
                (void) documents_call(req, &wire_job_test,
                                      &(struct job_test){ .job_id = id,
                                                          .provider = b.provider,
                                                          .base_url = b.base_url,
                                                          .key = b.key,
                                                          .model = b.model,
                                                          .time_ms = TIME_MS },
                                      ANSWER_USEC, on_tested);
        }
}

static const struct route table[] = {
        { HTTP_POST, "/models/test", test, .role = ROLE_ADMIN, .body = ROUTE_BODY_JSON },
};
const struct route_table model_routes = { table, ARRAY_LEN(table) };
