/* The client of QEMU's machine protocol: against a peer that is played here, and a real QEMU where
 * there is one. */
#include "fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/io/daemon.h"
#include "workerd/qmp.h"

struct test_qmp {
        sd_event *event;
        struct qmp *qmp;
        int peer;
        unsigned answers, events;
        int last;            /* r of the last answer */
        char text[200];      /* what it said, or the last event */
        bool ended, changed; /* changed: something of the above happened */
};

static void on_answer(void *userdata, int r, const json_t *result)
{
        struct test_qmp *t = userdata;
        t->answers++;
        t->last = r;
        const char *desc = json_string_value(json_object_get(result, r < 0 ? "desc" : "status"));
        (void) snprintf(t->text, sizeof(t->text), "%s", desc ? desc : "");
        t->changed = true;
}

static void on_event(void *userdata, const char *name, const json_t *data)
{
        struct test_qmp *t = userdata;
        t->events++;
        (void) snprintf(t->text, sizeof(t->text), "%s", name);
        t->changed = true;
}

static void on_end(void *userdata, const char *why)
{
        struct test_qmp *t = userdata;
        (void) snprintf(t->text, sizeof(t->text), "%s", why);
        t->ended = t->changed = true;
}

static int setup(void **state)
{
        struct test_qmp *t = xnew(struct test_qmp);
        int pair[2];
        t->event = fixture_loop();
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        t->peer = pair[1];
        struct qmp_config c = { .event = t->event,
                                .fd = pair[0],
                                .on_event = on_event,
                                .on_end = on_end,
                                .userdata = t };
        assert_int_equal(qmp_new(&c, &t->qmp), 0);
        *state = t;
        return 0;
}

static int teardown(void **state)
{
        struct test_qmp *t = *state;
        qmp_free(t->qmp);
        fixture_loop_free(t->event);
        fd_close(t->peer);
        free(t);
        return 0;
}

static void say(struct test_qmp *t, const char *text)
{
        t->changed = false;
        assert_int_equal(write(t->peer, text, strlen(text)), strlen(text));
}

