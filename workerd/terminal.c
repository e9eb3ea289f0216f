/* Shells on terminals of the slot: their bytes between the helper and the gateway's sockets. */
#include "terminal.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/list.h"
#include "common/io/daemon.h"

#define INPUT_PIECE (16u << 10)
#define SEND_BUFFER (64 << 10) /* little, so that Ctrl-C is not seen behind much old output */
#define HANGUP_GRACE USEC_PER_SEC

struct terminals {
        sd_event *event;
        unsigned max, n;
        uint64_t last_id;
        struct list all;
};

struct terminal {
        struct list link;
        struct terminals *all;
        uint64_t id, epoch;
        struct guest_command *command; /* NULL once the shell has ended */
        int fd;                        /* -1 once the gateway has hung up */
        sd_event_source *io;
        struct buf out; /* what the gateway has not taken yet; while it is, the shell waits */
        char in[INPUT_PIECE];
        size_t n_in; /* what the shell has no room for yet; while it is, nothing is read */
        struct loop_timer grace;
};

static void terminal_free(struct terminal *t)
{
        if (t->command)
                guest_command_forget(t->command);
        list_remove(&t->link);
        t->all->n--;
        loop_timer_done(&t->grace);
        t->io = sd_event_source_disable_unref(t->io);
        (void) fd_close(t->fd);
        buf_done(&t->out);
        free(t);
}

static void watch(struct terminal *t)
{
        (void) sd_event_source_set_io_events(
                t->io, (t->command && t->n_in == 0 ? (uint32_t) EPOLLIN : 0) |
                               (buf_pending(&t->out) > 0 ? (uint32_t) EPOLLOUT : 0));
}

/* The gateway is gone: the shell may say goodbye to what it runs. */
static void hang_up(struct terminal *t)
{
        if (!t->command || guest_command_kill(t->command, SIGHUP) < 0) {
                terminal_free(t);
                return;
        }
        t->io = sd_event_source_disable_unref(t->io);
        t->fd = fd_close(t->fd);
        buf_done(&t->out);
        guest_command_resume(t->command);
        loop_timer_arm(&t->grace, HANGUP_GRACE);
}

static void on_grace(void *userdata)
{
        terminal_free(userdata);
}

/* ---- from the shell ---- */

static void on_output(void *userdata, int stream, const char *data, size_t n)
{
        struct terminal *t = userdata;
        ssize_t sent = 0;

        if (t->fd < 0)
                return;
        if (buf_pending(&t->out) == 0) {
                sent = send(t->fd, data, n, MSG_DONTWAIT | MSG_NOSIGNAL);
                if (sent < 0) /* a lost peer shows as its end of stream */
                        sent = 0;
        }
        if ((size_t) sent == n)
                return;
        guest_command_pause(t->command);
        buf_put(&t->out, data + sent, n - (size_t) sent);
        watch(t);
}

static void on_exit_status(void *userdata, const struct guest_status *status)
{
        struct terminal *t = userdata;

        t->command = NULL;
        if (buf_pending(&t->out) == 0)
                terminal_free(t);
        else
                watch(t);
}

/* False: the terminal is gone. */
static bool send_out(struct terminal *t)
{
        while (buf_pending(&t->out) > 0) {
                ssize_t n = send(t->fd, buf_head(&t->out), buf_pending(&t->out),
                                 MSG_DONTWAIT | MSG_NOSIGNAL);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        break;
                buf_consume(&t->out, (size_t) n);
        }
        if (buf_pending(&t->out) > 0)
                return true;
        buf_done(&t->out);
        if (!t->command) {
                terminal_free(t);
                return false;
        }
        guest_command_resume(t->command);
        watch(t);
        return true;
}

/* ---- to the shell ---- */

static void pass_input(struct terminal *t)
{
        int r = guest_command_input(t->command, t->epoch, t->in, t->n_in, false);

        if (r < 0 && r != -EAGAIN) { /* the lease is another's, or the slot is going */
                terminal_free(t);
                return;
        }
        if (r == 0)
                t->n_in = 0;
        watch(t);
}

