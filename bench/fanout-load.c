/* Both ends of bench/fanout: many WebSocket clients in one process, and a publisher over HTTP.
 *   fanout-load clients PORT PATH TOKEN N     prints "ready", reads the number published from its
 *                                             input, prints one JSON line when all have come
 *   fanout-load http PORT PATH RATE SECONDS   posts stamped messages; prints how many
 * A message holds "at":MICROSECONDS of the monotonic clock; the clock of one host is shared. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/util.h"

#define READ_MAX 65536
#define DISCARD_MAX (1u << 20)
#define MESSAGE_MIN 300u /* shorter frames are pings and greetings */
#define SLACK 64u        /* bytes of pings that one client may have got more than another */
#define LATENCIES_MAX 2000000
#define POSTERS 8
#define LINGER_USEC (6 * USEC_PER_SEC)

struct client {
        int fd;
        bool looks;     /* at its messages; the others only count bytes */
        size_t have;    /* of a frame that has not come whole */
        uint64_t got;   /* messages */
        uint64_t bytes; /* since the head of the answer */
        char *buf;      /* READ_MAX */
};

/* Many clients in one process stand for as many machines: what they spend is not what is measured,
 * yet it is taken from the same processors. So only some look at what they get; the others have the
 * kernel drop it and count bytes. All are sent the same, so who has as many bytes as one that
 * looked has as many messages. */
struct clients {
        struct client *c;
        size_t n, cut, stride, looking;
        uint64_t messages, published, *latency; /* messages: of those that look */
        size_t n_latency;
};

static int connect_to(uint64_t port)
{
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t) port) };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
        if (connect(fd, (struct sockaddr *) &a, sizeof(a)) < 0) {
                perror("connect");
                exit(1);
        }
        return fd;
}

/* Reads the head of the answer; what follows it stays in the client's buffer. */
static void upgrade(struct client *c, const char *path, const char *token)
{
        cleanup_free char *head = xasprintf(
                "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: "
                "Upgrade\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                "Authorization: Bearer %s\r\n\r\n",
                path, token);
        char *end = NULL;

        if (write(c->fd, head, strlen(head)) < 0)
                exit(1);
        while (!end && c->have < READ_MAX) {
                ssize_t n = read(c->fd, c->buf + c->have, READ_MAX - c->have);
                if (n <= 0)
                        exit(1);
                c->have += (size_t) n;
                end = memmem(c->buf, c->have, "\r\n\r\n", 4);
        }
        if (!end || memcmp(c->buf, "HTTP/1.1 101", 12) != 0) {
                (void) fprintf(stderr, "%.*s\n", (int) c->have, c->buf);
                exit(1);
        }
        end += 4;
        c->have -= (size_t) (end - c->buf);
        memmove(c->buf, end, c->have);
        (void) fcntl(c->fd, F_SETFL, O_NONBLOCK);
}

static void sample(struct clients *k, const char *payload, size_t n)
{
        const char *at = memmem(payload, n, "\"at\":", 5);
        uint64_t now = now_monotonic(), sent = at ? strtoull(at + 5, NULL, 10) : 0;

        if (sent > 0 && k->n_latency < LATENCIES_MAX)
                k->latency[k->n_latency++] = now - sent;
}

static void take_frames(struct clients *k, struct client *c)
{
        size_t at = 0;

        while (c->have - at >= 4) {
                const uint8_t *p = (const uint8_t *) c->buf + at;
                size_t head = 2, len = p[1] & 0x7f;
                if (len == 126) {
                        len = (size_t) p[2] << 8 | p[3];
                        head = 4;
                }
                if (c->have - at < head + len)
                        break;
                if (len >= MESSAGE_MIN) {
                        c->got++;
                        k->messages++;
                        sample(k, c->buf + at + head, len);
                }
                at += head + len;
        }
        c->have -= at;
        memmove(c->buf, c->buf + at, c->have);
}

static void on_readable(struct clients *k, struct client *c)
{
        ssize_t n = c->looks ? recv(c->fd, c->buf + c->have, READ_MAX - c->have, 0)
                             : recv(c->fd, NULL, DISCARD_MAX, MSG_TRUNC);

        if (n > 0) {
                c->bytes += (uint64_t) n;
                if (c->looks) {
                        c->have += (size_t) n;
                        take_frames(k, c);
                }
        } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
                k->cut++;
                close(c->fd);
        }
}

static int compare(const void *a, const void *b)
{
        const uint64_t *x = a, *y = b;
        return *x < *y ? -1 : *x > *y;
}

static double percentile(struct clients *k, unsigned percent)
{
        if (k->n_latency == 0)
                return 0;
        qsort(k->latency, k->n_latency, sizeof(*k->latency), compare);
        size_t at = (k->n_latency - 1) * percent / 100;
        return (double) k->latency[at] / 1e3;
}

/* Messages that all clients have got together. */
static uint64_t received(const struct clients *k)
{
        uint64_t total = k->messages, full = 0;

        for (size_t i = 0; i < k->n; i++)
                if (k->c[i].looks && k->c[i].got >= k->published)
                        full = MAX(full, k->c[i].bytes - MIN(k->c[i].bytes, (uint64_t) SLACK));
        for (size_t i = 0; i < k->n && full > 0; i++)
                if (!k->c[i].looks)
                        total += k->published * MIN(k->c[i].bytes, full) / full;
        return total;
}

