/* Turns bytes of unknown origin into valid, bounded UTF-8. */
#include "utf8.h"

/* The length a first byte announces; 0 when no character begins with it. */
static size_t utf8_length(unsigned char c)
{
        if (c < 0x80)
                return 1;
        if (c >= 0xc2 && c <= 0xdf)
                return 2;
        if (c >= 0xe0 && c <= 0xef)
                return 3;
        return c >= 0xf0 && c <= 0xf4 ? 4 : 0;
}

void utf8_clean(struct buf *out, const char *data, size_t n)
{
        size_t from = 0, i = 0;

        while (i < n) {
                size_t len = utf8_length((unsigned char) data[i]);

                if (data[i] != '\0' && len > 0 && len <= n - i && utf8_valid(data + i, len)) {
                        i += len;
                        continue;
                }
                if (i > from)
                        buf_put(out, data + from, i - from);
                buf_puts(out, "\xef\xbf\xbd");
                from = ++i;
        }
        if (i > from)
                buf_put(out, data + from, i - from);
}

size_t utf8_incomplete(const char *data, size_t n)
{
        for (size_t back = 1; back <= MIN(n, (size_t) 3); back++) {
                unsigned char c = (unsigned char) data[n - back];

                if ((c & 0xc0) == 0x80)
                        continue;
                return utf8_length(c) > back ? back : 0;
        }
        return 0;
}

size_t utf8_cut(const char *data, size_t n, size_t max)
{
        if (n <= max)
                return n;
        while (max > 0 && ((unsigned char) data[max] & 0xc0) == 0x80)
                max--;
        return max;
}

char *utf8_clip(const char *data, size_t n, size_t max)
{
        struct buf b = BUF_INIT;
        size_t keep;

        utf8_clean(&b, n > 0 ? data : "", MIN(n, max + 4));
        keep = utf8_cut(b.len > 0 ? b.data : "", b.len, max);
        if (keep < b.len || n > max + 4) {
                struct buf clipped = BUF_INIT;

                buf_put(&clipped, b.data, keep);
                buf_putf(&clipped, "\n[clipped: %zu more bytes]",
                         n > keep ? n - keep : b.len - keep);
                buf_done(&b);
                return buf_take(&clipped, NULL);
        }
        if (b.len == 0) {
                buf_done(&b);
                return xstrdup("");
        }
        return buf_take(&b, NULL);
}
