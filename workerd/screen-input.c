/* Input actions: each becomes a list of steps, which a player hands to the server with pauses in
 * between. */
#include "keys.h"
#include "screen-private.h"

/* Between the clicks of a double click and the stations of a drag: programs read what they get,
 * these only keep events from being one and the same moment. */
#define CLICK_PAUSE (10 * USEC_PER_MSEC)
#define DRAG_PAUSE (8 * USEC_PER_MSEC)
#define DRAG_STATIONS 8
#define WHEEL_PAUSE (4 * USEC_PER_MSEC)
/* A burst of characters, then the server and the program get a moment. */
#define TYPE_BURST 16
#define TYPE_PAUSE (2 * USEC_PER_MSEC)
/* A character without a key gets one when it is first used; programs must read the new layout
 * meanwhile. */
#define NEW_KEY_PAUSE (30 * USEC_PER_MSEC)
/* A paste is over when the screen has been quiet for a while; in a machine, which may take its time
 * to begin, not before it showed something. */
#define SETTLE_QUIET (80 * USEC_PER_MSEC)
#define SETTLE_MAX (1000 * USEC_PER_MSEC)
#define SETTLE_MAX_MACHINE (3 * USEC_PER_SEC)

static void add(struct screen_action *a, enum step_kind kind, bool down, unsigned x, uint32_t value)
{
        if (a->n == a->room) {
                a->room = a->room ? 2 * a->room : 8;
                a->steps = xrealloc(a->steps, a->room, sizeof(*a->steps));
        }
        a->steps[a->n++] = (struct step){
                .kind = (uint8_t) kind, .down = down, .x = (uint16_t) x, .value = value
        };
}

static void add_pause(struct screen_action *a, uint64_t usec)
{
        add(a, STEP_PAUSE, false, 0, (uint32_t) usec);
}

static void add_combo(struct screen_action *a, const struct key_combo *k, bool down)
{
        for (unsigned i = 0; i < k->n; i++)
                add(a, STEP_KEY, down, 0, k->keysym[down ? i : k->n - 1 - i]);
}

static void add_click(struct screen_action *a, unsigned button)
{
        add(a, STEP_BUTTON, true, 0, button);
        add(a, STEP_BUTTON, false, 0, button);
}

static void action_free(struct screen_action *a)
{
        buf_done(&a->text);
        free(a->steps);
        free(a);
}

static int begin(struct screen *s, uint64_t epoch, const struct screen_point *at,
                 struct screen_action **ret)
{
        if (!s->ready || s->ended || s->freed)
                return -ENOTCONN;
        if (epoch != (s->config.epoch ? *s->config.epoch : 0))
                return -ESTALE;
        if (s->n_actions >= SCREEN_ACTIONS_MAX)
                return -EAGAIN;
        if (at && (at->x >= s->width || at->y >= s->height))
                return -ERANGE;
        *ret = xnew(struct screen_action);
        if (at)
                add(*ret, STEP_MOVE, false, at->x, at->y);
        return 0;
}

static int queue(struct screen *s, struct screen_action *a, screen_done_fn fn, void *userdata)
{
        a->fn = fn;
        a->userdata = userdata;
        a->number = ++s->last_number;
        s->n_actions++;
        list_push_back(&s->actions, &a->link);
        /* The first step is taken from the loop: no callback from inside the caller. */
        if (!s->paused && !s->pasting && !loop_timer_armed(&s->pace))
                loop_timer_arm(&s->pace, 0);
        return 0;
}

/* --- the actions ------------------------------------------------------------------------------ */

int screen_move(struct screen *s, uint64_t epoch, struct screen_point to, screen_done_fn fn,
                void *userdata)
{
        struct screen_action *a = NULL;
        int r = begin(s, epoch, &to, &a);
        return r < 0 || !a ? r : queue(s, a, fn, userdata);
}

