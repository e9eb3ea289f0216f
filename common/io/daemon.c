/* The skeleton of every daemon: options, settings, signals, readiness, watchdog, orderly stop. */
#include "daemon.h"

#include <getopt.h>
#include <signal.h>
#include <sys/prctl.h>
#include <systemd/sd-daemon.h>
#include <zmq.h>

#include "log.h"
#include "settings-private.h"
#include "trim.h"

#define OVERRIDES_MAX 256
#define TRIM_AFTER_USEC (3 * USEC_PER_SEC)
#define STOP_MAX_USEC (10 * USEC_PER_SEC)

enum start_action { ACTION_RUN, ACTION_CHECK, ACTION_PRINT, ACTION_HELP, ACTION_VERSION };

/* The daemon's table and the settings that every daemon has, over one block of memory: the daemon's
 * struct first, ours behind it. */
struct joined {
        struct setting *table;
        size_t n;
        size_t common; /* offset of our part */
        char *values;
};

static const struct setting common_settings[] = {
        { .name = "log_level",
          .kind = SETTING_STRING,
          .offset = offsetof(struct daemon_common, log_level),
          .fallback = "info",
          .reloadable = true,
          .help = "Least important messages to log: error, warning, notice, info or debug." },
        { .name = "otlp_endpoint",
          .kind = SETTING_STRING,
          .offset = offsetof(struct daemon_common, otlp_endpoint),
          .fallback = "",
          .help = "Where traces are sent: the URL of an OpenTelemetry collector that takes OTLP "
                  "over "
                  "HTTP as JSON, without /v1/traces, or the path of a Unix socket that leads to "
                  "one "
                  "(only the units of workers reach a network); empty: no traces are made." },
        { .name = "otlp_header",
          .kind = SETTING_SECRET,
          .offset = offsetof(struct daemon_common, otlp_header),
          .fallback = "",
          .help = "File with one more header line for the collector, such as \"Authorization: "
                  "Bearer ...\"." },
        { .name = "otlp_sample",
          .kind = SETTING_INT,
          .offset = offsetof(struct daemon_common, otlp_sample),
          .fallback = "100",
          .min = "0",
          .max = "100",
          .help = "Of a hundred traces that begin here so many are sent; a request that comes with "
                  "a "
                  "traceparent says it itself." },
        { .name = "otlp_queue",
          .kind = SETTING_INT,
          .offset = offsetof(struct daemon_common, otlp_queue),
          .fallback = "4096",
          .min = "64",
          .max = "100000",
          .help = "Spans that wait for the collector; more are dropped and counted." },
};

static void joined_done(struct joined *j)
{
        free(j->table);
        free(j->values);
}

static void join_tables(const struct daemon *d, struct joined *ret)
{
        size_t common = (settings_end(d->table, d->n_table) + 15) / 16 * 16;
        size_t n = d->n_table + ARRAY_LEN(common_settings);
        struct setting *table = xnewn(struct setting, n);
        memcpy(table, d->table, d->n_table * sizeof(*table));
        memcpy(table + d->n_table, common_settings, sizeof(common_settings));
        for (size_t i = d->n_table; i < n; i++)
                table[i].offset += common;
        *ret = (struct joined){ table, n, common, xcalloc(1, settings_end(table, n)) };
}

static int apply_log_level(struct joined *j, char **ret_error)
{
        const char *text = ((struct daemon_common *) (j->values + j->common))->log_level;
        int level;
        if (log_level_from_string(text, &level) < 0) {
                *ret_error = xasprintf("log_level = %.100s: must be error, warning, notice, info "
                                       "or debug",
                                       text);
                return -EBADMSG;
        }
        log_set_level(level);
        return 0;
}

static void usage(const char *name)
{
        printf("usage: %s [--config FILE] [--set NAME=VALUE]... [OPTION]\n\n"
               "  --config FILE     read settings from FILE\n"
               "  --set NAME=VALUE  override one setting; may be repeated\n"
               "  --check-config    say whether the configuration is valid, and exit\n"
               "  --print-config    print a commented configuration file with all settings\n"
               "  --version         print the version\n"
               "  --help            print this\n",
               name);
}

static int add_override(struct daemon *d, const char *text)
{
        if (d->n_overrides == OVERRIDES_MAX) {
                fprintf(stderr, "%s: more than %d times --set\n", d->name, OVERRIDES_MAX);
                return -EBADMSG;
        }
        d->overrides = xrealloc(d->overrides, d->n_overrides + 1, sizeof(char *));
        d->overrides[d->n_overrides++] = xstrdup(text);
        return 0;
}

