/* The MCP servers of one session: made from the blueprint, opened together, called by a tool's
 * name. */
#include <strings.h>

#include "common/io/log.h"
#include "mcp-private.h"
#include "utf8.h"

#define BEGIN_USEC (20 * USEC_PER_SEC)
#define CALL_DEFAULT 60 /* seconds without an answer or a word of progress */
#define STRINGS_MAX 48

struct mcp_call {
        struct list link; /* in the server's calls */
        struct mcp_server *server;
        struct mcp_events events;
        char *tool, *full;
        json_t *arguments;
        uint64_t id; /* 0 = waits for the server to be opened */
        struct loop_task fail;
        char *why;
};

/* ---- servers ---- */

static char **strings_of(const json_t *list)
{
        char **out = xnewn(char *, STRINGS_MAX + 1);
        size_t i, n = 0;
        const json_t *one;

        json_array_foreach (list, i, one)
                if (json_is_string(one) && n < STRINGS_MAX)
                        out[n++] = xstrdup(json_string_value(one));
        return out;
}

/* "A" + between + "b" for each member. */
static char **pairs_of(const json_t *object, const char *between)
{
        char **out = xnewn(char *, STRINGS_MAX + 1);
        size_t n = 0;
        const char *key;
        json_t *value;

        json_object_foreach ((json_t *) (uintptr_t) object, key, value)
                if (json_is_string(value) && n < STRINGS_MAX)
                        out[n++] = xasprintf("%s%s%s", key, between, json_string_value(value));
        return out;
}

static void strings_free(char **list)
{
        for (size_t i = 0; list && list[i]; i++)
                free(list[i]);
        free(list);
}

static void server_init(struct mcp *m, const json_t *j)
{
        struct mcp_server *s = &m->server[m->n++];
        const char *era = json_string_value(json_object_get(j, "protocol"));
        json_int_t seconds = json_integer_value(json_object_get(j, "timeout_s"));

        s->set = m;
        s->name = xstrdup(json_string_value(json_object_get(j, "name")));
        s->url = xstrdup(json_string_value(json_object_get(j, "url")));
        s->cwd = xstrdup(json_string_value(json_object_get(j, "cwd")));
        s->argv = strings_of(json_object_get(j, "command"));
        s->env = pairs_of(json_object_get(j, "env"), "=");
        s->headers = pairs_of(json_object_get(j, "headers"), ": ");
        s->only = json_object_get(j, "tools");
        s->legacy_only = streq(era, "legacy");
        s->modern_only = streq(era, "modern");
        s->call_usec = (uint64_t) (seconds > 0 ? seconds : CALL_DEFAULT) * USEC_PER_SEC;
        s->transport = s->url ? &mcp_http : &mcp_stdio;
        list_init(&s->requests);
        list_init(&s->calls);
}

static void on_ready(void *userdata)
{
        struct mcp *m = userdata;
        void (*ready)(void *userdata) = TAKE_PTR(m->ready);

        loop_timer_disarm(&m->deadline);
        if (ready)
                ready(m->userdata);
}

static void call_send(struct mcp_call *c);
static void call_fail_later(struct mcp_call *c, const char *why);

void mcp_settled(struct mcp_server *s)
{
        struct mcp *m = s->set;
        struct mcp_call *c, *next;

        if (s->state != MCP_DOWN && s->state != MCP_READY)
                return;
        list_foreach_safe (c, next, &s->calls, link)
                if (c->id == 0 && !c->why) {
                        if (s->state == MCP_READY)
                                call_send(c);
                        else
                                call_fail_later(c, s->problem);
                }
        for (size_t i = 0; i < m->n; i++)
                if (m->server[i].state != MCP_DOWN && m->server[i].state != MCP_READY)
                        return;
        if (m->begun && m->ready)
                loop_task_queue(&m->ready_task);
}

void mcp_begin(struct mcp *m, void (*ready)(void *userdata), void *userdata)
{
        m->ready = ready;
        m->userdata = userdata;
        for (size_t i = 0; i < m->n; i++)
                mcp_server_open(&m->server[i]);
        m->begun = true;
        loop_timer_arm(&m->deadline, BEGIN_USEC);
        if (m->n > 0)
                mcp_settled(&m->server[0]);
        else
                loop_task_queue(&m->ready_task);
}

bool mcp_problem(const struct mcp *m, size_t i, const char **ret_name, const char **ret_why)
{
        const struct mcp_server *s = &m->server[i];

        if (i >= m->n)
                return false;
        *ret_name = s->name;
        *ret_why = s->state == MCP_READY  ? NULL
                   : s->state == MCP_DOWN ? s->problem
                                          : "It does not answer yet.";
        return true;
}

size_t mcp_tools(const struct mcp *m, struct provider_tool *out, size_t max)
{
        size_t n = 0;

        for (size_t i = 0; i < m->n; i++)
                for (size_t k = 0; k < m->server[i].n_tools && n < MIN(max, (size_t) MCP_TOOLS_MAX);
                     k++) {
                        const struct mcp_tool *t = &m->server[i].tools[k];

                        out[n++] = (struct provider_tool){ .name = t->full,
                                                           .description = t->description,
                                                           .schema = t->schema };
                }
        return n;
}

/* ---- calls ---- */

