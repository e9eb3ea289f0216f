/* What the worker checks of everything that its decoder says. */
#include "decoder.h"

#define PNG_SMALLEST 57 /* signature, header, the shortest data, end */

static uint32_t u32(const uint8_t *d)
{
        return (uint32_t) d[0] << 24 | (uint32_t) d[1] << 16 | (uint32_t) d[2] << 8 | d[3];
}

static bool frame_sound(const struct decoder_news *n)
{
        return n->width > 0 && n->height > 0 && n->width <= RFB_SIDE_MAX &&
               n->height <= RFB_SIDE_MAX && (uint64_t) n->width * n->height <= RFB_PIXELS_MAX &&
               n->place <= 1;
}

static bool picture_sound(const struct decoder_news *n)
{
        switch (n->result) {
        case 0:
                return n->bytes >= PNG_SMALLEST && n->bytes <= DECODER_PICTURE_BYTES;
        case -ERANGE:
        case -ENOMEM:
        case -EINVAL:
        case -EMSGSIZE:
                return true;
        default:
                return false;
        }
}

/* Plain text that ends: it goes into a log and an error message. */
static bool why_sound(const struct decoder_news *n)
{
        if (!memchr(n->why, '\0', sizeof(n->why)))
                return false;
        for (const char *c = n->why; *c; c++)
                if (*c < ' ' || *c > '~')
                        return false;
        return true;
}

bool decoder_news_sound(const struct decoder_news *n, size_t size)
{
        if (size != sizeof(*n))
                return false;
        switch (n->kind) {
        case NEWS_FRAME:
                return frame_sound(n);
        case NEWS_PICTURE:
                return picture_sound(n);
        case NEWS_END:
                return why_sound(n);
        default:
                return false;
        }
}

bool decoder_picture_sound(const void *data, size_t n, unsigned width, unsigned height)
{
        static const uint8_t head[16] = { 0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n',
                                          0,    0,   0,   13,  'I',  'H',  'D',  'R' };
        const uint8_t *d = data;
        return n >= PNG_SMALLEST && memcmp(d, head, sizeof(head)) == 0 && u32(d + 16) == width &&
               u32(d + 20) == height;
}
