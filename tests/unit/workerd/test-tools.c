/* Tools in a real headless slot: the persistent shell, files, cancelling, the time limit, bad
 * arguments. */
#include "tests/unit/common/unit.h"

#include "tests/unit/slot/fixture.h"
#include "workerd/tool.h"

struct scene {
        struct test_slot slot;
        struct tool_host host;
        struct buf live;
        bool done;
        struct tool_result result;
};

static void on_output(void *userdata, const char *call_id, int stream, struct span text)
{
        struct scene *s = userdata;

        assert_true(utf8_valid(text.data, text.len));
        buf_putf(&s->live, "%d<%.*s>", stream, (int) text.len, text.data);
}

static void on_done(void *userdata, struct tool_result *result)
{
        struct scene *s = userdata;

        tool_result_done(&s->result);
        s->result = *result;
        *result = (struct tool_result){ 0 };
        s->done = true;
}

static struct tool_run *begin(struct scene *s, const char *tool, const char *input)
{
        cleanup_json json_t *arguments = json_loads(input, 0, NULL);
        struct tool_run *run = NULL;

        if (!arguments)
                fail_msg("bad JSON in the test: %s", input);
        s->done = false;
        buf_done(&s->live);
        assert_int_equal(tool_start(&s->host, "call", tool, NULL, arguments, on_done, s, &run), 0);
        assert_false(s->done); /* always from the loop */
        return run;
}

static const char *text_of(const struct scene *s)
{
        const char *text =
                json_string_value(json_object_get(json_array_get(s->result.content, 0), "text"));

        return s->result.error ? s->result.error : text ? text : "";
}

static void call(struct scene *s, const char *tool, const char *input)
{
        (void) begin(s, tool, input);
        run_until(s->slot.event, s->done);
}

static void gives(struct scene *s, const char *tool, const char *input, const char *expected)
{
        call(s, tool, input);
        if (s->result.error)
                fail_msg("%s %s: %s", tool, input, s->result.error);
        assert_string_equal(text_of(s), expected);
}

static void fails(struct scene *s, const char *tool, const char *input, const char *part)
{
        call(s, tool, input);
        if (!s->result.error || !strstr(s->result.error, part))
                fail_msg("%s %s: expected an error with \"%s\", got: %s", tool, input, part,
                         text_of(s));
}

static int setup(void **state)
{
        struct scene *s = xnew(struct scene);

        s->slot.event = fixture_loop();
        test_slot_start(&s->slot, SLOT_KIND_HEADLESS, "tools");
        test_slot_wait_ready(&s->slot);
        slot_set_epoch(s->slot.slot, 5);
        s->host = (struct tool_host){ .event = s->slot.event,
                                      .slot = s->slot.slot,
                                      .epoch = 5,
                                      .tenant = "default",
                                      .session_id = "s",
                                      .on_output = on_output,
                                      .userdata = s };
        *state = s;
        return 0;
}

static int teardown(void **state)
{
        struct scene *s = *state;
        sd_event *e = s->slot.event;

        tool_host_close(&s->host);
        tool_result_done(&s->result);
        buf_done(&s->live);
        test_slot_destroy(&s->slot);
        fixture_loop_free(e);
        free(s);
        return 0;
}

