/* What the files of the MCP client share: a server, its requests, its transport. */
#pragma once

#include "common/base/list.h"
#include "common/io/daemon.h"
#include "common/io/httpc.h"
#include "mcp.h"

#define MCP_LEGACY "2025-11-25"
#define MCP_MODERN "2026-07-28"
#define MCP_LISTEN "subscriptions/listen" /* of a modern server */
#define MCP_MESSAGE_MAX (8 * MIB)         /* one message of a server */
#define MCP_OPEN_USEC (20 * USEC_PER_SEC) /* each step of opening */
#define MCP_PROBE_USEC (3 * USEC_PER_SEC) /* server/discover of a program */
#define MCP_REQUESTS_MAX 64               /* of one server at a time */

enum mcp_state {
        MCP_DOWN,
        MCP_PROBING, /* server/discover is asked: is it a modern one? */
        MCP_OPENING, /* initialize is asked */
        MCP_LISTING,
        MCP_READY,
        MCP_STATE_MAX,
};

struct mcp_tool {
        char *full; /* for the model */
        char *name; /* for the server */
        char *description, *schema;
};

struct mcp_server;
struct mcp_transport {
        int (*open)(struct mcp_server *s);
        /* One JSON-RPC message as text. id 0: no answer is expected. method and name as in the
         * message; name may be NULL. */
        int (*send)(struct mcp_server *s, const char *text, uint64_t id, const char *method,
                    const char *name);
        /* From now on the server's own notices are taken. text: the subscription as a message, of a
         * modern server; NULL for a legacy one. Opened again by itself, a bounded number of times.
         */
        int (*listen)(struct mcp_server *s, const char *text);
        void (*forget)(struct mcp_server *s, uint64_t id); /* nobody waits for this answer */
        void (*close)(struct mcp_server *s);
        bool tells_cancel; /* a cancelled request is told by a notification */
};
extern const struct mcp_transport mcp_http, mcp_stdio;

typedef void (*mcp_answer_fn)(void *userdata, struct mcp_server *s, int r, const json_t *result,
                              const char *why);
/* A request that waits for its answer. */
struct mcp_request {
        struct list link;
        struct mcp_server *server;
        uint64_t id;
        mcp_answer_fn fn;
        void (*progress)(void *userdata, struct span text);
        void *userdata;
        struct loop_timer limit;
        uint64_t limit_usec;
};

struct mcp_server {
        struct mcp *set;
        char *name, *url, *cwd;
        char **headers; /* "Name: value", NULL-terminated; may be NULL */
        char **argv, **env;
        const json_t *only; /* names of tools that are offered; NULL = all; of set->servers */
        bool legacy_only, modern_only;
        uint64_t call_usec;
        enum mcp_state state;
        bool modern, listed, stale; /* stale: list_changed came while listing */
        char *problem;              /* why it is down */
        char *version, *session;    /* of a legacy server; session: HTTP only */
        struct list requests, calls;
        size_t n_requests;
        uint64_t next_id;
        struct mcp_tool *tools, *coming; /* offered; being listed */
        size_t n_tools, n_coming;
        unsigned pages;
        const struct mcp_transport *transport;
        void *io; /* the transport's own */
};

struct mcp {
        sd_event *event;
        struct slot *slot;
        uint64_t epoch;
        json_t *servers;
        char *proxy;
        const struct address_range *allowed;
        size_t n_allowed;
        struct httpc *http;
        struct mcp_server server[MCP_SERVERS_MAX];
        size_t n;
        bool begun;
        struct loop_timer deadline;
        struct loop_task ready_task;
        void (*ready)(void *userdata);
        void *userdata;
};

/* mcp-server.c: one server's protocol */
void mcp_server_open(struct mcp_server *s);
void mcp_server_down(struct mcp_server *s, const char *why); /* ends its requests, closes it */
/* Takes nothing; limit 0 = the common one. -EAGAIN: too many requests. */
int mcp_ask(struct mcp_server *s, const char *method, json_t *params, const char *name,
            uint64_t limit_usec, mcp_answer_fn fn,
            void (*progress)(void *userdata, struct span text), void *userdata,
            uint64_t *ret_id) mustuse;
void mcp_forget(struct mcp_server *s, uint64_t id); /* the server is told */
/* From transports: a message; a request (0 = all of it) that can have no answer any more. */
void mcp_message(struct mcp_server *s, struct span text);
void mcp_lost(struct mcp_server *s, uint64_t id, const char *why);
/* The session of a legacy server is gone: opened anew, what was asked fails unless it may pass. */
void mcp_session_gone(struct mcp_server *s, uint64_t id);

/* mcp-tools.c: what a server offers */
int mcp_take_tools(struct mcp_server *s, const json_t *result) mustuse; /* of one page */
void mcp_tools_done(struct mcp_tool *tools, size_t n);

/* mcp.c: a server's state has changed */
void mcp_settled(struct mcp_server *s);
