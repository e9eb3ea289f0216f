/* The HTTP client against a server that answers well and badly. */
#include "unit.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/io/httpc.h"
#include "http-peer.h"

static sd_event *event;
static struct http_peer *peer;
static struct httpc *client;

struct seen {
        struct httpc_request *request;
        int heads, chunks, done, r;
        long head_status, status;
        char text[256], x_test[64];
        struct buf body;
        void (*in_data)(struct seen *s);
        void (*in_done)(struct seen *s);
};

static void on_head(void *userdata, long status)
{
        struct seen *s = userdata;
        s->heads++;
        s->head_status = status;
}

static void on_header(void *userdata, const char *name, struct span value)
{
        struct seen *s = userdata;
        assert_true(s->heads > 0);
        if (streq(name, "x-test"))
                (void) snprintf(s->x_test, sizeof(s->x_test), SPAN_FMT, SPAN_ARG(value));
}

static void on_data(void *userdata, struct span data)
{
        struct seen *s = userdata;
        s->chunks++;
        buf_put(&s->body, data.data, data.len);
        if (s->in_data)
                s->in_data(s);
}

static void on_done(void *userdata, int r, long status, const char *text)
{
        struct seen *s = userdata;
        s->done++;
        s->r = r;
        s->status = status;
        (void) snprintf(s->text, sizeof(s->text), "%s", text);
        if (s->in_done)
                s->in_done(s);
}

static int start_config(struct seen *s, const char *path, struct httpc_config c)
{
        char url[128];
        (void) snprintf(url, sizeof(url), "http://127.0.0.1:%d%s", http_peer_port(peer), path);
        c.method = c.method ? c.method : "GET";
        c.url = url;
        c.on_head = on_head;
        c.on_header = on_header;
        c.on_data = on_data;
        c.on_done = on_done;
        c.userdata = s;
        return httpc_start(client, &c, &s->request);
}

static void start(struct seen *s, const char *path)
{
        assert_int_equal(start_config(s, path, (struct httpc_config){ 0 }), 0);
}

static void seen_done(struct seen *s)
{
        buf_done(&s->body);
}
#define SEEN CLEANUP(seen_done) struct seen

static void post(void **state)
{
        SEEN s = { 0 };
        static const char *const headers[] = { "X-Api-Key: k", "content-type: application/json",
                                               NULL };
        struct httpc_config c = { .method = "POST",
                                  .headers = headers,
                                  .body = span_of("{\"a\":1}") };
        assert_int_equal(start_config(&s, "/echo", c), 0);
        RUN_UNTIL(event, 10, s.done);
        assert_int_equal(s.r, 0);
        assert_int_equal(s.status, 200);
        assert_int_equal(s.head_status, 200);
        assert_int_equal(s.heads, 1);
        assert_string_equal(s.x_test, "a b");
        const char *sent = buf_head(&s.body);
        assert_true(str_starts(sent, "POST /echo HTTP/1.1\r\n"));
        assert_non_null(strstr(sent, "\r\nX-Api-Key: k\r\n"));
        assert_non_null(strstr(sent, "\r\ncontent-type: application/json\r\n"));
        assert_non_null(strstr(sent, "\r\nContent-Length: 7\r\n"));
        assert_non_null(strstr(sent, "\r\nUser-Agent: berth/"));
        assert_null(strcasestr(sent, "expect:"));
        assert_true(str_ends(sent, "\r\n\r\n{\"a\":1}"));
}

static void methods_and_reuse(void **state)
{
        static const char *const methods[] = { "GET", "DELETE", "PUT", "POST", "PATCH" };
        int before = http_peer_accepted(peer);
        for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
                SEEN s = { 0 };
                struct httpc_config c = { .method = methods[i] };
                assert_int_equal(start_config(&s, "/echo", c), 0);
                RUN_UNTIL(event, 10, s.done);
                assert_int_equal(s.r, 0);
                assert_true(str_starts(buf_head(&s.body), methods[i]));
                assert_null(strcasestr(buf_head(&s.body), "content-type"));
        }
        assert_true(http_peer_accepted(peer) - before <= 1); /* one kept connection serves all */
        SEEN s = { 0 };
        start(&s, "/status/529");
        RUN_UNTIL(event, 10, s.done);
        assert_int_equal(s.r, 0); /* an answer is an answer */
        assert_int_equal(s.status, 529);
        assert_string_equal(buf_head(&s.body), "sorry");
        SEEN t = { 0 };
        start(&t, "/interim");
        RUN_UNTIL(event, 10, t.done);
        assert_int_equal(t.heads, 1);
        assert_int_equal(t.head_status, 201);
}

static void large_upload(void **state)
{
        SEEN s = { 0 };
        size_t n = 3 * MIB;
        cleanup_free char *body = xmalloc(n);
        memset(body, 'u', n);
        struct httpc_config c = { .method = "POST", .body = { body, n } };
        assert_int_equal(start_config(&s, "/echo", c), 0);
        body[0] = 'X'; /* the client has a copy */
        RUN_UNTIL(event, 10, s.done);
        assert_int_equal(s.r, 0);
        assert_true(buf_pending(&s.body) > n);
        assert_int_equal(buf_head(&s.body)[buf_pending(&s.body) - n], 'u');
}

