/* Serves jobs: greets docserverd, runs what it sends in a fresh headless slot each. */
#include "jobworker.h"

#include "common/base/fault.h"
#include "common/io/log.h"
#include "common/io/rpc.h"
#include "documents.h"
#include "job-call.h"
#include "job-film.h"
#include "job-run.h"
#include "job-test.h"
#include "parts.h"

#define CALL_USEC (2 * USEC_PER_SEC)
#define GREET_AGAIN (500 * USEC_PER_MSEC)
#define REMAKE_FIRST (200 * USEC_PER_MSEC)
#define REMAKE_MAX (30 * USEC_PER_SEC)
#define SLOT_WAIT (30 * USEC_PER_SEC) /* a job waits for its slot */

struct jobworker {
        struct daemon *daemon;
        const struct worker_settings *settings;
        struct slot_host *host;
        struct slot *slot;
        uint64_t epoch;
        bool used; /* a job was in the slot: no other before it was made again */
        unsigned failures;
        struct loop_timer remake, greet, slot_wait;
        struct loop_task reset; /* throws the slot away once nothing of it is on the stack */
        struct httpc *http;
        struct provider_set providers;
        struct prices *prices;
        struct documents *documents;
        struct rpc_link *link;
        struct job_calls *calls;
        struct job_tests *tests;
        struct job *job; /* one of these two at a time */
        struct film *film;
        struct rpc_request *request; /* the job's or film's */
};

/* ---- the slot ---- */

static void remake(void *userdata)
{
        struct jobworker *w = userdata;
        int r = slot_reset(w->slot);

        if (r < 0) {
                log_error("the slot cannot be made again: %s", strerror(-r));
                loop_timer_arm(&w->remake, REMAKE_MAX);
        }
}

static bool has_work(const struct jobworker *w)
{
        return w->job || w->film;
}

static bool has_begun(const struct jobworker *w)
{
        return w->job ? job_begun(w->job) : w->film && film_begun(w->film);
}

static void begin(struct jobworker *w)
{
        if (!has_work(w) || has_begun(w) || w->used || !slot_ready(w->slot))
                return;
        loop_timer_disarm(&w->slot_wait);
        w->used = true;
        slot_set_epoch(w->slot, ++w->epoch);
        if (w->job)
                job_begin(w->job, w->slot, w->epoch);
        else
                film_begin(w->film, w->slot, w->epoch);
}

static void on_ready(void *userdata)
{
        struct jobworker *w = userdata;

        w->failures = 0;
        w->used = false;
        begin(w);
}

static void refuse_job(struct jobworker *w, enum error_code code, const char *why)
{
        w->job = job_free(w->job);
        w->film = film_free(w->film);
        loop_timer_disarm(&w->slot_wait);
        if (w->request)
                rpc_reply_error(TAKE_PTR(w->request), code, "%.400s",
                                utf8_valid(why, strlen(why)) ? why : "the slot failed");
}

static void on_slot_failed(void *userdata, const char *why)
{
        struct jobworker *w = userdata;

        log_warning("the slot failed: %s", why);
        if (has_begun(w))
                refuse_job(w, ERROR_CODE_UNAVAILABLE, why);
        loop_timer_arm(&w->remake, MIN(REMAKE_FIRST << MIN(w->failures, 10U), REMAKE_MAX));
        w->failures++;
}

static void on_slot_wait(void *userdata)
{
        refuse_job(userdata, ERROR_CODE_UNAVAILABLE, "the slot did not get ready");
}

static int open_slot(struct jobworker *w)
{
        const struct worker_settings *s = w->settings;
        const struct slot_host_config host = { .userns = s->slot_userns,
                                               .cgroups = s->slot_cgroups };
        struct slot_config config;
        struct slot_proof proof = { 0 };
        cleanup_free char *why = NULL;
        unsigned killed = 0;
        int r = slot_reconcile(s->state_dir, &killed);

        if (r < 0)
                return log_errno(LOG_ERR, r, "cannot clear what an earlier run left in %s",
                                 s->state_dir);
        if (killed > 0)
                log_notice("killed %u processes that an earlier run left", killed);
        parts_slot_config(s, w->daemon->event, &config);
        config.kind = SLOT_KIND_HEADLESS;
        config.on_ready = on_ready;
        config.on_failed = on_slot_failed;
        config.userdata = w;
        r = slot_host_new(&host, &w->host);
        if (r < 0)
                return r;
        config.host = w->host;
        r = slot_prove(&config, &proof, &why);
        if (r < 0) {
                log_error("slots cannot be made here: %s", why ? why : strerror(-r));
                return r;
        }
        r = slot_new(&config, &w->slot);
        return r < 0 ? log_errno(LOG_ERR, r, "the slot cannot be made") : 0;
}

