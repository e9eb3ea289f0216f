/* Asks models and embedding endpoints for those who have no key and no way out. */
#include "job-call.h"

#include <math.h>

#include "common/base/buf.h"
#include "common/base/json.h"
#include "common/base/list.h"
#include "common/io/daemon.h"
#include "common/io/log.h"
#include "proto/messages.h"

#define ATTEMPTS_MAX 4u
#define CALLS_MAX 256u
#define TEXT_MAX MIB
#define DIMENSIONS_MAX 16000u

struct job_calls {
        struct job_calls_config c;
        struct list list;
        size_t n;
};

struct call {
        struct job_calls *calls;
        struct list link;
        struct rpc_request *req; /* NULL: answered */
        char *id;
        struct loop_timer deadline;
        /* a model */
        struct provider_call *model_call;
        struct loop_timer again;
        unsigned attempts;
        uint64_t until_usec;
        char *model, *system;
        json_t *conversation;
        uint32_t max_tokens;
        bool deltas, spoke; /* are wanted; some were sent */
        /* vectors */
        struct httpc_request *http;
        struct buf body;
        long status;
        size_t n_texts;
};

static void call_free(struct call *c)
{
        list_remove(&c->link);
        c->calls->n--;
        if (c->model_call) {
                const char *name;

                provider_for(c->calls->c.providers, c->model, &name)->cancel(c->model_call);
        }
        if (c->http)
                httpc_cancel(c->http);
        loop_timer_done(&c->deadline);
        loop_timer_done(&c->again);
        buf_done(&c->body);
        free(c->id);
        free(c->model);
        free(c->system);
        json_decref(c->conversation);
        free(c);
}

static void refuse(struct call *c, enum error_code code, const char *why)
{
        rpc_reply_error(c->req, code, "%.400s", why);
        call_free(c);
}

static void on_deadline(void *userdata)
{
        refuse(userdata, ERROR_CODE_TIMEOUT, "the model did not answer in time");
}

static struct call *call_new(struct job_calls *all, struct rpc_request *req, const char *id,
                             uint32_t time_ms)
{
        struct call *c;

        if (all->n >= CALLS_MAX) {
                rpc_reply_error(req, ERROR_CODE_UNAVAILABLE, "too many calls at once");
                return NULL;
        }
        c = xnew(struct call);
        c->calls = all;
        c->req = req;
        c->id = xstrdup(id);
        list_push_back(&all->list, &c->link);
        all->n++;
        if (loop_timer_init(&c->deadline, all->c.event, on_deadline, c) < 0) {
                refuse(c, ERROR_CODE_INTERNAL, "no timer");
                return NULL;
        }
        c->until_usec = now_monotonic() + time_ms * USEC_PER_MSEC;
        loop_timer_arm(&c->deadline, time_ms * USEC_PER_MSEC);
        return c;
}

/* ---- a model ---- */

static void try_model(void *userdata);

static void model_answered(struct call *c, const struct provider_reply *reply)
{
        cleanup_buf struct buf text = BUF_INIT;
        struct usage usage = reply->usage;
        const json_t *block;
        size_t i;

        json_array_foreach (reply->content, i, block) {
                const char *s = json_string_value(json_object_get(block, "text"));

                if (s && streq(json_string_value(json_object_get(block, "type")), "text"))
                        buf_puts(&text, s);
        }
        if (buf_pending(&text) > TEXT_MAX) {
                refuse(c, ERROR_CODE_TOO_LARGE, "the model's answer is too large");
                return;
        }
        usage.turns = 1;
        usage.cost_microusd = prices_cost(c->calls->c.prices, c->model, &usage);
        rpc_reply(c->req,
                  &(struct job_modelled){ .text = { buf_head(&text), buf_pending(&text) },
                                          .model = reply->model[0] && strlen(reply->model) < 200
                                                           ? reply->model
                                                           : c->model,
                                          .usage = usage });
        call_free(c);
}

static void send_delta(struct call *c, struct span text, bool restart)
{
        struct rpc_peer *peer = rpc_request_peer(c->req);
        const struct job_delta m = { .job_id = c->id, .text = text, .restart = restart };

        /* What does not get through is in the answer. */
        if (peer && rpc_send(peer, &wire_job_delta, &m) < 0)
                log_debug("a delta of job %s was not sent", c->id);
}

