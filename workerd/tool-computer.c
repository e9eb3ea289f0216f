/* Tool `computer`: mouse, keyboard and pictures of a desktop slot. */
#include "scale.h"
#include "tool.h"

#define QUIET_MS 120
#define QUIET_MAX_MS 2000
#define SECONDS_MAX 100

/* One call: what was asked, in the screen's own pixels. */
struct computer {
        struct tool_run *run;
        struct screen *screen;
        struct scale scale;
        char *text;   /* said when it is done */
        bool picture; /* behind the text */
        struct loop_timer wait;
};

struct action {
        const char *name;
        void (*start)(struct computer *c);
        enum screen_button button; /* of clicks */
        unsigned count;
        const char *said;
};

static void computer_free(struct computer *c)
{
        screen_forget(c->screen, c);
        loop_timer_done(&c->wait);
        free(c->text);
        free(c);
}

static struct tool_run *computer_end(struct computer *c)
{
        struct tool_run *run = c->run;

        run->state = NULL;
        computer_free(c);
        return run;
}

static void computer_fail(struct computer *c, int r)
{
        struct tool_run *run;

        if (!c->run->state || c->run->finished)
                return;
        run = computer_end(c);
        if (r == -EINVAL)
                tool_finish_error(run,
                                  "The key, modifier or text cannot be typed on this keyboard.");
        else if (r == -ERANGE)
                tool_finish_error(run, "The place is outside the screen.");
        else
                tool_finish_error(run, "The screen did not take it: %s.", strerror(-r));
}

static void on_picture(void *userdata, int r, const void *png, size_t n, unsigned width,
                       unsigned height)
{
        struct computer *c = userdata;
        struct tool_result result = { 0 };
        struct tool_run *run;

        if (r < 0) {
                computer_fail(c, r);
                return;
        }
        if (c->text)
                result.content = json_pack("[{s:s,s:s}]", "type", "text", "text", c->text);
        result.picture = xmalloc(n);
        memcpy(result.picture, png, n);
        result.picture_size = n;
        result.picture_width = width;
        result.picture_height = height;
        run = computer_end(c);
        tool_finish(run, &result);
}

static void capture(struct computer *c)
{
        int r = screen_capture(c->screen, NULL, c->scale.width, c->scale.height, on_picture, c);

        if (r < 0)
                computer_fail(c, r);
}

static void on_quiet(void *userdata, int r)
{
        struct computer *c = userdata;

        if (r < 0) {
                computer_fail(c, r);
        } else if (c->picture) {
                capture(c);
        } else {
                cleanup_free char *text = TAKE_PTR(c->text);

                tool_finish_text(computer_end(c), "%s", text);
        }
}

/* The action was played: when the screen is quiet the result says so (and shows it, as older forms
 * expect). */
static void on_acted(void *userdata, int r)
{
        struct computer *c = userdata;

        if (r == 0)
                r = screen_wait_quiet(c->screen, QUIET_MS, QUIET_MAX_MS, on_quiet, c);
        if (r < 0)
                computer_fail(c, r);
}

static void acting(struct computer *c, int r)
{
        if (r < 0)
                computer_fail(c, r);
}

/* 0, or the run was ended with an error. has: was it given. */
static int read_point(struct computer *c, const char *key, bool required, struct screen_point *ret,
                      bool *has)
{
        const json_t *value = json_object_get(c->run->input, key);
        const json_t *x = json_array_get(value, 0), *y = json_array_get(value, 1);
        uint32_t sx = 0, sy = 0;

        *has = value && !json_is_null(value);
        if (!*has && !required)
                return 0;
        if (!*has) {
                tool_finish_error(computer_end(c), "%s is required.", key);
                return -EINVAL;
        }
        if (json_array_size(value) != 2 || !json_is_number(x) || !json_is_number(y)) {
                tool_finish_error(computer_end(c), "%s must be a list of two integers.", key);
                return -EINVAL;
        }
        if (json_number_value(x) < 0 || json_number_value(y) < 0 || json_number_value(x) > 1e6 ||
            json_number_value(y) > 1e6 ||
            scale_to_screen(&c->scale, (int64_t) json_number_value(x),
                            (int64_t) json_number_value(y), &sx, &sy) < 0) {
                uint32_t w = c->scale.width, h = c->scale.height;

                tool_finish_error(computer_end(c),
                                  "%s [%g, %g] is outside the screen, which is %" PRIu32 "x%" PRIu32
                                  ".",
                                  key, json_number_value(x), json_number_value(y), w, h);
                return -EINVAL;
        }
        *ret = (struct screen_point){ sx, sy };
        return 0;
}

