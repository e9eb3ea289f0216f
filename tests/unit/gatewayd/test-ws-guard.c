/* Frames of WebSocket clients: what passes the guard unchanged, what it refuses and with which
 * close code. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "gatewayd/ws-guard.h"

#define M "\0\0\0\0" /* a mask that changes nothing */
#define CASE(name, in, code)                                                                       \
        {                                                                                          \
                name, in, sizeof(in) - 1, code                                                     \
        }
static const struct {
        const char *name, *in;
        size_t n;
        int code; /* 0 = passes */
} cases[] = {
        CASE("text", "\x81\x85" M "hello", 0),
        CASE("text, really masked", "\x81\x82\x01\x02\x03\x04\x69\x6b", 0),
        CASE("empty text", "\x81\x80" M, 0),
        CASE("binary", "\x82\x81" M "x", 0),
        CASE("length of 16 bits", "\x82\xfe\x00\x7e" M, 0),
        CASE("fragments",
             "\x01\x81" M "a"
             "\x00\x81" M "b"
             "\x80\x81" M "c",
             0),
        CASE("ping between fragments",
             "\x01\x81" M "a"
             "\x89\x80" M "\x80\x81" M "c",
             0),
        CASE("ping", "\x89\x82" M "hi", 0),
        CASE("pong", "\x8a\x80" M, 0),
        CASE("close", "\x88\x80" M, 0),
        CASE("close 1000", "\x88\x82" M "\x03\xe8", 0),
        CASE("close 1001 with reason",
             "\x88\x85" M "\x03\xe9"
             "bye",
             0),
        CASE("close 3000", "\x88\x82" M "\x0b\xb8", 0),
        CASE("close 4999", "\x88\x82" M "\x13\x87", 0),
        CASE("close 1007", "\x88\x82" M "\x03\xef", 0),
        CASE("after close", "\x88\x80" M "\xff\xff\xff", 0),
        CASE("not masked", "\x81\x05hello", 1002),
        CASE("ping not masked", "\x89\x00", 1002),
        CASE("RSV1", "\xc1\x80" M, 1002),
        CASE("RSV2", "\xa1\x80" M, 1002),
        CASE("RSV3", "\x91\x80" M, 1002),
        CASE("RSV on a control frame", "\xc9\x80" M, 1002),
        CASE("opcode 3", "\x83\x80" M, 1002),
        CASE("opcode 4", "\x84\x80" M, 1002),
        CASE("opcode 5", "\x85\x80" M, 1002),
        CASE("opcode 6", "\x86\x80" M, 1002),
        CASE("opcode 7", "\x87\x80" M, 1002),
        CASE("opcode 11", "\x8b\x80" M, 1002),
        CASE("opcode 12", "\x8c\x80" M, 1002),
        CASE("opcode 15", "\x8f\x80" M, 1002),
        CASE("ping of 126", "\x89\xfe\x00\x7e" M, 1002),
        CASE("close of 126", "\x88\xfe\x00\x7e" M, 1002),
        CASE("fragmented ping", "\x09\x80" M, 1002),
        CASE("fragmented close", "\x08\x80" M, 1002),
        CASE("continuation first", "\x80\x80" M, 1002),
        CASE("continuation after the end", "\x81\x80" M "\x80\x80" M, 1002),
        CASE("text within fragments",
             "\x01\x81" M "a"
             "\x81\x81" M "b",
             1002),
        CASE("binary within fragments",
             "\x01\x81" M "a"
             "\x02\x81" M "b",
             1002),
        CASE("125 in 16 bits", "\x81\xfe\x00\x7d" M, 1002),
        CASE("0 in 16 bits", "\x81\xfe\x00\x00" M, 1002),
        CASE("65535 in 64 bits", "\x81\xff\x00\x00\x00\x00\x00\x00\xff\xff" M, 1002),
        CASE("5 in 64 bits", "\x81\xff\x00\x00\x00\x00\x00\x00\x00\x05" M, 1002),
        CASE("top bit", "\x81\xff\x80\x00\x00\x00\x00\x00\x00\x00" M, 1002),
        CASE("2^62", "\x81\xff\x40\x00\x00\x00\x00\x00\x00\x00" M, 1009),
        CASE("one too many", "\x82\xff\x00\x00\x00\x00\x00\x01\x00\x01" M, 1009),
        CASE("close of one byte", "\x88\x81" M "\x03", 1002),
        CASE("close 0", "\x88\x82" M "\x00\x00", 1002),
        CASE("close 999", "\x88\x82" M "\x03\xe7", 1002),
        CASE("close 1004", "\x88\x82" M "\x03\xec", 1002),
        CASE("close 1005", "\x88\x82" M "\x03\xed", 1002),
        CASE("close 1006", "\x88\x82" M "\x03\xee", 1002),
        CASE("close 1015", "\x88\x82" M "\x03\xf7", 1002),
        CASE("close 1016", "\x88\x82" M "\x03\xf8", 1002),
        CASE("close 2999", "\x88\x82" M "\x0b\xb7", 1002),
        CASE("close 5000", "\x88\x82" M "\x13\x88", 1002),
        CASE("close 65535", "\x88\x82" M "\xff\xff", 1002),
        CASE("close reason not UTF-8", "\x88\x84" M "\x03\xe8\xc3\x28", 1007),
        CASE("close reason cut within a character", "\x88\x83" M "\x03\xe8\xc3", 1007),
};

