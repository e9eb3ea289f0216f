/* Parses server-sent events from bytes that arrive in any split. */
#include "sse.h"

void sse_init(struct sse *p, size_t limit, sse_fn fn, void *userdata)
{
        *p = (struct sse){
                .fn = fn,
                .userdata = userdata,
                .limit = limit,
                .line = BUF_LIMIT(limit),
                .data = BUF_LIMIT(limit),
        };
}

void sse_done(struct sse *p)
{
        buf_done(&p->line);
        buf_done(&p->data);
}

static int sse_dispatch(struct sse *p)
{
        int r = 0;

        if (p->has_data) {
                struct span data = { buf_pending(&p->data) > 0 ? buf_head(&p->data) : "",
                                     buf_pending(&p->data) };

                r = p->fn(p->userdata, p->event, data);
        }
        buf_clear(&p->data);
        p->has_data = false;
        p->event[0] = '\0';
        return r;
}

static int sse_field(struct sse *p, struct span name, struct span value)
{
        if (span_eq(name, "data")) {
                int r = p->has_data ? buf_append(&p->data, "\n", 1) : 0;

                if (r < 0)
                        return r;
                p->has_data = true;
                return value.len > 0 ? buf_append(&p->data, value.data, value.len) : 0;
        }
        if (span_eq(name, "event")) {
                size_t n = MIN(value.len, sizeof(p->event) - 1);

                if (n > 0)
                        memcpy(p->event, value.data, n);
                p->event[n] = '\0';
        }
        if (span_eq(name, "id") && !memchr(value.data, '\0', value.len)) {
                size_t n = value.len < sizeof(p->id) ? value.len : 0;

                if (n > 0)
                        memcpy(p->id, value.data, n);
                p->id[n] = '\0';
        }
        if (span_eq(name, "retry")) {
                cleanup_free char *text = value.len < 10 ? span_dup(value) : NULL;
                uint64_t ms;

                if (text && parse_u64(text, &ms) == 0)
                        p->retry_usec = ms * USEC_PER_MSEC;
        }
        return 0;
}

static int sse_line(struct sse *p, struct span line)
{
        const char *colon;
        struct span name, value = { "", 0 };

        if (line.len == 0)
                return sse_dispatch(p);
        if (line.data[0] == ':')
                return 0;
        colon = memchr(line.data, ':', line.len);
        name = (struct span){ line.data, colon ? (size_t) (colon - line.data) : line.len };
        if (colon) {
                value = (struct span){ colon + 1, line.len - name.len - 1 };
                if (value.len > 0 && value.data[0] == ' ')
                        value = (struct span){ value.data + 1, value.len - 1 };
        }
        return sse_field(p, name, value);
}

static int sse_line_end(struct sse *p, struct span tail)
{
        struct span line = tail;
        int r;

        if (buf_pending(&p->line) > 0) {
                if (tail.len > 0) {
                        r = buf_append(&p->line, tail.data, tail.len);
                        if (r < 0)
                                return r;
                }
                line = (struct span){ buf_head(&p->line), buf_pending(&p->line) };
        }
        if (!p->started) {
                p->started = true;
                if (line.len >= 3 && memcmp(line.data, "\xef\xbb\xbf", 3) == 0)
                        line = (struct span){ line.data + 3, line.len - 3 };
        }
        r = sse_line(p, line);
        buf_clear(&p->line);
        return r;
}

int sse_feed(struct sse *p, struct span bytes)
{
        size_t from = 0;

        for (size_t i = 0; i < bytes.len; i++) {
                char c = bytes.data[i];
                int r;

                if (c != '\n' && c != '\r') {
                        p->after_cr = false;
                        continue;
                }
                if (c == '\n' && p->after_cr) {
                        p->after_cr = false;
                        from = i + 1;
                        continue;
                }
                p->after_cr = c == '\r';
                if (i - from > p->limit)
                        return -EMSGSIZE;
                r = sse_line_end(p, (struct span){ bytes.data + from, i - from });
                if (r < 0)
                        return r;
                from = i + 1;
        }
        if (from < bytes.len)
                return buf_append(&p->line, bytes.data + from, bytes.len - from);
        return 0;
}
