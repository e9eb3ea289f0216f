/* One attempt at chat completions: sends the request, feeds the stream, sorts the ways it can fail.
 */
#include "provider-openai.h"

#include <strings.h>

#include "common/base/list.h"
#include "common/base/map.h"
#include "common/io/log.h"
#include "utf8.h"

#define EVENT_MAX (4 * MIB)
#define WHOLE_MAX (4 * MIB)
#define ERROR_BODY_MAX (64 * KIB)
#define MODELS_MAX 1000
#define TEXT_OF(j, key) json_string_value(json_object_get((j), (key)))

struct openai {
        struct provider provider;
        struct httpc *http;
        char *url, *key_header;
        uint64_t stall_usec;
        struct map *quirks; /* model -> openai_quirk bits, of what it refused */
        struct list calls;
};

struct provider_call {
        struct openai *openai;
        struct list link;
        struct httpc_request *http;
        struct provider_events events; /* on_done is NULL once it was called */
        struct sse sse;
        struct openai_stream stream;
        struct buf body; /* of an error, or of an answer that is no stream */
        long status;
        bool whole; /* the answer is one JSON object although a stream was asked for */
        char *model;
        char request_id[128];
        unsigned quirks;
        struct provider_retry retry;
};

static void call_free(struct provider_call *c)
{
        list_remove(&c->link);
        if (c->http)
                httpc_cancel(c->http);
        sse_done(&c->sse);
        openai_stream_free(&c->stream);
        buf_done(&c->body);
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
        cleanup_json json_t *bad = NULL, *content = openai_stream_content(&c->stream, &bad);
        struct provider_reply reply = {
                .content = content,
                .bad_calls = bad,
                .stop_reason = openai_stop_reason(&c->stream),
                .stop_detail = "",
                .model = c->stream.model[0] ? c->stream.model : c->model,
                .request_id = c->request_id,
                .usage = c->stream.usage,
        };

        c->events.on_done = NULL;
        events.on_done(events.userdata, &reply, NULL);
}

/* A 400 that names what not all servers take: this model is asked without it from now on. */
static bool learn(struct provider_call *c, const char *message)
{
        unsigned quirks = c->quirks;

        if ((c->status != 400 && c->status != 422) || map_count(c->openai->quirks) > MODELS_MAX)
                return false;
        if (strstr(message, "max_tokens") || strstr(message, "max_completion_tokens"))
                quirks |= OPENAI_QUIRK_OTHER_LIMIT;
        else if (strstr(message, "stream_options") || strstr(message, "include_usage"))
                quirks |= OPENAI_QUIRK_NO_USAGE;
        if (quirks == c->quirks)
                return false;
        log_notice("model %s refuses a parameter (%s); trying without", c->model, message);
        map_set(c->openai->quirks, c->model, (void *) (uintptr_t) quirks);
        return true;
}

static bool out_of_money(const char *code)
{
        return streq(code, "insufficient_quota") || streq(code, "billing_hard_limit_reached") ||
               streq(code, "billing_not_active");
}

/* {"error":{message,type,code}}; also {"error":"..."} and {"message","type"} are seen. */
static void fail_by_status(struct provider_call *c)
{
        struct json_problem problem;
        cleanup_json json_t *body = NULL;
        const json_t *error;
        const char *code, *text;
        struct provider_failure f = { .status = c->status };
        cleanup_free char *message = NULL;

        if (buf_pending(&c->body) == 0 ||
            json_parse(buf_head(&c->body), buf_pending(&c->body), &body, &problem) < 0)
                body = json_object();
        error = json_object_get(body, "error");
        text = json_string_value(error);
        if (!json_is_object(error))
                error = body;
        if (!text)
                text = TEXT_OF(error, "message");
        code = TEXT_OF(error, "code");
        if (strempty(code))
                code = TEXT_OF(error, "type");
        if (strempty(code))
                code = c->status == 429 ? "rate_limit_error" : "model_error";
        message = text ? utf8_clip(text, strlen(text), 300)
                       : xasprintf("The model service answered with status %ld.", c->status);
        f.code = code;
        f.message = message;
        f.retry_after_usec = c->retry.after_usec;
        f.retry = !out_of_money(code) && provider_retries(&c->retry, c->status);
        if (learn(c, message)) {
                f.retry = true;
                f.retry_after_usec = 1;
        }
        call_fail(c, &f);
}

static void fail_by_stream(struct provider_call *c)
{
        call_fail(c, &(struct provider_failure){
                             .retry = c->stream.failed ? c->stream.retry : true,
                             .retry_after_usec = c->retry.after_usec,
                             .code = c->stream.failed ? c->stream.code : "bad_stream",
                             .message = c->stream.failed
                                                ? c->stream.message
                                                : "The model's stream has an event larger than "
                                                  "4 MiB.",
                             .status = 200,
                     });
}

static void on_head(void *userdata, long status)
{
        struct provider_call *c = userdata;

        c->status = status;
}

static void on_header(void *userdata, const char *name, struct span value)
{
        static const char json[] = "application/json";
        struct provider_call *c = userdata;

        if (streq(name, "x-request-id") && utf8_valid(value.data, value.len))
                (void) snprintf(c->request_id, sizeof(c->request_id), "%.*s", (int) value.len,
                                value.data);
        if (streq(name, "content-type"))
                c->whole = value.len >= sizeof(json) - 1 &&
                           strncasecmp(value.data, json, sizeof(json) - 1) == 0;
        provider_retry_header(&c->retry, name, value);
}

