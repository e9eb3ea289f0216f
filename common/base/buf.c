/* Growable byte buffer with a hard limit and cheap consumption from the front. */
#include "buf.h"

#include <assert.h>

#define BUF_FIRST 256

void buf_done(struct buf *b)
{
        size_t limit = b->limit;
        free(b->data);
        *b = BUF_LIMIT(limit);
}

static void compact(struct buf *b)
{
        if (b->off == 0)
                return;
        memmove(b->data, b->data + b->off, b->len - b->off);
        b->len -= b->off;
        b->off = 0;
        b->data[b->len] = 0;
}

int buf_reserve(struct buf *b, size_t n)
{
        size_t pending = buf_pending(b), want;
        if (__builtin_add_overflow(pending, n, &want) || want > SIZE_MAX / 2 - 1)
                return -ENOMEM;
        if (b->limit && want > b->limit)
                return -EMSGSIZE;
        if (b->cap - b->len > n)
                return 0;
        /* Moving is worth it when it frees at least as much as it copies. */
        if (b->off >= pending)
                compact(b);
        if (b->cap - b->len > n)
                return 0;
        size_t cap = MAX(b->len + n + 1, b->cap + b->cap / 2);
        cap = MAX(cap, (size_t) BUF_FIRST);
        char *data = realloc(b->data, cap);
        if (!data)
                return -ENOMEM;
        b->data = data;
        b->cap = cap;
        b->data[b->len] = 0;
        return 0;
}

void buf_added(struct buf *b, size_t n)
{
        assert(b->cap - b->len > n);
        b->len += n;
        b->data[b->len] = 0;
}

int buf_append(struct buf *b, const void *data, size_t n)
{
        int r = buf_reserve(b, n);
        if (r < 0)
                return r;
        if (n > 0)
                memcpy(b->data + b->len, data, n);
        buf_added(b, n);
        return 0;
}

static int append_va(struct buf *b, const char *fmt, va_list ap) printf_like(2, 0);
static int append_va(struct buf *b, const char *fmt, va_list ap)
{
        va_list again;
        va_copy(again, ap);
        /* Into the room there is; once more when that was too little. */
        size_t room = b->data ? b->cap - b->len : 0;
        /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized) */
        int n = vsnprintf(room > 0 ? buf_tail(b) : NULL, room, fmt, ap);
        int r = n < 0 ? -EINVAL : buf_reserve(b, (size_t) n);
        if (r == 0 && (size_t) n >= room)
                (void) vsnprintf(buf_tail(b), (size_t) n + 1, fmt, again);
        if (r == 0)
                buf_added(b, (size_t) n);
        else if (room > 0)
                *buf_tail(b) = '\0';
        va_end(again);
        return r;
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
        va_list ap;
        va_start(ap, fmt);
        int r = append_va(b, fmt, ap);
        va_end(ap);
        return r;
}

static void must(int r)
{
        if (r < 0) {
                fprintf(stderr, "berth: buffer: %s\n",
                        r == -ENOMEM ? "out of memory" : "limit crossed by our own output");
                abort();
        }
}

void buf_put(struct buf *b, const void *data, size_t n)
{
        must(buf_append(b, data, n));
}

void buf_puts(struct buf *b, const char *s)
{
        must(buf_append(b, s, strlen(s)));
}

void buf_putf(struct buf *b, const char *fmt, ...)
{
        va_list ap;
        va_start(ap, fmt);
        int r = append_va(b, fmt, ap);
        va_end(ap);
        must(r);
}

static void put_escape(struct buf *b, char c)
{
        static const char *const short_form[] = {
                ['\b'] = "\\b", ['\t'] = "\\t", ['\n'] = "\\n",  ['\f'] = "\\f",
                ['\r'] = "\\r", ['"'] = "\\\"", ['\\'] = "\\\\",
        };
        const char *s = (size_t) c < ARRAY_LEN(short_form) ? short_form[(size_t) c] : NULL;
        if (s)
                buf_put(b, s, 2);
        else
                buf_putf(b, "\\u%04x", (unsigned) (unsigned char) c);
}

void buf_put_json_string(struct buf *b, const char *s, size_t n)
{
        buf_put(b, "\"", 1);
        size_t start = 0;
        for (size_t i = 0; i < n; i++) {
                unsigned char c = (unsigned char) s[i];
                if (c >= 0x20 && c != '"' && c != '\\')
                        continue;
                buf_put(b, s + start, i - start);
                put_escape(b, s[i]);
                start = i + 1;
        }
        if (n > start)
                buf_put(b, s + start, n - start);
        buf_put(b, "\"", 1);
}

void buf_consume(struct buf *b, size_t n)
{
        assert(n <= buf_pending(b));
        b->off += n;
        if (b->off == b->len)
                buf_clear(b);
}

void buf_clear(struct buf *b)
{
        b->len = b->off = 0;
        if (b->data)
                b->data[0] = 0;
}

char *buf_take(struct buf *b, size_t *ret_len)
{
        must(buf_reserve(b, 0));
        compact(b);
        size_t len = b->len;
        char *data = b->data;
        *b = BUF_LIMIT(b->limit);
        if (ret_len)
                *ret_len = len;
        return data;
}