static void on_input_room(void *userdata)
{
        struct terminal *t = userdata;

        if (t->n_in > 0)
                pass_input(t);
}

static int on_socket(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
        struct terminal *t = userdata;

        if ((revents & EPOLLOUT) && !send_out(t))
                return 0;
        if (!(revents & (EPOLLIN | EPOLLHUP | EPOLLERR)))
                return 0;
        if (t->n_in > 0 || !t->command) {
                if (revents & (EPOLLHUP | EPOLLERR))
                        hang_up(t);
                return 0;
        }
        ssize_t n = recv(t->fd, t->in, sizeof(t->in), MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        if (n <= 0) {
                hang_up(t);
                return 0;
        }
        t->n_in = (size_t) n;
        pass_input(t);
        return 0;
}

/* ---- open, resize, close ---- */

static bool size_ok(unsigned cols, unsigned rows)
{
        return cols > 0 && rows > 0 && cols <= TERMINAL_COLS_MAX && rows <= TERMINAL_ROWS_MAX;
}

/* One that has been hung up gives its place to who comes, grace or not. */
static void make_place(struct terminals *all)
{
        struct terminal *t;

        if (all->n < all->max)
                return;
        list_foreach (t, &all->all, link)
                if (t->fd < 0) {
                        terminal_free(t);
                        return;
                }
}

int terminals_open(struct terminals *all, struct slot *s, unsigned cols, unsigned rows,
                   uint64_t *ret_id, int *ret_fd)
{
        /* No login shell: its profile would put a search path in place of the slot's. */
        static const char *const argv[] = { "sh", "-c",
                                            "command -v bash >/dev/null && exec bash; exec sh",
                                            NULL };
        static const char *const env[] = { "TERM=xterm-256color", "COLORTERM=truecolor", NULL };
        int pair[2], r, size = SEND_BUFFER;

        if (!slot_guest(s))
                return -ENOTCONN;
        if (!size_ok(cols, rows))
                return -ERANGE;
        make_place(all);
        if (all->n >= all->max)
                return -EMFILE;
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
                return -errno;
        cleanup_close int theirs = pair[1];
        (void) setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));

        struct terminal *t = xnew(struct terminal);
        t->all = all;
        t->fd = pair[0];
        t->id = ++all->last_id;
        t->epoch = slot_epoch(s);
        list_push_back(&all->all, &t->link);
        all->n++;
        const struct guest_command_config config = { .argv = argv,
                                                     .env = env,
                                                     .cols = cols,
                                                     .rows = rows,
                                                     .on_output = on_output,
                                                     .on_input_room = on_input_room,
                                                     .on_exit = on_exit_status,
                                                     .userdata = t };
        r = loop_timer_init(&t->grace, all->event, on_grace, t);
        if (r >= 0)
                r = sd_event_add_io(all->event, &t->io, t->fd, EPOLLIN, on_socket, t);
        if (r >= 0)
                r = guest_spawn(slot_guest(s), t->epoch, &config, &t->command);
        if (r < 0) {
                terminal_free(t);
                return r;
        }
        *ret_id = t->id;
        *ret_fd = TAKE_FD(theirs);
        return 0;
}

int terminals_resize(struct terminals *all, uint64_t id, unsigned cols, unsigned rows)
{
        struct terminal *t;

        if (!size_ok(cols, rows))
                return -ERANGE;
        list_foreach (t, &all->all, link)
                if (t->id == id && t->command && t->fd >= 0)
                        return guest_command_resize(t->command, cols, rows);
        return -ENOENT;
}

void terminals_close(struct terminals *all)
{
        struct terminal *t;

        while ((t = list_first(&all->all, struct terminal, link)))
                terminal_free(t);
}

struct terminals *terminals_new(sd_event *e, unsigned max)
{
        struct terminals *t = xnew(struct terminals);

        t->event = e;
        t->max = max;
        list_init(&t->all);
        return t;
}

struct terminals *terminals_free(struct terminals *t)
{
        if (!t)
                return NULL;
        terminals_close(t);
        free(t);
        return NULL;
}
