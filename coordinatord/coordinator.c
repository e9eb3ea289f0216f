/* The manager: builds the daemon's parts, opens its sockets when it is active, takes it all down.
 */
#include "coordinator.h"

#include "audit.h"
#include "budget.h"
#include "common/io/log.h"
#include "common/io/sockpath.h"
#include "control.h"
#include "lease.h"
#include "limits.h"
#include "pool.h"
#include "request.h"
#include "warm.h"

#define SWEEP_USEC (200 * USEC_PER_MSEC)
#define BATCH_BYTES_MAX (32 * MIB)

static const char *const phase_names[PHASE_MAX] = { "waiting", "starting", "active" };

static void phase_becomes(struct coordinator *c, enum coordinator_phase to, const char *why)
{
        if (c->phase != to)
                log_notice("coordinator: %s -> %s (%s)", phase_names[c->phase], phase_names[to],
                           why);
        c->phase = to;
}

void coordinator_set_phase(struct coordinator *c, enum coordinator_phase to, const char *why)
{
        phase_becomes(c, to, why);
        if (to == PHASE_WAITING)
                daemon_ready(c->daemon, "standby: %s", why);
        else
                daemon_status(c->daemon, "%s: %s", phase_names[to], why);
}

/* ---- the bus ---- */

static void published(const char *what, int r)
{
        /* A hint: readers find the gap by the next tick's cursor. */
        if (r < 0)
                log_debug("bus: %s not published: %s", what, strerrordesc_np(-r));
}

static void on_event(void *userdata, const struct hub_event *e)
{
        struct coordinator *c = userdata;
        struct bus_event m = {
                .tenant = e->session->tenant,
                .session_id = e->session->id,
                .id = e->id,
                .seq = e->seq,
                .event_type = e->type,
                .json = e->json,
                .epoch = c->start.db_epoch,
        };

        published("event", bus_publish(c->bus, &wire_bus_event, &m));
        if (e->type == EVENT_TYPE_SESSION_STOP)
                children_parent_over(c, e->session->id);
}

static void on_session(void *userdata, const struct session *s, const char *json, uint64_t cursor)
{
        struct coordinator *c = userdata;
        struct bus_session_updated m = {
                .tenant = s->tenant,
                .session_id = s->id,
                .cursor = cursor,
                .json = span_of(json),
                .epoch = c->start.db_epoch,
        };

        published("session", bus_publish(c->bus, &wire_bus_session_updated, &m));
        children_changed(c, s);
}

static void on_deleted(void *userdata, const struct session *s, uint64_t cursor)
{
        struct coordinator *c = userdata;
        struct bus_session_deleted m = {
                .tenant = s->tenant,
                .session_id = s->id,
                .cursor = cursor,
                .epoch = c->start.db_epoch,
        };

        published("deletion", bus_publish(c->bus, &wire_bus_session_deleted, &m));
        children_parent_over(c, s->id);
}

static void on_fenced(void *userdata)
{
        struct coordinator *c = userdata;

        log_error("coordinator: another one has taken over; ending");
        daemon_quit(c->daemon, -ESTALE);
}

/* ---- timers ---- */

static void on_sweep(void *userdata)
{
        struct coordinator *c = userdata;

        requests_sweep(c);
        children_sweep(c);
        lease_sweep(c);
        control_sweep(c);
        loop_timer_arm(&c->sweep_timer, SWEEP_USEC);
}

static void on_tick(void *userdata)
{
        struct coordinator *c = userdata;
        struct bus_tick m = { .cursor = hub_cursor(c->hub),
                              .instance = c->instance,
                              .epoch = c->start.db_epoch };

        published("tick", bus_publish(c->bus, &wire_bus_tick, &m));
        warm_tick(c->warm);
        upkeep_tick(c);
        pool_tick(c->pool_of_workers);
        loop_timer_arm(&c->tick_timer, USEC_PER_SEC);
}

/* ---- start and end ---- */

