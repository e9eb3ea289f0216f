/* Chat completions as a dialect: what its refusals mean, and what servers do not all take. */
#include "provider-openai.h"

#include "common/io/log.h"
#include "provider-call.h"

struct openai_call {
        struct provider_call call; /* first */
        struct openai_stream stream;
        unsigned quirks;
};

static struct openai_call *of(const struct provider_call *c)
{
        return (struct openai_call *) (uintptr_t) c;
}

static int begin(struct provider_call *c, const struct provider_request *r, struct buf *body,
                 const char **headers, size_t *n_headers)
{
        struct openai_call *call = of(c);

        openai_stream_init(&call->stream, &c->events);
        call->quirks = (unsigned) provider_learned(c->service, r->model);
        headers[(*n_headers)++] = "accept: text/event-stream, application/json";
        return openai_body(body, r, call->quirks);
}

static int event(struct provider_call *c, struct span data)
{
        return openai_stream_event(&of(c)->stream, data);
}

static bool complete(const struct provider_call *c)
{
        return of(c)->stream.done && of(c)->stream.finished;
}

static bool usable(const struct provider_call *c)
{
        return of(c)->stream.finished; /* without [DONE] */
}

static bool stream_failure(const struct provider_call *c, struct provider_failure *f)
{
        const struct openai_stream *s = &of(c)->stream;

        if (!s->failed)
                return false;
        f->retry = s->retry;
        f->code = s->code;
        f->message = s->message;
        return true;
}

/* {"error":{message,type,code}}; also {"error":"..."} and {"message","type"} are seen. */
static void refusal(const struct provider_call *c, const json_t *body, struct provider_refusal *ret)
{
        const json_t *error = json_object_get(body, "error");

        ret->text = json_string_value(error);
        if (!json_is_object(error))
                error = body;
        if (!ret->text)
                ret->text = PROVIDER_TEXT(error, "message");
        ret->code = PROVIDER_TEXT(error, "code");
        if (strempty(ret->code))
                ret->code = PROVIDER_TEXT(error, "type");
        if (strempty(ret->code))
                ret->code = c->status == 429 ? "rate_limit_error" : NULL;
        ret->final = streq(ret->code, "insufficient_quota") ||
                     streq(ret->code, "billing_hard_limit_reached") ||
                     streq(ret->code, "billing_not_active");
}

/* A 400 that names what not all servers take: this model is asked without it from now on. */
static bool learn(struct provider_call *c, const char *message)
{
        unsigned quirks = of(c)->quirks;

        if (c->status != 400 && c->status != 422)
                return false;
        if (strstr(message, "max_tokens") || strstr(message, "max_completion_tokens"))
                quirks |= OPENAI_QUIRK_OTHER_LIMIT;
        else if (strstr(message, "stream_options") || strstr(message, "include_usage"))
                quirks |= OPENAI_QUIRK_NO_USAGE;
        if (quirks == of(c)->quirks || !provider_learns(c->service, c->model, quirks))
                return false;
        log_notice("model %s refuses a parameter (%s); trying without", c->model, message);
        return true;
}

static void reply(struct provider_call *c, struct provider_reply *ret)
{
        struct openai_stream *s = &of(c)->stream;

        ret->content = openai_stream_content(s, &ret->bad_calls);
        ret->stop_reason = openai_stop_reason(s);
        ret->model = s->model;
        ret->usage = s->usage;
}

static void done(struct provider_call *c)
{
        openai_stream_free(&of(c)->stream);
}

static const struct provider_dialect dialect = {
        .name = "openai",
        .path = "/v1/chat/completions",
        .request_id_header = "x-request-id",
        .takes_whole = true,
        .call_size = sizeof(struct openai_call),
        .begin = begin,
        .event = event,
        .complete = complete,
        .usable = usable,
        .stream_failure = stream_failure,
        .refusal = refusal,
        .learn = learn,
        .reply = reply,
        .done = done,
};

int openai_new(const struct openai_config *c, struct provider **ret)
{
        struct provider_service *s = xnew(struct provider_service);

        provider_service_init(s, &dialect, c->http, c->url, "authorization: Bearer ", c->key,
                              c->stall_usec);
        s->may_connect = c->may_connect;
        s->judge = c->userdata;
        if (str_ends(s->url, "/v1"))
                s->url[strlen(s->url) - 3] = '\0';
        *ret = &s->provider;
        return 0;
}
