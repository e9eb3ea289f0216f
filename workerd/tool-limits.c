/* What the limits of the slot do to a call: its error names the limit, and what it left running in
 * such numbers that nothing else can start is ended. */
#include "common/io/log.h"
#include "tool.h"

#define WATCH_USEC USEC_PER_SEC
#define STRIKES 3 /* seconds in a row in which programs could not be started */

/* Ends the shell and whatever belongs to no running command of ours. */
static void clear_slot(struct tool_host *h)
{
        struct guest *g = h->slot ? slot_guest(h->slot) : NULL;

        log_notice("session %s: too many processes in the slot; what steps left behind is ended",
                   h->session_id ? h->session_id : "?");
        if (h->slot)
                slot_hold(h->slot);
        tool_host_close(h);
        if (g)
                (void) !guest_kill_strays(g);
}

static void on_watch(void *userdata)
{
        struct tool_run *run = userdata;
        struct slot_hits now;

        if (run->finished)
                return;
        slot_hits(run->host->slot, &now);
        run->strikes = now.fork_refusals > run->refusals ? run->strikes + 1 : 0;
        run->refusals = now.fork_refusals;
        if (run->strikes < STRIKES) {
                loop_timer_arm(&run->watch, WATCH_USEC);
                return;
        }
        slot_hold(run->host->slot);
        run->tool->stop(run, false);
        run->state = NULL;
        tool_finish_error(run, "It was stopped.");
}

int tool_limits_init(struct tool_run *run)
{
        return loop_timer_init(&run->watch, run->host->event, on_watch, run);
}

void tool_limits_begin(struct tool_run *run)
{
        struct tool_host *h = run->host;

        if (!h->slot || !slot_ready(h->slot))
                return;
        slot_hits(h->slot, &run->before);
        /* Left behind by the call before: it would keep this one from starting anything. */
        if (h->hits_known && run->before.fork_refusals > h->hits.fork_refusals)
                clear_slot(h);
        run->refusals = run->before.fork_refusals;
        loop_timer_arm(&run->watch, WATCH_USEC);
}

void tool_limits_end(struct tool_run *run, struct tool_result *result)
{
        struct tool_host *h = run->host;
        struct slot_hits before = run->before;
        cleanup_free char *error = result->error, *why = NULL;

        loop_timer_disarm(&run->watch);
        h->hits_known = h->slot && slot_ready(h->slot);
        if (h->hits_known) {
                why = slot_hits_text(h->slot, &before);
                slot_hits(h->slot, &h->hits);
                if (h->hits.fork_refusals > before.fork_refusals)
                        clear_slot(h);
        }
        result->error = why && error ? xasprintf("%s\n[%s]", error, why) : TAKE_PTR(error);
}
