/* The persistent shell's lines and end marks: a real bash reads the lines, every split of its
 * output is tried. */
#include "tests/unit/common/unit.h"

#include <unistd.h>

#include "workerd/shell-text.h"

#define TOKEN "0123456789abcdef0123456789abcdef:"

static void check(const char *output, size_t cut, const char *text, int64_t status,
                  const char *after)
{
        cleanup_buf struct buf got = BUF_INIT, rest = BUF_INIT;
        struct shell_stream s;
        size_t n = strlen(output);

        shell_stream_begin(&s, TOKEN);
        shell_stream_feed(&s, output, cut, &got, &rest);
        shell_stream_feed(&s, output + cut, n - cut, &got, &rest);
        assert_true(s.ended);
        assert_int_equal(s.status, status);
        assert_string_equal(got.data ? got.data : "", text);
        assert_string_equal(rest.data ? rest.data : "", after);
        shell_stream_done(&s);
}

static void test_splits(void **state)
{
        static const char output[] =
                "one\n0123456789 almost 0123456789abcdef0123\n" TOKEN "127\nlater";

        for (size_t cut = 0; cut <= strlen(output); cut++)
                check(output, cut, "one\n0123456789 almost 0123456789abcdef0123\n", 127, "later");
        check(TOKEN "0\n", 5, "", 0, "");
        check("no line end" TOKEN "0\n", 13, "no line end", 0, "");
        check(TOKEN "\n", 5, "", -1, "");
        check(TOKEN "forged forged forged", 5, "", -1, "");
}

static void test_text_is_not_held_back(void **state)
{
        cleanup_buf struct buf got = BUF_INIT, rest = BUF_INIT;
        struct shell_stream s;

        shell_stream_begin(&s, TOKEN);
        shell_stream_feed(&s, "progress 10%", 12, &got, &rest);
        assert_string_equal(got.data, "progress 10%");
        shell_stream_feed(&s, "0123", 4, &got, &rest);
        assert_string_equal(got.data, "progress 10%");
        shell_stream_done(&s);
}

/* Runs one command through a real bash as the tool does; the output with the mark cut away. */
static void run(const char *command, const char *expected, int64_t status)
{
        cleanup_buf struct buf lines = BUF_INIT, got = BUF_INIT, rest = BUF_INIT;
        char path[] = "/tmp/berth-shell-XXXXXX", line[4096];
        cleanup_free char *start = NULL;
        struct shell_stream s;
        int fd = mkstemp(path);
        ssize_t n;
        FILE *f;

        assert_true(fd >= 0);
        buf_puts(&lines, SHELL_SETUP);
        shell_line(&lines, command, TOKEN);
        assert_int_equal(write(fd, lines.data, lines.len), (ssize_t) lines.len);
        close(fd);
        start = xasprintf("timeout 10 /bin/bash --noprofile --norc < %s 2>/dev/null", path);
        f = popen(start, "r"); /* NOLINT(cert-env33-c): a fixed command */
        assert_non_null(f);
        shell_stream_begin(&s, TOKEN);
        while (!s.ended && (n = read(fileno(f), line, sizeof(line))) > 0)
                shell_stream_feed(&s, line, (size_t) n, &got, &rest);
        pclose(f);
        unlink(path);
        if (s.ended != (status >= 0))
                fail_msg("the shell %s after: %s", s.ended ? "lives" : "ended", command);
        assert_int_equal(s.ended ? s.status : -1, status);
        if (expected)
                assert_string_equal(got.data ? got.data : "", expected);
        shell_stream_done(&s);
}

static void test_real_bash(void **state)
{
        run("echo hi", "hi\n", 0);
        run("printf 'no end'", "no end", 0);
        run("false", "", 1);
        run("echo it\\'s 'quo''ted' \"$((1+1))\"", "it's quoted 2\n", 0);
        run("cat", "", 0); /* standard input is empty, not the next line */
        run("cat <<EOF\nnever ended", "never ended\n", 0);
        run("echo 'open quote", NULL, 2); /* a syntax error, not a swallowed mark */
        run("echo $(", NULL, 2);
        run("if true", NULL, 2);
        run("}", NULL, 2);
        run("echo hidden # a comment", "hidden\n", 0);
        run("set -x; echo traced", "traced\n", 0);
        run("exec >/dev/null; echo gone", "", 0); /* the mark still comes */
        run("(sleep 30 &) ; echo back", "back\n", 0);
        run("nonsense_command_of_no_system", "", 127);
        run("exit 3", "", -1); /* the shell is gone: there is no mark */
        run("set -u; echo ${nope:-x}", "x\n", 0);
        run("line() { echo $1\n}\nline two", "two\n", 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_splits),
                cmocka_unit_test(test_text_is_not_held_back),
                cmocka_unit_test(test_real_bash),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