static void call_free(struct mcp_call *c)
{
        list_remove(&c->link);
        loop_task_done(&c->fail);
        json_decref(c->arguments);
        free(c->tool);
        free(c->full);
        free(c->why);
        free(c);
}

static void call_end(struct mcp_call *c, int r, const json_t *result, const char *why)
{
        struct mcp_events e = c->events;
        cleanup_free char *copy = xstrdup(why);

        call_free(c);
        e.on_done(e.userdata, r, result, copy);
}

static void on_fail(void *userdata)
{
        struct mcp_call *c = userdata;
        cleanup_free char *why = xstrdup(c->why);

        call_end(c, -ECONNRESET, NULL, why);
}

static void call_fail_later(struct mcp_call *c, const char *why)
{
        c->why = xstrdup(why);
        loop_task_queue(&c->fail);
}

static void on_answer(void *userdata, struct mcp_server *s, int r, const json_t *result,
                      const char *why)
{
        struct mcp_call *c = userdata;
        const char *type = json_string_value(json_object_get(result, "resultType"));

        if (r == 0 && type && !streq(type, "complete"))
                call_end(c, -EOPNOTSUPP, NULL,
                         "The server asks for input of a person, which is not offered here.");
        else
                call_end(c, r, result, why);
}

static void on_progress(void *userdata, struct span text)
{
        struct mcp_call *c = userdata;

        if (c->events.on_progress)
                c->events.on_progress(c->events.userdata, text);
}

static void call_send(struct mcp_call *c)
{
        struct mcp_server *s = c->server;
        int r = mcp_ask(s, "tools/call",
                        json_pack("{s:s,s:O}", "name", c->tool, "arguments", c->arguments), c->tool,
                        s->call_usec, on_answer, on_progress, c, &c->id);

        if (r < 0) {
                c->id = 0;
                call_fail_later(c, "The server takes no more calls now.");
        }
}

static struct mcp_server *find_tool(struct mcp *m, const char *full, const char **ret_tool)
{
        for (size_t i = 0; i < m->n; i++)
                for (size_t k = 0; k < m->server[i].n_tools; k++)
                        if (streq(m->server[i].tools[k].full, full)) {
                                *ret_tool = m->server[i].tools[k].name;
                                return &m->server[i];
                        }
        return NULL;
}

int mcp_call(struct mcp *m, const char *tool, const json_t *arguments, const struct mcp_events *e,
             struct mcp_call **ret)
{
        const char *name = NULL;
        struct mcp_server *s = find_tool(m, tool, &name);
        struct mcp_call *c;
        int r;

        if (!s)
                return -ENOENT;
        c = xnew(struct mcp_call);
        c->server = s;
        c->events = *e;
        c->tool = xstrdup(name);
        c->arguments = json_incref((json_t *) (uintptr_t) arguments);
        list_push_back(&s->calls, &c->link);
        r = loop_task_init(&c->fail, m->event, on_fail, c);
        if (r < 0) {
                call_free(c);
                return r;
        }
        *ret = c;
        if (s->state == MCP_READY || s->state == MCP_LISTING)
                call_send(c);
        else
                mcp_server_open(s); /* mcp_settled goes on with it */
        return 0;
}

void mcp_cancel(struct mcp_call *c)
{
        if (c->id > 0)
                mcp_forget(c->server, c->id);
        call_free(c);
}

/* ---- the set ---- */

int mcp_new(const struct mcp_config *c, struct mcp **ret)
{
        CLEANUP(mcp_freep) struct mcp *m = xnew(struct mcp);
        const json_t *one;
        size_t i;
        int r;

        m->event = c->event;
        m->slot = c->slot;
        m->epoch = c->epoch;
        m->allowed = c->allowed;
        m->n_allowed = c->n_allowed;
        m->proxy = strempty(c->proxy) ? NULL : xstrdup(c->proxy);
        m->servers = json_incref((json_t *) (uintptr_t) c->servers);
        json_array_foreach (m->servers, i, one)
                if (m->n < MCP_SERVERS_MAX)
                        server_init(m, one);
        r = httpc_new(c->event, &m->http);
        if (r == 0)
                r = loop_timer_init(&m->deadline, c->event, on_ready, m);
        if (r == 0)
                r = loop_task_init(&m->ready_task, c->event, on_ready, m);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(m);
        return 0;
}

static void server_done(struct mcp_server *s)
{
        struct mcp_request *q;
        struct mcp_call *c;

        while ((c = list_first(&s->calls, struct mcp_call, link)))
                call_free(c);
        s->transport->close(s);
        while ((q = list_first(&s->requests, struct mcp_request, link))) {
                list_remove(&q->link);
                loop_timer_done(&q->limit);
                free(q);
        }
        mcp_tools_done(s->tools, s->n_tools);
        mcp_tools_done(s->coming, s->n_coming);
        strings_free(s->argv);
        strings_free(s->env);
        strings_free(s->headers);
        free(s->name);
        free(s->url);
        free(s->cwd);
        free(s->problem);
        free(s->version);
        free(s->session);
}

struct mcp *mcp_free(struct mcp *m)
{
        if (!m)
                return NULL;
        for (size_t i = 0; i < m->n; i++)
                server_done(&m->server[i]);
        httpc_free(m->http);
        loop_timer_done(&m->deadline);
        loop_task_done(&m->ready_task);
        json_decref(m->servers);
        free(m->proxy);
        free(m);
        return NULL;
}
