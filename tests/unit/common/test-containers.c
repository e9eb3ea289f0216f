/* Buffers, maps, lists, tables of states. */
#include "unit.h"

#include "common/base/buf.h"
#include "common/base/list.h"
#include "common/base/map.h"
#include "common/base/states.h"

static void buf_limits(void **state)
{
        cleanup_buf struct buf b = BUF_LIMIT(10);
        assert_int_equal(buf_append(&b, "0123456789", 10), 0);
        assert_int_equal(buf_append(&b, "x", 1), -EMSGSIZE);
        assert_int_equal(buf_printf(&b, "%d", 1), -EMSGSIZE);
        assert_int_equal(buf_append(&b, "", 0), 0);
        assert_string_equal(b.data, "0123456789");
        buf_consume(&b, 4);
        assert_string_equal(buf_head(&b), "456789");
        assert_int_equal(buf_append(&b, "abcd", 4), 0); /* the limit counts what is pending */
        assert_int_equal(buf_append(&b, "e", 1), -EMSGSIZE);
        assert_string_equal(buf_head(&b), "456789abcd");
        assert_int_equal(buf_reserve(&b, SIZE_MAX), -ENOMEM);
        buf_consume(&b, 10);
        assert_int_equal(buf_pending(&b), 0);
        assert_int_equal(b.off, 0);
        buf_done(&b);
        assert_int_equal(b.limit, 10);
        assert_string_equal(buf_head(&b), "");
}

/* A queue that is filled and drained for ever must not grow. */
static void buf_as_queue(void **state)
{
        cleanup_buf struct buf b = BUF_INIT;
        unsigned in = 0, out = 0;
        while (out < 100000) {
                for (int i = 0; i < 7; i++, in++)
                        buf_put(&b, &in, sizeof(in));
                while (buf_pending(&b) > 3 * sizeof(in)) {
                        unsigned v;
                        memcpy(&v, buf_head(&b), sizeof(v));
                        assert_int_equal(v, out++);
                        buf_consume(&b, sizeof(v));
                }
        }
        assert_true(b.cap <= 1024);
}

static void buf_texts(void **state)
{
        struct buf b = BUF_INIT;
        buf_puts(&b, "xx");
        buf_putf(&b, "%s-%d", "long enough to need more than one allocation", 42);
        buf_consume(&b, 2);
        size_t n;
        char *text = buf_take(&b, &n);
        assert_string_equal(text, "long enough to need more than one allocation-42");
        assert_int_equal(n, strlen(text));
        free(text);
        text = buf_take(&b, NULL);
        assert_string_equal(text, "");
        free(text);
        buf_put_json_string(&b, "a\"\\\n\x01/\x7f\xc3\xa4", 9);
        assert_string_equal(buf_head(&b), "\"a\\\"\\\\\\n\\u0001/\x7f\xc3\xa4\"");
        buf_clear(&b);
        buf_put_json_string(&b, NULL, 0);
        assert_string_equal(buf_head(&b), "\"\"");
        buf_done(&b);
}

static void map_many(void **state)
{
        enum { N = 100000 };
        cleanup_map struct map *m = map_new();
        char key[32];
        for (uintptr_t i = 1; i <= N; i++) {
                (void) snprintf(key, sizeof(key), "key-%" PRIuPTR, i);
                assert_null(map_set(m, key, (void *) i));
        }
        assert_int_equal(map_count(m), N);
        for (uintptr_t i = 1; i <= N; i += 2) {
                (void) snprintf(key, sizeof(key), "key-%" PRIuPTR, i);
                assert_ptr_equal(map_remove(m, key), (void *) i);
                assert_null(map_remove(m, key));
        }
        assert_int_equal(map_count(m), N / 2);
        size_t iter = 0, seen = 0;
        const char *k;
        void *v;
        while (map_next(m, &iter, &k, &v)) { /* removing what was just returned is allowed */
                assert_int_equal((uintptr_t) v % 2, 0);
                (void) snprintf(key, sizeof(key), "%s", k);
                assert_ptr_equal(map_remove(m, key), v);
                seen++;
        }
        assert_int_equal(seen, N / 2);
        assert_int_equal(map_count(m), 0);
        assert_null(map_get(m, "key-2"));
}

static void map_replace_and_churn(void **state)
{
        cleanup_map struct map *m = map_new();
        int a, b;
        char key[32];
        assert_null(map_get(m, "x"));
        assert_null(map_remove(m, "x"));
        assert_null(map_set(m, "x", &a));
        assert_ptr_equal(map_set(m, "x", &b), &a);
        assert_ptr_equal(map_get(m, "x"), &b);
        assert_null(map_set(m, "", &a));
        assert_ptr_equal(map_get(m, ""), &a);
        for (int i = 0; i < 200000; i++) { /* tombstones must not fill the table */
                (void) snprintf(key, sizeof(key), "churn-%d", i);
                assert_null(map_set(m, key, &a));
                assert_ptr_equal(map_remove(m, key), &a);
        }
        assert_int_equal(map_count(m), 2);
        assert_ptr_equal(map_get(m, "x"), &b);
}

struct item {
        struct list link;
        int n;
};

static void lists(void **state)
{
        struct list head;
        struct item items[3] = { { .n = 0 }, { .n = 1 }, { .n = 2 } }, *it, *next;
        list_init(&head);
        assert_true(list_empty(&head));
        list_remove(&items[0].link); /* never linked */
        list_push_back(&head, &items[1].link);
        list_push_back(&head, &items[2].link);
        list_push_front(&head, &items[0].link);
        int n = 0;
        list_foreach (it, &head, link) {
                assert_int_equal(it->n, n++);
        }
        list_foreach_safe (it, next, &head, link) {
                list_remove(&it->link);
        }
        assert_true(list_empty(&head));
        list_remove(&items[1].link); /* twice */
        assert_null(list_first(&head, struct item, link));
}

static void states(void **state)
{
        static const uint32_t allowed[] = { 1U << 1, 1U << 2 | 1U << 0, 0 };
        static const struct state_table t = { .what = "thing", .allowed = allowed, .max = 3 };
        for (int from = -1; from <= 3; from++) {
                for (int to = -1; to <= 3; to++) {
                        bool in = from >= 0 && from < 3 && to >= 0 && to < 3;
                        int want = !in ? -EINVAL : allowed[from] & 1U << to ? 0 : -EPERM;
                        assert_int_equal(state_check(&t, from, to), want);
                }
        }
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(buf_limits),
                cmocka_unit_test(buf_as_queue),
                cmocka_unit_test(buf_texts),
                cmocka_unit_test(map_many),
                cmocka_unit_test(map_replace_and_churn),
                cmocka_unit_test(lists),
                cmocka_unit_test(states),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