static int button_action(struct screen *s, uint64_t epoch, enum screen_button button, bool down,
                         screen_done_fn fn, void *userdata)
{
        struct screen_action *a = NULL;
        if (button < SCREEN_LEFT || button > SCREEN_RIGHT)
                return -EINVAL;
        int r = begin(s, epoch, NULL, &a);
        if (r < 0 || !a)
                return r;
        add(a, STEP_BUTTON, down, 0, button);
        return queue(s, a, fn, userdata);
}

int screen_press(struct screen *s, uint64_t epoch, enum screen_button button, screen_done_fn fn,
                 void *userdata)
{
        return button_action(s, epoch, button, true, fn, userdata);
}

int screen_release(struct screen *s, uint64_t epoch, enum screen_button button, screen_done_fn fn,
                   void *userdata)
{
        return button_action(s, epoch, button, false, fn, userdata);
}

/* count clicks of any of the seven buttons */
static int clicks(struct screen *s, uint64_t epoch, unsigned button, unsigned count, uint64_t pause,
                  const struct screen_point *at, const char *modifiers, screen_done_fn fn,
                  void *userdata)
{
        struct screen_action *a = NULL;
        struct key_combo held;
        int r = keys_parse_modifiers(modifiers, &held);
        if (r == 0)
                r = begin(s, epoch, at, &a);
        if (r < 0 || !a)
                return r;
        add_combo(a, &held, true);
        for (unsigned i = 0; i < count; i++) {
                if (i > 0)
                        add_pause(a, pause);
                add_click(a, button);
        }
        add_combo(a, &held, false);
        return queue(s, a, fn, userdata);
}

int screen_click(struct screen *s, uint64_t epoch, enum screen_button button, unsigned count,
                 const struct screen_point *at, const char *modifiers, screen_done_fn fn,
                 void *userdata)
{
        if (button < SCREEN_LEFT || button > SCREEN_RIGHT || count < 1 || count > 3)
                return -EINVAL;
        return clicks(s, epoch, button, count, CLICK_PAUSE, at, modifiers, fn, userdata);
}

int screen_scroll(struct screen *s, uint64_t epoch, enum screen_scroll direction, unsigned amount,
                  const struct screen_point *at, const char *modifiers, screen_done_fn fn,
                  void *userdata)
{
        if (direction < SCREEN_UP || direction > SCREEN_SCROLL_RIGHT || amount < 1 || amount > 100)
                return -EINVAL;
        return clicks(s, epoch, direction, amount, WHEEL_PAUSE, at, modifiers, fn, userdata);
}

int screen_drag(struct screen *s, uint64_t epoch, struct screen_point from, struct screen_point to,
                const char *modifiers, screen_done_fn fn, void *userdata)
{
        struct screen_action *a = NULL;
        struct key_combo held;
        if (to.x >= s->width || to.y >= s->height)
                return -ERANGE;
        int r = keys_parse_modifiers(modifiers, &held);
        if (r == 0)
                r = begin(s, epoch, &from, &a);
        if (r < 0 || !a)
                return r;
        add_combo(a, &held, true);
        add_pause(a, DRAG_PAUSE);
        add(a, STEP_BUTTON, true, 0, SCREEN_LEFT);
        for (int i = 1; i <= DRAG_STATIONS; i++) {
                int x = (int) from.x + ((int) to.x - (int) from.x) * i / DRAG_STATIONS;
                int y = (int) from.y + ((int) to.y - (int) from.y) * i / DRAG_STATIONS;
                add_pause(a, DRAG_PAUSE);
                add(a, STEP_MOVE, false, (unsigned) x, (uint32_t) y);
        }
        add_pause(a, DRAG_PAUSE);
        add(a, STEP_BUTTON, false, 0, SCREEN_LEFT);
        add_combo(a, &held, false);
        return queue(s, a, fn, userdata);
}

static void add_char(struct screen_action *a, const struct key_char *k)
{
        if (k->shift)
                add(a, STEP_KEY, true, 0, KEYS_SHIFT);
        add(a, STEP_KEY, true, 0, k->keysym);
        add(a, STEP_KEY, false, 0, k->keysym);
        if (k->shift)
                add(a, STEP_KEY, false, 0, KEYS_SHIFT);
}

