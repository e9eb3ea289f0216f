/* Speaks with the coordinator: greets, beats, takes its requests. */
#include "link.h"

#include "common/base/fault.h"
#include "common/io/log.h"

#define CALL_USEC (2 * USEC_PER_SEC)
#define GREET_AGAIN (500 * USEC_PER_MSEC)
#define BEAT_DEFAULT (2500 * USEC_PER_MSEC)
#define SILENCE_USEC (2500 * USEC_PER_MSEC) /* then another coordinator may have its place */

struct link {
        struct link_config c;
        char *worker_id, *endpoint, *limits;
        char instance[UUID_MAX];
        struct rpc_link *rpc;
        bool welcomed, greeting;
        uint64_t beat_usec, sent_at;
        char *told_session; /* of the greeting or beat under way */
        uint64_t told_epoch;
        bool beating, beat_again;
        struct loop_timer greet, beat;
        void (*released)(void *userdata);
};

static void note_told(struct link *l, const struct link_status *status)
{
        free(l->told_session);
        l->told_session = xstrdup(status->session_id);
        l->told_epoch = status->epoch;
        l->sent_at = now_monotonic();
}

static void beat_now(struct link *l);

static void on_welcome(void *userdata, int r, const void *reply)
{
        struct link *l = userdata;
        const struct worker_welcome *welcome = reply;

        l->greeting = false;
        if (r < 0) {
                const struct error_reply *e = reply;

                log_warning("the coordinator did not answer the greeting: %s",
                            r == -EREMOTEIO ? e->message : strerror(-r));
                loop_timer_arm(&l->greet, GREET_AGAIN);
                return;
        }
        log_info("greeted by the coordinator%s",
                 l->told_session ? welcome->keep ? ", keeping the session" : ", the session is gone"
                                 : "");
        l->welcomed = true;
        l->beat_usec =
                welcome->heartbeat_ms > 0 ? welcome->heartbeat_ms * USEC_PER_MSEC : BEAT_DEFAULT;
        if (l->told_session)
                l->c.on_lease(l->c.userdata, l->told_session, l->told_epoch, welcome->keep,
                              l->sent_at + welcome->lease_ttl_ms * USEC_PER_MSEC);
        beat_now(l);
}

static void greet(void *userdata)
{
        struct link *l = userdata;
        struct link_status status = { 0 };
        enum slot_kind kinds[SLOT_KIND_MAX];
        struct worker_hello hello;
        size_t n = 0;

        if (l->greeting || !rpc_peer_up(rpc_client_peer(l->rpc)))
                return;
        for (unsigned k = 0; k < SLOT_KIND_MAX; k++)
                if (l->c.kinds & (UINT32_C(1) << k))
                        kinds[n++] = (enum slot_kind) k;
        l->c.status(l->c.userdata, &status);
        hello = (struct worker_hello){
                .worker_id = l->worker_id,
                .instance = l->instance,
                .version = BERTH_VERSION,
                .kind = status.kind,
                .kinds = kinds,
                .n_kinds = n,
                .state = status.state,
                .endpoint = l->endpoint,
                .session_id = status.session_id,
                .epoch = status.epoch,
                .limits = span_of(l->limits),
        };
        note_told(l, &status);
        l->greeting = true;
        if (rpc_call(rpc_client_peer(l->rpc), &wire_worker_hello, &hello, CALL_USEC, on_welcome,
                     l) < 0) {
                l->greeting = false;
                loop_timer_arm(&l->greet, GREET_AGAIN);
        }
}

static void on_beaten(void *userdata, int r, const void *reply)
{
        struct link *l = userdata;
        const struct heartbeat_reply *answer = reply;
        const struct error_reply *e = reply;

        l->beating = false;
        if (r == -EREMOTEIO && e->code == ERROR_CODE_PRECONDITION_FAILED) {
                l->welcomed = false;
                greet(l);
                return;
        }
        if (r == 0)
                l->c.on_keep(l->c.userdata, answer->has_keep_kind ? &answer->keep_kind : NULL);
        if (r == 0 && l->told_session) {
                cleanup_free char *id = xstrdup(l->told_session);

                crash_point("worker.lease_renewal");
                l->c.on_lease(l->c.userdata, id, l->told_epoch, answer->keep,
                              l->sent_at + answer->lease_ms * USEC_PER_MSEC);
                if (answer->keep && answer->has_control)
                        l->c.on_control(l->c.userdata, id, l->told_epoch, answer->control,
                                        answer->control_person);
                if (answer->keep)
                        l->c.on_hold(l->c.userdata, id, l->told_epoch, answer->hold);
                if (answer->keep && answer->has_last_message_seq)
                        l->c.on_message(l->c.userdata, id, l->told_epoch, answer->last_message_seq,
                                        answer->has_session_state ? &answer->session_state : NULL,
                                        answer->budget);
        }
        if (l->beat_again)
                beat_now(l);
}