/* Returns the close code or 0; what passed is appended to out. */
static int run(struct ws_guard *g, const char *in, size_t n, size_t piece, struct buf *out)
{
        for (size_t at = 0; at < n;) {
                size_t end = MIN(at + piece, n);
                while (at < end) {
                        struct ws_piece p;
                        struct ws_problem why;
                        size_t used = 0;
                        int r = ws_guard_feed(g, in + at, end - at, &used, &p, &why);
                        if (r < 0) {
                                assert_non_null(why.reason);
                                return why.code;
                        }
                        assert_true(used > 0 && used <= end - at);
                        if (p.head.len)
                                buf_put(out, p.head.data, p.head.len);
                        if (p.payload.len)
                                buf_put(out, p.payload.data, p.payload.len);
                        at += used;
                }
        }
        return 0;
}

static void test_table(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(cases); i++)
                for (size_t piece = 1; piece <= cases[i].n; piece++) {
                        cleanup_buf struct buf out = BUF_INIT;
                        struct ws_guard g;
                        ws_guard_init(&g, 65536);
                        int code = run(&g, cases[i].in, cases[i].n, piece, &out);
                        if (code != cases[i].code)
                                fail_msg("%s in pieces of %zu: %d, not %d", cases[i].name, piece,
                                         code, cases[i].code);
                        if (code == 0 && !g.closed)
                                assert_memory_equal(out.data, cases[i].in, out.len);
                }
        assert_true(ARRAY_LEN(cases) >= 51);
}

static void test_message_sum(void **state)
{
        cleanup_buf struct buf out = BUF_INIT;
        struct ws_guard g;

        ws_guard_init(&g, 4);
        assert_int_equal(run(&g, "\x01\x82" M "ab", 8, 100, &out), 0);
        assert_int_equal(run(&g, "\x00\x82" M "cd", 8, 100, &out), 0);
        assert_int_equal(run(&g, "\x80\x81" M "e", 7, 100, &out), 1009);
        ws_guard_init(&g, 4); /* messages do not add up, fragments do */
        for (int i = 0; i < 10; i++)
                assert_int_equal(run(&g, "\x81\x84" M "abcd", 10, 100, &out), 0);
}

static void test_endless_fragments(void **state)
{
        cleanup_buf struct buf out = BUF_INIT;
        struct ws_guard g;
        int code = 0, n = 0;

        ws_guard_init(&g, 65536);
        assert_int_equal(run(&g, "\x01\x80" M, 6, 100, &out), 0);
        while (code == 0 && n++ < 1000000)
                code = run(&g, "\x00\x80" M, 6, 100, &out);
        assert_int_equal(code, 1008);
        assert_int_equal(n, WS_FRAGMENTS_MAX);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_table),
                cmocka_unit_test(test_message_sum),
                cmocka_unit_test(test_endless_fragments),
        };

        return cmocka_run_group_tests_name("ws-guard", tests, NULL, NULL);
}
