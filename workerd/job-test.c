/* One trial of a model each: a provider of its own, one short answer, the outcome in words. */
#include "job-test.h"

#include "common/base/json.h"
#include "common/base/list.h"
#include "common/base/netpolicy.h"
#include "common/io/httpc.h"
#include "common/io/daemon.h"
#include "common/io/log.h"
#include "provider-anthropic.h"
#include "provider-openai.h"

#define TESTS_MAX 8u
#define RANGES_MAX 64u
#define ATTEMPTS_MAX 3u /* a provider may learn from a refusal what a server does not take */
#define ANSWER_TOKENS 16u

struct job_tests {
        sd_event *event;
        const struct worker_settings *settings;
        struct list list;
        size_t n;
        struct address_range ranges[RANGES_MAX];
        size_t n_ranges;
};

struct test {
        struct job_tests *tests;
        struct list link;
        struct rpc_request *req; /* NULL: answered */
        struct httpc *http;      /* its own: who may be connected to differs from trial to trial */
        struct provider *provider;
        struct provider_call *call;
        struct loop_timer deadline;
        struct loop_task next; /* another attempt, or the end, outside the provider's callbacks */
        char *model;
        json_t *conversation;
        unsigned attempts;
        uint64_t began;
};

static void test_free(struct test *t)
{
        list_remove(&t->link);
        t->tests->n--;
        if (t->provider)
                t->provider->free(t->provider); /* cancels the call */
        httpc_free(t->http);
        loop_timer_done(&t->deadline);
        loop_task_done(&t->next);
        json_decref(t->conversation);
        free(t->model);
        free(t);
}

static void answer(struct test *t, const char *code, const char *message, const char *model,
                   long status)
{
        cleanup_free char *words = utf8_valid(message, strlen(message))
                                           ? xasprintf("%.480s", message)
                                           : xstrdup("The answer is no text.");

        /* The cut may be inside a character. */
        for (size_t n = strlen(words); n > 0 && !utf8_valid(words, n); n--)
                words[n - 1] = '\0';
        rpc_reply(TAKE_PTR(t->req),
                  &(struct job_tested){
                          .code = code,
                          .message = words,
                          .model = strlen(model) < 200 ? model : t->model,
                          .status = (uint32_t) status,
                          .duration_ms = (uint32_t) ((now_monotonic() - t->began) / USEC_PER_MSEC),
                          .managed = getenv("CREDENTIALS_DIRECTORY") != NULL,
                  });
        loop_timer_disarm(&t->deadline);
        loop_task_queue(&t->next);
}

static void on_deadline(void *userdata)
{
        answer(userdata, "model_silent",
               "The address took the question and did not answer in time.", "", 0);
}

/* What a person can do about it, before what the service itself says. */
static const char *advice(const struct provider_failure *f, const char **ret_code)
{
        *ret_code = f->code;
        if (streq(f->code, "address_refused"))
                return "This address is not public. An operator can allow it with the setting "
                       "egress_private in workerd.conf.";
        if (f->status == 401 || f->status == 403) {
                *ret_code = "key_refused";
                return "The key was refused: ";
        }
        if (f->status == 404) {
                *ret_code = "not_found";
                return "There is no such model, or no such API at this address: ";
        }
        if (f->status == 429)
                return "The key is known, but may not be used now: ";
        if (f->status == 0)
                return "The address could not be reached: ";
        if (f->status == 200)
                return "The address answers, but not like a model: ";
        return "The service refused: ";
}

static void on_done(void *userdata, const struct provider_reply *reply,
                    const struct provider_failure *failure)
{
        struct test *t = userdata;
        cleanup_free char *words = NULL;
        const char *code, *first;

        t->call = NULL;
        if (reply) {
                answer(t, "", "The model answered.", reply->model, 200);
                return;
        }
        /* As providers say "at once, without what was just refused". */
        if (failure->retry && failure->retry_after_usec == 1 && t->attempts < ATTEMPTS_MAX) {
                loop_task_queue(&t->next);
                return;
        }
        first = advice(failure, &code);
        words = xasprintf("%s%s", first, str_ends(first, ": ") ? failure->message : "");
        log_info("a model that was tried answers with %s, status %ld", code, failure->status);
        answer(t, code, words, "", failure->status);
}

