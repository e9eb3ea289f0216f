/* Descriptor sockets: one descriptor with a reply, refused peers, hostile packets, restarts. */
#include "fixture.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

struct world {
        struct fixture *f;
        struct fdlink_server *server;
        struct fdlink_client *client;
        struct fdlink_request *held;
        int requests, ended, last_r, connections_ended;
        uint64_t connection, last_connection_ended;
        int fd; /* that came with the last reply */
        enum error_code code;
        bool free_server_in_handler;
};

static int handle_open(void *userdata, struct fdlink_request *req, const void *msg)
{
        struct world *w = userdata;
        const struct display_open *m = msg;
        w->requests++;
        w->connection = fdlink_request_connection(req);
        if (w->free_server_in_handler)
                w->server = fdlink_server_free(w->server);
        if (streq(m->session_id, "hold")) {
                w->held = req;
                return 0;
        }
        if (streq(m->session_id, "errno"))
                return -ENOENT;
        if (streq(m->session_id, "error"))
                return fdlink_reply_error(req, ERROR_CODE_CONFLICT, "no %s", "slot");
        struct display_opened reply = { .width = 1024, .height = 768 };
        if (streq(m->session_id, "no-fd"))
                return fdlink_reply(req, &reply, -1);
        cleanup_close int fd = memfd_create("picture", MFD_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, "hello", 5), 5);
        return fdlink_reply(req, &reply, fd);
}

static void on_end(void *userdata, uint64_t connection)
{
        struct world *w = userdata;
        w->connections_ended++;
        w->last_connection_ended = connection;
}

static const struct fdlink_route routes[] = { { &wire_display_open, handle_open } };

static struct fdlink_server *new_server(struct world *w, bool any_uid)
{
        struct fdlink_server *s = NULL;
        struct fdlink_server_config c = {
                .event = w->f->event,
                .path = w->f->path,
                .mode = any_uid ? 0666 : 0,
                .any_uid = any_uid,
                .routes = routes,
                .n_routes = ARRAY_LEN(routes),
                .on_end = on_end,
                .userdata = w,
        };
        assert_int_equal(fdlink_server_new(&c, &s), 0);
        return s;
}

static void start(struct world *w, struct fixture *f)
{
        *w = (struct world){ .f = f, .fd = -1 };
        w->server = new_server(w, false);
        assert_int_equal(fdlink_client_new(f->event, f->path, &w->client), 0);
}

static void finish(struct world *w)
{
        fdlink_client_free(w->client);
        fdlink_server_free(w->server);
        fd_close(w->fd);
}

static void on_reply(void *userdata, int r, const void *reply, int fd)
{
        struct world *w = userdata;
        w->ended++;
        w->last_r = r;
        fd_close(w->fd);
        w->fd = fd;
        if (r == -EREMOTEIO)
                w->code = ((const struct error_reply *) reply)->code;
        else if (r == 0)
                assert_int_equal(((const struct display_opened *) reply)->width, 1024);
        else
                assert_null(reply);
}

static int call(struct world *w, const char *id, uint64_t timeout)
{
        struct display_open m = { .session_id = id };
        return fdlink_call(w->client, &wire_display_open, &m, timeout, on_reply, w);
}

static void test_descriptor(void **state)
{
        struct world w;
        char text[8] = "";
        start(&w, *state);
        assert_int_equal(call(&w, "s", USEC_PER_SEC), 0);
        run_until(w.f, w.ended == 1);
        assert_int_equal(w.last_r, 0);
        assert_true(w.fd >= 0);
        assert_true(fcntl(w.fd, F_GETFD) & FD_CLOEXEC);
        assert_int_equal(pread(w.fd, text, sizeof(text), 0), 5);
        assert_string_equal(text, "hello");
        assert_int_equal(call(&w, "no-fd", USEC_PER_SEC), 0);
        run_until(w.f, w.ended == 2);
        assert_int_equal(w.fd, -1);
        assert_int_equal(w.connection, 1);
        finish(&w);
        assert_int_equal(w.connections_ended, 1);
}