/* The tool_arg_* functions end the run but not our state: 0, or both are ended. */
static int checked(struct computer *c, int r)
{
        if (r < 0)
                (void) computer_end(c);
        return r;
}

static int read_modifiers(struct computer *c, const char **ret)
{
        int r;

        *ret = NULL;
        r = checked(c, tool_arg_string(c->run, "text", false, ret));
        if (r == 0 && !*ret)
                r = checked(c, tool_arg_string(c->run, "key", false, ret));
        if (r == 0 && strempty(*ret))
                *ret = NULL;
        return r;
}

static int refuse(struct computer *c, const char *key)
{
        const json_t *value = json_object_get(c->run->input, key);

        if (!value || json_is_null(value))
                return 0;
        tool_finish_error(computer_end(c), "%s is not accepted for this action.", key);
        return -EINVAL;
}

static int read_seconds(struct computer *c, unsigned *ret_ms)
{
        const json_t *value = json_object_get(c->run->input, "duration");
        double s = json_number_value(value);

        if (!json_is_number(value) || !(s >= 0) || s > SECONDS_MAX) {
                tool_finish_error(computer_end(c),
                                  "duration must be a number of seconds from 0 to %d.",
                                  SECONDS_MAX);
                return -EINVAL;
        }
        *ret_ms = (unsigned) (s * 1000);
        return 0;
}

static const struct action *action_of(const struct tool_run *run);

static void start_click(struct computer *c)
{
        const struct action *a = action_of(c->run);
        struct screen_point at;
        const char *modifiers;
        bool has;

        if (read_point(c, "coordinate", false, &at, &has) < 0 || read_modifiers(c, &modifiers) < 0)
                return;
        acting(c, screen_click(c->screen, c->run->host->epoch, a->button, a->count,
                               has ? &at : NULL, modifiers, on_acted, c));
}

static void start_move(struct computer *c)
{
        struct screen_point at;
        bool has;

        if (refuse(c, "text") < 0 || read_point(c, "coordinate", true, &at, &has) < 0)
                return;
        acting(c, screen_move(c->screen, c->run->host->epoch, at, on_acted, c));
}

static void start_press(struct computer *c)
{
        acting(c, screen_press(c->screen, c->run->host->epoch, SCREEN_LEFT, on_acted, c));
}

static void start_release(struct computer *c)
{
        acting(c, screen_release(c->screen, c->run->host->epoch, SCREEN_LEFT, on_acted, c));
}

static void start_drag(struct computer *c)
{
        struct screen_point from, to;
        const char *modifiers;
        bool has, unused;

        if (read_point(c, "coordinate", true, &to, &unused) < 0 ||
            read_point(c, "start_coordinate", false, &from, &has) < 0 ||
            read_modifiers(c, &modifiers) < 0)
                return;
        if (!has)
                screen_cursor(c->screen, &from.x, &from.y);
        acting(c, screen_drag(c->screen, c->run->host->epoch, from, to, modifiers, on_acted, c));
}

static void start_scroll(struct computer *c)
{
        static const char *const names[] = { "up", "down", "left", "right" };
        const char *direction = NULL, *modifiers;
        struct screen_point at;
        int64_t amount = 0;
        size_t i = 0;
        bool has;

        if (read_point(c, "coordinate", false, &at, &has) < 0 ||
            checked(c, tool_arg_string(c->run, "scroll_direction", true, &direction)) < 0 ||
            checked(c, tool_arg_int(c->run, "scroll_amount", true, &amount)) < 0 ||
            read_modifiers(c, &modifiers) < 0)
                return;
        while (i < ARRAY_LEN(names) && !streq(names[i], direction))
                i++;
        if (i == ARRAY_LEN(names)) {
                tool_finish_error(computer_end(c),
                                  "scroll_direction must be up, down, left or right.");
                return;
        }
        if (amount < 0 || amount > 100) {
                tool_finish_error(computer_end(c),
                                  "scroll_amount must be an integer from 0 to 100.");
                return;
        }
        if (amount == 0) {
                on_acted(c, 0);
                return;
        }
        acting(c, screen_scroll(c->screen, c->run->host->epoch, (enum screen_scroll)(SCREEN_UP + i),
                                (unsigned) amount, has ? &at : NULL, modifiers, on_acted, c));
}

