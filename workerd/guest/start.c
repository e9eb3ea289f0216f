/* Starts one command: environment, descriptors, session, working folder, program. */
#include "helper.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

extern char **environ;

#define NICE 10

/* The slot's own environment with the additions; later entries win. The list is freed by the
 * caller, the strings are borrowed. */
static char **merged_environment(const struct guest_spawn *m)
{
        size_t n_own = 0, n = 0;
        while (environ[n_own])
                n_own++;
        char **env = xnewn(char *, n_own + m->n_env + 1);
        for (size_t i = 0; i < n_own + m->n_env; i++) {
                char *entry = i < n_own ? environ[i] : (char *) m->env[i - n_own];
                const char *eq = strchr(entry, '=');
                if (!eq)
                        continue;
                size_t at = 0, name = (size_t) (eq - entry) + 1;
                while (at < n && strncmp(env[at], entry, name) != 0)
                        at++;
                env[at] = entry;
                n = MAX(n, at + 1);
        }
        return env;
}

struct failure {
        int error;
        char step; /* 'd' working folder, 'x' program, 'f' anything else */
};

static void child(const struct guest_spawn *m, const int fds[static 3], char **argv, char **env,
                  int report)
{
        struct failure f = { .step = 'f' };
        sigset_t none;
        sigemptyset(&none);
        /* What the worker's parents ignored would be ignored by every program of the slot: nohup,
         * for one, takes Ctrl-C away. */
        for (int s = 1; s < NSIG; s++)
                (void) signal(s, SIG_DFL);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
        /* The helper and the screen get their turn however many of these there are. */
        if (!m->listener)
                (void) setpriority(PRIO_PROCESS, 0, NICE);
        if (setsid() < 0)
                goto failed;
        for (int i = 0; i < 3; i++)
                if (dup2(fds[i], i) < 0)
                        goto failed;
        if (m->cols > 0 && ioctl(0, TIOCSCTTY, 0) < 0)
                goto failed;
        f.step = 'd';
        if (m->cwd && chdir(m->cwd) < 0)
                goto failed;
        f.step = 'x';
        environ = env;
        execvp(argv[0], argv);
failed:
        f.error = errno;
        (void) !write(report, &f, sizeof(f));
        _exit(127);
}

pid_t command_start(const struct guest_spawn *m, const int fds[static 3], const char **ret_step)
{
        int report[2];
        *ret_step = "start";
        if (pipe2(report, O_CLOEXEC) < 0)
                return -errno;
        cleanup_close int report_read = report[0];
        cleanup_close int report_write = report[1];
        cleanup_free char **argv = xnewn(char *, m->n_argv + 1);
        for (size_t i = 0; i < m->n_argv; i++)
                argv[i] = (char *) m->argv[i];
        cleanup_free char **env = merged_environment(m);
        /* When memory is short, what a step started goes before the helper that starts the next. */
        helper_oom_score(m->listener ? "300" : "700");
        pid_t pid = fork();
        int error = errno;
        if (pid != 0)
                helper_oom_score("0");
        if (pid < 0)
                return -error;
        if (pid == 0)
                child(m, fds, argv, env, report_write);
        fd_close(TAKE_FD(report_write));
        struct failure f;
        ssize_t n;
        do
                n = read(report_read, &f, sizeof(f));
        while (n < 0 && errno == EINTR);
        if (n != sizeof(f))
                return pid; /* closed by exec */
        *ret_step = f.step == 'd'   ? "enter the folder"
                    : f.step == 'x' ? "run the program"
                                    : "start";
        return -f.error; /* the child is reaped as an orphan */
}
