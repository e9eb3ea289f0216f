/* What /proc/PID/stat says of a process: for the worker, and for the helper inside the slot. */
#pragma once

#include <sys/types.h>

#include "common/base/util.h"

struct process_stat {
        pid_t pid, parent, session;
        char state;
        char name[16];                    /* chosen by the program */
        uint64_t ticks;                   /* of processor time, in sysconf(_SC_CLK_TCK) a second */
        uint64_t threads, pages, started; /* started: ticks since the machine began; never 0 */
};

/* -ESRCH when there is none. */
int process_stat(pid_t pid, struct process_stat *ret) mustuse;
/* All there are, in *ret (the caller frees), at most `max`. */
size_t process_stat_all(size_t max, struct process_stat **ret);
