/* The RFB client's state machine: greeting, server messages, what it answers. */
#include "rfb.h"

#include "rfb-rect.h"

#define ENCODING_RAW 0
#define ENCODING_COPY 1
#define ENCODING_DESKTOP_SIZE (-223)
#define ENCODING_LAST_RECT (-224)
#define ENCODING_EXTENDED_SIZE (-308)

void rfb_init(struct rfb *r, uint32_t *const storage[static 2])
{
        *r = (struct rfb){ .state = RFB_VERSION,
                           .out = BUF_LIMIT(RFB_OUT_MAX),
                           .storage = { storage[0], storage[1] } };
}

void rfb_done(struct rfb *r)
{
        buf_done(&r->in);
        buf_done(&r->out);
        if (!r->storage[0])
                free(r->pixels);
        *r = (struct rfb){ .state = RFB_DEAD, .why = "closed" };
}

int rfb_fail(struct rfb *r, const char *why)
{
        r->state = RFB_DEAD;
        r->why = why;
        return -EPROTO;
}

static int put(struct rfb *r, const void *data, size_t n)
{
        return buf_append(&r->out, data, n) < 0 ? -EAGAIN : 0;
}

static void set16(uint8_t *at, unsigned v)
{
        at[0] = (uint8_t) (v >> 8);
        at[1] = (uint8_t) v;
}

static int request_update(struct rfb *r, bool incremental)
{
        uint8_t m[10] = { 3, incremental };
        set16(m + 6, r->width);
        set16(m + 8, r->height);
        return put(r, m, sizeof(m)) < 0 ? rfb_fail(r, "the server does not read") : 0;
}

int rfb_key(struct rfb *r, bool down, uint32_t keysym)
{
        uint8_t m[8] = { 4, down };
        if (r->state < RFB_MESSAGE || r->state == RFB_DEAD)
                return -ENOTCONN;
        set16(m + 4, keysym >> 16);
        set16(m + 6, keysym & 0xffff);
        return put(r, m, sizeof(m));
}

int rfb_pointer(struct rfb *r, unsigned buttons, unsigned x, unsigned y)
{
        uint8_t m[6] = { 5, (uint8_t) buttons };
        if (r->state < RFB_MESSAGE || r->state == RFB_DEAD)
                return -ENOTCONN;
        set16(m + 2, x);
        set16(m + 4, y);
        return put(r, m, sizeof(m));
}

int rfb_set_size(struct rfb *r, unsigned width, unsigned height)
{
        uint8_t m[24] = { 251, 0, 0, 0, 0, 0, 1 };
        if (r->state < RFB_MESSAGE || r->state == RFB_DEAD)
                return -ENOTCONN;
        if (!r->sizable)
                return -EOPNOTSUPP;
        set16(m + 2, width);
        set16(m + 4, height);
        memcpy(m + 8, r->screen, 4); /* its id */
        set16(m + 16, width);
        set16(m + 18, height);
        memcpy(m + 20, r->screen + 12, 4); /* its flags */
        return put(r, m, sizeof(m));
}

/* --- greeting --------------------------------------------------------------------------------- */

static int on_version(struct rfb *r)
{
        const uint8_t *d = rfb_take(r, 12);
        if (!d)
                return 0;
        if (memcmp(d, "RFB 003.", 8) != 0 || d[11] != '\n' || memcmp(d + 8, "007", 3) < 0)
                return rfb_fail(r, "it does not speak RFB 3.7 or later");
        r->state = RFB_SECURITY;
        return put(r, "RFB 003.008\n", 12) < 0 ? -EPROTO : 1;
}

static int on_security(struct rfb *r)
{
        const uint8_t *d = rfb_take(r, 1);
        if (!d)
                return 0;
        if (d[0] == 0)
                return rfb_fail(r, "it refuses us");
        r->skip = d[0];
        r->state = RFB_SECURITY_TYPES;
        return 1;
}

static int on_security_types(struct rfb *r)
{
        const uint8_t *d = rfb_take(r, (size_t) r->skip);
        if (!d)
                return 0;
        if (!memchr(d, 1, (size_t) r->skip))
                return rfb_fail(r, "it wants a password");
        r->state = RFB_RESULT;
        return put(r, "\1", 1) < 0 ? -EPROTO : 1;
}

