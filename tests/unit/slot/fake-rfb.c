/* A fake display server: what it would send, as bytes (fake-rfb.h). */
#include "fake-rfb.h"

void fake_u16(struct buf *b, unsigned v)
{
        char d[2] = { (char) (v >> 8), (char) v };
        buf_put(b, d, 2);
}

void fake_u32(struct buf *b, uint32_t v)
{
        fake_u16(b, v >> 16);
        fake_u16(b, v & 0xffff);
}

void fake_greet(struct buf *b, unsigned width, unsigned height)
{
        buf_put(b, "RFB 003.008\n", 12);
        buf_put(b, "\1\1", 2);
        fake_u32(b, 0);
        fake_u16(b, width);
        fake_u16(b, height);
        static const char format[16] = { 32, 24, 0, 1 };
        buf_put(b, format, 16);
        fake_u32(b, 4);
        buf_put(b, "slot", 4);
}

void fake_update(struct buf *b, unsigned rects)
{
        buf_put(b, "\0\0", 2);
        fake_u16(b, rects);
}

void fake_rect(struct buf *b, unsigned x, unsigned y, unsigned width, unsigned height, int encoding)
{
        fake_u16(b, x);
        fake_u16(b, y);
        fake_u16(b, width);
        fake_u16(b, height);
        fake_u32(b, (uint32_t) encoding);
}

void fake_fill(struct buf *b, size_t pixels, uint32_t colour)
{
        for (size_t i = 0; i < pixels; i++)
                buf_put(b, &colour, 4);
}

