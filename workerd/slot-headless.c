/* The headless kind: commands and files only; ready when the helper has greeted. */
#include "slot-private.h"

static int prepare(struct slot *s)
{
        return 0;
}

static void guest_up(struct slot *s)
{
        slot_set_ready(s);
}

static void end(struct slot *s)
{
}

const struct slot_ops slot_headless_ops = {
        .profile = SANDBOX_TOOL,
        .prepare = prepare,
        .guest_up = guest_up,
        .end = end,
};
