/* Links between processes: calls, replies, errors, deadlines, restarts, full queues. */
#include "world.h"

#include <sys/stat.h>
#include <unistd.h>

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
        char text[2000];
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

/* Frames of megabytes are bounded by their bytes, long before the queue is full of messages. */
static void test_bytes_are_bounded(void **state)
{
        struct world w = { .f = *state, .server_queue_max = 16 };
        w.server = new_server(&w);
        w.client = new_client(&w, 0, 0);
        run_until(w.f, w.client_up == 1);
        size_t len = 60000;
        cleanup_free char *text = xmalloc(len);
        memset(text, 'x', len);
        struct event_live m = { .session_id = "s", .json = { text, len } };
        int r = 0, sent = 0;
        while ((r = rpc_send(rpc_client_peer(w.client), &wire_event_live, &m)) == 0)
                sent++;
        assert_int_equal(r, -EAGAIN);
        assert_true(sent >= 64 * 1024 * 1024 / 60100 && sent < 10000);
        /* Small ones still go, and all that was accepted arrives. */
        m.json.len = 10;
        assert_int_equal(rpc_send(rpc_client_peer(w.client), &wire_event_live, &m), 0);
        run_until(w.f, w.notes == sent + 1);
        m.json.len = len;
        run_until(w.f, rpc_send(rpc_client_peer(w.client), &wire_event_live, &m) == 0);
        run_until(w.f, w.notes == sent + 2);
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
                TEST(test_bytes_are_bounded),
                TEST(test_own_mistakes_stay_here),
                TEST(test_free_and_end_inside_handler),
                TEST(test_client_ends_its_server),
                TEST(test_socket_file),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
