/* What a model provider is: one streaming call at a time from a conversation to a finished turn.
 *
 * The agent loop decides about repetition: a provider makes one attempt and says whether and when
 * another makes sense. Every call ends by exactly one on_done, unless it was cancelled. */
#pragma once

#include "common/base/buf.h"
#include "history.h"
#include "proto/wire.h"

/* Tools a model family knows by itself are named here; the provider chooses the form the model
 * wants. */
enum provider_native {
        PROVIDER_NATIVE_NONE,
        PROVIDER_NATIVE_COMPUTER,
        PROVIDER_NATIVE_BASH,
        PROVIDER_NATIVE_EDIT
};
struct provider_tool {
        const char *name;
        const char *description;
        const char *schema; /* JSON Schema of the input, as text */
        enum provider_native native;
};

struct provider_request { /* everything is borrowed until start returns */
        const char *model;
        const char *system;
        const struct history *history; /* for the bytes of pictures */
        const json_t *conversation;    /* history_compose() */
        const struct provider_tool *tools;
        size_t n_tools;
        uint32_t width, height; /* of the pictures the model is sent; 0 = no display */
        uint64_t max_tokens;
        const char *traceparent; /* sent along; NULL = none */
};

struct provider_reply {
        json_t *content;   /* array of blocks exactly as the model gave them; tool_use inputs are
                              objects */
        json_t *bad_calls; /* object: id of a tool_use whose input was not usable -> why */
        const char *stop_reason; /* "" when the model gave none */
        const char *stop_detail; /* "" or one sentence */
        const char *model;       /* the model that answered */
        const char *request_id;  /* for the provider's support; may be "" */
        struct usage usage;      /* without cost and turns */
};

struct provider_failure {
        bool retry;
        uint64_t retry_after_usec; /* 0 = the caller's own backoff */
        const char *code;          /* snake_case, the provider's own where it has one */
        const char *message;       /* one sentence */
        long status;               /* HTTP, 0 = none */
};

enum provider_delta {
        PROVIDER_DELTA_TEXT,
        PROVIDER_DELTA_THINKING,
        PROVIDER_DELTA_INPUT,
        PROVIDER_DELTA_MAX
};

struct provider_events {
        void (*on_delta)(void *userdata, size_t block, enum provider_delta kind, struct span text);
        /* Exactly one of reply and failure is set; both are borrowed. */
        void (*on_done)(void *userdata, const struct provider_reply *reply,
                        const struct provider_failure *failure);
        void *userdata;
};

struct provider_call;
struct provider {
        const char *name;
        /* On a negative result no callback comes. */
        int (*start)(struct provider *p, const struct provider_request *r,
                     const struct provider_events *events, struct provider_call **ret);
        void (*cancel)(struct provider_call *c); /* at once; on_done never comes */
        struct provider *(*free)(struct provider *p);
};

/* How long to wait before attempt `attempt` + 1 (attempts count from 1): what the provider asked
 * for, held to 5 min, else 0.5 s doubling to 8 s, less up to a quarter by `random`. */
uint64_t provider_backoff(unsigned attempt, uint64_t retry_after_usec, uint32_t random);

/* What the headers of a failed answer say about another attempt. */
struct provider_retry {
        int should_retry; /* -1 no word, 0 no, 1 yes */
        uint64_t after_usec;
};
#define PROVIDER_RETRY_INIT ((struct provider_retry){ .should_retry = -1 })
/* Takes x-should-retry, retry-after-ms and retry-after (seconds or a date); others are skipped. */
void provider_retry_header(struct provider_retry *r, const char *name, struct span value);
/* By the header's word, else by status: 408, 409, 429 and 5xx. */
bool provider_retries(const struct provider_retry *r, long status);

/* Counts one attempt that came to its end, for GET /metrics; reply NULL: it failed. Of the process,
 * which holds one session at a time. */
void provider_count(const struct provider *p, const struct provider_reply *reply,
                    const struct provider_failure *failure);
/* {"anthropic":{"ok":1,"busy":0,"refused":0,"failed":0},...} */
void provider_counts_json(struct buf *b);

/* The providers there are, and which of them serves a model. */
struct provider_set {
        struct provider *anthropic, *openai;
        bool openai_first; /* for models whose name does not say */
};
/* "openai/NAME" and "anthropic/NAME" say it; *ret_model is NAME (borrowed of model). */
struct provider *provider_for(const struct provider_set *s, const char *model,
                              const char **ret_model);
