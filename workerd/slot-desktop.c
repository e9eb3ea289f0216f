/* The desktop kind: an X server that accepts from a socket the slot cannot name, a window manager,
 * a screen.
 *
 * The worker connects before the server runs: the backlog holds the connection, so nothing is
 * polled for. */
#include "slot-private.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define LOG_MAX 1024
#define RESTARTS_MAX 5
#define DECODERS_MAX 3 /* lost ones that are replaced; a server may know how to break them */
#define SETTLE_QUIET_MS 40
#define SETTLE_MAX_MS 1000

static int listen_display(struct slot *s)
{
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        slot_inner_path(s, "display/rfb", a.sun_path);
        cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || bind(fd, (struct sockaddr *) &a, sizeof(a)) < 0 || listen(fd, 16) < 0)
                return -errno;
        s->listener = TAKE_FD(fd);
        return 0;
}

static int connect_display(struct slot *s, int *ret_fd)
{
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        slot_inner_path(s, "display/rfb", a.sun_path);
        cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *) &a, sizeof(a)) < 0)
                return -errno;
        if (fcntl(fd, F_SETFL, 0) < 0)
                return -errno;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

static int prepare(struct slot *s)
{
        s->desktop = (struct slot_desktop){ .log = BUF_LIMIT(LOG_MAX) };
        return listen_display(s);
}

static void on_server_output(void *userdata, int stream, const char *data, size_t n)
{
        struct slot *s = userdata;
        size_t keep = MIN(n, (size_t) LOG_MAX);
        if (buf_pending(&s->desktop.log) + keep > LOG_MAX)
                buf_clear(&s->desktop.log);
        (void) !buf_append(&s->desktop.log, data + n - keep, keep);
}

static void on_server_exit(void *userdata, const struct guest_status *status)
{
        struct slot *s = userdata;
        s->desktop.server = NULL;
        if (s->phase == SLOT_PHASE_ENDING)
                return;
        slot_fail(s, "the X server ended (%s %d): %s",
                  status->error    ? status->error
                  : status->signal ? "signal"
                                   : "status",
                  status->signal ? status->signal : status->code,
                  s->desktop.log.data ? buf_head(&s->desktop.log) : "it said nothing");
}

static void on_settled(void *userdata, int r)
{
        if (r >= 0)
                slot_set_ready(userdata);
}

static void on_session_output(void *userdata, int stream, const char *data, size_t n)
{
        struct slot *s = userdata;
        if (s->desktop.session_up || stream != 1 || !memmem(data, n, "ready", 5))
                return;
        s->desktop.session_up = true;
        int r = screen_wait_quiet(s->desktop.screen, SETTLE_QUIET_MS, SETTLE_MAX_MS, on_settled, s);
        if (r < 0)
                slot_fail(s, "the screen cannot be watched: %s", strerror(-r));
}

static int start_session(struct slot *s);

static void on_session_exit(void *userdata, const struct guest_status *status)
{
        struct slot *s = userdata;
        s->desktop.session = NULL;
        if (s->phase == SLOT_PHASE_ENDING)
                return;
        if (s->phase == SLOT_PHASE_READY && s->desktop.restarts++ < RESTARTS_MAX &&
            start_session(s) == 0) {
                log_info("slot %s: the window manager ended and was started again", s->config.id);
                return;
        }
        slot_fail(s, "the desktop of the image ended (%s %d)",
                  status->error ? status->error : "status",
                  status->signal ? status->signal : status->code);
}

static int start_session(struct slot *s)
{
        static const char *const argv[] = { "/usr/local/lib/berth/desktop", NULL };
        struct guest_command_config c = { .argv = argv,
                                          .on_output = on_session_output,
                                          .on_exit = on_session_exit,
                                          .userdata = s };
        return guest_spawn(s->guest, s->epoch, &c, &s->desktop.session);
}

static void on_screen_ready(void *userdata)
{
        struct slot *s = userdata;
        int r = s->desktop.session || s->desktop.session_up ? 0 : start_session(s);
        if (r < 0)
                slot_fail(s, "the desktop cannot be started: %s", strerror(-r));
}

/* Another decoder in place of one that broke; false: the slot has lost its screen. */
static bool open_again(struct slot *s, const char *why)
{
        bool blind = screen_blind(s->desktop.screen);
        if (s->phase != SLOT_PHASE_READY || !screen_decoder_lost(s->desktop.screen) ||
            s->desktop.decoders++ >= DECODERS_MAX)
                return false;
        s->desktop.screen = screen_free(s->desktop.screen);
        if (slot_open_screen(s) < 0)
                return false;
        screen_set_blind(s->desktop.screen, blind);
        log_warning("slot %s: %s; another one begins", s->config.id, why);
        return true;
}