static void on_delta(void *userdata, size_t block, enum provider_delta kind, struct span text)
{
        struct call *c = userdata;

        if (!c->deltas || kind != PROVIDER_DELTA_TEXT)
                return;
        send_delta(c, text, false);
        c->spoke = true;
}

static void on_model(void *userdata, const struct provider_reply *reply,
                     const struct provider_failure *failure)
{
        struct call *c = userdata;
        uint32_t random;

        c->model_call = NULL;
        if (reply) {
                model_answered(c, reply);
                return;
        }
        random_bytes(&random, sizeof(random));
        uint64_t wait = provider_backoff(c->attempts, failure->retry_after_usec, random);
        if (failure->retry && c->attempts < ATTEMPTS_MAX &&
            now_monotonic() + wait < c->until_usec) {
                if (c->spoke)
                        send_delta(c, (struct span){ "", 0 }, true);
                c->spoke = false;
                loop_timer_arm(&c->again, wait);
                return;
        }
        log_notice("a model answers a job with %s: %s", failure->code, failure->message);
        refuse(c, failure->status == 400 ? ERROR_CODE_UNPROCESSABLE : ERROR_CODE_UNAVAILABLE,
               utf8_valid(failure->message, strlen(failure->message)) ? failure->message
                                                                      : failure->code);
}

static void try_model(void *userdata)
{
        struct call *c = userdata;
        const char *name;
        struct provider *p = provider_for(c->calls->c.providers, c->model, &name);
        const struct provider_request request = {
                .model = name,
                .system = c->system,
                .conversation = c->conversation,
                .max_tokens = c->max_tokens,
        };
        const struct provider_events events = { .on_delta = on_delta,
                                                .on_done = on_model,
                                                .userdata = c };

        c->attempts++;
        if (p->start(p, &request, &events, &c->model_call) < 0)
                refuse(c, ERROR_CODE_UNAVAILABLE, "the model cannot be asked");
}

void job_calls_model(struct job_calls *all, struct rpc_request *req, const struct job_model *m)
{
        struct call *c = call_new(all, req, m->job_id, m->time_ms);
        cleanup_free char *prompt = NULL;

        if (!c)
                return;
        prompt = span_dup(m->prompt);
        c->model = xstrdup(m->model ? m->model : all->c.settings->model);
        c->system = span_dup(m->system);
        c->max_tokens = m->max_tokens;
        c->deltas = m->has_deltas && m->deltas;
        c->conversation = json_pack("[{s:s, s:[{s:s, s:s}]}]", "role", "user", "content", "type",
                                    "text", "text", prompt);
        if (!c->conversation || loop_timer_init(&c->again, all->c.event, try_model, c) < 0)
                refuse(c, ERROR_CODE_BAD_REQUEST, "the prompt is no text");
        else
                try_model(c);
}

/* ---- vectors ---- */

/* The vector of one text into its place; false when it is none. */
static bool take_vector(const json_t *embedding, float *out, size_t n)
{
        size_t i;
        const json_t *v;

        if (json_array_size(embedding) != n)
                return false;
        json_array_foreach (embedding, i, v) {
                double d = json_number_value(v);

                if (!json_is_number(v) || !isfinite(d))
                        return false;
                out[i] = (float) d;
        }
        return true;
}

/* {"data":[{"index":0,"embedding":[...]}]}; the order is the index's where there is one. */
static char *take_vectors(const json_t *json, size_t n, size_t *ret_dimensions)
{
        const json_t *data = json_object_get(json, "data"), *item;
        size_t dimensions, i;
        cleanup_free float *out = NULL;
        cleanup_free bool *seen = xnewn(bool, n);

        if (json_array_size(data) != n)
                return NULL;
        dimensions = json_array_size(json_object_get(json_array_get(data, 0), "embedding"));
        if (dimensions == 0 || dimensions > DIMENSIONS_MAX || n * dimensions > 4 * MIB)
                return NULL;
        out = xnewn(float, n *dimensions);
        json_array_foreach (data, i, item) {
                const json_t *index = json_object_get(item, "index");
                size_t at = json_is_integer(index) ? (size_t) json_integer_value(index) : i;

                if (at >= n || seen[at] ||
                    !take_vector(json_object_get(item, "embedding"), out + at * dimensions,
                                 dimensions))
                        return NULL;
                seen[at] = true;
        }
        *ret_dimensions = dimensions;
        return (char *) TAKE_PTR(out);
}

static void on_status(void *userdata, long status)
{
        struct call *c = userdata;

        c->status = status;
}

