/* One attempt at the Messages API: sends the request, feeds the stream, sorts the ways it can fail.
 */
#include "provider-anthropic.h"

#include "common/base/list.h"
#include "common/base/map.h"
#include "common/io/log.h"
#include "utf8.h"

#define API_VERSION "2026-10-21"
#define EVENT_MAX (4 * MIB)
#define ERROR_BODY_MAX (64 * KIB)
#define TEXT_OF(j, key) json_string_value(json_object_get((j), (key)))

struct anthropic {
        struct provider provider;
        struct httpc *http;
        char *url, *key_header, *computer_tool, *thinking;
        uint64_t stall_usec;
        struct map *stepped; /* model -> computer form + 1, for models that refused what we tried
                                first */
        struct list calls;
};

struct provider_call {
        struct anthropic *anthropic;
        struct list link;
        struct httpc_request *http;
        struct provider_events events; /* on_done is NULL once it was called */
        struct sse sse;
        struct anthropic_stream stream;
        struct buf error_body;
        long status;
        char *model;
        char request_id[128];
        enum anthropic_computer computer;
        struct provider_retry retry;
};

static void call_free(struct provider_call *c)
{
        list_remove(&c->link);
        if (c->http)
                httpc_cancel(c->http);
        sse_done(&c->sse);
        anthropic_stream_done(&c->stream);
        buf_done(&c->error_body);
        free(c->model);
        free(c);
}

static void call_fail(struct provider_call *c, const struct provider_failure *f)
{
        struct provider_events events = c->events;

        c->events.on_done = NULL;
        if (events.on_done)
                events.on_done(events.userdata, NULL, f);
}

static void call_succeed(struct provider_call *c)
{
        struct provider_events events = c->events;
        cleanup_json json_t *bad = NULL, *content = anthropic_stream_content(&c->stream, &bad);
        struct provider_reply reply = {
                .content = content,
                .bad_calls = bad,
                .stop_reason = c->stream.stop_reason,
                .stop_detail = c->stream.stop_detail,
                .model = c->stream.model[0] ? c->stream.model : c->model,
                .request_id = c->request_id,
                .usage = c->stream.usage,
        };

        c->events.on_done = NULL;
        events.on_done(events.userdata, &reply, NULL);
}

static bool code_retries(const char *code)
{
        return streq(code, "overloaded_error") || streq(code, "api_error") ||
               streq(code, "rate_limit_error") || streq(code, "timeout_error") ||
               streq(code, "bad_stream") || streq(code, "answer_too_large");
}

/* A 400 that names the tool form we sent: next time this model gets the one before it. */
static bool step_down(struct provider_call *c, const char *message)
{
        struct anthropic *a = c->anthropic;

        if (c->status != 400 || !strempty(a->computer_tool) ||
            c->computer + 1 >= ANTHROPIC_COMPUTER_MAX ||
            !strstr(message, anthropic_computer_type(c->computer)) || map_count(a->stepped) > 1000)
                return false;
        log_notice("model %s does not take %s; trying %s", c->model,
                   anthropic_computer_type(c->computer), anthropic_computer_type(c->computer + 1));
        map_set(a->stepped, c->model, (void *) (uintptr_t) (c->computer + 2));
        return true;
}

static void fail_by_status(struct provider_call *c)
{
        struct json_problem problem;
        cleanup_json json_t *body = NULL;
        const json_t *error, *details;
        const char *code, *detail;
        struct provider_failure f = { .status = c->status };
        cleanup_free char *message = NULL;

        if (buf_pending(&c->error_body) == 0 ||
            json_parse(buf_head(&c->error_body), buf_pending(&c->error_body), &body, &problem) < 0)
                body = json_object();
        error = json_object_get(body, "error");
        details = json_object_get(error, "details");
        code = TEXT_OF(error, "type");
        detail = TEXT_OF(details, "error_code");
        message = TEXT_OF(error, "message")
                          ? utf8_clip(TEXT_OF(error, "message"), strlen(TEXT_OF(error, "message")),
                                      300)
                          : xasprintf("The model service answered with status %ld.", c->status);
        f.code = code ? code : "model_error";
        f.message = message;
        f.retry_after_usec = c->retry.after_usec;
        if (streq(detail, "enforced_spend_limit_reached") ||
            streq(detail, "contract_spend_limit_reached"))
                f.code = detail;
        else
                f.retry = provider_retries(&c->retry, c->status);
        if (step_down(c, message)) {
                f.retry = true;
                f.retry_after_usec = 1;
        }
        call_fail(c, &f);
}

static void on_head(void *userdata, long status)
{
        struct provider_call *c = userdata;

        c->status = status;
}

static void on_header(void *userdata, const char *name, struct span value)
{
        struct provider_call *c = userdata;

        if (streq(name, "request-id") && utf8_valid(value.data, value.len))
                (void) snprintf(c->request_id, sizeof(c->request_id), "%.*s", (int) value.len,
                                value.data);
        provider_retry_header(&c->retry, name, value);
}

static int on_event(void *userdata, const char *event, struct span data)
{
        struct provider_call *c = userdata;

        return anthropic_stream_event(&c->stream, data);
}

/* Ends the call from inside a callback of the HTTP request. */
static void end_early(struct provider_call *c, const struct provider_failure *f)
{
        struct httpc_request *http = TAKE_PTR(c->http);

        httpc_cancel(http);
        call_fail(c, f);
        call_free(c);
}

