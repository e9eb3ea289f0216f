/* Who is at the other end of a link: greetings, keep-alive, and the one function that ends a peer.
 */
#include "log.h"
#include "rpc-private.h"

struct rpc_peer *rpc_peer_new(struct rpc_link *l, struct span id)
{
        struct rpc_peer *p = xnew(struct rpc_peer);
        p->l = l;
        p->budget = zsock_budget_new();
        p->heard = now_monotonic();
        list_init(&p->requests);
        list_init(&p->link);
        memcpy(p->id, id.data ? id.data : "", id.len);
        p->id_len = id.len;
        if (l->is_server) {
                char key[2 * RPC_ID_MAX + 1];
                hex_encode(p->id, p->id_len, key);
                list_push_back(&l->peers, &p->link);
                (void) map_set(l->by_id, key, p);
        }
        return p;
}

void rpc_peer_free(void *userdata)
{
        struct rpc_peer *p = userdata;
        if (p)
                zsock_budget_unref(p->budget);
        free(p);
}

struct rpc_peer *rpc_peer_find(struct rpc_link *l, struct span id)
{
        char key[2 * RPC_ID_MAX + 1];
        if (!l->is_server)
                return l->server;
        if (id.len > RPC_ID_MAX)
                return NULL;
        hex_encode(id.data, id.len, key);
        return map_get(l->by_id, key);
}

/* The peer is not up any more when callbacks run, so that none of them can start something with it.
 */
void rpc_peer_close(struct rpc_peer *p, int r, bool tell)
{
        struct rpc_link *l = p->l;
        bool was_up = p->up;
        p->up = false;
        p->lost = false;
        if (l->is_server) {
                char key[2 * RPC_ID_MAX + 1];
                hex_encode(p->id, p->id_len, key);
                (void) map_remove(l->by_id, key);
                list_remove(&p->link);
        }
        struct rpc_request *req;
        list_foreach (req, &p->requests, link)
                req->peer = NULL;
        list_init(&p->requests);
        p->n_requests = 0;

        struct calls *calls = l->calls;
        struct call c;
        for (size_t i = 0; calls && l->calls == calls && calls_take_next(calls, p, &i, &c);)
                c.rpc(c.userdata, r, NULL);
        if (tell && was_up && !l->closed && l->on_peer)
                l->on_peer(l->userdata, p, RPC_PEER_GONE);
        if (l->is_server)
                loop_defer_free(l->event, p, rpc_peer_free);
}

void rpc_peer_end(struct rpc_peer *p, const char *why)
{
        struct rpc_link *l = p->l;
        if (l->closed || (l->is_server && rpc_peer_find(l, (struct span){ p->id, p->id_len }) != p))
                return;
        log_debug("%s: peer %s ends: %s", l->endpoint, p->process, why);
        if (l->is_server)
                rpc_peer_reset(l, (struct span){ p->id, p->id_len });
        else {
                l->reopen = true;
                loop_task_queue(&l->reap);
        }
        rpc_peer_close(p, -ECONNRESET, true);
}

void rpc_peer_reset(struct rpc_link *l, struct span id)
{
        int r = rpc_transmit(l, id, NULL, &wire_link_reset, NULL, 0, NULL);
        if (r < 0)
                log_debug("%s: no reset sent: %s", l->endpoint, strerrordesc_np(-r));
}

static void arm_tick_in(struct rpc_link *l, uint64_t usec)
{
        l->tick_due = now_monotonic() + usec;
        loop_timer_arm(&l->tick, usec);
}

static void arm_tick(struct rpc_link *l)
{
        uint64_t interval = MAX(l->silence_usec / 3, USEC_PER_MSEC);
        if (!l->is_server && !l->server->up && !l->greeted)
                interval = MIN(interval, 100 * USEC_PER_MSEC);
        arm_tick_in(l, interval);
}

static int say(struct rpc_link *l, struct rpc_peer *p, const struct wire_msg *type)
{
        /* ping and pong have the same fields. */
        struct ping m = { .process = l->process, .instance = l->instance };
        int r = rpc_peer_transmit(p, type, &m, 0, NULL);
        if (r < 0 && r != -EAGAIN && r != -ENOTCONN)
                log_debug("%s: %s: %s", l->endpoint, type->body.name, strerrordesc_np(-r));
        return r;
}

static void remember(struct rpc_peer *p, const struct ping *m)
{
        (void) snprintf(p->process, sizeof(p->process), "%s", m->process);
        (void) snprintf(p->instance, sizeof(p->instance), "%s", m->instance);
}

static void up(struct rpc_link *l, struct rpc_peer *p)
{
        p->up = true;
        log_debug("%s: peer %s is up", l->endpoint, p->process);
        if (l->on_peer)
                l->on_peer(l->userdata, p, RPC_PEER_UP);
}

static void server_greeting(struct rpc_link *l, struct rpc_peer *p, struct span id,
                            const struct ping *m, bool is_ping)
{
        if (p && !streq(p->instance, m->instance)) {
                rpc_peer_close(p, -ECONNRESET, true);
                if (l->closed)
                        return;
                p = NULL;
        }
        if (p) {
                if (is_ping)
                        (void) say(l, p, &wire_pong);
                return;
        }
        if (!is_ping || map_count(l->by_id) >= RPC_PEERS_MAX)
                return;
        p = rpc_peer_new(l, id);
        remember(p, m);
        if (say(l, p, &wire_pong) < 0)
                rpc_peer_close(p, -ECONNRESET, false);
        else
                up(l, p);
}

