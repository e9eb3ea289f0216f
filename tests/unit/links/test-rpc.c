/* Links between processes: calls, replies, errors, deadlines, restarts, full queues, hostile
 * frames. */
#include "fixture.h"

#include <sys/stat.h>
#include <unistd.h>

#define SILENCE (300 * USEC_PER_MSEC)

/* Both ends of a link, and what happened to them. */
struct world {
        struct fixture *f;
        struct rpc_link *server, *client;
        struct rpc_peer *peer; /* the newest, seen from the server */
        int server_up, server_gone, client_up, client_gone;
        int requests, notes;
        struct rpc_request *held[8];
        size_t n_held;
        /* of the last call that ended */
        int ended, last_r, ok, failed;
        enum error_code code;
        char message[501];
        size_t n_events, event_len;
        bool free_server_in_handler, end_peer_in_handler;
};

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

static struct rpc_link *new_server(struct world *w)
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
        };
        assert_int_equal(rpc_server_new(&c, &l), 0);
        return l;
}

static struct rpc_link *new_client(struct world *w, size_t queue_max, size_t calls_max)
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

static void connect_both(struct world *w, struct fixture *f)
{
        *w = (struct world){ .f = f };
        w->server = new_server(w);
        w->client = new_client(w, 0, 0);
        run_until(f, w->client_up == 1 && w->server_up == 1);
}

static void disconnect_both(struct world *w)
{
        rpc_link_free(w->client);
        rpc_link_free(w->server);
}

static void on_reply(void *userdata, int r, const void *reply)
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

static int stop(struct world *w, const char *id, uint64_t timeout)
{
        struct session_stop m = { .tenant = "default", .session_id = id };
        return rpc_call(rpc_client_peer(w->client), &wire_session_stop, &m, timeout, on_reply, w);
}

/* --- the tests ---------------------------------------------------------------------------------
 */

static void test_call_and_reply(void **state)
{
        struct world w;
        connect_both(&w, *state);
        assert_int_equal(stop(&w, "s", USEC_PER_SEC), 0);
        assert_int_equal(w.ended, 0);
        run_until(w.f, w.ended == 1);
        assert_int_equal(w.last_r, 0);
        assert_int_equal(w.requests, 1);
        assert_string_not_equal(rpc_peer_process(rpc_client_peer(w.client)), "");
        disconnect_both(&w);
}

static void test_error_replies(void **state)
{
        struct world w;
        connect_both(&w, *state);
        assert_int_equal(stop(&w, "error", USEC_PER_SEC), 0);
        run_until(w.f, w.ended == 1);
        assert_int_equal(w.last_r, -EREMOTEIO);
        assert_int_equal(w.code, ERROR_CODE_CONFLICT);
        assert_string_equal(w.message, "no: default");
        assert_int_equal(stop(&w, "errno", USEC_PER_SEC), 0);
        run_until(w.f, w.ended == 2);
        assert_int_equal(w.last_r, -EREMOTEIO);
        assert_int_equal(w.code, ERROR_CODE_NOT_FOUND);
        assert_non_null(strstr(w.message, "session_stop"));
        /* Cut at the limit without cutting a character. */
        assert_int_equal(stop(&w, "long", USEC_PER_SEC), 0);
        run_until(w.f, w.ended == 3);
        assert_int_equal(w.last_r, -EREMOTEIO);
        assert_int_equal(strlen(w.message), 498);
        disconnect_both(&w);
}

static void test_request_from_the_server(void **state)
{
        struct world w;
        connect_both(&w, *state);
        struct session_stop m = { .tenant = "t", .session_id = "s" };
        assert_int_equal(rpc_call(w.peer, &wire_session_stop, &m, USEC_PER_SEC, on_reply, &w), 0);
        run_until(w.f, w.ended == 1);
        assert_int_equal(w.last_r, 0);
        struct message_notify n = { .session_id = "s", .epoch = 1, .seq = 2 };
        assert_int_equal(rpc_send(w.peer, &wire_message_notify, &n), 0);
        run_until(w.f, w.notes == 1);
        disconnect_both(&w);
}

static void test_timeouts_in_order(void **state)
{
        struct world w;
        connect_both(&w, *state);
        assert_int_equal(stop(&w, "hold", 30 * USEC_PER_MSEC), 0);
        assert_int_equal(stop(&w, "hold", 10 * USEC_PER_MSEC), 0);
        assert_int_equal(stop(&w, "hold", 60 * USEC_PER_SEC), 0);
        run_until(w.f, w.failed == 2);
        assert_int_equal(w.last_r, -ETIMEDOUT);
        run_until(w.f, w.n_held == 3);
        /* Late replies find nobody; the third is in time. */
        for (size_t i = 0; i < 3; i++)
                assert_int_equal(rpc_reply(w.held[i], NULL), 0);
        run_until(w.f, w.ok == 1);
        fixture_settle(w.f, 20 * USEC_PER_MSEC);
        assert_int_equal(w.ended, 3);
        assert_int_equal(w.client_gone, 0);
        disconnect_both(&w);
}