static void beat_now(struct link *l)
{
        struct link_status status = { 0 };
        struct worker_heartbeat beat;

        loop_timer_arm(&l->beat, l->beat_usec);
        if (!l->welcomed)
                return;
        l->beat_again = l->beating;
        if (l->beating)
                return;
        l->c.status(l->c.userdata, &status);
        beat = (struct worker_heartbeat){
                .worker_id = l->worker_id,
                .kind = status.kind,
                .state = status.state,
                .session_id = status.session_id,
                .epoch = status.epoch,
                .slot = status.slot,
                .load = status.load,
                .keeps = status.keeps,
                .has_keeps = true,
        };
        note_told(l, &status);
        TRACE_SCOPE(NULL); /* of no session's work */
        l->beating = rpc_call(rpc_client_peer(l->rpc), &wire_worker_heartbeat, &beat, CALL_USEC,
                              on_beaten, l) == 0;
}

static void on_beat(void *userdata)
{
        beat_now(userdata);
}

void link_beat(struct link *l)
{
        beat_now(l);
}

static void on_peer(void *userdata, struct rpc_peer *peer, enum rpc_peer_event what)
{
        struct link *l = userdata;

        l->welcomed = false;
        if (what == RPC_PEER_UP)
                greet(l);
        else
                log_warning("the coordinator is away");
}

static int on_assign(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                     const void *msg)
{
        struct link *l = userdata;
        const char *why = "the worker cannot take it";
        struct ok_reply ok = { 0 };
        int r = l->c.on_assign(l->c.userdata, msg, &why);

        if (r == -EBUSY)
                return rpc_reply_error(req, ERROR_CODE_CONFLICT, "%s", why);
        if (r == -EINVAL)
                return rpc_reply_error(req, ERROR_CODE_UNPROCESSABLE, "%s", why);
        if (r < 0)
                return rpc_reply_error(req, ERROR_CODE_UNAVAILABLE, "%s", why);
        return rpc_reply(req, &ok);
}

static int on_cancel(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                     const void *msg)
{
        struct link *l = userdata;
        struct ok_reply ok = { 0 };

        l->c.on_cancel(l->c.userdata, msg);
        return rpc_reply(req, &ok);
}

static int on_control(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                      const void *msg)
{
        struct link *l = userdata;
        const struct control_mode_set *m = msg;
        struct ok_reply ok = { 0 };

        l->c.on_control(l->c.userdata, m->session_id, m->epoch, m->mode, m->person);
        return rpc_reply(req, &ok);
}

static int on_notify(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                     const void *msg)
{
        struct link *l = userdata;
        const struct message_notify *m = msg;

        l->c.on_message(l->c.userdata, m->session_id, m->epoch, m->seq,
                        m->has_session_state ? &m->session_state : NULL, m->budget);
        return 0;
}

static int on_approval(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                       const void *msg)
{
        struct link *l = userdata;

        l->c.on_approval(l->c.userdata, msg);
        return 0;
}

static int on_drain(void *userdata, struct rpc_peer *peer, struct rpc_request *req, const void *msg)
{
        struct link *l = userdata;
        struct ok_reply ok = { 0 };

        l->c.on_drain(l->c.userdata);
        return rpc_reply(req, &ok);
}

static void on_released(void *userdata, int r, const void *reply)
{
        struct link *l = userdata;
        void (*done)(void *userdata) = TAKE_PTR(l->released);

        if (done)
                done(l->c.userdata);
}

void link_released(struct link *l, const char *session_id, uint64_t epoch,
                   void (*done)(void *userdata))
{
        struct worker_released m = { .worker_id = l->worker_id,
                                     .session_id = session_id,
                                     .epoch = epoch };

        l->released = done;
        if (rpc_call(rpc_client_peer(l->rpc), &wire_worker_released, &m, CALL_USEC, on_released,
                     l) < 0)
                on_released(l, -EAGAIN, NULL);
}

struct rpc_link *link_rpc(struct link *l)
{
        return l->rpc;
}

int link_new(const struct link_config *c, struct link **ret)
{
        static const struct rpc_route routes[] = {
                { &wire_session_assign, on_assign }, { &wire_session_cancel, on_cancel },
                { &wire_message_notify, on_notify }, { &wire_control_mode_set, on_control },
                { &wire_worker_drain, on_drain },    { &wire_approval_notify, on_approval },
        };
        CLEANUP(link_freep) struct link *l = xnew(struct link);
        cleanup_free char *endpoint = xasprintf("ipc://%s", c->socket);
        int r;

        l->c = *c;
        l->worker_id = xstrdup(c->worker_id);
        l->endpoint = xstrdup(c->endpoint);
        l->limits = xstrdup(c->limits);
        l->beat_usec = BEAT_DEFAULT;
        uuid_make(l->instance);
        r = loop_timer_init(&l->greet, c->event, greet, l);
        if (r == 0)
                r = loop_timer_init(&l->beat, c->event, on_beat, l);
        if (r == 0)
                r = rpc_client_new(&(struct rpc_config){ .event = c->event,
                                                         .silence_usec = SILENCE_USEC,
                                                         .zmq = c->zmq,
                                                         .endpoint = endpoint,
                                                         .routes = routes,
                                                         .n_routes = ARRAY_LEN(routes),
                                                         .on_peer = on_peer,
                                                         .userdata = l },
                                   &l->rpc);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(l);
        return 0;
}

struct link *link_free(struct link *l)
{
        if (!l)
                return NULL;
        rpc_link_free(l->rpc);
        loop_timer_done(&l->greet);
        loop_timer_done(&l->beat);
        free(l->told_session);
        free(l->worker_id);
        free(l->endpoint);
        free(l->limits);
        free(l);
        return NULL;
}
