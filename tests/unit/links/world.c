/* A server and a client of one link, their handlers, and counters of all that happens. */
#include "world.h"

static void on_server_peer(void *userdata, struct rpc_peer *p, enum rpc_peer_event what)
{
        struct world *w = userdata;
        if (what == RPC_PEER_UP) {
                w->peer = p;
                w->server_up++;
                rpc_peer_set_userdata(p, w);
        } else {
                assert_ptr_equal(rpc_peer_userdata(p), w);
                assert_false(rpc_peer_up(p));
                w->server_gone++;
                if (w->peer == p)
                        w->peer = NULL;
        }
}

static void on_client_peer(void *userdata, struct rpc_peer *p, enum rpc_peer_event what)
{
        struct world *w = userdata;
        if (what == RPC_PEER_UP)
                w->client_up++;
        else
                w->client_gone++;
}

/* session_stop: the session id says what the handler does. */
static int handle_stop(void *userdata, struct rpc_peer *p, struct rpc_request *req, const void *msg)
{
        struct world *w = userdata;
        const struct session_stop *m = msg;
        w->requests++;
        if (w->free_server_in_handler)
                w->server = rpc_link_free(w->server);
        if (w->end_peer_in_handler)
                rpc_peer_end(p, "the test says so");
        if (streq(m->session_id, "hold")) {
                w->held[w->n_held++] = req;
                return 0;
        }
        if (streq(m->session_id, "error"))
                return rpc_reply_error(req, ERROR_CODE_CONFLICT, "no: %s", m->tenant);
        if (streq(m->session_id, "errno"))
                return -ENOENT;
        if (streq(m->session_id, "long")) {
                char text[2000];
                memset(text, 'x', sizeof(text) - 1);
                text[sizeof(text) - 1] = '\0';
                memcpy(text + 498, "\xe2\x82\xac\xe2\x82\xac", 6);
                return rpc_reply_error(req, ERROR_CODE_INTERNAL, "%s", text);
        }
        return rpc_reply(req, &(struct ok_reply){ 0 });
}

static int handle_history(void *userdata, struct rpc_peer *p, struct rpc_request *req,
                          const void *msg)
{
        const struct history_get *m = msg;
        size_t n = m->limit;
        size_t len = m->after_seq;
        cleanup_free char *text = xmalloc(len + 1);
        memset(text, 'e', len);
        struct span events[8] = { { NULL, 0 } };
        for (size_t i = 0; i < MIN(n, ARRAY_LEN(events)); i++)
                events[i] = (struct span){ text, len };
        return rpc_reply(req, &(struct history_page){ .events = events, .n_events = n });
}

static int handle_note(void *userdata, struct rpc_peer *p, struct rpc_request *req, const void *msg)
{
        struct world *w = userdata;
        assert_null(req);
        w->notes++;
        return 0;
}

static const struct rpc_route server_routes[] = {
        { &wire_session_stop, handle_stop },
        { &wire_history_get, handle_history },
        { &wire_event_live, handle_note },
};
static const struct rpc_route client_routes[] = {
        { &wire_session_cancel,
          handle_stop }, /* same first fields are not needed: never dispatched */
        { &wire_message_notify, handle_note },
        { &wire_session_stop, handle_stop },
};

struct rpc_link *new_server(struct world *w)
{
        struct rpc_link *l = NULL;
        struct rpc_config c = {
                .event = w->f->event,
                .zmq = w->f->zmq,
                .endpoint = w->f->endpoint,
                .routes = server_routes,
                .n_routes = ARRAY_LEN(server_routes),
                .on_peer = on_server_peer,
                .userdata = w,
                .silence_usec = SILENCE,
                .queue_max = w->server_queue_max,
        };
        /* ZeroMQ takes an earlier one down in its own thread: until then the address is in use. */
        int r;
        run_until(w->f, (r = rpc_server_new(&c, &l)) != -EADDRINUSE);
        assert_int_equal(r, 0);
        return l;
}

struct rpc_link *new_client(struct world *w, size_t queue_max, size_t calls_max)
{
        struct rpc_link *l = NULL;
        struct rpc_config c = {
                .event = w->f->event,
                .zmq = w->f->zmq,
                .endpoint = w->f->endpoint,
                .routes = client_routes,
                .n_routes = ARRAY_LEN(client_routes),
                .on_peer = on_client_peer,
                .userdata = w,
                .silence_usec = SILENCE,
                .queue_max = queue_max,
                .calls_max = calls_max,
        };
        assert_int_equal(rpc_client_new(&c, &l), 0);
        return l;
}

void connect_both(struct world *w, struct fixture *f)
{
        *w = (struct world){ .f = f };
        w->server = new_server(w);
        w->client = new_client(w, 0, 0);
        run_until(f, w->client_up == 1 && w->server_up == 1);
}

void disconnect_both(struct world *w)
{
        rpc_link_free(w->client);
        rpc_link_free(w->server);
}

void on_reply(void *userdata, int r, const void *reply)
{
        struct world *w = userdata;
        w->ended++;
        w->last_r = r;
        if (r == 0)
                w->ok++;
        else
                w->failed++;
        if (r == -EREMOTEIO) {
                const struct error_reply *e = reply;
                w->code = e->code;
                (void) snprintf(w->message, sizeof(w->message), "%s", e->message);
        } else if (r < 0)
                assert_null(reply);
        else
                assert_non_null(reply);
}

int stop(struct world *w, const char *id, uint64_t timeout)
{
        struct session_stop m = { .tenant = "default", .session_id = id };
        return rpc_call(rpc_client_peer(w->client), &wire_session_stop, &m, timeout, on_reply, w);
}
