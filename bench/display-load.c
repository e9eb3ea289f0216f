/* Measures a way to an RFB server: round trip of one pixel, and how many bytes of whole frames
 * come.
 *
 *   display-load unix PATH | tcp PORT | ws PORT PATH [HEADER]     prints: round trip p50 p99 us,
 * MB/s
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/base/util.h"

#define TRIPS 3000
#define FRAMES 150

static int fd;
static bool ws;
static uint8_t in[1 << 20];
static size_t at, have, payload; /* payload: bytes of the WebSocket frame not yet taken */

static uint64_t now_monotonic_ns(void)
{
        struct timespec t;

        (void) clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t) t.tv_sec * 1000000000 + (uint64_t) t.tv_nsec;
}

static void die(const char *what)
{
        perror(what);
        exit(1);
}

static void raw_read(void *to, size_t n)
{
        for (uint8_t *p = to; n > 0;) {
                if (at == have) {
                        ssize_t r = read(fd, in, sizeof(in));
                        if (r <= 0)
                                die("read");
                        at = 0;
                        have = (size_t) r;
                }
                size_t take = MIN(n, have - at);
                if (p) {
                        memcpy(p, in + at, take);
                        p += take;
                }
                at += take;
                n -= take;
        }
}

static void frame_head(void)
{
        uint8_t h[2], more[8];

        raw_read(h, 2);
        payload = h[1] & 127;
        size_t n = payload == 127 ? 8 : payload == 126 ? 2 : 0;
        if (n > 0) {
                raw_read(more, n);
                payload = 0;
                for (size_t i = 0; i < n; i++)
                        payload = payload << 8 | more[i];
        }
        if ((h[0] & 15) == 9) { /* ping */
                raw_read(NULL, payload);
                payload = 0;
        } else if ((h[0] & 15) != 2 && (h[0] & 15) != 0) {
                fprintf(stderr, "the server closes\n");
                exit(1);
        }
}

static void take(void *to, size_t n)
{
        uint8_t *p = to;

        while (n > 0) {
                while (ws && payload == 0)
                        frame_head();
                size_t piece = ws ? MIN(n, payload) : n;
                raw_read(p, piece);
                p = p ? p + piece : NULL;
                n -= piece;
                payload -= ws ? piece : 0;
        }
}

static void put(const void *data, size_t n)
{
        uint8_t b[256] = { 0x82, (uint8_t) (0x80 | n) }; /* masked with zeros */
        size_t head = ws ? 6 : 0;

        memcpy(b + head, data, n);
        if (write(fd, b, head + n) != (ssize_t) (head + n))
                die("write");
}

static int connect_to(const char *kind, const char *where)
{
        struct sockaddr_un u = { .sun_family = AF_UNIX };
        struct sockaddr_in t = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        bool local = streq(kind, "unix");
        int s = socket(local ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        (void) snprintf(u.sun_path, sizeof(u.sun_path), "%s", where);
        t.sin_port = htons((uint16_t) atoi(where));
        if (s < 0 || connect(s, local ? (struct sockaddr *) &u : (struct sockaddr *) &t,
                             local ? sizeof(u) : sizeof(t)) < 0)
                die("connect");
        return s;
}

static void upgrade(const char *port, const char *path, const char *header)
{
        char head[2048], line[4] = { 0 };
        int n = snprintf(head, sizeof(head),
                         "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nUpgrade: websocket\r\n"
                         "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                         "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
                         "Sec-WebSocket-Protocol: binary\r\n%s%s\r\n",
                         path, port, header ? header : "", header ? "\r\n" : "");

        if (write(fd, head, (size_t) n) != n)
                die("write");
        while (memcmp(line, "\r\n\r\n", 4) != 0) {
                memmove(line, line + 1, 3);
                raw_read(line + 3, 1);
        }
        ws = true;
}

static unsigned be16(const uint8_t *p)
{
        return (unsigned) p[0] << 8 | p[1];
}

static void greet(unsigned *width, unsigned *height)
{
        static const uint8_t format[20] = { 0,   0, 0,   0, 32,  24, 0, 1, 0,
                                            255, 0, 255, 0, 255, 16, 8, 0 };
        static const uint8_t encodings[8] = { 2, 0, 0, 1 };
        uint8_t b[24], n;

        take(b, 12);
        put("RFB 003.008\n", 12);
        take(&n, 1);
        take(NULL, n);
        put("\1", 1);
        take(b, 4);
        put("\1", 1);
        take(b, 24);
        *width = be16(b);
        *height = be16(b + 2);
        take(NULL, be16(b + 22));
        put(format, sizeof(format));
        put(encodings, sizeof(encodings));
}

static void ask(unsigned w, unsigned h)
{
        const uint8_t m[10] = {
                3, 0, 0, 0, 0, 0, (uint8_t) (w >> 8), (uint8_t) w, (uint8_t) (h >> 8), (uint8_t) h
        };

        put(m, sizeof(m));
}

/* One answer; gives the bytes of its pixels. next: asks for the next as soon as this one has begun
 * (two requests before an answer would get but one). */
static size_t answer(bool next, unsigned width, unsigned height)
{
        uint8_t head[4], rect[12];
        size_t bytes = 0;

        take(head, 1);
        if (head[0] != 0) {
                fprintf(stderr, "message %u\n", head[0]);
                exit(1);
        }
        take(head, 3);
        if (next)
                ask(width, height);
        for (unsigned n = be16(head + 1); n > 0; n--) {
                take(rect, 12);
                size_t size = (size_t) be16(rect + 4) * be16(rect + 6) * 4;
                take(NULL, size);
                bytes += size;
        }
        return bytes;
}

static int compare(const void *a, const void *b)
{
        double x = *(const double *) a, y = *(const double *) b;

        return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
        static double trips[TRIPS];
        unsigned width, height;
        size_t bytes = 0;

        if (argc < 3)
                return 2;
        fd = connect_to(streq(argv[1], "unix") ? "unix" : "tcp", argv[2]);
        if (streq(argv[1], "ws"))
                upgrade(argv[2], argc > 3 ? argv[3] : "/", argc > 4 ? argv[4] : NULL);
        greet(&width, &height);
        for (unsigned i = 0; i < TRIPS + 200; i++) {
                uint64_t from = now_monotonic_ns();
                ask(1, 1);
                (void) answer(false, 0, 0);
                if (i >= 200)
                        trips[i - 200] = (double) (now_monotonic_ns() - from) / 1000;
        }
        qsort(trips, TRIPS, sizeof(trips[0]), compare);
        uint64_t from = now_monotonic_ns();
        ask(width, height);
        for (unsigned i = 0; i < FRAMES; i++)
                bytes += answer(i + 1 < FRAMES, width, height);
        double seconds = (double) (now_monotonic_ns() - from) / 1e9;
        printf("%.1f %.1f %.0f\n", trips[TRIPS / 2], trips[TRIPS * 99 / 100],
               (double) bytes / 1e6 / seconds);
        return 0;
}
