/* Process 1 of a slot: sets itself up, greets the worker, and serves the poll loop for ever. */
#include "helper.h"

#include <linux/close_range.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

static int number(const char *text)
{
        uint64_t v;
        if (streq(text, "-"))
                return -1;
        if (parse_u64(text, &v) < 0 || v > 1 << 24)
                helper_die("bad argument");
        return (int) v;
}

static void set_up(struct helper *h, char **argv)
{
        h->stream = number(argv[1]);
        h->listener = number(argv[2]);
        rlim_t processes = (rlim_t) number(argv[3]);
        /* Here and not in the worker: inside the user namespace the count is this slot's own. */
        if (setrlimit(RLIMIT_NPROC, &(struct rlimit){ processes, processes }) < 0)
                helper_die("cannot limit processes");
        if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
                helper_die("cannot mark descriptors");
        /* Not to be traced or looked into by the commands, which have the same uid. */
        (void) prctl(PR_SET_DUMPABLE, 0);
        umask(0);
        if (h->listener >= 0 && mkdir("/tmp/.X11-unix", 01777) < 0)
                helper_die("cannot make /tmp/.X11-unix");
        umask(022);
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGCHLD);
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
                helper_die("cannot block signals");
        h->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        if (h->signals < 0)
                helper_die("no signalfd");
        (void) signal(SIGPIPE, SIG_IGN);
        h->arena = wire_arena_new();
}

static void serve(struct helper *h)
{
        struct pollfd fds[POLLS_MAX];
        bool full = buf_pending(&h->out) >= STREAM_QUEUE;
        fds[0] = (struct pollfd){ .fd = h->stream,
                                  .events = (short) ((full ? 0 : POLLIN) |
                                                     (buf_pending(&h->out) > 0 ? POLLOUT : 0)) };
        fds[1] = (struct pollfd){ .fd = h->signals, .events = POLLIN };
        size_t n = 2 + (full ? 0 : commands_poll(h, fds + 2, ARRAY_LEN(fds) - 2));
        if (poll(fds, n, commands_timeout(h)) < 0 && errno != EINTR)
                helper_die("poll failed");
        if (fds[1].revents) {
                struct signalfd_siginfo info;
                while (read(h->signals, &info, sizeof(info)) == sizeof(info))
                        ;
        }
        commands_serve(h, fds + 2, n - 2);
        commands_reap(h);
        if (fds[0].revents & (POLLIN | POLLHUP | POLLERR))
                helper_receive(h);
        helper_flush(h);
}

int main(int argc, char **argv)
{
        if (argc != 4)
                helper_die("usage: berth-guest STREAM LISTENER PROCESSES");
        struct helper *h = xnew(struct helper);
        for (size_t i = 0; i < COMMANDS_MAX; i++)
                h->commands[i].in = h->commands[i].out = h->commands[i].err = -1;
        set_up(h, argv);
        helper_send(h, &wire_guest_hello,
                    &(struct guest_hello){ .version = HELPER_VERSION, .pid = (uint32_t) getpid() });
        helper_flush(h);
        for (;;)
                serve(h);
}
