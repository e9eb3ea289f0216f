/* Tools: what the model may do in the slot. One table, one file per tool.
 *
 * A call runs as a tool_run: started, then ended by exactly one on_done from the loop (never from
 * inside tool_start), or by tool_cancel. Every tool has a time limit; at its end the tool is
 * stopped like by a cancel and the result is an error. Whatever the model gives is checked here:
 * bad arguments are an error result, never a failure of the worker. */
#pragma once

#include "common/io/daemon.h"
#include "provider.h"
#include "slot.h"

#define TOOL_OUTPUT_MAX 16000 /* bytes of text of one result */

struct documents;
struct shell; /* tool-bash: the persistent shell of a session */

/* What the tools of one session act on; the session owns it. Strings are borrowed for its life. */
struct tool_host {
        sd_event *event;
        struct slot *slot;
        uint64_t epoch;
        struct documents *documents; /* NULL = no document tool */
        const char *tenant;
        const char *session_id;
        const json_t *allowed;        /* names of the tools that may be used; NULL = all */
        const json_t *approval;       /* name -> "allow" or "deny"; may be NULL */
        const json_t *output_schema;  /* what a report's output must fit; NULL = anything */
        char *done_schema;            /* tool_done_schema() of it; owned */
        bool child;                   /* the agent of another session waits for this one's report */
        struct rpc_link *coordinator; /* for sessions under this one; NULL = none can be made */
        struct mcp *mcp;              /* the blueprint's MCP servers; NULL = none */
        json_t *budget_left; /* what a session under this one may use at most; NULL = no limit */
        uint64_t call_seq;   /* of the intent event of the call that is started */
        struct shell *shell;
        struct slot_hits hits; /* what limits of the slot had stopped when the last call ended */
        bool hits_known;
        /* Output while it comes, of the call under way; may be NULL. */
        void (*on_output)(void *userdata, const char *call_id, int stream, struct span text);
        void *userdata;
};
/* Kills what the tools keep between calls (the shell). The host can be used again. */
void tool_host_close(struct tool_host *h);

struct tool_result {
        json_t *content; /* array of blocks, or NULL = none */
        char *error;     /* NULL = it worked; then the model gets this text and nothing else */
        bool invalid;    /* the call's arguments did not fit */
        bool has_exit_code;
        int64_t exit_code;
        json_t *report; /* the agent's report: the turn is over */
        json_t *more;   /* members for the result's event; NULL = none */
        void *picture;  /* PNG bytes that belong behind content; owned */
        size_t picture_size;
        uint32_t picture_width, picture_height;
};
void tool_result_done(struct tool_result *r);

struct tool_run;
struct tool {
        struct provider_tool spec;
        uint64_t limit_usec;
        bool (*present)(const struct tool_host *h); /* can it be offered here; NULL = always */
        bool (*matches)(const char *name, const char *toolset);
        /* What it offers the model, when that is not just `spec`; at most max, returns how many.
         * Strings live as long as the host. */
        size_t (*list)(const struct tool_host *h, struct provider_tool *out, size_t max);
        /* Run again when a restart lost its end: it changes nothing, or what it changes is named by
         * its call. Others are answered "interrupted". */
        bool again;
        /* A person's next message is its result; the loop waits (agent-ask.c). Checks the
         * arguments: NULL, or what is wrong with them. */
        const char *(*asks)(const json_t *input);
        /* Answers by tool_finish, now or later. */
        void (*start)(struct tool_run *run);
        /* Ends what runs at once and frees run->state; nothing of it may call back afterwards.
         * `timeout`: the limit passed. */
        void (*stop)(struct tool_run *run, bool timeout);
        const char *timeout_text; /* the error for the model; NULL = a common one */
};

struct tool_run {
        struct tool_host *host;
        const struct tool *tool;
        char *call_id, *name, *toolset;
        struct trace_context trace; /* in whose scope it was started; may be unset */
        json_t *input;
        void *state; /* the tool's own */
        bool finished;
        bool invalid; /* its arguments do not fit */
        struct tool_result result;
        struct loop_task deliver;
        struct loop_timer limit, watch;
        struct slot_hits before; /* tool-limits.c */
        uint64_t refusals;
        unsigned strikes;
        void (*on_done)(void *userdata, struct tool_result *result); /* may take from the result */
        void *userdata;
};

/* NULL when no tool has that name. */
const struct tool *tool_find(const char *name, const char *toolset);
/* The tools that can be offered here, in table order; n is TOOLS_MAX at most. */
#define TOOLS_MAX 160
size_t tool_list(const struct tool_host *h, struct provider_tool out[static TOOLS_MAX]);

/* A name no tool has gives an error result, as everything else that is wrong with the call. */
int tool_start(struct tool_host *h, const char *call_id, const char *name, const char *toolset,
               const json_t *input, void (*on_done)(void *userdata, struct tool_result *result),
               void *userdata, struct tool_run **ret) mustuse;
void tool_cancel(struct tool_run *run); /* kills the effect at once and frees the run */

/* tool-limits.c: what the limits of the slot do to a call. For tool.c. */
int tool_limits_init(struct tool_run *run) mustuse;
void tool_limits_begin(struct tool_run *run);
void tool_limits_end(struct tool_run *run, struct tool_result *result);

/* For tools: ends the run; *result is taken over. A second call is ignored. */
void tool_finish(struct tool_run *run, struct tool_result *result);
void tool_finish_error(struct tool_run *run, const char *fmt, ...) printf_like(2, 3);
void tool_finish_text(struct tool_run *run, const char *fmt, ...) printf_like(2, 3);

/* Arguments, checked. Each gives 0 or finishes the run with an error that names the argument:
 * -EINVAL. Without `required` an absent or null argument leaves *ret as it is. */
int tool_arg_string(struct tool_run *run, const char *key, bool required, const char **ret) mustuse;
int tool_arg_int(struct tool_run *run, const char *key, bool required, int64_t *ret) mustuse;
int tool_arg_bool(struct tool_run *run, const char *key, bool *ret) mustuse;
/* An array of at most max strings; *ret stays NULL when it is absent. Borrowed. */
int tool_arg_strings(struct tool_run *run, const char *key, size_t max, const json_t **ret) mustuse;

/* The input schema of `done` for reports that must fit; NULL gives NULL. The caller frees. */
char *tool_done_schema(const json_t *output_schema) mustuse;

extern const struct tool tool_computer, tool_bash, tool_edit, tool_execute_code, tool_document_list,
        tool_document_search, tool_document_get, tool_document_put, tool_ask_human, tool_done,
        tool_session_start, tool_session_wait, tool_mcp;
