/* Small pure parts: scaling, text cleaning, waiting times, prices, settings, the prompt. */
#include "tests/unit/common/unit.h"

#include <unistd.h>

#include "workerd/prices.h"
#include "workerd/prompt.h"
#include "workerd/provider.h"
#include "workerd/scale.h"
#include "workerd/settings.h"
#include "workerd/tool.h"
#include "workerd/utf8.h"

static void test_scale(void **state)
{
        static const struct {
                uint32_t w, h, to_w, to_h;
        } rows[] = {
                { 1920, 1080, 1366, 768 }, { 1920, 1200, 1280, 800 }, { 1600, 1200, 1024, 768 },
                { 1280, 800, 1280, 800 },  { 1024, 768, 1024, 768 },  { 800, 600, 800, 600 },
                { 1366, 768, 1366, 768 },  { 2560, 1600, 1280, 800 },
        };
        struct scale s;
        uint32_t x, y;

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                scale_choose(rows[i].w, rows[i].h, &s);
                assert_int_equal(s.width, rows[i].to_w);
                assert_int_equal(s.height, rows[i].to_h);
        }
        scale_choose(1920, 1080, &s);
        assert_int_equal(scale_to_screen(&s, 683, 384, &x, &y), 0);
        assert_int_equal(x, 960);
        assert_int_equal(y, 540);
        assert_int_equal(scale_to_screen(&s, 1365, 767, &x, &y), 0);
        assert_true(x < 1920 && y < 1080);
        assert_int_equal(scale_to_screen(&s, 1366, 0, &x, &y), -ERANGE);
        assert_int_equal(scale_to_screen(&s, 0, 768, &x, &y), -ERANGE);
        assert_int_equal(scale_to_screen(&s, -1, 0, &x, &y), -ERANGE);
        scale_to_picture(&s, 1919, 1079, &x, &y);
        assert_true(x == 1365 && y == 767);
        scale_choose(4096, 2160, &s); /* beyond what a model takes and of no usual shape */
        assert_true(s.width <= 1568 && s.height < s.width);
        assert_true((uint64_t) ((s.width + 27) / 28) * ((s.height + 27) / 28) <= 1568);
        scale_choose(1080, 1920, &s);
        assert_true(s.height <= 1568 && s.width < s.height);
}

static void test_utf8(void **state)
{
        cleanup_buf struct buf b = BUF_INIT;
        cleanup_free char *clip = NULL, *same = NULL;

        utf8_clean(&b, "a\xff\xc3\xa4\0z\xe2\x82", 8);
        assert_string_equal(b.data, "a\xef\xbf\xbd\xc3\xa4\xef\xbf\xbdz\xef\xbf\xbd\xef\xbf\xbd");
        assert_int_equal(utf8_incomplete("ab\xe2\x82", 4), 2);
        assert_int_equal(utf8_incomplete("ab\xe2\x82\xac", 5), 0);
        assert_int_equal(utf8_incomplete("\xf0\x9f\x98", 3), 3);
        assert_int_equal(utf8_incomplete("\x80\x80\x80\x80", 4), 0);
        assert_int_equal(utf8_cut("a\xe2\x82\xac", 4, 3), 1);
        clip = utf8_clip("abcdefghij", 10, 4);
        assert_string_equal(clip, "abcd\n[clipped: 6 more bytes]");
        same = utf8_clip("abcd", 4, 4);
        assert_string_equal(same, "abcd");
}

static void test_backoff(void **state)
{
        static const uint64_t ms[] = { 500, 1000, 2000, 4000, 8000, 8000, 8000 };

        for (unsigned attempt = 1; attempt <= ARRAY_LEN(ms); attempt++)
                for (uint32_t random = 0; random < 5000; random += 7) {
                        uint64_t wait = provider_backoff(attempt, 0, random) / USEC_PER_MSEC;

                        assert_true(wait <= ms[attempt - 1] && wait >= ms[attempt - 1] * 3 / 4);
                }
        assert_int_equal(provider_backoff(3, 1500, 9), 1500);
        assert_int_equal(provider_backoff(3, UINT64_MAX, 9), 300 * USEC_PER_SEC);
}

static void write_file(char *path, const char *text)
{
        int fd = mkstemp(path);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), (ssize_t) strlen(text));
        close(fd);
}