static void on_data(void *userdata, struct span data)
{
        struct call *c = userdata;

        buf_put(&c->body, data.data, data.len);
}

static void on_vectors(void *userdata, int r, long status, const char *text)
{
        struct call *c = userdata;
        cleanup_json json_t *json = NULL;
        cleanup_free char *vectors = NULL;
        struct json_problem problem;
        size_t dimensions = 0;

        c->http = NULL;
        if (r < 0) {
                refuse(c, ERROR_CODE_UNAVAILABLE, text);
                return;
        }
        if (status < 200 || status >= 300) {
                cleanup_free char *why =
                        xasprintf("the embedding endpoint answers with status %ld", status);

                log_notice("%s", why);
                refuse(c,
                       status == 400 || status == 413 || status == 422 ? ERROR_CODE_UNPROCESSABLE
                                                                       : ERROR_CODE_UNAVAILABLE,
                       why);
                return;
        }
        if (json_parse(buf_head(&c->body), buf_pending(&c->body), &json, &problem) == 0)
                vectors = take_vectors(json, c->n_texts, &dimensions);
        if (!vectors) {
                refuse(c, ERROR_CODE_UNAVAILABLE,
                       "the embedding endpoint does not answer with vectors");
                return;
        }
        rpc_reply(c->req, &(struct job_embedded){
                                  .model = c->calls->c.settings->embedding_model,
                                  .dimensions = (uint32_t) dimensions,
                                  .vectors = { vectors, c->n_texts * dimensions * sizeof(float) },
                          });
        call_free(c);
}

void job_calls_embed(struct job_calls *all, struct rpc_request *req, const struct job_embed *m)
{
        const struct worker_settings *s = all->c.settings;
        struct call *c = call_new(all, req, m->job_id, m->time_ms);
        cleanup_buf struct buf body = BUF_INIT;
        cleanup_free char *url = NULL, *authorization = NULL;
        const char *headers[] = { "Content-Type: application/json", NULL, NULL };

        if (!c)
                return;
        if (strempty(s->embedding_url) || m->n_texts == 0) {
                refuse(c, ERROR_CODE_UNPROCESSABLE, "the worker has no endpoint for embeddings");
                return;
        }
        c->n_texts = m->n_texts;
        url = xasprintf("%s/v1/embeddings", s->embedding_url);
        if (!strempty(s->embedding_key)) {
                authorization = xasprintf("Authorization: Bearer %s", s->embedding_key);
                headers[1] = authorization;
        }
        buf_puts(&body, "{\"model\":");
        buf_put_json_string(&body, s->embedding_model, strlen(s->embedding_model));
        buf_puts(&body, ",\"encoding_format\":\"float\",\"input\":[");
        for (size_t i = 0; i < m->n_texts; i++) {
                buf_puts(&body, i > 0 ? "," : "");
                buf_put_json_string(&body, m->texts[i], strlen(m->texts[i]));
        }
        buf_puts(&body, "]}");
        int r = httpc_start(all->c.http,
                            &(struct httpc_config){
                                    .method = "POST",
                                    .url = url,
                                    .headers = headers,
                                    .body = { body.data, body.len },
                                    .stall_usec = s->model_stall,
                                    .body_max = 32 * MIB,
                                    .on_head = on_status,
                                    .on_data = on_data,
                                    .on_done = on_vectors,
                                    .userdata = c,
                            },
                            &c->http);
        if (r < 0)
                refuse(c, ERROR_CODE_UNAVAILABLE, "the embedding endpoint cannot be asked");
}

/* ---- all of them ---- */

void job_calls_cancel(struct job_calls *all, const char *job_id)
{
        struct call *c, *next;

        list_foreach_safe (c, next, &all->list, link)
                if (streq(c->id, job_id))
                        refuse(c, ERROR_CODE_TIMEOUT, "nobody waits for it any more");
}

int job_calls_new(const struct job_calls_config *config, struct job_calls **ret)
{
        struct job_calls *c = xnew(struct job_calls);

        c->c = *config;
        list_init(&c->list);
        *ret = c;
        return 0;
}

struct job_calls *job_calls_free(struct job_calls *all)
{
        struct call *c, *next;

        if (!all)
                return NULL;
        list_foreach_safe (c, next, &all->list, link)
                refuse(c, ERROR_CODE_UNAVAILABLE, "the worker ends");
        free(all);
        return NULL;
}
