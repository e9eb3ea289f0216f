/* What the egress proxy reads: request heads, bodies, TLS hellos. */
#include "tests/unit/common/unit.h"
#include "workerd/egress/hello.h"
#include "workerd/egress/request.h"

static int parse(const char *text, struct request *ret)
{
        const char *why = NULL;
        int r = request_parse(span_of(text), ret, &why);
        assert_true(r == 0 || !strempty(why));
        return r;
}

static void test_heads(void **state)
{
        struct request r;
        assert_int_equal(parse("CONNECT Example.com:443 HTTP/1.1\r\nHost: other\r\n\r\n", &r), 0);
        assert_true(r.connect);
        assert_string_equal(r.host, "example.com");
        assert_int_equal(r.port, 443);
        assert_int_equal(
                parse("POST http://h.test:8080/a?b HTTP/1.1\r\nContent-Length: 12\r\n\r\n", &r), 0);
        assert_int_equal(r.port, 8080);
        assert_true(span_eq(r.target, "/a?b"));
        assert_int_equal(r.body, BODY_LENGTH);
        assert_int_equal(r.body_bytes, 12);
        static const char *const bad[] = {
                "\r\n",
                "GET / HTTP/1.1\r\nHost: a.b\r\n\r\n",
                "GET https://a.b/ HTTP/1.1\r\n\r\n",
                "GET ftp://a.b/ HTTP/1.1\r\n\r\n",
                "GET http:///x HTTP/1.1\r\n\r\n",
                "GET http://u@a.b/ HTTP/1.1\r\n\r\n",
                "GET http://a.b/#f HTTP/1.1\r\n\r\n",
                "GET http://a.b/ HTTP/2.0\r\n\r\n",
                "GET  http://a.b/ HTTP/1.1\r\n\r\n",
                "GET http://a.b/x y HTTP/1.1\r\n\r\n",
                "G(T http://a.b/ HTTP/1.1\r\n\r\n",
                "CONNECT a.b HTTP/1.1\r\n\r\n",
                "CONNECT http://a.b:443 HTTP/1.1\r\n\r\n",
                "CONNECT a.b:443/x HTTP/1.1\r\n\r\n",
                "CONNECT a.b:443 HTTP/1.1\r\nContent-Length: 3\r\n\r\n",
                "GET http://a.b/ HTTP/1.1\r\nX : y\r\n\r\n",
                "GET http://a.b/ HTTP/1.1\r\n folded\r\n\r\n",
                "GET http://a.b/ HTTP/1.1\r\nA: b\rc\r\n\r\n",
                "GET http://a.b/ HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
                "POST http://a.b/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
                "POST http://a.b/ HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n",
                "POST http://a.b/ HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
                "POST http://a.b/ HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
                "PUT http://a.b HTTP/1.1\r\nTransfer-Encoding:chunked\r\nContent-Length:1\r\n\r\n",
                "POST http://a.b/ HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                "POST http://a.b/ HTTP/1.1\r\nTransfer-Encoding:\tchunked\x0b\r\n\r\n",
                "CONNECT 0x7f000001:443 HTTP/1.1\r\n\r\n",
                "CONNECT a.b:443\r\n\r\n",
        };
        for (size_t i = 0; i < ARRAY_LEN(bad); i++)
                if (parse(bad[i], &r) == 0)
                        fail_msg("taken: %s", bad[i]);
}

static void test_rewriting(void **state)
{
        static const char text[] =
                "GET http://Git.test/r?q HTTP/1.0\r\nHost: evil\r\nAuthorization: mine\r\n"
                "Proxy-Authorization: x\r\nConnection: keep-alive, Foo\r\nFoo: 1\r\n"
                "TE: trailers\r\nAccept: a/b\r\n\r\n";
        const struct request_field added = { "authorization", "Basic c2VjcmV0" };
        cleanup_buf struct buf out = BUF_INIT;
        struct request r;
        assert_int_equal(parse(text, &r), 0);
        assert_int_equal(request_rewrite(span_of(text), &r, &added, &out), 0);
        assert_string_equal(buf_head(&out),
                            "GET /r?q HTTP/1.1\r\nHost: git.test\r\nConnection: close\r\nFoo: 1\r\n"
                            "Accept: a/b\r\nauthorization: Basic c2VjcmV0\r\n\r\n");
        static const char bare[] = "GET http://h.test:8080?q HTTP/1.1\r\n\r\n";
        buf_clear(&out);
        assert_int_equal(parse(bare, &r), 0);
        assert_int_equal(request_rewrite(span_of(bare), &r, NULL, &out), 0);
        assert_string_equal(buf_head(&out),
                            "GET /?q HTTP/1.1\r\nHost: h.test:8080\r\nConnection: close\r\n\r\n");
}

