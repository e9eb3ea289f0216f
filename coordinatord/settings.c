/* The settings of coordinatord. */
#include "coordinator.h"
#include "warm.h"

#define ROW(k, member, ...)                                                                        \
        {                                                                                          \
                .name = #member, .kind = SETTING_##k,                                              \
                .offset = offsetof(struct coordinator_settings, member), __VA_ARGS__               \
        }

const struct setting coordinator_settings_table[] = {
        ROW(STRING, database, .help = "libpq connection string of the database (without password)"),
        ROW(STRING, database_direct, .fallback = "",
            .help = "the same database past a pooler, for what needs a session of its own (the "
                    "lock that makes it the only coordinator, migrations); empty: as database"),
        ROW(STRING, database_passfile, .fallback = "",
            .help = "libpq password file; empty: libpq's defaults"),
        ROW(PATH, gateway_socket, .fallback = "/run/berth/hub/gateway.sock",
            .help = "ZeroMQ socket for gatewayd"),
        ROW(PATH, worker_socket, .fallback = "/run/berth/workers/worker.sock",
            .help = "ZeroMQ socket for workers"),
        ROW(PATH, bus_socket, .fallback = "/run/berth/hub/bus.sock",
            .help = "ZeroMQ socket on which events are published"),
        ROW(STRING, admin_token_file, .fallback = "",
            .help = "where the first start writes the admin token (0600); empty: no token is made"),
        ROW(DURATION, lease_ttl, .fallback = "10s", .min = "1s", .max = "5min",
            .help = "how long a worker may be silent before its session goes elsewhere"),
        ROW(DURATION, heartbeat, .fallback = "2500ms", .min = "100ms", .max = "1min",
            .help = "how often workers report; at most a third of lease_ttl"),
        ROW(DURATION, idle_hold, .fallback = "10s", .min = "0s", .max = "1d",
            .help = "how long an idle session keeps its slot while others wait for one"),
        ROW(DURATION, control_ttl, .fallback = "30s", .min = "2s", .max = "1h",
            .help = "how long a person who took over a desktop keeps it without renewing"),
        ROW(DURATION, request_timeout, .fallback = "1500ms", .min = "100ms", .max = "1min",
            .help = "when a gateway's request that the database does not answer is given up"),
        ROW(DURATION, standby_after, .fallback = "3s", .min = "2s", .max = "1min",
            .help = "a standby takes over from a coordinator that shows no life for this long"),
        ROW(INT, sessions_queued_max, .fallback = "1000", .min = "1", .max = "100000",
            .help = "queued sessions; beyond it new ones are refused"),
        ROW(INT, sessions_live_max, .fallback = "2000", .min = "1", .max = "100000",
            .help = "sessions that are queued or hold a slot"),
        ROW(INT, workers_max, .fallback = "1000", .min = "1", .max = "10000",
            .help = "workers known at a time"),
        ROW(INT, losses_max, .fallback = "10", .min = "1", .max = "1000",
            .help = "workers a session may lose within one turn before it is failed"),
        ROW(INT, group_commit_max, .fallback = "4000", .min = "1", .max = "100000",
            .help = "events in one commit"),
        ROW(SIZE, group_commit_bytes, .fallback = "16M", .min = "64K", .max = "256M",
            .help = "bytes in one commit"),
        ROW(INT, events_waiting_max, .fallback = "20000", .min = "100", .max = "1000000",
            .help = "appends and requests that wait for a commit; beyond it they are refused"),
        ROW(SIZE, events_waiting_bytes, .fallback = "256M", .min = "1M", .max = "4G",
            .help = "bytes that wait for a commit; beyond it appends are refused"),
        ROW(INT, database_connections, .fallback = "4", .min = "1", .max = "32",
            .help = "connections for reading, beside the two of hub and lock"),
        ROW(DURATION, idempotency_keep, .fallback = "1d", .min = "1min", .max = "30d",
            .help = "how long an Idempotency-Key is remembered"),
        ROW(DURATION, events_keep, .fallback = "0s", .min = "0s", .max = "36500d",
            .help = "how long events and their attachments are kept; 0s: for ever"),
        ROW(DURATION, audit_keep, .fallback = "90d", .min = "0s", .max = "36500d",
            .help = "how long rows of the audit log are kept, by whole days; 0s: for ever"),
        ROW(INT, session_depth_max, .fallback = "3", .min = "0", .max = "100",
            .help = "how deep sessions may make sessions of their own"),
        ROW(INT, session_children_max, .fallback = "8", .min = "0", .max = "1000",
            .help = "Sessions that may be at work under one session."),
        ROW(DURATION, approval_timeout, .fallback = "1h", .min = "1s", .max = "30d",
            .help = "how long a person may take to decide on an approval; then it is denied"),
        ROW(INT, fork_events_max, .fallback = "10000", .min = "1", .max = "1000000",
            .help = "events that one fork may copy"),
        ROW(STRING, pool_starter, .fallback = "",
            .help = "who starts and stops workers: systemd (units berth-workerd@N), the path of a "
                    "supervisor's datagram socket, or empty: nobody"),
        ROW(INT, pool_min, .fallback = "1", .min = "0", .max = "1000", .reloadable = true,
            .help = "workers that are kept, whether they are needed or not"),
        ROW(INT, pool_max, .fallback = "0", .min = "0", .max = "1000", .reloadable = true,
            .help = "workers at most; 0: the pool stays as it was started"),
        ROW(INT, pool_spare, .fallback = "1", .min = "0", .max = "1000", .reloadable = true,
            .help = "free workers beside those that are in use or waited for; at least the sum of "
                    "pool_warm"),
        ROW(DURATION, pool_idle, .fallback = "5min", .min = "1s", .max = "30d", .reloadable = true,
            .help = "how long a worker that is not needed stays"),
        ROW(STRING, pool_warm, .fallback = "", .reloadable = true,
            .help = "slots that free workers keep ready, for example \"desktop:2, headless:2, "
                    "vm:0\" "
                    "or \"desktop@IMAGE:1\"; empty: each worker keeps the kind of its own "
                    "settings"),
};
const size_t coordinator_settings_count = ARRAY_LEN(coordinator_settings_table);

int coordinator_settings_check(const void *settings, char **ret_error)
{
        const struct coordinator_settings *s = settings;
        struct warm_target targets[WARM_TARGETS_MAX] = { 0 };
        size_t n;

        if (s->heartbeat * 3 > s->lease_ttl) {
                *ret_error = xstrdup("heartbeat must be at most a third of lease_ttl");
                return -EBADMSG;
        }
        return warm_parse(s->pool_warm, targets, &n, ret_error) < 0 ? -EBADMSG : 0;
}