static int parse_options(struct daemon *d, int argc, char **argv, enum start_action *ret)
{
        static const struct option options[] = {
                { "config", required_argument, NULL, 'c' },
                { "set", required_argument, NULL, 's' },
                { "check-config", no_argument, NULL, 'k' },
                { "print-config", no_argument, NULL, 'p' },
                { "version", no_argument, NULL, 'v' },
                { "help", no_argument, NULL, 'h' },
                { 0 },
        };
        enum start_action action = ACTION_RUN;
        int c, r = 0;
        optind = 0;
        while (r == 0 && (c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
                if (c == 'c') {
                        free(d->config);
                        d->config = xstrdup(optarg);
                } else if (c == 's') {
                        r = add_override(d, optarg);
                } else if (c == '?') {
                        r = -EBADMSG; /* getopt has said why */
                } else {
                        action = c == 'k'   ? ACTION_CHECK
                                 : c == 'p' ? ACTION_PRINT
                                 : c == 'v' ? ACTION_VERSION
                                            : ACTION_HELP;
                }
        }
        if (r == 0 && optind < argc) {
                fprintf(stderr, "%s: unexpected argument: %s\n", d->name, argv[optind]);
                r = -EBADMSG;
        }
        if (r < 0) {
                fprintf(stderr, "%s: see --help\n", d->name);
                return r;
        }
        *ret = action;
        return 0;
}

/* Values of both tables in fresh memory; the log level is in force. */
static int load_joined(struct daemon *d, struct joined *j, char **ret_error)
{
        join_tables(d, j);
        int r = settings_load(j->table, j->n, d->config, d->overrides, d->n_overrides, j->values,
                              ret_error);
        if (r < 0)
                return r;
        if (d->check)
                r = d->check(j->values, ret_error);
        if (r == 0)
                r = apply_log_level(j, ret_error);
        if (r < 0)
                settings_release(j->table, j->n, j->values);
        return r;
}

static int load_settings(struct daemon *d, char **ret_error)
{
        CLEANUP(joined_done) struct joined j = { 0 };
        int r = load_joined(d, &j, ret_error);
        if (r == 0) { /* the texts change owner */
                memcpy(d->settings, j.values, settings_end(d->table, d->n_table));
                memcpy(&d->common, j.values + j.common, sizeof(d->common));
        }
        return r;
}

static void reload(struct daemon *d)
{
        (void) sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, now_monotonic());
        CLEANUP(joined_done) struct joined j = { 0 };
        cleanup_free char *error = NULL, *kept = NULL;
        if (load_joined(d, &j, &error) < 0) {
                log_error("reload: the settings stay as they are: %s", error);
        } else {
                settings_take(d->table, d->n_table, d->settings, j.values, &kept);
                settings_release(j.table, j.n, j.values);
                log_info("settings were read again%s%s",
                         kept ? "; changed, but need a restart: " : "", kept ? kept : "");
                if (d->on_reload)
                        d->on_reload(d->userdata);
        }
        (void) sd_notify(0, "READY=1");
}

static int on_hangup(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata)
{
        reload(userdata);
        return 0;
}

static void on_stop_overdue(void *userdata)
{
        struct daemon *d = userdata;
        log_warning("the orderly stop took longer than %u s, ending now",
                    (unsigned) (STOP_MAX_USEC / USEC_PER_SEC));
        daemon_quit(d, 0);
}

static int on_terminate(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata)
{
        struct daemon *d = userdata;
        bool again = d->stopping;
        d->stopping = true;
        (void) sd_notify(0, "STOPPING=1\nSTATUS=stopping");
        if (again || !d->on_stop) {
                daemon_quit(d, 0);
                return 0;
        }
        log_info("stopping");
        loop_timer_arm(&d->stop_timer, STOP_MAX_USEC);
        d->on_stop(d->userdata);
        return 0;
}

/* Before any thread exists, so that all of them inherit it. */
static int setup_signals(struct daemon *d)
{
        static const int caught[] = { SIGTERM, SIGINT };
        sigset_t set;
        (void) sigemptyset(&set);
        (void) sigaddset(&set, SIGTERM);
        (void) sigaddset(&set, SIGINT);
        (void) sigaddset(&set, SIGHUP);
        (void) sigaddset(&set, SIGCHLD); /* sd-event wants it blocked to watch children */
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
                return -errno;
        for (size_t i = 0; i < ARRAY_LEN(caught); i++) {
                int r = sd_event_add_signal(d->event, NULL, caught[i], on_terminate, d);
                if (r < 0)
                        return r;
        }
        return sd_event_add_signal(d->event, NULL, SIGHUP, on_hangup, d);
}

static int setup_traces(struct daemon *d)
{
        const struct daemon_common *c = &d->common;

        if (strempty(c->otlp_endpoint))
                return 0;
        int r = otlp_new(&(struct otlp_config){ .event = d->event,
                                                .service = d->name,
                                                .endpoint = c->otlp_endpoint,
                                                .header = c->otlp_header,
                                                .sample_percent = (unsigned) c->otlp_sample,
                                                .queue_max = c->otlp_queue },
                         &d->otlp);
        if (r == -EINVAL) {
                log_error(
                        "otlp_endpoint = %.200s: must be an http:// or https:// URL or a path, and "
                        "otlp_header a line \"Name: value\"",
                        c->otlp_endpoint);
                return -EBADMSG;
        }
        return r < 0 ? log_errno(LOG_ERR, r, "cannot make an exporter of traces") : 0;
}

