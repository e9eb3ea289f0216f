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
