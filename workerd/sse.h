/* Server-sent events (the WHATWG rules): bytes in any split in, whole events out.
 *
 * Lines end by CRLF, LF or CR; a byte order mark at the start and comments are skipped; `id` and
 * `retry` are kept for who resumes; several `data` lines are joined by a line feed. An event
 * without data is not reported; what was not ended by an empty line when the stream ends is
 * dropped. Memory is bounded by `limit`. */
#pragma once

#include "common/base/buf.h"

/* event is "" when the stream named none; both are borrowed until the function returns. A negative
 * result ends sse_feed with it. */
typedef int (*sse_fn)(void *userdata, const char *event, struct span data);

struct sse {
        sse_fn fn;
        void *userdata;
        size_t limit; /* bytes of one line, and of one event's data */
        struct buf line;
        struct buf data;
        char id[128];        /* the last one, "" = none or too long to be used */
        uint64_t retry_usec; /* 0 = not said */
        char event[64];      /* longer names are cut: no known event has one */
        bool has_data;
        bool after_cr; /* the next LF belongs to the last line end */
        bool started;  /* the byte order mark can no longer come */
};

void sse_init(struct sse *p, size_t limit, sse_fn fn, void *userdata);
void sse_done(struct sse *p);
/* 0, -EMSGSIZE when a line or an event is over the limit, or what the function answered. After an
 * error the parser must not be fed again. */
int sse_feed(struct sse *p, struct span bytes) mustuse;