static void test_the_shell(void **state)
{
        struct scene *s = *state;

        gives(s, "bash", "{\"command\":\"echo hi\"}", "hi");
        assert_true(s->result.has_exit_code && s->result.exit_code == 0);
        gives(s, "bash", "{\"command\":\"cd /tmp; X=kept\"}", "");
        gives(s, "bash", "{\"command\":\"pwd; echo $X; id -un\"}", "/tmp\nkept\nagent");
        gives(s, "bash", "{\"command\":\"echo warn >&2; echo out\"}", "out\n[stderr]\nwarn");
        gives(s, "bash", "{\"command\":\"cat; echo nothing to read\"}", "nothing to read");
        gives(s, "bash", "{\"command\":\"printf 'h\\\\303\\\\244 \\\\377'\"}",
              "h\xc3\xa4 \xef\xbf\xbd");
        fails(s, "bash", "{\"command\":\"ls /nowhere\"}", "No such file");
        fails(s, "bash", "{\"command\":\"nonsense_command\"}", "command not found");
        fails(s, "bash", "{\"command\":\"echo a; false\"}", "a\n[exit code 1]");
        fails(s, "bash", "{\"command\":\"echo \\\"open\"}", "[exit code 2]");
        gives(s, "bash", "{\"command\":\"echo $X\"}", "kept");
        fails(s, "bash", "{\"command\":\"echo bye; exit 4\"}",
              "bye\n[the shell exited with code 4");
        assert_int_equal(s->result.exit_code, 4);
        gives(s, "bash", "{\"command\":\"echo \\\"[$X]\\\"\"}", "[]");
        gives(s, "bash", "{\"restart\":true}", "The shell has been restarted.");
        gives(s, "bash", "{\"command\":\"pwd\"}", "/home/agent");
        fails(s, "bash", "{}", "No command");
        fails(s, "bash", "{\"command\":7}", "must be a string");
        fails(s, "bash", "{\"restart\":\"yes\"}", "true or false");
        fails(s, "bash", "{\"command\":\"kill -9 $$\"}", "ended by signal 9");
        gives(s, "bash", "{\"command\":\"echo new\"}", "new");
        fails(s, "rm", "{}", "There is no tool named rm");
        fails(s, "computer", "{\"action\":\"screenshot\"}", "There is no tool named computer here");
        fails(s, "document_put", "{\"path\":\"x\"}", "There is no tool named document_put here");
}

static void test_bash_output(void **state)
{
        struct scene *s = *state;

        call(s, "bash", "{\"command\":\"seq 1 100000\"}");
        assert_null(s->result.error);
        assert_true(strlen(text_of(s)) < 16200);
        assert_non_null(strstr(text_of(s), "clipped"));
        call(s, "bash",
             "{\"command\":\"head -c 3000000 /dev/zero | tr '\\\\0' x\"}"); /* no line end at all */
        assert_null(s->result.error);
        assert_true(strlen(text_of(s)) < 16200);
        gives(s, "bash", "{\"command\":\"echo fine\"}", "fine");
        assert_string_equal(s->live.data, "1<fine\n>");
        call(s, "bash", "{\"command\":\"(sleep 0.1; echo from the back) & echo started\"}");
        assert_string_equal(text_of(s), "started");
        call(s, "bash", "{\"command\":\"wait; echo next\"}");
        assert_non_null(strstr(text_of(s), "from the back"));
}

static unsigned sleepers(struct scene *s)
{
        struct test_run run = { 0 };
        unsigned n;

        test_bash(&s->slot, &run, "pgrep -c -x sleep");
        n = (unsigned) strtoul(run.out.data ? run.out.data : "0", NULL, 10);
        test_run_done(&run);
        return n;
}

static void test_cancel(void **state)
{
        struct scene *s = *state;
        struct tool_run *run;
        uint64_t began;

        s->host.epoch = 0; /* as the fixture's own commands */
        slot_set_epoch(s->slot.slot, 0);
        run = begin(s, "bash", "{\"command\":\"echo on; sleep 60\"}");
        while (!s->live.data)
                assert_true(sd_event_run(s->slot.event, 100000) >= 0);
        for (began = now_monotonic(); sleepers(s) != 1;)
                assert_true(now_monotonic() - began < 10 * USEC_PER_SEC);
        began = now_monotonic();
        tool_cancel(run);
        assert_true(now_monotonic() - began < 10 * USEC_PER_MSEC);
        for (began = now_monotonic(); sleepers(s) > 0;)
                assert_true(now_monotonic() - began < 2 * USEC_PER_SEC);
        assert_false(s->done);
        gives(s, "bash", "{\"command\":\"echo again\"}", "again");
        tool_cancel(begin(s, "str_replace_based_edit_tool",
                          "{\"command\":\"view\",\"path\":\"/etc/passwd\"}"));
        tool_cancel(begin(s, "rm", "{}"));
        assert_false(s->done);
}