static int on_event(void *userdata, const char *event, struct span data)
{
        struct provider_call *c = userdata;

        return openai_stream_event(&c->stream, data);
}

static void on_data(void *userdata, struct span data)
{
        struct provider_call *c = userdata;

        if (c->status != 200 || c->whole) {
                size_t most = c->status != 200 ? ERROR_BODY_MAX : WHOLE_MAX,
                       room = most - buf_pending(&c->body);

                buf_put(&c->body, data.data, MIN(data.len, room));
                return;
        }
        if (!c->events.on_done)
                return; /* answered; only the end is awaited, so the connection can be kept */
        if (sse_feed(&c->sse, data) < 0) {
                struct httpc_request *http = TAKE_PTR(c->http);

                httpc_cancel(http);
                fail_by_stream(c);
                call_free(c);
                return;
        }
        if (c->stream.done && c->stream.finished)
                call_succeed(c);
}

static void finish(struct provider_call *c, int r, const char *text)
{
        bool begun = c->status == 200;
        struct provider_failure f = { .retry = true, .status = c->status, .message = text };

        if (r == 0 && c->status != 200) {
                fail_by_status(c);
                return;
        }
        if (r == 0 && c->whole &&
            openai_stream_event(&c->stream,
                                (struct span){ buf_head(&c->body), buf_pending(&c->body) }) < 0) {
                fail_by_stream(c);
                return;
        }
        if (c->stream.finished) { /* without [DONE], or silent after all was said */
                call_succeed(c);
                return;
        }
        f.code = r == -ETIMEDOUT ? "model_silent" : begun ? "stream_cut" : "model_unreachable";
        if (begun && r != -ETIMEDOUT)
                f.message = "The model's answer ended early.";
        else if (strempty(text))
                f.message = "The model service could not be reached.";
        call_fail(c, &f);
}

static void on_done(void *userdata, int r, long status, const char *text)
{
        struct provider_call *c = userdata;

        c->http = NULL;
        if (c->events.on_done)
                finish(c, r, text);
        call_free(c);
}

static int send_request(struct provider_call *c, const struct provider_request *r)
{
        struct openai *o = c->openai;
        cleanup_free char *url = xasprintf("%s/v1/chat/completions", o->url);
        cleanup_buf struct buf body = BUF_INIT;
        const char *headers[] = { "content-type: application/json",
                                  "accept: text/event-stream, application/json", o->key_header,
                                  NULL };
        int e = openai_body(&body, r, c->quirks);

        if (e < 0)
                return e;
        return httpc_start(o->http,
                           &(struct httpc_config){
                                   .method = "POST",
                                   .url = url,
                                   .headers = headers,
                                   .body = { buf_head(&body), buf_pending(&body) },
                                   .stall_usec = o->stall_usec,
                                   .body_max = 32 * MIB,
                                   .on_head = on_head,
                                   .on_header = on_header,
                                   .on_data = on_data,
                                   .on_done = on_done,
                                   .userdata = c,
                           },
                           &c->http);
}

static int openai_start(struct provider *p, const struct provider_request *r,
                        const struct provider_events *events, struct provider_call **ret)
{
        struct openai *o = container_of(p, struct openai, provider);
        struct provider_call *c = xnew(struct provider_call);
        int e;

        c->openai = o;
        c->events = *events;
        c->retry = PROVIDER_RETRY_INIT;
        c->model = xstrdup(r->model);
        c->quirks = (unsigned) (uintptr_t) map_get(o->quirks, r->model);
        list_push_back(&o->calls, &c->link);
        sse_init(&c->sse, EVENT_MAX, on_event, c);
        openai_stream_init(&c->stream, &c->events);
        e = send_request(c, r);
        if (e < 0) {
                call_free(c);
                return e;
        }
        *ret = c;
        return 0;
}

static void openai_cancel(struct provider_call *c)
{
        call_free(c);
}

static struct provider *openai_free(struct provider *p)
{
        struct openai *o = container_of(p, struct openai, provider);
        struct provider_call *c, *next;

        list_foreach_safe (c, next, &o->calls, link)
                call_free(c);
        map_free(o->quirks);
        free(o->url);
        free(o->key_header);
        free(o);
        return NULL;
}

int openai_new(const struct openai_config *c, struct provider **ret)
{
        struct openai *o = xnew(struct openai);

        o->provider = (struct provider){
                .name = "openai",
                .start = openai_start,
                .cancel = openai_cancel,
                .free = openai_free,
        };
        o->http = c->http;
        o->url = xstrdup(c->url);
        o->key_header = strempty(c->key) ? NULL : xasprintf("authorization: Bearer %s", c->key);
        o->stall_usec = c->stall_usec;
        o->quirks = map_new();
        list_init(&o->calls);
        while (strlen(o->url) > 0 && str_ends(o->url, "/"))
                o->url[strlen(o->url) - 1] = '\0';
        if (str_ends(o->url, "/v1"))
                o->url[strlen(o->url) - 3] = '\0';
        *ret = &o->provider;
        return 0;
}