static void test_cancel(void **state)
{
        struct world w;
        connect_both(&w, *state);
        assert_int_equal(stop(&w, "hold", 20 * USEC_PER_MSEC), 0);
        assert_int_equal(stop(&w, "hold", 60 * USEC_PER_SEC), 0);
        rpc_cancel(w.client, &w);
        run_until(w.f, w.n_held == 2);
        for (size_t i = 0; i < 2; i++)
                assert_int_equal(rpc_reply(w.held[i], NULL), 0);
        fixture_settle(w.f, 50 * USEC_PER_MSEC);
        assert_int_equal(w.ended, 0);
        disconnect_both(&w);
}

static void test_free_ends_calls(void **state)
{
        struct world w;
        connect_both(&w, *state);
        assert_int_equal(stop(&w, "hold", 60 * USEC_PER_SEC), 0);
        run_until(w.f, w.n_held == 1);
        w.client = rpc_link_free(w.client);
        assert_int_equal(w.last_r, -ECANCELED);
        /* The peer is seen to be gone at once, and replying is still right. */
        run_until(w.f, w.server_gone == 1);
        assert_null(rpc_request_peer(w.held[0]));
        assert_int_equal(rpc_reply(w.held[0], NULL), -ENOTCONN);
        disconnect_both(&w);
}

static void test_peer_vanishes_at_once(void **state)
{
        struct world w;
        connect_both(&w, *state);
        struct session_stop m = { .tenant = "t", .session_id = "hold" };
        assert_int_equal(rpc_call(w.peer, &wire_session_stop, &m, 60 * USEC_PER_SEC, on_reply, &w),
                         0);
        run_until(w.f, w.n_held == 1);
        uint64_t start = now_monotonic();
        w.client = rpc_link_free(w.client);
        run_until(w.f, w.server_gone == 1);
        assert_true(now_monotonic() - start < SILENCE);
        assert_int_equal(w.last_r, -ECONNRESET);
        assert_int_equal(rpc_reply(w.held[0], NULL), -ENOTCONN);
        disconnect_both(&w);
}

static void test_server_restart(void **state)
{
        struct world w;
        connect_both(&w, *state);
        assert_int_equal(stop(&w, "hold", 60 * USEC_PER_SEC), 0);
        run_until(w.f, w.n_held == 1);
        w.server = rpc_link_free(w.server);
        assert_int_equal(rpc_reply(w.held[0], NULL), -ENOTCONN);
        run_until(w.f, w.ended == 1);
        assert_int_equal(w.last_r, -ECONNRESET);
        run_until(w.f, w.client_gone == 1);
        assert_int_equal(stop(&w, "s", USEC_PER_SEC), -ENOTCONN);
        w.server = new_server(&w);
        run_until(w.f, w.client_up == 2);
        assert_int_equal(stop(&w, "s", USEC_PER_SEC), 0);
        run_until(w.f, w.ok == 1);
        disconnect_both(&w);
}

static void test_client_first(void **state)
{
        struct world w = { .f = *state };
        w.client = new_client(&w, 0, 0);
        assert_int_equal(stop(&w, "s", USEC_PER_SEC), -ENOTCONN);
        fixture_settle(w.f, 30 * USEC_PER_MSEC);
        w.server = new_server(&w);
        run_until(w.f, w.client_up == 1);
        disconnect_both(&w);
}

static void test_calls_max(void **state)
{
        struct world w = { .f = *state };
        w.server = new_server(&w);
        w.client = new_client(&w, 0, 2);
        run_until(w.f, w.client_up == 1);
        assert_int_equal(stop(&w, "s", USEC_PER_SEC), 0);
        assert_int_equal(stop(&w, "s", USEC_PER_SEC), 0);
        assert_int_equal(stop(&w, "s", USEC_PER_SEC), -EAGAIN);
        run_until(w.f, w.ok == 2);
        assert_int_equal(stop(&w, "s", USEC_PER_SEC), 0);
        run_until(w.f, w.ok == 3);
        disconnect_both(&w);
}

