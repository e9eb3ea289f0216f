/* Sets and reads the selections of a slot's display. */
#include "clipboard.h"

#include "common/base/buf.h"

struct clipboard {
        clipboard_fn fn;
        void *userdata;
        bool reading;
        struct buf text;
};

static void on_output(void *userdata, int stream, const char *data, size_t n)
{
        struct clipboard *c = userdata;
        size_t room = CLIPBOARD_MAX - buf_pending(&c->text);

        if (stream == 1)
                (void) !buf_append(&c->text, data, MIN(n, room));
}

/* The longest whole-character beginning; nothing when it is no UTF-8 at all. */
static size_t whole(const char *text, size_t n)
{
        size_t cut = n;

        while (cut > 0 && n - cut < 4 && !utf8_valid(text, cut))
                cut--;
        return utf8_valid(text, cut) ? cut : 0;
}

static void on_exit_status(void *userdata, const struct guest_status *status)
{
        struct clipboard *c = userdata;
        struct span text = { buf_head(&c->text), 0 };
        int r = 0;

        if (status->error)
                r = -ECANCELED;
        else if (!c->reading && status->code != 0)
                r = -EIO;
        else if (c->reading) /* xclip fails when nothing is selected */
                text.len = whole(text.data, buf_pending(&c->text));
        c->fn(c->userdata, r, text);
        buf_done(&c->text);
        free(c);
}

static int run(struct slot *s, const char *const *argv, struct span input, bool reading,
               clipboard_fn fn, void *userdata)
{
        struct guest *g = slot_guest(s);
        struct guest_command *command;
        struct clipboard *c;
        int r;

        if (!g || !slot_screen(s))
                return -ENOTCONN;
        c = xnew(struct clipboard);
        *c = (struct clipboard){ .fn = fn, .userdata = userdata, .reading = reading };
        c->text = BUF_LIMIT(CLIPBOARD_MAX);
        struct guest_command_config config = { .argv = argv,
                                               .stdin_pipe = !reading,
                                               .quiet = !reading,
                                               .on_output = reading ? on_output : NULL,
                                               .on_exit = on_exit_status,
                                               .userdata = c };
        r = guest_spawn(g, slot_epoch(s), &config, &command);
        if (r < 0) {
                free(c);
                return r;
        }
        if (!reading &&
            (r = guest_command_input(command, slot_epoch(s), input.data, input.len, true)) < 0) {
                guest_command_forget(command);
                free(c);
        }
        return r;
}

int clipboard_put(struct slot *s, struct span text, clipboard_fn fn, void *userdata)
{
        static const char *const argv[] = {
                "sh",
                "-c",
                "f=$(mktemp) && cat >$f && xclip -selection primary -i $f && "
                "xclip -selection clipboard -i $f; r=$?; rm -f $f; exit $r",
                NULL,
        };

        if (text.len > CLIPBOARD_MAX || !utf8_valid(text.data, text.len))
                return -EINVAL;
        return run(s, argv, text, false, fn, userdata);
}

int clipboard_get(struct slot *s, clipboard_fn fn, void *userdata)
{
        /* A program that owns the selection and never answers must not hold us up. */
        static const char *const argv[] = {
                "timeout", "2", "xclip", "-selection", "clipboard", "-t", "UTF8_STRING", "-o", NULL,
        };

        return run(s, argv, (struct span){ 0 }, true, fn, userdata);
}
