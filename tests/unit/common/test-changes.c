/* Word of changes in shared memory: stamps hold exactly as long as nothing they cover is changed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/io/changes.h"

#define NOW (100 * USEC_PER_SEC)

struct rig {
        struct changes *writer, *reader;
};

static int setup(void **state)
{
        struct rig *g = xnew(struct rig);
        assert_int_equal(changes_new(&g->writer), 0);
        assert_int_equal(changes_map(changes_fd(g->writer), &g->reader), 0);
        *state = g;
        return 0;
}

static int teardown(void **state)
{
        struct rig *g = *state;
        (void) changes_free(g->reader);
        (void) changes_free(g->writer);
        free(g);
        return 0;
}

static void test_one(void **state)
{
        struct rig *g = *state;
        uint64_t a = changes_stamp(g->reader, "t", "a", NOW);
        assert_int_not_equal(a, 0);
        assert_true(changes_hold(g->reader, "t", "a", a));
        unsigned slot = changes_begin(g->writer, "t", "a");
        assert_false(changes_hold(g->reader, "t", "a", a));
        assert_int_equal(changes_stamp(g->reader, "t", "a", NOW), 0);
        changes_end(g->writer, slot, true, NOW);
        assert_false(changes_hold(g->reader, "t", "a", a));
        assert_int_not_equal(changes_stamp(g->reader, "t", "a", NOW), 0);
}

static void test_others(void **state)
{
        struct rig *g = *state;
        char id[16];
        size_t still = 0;
        uint64_t stamps[1000];
        for (unsigned i = 0; i < 1000; i++) {
                (void) snprintf(id, sizeof(id), "%u", i);
                stamps[i] = changes_stamp(g->reader, "t", id, NOW);
        }
        changes_end(g->writer, changes_begin(g->writer, "t", "7"), true, NOW);
        for (unsigned i = 0; i < 1000; i++) {
                (void) snprintf(id, sizeof(id), "%u", i);
                still += changes_hold(g->reader, "t", id, stamps[i]);
        }
        assert_in_range(still, 950, 999); /* a change of one ends a few others */
        changes_end(g->writer, changes_begin(g->writer, "t", NULL), true, NOW);
        for (unsigned i = 0; i < 1000; i++) {
                (void) snprintf(id, sizeof(id), "%u", i);
                assert_false(changes_hold(g->reader, "t", id, stamps[i]));
        }
}

static void test_two_at_once(void **state)
{
        struct rig *g = *state;
        unsigned one = changes_begin(g->writer, "t", "a"), two = changes_begin(g->writer, "t", "a");
        changes_end(g->writer, one, true, NOW);
        assert_int_equal(changes_stamp(g->reader, "t", "a", NOW), 0);
        changes_end(g->writer, two, true, NOW);
        assert_int_not_equal(changes_stamp(g->reader, "t", "a", NOW), 0);
}

/* The connection was lost while the database committed. */
static void test_unsure(void **state)
{
        struct rig *g = *state;
        changes_end(g->writer, changes_begin(g->writer, "t", "a"), false, NOW);
        changes_end(g->writer, changes_begin(g->writer, "t", "a"), true, NOW);
        assert_int_equal(changes_stamp(g->reader, "t", "a", NOW + USEC_PER_SEC), 0);
        assert_int_not_equal(changes_stamp(g->reader, "t", "a", NOW + 3 * USEC_PER_SEC), 0);
        changes_pulse(g->writer, NOW);
        assert_int_equal(changes_stamp(g->reader, "u", "b", NOW), 0);
        assert_int_not_equal(changes_stamp(g->reader, "u", "b", NOW + 3 * USEC_PER_SEC), 0);
}

static void test_hostile_memory(void **state)
{
        struct rig *g = *state;
        struct changes *c;
        int fd = changes_fd(g->writer);
        assert_true(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
        assert_int_equal(ftruncate(fd, 0), -1);
        cleanup_close int unsealed = memfd_create("other", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        assert_int_equal(ftruncate(unsealed, 256 * 24), 0);
        assert_int_equal(changes_map(unsealed, &c), -EPROTO); /* could be cut under a reader */
        cleanup_close int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
        assert_int_equal(changes_map(file, &c), -EPROTO);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_one, setup, teardown),
                cmocka_unit_test_setup_teardown(test_others, setup, teardown),
                cmocka_unit_test_setup_teardown(test_two_at_once, setup, teardown),
                cmocka_unit_test_setup_teardown(test_unsure, setup, teardown),
                cmocka_unit_test_setup_teardown(test_hostile_memory, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