static void test_errors(void **state)
{
        struct world w;
        start(&w, *state);
        assert_int_equal(call(&w, "error", USEC_PER_SEC), 0);
        run_until(w.f, w.ended == 1);
        assert_int_equal(w.last_r, -EREMOTEIO);
        assert_int_equal(w.code, ERROR_CODE_CONFLICT);
        assert_int_equal(call(&w, "errno", USEC_PER_SEC), 0);
        run_until(w.f, w.ended == 2);
        assert_int_equal(w.code, ERROR_CODE_NOT_FOUND);
        assert_int_equal(call(&w, NULL, USEC_PER_SEC), -EINVAL);
        finish(&w);
}

static void test_timeout_and_cancel(void **state)
{
        struct world w;
        start(&w, *state);
        assert_int_equal(call(&w, "hold", 10 * USEC_PER_MSEC), 0);
        run_until(w.f, w.ended == 1);
        assert_int_equal(w.last_r, -ETIMEDOUT);
        struct display_opened reply = { .width = 1024 };
        run_until(w.f, w.held != NULL);
        /* The descriptor of a late reply must not leak: the fixture's folder is watched by fd
         * count. */
        cleanup_close int fd = memfd_create("late", MFD_CLOEXEC);
        assert_int_equal(fdlink_reply(TAKE_PTR(w.held), &reply, fd), 0);
        fixture_settle(w.f, 10 * USEC_PER_MSEC);
        int next = dup(0);
        assert_true(next >= 0);
        close(next);
        assert_int_equal(call(&w, "hold", 10 * USEC_PER_MSEC), 0);
        fdlink_cancel(w.client, &w);
        run_until(w.f, w.held != NULL);
        assert_int_equal(fdlink_reply(TAKE_PTR(w.held), &reply, -1), 0);
        fixture_settle(w.f, 20 * USEC_PER_MSEC);
        assert_int_equal(w.ended, 1);
        finish(&w);
}

static void test_restart(void **state)
{
        struct world w;
        start(&w, *state);
        assert_int_equal(call(&w, "hold", 60 * USEC_PER_SEC), 0);
        run_until(w.f, w.held != NULL);
        w.server = fdlink_server_free(w.server);
        assert_int_equal(w.connections_ended, 1);
        assert_int_equal(fdlink_reply(TAKE_PTR(w.held), NULL, -1), -ENOTCONN);
        run_until(w.f, w.ended == 1);
        assert_int_equal(w.last_r, -ECONNRESET);
        assert_int_equal(call(&w, "s", USEC_PER_SEC), -ENOENT);
        w.server = new_server(&w, false);
        assert_int_equal(call(&w, "s", USEC_PER_SEC), 0);
        run_until(w.f, w.ended == 2);
        assert_int_equal(w.last_r, 0);
        /* Restarted unseen by the client's loop: the call goes to the new one at once. */
        w.server = fdlink_server_free(w.server);
        w.server = new_server(&w, false);
        assert_int_equal(call(&w, "s", USEC_PER_SEC), 0);
        run_until(w.f, w.ended == 3);
        assert_int_equal(w.last_r, 0);
        finish(&w);
}

static void test_free_inside(void **state)
{
        struct world w;
        start(&w, *state);
        w.free_server_in_handler = true;
        assert_int_equal(call(&w, "s", 60 * USEC_PER_SEC), 0);
        run_until(w.f, w.ended == 1);
        assert_int_equal(w.last_r, -ECONNRESET);
        assert_int_equal(call(&w, "s", USEC_PER_SEC), -ENOENT);
        finish(&w);
}

/* Without a descriptor left a connection that waits does not make the loop spin; with one it is
 * served. */
static void test_no_descriptor_left(void **state)
{
        struct world w;
        struct rlimit all, few;
        start(&w, *state);
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        memcpy(a.sun_path, w.f->path, strlen(w.f->path) + 1);
        int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(fd, (struct sockaddr *) &a, sizeof(a)), 0);
        int next = dup(fd);
        assert_int_equal(close(next), 0);
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &all), 0);
        few = (struct rlimit){ (rlim_t) next, all.rlim_max };
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
        unsigned turns = 0;
        for (uint64_t end = now_monotonic() + 300 * USEC_PER_MSEC; now_monotonic() < end; turns++)
                assert_true(sd_event_run(w.f->event, 50 * USEC_PER_MSEC) >= 0);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &all), 0);
        assert_in_range(turns, 1, 60);
        assert_int_equal(call(&w, "s", 5 * USEC_PER_SEC), 0);
        run_until(w.f, w.ended == 1);
        assert_int_equal(w.last_r, 0);
        close(fd);
        finish(&w);
}