static void on_next(void *userdata)
{
        struct test *t = userdata;
        const struct provider_request request = { .model = t->model,
                                                  .system = "Answer with one word.",
                                                  .conversation = t->conversation,
                                                  .max_tokens = ANSWER_TOKENS };
        const struct provider_events events = { .on_done = on_done, .userdata = t };

        if (!t->req) {
                test_free(t);
                return;
        }
        t->attempts++;
        if (t->provider->start(t->provider, &request, &events, &t->call) < 0)
                answer(t, "bad_url", "This is no address that can be asked.", "", 0);
}

/* ---- who may be connected to ---- */

static bool may_connect(void *userdata, const struct sockaddr *a)
{
        const struct job_tests *all = userdata;

        if (!address_special(a))
                return true;
        for (size_t i = 0; i < all->n_ranges; i++)
                if (address_in_range(a, &all->ranges[i]))
                        return true;
        return false;
}

static int open_provider(struct test *t, const struct job_test *m)
{
        const struct worker_settings *s = t->tests->settings;
        bool openai = streq(m->provider, "openai");
        const char *own = openai ? s->openai_url : s->anthropic_url,
                   *url = strempty(m->base_url) ? own : m->base_url;
        bool (*judge)(void *, const struct sockaddr *) = streq(url, own) ? NULL : may_connect;
        int r = httpc_new(t->tests->event, &t->http);

        if (r < 0)
                return r;
        if (openai)
                return openai_new(&(struct openai_config){ .http = t->http,
                                                           .url = url,
                                                           .key = m->key,
                                                           .stall_usec = s->model_stall,
                                                           .may_connect = judge,
                                                           .userdata = t->tests },
                                  &t->provider);
        return anthropic_new(&(struct anthropic_config){ .http = t->http,
                                                         .url = url,
                                                         .key = m->key,
                                                         .thinking = "off",
                                                         .stall_usec = s->model_stall,
                                                         .may_connect = judge,
                                                         .userdata = t->tests },
                             &t->provider);
}

void job_tests_begin(struct job_tests *all, struct rpc_request *req, const struct job_test *m)
{
        struct test *t;
        int r;

        if (all->n >= TESTS_MAX) {
                rpc_reply_error(req, ERROR_CODE_UNAVAILABLE, "too many models are being tried");
                return;
        }
        t = xnew(struct test);
        t->tests = all;
        t->model = xstrdup(m->model);
        t->began = now_monotonic();
        t->conversation = json_pack("[{s:s, s:[{s:s, s:s}]}]", "role", "user", "content", "type",
                                    "text", "text", "Say yes.");
        list_push_back(&all->list, &t->link);
        all->n++;
        r = loop_timer_init(&t->deadline, all->event, on_deadline, t);
        if (r == 0)
                r = loop_task_init(&t->next, all->event, on_next, t);
        if (r == 0)
                r = open_provider(t, m);
        if (r < 0 || !t->conversation) {
                rpc_reply_error(req, ERROR_CODE_UNAVAILABLE, "the model cannot be tried here");
                test_free(t);
                return;
        }
        t->req = req;
        loop_timer_arm(&t->deadline, m->time_ms * USEC_PER_MSEC);
        loop_task_queue(&t->next);
}

struct job_tests *job_tests_new(sd_event *e, const struct worker_settings *s)
{
        struct job_tests *t = xnew(struct job_tests);
        cleanup_free char *words = xstrdup(s->egress_private);
        char *save = NULL;

        t->event = e;
        t->settings = s;
        list_init(&t->list);
        for (char *w = strtok_r(words, ", ", &save); w; w = strtok_r(NULL, ", ", &save))
                if (t->n_ranges < RANGES_MAX &&
                    address_range_parse(w, &t->ranges[t->n_ranges]) == 0)
                        t->n_ranges++;
        return t;
}

struct job_tests *job_tests_free(struct job_tests *all)
{
        struct test *t, *next;

        if (!all)
                return NULL;
        list_foreach_safe (t, next, &all->list, link) {
                if (t->req)
                        rpc_reply_error(TAKE_PTR(t->req), ERROR_CODE_UNAVAILABLE,
                                        "the worker ends");
                test_free(t);
        }
        free(all);
        return NULL;
}