/* Whatever the pieces, the body ends at the same byte; what follows is not its. */
static void test_bodies(void **state)
{
        static const char chunked[] =
                "5;x=y\r\nhello\r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nT: v\r\n\r\n";
        static const char next[] = "GET http://evil/ HTTP/1.1\r\n\r\n";
        struct request r = { .body = BODY_CHUNKED };
        cleanup_free char *all = xasprintf("%s%s", chunked, next);
        for (size_t piece = 1; piece < strlen(all); piece++) {
                struct body b;
                size_t used = 0;
                body_begin(&b, &r);
                while (!b.done) {
                        size_t n = MIN(piece, strlen(all) - used);
                        ssize_t own = body_take(&b, all + used, n);
                        assert_true(own >= 0);
                        used += (size_t) own;
                }
                assert_int_equal(used, strlen(chunked));
        }
        static const char *const bad[] = { "x\r\n",       "\r\n",          "5\nhello",
                                           "5\r\nhelloX", "5\r\nhello\rX", "1000000000000000\r\n",
                                           "-1\r\n",      "5 \r\n" };
        for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
                struct body b;
                body_begin(&b, &r);
                if (body_take(&b, bad[i], strlen(bad[i])) >= 0)
                        fail_msg("taken: %s", bad[i]);
        }
        struct body b;
        r = (struct request){ .body = BODY_LENGTH, .body_bytes = 3 };
        body_begin(&b, &r);
        assert_int_equal(body_take(&b, "abcdef", 6), 3);
        assert_true(b.done);
}

static void put(struct buf *b, unsigned bytes, unsigned v)
{
        for (unsigned i = bytes; i-- > 0;)
                buf_put(b, &(uint8_t){ (uint8_t) (v >> 8 * i) }, 1);
}

/* A hello with one name, in records of at most `record` bytes. */
static void make_hello(struct buf *out, const char *name, size_t record)
{
        cleanup_buf struct buf m = BUF_INIT;
        unsigned len = (unsigned) strlen(name);
        char random[32] = { 7 };
        put(&m, 2, 0x0303);
        buf_put(&m, random, 32);
        put(&m, 1, 0);
        put(&m, 2, 2);
        put(&m, 2, 0x1301);
        put(&m, 2, 0x0100);
        put(&m, 2, 4 + 3 + (len ? len + 9 : 0));
        put(&m, 4, 0x00170003); /* some other extension */
        put(&m, 3, 0);
        if (len) {
                put(&m, 2, 0);
                put(&m, 2, len + 5);
                put(&m, 2, len + 3);
                put(&m, 1, 0);
                put(&m, 2, len);
                buf_put(&m, name, len);
        }
        cleanup_buf struct buf whole = BUF_INIT;
        put(&whole, 4, 0x01000000U | (unsigned) m.len);
        buf_put(&whole, m.data, m.len);
        for (size_t at = 0; at < whole.len; at += record) {
                size_t n = MIN(record, whole.len - at);
                put(out, 3, 0x160301);
                put(out, 2, (unsigned) n);
                buf_put(out, whole.data + at, n);
        }
}

static void test_hellos(void **state)
{
        char name[HOST_TEXT_MAX];
        for (size_t record = 1; record < 90; record += 7) {
                cleanup_buf struct buf hello = BUF_INIT;
                make_hello(&hello, "Git.Example.com", record);
                for (size_t n = 0; n < hello.len; n++)
                        assert_int_equal(hello_name(hello.data, n, name), -EAGAIN);
                assert_int_equal(hello_name(hello.data, hello.len, name), 0);
                assert_string_equal(name, "git.example.com");
        }
        cleanup_buf struct buf none = BUF_INIT;
        make_hello(&none, "", 1000);
        assert_int_equal(hello_name(none.data, none.len, name), -ENOENT);
        static const char *const bad[] = { "GET / HTTP/1.1\r\n\r\n", "SSH-2.0-x", "\x16\x02\x01",
                                           "\x16\x03\x01\x50\x01", "\x15\x03\x01\x01\x02" };
        for (size_t i = 0; i < ARRAY_LEN(bad); i++)
                assert_int_equal(hello_name(bad[i], strlen(bad[i]), name), -EBADMSG);
        cleanup_buf struct buf evil = BUF_INIT;
        make_hello(&evil, "a b", 1000);
        assert_int_equal(hello_name(evil.data, evil.len, name), -EBADMSG);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_heads),
                cmocka_unit_test(test_rewriting),
                cmocka_unit_test(test_bodies),
                cmocka_unit_test(test_hellos),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