static bool all_there(const struct clients *k)
{
        return k->messages >= k->published * k->looking && received(k) >= k->published * k->n;
}

static void receive_all(struct clients *k, int ep)
{
        struct epoll_event events[256];
        uint64_t until = 0;
        char line[32];

        for (;;) {
                int n = epoll_wait(ep, events, 256, 100);
                for (int i = 0; i < n; i++) {
                        if (events[i].data.ptr) {
                                on_readable(k, events[i].data.ptr);
                                continue;
                        }
                        ssize_t got = read(STDIN_FILENO, line, sizeof(line) - 1);
                        (void) epoll_ctl(ep, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
                        line[MAX(got, 0)] = 0;
                        k->published = strtoull(line, NULL, 10);
                        until = now_monotonic() + LINGER_USEC;
                }
                if (until && (all_there(k) || now_monotonic() > until))
                        return;
        }
}

static int clients_main(char **argv)
{
        struct clients k = { .latency = xcalloc(LATENCIES_MAX, sizeof(*k.latency)) };
        struct epoll_event e = { .events = EPOLLIN };
        int ep = epoll_create1(EPOLL_CLOEXEC);
        uint64_t port, n;

        if (parse_u64(argv[2], &port) < 0 || parse_u64(argv[5], &n) < 0)
                return 2;
        k.n = n;
        k.stride = n >= 500 ? 64 : n >= 50 ? 16 : 1;
        k.c = xcalloc(n, sizeof(*k.c));
        for (size_t i = 0; i < n; i++) {
                /* The last one is among those that look: it is often served last. */
                k.c[i].looks = (n - 1 - i) % k.stride == 0;
                k.looking += k.c[i].looks;
                k.c[i].fd = connect_to(port);
                k.c[i].buf = xmalloc(READ_MAX);
                upgrade(&k.c[i], argv[3], argv[4]);
                e.data.ptr = &k.c[i];
                (void) epoll_ctl(ep, EPOLL_CTL_ADD, k.c[i].fd, &e);
                k.c[i].bytes = k.c[i].have;
                if (k.c[i].looks)
                        take_frames(&k, &k.c[i]);
                else
                        free(TAKE_PTR(k.c[i].buf));
        }
        e.data.ptr = NULL;
        (void) epoll_ctl(ep, EPOLL_CTL_ADD, STDIN_FILENO, &e);
        (void) puts("ready");
        (void) fflush(stdout);
        receive_all(&k, ep);
        (void) printf("{\"received\":%" PRIu64 ",\"expected\":%" PRIu64
                      ",\"cut\":%zu,\"p50_ms\":%.2f,"
                      "\"p99_ms\":%.2f,\"max_ms\":%.2f}\n",
                      received(&k), k.published * k.n, k.cut, percentile(&k, 50),
                      percentile(&k, 99), percentile(&k, 100));
        return 0;
}

/* ---- publishing over HTTP ---- */

struct poster {
        int fd;
        struct buf out;
        uint64_t flying;
};

static void post(struct poster *p, const char *path)
{
        char body[513];

        int n = snprintf(body, sizeof(body), "{\"at\":%" PRIu64 ",\"pad\":\"", now_monotonic());
        memset(body + n, 'x', sizeof(body) - (size_t) n);
        memcpy(body + 510, "\"}", 3);
        buf_putf(&p->out,
                 "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                 "Content-Length: 512\r\n\r\n%s",
                 path, body);
        p->flying++;
}

static void exchange(struct poster *p)
{
        static char in[READ_MAX];
        ssize_t n;

        if (buf_pending(&p->out) > 0) {
                n = write(p->fd, buf_head(&p->out), buf_pending(&p->out));
                if (n > 0)
                        buf_consume(&p->out, (size_t) n);
        }
        n = read(p->fd, in, sizeof(in));
        for (ssize_t i = 0; i + 9 <= n; i++)
                if (memcmp(in + i, "HTTP/1.1 ", 9) == 0)
                        p->flying -= p->flying > 0;
}

static int http_main(char **argv)
{
        struct poster posters[POSTERS] = { 0 };
        uint64_t port, rate, seconds, done = 0, flying = 0;

        if (parse_u64(argv[2], &port) < 0 || parse_u64(argv[4], &rate) < 0 ||
            parse_u64(argv[5], &seconds) < 0)
                return 2;
        for (size_t i = 0; i < POSTERS; i++) {
                posters[i].fd = connect_to(port);
                (void) fcntl(posters[i].fd, F_SETFL, O_NONBLOCK);
        }
        uint64_t from = now_monotonic(), now, end = from + seconds * USEC_PER_SEC;
        do {
                flying = 0;
                for (size_t i = 0; i < POSTERS; i++) {
                        exchange(&posters[i]);
                        flying += posters[i].flying;
                }
                now = now_monotonic();
                for (; now < end && done < (now - from) * rate / USEC_PER_SEC && flying < 2000;
                     done++, flying++)
                        post(&posters[done % POSTERS], argv[3]);
                (void) poll(NULL, 0, 1);
        } while (now < end + (flying > 0 ? LINGER_USEC : 0));
        (void) printf("{\"published\":%" PRIu64 ",\"per_s\":%.0f}\n", done,
                      (double) done / (double) seconds);
        return 0;
}

int main(int argc, char **argv)
{
        if (argc == 6 && streq(argv[1], "clients"))
                return clients_main(argv);
        if (argc == 6 && streq(argv[1], "http"))
                return http_main(argv);
        return 2;
}
