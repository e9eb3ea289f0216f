/* Named crash points: places where a kill -9 must be harmless, so that tests can put one exactly
 * there. Built in with -Dfaults=true only. BERTH_CRASH_AT=name ends the process at that point the
 * first time it is reached, BERTH_CRASH_AT=name:N the N-th time; no buffers are flushed, no
 * handlers run. */
#pragma once

#ifdef BERTH_FAULTS
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static inline void crash_point(const char *name)
{
        static unsigned reached;
        const char *at = getenv("BERTH_CRASH_AT");
        size_t n = strlen(name);

        if (!at || strncmp(at, name, n) != 0 || (at[n] && at[n] != ':'))
                return;
        reached++;
        if (reached >= (at[n] == ':' ? strtoul(at + n + 1, NULL, 10) : 1))
                _exit(137);
}

/* Blocks when the ledger is slow: an effect that it does not know of must not happen. */
static inline void fault_ledger(const void *data, size_t n)
{
        static int fd = -1;
        const char *path = getenv("BERTH_LEDGER");
        struct sockaddr_un a = { .sun_family = AF_UNIX };

        if (!path || strlen(path) >= sizeof(a.sun_path))
                return;
        if (fd < 0)
                fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        memcpy(a.sun_path, path, strlen(path) + 1);
        if (sendto(fd, data, n < 65536 ? n : 65536, 0, (struct sockaddr *) &a, sizeof(a)) < 0)
                abort();
}

static inline int fault_on(const char *word)
{
        const char *list = getenv("BERTH_FAULT");

        return list && strstr(list, word);
}
#else
#define crash_point(name) ((void) 0)
#define fault_ledger(data, n) ((void) 0)
#define fault_on(word) 0
#endif
