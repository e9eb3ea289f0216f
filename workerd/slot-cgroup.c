/* Makes, fills, reads and removes the control group of a slot, for both versions of the interface.
 */
#include "slot-cgroup.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define CPU_PERIOD_USEC 100000U
#define EMPTY_USEC USEC_PER_SEC
#define OWN_LEAF "worker" /* version 2: processes live in leaves only */

static const char *const controllers[CGROUP_KIND_MAX] = { "memory", "pids", "cpu" };

/* --- files ------------------------------------------------------------------------------------ */

static int put(int folder, const char *file, const char *value)
{
        cleanup_close int fd = openat(folder, file, O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, value, strlen(value)) < 0)
                return -errno;
        return 0;
}

static int put_number(int folder, const char *file, uint64_t value)
{
        char text[24];
        (void) snprintf(text, sizeof(text), "%" PRIu64, value);
        return put(folder, file, text);
}

static ssize_t get(int folder, const char *file, char *to, size_t size)
{
        cleanup_close int fd = folder < 0 ? -1 : openat(folder, file, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, to, size - 1);
        to[n > 0 ? n : 0] = '\0';
        return n;
}

/* The number behind `key` in lines of "key number"; key NULL = the file is one number. */
static uint64_t get_number(int folder, const char *file, const char *key)
{
        char text[1024];
        if (get(folder, file, text, sizeof(text)) <= 0)
                return 0;
        size_t n = key ? strlen(key) : 0;
        for (const char *at = text; at; at = strchr(at, '\n')) {
                at += *at == '\n';
                if (strncmp(at, key ? key : "", n) == 0 && (!key || at[n] == ' '))
                        return strtoull(at + n, NULL, 10);
        }
        return 0;
}

/* --- where we are ----------------------------------------------------------------------------- */

/* True when the comma list `list` has `word`. */
static bool has_word(const char *list, const char *word)
{
        size_t n = strlen(word);
        for (const char *at = list; at; at = strchr(at, ',')) {
                at += *at == ',';
                if (strncmp(at, word, n) == 0 && (at[n] == ',' || at[n] == '\0'))
                        return true;
        }
        return false;
}

/* Our own place in the hierarchy of `controller` (NULL = version 2), as the kernel names it. */
static int own_path(const char *controller, char *ret, size_t size)
{
        char line[4400];
        int r = -ENOENT;
        FILE *f = fopen("/proc/self/cgroup", "re");
        if (!f)
                return -errno;
        while (r == -ENOENT && fgets(line, sizeof(line), f)) {
                char *rest = NULL, *list;
                line[strcspn(line, "\n")] = '\0';
                list = strchr(line, ':');
                rest = list ? strchr(list + 1, ':') : NULL;
                if (!rest)
                        continue;
                *rest++ = '\0';
                list++;
                if (controller ? !has_word(list, controller) : *list)
                        continue;
                r = (size_t) snprintf(ret, size, "%s", rest) < size ? 0 : -ENAMETOOLONG;
        }
        (void) fclose(f);
        return r;
}

/* The folder of our own group. The mount may show only a part of the hierarchy. */
static int open_own(const char *controller)
{
        char line[4400], own[1024];
        int fd = -1;
        if (own_path(controller, own, sizeof(own)) < 0)
                return -1;
        FILE *f = fopen("/proc/self/mountinfo", "re");
        while (f && fd < 0 && fgets(line, sizeof(line), f)) {
                char root[1024], place[1024], type[32], options[1024];
                const char *after = strstr(line, " - ");
                if (!after || sscanf(line, "%*s %*s %*s %1023s %1023s", root, place) != 2 ||
                    sscanf(after, " - %31s %*s %1023s", type, options) != 2)
                        continue;
                if (!streq(type, controller ? "cgroup" : "cgroup2") ||
                    (controller && !has_word(options, controller)))
                        continue;
                size_t n = streq(root, "/") ? 0 : strlen(root);
                if (strncmp(own, root, n) != 0)
                        continue;
                cleanup_free char *path = xasprintf("%s%s", place, own + n);
                fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        }
        if (f)
                (void) fclose(f);
        return fd;
}

