/* What the files of a session share: its life and lease are in session.c, its files and what is
 * kept of its slot in session-slot.c, its agent in session-agent.c. */
#pragma once

#include "common/io/log.h"
#include "extras.h"
#include "network.h"
#include "results.h"
#include "session.h"

#define LEASE_MARGIN (2 * USEC_PER_SEC)
#define VOLUME "/data/" /* files below it are an upload's: programs see them read-only */

struct session {
        struct session_config c;
        char *id, *tenant, *model, *system_extra, *name;
        char *agent_name; /* or NULL */
        uint64_t epoch;
        struct trace_context trace; /* of who last wanted something of it; may be unset */
        enum slot_kind kind;
        uint32_t width, height;
        struct {
                char *document_id, *path;
        } * files;
        size_t n_files, placed;
        json_t *budget, *blueprint; /* objects, or NULL */
        uint64_t run_usec;          /* before this worker took over */
        uint64_t lease_until;
        uint64_t last_message_seq; /* newest told of before there was an agent */
        bool told;                 /* of a state before there was an agent */
        enum session_state told_state;
        bool child; /* another session's agent waits for its report */
        bool has_usage;
        struct usage usage; /* before this worker took over */
        bool over;
        bool paused; /* by a person; its slot stands still unless one drives */
        enum control_mode control;
        char *driver; /* name of the person, or NULL */
        struct recorder *recorder;
        struct results *results; /* NULL = it has no volume, or no slot */
        struct loop_timer lease, idle;
        struct approvals *approvals;
        struct network *network;
        struct extras *extras; /* NULL = the blueprint gives none */
        char *hold;            /* before there is an agent */
        struct outbox *outbox;
        struct loader *loader;
        struct history *history;
        struct live live;
        struct tool_host host;
        struct agent *agent;
};

/* Nothing more is done here; told once. The session may be freed when this returns. */
void session_end(struct session *s, enum session_over what);
struct agent_budget session_budget(const struct session *s);

/* Is this file of s->files one of a volume? */
bool session_volume_file(const struct session *s, size_t file);
/* What the agent calls before it rests: true when results are being kept (agent_kept follows). */
bool session_keep(void *userdata);

/* Pauses the slot of a paused session that nobody drives, else lets it go on. */
void session_hold_slot(struct session *s);

/* The files are in place: skills, servers, then the agent. */
void session_prepare(struct session *s);
/* It ends failed, as stored. Before the agent is there a failure is stored by a short-lived one. */
void session_fail(struct session *s, const char *code, const char *message);
/* A skill or a server that is not there: people see it, the agent is told in its prompt. */
void session_problem(void *userdata, const char *sentence);