static void test_time_limit(void **state)
{
        struct scene *s = *state;
        struct tool_run *run = begin(s, "bash", "{\"command\":\"sleep 60\"}");

        loop_timer_arm(&run->limit, 100 * USEC_PER_MSEC); /* instead of 120 s */
        run_until(s->slot.event, s->done);
        assert_non_null(strstr(s->result.error, "did not end within 120 s"));
        assert_non_null(strstr(s->result.error, "restart:true"));
        fails(s, "bash", "{\"command\":\"echo x\"}", "restart:true");
        gives(s, "bash", "{\"restart\":true}", "The shell has been restarted.");
        gives(s, "bash", "{\"command\":\"echo x\"}", "x");
}

static void test_stale_epoch(void **state)
{
        struct scene *s = *state;

        slot_set_epoch(s->slot.slot, 6); /* the slot belongs to somebody else now */
        fails(s, "bash", "{\"command\":\"touch /tmp/should-not-be\"}", "could not be started");
        fails(s, "str_replace_based_edit_tool",
              "{\"command\":\"create\",\"path\":\"/tmp/no\",\"file_text\":\"x\"}", "failed");
        s->host.epoch = 6;
        fails(s, "bash", "{\"command\":\"ls /tmp/should-not-be /tmp/no\"}", "No such file");
}

#define EDIT "str_replace_based_edit_tool"

static void test_edit(void **state)
{
        struct scene *s = *state;

        gives(s, EDIT,
              "{\"command\":\"create\",\"path\":\"/home/agent/d/"
              "f.txt\",\"file_text\":\"one\\n\\ttwo\\nthree\\n\"}",
              "File created successfully at: /home/agent/d/f.txt");
        gives(s, "bash", "{\"command\":\"cat d/f.txt\"}", "one\n\ttwo\nthree");
        gives(s, EDIT, "{\"command\":\"view\",\"path\":\"/home/agent/d/f.txt\"}",
              "Here's the result of running `cat -n` on /home/agent/d/f.txt:\n     1\tone\n     "
              "2\t\ttwo\n     3\tthree\n");
        call(s, EDIT,
             "{\"command\":\"str_replace\",\"path\":\"/home/agent/d/"
             "f.txt\",\"old_str\":\"three\",\"new_str\":\"3\"}");
        assert_null(s->result.error);
        call(s, EDIT,
             "{\"command\":\"insert\",\"path\":\"/home/agent/d/"
             "f.txt\",\"insert_line\":0,\"insert_text\":\"zero\"}");
        assert_null(s->result.error);
        gives(s, "bash", "{\"command\":\"cat d/f.txt; touch d/.hidden; mkdir d/e; touch d/e/g\"}",
              "zero\none\n\ttwo\n3");
        call(s, EDIT, "{\"command\":\"view\",\"path\":\"/home/agent/d\"}");
        assert_null(s->result.error);
        assert_non_null(strstr(text_of(s), "/home/agent/d/f.txt\n"));
        assert_non_null(strstr(text_of(s), "/home/agent/d/e/g\n"));
        assert_null(strstr(text_of(s), "hidden\n"));
}

