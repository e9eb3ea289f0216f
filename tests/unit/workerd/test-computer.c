/* The computer tool on a real desktop slot: both forms, arguments, bounds, pictures, cancelling. */
#include "tests/unit/common/unit.h"

#include "tests/unit/slot/fixture.h"
#include "workerd/tool.h"

struct scene {
        struct test_slot slot;
        struct tool_host host;
        bool done;
        struct tool_result result;
};

static void on_done(void *userdata, struct tool_result *result)
{
        struct scene *s = userdata;

        tool_result_done(&s->result);
        s->result = *result;
        *result = (struct tool_result){ 0 };
        s->done = true;
}

static struct tool_run *begin(struct scene *s, const char *name, const char *toolset,
                              const char *input)
{
        cleanup_json json_t *arguments = json_loads(input, 0, NULL);
        struct tool_run *run = NULL;

        if (!arguments)
                fail_msg("bad JSON in the test: %s", input);
        s->done = false;
        assert_int_equal(tool_start(&s->host, "call", name, toolset, arguments, on_done, s, &run),
                         0);
        return run;
}

static const char *text_of(const struct scene *s)
{
        const char *text =
                json_string_value(json_object_get(json_array_get(s->result.content, 0), "text"));

        return s->result.error ? s->result.error : text ? text : "";
}

/* The newest form: members by name, no picture unless asked. */
static void member(struct scene *s, const char *name, const char *input, const char *text)
{
        (void) begin(s, name, "computer", input);
        run_until(s->slot.event, s->done);
        if (s->result.error)
                fail_msg("%s %s: %s", name, input, s->result.error);
        assert_string_equal(text_of(s), text);
}

static void refused(struct scene *s, const char *name, const char *input, const char *part)
{
        (void) begin(s, name, "computer", input);
        run_until(s->slot.event, s->done);
        if (!s->result.error || !strstr(s->result.error, part))
                fail_msg("%s %s: expected \"%s\", got: %s", name, input, part, text_of(s));
}

static void open_scene(struct scene *s)
{
        *s = (struct scene){ 0 };
        s->slot.event = fixture_loop();
        test_slot_start(&s->slot, SLOT_KIND_DESKTOP, "computer");
        test_slot_wait_ready(&s->slot);
        slot_set_epoch(s->slot.slot, 5);
        s->host = (struct tool_host){ .event = s->slot.event,
                                      .slot = s->slot.slot,
                                      .epoch = 5,
                                      .tenant = "default",
                                      .session_id = "s" };
}

static void close_scene(struct scene *s)
{
        sd_event *e = s->slot.event;

        tool_host_close(&s->host);
        tool_result_done(&s->result);
        test_slot_destroy(&s->slot);
        fixture_loop_free(e);
}

static void test_members(void **state)
{
        struct scene s;

        open_scene(&s);
        member(&s, "left_click", "{\"coordinate\":[200,150]}", "Clicked.");
        assert_null(s.result.picture);
        member(&s, "cursor_position", "{}", "X=200,Y=150");
        member(&s, "mouse_move", "{\"coordinate\":[10,20]}", "Moved.");
        member(&s, "cursor_position", "{}", "X=10,Y=20");
        member(&s, "screenshot", "{}", "");
        assert_non_null(s.result.picture);
        assert_int_equal(s.result.picture_width, 1280);
        assert_int_equal(s.result.picture_height, 800);
        assert_memory_equal(s.result.picture, "\x89PNG", 4);
        member(&s, "zoom", "{\"region\":[0,0,320,200]}", "");
        assert_int_equal(s.result.picture_width, 1280);
        assert_int_equal(s.result.picture_height, 800);
        member(&s, "zoom", "{\"region\":[1180,700,1280,800]}", "");
        assert_int_equal(s.result.picture_width, 800);
        member(&s, "right_click", "{\"coordinate\":[300,300],\"text\":\"ctrl+shift\"}",
               "Right-clicked.");
        member(&s, "key", "{\"text\":\"Escape\"}", "Pressed Escape.");
        member(&s, "key", "{\"text\":\"Tab\",\"repeat\":3.0}", "Pressed Tab.");
        member(&s, "double_click", "{}", "Double-clicked.");
        member(&s, "triple_click", "{\"coordinate\":[5,5]}", "Triple-clicked.");
        member(&s, "middle_click", "{\"coordinate\":[5,5]}", "Middle-clicked.");
        member(&s, "key", "{\"text\":\"Escape\"}", "Pressed Escape.");
        member(&s, "left_click_drag", "{\"start_coordinate\":[400,400],\"coordinate\":[500,500]}",
               "Dragged.");
        member(&s, "left_mouse_down", "{}", "Pressed the left button.");
        member(&s, "left_mouse_up", "{}", "Released the left button.");
        member(&s, "scroll",
               "{\"scroll_direction\":\"down\",\"scroll_amount\":3,\"coordinate\":[5,5]}",
               "Scrolled.");
        member(&s, "scroll", "{\"scroll_direction\":\"left\",\"scroll_amount\":0}", "Scrolled.");
        member(&s, "type", "{\"text\":\"h\\u00e9llo \\u20ac\\n\"}", "Typed.");
        member(&s, "hold_key", "{\"text\":\"shift\",\"duration\":0.05}", "Held shift for 0.05 s.");
        member(&s, "wait", "{\"duration\":0.01}", "Waited 0.01 s.");
        close_scene(&s);
}