/* Nobody drains the other end: the queues fill, and the sender is told. */
static void test_queue_full(void **state)
{
        struct world w = { .f = *state };
        struct event_live m = { .session_id = "s", .json = { "{}", 2 } };
        w.server = new_server(&w);
        w.client = new_client(&w, 100, 0);
        run_until(w.f, w.client_up == 1);
        int r = 0, sent = 0;
        char text[60000];
        memset(text, 'x', sizeof(text));
        m.json = (struct span){ text, sizeof(text) };
        uint64_t deadline = now_monotonic() + fixture_patience();
        /* -EAGAIN for 200 ms: everything between is full, not only slow. */
        for (uint64_t since = 0; since == 0 || now_monotonic() - since < 200 * USEC_PER_MSEC;) {
                assert_true(now_monotonic() < deadline);
                r = rpc_send(rpc_client_peer(w.client), &wire_event_live, &m);
                if (r == 0)
                        sent++;
                since = r == 0 ? 0 : since ? since : now_monotonic();
        }
        assert_int_equal(r, -EAGAIN);
        assert_true(sent >= 100 && sent < 100 + 10000 + 1000);
        run_until(w.f, w.notes == sent);
        disconnect_both(&w);
}

static void test_ten_thousand(void **state)
{
        struct world w;
        connect_both(&w, *state);
        for (int i = 0; i < 10000; i++)
                while (stop(&w, "s", 60 * USEC_PER_SEC) == -EAGAIN)
                        assert_true(sd_event_run(w.f->event, 0) >= 0);
        run_until(w.f, w.ended == 10000);
        assert_int_equal(w.ok, 10000);
        assert_int_equal(w.requests, 10000);
        disconnect_both(&w);
}

static void on_page(void *userdata, int r, const void *reply)
{
        struct world *w = userdata;
        const struct history_page *m = reply;
        w->ended++;
        w->last_r = r;
        if (r == 0 && m->n_events > 0) {
                w->n_events = m->n_events;
                w->event_len = m->events[0].len;
                for (size_t i = 0; i < m->n_events; i++)
                        assert_true(m->events[i].data[m->events[i].len - 1] == 'e');
        }
        if (r == -EREMOTEIO)
                w->code = ((const struct error_reply *) reply)->code;
}

static void history(struct world *w, size_t n, size_t len)
{
        struct history_get m = { .session_id = "s", .after_seq = len, .limit = (uint32_t) n };
        int before = w->ended;
        assert_int_equal(rpc_call(rpc_client_peer(w->client), &wire_history_get, &m,
                                  60 * USEC_PER_SEC, on_page, w),
                         0);
        run_until(w->f, w->ended == before + 1);
}

static void test_large_replies(void **state)
{
        struct world w;
        connect_both(&w, *state);
        history(&w, 2, 4 * MIB);
        assert_int_equal(w.last_r, 0);
        assert_int_equal(w.n_events, 2);
        assert_int_equal(w.event_len, 4 * MIB);
        /* Over the frame's limit, and over the field's: the caller hears of it, the link stays. */
        history(&w, 8, 4 * MIB);
        assert_int_equal(w.last_r, -EREMOTEIO);
        assert_int_equal(w.code, ERROR_CODE_TOO_LARGE);
        history(&w, 1, 5 * MIB);
        assert_int_equal(w.last_r, -EREMOTEIO);
        assert_int_equal(w.client_gone + w.server_gone, 0);
        disconnect_both(&w);
}

static void test_own_mistakes_stay_here(void **state)
{
        struct world w;
        connect_both(&w, *state);
        struct session_stop m = { .tenant = NULL, .session_id = "s" };
        struct rpc_peer *p = rpc_client_peer(w.client);
        assert_int_equal(rpc_call(p, &wire_session_stop, &m, USEC_PER_SEC, on_reply, &w), -EINVAL);
        m.tenant = "12345678901234567890123456789012345678901234567890123456789012345";
        assert_int_equal(rpc_call(p, &wire_session_stop, &m, USEC_PER_SEC, on_reply, &w),
                         -EMSGSIZE);
        m.tenant = "\xff";
        assert_int_equal(rpc_call(p, &wire_session_stop, &m, USEC_PER_SEC, on_reply, &w), -EILSEQ);
        fixture_settle(w.f, 20 * USEC_PER_MSEC);
        assert_int_equal(w.ended + w.requests + w.server_gone, 0);
        disconnect_both(&w);
}

