/* Rows that are remembered for a moment: kept, forgotten, never kept when something changed
 * meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "docserverd/lookups.h"

#define SECOND USEC_PER_SEC

static struct store_bytes bytes_of(const char *checksum)
{
        return (struct store_bytes){ .filename = "f",
                                     .content_type = "text/plain",
                                     .checksum = checksum,
                                     .size = 7,
                                     .updated_at_us = 8 };
}

static const char *found(struct lookups *l, const char *tenant, const char *id, uint64_t now)
{
        const struct store_bytes *b = lookups_find(l, tenant, id, now);
        return b ? b->checksum : NULL;
}

static void test_keeping(void **state)
{
        struct lookups *l = lookups_new();
        uint64_t now = 100 * SECOND;
        const struct store_bytes a = bytes_of("aaa"), b = bytes_of("bbb");
        assert_null(found(l, "t", "1", now));
        lookups_keep(l, lookups_begin(l), "t", "1", &a, now);
        assert_string_equal(found(l, "t", "1", now), "aaa");
        assert_null(found(l, "u", "1", now));
        assert_null(found(l, "t", "11", now));
        assert_null(found(l, "t", "", now));
        assert_null(found(l, "t\n1", "", now));
        lookups_keep(l, lookups_begin(l), "t", "1", &b, now);
        assert_string_equal(found(l, "t", "1", now + SECOND - 1), "bbb");
        assert_null(found(l, "t", "1", now + SECOND));
        (void) lookups_free(l);
}

static void test_changes(void **state)
{
        struct lookups *l = lookups_new();
        uint64_t now = 100 * SECOND;
        const struct store_bytes a = bytes_of("aaa");
        lookups_keep(l, lookups_begin(l), "t", "1", &a, now);
        uint64_t begun = lookups_begin(l);
        lookups_forget(l, now);
        assert_null(found(l, "t", "1", now));
        lookups_keep(l, begun, "t", "1", &a, now); /* read before the change */
        assert_null(found(l, "t", "1", now));
        lookups_keep(l, lookups_begin(l), "t", "1", &a, now + SECOND); /* perhaps before it, too */
        assert_null(found(l, "t", "1", now + SECOND));
        lookups_keep(l, lookups_begin(l), "t", "1", &a, now + 3 * SECOND);
        assert_string_equal(found(l, "t", "1", now + 3 * SECOND), "aaa");
        (void) lookups_free(l);
}

static void test_many(void **state)
{
        struct lookups *l = lookups_new();
        char id[16];
        size_t kept = 0;
        for (unsigned i = 0; i < 5000; i++) {
                const struct store_bytes b = bytes_of("ccc");
                (void) snprintf(id, sizeof(id), "%u", i);
                lookups_keep(l, lookups_begin(l), "t", id, &b, SECOND * 9);
                assert_non_null(found(l, "t", id, SECOND * 9));
        }
        for (unsigned i = 0; i < 5000; i++) {
                (void) snprintf(id, sizeof(id), "%u", i);
                kept += found(l, "t", id, SECOND * 9) ? 1 : 0;
        }
        assert_in_range(kept, 500, 1024);
        (void) lookups_free(l);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_keeping),
                cmocka_unit_test(test_changes),
                cmocka_unit_test(test_many),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
