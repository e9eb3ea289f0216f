/* The PNG writer: rows without filter, a palette when at most 256 colours are used, one zlib
 * stream. */
#include "png.h"

#include <libdeflate.h>

#include "squeeze.h"

#define SIDE_MAX SQUEEZE_WIDTH_MAX
#define COLOURS_MAX 256
#define HASH_SLOTS 1024
#define LEVEL                                                                                      \
        2 /* for palettes: pictures with few colours are flat, where the lowest level is slow */

struct png_writer {
        struct libdeflate_compressor *compressor;
        struct squeezer *squeezer;
        uint8_t *rows; /* filter byte and palette indices of each row */
        size_t rows_size;
        uint32_t palette[COLOURS_MAX];
        unsigned n_palette;
        uint32_t key[HASH_SLOTS]; /* colour + 1, 0 = free */
        uint8_t index[HASH_SLOTS];
};

struct png_writer *png_writer_new(void)
{
        struct png_writer *w = xnew(struct png_writer);
        w->compressor = libdeflate_alloc_compressor(LEVEL);
        if (!w->compressor)
                abort();
        w->squeezer = squeezer_new();
        return w;
}

struct png_writer *png_writer_free(struct png_writer *w)
{
        if (!w)
                return NULL;
        libdeflate_free_compressor(w->compressor);
        squeezer_free(w->squeezer);
        free(w->rows);
        free(w);
        return NULL;
}

static void set32(void *at, uint32_t v)
{
        uint8_t b[4] = { (uint8_t) (v >> 24), (uint8_t) (v >> 16), (uint8_t) (v >> 8),
                         (uint8_t) v };
        memcpy(at, b, sizeof(b));
}

/* Room for a chunk; its length and type. Where it begins is counted from the first byte not
 * consumed: the buffer may move what it holds. */
static int chunk_begin(struct buf *out, const char type[static 4], size_t room)
{
        static const char length[4];
        int r = buf_reserve(out, room + 12);
        if (r < 0)
                return r;
        buf_put(out, length, 4);
        buf_put(out, type, 4);
        return 0;
}

static void chunk_end(struct buf *out, size_t begin)
{
        char *at = out->data + out->off + begin;
        size_t length = buf_pending(out) - begin - 8;
        uint8_t crc[4];
        set32(at, (uint32_t) length);
        set32(crc, libdeflate_crc32(0, at + 4, length + 4));
        buf_put(out, crc, 4);
}

static unsigned slot_of(uint32_t colour)
{
        return (colour * 2654435761U) >> 22;
}

/* The colour's place in the palette; -1 when that is full. */
static int look_up(struct png_writer *w, uint32_t colour)
{
        unsigned s = slot_of(colour);
        for (; w->key[s] != 0; s = (s + 1) % HASH_SLOTS)
                if (w->key[s] == colour + 1)
                        return w->index[s];
        if (w->n_palette == COLOURS_MAX)
                return -1;
        w->key[s] = colour + 1;
        w->index[s] = (uint8_t) w->n_palette;
        w->palette[w->n_palette] = colour;
        return (int) w->n_palette++;
}

/* Whether a palette is worth trying: a look at some rows spares most pictures with many colours the
 * attempt. */
static bool seems_indexed(struct png_writer *w, const uint32_t *pixels, unsigned width,
                          unsigned height, size_t stride)
{
        unsigned step = height / 32 + 1;
        uint32_t last = UINT32_MAX;
        w->n_palette = 0;
        memset(w->key, 0, sizeof(w->key));
        for (unsigned y = step / 2; y < height; y += step)
                for (unsigned x = 0; x < width; x++) {
                        uint32_t colour = pixels[y * stride + x] & 0xffffff;
                        if (colour != last && look_up(w, colour) < 0)
                                return false;
                        last = colour;
                }
        return true;
}