static void test_free_and_end_inside_handler(void **state)
{
        struct world w;
        connect_both(&w, *state);
        w.end_peer_in_handler = true;
        assert_int_equal(stop(&w, "s", 60 * USEC_PER_SEC), 0);
        run_until(w.f, w.ended == 1 && w.server_up == 2 && w.client_up == 2);
        assert_int_equal(w.last_r, -ECONNRESET);
        assert_int_equal(w.server_gone, 1);
        w.end_peer_in_handler = false;
        w.free_server_in_handler = true;
        assert_int_equal(stop(&w, "s", 60 * USEC_PER_SEC), 0);
        run_until(w.f, w.ended == 2);
        assert_int_equal(w.last_r, -ECONNRESET);
        disconnect_both(&w);
}

static void test_client_ends_its_server(void **state)
{
        struct world w;
        connect_both(&w, *state);
        assert_int_equal(stop(&w, "hold", 60 * USEC_PER_SEC), 0);
        run_until(w.f, w.n_held == 1);
        rpc_peer_end(rpc_client_peer(w.client), "the test says so");
        assert_int_equal(w.last_r, -ECONNRESET);
        run_until(w.f, w.server_gone == 1 && w.client_up == 2 && w.server_up == 2);
        assert_int_equal(rpc_reply(w.held[0], NULL), -ENOTCONN);
        assert_int_equal(stop(&w, "s", USEC_PER_SEC), 0);
        run_until(w.f, w.ok == 1);
        disconnect_both(&w);
}

