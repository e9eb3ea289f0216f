/* gatewayd: the network edge of Berth. */
#include "gatewayd/gateway.h"

#include "common/io/log.h"

static void on_stop(void *userdata)
{
        gateway_stop(userdata);
}

static int run(struct daemon *daemon, const struct gateway_settings *settings)
{
        CLEANUP(gateway_freep) struct gateway *g = NULL;
        int r = gateway_new(daemon, settings, &g);

        if (r < 0)
                return r;
        daemon->userdata = g;
        daemon->on_stop = on_stop;
        daemon_ready(daemon, "Listening on %s", settings->listen);
        return daemon_run(daemon);
}

int main(int argc, char **argv)
{
        struct gateway_settings settings = { 0 };
        CLEANUP(daemon_finish) struct daemon daemon = { 0 };
        int r = daemon_start(&daemon, "gatewayd", argc, argv, gateway_settings_table,
                             n_gateway_settings, &settings);

        if (r <= 0)
                return daemon_exit_code(r);
        return daemon_exit_code(run(&daemon, &settings));
}
