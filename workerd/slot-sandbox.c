/* Builds bubblewrap's arguments, starts it with exactly the descriptors it needs, and kills what it
 * holds. */
#include "slot-sandbox.h"

#include "process-stat.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/base/buf.h"

/* Where the child finds what; bubblewrap passes 3, 4, 8, 9 and 10 on to the helper, or to QEMU. */
enum {
        FD_STREAM = 3,
        FD_LISTENER = 4,
        FD_ARGS = 5,
        FD_FILTER = 6,
        FD_INFO = 7,
        FD_GATE = 8,
        FD_DATA = 9,
        FD_RAM = SANDBOX_FD_RAM,
        FD_MAX = 11
};
_Static_assert((int) FD_LISTENER == SANDBOX_FD_QMP && (int) FD_DATA == SANDBOX_FD_SETUP,
               "a machine has other descriptors in these places");

#define ARGV_MAX 128
#define PRELOAD_INSIDE "/run/slot/preload.so"

/* Appends NUL-terminated arguments up to a NULL. */
static void add(struct buf *b, const char *first, ...)
{
        va_list ap;
        va_start(ap, first);
        for (const char *s = first; s; s = va_arg(ap, const char *))
                buf_put(b, s, strlen(s) + 1);
        va_end(ap);
}

/* bubblewrap limits user namespaces by a file below /proc/sys. In a container or a service that may
 * be read-only: then the filter alone refuses them (it does so in any case). */
static bool may_limit_namespaces(void)
{
        struct statvfs v;
        return statvfs("/proc/sys/user", &v) == 0 && !(v.f_flag & ST_RDONLY);
}

/* What programs look at to find a proxy: curl, git, apt, pip and Python the first two, Chromium
 * too, Node.js when it is told to. */
static void add_proxy(struct buf *b)
{
        static const char *const names[] = { "http_proxy", "https_proxy", "HTTP_PROXY",
                                             "HTTPS_PROXY" };
        cleanup_free char *url = xasprintf("http://127.0.0.1:%d", EGRESS_PORT);
        for (size_t i = 0; i < ARRAY_LEN(names); i++)
                add(b, "--setenv", names[i], url, NULL);
        add(b, "--setenv", "no_proxy", "localhost,127.0.0.1,::1", "--setenv", "NODE_USE_ENV_PROXY",
            "1", NULL);
}

/* An image made before volumes has no mount points for them, and it is read-only. */
static bool has_volume(const struct sandbox_config *c)
{
        cleanup_free char *data = xasprintf("%s/data", c->image_dir);
        cleanup_free char *results = xasprintf("%s/results", c->image_dir);
        return access(data, F_OK) == 0 && access(results, F_OK) == 0;
}

/* A namespace of each kind but of control groups, which the worker's unit lets nobody make
 * (RestrictNamespaces=): a slot can read the name of its group and come to nothing of it. */
static void add_namespaces(struct buf *b)
{
        add(b, "--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts",
            "--die-with-parent", "--new-session", "--as-pid-1", "--hostname", "slot", "--uid",
            "1000", "--gid", "1000", "--cap-drop", "ALL", NULL);
}

/* QEMU is a program of the host: it sees the host's /usr and nothing else of it. */
static void add_machine(struct buf *b, const struct sandbox_config *c, const struct stage *st)
{
        const struct sandbox_machine *m = c->machine;
        add_namespaces(b);
        if (may_limit_namespaces())
                add(b, "--disable-userns", NULL);
        add(b, "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink", "usr/lib",
            "/lib", "--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev", NULL);
        if (m->kvm)
                add(b, "--dev-bind", "/dev/kvm", "/dev/kvm", NULL);
        add(b, "--remount-ro", "/dev", "--bind", st->paths[STAGE_TMP], "/tmp", "--bind",
            st->paths[STAGE_RUN], "/run", "--ro-bind", c->helper, SANDBOX_HELPER, "--ro-bind",
            c->image_dir, SANDBOX_IMAGE, "--chdir", "/tmp", "--clearenv", "--setenv", "PATH",
            "/usr/bin:/bin", "--setenv", "LANG", "C.UTF-8", NULL);
        if (m->preload)
                add(b, "--ro-bind", m->preload, PRELOAD_INSIDE, "--setenv", "LD_PRELOAD",
                    PRELOAD_INSIDE, NULL);
        add(b, "--seccomp", "6", "--info-fd", "7", NULL);
}

