/* Writes what the coordinator counts as JSON, for the gateway's /metrics. */
#include "figures.h"

#include "coordinator.h"

static const char *const tool_names[] = {
        "other",           "mcp",
        "ask_human",       "bash",
        "computer",        "document_get",
        "document_list",   "document_put",
        "document_search", "done",
        "execute_code",    "session_start",
        "session_wait",    "str_replace_based_edit_tool",
};
_Static_assert(ARRAY_LEN(tool_names) <= FIGURES_TOOLS_MAX, "room for every tool");

size_t figures_tool(const char *name)
{
        if (str_starts(name, "mcp__"))
                return 1;
        for (size_t i = 2; i < ARRAY_LEN(tool_names); i++)
                if (streq(tool_names[i], name))
                        return i;
        return 0;
}

static void put_u64(struct buf *b, bool first, const char *name, uint64_t v)
{
        buf_putf(b, "%s\"%s\":%" PRIu64, first ? "" : ",", name, v);
}

static void put_sessions(struct buf *b, const struct sessions *t)
{
        uint64_t n[SESSION_STATE_MAX] = { 0 };
        size_t at = 0;
        void *value;

        while (map_next(t->by_id, &at, NULL, &value)) {
                const struct session *s = value;
                if (s->exists && s->loaded)
                        n[s->state]++;
        }
        buf_puts(b, "\"sessions\":{");
        bool first = true;
        for (int i = 0; i < SESSION_STATE_MAX; i++)
                if (!(SESSION_ENDED & SESSION_STATE_BIT(i))) { /* those are only in the database */
                        put_u64(b, first, session_state_name((enum session_state) i), n[i]);
                        first = false;
                }
        buf_puts(b, "}");
}

static void put_commits(struct buf *b, const struct histogram *h)
{
        buf_puts(b, ",\"commits\":{\"counts\":[");
        for (size_t i = 0; i < ARRAY_LEN(h->counts); i++)
                buf_putf(b, "%s%" PRIu64, i ? "," : "", h->counts[i]);
        buf_putf(b, "],\"sum_usec\":%" PRIu64 "}", h->sum_usec);
}

void figures_put(const struct coordinator *c, struct buf *b)
{
        const struct hub_counters *h = hub_counters(c->hub);
        const struct figures *f = &c->figures;
        const struct usage *u = &f->usage;

        buf_puts(b, ",\"figures\":{");
        put_sessions(b, &c->sessions);
        buf_puts(b, ",\"transitions\":{");
        for (int i = 0; i < SESSION_STATE_MAX; i++)
                put_u64(b, i == 0, session_state_name((enum session_state) i), h->transitions[i]);
        buf_puts(b, "},\"events\":{");
        for (int i = 0; i < EVENT_TYPE_MAX; i++)
                put_u64(b, i == 0, event_type_name((enum event_type) i), h->events_of[i]);
        buf_puts(b, "}");
        put_commits(b, &h->commits);
        buf_puts(b, ",\"tools\":{");
        for (size_t i = 0; i < ARRAY_LEN(tool_names); i++)
                buf_putf(b, "%s\"%s\":[%" PRIu64 ",%" PRIu64 "]", i ? "," : "", tool_names[i],
                         f->tools[i][0], f->tools[i][1]);
        buf_puts(b, "},\"tokens\":{");
        put_u64(b, true, "input", u->input_tokens);
        put_u64(b, false, "output", u->output_tokens);
        put_u64(b, false, "cache_read", u->cache_read_tokens);
        put_u64(b, false, "cache_write", u->cache_write_tokens);
        buf_puts(b, "}");
        put_u64(b, false, "cost_microusd", u->cost_microusd);
        put_u64(b, false, "turns", u->turns);
        buf_puts(b, "}");
}
