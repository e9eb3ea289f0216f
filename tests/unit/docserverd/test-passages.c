/* How text is cut into passages, queries into words and a beginning, headlines into HTML. */
#include "tests/unit/common/unit.h"

#include "common/base/buf.h"
#include "docserverd/passages.h"
#include "docserverd/search.h"

static void assert_clean(const char *text, size_t n, const char *want)
{
        cleanup_free char *copy = xmalloc(n + 1);

        memcpy(copy, text, n);
        size_t len = passages_clean(copy, n);
        copy[len] = '\0';
        assert_string_equal(copy, want);
}

static void test_clean(void **state)
{
        assert_clean("a\0b\x02"
                     "c\x7f\td\n",
                     9, "a b c \td\n");
        assert_clean("\xc3\xbc\xff\xed\xa0\x80", 6, "\xc3\xbc????");
        assert_clean("cut \xe2\x82", 6, "cut ??");
}

static void test_places_to_cut(void **state)
{
        cleanup_buf struct buf text = BUF_INIT;
        struct passages p;

        for (int i = 0; i < 31; i++)
                buf_puts(&text, "A sentence of about forty characters. ");
        buf_puts(&text, "\n\nThe second paragraph stands alone.");
        passages_cut(text.data, text.len, &p);
        assert_int_equal(p.n, 2);
        assert_int_equal(p.list[0].text[p.list[0].len - 1], '.');
        assert_memory_equal(p.list[1].text, "The second", 10);
        assert_int_equal(p.list[0].page, 0);
        passages_done(&p);

        passages_cut("one\ftwo\f\ffour", 13, &p);
        assert_int_equal(p.n, 3);
        assert_int_equal(p.list[0].page, 1);
        assert_int_equal(p.list[1].page, 2);
        assert_int_equal(p.list[2].page, 4);
        passages_done(&p);

        passages_cut("  \n ", 4, &p);
        assert_int_equal(p.n, 0);
        passages_done(&p);
}

/* Words without spaces between are cut at a character, never within one. */
static void test_words_longer_than_a_passage(void **state)
{
        cleanup_buf struct buf text = BUF_INIT;
        struct passages p;

        for (int i = 0; i < 3000; i++)
                buf_puts(&text, "\xe2\x82\xac");
        passages_cut(text.data, text.len, &p);
        assert_int_equal(p.n, 5);
        for (size_t i = 0; i < p.n; i++)
                assert_true(utf8_valid(p.list[i].text, p.list[i].len));
        passages_done(&p);
}

static void assert_split(const char *query, const char *words, const char *prefix)
{
        cleanup_free char *w = NULL, *p = NULL;

        search_split(query, &w, &p);
        assert_string_equal(w, words);
        assert_string_equal(p, prefix);
}

static void test_beginning_of_a_word(void **state)
{
        assert_split("invo", "", "invo");
        assert_split("open inv", "open ", "inv");
        assert_split("open ", "open ", "");
        assert_split("\"open inv", "\"open inv", "");
        assert_split("open -in", "open -in", "");
        assert_split("na\xc3\xaf", "", "na\xc3\xaf");
        assert_split("a:*", "a:*", "");
        assert_split("it's", "it's", "");
        assert_split("", "", "");
}

static void assert_html(const char *headline, const char *want)
{
        cleanup_buf struct buf b = BUF_INIT;

        buf_puts(&b, "");
        search_highlight(&b, headline);
        assert_string_equal(b.data, want);
}

static void test_highlights(void **state)
{
        assert_html("a \x02"
                    "b\x03 <c> & \"d'",
                    "a <mark>b</mark> &lt;c&gt; &amp; &quot;d&#39;");
        assert_html("\x03\x02\x02x", "<mark>x</mark>");
        assert_html("<mark>", "&lt;mark&gt;");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_clean),
                cmocka_unit_test(test_places_to_cut),
                cmocka_unit_test(test_words_longer_than_a_passage),
                cmocka_unit_test(test_beginning_of_a_word),
                cmocka_unit_test(test_highlights),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