static void test_socket_file(void **state)
{
        struct world w;
        struct stat st;
        struct fdlink_server *other = NULL;
        start(&w, *state);
        assert_int_equal(stat(w.f->path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        struct fdlink_server_config c = { .event = w.f->event, .path = w.f->path };
        assert_int_equal(fdlink_server_new(&c, &other), -EADDRINUSE);
        assert_int_equal(stat(w.f->path, &st), 0);
        w.server = fdlink_server_free(w.server);
        assert_int_equal(stat(w.f->path, &st), -1);
        /* A stale file is replaced. */
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        memcpy(a.sun_path, w.f->path, strlen(w.f->path) + 1);
        int stale = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(stale, (struct sockaddr *) &a, sizeof(a)), 0);
        close(stale);
        assert_int_equal(stat(w.f->path, &st), 0);
        w.server = new_server(&w, false);
        char longer[200];
        memset(longer, 'a', sizeof(longer) - 1);
        longer[sizeof(longer) - 1] = '\0';
        c.path = longer;
        assert_int_equal(fdlink_server_new(&c, &other), -ENAMETOOLONG);
        finish(&w);
}

/* --- peers that do not play by the rules -------------------------------------------------------
 */

static int raw_connect(struct world *w)
{
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        memcpy(a.sun_path, w->f->path, strlen(w->f->path) + 1);
        int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        assert_true(fd >= 0);
        if (connect(fd, (struct sockaddr *) &a, sizeof(a)) < 0)
                return fd_close(fd);
        return fd;
}

static void raw_send(int sock, const void *data, size_t n, size_t n_fds)
{
        union {
                struct cmsghdr align;
                char space[CMSG_SPACE(253 * sizeof(int))];
        } control = { .space = { 0 } };
        struct iovec iov = { (void *) data, n };
        struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
        if (n_fds > 0) {
                m.msg_control = control.space;
                m.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
                struct cmsghdr *c = CMSG_FIRSTHDR(&m);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
                for (size_t i = 0; i < n_fds; i++)
                        memcpy(CMSG_DATA(c) + i * sizeof(int), &(int){ 2 }, sizeof(int));
        }
        assert_int_equal(sendmsg(sock, &m, MSG_NOSIGNAL), (int) n);
}

static bool raw_ended(int sock)
{
        char c;
        return recv(sock, &c, 1, MSG_DONTWAIT) == 0 || (errno == ECONNRESET);
}

static size_t open_fds(void)
{
        size_t n = 0;
        for (int fd = 0; fd < 1024; fd++)
                n += fcntl(fd, F_GETFD) >= 0;
        return n;
}

static void test_hostile_packets(void **state)
{
        struct world w;
        start(&w, *state);
        uint8_t corr[WIRE_CORRELATION] = { 1 };
        cleanup_buf struct buf good = BUF_INIT;
        cleanup_free char *big = xcalloc(100000, 1);
        struct display_open m = { .session_id = "s" };
        assert_int_equal(wire_pack(&good, &wire_display_open, &m, WIRE_REQUEST, corr), 0);
        size_t before = open_fds();
        struct {
                const void *data;
                size_t n, n_fds;
        } packets[] = {
                { good.data, good.len, 1 },
                { good.data, good.len, 2 },
                { good.data, good.len, 4 },
                { good.data, good.len, 253 },
                { good.data, good.len - 1, 0 },
                { "\xdd\xff\xff\xff\xff", 5, 0 },
                { big, 100000, 0 },
                { "x", 1, 0 },
                { "", 0, 0 },
        };
        for (size_t i = 0; i < ARRAY_LEN(packets); i++) {
                int fd = raw_connect(&w);
                assert_true(fd >= 0);
                raw_send(fd, packets[i].data, packets[i].n, packets[i].n_fds);
                run_until(w.f, raw_ended(fd));
                close(fd);
        }
        fixture_settle(w.f, 5 * USEC_PER_MSEC);
        assert_int_equal(open_fds(), before);
        assert_int_equal(w.requests, 0);
        assert_int_equal(w.connections_ended, 0);
        finish(&w);
}

/* Asks and never reads: ended when the socket is full; others are served on. */
static void test_reader_that_stalls(void **state)
{
        struct world w;
        start(&w, *state);
        uint8_t corr[WIRE_CORRELATION] = { 1 };
        cleanup_buf struct buf ask = BUF_INIT;
        struct display_open m = { .session_id = "s" };
        assert_int_equal(wire_pack(&ask, &wire_display_open, &m, WIRE_REQUEST, corr), 0);
        int fd = raw_connect(&w);
        uint64_t deadline = now_monotonic() + fixture_patience();
        while (w.connections_ended == 0) {
                assert_true(now_monotonic() < deadline);
                (void) !send(fd, ask.data, ask.len, MSG_DONTWAIT | MSG_NOSIGNAL);
                assert_true(sd_event_run(w.f->event, 0) >= 0);
        }
        close(fd);
        assert_int_equal(call(&w, "s", USEC_PER_SEC), 0);
        run_until(w.f, w.ended == 1);
        assert_int_equal(w.last_r, 0);
        finish(&w);
}

static void test_bounded_connections(void **state)
{
        struct world w;
        start(&w, *state);
        int fds[300];
        for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
                fds[i] = raw_connect(&w);
                assert_true(fds[i] >= 0);
                assert_true(sd_event_run(w.f->event, 0) >= 0);
        }
        run_until(w.f, raw_ended(fds[299]));
        assert_false(raw_ended(fds[0]));
        for (size_t i = 0; i < ARRAY_LEN(fds); i++)
                close(fds[i]);
        fixture_settle(w.f, 5 * USEC_PER_MSEC);
        assert_int_equal(call(&w, "s", USEC_PER_SEC), 0);
        run_until(w.f, w.ended == 1);
        assert_int_equal(w.last_r, 0);
        finish(&w);
}