/* What the client sent since; a descriptor that came with it is put into *ret_fd. */
static void expect(struct test_qmp *t, const char *text, int *ret_fd)
{
        char data[512];
        union {
                char bytes[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } room;
        struct iovec iov = { data, sizeof(data) - 1 };
        struct msghdr m = { .msg_iov = &iov,
                            .msg_iovlen = 1,
                            .msg_control = room.bytes,
                            .msg_controllen = sizeof(room.bytes) };
        ssize_t n = recvmsg(t->peer, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        data[n > 0 ? n : 0] = '\0';
        assert_string_equal(data, text);
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        assert_int_equal(c != NULL, ret_fd != NULL);
        if (c)
                memcpy(ret_fd, CMSG_DATA(c), sizeof(int));
}

static void start(struct test_qmp *t)
{
        expect(t, "{\"execute\":\"qmp_capabilities\",\"id\":1}\n", NULL);
        say(t, "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n{\"return\": {}, \"id\": "
               "1}\r\n");
        while (sd_event_run(t->event, 0) > 0)
                ;
        assert_false(t->ended);
}

static void test_one_at_a_time(void **state)
{
        struct test_qmp *t = *state;
        int got = -1, sent = open("/dev/null", O_RDONLY | O_CLOEXEC);
        assert_int_equal(qmp_call(t->qmp, "query-status", NULL, -1, on_answer, t), 0);
        assert_int_equal(
                qmp_call(t->qmp, "getfd", json_pack("{s:s}", "fdname", "x"), sent, on_answer, t),
                0);
        start(t);
        expect(t, "{\"execute\":\"query-status\",\"id\":2}\n", NULL);
        say(t, "{\"event\": \"RESUME\", \"timestamp\": {}}\r\n{\"return\": {\"status\": \"paus");
        run_until(t->event, t->changed);
        assert_string_equal(t->text, "RESUME");
        say(t, "ed\"}, \"id\": 2}\r\n");
        run_until(t->event, t->changed);
        assert_string_equal(t->text, "paused");
        expect(t, "{\"execute\":\"getfd\",\"id\":3,\"arguments\":{\"fdname\":\"x\"}}\n", &got);
        assert_true(got >= 0);
        fd_close(got);
        say(t, "{\"id\": 3, \"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}\n");
        run_until(t->event, t->changed);
        assert_int_equal(t->last, -EIO);
        assert_string_equal(t->text, "no");
        assert_int_equal(t->answers, 2);
        assert_int_equal(t->events, 1);
        assert_false(t->ended);
}

static void test_limit(void **state)
{
        struct test_qmp *t = *state;
        for (int i = 1; i < QMP_CALLS_MAX; i++) /* the first is qmp_capabilities */
                assert_int_equal(qmp_call(t->qmp, "stop", NULL, -1, on_answer, t), 0);
        assert_int_equal(qmp_call(t->qmp, "stop", json_object(), -1, on_answer, t), -EAGAIN);
        t->peer = fd_close(t->peer);
        run_until(t->event, t->ended);
        assert_int_equal(t->answers, QMP_CALLS_MAX - 1);
        assert_int_equal(t->last, -ECONNRESET);
        assert_int_equal(qmp_call(t->qmp, "stop", NULL, -1, on_answer, t), -ENOTCONN);
}

static void test_hostile(void **state)
{
        static const char *const lines[] = {
                "nonsense\n",
                "{}\n",
                "[]\n",
                "\n",
                "{\"return\": {}, \"id\": 2}\n",            /* nobody asked */
                "{\"return\": {}}\n",                       /* for what? */
                "{\"return\": {}, \"id\": \"1\"}\n",        /* not an id of ours */
                "{\"event\": 7}\n",                         /* no name */
                "{\"return\": {}, \"id\": 1}\n\xff\n",      /* not UTF-8 */
                "{\"return\": {}, \"id\": 1, \"id\": 1}\n", /* twice */
        };
        for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
                void *one = NULL;
                setup(&one);
                struct test_qmp *t = one;
                say(t, lines[i]);
                run_until(t->event, t->ended);
                teardown(&one);
        }
}

static void test_endless_line(void **state)
{
        struct test_qmp *t = *state;
        char piece[4096];
        memset(piece, 'x', sizeof(piece));
        for (size_t n = 0; n <= QMP_LINE_MAX && !t->ended; n += sizeof(piece)) {
                assert_int_equal(write(t->peer, piece, sizeof(piece)), sizeof(piece));
                assert_true(sd_event_run(t->event, 0) >= 0);
        }
        run_until(t->event, t->ended);
}

#define QEMU "/usr/bin/qemu-system-x86_64"

static void test_real(void **state)
{
        struct test_qmp *t = *state;
        int pair[2];
        if (access(QEMU, X_OK) < 0)
                return;
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                (void) dup2(pair[1], 3);
                (void) close_range(4, ~0U, 0);
                (void) execl(QEMU, QEMU, "-nodefaults", "-machine", "none", "-S", "-display",
                             "none", "-chardev", "socket,id=q,fd=3", "-mon",
                             "chardev=q,mode=control", (char *) NULL);
                _exit(126);
        }
        fd_close(pair[1]);
        struct qmp *q = NULL;
        struct qmp_config c = { .event = t->event,
                                .fd = pair[0],
                                .on_event = on_event,
                                .on_end = on_end,
                                .userdata = t };
        assert_int_equal(qmp_new(&c, &q), 0);
        assert_int_equal(qmp_call(q, "query-status", NULL, -1, on_answer, t), 0);
        run_until(t->event, t->changed);
        assert_int_equal(t->last, 0);
        assert_string_equal(t->text, "prelaunch");
        t->changed = false;
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        assert_int_equal(
                qmp_call(q, "getfd", json_pack("{s:s}", "fdname", "null"), fd, on_answer, t), 0);
        run_until(t->event, t->changed);
        assert_int_equal(t->last, 0);
        t->changed = false;
        assert_int_equal(qmp_call(q, "no-such-command", NULL, -1, on_answer, t), 0);
        run_until(t->event, t->changed);
        assert_int_equal(t->last, -EIO);
        assert_int_equal(qmp_call(q, "quit", NULL, -1, NULL, NULL), 0);
        run_until(t->event, t->ended);
        qmp_free(q);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
}

int main(void)
{
        fixture_begin(false);
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_one_at_a_time, setup, teardown),
                cmocka_unit_test_setup_teardown(test_limit, setup, teardown),
                cmocka_unit_test(test_hostile),
                cmocka_unit_test_setup_teardown(test_endless_line, setup, teardown),
                cmocka_unit_test_setup_teardown(test_real, setup, teardown),
        };
        int r = cmocka_run_group_tests(tests, NULL, NULL);
        fixture_finish();
        return r;
}
