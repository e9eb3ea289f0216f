/* The Messages API as a dialect: its headers, what its refusals mean, the forms of its tools. */
#include "provider-anthropic.h"

#include "common/io/log.h"
#include "provider-call.h"

#define API_VERSION "2026-10-21"

struct anthropic {
        struct provider_service service; /* first: it is freed by it */
        char *computer_tool, *thinking;
};

struct anthropic_call {
        struct provider_call call; /* first */
        struct anthropic_stream stream;
        enum anthropic_computer computer;
};

static struct anthropic_call *of(const struct provider_call *c)
{
        return (struct anthropic_call *) (uintptr_t) c;
}

static struct anthropic *owner(const struct provider_call *c)
{
        return container_of(c->service, struct anthropic, service);
}

static int begin(struct provider_call *c, const struct provider_request *r, struct buf *body,
                 const char **headers, size_t *n_headers)
{
        const struct anthropic *a = owner(c);
        struct anthropic_call *call = of(c);
        uintptr_t stepped = provider_learned(c->service, r->model);
        bool adaptive = streq(a->thinking, "adaptive") ||
                        (streq(a->thinking, "auto") && anthropic_adaptive_thinking(r->model));
        int e = anthropic_computer_for(r->model, a->computer_tool, &call->computer);

        anthropic_stream_init(&call->stream, &c->events);
        if (e < 0)
                return e;
        if (stepped > 0)
                call->computer = (enum anthropic_computer)(stepped - 1);
        headers[(*n_headers)++] = "accept: application/json, text/event-stream";
        headers[(*n_headers)++] = "anthropic-version: " API_VERSION;
        if (r->width > 0 && call->computer == ANTHROPIC_COMPUTER_20251124)
                headers[(*n_headers)++] = "anthropic-beta: computer-use-2025-11-24";
        if (r->width > 0 && call->computer == ANTHROPIC_COMPUTER_20250124)
                headers[(*n_headers)++] = "anthropic-beta: computer-use-2025-01-24";
        return anthropic_body(body, r, call->computer, adaptive);
}

static int event(struct provider_call *c, struct span data)
{
        return anthropic_stream_event(&of(c)->stream, data);
}

static bool complete(const struct provider_call *c)
{
        return of(c)->stream.state == ANTHROPIC_STREAM_COMPLETE;
}

static bool code_retries(const char *code)
{
        return streq(code, "overloaded_error") || streq(code, "api_error") ||
               streq(code, "rate_limit_error") || streq(code, "timeout_error") ||
               streq(code, "bad_stream") || streq(code, "answer_too_large");
}

static bool stream_failure(const struct provider_call *c, struct provider_failure *f)
{
        const struct anthropic_stream *s = &of(c)->stream;

        if (s->state != ANTHROPIC_STREAM_FAILED)
                return false;
        f->retry = code_retries(s->code);
        f->code = s->code;
        f->message = s->message;
        return true;
}

static void refusal(const struct provider_call *c, const json_t *body, struct provider_refusal *ret)
{
        const json_t *error = json_object_get(body, "error");
        const char *detail = PROVIDER_TEXT(json_object_get(error, "details"), "error_code");

        ret->code = PROVIDER_TEXT(error, "type");
        ret->text = PROVIDER_TEXT(error, "message");
        ret->final = streq(detail, "enforced_spend_limit_reached") ||
                     streq(detail, "contract_spend_limit_reached");
        if (ret->final)
                ret->code = detail;
}

/* A 400 that names the tool form we sent: next time this model gets the one before it. */
static bool step_down(struct provider_call *c, const char *message)
{
        enum anthropic_computer now = of(c)->computer;

        if (c->status != 400 || !strempty(owner(c)->computer_tool) ||
            now + 1 >= ANTHROPIC_COMPUTER_MAX || !strstr(message, anthropic_computer_type(now)) ||
            !provider_learns(c->service, c->model, (uintptr_t) now + 2))
                return false;
        log_notice("model %s does not take %s; trying %s", c->model, anthropic_computer_type(now),
                   anthropic_computer_type(now + 1));
        return true;
}

static void reply(struct provider_call *c, struct provider_reply *ret)
{
        struct anthropic_stream *s = &of(c)->stream;

        ret->content = anthropic_stream_content(s, &ret->bad_calls);
        ret->stop_reason = s->stop_reason;
        ret->stop_detail = s->stop_detail;
        ret->model = s->model;
        ret->usage = s->usage;
}

static void done(struct provider_call *c)
{
        anthropic_stream_done(&of(c)->stream);
}

static const struct provider_dialect dialect = {
        .name = "anthropic",
        .path = "/v1/messages",
        .request_id_header = "request-id",
        .call_size = sizeof(struct anthropic_call),
        .begin = begin,
        .event = event,
        .complete = complete,
        .usable = complete,
        .stream_failure = stream_failure,
        .refusal = refusal,
        .learn = step_down,
        .reply = reply,
        .done = done,
};

static void service_done(struct provider_service *s)
{
        struct anthropic *a = container_of(s, struct anthropic, service);

        free(a->computer_tool);
        free(a->thinking);
}

int anthropic_new(const struct anthropic_config *c, struct provider **ret)
{
        enum anthropic_computer unused;
        struct anthropic *a;

        if (!strempty(c->computer_tool) &&
            anthropic_computer_for("", c->computer_tool, &unused) < 0)
                return -EINVAL;
        a = xnew(struct anthropic);
        provider_service_init(&a->service, &dialect, c->http, c->url, "x-api-key: ", c->key,
                              c->stall_usec);
        a->service.done = service_done;
        a->service.may_connect = c->may_connect;
        a->service.judge = c->userdata;
        a->computer_tool = xstrdup(c->computer_tool);
        a->thinking = xstrdup(c->thinking ? c->thinking : "auto");
        *ret = &a->service.provider;
        return 0;
}
