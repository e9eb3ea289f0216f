/* MCP servers as tools: the servers of a session's blueprint, what they offer, calls to them.
 *
 * A server is a program in the slot (stdio) or a URL (Streamable HTTP). Both eras of the protocol
 * are spoken: server/discover is asked first, what does not know it gets initialize. Servers are
 * hostile: names, schemas, results and their number are bounded, and a server that fails is a
 * tool's error, never the session's. Addresses that are not public are refused unless the settings
 * list them.
 *
 * Callbacks come from the loop, never from inside the call that started them. */
#pragma once

#include "common/base/json.h"
#include "common/base/netpolicy.h"
#include "provider.h"
#include "slot.h"

#define MCP_SERVERS_MAX 16
#define MCP_TOOLS_MAX 128 /* of all servers together */
#define MCP_PREFIX "mcp__"

struct mcp_config { /* borrowed until mcp_new returns, but the slot and the ranges */
        sd_event *event;
        struct slot *slot; /* for servers in the slot */
        uint64_t epoch;
        const json_t *servers;               /* as mcp_check has found good */
        const char *proxy;                   /* URL for the servers' requests; NULL or "" = none */
        const struct address_range *allowed; /* that are not public, and may be reached */
        size_t n_allowed;
};

struct mcp;
int mcp_new(const struct mcp_config *c, struct mcp **ret) mustuse;
struct mcp *mcp_free(struct mcp *m); /* ends calls without a word, and the servers in the slot */
DEFINE_CLEANUP(struct mcp, mcp_free)

/* Opens all and asks for their tools; `ready` comes once, when each has answered or failed, at the
 * latest after 20 s. */
void mcp_begin(struct mcp *m, void (*ready)(void *userdata), void *userdata);
/* After `ready`: why the i-th server offers nothing, as one sentence, or NULL. False: no such. */
bool mcp_problem(const struct mcp *m, size_t i, const char **ret_name, const char **ret_why);

/* What they offer, as tools of the model: mcp__SERVER__TOOL. Strings live until mcp_free. */
size_t mcp_tools(const struct mcp *m, struct provider_tool *out, size_t max);

struct mcp_call;
struct mcp_events {
        /* What it says meanwhile, one line of clean text. */
        void (*on_progress)(void *userdata, struct span text);
        /* r: 0 with the result object of tools/call; else negative, and why = one sentence. */
        void (*on_done)(void *userdata, int r, const json_t *result, const char *why);
        void *userdata;
};
/* -ENOENT: no such tool. The server is opened again when it was lost. Nothing is sent twice. */
int mcp_call(struct mcp *m, const char *tool, const json_t *arguments, const struct mcp_events *e,
             struct mcp_call **ret) mustuse;
void mcp_cancel(struct mcp_call *c); /* the server is told; no callback comes */
