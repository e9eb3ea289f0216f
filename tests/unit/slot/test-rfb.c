/* The RFB client against servers that lie: every size, place and order that is wrong, in any
 * fragmentation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "workerd/rfb.h"

static void u16(struct buf *b, unsigned v)
{
        char d[2] = { (char) (v >> 8), (char) v };
        buf_put(b, d, 2);
}

static void u32(struct buf *b, uint32_t v)
{
        u16(b, v >> 16);
        u16(b, v & 0xffff);
}

static void greet(struct buf *b, unsigned width, unsigned height)
{
        buf_put(b, "RFB 003.008\n", 12);
        buf_put(b, "\1\1", 2);
        u32(b, 0);
        u16(b, width);
        u16(b, height);
        static const char format[16] = { 32, 24, 0, 1 };
        buf_put(b, format, 16);
        u32(b, 4);
        buf_put(b, "slot", 4);
}

static void update(struct buf *b, unsigned rects)
{
        buf_put(b, "\0\0", 2);
        u16(b, rects);
}

static void rect(struct buf *b, unsigned x, unsigned y, unsigned width, unsigned height,
                 int encoding)
{
        u16(b, x);
        u16(b, y);
        u16(b, width);
        u16(b, height);
        u32(b, (uint32_t) encoding);
}

static void fill(struct buf *b, size_t pixels, uint32_t colour)
{
        for (size_t i = 0; i < pixels; i++)
                buf_put(b, &colour, 4);
}

/* Feeds all in pieces of `piece`; the result of the last rfb_work. */
static int play(struct rfb *r, const struct buf *b, size_t piece)
{
        int last = 0;
        for (size_t at = 0; at < b->len && last >= 0; at += piece) {
                assert_int_equal(rfb_feed(r, b->data + at, MIN(piece, b->len - at)), 0);
                while ((last = rfb_work(r)) > 0)
                        ;
                buf_clear(&r->out);
        }
        return last;
}

static void test_frames(void **state)
{
        static const size_t pieces[] = { 1, 3, 7, 64, 100000 };
        for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
                struct rfb r;
                cleanup_buf struct buf b = BUF_INIT;
                rfb_init(&r);
                greet(&b, 8, 6);
                update(&b, 2);
                rect(&b, 0, 0, 8, 3, 0);
                fill(&b, 24, 0x112233);
                rect(&b, 0, 3, 8, 3, 0);
                fill(&b, 24, 0x445566);
                buf_put(&b, "\2", 1); /* bell */
                buf_put(&b, "\3\0\0\0", 4);
                u32(&b, 5);
                buf_put(&b, "hello", 5);
                buf_put(&b, "\1\0\0\0\0\2", 6); /* two colours */
                fill(&b, 3, 0);
                assert_int_equal(play(&r, &b, pieces[i]), 0);
                assert_true(r.whole);
                assert_int_equal(r.pixels[23], 0x112233);
                assert_int_equal(r.pixels[24], 0x445566);
                uint64_t generation = r.generation;

                /* The same again changes nothing. */
                buf_clear(&b);
                update(&b, 1);
                rect(&b, 0, 0, 8, 3, 0);
                fill(&b, 24, 0x112233);
                assert_int_equal(play(&r, &b, pieces[i]), 0);
                assert_int_equal(r.generation, generation);

                /* Copies that overlap, down and up; an endless update. */
                buf_clear(&b);
                update(&b, 0xffff);
                rect(&b, 0, 1, 8, 5, 1);
                u16(&b, 0);
                u16(&b, 0);
                rect(&b, 0, 0, 0, 0, -224);
                assert_int_equal(play(&r, &b, pieces[i]), 0);
                assert_true(r.generation > generation);
                assert_int_equal(r.pixels[31], 0x112233);
                assert_int_equal(r.pixels[32], 0x445566);

                /* Another size: nothing is known of it, and what comes next is taken as all of it.
                 */
                buf_clear(&b);
                update(&b, 1);
                rect(&b, 0, 0, 4, 4, -308);
                buf_put(&b, "\1\0\0\0", 4);
                fill(&b, 4, 0);
                assert_int_equal(play(&r, &b, pieces[i]), 0);
                assert_int_equal(r.width, 4);
                assert_false(r.whole);
                buf_clear(&b);
                update(&b, 1);
                rect(&b, 0, 0, 4, 4, 0);
                fill(&b, 16, 7);
                assert_int_equal(play(&r, &b, pieces[i]), 0);
                assert_true(r.whole);
                /* A refusal (status 1) carries a size that does not count. */
                buf_clear(&b);
                update(&b, 1);
                rect(&b, 1, 1, 9, 9, -308);
                buf_put(&b, "\0\0\0\0", 4);
                assert_int_equal(play(&r, &b, pieces[i]), 0);
                assert_int_equal(r.width, 4);
                rfb_done(&r);
        }
}

