/* Checks a transition against a table of allowed ones. */
#include "states.h"

int state_check(const struct state_table *t, int from, int to)
{
        if (from < 0 || to < 0 || from >= t->max || to >= t->max)
                return -EINVAL;
        return t->allowed[from] & UINT32_C(1) << to ? 0 : -EPERM;
}
