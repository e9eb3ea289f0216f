/* Keeps the table of workers that serve jobs and sends each job to one that has room. */
#include "runners.h"

#include "common/io/log.h"
#include "exports.h"
#include "reading.h"
#include "vectors.h"

#define RUNNERS_MAX 64u

struct runner {
        struct list link;
        struct rpc_peer *peer;
        char *id;
        bool embeddings;
        unsigned slots, calls, slots_busy, calls_busy;
};

struct runners {
        struct docserver *server;
        struct list list, waiting, under_way;
        bool ended;
        struct loop_task wake;
        unsigned n;
};

struct runner_call {
        struct list link;
        struct runners *runners;
        struct runner *runner;
        enum runner_need need;
        rpc_reply_fn fn;
        void *userdata;
};

static unsigned *busy_of(struct runner *u, enum runner_need need)
{
        return need == RUNNER_SLOT ? &u->slots_busy : &u->calls_busy;
}

static bool has_room(const struct runner *u, enum runner_need need)
{
        if (need == RUNNER_SLOT)
                return u->slots_busy < u->slots;
        return u->calls_busy < u->calls && (need != RUNNER_EMBED || u->embeddings);
}

/* The one with the most room, so that work spreads. */
static struct runner *find_room(struct runners *r, enum runner_need need)
{
        struct runner *u, *best = NULL;

        list_foreach (u, &r->list, link)
                if (has_room(u, need) && (!best || *busy_of(u, need) < *busy_of(best, need)))
                        best = u;
        return best;
}

/* ---- waiting for room ---- */

static void on_wake(void *userdata)
{
        struct runners *r = userdata;
        bool went = true;

        while (went) {
                struct runner_wait *w, *next;

                went = false;
                list_foreach_safe (w, next, &r->waiting, link)
                        if (find_room(r, w->need)) {
                                list_remove(&w->link);
                                w->go(w);
                                went = true;
                                break; /* it may have changed the list */
                        }
        }
        exports_poke(r->server->exports); /* one at a time, so that it is not starved */
        reading_poke(r->server->reading);
        vectors_poke(r->server->vectors);
}

void runners_wait(struct runners *r, struct runner_wait *w)
{
        list_push_back(&r->waiting, &w->link);
        if (!r->ended && find_room(r, w->need))
                loop_task_queue(&r->wake);
}

void runner_wait_forget(struct runner_wait *w)
{
        list_remove(&w->link);
}

/* ---- jobs ---- */

static void on_reply(void *userdata, int r, const void *reply)
{
        struct runner_call *c = userdata;

        list_remove(&c->link);
        (*busy_of(c->runner, c->need))--;
        if (!c->runners->ended)
                loop_task_queue(&c->runners->wake);
        c->fn(c->userdata, r, reply);
        free(c);
}

int runners_call(struct runners *r, enum runner_need need, const struct wire_msg *type,
                 const void *msg, uint64_t timeout_usec, rpc_reply_fn fn, void *userdata)
{
        struct runner *u = find_room(r, need);

        if (r->ended)
                return -ECANCELED;
        if (!u) {
                list_foreach (u, &r->list, link)
                        if ((need == RUNNER_SLOT ? u->slots : u->calls) > 0 &&
                            (need != RUNNER_EMBED || u->embeddings))
                                return -EAGAIN;
                return -ENODEV;
        }
        struct runner_call *c = xnew(struct runner_call);
        *c = (struct runner_call){
                .runners = r, .runner = u, .need = need, .fn = fn, .userdata = userdata
        };
        int q = rpc_call(u->peer, type, msg, timeout_usec, on_reply, c);
        if (q < 0) {
                free(c);
                return q;
        }
        list_push_back(&r->under_way, &c->link);
        (*busy_of(u, need))++;
        return 0;
}