/* Each row is a server that must be hung up on. */
void fake_lie(struct buf *b, int which)
{
        static const char zero[64];
        switch (which) {
        case 0: /* another protocol */
                buf_put(b, "HTTP/1.1 200 OK\r\n", 17);
                return;
        case 1:
                buf_put(b, "RFB 003.003\n", 12);
                return;
        case 2: /* no security types, or none we have */
                buf_put(b, "RFB 003.008\n\0", 13);
                return;
        case 3:
                buf_put(b, "RFB 003.008\n\2\2\5", 15);
                return;
        case 4:
                buf_put(b, "RFB 003.008\n\1\1\0\0\0\1", 18);
                return;
        case 5:
                fake_greet(b, 0, 100);
                return;
        case 6:
                fake_greet(b, 65535, 65535);
                return;
        case 7:
                fake_greet(b, 8192, 8192);
                return;
        case 23: /* a protocol of the future; a refusal with a reason without end */
                buf_put(b, "RFB 004.001\n", 12);
                return;
        case 24:
                buf_put(b, "RFB 003.008\n\0\377\377\377\377", 17);
                return;
        case 25: /* 255 ways to log in, and none is for us */
                buf_put(b, "RFB 003.008\n\377", 13);
                for (int i = 0; i < 255; i++)
                        buf_put(b, "\2", 1);
                return;
        case 8: /* a name without end */
                buf_put(b, "RFB 003.008\n\1\1\0\0\0\0", 18);
                fake_u16(b, 10);
                fake_u16(b, 10);
                buf_put(b, zero, 16);
                fake_u32(b, 0xffffffff);
                return;
        default:
                fake_greet(b, 100, 80);
        }
        switch (which) {
        case 9: /* an unknown message */
                buf_put(b, "\4", 1);
                break;
        case 10:
                buf_put(b, "\377", 1);
                break;
        case 11: /* outside the screen */
                fake_update(b, 1);
                fake_rect(b, 90, 0, 11, 1, 0);
                break;
        case 12:
                fake_update(b, 1);
                fake_rect(b, 65535, 65535, 65535, 65535, 0);
                break;
        case 13:
                fake_update(b, 1);
                fake_rect(b, 0, 80, 1, 1, 0);
                break;
        case 14:
                fake_update(b, 1);
                fake_rect(b, 0, 0, 50, 50, 1);
                fake_u16(b, 51);
                fake_u16(b, 0);
                break;
        case 15:
                fake_update(b, 1);
                fake_rect(b, 0, 0, 50, 50, 1);
                fake_u16(b, 0);
                fake_u16(b, 65535);
                break;
        case 16: /* encodings nobody asked for */
                fake_update(b, 1);
                fake_rect(b, 0, 0, 10, 10, 16);
                break;
        case 17:
                fake_update(b, 1);
                fake_rect(b, 0, 0, 10, 10, -239);
                break;
        case 18: /* impossible sizes */
                fake_update(b, 1);
                fake_rect(b, 0, 0, 0, 0, -223);
                break;
        case 19:
                fake_update(b, 1);
                fake_rect(b, 0, 0, 8193, 1, -223);
                break;
        case 20:
                fake_update(b, 1);
                fake_rect(b, 0, 0, 8192, 8192, -308);
                buf_put(b, "\0\0\0\0", 4);
                break;
        case 21: /* a clipboard without end, also as the extended kind (negative length) */
                buf_put(b, "\3\0\0\0", 4);
                fake_u32(b, 0x7fffffff);
                break;
        case 22:
                buf_put(b, "\3\0\0\0", 4);
                fake_u32(b, 0xffffff00);
                break;
        case 26: /* compressed, and what comes out would fill the memory */
                fake_update(b, 1);
                fake_rect(b, 0, 0, 100, 80, 6);
                fake_u32(b, 0xffffffff);
                buf_put(b, "\x78\xda\xed\xc1\x01\x0d\0\0\0\xc2\xa0", 11);
                break;
        case 27: /* ZRLE, Tight with a JPEG, Hextile */
                fake_update(b, 1);
                fake_rect(b, 0, 0, 65535, 65535, 16);
                fake_u32(b, 0x7fffffff);
                break;
        case 28:
                fake_update(b, 1);
                fake_rect(b, 0, 0, 100, 80, 7);
                buf_put(b, "\x90\xff\xff\xff\xff\xd8", 6);
                break;
        case 29:
                fake_update(b, 1);
                fake_rect(b, 0, 0, 100, 80, 5);
                break;
        case 30: /* smaller in the middle of an update that goes on with the old size */
                fake_update(b, 2);
                fake_rect(b, 0, 0, 50, 40, -223);
                fake_rect(b, 0, 0, 100, 80, 0);
                break;
        case 31:
                fake_update(b, 2);
                fake_rect(b, 0, 0, 50, 40, -308);
                buf_put(b, "\0\0\0\0", 4);
                fake_rect(b, 0, 0, 50, 40, 1);
                fake_u16(b, 1);
                fake_u16(b, 0);
                break;
        case 32: /* 255 screens, the size of none */
                fake_update(b, 1);
                fake_rect(b, 0, 0, 0, 65535, -308);
                buf_put(b, "\377\0\0\0", 4);
                fake_fill(b, 4 * 255, 0);
                break;
        case 33: /* colours without end, then nonsense */
                buf_put(b, "\1\0\0\0\377\377", 6);
                for (int i = 0; i < 65535; i++)
                        buf_put(b, "\1\2\3\4\5\6", 6);
                buf_put(b, "\356", 1);
                break;
        case 34: /* an update that ends early, then the rest of it */
                fake_update(b, 3);
                fake_rect(b, 0, 0, 0, 0, -224);
                fake_rect(b, 25600, 0, 1, 1, 0);
                break;
        case 35: /* one pixel more than the largest screen */
                fake_update(b, 1);
                fake_rect(b, 0, 0, 8192, 2049, -223);
                break;
        case 36: /* extensions that were not agreed on: fences, continuous updates */
                buf_put(b, "\370\0\0\0\200\0\0\0\377", 9);
                break;
        case 37:
                buf_put(b, "\226", 1);
                break;
        default:
                abort();
        }
}