/* ---- jobs ---- */

static void on_reset(void *userdata)
{
        struct jobworker *w = userdata;

        if (!loop_timer_armed(&w->remake))
                remake(w);
}

static void on_job_done(void *userdata, int r, const struct job_ran *ran, const char *why)
{
        struct jobworker *w = userdata;

        w->job = NULL;
        crash_point("jobworker.ran");
        if (r == 0) {
                log_debug("a job ended with status %" PRIi64 " after %u ms", ran->code,
                          ran->duration_ms);
                rpc_reply(TAKE_PTR(w->request), ran);
        } else {
                log_notice("a job could not run: %s", why);
                rpc_reply_error(TAKE_PTR(w->request),
                                r == -EREMOTEIO ? ERROR_CODE_NOT_FOUND : ERROR_CODE_UNAVAILABLE,
                                "%.400s", why ? why : strerror(-r));
        }
        loop_task_queue(&w->reset);
}

static void on_progress(void *userdata, const char *job_id, unsigned percent)
{
        struct jobworker *w = userdata;

        /* One that is lost is made up for by the next. */
        (void) !rpc_send(rpc_client_peer(w->link), &wire_job_progress,
                         &(struct job_progress){ .job_id = job_id, .percent = percent });
}

static void on_film_done(void *userdata, int r, const struct job_filmed *filmed, const char *why)
{
        struct jobworker *w = userdata;

        w->film = NULL;
        if (r == 0) {
                log_debug("a video of %" PRIu64 " bytes was made in %u ms", filmed->size_bytes,
                          filmed->duration_ms);
                rpc_reply(TAKE_PTR(w->request), filmed);
        } else {
                log_notice("a video could not be made: %s", why);
                rpc_reply_error(TAKE_PTR(w->request),
                                r == -EAGAIN ? ERROR_CODE_UNAVAILABLE : ERROR_CODE_UNPROCESSABLE,
                                "%.400s", why ? why : strerror(-r));
        }
        loop_task_queue(&w->reset);
}

/* r: of making the job that was asked for. */
static int take(struct jobworker *w, struct rpc_request *req, int r)
{
        if (r < 0)
                return rpc_reply_error(req, ERROR_CODE_BAD_REQUEST,
                                       "the job makes no sense to the worker");
        w->request = req;
        loop_timer_arm(&w->slot_wait, SLOT_WAIT);
        begin(w);
        return 0;
}

static int refuse_busy(struct rpc_request *req)
{
        return rpc_reply_error(req, ERROR_CODE_UNAVAILABLE, "the worker runs another job");
}

static int on_film(void *userdata, struct rpc_peer *peer, struct rpc_request *req, const void *msg)
{
        struct jobworker *w = userdata;
        const struct film_config c = { .event = w->daemon->event,
                                       .documents = w->documents,
                                       .progress = on_progress,
                                       .done = on_film_done,
                                       .userdata = w };

        return has_work(w) ? refuse_busy(req) : take(w, req, film_new(&c, msg, &w->film));
}

static int on_run(void *userdata, struct rpc_peer *peer, struct rpc_request *req, const void *msg)
{
        struct jobworker *w = userdata;
        const struct job_config c = { .event = w->daemon->event,
                                      .documents = w->documents,
                                      .done = on_job_done,
                                      .userdata = w };

        return has_work(w) ? refuse_busy(req) : take(w, req, job_new(&c, msg, &w->job));
}

static int on_model(void *userdata, struct rpc_peer *peer, struct rpc_request *req, const void *msg)
{
        struct jobworker *w = userdata;

        job_calls_model(w->calls, req, msg);
        return 0;
}

static int on_embed(void *userdata, struct rpc_peer *peer, struct rpc_request *req, const void *msg)
{
        struct jobworker *w = userdata;

        job_calls_embed(w->calls, req, msg);
        return 0;
}

static int on_test(void *userdata, struct rpc_peer *peer, struct rpc_request *req, const void *msg)
{
        struct jobworker *w = userdata;

        job_tests_begin(w->tests, req, msg);
        return 0;
}

static int on_cancel(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                     const void *msg)
{
        struct jobworker *w = userdata;
        const struct job_cancel *m = msg;

        job_calls_cancel(w->calls, m->job_id);
        if ((w->job && job_is(w->job, m->job_id)) || (w->film && film_is(w->film, m->job_id))) {
                bool begun = has_begun(w);

                refuse_job(w, ERROR_CODE_TIMEOUT, "nobody waits for it any more");
                if (begun)
                        loop_task_queue(&w->reset);
        }
        return 0;
}

