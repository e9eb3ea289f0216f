/* docserverd: keeps documents, their tags and their bytes. */
#include "docserver.h"

#include "common/io/log.h"
#include "docserverd/migrations.h"

static int migrate(const struct docserver_settings *s)
{
        cleanup_free char *error = NULL;
        struct pg_config config = {
                .conninfo = s->database,
                .passfile = strempty(s->database_passfile) ? NULL : s->database_passfile,
                .application = "docserverd",
        };
        int r = pg_migrate(&config, "docs", migrations, ARRAY_LEN(migrations), &error);
        if (r < 0)
                log_error("The database cannot be used: %s", error);
        return r;
}

static int run(struct daemon *daemon, const struct docserver_settings *settings)
{
        int r = migrate(settings);
        if (r < 0)
                return r;
        cleanup_docserver struct docserver *d = NULL;
        r = docserver_new(daemon, settings, &d);
        if (r < 0)
                return r;
        daemon_ready(daemon, "Keeping documents in %s", settings->blob_dir);
        return daemon_run(daemon);
}

int main(int argc, char **argv)
{
        struct docserver_settings settings = { 0 };
        CLEANUP(daemon_finish) struct daemon daemon = { 0 };
        int r = daemon_start(&daemon, "docserverd", argc, argv, docserver_settings_table,
                             n_docserver_settings, &settings);
        if (r <= 0)
                return daemon_exit_code(r);
        return daemon_exit_code(run(&daemon, &settings));
}