static bool is_assigned(const struct screen *s, uint32_t keysym)
{
        for (unsigned i = 0; i < s->n_assigned; i++)
                if (s->assigned[i] == keysym)
                        return true;
        return false;
}

/* Whether every character of the line is on a key or can get one; remembers those that will. */
static bool line_has_keys(struct screen *s, const char *line, const char *end)
{
        uint32_t fresh[SCREEN_SPARE_KEYS];
        unsigned n = s->n_assigned;
        const unsigned room = s->config.no_spare_keys ? 0 : SCREEN_SPARE_KEYS;
        memcpy(fresh, s->assigned, sizeof(fresh));
        const char *at = line;
        for (uint32_t c; (c = keys_next_char(&at, end)) != 0;) {
                struct key_char k;
                bool found = keys_of_char(c, &k) < 0 || k.known;
                for (unsigned i = 0; i < n && !found; i++)
                        found = fresh[i] == k.keysym;
                if (found)
                        continue;
                if (n >= room)
                        return !s->config.paste;
                fresh[n++] = k.keysym;
        }
        return true;
}

static int type_line(struct screen *s, struct screen_action *a, const char *at, const char *end,
                     unsigned *burst)
{
        struct key_char k;
        for (uint32_t c; (c = keys_next_char(&at, end)) != 0;) {
                if (keys_of_char(c, &k) < 0)
                        return -EINVAL;
                bool fresh = !k.known && !is_assigned(s, k.keysym);
                if (fresh)
                        add_pause(a, NEW_KEY_PAUSE);
                if (fresh && s->n_assigned < SCREEN_SPARE_KEYS)
                        s->assigned[s->n_assigned++] = k.keysym;
                add_char(a, &k);
                if (fresh)
                        add_pause(a, NEW_KEY_PAUSE);
                else if (++*burst % TYPE_BURST == 0)
                        add_pause(a, TYPE_PAUSE);
        }
        return 0;
}

static int paste_line(struct screen_action *a, const char *line, const char *end)
{
        const char *at = line;
        struct key_char k;
        for (uint32_t c; (c = keys_next_char(&at, end)) != 0;)
                if (c != '\t' && (c < ' ' || keys_of_char(c, &k) < 0))
                        return -EINVAL;
        struct key_combo insert = { .keysym = { KEYS_SHIFT, KEYS_INSERT }, .n = 2 };
        buf_put(&a->text, line, (size_t) (end - line));
        add(a, STEP_PASTE, false, 0, (uint32_t) (end - line));
        add_combo(a, &insert, true);
        add_combo(a, &insert, false);
        add(a, STEP_SETTLE, false, 0, 0);
        return 0;
}

int screen_type(struct screen *s, uint64_t epoch, const char *text, size_t n, screen_done_fn fn,
                void *userdata)
{
        struct screen_action *a = NULL;
        if (n > SCREEN_TEXT_MAX || !utf8_valid(text, n))
                return -EINVAL;
        int r = begin(s, epoch, NULL, &a);
        if (r < 0 || !a)
                return r;
        unsigned burst = 0;
        const struct key_char enter = { .keysym = KEYS_RETURN };
        for (const char *at = text, *end = text + n; at < end && r == 0;) {
                const char *newline = memchr(at, '\n', (size_t) (end - at));
                const char *stop = newline ? newline : end;
                const char *line_end = newline && stop > at && stop[-1] == '\r' ? stop - 1 : stop;
                r = line_has_keys(s, at, line_end) ? type_line(s, a, at, line_end, &burst)
                                                   : paste_line(a, at, line_end);
                if (newline)
                        add_char(a, &enter);
                at = newline ? newline + 1 : end;
        }
        if (r < 0) {
                action_free(a);
                return r;
        }
        return queue(s, a, fn, userdata);
}

