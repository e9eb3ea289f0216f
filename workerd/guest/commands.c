/* Running commands: input and output with flow control, signals, and their end. */
#include "helper.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

struct command *command_find(struct helper *h, uint32_t proc)
{
        for (size_t i = 0; i < COMMANDS_MAX; i++)
                if (h->commands[i].used && h->commands[i].proc == proc)
                        return &h->commands[i];
        return NULL;
}

static void release(struct command *c)
{
        fd_close(c->in);
        fd_close(c->out);
        fd_close(c->err);
        buf_done(&c->input);
        *c = (struct command){ .in = -1, .out = -1, .err = -1 };
}

static void send_exit(struct helper *h, uint32_t proc, int code, int signal, const char *error)
{
        struct guest_exit m = {
                .proc = proc, .code = code, .signal = (uint32_t) signal, .error = error
        };
        group_tell(h);
        helper_send(h, &wire_guest_exit, &m);
}

static void taken(struct helper *h, uint32_t proc, size_t n)
{
        if (n == 0)
                return;
        helper_send(h, &wire_guest_taken,
                    &(struct guest_taken){ .proc = proc, .bytes = (uint32_t) n });
}

static int set_size(int terminal, uint32_t cols, uint32_t rows)
{
        struct winsize size = { .ws_col = (unsigned short) MIN(cols, 65535u),
                                .ws_row = (unsigned short) MIN(rows, 65535u) };
        return ioctl(terminal, TIOCSWINSZ, &size) < 0 ? -errno : 0;
}

