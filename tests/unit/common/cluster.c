/* Makes, starts, stops and removes a temporary PostgreSQL cluster. */
#include "cluster.h"

#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <grp.h>
#include <libpq-fe.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static _Noreturn void give_up(const char *why)
{
        fprintf(stderr, "cluster: %s\n", why);
        exit(1);
}

/* Folder of the newest PostgreSQL's programs. */
static int find_programs(char *bin, size_t size)
{
        glob_t g;
        if (glob("/usr/lib/postgresql/*/bin/initdb", 0, NULL, &g) != 0)
                return -ENOENT;
        const char *last = g.gl_pathv[g.gl_pathc - 1];
        (void) snprintf(bin, size, "%.*s", (int) (strlen(last) - strlen("/initdb")), last);
        globfree(&g);
        return 0;
}

void cluster_require(void)
{
        char bin[128];
        if (find_programs(bin, sizeof(bin)) == 0)
                return;
        printf("1..0 # SKIP PostgreSQL is not installed\n");
        exit(0);
}

static struct passwd *database_user(void)
{
        struct passwd *user = getuid() == 0 ? getpwnam("postgres") : getpwuid(getuid());
        if (!user)
                give_up("there is no user to run PostgreSQL as");
        return user;
}

static pid_t spawn(struct cluster *c, const char *program, const char *const *args)
{
        char *argv[16] = { (char *) (uintptr_t) program };
        for (int i = 0; args[i]; i++)
                argv[i + 1] = (char *) (uintptr_t) args[i];
        struct passwd *user = database_user();
        char path[192], log[96];
        (void) snprintf(path, sizeof(path), "%s/%s", c->bin, program);
        (void) snprintf(log, sizeof(log), "%s/log", c->folder);
        pid_t pid = fork();
        if (pid != 0)
                return pid;
        int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
        sigset_t none;
        (void) sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
        if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0 ||
            chdir(c->folder) < 0 ||
            (getuid() == 0 && (initgroups(user->pw_name, user->pw_gid) < 0 ||
                               setgid(user->pw_gid) < 0 || setuid(user->pw_uid) < 0)) ||
            prctl(PR_SET_PDEATHSIG, SIGQUIT) < 0)
                _exit(126);
        (void) execv(path, argv);
        _exit(127);
}

static bool exited_well(pid_t pid)
{
        int status;
        return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void cluster_restart(struct cluster *c)
{
        /* Durability is of no use here; locks and visibility are the same without. */
        const char *args[] = { "-D", "data",
                               "-k", c->folder,
                               "-c", "listen_addresses=",
                               "-c", "fsync=off",
                               "-c", "max_connections=20",
                               "-c", "shared_buffers=16MB",
                               NULL };
        c->postmaster = spawn(c, "postgres", args);
        uint64_t end = now_monotonic() + 60 * USEC_PER_SEC;
        while (PQping(c->conninfo) != PQPING_OK) {
                if (now_monotonic() > end || waitpid(c->postmaster, NULL, WNOHANG) != 0)
                        give_up("PostgreSQL did not start");
                (void) poll(NULL, 0, 10);
        }
}

void cluster_start(struct cluster *c)
{
        *c = (struct cluster){ .folder = "/tmp/berth-cluster-XXXXXX" };
        if (find_programs(c->bin, sizeof(c->bin)) < 0)
                give_up("PostgreSQL is not installed");
        struct passwd *user = database_user();
        if (!mkdtemp(c->folder) || chown(c->folder, user->pw_uid, user->pw_gid) < 0)
                give_up("cannot make a folder");
        (void) snprintf(c->conninfo, sizeof(c->conninfo), "host=%s user=berth dbname=postgres",
                        c->folder);
        const char *args[] = { "-D", "data", "-U",         "berth",     "-A", "trust",
                               "-E", "UTF8", "--locale=C", "--no-sync", NULL };
        if (!exited_well(spawn(c, "initdb", args)))
                give_up("initdb failed");
        cluster_restart(c);
}

void cluster_halt(struct cluster *c)
{
        (void) kill(c->postmaster, SIGINT);
        (void) waitpid(c->postmaster, NULL, 0);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *f)
{
        return remove(path);
}

void cluster_stop(struct cluster *c)
{
        cluster_halt(c);
        (void) nftw(c->folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}