static void streaming(void **state)
{
        SEEN s = { 0 };
        start(&s, "/chunks");
        RUN_UNTIL(event, 10, s.heads);
        for (int i = 1; i <= 20; i++) {
                http_peer_chunk(peer, "data: x\n\n", i == 20);
                RUN_UNTIL(event, 10, s.chunks == i); /* each arrives before the next is sent */
                assert_true(i == 20 || !s.done);
        }
        RUN_UNTIL(event, 10, s.done);
        assert_int_equal(s.r, 0);
        assert_int_equal(buf_pending(&s.body), 20 * 9);
}

static void stalls(void **state)
{
        static const char *const paths[] = { "/silent", "/stall", "/chunks" };
        for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
                SEEN s = { 0 };
                struct httpc_config c = { .stall_usec = 150 * USEC_PER_MSEC };
                uint64_t begin = now_monotonic();
                assert_int_equal(start_config(&s, paths[i], c), 0);
                RUN_UNTIL(event, 10, s.done);
                assert_int_equal(s.r, -ETIMEDOUT);
                assert_string_equal(s.text, "no byte arrived within the allowed time");
                uint64_t took = now_monotonic() - begin;
                assert_true(took >= 150 * USEC_PER_MSEC && took < 2 * USEC_PER_SEC);
        }
        SEEN s = { 0 }; /* bytes keep it alive, the total ends it */
        struct httpc_config c = { .stall_usec = 200 * USEC_PER_MSEC,
                                  .total_usec = 600 * USEC_PER_MSEC };
        uint64_t begin = now_monotonic(), next = begin;
        assert_int_equal(start_config(&s, "/chunks", c), 0);
        RUN_UNTIL(event, 10, s.heads);
        while (!s.done && now_monotonic() - begin < 5 * USEC_PER_SEC) {
                if (now_monotonic() >= next) {
                        http_peer_chunk(peer, "x", false);
                        next = now_monotonic() + 50 * USEC_PER_MSEC;
                }
                assert_true(sd_event_run(event, 10000) >= 0);
        }
        assert_int_equal(s.r, -ETIMEDOUT);
        assert_true(now_monotonic() - begin >= 500 * USEC_PER_MSEC);
        assert_true(s.chunks > 3);
}

static void failures(void **state)
{
        static const struct {
                const char *path;
                int r;
        } table[] = {
                { "/cut", -ECONNRESET },
                { "/headers", -EMSGSIZE },
                { "/garbage", -EPROTO },
        };
        for (size_t i = 0; i < ARRAY_LEN(table); i++) {
                SEEN s = { 0 };
                start(&s, table[i].path);
                RUN_UNTIL(event, 10, s.done);
                assert_int_equal(s.r, table[i].r);
                assert_true(*s.text);
        }
        SEEN s = { 0 };
        struct httpc_config c = { .body_max = 100000 };
        assert_int_equal(start_config(&s, "/endless", c), 0);
        RUN_UNTIL(event, 10, s.done);
        assert_int_equal(s.r, -EMSGSIZE);
        assert_true(buf_pending(&s.body) <= 100000);
}

static void no_server(void **state)
{
        /* A port that was free a moment ago. */
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
        socklen_t n = sizeof(a);
        cleanup_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(fd, (struct sockaddr *) &a, sizeof(a)), 0); /* bound, not listening */
        assert_int_equal(getsockname(fd, (struct sockaddr *) &a, &n), 0);
        SEEN s = { 0 };
        char url[64];
        (void) snprintf(url, sizeof(url), "http://127.0.0.1:%d/", ntohs(a.sin_port));
        struct httpc_config c = { .method = "GET", .url = url, .on_done = on_done, .userdata = &s };
        assert_int_equal(httpc_start(client, &c, NULL), 0);
        RUN_UNTIL(event, 10, s.done);
        assert_int_equal(s.r, -ECONNREFUSED);
        assert_true(*s.text);
        SEEN t = { 0 };
        c.url = "http://name.invalid/";
        c.userdata = &t;
        assert_int_equal(httpc_start(client, &c, NULL), 0);
        RUN_UNTIL(event, 20, t.done);
        assert_int_equal(t.r, -EHOSTUNREACH);
        /* Plain HTTP where TLS was expected. */
        SEEN u = { 0 };
        (void) snprintf(url, sizeof(url), "https://127.0.0.1:%d/", http_peer_port(peer));
        c.url = url;
        c.userdata = &u;
        c.stall_usec = 300 * USEC_PER_MSEC;
        assert_int_equal(httpc_start(client, &c, NULL), 0);
        RUN_UNTIL(event, 20, u.done);
        assert_true(u.r == -EPROTO || u.r == -ETIMEDOUT);
}

