/* The worker's end of the helper's stream against a helper that lies. A machine's helper is behind
 * a port that its kernel can write to, so whoever took the machine may say anything here: each lie
 * ends the link with a sentence, every action under way ends once, nothing else happens. */
#include "fixture.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/io/daemon.h"
#include "workerd/guest-private.h"

struct test_guest {
        sd_event *event;
        struct guest *guest;
        struct guest_command *command;
        int peer;
        unsigned exits, answers, outputs;
        bool ended;
        char why[200];
};

static void on_end(void *userdata, const char *why)
{
        struct test_guest *t = userdata;
        assert_false(t->ended);
        t->ended = true;
        (void) snprintf(t->why, sizeof(t->why), "%s", why);
}

static void on_output(void *userdata, int stream, const char *data, size_t n)
{
        ((struct test_guest *) userdata)->outputs++;
}

static void on_exit_of(void *userdata, const struct guest_status *status)
{
        ((struct test_guest *) userdata)->exits++;
}

static void on_data(void *userdata, int r, const char *data, size_t n, uint64_t size)
{
        ((struct test_guest *) userdata)->answers++;
        assert_int_equal(r, -ECONNRESET);
}

static void on_done(void *userdata, int r)
{
        ((struct test_guest *) userdata)->answers++;
        assert_int_equal(r, -ECONNRESET);
}

static void on_listing(void *userdata, int r, const struct guest_listing *l)
{
        ((struct test_guest *) userdata)->answers++;
        assert_int_equal(r, -ECONNRESET);
}

static void drain(struct test_guest *t)
{
        static char bin[65536];
        while (sd_event_run(t->event, 0) > 0 || recv(t->peer, bin, sizeof(bin), MSG_DONTWAIT) > 0)
                ;
}

static void say_bytes(struct test_guest *t, const void *data, size_t n)
{
        for (const char *at = data; n > 0;) {
                ssize_t sent = send(t->peer, at, n, MSG_DONTWAIT | MSG_NOSIGNAL);
                drain(t);
                if (sent < 0 && errno != EAGAIN)
                        return; /* it has hung up */
                at += sent > 0 ? sent : 0;
                n -= sent > 0 ? (size_t) sent : 0;
        }
}

static void say(struct test_guest *t, const struct wire_msg *type, const void *m)
{
        static const uint8_t correlation[WIRE_CORRELATION];
        cleanup_buf struct buf b = BUF_INIT;
        assert_int_equal(wire_pack(&b, type, m, 0, correlation), 0);
        uint32_t length = htonl((uint32_t) b.len);
        say_bytes(t, &length, sizeof(length));
        say_bytes(t, b.data, b.len);
}

static void greet(struct test_guest *t)
{
        say(t, &wire_guest_hello, &(struct guest_hello){ .version = 1, .pid = 1 });
}

/* Command 1 with five bytes of input; calls 1 (read), 2 (write), 3 (list). */
static void begin(struct test_guest *t)
{
        static const char *const argv[] = { "true", NULL };
        struct guest_command_config c = { .argv = argv,
                                          .stdin_pipe = true,
                                          .on_output = on_output,
                                          .on_exit = on_exit_of,
                                          .userdata = t };
        greet(t);
        assert_int_equal(guest_spawn(t->guest, 0, &c, &t->command), 0);
        assert_int_equal(guest_command_input(t->command, 0, "hello", 5, false), 0);
        assert_int_equal(guest_read_file(t->guest, 0, "a", 0, 4096, on_data, t), 0);
        assert_int_equal(guest_write_file(t->guest, 0, "b", "12345", 5, on_done, t), 0);
        assert_int_equal(guest_list_dir(t->guest, 0, "c", 1, on_listing, t), 0);
        drain(t);
        assert_false(t->ended);
}

static void start(struct test_guest *t)
{
        int pair[2];
        *t = (struct test_guest){ .event = fixture_loop() };
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        t->peer = pair[1];
        struct guest_config c = {
                .event = t->event, .fd = pair[0], .on_end = on_end, .userdata = t
        };
        assert_int_equal(guest_new(&c, &t->guest), 0);
}

static void stop(struct test_guest *t)
{
        guest_free(t->guest);
        fd_close(t->peer);
        fixture_loop_free(t->event);
}

/* --- before the greeting ---------------------------------------------------------------------- */

static void test_first_words(void **state)
{
        static const uint8_t frames[][8] = {
                { 0, 0, 0, 0 },             /* of no length */
                { 0xff, 0xff, 0xff, 0xff }, /* of 4 GiB */
                { 0, 0x50, 0, 1 },          /* one byte over the largest */
                { 0, 0, 0, 4, 0xdf, 0xff, 0xff, 0xff },
                { 0, 0, 0, 4, 'R', 'F', 'B', ' ' },
        };
        struct test_guest t;
        for (size_t i = 0; i < ARRAY_LEN(frames); i++) {
                start(&t);
                say_bytes(&t, frames[i], sizeof(frames[i]));
                assert_true(t.ended);
                assert_non_null(strstr(t.why, i < 3 ? "bad length" : "protocol"));
                stop(&t);
        }
        start(&t);
        say(&t, &wire_guest_exit, &(struct guest_exit){ .proc = 1 });
        assert_true(t.ended);
        stop(&t);
        start(&t);
        say(&t, &wire_guest_hello, &(struct guest_hello){ .version = 0, .pid = 1 });
        assert_true(t.ended);
        stop(&t);
}

/* --- afterwards ------------------------------------------------------------------------------- */

