/* Carries out what the pool decides: asks systemd over D-Bus, or a supervisor over a datagram
 * socket, to start and stop workers. Whether it worked shows by who greets. */
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "common/io/log.h"
#include "coordinator.h"
#include "pool.h"
#include "warm.h"

#define START_USEC                                                                                 \
        (30 * USEC_PER_SEC) /* to greet after it was asked for; then it is tried again             \
                             */
#define PAUSE_MAX 6         /* doublings of that after failures in a row */

struct pool {
        struct coordinator *c;
        sd_bus *bus; /* NULL until it is needed, and after a loss */
        struct asked {
                uint64_t until; /* monotonic: asked for and not given up before then; 0 = not */
                unsigned failures;
        } asked[POOL_NUMBER_MAX + 1];
};

static int ask_supervisor(const char *path, const char *verb, unsigned number)
{
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        char text[32];
        int n = snprintf(text, sizeof(text), "%s %u", verb, number);
        if (strlen(path) >= sizeof(a.sun_path))
                return -ENAMETOOLONG;
        (void) strncpy(a.sun_path, path, sizeof(a.sun_path) - 1);
        cleanup_close int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 ||
            sendto(fd, text, (size_t) n, MSG_NOSIGNAL, (struct sockaddr *) &a, sizeof(a)) < 0)
                return -errno;
        return 0;
}

static int on_asked(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        if (sd_bus_message_is_method_error(m, NULL))
                log_warning("systemd refuses: %s", sd_bus_message_get_error(m)->message);
        return 0;
}

static int ask_systemd(struct pool *p, const char *verb, unsigned number)
{
        char unit[64];
        int r = 0;
        if (p->bus && sd_bus_is_open(p->bus) <= 0)
                p->bus = sd_bus_flush_close_unref(p->bus);
        if (!p->bus) {
                r = sd_bus_open_system(&p->bus);
                if (r >= 0)
                        r = sd_bus_attach_event(p->bus, p->c->daemon->event,
                                                SD_EVENT_PRIORITY_NORMAL);
        }
        if (r < 0)
                return r;
        (void) snprintf(unit, sizeof(unit), "berth-workerd@%u.service", number);
        r = sd_bus_call_method_async(
                p->bus, NULL, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                "org.freedesktop.systemd1.Manager", streq(verb, "start") ? "StartUnit" : "StopUnit",
                on_asked, p, "ss", unit, "replace");
        return r < 0 ? r : 0;
}

static void ask(struct pool *p, const char *verb, unsigned number)
{
        const char *starter = p->c->settings->pool_starter;
        int r = streq(starter, "systemd") ? ask_systemd(p, verb, number)
                                          : ask_supervisor(starter, verb, number);
        if (r < 0)
                log_errno(LOG_WARNING, r, "worker %u: cannot ask %s to %s it", number, starter,
                          verb);
        else
                log_info("worker %u: %s, asked %s", number, verb, starter);
}

/* The number of a worker of the pool, 0 = its name is another. */
static unsigned number_of(const char *id)
{
        uint64_t n;
        return id[0] != '0' && parse_u64(id, &n) == 0 && n >= 1 && n <= POOL_NUMBER_MAX
                       ? (unsigned) n
                       : 0;
}

static void describe(struct pool *p, const struct worker *w, struct pool_worker *ret)
{
        struct asked *a = &p->asked[ret->number];
        ret->there = w->peer != NULL;
        ret->usable = w->peer && !w->draining && w->slot_state != SLOT_STATE_BROKEN;
        ret->busy = w->peer && w->state != WORKER_FREE;
        ret->needed = w->warm.needed;
        ret->free_since = w->free_since;
        if (w->peer)
                *a = (struct asked){ 0 };
}

static size_t look(struct pool *p, struct pool_worker *all, uint64_t now)
{
        bool known[POOL_NUMBER_MAX + 1] = { false };
        size_t n = 0, iter = 0;
        void *v;
        while (map_next(p->c->workers.by_id, &iter, NULL, &v)) {
                const struct worker *w = v;
                unsigned number = number_of(w->id);
                if (number == 0)
                        continue;
                known[number] = true;
                all[n] = (struct pool_worker){ .number = number };
                describe(p, w, &all[n]);
                all[n].starting = !all[n].there && p->asked[number].until > now;
                n++;
        }
        for (unsigned k = 1; k <= POOL_NUMBER_MAX; k++)
                if (!known[k] && p->asked[k].until > now)
                        all[n++] = (struct pool_worker){ .number = k, .starting = true };
        return n;
}

static size_t waiting(const struct coordinator *c)
{
        const struct session *s;
        size_t n = 0;
        list_foreach (s, (struct list *) (uintptr_t) &c->sessions.queue, queue_link)
                n++;
        return n;
}

static struct pool_limits limits_now(const struct coordinator *c)
{
        const struct coordinator_settings *s = c->settings;
        return (struct pool_limits){ .min = MIN(s->pool_min, s->pool_max),
                                     .max = strempty(s->pool_starter) ? 0 : s->pool_max,
                                     .spare = MAX(s->pool_spare, warm_wanted(c->warm)),
                                     .idle_usec = s->pool_idle };
}

void pool_tick(struct pool *p)
{
        static struct pool_worker all[2 * POOL_NUMBER_MAX + 2];
        const struct pool_limits limits = limits_now(p->c);
        struct pool_plan plan;
        uint64_t now = now_monotonic();
        if (limits.max == 0 || map_count(p->c->workers.by_id) > POOL_NUMBER_MAX)
                return;
        pool_plan(all, look(p, all, now), waiting(p->c), &limits, now, &plan);
        for (size_t i = 0; i < plan.n_start; i++) {
                struct asked *a = &p->asked[plan.start[i]];
                a->until = now + (START_USEC << MIN(a->failures, (unsigned) PAUSE_MAX));
                a->failures++;
                ask(p, "start", plan.start[i]);
        }
        for (size_t i = 0; i < plan.n_stop; i++) {
                char id[16];
                (void) snprintf(id, sizeof(id), "%u", plan.stop[i]);
                struct worker *w = workers_find(&p->c->workers, id);
                if (!w || w->state != WORKER_FREE)
                        continue;
                w->draining = true; /* nothing is given to it any more; a new instance is not */
                worker_changed(&p->c->workers, w);
                ask(p, "stop", plan.stop[i]);
        }
}

int pool_new(struct coordinator *c, struct pool **ret)
{
        struct pool *p = xnew(struct pool);
        p->c = c;
        *ret = p;
        return 0;
}

struct pool *pool_free(struct pool *p)
{
        if (!p)
                return NULL;
        sd_bus_flush_close_unref(p->bus);
        free(p);
        return NULL;
}
