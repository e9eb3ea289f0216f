/* The folder of a slot, what is written there about its processes, and clearing up after a crash.
 */
#include "slot-private.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "slot-tree.h"

#define RECONCILE_USEC (5 * USEC_PER_SEC)

void slot_inner_path(const struct slot *s, const char *name, char ret[static SLOT_PATH_MAX])
{
        (void) snprintf(ret, SLOT_PATH_MAX, "/proc/self/fd/%d/%s", s->folder, name);
}

int slot_folder_open(const char *state_dir, const char *id, int *ret_folder, int *ret_lock)
{
        cleanup_close int state = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (state < 0)
                return -errno;
        if (mkdirat(state, id, 0700) < 0 && errno != EEXIST)
                return -errno;
        cleanup_close int folder =
                openat(state, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (folder < 0)
                return -errno;
        cleanup_close int lock =
                openat(folder, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (lock < 0)
                return -errno;
        if (flock(lock, LOCK_EX | LOCK_NB) < 0)
                return errno == EWOULDBLOCK ? -EBUSY : -errno;
        *ret_folder = TAKE_FD(folder);
        *ret_lock = TAKE_FD(lock);
        return 0;
}

void slot_write_processes(const struct slot *s)
{
        const pid_t pids[] = { s->sandbox.pid, s->sandbox.inner };
        cleanup_close int fd =
                openat(s->folder, "processes", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        for (size_t i = 0; fd >= 0 && i < ARRAY_LEN(pids); i++)
                if (pids[i] > 0)
                        (void) dprintf(fd, "%d %" PRIu64 "\n", pids[i],
                                       process_start_time(pids[i]));
}

/* A recorded process that still lives, as a pidfd; -1 when it is gone or the pid is another's now.
 */
static int recorded_alive(pid_t pid, uint64_t started)
{
        int fd = pid > 1 && started > 0 ? pidfd_open(pid, 0) : -1;
        if (fd >= 0 && process_start_time(pid) != started)
                fd = fd_close(fd);
        return fd;
}

static unsigned kill_recorded(int folder, uint64_t until)
{
        cleanup_close int fd = openat(folder, "processes", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        char text[256];
        ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
        unsigned killed = 0;
        if (n <= 0)
                return 0;
        text[n] = '\0';
        char *rest = NULL;
        for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
                char *end = NULL;
                pid_t pid = (pid_t) strtol(line, &end, 10);
                cleanup_close int process = recorded_alive(pid, strtoull(end, NULL, 10));
                if (process < 0 || pidfd_send_signal(process, SIGKILL, NULL, 0) < 0)
                        continue;
                killed++;
                uint64_t now = now_monotonic();
                struct pollfd p = { .fd = process, .events = POLLIN };
                (void) poll(&p, 1, now < until ? (int) ((until - now) / USEC_PER_MSEC) : 0);
                (void) waitpid(pid, NULL, WNOHANG); /* it may have become ours */
        }
        return killed;
}

static int reconcile_one(int state, const char *state_dir, const char *id, uint64_t until,
                         unsigned *killed)
{
        cleanup_close int folder = -1;
        cleanup_close int lock = -1;
        struct stat st;
        if (fstatat(state, id, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode))
                return 0;
        /* Only folders that a slot made: others in STATE_DIR are none of our business. */
        cleanup_free char *mark = xasprintf("%s/lock", id);
        if (fstatat(state, mark, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return 0;
        int r = slot_folder_open(state_dir, id, &folder, &lock);
        if (r < 0)
                return r == -EBUSY ? 0 : r; /* a living worker's */
        *killed += kill_recorded(folder, until);
        return tree_remove(state, id);
}

int slot_reconcile(const char *state_dir, unsigned *ret_killed)
{
        unsigned killed = 0;
        int r = 0;
        uint64_t until = now_monotonic() + RECONCILE_USEC;
        if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
                return -errno;
        cleanup_close int state = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int copy = state < 0 ? -1 : openat(state, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *d = copy < 0 ? NULL : fdopendir(copy);
        if (!d)
                return -errno;
        for (struct dirent *e; (e = readdir(d));) {
                if (e->d_name[0] == '.')
                        continue;
                int one = reconcile_one(state, state_dir, e->d_name, until, &killed);
                if (one < 0) {
                        log_errno(LOG_WARNING, one, "cannot clear away the slot folder %s",
                                  e->d_name);
                        r = one;
                }
        }
        closedir(d);
        if (r == 0 && ret_killed)
                *ret_killed = killed;
        return r;
}

/* --- load ------------------------------------------------------------------------------------- */

struct process {
        pid_t pid, parent;
        uint64_t ticks, pages;
        enum { PROCESS_UNKNOWN, PROCESS_INSIDE, PROCESS_OUTSIDE } where;
};

static bool read_process(const char *name, struct process *ret)
{
        char path[64], text[1024];
        (void) snprintf(path, sizeof(path), "/proc/%.20s/stat", name);
        cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
        if (n <= 0)
                return false;
        text[n] = '\0';
        const char *at = strrchr(text, ')');
        unsigned long user = 0, system = 0;
        long pages = 0;
        int parent = 0;
        if (!at)
                return false;
        /* NOLINTNEXTLINE(cert-err34-c): the kernel wrote it */
        if (sscanf(at,
                   ") %*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d %*d "
                   "%*d %*d %*u %*u %ld",
                   &parent, &user, &system, &pages) != 4)
                return false;
        *ret = (struct process){ .pid = (pid_t) strtol(name, NULL, 10),
                                 .parent = parent,
                                 .ticks = user + system,
                                 .pages = pages > 0 ? (uint64_t) pages : 0 };
        return true;
}

static size_t read_processes(struct process **ret)
{
        DIR *d = opendir("/proc");
        struct process *all = NULL;
        size_t n = 0, room = 0;
        if (!d)
                return 0;
        for (struct dirent *e; (e = readdir(d));) {
                if (e->d_name[0] < '1' || e->d_name[0] > '9')
                        continue;
                if (n == room) {
                        room = room ? 2 * room : 256;
                        all = xrealloc(all, room, sizeof(*all));
                }
                n += read_process(e->d_name, &all[n]);
        }
        closedir(d);
        *ret = all;
        return n;
}

static int by_pid(const void *a, const void *b)
{
        const struct process *x = a, *y = b;
        return x->pid < y->pid ? -1 : x->pid > y->pid;
}

static struct process *parent_of(struct process *all, size_t n, const struct process *p)
{
        const struct process key = { .pid = p->parent };
        return bsearch(&key, all, n, sizeof(*all), by_pid);
}

/* Walks up to what is known already and notes it for everything on the way, so that each process of
 * the host is passed twice at most. */
static bool is_inside(struct process *all, size_t n, struct process *p, pid_t root)
{
        struct process *last = p, *up;
        /* They were read one after the other, so parents may even form a ring: bounded. */
        for (size_t steps = 0; last->where == PROCESS_UNKNOWN; steps++) {
                up = parent_of(all, n, last);
                if (last->pid == root)
                        last->where = PROCESS_INSIDE;
                else if (!up || steps > n)
                        last->where = PROCESS_OUTSIDE;
                else
                        last = up;
        }
        for (; p != last; p = parent_of(all, n, p))
                p->where = last->where;
        return last->where == PROCESS_INSIDE;
}

/* Process 1 of the slot adopts its orphans, so the slot is the tree below it. */
int slot_load(const struct slot *s, struct slot_load *ret)
{
        struct slot_load load = { 0 };
        cleanup_free struct process *all = NULL;
        if (s->sandbox.inner <= 0)
                return -ENOTCONN;
        size_t n = read_processes(&all);
        if (n > 0)
                qsort(all, n, sizeof(*all), by_pid);
        for (size_t i = 0; i < n; i++) {
                if (!is_inside(all, n, &all[i], s->sandbox.inner))
                        continue;
                load.processes++;
                load.memory_bytes += all[i].pages * (uint64_t) sysconf(_SC_PAGESIZE);
                load.cpu_usec += all[i].ticks * USEC_PER_SEC / (uint64_t) sysconf(_SC_CLK_TCK);
        }
        *ret = load;
        return 0;
}

/* --- probe ------------------------------------------------------------------------------------ */

static char *probe_failure(struct sandbox *b)
{
        char said[512];
        ssize_t n = read(b->errors, said, sizeof(said) - 1);
        said[n > 0 ? n : 0] = '\0';
        return xasprintf("a slot cannot be made on this host: %s. Unprivileged user namespaces "
                         "must be allowed "
                         "(sysctl user.max_user_namespaces, "
                         "kernel.apparmor_restrict_unprivileged_userns) and "
                         "bubblewrap installed",
                         n > 0 ? strstrip(said) : "bubblewrap gave no answer in 5 s");
}

static int probe_with(const struct slot_config *c, const char *home, char **ret_why)
{
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        cleanup_close int ours = pair[0], theirs = pair[1];
        struct sandbox_config sc = { .bwrap = c->bwrap ? c->bwrap : "/usr/bin/bwrap",
                                     .image_dir = c->image_dir,
                                     .home_dir = home,
                                     .helper = c->helper,
                                     .profile = c->kind == SLOT_KIND_DESKTOP ? SANDBOX_BROWSER
                                                                             : SANDBOX_TOOL,
                                     .stream = theirs,
                                     .listener = -1,
                                     .limits = { 64, 256, MIB, MIB } };
        struct sandbox b = SANDBOX_NONE;
        int r = sandbox_start(&sc, &b);
        if (r < 0)
                return r;
        fd_close(TAKE_FD(theirs));
        /* The helper greets, or the stream ends because there is nobody. */
        struct pollfd p = { .fd = ours, .events = POLLIN };
        char greeting[64];
        r = poll(&p, 1, 5000) > 0 && recv(ours, greeting, sizeof(greeting), MSG_DONTWAIT) > 0
                    ? 0
                    : -ENOSYS;
        fd_close(TAKE_FD(ours));
        sandbox_kill(&b, r < 0);
        (void) waitpid(b.pid, NULL, 0);
        if (r < 0)
                *ret_why = probe_failure(&b);
        sandbox_done(&b);
        return r;
}

int slot_probe(const struct slot_config *c, char **ret_why)
{
        cleanup_free char *home = xasprintf("%s/probe-XXXXXX", c->state_dir);
        if (geteuid() == 0) {
                *ret_why =
                        xstrdup("the worker must not run as root: start it as a user of its own");
                return -EPERM;
        }
        if (!mkdtemp(home)) {
                int r = -errno;
                *ret_why = xasprintf("cannot write to %s: %s", c->state_dir, strerror(-r));
                return r;
        }
        char *why = NULL;
        int r = probe_with(c, home, &why);
        (void) rmdir(home);
        if (r < 0)
                *ret_why = why ? why : xasprintf("a slot cannot be made: %s", strerror(-r));
        return r;
}
