/* Request heads: which are taken, which are refused and with what status. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gatewayd/http-head.h"

#define TAKEN 0
#define MORE (-1)

struct head_case {
        const char *name;
        const char *bytes;
        size_t n;
        int want; /* TAKEN, MORE, or a status */
};
#define CASE(name, text, want)                                                                     \
        {                                                                                          \
                name, text, sizeof(text) - 1, want                                                 \
        }
/* A head whose interesting part is one header line, or a few. */
#define WITH(name, lines, want) CASE(name, "POST /x HTTP/1.1\r\nHost: a\r\n" lines "\r\n\r\n", want)
#define LINE(name, line, want) CASE(name, line "\r\nHost: a\r\n\r\n", want)

static const struct head_case cases[] = {
        /* what good clients send */
        CASE("plain", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", TAKEN),
        CASE("one empty line before", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", TAKEN),
        CASE("1.0 without host", "GET / HTTP/1.0\r\n\r\n", TAKEN),
        CASE("absolute form", "GET http://a:80/x?y HTTP/1.1\r\nHost: A:80\r\n\r\n", TAKEN),
        CASE("host with port", "GET / HTTP/1.1\r\nHost: example.org:8765\r\n\r\n", TAKEN),
        CASE("host of v6", "GET / HTTP/1.1\r\nHost: [::1]:8765\r\n\r\n", TAKEN),
        CASE("host of v4", "GET / HTTP/1.1\r\nHost: 127.0.0.1:8765\r\n\r\n", TAKEN),
        WITH("length", "Content-Length: 5", TAKEN),
        WITH("length 0", "Content-Length: 0", TAKEN),
        WITH("length with spaces", "Content-Length: \t 5 \t", TAKEN),
        WITH("chunked", "Transfer-Encoding: chunked", TAKEN),
        WITH("chunked in capitals", "TRANSFER-ENCODING: CHUNKED", TAKEN),
        WITH("continue", "Expect: 100-continue", TAKEN),
        WITH("value of high bytes", "X: \xc3\xa4\xff", TAKEN),
        WITH("empty value", "X:", TAKEN),
        WITH("upgrade to h2c is an ordinary request",
             "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c", TAKEN),
        LINE("query", "GET /a?b=c&d=%20|^`{}[] HTTP/1.1", TAKEN),
        LINE("options", "OPTIONS /x HTTP/1.1", TAKEN),
        /* not complete */
        CASE("nothing", "", MORE),
        CASE("half a method", "GE", MORE),
        CASE("no last line", "GET / HTTP/1.1\r\nHost: a\r\n", MORE),
        CASE("no last LF", "GET / HTTP/1.1\r\nHost: a\r\n\r", MORE),
        CASE("CR at the very start", "\r", MORE),
        /* Host */
        CASE("no host", "GET / HTTP/1.1\r\n\r\n", 400),
        CASE("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        CASE("host with NUL", "GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", 400),
        CASE("host with CR", "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", 400),
        CASE("host with space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        CASE("host with @", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
        CASE("host with /", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        CASE("host list", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
        CASE("empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        CASE("port 0", "GET / HTTP/1.1\r\nHost: a:0\r\n\r\n", 400),
        CASE("port 65536", "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", 400),
        CASE("port of letters", "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 400),
        CASE("open bracket", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400),
        CASE("host of high bytes", "GET / HTTP/1.1\r\nHost: \xc3\xa4\r\n\r\n", 400),
        /* Content-Length */
        WITH("length -1", "Content-Length: -1", 400),
        WITH("length +5", "Content-Length: +5", 400),
        WITH("length 0x5", "Content-Length: 0x5", 400),
        WITH("length 010", "Content-Length: 010", 400),
        WITH("length 5_0", "Content-Length: 5_0", 400),
        WITH("length empty", "Content-Length:", 400),
        WITH("length list", "Content-Length: 5, 5", 400),
        WITH("length 2^63", "Content-Length: 9223372036854775808", 400),
        WITH("length 2^64", "Content-Length: 18446744073709551616", 400),
        WITH("length 2^64+5", "Content-Length: 18446744073709551621", 400),
        WITH("two lengths that differ", "Content-Length: 5\r\nContent-Length: 6", 400),
        WITH("two equal lengths", "Content-Length: 5\r\nContent-Length: 5", 400),
        WITH("length with a point", "Content-Length: 5.0", 400),
        WITH("length with a space inside", "Content-Length: 5 5", 400),
        WITH("length of full-width digits", "Content-Length: \xef\xbc\x95", 400),
        /* Transfer-Encoding */
        WITH("both", "Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
        WITH("both, the other way", "Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
        WITH("xchunked", "Transfer-Encoding: xchunked", 400),
        WITH("chunkedx", "Transfer-Encoding: chunkedx", 400),
        WITH(",chunked", "Transfer-Encoding: ,chunked", 400),
        WITH("chunked,", "Transfer-Encoding: chunked,", 400),
        WITH("gzip, chunked", "Transfer-Encoding: gzip, chunked", 400),
        WITH("identity", "Transfer-Encoding: identity", 400),
        WITH("empty coding", "Transfer-Encoding:", 400),
        WITH("chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
        WITH("chunked in quotes", "Transfer-Encoding: \"chunked\"", 400),
        WITH("chunked;q=1", "Transfer-Encoding: chunked;q=1", 400),
        WITH("0x85 before",
             "Transfer-Encoding: \x85"
             "chunked",
             400),
        WITH("0xa0 before",
             "Transfer-Encoding: \xa0"
             "chunked",
             400),
        WITH("0xff after", "Transfer-Encoding: chunked\xff", 400),
        WITH("vertical tab before",
             "Transfer-Encoding: \x0b"
             "chunked",
             400),
        CASE("chunked in 1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
             400),
        /* header lines */
        WITH("folded", "X: a\r\n b", 400),
        WITH("folded by tab", "X: a\r\n\tb", 400),
        CASE("first header folded", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
        WITH("space before the colon", "X : a", 400),
        WITH("tab before the colon", "X\t: a", 400),
        WITH("empty name", ": a", 400),
        WITH("no colon", "Xa", 400),
        WITH("high byte in a name", "X\xc3\xa4: a", 400),
        WITH("control byte in a name", "X\x01: a", 400),
        WITH("NUL in a name", "X\0Y: a", 400),
        WITH("NUL in a value", "X: a\0b", 400),
        WITH("control byte in a value", "X: a\x01", 400),
        WITH("DEL in a value", "X: a\x7f", 400),
        WITH("parenthesis in a name", "X(Y): a", 400),
        WITH("another expectation", "Expect: 200-ok", 417),
        /* line ends */
        CASE("bare LF after the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
        CASE("bare LF after a header", "GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
        CASE("bare LF at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
        CASE("CR CR LF", "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", 400),
        CASE("bare CR in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
        CASE("LF first", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        CASE("two empty lines before", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        /* request line */
        LINE("0.9", "GET /", 400),
        LINE("9.9", "GET / HTTP/9.9", 400),
        LINE("1.32", "GET / HTTP/1.32", 400),
        LINE("1.2", "GET / HTTP/1.2", 400),
        LINE("2.0", "GET / HTTP/2.0", 400),
        LINE("1.1 in lower case", "GET / http/1.1", 400),
        LINE("version with space", "GET / HTTP/1.1 ", 400),
        LINE("version without digits", "GET / HTTP/.", 400),
        LINE("two spaces", "GET  / HTTP/1.1", 400),
        LINE("tab", "GET\t/\tHTTP/1.1", 400),
        LINE("space in the target", "GET /a b HTTP/1.1", 400),
        LINE("space first", " GET / HTTP/1.1", 400),
        LINE("lower-case method", "get / HTTP/1.1", 400),
        LINE("unknown method", "BREW / HTTP/1.1", 405),
        LINE("trace", "TRACE / HTTP/1.1", 405),
        LINE("connect", "CONNECT a:443 HTTP/1.1", 405),
        LINE("endless method", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1", 400),
        LINE("star", "OPTIONS * HTTP/1.1", 400),
        LINE("authority form", "GET a:80 HTTP/1.1", 400),
        LINE("absolute form of another scheme", "GET ftp://a/ HTTP/1.1", 400),
        LINE("absolute form of another host", "GET http://b/ HTTP/1.1", 400),
        LINE("absolute form with user", "GET http://u@a/ HTTP/1.1", 400),
        LINE("absolute form without path", "GET http://a HTTP/1.1", 400),
        LINE("relative", "GET x HTTP/1.1", 400),
        LINE("fragment", "GET /#x HTTP/1.1", 400),
        LINE("high byte in the target", "GET /\xc3\xa4 HTTP/1.1", 400),
        LINE("NUL in the target", "GET /\0 HTTP/1.1", 400),
        LINE("back slash", "GET /\\x HTTP/1.1", 400),
        /* other protocols */
        CASE("h2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        CASE("TLS hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        CASE("ssh", "SSH-2.0-OpenSSH_9.2\r\n", 400),
        CASE("proxy protocol", "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n", 400),
        CASE("JSON", "{\"a\":1}", 400),
};

static void check(const char *name, const char *bytes, size_t n, int want)
{
        struct http_head h;
        struct http_refusal why = { 0 };
        char *copy = xmalloc(n ? n : 1);

        memcpy(copy, bytes, n);
        ssize_t r = http_head_parse(copy, n, &h, &why);
        int got = r > 0 ? TAKEN : r == -EAGAIN ? MORE : why.status;
        if (got != want || (r > 0 && (size_t) r != n))
                fail_msg("%s: %d (%s), not %d", name, got, why.message ? why.message : "", want);
        if (r == -EBADMSG) {
                assert_non_null(why.code);
                assert_true(strlen(why.message) > 10);
        }
        free(copy);
}

static void test_table(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(cases); i++)
                check(cases[i].name, cases[i].bytes, cases[i].n, cases[i].want);
        assert_true(ARRAY_LEN(cases) >= 80);
}

/* Whatever comes piece by piece is never judged otherwise than at once. */
static void test_prefixes(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(cases); i++)
                for (size_t n = 0; n < cases[i].n; n++) {
                        struct http_head h;
                        struct http_refusal why;
                        ssize_t r = http_head_parse(cases[i].bytes, n, &h, &why);
                        if (cases[i].want == TAKEN || cases[i].want == MORE)
                                assert_int_equal(r, -EAGAIN);
                        else
                                assert_true(r == -EAGAIN || r == -EBADMSG);
                }
}

static void test_limits(void **state)
{
        char *big = xmalloc(80000);
        struct http_head h;
        struct http_refusal why;
        size_t n;

        n = (size_t) sprintf(big, "GET /%0*d HTTP/1.1\r\nHost: a\r\n\r\n",
                             (int) HTTP_TARGET_MAX - 1, 0);
        assert_int_equal(http_head_parse(big, n, &h, &why), (ssize_t) n);
        n = (size_t) sprintf(big, "GET /%0*d HTTP/1.1\r\nHost: a\r\n\r\n", (int) HTTP_TARGET_MAX,
                             0);
        check("long target", big, n, 414);
        check("long target without end", big, 8500, 414);
        n = (size_t) sprintf(big, "GET / HTTP/1.1\r\nHost: a\r\nX: %065536d\r\n\r\n", 0);
        check("64 KiB header", big, n, 431);
        check("64 KiB header, begun", big, HTTP_HEAD_MAX, 431);
        check("64 KiB header, just begun", big, HTTP_HEAD_MAX - 1, MORE);
        n = (size_t) sprintf(big, "GET / HTTP/1.1\r\nHost: a\r\n");
        for (int i = 0; i < 99; i++)
                n += (size_t) sprintf(big + n, "X%d: y\r\n", i);
        memcpy(big + n, "\r\n", 3);
        check("100 headers", big, n + 2, TAKEN);
        for (int i = 0; i < 901; i++)
                n += (size_t) sprintf(big + n, "X%d: y\r\n", i);
        memcpy(big + n, "\r\n", 3);
        check("1000 headers", big, n + 2, 431);
        free(big);
}

static void test_fields(void **state)
{
        static const char text[] =
                "POST /a/b?c=d HTTP/1.1\r\nHost: h:1\r\nConnection: Upgrade , close\r\n"
                "Upgrade: websocket\r\nContent-Length: 12\r\nX-A:  v w \t\r\nrest";
        static const char head[] =
                "POST /a/b?c=d HTTP/1.1\r\nHost: h:1\r\nConnection: Upgrade , close\r\n"
                "Upgrade: websocket\r\nContent-Length: 12\r\nX-A:  v w \t\r\n\r\nrest";
        struct http_head h;
        struct http_refusal why;

        assert_int_equal(http_head_parse(text, sizeof(text) - 1, &h, &why), -EAGAIN);
        assert_int_equal(http_head_parse(head, sizeof(head) - 1, &h, &why), sizeof(head) - 5);
        assert_int_equal(h.method, HTTP_POST);
        assert_true(span_eq(h.path, "/a/b") && span_eq(h.query, "c=d") && span_eq(h.host, "h:1"));
        assert_true(!h.keep_alive && h.upgrade && h.has_length && !h.chunked && !h.expect_continue);
        assert_int_equal(h.length, 12);
        assert_true(span_eq(http_head_find(&h, "x-a")->value, "v w"));
        assert_null(http_head_find(&h, "x-b"));
        assert_true(http_head_has_token(&h, "connection", "close"));
        assert_false(http_head_has_token(&h, "connection", "clos"));
        assert_int_equal(
                http_head_parse("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 42, &h, &why),
                42);
        assert_true(h.keep_alive && !h.host.data && !h.query.data);
}

static void test_paths(void **state)
{
        static const struct {
                const char *in, *out; /* NULL = refused */
        } paths[] = {
                { "/", "/" },
                { "/a/b", "/a/b" },
                { "/a/", "/a/" },
                { "/a%20b", "/a b" },
                { "/%C3%A4", "/\xc3\xa4" },
                { "/a%252e%252e", "/a%2e%2e" }, /* decoded once: an odd name, not a parent */
                { "/...", "/..." },
                { "/.a", "/.a" },
                { "/a+b", "/a+b" },
                { "", NULL },
                { "a", NULL },
                { "//", NULL },
                { "/a//b", NULL },
                { "/.", NULL },
                { "/..", NULL },
                { "/a/../b", NULL },
                { "/a/./b", NULL },
                { "/a/..", NULL },
                { "/%2e%2e/x", NULL },
                { "/%2E./x", NULL },
                { "/a%2fb", NULL },
                { "/a%2Fb", NULL },
                { "/a%5cb", NULL },
                { "/a%00b", NULL },
                { "/a%0ab", NULL },
                { "/a%7f", NULL },
                { "/a%", NULL },
                { "/a%2", NULL },
                { "/a%zz", NULL },
                { "/%c0%ae%c0%ae/", NULL },
                { "/%ff", NULL },
                { "/%ed%a0%80", NULL },
                { "/%f4%90%80%80", NULL },
        };

        for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
                char out[64];
                int r = http_path_decode(span_of(paths[i].in), out);
                if ((r == 0) != (paths[i].out != NULL) || (r == 0 && !streq(out, paths[i].out)))
                        fail_msg("%s: %d", paths[i].in, r);
        }
}

static void test_queries(void **state)
{
        char out[64];

        assert_int_equal(http_query_decode(span_of("a+b%20c%2B%2f"), out), 0);
        assert_string_equal(out, "a b c+/");
        assert_int_equal(http_query_decode(span_of(""), out), 0);
        assert_string_equal(out, "");
        assert_int_equal(http_query_decode(span_of("%00"), out), -EINVAL);
        assert_int_equal(http_query_decode(span_of("%e4"), out), -EINVAL);
        assert_int_equal(http_query_decode(span_of("%"), out), -EINVAL);
        assert_int_equal(http_query_decode(span_of("%4"), out), -EINVAL);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_table),  cmocka_unit_test(test_prefixes),
                cmocka_unit_test(test_limits), cmocka_unit_test(test_fields),
                cmocka_unit_test(test_paths),  cmocka_unit_test(test_queries),
        };

        return cmocka_run_group_tests_name("http-head", tests, NULL, NULL);
}