/* Version 2: only leaves hold processes, so we go into one of our own before the controllers are
 * handed down. */
static bool open_v2(struct cgroup_base *b)
{
        char have[256];
        cleanup_close int own = open_own(NULL);
        if (own < 0 || get(own, "cgroup.controllers", have, sizeof(have)) <= 0 ||
            !strstr(have, "memory"))
                return false;
        if (mkdirat(own, OWN_LEAF, 0755) < 0 && errno != EEXIST)
                return false;
        if (put(own, OWN_LEAF "/cgroup.procs", "0") < 0)
                return false;
        b->v2 = true;
        for (int k = 0; k < CGROUP_KIND_MAX; k++) {
                char word[16];
                (void) snprintf(word, sizeof(word), "+%s", controllers[k]);
                if (put(own, "cgroup.subtree_control", word) == 0)
                        b->folders[k] = fcntl(own, F_DUPFD_CLOEXEC, 3);
        }
        return true;
}

static int open_v1(const char *controller)
{
        cleanup_close int own = open_own(controller);
        /* Ours to make groups in only where somebody gave it to us. */
        if (own < 0 || faccessat(own, ".", W_OK, AT_EACCESS) < 0 ||
            faccessat(own, "cgroup.procs", W_OK, AT_EACCESS) < 0)
                return -1;
        return TAKE_FD(own);
}

void cgroup_base_open(struct cgroup_base *ret)
{
        struct cgroup_base b = CGROUP_BASE_NONE;
        if (!open_v2(&b))
                for (int k = 0; k < CGROUP_KIND_MAX; k++)
                        b.folders[k] = open_v1(controllers[k]);
        *ret = b;
}

void cgroup_base_done(struct cgroup_base *b)
{
        for (int k = 0; k < CGROUP_KIND_MAX; k++)
                fd_close(b->folders[k]);
        *b = CGROUP_BASE_NONE;
}

/* --- one group -------------------------------------------------------------------------------- */

static int limit_memory(int folder, bool v2, const struct slot_limits *l)
{
        int r = put_number(folder, v2 ? "memory.max" : "memory.limit_in_bytes", l->memory_bytes);
        /* Swap would let it go on, slowly, for everybody. Not every kernel counts it. */
        if (r == 0 && v2)
                (void) !put(folder, "memory.swap.max", "0");
        else if (r == 0)
                (void) !put_number(folder, "memory.memsw.limit_in_bytes", l->memory_bytes);
        return r;
}

static int limit_cpu(int folder, bool v2, const struct slot_limits *l)
{
        uint64_t quota = l->cpu_percent * CPU_PERIOD_USEC / 100;
        char text[48];
        (void) snprintf(text, sizeof(text), "%" PRIu64 " %u", quota, CPU_PERIOD_USEC);
        if (v2)
                return put(folder, "cpu.max", text);
        int r = put_number(folder, "cpu.cfs_period_us", CPU_PERIOD_USEC);
        return r < 0 ? r : put_number(folder, "cpu.cfs_quota_us", quota);
}

static int limit(enum cgroup_kind kind, int folder, bool v2, const struct slot_limits *l)
{
        switch (kind) {
        case CGROUP_MEMORY:
                return l->memory_bytes ? limit_memory(folder, v2, l) : 0;
        case CGROUP_PIDS:
                return l->processes ? put_number(folder, "pids.max", l->processes) : 0;
        case CGROUP_CPU:
                return l->cpu_percent ? limit_cpu(folder, v2, l) : 0;
        case CGROUP_KIND_MAX:
                break;
        }
        return -EINVAL;
}

static bool same_folder(const struct cgroup *g, int k)
{
        return k > 0 && g->base->v2;
}

