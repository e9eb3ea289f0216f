/* Provider for OpenAI-compatible chat completions (streaming), and the pure parts of it that tests
 * look at. Clouds, Ollama, llama.cpp and vLLM differ in small things; what is read is read
 * leniently, what is sent keeps to what all of them take. */
#pragma once

#include "common/io/httpc.h"
#include "provider.h"
#include "sse.h"

struct openai_config {
        struct httpc *http;
        const char *url;     /* without /v1/chat/completions; a trailing /v1 is taken off */
        const char *key;     /* NULL or "" = none is sent */
        uint64_t stall_usec; /* 0 = 60 s */
        /* As in httpc_config; NULL = any address. Then http is to be this provider's own. */
        bool (*may_connect)(void *userdata, const struct sockaddr *address);
        void *userdata;
};
int openai_new(const struct openai_config *c, struct provider **ret) mustuse;

/* What a server refused once and is not sent again. */
enum openai_quirk {
        OPENAI_QUIRK_OTHER_LIMIT = 1 << 0, /* the other name of the limit of output tokens */
        OPENAI_QUIRK_NO_USAGE = 1 << 1,    /* without stream_options */
};
/* The request body. -EMSGSIZE when it is over 32 MiB, -ENOENT when a picture's bytes are missing.
 */
int openai_body(struct buf *out, const struct provider_request *r, unsigned quirks) mustuse;

/* The stream of one answer: events in, the finished turn out, in the Messages form. */
#define OPENAI_BLOCKS_MAX 256
#define OPENAI_CONTENT_MAX (3 * MIB)
struct openai_block {
        enum provider_delta kind; /* INPUT = a tool call */
        struct buf text;
        json_int_t index; /* of a call, as the server counts; -1 = it does not */
        char *id, *name;  /* of a call; the server's id only tells its pieces apart */
};
struct openai_stream {
        struct openai_block *blocks; /* OPENAI_BLOCKS_MAX of them */
        size_t n_blocks;
        size_t bytes;
        bool finished; /* a finish_reason or [DONE] was seen: what is there is whole */
        bool done;     /* [DONE] was seen: nothing more comes */
        bool failed;   /* code, message and retry say why */
        bool retry;
        char model[128];
        char finish[64];
        struct usage usage;
        char code[64];
        char message[300];
        const struct provider_events *events; /* on_delta may be NULL */
};
void openai_stream_init(struct openai_stream *s, const struct provider_events *events);
void openai_stream_free(struct openai_stream *s);
/* One event's data: a chunk, an error or [DONE]; also a whole completion. 0, or -EBADMSG with
 * `failed`. */
int openai_stream_event(struct openai_stream *s, struct span data) mustuse;
/* The content of a finished stream; *ret_bad as provider_reply.bad_calls. Calls get ids of our own,
 * because servers repeat theirs from turn to turn. */
json_t *openai_stream_content(struct openai_stream *s, json_t **ret_bad) mustuse;
/* In the Messages API's words. */
const char *openai_stop_reason(const struct openai_stream *s);
