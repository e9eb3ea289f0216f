/* Helpers on top of sd-event: tasks at the end of a turn, deferred frees, re-armable timers. */
#include "daemon.h"

#include "common/base/list.h"

struct doomed {
        struct list link;
        sd_event *event; /* compared only */
        sd_event_source *source;
        void *object;
        void (*destroy)(void *p);
};

/* What is waiting to be freed in this thread's loop: loop_defer_flush must find it when the loop
 * ends before its next turn. */
static _Thread_local struct list doomed_list;

static void doomed_destroy(struct doomed *d)
{
        list_remove(&d->link);
        sd_event_source_unref(d->source);
        d->destroy(d->object);
        free(d);
}

static int on_doomed(sd_event_source *s, void *userdata)
{
        doomed_destroy(userdata);
        return 0;
}

void loop_defer_free(sd_event *e, void *p, void (*destroy)(void *p))
{
        if (!doomed_list.next)
                list_init(&doomed_list);
        struct doomed *d = xnew(struct doomed);
        *d = (struct doomed){ .event = e, .object = p, .destroy = destroy };
        list_push_back(&doomed_list, &d->link);
        /* A loop that is over takes no new sources; loop_defer_flush frees then. */
        (void) sd_event_add_defer(e, &d->source, on_doomed, d);
}

void loop_defer_flush(sd_event *e)
{
        if (!doomed_list.next)
                return;
        /* A destroyer may doom others: start over after each. */
        for (bool found = true; found;) {
                found = false;
                struct doomed *d;
                list_foreach (d, &doomed_list, link) {
                        if (d->event != e)
                                continue;
                        doomed_destroy(d);
                        found = true;
                        break;
                }
        }
}

static int on_task(sd_event_source *s, void *userdata)
{
        struct loop_task *t = userdata;
        t->source = sd_event_source_unref(t->source);
        t->fn(t->userdata);
        return 0;
}

/* sd-event runs sources of one priority in the order of the turn in which they became pending, and
 * without order inside one turn. A second hop puts the task behind everything that was ready in the
 * turn that queued it; a lower priority would do the same but could starve. */
static int on_task_hop(sd_event_source *s, void *userdata)
{
        struct loop_task *t = userdata;
        t->source = sd_event_source_unref(t->source);
        return sd_event_add_defer(t->event, &t->source, on_task, t);
}

int loop_task_init(struct loop_task *t, sd_event *e, void (*fn)(void *), void *userdata)
{
        *t = (struct loop_task){ .event = e, .fn = fn, .userdata = userdata };
        return 0;
}

void loop_task_queue(struct loop_task *t)
{
        if (!t->source)
                (void) sd_event_add_defer(t->event, &t->source, on_task_hop, t);
}

void loop_task_done(struct loop_task *t)
{
        t->source = sd_event_source_unref(t->source);
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata)
{
        struct loop_timer *t = userdata;
        t->fn(t->userdata);
        return 0;
}

int loop_timer_init(struct loop_timer *t, sd_event *e, void (*fn)(void *), void *userdata)
{
        *t = (struct loop_timer){ .fn = fn, .userdata = userdata };
        int r = sd_event_add_time(e, &t->source, CLOCK_MONOTONIC, 0, USEC_PER_MSEC, on_timer, t);
        if (r < 0)
                return r;
        return sd_event_source_set_enabled(t->source, SD_EVENT_OFF);
}

void loop_timer_arm(struct loop_timer *t, uint64_t usec_from_now)
{
        uint64_t now = now_monotonic();
        /* UINT64_MAX would mean "never" to sd-event; a century is far enough. */
        uint64_t at = now + MIN(usec_from_now, UINT64_C(100) * 366 * 86400 * USEC_PER_SEC);
        (void) sd_event_source_set_time(t->source, at);
        (void) sd_event_source_set_enabled(t->source, SD_EVENT_ONESHOT);
}

void loop_timer_disarm(struct loop_timer *t)
{
        if (t->source)
                (void) sd_event_source_set_enabled(t->source, SD_EVENT_OFF);
}

bool loop_timer_armed(const struct loop_timer *t)
{
        int enabled;
        return t->source && sd_event_source_get_enabled(t->source, &enabled) > 0 &&
               enabled != SD_EVENT_OFF;
}

void loop_timer_done(struct loop_timer *t)
{
        t->source = sd_event_source_disable_unref(t->source);
}
