/* Blueprints of agents, and what may be spent. */
#include "ctl.h"

#include <math.h>

static const char agents_usage[] =
        "usage: berthctl agents list | show|versions|enable|disable|delete NAME | put FILE\n";
static const char budgets_usage[] =
        "usage: berthctl budgets [agent=NAME|session=ID] [LIMIT=NUMBER|LIMIT=none ...]\n"
        "  limits of the tenant and of agents: cost_usd_day cost_usd_month tokens_day "
        "tokens_month\n"
        "  limits of a session: turns tokens cost_usd seconds\n";

static int list_agents(struct ctl *c)
{
        static const char *const columns[] = {
                "NAME:name",   "STATUS:status",  "VERSION:version",
                "MODEL:model", "SLOT:slot.kind", "DESCRIPTION:description",
                NULL
        };
        cleanup_json json_t *reply = NULL;

        if (ctl_call(c, "GET", "/agents?limit=500", NULL, &reply) < 0)
                return 1;
        if (c->json)
                show_json(json_object_get(reply, "agents"));
        else
                show_table(json_object_get(reply, "agents"), columns);
        return 0;
}

/* A file with a blueprint makes the agent, or its next version when there is one of that name. */
static int put_agent(struct ctl *c, const char *file)
{
        json_error_t problem;
        cleanup_json json_t *body = json_load_file(file, 0, &problem), *reply = NULL, *now = NULL;
        const char *name = json_string_value(json_object_get(body, "name"));
        long status = 0;

        if (!body || !name) {
                fprintf(stderr, "berthctl: %s: %s\n", file,
                        body ? "it needs a member \"name\"" : problem.text);
                return 1;
        }
        cleanup_free char *quoted = ctl_quote(name), *path = xasprintf("/agents/%s", quoted);
        if (ctl_try(c, path, &status, &now) < 0)
                status = 0;
        if (status == 200) {
                cleanup_json json_t *rest = json_copy(body);
                (void) json_object_del(rest, "name");
                if (ctl_call(c, "PATCH", path, rest, &reply) < 0)
                        return 1;
        } else if (ctl_call(c, "POST", "/agents", body, &reply) < 0)
                return 1;
        if (c->json)
                show_json(reply);
        else
                printf("%s version %s\n", name, show_member(reply, "version"));
        return 0;
}

static int on_agent(struct ctl *c, const char *verb, const char *name)
{
        static const char *const versions[] = { "VERSION:version", "CREATED:created_at", NULL };
        cleanup_free char *quoted = ctl_quote(name), *path = xasprintf("/agents/%s", quoted);
        cleanup_free char *below =
                xasprintf("%s/%s", path, streq(verb, "versions") ? "versions?limit=100" : "status");
        cleanup_json json_t *body = NULL, *reply = NULL;

        if (streq(verb, "delete"))
                return ctl_call(c, "DELETE", path, NULL, NULL) < 0;
        if (streq(verb, "enable") || streq(verb, "disable")) {
                body = json_pack("{s:s}", "status", streq(verb, "enable") ? "active" : "inactive");
                if (ctl_call(c, "PATCH", below, body, &reply) < 0)
                        return 1;
                if (c->json)
                        show_json(reply);
                return 0;
        }
        if (streq(verb, "show")) {
                if (ctl_call(c, "GET", path, NULL, &reply) < 0)
                        return 1;
                show_json(reply);
                return 0;
        }
        if (!streq(verb, "versions")) {
                fputs(agents_usage, stderr);
                return 2;
        }
        if (ctl_call(c, "GET", below, NULL, &reply) < 0)
                return 1;
        if (c->json)
                show_json(json_object_get(reply, "versions"));
        else
                show_table(json_object_get(reply, "versions"), versions);
        return 0;
}

int cmd_agents(struct ctl *c, int argc, char **argv)
{
        if (argc == 0 || (argc == 1 && streq(argv[0], "list")))
                return list_agents(c);
        if (argc == 2)
                return streq(argv[0], "put") ? put_agent(c, argv[1])
                                             : on_agent(c, argv[0], argv[1]);
        fputs(agents_usage, stderr);
        return 2;
}

/* ---- budgets ---- */

