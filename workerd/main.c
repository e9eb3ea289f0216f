/* workerd: one slot, and the agent loop of the session in it. */
#include "common/io/log.h"
#include "jobworker.h"
#include "worker.h"

static int serve_jobs(struct daemon *d, const struct worker_settings *settings)
{
        CLEANUP(jobworker_freep) struct jobworker *w = NULL;
        int r = jobworker_new(d, settings, &w);

        if (r < 0)
                return r;
        daemon_ready(d, "worker %s for jobs", settings->worker_id);
        return daemon_run(d);
}

static int run(struct daemon *d, const struct worker_settings *settings)
{
        CLEANUP(worker_freep) struct worker *w = NULL;
        int r = worker_new(d, settings, &w);

        if (r < 0)
                return r;
        daemon_ready(d, "worker %s", settings->worker_id);
        return daemon_run(d);
}

static int check(const void *settings, char **ret_error)
{
        enum slot_kind kind;
        uint32_t kinds;

        return worker_settings_check(settings, &kind, &kinds, ret_error);
}

int main(int argc, char **argv)
{
        struct worker_settings settings = { 0 };
        CLEANUP(daemon_finish) struct daemon d = { .subreaper = true, .check = check };
        int r = daemon_start(&d, "workerd", argc, argv, worker_settings_table,
                             worker_settings_count, &settings);

        if (r <= 0)
                return daemon_exit_code(r);
        log_field_set("SLOT", settings.worker_id);
        return daemon_exit_code(streq(settings.serves, "jobs") ? serve_jobs(&d, &settings)
                                                               : run(&d, &settings));
}