static void on_data(void *userdata, struct span data)
{
        struct provider_call *c = userdata;
        int r;

        if (c->status != 200) {
                size_t room = ERROR_BODY_MAX - buf_pending(&c->error_body);

                buf_put(&c->error_body, data.data, MIN(data.len, room));
                return;
        }
        if (!c->events.on_done)
                return; /* answered; only the end of the answer is awaited, so the connection can be
                           kept */
        r = sse_feed(&c->sse, data);
        if (r < 0) {
                bool ours = c->stream.state == ANTHROPIC_STREAM_FAILED;
                struct provider_failure f = {
                        .retry = !ours || code_retries(c->stream.code),
                        .code = ours ? c->stream.code : "bad_stream",
                        .message = ours ? c->stream.message
                                        : "The model's stream has an event larger than 4 MiB.",
                        .status = 200,
                };

                end_early(c, &f);
                return;
        }
        if (c->stream.state == ANTHROPIC_STREAM_COMPLETE)
                call_succeed(c);
}

static void on_done(void *userdata, int r, long status, const char *text)
{
        struct provider_call *c = userdata;
        struct provider_failure f = { .retry = true, .status = status, .message = text };

        c->http = NULL;
        if (!c->events.on_done) {
                call_free(c);
                return;
        }
        if (r == 0 && status != 200) {
                fail_by_status(c);
        } else {
                bool begun = status == 200 || c->status == 200;

                f.code = r == -ETIMEDOUT ? "model_silent"
                         : begun         ? "stream_cut"
                                         : "model_unreachable";
                if (begun && r != -ETIMEDOUT)
                        f.message = "The model's answer ended early.";
                else if (strempty(text))
                        f.message = "The model service could not be reached.";
                call_fail(c, &f);
        }
        call_free(c);
}

static int send_request(struct provider_call *c, const struct provider_request *r, bool adaptive)
{
        struct anthropic *a = c->anthropic;
        cleanup_free char *url = xasprintf("%s/v1/messages", a->url);
        cleanup_buf struct buf body = BUF_INIT;
        const char *headers[8];
        size_t n = 0;
        int e = anthropic_body(&body, r, c->computer, adaptive);

        if (e < 0)
                return e;
        headers[n++] = "content-type: application/json";
        headers[n++] = "accept: application/json, text/event-stream";
        headers[n++] = "anthropic-version: " API_VERSION;
        if (a->key_header)
                headers[n++] = a->key_header;
        if (r->width > 0 && c->computer == ANTHROPIC_COMPUTER_20251124)
                headers[n++] = "anthropic-beta: computer-use-2025-11-24";
        if (r->width > 0 && c->computer == ANTHROPIC_COMPUTER_20250124)
                headers[n++] = "anthropic-beta: computer-use-2025-01-24";
        headers[n] = NULL;
        return httpc_start(a->http,
                           &(struct httpc_config){
                                   .method = "POST",
                                   .url = url,
                                   .headers = headers,
                                   .body = { buf_head(&body), buf_pending(&body) },
                                   .stall_usec = a->stall_usec,
                                   .body_max = 32 * MIB,
                                   .on_head = on_head,
                                   .on_header = on_header,
                                   .on_data = on_data,
                                   .on_done = on_done,
                                   .userdata = c,
                           },
                           &c->http);
}

static int anthropic_start(struct provider *p, const struct provider_request *r,
                           const struct provider_events *events, struct provider_call **ret)
{
        struct anthropic *a = container_of(p, struct anthropic, provider);
        struct provider_call *c = xnew(struct provider_call);
        uintptr_t stepped = (uintptr_t) map_get(a->stepped, r->model);
        bool adaptive = streq(a->thinking, "adaptive") ||
                        (streq(a->thinking, "auto") && anthropic_adaptive_thinking(r->model));
        int e;

        c->anthropic = a;
        c->events = *events;
        c->retry = PROVIDER_RETRY_INIT;
        c->model = xstrdup(r->model);
        list_push_back(&a->calls, &c->link);
        sse_init(&c->sse, EVENT_MAX, on_event, c);
        anthropic_stream_init(&c->stream, &c->events);
        e = anthropic_computer_for(r->model, a->computer_tool, &c->computer);
        if (e == 0 && stepped > 0)
                c->computer = (enum anthropic_computer)(stepped - 1);
        if (e == 0)
                e = send_request(c, r, adaptive);
        if (e < 0) {
                call_free(c);
                return e;
        }
        *ret = c;
        return 0;
}

static void anthropic_cancel(struct provider_call *c)
{
        call_free(c);
}

static struct provider *anthropic_free(struct provider *p)
{
        struct anthropic *a = container_of(p, struct anthropic, provider);
        struct provider_call *c, *next;

        list_foreach_safe (c, next, &a->calls, link)
                call_free(c);
        map_free(a->stepped);
        free(a->url);
        free(a->key_header);
        free(a->computer_tool);
        free(a->thinking);
        free(a);
        return NULL;
}

int anthropic_new(const struct anthropic_config *c, struct provider **ret)
{
        enum anthropic_computer unused;
        struct anthropic *a;

        if (!strempty(c->computer_tool) &&
            anthropic_computer_for("", c->computer_tool, &unused) < 0)
                return -EINVAL;
        a = xnew(struct anthropic);
        a->provider = (struct provider){
                .name = "anthropic",
                .start = anthropic_start,
                .cancel = anthropic_cancel,
                .free = anthropic_free,
        };
        a->http = c->http;
        a->url = xstrdup(c->url);
        a->key_header = strempty(c->key) ? NULL : xasprintf("x-api-key: %s", c->key);
        a->computer_tool = xstrdup(c->computer_tool);
        a->thinking = xstrdup(c->thinking ? c->thinking : "auto");
        a->stall_usec = c->stall_usec;
        a->stepped = map_new();
        list_init(&a->calls);
        while (strlen(a->url) > 0 && str_ends(a->url, "/"))
                a->url[strlen(a->url) - 1] = '\0';
        *ret = &a->provider;
        return 0;
}
