/* Reads /proc/PID/stat. */
#include "process-stat.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

int process_stat(pid_t pid, struct process_stat *ret)
{
        char path[64], text[1024], state = 0;
        int parent = 0, session = 0;
        unsigned long user = 0, system = 0;
        unsigned long long started = 0;
        long threads = 0, pages = 0;
        (void) snprintf(path, sizeof(path), "/proc/%d/stat", pid);
        cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
        if (n <= 0)
                return -ESRCH;
        text[n] = '\0';
        const char *name = strchr(text, '('), *at = strrchr(text, ')'); /* it may hold anything */
        /* NOLINTBEGIN(cert-err34-c): the kernel wrote it */
        if (!name || !at ||
            sscanf(at,
                   ") %c %d %*d %d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d %*d %ld %*d "
                   "%llu %*u %ld",
                   &state, &parent, &session, &user, &system, &threads, &started, &pages) != 8)
                return -ESRCH;
        /* NOLINTEND(cert-err34-c) */
        *ret = (struct process_stat){ .pid = pid,
                                      .parent = parent,
                                      .session = session,
                                      .state = state,
                                      .ticks = user + system,
                                      .threads = threads > 0 ? (uint64_t) threads : 0,
                                      .pages = pages > 0 ? (uint64_t) pages : 0,
                                      .started = started };
        (void) snprintf(ret->name, sizeof(ret->name), "%.*s", (int) (at - name - 1), name + 1);
        return 0;
}

size_t process_stat_all(size_t max, struct process_stat **ret)
{
        DIR *d = opendir("/proc");
        struct process_stat *all = NULL;
        size_t n = 0, room = 0;
        if (!d)
                return 0;
        for (struct dirent *e; n < max && (e = readdir(d));) {
                if (e->d_name[0] < '1' || e->d_name[0] > '9')
                        continue;
                if (n == room) {
                        room = room ? 2 * room : 256;
                        all = xrealloc(all, room, sizeof(*all));
                }
                n += process_stat((pid_t) strtol(e->d_name, NULL, 10), &all[n]) == 0;
        }
        closedir(d);
        *ret = all;
        return n;
}
