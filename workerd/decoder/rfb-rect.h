/* Rectangles of the RFB client; used by rfb.c only. */
#pragma once

#include "rfb.h"

static inline unsigned rfb_u16(const uint8_t *d)
{
        return (unsigned) (d[0] << 8 | d[1]);
}

static inline uint32_t rfb_u32(const uint8_t *d)
{
        return (uint32_t) rfb_u16(d) << 16 | rfb_u16(d + 2);
}

/* n bytes of input, consumed; NULL when fewer are there. Valid until the next feed. */
static inline const uint8_t *rfb_take(struct rfb *r, size_t n)
{
        const char *at = buf_head(&r->in);
        if (buf_pending(&r->in) < n)
                return NULL;
        r->in.off += n; /* not buf_consume, which may move what we return */
        return (const uint8_t *) at;
}

int rfb_fail(struct rfb *r, const char *why);
int rfb_resize(struct rfb *r, unsigned width,
               unsigned height) mustuse;   /* clears when the size changes */
int rfb_rect_check(struct rfb *r) mustuse; /* the rectangle lies in the frame */
/* As all steps: 1 = go on, 0 = more input needed, -EPROTO. */
int rfb_rect_raw(struct rfb *r) mustuse;
int rfb_rect_copy(struct rfb *r) mustuse;
int rfb_rect_end(struct rfb *r) mustuse;
