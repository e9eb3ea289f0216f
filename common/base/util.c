/* Ownership, checked allocation, clocks, random bytes and ids. */
#include "util.h"

#include <sys/random.h>
#include <time.h>
#include <unistd.h>

static _Noreturn void die(const char *why)
{
        fprintf(stderr, "berth: %s\n", why);
        abort();
}

void cleanup_freep(void *p)
{
        free(*(void **) p);
}

void cleanup_closep(int *fd)
{
        *fd = fd_close(*fd);
}

void cleanup_fclosep(FILE **f)
{
        if (*f)
                (void) fclose(*f);
}

int fd_close(int fd)
{
        if (fd >= 0) {
                int saved = errno;
                (void) close(fd);
                errno = saved;
        }
        return -1;
}

void *try_malloc(size_t n)
{
        return malloc(n ? n : 1);
}

void *xmalloc(size_t n)
{
        void *p = malloc(n ? n : 1);
        if (!p)
                die("out of memory");
        return p;
}

void *xcalloc(size_t n, size_t size)
{
        void *p = calloc(n ? n : 1, size ? size : 1);
        if (!p)
                die("out of memory");
        return p;
}

void *xrealloc(void *p, size_t n, size_t size)
{
        size_t bytes;
        if (__builtin_mul_overflow(n, size, &bytes))
                die("allocation size overflows");
        void *grown = realloc(p, bytes ? bytes : 1);
        if (!grown)
                die("out of memory");
        return grown;
}

char *xstrdup(const char *s)
{
        return s ? xstrndup(s, strlen(s)) : NULL;
}

char *xstrndup(const char *s, size_t n)
{
        if (!s)
                return NULL;
        n = strnlen(s, n);
        char *copy = xmalloc(n + 1);
        memcpy(copy, s, n);
        copy[n] = 0;
        return copy;
}

char *xasprintf(const char *fmt, ...)
{
        char *s = NULL;
        va_list ap;
        va_start(ap, fmt);
        int n = vasprintf(&s, fmt, ap);
        va_end(ap);
        if (n < 0)
                die("out of memory");
        return s;
}

static uint64_t clock_usec(clockid_t id)
{
        struct timespec ts;
        if (clock_gettime(id, &ts) < 0)
                die("no clock");
        return (uint64_t) ts.tv_sec * USEC_PER_SEC + (uint64_t) ts.tv_nsec / 1000;
}

uint64_t now_monotonic(void)
{
        return clock_usec(CLOCK_MONOTONIC);
}

uint64_t now_realtime(void)
{
        return clock_usec(CLOCK_REALTIME);
}

void timestamp_format(uint64_t realtime_us, char buf[static TIMESTAMP_MAX])
{
        /* Four-digit years only: RFC 3339 ends with 9999. */
        const uint64_t last = UINT64_C(253402300799999999);
        uint64_t us = MIN(realtime_us, last);
        time_t sec = (time_t) (us / USEC_PER_SEC);
        struct tm tm;
        if (!gmtime_r(&sec, &tm))
                die("gmtime_r failed");
        size_t n = strftime(buf, TIMESTAMP_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
        (void) snprintf(buf + n, TIMESTAMP_MAX - n, ".%06uZ", (unsigned) (us % USEC_PER_SEC));
}

void random_bytes(void *buf, size_t n)
{
        char *p = buf;
        while (n > 0) {
                ssize_t got = getrandom(p, n, 0);
                if (got < 0 && errno == EINTR)
                        continue;
                if (got <= 0)
                        die("no random bytes from the kernel");
                p += got;
                n -= (size_t) got;
        }
}

void uuid_make(char buf[static UUID_MAX])
{
        uint8_t b[16];
        random_bytes(b, sizeof(b));
        uint64_t us = now_realtime();
        uint64_t ms = us / 1000;
        /* RFC 9562 6.2 method 3: the 12 bits after the version sort within the millisecond. */
        uint64_t fraction = us % 1000 * 4096 / 1000;
        for (int i = 0; i < 6; i++)
                b[i] = (uint8_t) (ms >> (40 - 8 * i));
        b[6] = (uint8_t) (0x70 | fraction >> 8);
        b[7] = (uint8_t) fraction;
        b[8] = (uint8_t) (0x80 | (b[8] & 0x3f));

        char hex[33];
        hex_encode(b, sizeof(b), hex);
        (void) snprintf(buf, UUID_MAX, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12,
                        hex + 16, hex + 20);
}
