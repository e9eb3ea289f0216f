/* A link's sockets: opening, receiving, and finding the one who handles what came. */
#include "log.h"
#include "rpc-private.h"

#define BATCH 256 /* messages handled before other sources of the loop get their turn */

static const struct rpc_route *find_route(const struct rpc_link *l, const struct wire_msg *type)
{
        for (size_t i = 0; i < l->n_routes; i++)
                if (l->routes[i].type == type)
                        return &l->routes[i];
        return NULL;
}

static bool is_greeting(const struct wire_msg *type)
{
        return type == &wire_ping || type == &wire_pong || type == &wire_link_reset;
}

/* Returns what was wrong, or NULL. p is NULL for a connection that has not greeted. */
static const char *handle(struct rpc_link *l, struct rpc_peer *p, struct span id, struct span frame)
{
        struct wire_envelope e;
        int r = wire_open(frame, &e);
        if (r < 0)
                return r == -EPROTO ? "speaks another version" : "not a frame";
        const struct wire_msg *type = wire_msg_by_id(e.id);
        if (!type || frame.len > type->frame_max + WIRE_CONTEXT_FRAME)
                return !type ? "unknown message" : "frame over the limit";
        void *msg = NULL;
        if (is_greeting(type)) {
                if (wire_unpack(type, e.body, l->arena, &msg) < 0)
                        return "wrong greeting";
                rpc_peer_greeting(l, p, id, msg, type);
                return NULL;
        }
        if (!p || !p->up) {
                /* It believes we know it. */
                if (l->is_server)
                        rpc_peer_reset(l, id);
                return NULL;
        }
        if (e.flags & WIRE_REPLY) {
                rpc_reply_dispatch(p, &e, type);
                return NULL;
        }
        const struct rpc_route *route = find_route(l, type);
        if (!route)
                return "message not allowed here";
        if (!!(e.flags & WIRE_REQUEST) != !!type->reply)
                return "request without wanting a reply, or the reverse";
        r = wire_unpack(type, e.body, l->arena, &msg);
        if (r < 0)
                return r == -ENOMEM ? "no memory" : "a field is wrong";
        rpc_request_dispatch(p, route, &e, msg);
        return NULL;
}

static void receive(struct rpc_link *l, struct span id, struct span frame)
{
        struct rpc_peer *p = rpc_peer_find(l, id);
        if (p)
                p->heard = now_monotonic();
        if (!l->reopen && id.len <= RPC_ID_MAX) {
                const char *why = handle(l, p, id, frame);
                if (why && p && p->up)
                        rpc_peer_end(p, why);
                else if (why)
                        log_debug("%s: %s, not greeted", l->endpoint, why);
        }
        wire_arena_reset(l->arena);
}

static struct span msg_span(zmq_msg_t *m)
{
        return (struct span){ zmq_msg_data(m), zmq_msg_size(m) };
}

/* One whole message; false when there is none. More parts than there should be are nobody's. */
static bool receive_one(struct rpc_link *l)
{
        cleanup_zmq_msg zmq_msg_t id, frame;
        zmq_msg_init(&id);
        zmq_msg_init(&frame);
        bool good = true;
        if (l->is_server) {
                if (zsock_recv(&l->z, &id) < 0)
                        return false;
                good = zmq_msg_more(&id) && zsock_recv(&l->z, &frame) == 0;
        } else if (zsock_recv(&l->z, &frame) < 0)
                return false;
        for (bool more = good && zmq_msg_more(&frame); more;) {
                cleanup_zmq_msg zmq_msg_t rest;
                zmq_msg_init(&rest);
                good = false;
                more = zsock_recv(&l->z, &rest) == 0 && zmq_msg_more(&rest);
        }
        /* A frame of several parts is no frame: the empty one says so in one place. */
        receive(l, msg_span(&id), good ? msg_span(&frame) : (struct span){ "", 0 });
        return true;
}

void rpc_link_drain(struct rpc_link *l)
{
        for (int i = 0; i < BATCH && !l->closed && l->z.sock; i++)
                if (!receive_one(l))
                        return;
}

static void on_readable(void *userdata)
{
        rpc_link_drain(userdata);
}

/* Event number and value in the first part, the address in the second. */
static void on_monitor(void *userdata)
{
        struct rpc_link *l = userdata;
        bool connected = false, disconnected = false;
        for (int i = 0; i < BATCH; i++) {
                cleanup_zmq_msg zmq_msg_t event, address;
                zmq_msg_init(&event);
                zmq_msg_init(&address);
                if (zsock_recv(&l->monitor, &event) < 0)
                        break;
                uint16_t what = 0;
                if (zmq_msg_size(&event) >= sizeof(what))
                        memcpy(&what, zmq_msg_data(&event), sizeof(what));
                if (zmq_msg_more(&event))
                        (void) !zsock_recv(&l->monitor, &address);
                connected = what == ZMQ_EVENT_HANDSHAKE_SUCCEEDED ||
                            (connected && what != ZMQ_EVENT_DISCONNECTED);
                disconnected |= what == ZMQ_EVENT_DISCONNECTED;
        }
        if (disconnected)
                rpc_peer_disconnected(l);
        if (connected && !l->closed)
                rpc_peer_connected(l);
}

