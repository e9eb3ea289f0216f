/* Who may do what, and who did what: tokens, users, tenants, audit. */
#include "ctl.h"

static int table(struct ctl *c, const char *path, const char *member, const char *const *columns)
{
        cleanup_json json_t *reply = NULL;

        if (ctl_call(c, "GET", path, NULL, &reply) < 0)
                return 1;
        if (c->json)
                show_json(json_object_get(reply, member));
        else
                show_table(json_object_get(reply, member), columns);
        return 0;
}

static int change(struct ctl *c, const char *method, const char *base, const char *name,
                  json_t *body_taken)
{
        cleanup_json json_t *body = body_taken, *reply = NULL;
        cleanup_free char *quoted = name ? ctl_quote(name) : NULL;
        cleanup_free char *path = name ? xasprintf("%s/%s", base, quoted) : xstrdup(base);

        if (ctl_call(c, method, path, body, &reply) < 0)
                return 1;
        if (c->json && reply)
                show_json(reply);
        return 0;
}

static int wrong(const char *usage)
{
        fprintf(stderr, "usage: berthctl %s\n", usage);
        return 2;
}

/* The rest of the arguments: a role, then scopes, user=NAME, tenant=NAME, expires=TIME. */
static json_t *token_body(int argc, char **argv)
{
        cleanup_json json_t *body = json_pack("{s:s}", "name", argv[0]);
        json_t *scopes = NULL;

        for (int i = 1; i < argc; i++) {
                const char *a = argv[i], *value = strchr(a, '=');
                int r = 0;
                if (str_starts(a, "user="))
                        r = json_object_set_new(body, "user_name", json_string(value + 1));
                else if (str_starts(a, "tenant="))
                        r = json_object_set_new(body, "tenant", json_string(value + 1));
                else if (str_starts(a, "expires="))
                        r = json_object_set_new(body, "expires_at", json_string(value + 1));
                else if (strchr(a, ':')) {
                        if (!scopes) {
                                scopes = json_array();
                                r = json_object_set_new(body, "scopes", scopes);
                        }
                        if (r == 0)
                                r = json_array_append_new(scopes, json_string(a));
                } else
                        r = json_object_set_new(body, "role", json_string(a));
                if (r < 0)
                        return NULL;
        }
        return json_incref(body);
}

int cmd_tokens(struct ctl *c, int argc, char **argv)
{
        static const char *const columns[] = { "ID:token_id",
                                               "NAME:name",
                                               "ROLE:role",
                                               "USER:user_name",
                                               "LAST USED:last_used_at",
                                               "EXPIRES:expires_at",
                                               "REVOKED:revoked_at",
                                               NULL };
        const char *verb = argc > 0 ? argv[0] : "list";

        if (streq(verb, "list") && argc <= 1)
                return table(c, "/tokens?limit=1000", "tokens", columns);
        if (streq(verb, "revoke") && argc == 2)
                return change(c, "DELETE", "/tokens", argv[1], NULL);
        if (streq(verb, "create") && argc >= 2) {
                cleanup_json json_t *body = token_body(argc - 1, argv + 1), *reply = NULL;
                if (!body || ctl_call(c, "POST", "/tokens", body, &reply) < 0)
                        return 1;
                if (c->json)
                        show_json(reply);
                else /* the secret alone, so that it can go into a file by > */
                        printf("%s\n", show_member(reply, "token"));
                return 0;
        }
        return wrong("tokens list | create NAME [viewer|operator|admin] [SCOPE...] [user=NAME] "
                     "[tenant=NAME] [expires=TIME] | revoke ID");
}

