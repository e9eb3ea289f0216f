/* Pictures: written by us, read by libpng; and the sizes they are brought to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <png.h>

#include "workerd/decoder/huffman.h"
#include "workerd/decoder/png.h"
#include "workerd/decoder/resample.h"

/* A picture with `colours` colours. */
static uint32_t *make(unsigned width, unsigned height, unsigned colours)
{
        uint32_t *p = xnewn(uint32_t, (size_t) width * height);
        uint32_t seed = 12345;
        for (size_t i = 0; i < (size_t) width * height; i++) {
                seed = seed * 1664525 + 1013904223;
                p[i] = (seed >> 8) % colours * 65537;
        }
        return p;
}

/* Reads with libpng and compares every pixel; returns the colour type. */
static int compare(const struct buf *file, const uint32_t *pixels, unsigned width, unsigned height,
                   size_t stride)
{
        png_image image = { .version = PNG_IMAGE_VERSION };
        assert_true(png_image_begin_read_from_memory(&image, file->data, file->len));
        assert_int_equal(image.width, width);
        assert_int_equal(image.height, height);
        image.format = PNG_FORMAT_BGRA;
        cleanup_free uint32_t *got = xnewn(uint32_t, (size_t) width * height);
        assert_true(png_image_finish_read(&image, NULL, got, 0, NULL));
        for (unsigned y = 0; y < height; y++)
                for (unsigned x = 0; x < width; x++)
                        assert_int_equal(got[(size_t) y * width + x] & 0xffffff,
                                         pixels[y * stride + x] & 0xffffff);
        assert_int_equal(image.warning_or_error, 0);
        return file->data[25];
}

static void test_round_trip(void **state)
{
        static const struct {
                unsigned width, height, colours;
                int type; /* 3 = palette, 2 = RGB */
        } rows[] = {
                { 1, 1, 1, 3 },          { 1, 77, 2, 3 },       { 640, 3, 255, 3 },
                { 333, 222, 256, 3 },    { 333, 222, 257, 2 },  { 1280, 800, 16, 3 },
                { 1280, 800, 65536, 2 }, { 10922, 3, 9999, 2 }, { 3, 2000, 9999, 2 },
                { 1, 300, 3000, 2 },     { 2, 2, 4, 3 },
        };
        struct png_writer *w = png_writer_new();
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                cleanup_free uint32_t *p = make(rows[i].width, rows[i].height, rows[i].colours);
                cleanup_buf struct buf file = BUF_INIT;
                assert_int_equal(
                        png_write(w, p, rows[i].width, rows[i].height, rows[i].width, &file), 0);
                assert_int_equal(compare(&file, p, rows[i].width, rows[i].height, rows[i].width),
                                 rows[i].type);
        }
        /* A part of a larger picture, with a byte that is not a colour. */
        cleanup_free uint32_t *p = make(100, 100, 1000);
        cleanup_buf struct buf file = BUF_INIT;
        for (size_t i = 0; i < 10000; i++)
                p[i] |= 0xab000000;
        assert_int_equal(png_write(w, p + 1005, 50, 60, 100, &file), 0);
        (void) compare(&file, p + 1005, 50, 60, 100);
        assert_int_equal(png_write(w, p, 0, 1, 100, &file), -EINVAL);
        assert_int_equal(png_write(w, p, 20000, 1, 20000, &file), -EINVAL);
        cleanup_buf struct buf small = BUF_LIMIT(200);
        assert_int_equal(png_write(w, p, 100, 100, 100, &small), -EMSGSIZE);
        png_writer_free(w);
}

/* Pictures made of every kind of repetition, at random. */
static void test_repetitions(void **state)
{
        struct png_writer *w = png_writer_new();
        srand(4711);
        for (int round = 0; round < 150; round++) {
                unsigned width = 1 + (unsigned) rand() % 400, height = 1 + (unsigned) rand() % 90;
                unsigned colours = round % 3 == 0 ? 2 : 100000;
                cleanup_free uint32_t *p = xnewn(uint32_t, (size_t) width * height);
                for (size_t n = (size_t) width * height, i = 0; i < n;) {
                        size_t most = 1 + (size_t) rand() % (round % 2 ? 700 : 9),
                               run = MIN(n - i, most), back;
                        int kind = rand() % 4;
                        back = kind == 0 ? 1 : kind == 1 ? width : 1 + (size_t) rand() % 5000;
                        for (size_t k = 0; k < run; k++, i++)
                                p[i] = kind < 3 && i >= back ? p[i - back]
                                                             : (uint32_t) rand() % colours * 40503;
                }
                /* more than 256 colours, so that it is not a palette */
                for (unsigned i = 0; i < 300 && i < width * height; i++)
                        p[(size_t) i * 7919 % ((size_t) width * height)] = 0x300000 + i * 257;
                cleanup_buf struct buf file = BUF_INIT;
                assert_int_equal(png_write(w, p, width, height, width, &file), 0);
                (void) compare(&file, p, width, height, width);
        }
        png_writer_free(w);
}

