/* Filter of what viewers send to a display: view-only unless they hold control. */
#include "gatewayd/rfb-filter.h"

enum { VERSION, SECURITY, CLIENT_INIT, MESSAGE, LONG };

enum {
        SET_PIXEL_FORMAT = 0,
        SET_ENCODINGS = 2,
        UPDATE_REQUEST = 3,
        KEY = 4,
        POINTER = 5,
        CUT_TEXT = 6,
        CONTINUOUS_UPDATES = 150,
        FENCE = 248,
        XVP = 250,
        DESKTOP_SIZE = 251,
        QEMU = 255,
};

void rfb_filter_init(struct rfb_filter *f)
{
        *f = (struct rfb_filter){ .state = VERSION };
}

static uint32_t be32(const uint8_t *p)
{
        return (uint32_t) p[0] << 24 | (uint32_t) p[1] << 16 | (uint32_t) p[2] << 8 | p[3];
}

static unsigned be16(const uint8_t *p)
{
        return (unsigned) p[0] << 8 | p[1];
}

/* Encodings that change nothing about the sizes of client messages, but for what is handled above.
 */
static bool encoding_known(int32_t e)
{
        static const int32_t known[] = {
                0,    /* Raw */
                1,    /* CopyRect */
                2,    /* RRE */
                5,    /* Hextile */
                6,    /* Zlib */
                7,    /* Tight */
                16,   /* ZRLE */
                21,   /* JPEG */
                50,   /* H.264 */
                -223, /* DesktopSize */
                -224, /* LastRect */
                -239, /* Cursor */
                -258, /* QEMU extended key event */
                -260, /* Tight with PNG */
                -307, /* DesktopName */
                -308, /* ExtendedDesktopSize */
                -312, /* Fence */
                -313, /* ContinuousUpdates */
                -314, /* Cursor with alpha */
        };

        if ((e >= -32 && e <= -23) || (e >= -256 && e <= -247) || (e >= -512 && e <= -412))
                return true; /* JPEG quality, compression level, fine quality */
        for (size_t i = 0; i < ARRAY_LEN(known); i++)
                if (known[i] == e)
                        return true;
        return false;
}

/* How many bytes of the message must be held before it can be judged. 0 = unknown message. */
static size_t needed(const struct rfb_filter *f)
{
        const uint8_t *h = f->held;

        switch (f->state) {
        case VERSION:
                return 12;
        case SECURITY:
        case CLIENT_INIT:
                return 1;
        default:
                break;
        }
        switch (h[0]) {
        case SET_PIXEL_FORMAT:
                return 20;
        case SET_ENCODINGS:
                return f->n_held < 4 || be16(h + 2) > RFB_ENCODINGS_MAX
                               ? 4
                               : 4 + 4 * (size_t) be16(h + 2);
        case UPDATE_REQUEST:
        case CONTINUOUS_UPDATES:
                return 10;
        case KEY:
        case CUT_TEXT:
        case DESKTOP_SIZE:
                return 8;
        case POINTER:
                return 6;
        case FENCE:
                return f->n_held < 9 || h[8] > 64 ? 9 : 9 + (size_t) h[8];
        case XVP:
                return 4;
        case QEMU:
                return 12;
        default:
                return 0;
        }
}

static int handshake(struct rfb_filter *f, struct buf *out, const char **ret_why)
{
        if (f->state == VERSION) {
                if (memcmp(f->held, "RFB 003.008\n", 12) != 0 &&
                    memcmp(f->held, "RFB 003.007\n", 12) != 0) {
                        *ret_why = "only RFB 3.7 and 3.8 are spoken here";
                        return -EPROTO;
                }
                f->state = SECURITY;
        } else if (f->state == SECURITY) {
                if (f->held[0] != 1) {
                        *ret_why = "only the security type None is spoken here";
                        return -EPROTO;
                }
                f->state = CLIENT_INIT;
        } else {
                f->held[0] = 1; /* shared: a viewer never sends the others away */
                f->state = MESSAGE;
        }
        return buf_append(out, f->held, f->n_held);
}

static int set_encodings(struct rfb_filter *f, struct buf *out)
{
        unsigned count = be16(f->held + 2), kept = 0;

        for (unsigned i = 0; i < count; i++)
                if (encoding_known((int32_t) be32(f->held + 4 + 4 * (size_t) i)))
                        memmove(f->held + 4 + 4 * (size_t) kept++, f->held + 4 + 4 * (size_t) i, 4);
        f->held[2] = (uint8_t) (kept >> 8);
        f->held[3] = (uint8_t) kept;
        return buf_append(out, f->held, 4 + 4 * (size_t) kept);
}

/* A message whose rest is dropped as it comes. */
static int drop_long(struct rfb_filter *f, uint64_t rest)
{
        f->skip = rest;
        f->state = rest > 0 ? LONG : MESSAGE;
        return 0;
}

/* ---- what a holder of control does ---- */

