/* The edit tool's text side: views, edits, and the table of its errors. */
#include "tests/unit/common/unit.h"

#include "workerd/edit-text.h"

static void view(const char *file, bool range, int64_t from, int64_t to, const char *expected,
                 const char *refused)
{
        cleanup_buf struct buf out = BUF_INIT;
        cleanup_free char *error = NULL;
        int r = edit_view(span_of(file), "/f", range, from, to, 16000, &out, &error);

        if (refused) {
                assert_int_equal(r, -EINVAL);
                assert_non_null(strstr(error, refused));
                return;
        }
        assert_int_equal(r, 0);
        assert_non_null(strstr(out.data, "`cat -n` on /f:\n"));
        assert_string_equal(strchr(out.data, '\n') + 1, expected);
}

static void test_view(void **state)
{
        view("a\nb\nc\n", false, 0, 0, "     1\ta\n     2\tb\n     3\tc\n", NULL);
        view("a\nb\nc", true, 2, 3, "     2\tb\n     3\tc\n", NULL);
        view("a\nb\nc\n", true, 2, -1, "     2\tb\n     3\tc\n", NULL);
        view("", false, 0, 0, "     1\t\n", NULL);
        view("\n\n", false, 0, 0, "     1\t\n     2\t\n", NULL);
        view("\tx\n", false, 0, 0, "     1\t\tx\n", NULL);
        view("a\nb\n", true, 0, 1, NULL, "[0, 1]");
        view("a\nb\n", true, 3, 3, NULL, "lines 1 to 2");
        view("a\nb\n", true, 1, 3, NULL, "beyond the end");
        view("a\nb\n", true, 2, 1, NULL, "-1 or not before");
        view("a\nb\n", true, 1, -2, NULL, "-1 or not before");
}

static void test_view_is_clipped(void **state)
{
        cleanup_buf struct buf file = BUF_INIT, out = BUF_INIT;
        char *error = NULL;

        for (int i = 0; i < 5000; i++)
                buf_puts(&file, "line \xc3\xa4\n");
        assert_int_equal(edit_view((struct span){ file.data, file.len }, "/f", false, 0, 0, 1000,
                                   &out, &error),
                         0);
        assert_true(out.len < 1200);
        assert_true(utf8_valid(out.data, out.len));
        assert_non_null(strstr(out.data, "[clipped"));
}

static void replace(const char *file, const char *old, const char *new, const char *expected,
                    const char *refused)
{
        cleanup_buf struct buf out = BUF_INIT;
        cleanup_free char *error = NULL;
        size_t line = 0, lines = 0;
        int r = edit_replace(span_of(file), "/f", old, new, &out, &line, &lines, &error);

        if (refused) {
                assert_int_equal(r, -EINVAL);
                assert_non_null(strstr(error, refused));
                return;
        }
        assert_int_equal(r, 0);
        assert_string_equal(out.data ? out.data : "", expected);
}

static void test_replace(void **state)
{
        replace("a\tb\nc\n", "b", "B", "a\tB\nc\n", NULL);
        replace("a\nb\nc\n", "b\n", "", "a\nc\n", NULL);
        replace("x", "x", "", "", NULL);
        replace("a\nb\na\n", "a", "z", NULL, "lines [1, 3]");
        replace("a\nb\n", "q", "z", NULL, "did not appear verbatim in /f");
        replace("a\n", "", "z", NULL, "old_str is empty");
        replace("", "a", "z", NULL, "did not appear");
        replace("tab\there", "tab here", "z", NULL, "did not appear");
}

static void insert(const char *file, int64_t at, const char *text, const char *expected)
{
        cleanup_buf struct buf out = BUF_INIT;
        cleanup_free char *error = NULL;
        size_t line = 0, lines = 0;
        int r = edit_insert(span_of(file), at, text, &out, &line, &lines, &error);

        if (!expected) {
                assert_int_equal(r, -EINVAL);
                assert_non_null(strstr(error, "Invalid insert_line"));
                return;
        }
        assert_int_equal(r, 0);
        assert_string_equal(out.data, expected);
}

static void test_insert(void **state)
{
        insert("a\nb\nc\n", 2, "new", "a\nb\nnew\nc\n");
        insert("a\nb\nc\n", 2, "new\n", "a\nb\nnew\nc\n");
        insert("a\nb\n", 0, "top", "top\na\nb\n");
        insert("a\nb\n", 2, "end", "a\nb\nend");
        insert("a\nb\n", 2, "end\n", "a\nb\nend\n");
        insert("a\nb", 2, "end", "a\nb\nend");
        insert("", 0, "x\n", "x\n");
        insert("a\n", 1, "\t1\n\t2", "a\n\t1\n\t2");
        insert("a\nb\nc\n", 4, "x", NULL);
        insert("a\n", -1, "x", NULL);
        insert("a\n", INT64_MAX, "x", NULL);
}

static void test_snippet(void **state)
{
        cleanup_buf struct buf file = BUF_INIT, out = BUF_INIT;

        for (int i = 1; i <= 20; i++)
                buf_putf(&file, "l%d\n", i);
        edit_snippet((struct span){ file.data, file.len }, "/f", 9, 2, &out);
        assert_non_null(strstr(out.data, "     6\tl6\n"));
        assert_non_null(strstr(out.data, "    15\tl15\n"));
        assert_null(strstr(out.data, "     5\tl5\n"));
        assert_null(strstr(out.data, "    16\tl16\n"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_view),    cmocka_unit_test(test_view_is_clipped),
                cmocka_unit_test(test_replace), cmocka_unit_test(test_insert),
                cmocka_unit_test(test_snippet),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