/* The older forms: one tool, an action, a picture with every result. */
static void test_actions(void **state)
{
        struct scene s;

        open_scene(&s);
        (void) begin(&s, "computer", NULL, "{\"action\":\"left_click\",\"coordinate\":[100,100]}");
        run_until(s.slot.event, s.done);
        assert_string_equal(text_of(&s), "Clicked.");
        assert_non_null(s.result.picture);
        (void) begin(&s, "computer", NULL, "{\"action\":\"screenshot\"}");
        run_until(s.slot.event, s.done);
        assert_non_null(s.result.picture);
        assert_null(s.result.content);
        (void) begin(&s, "computer", NULL, "{}");
        run_until(s.slot.event, s.done);
        assert_non_null(strstr(s.result.error, "no action named"));
        close_scene(&s);
}

static void test_refusals(void **state)
{
        static const char *const rows[][3] = {
                { "dance", "{}", "no action named dance" },
                { "mouse_move", "{}", "coordinate is required" },
                { "mouse_move", "{\"coordinate\":[1,1],\"text\":\"x\"}", "text is not accepted" },
                { "left_click", "{\"coordinate\":[1280,0]}",
                  "outside the screen, which is 1280x800" },
                { "left_click", "{\"coordinate\":[0,-1]}", "outside the screen" },
                { "left_click", "{\"coordinate\":[1e300,0]}", "outside the screen" },
                { "left_click", "{\"coordinate\":[1]}", "list of two integers" },
                { "left_click", "{\"coordinate\":\"here\"}", "list of two integers" },
                { "left_click", "{\"coordinate\":[1,1],\"text\":5}", "must be a string" },
                { "left_click", "{\"coordinate\":[1,1],\"text\":\"nokey\"}", "cannot be typed" },
                { "left_click_drag", "{\"start_coordinate\":[1,1]}", "coordinate is required" },
                { "scroll", "{\"scroll_amount\":1}", "scroll_direction is missing" },
                { "scroll", "{\"scroll_direction\":\"in\",\"scroll_amount\":1}",
                  "up, down, left or right" },
                { "scroll", "{\"scroll_direction\":\"up\",\"scroll_amount\":-1}", "0 to 100" },
                { "scroll", "{\"scroll_direction\":\"up\",\"scroll_amount\":1.5}",
                  "must be an integer" },
                { "scroll", "{\"scroll_direction\":\"up\"}", "scroll_amount is missing" },
                { "type", "{}", "text is missing" },
                { "type", "{\"text\":\"x\",\"coordinate\":[1,1]}", "coordinate is not accepted" },
                { "key", "{\"text\":\"notakey\"}", "cannot be typed" },
                { "key", "{\"text\":\"a\",\"repeat\":0}", "repeat must be" },
                { "hold_key", "{\"text\":\"a\",\"duration\":-1}", "0 to 100" },
                { "hold_key", "{\"text\":\"a\"}", "0 to 100" },
                { "wait", "{\"duration\":101}", "0 to 100" },
                { "wait", "{\"duration\":\"long\"}", "0 to 100" },
                { "zoom", "{}", "region must be" },
                { "zoom", "{\"region\":[5,5,5,9]}", "region must be" },
                { "zoom", "{\"region\":[0,0,1281,800]}", "region must be" },
                { "zoom", "{\"region\":[-1,0,5,5]}", "region must be" },
        };
        struct scene s;

        open_scene(&s);
        for (size_t i = 0; i < ARRAY_LEN(rows); i++)
                refused(&s, rows[i][0], rows[i][1], rows[i][2]);
        slot_set_epoch(s.slot.slot, 6);
        refused(&s, "left_click", "{\"coordinate\":[1,1]}", "did not take it"); /* an old lease */
        close_scene(&s);
}

static void test_cancel_and_lost_slot(void **state)
{
        static const char *const inputs[][2] = {
                { "hold_key", "{\"text\":\"a\",\"duration\":60}" },
                { "wait", "{\"duration\":60}" },
                { "left_click", "{\"coordinate\":[1,1]}" },
                { "screenshot", "{}" },
                { "type", "{\"text\":\"a long text that takes a while to type\"}" },
        };
        struct scene s;

        open_scene(&s);
        for (size_t i = 0; i < ARRAY_LEN(inputs); i++)
                for (unsigned turns = 0; turns < 4; turns++) {
                        struct tool_run *run = begin(&s, inputs[i][0], "computer", inputs[i][1]);

                        for (unsigned k = 0; k < turns && !s.done; k++)
                                assert_true(sd_event_run(s.slot.event, 2000) >= 0);
                        if (!s.done)
                                tool_cancel(run);
                }
        member(&s, "left_click", "{\"coordinate\":[9,9]}", "Clicked.");
        (void) begin(&s, "hold_key", "computer", inputs[0][1]);
        assert_int_equal(slot_reset(s.slot.slot),
                         0); /* the slot goes away under a running action */
        run_until(s.slot.event, s.done);
        assert_non_null(s.result.error);
        close_scene(&s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_members),
                cmocka_unit_test(test_actions),
                cmocka_unit_test(test_refusals),
                cmocka_unit_test(test_cancel_and_lost_slot),
        };
        int r;

        fixture_begin(true);
        r = cmocka_run_group_tests(tests, NULL, NULL);
        fixture_finish();
        return r;
}
