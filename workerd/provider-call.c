/* One attempt at a model service: sends the request, feeds the stream, sorts the ways it can fail.
 */
#include "provider-call.h"

#include <strings.h>

#include "utf8.h"

#define EVENT_MAX (4 * MIB)
#define WHOLE_MAX (4 * MIB)
#define ANSWER_MAX (32 * MIB)
#define ERROR_BODY_MAX (64 * KIB)

static void call_free(struct provider_call *c)
{
        list_remove(&c->link);
        if (c->http)
                httpc_cancel(c->http);
        sse_done(&c->sse);
        c->service->dialect->done(c);
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
        struct provider_reply reply = { .stop_detail = "", .request_id = c->request_id };

        c->service->dialect->reply(c, &reply);
        if (strempty(reply.model))
                reply.model = c->model;
        c->events.on_done = NULL;
        events.on_done(events.userdata, &reply, NULL);
        json_decref(reply.content);
        json_decref(reply.bad_calls);
}

static void fail_by_status(struct provider_call *c)
{
        struct json_problem problem;
        cleanup_json json_t *body = NULL;
        struct provider_refusal refusal = { 0 };
        struct provider_failure f = { .status = c->status };
        cleanup_free char *message = NULL;

        if (buf_pending(&c->body) == 0 ||
            json_parse(buf_head(&c->body), buf_pending(&c->body), &body, &problem) < 0)
                body = json_object();
        c->service->dialect->refusal(c, body, &refusal);
        message = refusal.text
                          ? utf8_clip(refusal.text, strlen(refusal.text), 300)
                          : xasprintf("The model service answered with status %ld.", c->status);
        f.code = refusal.code ? refusal.code : "model_error";
        f.message = message;
        f.retry_after_usec = c->retry.after_usec;
        f.retry = !refusal.final && provider_retries(&c->retry, c->status);
        if (c->service->dialect->learn(c, message)) {
                f.retry = true;
                f.retry_after_usec = 1;
        }
        call_fail(c, &f);
}

static void fail_by_stream(struct provider_call *c)
{
        struct provider_failure f = {
                .retry = true,
                .code = "bad_stream",
                .message = "The model's stream has an event larger than 4 MiB.",
        };

        (void) c->service->dialect->stream_failure(c, &f);
        f.retry_after_usec = c->retry.after_usec;
        f.status = 200;
        call_fail(c, &f);
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
        const struct provider_dialect *d = c->service->dialect;

        if (streq(name, d->request_id_header) && utf8_valid(value.data, value.len))
                (void) snprintf(c->request_id, sizeof(c->request_id), "%.*s", (int) value.len,
                                value.data);
        if (d->takes_whole && streq(name, "content-type"))
                c->whole = value.len >= sizeof(json) - 1 &&
                           strncasecmp(value.data, json, sizeof(json) - 1) == 0;
        provider_retry_header(&c->retry, name, value);
}

static int on_event(void *userdata, const char *event, struct span data)
{
        struct provider_call *c = userdata;

        return c->service->dialect->event(c, data);
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
        if (c->service->dialect->complete(c))
                call_succeed(c);
}

static void finish(struct provider_call *c, int r, const char *text)
{
        const struct provider_dialect *d = c->service->dialect;
        bool begun = c->status == 200;
        struct provider_failure f = { .retry = true, .status = c->status, .message = text };

        if (r == 0 && !begun) {
                fail_by_status(c);
                return;
        }
        if (r == 0 && c->whole &&
            d->event(c, (struct span){ buf_head(&c->body), buf_pending(&c->body) }) < 0) {
                fail_by_stream(c);
                return;
        }
        if (d->usable(c)) { /* it did not say so, or is silent after all was said */
                call_succeed(c);
                return;
        }
        f.code = r == -ETIMEDOUT ? "model_silent"
                 : r == -EACCES  ? "address_refused"
                 : begun         ? "stream_cut"
                                 : "model_unreachable";
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

static bool may_connect(void *userdata, const struct sockaddr *address)
{
        const struct provider_service *s = ((struct provider_call *) userdata)->service;

        return s->may_connect(s->judge, address);
}

static int send_request(struct provider_call *c, const struct provider_request *r)
{
        const struct provider_service *s = c->service;
        cleanup_free char *url = xasprintf("%s%s", s->url, s->dialect->path), *trace = NULL;
        cleanup_buf struct buf body = BUF_INIT;
        const char *headers[PROVIDER_HEADERS_MAX + 4] = { "content-type: application/json" };
        size_t n = 1;
        int e;

        if (s->key_header)
                headers[n++] = s->key_header;
        e = s->dialect->begin(c, r, &body, headers, &n);
        if (e < 0)
                return e;
        if (r->traceparent) {
                trace = xasprintf("traceparent: %s", r->traceparent);
                headers[n++] = trace;
        }
        headers[n] = NULL;
        return httpc_start(s->http,
                           &(struct httpc_config){
                                   .method = "POST",
                                   .url = url,
                                   .headers = headers,
                                   .body = { buf_head(&body), buf_pending(&body) },
                                   .stall_usec = s->stall_usec,
                                   .body_max = ANSWER_MAX,
                                   .may_connect = s->may_connect ? may_connect : NULL,
                                   .on_head = on_head,
                                   .on_header = on_header,
                                   .on_data = on_data,
                                   .on_done = on_done,
                                   .userdata = c,
                           },
                           &c->http);
}

static int service_start(struct provider *p, const struct provider_request *r,
                         const struct provider_events *events, struct provider_call **ret)
{
        struct provider_service *s = container_of(p, struct provider_service, provider);
        struct provider_call *c = xcalloc(1, s->dialect->call_size);
        int e;

        c->service = s;
        c->events = *events;
        c->retry = PROVIDER_RETRY_INIT;
        c->model = xstrdup(r->model);
        list_push_back(&s->calls, &c->link);
        sse_init(&c->sse, EVENT_MAX, on_event, c);
        e = send_request(c, r);
        if (e < 0) {
                call_free(c);
                return e;
        }
        *ret = c;
        return 0;
}

static void service_cancel(struct provider_call *c)
{
        call_free(c);
}

static struct provider *service_free(struct provider *p)
{
        struct provider_service *s = container_of(p, struct provider_service, provider);
        struct provider_call *c, *next;

        list_foreach_safe (c, next, &s->calls, link)
                call_free(c);
        map_free(s->learned);
        free(s->url);
        free(s->key_header);
        if (s->done)
                s->done(s);
        free(s);
        return NULL;
}

void provider_service_init(struct provider_service *s, const struct provider_dialect *dialect,
                           struct httpc *http, const char *url, const char *key_name,
                           const char *key, uint64_t stall_usec)
{
        *s = (struct provider_service){
                .provider = { .name = dialect->name,
                              .start = service_start,
                              .cancel = service_cancel,
                              .free = service_free },
                .dialect = dialect,
                .http = http,
                .url = xstrdup(url),
                .key_header = strempty(key) ? NULL : xasprintf("%s%s", key_name, key),
                .stall_usec = stall_usec,
                .learned = map_new(),
        };
        list_init(&s->calls);
        while (strlen(s->url) > 0 && str_ends(s->url, "/"))
                s->url[strlen(s->url) - 1] = '\0';
}

uintptr_t provider_learned(const struct provider_service *s, const char *model)
{
        return (uintptr_t) map_get(s->learned, model);
}

bool provider_learns(struct provider_service *s, const char *model, uintptr_t what)
{
        if (map_count(s->learned) > PROVIDER_LEARNED_MAX)
                return false;
        map_set(s->learned, model, (void *) what);
        return true;
}