/* In a child that became another user: 0 = answered, 1 = refused. */
static int ask_as_nobody(struct world *w, const struct buf *ask)
{
        char c;
        if (setresuid(65534, 65534, 65534) < 0)
                return 9;
        int fd = raw_connect(w);
        if (fd < 0)
                return 8;
        (void) !send(fd, ask->data, ask->len, MSG_NOSIGNAL);
        return recv(fd, &c, 1, 0) == 1 ? 0 : 1;
}

/* Needs root to become another. */
static void test_other_uid(void **state)
{
        struct world w;
        start(&w, *state);
        uint8_t corr[WIRE_CORRELATION] = { 1 };
        cleanup_buf struct buf ask = BUF_INIT;
        struct display_open m = { .session_id = "s" };
        assert_int_equal(wire_pack(&ask, &wire_display_open, &m, WIRE_REQUEST, corr), 0);
        for (int any = 0; any < 2 && geteuid() == 0; any++) {
                w.server = fdlink_server_free(w.server);
                w.server = new_server(&w, any);
                assert_int_equal(chmod(w.f->dir, 0755), 0);
                assert_int_equal(chmod(w.f->path, 0666), 0);
                pid_t pid = fork();
                assert_true(pid >= 0);
                if (pid == 0)
                        _exit(ask_as_nobody(&w, &ask));
                int status = -1;
                run_until(w.f, waitpid(pid, &status, WNOHANG) == pid);
                assert_true(WIFEXITED(status));
                assert_int_equal(WEXITSTATUS(status), any ? 0 : 1);
                assert_int_equal(w.requests, any);
        }
        finish(&w);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_descriptor),         TEST(test_errors),
                TEST(test_timeout_and_cancel), TEST(test_restart),
                TEST(test_free_inside),        TEST(test_no_descriptor_left),
                TEST(test_socket_file),        TEST(test_hostile_packets),
                TEST(test_reader_that_stalls), TEST(test_bounded_connections),
                TEST(test_other_uid),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