static int on_result(struct rfb *r)
{
        const uint8_t *d = rfb_take(r, 4);
        if (!d)
                return 0;
        if (rfb_u32(d) != 0)
                return rfb_fail(r, "it refuses us");
        r->state = RFB_INIT;
        return put(r, "\1", 1) < 0 ? -EPROTO : 1; /* shared */
}

static int on_init(struct rfb *r)
{
        const uint8_t *d = rfb_take(r, 24);
        if (!d)
                return 0;
        unsigned width = rfb_u16(d), height = rfb_u16(d + 2);
        r->skip = rfb_u32(d + 20);
        if (r->skip > RFB_TEXT_MAX)
                return rfb_fail(r, "its name is too long");
        if (rfb_resize(r, width, height) < 0)
                return -EPROTO;
        r->state = RFB_NAME;
        return 1;
}

static int greet_done(struct rfb *r)
{
        /* SetPixelFormat: 32 bits, depth 24, little endian, true colour, 0x00RRGGBB */
        static const uint8_t format[20] = { 0,   0, 0,   0, 32,  24, 0, 1, 0,
                                            255, 0, 255, 0, 255, 16, 8, 0 };
        static const int32_t encodings[] = { ENCODING_COPY, ENCODING_RAW, ENCODING_DESKTOP_SIZE,
                                             ENCODING_LAST_RECT, ENCODING_EXTENDED_SIZE };
        uint8_t m[4 + 4 * ARRAY_LEN(encodings)] = { 2, 0, 0, ARRAY_LEN(encodings) };
        for (size_t i = 0; i < ARRAY_LEN(encodings); i++) {
                set16(m + 4 + 4 * i, ((uint32_t) encodings[i] >> 16) & 0xffff);
                set16(m + 6 + 4 * i, (uint32_t) encodings[i] & 0xffff);
        }
        r->state = RFB_MESSAGE;
        if (put(r, format, sizeof(format)) < 0 || put(r, m, sizeof(m)) < 0 ||
            request_update(r, false) < 0)
                return rfb_fail(r, "the server does not read");
        return 1;
}

/* --- messages --------------------------------------------------------------------------------- */

static int on_message(struct rfb *r)
{
        static const struct {
                enum rfb_state state;
                bool known;
        } next[] = {
                [0] = { RFB_UPDATE, true },
                [1] = { RFB_COLOURS, true },
                [2] = { RFB_MESSAGE, true }, /* bell */
                [3] = { RFB_CUT_TEXT, true },
        };
        const uint8_t *d = rfb_take(r, 1);
        if (!d)
                return 0;
        if (d[0] >= ARRAY_LEN(next) || !next[d[0]].known)
                return rfb_fail(r, "it sent a message that nobody asked for");
        r->state = next[d[0]].state;
        return 1;
}

static int skip(struct rfb *r, uint64_t n, enum rfb_state after)
{
        r->skip = n;
        r->after_skip = after;
        r->state = RFB_SKIP;
        return 1;
}

static int on_colours(struct rfb *r)
{
        const uint8_t *d = rfb_take(r, 5);
        return d ? skip(r, 6ULL * rfb_u16(d + 3), RFB_MESSAGE) : 0;
}

static int on_cut_text(struct rfb *r)
{
        const uint8_t *d = rfb_take(r, 7);
        if (!d)
                return 0;
        if (rfb_u32(d + 3) > RFB_TEXT_MAX)
                return rfb_fail(r, "its clipboard is too long");
        return skip(r, rfb_u32(d + 3), RFB_MESSAGE);
}

static int on_skip(struct rfb *r)
{
        size_t n = (size_t) MIN(r->skip, buf_pending(&r->in));
        buf_consume(&r->in, n);
        r->skip -= n;
        if (r->skip > 0)
                return 0;
        r->state = r->after_skip;
        return 1;
}

static int on_update(struct rfb *r)
{
        const uint8_t *d = rfb_take(r, 3);
        if (!d)
                return 0;
        r->rects = rfb_u16(d + 1);
        r->endless = r->rects == 0xffff;
        r->resized = false;
        r->state = RFB_RECT;
        return 1;
}

