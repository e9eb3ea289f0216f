/* Pieces of a recording: whatever changes, decoding gives the frames that went in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "workerd/record.h"

#define WIDTH 97
#define HEIGHT 71 /* not a multiple of the bands */

static uint32_t state = 12345;

static uint32_t number(uint32_t below)
{
        state = state * 1664525 + 1013904223;
        return (state >> 8) % below;
}

static unsigned le16(const uint8_t *p)
{
        return (unsigned) (p[0] | p[1] << 8);
}

static uint32_t le32(const uint8_t *p)
{
        return le16(p) | (uint32_t) le16(p + 2) << 16;
}

/* Applies one frame at *at to the picture; gives its time. */
static uint32_t decode(const uint8_t *data, size_t n, size_t *at, uint32_t *picture)
{
        while (*at < n && data[*at] == 'R') {
                unsigned x = le16(data + *at + 1), y = le16(data + *at + 3),
                         w = le16(data + *at + 5), h = le16(data + *at + 7);
                assert_true(w > 0 && h > 0 && x + w <= WIDTH && y + h <= HEIGHT);
                *at += 9;
                assert_true(*at + (size_t) w * h * 3 <= n);
                for (unsigned row = 0; row < h; row++)
                        for (unsigned i = 0; i < w; i++, *at += 3)
                                picture[(y + row) * WIDTH + x + i] = (uint32_t) data[*at] << 16 |
                                                                     (uint32_t) data[*at + 1] << 8 |
                                                                     data[*at + 2];
        }
        assert_true(*at + 13 <= n && data[*at] == 'F');
        uint32_t ms = le32(data + *at + 1);
        *at += 13;
        return ms;
}

static void scribble(uint32_t *picture)
{
        unsigned x = number(WIDTH), y = number(HEIGHT), w = 1 + number(WIDTH - x),
                 h = 1 + number(HEIGHT - y);
        uint32_t colour = number(1 << 24);

        for (unsigned row = y; row < y + h; row++)
                for (unsigned i = x; i < x + w; i++)
                        picture[row * WIDTH + i] = colour;
}

static void test_round_trip(void **userdata)
{
        static uint32_t in[60][WIDTH * HEIGHT], out[WIDTH * HEIGHT];
        struct record r = { 0 };

        for (unsigned round = 0; round < 20; round++) {
                unsigned frames = 1;
                if (round == 0)
                        memset(in[0], 0, sizeof(in[0]));
                scribble(in[0]);
                record_begin(&r, in[0], WIDTH, HEIGHT, 1000000, 7);
                assert_true(record_open(&r));
                for (unsigned i = 1; i < ARRAY_LEN(in); i++) {
                        memcpy(in[frames], in[frames - 1], sizeof(in[0]));
                        for (unsigned k = number(3); k > 0; k--)
                                scribble(in[frames]);
                        bool differs = memcmp(in[frames], in[frames - 1], sizeof(in[0])) != 0;
                        assert_int_equal(differs,
                                         record_frame(&r, in[frames], 1000000 + i * 1000, 7 + i));
                        frames += differs;
                }
                assert_int_equal(r.frames, frames);
                struct buf raw = record_take(&r);
                assert_false(record_open(&r));
                const uint8_t *data = (const uint8_t *) raw.data;
                assert_memory_equal(data, "BREC\1\0\0\0", 8);
                assert_int_equal(le32(data + 8), WIDTH);
                assert_int_equal(le32(data + 12), HEIGHT);
                size_t at = 24;
                uint32_t before = 0;
                memset(out, 0xff, sizeof(out));
                for (unsigned i = 0; i < frames; i++) {
                        uint32_t ms = decode(data, raw.len, &at, out);
                        assert_true(ms >= before);
                        before = ms;
                        assert_memory_equal(out, in[i], sizeof(out));
                }
                assert_int_equal(at, raw.len);
                memcpy(in[0], in[frames - 1], sizeof(in[0]));
                buf_done(&raw);
        }
        record_done(&r);
}

static void test_one_pixel_is_small(void **userdata)
{
        static uint32_t frame[WIDTH * HEIGHT];
        struct record r = { 0 };

        record_begin(&r, frame, WIDTH, HEIGHT, 0, 0);
        size_t before = r.raw.len;
        assert_false(record_frame(&r, frame, 5, 0));
        assert_int_equal(r.raw.len, before);
        frame[40 * WIDTH + 50] = 1;
        assert_true(record_frame(&r, frame, 10, 0));
        assert_int_equal(r.raw.len, before + 9 + 3 + 13);
        record_done(&r);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_round_trip),
                cmocka_unit_test(test_one_pixel_is_small),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