static void start_type(struct computer *c)
{
        const char *text = NULL;

        if (checked(c, tool_arg_string(c->run, "text", true, &text)) < 0 ||
            refuse(c, "coordinate") < 0)
                return;
        acting(c, screen_type(c->screen, c->run->host->epoch, text, strlen(text), on_acted, c));
}

static void start_key(struct computer *c)
{
        const char *keys = NULL;
        int64_t repeat = 1;

        if (checked(c, tool_arg_string(c->run, "text", true, &keys)) < 0 ||
            refuse(c, "coordinate") < 0 ||
            checked(c, tool_arg_int(c->run, "repeat", false, &repeat)) < 0)
                return;
        if (repeat < 1 || repeat > 100) {
                tool_finish_error(computer_end(c), "repeat must be an integer from 1 to 100.");
                return;
        }
        c->text = xasprintf("Pressed %s.", keys);
        acting(c, screen_key(c->screen, c->run->host->epoch, keys, (unsigned) repeat, on_acted, c));
}

static void start_hold(struct computer *c)
{
        const char *keys = NULL;
        unsigned ms;

        if (checked(c, tool_arg_string(c->run, "text", true, &keys)) < 0 ||
            refuse(c, "coordinate") < 0 || read_seconds(c, &ms) < 0)
                return;
        c->text = xasprintf("Held %s for %g s.", keys, ms / 1000.0);
        acting(c, screen_hold(c->screen, c->run->host->epoch, keys, ms, on_acted, c));
}

static void on_waited(void *userdata)
{
        on_acted(userdata, 0);
}

static void start_wait(struct computer *c)
{
        unsigned ms;
        int r;

        if (read_seconds(c, &ms) < 0)
                return;
        c->text = xasprintf("Waited %g s.", ms / 1000.0);
        r = loop_timer_init(&c->wait, c->run->host->event, on_waited, c);
        if (r < 0)
                computer_fail(c, r);
        else
                loop_timer_arm(&c->wait, ms * USEC_PER_MSEC);
}

static void start_cursor(struct computer *c)
{
        unsigned x, y;
        uint32_t px, py;

        screen_cursor(c->screen, &x, &y);
        scale_to_picture(&c->scale, x, y, &px, &py);
        tool_finish_text(computer_end(c), "X=%" PRIu32 ",Y=%" PRIu32, px, py);
}

static void start_screenshot(struct computer *c)
{
        free(c->text);
        c->text = NULL;
        capture(c);
}

/* region is [x0, y0, x1, y1] of the picture; shown as large as the picture allows. */
static void start_zoom(struct computer *c)
{
        const json_t *value = json_object_get(c->run->input, "region");
        int64_t n[4] = { 0 };
        uint32_t x0, y0, x1, y1;
        struct screen_region region;
        double grow;
        int r;

        for (size_t i = 0; i < 4; i++)
                n[i] = (int64_t) json_number_value(json_array_get(value, i));
        if (json_array_size(value) != 4 || n[2] <= n[0] || n[3] <= n[1] ||
            scale_to_screen(&c->scale, n[0], n[1], &x0, &y0) < 0 ||
            scale_to_screen(&c->scale, n[2] - 1, n[3] - 1, &x1, &y1) < 0) {
                tool_finish_error(
                        computer_end(c),
                        "region must be [x0, y0, x1, y1] within the screen, x0 < x1 and y0 < y1.");
                return;
        }
        region = (struct screen_region){ x0, y0, x1 - x0 + 1, y1 - y0 + 1 };
        grow = MIN((double) c->scale.width / region.width,
                   (double) c->scale.height / region.height);
        free(c->text);
        c->text = NULL;
        r = screen_capture(c->screen, &region, MAX((unsigned) (region.width * grow), 1U),
                           MAX((unsigned) (region.height * grow), 1U), on_picture, c);
        if (r < 0)
                computer_fail(c, r);
}

