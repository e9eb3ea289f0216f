/* Finds or makes the user namespace whose ids the slots of this worker run under. */
#include "slot-identity.h"

#include <fcntl.h>
#include <linux/nsfs.h>
#include <poll.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#define IDS_MAX 65536U
#define HELPER_MS 5000

const char *identity_source_name(enum identity_source s)
{
        static const char *const names[IDENTITY_SOURCE_MAX] = { "own uid", "subuid", "idmap" };
        return s < IDENTITY_SOURCE_MAX ? names[s] : "?";
}

struct range {
        uint32_t first, count;
};

/* The first range of `user` (or its number) in a file of lines "who:first:count". */
static int read_range(const char *path, const char *user, struct range *ret)
{
        FILE *f = fopen(path, "re");
        char line[256], number[24];
        int r = -ENOENT;
        if (!f)
                return -errno;
        (void) snprintf(number, sizeof(number), "%u", getuid());
        while (r == -ENOENT && fgets(line, sizeof(line), f)) {
                char *rest = NULL;
                const char *who = strtok_r(line, ":", &rest);
                const char *first = strtok_r(NULL, ":", &rest);
                const char *count = strtok_r(NULL, ":\n", &rest);
                uint64_t a, n;
                if (!who || !first || !count ||
                    (!streq(who, number) && !(user && streq(who, user))))
                        continue;
                if (parse_u64(first, &a) < 0 || parse_u64(count, &n) < 0 || n < 2 || a == 0 ||
                    a + n > UINT32_MAX)
                        continue;
                *ret = (struct range){ (uint32_t) a, (uint32_t) MIN(n, (uint64_t) IDS_MAX) };
                r = 0;
        }
        (void) fclose(f);
        return r;
}

/* Runs newuidmap or newgidmap for `pid`: ids 0..n-1 are those from `first` on. */
static int run_map(const char *program, pid_t pid, struct range range, uint32_t n)
{
        char p[16], first[16], count[16];
        (void) snprintf(p, sizeof(p), "%d", pid);
        (void) snprintf(first, sizeof(first), "%u", range.first);
        (void) snprintf(count, sizeof(count), "%u", n);
        pid_t child = fork();
        if (child < 0)
                return -errno;
        if (child == 0) {
                sigset_t none;
                sigemptyset(&none);
                (void) sigprocmask(SIG_SETMASK, &none, NULL);
                int null = open("/dev/null", O_RDWR | O_CLOEXEC);
                for (int i = 0; null >= 0 && i < 3; i++)
                        (void) dup2(null, i);
                char *env[] = { NULL };
                execle(program, program, p, "0", first, count, (char *) NULL, env);
                _exit(127);
        }
        int status = 0;
        while (waitpid(child, &status, 0) < 0)
                if (errno != EINTR)
                        return -errno;
        return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EPERM;
}

/* A process in a new user namespace that stays until it is killed. */
static int start_holder(pid_t *ret)
{
        int ready[2];
        char c = 0;
        if (pipe2(ready, O_CLOEXEC) < 0)
                return -errno;
        pid_t pid = fork();
        if (pid == 0) {
                c = unshare(CLONE_NEWUSER) == 0;
                (void) !write(ready[1], &c, 1);
                for (;;)
                        (void) pause();
        }
        (void) close(ready[1]);
        struct pollfd p = { .fd = ready[0], .events = POLLIN };
        if (pid < 0 || poll(&p, 1, HELPER_MS) <= 0 || read(ready[0], &c, 1) != 1)
                c = 0;
        (void) close(ready[0]);
        if (pid > 0 && !c) {
                (void) kill(pid, SIGKILL);
                (void) waitpid(pid, NULL, 0);
        }
        *ret = pid;
        return c ? 0 : -EPERM;
}

static int map_ids(pid_t holder, struct identity *i)
{
        struct passwd *me = getpwuid(getuid());
        struct range uids = { 0 }, gids = { 0 };
        int r = read_range("/etc/subuid", me ? me->pw_name : NULL, &uids);
        if (r == 0)
                r = read_range("/etc/subgid", me ? me->pw_name : NULL, &gids);
        if (r < 0) {
                (void) snprintf(i->why, sizeof(i->why),
                                "%s has no range in /etc/subuid and /etc/subgid: usermod "
                                "--add-subuids, --add-subgids",
                                me ? me->pw_name : "the worker's account");
                return r;
        }
        uint32_t n = MIN(uids.count, gids.count);
        r = run_map("/usr/bin/newuidmap", holder, uids, n);
        if (r == 0)
                r = run_map("/usr/bin/newgidmap", holder, gids, n);
        if (r < 0)
                (void) snprintf(i->why, sizeof(i->why),
                                "newuidmap refused: is the package uidmap installed, and may the "
                                "worker run set-uid programs?");
        else
                i->count = n;
        return r;
}

static int make_namespace(struct identity *i)
{
        char path[64];
        pid_t holder = 0;
        int r = start_holder(&holder);
        if (r < 0) {
                (void) snprintf(i->why, sizeof(i->why), "user namespaces are not allowed here");
                return r;
        }
        r = map_ids(holder, i);
        if (r == 0) {
                (void) snprintf(path, sizeof(path), "/proc/%d/ns/user", holder);
                i->userns = open(path, O_RDONLY | O_CLOEXEC);
                r = i->userns < 0 ? -errno : 0;
        }
        (void) kill(holder, SIGKILL);
        (void) waitpid(holder, NULL, 0);
        return r;
}

static int open_pinned(const char *path, struct identity *i)
{
        uid_t owner;
        i->userns = open(path, O_RDONLY | O_CLOEXEC);
        int r = i->userns < 0 ? -errno : 0;
        /* Only its owner has rights in it. */
        if (r == 0 && ioctl(i->userns, NS_GET_OWNER_UID, &owner) < 0)
                r = -errno;
        if (r == 0 && owner != geteuid())
                r = -EPERM;
        if (r == 0) {
                i->count = IDS_MAX;
                return 0;
        }
        i->userns = fd_close(i->userns);
        (void) snprintf(i->why, sizeof(i->why), "%s is no user namespace of the worker's: %s", path,
                        strerror(-r));
        return r;
}

void identity_open(const char *pinned, struct identity *ret)
{
        struct identity i = IDENTITY_NONE;
        if (!strempty(pinned) && open_pinned(pinned, &i) == 0)
                i.source = IDENTITY_PINNED;
        else if (make_namespace(&i) == 0)
                i.source = IDENTITY_SUBORDINATE;
        /* Begins anywhere: after a restart, too, the next session is somebody else. */
        if (i.count > 1 && getrandom(&i.last, sizeof(i.last), 0) == sizeof(i.last))
                i.last %= i.count;
        *ret = i;
}

void identity_done(struct identity *i)
{
        fd_close(i->userns);
        *i = IDENTITY_NONE;
}

uint32_t identity_next(struct identity *i)
{
        /* 0 is root in the namespace and stays for setting up. */
        i->last = i->last + 1 < i->count ? i->last + 1 : 1;
        return i->last;
}
