/* What runs in a slot, as the host's /proc shows it: its load, and the watch over its memory where
 * no control group limits it. */
#include "slot-private.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

struct process {
        pid_t pid, parent;
        uint64_t ticks, pages, threads;
        char state;
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
        long threads = 0;
        char state = 0;
        int parent = 0;
        if (!at)
                return false;
        /* NOLINTNEXTLINE(cert-err34-c): the kernel wrote it */
        if (sscanf(at,
                   ") %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d %*d "
                   "%ld %*d %*u %*u %ld",
                   &state, &parent, &user, &system, &threads, &pages) != 6)
                return false;
        *ret = (struct process){ .pid = (pid_t) strtol(name, NULL, 10),
                                 .parent = parent,
                                 .state = state,
                                 .ticks = user + system,
                                 .threads = threads > 0 ? (uint64_t) threads : 0,
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
                load.memory_bytes += all[i].pages * (uint64_t) sysconf(_SC_PAGESIZE);
                load.cpu_usec += all[i].ticks * USEC_PER_SEC / (uint64_t) sysconf(_SC_CLK_TCK);
        }
        cgroup_read(&s->cgroup, &use);
        if (use.memory_bytes > 0)
                load.memory_bytes = use.memory_bytes;
        load.memory_kills = use.memory_kills + s->watch_kills;
        load.fork_refusals = use.fork_refusals + s->watch_full;
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
                        total += all[i].pages * (uint64_t) sysconf(_SC_PAGESIZE);
                        tasks += all[i].threads;
                }
        *ret_tasks = tasks;
        if (total <= bytes)
                return false; /* even when what is shared counts for each */
        total = 0;
        for (size_t i = 0; i < n; i++) {
                if (all[i].where != PROCESS_INSIDE)
                        continue;
                uint64_t p = proportional(all[i].pid);
                total += p;
                if (all[i].pid == inner || p <= most)
                        continue;
                most = p;
                largest = &all[i];
        }
        return total > bytes && largest && kill(largest->pid, SIGKILL) == 0;
}

unsigned slot_signal_all(pid_t inner, int signal)
{
        cleanup_free struct process *all = NULL;
        size_t n = inner > 0 ? read_slot(inner, &all) : 0;
        unsigned fresh = 0;
        for (size_t i = 0; i < n; i++) {
                if (all[i].where != PROCESS_INSIDE || all[i].pid == inner || all[i].state == 'Z')
                        continue;
                fresh += all[i].state != 'T';
                (void) kill(all[i].pid, signal);
        }
        return fresh;
}
