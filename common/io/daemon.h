/* The skeleton every daemon's main() stands on: options, settings, log, loop, signals, readiness.
 *
 *   int main(int argc, char **argv)
 *   {
 *           struct gateway_settings settings = { 0 };
 *           CLEANUP(daemon_finish) struct daemon d = { 0 };
 *           int r = daemon_start(&d, "gatewayd", argc, argv, table, ARRAY_LEN(table), &settings);
 *           if (r <= 0)
 *                   return daemon_exit_code(r);     // --help, --version, --check-config, error
 *           cleanup_gateway struct gateway *g = NULL;
 *           r = gateway_new(&d, &settings, &g);
 *           if (r < 0)
 *                   return daemon_exit_code(r);
 *           return daemon_exit_code(daemon_run(&d));
 *   }
 *
 * daemon_start handles --help --version --config FILE --set name=value --check-config
 * --print-config, opens the log, blocks and routes SIGTERM/SIGINT (leave the loop), SIGHUP
 * (on_reload), ignores SIGPIPE, makes the process a child subreaper on request, arms the systemd
 * watchdog. It adds the settings that every daemon has: log_level, and where traces go (otlp_*).
 *
 * SIGTERM, SIGINT, SIGHUP and SIGCHLD stay blocked: whoever forks a child unblocks them in it.
 * SIGHUP reads the settings again and takes over the reloadable ones in place before on_reload;
 * strings among them move, so nobody keeps pointers to reloadable strings. */
#pragma once

#include <systemd/sd-event.h>

#include "otlp.h"
#include "settings.h"

/* Frees `p` with `destroy` right after the running callback of the loop, so that what is still on
 * the stack may look at it. */
void loop_defer_free(sd_event *e, void *p, void (*destroy)(void *p));
void loop_defer_flush(sd_event *e); /* frees all of that now: after the loop has ended */
/* Runs fn once, after everything that was ready in the turn that queued it and before sleeping;
 * queueing twice runs it once. The place where queued writes of one turn are joined. Embed one
 * struct per object; fn may end the object. */
struct loop_task {
        sd_event *event; /* not referenced */
        sd_event_source *source;
        void (*fn)(void *userdata);
        void *userdata;
};
int loop_task_init(struct loop_task *t, sd_event *e, void (*fn)(void *), void *userdata) mustuse;
void loop_task_queue(struct loop_task *t);
void loop_task_done(struct loop_task *t); /* fine on a zeroed struct and inside fn */

/* One-shot timers that can be re-armed; 1 ms accuracy, monotonic clock. */
struct loop_timer {
        sd_event_source *source;
        void (*fn)(void *userdata);
        void *userdata;
};
int loop_timer_init(struct loop_timer *t, sd_event *e, void (*fn)(void *), void *userdata) mustuse;
void loop_timer_arm(struct loop_timer *t, uint64_t usec_from_now);
void loop_timer_disarm(struct loop_timer *t);
bool loop_timer_armed(const struct loop_timer *t);
void loop_timer_done(struct loop_timer *t); /* fine on a zeroed struct and inside fn */

struct daemon {
        const char *name;
        sd_event *event;
        void *zmq;         /* the process's one ZeroMQ context */
        struct otlp *otlp; /* exporter of traces, NULL = none are made; outlives the manager */
        char *config;      /* path given, or NULL */
        const struct setting *table;
        size_t n_table;
        void *settings; /* the texts in it are released by daemon_finish */
        bool subreaper; /* set before daemon_start */
        /* Set before daemon_start; NULL = none. What no row can say alone of the settings: asked at
         * the start, by --check-config, and of what a reload has read before it is taken over.
         * -EBADMSG with a sentence, which the caller frees. */
        int (*check)(const void *settings, char **ret_error);
        void (*on_reload)(void *userdata);
        /* SIGTERM: begin an orderly stop and call daemon_quit within 10 s, after which the loop
         * ends anyway; a second SIGTERM ends it at once. NULL = quit at once. */
        void (*on_stop)(void *userdata);
        void *userdata;

        /* private */
        struct daemon_common {
                char *log_level, *otlp_endpoint, *otlp_header;
                uint64_t otlp_sample, otlp_queue;
        } common;
        int quit_with;
        bool quitting;
        char **overrides;
        size_t n_overrides;
        bool stopping;
        struct loop_timer stop_timer, trim_timer;
};

int daemon_start(struct daemon *d, const char *name, int argc, char **argv,
                 const struct setting *table, size_t n, void *settings) mustuse;
void daemon_ready(struct daemon *d, const char *status_fmt, ...)
        printf_like(2, 3); /* sd_notify READY=1 STATUS= */
void daemon_status(struct daemon *d, const char *fmt, ...) printf_like(2, 3);
int daemon_run(struct daemon *d) mustuse; /* until daemon_quit or SIGTERM */
/* Leaves the loop, after what is queued of traces was sent (2 s at most). */
void daemon_quit(struct daemon *d, int r);
void daemon_finish(struct daemon *d);
int daemon_exit_code(
        int r); /* 0 for >= 0, 1 for failures, 78 (EX_CONFIG) for -EBADMSG from settings */
