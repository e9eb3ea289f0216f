/* Ends commands with all they started, also when that keeps forking. */
#include "helper.h"

#include <signal.h>
#include <unistd.h>

#include "workerd/process-stat.h"

#define PROCESSES_MAX 65536
#define PASSES_MAX 100 /* each stops what the one before has missed */

/* All processes of the slot but ourselves. */
static size_t read_all(struct process_stat **ret)
{
        size_t n = process_stat_all(PROCESSES_MAX, ret), kept = 0;
        for (size_t i = 0; i < n; i++)
                if ((*ret)[i].pid != 1)
                        (*ret)[kept++] = (*ret)[i];
        return kept;
}

static const struct process_stat *by_pid(const struct process_stat *all, size_t n, pid_t pid)
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
static bool is_stray(const struct helper *h, const struct process_stat *all, size_t n,
                     const struct process_stat *p)
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
        cleanup_free struct process_stat *all = NULL;
        size_t n = read_all(&all);
        unsigned fresh = 0;
        for (size_t i = 0; i < n; i++) {
                const struct process_stat *p = &all[i];
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
        if (m->signal == SIGTERM || m->signal == SIGHUP)
                (void) send_all(h, session, (int) m->signal);
        if (m->signal != SIGKILL)
                return;
        /* What forks faster than we kill is held first: who is stopped cannot fork. */
        for (int pass = 0; pass < PASSES_MAX && send_all(h, session, SIGSTOP) > 0; pass++)
                ;
        (void) send_all(h, session, SIGKILL);
}
