/* The multipart parser: bodies and what comes out of them, cut at every place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "gatewayd/multipart.h"

#define B "--XX\r\n"
#define END "\r\n--XX--\r\n"
#define DISPOSITION "Content-Disposition: form-data; "

/* Parts as one line of text each: name|filename|type|data; - for what was not given. */
struct record {
        struct buf text;
        size_t parts;
        size_t refuse_at; /* the part whose on_part refuses; 0 = none */
        int refuse_with;
        bool open;
};

static const char *recorded(const struct record *r)
{
        return r->text.len ? r->text.data : "";
}

static int on_part(void *userdata, const struct multipart_part *part)
{
        struct record *r = userdata;
        assert_false(r->open);
        if (++r->parts == r->refuse_at)
                return r->refuse_with;
        r->open = true;
        buf_putf(&r->text, "%s|%s|%s|", part->name, part->filename ? part->filename : "-",
                 part->content_type ? part->content_type : "-");
        return 0;
}

static int on_data(void *userdata, struct span data)
{
        struct record *r = userdata;
        assert_true(r->open);
        assert_true(data.len > 0);
        buf_put(&r->text, data.data, data.len);
        return 0;
}

static int on_part_end(void *userdata)
{
        struct record *r = userdata;
        assert_true(r->open);
        r->open = false;
        buf_puts(&r->text, "\n");
        return 0;
}

static struct multipart *parser(struct record *r, const char *boundary, size_t parts_max)
{
        *r = (struct record){ 0 };
        return multipart_new(&(struct multipart_config){
                .boundary = boundary,
                .parts_max = parts_max,
                .on_part = on_part,
                .on_data = on_data,
                .on_part_end = on_part_end,
                .userdata = r,
        });
}

/* Feeds a copy of just the piece, so that reading outside it is seen by ASan. */
static int feed(struct multipart *m, const char *data, size_t n)
{
        cleanup_free char *copy = xmalloc(n ? n : 1);
        memcpy(copy, data, n);
        return multipart_feed(m, (struct span){ copy, n });
}

static int run(struct multipart *m, const char *body, size_t n, size_t first, size_t second)
{
        int r = feed(m, body, first);
        if (r == 0)
                r = feed(m, body + first, second - first);
        if (r == 0)
                r = feed(m, body + second, n - second);
        return r == 0 ? multipart_finish(m) : r;
}

static void check(const char *body, size_t n, size_t first, size_t second, int want,
                  const char *parts)
{
        struct record r;
        cleanup_multipart struct multipart *m = parser(&r, "XX", 8);
        int got = run(m, body, n, first, second);
        if (got != want)
                fail_msg("%d in place of %d (%s), cut at %zu and %zu:\n%s", got, want,
                         multipart_problem(m), first, second, body);
        if (want == 0) {
                assert_string_equal(recorded(&r), parts);
                assert_string_equal(multipart_problem(m), "");
        } else {
                assert_string_not_equal(multipart_problem(m), "");
                /* A failed parser stays failed. */
                assert_int_equal(feed(m, body, MIN(n, (size_t) 1)), want);
                assert_int_equal(multipart_finish(m), want);
        }
        buf_done(&r.text);
}

static void check_everywhere(const char *body, size_t n, int want, const char *parts)
{
        for (size_t first = 0; first <= n; first++) {
                check(body, n, first, n, want, parts);
                check(body, n, first, first < n ? first + 1 : n, want, parts);
        }
        struct record r;
        cleanup_multipart struct multipart *m = parser(&r, "XX", 8);
        int got = 0;
        for (size_t i = 0; i < n && got == 0; i++)
                got = feed(m, body + i, 1);
        if (got == 0)
                got = multipart_finish(m);
        assert_int_equal(got, want);
        if (want == 0)
                assert_string_equal(recorded(&r), parts);
        buf_done(&r.text);
}

