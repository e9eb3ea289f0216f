/* What a session's agent is given besides its files: skills in the slot, MCP servers.
 *
 * Skills are documents, by id or by tag, written under ~/skills; the prompt lists them. None of it
 * can fail the session: what is missing is said in the prompt and in a log event. */
#pragma once

#include "documents.h"
#include "mcp.h"
#include "slot.h"

struct extras_config { /* strings and blueprint outlive it */
        sd_event *event;
        struct documents *documents; /* NULL = no skills */
        struct slot *slot;
        uint64_t epoch;
        const char *tenant;
        const json_t *blueprint; /* may be NULL */
        const char *proxy;       /* for MCP servers behind URLs; may be NULL */
        const char *private;     /* ranges that are not public and may be reached, with commas */
        void (*on_problem)(void *userdata, const char *sentence); /* once for each */
        void (*on_ready)(void *userdata); /* once, from the loop, when all is done or given up */
        void *userdata;
};

struct extras;
int extras_new(const struct extras_config *c, struct extras **ret) mustuse;
struct extras *extras_free(struct extras *x); /* no callback comes */
DEFINE_CLEANUP(struct extras, extras_free)

struct mcp *extras_mcp(struct extras *x); /* NULL = the blueprint names no server */
/* Lines for the prompt, or NULL; the caller frees. */
char *extras_words(const struct extras *x) mustuse;
