/* berth-idmap FILE NUMBER: pins a user namespace for one worker's slots, run as root before the
 * worker starts.
 *
 * The namespace belongs to the owner of FILE's folder (the worker's account), who alone has rights
 * in it; its ids 0..65535 are those of the host from BASE + NUMBER * 65536 on, a range that nobody
 * else hands out (systemd's own ranges end below it, Debian's /etc/subuid long before). It is bound
 * to FILE, so it lives without a process. This is the only program of Berth that runs as root; it
 * reads nothing but its arguments. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <libgen.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define BASE UINT32_C(1879048192)
#define COUNT UINT32_C(65536)
#define NUMBER_MAX 4000

static int fail(const char *what)
{
        (void) fprintf(stderr, "berth-idmap: %s: %s\n", what, strerror(errno));
        return 1;
}

/* Makes the namespace as the worker and waits to be killed. */
static void hold(uid_t uid, gid_t gid, int ready)
{
        char ok = 0;
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (setgroups(0, NULL) == 0 && setresgid(gid, gid, gid) == 0 &&
            setresuid(uid, uid, uid) == 0 && unshare(CLONE_NEWUSER) == 0)
                ok = 1;
        (void) !write(ready, &ok, 1);
        for (;;)
                (void) pause();
}

static int map(pid_t pid, const char *file, uint32_t first)
{
        char path[64], text[64];
        (void) snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
        int n = snprintf(text, sizeof(text), "0 %" PRIu32 " %" PRIu32, first, COUNT);
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        int r = fd >= 0 && write(fd, text, (size_t) n) == n ? 0 : -1;
        if (fd >= 0)
                (void) close(fd);
        return r;
}

static int pin(pid_t pid, const char *file)
{
        char source[64];
        (void) umount2(file, MNT_DETACH); /* of an earlier run */
        int fd = open(file, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0444);
        if (fd < 0)
                return -1;
        (void) close(fd);
        (void) snprintf(source, sizeof(source), "/proc/%d/ns/user", pid);
        return mount(source, file, NULL, MS_BIND, NULL);
}

int main(int argc, char **argv)
{
        char *end = NULL, ok = 0, folder[4096];
        unsigned long number = argc == 3 ? strtoul(argv[2], &end, 10) : 0;
        struct stat st;
        int ready[2];

        if (argc != 3 || !end || *end || number < 1 || number > NUMBER_MAX ||
            strlen(argv[1]) >= sizeof(folder)) {
                (void) fprintf(stderr, "usage: berth-idmap FILE NUMBER (1 to %d)\n", NUMBER_MAX);
                return 64;
        }
        memcpy(folder, argv[1], strlen(argv[1]) + 1);
        if (stat(dirname(folder), &st) < 0)
                return fail(folder);
        if (st.st_uid == 0) {
                (void) fprintf(stderr, "berth-idmap: %s belongs to root, not to a worker\n",
                               folder);
                return 1;
        }
        if (pipe2(ready, O_CLOEXEC) < 0)
                return fail("pipe");
        pid_t pid = fork();
        if (pid < 0)
                return fail("fork");
        if (pid == 0)
                hold(st.st_uid, st.st_gid, ready[1]);
        (void) close(ready[1]);
        uint32_t first = BASE + (uint32_t) number * COUNT;
        int r = 0;
        if (read(ready[0], &ok, 1) != 1 || !ok)
                r = fail("a user namespace cannot be made");
        else if (map(pid, "uid_map", first) < 0 || map(pid, "gid_map", first) < 0)
                r = fail("its ids cannot be mapped");
        else if (pin(pid, argv[1]) < 0)
                r = fail("it cannot be pinned");
        (void) kill(pid, SIGKILL);
        (void) waitpid(pid, NULL, 0);
        return r;
}