static void test_requests(void **state)
{
        struct rfb r;
        cleanup_buf struct buf b = BUF_INIT;
        rfb_init(&r);
        greet(&b, 16, 9);
        assert_int_equal(rfb_key(&r, true, 'a'), -ENOTCONN);
        assert_int_equal(rfb_feed(&r, b.data, b.len), 0);
        assert_int_equal(rfb_work(&r), 0);
        /* version, security type, shared, pixel format, encodings, the first request for all */
        assert_int_equal(buf_pending(&r.out), 12 + 1 + 1 + 20 + 24 + 10);
        static const uint8_t request[10] = { 3, 0, 0, 0, 0, 0, 0, 16, 0, 9 };
        assert_memory_equal(r.out.data + r.out.len - 10, request, 10);
        buf_clear(&r.out);
        assert_int_equal(rfb_key(&r, true, 0x1000000 + 0x1f600), 0);
        assert_int_equal(rfb_pointer(&r, 5, 300, 2), 0);
        static const uint8_t events[14] = { 4, 1, 0, 0, 1, 1, 0xf6, 0, 5, 5, 1, 44, 0, 2 };
        assert_memory_equal(r.out.data, events, 14);
        int last = 0;
        for (unsigned i = 0; i < 200000 && last == 0; i++)
                last = rfb_pointer(&r, 0, 1, 1);
        assert_int_equal(last, -EAGAIN);
        assert_true(r.out.len <= RFB_OUT_MAX);
        rfb_done(&r);
}

/* Each row is a server that must be hung up on. */
static void add_lie(struct buf *b, int which)
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
                greet(b, 0, 100);
                return;
        case 6:
                greet(b, 65535, 65535);
                return;
        case 7:
                greet(b, 8192, 8192);
                return;
        case 8: /* a name without end */
                buf_put(b, "RFB 003.008\n\1\1\0\0\0\0", 18);
                u16(b, 10);
                u16(b, 10);
                buf_put(b, zero, 16);
                u32(b, 0xffffffff);
                return;
        default:
                greet(b, 100, 80);
        }
        switch (which) {
        case 9: /* an unknown message */
                buf_put(b, "\4", 1);
                break;
        case 10:
                buf_put(b, "\377", 1);
                break;
        case 11: /* outside the screen */
                update(b, 1);
                rect(b, 90, 0, 11, 1, 0);
                break;
        case 12:
                update(b, 1);
                rect(b, 65535, 65535, 65535, 65535, 0);
                break;
        case 13:
                update(b, 1);
                rect(b, 0, 80, 1, 1, 0);
                break;
        case 14:
                update(b, 1);
                rect(b, 0, 0, 50, 50, 1);
                u16(b, 51);
                u16(b, 0);
                break;
        case 15:
                update(b, 1);
                rect(b, 0, 0, 50, 50, 1);
                u16(b, 0);
                u16(b, 65535);
                break;
        case 16: /* encodings nobody asked for */
                update(b, 1);
                rect(b, 0, 0, 10, 10, 16);
                break;
        case 17:
                update(b, 1);
                rect(b, 0, 0, 10, 10, -239);
                break;
        case 18: /* impossible sizes */
                update(b, 1);
                rect(b, 0, 0, 0, 0, -223);
                break;
        case 19:
                update(b, 1);
                rect(b, 0, 0, 8193, 1, -223);
                break;
        case 20:
                update(b, 1);
                rect(b, 0, 0, 8192, 8192, -308);
                buf_put(b, "\0\0\0\0", 4);
                break;
        case 21: /* a clipboard without end, also as the extended kind (negative length) */
                buf_put(b, "\3\0\0\0", 4);
                u32(b, 0x7fffffff);
                break;
        case 22:
                buf_put(b, "\3\0\0\0", 4);
                u32(b, 0xffffff00);
                break;
        default:
                fail();
        }
}

static void test_liars(void **state)
{
        static const size_t pieces[] = { 1, 5, 100000 };
        for (int which = 0; which <= 22; which++)
                for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
                        struct rfb r;
                        cleanup_buf struct buf b = BUF_INIT;
                        rfb_init(&r);
                        add_lie(&b, which);
                        int last = play(&r, &b, pieces[i]);
                        if (last != -EPROTO)
                                print_error("lie %d was believed\n", which);
                        assert_int_equal(last, -EPROTO);
                        assert_non_null(r.why);
                        assert_int_equal(rfb_work(&r), -EPROTO);
                        assert_int_equal(rfb_key(&r, true, 1), -ENOTCONN);
                        rfb_done(&r);
                }
}

/* Few bytes that ask for much work: each call of rfb_work stays within its budget. */
static void test_budget(void **state)
{
        struct rfb r;
        cleanup_buf struct buf b = BUF_INIT;
        rfb_init(&r);
        greet(&b, 4000, 4000);
        update(&b, 60000);
        for (int i = 0; i < 40; i++) {
                rect(&b, 0, 0, 4000, 3999, 1);
                u16(&b, 0);
                u16(&b, 1);
        }
        for (int i = 0; i < 10000; i++)
                rect(&b, 0, 0, 0, 0, 0);
        for (int i = 0; i < 40; i++)
                rect(&b, 0, 0, 4000 - (unsigned) i % 2, 4000, -223);
        assert_int_equal(rfb_feed(&r, b.data, b.len), 0);
        unsigned calls = 0;
        int last;
        while ((last = rfb_work(&r)) > 0)
                calls++;
        assert_int_equal(last, 0);
        assert_true(calls >= 40);
        rfb_done(&r);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_frames),
                cmocka_unit_test(test_requests),
                cmocka_unit_test(test_liars),
                cmocka_unit_test(test_budget),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