static void bad_input(void **state)
{
        static const char *const urls[] = { "",
                                            "nonsense",
                                            "ftp://127.0.0.1/",
                                            "file:///etc/passwd",
                                            "http://a b/",
                                            "http://127.0.0.1/\r\nX: y" };
        static const char *const split[] = { "X-A: b\r\nX-C: d", NULL };
        static const char *const colon[] = { "no colon", NULL };
        struct httpc_config c = { .method = "GET" };
        for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
                c.url = urls[i];
                assert_int_equal(httpc_start(client, &c, NULL), -EINVAL);
        }
        c.url = "http://127.0.0.1/";
        c.headers = split;
        assert_int_equal(httpc_start(client, &c, NULL), -EINVAL);
        c.headers = colon;
        assert_int_equal(httpc_start(client, &c, NULL), -EINVAL);
        c.headers = NULL;
        c.method = "GET / HTTP/1.1\r\nX: y";
        assert_int_equal(httpc_start(client, &c, NULL), -EINVAL);
}

static void cancel_now(struct seen *s)
{
        httpc_cancel(s->request);
        httpc_cancel(s->request); /* harmless */
}

static void cancels(void **state)
{
        SEEN s = { .in_data = cancel_now };
        int open = http_peer_open(peer);
        start(&s, "/endless");
        RUN_UNTIL(event, 10, s.chunks);
        RUN_UNTIL(event, 10, http_peer_open(peer) <= open); /* the connection is closed at once */
        assert_int_equal(s.chunks, 1);
        assert_int_equal(s.done, 0);
        SEEN t = { 0 };
        start(&t, "/silent");
        httpc_cancel(t.request); /* before anything happened */
        SEEN u = { 0 };
        start(&u, "/stall");
        RUN_UNTIL(event, 10, u.chunks);
        uint64_t begin = now_monotonic();
        httpc_cancel(u.request);
        RUN_UNTIL(event, 10, http_peer_open(peer) <= open);
        assert_true(now_monotonic() - begin < 500 * USEC_PER_MSEC);
        SEEN v = { .in_done = cancel_now }; /* in its own on_done */
        start(&v, "/echo");
        RUN_UNTIL(event, 10, v.done);
        assert_int_equal(t.done + u.done, 0);
}

static struct seen next_seen;
static void start_next(struct seen *s)
{
        if (next_seen.request == NULL)
                start(&next_seen, "/echo");
}

static void start_inside_callbacks(void **state)
{
        SEEN s = { .in_data = start_next };
        start(&s, "/echo");
        RUN_UNTIL(event, 10, s.done && next_seen.done);
        assert_int_equal(next_seen.r, 0);
        seen_done(&next_seen);
        next_seen = (struct seen){ 0 };
        SEEN t = { .in_done = start_next };
        start(&t, "/echo");
        RUN_UNTIL(event, 10, t.done && next_seen.done);
        assert_int_equal(next_seen.r, 0);
        seen_done(&next_seen);
        next_seen = (struct seen){ 0 };
}

static void free_now(struct seen *s)
{
        client = httpc_free(client);
}

static void free_inside_callbacks(void **state)
{
        for (int i = 0; i < 2; i++) {
                SEEN s = { .in_data = i == 0 ? free_now : NULL,
                           .in_done = i == 1 ? free_now : NULL };
                SEEN other = { 0 };
                start(&other, "/silent");
                start(&s, "/echo");
                RUN_UNTIL(event, 10, !client);
                assert_int_equal(other.done, 0);
                RUN_UNTIL(event, 10, http_peer_open(peer) == 0);
                assert_int_equal(httpc_new(event, &client), 0);
        }
}

static void many_at_once(void **state)
{
        enum { N = 1000 };
        struct seen *all = xnewn(struct seen, N);
        uint64_t begin = now_monotonic();
        for (int i = 0; i < N; i++)
                start(&all[i], "/status/200");
        SEEN more = { 0 };
        assert_int_equal(start_config(&more, "/echo", (struct httpc_config){ 0 }), -EAGAIN);
        int done = 0;
        RUN_UNTIL(event, 60, ({
                          done = 0;
                          for (int i = 0; i < N; i++)
                                  done += all[i].done;
                          done == N;
                  }));
        for (int i = 0; i < N; i++) {
                assert_int_equal(all[i].r, 0);
                seen_done(&all[i]);
        }
        free(all);
        print_message("# %d requests in %" PRIu64 " ms\n", N, (now_monotonic() - begin) / 1000);
}

static int setup(void **state)
{
        if (sd_event_new(&event) < 0)
                return -1;
        peer = http_peer_new(event);
        return httpc_new(event, &client);
}

static int teardown(void **state)
{
        httpc_free(client);
        http_peer_free(peer);
        sd_event_unref(event);
        return 0;
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(post),
                cmocka_unit_test(methods_and_reuse),
                cmocka_unit_test(large_upload),
                cmocka_unit_test(streaming),
                cmocka_unit_test(stalls),
                cmocka_unit_test(failures),
                cmocka_unit_test(no_server),
                cmocka_unit_test(bad_input),
                cmocka_unit_test(cancels),
                cmocka_unit_test(start_inside_callbacks),
                cmocka_unit_test(free_inside_callbacks),
                cmocka_unit_test(many_at_once),
        };
        /* A proxy of the machine has no place between the test and itself. */
        (void) setenv("no_proxy", "*", 1);
        return cmocka_run_group_tests(tests, setup, teardown);
}