int cmd_users(struct ctl *c, int argc, char **argv)
{
        static const char *const columns[] = { "NAME:name", "ROLE:role", "DISABLED:disabled",
                                               "CREATED:created_at", NULL };
        const char *verb = argc > 0 ? argv[0] : "list";

        if (streq(verb, "list") && argc <= 1)
                return table(c, "/users?limit=1000", "users", columns);
        if (streq(verb, "create") && (argc == 2 || argc == 3))
                return change(c, "POST", "/users", NULL,
                              json_pack("{s:s,s:s*}", "name", argv[1], "role",
                                        argc == 3 ? argv[2] : NULL));
        if (streq(verb, "role") && argc == 3)
                return change(c, "PATCH", "/users", argv[1], json_pack("{s:s}", "role", argv[2]));
        if ((streq(verb, "disable") || streq(verb, "enable")) && argc == 2)
                return change(c, "PATCH", "/users", argv[1],
                              json_pack("{s:b}", "disabled", (int) streq(verb, "disable")));
        if (streq(verb, "delete") && argc == 2)
                return change(c, "DELETE", "/users", argv[1], NULL);
        return wrong("users list | create NAME [ROLE] | role NAME ROLE | disable|enable|delete "
                     "NAME");
}

int cmd_tenants(struct ctl *c, int argc, char **argv)
{
        static const char *const columns[] = { "NAME:name", "SESSIONS:limits.sessions_live",
                                               "SLOTS:limits.slots", "DISABLED:disabled", NULL };
        const char *verb = argc > 0 ? argv[0] : "list";

        if (streq(verb, "list") && argc <= 1)
                return table(c, "/tenants?limit=1000", "tenants", columns);
        if (streq(verb, "create") && argc == 2)
                return change(c, "POST", "/tenants", NULL, json_pack("{s:s}", "name", argv[1]));
        if ((streq(verb, "disable") || streq(verb, "enable")) && argc == 2)
                return change(c, "PATCH", "/tenants", argv[1],
                              json_pack("{s:b}", "disabled", (int) streq(verb, "disable")));
        if (streq(verb, "limit") && argc == 4) {
                int64_t n = 0;
                bool none = streq(argv[3], "none");
                if (!none && parse_i64(argv[3], &n) < 0)
                        return wrong("tenants limit NAME sessions_live|slots NUMBER|none");
                return change(c, "PATCH", "/tenants", argv[1],
                              json_pack("{s:{s:o}}", "limits", argv[2],
                                        none ? json_null() : json_integer(n)));
        }
        return wrong("tenants list | create NAME | disable|enable NAME | limit NAME "
                     "sessions_live|slots NUMBER|none");
}

/* The whole chain, step by step. */
static int verify(struct ctl *c)
{
        json_int_t after = 0, checked = 0;

        for (;;) {
                cleanup_free char *path =
                        xasprintf("/audit/verify?after=%" JSON_INTEGER_FORMAT, after);
                cleanup_json json_t *step = NULL;
                if (ctl_call(c, "GET", path, NULL, &step) < 0)
                        return 1;
                checked += json_integer_value(json_object_get(step, "checked"));
                after = json_integer_value(json_object_get(step, "last_seq"));
                if (!json_is_true(json_object_get(step, "done")))
                        continue;
                if (json_is_true(json_object_get(step, "ok"))) {
                        printf("%" JSON_INTEGER_FORMAT " rows, the chain is whole\n", checked);
                        return 0;
                }
                fprintf(stderr, "berthctl: the audit log was tampered with: row %s: %s\n",
                        show_member(step, "bad_seq"), show_member(step, "why"));
                return 1;
        }
}

int cmd_audit(struct ctl *c, int argc, char **argv)
{
        static const char *const columns[] = {
                "TIME:timestamp", "ACTOR:actor", "FROM:address", "ACTION:action", "TARGET:target",
                "RESULT:result",  NULL
        };

        if (argc == 1 && streq(argv[0], "verify"))
                return verify(c);
        if (argc > 1)
                return wrong("audit [ACTOR] | verify");
        cleanup_free char *actor = argc == 1 ? ctl_quote(argv[0]) : NULL;
        cleanup_free char *path =
                actor ? xasprintf("/audit?limit=200&actor=%s", actor) : xstrdup("/audit?limit=200");
        return table(c, path, "audit", columns);
}
