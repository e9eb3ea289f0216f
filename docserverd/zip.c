/* Writes ZIP files of stored entries. */
#include "zip.h"

#include <libdeflate.h>
#include <time.h>
#include <unistd.h>

#include "common/base/buf.h"

#define CRC_OFFSET 14 /* in a local header */
#define SMALL 0xffffffffu
#define VERSION 20u
#define VERSION_64 45u
#define FLAG_UTF8 0x0800u
#define MADE_BY_UNIX (3u << 8)

struct zip {
        int fd;
        uint64_t at;
        struct buf directory;
        uint64_t entries;

        /* The entry that is being written. */
        char *name;
        uint64_t start, size, left;
        uint32_t crc, time;
};

struct zip *zip_new(int fd)
{
        struct zip *z = xnew(struct zip);
        z->fd = fd;
        return z;
}

struct zip *zip_free(struct zip *z)
{
        if (!z)
                return NULL;
        buf_done(&z->directory);
        free(z->name);
        free(z);
        return NULL;
}

static int write_at(struct zip *z, uint64_t at, const void *data, size_t n)
{
        const char *p = data;
        while (n > 0) {
                ssize_t k = pwrite(z->fd, p, n, (off_t) at);
                if (k < 0 && errno == EINTR)
                        continue;
                if (k < 0)
                        return -errno;
                p += k;
                at += (uint64_t) k;
                n -= (size_t) k;
        }
        return 0;
}

static int write_next(struct zip *z, const struct buf *b)
{
        int r = write_at(z, z->at, buf_head(b), buf_pending(b));
        if (r == 0)
                z->at += buf_pending(b);
        return r;
}

static void put(struct buf *b, uint64_t value, unsigned bytes)
{
        unsigned char raw[8];
        for (unsigned i = 0; i < bytes; i++)
                raw[i] = (unsigned char) (value >> (8 * i));
        buf_put(b, raw, bytes);
}

/* Two 16-bit fields as MS-DOS had them, in UTC: the time in the lower half. */
static uint32_t dos_time(uint64_t time_us)
{
        time_t seconds = (time_t) (time_us / USEC_PER_SEC);
        struct tm tm = { 0 };
        (void) gmtime_r(&seconds, &tm);
        if (tm.tm_year < 80)
                return 1u << 21 | 1u << 16;
        return (uint32_t) (tm.tm_year - 80) << 25 | (uint32_t) (tm.tm_mon + 1) << 21 |
               (uint32_t) tm.tm_mday << 16 | (uint32_t) tm.tm_hour << 11 |
               (uint32_t) tm.tm_min << 5 | (uint32_t) tm.tm_sec / 2;
}

/* What the local header and the directory have in common. */
static void put_common(struct buf *b, const struct zip *z, bool large, size_t extra)
{
        put(b, large ? VERSION_64 : VERSION, 2);
        put(b, FLAG_UTF8, 2);
        put(b, 0, 2); /* stored */
        put(b, z->time, 4);
        put(b, z->crc, 4);
        put(b, MIN(z->size, (uint64_t) SMALL), 4);
        put(b, MIN(z->size, (uint64_t) SMALL), 4);
        put(b, strlen(z->name), 2);
        put(b, extra, 2);
}

int zip_begin(struct zip *z, const char *name, uint64_t size, uint64_t time_us)
{
        cleanup_buf struct buf b = BUF_INIT;
        bool large = size >= SMALL;

        z->name = xstrdup(name);
        z->start = z->at;
        z->size = size;
        z->left = size;
        z->crc = 0;
        z->time = dos_time(time_us);
        put(&b, 0x04034b50, 4);
        put_common(&b, z, large, large ? 20 : 0);
        buf_puts(&b, name);
        if (large) {
                put(&b, 1, 2);
                put(&b, 16, 2);
                put(&b, size, 8);
                put(&b, size, 8);
        }
        return write_next(z, &b);
}

int zip_data(struct zip *z, const void *data, size_t n)
{
        if (n > z->left)
                return -EMSGSIZE;
        int r = write_at(z, z->at, data, n);
        if (r < 0)
                return r;
        z->crc = libdeflate_crc32(z->crc, data, n);
        z->at += n;
        z->left -= n;
        return 0;
}

static void put_directory(struct zip *z)
{
        struct buf *b = &z->directory;
        bool large = z->size >= SMALL, far = z->start >= SMALL;
        size_t extra = (large ? 16u : 0u) + (far ? 8u : 0u);

        put(b, 0x02014b50, 4);
        put(b, MADE_BY_UNIX | VERSION_64, 2);
        put_common(b, z, large || far, extra ? extra + 4 : 0);
        put(b, 0, 2);                           /* comment */
        put(b, 0, 2);                           /* disk */
        put(b, 0, 2);                           /* binary */
        put(b, (uint64_t) (0100644u) << 16, 4); /* an ordinary file */
        put(b, MIN(z->start, (uint64_t) SMALL), 4);
        buf_puts(b, z->name);
        if (extra) {
                put(b, 1, 2);
                put(b, extra, 2);
        }
        if (large) {
                put(b, z->size, 8);
                put(b, z->size, 8);
        }
        if (far)
                put(b, z->start, 8);
}

int zip_end(struct zip *z)
{
        cleanup_buf struct buf crc = BUF_INIT;
        if (z->left > 0)
                return -EMSGSIZE;
        put(&crc, z->crc, 4);
        int r = write_at(z, z->start + CRC_OFFSET, buf_head(&crc), buf_pending(&crc));
        if (r < 0)
                return r;
        put_directory(z);
        z->entries++;
        free(z->name);
        z->name = NULL;
        return 0;
}

int zip_finish(struct zip *z, uint64_t *ret_size)
{
        cleanup_buf struct buf b = BUF_INIT;
        uint64_t start = z->at, size = buf_pending(&z->directory);
        int r = write_next(z, &z->directory);
        if (r < 0)
                return r;
        if (start >= SMALL || size >= SMALL || z->entries >= 0xffff) {
                uint64_t here = z->at;
                put(&b, 0x06064b50, 4);
                put(&b, 44, 8);
                put(&b, MADE_BY_UNIX | VERSION_64, 2);
                put(&b, VERSION_64, 2);
                put(&b, 0, 4);
                put(&b, 0, 4);
                put(&b, z->entries, 8);
                put(&b, z->entries, 8);
                put(&b, size, 8);
                put(&b, start, 8);
                put(&b, 0x07064b50, 4);
                put(&b, 0, 4);
                put(&b, here, 8);
                put(&b, 1, 4);
        }
        put(&b, 0x06054b50, 4);
        put(&b, 0, 2);
        put(&b, 0, 2);
        put(&b, MIN(z->entries, UINT64_C(0xffff)), 2);
        put(&b, MIN(z->entries, UINT64_C(0xffff)), 2);
        put(&b, MIN(size, (uint64_t) SMALL), 4);
        put(&b, MIN(start, (uint64_t) SMALL), 4);
        put(&b, 0, 2);
        r = write_next(z, &b);
        if (r == 0)
                *ret_size = z->at;
        return r;
}