static const struct {
        const char *body, *parts;
} good[] = {
        { B DISPOSITION "name=\"a\"\r\n\r\nhello" END, "a|-|-|hello\n" },
        { B DISPOSITION "name=\"a\"\r\n\r\nhello\r\n--XX--", "a|-|-|hello\n" },
        { B DISPOSITION "name=\"a\"\r\n\r\n" END, "a|-|-|\n" },
        { B DISPOSITION "name=a\r\n\r\nx\r\n" B DISPOSITION "name=b\r\n\r\ny" END,
          "a|-|-|x\nb|-|-|y\n" },
        { B DISPOSITION
          "name=\"file\"; filename=\"r.csv\"\r\nContent-Type: text/csv\r\n\r\na,b\r\n1,2\r\n" END,
          "file|r.csv|text/csv|a,b\r\n1,2\r\n\n" },
        { B "content-type:text/"
            "plain\r\ncontent-disposition:form-data;name=\"a\";filename=\"\"\r\n\r\n" END,
          "a||text/plain|\n" },
        /* Nearly a delimiter, in all ways. */
        { B DISPOSITION "name=a\r\n\r\n\r\n--X\r\n-\r\r\n--\r\r\n\r\n--Xx--XX \r\n --XX" END,
          "a|-|-|\r\n--X\r\n-\r\r\n--\r\r\n\r\n--Xx--XX \r\n --XX\n" },
        { B DISPOSITION "name=a\r\n\r\n--XX\r\n--X" END,
          "a|-|-|--XX\r\n--X\n" }, /* a delimiter without its CRLF is data */
        { B DISPOSITION "name=a\r\n\r\n\r\r\r\n" END, "a|-|-|\r\r\r\n\n" },
        /* Names as browsers, curl and Python write them. */
        { B DISPOSITION "name=\"a%22b\"; filename=\"say %22hi%22 \\ there.txt\"\r\n\r\n" END,
          "a\"b|say \"hi\" \\ there.txt|-|\n" },
        { B DISPOSITION "name=\"a\\\"b\"; filename=\"c\\\\d\"\r\n\r\n" END, "a\"b|c\\d|-|\n" },
        { B DISPOSITION "name=\"f\"; filename=\"\303\274ber.txt\"\r\n\r\n" END,
          "f|\303\274ber.txt|-|\n" },
        { B DISPOSITION "name=f; filename*=UTF-8''%C3%BCber%20uns.txt\r\n\r\n" END,
          "f|\303\274ber uns.txt|-|\n" },
        { B DISPOSITION "name=f; filename=x; filename*=utf-8'de'y\r\n\r\n" END, "f|y|-|\n" },
        { B DISPOSITION "name=f; filename*=utf-8''y; filename=\"x\"\r\n\r\n" END, "f|y|-|\n" },
        { B DISPOSITION "name=f; filename=\"a;b=\\\"c\"; other=1\r\n\r\n" END, "f|a;b=\"c|-|\n" },
        { B DISPOSITION "name=a\r\nContent-Transfer-Encoding: BINARY\r\nX-Extra: 1\r\n\r\nz" END,
          "a|-|-|z\n" },
        { "--XX--\r\n", "" }, /* what browsers send for a form without fields */
        { "--XX--", "" },
};

static void test_good_bodies(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(good); i++)
                check_everywhere(good[i].body, strlen(good[i].body), 0, good[i].parts);
}