const struct rpc_route gateway_routes[] = {
        { &wire_session_create, route_session_create },
        { &wire_agent_put, route_agent_put },
        { &wire_agent_delete, route_agent_delete },
        { &wire_session_patch, route_session_patch },
        { &wire_session_stop, route_session_stop },
        { &wire_session_delete, route_session_delete },
        { &wire_session_control, route_session_control },
        { &wire_session_fork, route_session_fork },
        { &wire_control_set, route_control_set },
        { &wire_control_input, route_control_input },
        { &wire_external_post, route_external_post },
        { &wire_log_append, route_log_append },
        { &wire_message_post, route_message_post },
        { &wire_approval_decide, route_approval_decide },
        { &wire_budget_put, route_budget_put },
        { &wire_usage_may, route_usage_may },
        { &wire_usage_add, route_usage_add },
        { &wire_token_create, route_token_create },
        { &wire_token_revoke, route_token_revoke },
        { &wire_user_put, route_user_put },
        { &wire_user_delete, route_user_delete },
        { &wire_tenant_put, route_tenant_put },
        { &wire_tokens_used, route_tokens_used },
        { &wire_audit_append, route_audit_append },
        { &wire_worker_drain, route_worker_drain },
};
const size_t gateway_routes_count = ARRAY_LEN(gateway_routes);

static int open_link(struct coordinator *c, const char *path, const struct rpc_route *routes,
                     size_t n, void (*on_peer)(void *, struct rpc_peer *, enum rpc_peer_event),
                     struct rpc_link **ret)
{
        cleanup_free char *endpoint = xasprintf("ipc://%s", path);
        struct rpc_config config = {
                .event = c->daemon->event,
                .zmq = c->daemon->zmq,
                .endpoint = endpoint,
                .mode = 0660,
                .otlp = c->daemon->otlp,
                .routes = routes,
                .n_routes = n,
                .on_peer = on_peer,
                .userdata = c,
        };
        int r = rpc_server_new(&config, ret);

        if (r < 0)
                return log_errno(LOG_ERR, r, "cannot open %s", path);
        return 0;
}

static int open_sockets(struct coordinator *c)
{
        const struct coordinator_settings *s = c->settings;
        cleanup_free char *bus = xasprintf("ipc://%s", s->bus_socket);
        int r = 0;

        /* The one we took over from may stand still and listen for ever. */
        if (c->waited && (r = sockpath_take(s->bus_socket)) >= 0 &&
            (r = sockpath_take(s->worker_socket)) >= 0)
                r = sockpath_take(s->gateway_socket);
        if (r < 0)
                return log_errno(LOG_ERR, r, "cannot take the sockets over");
        r = bus_publisher_new(c->daemon->event, c->daemon->zmq, bus, 0660, &c->bus);
        if (r < 0)
                return log_errno(LOG_ERR, r, "cannot open %s", s->bus_socket);
        r = open_link(c, s->worker_socket, worker_routes, worker_routes_count, worker_peer_event,
                      &c->worker_link);
        if (r < 0)
                return r;
        return open_link(c, s->gateway_socket, gateway_routes, gateway_routes_count, NULL,
                         &c->gateways);
}

static int make_hub(struct coordinator *c)
{
        const struct coordinator_settings *s = c->settings;
        struct hub_config config = {
                .event = c->daemon->event,
                .pool = c->hub_pool,
                .batch_events_max = s->group_commit_max,
                .batch_bytes_max = MIN(s->group_commit_bytes, BATCH_BYTES_MAX),
                .queue_max = s->events_waiting_max,
                .queue_bytes_max = s->events_waiting_bytes,
                .term = c->start.term,
                .batch = c->start.batch,
                .cursor = c->start.cursor,
                .on_event = on_event,
                .on_session = on_session,
                .on_deleted = on_deleted,
                .on_fenced = on_fenced,
                .userdata = c,
        };

        return hub_new(&config, &c->hub);
}

