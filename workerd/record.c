/* Writes frames as what changed since the one before. */
#include "record.h"

#define BAND 32u /* rows that are looked at together */

static void put16(struct buf *b, unsigned v)
{
        const uint8_t bytes[2] = { (uint8_t) v, (uint8_t) (v >> 8) };

        buf_put(b, bytes, sizeof(bytes));
}

static void put32(struct buf *b, uint32_t v)
{
        put16(b, v & 0xffff);
        put16(b, v >> 16);
}

static void put64(struct buf *b, uint64_t v)
{
        put32(b, (uint32_t) v);
        put32(b, (uint32_t) (v >> 32));
}

struct area {
        unsigned x, y, width, height;
};

/* The pixels of the area into the piece, and into the frame that is kept. */
static void put_area(struct record *r, const uint32_t *pixels, const struct area *a)
{
        size_t need = (size_t) a->width * a->height * 3;

        buf_put(&r->raw, "R", 1);
        put16(&r->raw, a->x);
        put16(&r->raw, a->y);
        put16(&r->raw, a->width);
        put16(&r->raw, a->height);
        if (buf_reserve(&r->raw, need) < 0)
                abort(); /* no limit is set: cannot be */
        uint8_t *out = (uint8_t *) buf_tail(&r->raw);
        for (unsigned y = a->y; y < a->y + a->height; y++) {
                /* The frame may be drawn to meanwhile: what is written is what is kept. */
                uint32_t *row = r->last + (size_t) y * r->width + a->x;
                memcpy(row, pixels + (size_t) y * r->width + a->x, a->width * sizeof(*row));
                for (unsigned x = 0; x < a->width; x++, out += 3) {
                        out[0] = (uint8_t) (row[x] >> 16);
                        out[1] = (uint8_t) (row[x] >> 8);
                        out[2] = (uint8_t) row[x];
                }
        }
        buf_added(&r->raw, need);
}

static void end_frame(struct record *r, uint64_t now_us, uint64_t seq)
{
        uint64_t ms = now_us > r->started_us ? (now_us - r->started_us) / USEC_PER_MSEC : 0;

        buf_put(&r->raw, "F", 1);
        put32(&r->raw, (uint32_t) MIN(ms, (uint64_t) UINT32_MAX));
        put64(&r->raw, seq);
        r->frames++;
        r->ended_us = MAX(now_us, r->ended_us);
        r->last_seq = seq;
}

void record_begin(struct record *r, const uint32_t *pixels, unsigned width, unsigned height,
                  uint64_t now_us, uint64_t seq)
{
        static const uint8_t head[8] = { 'B', 'R', 'E', 'C', 1 };

        if (!r->last || width != r->width || height != r->height) {
                free(r->last);
                r->last = xnewn(uint32_t, (size_t) width * height);
        }
        r->width = width;
        r->height = height;
        r->started_us = r->ended_us = now_us;
        r->first_seq = seq;
        r->frames = 0;
        buf_clear(&r->raw);
        buf_put(&r->raw, head, sizeof(head));
        put32(&r->raw, width);
        put32(&r->raw, height);
        put64(&r->raw, now_us);
        put_area(r, pixels, &(struct area){ 0, 0, width, height });
        end_frame(r, now_us, seq);
}

bool record_open(const struct record *r)
{
        return r->raw.len > 0;
}

/* Widens *from..*to by where the two rows differ. */
static void widen(const uint32_t *a, const uint32_t *b, unsigned n, unsigned *from, unsigned *to)
{
        unsigned x = 0;

        while (x < *from && a[x] == b[x])
                x++;
        *from = MIN(*from, x);
        for (x = n; x > *to && a[x - 1] == b[x - 1];)
                x--;
        *to = MAX(*to, x);
}

/* What differs in a band of rows, as one area; false = nothing. */
static bool changed(const struct record *r, const uint32_t *pixels, unsigned y0, struct area *ret)
{
        unsigned end = MIN(y0 + BAND, r->height), from = r->width, to = 0, top = end, bottom = y0;

        for (unsigned y = y0; y < end; y++) {
                const uint32_t *a = pixels + (size_t) y * r->width,
                               *b = r->last + (size_t) y * r->width;
                if (memcmp(a, b, r->width * sizeof(*a)) == 0)
                        continue;
                widen(a, b, r->width, &from, &to);
                top = MIN(top, y);
                bottom = y + 1;
        }
        *ret = (struct area){ from, top, to > from ? to - from : 0,
                              bottom > top ? bottom - top : 0 };
        return ret->width > 0 && ret->height > 0;
}

bool record_frame(struct record *r, const uint32_t *pixels, uint64_t now_us, uint64_t seq)
{
        struct area a;
        bool any = false;

        for (unsigned y = 0; y < r->height; y += BAND)
                if (changed(r, pixels, y, &a)) {
                        put_area(r, pixels, &a);
                        any = true;
                }
        if (any)
                end_frame(r, now_us, seq);
        return any;
}

struct buf record_take(struct record *r)
{
        struct buf raw = r->raw;

        r->raw = BUF_INIT;
        return raw;
}

void record_done(struct record *r)
{
        buf_done(&r->raw);
        free(r->last);
        *r = (struct record){ 0 };
}
