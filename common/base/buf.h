/* Growable byte buffer with a hard limit: what every reader and writer in Berth queues into. */
#pragma once

#include "util.h"

struct buf {
        char *data;   /* NULL until something was added; always NUL-terminated after buf_append* */
        size_t len;   /* bytes in use */
        size_t cap;   /* bytes allocated */
        size_t limit; /* of unconsumed bytes; 0 = memory only; appending beyond it gives -EMSGSIZE
                       */
        size_t off;   /* bytes already consumed from the front, <= len */
};

#define BUF_INIT ((struct buf){ 0 })
#define BUF_LIMIT(n) ((struct buf){ .limit = (n) })

void buf_done(struct buf *b); /* frees the memory, zeroes the struct except limit */
static inline void buf_donep(struct buf *b)
{
        buf_done(b);
}
#define cleanup_buf CLEANUP(buf_donep)

int buf_append(struct buf *b, const void *data, size_t n) mustuse;
int buf_printf(struct buf *b, const char *fmt, ...) mustuse printf_like(2, 3);
/* Appends for callers that know they stay under the limit (or have none): dies if not. */
void buf_put(struct buf *b, const void *data, size_t n);
void buf_puts(struct buf *b, const char *s);
void buf_putf(struct buf *b, const char *fmt, ...) printf_like(2, 3);
void buf_put_json_string(struct buf *b, const char *s, size_t n); /* quoted, escaped; s is UTF-8 */

/* Room for n more bytes at buf_tail(); call buf_added() with what was written there. */
int buf_reserve(struct buf *b, size_t n) mustuse;
static inline char *buf_tail(struct buf *b)
{
        return b->data + b->len;
}
void buf_added(struct buf *b, size_t n);

/* The unconsumed part. */
static inline const char *buf_head(const struct buf *b) /* never NULL */
{
        return b->data ? b->data + b->off : "";
}
static inline size_t buf_pending(const struct buf *b)
{
        return b->len - b->off;
}
void buf_consume(struct buf *b, size_t n);      /* drops n bytes at the front; compacts lazily */
void buf_clear(struct buf *b);                  /* empties, keeps the memory */
char *buf_take(struct buf *b, size_t *ret_len); /* hands over the memory (NUL-terminated) */