static int setup_loop(struct daemon *d)
{
        int r = sd_event_new(&d->event);
        if (r < 0)
                return log_errno(LOG_ERR, r, "cannot make an event loop");
        r = setup_signals(d);
        if (r < 0)
                return log_errno(LOG_ERR, r, "cannot set up signals");
        r = loop_timer_init(&d->stop_timer, d->event, on_stop_overdue, d);
        if (r < 0)
                return log_errno(LOG_ERR, r, "cannot set up the stop timer");
        r = sd_event_set_watchdog(d->event, true);
        if (r < 0)
                return log_errno(LOG_ERR, r, "cannot arm the watchdog");
        if (d->subreaper && prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
                return log_errno(LOG_ERR, errno, "cannot become a child subreaper");
        d->zmq = zmq_ctx_new();
        if (!d->zmq)
                return log_errno(LOG_ERR, errno, "cannot make a ZeroMQ context");
        (void) zmq_ctx_set(d->zmq, ZMQ_BLOCKY, 0); /* closing never waits for unsent messages */
        return setup_traces(d);
}

/* 0 when the option was the whole job. */
static int act(struct daemon *d, enum start_action action)
{
        cleanup_free char *error = NULL;
        switch (action) {
        case ACTION_HELP:
                usage(d->name);
                return 0;
        case ACTION_VERSION:
                printf("%s %s\n", d->name, BERTH_VERSION);
                return 0;
        case ACTION_PRINT:
                printf("# Settings of %s %s.\n\n", d->name, BERTH_VERSION);
                settings_print(d->table, d->n_table, stdout);
                printf("\n");
                settings_print(common_settings, ARRAY_LEN(common_settings), stdout);
                return 0;
        case ACTION_CHECK:
        case ACTION_RUN:
                break;
        }
        int r = load_settings(d, &error);
        if (r < 0) {
                fprintf(stderr, "%s: %s\n", d->name, error);
                return r;
        }
        if (action == ACTION_CHECK) {
                printf("configuration is valid\n");
                return 0;
        }
        r = setup_loop(d);
        return r < 0 ? r : 1;
}

int daemon_start(struct daemon *d, const char *name, int argc, char **argv,
                 const struct setting *table, size_t n, void *settings)
{
        d->name = name;
        d->table = table;
        d->n_table = n;
        d->settings = settings;
        log_open(name);
        enum start_action action;
        int r = parse_options(d, argc, argv, &action);
        return r < 0 ? r : act(d, action);
}

static void notify_status(bool ready, const char *fmt, va_list ap) printf_like(2, 0);
static void notify_status(bool ready, const char *fmt, va_list ap)
{
        cleanup_free char *text = NULL;
        if (vasprintf(&text, fmt, ap) < 0)
                return;
        (void) sd_notifyf(0, "%sSTATUS=%s", ready ? "READY=1\n" : "", text);
        log_at(ready ? LOG_INFO : LOG_DEBUG, "%s", text);
}

void daemon_ready(struct daemon *d, const char *status_fmt, ...)
{
        va_list ap;
        va_start(ap, status_fmt);
        notify_status(true, status_fmt, ap);
        va_end(ap);
}

void daemon_status(struct daemon *d, const char *fmt, ...)
{
        va_list ap;
        va_start(ap, fmt);
        notify_status(false, fmt, ap);
        va_end(ap);
}

static void on_started_long_ago(void *userdata)
{
        trim_after_start();
}

int daemon_run(struct daemon *d)
{
        int r = loop_timer_init(&d->trim_timer, d->event, on_started_long_ago, d);
        if (r >= 0) {
                loop_timer_arm(&d->trim_timer, TRIM_AFTER_USEC);
                r = sd_event_loop(d->event);
        }
        (void) sd_notify(0, "STOPPING=1");
        if (r < 0)
                return log_errno(LOG_ERR, r, "stopped by a failure");
        log_info("stopped");
        return 0;
}

static void on_drained(void *userdata)
{
        struct daemon *d = userdata;

        (void) sd_event_exit(d->event, d->quit_with);
}

void daemon_quit(struct daemon *d, int r)
{
        bool again = d->quitting;

        d->quitting = true;
        d->quit_with = r;
        if (again || r < 0 || !otlp_drain(d->otlp, on_drained, d))
                (void) sd_event_exit(d->event, r);
}

void daemon_finish(struct daemon *d)
{
        loop_timer_done(&d->stop_timer);
        loop_timer_done(&d->trim_timer);
        d->otlp = otlp_free(d->otlp);
        if (d->event)
                loop_defer_flush(d->event);
        d->event = sd_event_unref(d->event);
        if (d->zmq)
                (void) zmq_ctx_term(d->zmq);
        if (d->settings)
                settings_release(d->table, d->n_table, d->settings);
        settings_release(common_settings, ARRAY_LEN(common_settings), &d->common);
        for (size_t i = 0; i < d->n_overrides; i++)
                free(d->overrides[i]);
        free(d->overrides);
        free(d->config);
        *d = (struct daemon){ 0 };
}

int daemon_exit_code(int r)
{
        if (r >= 0)
                return EXIT_SUCCESS;
        return r == -EBADMSG ? 78 : EXIT_FAILURE; /* EX_CONFIG: systemd does not restart on it */
}