static int show_budgets(struct ctl *c, const char *agent)
{
        static const char *const columns[] = {
                "AGENT:agent_name",         "DAY:limits.cost_usd_day",
                "USED:used.cost_usd_day",   "MONTH:limits.cost_usd_month",
                "USED:used.cost_usd_month", "TOKENS/DAY:limits.tokens_day",
                "USED:used.tokens_day",     "TOKENS/MONTH:limits.tokens_month",
                "USED:used.tokens_month",   NULL
        };
        cleanup_json json_t *reply = NULL, *shown = json_array();
        json_t *one;
        size_t i;

        if (ctl_call(c, "GET", "/budgets?limit=1000", NULL, &reply) < 0)
                return 1;
        json_array_foreach (json_object_get(reply, "budgets"), i, one) {
                const char *name = json_string_value(json_object_get(one, "agent_name"));
                if (agent && !streq(name, agent))
                        continue;
                cleanup_json json_t *line = json_copy(one);
                if (!name && !c->json)
                        (void) json_object_set_new(line, "agent_name", json_string("(all)"));
                (void) json_array_append(shown, line);
        }
        if (c->json)
                show_json(shown);
        else
                show_table(shown, columns);
        return 0;
}

static int show_session(struct ctl *c, const char *path)
{
        cleanup_json json_t *reply = NULL;

        if (ctl_call(c, "GET", path, NULL, &reply) < 0)
                return 1;
        cleanup_json json_t *part = json_pack(
                "{s:O?,s:O?,s:O?}", "budget", json_object_get(reply, "budget"), "usage",
                json_object_get(reply, "usage"), "status", json_object_get(reply, "status"));
        show_json(part);
        return 0;
}

/* LIMIT=NUMBER or LIMIT=none; which limits there are is the server's to say. */
static int read_limits(int argc, char **argv, json_t *limits)
{
        for (int i = 0; i < argc; i++) {
                const char *value = strchr(argv[i], '=');
                cleanup_free char *name =
                        value ? xstrndup(argv[i], (size_t) (value - argv[i])) : NULL;
                char *end = NULL;

                if (!value || !value[1])
                        return -EINVAL;
                double n = strtod(value + 1, &end);
                json_t *v = streq(value + 1, "none")       ? json_null()
                            : *end || !(fabs(n) <= 1e15)   ? NULL /* no number, or beyond all */
                            : n == (double) (json_int_t) n ? json_integer((json_int_t) n)
                                                           : json_real(n);
                if (!v || json_object_set_new(limits, name, v) < 0)
                        return -EINVAL;
        }
        return 0;
}

int cmd_budgets(struct ctl *c, int argc, char **argv)
{
        const char *agent = NULL, *session = NULL;

        if (argc > 0 && (streq(argv[0], "show") || streq(argv[0], "raise")))
                argc--, argv++;
        if (argc > 0 && str_starts(argv[0], "agent="))
                agent = strchr(argv[0], '=') + 1, argc--, argv++;
        else if (argc > 0 && str_starts(argv[0], "session="))
                session = strchr(argv[0], '=') + 1, argc--, argv++;
        cleanup_free char *quoted = session ? ctl_quote(session) : NULL;
        cleanup_free char *path = session ? xasprintf("/sessions/%s", quoted) : NULL;
        cleanup_json json_t *limits = json_object(), *reply = NULL, *body = NULL;

        if (argc == 0)
                return session ? show_session(c, path) : show_budgets(c, agent);
        if (read_limits(argc, argv, limits) < 0) {
                fputs(budgets_usage, stderr);
                return 2;
        }
        if (session) {
                cleanup_free char *patch = xasprintf("%s/metadata", path);
                body = json_pack("{s:O}", "budget", limits);
                if (ctl_call(c, "PATCH", patch, body, &reply) < 0)
                        return 1;
                cleanup_json json_t *now = json_incref(json_object_get(reply, "budget"));
                show_json(now);
                return 0;
        }
        body = json_pack("{s:s*,s:O}", "agent_name", agent, "limits", limits);
        if (ctl_call(c, "PUT", "/budgets", body, &reply) < 0)
                return 1;
        show_json(c->json ? reply : json_object_get(reply, "limits"));
        return 0;
}
