/* How Berth is: status, workers, drain. */
#include "ctl.h"

int cmd_status(struct ctl *c, int argc, char **argv)
{
        static const char *const columns[] = { "DAEMON:name",
                                               "OK:ok",
                                               "VERSION:version",
                                               "STATE:detail.state",
                                               "SESSION:detail.session_id",
                                               NULL };
        static const char *const warm[] = { "KIND:kind",   "IMAGE:image",   "WANTED:target",
                                            "READY:ready", "MAKING:making", "WHY:why",
                                            NULL };
        cleanup_json json_t *s = NULL;
        json_t *count;
        const char *name;

        if (argc > 0) {
                fprintf(stderr, "usage: berthctl status\n");
                return 2;
        }
        if (ctl_call(c, "GET", "/status", NULL, &s) < 0)
                return 1;
        if (c->json) {
                show_json(s);
                return 0;
        }
        printf("Berth %s at %s, up %s s, database %s\n\n", show_member(s, "version"), c->url,
               show_member(s, "uptime_seconds"),
               json_is_true(json_object_get(s, "database")) ? "ok" : "unreachable");
        show_table(json_object_get(s, "daemons"), columns);
        if (json_array_size(json_object_get(s, "warm")) > 0) {
                printf("\nslots kept ready:\n");
                show_table(json_object_get(s, "warm"), warm);
        }
        printf("\nsessions:");
        json_object_foreach (json_object_get(s, "sessions"), name, count)
                printf(" %s %" JSON_INTEGER_FORMAT, name, json_integer_value(count));
        printf("\n");
        return 0;
}

int cmd_workers(struct ctl *c, int argc, char **argv)
{
        static const char *const columns[] = { "WORKER:worker_id",   "ONLINE:online",
                                               "STATE:state",        "KIND:kind",
                                               "IMAGE:slot.image",   "DRAINING:draining",
                                               "SESSION:session_id", NULL };
        cleanup_json json_t *reply = NULL;

        if (argc > 0) {
                fprintf(stderr, "usage: berthctl workers\n");
                return 2;
        }
        if (ctl_call(c, "GET", "/workers", NULL, &reply) < 0)
                return 1;
        if (c->json)
                show_json(json_object_get(reply, "workers"));
        else
                show_table(json_object_get(reply, "workers"), columns);
        return 0;
}

int cmd_drain(struct ctl *c, int argc, char **argv)
{
        cleanup_json json_t *reply = NULL;

        if (argc != 1) {
                fprintf(stderr, "usage: berthctl drain WORKER\n");
                return 2;
        }
        cleanup_free char *id = ctl_quote(argv[0]), *path = xasprintf("/workers/%s/drain", id);
        if (ctl_call(c, "POST", path, NULL, &reply) < 0)
                return 1;
        if (c->json)
                show_json(reply);
        return 0;
}
