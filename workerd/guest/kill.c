/* Ends commands with all they started, also when that keeps forking. */
#include "helper.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#define PROCESSES_MAX 65536
#define PASSES_MAX 100 /* each stops what the one before has missed */

struct process {
        pid_t pid, parent, session;
        char state;
};

static bool read_one(const char *pid, struct process *ret)
{
        char path[64], text[512];
        int parent = 0, session = 0;
        char state = 0;
        (void) snprintf(path, sizeof(path), "/proc/%.20s/stat", pid);
        cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
        if (n <= 0)
                return false;
        text[n] = '\0';
        const char *after = strrchr(text, ')'); /* the name may hold anything */
        /* NOLINTNEXTLINE(cert-err34-c): the kernel wrote it */
        if (!after || sscanf(after, ") %c %d %*d %d", &state, &parent, &session) != 3)
                return false;
        *ret = (struct process){ (pid_t) strtol(pid, NULL, 10), parent, session, state };
        return true;
}

/* All processes of the slot but ourselves. */
static size_t read_all(struct process **ret)
{
        struct process *all = NULL;
        size_t n = 0, room = 0;
        DIR *d = opendir("/proc");
        if (!d)
                return 0;
        for (struct dirent *e; n < PROCESSES_MAX && (e = readdir(d));) {
                if (e->d_name[0] < '1' || e->d_name[0] > '9')
                        continue;
                if (n == room) {
                        room = room ? 2 * room : 256;
                        all = xrealloc(all, room, sizeof(*all));
                }
                if (read_one(e->d_name, &all[n]) && all[n].pid != 1)
                        n++;
        }
        closedir(d);
        *ret = all;
        return n;
}

static const struct process *by_pid(const struct process *all, size_t n, pid_t pid)
{
        for (size_t i = 0; i < n; i++)
                if (all[i].pid == pid)
                        return &all[i];
        return NULL;
}

static bool is_command(const struct helper *h, pid_t pid)
{
        for (size_t i = 0; i < COMMANDS_MAX; i++)
                if (h->commands[i].used && h->commands[i].pid == pid)
                        return true;
        return false;
}

/* Below no running command: an orphan, or the child of one. */
static bool is_stray(const struct helper *h, const struct process *all, size_t n,
                     const struct process *p)
{
        for (size_t steps = 0; p && steps <= n; steps++) {
                if (is_command(h, p->pid))
                        return false;
                p = by_pid(all, n, p->parent);
        }
        return true;
}

/* `session` 0 = strays. Returns how many had not yet got this signal's effect. */
static unsigned send_all(const struct helper *h, pid_t session, int signal)
{
        cleanup_free struct process *all = NULL;
        size_t n = read_all(&all);
        unsigned fresh = 0;
        for (size_t i = 0; i < n; i++) {
                const struct process *p = &all[i];
                if (p->state == 'Z' || p->state == 'X' || (signal == SIGSTOP && p->state == 'T'))
                        continue;
                if (session ? p->session != session : !is_stray(h, all, n, p))
                        continue;
                fresh++;
                (void) kill(p->pid, signal);
        }
        return fresh;
}

void command_kill(struct helper *h, const struct guest_kill *m)
{
        const struct command *c = m->proc ? command_find(h, m->proc) : NULL;
        if ((m->proc && !c) || m->signal == 0 || m->signal > 64)
                return;
        pid_t session = c ? c->pid : 0;
        if (c)
                (void) kill(-c->pid, (int) m->signal);
        /* Jobs of a shell have groups of their own: an end is meant for the whole session. */
        if (m->signal == SIGTERM)
                (void) send_all(h, session, SIGTERM);
        if (m->signal != SIGKILL)
                return;
        /* What forks faster than we kill is held first: who is stopped cannot fork. */
        for (int pass = 0; pass < PASSES_MAX && send_all(h, session, SIGSTOP) > 0; pass++)
                ;
        (void) send_all(h, session, SIGKILL);
}
