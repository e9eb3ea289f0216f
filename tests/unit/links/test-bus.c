/* The bus: subscribed types only, order, bad frames dropped, publisher's restart. */
#include "fixture.h"

struct world {
        struct fixture *f;
        struct bus *pub, *sub;
        int ticks, deleted;
        uint64_t last;
        bool free_inside;
};

static void on_message(void *userdata, const struct wire_msg *type, const void *msg,
                       struct span frame)
{
        struct world *w = userdata;
        assert_true(frame.len > 0);
        if (type == &wire_bus_tick) {
                const struct bus_tick *m = msg;
                assert_true(m->cursor >= w->last);
                w->last = m->cursor;
                w->ticks++;
        } else {
                assert_ptr_equal(type, &wire_bus_session_deleted);
                w->deleted++;
        }
        if (w->free_inside)
                w->sub = bus_free(w->sub);
}

static const struct wire_msg *const types[] = { &wire_bus_tick, &wire_bus_session_deleted };

static void tick(struct world *w, uint64_t n)
{
        struct bus_tick m = { .cursor = n, .instance = "i" };
        assert_int_equal(bus_publish(w->pub, &wire_bus_tick, &m), 0);
}

static struct bus *publisher(struct world *w)
{
        struct bus *b = NULL;
        /* ZeroMQ takes an earlier one down in its own thread: until then the address is in use. */
        int r;
        run_until(w->f, (r = bus_publisher_new(w->f->event, w->f->zmq, w->f->endpoint, 0, &b)) !=
                                -EADDRINUSE);
        assert_int_equal(r, 0);
        return b;
}

static struct bus *subscriber(struct world *w)
{
        struct bus *b = NULL;
        assert_int_equal(bus_subscriber_new(w->f->event, w->f->zmq, w->f->endpoint, types,
                                            ARRAY_LEN(types), on_message, w, &b),
                         0);
        return b;
}

/* A subscription travels: publish until the first one arrives. */
static void until_heard(struct world *w)
{
        int before = w->ticks;
        run_until(w->f, (tick(w, w->last), w->ticks > before));
        fixture_settle(w->f, 20 * USEC_PER_MSEC);
}

static void test_publish(void **state)
{
        struct world w = { .f = *state };
        w.pub = publisher(&w);
        w.sub = subscriber(&w);
        until_heard(&w);
        int before = w.ticks;
        for (uint64_t i = 1; i <= 1000; i++)
                tick(&w, i);
        struct bus_session_deleted d = { .tenant = "t", .session_id = "s", .cursor = 1 };
        struct bus_session_updated u = { .tenant = "t", .session_id = "s", .json = { "{}", 2 } };
        assert_int_equal(bus_publish(w.pub, &wire_bus_session_updated, &u), 0);
        assert_int_equal(bus_publish(w.pub, &wire_bus_session_deleted, &d), 0);
        run_until(w.f, w.deleted == 1);
        assert_int_equal(w.ticks, before + 1000);
        bus_free(w.sub);
        bus_free(w.pub);
}

static void test_bad_frames(void **state)
{
        struct world w = { .f = *state };
        void *raw = zmq_socket(w.f->zmq, ZMQ_PUB);
        int zero = 0;
        assert_int_equal(zmq_setsockopt(raw, ZMQ_LINGER, &zero, sizeof(zero)), 0);
        assert_int_equal(zmq_bind(raw, w.f->endpoint), 0);
        w.sub = subscriber(&w);
        uint8_t topic[WIRE_TOPIC_MAX];
        size_t n = wire_topic(&wire_bus_tick, topic);
        cleanup_buf struct buf good = BUF_INIT;
        struct bus_tick m = { .cursor = 7, .instance = "i" };
        uint8_t corr[WIRE_CORRELATION] = { 0 };
        assert_int_equal(wire_pack(&good, &wire_bus_tick, &m, 0, corr), 0);
        run_until(w.f, (zmq_send(raw, topic, n, 0), zmq_send(raw, good.data, good.len - 1, 0),
                        zmq_send(raw, good.data, good.len, 0), w.ticks > 0));
        assert_int_equal(w.last, 7);
        bus_free(w.sub);
        zmq_close(raw);
}

static void test_restart_and_free_inside(void **state)
{
        struct world w = { .f = *state };
        w.sub = subscriber(&w);
        w.pub = publisher(&w);
        until_heard(&w);
        w.pub = bus_free(w.pub);
        w.pub = publisher(&w);
        until_heard(&w);
        w.free_inside = true;
        run_until(w.f, (tick(&w, 9), w.sub == NULL));
        bus_free(w.pub);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_publish),
                TEST(test_bad_frames),
                TEST(test_restart_and_free_inside),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