static void client_greeting(struct rpc_link *l, struct rpc_peer *p, const struct ping *m,
                            bool is_ping)
{
        if (p->up && !streq(p->instance, m->instance)) {
                /* It was restarted: what it was asked before may or may not have happened. */
                rpc_peer_close(p, -ECONNRESET, true);
                if (l->closed || l->reopen)
                        return;
        }
        remember(p, m);
        if (is_ping)
                (void) say(l, p, &wire_pong);
        else if (!p->up)
                up(l, p);
}

void rpc_peer_greeting(struct rpc_link *l, struct rpc_peer *p, struct span id, const void *msg,
                       const struct wire_msg *type)
{
        if (type == &wire_link_reset) {
                if (l->is_server || !p->up)
                        return;
                log_debug("%s: the server has forgotten us", l->endpoint);
                l->greeted = false; /* the next tick greets, not at once: no ping-pong of resets */
                rpc_peer_close(p, -ECONNRESET, true);
                if (!l->closed)
                        arm_tick_in(l, 20 * USEC_PER_MSEC);
        } else if (l->is_server)
                server_greeting(l, p, id, msg, type == &wire_ping);
        else
                client_greeting(l, p, msg, type == &wire_ping);
}

/* --- connections -------------------------------------------------------------------------------
 */

static void greet(struct rpc_link *l)
{
        if (say(l, l->server, &wire_ping) == 0)
                l->greeted = true;
}

void rpc_peer_connected(struct rpc_link *l)
{
        if (!l->is_server && !l->reopen && !l->server->up) {
                greet(l);
                arm_tick(l);
        }
}

/* Ends the peers that were found lost, one after the other: each callback may end others. */
static void end_lost(struct rpc_link *l)
{
        for (bool found = true; found && !l->closed;) {
                struct rpc_peer *p;
                found = false;
                list_foreach (p, &l->peers, link)
                        if (p->lost) {
                                found = true;
                                log_debug("%s: peer %s is gone", l->endpoint, p->process);
                                rpc_peer_close(p, -ECONNRESET, true);
                                break;
                        }
        }
}

void rpc_peer_reap(void *userdata)
{
        struct rpc_link *l = userdata;
        end_lost(l);
        if (l->closed || l->is_server)
                return;
        if (l->server->lost) {
                l->reopen = true;
                rpc_peer_close(l->server, -ECONNRESET, true);
        }
        if (l->closed || !l->reopen)
                return;
        int r = rpc_link_open(l);
        if (r < 0)
                log_debug("%s: cannot connect: %s", l->endpoint, strerrordesc_np(-r));
        arm_tick(l);
}

/* ROUTER does not say whose connection went; sending finds out. */
void rpc_peer_disconnected(struct rpc_link *l)
{
        rpc_link_drain(l); /* what was said before the end still counts */
        if (l->closed)
                return;
        if (l->is_server) {
                struct rpc_peer *p;
                list_foreach (p, &l->peers, link)
                        (void) say(l, p, &wire_ping);
                end_lost(l);
                /* ZeroMQ tells of it before it has taken the connection down: look again soon. */
                if (!l->closed)
                        arm_tick_in(l, 5 * USEC_PER_MSEC);
                return;
        }
        l->greeted = false;
        if (l->server->up)
                rpc_peer_close(l->server, -ECONNRESET, true);
        if (!l->closed)
                arm_tick(l);
}

static void server_tick(struct rpc_link *l, uint64_t now)
{
        struct rpc_peer *p;
        list_foreach (p, &l->peers, link)
                if (now - MIN(now, p->heard) > l->silence_usec)
                        p->lost = true;
                else
                        (void) say(l, p, &wire_ping);
        end_lost(l);
}

static void client_tick(struct rpc_link *l, uint64_t now)
{
        struct rpc_peer *p = l->server;
        if (p->up && now - MIN(now, p->heard) > l->silence_usec)
                rpc_peer_end(p, "silent");
        else if (!l->reopen)
                greet(l);
        else
                loop_task_queue(&l->reap);
}

void rpc_peer_tick(void *userdata)
{
        struct rpc_link *l = userdata;
        uint64_t due = l->tick_due;
        rpc_link_drain(l);
        if (l->closed)
                return;
        uint64_t now = now_monotonic();
        if (now > due + l->silence_usec / 3) {
                /* We were the ones who slept: nobody can be blamed for silence. */
                struct rpc_peer *p;
                list_foreach (p, &l->peers, link)
                        p->heard = now;
                if (!l->is_server)
                        l->server->heard = now;
        }
        if (l->is_server)
                server_tick(l, now);
        else
                client_tick(l, now);
        if (!l->closed)
                arm_tick(l);
}

/* --- for the owner -----------------------------------------------------------------------------
 */

struct rpc_peer *rpc_client_peer(struct rpc_link *l)
{
        return l->server;
}

bool rpc_peer_up(const struct rpc_peer *p)
{
        return p->up && !p->lost;
}

void rpc_peer_set_userdata(struct rpc_peer *p, void *userdata)
{
        p->userdata = userdata;
}

void *rpc_peer_userdata(const struct rpc_peer *p)
{
        return p->userdata;
}

const char *rpc_peer_process(const struct rpc_peer *p)
{
        return p->process;
}
