/* Frames: finished bytes for WebSocket and SSE clients, built once and shared. */
#include "gatewayd/sink-private.h"

static struct frame *frame_alloc(size_t n, bool live)
{
        struct frame *f = xmalloc(sizeof(*f) + n);

        *f = (struct frame){ .refs = 1, .events = 1, .live = live, .len = n };
        return f;
}

struct frame *frame_ref(struct frame *f)
{
        f->refs++;
        return f;
}

struct frame *frame_unref(struct frame *f)
{
        if (f && --f->refs == 0)
                free(f);
        return NULL;
}

size_t frame_size(const struct frame *f)
{
        return f->len;
}

static size_t parts_size(const struct span *parts, size_t n)
{
        size_t total = 0;

        for (size_t i = 0; i < n; i++)
                total += parts[i].len;
        return total;
}

static char *put(char *p, const void *data, size_t n)
{
        if (n > 0)
                memcpy(p, data, n);
        return p + n;
}

size_t frame_ws_head(uint8_t opcode, size_t len, uint8_t head[static 10])
{
        head[0] = (uint8_t) (0x80 | opcode);
        if (len < 126) {
                head[1] = (uint8_t) len;
                return 2;
        }
        if (len < 65536) {
                head[1] = 126;
                head[2] = (uint8_t) (len >> 8);
                head[3] = (uint8_t) len;
                return 4;
        }
        head[1] = 127;
        for (int i = 0; i < 8; i++)
                head[2 + i] = (uint8_t) ((uint64_t) len >> (56 - 8 * i));
        return 10;
}

struct frame *frame_ws(uint8_t opcode, const struct span *parts, size_t n, bool live)
{
        size_t len = parts_size(parts, n);
        uint8_t head[10];
        size_t n_head = frame_ws_head(opcode, len, head);

        struct frame *f = frame_alloc(n_head + len, live);
        char *p = put(f->data, head, n_head);
        for (size_t i = 0; i < n; i++)
                p = put(p, parts[i].data, parts[i].len);
        return f;
}

struct frame *frame_ws_text(const struct span *parts, size_t n, bool live)
{
        return frame_ws(WS_TEXT, parts, n, live);
}

struct frame *frame_ws_binary(const struct span *parts, size_t n)
{
        return frame_ws(WS_BINARY, parts, n, false);
}

struct frame *frame_raw(const void *data, size_t n)
{
        struct frame *f = frame_alloc(n, false);

        (void) put(f->data, data, n);
        return f;
}

struct frame *frame_ws_close(uint16_t code, const char *reason)
{
        uint8_t head[2] = { (uint8_t) (code >> 8), (uint8_t) code };
        size_t n = reason ? MIN(strlen(reason), (size_t) 123) : 0;

        return frame_ws(WS_CLOSE, (struct span[]){ { (char *) head, 2 }, { reason, n } }, 2, false);
}

struct frame *frame_sse(const char *id, const char *event, const struct span *parts, size_t n,
                        bool live)
{
        size_t n_id = id ? strlen(id) : 0, n_event = event ? strlen(event) : 0;
        size_t len = parts_size(parts, n) + 8 + (id ? n_id + 5 : 0) + (event ? n_event + 8 : 0);
        struct frame *f = frame_alloc(len, live);
        char *p = f->data;

        if (id) {
                p = put(p, "id: ", 4);
                p = put(p, id, n_id);
                *p++ = '\n';
        }
        if (event) {
                p = put(p, "event: ", 7);
                p = put(p, event, n_event);
                *p++ = '\n';
        }
        p = put(p, "data: ", 6);
        for (size_t i = 0; i < n; i++)
                p = put(p, parts[i].data, parts[i].len);
        (void) put(p, "\n\n", 2);
        return f;
}

struct frame *frame_sse_comment(const char *text)
{
        size_t n = strlen(text);
        struct frame *f = frame_alloc(n + 4, true);
        char *p = put(f->data, ": ", 2);

        p = put(p, text, n);
        (void) put(p, "\n\n", 2);
        return f;
}

struct frame *frame_join(struct frame *const *frames, size_t n)
{
        struct frame *f;
        size_t len = 0;
        char *p;

        for (size_t i = 0; i < n; i++)
                len += frames[i]->len;
        f = frame_alloc(len, false);
        f->events = 0;
        p = f->data;
        for (size_t i = 0; i < n; i++) {
                p = put(p, frames[i]->data, frames[i]->len);
                f->events += frames[i]->events;
        }
        return f;
}
