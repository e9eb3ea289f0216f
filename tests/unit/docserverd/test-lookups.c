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

struct rig {
        struct changes *changes;
        struct lookups *lookups;
};

static struct rig rig_new(void)
{
        struct rig g = { 0 };
        assert_int_equal(changes_new(&g.changes), 0);
        g.lookups = lookups_new(g.changes);
        return g;
}

static void rig_done(struct rig *g)
{
        (void) lookups_free(g->lookups);
        (void) changes_free(g->changes);
}

static void keep(struct rig *g, const char *id, const char *checksum, uint64_t now)
{
        const struct store_bytes b = bytes_of(checksum);
        lookups_keep(g->lookups, changes_stamp(g->changes, "t", id, now), "t", id, &b, now);
}

static void test_keeping(void **state)
{
        struct rig g = rig_new();
        uint64_t now = 100 * SECOND;
        assert_null(found(g.lookups, "t", "1", now));
        keep(&g, "1", "aaa", now);
        assert_string_equal(found(g.lookups, "t", "1", now), "aaa");
        assert_null(found(g.lookups, "u", "1", now));
        assert_null(found(g.lookups, "t", "11", now));
        assert_null(found(g.lookups, "t", "", now));
        assert_null(found(g.lookups, "t\n1", "", now));
        keep(&g, "1", "bbb", now);
        assert_string_equal(found(g.lookups, "t", "1", now + SECOND - 1), "bbb");
        assert_null(found(g.lookups, "t", "1", now + SECOND));
        rig_done(&g);
}

static void test_changes(void **state)
{
        struct rig g = rig_new();
        uint64_t now = 100 * SECOND;
        const struct store_bytes a = bytes_of("aaa");
        keep(&g, "1", "aaa", now);
        uint64_t stamp = changes_stamp(g.changes, "t", "1", now);
        unsigned slot = changes_begin(g.changes, "t", "1");
        assert_null(found(g.lookups, "t", "1", now));
        lookups_keep(g.lookups, stamp, "t", "1", &a, now); /* read before the change */
        assert_null(found(g.lookups, "t", "1", now));
        keep(&g, "1", "aaa", now); /* perhaps before it, too */
        assert_null(found(g.lookups, "t", "1", now));
        changes_end(g.changes, slot, true, now);
        keep(&g, "1", "bbb", now);
        assert_string_equal(found(g.lookups, "t", "1", now), "bbb");
        rig_done(&g);
}

static void test_many(void **state)
{
        struct rig g = rig_new();
        char id[16];
        size_t kept = 0;
        for (unsigned i = 0; i < 5000; i++) {
                (void) snprintf(id, sizeof(id), "%u", i);
                keep(&g, id, "ccc", SECOND * 9);
                assert_non_null(found(g.lookups, "t", id, SECOND * 9));
        }
        for (unsigned i = 0; i < 5000; i++) {
                (void) snprintf(id, sizeof(id), "%u", i);
                kept += found(g.lookups, "t", id, SECOND * 9) ? 1 : 0;
        }
        assert_in_range(kept, 500, 1024);
        rig_done(&g);
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