void runners_cancel(struct runners *r, const void *userdata, const char *job_id)
{
        struct runner_call *c;

        list_foreach (c, &r->under_way, link)
                if (c->userdata == userdata &&
                    rpc_send(c->runner->peer, &wire_job_cancel,
                             &(struct job_cancel){ .job_id = job_id }) < 0)
                        log_debug("Worker %s is not told that a job is not wanted any more",
                                  c->runner->id);
}

const char *runner_failure(int r, const void *reply)
{
        switch (r) {
        case -EREMOTEIO:
                return ((const struct error_reply *) reply)->message;
        case -ETIMEDOUT:
                return "the worker did not answer in time";
        case -ECONNRESET:
                return "the worker was lost";
        case -ENODEV:
                return "no worker serves jobs; start one (berth-workerd@65)";
        case -EMSGSIZE:
                return "the job is too large";
        default:
                return "the workers are busy";
        }
}

/* ---- workers come and go ---- */

static void runner_free(struct runner *u)
{
        rpc_peer_set_userdata(u->peer, NULL);
        list_remove(&u->link);
        free(u->id);
        free(u);
}

int route_job_hello(void *userdata, struct rpc_peer *peer, struct rpc_request *req, const void *msg)
{
        struct docserver *d = userdata;
        struct runners *r = d->runners;
        const struct job_hello *m = msg;
        struct runner *u = rpc_peer_userdata(peer);

        if (!u) {
                if (r->n >= RUNNERS_MAX)
                        return rpc_reply_error(req, ERROR_CODE_UNAVAILABLE,
                                               "too many workers serve jobs");
                u = xnew(struct runner);
                u->peer = peer;
                rpc_peer_set_userdata(peer, u);
                list_push_back(&r->list, &u->link);
                r->n++;
        }
        free(u->id);
        u->id = xstrdup(m->worker_id);
        u->slots = MIN(m->slots, 64U);
        u->calls = MIN(m->calls, 256U);
        u->embeddings = m->embeddings;
        log_info("Worker %s serves jobs: %u slots, %u calls%s", u->id, u->slots, u->calls,
                 u->embeddings ? ", embeddings" : "");
        loop_task_queue(&r->wake);
        return rpc_reply(req, &(struct ok_reply){ 0 });
}

void runners_on_peer(void *userdata, struct rpc_peer *peer, enum rpc_peer_event what)
{
        struct docserver *d = userdata;
        struct runner *u = rpc_peer_userdata(peer);

        if (what != RPC_PEER_GONE || !u || !d->runners)
                return;
        log_info("Worker %s serves no more jobs", u->id);
        runner_free(u);
        d->runners->n--;
}

void runners_load(const struct runners *r, struct runners_load *ret)
{
        struct runner *u;

        *ret = (struct runners_load){ .workers = r->n };
        list_foreach (u, &r->list, link) {
                ret->slots += u->slots;
                ret->slots_busy += u->slots_busy;
                ret->calls += u->calls;
                ret->calls_busy += u->calls_busy;
                ret->embeddings = ret->embeddings || u->embeddings;
        }
}

void runners_end(struct runners *r)
{
        if (!r)
                return;
        r->ended = true;
        while (!list_empty(&r->under_way)) {
                struct runner_call *c = list_first(&r->under_way, struct runner_call, link);

                rpc_cancel(r->server->link, c);
                on_reply(c, -ECANCELED, NULL);
        }
        loop_task_done(&r->wake);
        r->wake = (struct loop_task){ 0 };
}

struct runners *runners_new(struct docserver *d)
{
        struct runners *r = xnew(struct runners);

        r->server = d;
        list_init(&r->list);
        list_init(&r->waiting);
        list_init(&r->under_way);
        if (loop_task_init(&r->wake, d->event, on_wake, r) < 0) {
                free(r);
                return NULL;
        }
        return r;
}

struct runners *runners_free(struct runners *r)
{
        struct runner *u, *next;

        if (!r)
                return NULL;
        list_foreach_safe (u, next, &r->list, link) {
                list_remove(&u->link);
                free(u->id);
                free(u);
        }
        loop_task_done(&r->wake);
        free(r);
        return NULL;
}
