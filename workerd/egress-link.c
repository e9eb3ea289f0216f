/* Starts the egress proxy when it is first needed, tells it the policy, hears its verdicts. */
#include "egress-link.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/io/children.h"
#include "common/io/daemon.h"
#include "common/io/log.h"

#define PACKET_MAX (128 * 1024)
#define REST_FIRST (250 * USEC_PER_MSEC) /* after a crash, doubled up to 128 times */
#define CRASHES_MAX 7
#define CANNOT_START 126
#define CRASHES_SILENT 2 /* so short a rest is not worth a refusal */
#define REFUSED_MAX 16   /* clients that were told and may still be reading */
#define REFUSED_USEC USEC_PER_SEC

struct egress_link {
        struct egress_config config; /* strings owned */
        int listener, control;
        pid_t pid;
        sd_event_source *waiting, *packets, *child;
        struct loop_timer rest;
        unsigned crashes;
        struct loop_timer farewell;
        int refused[REFUSED_MAX];
        unsigned n_refused;
        char *network, *tenant, *agent;
        struct wire_arena *arena;
};

static void send_frame(struct egress_link *l, const struct wire_msg *type, const void *msg, int fd)
{
        static const uint8_t none[WIRE_CORRELATION];
        cleanup_buf struct buf frame = BUF_LIMIT(PACKET_MAX);
        union {
                char bytes[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } room = { 0 };
        if (wire_pack(&frame, type, msg, 0, none) < 0) {
                log_error("egress: %s cannot be packed", type->body.name);
                return;
        }
        struct iovec iov = { frame.data, frame.len };
        struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };
        if (fd >= 0) {
                h.msg_control = room.bytes;
                h.msg_controllen = sizeof(room.bytes);
                struct cmsghdr *c = CMSG_FIRSTHDR(&h);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(sizeof(int));
                memcpy(CMSG_DATA(c), &fd, sizeof(int));
        }
        if (sendmsg(l->control, &h, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EAGAIN) {
                /* It reads nothing: it must not go on with an old policy. */
                log_warning("egress: the proxy hangs");
                (void) kill(l->pid, SIGKILL);
        }
}

static void tell_policy(struct egress_link *l)
{
        send_frame(l, &wire_egress_setup,
                   &(struct egress_setup){ .network = span_of(l->network ? l->network : "{}"),
                                           .tenant = l->tenant,
                                           .agent_name = l->agent },
                   -1);
}

static int on_packet(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct egress_link *l = userdata;
        static char data[PACKET_MAX];
        struct wire_envelope e;
        void *msg = NULL;
        ssize_t n = recv(fd, data, sizeof(data), MSG_DONTWAIT);
        if (n <= 0) {
                if (n == 0 || (errno != EAGAIN && errno != EINTR))
                        l->packets = sd_event_source_disable_unref(l->packets);
                return 0;
        }
        /* It reads what hostile peers send, so it is not believed blindly either. */
        wire_arena_reset(l->arena);
        if (wire_open((struct span){ data, (size_t) n }, &e) < 0 ||
            e.id != wire_egress_verdict.id ||
            wire_unpack(&wire_egress_verdict, e.body, l->arena, &msg) < 0) {
                log_error("egress: the proxy speaks another protocol");
                (void) kill(l->pid, SIGKILL);
                return 0;
        }
        l->config.on_verdict(l->config.userdata, msg);
        return 0;
}

static void drop_process(struct egress_link *l)
{
        l->packets = sd_event_source_disable_unref(l->packets);
        l->child = sd_event_source_disable_unref(l->child);
        l->control = fd_close(l->control);
        l->pid = 0;
}

/* --- clients while there is no proxy ---------------------------------------------------------- */

static void part(void *userdata)
{
        struct egress_link *l = userdata;
        while (l->n_refused > 0)
                fd_close(l->refused[--l->n_refused]);
}

/* Tells it at once why nothing comes. It is closed a little later, with what it sent read: else the
 * answer might be lost with the connection. */
static void refuse(struct egress_link *l, int client)
{
        static const char answer[] =
                "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\n"
                "Retry-After: 30\r\nConnection: close\r\nContent-Length: 62\r\n\r\n"
                "The network proxy of this sandbox is not running; try later.\r\n";
        char bin[4096];
        if (l->n_refused == REFUSED_MAX)
                part(l);
        (void) !recv(client, bin, sizeof(bin), MSG_DONTWAIT);
        (void) !send(client, answer, sizeof(answer) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        (void) shutdown(client, SHUT_WR);
        l->refused[l->n_refused++] = client;
        loop_timer_arm(&l->farewell, REFUSED_USEC);
}

static void refuse_waiting(struct egress_link *l)
{
        for (unsigned i = 0; i < REFUSED_MAX; i++) {
                int client = accept4(l->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
                if (client < 0)
                        return;
                refuse(l, client);
        }
}

/* No proxy is started for a while. */
static void take_rest(struct egress_link *l, bool told)
{
        loop_timer_arm(&l->rest, REST_FIRST << l->crashes);
        if (told)
                (void) sd_event_source_set_enabled(l->waiting, SD_EVENT_ON);
}

static void listen_again(void *userdata)
{
        struct egress_link *l = userdata;
        (void) sd_event_source_set_enabled(l->waiting, SD_EVENT_ON);
}

static int on_child(sd_event_source *source, const siginfo_t *si, void *userdata)
{
        struct egress_link *l = userdata;
        log_warning("egress: the proxy ended (%s %d)",
                    si->si_code == CLD_EXITED ? "status" : "signal", si->si_status);
        drop_process(l);
        /* One that could not even begin will not begin soon. */
        if (si->si_code == CLD_EXITED && si->si_status == CANNOT_START)
                l->crashes = CRASHES_MAX;
        l->crashes = MIN(l->crashes + 1, (unsigned) CRASHES_MAX);
        take_rest(l, l->crashes > CRASHES_SILENT);
        return 0;
}

static void add(char **argv, size_t *n, const char *option, const char *value)
{
        if (strempty(value))
                return;
        argv[(*n)++] = (char *) option;
        argv[(*n)++] = (char *) value;
}

/* Only async-signal-safe calls: the worker has threads of ZeroMQ. */
static void child(const char *program, char **argv, int listener, int control, pid_t parent)
{
        sigset_t none;
        sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void) prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        int a = fcntl(listener, F_DUPFD, 16), b = fcntl(control, F_DUPFD, 16);
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (getppid() != parent || b < 0 || null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 ||
            dup2(b, 4) < 0 || (a >= 0 && dup2(a, 3) < 0) || close_range(5, ~0U, 0) < 0)
                _exit(CANNOT_START);
        execv(program, argv);
        _exit(CANNOT_START);
}

static int start(struct egress_link *l)
{
        const struct egress_config *c = &l->config;
        char *argv[20] = { (char *) "berth-egress" };
        size_t n = 1;
        int pair[2];
        add(argv, &n, "--control", "4");
        add(argv, &n, "--listener", l->listener >= 0 ? "3" : NULL);
        add(argv, &n, "--credentials", c->credentials);
        add(argv, &n, "--dns", c->dns);
        add(argv, &n, "--private", c->private_ranges);
        add(argv, &n, "--hosts", c->hosts);
        add(argv, &n, "--ca", c->ca_file);
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        cleanup_close int theirs = pair[1];
        pid_t parent = getpid();
        l->control = pair[0];
        l->pid = fork();
        if (l->pid == 0)
                child(c->program, argv, l->listener, theirs, parent);
        int r = l->pid < 0 ? -errno : 0;
        if (r == 0)
                r = sd_event_add_child(c->event, &l->child, l->pid, WEXITED, on_child, l);
        if (r >= 0)
                r = sd_event_add_io(c->event, &l->packets, l->control, EPOLLIN, on_packet, l);
        if (r < 0) {
                if (l->pid > 0)
                        (void) kill(l->pid, SIGKILL);
                drop_process(l);
                return r;
        }
        tell_policy(l);
        return 0;
}

static int on_waiting(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct egress_link *l = userdata;
        if (loop_timer_armed(&l->rest)) {
                refuse_waiting(l);
                return 0;
        }
        /* From now on the proxy accepts; the listener is watched again when it has ended. */
        (void) sd_event_source_set_enabled(l->waiting, SD_EVENT_OFF);
        int r = l->pid > 0 ? 0 : start(l);
        if (r < 0) {
                log_errno(LOG_ERR, r, "egress: the proxy cannot be started");
                l->crashes = CRASHES_MAX;
                take_rest(l, true);
                refuse_waiting(l);
        }
        return 0;
}

/* A bare name is a credential of the service manager, as with settings of secrets. */
static char *credentials_path(const char *text)
{
        const char *folder = getenv("CREDENTIALS_DIRECTORY"); /* NOLINT(concurrency-mt-unsafe) */
        if (strempty(text) || strchr(text, '/') || !folder)
                return xstrdup(text);
        return xasprintf("%s/%s", folder, text);
}

int egress_link_new(const struct egress_config *c, int listener, struct egress_link **ret)
{
        CLEANUP(egress_link_freep) struct egress_link *l = xnew(struct egress_link);
        l->config = *c;
        l->listener = listener;
        l->control = -1;
        l->config.program = xstrdup(c->program);
        l->config.credentials = credentials_path(c->credentials);
        l->config.dns = xstrdup(c->dns);
        l->config.private_ranges = xstrdup(c->private_ranges);
        l->config.hosts = xstrdup(c->hosts);
        l->config.ca_file = xstrdup(c->ca_file);
        l->arena = wire_arena_new();
        int r = loop_timer_init(&l->rest, c->event, listen_again, l);
        if (r == 0)
                r = loop_timer_init(&l->farewell, c->event, part, l);
        if (r == 0 && listener >= 0 && fcntl(listener, F_SETFL, O_NONBLOCK) < 0)
                r = -errno;
        if (r == 0 && listener >= 0)
                r = sd_event_add_io(c->event, &l->waiting, listener, EPOLLIN, on_waiting, l);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(l);
        return 0;
}

struct egress_link *egress_link_free(struct egress_link *l)
{
        if (!l)
                return NULL;
        if (l->pid > 0) {
                l->child = sd_event_source_disable_unref(l->child);
                child_end(l->config.event, l->pid);
        }
        part(l);
        drop_process(l);
        sd_event_source_disable_unref(l->waiting);
        loop_timer_done(&l->rest);
        loop_timer_done(&l->farewell);
        fd_close(l->listener);
        wire_arena_free(l->arena);
        free((char *) l->config.program);
        free((char *) l->config.credentials);
        free((char *) l->config.dns);
        free((char *) l->config.private_ranges);
        free((char *) l->config.hosts);
        free((char *) l->config.ca_file);
        free(l->network);
        free(l->tenant);
        free(l->agent);
        free(l);
        return NULL;
}

void egress_link_set(struct egress_link *l, struct span network, const char *tenant,
                     const char *agent_name)
{
        free(l->network);
        free(l->tenant);
        free(l->agent);
        l->network = network.len ? span_dup(network) : NULL;
        l->tenant = xstrdup(tenant);
        l->agent = xstrdup(agent_name);
        if (l->pid > 0)
                tell_policy(l);
}

int egress_link_client(struct egress_link *l, int fd)
{
        cleanup_close int client = fd;
        int r = l->pid > 0 ? 0 : loop_timer_armed(&l->rest) ? -EAGAIN : start(l);
        if (r == 0)
                send_frame(l, &wire_egress_client, NULL, client);
        else
                refuse(l, TAKE_FD(client));
        return r;
}
