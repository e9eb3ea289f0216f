/* Starts the decoder of a display, carries orders and news, ends it. */
#include "screen-decoder.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/io/children.h"
#include "common/io/daemon.h"
#include "slot-stage.h"

#define NEWS_PER_TURN 64

struct decoder {
        struct decoder_config config;
        int control;
        uint8_t *memory; /* read-only here */
        pid_t pid;
        sd_event_source *packets, *child;
        bool full; /* decoder_send said -EAGAIN */
        bool ended, freed;
        char why[160]; /* what it said or did before it ended */
        bool said;     /* ... and that is the server's doing */
};

/* --- start ------------------------------------------------------------------------------------ */

/* From here to the program only async-signal-safe calls: the worker has threads of ZeroMQ. */
static int be_somebody_else(int userns, uint32_t id)
{
        if (userns < 0)
                return 0;
        return setns(userns, CLONE_NEWUSER) < 0 || stage_become(0) < 0 ? -1 : stage_become(id);
}

struct places {
        int program, control, server, memory, userns;
        uint32_t id;
        pid_t parent;
};

static __attribute__((noreturn)) void become_decoder(const struct places *p, char **environment)
{
        char *const argv[] = { (char *) "berth-decoder", NULL };
        sigset_t none;
        sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        int program = fcntl(p->program, F_DUPFD_CLOEXEC, 16),
            control = fcntl(p->control, F_DUPFD_CLOEXEC, 16),
            server = fcntl(p->server, F_DUPFD_CLOEXEC, 16),
            memory = fcntl(p->memory, F_DUPFD_CLOEXEC, 16);
        if (null < 0 || program < 0 || control < 0 || server < 0 || memory < 0 ||
            be_somebody_else(p->userns, p->id) < 0)
                _exit(126);
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL); /* after the change of id, which undoes it */
        (void) prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        if (getppid() != p->parent || dup2(null, 0) < 0 || dup2(null, 1) < 0 ||
            dup2(control, DECODER_CONTROL) < 0 || dup2(server, DECODER_SERVER) < 0 ||
            dup2(memory, DECODER_MEMORY) < 0 || dup2(program, DECODER_MEMORY + 1) < 0 ||
            fcntl(DECODER_MEMORY + 1, F_SETFD, FD_CLOEXEC) < 0 ||
            close_range(DECODER_MEMORY + 2, ~0U, 0) < 0)
                _exit(126);
        /* By descriptor: the new id need not be able to walk to it. */
        (void) syscall(SYS_execveat, DECODER_MEMORY + 1, "", argv, environment, AT_EMPTY_PATH);
        _exit(127);
}

