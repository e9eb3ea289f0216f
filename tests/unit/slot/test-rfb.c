/* The RFB client against servers that lie: every size, place and order that is wrong, in any
 * fragmentation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake-rfb.h"
#include "workerd/decoder/rfb.h"

static uint32_t *const own[2];

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
                rfb_init(&r, own);
                fake_greet(&b, 8, 6);
                fake_update(&b, 2);
                fake_rect(&b, 0, 0, 8, 3, 0);
                fake_fill(&b, 24, 0x112233);
                fake_rect(&b, 0, 3, 8, 3, 0);
                fake_fill(&b, 24, 0x445566);
                buf_put(&b, "\2", 1); /* bell */
                buf_put(&b, "\3\0\0\0", 4);
                fake_u32(&b, 5);
                buf_put(&b, "hello", 5);
                buf_put(&b, "\1\0\0\0\0\2", 6); /* two colours */
                fake_fill(&b, 3, 0);
                assert_int_equal(play(&r, &b, pieces[i]), 0);
                assert_true(r.whole);
                assert_int_equal(r.pixels[23], 0x112233);
                assert_int_equal(r.pixels[24], 0x445566);
                uint64_t generation = r.generation;

                /* The same again changes nothing. */
                buf_clear(&b);
                fake_update(&b, 1);
                fake_rect(&b, 0, 0, 8, 3, 0);
                fake_fill(&b, 24, 0x112233);
                assert_int_equal(play(&r, &b, pieces[i]), 0);
                assert_int_equal(r.generation, generation);

                /* Copies that overlap, down and up; an endless update. */
                buf_clear(&b);
                fake_update(&b, 0xffff);
                fake_rect(&b, 0, 1, 8, 5, 1);
                fake_u16(&b, 0);
                fake_u16(&b, 0);
                fake_rect(&b, 0, 0, 0, 0, -224);
                assert_int_equal(play(&r, &b, pieces[i]), 0);
                assert_true(r.generation > generation);
                assert_int_equal(r.pixels[31], 0x112233);
                assert_int_equal(r.pixels[32], 0x445566);

                /* Another size: nothing is known of it, and what comes next is taken as all of it.
                 */
                buf_clear(&b);
                fake_update(&b, 1);
                fake_rect(&b, 0, 0, 4, 4, -308);
                buf_put(&b, "\1\0\0\0", 4);
                fake_fill(&b, 4, 0);
                assert_int_equal(play(&r, &b, pieces[i]), 0);
                assert_int_equal(r.width, 4);
                assert_false(r.whole);
                buf_clear(&b);
                fake_update(&b, 1);
                fake_rect(&b, 0, 0, 4, 4, 0);
                fake_fill(&b, 16, 7);
                assert_int_equal(play(&r, &b, pieces[i]), 0);
                assert_true(r.whole);
                /* A refusal (status 1) carries a size that does not count. */
                buf_clear(&b);
                fake_update(&b, 1);
                fake_rect(&b, 1, 1, 9, 9, -308);
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
        rfb_init(&r, own);
        fake_greet(&b, 16, 9);
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

static void test_liars(void **state)
{
        static const size_t pieces[] = { 1, 5, 100000 };
        for (int which = 0; which < FAKE_LIES; which++)
                for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
                        struct rfb r;
                        cleanup_buf struct buf b = BUF_INIT;
                        rfb_init(&r, own);
                        fake_lie(&b, which);
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
        rfb_init(&r, own);
        fake_greet(&b, 4000, 4000);
        fake_update(&b, 60000);
        for (int i = 0; i < 40; i++) {
                fake_rect(&b, 0, 0, 4000, 3999, 1);
                fake_u16(&b, 0);
                fake_u16(&b, 1);
        }
        for (int i = 0; i < 10000; i++)
                fake_rect(&b, 0, 0, 0, 0, 0);
        for (int i = 0; i < 40; i++)
                fake_rect(&b, 0, 0, 4000 - (unsigned) i % 2, 4000, -223);
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