static const struct {
        const char *body;
        int want;
} bad[] = {
        { "", -EBADMSG },
        { "\r\n", -EBADMSG },
        { "hello", -EBADMSG },
        { "\r\n" B DISPOSITION "name=a\r\n\r\n" END, -EBADMSG },    /* preamble */
        { "--YY\r\n" DISPOSITION "name=a\r\n\r\n" END, -EBADMSG },  /* another boundary */
        { "--XX \r\n" DISPOSITION "name=a\r\n\r\n" END, -EBADMSG }, /* padding */
        { "--XX\n" DISPOSITION "name=a\n\n\n--XX--\n", -EBADMSG },  /* bare LF */
        { "--XXY\r\n", -EBADMSG },
        { "--XX-\r\n", -EBADMSG },
        { "--XX", -EBADMSG },
        { B, -EBADMSG },
        { B "\r\n" END, -EBADMSG }, /* no head */
        { B DISPOSITION "name=a\r\n", -EBADMSG },
        { B DISPOSITION "name=a\r\n\r\n", -EBADMSG },
        { B DISPOSITION "name=a\r\n\r\nhello", -EBADMSG },
        { B DISPOSITION "name=a\r\n\r\nhello\r\n--XX", -EBADMSG },
        { B DISPOSITION "name=a\r\n\r\nhello\r\n--XX\r\n", -EBADMSG },
        { B DISPOSITION "name=a\r\n\r\nhello\r\n--XX-", -EBADMSG },
        { B DISPOSITION "name=a\r\n\r\nhello\r\n--XX--\r", -EBADMSG },
        { B DISPOSITION "name=a\r\n\r\nhello" END "epilogue", -EBADMSG },
        { B DISPOSITION "name=a\r\n\r\nhello" END "\r\n", -EBADMSG },
        { B DISPOSITION "name=a\r\n\r\nx\r\n--XXY\r\n", -EBADMSG }, /* the boundary and more */
        { B DISPOSITION "name=a\n\r\nhello" END, -EBADMSG },
        { B DISPOSITION "name=a\rX: y\r\n\r\nhello" END, -EBADMSG },
        { B DISPOSITION "name=a\r\n folded\r\n\r\nhello" END, -EBADMSG },
        { B "Content-Disposition : form-data; name=a\r\n\r\n" END, -EBADMSG },
        { B "Content-Disposition\r\n\r\n" END, -EBADMSG },
        { B ": x\r\n\r\n" END, -EBADMSG },
        { B "Content-Type: text/plain\r\n\r\n" END, -EBADMSG }, /* no disposition */
        { B "Content-Disposition: attachment; name=a\r\n\r\n" END, -EBADMSG },
        { B "Content-Disposition: form-data\r\n\r\n" END, -EBADMSG }, /* no name */
        { B "Content-Disposition: form-datax; name=a\r\n\r\n" END, -EBADMSG },
        { B DISPOSITION "name=\"\"\r\n\r\n" END, -EBADMSG },
        { B DISPOSITION "name=\"a\r\n\r\n" END, -EBADMSG },
        { B DISPOSITION "name=a b\r\n\r\n" END, -EBADMSG },
        { B DISPOSITION "name=a;\r\n\r\n" END, -EBADMSG },
        { B DISPOSITION "name\r\n\r\n" END, -EBADMSG },
        { B DISPOSITION "name=a; name=b\r\n\r\n" END, -EBADMSG },
        { B DISPOSITION "name=a; filename=x; filename=y\r\n\r\n" END, -EBADMSG },
        { B DISPOSITION "name=a\r\n" DISPOSITION "name=b\r\n\r\n" END, -EBADMSG },
        { B DISPOSITION "name=a; filename*=iso-8859-1''x\r\n\r\n" END, -EBADMSG },
        { B DISPOSITION "name=a; filename*=utf-8''%\r\n\r\n" END, -EBADMSG },
        { B DISPOSITION "name=a; filename*=utf-8''%4\r\n\r\n" END, -EBADMSG },
        { B DISPOSITION "name=a; filename*=utf-8''%00\r\n\r\n" END, -EBADMSG },
        { B DISPOSITION "name=a; filename*=utf-8''%ff\r\n\r\n" END, -EBADMSG },
        { B DISPOSITION "name=a; filename*=utf-8''x%0ay\r\n\r\n" END, -EBADMSG },
        { B DISPOSITION "name=a; filename*=x\r\n\r\n" END, -EBADMSG },
        { B DISPOSITION "name=\"a\377\"\r\n\r\n" END, -EBADMSG }, /* not UTF-8 */
        { B DISPOSITION "name=\"a\001\"\r\n\r\n" END, -EBADMSG },
        { B DISPOSITION "name=\"a\"; filename=\"x\ty\"\r\n\r\n" END, -EBADMSG },
        { B DISPOSITION "name=a\r\nContent-Type: \303\274\r\n\r\n" END, -EBADMSG },
        { B DISPOSITION "name=a\r\nContent-Type: a/b\r\nContent-Type: a/b\r\n\r\n" END, -EBADMSG },
        { B DISPOSITION "name=a\r\nContent-Transfer-Encoding: base64\r\n\r\n" END, -EBADMSG },
        { B DISPOSITION "name=a\r\nContent-Transfer-Encoding: 8bit\r\nContent-Transfer-Encoding: "
                        "8bit\r\n\r\n" END,
          -EBADMSG },
        { B DISPOSITION "name=a\r\nA: 1\r\nA: 1\r\nA: 1\r\nA: 1\r\nA: 1\r\nA: 1\r\nA: 1\r\nA: "
                        "1\r\nA: 1\r\nA: 1\r\n"
                        "A: 1\r\nA: 1\r\nA: 1\r\nA: 1\r\nA: 1\r\nA: 1\r\n\r\n" END,
          -EMSGSIZE },
};

static void test_bad_bodies(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(bad); i++)
                check_everywhere(bad[i].body, strlen(bad[i].body), bad[i].want, NULL);
        static const char nul[] = B DISPOSITION "name=\"a\0b\"\r\n\r\n" END;
        check_everywhere(nul, sizeof(nul) - 1, -EBADMSG, NULL);
}

static void test_data_may_hold_anything(void **state)
{
        cleanup_buf struct buf body = BUF_INIT, want = BUF_INIT;
        buf_puts(&body, B DISPOSITION "name=f; filename=b\r\n\r\n");
        buf_puts(&want, "f|b|-|");
        for (int i = 0; i < 256 * 3; i++) {
                char c = (char) i;
                buf_put(&body, &c, 1);
                buf_put(&want, &c, 1);
        }
        buf_puts(&body, END);
        buf_puts(&want, "\n");
        for (size_t cut = 0; cut <= body.len; cut++) {
                struct record r;
                cleanup_multipart struct multipart *m = parser(&r, "XX", 8);
                assert_int_equal(run(m, body.data, body.len, cut, body.len), 0);
                assert_int_equal(r.text.len, want.len);
                assert_memory_equal(r.text.data, want.data, want.len);
                buf_done(&r.text);
        }
}

