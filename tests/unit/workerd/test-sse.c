/* Server-sent events: every split of a stream gives the same events. */
#include "tests/unit/common/unit.h"

#include "workerd/sse.h"

static int note(void *userdata, const char *event, struct span data)
{
        buf_putf(userdata, "[%s|%.*s]", event, (int) data.len, data.data);
        return 0;
}

static const char lines[] = "\xef\xbb\xbf"
                            ": a comment\n"
                            "event: message_start\n"
                            "data: {\"a\":1}\n"
                            "\n"
                            "event: nothing\n"
                            "\n"
                            "id: 7\n"
                            "retry: 10\n"
                            "unknown: x\n"
                            "data:first\n"
                            "data\n"
                            "data:  two spaces\n"
                            "\n"
                            "event:ping\n"
                            "data: \n"
                            "\n"
                            "data: never ended";
static const char expected[] = "[message_start|{\"a\":1}][|first\n\n two spaces][ping|]";

/* The stream with another line end. */
static void with_ends(struct buf *out, const char *end)
{
        for (const char *c = lines; *c; c++) {
                if (*c == '\n')
                        buf_puts(out, end);
                else
                        buf_put(out, c, 1);
        }
}

static void feed(const struct buf *b, size_t first, size_t step, struct buf *got)
{
        struct sse p;
        size_t at = 0, n = first;

        sse_init(&p, 1000, note, got);
        while (at < b->len) {
                n = MIN(n, b->len - at);
                assert_int_equal(sse_feed(&p, (struct span){ b->data + at, n }), 0);
                at += n;
                n = step;
        }
        sse_done(&p);
}

static void test_all_splits(void **state)
{
        static const char *const ends[] = { "\n", "\r\n", "\r" };

        for (size_t e = 0; e < ARRAY_LEN(ends); e++) {
                cleanup_buf struct buf b = BUF_INIT;

                with_ends(&b, ends[e]);
                for (size_t first = 1; first <= b.len; first++) {
                        cleanup_buf struct buf rest = BUF_INIT, single = BUF_INIT;

                        feed(&b, first, b.len, &rest);
                        feed(&b, first, 1, &single);
                        assert_string_equal(rest.data, expected);
                        assert_string_equal(single.data, expected);
                }
        }
}

static void test_limits(void **state)
{
        cleanup_buf struct buf got = BUF_INIT;
        struct sse p;
        int r = 0;

        sse_init(&p, 100, note, &got);
        for (int i = 0; i < 200 && r == 0; i++)
                r = sse_feed(&p, span_of("x"));
        assert_int_equal(r, -EMSGSIZE);
        sse_done(&p);
        sse_init(&p, 100, note, &got);
        for (int i = 0; i < 30 && (r = sse_feed(&p, span_of("data: 1234567890\n"))) == 0; i++)
                ;
        assert_int_equal(r, -EMSGSIZE);
        sse_done(&p);
        assert_null(got.data);
}

static int refuse(void *userdata, const char *event, struct span data)
{
        ++*(int *) userdata;
        return -EPROTO;
}

static void test_callback_ends_it(void **state)
{
        struct sse p;
        int n = 0;

        sse_init(&p, 100, refuse, &n);
        assert_int_equal(sse_feed(&p, span_of("data: 1\n\ndata: 2\n\n")), -EPROTO);
        assert_int_equal(n, 1);
        sse_done(&p);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_all_splits),
                cmocka_unit_test(test_limits),
                cmocka_unit_test(test_callback_ends_it),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