/* ---- the link ---- */

static void on_greeted(void *userdata, int r, const void *reply)
{
        struct jobworker *w = userdata;

        if (r == 0) {
                log_info("greeted by docserverd");
                return;
        }
        log_warning("docserverd did not answer the greeting");
        loop_timer_arm(&w->greet, GREET_AGAIN);
}

static void greet(void *userdata)
{
        struct jobworker *w = userdata;
        const struct job_hello hello = {
                .worker_id = w->settings->worker_id,
                .slots = 1,
                .calls = (uint32_t) w->settings->job_calls,
                .embeddings = !strempty(w->settings->embedding_url),
        };

        if (rpc_peer_up(rpc_client_peer(w->link)) &&
            rpc_call(rpc_client_peer(w->link), &wire_job_hello, &hello, CALL_USEC, on_greeted, w) <
                    0)
                loop_timer_arm(&w->greet, GREET_AGAIN);
}

/* Whoever sent the job is gone with the link: its answer has no address any more. */
static void on_peer(void *userdata, struct rpc_peer *peer, enum rpc_peer_event what)
{
        struct jobworker *w = userdata;

        if (what == RPC_PEER_UP) {
                greet(w);
                return;
        }
        log_warning("docserverd is away");
        if (has_work(w)) {
                bool begun = has_begun(w);

                refuse_job(w, ERROR_CODE_UNAVAILABLE, "the link was lost");
                if (begun)
                        loop_task_queue(&w->reset);
        }
}

static int open_link(struct jobworker *w)
{
        static const struct rpc_route routes[] = {
                { &wire_job_run, on_run },       { &wire_job_model, on_model },
                { &wire_job_embed, on_embed },   { &wire_job_test, on_test },
                { &wire_job_cancel, on_cancel }, { &wire_job_film, on_film },
        };
        const struct worker_settings *s = w->settings;
        cleanup_free char *endpoint = xasprintf("ipc://%s", s->documents_socket);
        int r = documents_new(
                &(struct documents_config){ .event = w->daemon->event,
                                            .zmq = w->daemon->zmq,
                                            .socket = s->documents_socket,
                                            .descriptor_socket = s->documents_descriptor_socket },
                &w->documents);

        if (r == 0)
                r = rpc_client_new(&(struct rpc_config){ .event = w->daemon->event,
                                                         .zmq = w->daemon->zmq,
                                                         .endpoint = endpoint,
                                                         .routes = routes,
                                                         .n_routes = ARRAY_LEN(routes),
                                                         .on_peer = on_peer,
                                                         .userdata = w },
                                   &w->link);
        return r < 0 ? log_errno(LOG_ERR, r, "the worker's sockets cannot be opened") : 0;
}

/* ---- start and end ---- */

int jobworker_new(struct daemon *d, const struct worker_settings *s, struct jobworker **ret)
{
        CLEANUP(jobworker_freep) struct jobworker *w = xnew(struct jobworker);
        w->daemon = d;
        w->settings = s;
        int r = loop_timer_init(&w->remake, d->event, remake, w);
        if (r == 0)
                r = loop_timer_init(&w->greet, d->event, greet, w);
        if (r == 0)
                r = loop_timer_init(&w->slot_wait, d->event, on_slot_wait, w);
        if (r == 0)
                r = loop_task_init(&w->reset, d->event, on_reset, w);
        if (r == 0)
                r = parts_models(s, d->event, &w->http, &w->providers, &w->prices);
        if (r == 0)
                r = job_calls_new(&(struct job_calls_config){ .event = d->event,
                                                              .http = w->http,
                                                              .providers = &w->providers,
                                                              .prices = w->prices,
                                                              .settings = s },
                                  &w->calls);
        w->tests = job_tests_new(d->event, s);
        if (r == 0)
                r = open_slot(w);
        if (r == 0)
                r = open_link(w);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(w);
        return 0;
}

struct jobworker *jobworker_free(struct jobworker *w)
{
        if (!w)
                return NULL;
        if (has_work(w))
                refuse_job(w, ERROR_CODE_UNAVAILABLE, "the worker ends");
        job_calls_free(w->calls);
        job_tests_free(w->tests);
        rpc_link_free(w->link);
        if (w->slot)
                slot_free(w->slot);
        slot_host_free(w->host);
        documents_free(w->documents);
        parts_models_done(&w->http, &w->providers, &w->prices);
        loop_timer_done(&w->remake);
        loop_timer_done(&w->greet);
        loop_timer_done(&w->slot_wait);
        loop_task_done(&w->reset);
        free(w);
        return NULL;
}
