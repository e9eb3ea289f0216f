/* Loop helpers: order of tasks, deferred frees, timers; and the daemon skeleton as a child process.
 */
#include "unit.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/io/daemon.h"
#include "common/io/log.h"

struct scene {
        sd_event *e;
        struct loop_task task;
        int handled, handled_before_task, task_runs;
};

static void on_scene_task(void *userdata)
{
        struct scene *s = userdata;
        s->task_runs++;
        s->handled_before_task = s->handled;
}

static int on_scene_io(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct scene *s = userdata;
        eventfd_t v;
        (void) eventfd_read(fd, &v);
        s->handled++;
        loop_task_queue(&s->task);
        return 0;
}

static void task_joins_a_turn(void **state)
{
        struct scene s = { 0 };
        int fds[10];
        assert_int_equal(sd_event_new(&s.e), 0);
        assert_int_equal(loop_task_init(&s.task, s.e, on_scene_task, &s), 0);
        for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
                fds[i] = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
                assert_true(sd_event_add_io(s.e, NULL, fds[i], POLLIN, on_scene_io, &s) >= 0);
        }
        RUN_UNTIL(s.e, 5, s.task_runs > 0);
        assert_int_equal(s.handled_before_task, 10); /* all that was ready came first */
        assert_int_equal(s.task_runs, 1);
        loop_task_queue(&s.task);
        loop_task_done(&s.task); /* queued, but done before it ran */
        assert_true(sd_event_run(s.e, 0) >= 0);
        assert_int_equal(s.task_runs, 1);
        sd_event_unref(s.e);
        for (size_t i = 0; i < ARRAY_LEN(fds); i++)
                (void) fd_close(fds[i]);
}

struct busy {
        sd_event_source *self;
        struct loop_task task;
        int turns, task_at;
};

static void on_busy_task(void *userdata)
{
        struct busy *b = userdata;
        b->task_at = b->turns;
}

static int on_busy_io(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct busy *b = userdata; /* never drained: always ready */
        if (++b->turns == 1)
                loop_task_queue(&b->task);
        return 0;
}

static void task_does_not_starve(void **state)
{
        sd_event *e;
        struct busy b = { 0 };
        int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
        assert_int_equal(sd_event_new(&e), 0);
        assert_int_equal(loop_task_init(&b.task, e, on_busy_task, &b), 0);
        assert_true(sd_event_add_io(e, &b.self, fd, POLLIN, on_busy_io, &b) >= 0);
        RUN_UNTIL(e, 5, b.task_at > 0);
        assert_true(b.task_at < 10);
        sd_event_source_unref(b.self);
        sd_event_unref(e);
        (void) fd_close(fd);
}

static int destroyed;
static sd_event *chain_event;
static void count_destroy(void *p)
{
        free(p);
        destroyed++;
}

static void chain_destroy(void *p)
{
        loop_defer_free(chain_event, p, count_destroy);
}

static void deferred_frees(void **state)
{
        assert_int_equal(sd_event_new(&chain_event), 0);
        loop_defer_free(chain_event, xmalloc(10), count_destroy);
        assert_int_equal(destroyed, 0);
        RUN_UNTIL(chain_event, 5, destroyed == 1);
        loop_defer_free(chain_event, xmalloc(10), chain_destroy);
        RUN_UNTIL(chain_event, 5, destroyed == 2);
        for (int i = 0; i < 100; i++)
                loop_defer_free(chain_event, xmalloc(10), chain_destroy);
        assert_true(sd_event_exit(chain_event, 0) >= 0);
        assert_true(sd_event_loop(chain_event) >= 0);
        loop_defer_free(chain_event, xmalloc(10), count_destroy); /* the loop is over */
        loop_defer_flush(chain_event);
        assert_int_equal(destroyed, 103);
        chain_event = sd_event_unref(chain_event);
}

static void on_fired(void *userdata)
{
        uint64_t *at = userdata;
        *at = now_monotonic();
}

