/* Provider for the Messages API (streaming), and the pure parts of it that tests look at. */
#pragma once

#include "common/io/httpc.h"
#include "provider.h"
#include "sse.h"

/* The forms of the computer tool, newest first; a model that refuses one is asked again with the
 * next. */
enum anthropic_computer {
        ANTHROPIC_COMPUTER_TOOLSET_20260801,
        ANTHROPIC_COMPUTER_20251124,
        ANTHROPIC_COMPUTER_20250124,
        ANTHROPIC_COMPUTER_MAX,
};
const char *anthropic_computer_type(enum anthropic_computer c); /* "computer_20251124" */
/* By the model id's prefix; forced (may be "" or NULL) wins. -EINVAL when forced names no form. */
int anthropic_computer_for(const char *model, const char *forced,
                           enum anthropic_computer *ret) mustuse;
bool anthropic_adaptive_thinking(const char *model);

struct anthropic_config {
        struct httpc *http;
        const char *url;           /* without /v1/messages */
        const char *key;           /* NULL or "" = none is sent */
        const char *computer_tool; /* "" = by model */
        const char *thinking;      /* "auto", "adaptive", "off" */
        uint64_t stall_usec;       /* 0 = 60 s */
        /* As in httpc_config; NULL = any address. Then http is to be this provider's own. */
        bool (*may_connect)(void *userdata, const struct sockaddr *address);
        void *userdata;
};
int anthropic_new(const struct anthropic_config *c, struct provider **ret) mustuse;

/* The request body. -EMSGSIZE when it is over the API's 32 MB, -ENOENT when a picture's bytes are
 * missing. */
int anthropic_body(struct buf *out, const struct provider_request *r,
                   enum anthropic_computer computer, bool adaptive) mustuse;

/* The stream of one answer: events in, the finished turn out. */
enum anthropic_stream_state {
        ANTHROPIC_STREAM_OPEN,
        ANTHROPIC_STREAM_COMPLETE, /* message_stop was seen */
        ANTHROPIC_STREAM_FAILED,   /* an error event, or nonsense: code and message say which */
};
#define ANTHROPIC_BLOCKS_MAX 256
#define ANTHROPIC_CONTENT_MAX (3 * MIB)
struct anthropic_block {
        json_t *json; /* NULL = no block of that index came */
        struct buf text, signature, input;
        json_t *citations;
};
struct anthropic_stream {
        enum anthropic_stream_state state;
        struct anthropic_block *blocks; /* ANTHROPIC_BLOCKS_MAX of them */
        size_t n_blocks;
        size_t bytes;
        char model[128];
        char stop_reason[64];
        char stop_detail[300];
        struct usage usage;
        char code[64];
        char message[300];
        const struct provider_events *events; /* on_delta may be NULL */
};
void anthropic_stream_init(struct anthropic_stream *s, const struct provider_events *events);
void anthropic_stream_done(struct anthropic_stream *s);
/* Unknown events and deltas are skipped. Always 0 or -EBADMSG with state FAILED. */
int anthropic_stream_event(struct anthropic_stream *s, struct span data) mustuse;
/* The finished content of a COMPLETE stream; *ret_bad as provider_reply.bad_calls. */
json_t *anthropic_stream_content(struct anthropic_stream *s, json_t **ret_bad) mustuse;