static void add_arguments(struct buf *b, const struct sandbox_config *c, const struct stage *st)
{
        add_namespaces(b);
        if (c->profile == SANDBOX_TOOL && may_limit_namespaces())
                add(b, "--disable-userns", NULL);
        add(b, "--ro-bind", c->image_dir, "/", "--proc", "/proc", "--dev", "/dev", NULL);
        add(b, "--bind", st->paths[STAGE_SHM], "/dev/shm", "--remount-ro", "/dev", NULL);
        add(b, "--bind", st->paths[STAGE_TMP], "/tmp", "--bind", st->paths[STAGE_VAR_TMP],
            "/var/tmp", "--bind", st->paths[STAGE_RUN], "/run", NULL);
        add(b, "--ro-bind", c->helper, SANDBOX_HELPER, "--bind", st->paths[STAGE_HOME],
            "/home/agent", "--chdir", "/home/agent", "--clearenv", "--setenv", "PATH",
            "/usr/local/bin:/usr/bin:/bin", "--setenv", "HOME", "/home/agent", "--setenv", "LANG",
            "C.UTF-8", NULL);
        if (has_volume(c))
                add(b, "--ro-bind", st->paths[STAGE_DATA], "/data", "--bind",
                    st->paths[STAGE_RESULTS], "/results", NULL);
        if (c->display)
                add(b, "--setenv", "DISPLAY", c->display, NULL);
        if (c->gate >= 0)
                add_proxy(b);
        add(b, "--seccomp", "6", "--info-fd", "7", NULL);
}

static int make_arguments(const struct sandbox_config *c, const struct stage *st, int *ret_fd)
{
        cleanup_buf struct buf b = BUF_INIT;
        if (c->machine)
                add_machine(&b, c, st);
        else
                add_arguments(&b, c, st);
        cleanup_close int fd = memfd_create("arguments", MFD_CLOEXEC);
        if (fd < 0)
                return -errno;
        if (write(fd, b.data, b.len) != (ssize_t) b.len || lseek(fd, 0, SEEK_SET) < 0)
                return -EIO;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

static __attribute__((noreturn)) void die(const char *a, const char *b, const char *c)
{
        const char *const parts[] = { a, b, *c ? ": " : "", c, "\n" };
        for (size_t i = 0; i < ARRAY_LEN(parts); i++)
                (void) !write(2, parts[i], strlen(parts[i]));
        _exit(126);
}

/* Only async-signal-safe calls: the worker has threads of ZeroMQ. (strerror of a known errno only
 * reads a table.) */
static void child(const char *bwrap, int fds[static FD_MAX], char *const *argv,
                  const struct slot_limits *limits, const struct stage *stage)
{
        int moved[FD_MAX];
        sigset_t none;
        /* The helper is the last to go when memory is short; what it starts goes first (start.c).
         */
        int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
        if (score >= 0)
                (void) !write(score, "0", 1);
        const char *failed = stage_enter(stage);
        int error = errno;
        /* Through this one process 1 writes what is read-only everywhere in the slot. */
        if (!failed && fds[FD_DATA] < 0)
                fds[FD_DATA] = open(stage->paths[STAGE_DATA], O_PATH | O_DIRECTORY | O_CLOEXEC);
        sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
        (void) signal(SIGPIPE, SIG_DFL);
        for (int i = 0; i < FD_MAX; i++) {
                moved[i] = fds[i] < 0 ? -1 : fcntl(fds[i], F_DUPFD, 64);
                if (fds[i] >= 0 && moved[i] < 0)
                        _exit(126);
        }
        for (int i = 0; i < FD_MAX; i++) {
                if (moved[i] < 0)
                        (void) close(i);
                else if (dup2(moved[i], i) < 0)
                        _exit(126);
        }
        if (close_range(FD_MAX, ~0U, 0) < 0 || setpgid(0, 0) < 0)
                _exit(126);
        if (failed)
                die("cannot ", failed, strerror(error));
        (void) setrlimit(RLIMIT_NOFILE, &(struct rlimit){ limits->open_files, limits->open_files });
        (void) setrlimit(RLIMIT_FSIZE, &(struct rlimit){ limits->file_bytes, limits->file_bytes });
        (void) setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
        char *env[] = { NULL };
        execve(bwrap, argv, env);
        die("bubblewrap cannot be run: ", strerror(errno), "");
}

/* bubblewrap's and, behind it, the helper's; borrowed from what is given. */
static int make_argv(const struct sandbox_config *c, char *processes, char *gate,
                     char *argv[static ARGV_MAX])
{
        const char *const machine[] = { "machine", gate, NULL };
        const char *const slot[] = { "3",
                                     c->canary          ? "canary"
                                     : c->listener >= 0 ? "4"
                                                        : "-",
                                     processes,
                                     gate,
                                     has_volume(c) ? "9" : "-",
                                     NULL };
        const char *const before[] = { "bwrap", "--args", "5", "--", SANDBOX_HELPER, NULL };
        char *const none[] = { NULL };
        const char *const *parts[] = { before, c->machine ? machine : slot,
                                       (const char *const *) (c->machine ? c->machine->argv
                                                                         : none) };
        size_t n = 0;
        for (size_t p = 0; p < ARRAY_LEN(parts); p++)
                for (const char *const *a = parts[p]; *a; a++) {
                        if (n + 1 == ARGV_MAX)
                                return -E2BIG;
                        argv[n++] = (char *) *a;
                }
        argv[n] = NULL;
        return 0;
}

int sandbox_start(const struct sandbox_config *c, struct sandbox *ret)
{
        int info[2], errors[2];
        cleanup_close int args = -1, filter = -1, null = -1;
        struct stage stage;
        const char *const used[] = { c->bwrap, c->image_dir, c->helper, NULL };
        int r = stage_plan(c->identity, c->cgroup, &c->limits, used, &stage);
        if (r == 0)
                r = make_arguments(c, &stage, &args);
        if (r == 0)
                r = sandbox_filter(c->profile, &filter);
        if (r < 0)
                return r;
        null = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (null < 0 || pipe2(info, O_CLOEXEC | O_NONBLOCK) < 0)
                return -errno;
        cleanup_close int info_read = info[0], info_write = info[1];
        if (pipe2(errors, O_CLOEXEC | O_NONBLOCK) < 0)
                return -errno;
        cleanup_close int errors_read = errors[0], errors_write = errors[1];

        char processes[24], gate[2] = { c->gate >= 0 ? '8' : '-' };
        char *argv[ARGV_MAX];
        (void) snprintf(processes, sizeof(processes), "%" PRIu64, c->limits.processes);
        r = make_argv(c, processes, gate, argv);
        if (r < 0)
                return r;
        const struct sandbox_machine *m = c->machine;
        int fds[FD_MAX] = {
                null,           errors_write, errors_write, c->stream, m ? m->qmp : c->listener,
                args,           filter,       info_write,   c->gate,   m ? m->setup : -1,
                m ? m->ram : -1
        };
        pid_t pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0)
                child(c->bwrap, fds, argv, &c->limits, &stage);
        *ret = (struct sandbox){ .pid = pid,
                                 .info = TAKE_FD(info_read),
                                 .errors = TAKE_FD(errors_read),
                                 .inner_fd = -1 };
        return 0;
}

