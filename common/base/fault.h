/* Named crash points: places where a kill -9 must be harmless, so that tests can put one exactly
 * there. Built in with -Dfaults=true only. BERTH_CRASH_AT=name ends the process at that point the
 * first time it is reached, BERTH_CRASH_AT=name:N the N-th time; no buffers are flushed, no
 * handlers run. */
#pragma once

#ifdef BERTH_FAULTS
#include <stdlib.h>
#include <string.h>
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
#else
#define crash_point(name) ((void) 0)
#endif
