/* What a link costs: round trips and messages per second of rpc over ipc, beside a bare socket
 * pair.
 *
 * Usage: bench-links [ROUND_TRIPS]. Two processes, messages of about 100 bytes, one at a time and
 * pipelined; the socket pair (blocking read and write of as many bytes) is what the kernel alone
 * takes. */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

#include "common/io/daemon.h"
#include "common/io/rpc.h"

#define MESSAGE 100
#define WINDOW 1000

static int compare(const void *a, const void *b)
{
        const uint64_t *x = a, *y = b;
        return *x < *y ? -1 : *x > *y;
}

static uint64_t now_ns(void)
{
        struct timespec t;
        (void) clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t) t.tv_sec * 1000000000 + (uint64_t) t.tv_nsec;
}

static void report(const char *name, uint64_t *samples, size_t n)
{
        qsort(samples, n, sizeof(*samples), compare);
        uint64_t p50 = samples[n / 2], p99 = samples[n * 99 / 100], max = samples[n - 1];
        printf("%-28s p50 %7.1f us   p99 %7.1f us   max %8.1f us\n", name, (double) p50 / 1000,
               (double) p99 / 1000, (double) max / 1000);
}

/* --- the bare socket pair ----------------------------------------------------------------------
 */

static void echo(int fd)
{
        char data[MESSAGE];
        for (;;) {
                ssize_t n = read(fd, data, sizeof(data));
                if (n <= 0 || write(fd, data, (size_t) n) != n)
                        _exit(0);
        }
}

static int bench_socketpair(uint64_t *samples, size_t n)
{
        int fds[2];
        char data[MESSAGE] = { 0 };
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
                return -errno;
        pid_t pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0) {
                close(fds[0]);
                echo(fds[1]);
        }
        close(fds[1]);
        for (size_t i = 0; i < n; i++) {
                uint64_t start = now_ns();
                if (write(fds[0], data, sizeof(data)) < 0 || read(fds[0], data, sizeof(data)) < 0)
                        return -errno;
                samples[i] = now_ns() - start;
        }
        close(fds[0]);
        (void) waitpid(pid, NULL, 0);
        report("socket pair, one at a time", samples, n);
        return 0;
}

/* --- rpc ----------------------------------------------------------------------------------------
 */

static int handle_stop(void *userdata, struct rpc_peer *p, struct rpc_request *req, const void *msg)
{
        return rpc_reply(req, NULL);
}

static const struct rpc_route routes[] = { { &wire_session_stop, handle_stop } };

static int serve(const char *endpoint)
{
        sd_event *e = NULL;
        struct rpc_link *l = NULL;
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        int r = sd_event_new(&e);
        struct rpc_config c = {
                .event = e,
                .zmq = zmq_ctx_new(),
                .endpoint = endpoint,
                .routes = routes,
                .n_routes = ARRAY_LEN(routes),
        };
        if (r >= 0)
                r = rpc_server_new(&c, &l);
        return r < 0 ? r : sd_event_loop(e);
}

struct bench {
        sd_event *event;
        struct rpc_link *l;
        size_t sent, ended, total;
        int failed;
};

static void on_reply(void *userdata, int r, const void *reply)
{
        struct bench *b = userdata;
        b->ended++;
        if (r < 0)
                b->failed = r;
}

static int ask(struct bench *b)
{
        static const char id[] = "0192f4c3-7d1e-7a42-9b5c-3f1e2d4c5b6a";
        struct session_stop m = { .tenant = "default", .session_id = id };
        int r = rpc_call(rpc_client_peer(b->l), &wire_session_stop, &m, 10 * USEC_PER_SEC, on_reply,
                         b);
        if (r == 0)
                b->sent++;
        return r;
}

static int one_at_a_time(struct bench *b, uint64_t *samples, size_t n, uint64_t pause_usec,
                         const char *name)
{
        for (size_t i = 0; i < n; i++) {
                if (pause_usec)
                        usleep((useconds_t) pause_usec);
                uint64_t start = now_ns();
                size_t before = b->ended;
                int r = ask(b);
                while (r >= 0 && b->ended == before)
                        r = sd_event_run(b->event, USEC_PER_SEC);
                if (r < 0 || b->failed)
                        return r < 0 ? r : b->failed;
                samples[i] = now_ns() - start;
        }
        report(name, samples, n);
        return 0;
}

static int pipelined(struct bench *b, size_t n)
{
        size_t end = b->ended + n;
        uint64_t start = now_ns();
        for (size_t sent = 0; b->ended < end;) {
                int r = 0;
                while (sent < n && end - n + sent - b->ended < WINDOW && r == 0) {
                        r = ask(b);
                        sent += r == 0;
                }
                if (r < 0 && r != -EAGAIN)
                        return r;
                r = sd_event_run(b->event, USEC_PER_SEC);
                if (r < 0 || b->failed)
                        return r < 0 ? r : b->failed;
        }
        double s = (double) (now_ns() - start) / 1e9;
        printf("%-28s %.0f calls/s, %d at a time\n", "rpc, pipelined", (double) n / s, WINDOW);
        return 0;
}

static int bench_rpc(const char *endpoint, uint64_t *samples, size_t n)
{
        struct bench b = { 0 };
        int r = sd_event_new(&b.event);
        struct rpc_config c = { .event = b.event, .zmq = zmq_ctx_new(), .endpoint = endpoint };
        if (r >= 0)
                r = rpc_client_new(&c, &b.l);
        uint64_t deadline = now_monotonic() + 10 * USEC_PER_SEC;
        while (r >= 0 && !rpc_peer_up(rpc_client_peer(b.l)))
                r = now_monotonic() > deadline ? -ETIMEDOUT
                                               : sd_event_run(b.event, 10 * USEC_PER_MSEC);
        if (r >= 0)
                r = one_at_a_time(&b, samples, n, 0, "rpc, one at a time");
        if (r >= 0)
                r = one_at_a_time(&b, samples, n / 20, 1000, "rpc, after 1 ms of nothing");
        if (r >= 0)
                r = pipelined(&b, n * 5);
        rpc_link_free(b.l);
        loop_defer_flush(b.event);
        sd_event_unref(b.event);
        zmq_ctx_term(c.zmq);
        return r;
}

int main(int argc, char **argv)
{
        uint64_t n = 20000;
        char dir[] = "/tmp/bench-links-XXXXXX";
        if ((argc > 1 && parse_u64(argv[1], &n) < 0) || n < 100 || !mkdtemp(dir)) {
                (void) fprintf(stderr, "usage: %s [ROUND_TRIPS >= 100]\n", argv[0]);
                return 2;
        }
        cleanup_free uint64_t *samples = xnewn(uint64_t, n);
        cleanup_free char *endpoint = xasprintf("ipc://%s/sock", dir);
        int r = bench_socketpair(samples, n);
        (void) fflush(stdout);
        pid_t pid = r < 0 ? -1 : fork();
        if (pid == 0)
                _exit(serve(endpoint) < 0);
        if (pid > 0) {
                r = bench_rpc(endpoint, samples, n);
                (void) kill(pid, SIGTERM);
                (void) waitpid(pid, NULL, 0);
        }
        (void) unlink(endpoint + strlen("ipc://"));
        (void) rmdir(dir);
        if (r < 0)
                (void) fprintf(stderr, "failed: %s\n", strerrordesc_np(-r));
        return r < 0;
}