static void link_close(struct rpc_link *l)
{
        if (l->monitor.sock)
                (void) zmq_socket_monitor(l->z.sock, NULL, 0);
        zsock_close(&l->monitor);
        zsock_close(&l->z);
}

static int open_monitor(struct rpc_link *l)
{
        char uuid[UUID_MAX];
        uuid_make(uuid);
        cleanup_free char *name = xasprintf("inproc://monitor-%s", uuid);
        if (zmq_socket_monitor(l->z.sock, name,
                               ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED) < 0)
                return -errno;
        int r = zsock_open(&l->monitor, l->zmq, ZMQ_PAIR, 1000, -1);
        if (r == 0 && zmq_connect(l->monitor.sock, name) < 0)
                r = -errno;
        return r < 0 ? r : zsock_watch(&l->monitor, l->event, on_monitor, l);
}

int rpc_link_open(struct rpc_link *l)
{
        link_close(l);
        int r = zsock_open(&l->z, l->zmq, l->is_server ? ZMQ_ROUTER : ZMQ_DEALER, l->queue_max,
                           WIRE_FRAME_MAX);
        if (r == 0)
                r = zsock_set(&l->z, l->is_server ? ZMQ_ROUTER_MANDATORY : ZMQ_IMMEDIATE, 1);
        if (r == 0)
                r = open_monitor(l);
        if (r == 0)
                r = zsock_watch(&l->z, l->event, on_readable, l);
        if (r == 0 && !l->is_server)
                r = zsock_connect(&l->z, l->endpoint);
        l->reopen = r < 0; /* a client tries again with the next tick */
        l->greeted = false;
        return r;
}

static void destroy(void *p)
{
        struct rpc_link *l = p;
        wire_arena_free(l->arena);
        buf_done(&l->out);
        map_free(l->by_id);
        rpc_peer_free(l->server);
        free(l->endpoint);
        sd_event_unref(l->event);
        free(l);
}

static int link_new(const struct rpc_config *c, bool is_server, struct rpc_link **ret)
{
        CLEANUP(rpc_link_freep) struct rpc_link *l = xnew(struct rpc_link);
        *l = (struct rpc_link){
                .event = sd_event_ref(c->event),
                .zmq = c->zmq,
                .endpoint = xstrdup(c->endpoint),
                .is_server = is_server,
                .routes = c->routes,
                .n_routes = c->n_routes,
                .on_peer = c->on_peer,
                .userdata = c->userdata,
                .silence_usec = c->silence_usec ? c->silence_usec : 5 * USEC_PER_SEC,
                .queue_max = c->queue_max ? c->queue_max : 10000,
                .otlp = c->otlp,
                .arena = wire_arena_new(),
        };
        list_init(&l->peers);
        uuid_make(l->instance);
        const char *name = program_invocation_short_name;
        bool sendable = strlen(name) < RPC_NAME_MAX && utf8_valid(name, strlen(name));
        (void) snprintf(l->process, sizeof(l->process), "%s", sendable ? name : "?");
        if (is_server)
                l->by_id = map_new();
        else
                l->server = rpc_peer_new(l, (struct span){ NULL, 0 });
        int r = calls_new(l->event, c->calls_max ? c->calls_max : 10000, rpc_call_expired, l,
                          &l->calls);
        if (r == 0)
                r = loop_timer_init(&l->tick, l->event, rpc_peer_tick, l);
        if (r == 0)
                r = loop_task_init(&l->reap, l->event, rpc_peer_reap, l);
        if (r == 0)
                r = rpc_link_open(l);
        if (r == 0 && is_server)
                r = zsock_bind(&l->z, l->endpoint, c->mode ? c->mode : 0600);
        if (r < 0)
                return r;
        l->tick_due = now_monotonic() + 20 * USEC_PER_MSEC;
        loop_timer_arm(&l->tick, 20 * USEC_PER_MSEC);
        *ret = TAKE_PTR(l);
        return 0;
}

int rpc_server_new(const struct rpc_config *c, struct rpc_link **ret)
{
        return link_new(c, true, ret);
}

int rpc_client_new(const struct rpc_config *c, struct rpc_link **ret)
{
        return link_new(c, false, ret);
}

struct rpc_link *rpc_link_free(struct rpc_link *l)
{
        if (!l || l->closed)
                return NULL;
        l->closed = true;
        if (l->server)
                rpc_peer_close(l->server, -ECANCELED, false);
        while (!list_empty(&l->peers))
                rpc_peer_close(list_first(&l->peers, struct rpc_peer, link), -ECANCELED, false);
        l->calls = calls_free(l->calls);
        loop_timer_done(&l->tick);
        loop_task_done(&l->reap);
        link_close(l);
        loop_defer_free(l->event, l, destroy);
        return NULL;
}
