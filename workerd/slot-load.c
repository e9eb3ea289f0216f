/* What runs in a slot, as the host's /proc shows it: its load, and the watch over its memory where
 * no control group limits it. */
#include "process-stat.h"
#include "slot-private.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#define PROCESSES_MAX (4U * 1024 * 1024)

struct process {
        struct process_stat stat;
        enum { PROCESS_UNKNOWN, PROCESS_INSIDE, PROCESS_OUTSIDE } where;
};

static size_t read_processes(struct process **ret)
{
        cleanup_free struct process_stat *stats = NULL;
        size_t n = process_stat_all(PROCESSES_MAX, &stats);
        struct process *all = n > 0 ? xnewn(struct process, n) : NULL;
        for (size_t i = 0; i < n; i++)
                all[i] = (struct process){ .stat = stats[i] };
        *ret = all;
        return n;
}

static int by_pid(const void *a, const void *b)
{
        const struct process *x = a, *y = b;
        return x->stat.pid < y->stat.pid ? -1 : x->stat.pid > y->stat.pid;
}

static struct process *parent_of(struct process *all, size_t n, const struct process *p)
{
        const struct process key = { .stat.pid = p->stat.parent };
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
                if (last->stat.pid == root)
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

/* Reads all of /proc and marks what is in the slot. Process 1 of the slot adopts its orphans, so
 * the slot is the tree below it. */
static size_t read_slot(pid_t inner, struct process **ret)
{
        size_t n = read_processes(ret);
        if (n > 0)
                qsort(*ret, n, sizeof(**ret), by_pid);
        for (size_t i = 0; i < n; i++)
                (void) is_inside(*ret, n, &(*ret)[i], inner);
        return n;
}

int slot_load(const struct slot *s, struct slot_load *ret)
{
        struct slot_load load = { 0 };
        struct cgroup_use use;
        cleanup_free struct process *all = NULL;
        if (s->sandbox.inner <= 0)
                return -ENOTCONN;
        size_t n = read_slot(s->sandbox.inner, &all);
        for (size_t i = 0; i < n; i++) {
                if (all[i].where != PROCESS_INSIDE)
                        continue;
                load.processes++;
                load.memory_bytes += all[i].stat.pages * (uint64_t) sysconf(_SC_PAGESIZE);
                load.cpu_usec += all[i].stat.ticks * USEC_PER_SEC / (uint64_t) sysconf(_SC_CLK_TCK);
        }
        cgroup_read(&s->cgroup, &use);
        if (use.memory_bytes > 0)
                load.memory_bytes = use.memory_bytes;
        struct slot_hits hits;
        slot_hits(s, &hits);
        load.memory_kills = hits.memory_kills;
        load.fork_refusals = hits.fork_refusals;
        *ret = load;
        return 0;
}

/* The process's share of the memory it uses; what it shares is divided among those who do. */
static uint64_t proportional(pid_t pid)
{
        char path[64], text[4096];
        (void) snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
        cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
        text[n > 0 ? n : 0] = '\0';
        const char *at = strstr(text, "\nPss:");
        return at ? strtoull(at + 5, NULL, 10) * 1024 : 0;
}

bool slot_watch_memory(pid_t inner, uint64_t bytes, uint64_t *ret_tasks)
{
        cleanup_free struct process *all = NULL;
        uint64_t total = 0, most = 0, tasks = 0;
        const struct process *largest = NULL;
        size_t n = inner > 0 ? read_slot(inner, &all) : 0;
        for (size_t i = 0; i < n; i++)
                if (all[i].where == PROCESS_INSIDE) {
                        total += all[i].stat.pages * (uint64_t) sysconf(_SC_PAGESIZE);
                        tasks += all[i].stat.threads;
                }
        *ret_tasks = tasks;
        if (total <= bytes)
                return false; /* even when what is shared counts for each */
        total = 0;
        for (size_t i = 0; i < n; i++) {
                if (all[i].where != PROCESS_INSIDE)
                        continue;
                uint64_t p = proportional(all[i].stat.pid);
                total += p;
                if (all[i].stat.pid == inner || p <= most)
                        continue;
                most = p;
                largest = &all[i];
        }
        return total > bytes && largest && kill(largest->stat.pid, SIGKILL) == 0;
}

/* The display server goes on when a slot is paused: people look at what stands still. It is a child
 * of the helper; a program that takes its name only stays outside the pause. */
static bool is_display(const struct process_stat *p, pid_t inner)
{
        return p->parent == inner && (streq(p->name, "Xvnc") || streq(p->name, "Xtigervnc"));
}

unsigned slot_signal_all(pid_t inner, int signal, bool display)
{
        cleanup_free struct process *all = NULL;
        size_t n = inner > 0 ? read_slot(inner, &all) : 0;
        unsigned fresh = 0;
        for (size_t i = 0; i < n; i++) {
                const struct process_stat *p = &all[i].stat;
                if (all[i].where != PROCESS_INSIDE || p->pid == inner || p->state == 'Z' ||
                    (!display && is_display(p, inner)))
                        continue;
                fresh += p->state != 'T';
                (void) kill(p->pid, signal);
        }
        return fresh;
}
