/* The worker's MCP client as a program: mcp-client URL [TOOL JSON]. Opens the server, prints its
 * tools, calls the one named or, without a name, each with numbers for what it requires. For the
 * judges of the protocol (tests/system/test_mcp.py). Exit 0 when all was answered. */
#include <arpa/inet.h>

#include "common/io/daemon.h"
#include "workerd/mcp.h"

struct program {
        sd_event *event;
        struct mcp *mcp;
        const char *tool, *arguments;
        struct provider_tool tools[MCP_TOOLS_MAX];
        size_t n, next;
        int failed;
};

static void call_next(struct program *p);

static void on_progress(void *userdata, struct span text)
{
        printf("progress " SPAN_FMT, SPAN_ARG(text));
}

static void on_done(void *userdata, int r, const json_t *result, const char *why)
{
        struct program *p = userdata;
        cleanup_free char *text = result ? json_text(result) : NULL;

        printf("%s %s\n", r == 0 ? "result" : "error", text ? text : why);
        p->failed |= r < 0;
        call_next(p);
}

/* A number for each member the schema names. */
static json_t *arguments_for(const char *schema)
{
        json_t *j = json_loads(schema, 0, NULL), *out = json_object(), *value;
        const char *key;

        json_object_foreach (json_object_get(j, "properties"), key, value)
                json_object_set_new(
                        out, key,
                        strstr(json_string_value(json_object_get(value, "type")), "string")
                                ? json_string("text")
                                : json_integer(7));
        json_decref(j);
        return out;
}

static void call_next(struct program *p)
{
        while (p->next < p->n && p->tool && !streq(p->tool, p->tools[p->next].name))
                p->next++;
        if (p->next >= p->n) {
                (void) sd_event_exit(p->event, p->failed);
                return;
        }
        const struct provider_tool *t = &p->tools[p->next++];
        cleanup_json json_t *arguments =
                p->tool ? json_loads(p->arguments, 0, NULL) : arguments_for(t->schema);
        struct mcp_call *call;

        if (mcp_call(p->mcp, t->name, arguments,
                     &(struct mcp_events){
                             .on_progress = on_progress, .on_done = on_done, .userdata = p },
                     &call) < 0)
                (void) sd_event_exit(p->event, 1);
}

static void on_ready(void *userdata)
{
        struct program *p = userdata;
        const char *name, *why;

        if (mcp_problem(p->mcp, 0, &name, &why) && why) {
                printf("problem %s\n", why);
                (void) sd_event_exit(p->event, 1);
                return;
        }
        p->n = mcp_tools(p->mcp, p->tools, MCP_TOOLS_MAX);
        for (size_t i = 0; i < p->n; i++)
                printf("tool %s\n", p->tools[i].name);
        call_next(p);
}

int main(int argc, char **argv)
{
        struct address_range loopback[2];
        cleanup_json json_t *servers = NULL;
        struct program p = { .tool = argc > 2 ? argv[2] : NULL,
                             .arguments = argc > 3 ? argv[3] : "{}" };
        int code = 1;

        setvbuf(stdout, NULL, _IOLBF, 0);
        if (argc < 2 || address_range_parse("127.0.0.0/8", &loopback[0]) < 0 ||
            address_range_parse("::1", &loopback[1]) < 0 || sd_event_new(&p.event) < 0)
                return 2;
        servers = json_pack("[{s:s,s:s,s:s*}]", "name", "peer", "url", argv[1], "protocol",
                            getenv("MCP_PROTOCOL"));
        if (mcp_new(&(struct mcp_config){ .event = p.event,
                                          .servers = servers,
                                          .allowed = loopback,
                                          .n_allowed = 2 },
                    &p.mcp) < 0)
                return 2;
        mcp_begin(p.mcp, on_ready, &p);
        code = sd_event_loop(p.event);
        mcp_free(p.mcp);
        loop_defer_flush(p.event);
        sd_event_unref(p.event);
        return code;
}
