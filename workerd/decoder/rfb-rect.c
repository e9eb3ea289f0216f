/* What rectangles do to the framebuffer; a change is counted only when a pixel really differs. */
#include "rfb-rect.h"

static void spend(struct rfb *r, size_t bytes)
{
        /* Small rectangles cost too. */
        bytes += 256;
        r->budget -= MIN(r->budget, bytes);
}

/* Black, and not where the frame was until now. */
static int new_frame(struct rfb *r, size_t pixels)
{
        uint32_t *frame = r->storage[0] ? r->storage[!r->place] : calloc(pixels, sizeof(*frame));
        if (!frame)
                return -ENOMEM;
        if (r->storage[0])
                memset(frame, 0, pixels * sizeof(*frame));
        else
                free(r->pixels);
        r->pixels = frame;
        r->place = !r->place;
        return 0;
}

int rfb_resize(struct rfb *r, unsigned width, unsigned height)
{
        if (r->pixels && width == r->width && height == r->height)
                return 0;
        if (width == 0 || height == 0 || width > RFB_SIDE_MAX || height > RFB_SIDE_MAX ||
            (uint64_t) width * height > RFB_PIXELS_MAX)
                return rfb_fail(r, "its screen has an impossible size");
        if (new_frame(r, (size_t) width * height) < 0)
                return rfb_fail(r, "no memory for its screen");
        r->width = width;
        r->height = height;
        r->whole = false;
        r->covered = 0;
        r->resized = true;
        r->generation++;
        spend(r, (size_t) width * height * sizeof(*r->pixels));
        return 0;
}

int rfb_rect_check(struct rfb *r)
{
        if (r->rect.x + r->rect.width > r->width || r->rect.y + r->rect.height > r->height)
                return rfb_fail(r, "it drew outside its screen");
        return 0;
}

int rfb_rect_raw(struct rfb *r)
{
        size_t row = (size_t) r->rect.width * 4, total = row * r->rect.height;
        size_t have = MIN(buf_pending(&r->in), total - r->rect.done);
        const char *from = buf_head(&r->in);
        bool changed = false;
        for (size_t left = have; left > 0;) {
                size_t y = r->rect.done / row, at = r->rect.done % row;
                size_t n = MIN(left, row - at);
                char *to = (char *) (r->pixels + (r->rect.y + y) * r->width + r->rect.x) + at;
                if (memcmp(to, from, n) != 0) {
                        memcpy(to, from, n);
                        changed = true;
                }
                from += n;
                left -= n;
                r->rect.done += n;
        }
        r->generation += changed;
        buf_consume(&r->in, have);
        spend(r, have);
        if (r->rect.done < total)
                return 0;
        r->covered += (uint64_t) r->rect.width * r->rect.height;
        return rfb_rect_end(r);
}

int rfb_rect_copy(struct rfb *r)
{
        const uint8_t *d = rfb_take(r, 4);
        if (!d)
                return 0;
        unsigned x = rfb_u16(d), y = rfb_u16(d + 2), width = r->rect.width, height = r->rect.height;
        if (x + width > r->width || y + height > r->height)
                return rfb_fail(r, "it copied from outside its screen");
        for (unsigned i = 0; i < height; i++) {
                /* Overlap: go through the rows from the end that is not overwritten. */
                unsigned k = y < r->rect.y ? height - 1 - i : i;
                memmove(r->pixels + (size_t) (r->rect.y + k) * r->width + r->rect.x,
                        r->pixels + (size_t) (y + k) * r->width + x, (size_t) width * 4);
        }
        r->generation += width > 0 && height > 0;
        spend(r, (size_t) width * height * 4);
        r->covered += (uint64_t) width * height;
        return rfb_rect_end(r);
}
