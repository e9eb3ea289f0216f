/* The writer of ZIP files: its bytes against the format, by a reader that knows only the format. */
#include <setjmp.h>
#include <stddef.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "docserverd/zip.h"

static uint64_t le(const unsigned char *p, size_t n)
{
        uint64_t v = 0;
        while (n > 0)
                v = v << 8 | p[--n];
        return v;
}

static int scratch(void)
{
        FILE *f = tmpfile();
        assert_non_null(f);
        int fd = dup(fileno(f));
        (void) fclose(f);
        assert_true(fd >= 0);
        return fd;
}

static void add(struct zip *z, const char *name, const char *data)
{
        assert_int_equal(zip_begin(z, name, strlen(data), UINT64_C(1700000001000000)), 0);
        assert_int_equal(zip_data(z, data, strlen(data)), 0);
        assert_int_equal(zip_end(z), 0);
}

static void test_two_entries(void **state)
{
        unsigned char b[1000];
        uint64_t size = 0;
        cleanup_close int fd = scratch();
        CLEANUP(zip_freep) struct zip *z = zip_new(fd);

        add(z, "data/a", "123456789");
        add(z, "data/b", "");
        assert_int_equal(zip_finish(z, &size), 0);
        assert_int_equal(pread(fd, b, sizeof(b), 0), size);

        const unsigned char *end = b + size - 22;
        assert_int_equal(le(end, 4), 0x06054b50);
        assert_int_equal(le(end + 10, 2), 2);
        const unsigned char *entry = b + le(end + 16, 4);
        assert_ptr_equal(entry + le(end + 12, 4), end);
        assert_int_equal(le(entry, 4), 0x02014b50);
        assert_int_equal(le(entry + 8, 2), 0x0800);
        assert_int_equal(le(entry + 12, 2), 22 << 11 | 13 << 5 | 21 / 2); /* 22:13:21 UTC */
        assert_int_equal(le(entry + 14, 2), 43 << 9 | 11 << 5 | 14);      /* 14 November 2023 */
        assert_int_equal(le(entry + 16, 4), 0xcbf43926); /* the CRC-32 of 123456789 */
        assert_int_equal(le(entry + 20, 4), 9);
        assert_int_equal(le(entry + 42, 4), 0);
        assert_memory_equal(b + 30, "data/a123456789", 15);
        assert_int_equal(le(b + 14, 4), 0xcbf43926);
        entry += 46 + 6;
        assert_int_equal(le(entry + 42, 4), 30 + 15);
        assert_int_equal(le(b + 30 + 15, 4), 0x04034b50);
}

static void test_nothing_inside(void **state)
{
        uint64_t size = 0;
        cleanup_close int fd = scratch();
        CLEANUP(zip_freep) struct zip *z = zip_new(fd);
        assert_int_equal(zip_finish(z, &size), 0);
        assert_int_equal(size, 22);
}

static void test_announced_and_given(void **state)
{
        cleanup_close int fd = scratch();
        CLEANUP(zip_freep) struct zip *z = zip_new(fd);
        assert_int_equal(zip_begin(z, "a", 3, 0), 0);
        assert_int_equal(zip_data(z, "1234", 4), -EMSGSIZE);
        assert_int_equal(zip_data(z, "12", 2), 0);
        assert_int_equal(zip_end(z), -EMSGSIZE);
}

/* More entries than the old fields count, and a name as long as one may be. */
static void test_many_entries(void **state)
{
        unsigned char tail[98];
        char name[600];
        uint64_t size = 0;
        cleanup_close int fd = scratch();
        CLEANUP(zip_freep) struct zip *z = zip_new(fd);

        (void) memset(name, 'n', sizeof(name));
        for (unsigned i = 0; i < 65536; i++) {
                (void) snprintf(name + (i == 7 ? 550 : 0), 12, "%u", i);
                add(z, name, "");
                (void) memset(name, 'n', sizeof(name));
        }
        assert_int_equal(zip_finish(z, &size), 0);
        assert_int_equal(pread(fd, tail, sizeof(tail), (off_t) (size - sizeof(tail))),
                         sizeof(tail));
        assert_int_equal(le(tail, 4), 0x06064b50);
        assert_int_equal(le(tail + 24, 8), 65536);
        assert_int_equal(le(tail + 56, 4), 0x07064b50);
        assert_int_equal(le(tail + 64, 8), size - sizeof(tail));
        assert_int_equal(le(tail + 76 + 10, 2), 0xffff);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_two_entries),
                cmocka_unit_test(test_nothing_inside),
                cmocka_unit_test(test_announced_and_given),
                cmocka_unit_test(test_many_entries),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