int screen_key(struct screen *s, uint64_t epoch, const char *keys, unsigned repeat,
               screen_done_fn fn, void *userdata)
{
        struct screen_action *a = NULL;
        if (repeat < 1 || repeat > 100 || strempty(keys))
                return -EINVAL;
        int r = begin(s, epoch, NULL, &a);
        if (r < 0 || !a)
                return r;
        for (unsigned i = 0; i < repeat && r == 0; i++)
                for (const char *at = keys + strspn(keys, " "); *at && r == 0;) {
                        struct key_combo k;
                        size_t n = strcspn(at, " ");
                        r = keys_parse(at, n, &k);
                        if (r < 0)
                                break;
                        add_combo(a, &k, true);
                        add_combo(a, &k, false);
                        add_pause(a, TYPE_PAUSE);
                        at += n;
                        at += strspn(at, " ");
                }
        if (r == 0 && a->n == 0)
                r = -EINVAL;
        if (r < 0) {
                action_free(a);
                return r;
        }
        return queue(s, a, fn, userdata);
}

int screen_hold(struct screen *s, uint64_t epoch, const char *keys, unsigned milliseconds,
                screen_done_fn fn, void *userdata)
{
        struct screen_action *a = NULL;
        struct key_combo k;
        if (milliseconds > 1000 * 1000 || strempty(keys))
                return -EINVAL;
        int r = keys_parse(keys, strlen(keys), &k);
        if (r == 0)
                r = begin(s, epoch, NULL, &a);
        if (r < 0 || !a)
                return r;
        add_combo(a, &k, true);
        add_pause(a, milliseconds * USEC_PER_MSEC);
        add_combo(a, &k, false);
        return queue(s, a, fn, userdata);
}

/* --- the player ------------------------------------------------------------------------------- */

static void note_key(struct screen *s, uint32_t keysym, bool down)
{
        for (unsigned i = 0; i < s->n_held; i++)
                if (s->held[i] == keysym) {
                        if (!down)
                                s->held[i] = s->held[--s->n_held];
                        return;
                }
        if (down && s->n_held < SCREEN_HELD_MAX)
                s->held[s->n_held++] = keysym;
}

static int order_key(struct screen *s, bool down, uint32_t keysym)
{
        const struct decoder_order o = { .kind = ORDER_KEY, .key = { down, keysym } };
        return screen_order(s, &o);
}

static int order_pointer(struct screen *s, unsigned buttons, unsigned x, unsigned y)
{
        const struct decoder_order o = { .kind = ORDER_POINTER, .pointer = { buttons, x, y } };
        return screen_order(s, &o);
}

/* -EAGAIN: the decoder does not read; the step stays. */
static int take_step(struct screen *s, const struct step *step)
{
        unsigned bit;
        int r;
        switch (step->kind) {
        case STEP_KEY:
                r = order_key(s, step->down, step->value);
                if (r == 0)
                        note_key(s, step->value, step->down);
                return r;
        case STEP_MOVE:
                r = order_pointer(s, s->buttons, step->x, step->value);
                if (r == 0) {
                        s->x = step->x;
                        s->y = step->value;
                }
                return r;
        case STEP_BUTTON:
                bit = 1U << (step->value - 1);
                bit = step->down ? s->buttons | bit : s->buttons & ~bit;
                r = order_pointer(s, bit, s->x, s->y);
                if (r == 0)
                        s->buttons = bit;
                return r;
        default:
                return 0;
        }
}

static void action_end(struct screen *s, struct screen_action *a, int r)
{
        s->n_actions--;
        s->done_number = a->number;
        list_remove(&a->link);
        if (a->fn)
                a->fn(a->userdata, r);
        action_free(a);
}

static void on_pasted(void *userdata, int r)
{
        struct screen *s = userdata;
        struct screen_action *a = list_first(&s->actions, struct screen_action, link);
        s->pasting = false;
        if (s->ended || s->freed)
                return;
        /* After a cancel the first action is another one, at its own beginning. */
        bool ours = a && a->next > 0 && a->steps[a->next - 1].kind == STEP_PASTE;
        if (r < 0 && ours)
                action_end(s, a, r);
        if (!s->freed)
                screen_play(s);
}

