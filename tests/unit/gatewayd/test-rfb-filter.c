/* What viewers say to a display: what passes, what is dropped, what ends them; cut anywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gatewayd/rfb-filter.h"

#define HELLO "RFB 003.008\n\x01\x01"
#define UPDATE "\x03\x01\0\0\0\0\x04\0\x03\0"
#define KEY "\x04\x01\0\0\0\0\0\x61"
#define POINTER "\x05\x01\0\x10\0\x10"
#define QEMU_KEY "\xff\0\0\x01\0\0\0\x61\0\0\0\x1e"
#define CUT "\x06\0\0\0\0\0\0\x03xyz"
#define FORMAT "\0\0\0\0\x20\x18\0\x01\0\xff\0\xff\0\xff\x10\x08\0\0\0\0"
#define FENCE "\xf8\0\0\0\x80\0\0\x01\x02hi"
#define CONTINUOUS "\x96\x01\0\0\0\0\x04\0\x03\0"

#define CASE(name, control, in, out)                                                               \
        {                                                                                          \
                name, control, in, sizeof(in) - 1, out, sizeof(out) - 1                            \
        }
#define BAD(name, in)                                                                              \
        {                                                                                          \
                name, false, in, sizeof(in) - 1, NULL, 0                                           \
        }
static const struct {
        const char *name;
        bool control;
        const char *in;
        size_t n;
        const char *out; /* NULL = ended */
        size_t n_out;
} cases[] = {
        CASE("handshake", false, HELLO, HELLO),
        CASE("3.7", false, "RFB 003.007\n\x01\x01", "RFB 003.007\n\x01\x01"),
        CASE("not shared becomes shared", false, "RFB 003.008\n\x01\0", HELLO),
        CASE("requests pass", false, HELLO FORMAT UPDATE FENCE CONTINUOUS,
             HELLO FORMAT UPDATE FENCE CONTINUOUS),
        CASE("input is dropped", false, HELLO KEY POINTER CUT UPDATE, HELLO UPDATE),
        CASE("input passes with control", true, HELLO KEY POINTER UPDATE, HELLO KEY POINTER UPDATE),
        CASE("the clipboard never passes", true, HELLO CUT UPDATE, HELLO UPDATE),
        CASE("qemu key passes with control", true, HELLO QEMU_KEY UPDATE, HELLO QEMU_KEY UPDATE),
        CASE("encodings are sifted", false,
             HELLO "\x02\0\0\x03\0\0\0\x07\xff\xff\xfe\xc4\0\0\0\x10" UPDATE,
             HELLO "\x02\0\0\x02\0\0\0\x07\0\0\0\x10" UPDATE),
        CASE("no encodings", false, HELLO "\x02\0\0\0" UPDATE, HELLO "\x02\0\0\0" UPDATE),
        CASE("extended clipboard and mouse are not agreed on", false,
             HELLO "\x02\0\0\x01\xc0\xa1\xe5\xce", HELLO "\x02\0\0\0"),
        CASE("desktop size is dropped", false,
             HELLO "\xfb\0\x04\0\x03\0\x01\0"
                   "0123456789abcdef" UPDATE,
             HELLO UPDATE),
        CASE("desktop size without screens", true, HELLO "\xfb\0\x04\0\x03\0\0\0" UPDATE,
             HELLO UPDATE),
        CASE("xvp is dropped", true, HELLO "\xfa\0\x01\x02" UPDATE, HELLO UPDATE),
        CASE("qemu key is dropped", false, HELLO "\xff\0\0\x01\0\0\0\x61\0\0\0\x1e" UPDATE,
             HELLO UPDATE),
        CASE("empty clipboard", false, HELLO "\x06\0\0\0\0\0\0\0" UPDATE, HELLO UPDATE),
        CASE("a key hides in the clipboard", false, HELLO "\x06\0\0\0\0\0\0\x08" KEY UPDATE,
             HELLO UPDATE),
        BAD("3.3", "RFB 003.003\n"),
        BAD("no version", "GET / HTTP/1"),
        BAD("security type VNC", "RFB 003.008\n\x02"),
        BAD("security type 0", "RFB 003.008\n\0"),
        BAD("tight file transfer", HELLO "\x07\0\0\0"),
        BAD("unknown type", HELLO "\x01\0\0\0"),
        BAD("unknown high type", HELLO "\xfe\0\0\0"),
        BAD("65535 encodings", HELLO "\x02\0\xff\xff"),
        BAD("257 encodings", HELLO "\x02\0\x01\x01"),
        BAD("clipboard of 4 GB", HELLO "\x06\0\0\0\xff\xff\xff\xff"),
        BAD("extended clipboard", HELLO "\x06\0\0\0\xff\xff\xff\xfc"),
        BAD("clipboard of 1 MiB and one", HELLO "\x06\0\0\0\0\x10\0\x01"),
        BAD("qemu audio", HELLO "\xff\x01\0\0\0\0\0\0\0\0\0\0"),
        BAD("fence of 65", HELLO "\xf8\0\0\0\0\0\0\0\x41"),
};

static int run(const char *in, size_t n, size_t piece, bool control, struct buf *out)
{
        struct rfb_filter f;
        const char *why = NULL;

        rfb_filter_init(&f);
        f.control = control;
        for (size_t at = 0; at < n; at += piece) {
                int r = rfb_filter_feed(&f, in + at, MIN(piece, n - at), out, &why);
                if (r < 0) {
                        assert_non_null(why);
                        return r;
                }
        }
        return 0;
}

static void test_table(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(cases); i++)
                for (size_t piece = 1; piece <= cases[i].n; piece++) {
                        cleanup_buf struct buf out = BUF_INIT;
                        int r = run(cases[i].in, cases[i].n, piece, cases[i].control, &out);
                        if ((r == 0) != (cases[i].out != NULL))
                                fail_msg("%s in pieces of %zu: %d", cases[i].name, piece, r);
                        if (r < 0)
                                continue;
                        if (out.len != cases[i].n_out ||
                            memcmp(out.data, cases[i].out, out.len) != 0)
                                fail_msg("%s in pieces of %zu: other bytes", cases[i].name, piece);
                }
}

static void test_flood_is_cheap(void **state)
{
        cleanup_buf struct buf out = BUF_LIMIT(64);
        struct rfb_filter f;
        const char *why;

        rfb_filter_init(&f);
        assert_int_equal(rfb_filter_feed(&f, HELLO, sizeof(HELLO) - 1, &out, &why), 0);
        for (int i = 0; i < 100000; i++)
                assert_int_equal(
                        rfb_filter_feed(&f, KEY POINTER, sizeof(KEY POINTER) - 1, &out, &why), 0);
        assert_int_equal(out.len, sizeof(HELLO) - 1);
        /* Beyond the limit of the way to the slot the viewer goes. */
        int r = 0;
        for (int i = 0; i < 100 && r == 0; i++)
                r = rfb_filter_feed(&f, UPDATE, sizeof(UPDATE) - 1, &out, &why);
        assert_int_equal(r, -EMSGSIZE);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_table),
                cmocka_unit_test(test_flood_is_cheap),
        };

        return cmocka_run_group_tests_name("rfb-filter", tests, NULL, NULL);
}
