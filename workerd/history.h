/* The conversation of a session, folded from its stored events, and composed for a model.
 *
 * The live loop and a resumed worker use the same fold: what was acknowledged is added here, so a
 * conversation rebuilt from the stored events is the one the model saw. Nothing here does I/O. */
#pragma once

#include "common/base/json.h"
#include "proto/wire.h"

enum call_state {
        CALL_OPEN,   /* the model asked; no intent is stored, so nothing ran */
        CALL_INTENT, /* an intent is stored: it may have run */
        CALL_DONE,   /* a result is stored */
        CALL_STATE_MAX,
};

struct history_call {
        const char *id; /* these four borrow from the entry's content */
        const char *name;
        const char *toolset; /* NULL when the block names none */
        const json_t *input;
        enum call_state state;
        uint64_t intent_seq, intent_us; /* of its pre_tool event; 0 = not known */
        json_t *output;                 /* array of blocks; NULL until done */
        char *error;                    /* NULL = it worked */
        bool asked; /* a person was asked whether it may run; these say how that stands: */
        enum approval_status approval;
        char digest[SHA256_HEX];
        char *note; /* why not; may be NULL */
};

struct history_entry {
        bool assistant;
        bool paused; /* the model said pause_turn: send as it is to go on */
        bool over;   /* the agent gave its report: nothing follows until it is spoken to */
        bool pinned; /* a user message that outlives a compaction */
        bool taken;  /* a user message that became the answer of a call */
        uint64_t seq;
        json_t *content; /* array of blocks */
        struct history_call *calls;
        size_t n_calls;
};

struct history_image {
        char *base64;
        size_t len;
        char *media_type;
};

struct history;

/* The error of a call that a person interrupted. */
#define HISTORY_HUMAN_STOPPED "a human stopped it"

struct history *history_new(size_t bytes_max);
struct history *history_free(struct history *h);
DEFINE_CLEANUP(struct history, history_free)

/* One stored event object. Types that do not concern the conversation are skipped. 0, -EBADMSG when
 * the event contradicts its type, -EMSGSIZE when the conversation is larger than bytes_max. */
int history_add_event(struct history *h, const json_t *event) mustuse;

/* A user message with seq > input_seq that is already here moves behind the turn: the model had not
 * seen it. content is a JSON array (a reference is taken). */
int history_add_assistant(struct history *h, uint64_t seq, uint64_t input_seq, bool paused,
                          json_t *content) mustuse;
int history_add_user(struct history *h, uint64_t seq, json_t *content) mustuse;
/* -ENOENT when no turn has such a call. Setting again what is set is fine. */
int history_set_intent(struct history *h, const char *call_id, uint64_t seq,
                       uint64_t realtime_us) mustuse;
int history_set_result(struct history *h, const char *call_id, const json_t *output,
                       const char *error) mustuse;

/* A person is asked whether the call may run (what has this digest); -ENOENT as above. */
int history_set_asked(struct history *h, const char *call_id, const char *digest) mustuse;
/* What a person said for the whole session: allowed or denied, else pending. */
enum approval_status history_grant(const struct history *h, const char *digest);

/* The call's result was a report: its turn is over. */
void history_set_over(struct history *h, const char *call_id);
/* The oldest user message behind `after_seq` that is nobody's answer yet, or NULL; and taking it.
 */
const struct history_entry *history_answer(const struct history *h, uint64_t after_seq);
void history_take_answer(struct history *h, uint64_t seq);

/* ---- history-compact.c ---- */

/* What the newest model call read and wrote; 0 = not known. */
void history_set_context(struct history *h, uint64_t tokens);
uint64_t history_context(const struct history *h);
/* Everything up to and with this seq may give way to a summary so that the newest `kept` turns
 * stay; 0 = there is nothing worth it. All calls must be done. */
uint64_t history_compact_upto(const struct history *h, size_t kept);
/* It gives way: the first message, pinned ones and the summary stand in its place. */
int history_compact(struct history *h, uint64_t upto_seq, const char *summary) mustuse;
/* A call of a loop: the newest calls since the person spoke are `repeats` times the same one, or
 * the same few in turn, with the same results and pictures. NULL = there is none. */
#define HISTORY_LOOP_MAX 64
const struct history_call *history_loop(const struct history *h, size_t repeats);

uint64_t history_last_user_seq(const struct history *h); /* 0 = there is none */
size_t history_turns(const struct history *h); /* assistant turns since the last user message */
size_t history_assistant_turns(const struct history *h); /* in all */
/* The newest assistant turn, or NULL; and whether a user message came after it. */
const struct history_entry *history_last_turn(const struct history *h, bool *ret_answered);

enum history_next {
        HISTORY_NOTHING, /* the model answered; nothing to do */
        HISTORY_CALL,    /* the newest turn has a call without result */
        HISTORY_MODEL,   /* a message or results await the model */
};
/* *ret_call (may be NULL) is the first call without result; borrowed. */
enum history_next history_next(const struct history *h, const struct history_call **ret_call);

/* What the model is sent: an array of {role, content}. Results answer every call of the turn
 * before, in order, with the user's words behind them. Of the pictures in results only the newest
 * stay: the number removed is rounded down to a multiple of `images_kept`, so that the beginning
 * stays the same for many calls. A picture is {"type":"image","digest","media_type"}; its bytes are
 * asked for by digest. */
json_t *history_compose(const struct history *h, size_t images_kept) mustuse;
/* Digests of stored pictures in a composed conversation whose bytes are not here: an array of
 * strings. */
json_t *history_missing_images(const struct history *h, const json_t *conversation) mustuse;
/* Copies the bytes as base64. */
void history_set_image(struct history *h, const char *digest, const char *media_type,
                       struct span data);
const struct history_image *history_image(const struct history *h, const char *digest);
/* Forgets pictures that the conversation does not show any more. */
void history_drop_images(struct history *h, const json_t *conversation);