uint64_t process_start_time(pid_t pid)
{
        struct process_stat p;
        return process_stat(pid, &p) < 0 ? 0 : p.started;
}

/* "child-pid": N with what follows the number there too. */
static void find_inner(struct sandbox *b)
{
        const char *at = strstr(b->info_text, "\"child-pid\":");
        char *end = NULL;
        if (b->inner > 0 || !at)
                return;
        long pid = strtol(at + strlen("\"child-pid\":"), &end, 10);
        if (!*end || pid <= 1)
                return;
        b->inner_fd = pidfd_open((pid_t) pid, 0);
        if (b->inner_fd >= 0)
                b->inner = (pid_t) pid;
}

int sandbox_read_info(struct sandbox *b)
{
        /* It is written in pieces, and closing early would kill bubblewrap with SIGPIPE. */
        while (b->info >= 0) {
                size_t have = strlen(b->info_text), room = sizeof(b->info_text) - 1 - have;
                ssize_t n = room > 0 ? read(b->info, b->info_text + have, room) : 0;
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        break;
                if (n == 0)
                        b->info = fd_close(b->info);
                else
                        b->info_text[have + (size_t) n] = '\0';
        }
        find_inner(b);
        return b->inner > 0 ? 0 : b->info >= 0 ? -EAGAIN : -ENODATA;
}

void sandbox_kill(struct sandbox *b, bool hard)
{
        if (b->inner == 0 && b->info >= 0)
                (void) !sandbox_read_info(b);
        if (b->inner_fd >= 0)
                (void) pidfd_send_signal(b->inner_fd, SIGKILL, NULL, 0);
        /* Without process 1 known, bubblewrap's own death takes its child along (die-with-parent).
         */
        if (b->pid > 0 && (hard || (b->inner == 0 && b->info < 0)))
                (void) kill(b->pid, SIGKILL);
}

void sandbox_done(struct sandbox *b)
{
        fd_close(b->info);
        fd_close(b->errors);
        fd_close(b->inner_fd);
        *b = SANDBOX_NONE;
}