static void on_screen_end(void *userdata, const char *why)
{
        struct slot *s = userdata;
        if (open_again(s, why))
                return;
        /* When the server died its exit, with its last words, is the better reason: it may be here
         * already. */
        slot_fail(s, "the screen is lost: %s%s%s", why, s->desktop.log.data ? ": " : "",
                  s->desktop.log.data ? buf_head(&s->desktop.log) : "");
}

int slot_open_screen(struct slot *s)
{
        int fd = -1;
        int r = s->ops->connect(s, &fd);
        struct screen_config c = { .event = s->config.event,
                                   .fd = fd,
                                   .decoder = s->config.decoder,
                                   .identity = s->config.host ? &s->config.host->identity : NULL,
                                   .epoch = &s->epoch,
                                   .on_ready = s->ops->screen_ready,
                                   .on_end = on_screen_end,
                                   .paste = slot_paste,
                                   .no_spare_keys = s->ops->no_spare_keys,
                                   .key_gap = s->desktop.key_gap,
                                   .userdata = s };
        return r == 0 ? screen_new(&c, &s->desktop.screen) : r;
}

static int start_server(struct slot *s)
{
        char geometry[32];
        (void) snprintf(geometry, sizeof(geometry), "%ux%u", s->config.width, s->config.height);
        const char *const argv[] = {
                "Xvnc",
                ":1",
                "-inetd",
                "-SecurityTypes",
                "None",
                "-AlwaysShared",
                "-AcceptSetDesktopSize=1", /* ours only: viewers' are filtered by the gateway */
                /* All connections have one address: some that end early would shut out all others.
                 */
                "-UseBlacklist=0",
                "-AcceptCutText=0",
                "-SendCutText=0", /* the clipboard is not for every viewer: clipboard.h */
                "-geometry",
                geometry,
                "-depth",
                "24",
                "-nolisten",
                "tcp",
                "-nolisten",
                "local",
                "-noreset",
                "-s",
                "0",
                "-desktop",
                "slot",
                NULL,
        };
        struct guest_command_config c = { .argv = argv,
                                          .listener = true,
                                          .on_output = on_server_output,
                                          .on_exit = on_server_exit,
                                          .userdata = s };
        return guest_spawn(s->guest, s->epoch, &c, &s->desktop.server);
}

static void on_paste_exit(void *userdata, const struct guest_status *status)
{
        struct slot *s = userdata;
        screen_done_fn fn = s->desktop.pasted;
        s->desktop.pasted = NULL;
        if (fn)
                fn(s->desktop.pasted_userdata, status->code == 0 ? 0 : -EIO);
}

/* Both selections: terminals paste the primary one with Shift+Insert, everything else the
 * clipboard. */
int slot_paste(void *userdata, const char *text, size_t n, screen_done_fn fn, void *fn_userdata)
{
        static const char *const argv[] = {
                "sh",
                "-c",
                "f=$(mktemp) && cat >$f && xclip -selection primary -i $f && xclip -selection "
                "clipboard -i $f; "
                "r=$?; rm -f $f; exit $r",
                NULL,
        };
        struct slot *s = userdata;
        struct guest_command *command;
        struct guest_command_config c = { .argv = argv,
                                          .stdin_pipe = true,
                                          .quiet = true,
                                          .on_exit = on_paste_exit,
                                          .userdata = s };
        if (n > GUEST_INPUT_WINDOW || s->desktop.pasted)
                return -EMSGSIZE;
        int r = guest_spawn(s->guest, s->epoch, &c, &command);
        if (r < 0)
                return r;
        s->desktop.pasted = fn;
        s->desktop.pasted_userdata = fn_userdata;
        r = guest_command_input(command, s->epoch, text, n, true);
        if (r < 0) {
                s->desktop.pasted = NULL;
                guest_command_forget(command);
        }
        return r;
}

static void guest_up(struct slot *s)
{
        s->listener = fd_close(s->listener); /* the helper has its copy; later only the server */
        int r = slot_open_screen(s);
        if (r == 0)
                r = start_server(s);
        if (r < 0)
                slot_fail(s, "the X server cannot be started: %s", strerror(-r));
}

static void end(struct slot *s)
{
        s->desktop.screen = screen_free(s->desktop.screen);
        s->desktop.server = s->desktop.session = NULL;
        buf_done(&s->desktop.log);
}

const struct slot_ops slot_desktop_ops = {
        .profile = SANDBOX_BROWSER,
        .display = ":1",
        .prepare = prepare,
        .guest_up = guest_up,
        .connect = connect_display,
        .screen_ready = on_screen_ready,
        .end = end,
};
