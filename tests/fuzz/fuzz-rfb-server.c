/* What a display server sends: the RFB client never crashes, stays in its frame and within its
 * budget. The first byte chooses the size of the pieces and whether a good greeting of a 64x48
 * screen goes before. */
#include <assert.h>

#include "workerd/decoder/rfb.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t greeting[] =
        "RFB "
        "003."
        "008\n\1\1\0\0\0\0\0\100\0\060\040\030\0\1\0\377\0\377\0\377\020\010\0\0\0\0\0\0\0\4slot";

static uint32_t *const own[2];

static bool feed(struct rfb *r, const uint8_t *data, size_t size, size_t piece)
{
        for (size_t at = 0; at < size; at += piece) {
                if (rfb_feed(r, data + at, MIN(piece, size - at)) < 0)
                        return false;
                unsigned turns = 0;
                int left;
                while ((left = rfb_work(r)) > 0)
                        assert(++turns < 100000);
                if (left < 0) {
                        assert(r->state == RFB_DEAD && r->why);
                        return false;
                }
                assert((uint64_t) r->width * r->height <= RFB_PIXELS_MAX);
                assert(r->width == 0 || r->pixels);
                assert(r->out.len <= RFB_OUT_MAX);
                buf_clear(&r->out);
        }
        return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct rfb r;
        if (size == 0)
                return 0;
        size_t piece = (size_t) (data[0] >> 1) + 1;
        rfb_init(&r, own);
        if (!(data[0] & 1) || feed(&r, greeting, sizeof(greeting) - 1, 100))
                (void) !feed(&r, data + 1, size - 1, piece);
        (void) !rfb_key(&r, true, 'a');
        (void) !rfb_pointer(&r, 1, 2, 3);
        rfb_done(&r);
        return 0;
}
