/* Finds the server name in a TLS ClientHello. */
#include "hello.h"

struct cursor {
        const uint8_t *p;
        size_t n;
        bool bad;
};

static unsigned take(struct cursor *c, unsigned bytes)
{
        unsigned v = 0;
        if (c->n < bytes) {
                c->bad = true;
                return 0;
        }
        for (unsigned i = 0; i < bytes; i++)
                v = v << 8 | c->p[i];
        c->p += bytes;
        c->n -= bytes;
        return v;
}

/* A part of the rest with its length in `bytes` bytes before it. */
static struct cursor part(struct cursor *c, unsigned bytes)
{
        size_t len = take(c, bytes);
        struct cursor inner = { c->p, len, false };
        if (c->bad || len > c->n) {
                c->bad = true;
                return (struct cursor){ .bad = true };
        }
        c->p += len;
        c->n -= len;
        return inner;
}

static int find_name(struct cursor hello, char ret[static HOST_TEXT_MAX])
{
        (void) take(&hello, 2); /* version */
        if (hello.n < 32)
                return -EBADMSG;
        hello.p += 32; /* random */
        hello.n -= 32;
        (void) part(&hello, 1); /* session id */
        (void) part(&hello, 2); /* cipher suites */
        (void) part(&hello, 1); /* compression */
        struct cursor extensions = part(&hello, 2);
        while (!hello.bad && !extensions.bad && extensions.n > 0) {
                unsigned type = take(&extensions, 2);
                struct cursor body = part(&extensions, 2);
                if (type != 0 || extensions.bad)
                        continue;
                struct cursor names = part(&body, 2);
                unsigned kind = take(&names, 1);
                struct cursor name = part(&names, 2);
                enum host_kind host;
                if (names.bad || body.bad || kind != 0 || names.n > 0 ||
                    host_normalise((struct span){ (const char *) name.p, name.n }, ret, &host) < 0)
                        return -EBADMSG;
                return 0;
        }
        return hello.bad || extensions.bad ? -EBADMSG : -ENOENT;
}

int hello_name(const char *data, size_t n, char ret[static HOST_TEXT_MAX])
{
        uint8_t message[HELLO_MAX];
        size_t have = 0;
        struct cursor records = { (const uint8_t *) data, n, false };
        for (;;) {
                /* handshake record, version 3.x, at most 2^14 bytes (RFC 8446 5.1) */
                if ((records.n > 0 && records.p[0] != 22) || (records.n > 1 && records.p[1] != 3))
                        return -EBADMSG;
                if (records.n < 5)
                        return -EAGAIN;
                size_t len = (size_t) records.p[3] << 8 | records.p[4];
                if (len == 0 || len > 1 << 14 || have + len > sizeof(message))
                        return -EBADMSG;
                size_t got = MIN(len, records.n - 5);
                memcpy(message + have, records.p + 5, got);
                have += got;
                if (have > 0 && message[0] != 1)
                        return -EBADMSG;
                if (have >= 4) {
                        size_t whole =
                                (size_t) message[1] << 16 | (size_t) message[2] << 8 | message[3];
                        if (whole + 4 > sizeof(message))
                                return -EBADMSG;
                        if (have >= whole + 4)
                                return find_name((struct cursor){ message + 4, whole, false }, ret);
                }
                if (got < len)
                        return -EAGAIN;
                records.p += 5 + len;
                records.n -= 5 + len;
        }
}