static void timers(void **state)
{
        sd_event *e;
        struct loop_timer t, never = { 0 };
        uint64_t at = 0, start = now_monotonic();
        assert_int_equal(sd_event_new(&e), 0);
        assert_int_equal(loop_timer_init(&t, e, on_fired, &at), 0);
        assert_false(loop_timer_armed(&t));
        loop_timer_arm(&t, 3600 * USEC_PER_SEC);
        loop_timer_arm(&t, 30 * USEC_PER_MSEC); /* the last one counts */
        assert_true(loop_timer_armed(&t));
        RUN_UNTIL(e, 5, at != 0);
        assert_true(at - start >= 30 * USEC_PER_MSEC && at - start < USEC_PER_SEC);
        assert_false(loop_timer_armed(&t));
        at = 0;
        loop_timer_arm(&t, 0);
        loop_timer_disarm(&t);
        assert_true(sd_event_run(e, 10000) >= 0);
        assert_int_equal(at, 0);
        loop_timer_arm(&t, UINT64_MAX); /* not now, not wrapped */
        assert_true(sd_event_run(e, 10000) >= 0);
        assert_int_equal(at, 0);
        loop_timer_disarm(&never);
        assert_false(loop_timer_armed(&never));
        loop_timer_done(&never);
        loop_timer_done(&t);
        sd_event_unref(e);
}

/* --- the daemon skeleton, run in a child --- */

struct demo_settings {
        uint64_t number;
        char *text;
};

static const struct setting demo_table[] = {
        { "number", SETTING_INT, offsetof(struct demo_settings, number), "1", "0", "100", true,
          "A number." },
        { "text", SETTING_STRING, offsetof(struct demo_settings, text), "a", NULL, NULL, false,
          "A text." },
};

static struct demo_settings *demo_values;

static void demo_reload(void *userdata)
{
        log_info("number is %" PRIu64, demo_values->number);
}

static void demo_stop(void *userdata)
{
        log_info("orderly stop");
        daemon_quit(userdata, 0);
}

static int demo_main(int argc, char **argv)
{
        struct demo_settings settings = { 0 };
        CLEANUP(daemon_finish) struct daemon d = { 0 };
        d.on_reload = demo_reload;
        d.on_stop = demo_stop;
        d.userdata = &d;
        demo_values = &settings;
        int r = daemon_start(&d, "demod", argc, argv, demo_table, ARRAY_LEN(demo_table), &settings);
        if (r <= 0)
                return daemon_exit_code(r);
        LOG_SCOPE("SESSION", "s\n1");
        daemon_ready(&d, "number is %" PRIu64 " text is %s", settings.number, settings.text);
        return daemon_exit_code(daemon_run(&d));
}

struct child {
        pid_t pid;
        int out;
        struct buf text;
};

static struct child start_demo(const char *const *args)
{
        struct child c = { .text = BUF_INIT };
        int fds[2];
        char *argv[16] = { (char *) (uintptr_t) "demod" };
        int argc = 1;
        for (; args[argc - 1]; argc++)
                argv[argc] = (char *) (uintptr_t) args[argc - 1];
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        c.pid = fork();
        assert_true(c.pid >= 0);
        if (c.pid == 0) {
                (void) dup2(fds[1], STDOUT_FILENO);
                (void) dup2(fds[1], STDERR_FILENO);
                int r = demo_main(argc, argv);
                (void) fflush(stdout);
                _exit(r);
        }
        (void) fd_close(fds[1]);
        c.out = fds[0];
        return c;
}

/* Reads until `text` was printed (or the end, for NULL). */
static void wait_text(struct child *c, const char *text)
{
        while (!text || !strstr(buf_head(&c->text), text)) {
                struct pollfd p = { .fd = c->out, .events = POLLIN };
                assert_int_equal(poll(&p, 1, 10000), 1);
                assert_int_equal(buf_reserve(&c->text, 4096), 0);
                ssize_t n = read(c->out, buf_tail(&c->text), 4096);
                assert_true(n >= 0);
                buf_added(&c->text, (size_t) n);
                if (n == 0 && text)
                        fail_msg("not printed: %s\nbut: %s", text, buf_head(&c->text));
                if (n == 0)
                        return;
        }
}

static int end_child(struct child *c)
{
        int status;
        wait_text(c, NULL);
        assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
        (void) fd_close(c->out);
        assert_true(WIFEXITED(status));
        return WEXITSTATUS(status);
}

static void daemon_options(void **state)
{
        static const struct {
                const char *args[6];
                int code;
                const char *text;
        } table[] = {
                { { "--help" }, 0, "--print-config" },
                { { "--version" }, 0, "demod " BERTH_VERSION "\n" },
                { { "--check-config" }, 0, "configuration is valid\n" },
                { { "--print-config" }, 0, "#log_level = info\n" },
                { { "--check-config", "--set", "number=101" },
                  78,
                  "demod: --set: number = 101: must be between 0 and 100\n" },
                { { "--set", "log_level=loud" },
                  78,
                  "demod: log_level = loud: must be error, warning, notice, info or debug\n" },
                { { "--config", "/nonexistent/x" }, 78, "demod: cannot read /nonexistent/x" },
                { { "--bogus" }, 78, "see --help" },
                { { "stray" }, 78, "unexpected argument: stray" },
        };
        for (size_t i = 0; i < ARRAY_LEN(table); i++) {
                struct child c = start_demo(table[i].args);
                assert_int_equal(end_child(&c), table[i].code);
                assert_non_null(strstr(buf_head(&c.text), table[i].text));
                buf_done(&c.text);
        }
}