static void test_prices(void **state)
{
        char good[] = "/tmp/berth-prices-XXXXXX", bad[] = "/tmp/berth-prices-XXXXXX";
        CLEANUP(prices_freep) struct prices *p = NULL, *none = NULL;
        cleanup_free char *error = NULL, *error2 = NULL;
        struct usage u = { .input_tokens = 1000,
                           .output_tokens = 100,
                           .cache_read_tokens = 10000,
                           .cache_write_tokens = 10 };

        write_file(good, "{\"comment\":\"x\",\"models\":[{\"prefix\":\"claude-\",\"input\":1,"
                         "\"output\":2},{\"prefix\":\"claude-opus\",\"input\":5,\"output\":25,"
                         "\"cache_read\":0.5,\"cache_write\":6.25}]}");
        write_file(bad, "{\"models\":[{\"prefix\":\"x\",\"input\":\"much\",\"output\":1}]}");
        assert_int_equal(prices_load(good, &p, &error), 0);
        assert_int_equal(prices_cost(p, "claude-opus-9", &u), 5000 + 2500 + 5000 + 63);
        assert_int_equal(prices_cost(p, "claude-x", &u), 1000 + 200);
        assert_int_equal(prices_cost(p, "other", &u), 0);
        assert_int_equal(prices_cost(NULL, "other", &u), 0);
        assert_true(prices_load(bad, &none, &error) < 0);
        assert_non_null(strstr(error, "input"));
        assert_true(prices_load("/nowhere/prices", &none, &error2) < 0);
        unlink(good);
        unlink(bad);
}

static void test_shipped_prices(void **state)
{
        const char *path = getenv("BERTH_PRICES");
        CLEANUP(prices_freep) struct prices *p = NULL;
        cleanup_free char *error = NULL;

        if (path)
                assert_int_equal(prices_load(path, &p, &error), 0);
}

static void check_settings(const char *id, const char *kind, const char *kinds,
                           const char *thinking, const char *refused)
{
        char *overrides[] = { xasprintf("worker_id=%s", id), xasprintf("kind=%s", kind),
                              xasprintf("kinds=%s", kinds), xasprintf("thinking=%s", thinking) };
        struct worker_settings s = { 0 };
        cleanup_free char *error = NULL;
        enum slot_kind got;
        uint32_t set;
        int r = settings_load(worker_settings_table, worker_settings_count, NULL, overrides, 4, &s,
                              &error);

        assert_int_equal(r, 0);
        r = worker_settings_check(&s, &got, &set, &error);
        assert_int_equal(r < 0, refused != NULL);
        if (refused)
                assert_non_null(strstr(error, refused));
        settings_release(worker_settings_table, worker_settings_count, &s);
        for (size_t i = 0; i < ARRAY_LEN(overrides); i++)
                free(overrides[i]);
}

static void test_settings(void **state)
{
        check_settings("1", "desktop", "desktop,headless", "auto", NULL);
        check_settings("a/b", "desktop", "desktop", "auto", "worker_id");
        check_settings("1", "cloud", "desktop", "auto", "kind must be");
        check_settings("1", "vm", "vm", "auto", NULL);
        check_settings("1", "headless", "headless,boat", "auto", "boat");
        check_settings("1", "headless", "headless", "hard", "thinking");
}

static void test_prompt(void **state)
{
        const char *files[] = { "orders.csv" };
        cleanup_free char *desktop =
                prompt_make(&(struct prompt_config){ .desktop = true,
                                                     .width = 1024,
                                                     .height = 768,
                                                     .now_us = UINT64_C(1795183168000000),
                                                     .extra = span_of("Be brief."),
                                                     .files = files,
                                                     .n_files = 1 });
        cleanup_free char *headless =
                prompt_make(&(struct prompt_config){ .now_us = UINT64_C(1795183168000000) });

        assert_non_null(strstr(desktop, "DISPLAY=:1"));
        assert_non_null(strstr(desktop, "1024x768"));
        assert_non_null(strstr(desktop, "orders.csv"));
        assert_non_null(strstr(desktop, "Friday, 20 November 2026"));
        assert_true(str_ends(desktop, "Be brief."));
        assert_null(strstr(headless, "DISPLAY"));
}

static void test_tool_table(void **state)
{
        assert_ptr_equal(tool_find("bash", NULL), &tool_bash);
        assert_ptr_equal(tool_find("left_click", "computer"), &tool_computer);
        assert_ptr_equal(tool_find("computer", NULL), &tool_computer);
        assert_ptr_equal(tool_find("document_put", NULL), &tool_document_put);
        assert_null(tool_find("left_click", NULL));
        assert_null(tool_find("rm", NULL));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_scale),          cmocka_unit_test(test_utf8),
                cmocka_unit_test(test_backoff),        cmocka_unit_test(test_prices),
                cmocka_unit_test(test_shipped_prices), cmocka_unit_test(test_settings),
                cmocka_unit_test(test_prompt),         cmocka_unit_test(test_tool_table),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
