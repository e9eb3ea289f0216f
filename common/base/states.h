/* Tables of states: which transitions are allowed, checked in one place per object kind. */
#pragma once

#include "util.h"

struct state_table {
        const char *what;               /* "session" */
        const char *(*name)(int state); /* generated enum name function */
        const uint32_t *allowed;        /* allowed[from] is a bit set of to */
        int max;                        /* number of states, <= 32 */
};

/* 0 when from -> to is allowed, -EPERM when not, -EINVAL when either is out of range. */
int state_check(const struct state_table *t, int from, int to) mustuse;