void coordinator_activate(struct coordinator *c)
{
        struct session *s;
        int r;

        if (c->phase == PHASE_ACTIVE) /* the lock was lost and won again while starting */
                return;
        r = make_hub(c);
        if (r >= 0)
                r = open_sockets(c);
        if (r < 0) {
                daemon_quit(c->daemon, r);
                return;
        }
        /* Every stored lease gets a full term: the workers will greet again. */
        list_foreach (s, &c->sessions.leased, lease_link) {
                struct worker *w;
                lease_renew(c, s);
                if (workers_get(&c->workers, s->worker_id, &w) < 0)
                        continue;
                worker_bind(&c->workers, w, s->id, s->epoch);
                w->settled = true;
        }
        coordinator_set_phase(c, PHASE_ACTIVE, "serving");
        daemon_ready(c->daemon, "active: term %" PRIu64 ", %zu sessions live", c->start.term,
                     sessions_live(&c->sessions));
        takeover_active(c);
        warm_active(c->warm);
        limits_load(c);
        on_sweep(c);
        on_tick(c);
        upkeep_purge(c);
        children_heal(c);
        lease_dispatch(c);
}

#define STOP_USEC (500 * USEC_PER_MSEC)
#define STOP_LOOK_USEC (10 * USEC_PER_MSEC)

/* Twice without work: the answers of what was last done have left, too. */
static void on_stopping(void *userdata)
{
        struct coordinator *c = userdata;
        bool resting = c->phase != PHASE_ACTIVE || (c->n_requests == 0 && hub_waiting(c->hub) == 0);

        if ((resting && c->rested) || now_monotonic() >= c->stop_by) {
                daemon_quit(c->daemon, 0);
                return;
        }
        c->rested = resting;
        loop_timer_arm(&c->stop_timer, STOP_LOOK_USEC);
}

void coordinator_stop(struct coordinator *c)
{
        c->stop_by = now_monotonic() + STOP_USEC;
        on_stopping(c);
}

void coordinator_reload(struct coordinator *c)
{
        warm_reload(c->warm);
}

static int make_timers(struct coordinator *c)
{
        sd_event *e = c->daemon->event;
        int r = loop_timer_init(&c->sweep_timer, e, on_sweep, c);

        if (r >= 0)
                r = loop_timer_init(&c->stop_timer, e, on_stopping, c);

        if (r >= 0)
                r = pool_new(c, &c->pool_of_workers);
        if (r >= 0)
                r = loop_timer_init(&c->tick_timer, e, on_tick, c);
        if (r >= 0)
                r = loop_timer_init(&c->dispatch_timer, e, lease_dispatch_now, c);
        if (r >= 0)
                r = loop_task_init(&c->dispatch_task, e, lease_dispatch_now, c);
        return r;
}

int coordinator_new(struct daemon *d, const struct coordinator_settings *settings,
                    struct coordinator **ret)
{
        CLEANUP(coordinator_freep) struct coordinator *c = xnew(struct coordinator);
        int r;

        c->daemon = d;
        c->settings = settings;
        c->keys = map_new();
        budgets_init(c);
        uuid_make(c->instance);
        list_init(&c->requests);
        sessions_init(&c->sessions);
        c->warm = warm_new(c);
        r = make_timers(c);
        if (r >= 0)
                r = children_init(c);
        if (r >= 0)
                r = takeover_start(c);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(c);
        return 0;
}

struct coordinator *coordinator_free(struct coordinator *c)
{
        if (!c)
                return NULL;
        phase_becomes(c, PHASE_WAITING, "it ends; nothing new is begun");
        c->hub = hub_free(c->hub);
        c->gateways = rpc_link_free(c->gateways);
        c->pool_of_workers = pool_free(c->pool_of_workers);
        c->warm = warm_free(c->warm);
        workers_done(&c->workers);
        c->worker_link = rpc_link_free(c->worker_link);
        c->hub_pool = pg_pool_free(c->hub_pool);
        c->pool = pg_pool_free(c->pool);
        c->lock_pool = pg_pool_free(c->lock_pool);
        requests_end_all(c);
        children_done(c);
        sessions_done(&c->sessions);
        c->bus = bus_free(c->bus);
        c->keys = map_free(c->keys);
        budgets_done(c);
        limits_done(c);
        loop_timer_done(&c->stop_timer);
        loop_timer_done(&c->takeover_timer);
        loop_timer_done(&c->beat_timer);
        loop_timer_done(&c->sweep_timer);
        loop_timer_done(&c->tick_timer);
        loop_timer_done(&c->dispatch_timer);
        loop_task_done(&c->dispatch_task);
        free(c);
        return NULL;
}