static void test_socket_file(void **state)
{
        struct world w = { .f = *state };
        struct stat st;
        struct rpc_config c = { .event = w.f->event, .zmq = w.f->zmq, .endpoint = w.f->endpoint };
        struct rpc_link *other = NULL;
        /* A file that is no socket stays. */
        FILE *file = fopen(w.f->path, "we");
        assert_non_null(file);
        assert_int_equal(fclose(file), 0);
        assert_int_equal(rpc_server_new(&c, &other), -EEXIST);
        assert_int_equal(unlink(w.f->path), 0);
        w.server = new_server(&w);
        assert_int_equal(stat(w.f->path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        assert_int_equal(rpc_server_new(&c, &other), -EADDRINUSE);
        assert_null(other);
        w.client = new_client(&w, 0, 0);
        run_until(w.f, w.client_up == 1);
        disconnect_both(&w);
}

/* --- a peer that does not play by the rules ----------------------------------------------------
 */

static const uint8_t corr[WIRE_CORRELATION] = { 1 };

static void *raw_dealer(struct world *w)
{
        void *s = zmq_socket(w->f->zmq, ZMQ_DEALER);
        int zero = 0;
        assert_int_equal(zmq_setsockopt(s, ZMQ_LINGER, &zero, sizeof(zero)), 0);
        assert_int_equal(zmq_connect(s, w->f->endpoint), 0);
        return s;
}

static void raw_send(void *s, const void *data, size_t n)
{
        assert_int_equal(zmq_send(s, data, n, 0), (int) n);
}

static void raw_message(void *s, const struct wire_msg *type, const void *msg, uint8_t flags)
{
        cleanup_buf struct buf b = BUF_INIT;
        assert_int_equal(wire_pack(&b, type, msg, flags, corr), 0);
        raw_send(s, b.data, b.len);
}

/* Reads until a message of the type comes. */
static void raw_expect(struct world *w, void *s, const struct wire_msg *type)
{
        bool found = false;
        while (!found) {
                char data[8192];
                int n = -1;
                run_until(w->f, (n = zmq_recv(s, data, sizeof(data), ZMQ_DONTWAIT)) >= 0);
                struct wire_envelope e;
                assert_int_equal(wire_open((struct span){ data, (size_t) n }, &e), 0);
                found = e.id == type->id;
        }
}

static void raw_greet(struct world *w, void *s)
{
        int before = w->server_up;
        struct ping hello = { .process = "raw", .instance = "1" };
        raw_message(s, &wire_ping, &hello, 0);
        raw_expect(w, s, &wire_pong);
        assert_int_equal(w->server_up, before + 1);
}

static void test_silent_peer(void **state)
{
        struct world w = { .f = *state };
        w.server = new_server(&w);
        void *s = raw_dealer(&w);
        uint64_t start = now_monotonic();
        raw_greet(&w, s);
        run_until(w.f, w.server_gone == 1);
        assert_true(now_monotonic() - start >= SILENCE);
        /* It may greet again. */
        raw_greet(&w, s);
        zmq_close(s);
        run_until(w.f, w.server_gone == 2);
        rpc_link_free(w.server);
}

static void test_new_instance_on_one_connection(void **state)
{
        struct world w = { .f = *state };
        w.server = new_server(&w);
        void *s = raw_dealer(&w);
        raw_greet(&w, s);
        struct ping hello = { .process = "raw", .instance = "2" };
        raw_message(s, &wire_ping, &hello, 0);
        run_until(w.f, w.server_gone == 1 && w.server_up == 2);
        zmq_close(s);
        rpc_link_free(w.server);
}

static void test_not_greeted(void **state)
{
        struct world w = { .f = *state };
        w.server = new_server(&w);
        void *s = raw_dealer(&w);
        struct session_stop m = { .tenant = "t", .session_id = "s" };
        raw_message(s, &wire_session_stop, &m, WIRE_REQUEST);
        raw_expect(&w, s, &wire_link_reset);
        assert_int_equal(w.requests, 0);
        zmq_close(s);
        rpc_link_free(w.server);
}

/* Each of these ends a greeted peer, and nothing else. */
static void test_hostile_frames(void **state)
{
        struct world w = { .f = *state };
        w.server = new_server(&w);
        void *s = raw_dealer(&w);
        static const struct {
                const char *data;
                size_t n;
        } frames[] = {
                { "", 0 },
                { "\xdd\xff\xff\xff\xff", 5 },
                { "\x96\x01\xdd\xff\xff\xff\xff\x00\x00\x00", 10 },
                { "\xdf\xff\xff\xff\xff\x00\x00\x00\x00\x00", 10 },
                { "\xc6\xff\xff\xff\xff\x00\x00\x00\x00\x00", 10 },
                { "\xdb\x7f\xff\xff\xff\x00\x00\x00\x00\x00", 10 },
                { "\xc7\x01\x01\x00", 4 },
                { "\xd4\x01\x01", 3 },
                { "\xc1", 1 },
                { "hello", 5 },
        };
        for (size_t i = 0; i < ARRAY_LEN(frames); i++) {
                int before = w.server_gone;
                raw_greet(&w, s);
                raw_send(s, frames[i].data, frames[i].n);
                run_until(w.f, w.server_gone == before + 1);
                raw_expect(&w, s, &wire_link_reset);
        }
        /* Well-formed, but not allowed: unknown here, a request that wants no reply, a foreign
         * reply is only late; several parts. */
        int gone = w.server_gone;
        struct session_stop m = { .tenant = "t", .session_id = "s" };
        struct bus_tick tick = { .instance = "x" };
        raw_greet(&w, s);
        raw_message(s, &wire_bus_tick, &tick, 0);
        run_until(w.f, w.server_gone == gone + 1);
        raw_greet(&w, s);
        raw_message(s, &wire_session_stop, &m, 0);
        run_until(w.f, w.server_gone == gone + 2);
        raw_greet(&w, s);
        assert_int_equal(zmq_send(s, "a", 1, ZMQ_SNDMORE), 1);
        raw_send(s, "b", 1);
        run_until(w.f, w.server_gone == gone + 3);
        raw_greet(&w, s);
        raw_message(s, &wire_ok_reply, NULL, WIRE_REPLY);
        raw_message(s, &wire_session_stop, &m, WIRE_REQUEST);
        raw_expect(&w, s, &wire_ok_reply);
        assert_int_equal(w.server_gone, gone + 3);
        zmq_close(s);
        rpc_link_free(w.server);
}

/* A frame beyond the schema's largest never reaches us: ZeroMQ cuts the connection. */
static void test_too_large_for_the_socket(void **state)
{
        struct world w = { .f = *state };
        w.server = new_server(&w);
        void *s = raw_dealer(&w);
        raw_greet(&w, s);
        size_t n = WIRE_FRAME_MAX + 1;
        cleanup_free char *big = xcalloc(n, 1);
        raw_send(s, big, n);
        run_until(w.f, w.server_gone == 1);
        assert_int_equal(w.requests, 0);
        zmq_close(s);
        rpc_link_free(w.server);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_call_and_reply),
                TEST(test_error_replies),
                TEST(test_request_from_the_server),
                TEST(test_timeouts_in_order),
                TEST(test_cancel),
                TEST(test_free_ends_calls),
                TEST(test_peer_vanishes_at_once),
                TEST(test_server_restart),
                TEST(test_client_first),
                TEST(test_calls_max),
                TEST(test_queue_full),
                TEST(test_ten_thousand),
                TEST(test_large_replies),
                TEST(test_own_mistakes_stay_here),
                TEST(test_free_and_end_inside_handler),
                TEST(test_client_ends_its_server),
                TEST(test_socket_file),
                TEST(test_silent_peer),
                TEST(test_new_instance_on_one_connection),
                TEST(test_not_greeted),
                TEST(test_hostile_frames),
                TEST(test_too_large_for_the_socket),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
