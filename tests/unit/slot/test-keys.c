/* Key names, modifiers and characters as keysyms. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <xkbcommon/xkbcommon.h>

#include "workerd/keys.h"

static void test_combos(void **state)
{
        static const struct {
                const char *text;
                uint32_t keysym[4]; /* ends with 0 */
        } rows[] = {
                { "a", { XKB_KEY_a } },
                { "A", { XKB_KEY_Shift_L, XKB_KEY_A } },
                { "!", { XKB_KEY_Shift_L, XKB_KEY_exclam } },
                { "Return", { XKB_KEY_Return } },
                { "enter", { XKB_KEY_Return } },
                { "KP_Enter", { XKB_KEY_KP_Enter } },
                { "ESC", { XKB_KEY_Escape } },
                { "page_down", { XKB_KEY_Page_Down } },
                { "PgUp", { XKB_KEY_Page_Up } },
                { "ArrowLeft", { XKB_KEY_Left } },
                { "f11", { XKB_KEY_F11 } },
                { "space", { XKB_KEY_space } },
                { " ", { XKB_KEY_space } },
                { "ctrl+c", { XKB_KEY_Control_L, XKB_KEY_c } },
                { "CTRL+C", { XKB_KEY_Control_L, XKB_KEY_c } },
                { "ctrl+shift+t", { XKB_KEY_Control_L, XKB_KEY_Shift_L, XKB_KEY_T } },
                { "shift+1", { XKB_KEY_Shift_L, XKB_KEY_exclam } },
                { "shift+Tab", { XKB_KEY_Shift_L, XKB_KEY_Tab } },
                { "ctrl++", { XKB_KEY_Control_L, XKB_KEY_Shift_L, XKB_KEY_plus } },
                { "+", { XKB_KEY_Shift_L, XKB_KEY_plus } },
                { "ctrl+minus", { XKB_KEY_Control_L, XKB_KEY_minus } },
                { "cmd+Delete", { XKB_KEY_Super_L, XKB_KEY_Delete } },
                { "super", { XKB_KEY_Super_L } },
                { "\xc3\xa9", { XKB_KEY_eacute } },
                { "\xe2\x82\xac", { XKB_KEY_EuroSign } },
                { "\xe6\x97\xa5", { 0x10065e5 } },
        };
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct key_combo k;
                int r = keys_parse(rows[i].text, strlen(rows[i].text), &k);
                if (r < 0)
                        print_error("%s\n", rows[i].text);
                assert_int_equal(r, 0);
                for (unsigned at = 0; at < 4; at++) {
                        uint32_t got = at < k.n ? k.keysym[at] : 0;
                        if (got != rows[i].keysym[at])
                                print_error("%s: key %u is 0x%x\n", rows[i].text, at, got);
                        assert_int_equal(got, rows[i].keysym[at]);
                }
        }
}

static void test_refused(void **state)
{
        static const char *const rows[] = {
                "",
                "ctrl+",
                "nokey",
                "ctrl+nokey",
                "a+b+c+d+e+f+g+h+i",
                "++",
                "ctrl+\x01",
                "\xff",
                "\xc3",
                "an-endless-name-that-is-longer-than-any-name-of-a-key-can-be-in-the-world",
        };
        struct key_combo k;
        for (size_t i = 0; i < ARRAY_LEN(rows); i++)
                if (keys_parse(rows[i], strlen(rows[i]), &k) == 0)
                        fail_msg("\"%s\" was taken", rows[i]);
        assert_int_equal(keys_parse("a\0b", 3, &k), -EINVAL);
}

static void test_modifiers(void **state)
{
        struct key_combo k;
        assert_int_equal(keys_parse_modifiers(NULL, &k), 0);
        assert_int_equal(k.n, 0);
        assert_int_equal(keys_parse_modifiers("", &k), 0);
        assert_int_equal(keys_parse_modifiers("ctrl+shift", &k), 0);
        assert_int_equal(k.n, 2);
        assert_int_equal(keys_parse_modifiers("a", &k), -EINVAL);
        assert_int_equal(keys_parse_modifiers("shift+a", &k), -EINVAL);
}

static void test_characters(void **state)
{
        /* Every printable ASCII character; shifted exactly where a US keyboard has it so. */
        static const char shifted[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ~!@#$%^&*()_+{}|:\"<>?";
        for (uint32_t c = ' '; c < 0x7f; c++) {
                struct key_char k;
                assert_int_equal(keys_of_char(c, &k), 0);
                assert_int_equal(k.keysym, c);
                assert_true(k.known);
                assert_int_equal(k.shift, strchr(shifted, (int) c) != NULL);
        }
        struct key_char k;
        for (uint32_t c = 0; c < ' '; c++)
                assert_int_equal(keys_of_char(c, &k),
                                 c == '\n' || c == '\r' || c == '\t' || c == '\b' ? 0 : -EINVAL);
        assert_int_equal(keys_of_char(0x85, &k), -EINVAL);
        assert_int_equal(keys_of_char(0xe9, &k), 0);
        assert_false(k.known);

        const char text[] = "a\xc3\xa9\xe6\x97\xa5\xf0\x9f\x98\x80", *at = text;
        static const uint32_t expected[] = { 'a', 0xe9, 0x65e5, 0x1f600, 0 };
        for (size_t i = 0; i < ARRAY_LEN(expected); i++)
                assert_int_equal(keys_next_char(&at, text + sizeof(text) - 1), expected[i]);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_combos),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_modifiers),
                cmocka_unit_test(test_characters),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