static int update_done(struct rfb *r)
{
        r->state = RFB_MESSAGE;
        r->whole = r->whole || r->covered >= (uint64_t) r->width * r->height;
        return request_update(r, !r->resized) < 0 ? -EPROTO : 1;
}

int rfb_rect_end(struct rfb *r)
{
        r->state = RFB_RECT;
        if (!r->endless)
                r->rects--;
        return 1;
}

static int on_rect(struct rfb *r)
{
        if (r->rects == 0)
                return update_done(r);
        const uint8_t *d = rfb_take(r, 12);
        if (!d)
                return 0;
        r->rect.x = rfb_u16(d);
        r->rect.y = rfb_u16(d + 2);
        r->rect.width = rfb_u16(d + 4);
        r->rect.height = rfb_u16(d + 6);
        r->rect.done = 0;
        switch ((int32_t) rfb_u32(d + 8)) {
        case ENCODING_RAW:
                r->state = RFB_RAW;
                return rfb_rect_check(r) < 0 ? -EPROTO : 1;
        case ENCODING_COPY:
                r->state = RFB_COPY;
                return rfb_rect_check(r) < 0 ? -EPROTO : 1;
        case ENCODING_DESKTOP_SIZE:
                if (rfb_resize(r, r->rect.width, r->rect.height) < 0)
                        return -EPROTO;
                return rfb_rect_end(r);
        case ENCODING_EXTENDED_SIZE:
                r->state = RFB_SCREENS;
                return 1;
        case ENCODING_LAST_RECT:
                return update_done(r);
        default:
                return rfb_fail(r, "it used an encoding that nobody asked for");
        }
}

static int on_screens(struct rfb *r)
{
        if (buf_pending(&r->in) < 4)
                return 0;
        unsigned screens = (uint8_t) *buf_head(&r->in);
        const uint8_t *d = rfb_take(r, screens > 0 ? 20 : 4);
        if (!d)
                return 0;
        r->sizable = screens > 0;
        if (screens > 0)
                memcpy(r->screen, d + 4, sizeof(r->screen));
        /* y is the status: a refused change of size carries the old one. */
        if (r->rect.y == 0 && rfb_resize(r, r->rect.width, r->rect.height) < 0)
                return -EPROTO;
        if (rfb_rect_end(r) < 0)
                return -EPROTO;
        return skip(r, screens > 0 ? 16ULL * (screens - 1) : 0, RFB_RECT);
}

/* --- work ------------------------------------------------------------------------------------- */

static int step(struct rfb *r)
{
        switch (r->state) {
        case RFB_VERSION:
                return on_version(r);
        case RFB_SECURITY:
                return on_security(r);
        case RFB_SECURITY_TYPES:
                return on_security_types(r);
        case RFB_RESULT:
                return on_result(r);
        case RFB_INIT:
                return on_init(r);
        case RFB_NAME:
                if (on_skip(r) == 0 && r->skip > 0)
                        return 0;
                return greet_done(r);
        case RFB_MESSAGE:
                return on_message(r);
        case RFB_UPDATE:
                return on_update(r);
        case RFB_COLOURS:
                return on_colours(r);
        case RFB_CUT_TEXT:
                return on_cut_text(r);
        case RFB_RECT:
                return on_rect(r);
        case RFB_RAW:
                return rfb_rect_raw(r);
        case RFB_COPY:
                return rfb_rect_copy(r);
        case RFB_SCREENS:
                return on_screens(r);
        case RFB_SKIP:
                return on_skip(r);
        case RFB_DEAD:
        default:
                return -EPROTO;
        }
}

int rfb_feed(struct rfb *r, const void *data, size_t n)
{
        if (buf_pending(&r->in) > 4 * RFB_TEXT_MAX)
                return -ENOBUFS;
        return buf_append(&r->in, data, n);
}

int rfb_work(struct rfb *r)
{
        r->budget = RFB_BUDGET;
        int left;
        do
                left = step(r);
        while (left > 0 && r->budget > 0);
        if (left < 0 && r->state != RFB_DEAD)
                return rfb_fail(r, "the server does not read");
        return left;
}
