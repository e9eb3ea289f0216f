/* coordinatord: sessions, leases, events; the only writer of schema core. */
#include "coordinator.h"

static void on_stop(void *userdata)
{
        coordinator_stop(userdata);
}

static void on_reload(void *userdata)
{
        coordinator_reload(userdata);
}

int main(int argc, char **argv)
{
        struct coordinator_settings settings = { 0 };
        CLEANUP(daemon_finish) struct daemon d = { .check = coordinator_settings_check };
        CLEANUP(coordinator_freep) struct coordinator *c = NULL;
        int r;

        r = daemon_start(&d, "coordinatord", argc, argv, coordinator_settings_table,
                         coordinator_settings_count, &settings);
        if (r <= 0)
                return daemon_exit_code(r);
        r = coordinator_new(&d, &settings, &c);
        if (r < 0)
                return daemon_exit_code(r);
        d.userdata = c;
        d.on_stop = on_stop;
        d.on_reload = on_reload;
        return daemon_exit_code(daemon_run(&d));
}