/* One byte per pixel; false when there are too many colours. */
static bool fill_indexed(struct png_writer *w, const uint32_t *pixels, unsigned width,
                         unsigned height, size_t stride)
{
        uint8_t *to = w->rows;
        uint32_t last = UINT32_MAX;
        int at = -1;
        w->n_palette = 0;
        memset(w->key, 0, sizeof(w->key));
        for (unsigned y = 0; y < height; y++) {
                const uint32_t *row = pixels + y * stride;
                *to++ = 0;
                for (unsigned x = 0; x < width; x++) {
                        uint32_t colour = row[x] & 0xffffff;
                        if (colour != last) {
                                at = look_up(w, colour);
                                if (at < 0)
                                        return false;
                                last = colour;
                        }
                        *to++ = (uint8_t) at;
                }
        }
        return true;
}

static int put_header(struct buf *out, unsigned width, unsigned height, bool indexed)
{
        static const uint8_t magic[8] = { 0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n' };
        uint8_t head[13] = { [8] = 8, [9] = indexed ? 3 : 2 };
        set32(head, width);
        set32(head + 4, height);
        int r = buf_append(out, magic, sizeof(magic));
        if (r < 0)
                return r;
        size_t begin = buf_pending(out);
        r = chunk_begin(out, "IHDR", sizeof(head));
        if (r < 0)
                return r;
        buf_put(out, head, sizeof(head));
        chunk_end(out, begin);
        return 0;
}

static int put_palette(struct png_writer *w, struct buf *out)
{
        size_t begin = buf_pending(out);
        int r = chunk_begin(out, "PLTE", 3UL * w->n_palette);
        if (r < 0)
                return r;
        for (unsigned i = 0; i < w->n_palette; i++) {
                uint8_t c[4];
                set32(c, w->palette[i]);
                buf_put(out, c + 1, 3);
        }
        chunk_end(out, begin);
        return 0;
}

static int put_end(struct buf *out)
{
        size_t begin = buf_pending(out);
        int r = chunk_begin(out, "IEND", 0);
        if (r == 0)
                chunk_end(out, begin);
        return r;
}

static int put_indexed(struct png_writer *w, unsigned width, unsigned height, struct buf *out)
{
        size_t n = ((size_t) width + 1) * height,
               bound = libdeflate_zlib_compress_bound(w->compressor, n);
        int r = put_palette(w, out);
        size_t begin = buf_pending(out);
        if (r == 0)
                r = chunk_begin(out, "IDAT", bound);
        if (r < 0)
                return r;
        size_t got = libdeflate_zlib_compress(w->compressor, w->rows, n, buf_tail(out), bound);
        if (got == 0)
                return -EMSGSIZE;
        buf_added(out, got);
        chunk_end(out, begin);
        return 0;
}

static int put_rgb(struct png_writer *w, const uint32_t *pixels, unsigned width, unsigned height,
                   size_t stride, struct buf *out)
{
        size_t begin = buf_pending(out);
        int r = chunk_begin(out, "IDAT", squeeze_bound(width, height));
        if (r < 0)
                return r;
        buf_added(out,
                  squeeze(w->squeezer, pixels, width, height, stride, (uint8_t *) buf_tail(out)));
        chunk_end(out, begin);
        return 0;
}

int png_write(struct png_writer *w, const uint32_t *pixels, unsigned width, unsigned height,
              size_t stride, struct buf *out)
{
        if (width == 0 || height == 0 || width > SIDE_MAX || height > SIDE_MAX)
                return -EINVAL;
        size_t need = ((size_t) width + 1) * height;
        if (need > w->rows_size) {
                free(w->rows);
                w->rows = malloc(need);
                w->rows_size = w->rows ? need : 0;
                if (!w->rows)
                        return -ENOMEM;
        }
        bool indexed = seems_indexed(w, pixels, width, height, stride) &&
                       fill_indexed(w, pixels, width, height, stride);
        int r = put_header(out, width, height, indexed);
        if (r == 0)
                r = indexed ? put_indexed(w, width, height, out)
                            : put_rgb(w, pixels, width, height, stride, out);
        return r < 0 ? r : put_end(out);
}