/* As make_pipes, with the two sides of a new terminal. All goes out as stream 1. */
static int make_terminal(struct command *c, const struct guest_spawn *m, int fds[static 3])
{
        int unlocked = 0;
        struct termios t;
        c->out = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
        if (c->out < 0 || ioctl(c->out, TIOCSPTLCK, &unlocked) < 0)
                return -errno;
        fds[0] = ioctl(c->out, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
        if (fds[0] < 0 || tcgetattr(fds[0], &t) < 0)
                return -errno;
        t.c_iflag |= IUTF8; /* so that erasing takes a whole character */
        if (tcsetattr(fds[0], TCSANOW, &t) < 0)
                return -errno;
        for (int i = 1; i < 3; i++)
                if ((fds[i] = fcntl(fds[0], F_DUPFD_CLOEXEC, 3)) < 0)
                        return -errno;
        c->in = fcntl(c->out, F_DUPFD_CLOEXEC, 3);
        return c->in < 0 ? -errno : set_size(c->out, m->cols, m->rows);
}

/* fds: the child's ends; the parent's ends go into c. */
static int make_pipes(struct helper *h, struct command *c, const struct guest_spawn *m,
                      int fds[static 3])
{
        int p[2];
        if (m->listener)
                fds[0] = TAKE_FD(h->listener);
        else if (m->stdin) {
                if (pipe2(p, O_CLOEXEC) < 0)
                        return -errno;
                fds[0] = p[0];
                c->in = p[1];
        } else
                fds[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        for (int i = 1; i < 3; i++) {
                if (m->quiet) {
                        fds[i] = open("/dev/null", O_WRONLY | O_CLOEXEC);
                        continue;
                }
                if (pipe2(p, O_CLOEXEC) < 0)
                        return -errno;
                fds[i] = p[1];
                *(i == 1 ? &c->out : &c->err) = p[0];
        }
        const int own[] = { c->in, c->out, c->err };
        for (size_t i = 0; i < ARRAY_LEN(own); i++)
                if (own[i] >= 0 && fcntl(own[i], F_SETFL, O_NONBLOCK) < 0)
                        return -errno;
        return fds[0] < 0 || fds[1] < 0 || fds[2] < 0 ? -EMFILE : 0;
}

void command_spawn(struct helper *h, const struct guest_spawn *m)
{
        struct command *c = NULL;
        for (size_t i = 0; i < COMMANDS_MAX && !c; i++)
                if (!h->commands[i].used)
                        c = &h->commands[i];
        if (!c || command_find(h, m->proc) || m->n_argv == 0 || m->proc == 0) {
                send_exit(h, m->proc, -1, 0, "the helper cannot take this command");
                return;
        }
        int fds[3] = { -1, -1, -1 };
        const char *step = "start";
        int r = m->cols > 0 ? make_terminal(c, m, fds) : make_pipes(h, c, m, fds);
        pid_t pid = r < 0 ? r : command_start(m, fds, &step);
        for (int i = 0; i < 3; i++)
                fd_close(fds[i]);
        if (pid < 0) {
                char why[128];
                (void) snprintf(why, sizeof(why), "cannot %s: %s", step, strerror(-(int) pid));
                release(c);
                send_exit(h, m->proc, -1, 0, why);
                return;
        }
        c->used = true;
        c->proc = m->proc;
        c->pid = pid;
}

void command_resize(struct helper *h, const struct guest_resize *m)
{
        const struct command *c = command_find(h, m->proc);
        if (c && c->out >= 0) /* a pipe has no size and refuses */
                (void) set_size(c->out, m->cols, m->rows);
}

static void drop_input(struct helper *h, struct command *c)
{
        taken(h, c->proc, buf_pending(&c->input));
        buf_done(&c->input);
        c->in = fd_close(c->in);
}

static void feed(struct helper *h, struct command *c)
{
        while (c->in >= 0 && buf_pending(&c->input) > 0) {
                ssize_t n = write(c->in, buf_head(&c->input), buf_pending(&c->input));
                if (n < 0 && (errno == EAGAIN || errno == EINTR))
                        return;
                if (n < 0) {
                        drop_input(h, c);
                        return;
                }
                buf_consume(&c->input, (size_t) n);
                taken(h, c->proc, (size_t) n);
        }
        if (c->in >= 0 && c->input_eof)
                c->in = fd_close(c->in);
}

void command_input(struct helper *h, const struct guest_input *m)
{
        struct command *c = command_find(h, m->proc);
        if (!c || c->in < 0) {
                taken(h, m->proc, m->data.len); /* it is gone or reads nothing */
                return;
        }
        if (buf_pending(&c->input) + m->data.len > INPUT_WINDOW)
                helper_die("more input than allowed");
        buf_put(&c->input, m->data.data, m->data.len);
        c->input_eof = c->input_eof || m->eof;
        feed(h, c);
}

void command_ack(struct helper *h, const struct guest_ack *m)
{
        struct command *c = command_find(h, m->proc);
        if (c)
                c->unacked -= MIN(c->unacked, m->bytes);
}

/* Passes on what one pipe holds, one message at most. Returns false when there was nothing. */
static bool pass_output(struct helper *h, struct command *c, int stream)
{
        static char data[CHUNK];
        int *fd = stream == 1 ? &c->out : &c->err;
        if (*fd < 0 || c->unacked >= OUTPUT_WINDOW)
                return false;
        ssize_t n = read(*fd, data, MIN(sizeof(data), OUTPUT_WINDOW - c->unacked));
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return false;
        if (n <= 0) {
                *fd = fd_close(*fd);
                return false;
        }
        c->unacked += (size_t) n;
        struct guest_output m = { .proc = c->proc,
                                  .stream = (uint32_t) stream,
                                  .data = { data, (size_t) n } };
        group_tell(h);
        helper_send(h, &wire_guest_output, &m);
        return true;
}

static bool holds_data(int fd)
{
        int n = 0;
        return fd >= 0 && ioctl(fd, FIONREAD, &n) == 0 && n > 0;
}

/* A command has ended when it is reaped and its output is closed; children that keep it open get a
 * short grace, after that only what the pipe still holds is passed on. */
static void end_if_done(struct helper *h, struct command *c)
{
        if (!c->reaped)
                return;
        bool late = now_monotonic() >= c->reaped_at + EXIT_GRACE_MS * USEC_PER_MSEC;
        if ((c->out >= 0 || c->err >= 0) && (!late || holds_data(c->out) || holds_data(c->err)))
                return;
        drop_input(h, c);
        if (WIFSIGNALED(c->wait_status))
                send_exit(h, c->proc, -1, WTERMSIG(c->wait_status), NULL);
        else
                send_exit(h, c->proc, WEXITSTATUS(c->wait_status), 0, NULL);
        release(c);
}

void commands_reap(struct helper *h)
{
        int status;
        for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
                for (size_t i = 0; i < COMMANDS_MAX; i++) {
                        struct command *c = &h->commands[i];
                        if (!c->used || c->reaped || c->pid != pid)
                                continue;
                        c->reaped = true;
                        c->wait_status = status;
                        c->reaped_at = now_monotonic();
                }
        for (size_t i = 0; i < COMMANDS_MAX; i++) {
                struct command *c = &h->commands[i];
                if (c->used && c->reaped) {
                        while (buf_pending(&h->out) < STREAM_QUEUE && pass_output(h, c, 1))
                                ;
                        while (buf_pending(&h->out) < STREAM_QUEUE && pass_output(h, c, 2))
                                ;
                        end_if_done(h, c);
                }
        }
}

size_t commands_poll(struct helper *h, struct pollfd *fds, size_t n)
{
        size_t used = 0;
        for (size_t i = 0; i < COMMANDS_MAX && used + 3 <= n; i++) {
                const struct command *c = &h->commands[i];
                if (!c->used)
                        continue;
                bool room = c->unacked < OUTPUT_WINDOW;
                if (c->out >= 0 && room)
                        fds[used++] = (struct pollfd){ .fd = c->out, .events = POLLIN };
                if (c->err >= 0 && room)
                        fds[used++] = (struct pollfd){ .fd = c->err, .events = POLLIN };
                if (c->in >= 0 && buf_pending(&c->input) > 0)
                        fds[used++] = (struct pollfd){ .fd = c->in, .events = POLLOUT };
        }
        return used;
}

void commands_serve(struct helper *h, const struct pollfd *fds, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                if (!fds[i].revents)
                        continue;
                for (size_t k = 0; k < COMMANDS_MAX; k++) {
                        struct command *c = &h->commands[k];
                        if (!c->used)
                                continue;
                        if (fds[i].fd == c->out)
                                (void) pass_output(h, c, 1);
                        else if (fds[i].fd == c->err)
                                (void) pass_output(h, c, 2);
                        else if (fds[i].fd == c->in)
                                feed(h, c);
                }
        }
}

int commands_timeout(const struct helper *h)
{
        for (size_t i = 0; i < COMMANDS_MAX; i++)
                if (h->commands[i].used && h->commands[i].reaped)
                        return EXIT_GRACE_MS / 10;
        return -1;
}