/* Counts that make codes longer than allowed, few symbols, none. */
static void test_huffman(void **state)
{
        uint32_t counts[HUFFMAN_SYMBOLS_MAX];
        static const unsigned longest[] = { 7, 15 };
        for (int kind = 0; kind < 6; kind++)
                for (size_t i = 0; i < ARRAY_LEN(longest); i++) {
                        unsigned n = longest[i] == 7 ? 19 : 286;
                        struct huffman h;
                        uint32_t a = 1, b = 1;
                        for (unsigned k = 0; k < n; k++) {
                                counts[k] = kind == 0   ? 0
                                            : kind == 1 ? k == 5
                                            : kind == 2 ? 1
                                            : kind == 3 ? a
                                            : kind == 4 ? (k < 40 ? a : 0)
                                                        : (uint32_t) rand() % 1000;
                                uint32_t next = MIN(a + b, 1U << 30);
                                a = b;
                                b = next;
                        }
                        huffman_build(counts, n, longest[i], &h);
                        uint64_t room = 0;
                        for (unsigned k = 0; k < n; k++) {
                                assert_true(h.length[k] <= longest[i]);
                                assert_true(counts[k] == 0 || h.length[k] > 0);
                                if (h.length[k])
                                        room += 1ULL << (longest[i] - h.length[k]);
                        }
                        assert_int_equal(room, 1ULL << longest[i]); /* complete */
                }
}

static void test_flat_stays_flat(void **state)
{
        static const unsigned sizes[] = { 1, 2, 3, 7, 64, 100, 101, 333, 1000 };
        for (size_t a = 0; a < ARRAY_LEN(sizes); a++)
                for (size_t b = 0; b < ARRAY_LEN(sizes); b++) {
                        unsigned from = sizes[a], to = sizes[b];
                        cleanup_free uint32_t *src = xnewn(uint32_t, (size_t) from * 5);
                        cleanup_free uint32_t *dst = xnewn(uint32_t, (size_t) to * 9);
                        for (size_t i = 0; i < (size_t) from * 5; i++)
                                src[i] = 0x00ff80fe;
                        resample(src, from, 5, from, dst, to, 9);
                        for (size_t i = 0; i < (size_t) to * 9; i++)
                                assert_int_equal(dst[i] & 0xffffff, 0xff80fe);
                }
}

/* The exact area average, in floating point. */
static double area(const uint32_t *src, unsigned width, unsigned height, unsigned to_width,
                   unsigned to_height, unsigned x, unsigned y, unsigned shift)
{
        double x0 = (double) x * width / to_width, x1 = (double) (x + 1) * width / to_width;
        double y0 = (double) y * height / to_height, y1 = (double) (y + 1) * height / to_height,
               sum = 0;
        for (unsigned v = (unsigned) y0; v < height && v < y1; v++)
                for (unsigned u = (unsigned) x0; u < width && u < x1; u++) {
                        double w = MIN(x1, u + 1.0) - MAX(x0, (double) u),
                               h = MIN(y1, v + 1.0) - MAX(y0, (double) v);
                        sum += MAX(w, 0) * MAX(h, 0) * (src[v * width + u] >> shift & 0xff);
                }
        return sum / ((x1 - x0) * (y1 - y0));
}

static void test_area_average(void **state)
{
        static const struct {
                unsigned width, height, to_width, to_height;
        } rows[] = { { 1280, 800, 1024, 768 },
                     { 100, 80, 50, 40 },
                     { 97, 53, 31, 17 },
                     { 64, 64, 1, 1 },
                     { 300, 20, 299, 19 } };
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                unsigned tw = rows[i].to_width, th = rows[i].to_height;
                cleanup_free uint32_t *src = make(rows[i].width, rows[i].height, 251);
                cleanup_free uint32_t *dst = xnewn(uint32_t, (size_t) tw * th);
                resample(src, rows[i].width, rows[i].height, rows[i].width, dst, tw, th);
                for (unsigned y = 0; y < th; y += 1 + th / 50)
                        for (unsigned x = 0; x < tw; x += 1 + tw / 50)
                                for (unsigned shift = 0; shift < 24; shift += 8) {
                                        double want = area(src, rows[i].width, rows[i].height, tw,
                                                           th, x, y, shift);
                                        double got = dst[(size_t) y * tw + x] >> shift & 0xff;
                                        if (got - want > 2.5 || want - got > 2.5)
                                                fail_msg("%zu: %u,%u is %g, not %g", i, x, y, got,
                                                         want);
                                }
        }
}

static void test_enlarge(void **state)
{
        const uint32_t src[4] = { 0x000000, 0xffffff, 0x000000, 0xffffff };
        uint32_t dst[8 * 2];
        resample(src, 2, 2, 2, dst, 8, 2);
        assert_int_equal(dst[0] & 0xff, 0);
        assert_int_equal(dst[7] & 0xff, 0xff);
        for (int i = 1; i < 8; i++)
                assert_true((dst[i] & 0xff) >= (dst[i - 1] & 0xff));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_round_trip),   cmocka_unit_test(test_repetitions),
                cmocka_unit_test(test_huffman),      cmocka_unit_test(test_flat_stays_flat),
                cmocka_unit_test(test_area_average), cmocka_unit_test(test_enlarge),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