static void test_limits(void **state)
{
        struct record r;
        cleanup_buf struct buf body = BUF_INIT;
        for (int i = 0; i < 3; i++)
                buf_puts(&body, i ? "\r\n" B DISPOSITION "name=a\r\n\r\nx"
                                  : B DISPOSITION "name=a\r\n\r\nx");
        buf_puts(&body, END);
        for (size_t max = 1; max <= 4; max++) {
                cleanup_multipart struct multipart *m = parser(&r, "XX", max);
                assert_int_equal(run(m, body.data, body.len, 0, body.len), max < 3 ? -E2BIG : 0);
                buf_done(&r.text);
        }

        cleanup_buf struct buf endless = BUF_INIT;
        buf_puts(&endless, B "X: ");
        for (int i = 0; i < 40000; i++)
                buf_puts(&endless, "y");
        cleanup_multipart struct multipart *m = parser(&r, "XX", 8);
        assert_int_equal(feed(m, endless.data, endless.len), -EMSGSIZE);
        buf_done(&r.text);
}

static void test_callback_refuses(void **state)
{
        struct record r;
        static const char body[] =
                B DISPOSITION "name=a\r\n\r\nx\r\n" B DISPOSITION "name=b\r\n\r\ny" END;
        cleanup_multipart struct multipart *m = parser(&r, "XX", 8);
        r.refuse_at = 2;
        r.refuse_with = -ECANCELED;
        assert_int_equal(feed(m, body, sizeof(body) - 1), -ECANCELED);
        assert_string_equal(r.text.data, "a|-|-|x\n");
        assert_string_equal(multipart_problem(m), "");
        assert_int_equal(feed(m, body, 1), -ECANCELED);
        assert_int_equal(multipart_finish(m), -ECANCELED);
        buf_done(&r.text);
}

static void test_boundary(void **state)
{
        static const struct {
                const char *type;
                int want;
                const char *boundary;
        } cases[] = {
                { "multipart/form-data; boundary=XX", 0, "XX" },
                { "Multipart/Form-Data;boundary=\"a b'()+_,-./:=?\"", 0, "a b'()+_,-./:=?" },
                { "multipart/form-data; charset=utf-8; BOUNDARY=----WebKitFormBoundary7MA4", 0,
                  "----WebKitFormBoundary7MA4" },
                { NULL, -EPROTONOSUPPORT, NULL },
                { "", -EPROTONOSUPPORT, NULL },
                { "application/json", -EPROTONOSUPPORT, NULL },
                { "multipart/mixed; boundary=XX", -EPROTONOSUPPORT, NULL },
                { "multipart/form-datax; boundary=XX", -EPROTONOSUPPORT, NULL },
                { "multipart/form-data", -EINVAL, NULL },
                { "multipart/form-data; boundary=", -EINVAL, NULL },
                { "multipart/form-data; boundary=\"\"", -EINVAL, NULL },
                { "multipart/form-data; boundary=\"a \"", -EINVAL, NULL },
                { "multipart/form-data; boundary=\"a\r\nb\"", -EINVAL, NULL },
                { "multipart/form-data; boundary=\"\303\274\"", -EINVAL, NULL },
                { "multipart/form-data; boundary=a; boundary=b", -EINVAL, NULL },
                { "multipart/form-data; boundary=a b", -EINVAL, NULL },
                { "multipart/form-data; boundary="
                  "0123456789012345678901234567890123456789012345678901234567890123456789",
                  0, "0123456789012345678901234567890123456789012345678901234567890123456789" },
                { "multipart/form-data; boundary="
                  "01234567890123456789012345678901234567890123456789012345678901234567890",
                  -EINVAL, NULL },
        };
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                char got[MULTIPART_BOUNDARY_MAX + 1] = "";
                assert_int_equal(multipart_boundary(cases[i].type, got), cases[i].want);
                if (cases[i].boundary)
                        assert_string_equal(got, cases[i].boundary);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_good_bodies),
                cmocka_unit_test(test_bad_bodies),
                cmocka_unit_test(test_data_may_hold_anything),
                cmocka_unit_test(test_limits),
                cmocka_unit_test(test_callback_refuses),
                cmocka_unit_test(test_boundary),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