static void test_edit_errors(void **state)
{
        struct scene *s = *state;
        static const char *const rows[][2] = {
                { "{}", "command is missing" },
                { "{\"command\":\"view\"}", "path is missing" },
                { "{\"command\":\"view\",\"path\":\"f\"}", "not absolute" },
                { "{\"command\":\"view\",\"path\":\"/home/agent/none\"}", "does not exist" },
                { "{\"command\":\"str_replace\",\"path\":\"/home/agent/none\",\"old_str\":\"a\"}",
                  "does not exist" },
                { "{\"command\":\"create\",\"path\":\"/home/agent/f\",\"file_text\":\"y\"}",
                  "already exists" },
                { "{\"command\":\"create\",\"path\":\"/home/agent/new\"}", "file_text is missing" },
                { "{\"command\":\"str_replace\",\"path\":\"/home/agent\",\"old_str\":\"a\"}",
                  "is a directory" },
                { "{\"command\":\"insert\",\"path\":\"/home/"
                  "agent\",\"insert_line\":1,\"insert_text\":\"a\"}",
                  "is a directory" },
                { "{\"command\":\"view\",\"path\":\"/home/agent\",\"view_range\":[1,2]}",
                  "not allowed when path is a directory" },
                { "{\"command\":\"view\",\"path\":\"/home/agent/f\",\"view_range\":[1]}",
                  "list of two integers" },
                { "{\"command\":\"view\",\"path\":\"/home/agent/f\",\"view_range\":[1,\"x\"]}",
                  "list of two integers" },
                { "{\"command\":\"view\",\"path\":\"/home/agent/f\",\"view_range\":[0,1]}",
                  "Invalid view_range" },
                { "{\"command\":\"view\",\"path\":\"/home/agent/f\",\"view_range\":[1,9]}",
                  "Invalid view_range" },
                { "{\"command\":\"str_replace\",\"path\":\"/home/agent/f\"}",
                  "old_str is missing" },
                { "{\"command\":\"str_replace\",\"path\":\"/home/agent/f\",\"old_str\":\"q\"}",
                  "did not appear" },
                { "{\"command\":\"str_replace\",\"path\":\"/home/agent/f\",\"old_str\":\"x\"}",
                  "more than once" },
                { "{\"command\":\"insert\",\"path\":\"/home/agent/f\",\"insert_text\":\"a\"}",
                  "insert_line is missing" },
                { "{\"command\":\"insert\",\"path\":\"/home/agent/f\",\"insert_line\":1}",
                  "insert_text is missing" },
                { "{\"command\":\"insert\",\"path\":\"/home/agent/"
                  "f\",\"insert_line\":9,\"insert_text\":\"a\"}",
                  "Invalid insert_line" },
                { "{\"command\":\"undo_edit\",\"path\":\"/home/agent/f\"}", "Unknown command" },
                { "{\"command\":\"create\",\"path\":\"/usr/x\",\"file_text\":\"y\"}", "failed" },
                { "{\"command\":\"view\",\"path\":\"/home/agent/big\"}", "larger than 4 MiB" },
                /* Two at once: the one that comes first in the reference's order is told. */
                { "{\"command\":\"view\",\"path\":\"none\",\"view_range\":[9]}", "not absolute" },
                { "{\"command\":\"view\",\"path\":\"/home/agent/none\",\"view_range\":[9]}",
                  "does not exist" },
                { "{\"command\":\"str_replace\",\"path\":\"/home/agent/none\"}", "does not exist" },
                { "{\"command\":\"create\",\"path\":\"/home/agent\"}", "already exists" },
                { "{\"command\":\"str_replace\",\"path\":\"/home/agent\"}", "is a directory" },
                { "{\"command\":\"insert\",\"path\":\"/home/agent\"}", "is a directory" },
                { "{\"command\":\"view\",\"path\":\"/home/agent\",\"view_range\":[9]}",
                  "not allowed when path is a directory" },
                { "{\"command\":\"view\",\"path\":\"/home/agent/f\",\"view_range\":[2,1]}",
                  "Invalid view_range" },
                { "{\"command\":\"insert\",\"path\":\"/home/agent/"
                  "f\",\"insert_line\":-1,\"insert_text\":\"a\"}",
                  "Invalid insert_line" },
        };

        gives(s, "bash",
              "{\"command\":\"printf 'x\\\\nx\\\\n' > f; head -c 5000000 /dev/zero > big\"}", "");
        for (size_t i = 0; i < ARRAY_LEN(rows); i++)
                fails(s, EDIT, rows[i][0], rows[i][1]);
        gives(s, "bash", "{\"command\":\"cat f\"}", "x\nx");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_the_shell, setup, teardown),
                cmocka_unit_test_setup_teardown(test_bash_output, setup, teardown),
                cmocka_unit_test_setup_teardown(test_cancel, setup, teardown),
                cmocka_unit_test_setup_teardown(test_time_limit, setup, teardown),
                cmocka_unit_test_setup_teardown(test_stale_epoch, setup, teardown),
                cmocka_unit_test_setup_teardown(test_edit, setup, teardown),
                cmocka_unit_test_setup_teardown(test_edit_errors, setup, teardown),
        };
        int r;

        fixture_begin(true);
        r = cmocka_run_group_tests(tests, NULL, NULL);
        fixture_finish();
        return r;
}