static int pointer(struct rfb_filter *f, struct buf *out)
{
        uint8_t now = f->held[1], down = (uint8_t) (now & ~f->buttons);

        for (unsigned b = 0; b < 8; b++) {
                if (!(down & (1u << b)))
                        continue;
                if (b >= 3 && b <= 6)
                        f->counts.scrolls++;
                else
                        f->counts.clicks++;
        }
        f->buttons = now;
        memcpy(f->pointer, f->held, sizeof(f->pointer));
        return buf_append(out, f->held, f->n_held);
}

static int key(struct rfb_filter *f, bool down, uint32_t keysym, uint32_t keycode, struct buf *out)
{
        size_t i = 0;

        while (i < f->n_pressed &&
               (f->pressed[i].keysym != keysym || f->pressed[i].keycode != keycode))
                i++;
        if (down) {
                if (i == f->n_pressed && f->n_pressed == RFB_PRESSED_MAX)
                        return 0; /* nobody has so many fingers */
                if (i == f->n_pressed)
                        f->n_pressed++;
                f->pressed[i].keysym = keysym;
                f->pressed[i].keycode = keycode;
                f->counts.keys++;
        } else if (i < f->n_pressed) {
                f->pressed[i] = f->pressed[--f->n_pressed];
        }
        return buf_append(out, f->held, f->n_held);
}

static void put32(uint8_t *at, uint32_t v)
{
        for (unsigned i = 0; i < 4; i++)
                at[i] = (uint8_t) (v >> (24 - 8 * i));
}

int rfb_filter_release(struct rfb_filter *f, struct buf *out)
{
        int r = 0;

        for (; f->n_pressed > 0 && r == 0; f->n_pressed--) {
                uint8_t plain[8] = { KEY }, extended[12] = { QEMU };
                uint32_t keysym = f->pressed[f->n_pressed - 1].keysym,
                         code = f->pressed[f->n_pressed - 1].keycode;
                put32(plain + 4, keysym);
                put32(extended + 4, keysym);
                put32(extended + 8, code);
                r = code ? buf_append(out, extended, sizeof(extended))
                         : buf_append(out, plain, sizeof(plain));
        }
        if (f->buttons && r == 0) {
                f->pointer[1] = 0;
                r = buf_append(out, f->pointer, sizeof(f->pointer));
        }
        f->buttons = 0;
        return r;
}

static int message(struct rfb_filter *f, struct buf *out, const char **ret_why)
{
        const uint8_t *h = f->held;

        switch (h[0]) {
        case SET_ENCODINGS:
                if (be16(h + 2) > RFB_ENCODINGS_MAX) {
                        *ret_why = "too many encodings";
                        return -EPROTO;
                }
                return set_encodings(f, out);
        case FENCE:
                if (h[8] > 64) {
                        *ret_why = "fence is too long";
                        return -EPROTO;
                }
                return buf_append(out, h, f->n_held);
        case CUT_TEXT:
                /* Also refuses the negative lengths of the extended clipboard, which is never
                 * agreed on. */
                if (be32(h + 4) > RFB_CUT_TEXT_MAX) {
                        *ret_why = "clipboard text is too long";
                        return -EPROTO;
                }
                return drop_long(f, be32(h + 4));
        case DESKTOP_SIZE:
                return drop_long(f, 16 * (uint64_t) h[6]);
        case QEMU:
                if (h[1] != 0) {
                        *ret_why = "unknown message";
                        return -EPROTO;
                }
                return f->control ? key(f, h[2] || h[3], be32(h + 4), be32(h + 8), out) : 0;
        case KEY:
                return f->control ? key(f, h[1] != 0, be32(h + 4), 0, out) : 0;
        case POINTER:
                return f->control ? pointer(f, out) : 0;
        case XVP:
                return 0;
        default:
                return buf_append(out, h, f->n_held);
        }
}

int rfb_filter_feed(struct rfb_filter *f, const char *data, size_t n, struct buf *out,
                    const char **ret_why)
{
        size_t i = 0;

        while (i < n) {
                if (f->state == LONG) {
                        size_t take = (size_t) MIN((uint64_t) (n - i), f->skip);
                        i += take;
                        f->skip -= take;
                        if (f->skip == 0)
                                f->state = MESSAGE;
                        continue;
                }
                f->held[f->n_held++] = (uint8_t) data[i++];
                size_t need = needed(f);
                if (need == 0) {
                        *ret_why = "unknown message";
                        return -EPROTO;
                }
                while (f->n_held < need && i < n)
                        f->held[f->n_held++] = (uint8_t) data[i++];
                /* The length of some messages is known only now. */
                if (f->n_held < need || f->n_held < needed(f))
                        continue;
                int r = f->state == MESSAGE ? message(f, out, ret_why) : handshake(f, out, ret_why);
                f->n_held = 0;
                if (r < 0)
                        return r;
        }
        return 0;
}