/* What holds the player up after a step. -EAGAIN: it must wait. */
static int hold_up(struct screen *s, struct screen_action *a, const struct step *step)
{
        int r;
        switch (step->kind) {
        case STEP_KEY:
                loop_timer_arm(&s->pace, s->config.key_gap);
                return -EAGAIN;
        case STEP_PAUSE:
                loop_timer_arm(&s->pace, step->value);
                return -EAGAIN;
        case STEP_SETTLE:
                s->settle_started = now_monotonic();
                loop_timer_arm(&s->pace, SETTLE_QUIET);
                return -EAGAIN;
        case STEP_PASTE:
                r = s->config.paste(s->config.userdata, a->text.data + a->pasted, step->value,
                                    on_pasted, s);
                a->pasted += step->value;
                s->pasting = r == 0;
                return r < 0 ? r : -EAGAIN;
        default:
                return 0;
        }
}

/* Plays the first action up to where it must wait: -EAGAIN. 0 when it is at its end and all was
 * sent. */
static int play_one(struct screen *s, struct screen_action *a)
{
        while (a->next < a->n) {
                const struct step *step = &a->steps[a->next];
                if (take_step(s, step) < 0) {
                        s->paused = true; /* until the decoder takes more, which plays on */
                        return -EAGAIN;
                }
                a->next++;
                if (step->kind < STEP_KEY || (step->kind == STEP_KEY && s->config.key_gap == 0))
                        continue;
                (void) !screen_flush(s); /* what is left goes when there is room */
                int r = hold_up(s, a, step);
                if (r < 0)
                        return r;
        }
        s->paused = screen_flush(s) < 0;
        return s->paused ? -EAGAIN : 0;
}

void screen_play(struct screen *s)
{
        if (loop_timer_armed(&s->pace) || s->pasting)
                return;
        s->paused = false;
        while (!s->ended && !s->freed) {
                struct screen_action *a = list_first(&s->actions, struct screen_action, link);
                int r = a ? play_one(s, a) : -EAGAIN;
                if (r == -EAGAIN)
                        break;
                action_end(s, a, r);
        }
        if (!s->freed)
                screen_look_at_waiters(s);
}

static uint64_t settle_end(const struct screen *s)
{
        bool machine = s->config.key_gap > 0;
        uint64_t last = s->settle_started + (machine ? SETTLE_MAX_MACHINE : SETTLE_MAX);
        if (machine && s->changed_at <= s->settle_started)
                return last;
        return MIN(last, MAX(s->changed_at, s->settle_started) + SETTLE_QUIET);
}

void screen_on_pace(void *userdata)
{
        struct screen *s = userdata;
        uint64_t now = now_monotonic();
        if (s->settle_started) {
                uint64_t end = settle_end(s);
                if (now < end) {
                        loop_timer_arm(&s->pace, MIN(end - now, SETTLE_QUIET));
                        return;
                }
                s->settle_started = 0;
        }
        screen_play(s);
}

void screen_actions_end(struct screen *s, int r)
{
        struct screen_action *a = NULL;
        while ((a = list_first(&s->actions, struct screen_action, link)))
                /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the list lets go of what is freed */
                action_end(s, a, r);
}

void screen_release_all(struct screen *s)
{
        if (s->ended || s->freed)
                return;
        for (unsigned i = 0; i < s->n_held; i++)
                (void) !order_key(s, false, s->held[i]);
        s->n_held = 0;
        if (s->buttons)
                (void) !order_pointer(s, 0, s->x, s->y);
        s->buttons = 0;
        (void) !screen_flush(s);
}

void screen_cancel(struct screen *s)
{
        loop_timer_disarm(&s->pace);
        s->paused = false;
        s->settle_started = 0;
        screen_release_all(s);
        screen_actions_end(s, -ECANCELED);
        if (!s->freed)
                screen_waits_end(s, -ECANCELED);
}
