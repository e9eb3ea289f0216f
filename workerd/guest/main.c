/* Process 1 of a slot: sets itself up, greets the worker, and serves the poll loop for ever. */
#include "helper.h"

#include <fcntl.h>
#include <arpa/inet.h>
#include <linux/close_range.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static int oom_file = -1; /* opened while /proc/self is still ours */

void helper_oom_score(const char *score)
{
        if (oom_file >= 0)
                (void) !pwrite(oom_file, score, strlen(score), 0);
}

static int number(const char *text)
{
        uint64_t v;
        if (streq(text, "-"))
                return -1;
        if (parse_u64(text, &v) < 0 || v > 1 << 24)
                helper_die("bad argument");
        return (int) v;
}

/* Here and not in the worker: inside the user namespace the count is this slot's own. */
static void limit_processes(const char *text)
{
        rlim_t processes = (rlim_t) number(text);
        if (setrlimit(RLIMIT_NPROC, &(struct rlimit){ processes, processes }) < 0 ||
            setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 }) < 0)
                helper_die("cannot limit processes");
}

/* The door to the network: a socket that listens in the slot's namespace, handed over to those who
 * serve it outside. Nothing of it stays here. */
static void open_gate(int gate)
{
        union {
                char bytes[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } room = { 0 };
        struct sockaddr_in at = { .sin_family = AF_INET,
                                  .sin_port = htons(EGRESS_PORT),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        struct iovec iov = { (char *) "", 1 };
        struct msghdr m = { .msg_iov = &iov,
                            .msg_iovlen = 1,
                            .msg_control = room.bytes,
                            .msg_controllen = sizeof(room.bytes) };
        if (gate < 0)
                return;
        cleanup_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || bind(fd, (struct sockaddr *) &at, sizeof(at)) < 0 || listen(fd, 128) < 0)
                helper_die("no socket for the network");
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof(int));
        if (sendmsg(gate, &m, MSG_NOSIGNAL) != 1)
                helper_die("cannot hand over the socket for the network");
        (void) close(gate);
}

static void set_up(struct helper *h, char **argv)
{
        h->stream = number(argv[1]);
        h->listener = number(argv[2]);
        limit_processes(argv[3]);
        open_gate(number(argv[4]));
        h->volume = number(argv[5]);
        group_open(h, argv[6] ? number(argv[6]) : -1);
        if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
                helper_die("cannot mark descriptors");
        oom_file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
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
        /* In a machine it is no socket but a port. */
        if (fcntl(h->stream, F_SETFL, O_NONBLOCK) < 0)
                helper_die("no stream");
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
        for (size_t i = 0; i < ARRAY_LEN(h->events); i++)
                fds[2 + i] = (struct pollfd){ .fd = h->events[i], .events = POLLPRI };
        size_t n = 4 + (full ? 0 : commands_poll(h, fds + 4, ARRAY_LEN(fds) - 4));
        if (poll(fds, n, commands_timeout(h)) < 0 && errno != EINTR)
                helper_die("poll failed");
        if (fds[1].revents) {
                struct signalfd_siginfo info;
                while (read(h->signals, &info, sizeof(info)) == sizeof(info))
                        ;
        }
        group_tell(h);
        commands_serve(h, fds + 4, n - 4);
        commands_reap(h);
        if (fds[0].revents & (POLLIN | POLLHUP | POLLERR))
                helper_receive(h);
        helper_flush(h);
}

/* Before a machine: the door to the network, then the program that is the machine. */
static __attribute__((noreturn)) void machine(char **argv)
{
        open_gate(number(argv[2]));
        (void) execv(argv[3], argv + 3);
        helper_die("the machine's program cannot be run");
}

int main(int argc, char **argv)
{
        if (argc > 3 && streq(argv[1], "machine"))
                machine(argv);
        if (argc != 6 && argc != 7)
                helper_die("usage: berth-guest STREAM LISTENER PROCESSES GATE VOLUME [GROUP]");
        if (streq(argv[2], "canary")) {
                limit_processes(argv[3]);
                canary(number(argv[1]));
        }
        struct helper *h = xnew(struct helper);
        h->events[0] = h->events[1] = -1;
        for (size_t i = 0; i < COMMANDS_MAX; i++)
                h->commands[i].in = h->commands[i].out = h->commands[i].err = -1;
        set_up(h, argv);
        helper_send(h, &wire_guest_hello,
                    &(struct guest_hello){ .version = HELPER_VERSION,
                                           .pid = (uint32_t) getpid(),
                                           .has_volume = true,
                                           .volume = h->volume >= 0 });
        helper_flush(h);
        for (;;)
                serve(h);
}
