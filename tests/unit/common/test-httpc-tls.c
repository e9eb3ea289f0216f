/* The HTTP client over TLS and HTTP/2 with an independent server: one connection, many streams,
 * trust. */
#include "unit.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/io/httpc.h"

static char folder[] = "/tmp/berth-tls-XXXXXX";
static char url[64], cert[64], key[64];
static sd_event *event;
static struct httpc *client;

struct seen {
        int done, r, chunks;
        bool h2;
        struct buf body;
        struct httpc_request *request;
};

static void on_header(void *userdata, const char *name, struct span value)
{
        struct seen *s = userdata;
        s->h2 |= streq(name, "x-test") && span_eq(value, "h2");
}

static void on_data(void *userdata, struct span data)
{
        struct seen *s = userdata;
        s->chunks++;
        buf_put(&s->body, data.data, data.len);
}

static void on_done(void *userdata, int r, long status, const char *text)
{
        struct seen *s = userdata;
        s->done++;
        s->r = r;
}

static void start(struct seen *s, const char *ca)
{
        struct httpc_config c = { .method = "POST",
                                  .url = url,
                                  .body = span_of("{}"),
                                  .ca_file = ca,
                                  .on_header = on_header,
                                  .on_data = on_data,
                                  .on_done = on_done,
                                  .userdata = s };
        *s = (struct seen){ .body = BUF_INIT };
        assert_int_equal(httpc_start(client, &c, &s->request), 0);
}

static void streams_share_a_connection(void **state)
{
        struct seen first, s[8];
        start(&first, cert);
        RUN_UNTIL(event, 10, first.done);
        assert_int_equal(first.r, 0);
        assert_true(first.h2);
        for (size_t i = 0; i < ARRAY_LEN(s); i++)
                start(&s[i], cert);
        RUN_UNTIL(event, 10, s[3].chunks);
        httpc_cancel(s[3].request); /* ends its stream, not the others' connection */
        for (size_t i = 0; i < ARRAY_LEN(s); i++) {
                if (i != 3) {
                        RUN_UNTIL(event, 10, s[i].done);
                        assert_int_equal(s[i].r, 0);
                        assert_non_null(strstr(buf_head(&s[i].body), "chunk 5\nconnections 1\n"));
                }
                buf_done(&s[i].body);
        }
        assert_int_equal(s[3].done, 0);
        buf_done(&first.body);
}

static void unknown_authority(void **state)
{
        struct seen s;
        start(&s, NULL);
        RUN_UNTIL(event, 10, s.done);
        assert_int_equal(s.r, -EPROTO);
        assert_int_equal(s.chunks, 0);
}

/* --- the server --- */

static pid_t spawn(const char *const *argv, int in, int out)
{
        pid_t pid = fork();
        if (pid != 0)
                return pid;
        if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0)
                _exit(126);
        (void) execvp(argv[0], (char *const *) (uintptr_t) argv);
        _exit(127);
}

static pid_t server;
static int server_in = -1;

static int setup(void **state)
{
        int in[2], out[2];
        char port[16] = "";
        const char *const argv[] = { "node", HTTP2_SERVER, key, cert, NULL };
        if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0)
                return -1;
        server = spawn(argv, in[0], out[1]);
        server_in = in[1];
        (void) fd_close(in[0]);
        (void) fd_close(out[1]);
        struct pollfd p = { .fd = out[0], .events = POLLIN };
        if (poll(&p, 1, 30000) != 1 || read(out[0], port, sizeof(port) - 1) < 2)
                return -1;
        (void) fd_close(out[0]);
        (void) snprintf(url, sizeof(url), "https://127.0.0.1:%d/", atoi(port));
        return sd_event_new(&event) < 0 || httpc_new(event, &client) < 0 ? -1 : 0;
}

static int teardown(void **state)
{
        httpc_free(client);
        sd_event_unref(event);
        server_in = fd_close(server_in);
        (void) waitpid(server, NULL, 0);
        (void) unlink(key);
        (void) unlink(cert);
        return rmdir(folder);
}

static bool make_certificate(void)
{
        const char *const argv[] = { "openssl",
                                     "req",
                                     "-x509",
                                     "-newkey",
                                     "ec",
                                     "-pkeyopt",
                                     "ec_paramgen_curve:prime256v1",
                                     "-nodes",
                                     "-keyout",
                                     key,
                                     "-out",
                                     cert,
                                     "-subj",
                                     "/CN=test",
                                     "-addext",
                                     "subjectAltName=IP:127.0.0.1",
                                     "-days",
                                     "2",
                                     NULL };
        int status;
        pid_t pid = spawn(argv, STDIN_FILENO, STDERR_FILENO);
        return waitpid(pid, &status, 0) == pid && status == 0;
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(streams_share_a_connection),
                cmocka_unit_test(unknown_authority),
        };
        if (system("{ command -v node && command -v openssl; } > /dev/null") != 0)
                UNIT_SKIP("needs node and openssl");
        if (!mkdtemp(folder))
                return 1;
        (void) snprintf(key, sizeof(key), "%s/key", folder);
        (void) snprintf(cert, sizeof(cert), "%s/cert", folder);
        (void) setenv("no_proxy", "*", 1);
        return make_certificate() ? cmocka_run_group_tests(tests, setup, teardown) : 1;
}
