/* Chunked bodies: which decode to what, which are refused, at every way of cutting them up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "gatewayd/http-body.h"

enum { WHOLE = 1, MORE = 0, BROKEN = -EBADMSG };

#define CASE(in, want, out)                                                                        \
        {                                                                                          \
                in, sizeof(in) - 1, want, out                                                      \
        }
static const struct {
        const char *in;
        size_t n;
        int want;
        const char *out; /* of WHOLE and MORE */
} cases[] = {
        CASE("0\r\n\r\n", WHOLE, ""),
        CASE("5\r\nhello\r\n0\r\n\r\n", WHOLE, "hello"),
        CASE("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", WHOLE, "hello world"),
        CASE("a\r\n0123456789\r\n0\r\n\r\n", WHOLE, "0123456789"),
        CASE("A\r\n0123456789\r\n0\r\n\r\n", WHOLE, "0123456789"),
        CASE("00005\r\nhello\r\n000\r\n\r\n", WHOLE, "hello"),
        CASE("5;a=b\r\nhello\r\n0;c\r\n\r\n", WHOLE, "hello"),
        CASE("5;a=\"b c\"\r\nhello\r\n0\r\n\r\n", WHOLE, "hello"),
        CASE("5\r\nhello\r\n0\r\nX: y\r\nZ:\r\n\r\n", WHOLE, "hello"),
        CASE("2\r\n\r\n\r\n0\r\n\r\n", WHOLE, "\r\n"),
        CASE("5\r\nhel", MORE, "hel"),
        CASE("5\r\nhello\r\n0\r\n", MORE, "hello"),
        CASE("", MORE, ""),
        CASE("0\r\n\r", MORE, ""),
        CASE("0x5\r\nhello\r\n0\r\n\r\n", BROKEN, NULL),
        CASE("+5\r\nhello\r\n0\r\n\r\n", BROKEN, NULL),
        CASE("-5\r\nhello\r\n0\r\n\r\n", BROKEN, NULL),
        CASE("\r\nhello\r\n0\r\n\r\n", BROKEN, NULL),
        CASE(" 5\r\nhello\r\n0\r\n\r\n", BROKEN, NULL),
        CASE("5 \r\nhello\r\n0\r\n\r\n", BROKEN, NULL),
        CASE("5 ;a\r\nhello\r\n0\r\n\r\n", BROKEN, NULL),
        CASE(";a\r\nhello\r\n0\r\n\r\n", BROKEN, NULL),
        CASE("g\r\n", BROKEN, NULL),
        CASE("5_0\r\n", BROKEN, NULL),
        CASE("00000000000000005\r\nhello\r\n0\r\n\r\n", BROKEN, NULL),
        CASE("ffffffffffffffff\r\nx", BROKEN, NULL),
        CASE("10000000000000005\r\nx", BROKEN, NULL),
        CASE("5\nhello\r\n0\r\n\r\n", BROKEN, NULL),
        CASE("5\rhello\r\n0\r\n\r\n", BROKEN, NULL),
        CASE("5\r\nhello\n0\r\n\r\n", BROKEN, NULL),
        CASE("5\r\nhello\r0\r\n\r\n", BROKEN, NULL),
        CASE("5\r\nhello0\r\n\r\n", BROKEN, NULL),
        CASE("5\r\nhelloo\r\n0\r\n\r\n", BROKEN, NULL),
        CASE("5\r\nhello\r\n0\n\r\n", BROKEN, NULL),
        CASE("5\r\nhello\r\n0\r\n\n", BROKEN, NULL),
        CASE("5;a\nb\r\nhello\r\n0\r\n\r\n", BROKEN, NULL),
        CASE("5;\0\r\nhello\r\n0\r\n\r\n", BROKEN, NULL),
        CASE("5\0\r\nhello\r\n0\r\n\r\n", BROKEN, NULL),
        CASE("0\r\n X: y\r\n\r\n", BROKEN, NULL),
        CASE("0\r\nX y\r\n\r\n", BROKEN, NULL),
        CASE("0\r\n: y\r\n\r\n", BROKEN, NULL),
        CASE("0\r\nX : y\r\n\r\n", BROKEN, NULL),
        CASE("0\r\nX: y\n\r\n", BROKEN, NULL),
        CASE("0\r\nX: \x01\r\n\r\n", BROKEN, NULL),
};

/* Feeds in pieces of `piece` bytes; returns the verdict, the data and how much was used. */
static int decode(const char *in, size_t n, size_t piece, struct buf *out, size_t *ret_used)
{
        struct http_chunked c;
        size_t at = 0;
        int r = 0;

        http_chunked_init(&c);
        while (at < n && r == 0) {
                size_t end = MIN(at + piece, n);
                while (at < end && r == 0) {
                        size_t used = 0;
                        struct span data;
                        const char *why = NULL;
                        r = http_chunked_feed(&c, in + at, end - at, &used, &data, &why);
                        if (r < 0)
                                assert_non_null(why);
                        assert_true(used > 0 && used <= end - at);
                        if (data.len > 0)
                                buf_put(out, data.data, data.len);
                        at += used;
                }
        }
        *ret_used = at;
        return r;
}

static void test_table(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(cases); i++)
                for (size_t piece = 1; piece <= cases[i].n + 1; piece++) {
                        cleanup_buf struct buf out = BUF_INIT;
                        size_t used;
                        int r = decode(cases[i].in, cases[i].n, piece, &out, &used);
                        if (r != cases[i].want)
                                fail_msg("%s in pieces of %zu: %d", cases[i].in, piece, r);
                        if (!cases[i].out)
                                continue;
                        assert_int_equal(used, cases[i].n);
                        assert_int_equal(out.len, strlen(cases[i].out));
                        assert_memory_equal(out.len ? out.data : "", cases[i].out, out.len);
                }
}

static void test_next_request_is_left(void **state)
{
        cleanup_buf struct buf out = BUF_INIT;
        size_t used;

        assert_int_equal(decode("1\r\na\r\n0\r\n\r\nGET /", 16, 100, &out, &used), WHOLE);
        assert_int_equal(used, 11);
}

static void test_limits(void **state)
{
        char text[6000];
        cleanup_buf struct buf out = BUF_INIT;
        size_t used;

        int n = snprintf(text, sizeof(text), "5;%0*d\r\nhello\r\n0\r\n\r\n",
                         (int) HTTP_CHUNK_LINE_MAX, 0);
        assert_int_equal(decode(text, (size_t) n, 100, &out, &used), BROKEN);
        n = snprintf(text, sizeof(text), "0\r\nX: %0*d\r\n\r\n", (int) HTTP_TRAILER_MAX, 0);
        assert_int_equal(decode(text, (size_t) n, 100, &out, &used), BROKEN);
        buf_clear(&out);
        n = snprintf(text, sizeof(text), "5;%0*d\r\nhello\r\n0\r\n\r\n",
                     (int) HTTP_CHUNK_LINE_MAX - 10, 0);
        assert_int_equal(decode(text, (size_t) n, 100, &out, &used), WHOLE);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_table),
                cmocka_unit_test(test_next_request_is_left),
                cmocka_unit_test(test_limits),
        };

        return cmocka_run_group_tests_name("http-body", tests, NULL, NULL);
}
