/* The control group of a machine's steps: what its limits have stopped is told to the worker, which
 * sees nothing of another kernel's groups. */
#include "helper.h"

#include <fcntl.h>
#include <unistd.h>

static int open_in(int folder, const char *name)
{
        int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                helper_die("the group of the machine's steps is not complete");
        return fd;
}

/* The number after `name`, or the first one when that is NULL; "max" and what is missing are 0. */
static uint64_t read_number(int fd, const char *name)
{
        char text[512];
        ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
        text[n > 0 ? n : 0] = '\0';
        for (char *rest = text, *line; (line = strsep(&rest, "\n"));) {
                char *word = name ? strsep(&line, " ") : line;
                if (!name || (streq(word, name) && line))
                        return strtoull(line, NULL, 10);
        }
        return 0;
}

void group_open(struct helper *h, int folder)
{
        cleanup_close int own = folder;
        if (own < 0)
                return;
        cleanup_close int memory = open_in(own, "memory.max");
        cleanup_close int processes = open_in(own, "pids.max");
        h->told.memory_bytes = read_number(memory, NULL);
        h->told.processes = read_number(processes, NULL);
        h->events[0] = open_in(own, "memory.events");
        h->events[1] = open_in(own, "pids.events");
}

void group_tell(struct helper *h)
{
        struct guest_limits now = h->told;
        if (h->events[0] < 0)
                return;
        now.memory_kills = read_number(h->events[0], "oom_kill");
        now.fork_refusals = read_number(h->events[1], "max");
        if (now.memory_kills == h->told.memory_kills && now.fork_refusals == h->told.fork_refusals)
                return;
        h->told = now;
        helper_send(h, &wire_guest_limits, &now);
}