static const struct action actions[] = {
        { "key", start_key, .said = NULL },
        { "hold_key", start_hold, .said = NULL },
        { "type", start_type, .said = "Typed." },
        { "cursor_position", start_cursor, .said = NULL },
        { "mouse_move", start_move, .said = "Moved." },
        { "left_mouse_down", start_press, .said = "Pressed the left button." },
        { "left_mouse_up", start_release, .said = "Released the left button." },
        { "left_click", start_click, SCREEN_LEFT, 1, "Clicked." },
        { "right_click", start_click, SCREEN_RIGHT, 1, "Right-clicked." },
        { "middle_click", start_click, SCREEN_MIDDLE, 1, "Middle-clicked." },
        { "double_click", start_click, SCREEN_LEFT, 2, "Double-clicked." },
        { "triple_click", start_click, SCREEN_LEFT, 3, "Triple-clicked." },
        { "left_click_drag", start_drag, .said = "Dragged." },
        { "scroll", start_scroll, .said = "Scrolled." },
        { "wait", start_wait, .said = NULL },
        { "screenshot", start_screenshot, .said = NULL },
        { "zoom", start_zoom, .said = NULL },
};

/* The newest form calls the members by name, older ones name the action as an argument. */
static const char *action_name(const struct tool_run *run)
{
        return streq(run->toolset, "computer")
                       ? run->name
                       : json_string_value(json_object_get(run->input, "action"));
}

static const struct action *action_of(const struct tool_run *run)
{
        const char *name = action_name(run);

        for (size_t i = 0; i < ARRAY_LEN(actions); i++)
                if (streq(actions[i].name, name))
                        return &actions[i];
        return NULL;
}

static void computer_start(struct tool_run *run)
{
        struct screen *screen = run->host->slot ? slot_screen(run->host->slot) : NULL;
        const struct action *a = action_of(run);
        unsigned width, height;
        struct computer *c;

        if (!a) {
                const char *name = action_name(run);

                tool_finish_error(run, "There is no action named %s.",
                                  name ? name : "(none given)");
                return;
        }
        if (!screen || !screen_ready(screen)) {
                tool_finish_error(run, "The screen is not ready.");
                return;
        }
        c = xnew(struct computer);
        c->run = run;
        c->screen = screen;
        c->picture = !streq(run->toolset, "computer");
        c->text = xstrdup(a->said);
        screen_size(screen, &width, &height);
        scale_choose(width, height, &c->scale);
        run->state = c;
        a->start(c);
}

static void computer_stop(struct tool_run *run, bool timeout)
{
        struct computer *c = run->state;

        if (!c)
                return;
        run->state = NULL;
        if (run->host->slot && slot_screen(run->host->slot) == c->screen) {
                c->run = run;
                screen_forget(c->screen, c);
                screen_cancel(c->screen);
        }
        loop_timer_done(&c->wait);
        free(c->text);
        free(c);
}

static bool computer_present(const struct tool_host *h)
{
        return h->slot && slot_kind(h->slot) != SLOT_KIND_HEADLESS;
}

static bool computer_matches(const char *name, const char *toolset)
{
        return toolset ? streq(toolset, "computer") : streq(name, "computer");
}

const struct tool tool_computer = {
        .spec = {
                .name = "computer",
                .description = "Mouse, keyboard and screenshots of the slot's desktop.",
                .schema = "{\"type\":\"object\",\"required\":[\"action\"],\"properties\":{\"action\":{\"type\":\"string\"},"
                          "\"coordinate\":{\"type\":\"array\",\"items\":{\"type\":\"integer\"}},"
                          "\"start_coordinate\":{\"type\":\"array\",\"items\":{\"type\":\"integer\"}},"
                          "\"text\":{\"type\":\"string\"},\"scroll_direction\":{\"type\":\"string\"},"
                          "\"scroll_amount\":{\"type\":\"integer\"},\"duration\":{\"type\":\"number\"},"
                          "\"repeat\":{\"type\":\"integer\"},"
                          "\"region\":{\"type\":\"array\",\"items\":{\"type\":\"integer\"}}}}",
                .native = PROVIDER_NATIVE_COMPUTER,
        },
        .limit_usec = 130 * USEC_PER_SEC,
        .present = computer_present,
        .matches = computer_matches,
        .start = computer_start,
        .stop = computer_stop,
};