static int make_memory(struct decoder *d, int *ret_fd)
{
        cleanup_close int fd = memfd_create("display", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        /* Sealed: it can never become shorter under our eyes. */
        if (fd < 0 || ftruncate(fd, (off_t) DECODER_MEMORY_BYTES) < 0 ||
            fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
                return -errno;
        void *at = mmap(NULL, DECODER_MEMORY_BYTES, PROT_READ, MAP_SHARED, fd, 0);
        if (at == MAP_FAILED)
                return -errno;
        d->memory = at;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

/* Nothing of the worker's environment but what a sanitizer is told. */
static void make_environment(char *ret[static 3])
{
        size_t n = 0;
        for (char **e = environ; *e && n < 2; e++)
                if (strncmp(*e, "ASAN_OPTIONS=", 13) == 0 || strncmp(*e, "UBSAN_OPTIONS=", 14) == 0)
                        ret[n++] = *e;
        ret[n] = NULL;
}

static int start(struct decoder *d, const char *program)
{
        int pair[2];
        char *environment[3];
        cleanup_close int memory = -1, file = open(program, O_PATH | O_CLOEXEC);
        if (file < 0)
                return -errno;
        int r = make_memory(d, &memory);
        if (r < 0)
                return r;
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
                return -errno;
        d->control = pair[0];
        cleanup_close int theirs = pair[1];
        struct identity *who = d->config.identity;
        struct places p = { .program = file,
                            .control = theirs,
                            .server = d->config.server,
                            .memory = memory,
                            .userns = who ? who->userns : -1,
                            .id = who && who->userns >= 0 ? identity_next(who) : 0,
                            .parent = getpid() };
        make_environment(environment);
        d->pid = fork();
        if (d->pid == 0)
                become_decoder(&p, environment);
        return d->pid < 0 ? -errno : 0;
}

/* --- news ------------------------------------------------------------------------------------- */

/* It is killed; on_child tells of it. */
static void distrust(struct decoder *d, const char *why)
{
        (void) snprintf(d->why, sizeof(d->why), "%s", why);
        d->said = false;
        d->packets = sd_event_source_disable_unref(d->packets);
        (void) kill(d->pid, SIGKILL);
}

static void on_news(struct decoder *d, const struct decoder_news *n)
{
        switch ((enum decoder_news_kind) n->kind) {
        case NEWS_FRAME:
                d->config.on_frame(d->config.userdata, n);
                return;
        case NEWS_PICTURE:
                d->config.on_picture(d->config.userdata, n,
                                     n->result < 0 ? NULL : d->memory + DECODER_PICTURE_AT);
                return;
        case NEWS_END:
                distrust(d, n->why);
                d->said = true;
                return;
        }
}

static void read_news(struct decoder *d)
{
        for (unsigned i = 0; i < NEWS_PER_TURN && d->packets && !d->freed; i++) {
                struct decoder_news n;
                ssize_t got = recv(d->control, &n, sizeof(n), MSG_DONTWAIT | MSG_TRUNC);
                if (got < 0 && (errno == EAGAIN || errno == EINTR))
                        return;
                if (got <= 0)
                        distrust(d, "");
                else if (!decoder_news_sound(&n, (size_t) got))
                        distrust(d, "it said something impossible");
                else
                        on_news(d, &n);
        }
}

static int on_packets(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct decoder *d = userdata;
        if ((revents & EPOLLOUT) && d->full) {
                d->full = false;
                (void) sd_event_source_set_io_events(d->packets, EPOLLIN);
                d->config.on_room(d->config.userdata);
        }
        if (!d->freed)
                read_news(d);
        return 0;
}

static int on_child(sd_event_source *source, const siginfo_t *si, void *userdata)
{
        struct decoder *d = userdata;
        char why[200];
        d->child = sd_event_source_disable_unref(d->child);
        d->pid = 0;
        /* Its last words may still be on the way. */
        read_news(d);
        if (d->freed)
                return 0;
        d->packets = sd_event_source_disable_unref(d->packets);
        d->ended = true;
        if (d->said)
                (void) snprintf(why, sizeof(why), "%s", d->why);
        else if (d->why[0])
                (void) snprintf(why, sizeof(why), "the display decoder was ended: %s", d->why);
        else
                (void) snprintf(why, sizeof(why), "the display decoder ended (%s %d)",
                                si->si_code == CLD_EXITED ? "status" : "signal", si->si_status);
        d->config.on_end(d->config.userdata, !d->said, why);
        return 0;
}

/* --- outside ---------------------------------------------------------------------------------- */

int decoder_new(const struct decoder_config *c, struct decoder **ret)
{
        struct decoder *d = xnew(struct decoder);
        d->config = *c;
        d->config.program = NULL;
        d->control = -1;
        int r = start(d, c->program);
        if (r == 0)
                r = sd_event_add_child(c->event, &d->child, d->pid, WEXITED, on_child, d);
        if (r >= 0)
                r = sd_event_add_io(c->event, &d->packets, d->control, EPOLLIN, on_packets, d);
        if (r < 0) {
                decoder_free(d);
                return r;
        }
        *ret = d;
        return 0;
}

static void destroy(void *p)
{
        struct decoder *d = p;
        fd_close(d->control);
        if (d->memory)
                (void) munmap(d->memory, DECODER_MEMORY_BYTES);
        free(d);
}

struct decoder *decoder_free(struct decoder *d)
{
        if (!d || d->freed)
                return NULL;
        d->freed = true;
        d->packets = sd_event_source_disable_unref(d->packets);
        d->child = sd_event_source_disable_unref(d->child);
        if (d->pid > 0)
                child_end(d->config.event, d->pid);
        /* A callback of ours may be on the stack. */
        loop_defer_free(d->config.event, d, destroy);
        return NULL;
}

int decoder_send(struct decoder *d, const struct decoder_order *orders, size_t n)
{
        if (d->full)
                return -EAGAIN;
        if (!d->packets)
                return 0;
        ssize_t sent = send(d->control, orders, n * sizeof(*orders), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
                d->full = true;
                (void) sd_event_source_set_io_events(d->packets, EPOLLIN | EPOLLOUT);
                return -EAGAIN;
        }
        return 0;
}

const uint32_t *decoder_frame(const struct decoder *d, unsigned place)
{
        return (const uint32_t *) (const void *) (d->memory + (place ? DECODER_FRAME_BYTES : 0));
}