static int notify_socket(char path[static 64])
{
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        (void) snprintf(path, 64, "/tmp/berth-notify-%d", getpid());
        (void) snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
        (void) unlink(path);
        assert_int_equal(bind(fd, (struct sockaddr *) &a, sizeof(a)), 0);
        return fd;
}

static void wait_notify(int fd, const char *text)
{
        char got[512] = "";
        while (!strstr(got, text)) {
                struct pollfd p = { .fd = fd, .events = POLLIN };
                assert_int_equal(poll(&p, 1, 10000), 1);
                ssize_t n = recv(fd, got, sizeof(got) - 1, 0);
                assert_true(n >= 0);
                got[n] = 0;
        }
}

static void daemon_life(void **state)
{
        char conf[] = "/tmp/berth-demo-XXXXXX", path[64];
        cleanup_close int fd = mkostemp(conf, O_CLOEXEC);
        cleanup_close int notify = notify_socket(path);
        assert_int_equal(write(fd, "number = 5\n", 11), 11);
        assert_int_equal(setenv("NOTIFY_SOCKET", path, 1), 0);
        assert_int_equal(setenv("WATCHDOG_USEC", "200000", 1), 0);
        const char *args[] = { "--config", conf, "--set", "text=b", NULL };
        struct child c = start_demo(args);
        wait_text(&c, "demod info [SESSION=s\\x0a1] number is 5 text is b\n");
        wait_notify(notify, "READY=1\nSTATUS=number is 5 text is b");
        wait_notify(notify, "WATCHDOG=1");
        wait_notify(notify, "WATCHDOG=1");
        assert_int_equal(pwrite(fd, "number = 7\ntext = c\n", 20, 0), 20);
        assert_int_equal(kill(c.pid, SIGHUP), 0);
        wait_text(&c, "number is 7\n");
        wait_notify(notify, "RELOADING=1");
        wait_notify(notify, "READY=1");
        assert_int_equal(pwrite(fd, "number = x\n", 11, 0), 11);
        assert_int_equal(kill(c.pid, SIGHUP), 0);
        wait_text(&c, "the settings stay as they are");
        assert_int_equal(kill(c.pid, SIGTERM), 0);
        wait_notify(notify, "STOPPING=1");
        assert_int_equal(end_child(&c), 0);
        assert_non_null(strstr(buf_head(&c.text), "orderly stop"));
        assert_non_null(strstr(buf_head(&c.text), "stopped\n"));
        buf_done(&c.text);
        (void) unlink(conf);
        (void) unlink(path);
        assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
        assert_int_equal(unsetenv("WATCHDOG_USEC"), 0);
}

/* Nobody reads stderr: lines are dropped, the daemon goes on, and says so later. */
static void log_never_blocks(void **state)
{
        int fds[2];
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
        assert_true(dup2(fds[1], STDERR_FILENO) >= 0);
        uint64_t start = now_monotonic();
        for (int i = 0; i < 1000; i++)
                log_error("%0500d", i);
        uint64_t took = now_monotonic() - start;
        static char sink[1 << 20];
        ssize_t got = read(fds[0], sink, sizeof(sink));
        log_error("again");
        ssize_t last = read(fds[0], sink + got, sizeof(sink) - (size_t) got - 1);
        assert_true(dup2(saved, STDERR_FILENO) >= 0);
        assert_true(took < 5 * USEC_PER_SEC);
        assert_true(got > 0 && last > 0);
        sink[got + last] = 0;
        assert_non_null(strstr(sink + got, "again ("));
        assert_non_null(strstr(sink + got, "lines before this one were lost)"));
        (void) fd_close(saved);
        (void) fd_close(fds[0]);
        (void) fd_close(fds[1]);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(task_joins_a_turn), cmocka_unit_test(task_does_not_starve),
                cmocka_unit_test(deferred_frees),    cmocka_unit_test(timers),
                cmocka_unit_test(daemon_options),    cmocka_unit_test(daemon_life),
                cmocka_unit_test(log_never_blocks),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