static const struct {
        const char *what;
        const struct wire_msg *type;
        union {
                struct guest_hello hello;
                struct guest_output output;
                struct guest_exit exit;
                struct guest_taken taken;
                struct guest_data data;
                struct guest_done done;
                struct guest_listing listing;
                struct guest_kill kill;
        } m;
} lies[] = {
        { "greets twice", &wire_guest_hello, { .hello = { .version = 1, .pid = 1 } } },
        { "output of nobody",
          &wire_guest_output,
          { .output = { .proc = 2, .stream = 1, .data = { "x", 1 } } } },
        { "output on another stream",
          &wire_guest_output,
          { .output = { .proc = 1, .stream = 3, .data = { "x", 1 } } } },
        { "no output", &wire_guest_output, { .output = { .proc = 1, .stream = 1 } } },
        { "the end of nobody", &wire_guest_exit, { .exit = { .proc = 7 } } },
        { "a status that is none", &wire_guest_exit, { .exit = { .proc = 1, .code = 300 } } },
        { "a signal that is none",
          &wire_guest_exit,
          { .exit = { .proc = 1, .code = -1, .signal = 65 } } },
        { "took what was not given", &wire_guest_taken, { .taken = { .proc = 1, .bytes = 6 } } },
        { "took for nobody", &wire_guest_taken, { .taken = { .proc = 2, .bytes = 1 } } },
        { "an answer to no call", &wire_guest_data, { .data = { .call = 99, .eof = true } } },
        { "data for a list", &wire_guest_data, { .data = { .call = 3, .eof = true } } },
        { "an errno that is none", &wire_guest_data, { .data = { .call = 1, .error = 5 } } },
        { "a write that was none", &wire_guest_done, { .done = { .call = 1 } } },
        { "an end of no call", &wire_guest_done, { .done = { .call = 42 } } },
        { "a list for a read", &wire_guest_listing, { .listing = { .call = 1 } } },
        { "an order to us", &wire_guest_kill, { .kill = { .proc = 1, .signal = 9 } } },
};

static void test_lies(void **state)
{
        struct test_guest t;
        for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
                start(&t);
                begin(&t);
                say(&t, lies[i].type, &lies[i].m);
                if (!t.ended)
                        print_error("believed: %s\n", lies[i].what);
                assert_true(t.ended);
                assert_non_null(strstr(t.why, "protocol"));
                assert_int_equal(t.exits, 1);
                assert_int_equal(t.answers, 3);
                assert_int_equal(t.outputs, 0);
                stop(&t);
        }
}

/* More output than may be open, while nobody takes it. */
static void test_flood(void **state)
{
        static char piece[GUEST_PIECE];
        const struct guest_output m = { .proc = 1, .stream = 1, .data = { piece, sizeof(piece) } };
        struct test_guest t;
        start(&t);
        begin(&t);
        guest_command_pause(t.command);
        for (size_t n = 0; n < GUEST_WINDOW; n += sizeof(piece))
                say(&t, &wire_guest_output, &m);
        assert_false(t.ended);
        assert_int_equal(t.outputs, GUEST_WINDOW / GUEST_PIECE);
        say(&t, &wire_guest_output, &m);
        assert_true(t.ended);
        assert_int_equal(t.exits, 1);
        assert_int_equal(t.answers, 3);
        stop(&t);
}

/* More of a file than was asked for; the end of a command twice. */
static void test_too_much(void **state)
{
        static char piece[4097];
        struct test_guest t;
        start(&t);
        begin(&t);
        say(&t, &wire_guest_data,
            &(struct guest_data){
                    .call = 1, .size = 4097, .data = { piece, sizeof(piece) }, .eof = true });
        assert_true(t.ended);
        assert_int_equal(t.answers, 3);
        stop(&t);
        start(&t);
        begin(&t);
        say(&t, &wire_guest_exit, &(struct guest_exit){ .proc = 1, .code = 0 });
        assert_int_equal(t.exits, 1);
        assert_false(t.ended);
        say(&t, &wire_guest_exit, &(struct guest_exit){ .proc = 1, .code = 0 });
        assert_true(t.ended);
        assert_int_equal(t.exits, 1);
        stop(&t);
}

/* It goes in the middle of a frame, or says one byte at a time and never comes to an end. */
static void test_cut_off(void **state)
{
        static const uint8_t half[] = { 0, 0, 1, 0, 0x97 };
        struct test_guest t;
        start(&t);
        begin(&t);
        say_bytes(&t, half, sizeof(half));
        assert_false(t.ended);
        t.peer = fd_close(t.peer);
        run_until(t.event, t.ended);
        assert_int_equal(t.exits, 1);
        assert_int_equal(t.answers, 3);
        assert_non_null(strstr(t.why, "ended"));
        stop(&t);
}

/* What a machine tells of its limits is kept as it says, and takes part in nothing else. */
static void test_limits(void **state)
{
        static const struct guest_limits some = { 3, UINT64_MAX, 1 << 20, 512 };
        struct test_guest t;
        start(&t);
        greet(&t);
        assert_int_equal(guest_limits(t.guest)->processes, 0);
        say(&t, &wire_guest_limits, &some);
        assert_false(t.ended);
        assert_memory_equal(guest_limits(t.guest), &some, sizeof(some));
        say(&t, &wire_guest_limits, &(struct guest_limits){ .memory_kills = 1 });
        assert_int_equal(guest_limits(t.guest)->memory_kills, 1);
        assert_false(t.ended);
        stop(&t);
}

int main(void)
{
        fixture_begin(false);
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_first_words), cmocka_unit_test(test_lies),
                cmocka_unit_test(test_flood),       cmocka_unit_test(test_too_much),
                cmocka_unit_test(test_cut_off),     cmocka_unit_test(test_limits),
        };
        int r = cmocka_run_group_tests(tests, NULL, NULL);
        fixture_finish();
        return r;
}