/* Kills once; what forks meanwhile is met by the next call. */
unsigned cgroup_kill(const struct cgroup *g)
{
        unsigned n = 0;
        for (int k = 0; k < CGROUP_KIND_MAX; k++) {
                char text[16384], *rest = NULL;
                if (g->folders[k] < 0 || same_folder(g, k) ||
                    get(g->folders[k], "cgroup.procs", text, sizeof(text)) <= 0)
                        continue;
                if (g->base->v2 && put(g->folders[k], "cgroup.kill", "1") == 0)
                        n++;
                for (char *p = strtok_r(text, "\n", &rest); p; p = strtok_r(NULL, "\n", &rest))
                        if (kill((pid_t) strtol(p, NULL, 10), SIGKILL) == 0)
                                n++;
        }
        return n;
}

/* Waits for the end of one process that is left in the group. */
static void wait_one(const struct cgroup *g, uint64_t until)
{
        for (int k = 0; k < CGROUP_KIND_MAX; k++) {
                char text[64];
                if (g->folders[k] < 0 || same_folder(g, k) ||
                    get(g->folders[k], "cgroup.procs", text, sizeof(text)) <= 0)
                        continue;
                uint64_t now = now_monotonic();
                struct pollfd end = { .fd = pidfd_open((pid_t) strtol(text, NULL, 10), 0),
                                      .events = POLLIN };
                if (end.fd >= 0 && now < until)
                        (void) poll(&end, 1, (int) ((until - now) / USEC_PER_MSEC) + 1);
                (void) fd_close(end.fd);
                return;
        }
}

static void empty(const struct cgroup *g)
{
        uint64_t until = now_monotonic() + EMPTY_USEC;
        while (cgroup_kill(g) > 0 && now_monotonic() < until)
                wait_one(g, until);
}

void cgroup_make(const struct cgroup_base *b, const char *name, const struct slot_limits *l,
                 struct cgroup *ret)
{
        struct cgroup g = CGROUP_NONE;
        g.base = b;
        (void) snprintf(g.name, sizeof(g.name), "slot-%.60s", name);
        for (int k = 0; k < CGROUP_KIND_MAX; k++) {
                if (b->folders[k] < 0 ||
                    (mkdirat(b->folders[k], g.name, 0755) < 0 && errno != EEXIST))
                        continue;
                g.folders[k] = openat(b->folders[k], g.name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                if (g.folders[k] >= 0 && limit((enum cgroup_kind) k, g.folders[k], b->v2, l) == 0)
                        g.enter[k] = openat(g.folders[k], "cgroup.procs", O_WRONLY | O_CLOEXEC);
                if (g.enter[k] < 0)
                        g.folders[k] = fd_close(g.folders[k]);
        }
        empty(&g);
        *ret = g;
}

void cgroup_remove(struct cgroup *g)
{
        for (int k = 0; k < CGROUP_KIND_MAX; k++) {
                fd_close(g->enter[k]);
                fd_close(g->folders[k]);
                if (g->base && g->base->folders[k] >= 0 && g->folders[k] >= 0 && !same_folder(g, k))
                        (void) unlinkat(g->base->folders[k], g->name, AT_REMOVEDIR);
        }
        *g = CGROUP_NONE;
}

void cgroup_read(const struct cgroup *g, struct cgroup_use *ret)
{
        const int *f = g->folders;
        bool v2 = g->base && g->base->v2;
        *ret = (struct cgroup_use){
                .memory_bytes = get_number(f[CGROUP_MEMORY],
                                           v2 ? "memory.current" : "memory.usage_in_bytes", NULL),
                .cpu_usec = v2 ? get_number(f[CGROUP_CPU], "cpu.stat", "usage_usec") : 0,
                .memory_kills = get_number(f[CGROUP_MEMORY],
                                           v2 ? "memory.events" : "memory.oom_control", "oom_kill"),
                .fork_refusals = get_number(f[CGROUP_PIDS], "pids.events", "max"),
        };
}
