/* RFB (RFC 6143) as a client needs it for a local server: bytes in, a framebuffer and bytes out. No
 * I/O.
 *
 * Version 3.8, security None, 32-bit pixels; encodings Raw, CopyRect, DesktopSize,
 * ExtendedDesktopSize, LastRect; no cursor encodings, so that the server draws the cursor into the
 * frame. The server is hostile: every size is checked before it is believed, memory is bounded by
 * RFB_PIXELS_MAX, and the work done per call by a budget, because 16 bytes of CopyRect can ask for
 * a whole screen to be moved. */
#pragma once

#include "common/base/buf.h"

#define RFB_SIDE_MAX 8192
#define RFB_PIXELS_MAX (16U * 1024 * 1024)
#define RFB_OUT_MAX (1024 * 1024)      /* input events the server has not read */
#define RFB_TEXT_MAX (1024 * 1024)     /* server's clipboard or name; read and dropped */
#define RFB_BUDGET (64U * 1024 * 1024) /* bytes of framebuffer touched by one rfb_work */

enum rfb_state {
        RFB_VERSION,
        RFB_SECURITY,
        RFB_SECURITY_TYPES,
        RFB_RESULT,
        RFB_INIT,
        RFB_NAME,
        RFB_MESSAGE,
        RFB_UPDATE,
        RFB_COLOURS,
        RFB_CUT_TEXT,
        RFB_RECT,
        RFB_RAW,
        RFB_COPY,
        RFB_SCREENS,
        RFB_SKIP, /* `skip` bytes, then `after_skip` */
        RFB_DEAD,
};

struct rfb {
        enum rfb_state state, after_skip;
        struct buf in, out;
        unsigned width, height; /* 0 before the server's init */
        uint32_t *pixels; /* width * height, 0x00RRGGBB in the machine's (little-endian) words */
        uint32_t *storage[2]; /* the caller's: see rfb_init */
        unsigned place;       /* which of them `pixels` is */
        uint64_t generation;  /* grows whenever a pixel changed */
        bool whole;           /* every pixel was sent since the last change of size */
        uint64_t covered;     /* pixels sent since then */
        unsigned rects;       /* left in this update; 0xffff = until LastRect */
        bool endless, resized;
        bool sizable;       /* the server has told its screens: it may be asked for a size */
        uint8_t screen[16]; /* the first of them, as it told it */
        struct {
                unsigned x, y, width, height;
                size_t done; /* bytes of the rectangle already in */
        } rect;
        uint64_t skip;
        size_t budget;
        const char *why; /* in RFB_DEAD */
};

/* Frames are kept in `storage`, RFB_PIXELS_MAX words each, which outlives it: another size changes
 * to the other one, so that who reads the frame beside us never meets two shapes in one. NULL = in
 * memory of its own, of just the size. */
void rfb_init(struct rfb *r, uint32_t *const storage[static 2]);
void rfb_done(struct rfb *r);

/* Takes received bytes. Call rfb_work after it. -ENOBUFS when earlier bytes are still unworked. */
int rfb_feed(struct rfb *r, const void *data, size_t n) mustuse;
/* Works on what was fed: 0 when all is done, 1 when the budget was used up (call again in the next
 * turn), -EPROTO when the server broke a rule (r->why; state RFB_DEAD). What is to be sent is in
 * r->out. */
int rfb_work(struct rfb *r) mustuse;

/* Queue input events; -EAGAIN when RFB_OUT_MAX bytes wait, -ENOTCONN before the server's init. */
int rfb_key(struct rfb *r, bool down, uint32_t keysym) mustuse;
/* Asks for one screen of that size; -EOPNOTSUPP when the server never told of its screens. */
int rfb_set_size(struct rfb *r, unsigned width, unsigned height) mustuse;
int rfb_pointer(struct rfb *r, unsigned buttons, unsigned x, unsigned y) mustuse;
