/* Terminals of a slot on the real bubblewrap and helper: a shell on a pty, its size, Ctrl-C, flow
 * control, and every way in which one ends. */
#include "fixture.h"

#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "workerd/terminal.h"

static struct test_slot slot;
static struct terminals *terminals;

struct shell {
        uint64_t id;
        int fd;
        struct buf seen;
        bool ended;
};

static int setup(void **state)
{
        slot.event = fixture_loop();
        test_slot_start(&slot, SLOT_KIND_HEADLESS, "term");
        test_slot_wait_ready(&slot);
        slot_set_epoch(slot.slot, 7);
        terminals = terminals_new(slot.event, 2);
        return 0;
}

static int teardown(void **state)
{
        terminals = terminals_free(terminals);
        test_slot_destroy(&slot);
        fixture_loop_free(slot.event);
        return 0;
}

static struct shell open_shell(unsigned cols, unsigned rows)
{
        struct shell s = { .fd = -1 };

        assert_int_equal(terminals_open(terminals, slot.slot, cols, rows, &s.id, &s.fd), 0);
        return s;
}

static void close_shell(struct shell *s)
{
        s->fd = fd_close(s->fd);
        buf_done(&s->seen);
}

static void type(struct shell *s, const char *text)
{
        assert_int_equal(send(s->fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Takes what is there; the loop runs meanwhile. */
static void turn(struct shell *s)
{
        (void) sd_event_run(slot.event, 20000);
        if (s->ended || buf_reserve(&s->seen, 65536) < 0)
                return;
        ssize_t n = recv(s->fd, buf_tail(&s->seen), 65536, MSG_DONTWAIT);
        if (n > 0)
                buf_added(&s->seen, (size_t) n);
        else
                s->ended = n == 0;
}

static bool has(const struct shell *s, const char *text)
{
        return memmem(buf_head(&s->seen), buf_pending(&s->seen), text, strlen(text)) != NULL;
}

static void expect(struct shell *s, const char *text)
{
        for (uint64_t until = now_monotonic() + 20 * USEC_PER_SEC; !has(s, text) && !s->ended;) {
                turn(s);
                if (now_monotonic() > until)
                        break;
        }
        if (!has(s, text))
                print_error("not seen: %s in: %.*s\n", text, (int) buf_pending(&s->seen),
                            buf_head(&s->seen));
        assert_true(has(s, text));
        buf_clear(&s->seen);
}

static void expect_end(struct shell *s)
{
        for (uint64_t until = now_monotonic() + 20 * USEC_PER_SEC;
             !s->ended && now_monotonic() < until;)
                turn(s);
        assert_true(s->ended);
}

/* bash -c in the slot until it says `wanted`. */
static void settles(const char *script, const char *wanted)
{
        for (uint64_t until = now_monotonic() + 20 * USEC_PER_SEC;;) {
                struct test_run r;
                test_bash(&slot, &r, script);
                bool same = streq(r.out.data, wanted);
                if (!same && now_monotonic() > until)
                        print_error("%s: %s\n", script, r.out.data);
                assert_true(same || now_monotonic() < until);
                test_run_done(&r);
                if (same)
                        return;
        }
}

static void test_shell(void **state)
{
        struct shell s = open_shell(101, 37);
        /* What is typed is echoed, so what is waited for must not stand in it. */
        type(&s, "tty; stty size; echo done-$((6*7))\n");
        expect(&s, "done-42");
        type(&s, "test -t 0 -a -t 1 -a -t 2 && echo $TERM-$((1+1)) $(tty) $(stty size)\n");
        expect(&s, "xterm-256color-2 /dev/pts/0 37 101");
        type(&s, "echo has:$(stty -a | grep -o -- '[-]*iutf8'):$PATH:$((1+1))\n");
        expect(&s, "has:iutf8:/usr/local/bin:/usr/bin:/bin:2");
        /* Job control works: it is the controlling terminal of a session of its own. */
        assert_int_equal(terminals_resize(terminals, s.id, 132, 50), 0);
        type(&s, "echo new-$(stty size)\n");
        expect(&s, "new-50 132");
        type(&s, "sleep 1000\n");
        settles("pgrep -c sleep", "1\n");
        type(&s, "\x03");
        type(&s, "echo status-$?-$((1+1))\n");
        expect(&s, "status-130-2");
        assert_int_equal(terminals_resize(terminals, s.id, 0, 50), -ERANGE);
        assert_int_equal(terminals_resize(terminals, s.id, 132, 501), -ERANGE);
        assert_int_equal(terminals_resize(terminals, s.id + 9, 80, 24), -ENOENT);
        /* Its end closes the connection, after its last words. */
        type(&s, "exec sh -c 'seq 1 20000; echo last-$((1+1))'\n");
        expect(&s, "last-2");
        expect_end(&s);
        assert_int_equal(terminals_resize(terminals, s.id, 80, 24), -ENOENT);
        close_shell(&s);
}

/* Nobody reads: the shell stops; what was said then arrives whole. */
static void test_flow(void **state)
{
        struct shell s = open_shell(80, 24);
        type(&s, "stty -echo; PS1=; echo ready-$((1+1))\n");
        expect(&s, "ready-2");
        type(&s, "head -c 5000000 /dev/zero | tr '\\0' x; echo; echo all-$((1+1))\n");
        for (uint64_t until = now_monotonic() + 500 * USEC_PER_MSEC; now_monotonic() < until;)
                (void) sd_event_run(slot.event, 50000);
        settles("pgrep -c head", "1\n");
        size_t x = 0;
        for (uint64_t until = now_monotonic() + 60 * USEC_PER_SEC;
             x < 5000000 && now_monotonic() < until;) {
                turn(&s);
                for (size_t i = 0; i < buf_pending(&s.seen); i++)
                        x += buf_head(&s.seen)[i] == 'x';
                if (!has(&s, "all-2"))
                        buf_clear(&s.seen);
        }
        assert_int_equal(x, 5000000);
        expect(&s, "all-2");
        /* Nobody reads what is typed: bounded too, and Ctrl-C gets through once it is read. */
        type(&s, "stty raw; sleep 2; stty sane; echo sane-$((1+1))\n");
        static char block[65536];
        memset(block, 'y', sizeof(block));
        size_t sent = 0;
        for (uint64_t until = now_monotonic() + USEC_PER_SEC; now_monotonic() < until;) {
                ssize_t n = send(s.fd, block, sizeof(block), MSG_DONTWAIT | MSG_NOSIGNAL);
                sent += n > 0 ? (size_t) n : 0;
                (void) sd_event_run(slot.event, 20000);
        }
        assert_true(sent < 2 * MIB);
        close_shell(&s);
        settles("pgrep -c bash", "0\n");
}

static void test_ends(void **state)
{
        struct shell a = open_shell(80, 24), b = open_shell(80, 24);
        uint64_t id;
        int fd;

        assert_int_equal(terminals_open(terminals, slot.slot, 80, 24, &id, &fd), -EMFILE);
        /* The connection's end: the whole session of the shell, whoever ignores SIGHUP. */
        type(&a, "trap '' HUP; nohup sleep 1001 & (trap '' HUP; sleep 1002) & echo up-$((1+1))\n");
        expect(&a, "up-2");
        type(&b, "sleep 1003\n");
        settles("pgrep -c sleep", "3\n");
        close_shell(&a);
        for (int i = 0; i < 10; i++)
                turn(&b);
        struct shell again = open_shell(80, 24); /* its place is free at once */
        settles("pgrep -c sleep", "1\n");
        close_shell(&again);
        /* The session's end. */
        terminals_close(terminals);
        expect_end(&b);
        close_shell(&b);
        settles("pgrep -c sleep", "0\n");
        /* The slot's reset. */
        struct shell c = open_shell(80, 24);
        type(&c, "echo here-$((1+1))\n");
        expect(&c, "here-2");
        test_slot_reset(&slot);
        expect_end(&c);
        close_shell(&c);
        test_slot_wait_ready(&slot);
        slot_set_epoch(slot.slot, 8);
        /* Another lease: what is typed then reaches nobody. */
        struct shell d = open_shell(80, 24);
        type(&d, "echo before-$((1+1))\n");
        expect(&d, "before-2");
        slot_set_epoch(slot.slot, 9);
        type(&d, "touch ~/fenced\n");
        expect_end(&d);
        close_shell(&d);
        settles("ls ~/fenced 2>&1 | grep -c 'No such'", "1\n");
}

int main(void)
{
        fixture_begin(true);
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_shell),
                cmocka_unit_test(test_flow),
                cmocka_unit_test(test_ends),
        };
        int r = cmocka_run_group_tests(tests, setup, teardown);
        fixture_finish();
        return r;
}
