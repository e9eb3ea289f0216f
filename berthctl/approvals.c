/* What agents ask people for: list, allow, deny; what was used. */
#include "ctl.h"

static int list(struct ctl *c)
{
        static const char *const columns[] = {
                "APPROVAL:approval_id", "SESSION:session_id", "KIND:kind", "ASKED:created_at",
                "UNTIL:expires_at",     "WHAT:subject",       NULL
        };
        cleanup_json json_t *reply = NULL;

        if (ctl_call(c, "GET", "/approvals?limit=1000", NULL, &reply) < 0)
                return 1;
        if (c->json)
                show_json(json_object_get(reply, "approvals"));
        else
                show_table(json_object_get(reply, "approvals"), columns);
        return 0;
}

/* The approval of that status whose id begins so; NULL after stderr said why. A new reference. */
static json_t *find(struct ctl *c, const char *id, const char *status)
{
        cleanup_free char *path = xasprintf("/approvals?status=%s&limit=1000", status);
        cleanup_json json_t *reply = NULL;
        json_t *one, *found = NULL;
        size_t i, n = 0;

        if (ctl_call(c, "GET", path, NULL, &reply) < 0)
                return NULL;
        json_array_foreach (json_object_get(reply, "approvals"), i, one) {
                const char *have = json_string_value(json_object_get(one, "approval_id"));

                if (!have || !str_starts(have, id))
                        continue;
                found = one;
                n++;
                if (streq(have, id)) {
                        n = 1;
                        break;
                }
        }
        if (n != 1) {
                fprintf(stderr,
                        n == 0 ? "berthctl: there is no approval %s\n"
                               : "berthctl: several approvals begin with %s\n",
                        id);
                return NULL;
        }
        return json_incref(found);
}

static int show(struct ctl *c, const char *id)
{
        cleanup_json json_t *one = find(c, id, "all");

        if (!one)
                return 1;
        show_json(one);
        return 0;
}

static int usage_of(void)
{
        fprintf(stderr,
                "usage: berthctl approvals [list | show ID | allow ID [once|session] [NOTE] "
                "| deny ID [once|session] [NOTE]]\n");
        return 2;
}

static int decide(struct ctl *c, const char *decision, int argc, char **argv)
{
        cleanup_json json_t *one = NULL, *body = NULL, *reply = NULL;
        cleanup_free char *path = NULL;
        const char *scope = "once", *note = NULL, *id = argv[0];

        if (argc > 1 && (streq(argv[1], "once") || streq(argv[1], "session"))) {
                scope = argv[1];
                argc--;
                argv++;
        }
        if (argc > 2)
                return usage_of();
        note = argc == 2 ? argv[1] : NULL;
        one = find(c, id, "pending");
        if (!one)
                return 1;
        body = json_pack("{s:s,s:s,s:s*}", "decision", decision, "scope", scope, "note", note);
        path = xasprintf("/sessions/%s/approvals/%s", show_member(one, "session_id"),
                         show_member(one, "approval_id"));
        if (!body || ctl_call(c, "POST", path, body, &reply) < 0)
                return 1;
        if (c->json)
                show_json(reply);
        else
                printf("%s\n", show_member(reply, "status"));
        return 0;
}

int cmd_approvals(struct ctl *c, int argc, char **argv)
{
        if (argc == 0 || (argc == 1 && streq(argv[0], "list")))
                return list(c);
        if (argc == 2 && streq(argv[0], "show"))
                return show(c, argv[1]);
        if (argc >= 2 && (streq(argv[0], "allow") || streq(argv[0], "deny")))
                return decide(c, argv[0], argc - 1, argv + 1);
        return usage_of();
}

int cmd_usage(struct ctl *c, int argc, char **argv)
{
        const char *group = argc > 0 ? argv[0] : "day";
        cleanup_free char *quoted = ctl_quote(group),
                          *path = xasprintf("/usage?group_by=%s", quoted),
                          *first = xasprintf("%s:%s", group, group);
        const char *const columns[] = { first,
                                        "CALLS:calls",
                                        "INPUT:input_tokens",
                                        "CACHED:cache_read_tokens",
                                        "OUTPUT:output_tokens",
                                        "COST $:cost_usd",
                                        NULL };
        cleanup_json json_t *reply = NULL;

        if (argc > 1) {
                fprintf(stderr, "usage: berthctl usage [day | agent | session | model]\n");
                return 2;
        }
        if (ctl_call(c, "GET", path, NULL, &reply) < 0)
                return 1;
        if (c->json) {
                show_json(reply);
                return 0;
        }
        show_table(json_object_get(reply, "usage"), columns);
        printf("\nin all: %s calls, $%s\n", show_member(reply, "total.calls"),
               show_member(reply, "total.cost_usd"));
        return 0;
}
