/* Links whose other end is silent, wrong or hostile: it is ended, and everything else goes on. */
#include "world.h"

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

/* --- a server that does not play by the rules --------------------------------------------------
 */

struct raw_server {
        void *s;
        char id[64];
        size_t id_len; /* of the client that spoke last */
        int greetings;
};

static void raw_server_open(struct world *w, struct raw_server *r)
{
        *r = (struct raw_server){ .s = zmq_socket(w->f->zmq, ZMQ_ROUTER) };
        int zero = 0;
        assert_int_equal(zmq_setsockopt(r->s, ZMQ_LINGER, &zero, sizeof(zero)), 0);
        assert_int_equal(zmq_bind(r->s, w->f->endpoint), 0);
}

static void raw_server_say(struct raw_server *r, const struct wire_msg *type, const void *msg)
{
        cleanup_buf struct buf b = BUF_INIT;
        assert_int_equal(wire_pack(&b, type, msg, 0, corr), 0);
        assert_int_equal(zmq_send(r->s, r->id, r->id_len, ZMQ_SNDMORE), (int) r->id_len);
        assert_int_equal(zmq_send(r->s, b.data, b.len, 0), (int) b.len);
}

/* Reads what came; answers greetings as `instance` unless that is NULL. */
static void raw_server_serve(struct raw_server *r, const char *instance)
{
        char id[64], data[8192];
        int n;
        while ((n = zmq_recv(r->s, id, sizeof(id), ZMQ_DONTWAIT)) > 0) {
                memcpy(r->id, id, (size_t) n);
                r->id_len = (size_t) n;
                n = zmq_recv(r->s, data, sizeof(data), ZMQ_DONTWAIT);
                struct wire_envelope e;
                assert_int_equal(wire_open((struct span){ data, (size_t) n }, &e), 0);
                if (e.id != MSG_PING)
                        continue;
                r->greetings++;
                struct pong pong = { .process = "raw", .instance = instance };
                if (instance)
                        raw_server_say(r, &wire_pong, &pong);
        }
}

static void test_silent_server(void **state)
{
        struct world w = { .f = *state };
        struct raw_server r;
        raw_server_open(&w, &r);
        w.client = new_client(&w, 0, 0);
        run_until(w.f, (raw_server_serve(&r, "1"), w.client_up == 1));
        assert_int_equal(stop(&w, "s", 60 * USEC_PER_SEC), 0);
        run_until(w.f, (raw_server_serve(&r, NULL), w.client_gone == 1));
        assert_int_equal(w.last_r, -ECONNRESET);
        /* It goes on greeting, and comes up again with the first answer. */
        run_until(w.f, (raw_server_serve(&r, "1"), w.client_up == 2));
        rpc_link_free(w.client);
        zmq_close(r.s);
}

static void test_server_of_another_instance(void **state)
{
        struct world w = { .f = *state };
        struct raw_server r;
        raw_server_open(&w, &r);
        w.client = new_client(&w, 0, 0);
        run_until(w.f, (raw_server_serve(&r, "1"), w.client_up == 1));
        assert_int_equal(stop(&w, "s", 60 * USEC_PER_SEC), 0);
        run_until(w.f, (raw_server_serve(&r, "2"), w.client_up == 2));
        assert_int_equal(w.last_r, -ECONNRESET);
        assert_int_equal(w.client_gone, 1);
        rpc_link_free(w.client);
        zmq_close(r.s);
}

/* What a server says wrong ends the connection; the client makes another. */
static void test_server_that_lies(void **state)
{
        struct world w = { .f = *state };
        struct raw_server r;
        raw_server_open(&w, &r);
        w.client = new_client(&w, 0, 0);
        run_until(w.f, (raw_server_serve(&r, "1"), w.client_up == 1));
        for (int i = 1; i <= 3; i++) {
                char old[64];
                size_t old_len = r.id_len;
                memcpy(old, r.id, old_len);
                struct bus_tick tick = { .instance = "x" };
                raw_server_say(&r, &wire_bus_tick, &tick);
                run_until(w.f, w.client_gone == i);
                run_until(w.f, (raw_server_serve(&r, "1"), w.client_up == i + 1));
                assert_true(old_len != r.id_len || memcmp(old, r.id, old_len) != 0);
        }
        rpc_link_free(w.client);
        zmq_close(r.s);
}

/* Before it greeted, a server may say what it likes: nothing of it is handled. */
static void test_server_that_never_greets(void **state)
{
        struct world w = { .f = *state };
        struct raw_server r;
        raw_server_open(&w, &r);
        w.client = new_client(&w, 0, 0);
        run_until(w.f, (raw_server_serve(&r, NULL), r.greetings > 0));
        struct message_notify n = { .session_id = "s" };
        raw_server_say(&r, &wire_message_notify, &n);
        raw_server_say(&r, &wire_link_reset, NULL);
        fixture_settle(w.f, 30 * USEC_PER_MSEC);
        assert_int_equal(w.notes + w.client_up + w.client_gone, 0);
        rpc_link_free(w.client);
        zmq_close(r.s);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_silent_peer),
                TEST(test_new_instance_on_one_connection),
                TEST(test_not_greeted),
                TEST(test_hostile_frames),
                TEST(test_too_large_for_the_socket),
                TEST(test_silent_server),
                TEST(test_server_of_another_instance),
                TEST(test_server_that_lies),
                TEST(test_server_that_never_greets),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
