/* Reads a session's stored events and pictures from the coordinator into the conversation.
 *
 * `seq` is how far everything is known. Appends of our own move it when nobody else's event came
 * between; otherwise, and when a newer event is announced, the session is behind and must be
 * pulled. */
#pragma once

#include "common/io/rpc.h"
#include "history.h"

struct loader;
struct loader_config {
        sd_event *event;
        struct rpc_link *link;
        const char *session_id;
        uint64_t epoch;
        struct history *history;
        /* Every event object that is read for the first time, before it is folded; may be NULL. */
        void (*on_event)(void *userdata, const json_t *event);
        void (*on_fenced)(
                void *userdata); /* the session is not ours any more; nothing else comes */
        void *userdata;
};
int loader_new(const struct loader_config *c, struct loader **ret) mustuse;
struct loader *loader_free(struct loader *l);
DEFINE_CLEANUP(struct loader, loader_free)

/* r: 0; -EMSGSIZE the conversation is too long; -EBADMSG the events make no sense. A coordinator
 * that is away is waited for. One operation at a time. */
typedef void (*loader_fn)(void *userdata, int r, const char *why);
/* Everything beyond what is known. The first pull folds all events; later ones only user messages,
 * since what we stored ourselves is folded already. */
void loader_pull(struct loader *l, loader_fn fn, void *userdata);
/* Pictures by digest (array of strings; a reference is taken). One that is gone becomes a grey dot.
 */
void loader_pictures(struct loader *l, json_t *digests, loader_fn fn, void *userdata);

void loader_stored(struct loader *l, uint64_t first_seq, uint64_t last_seq); /* an append of ours */
void loader_announce(struct loader *l, uint64_t seq); /* there is an event of that seq */
void loader_doubt(struct loader *l); /* there is something newer, nobody said what */
bool loader_behind(const struct loader *l);
uint64_t loader_seq(const struct loader *l); /* the newest event known of */
