/* Durable events on their way to the hub: one append at a time, in order, repeated until it is
 * answered.
 *
 * Accepted = stored. Every append has a key of its own, so repeating it after a lost answer is
 * harmless (rule R5). It is given up only when the hub refuses it, or the session is no longer
 * ours. */
#pragma once

#include <systemd/sd-event.h>

#include "common/base/json.h"
#include "common/io/rpc.h"

#define OUTBOX_ITEMS_MAX 60 /* of one append; the schema allows a few more */

struct append;
struct append *append_new(void);
struct append *append_free(struct append *a);
DEFINE_CLEANUP(struct append, append_free)
/* Takes the body, a JSON object with the fields of that type. */
void append_event(struct append *a, enum event_type type, json_t *body);
/* Takes the bytes. */
void append_attachment(struct append *a, const char *digest, const char *media_type, void *data,
                       size_t n);
void append_usage(struct append *a, const struct usage *usage);
/* State change in the same transaction. if_last_message_seq: refuse (-EBUSY) when there is a newer
 * user message than this; 0 = whatever there is. */
void append_state(struct append *a, enum session_state to, uint64_t if_last_message_seq,
                  const char *reason);
/* State `waiting` for a person's answer. Takes the question, a JSON object that the session shows.
 */
void append_question(struct append *a, json_t *question, const char *reason);
void append_report(struct append *a, const json_t *report); /* becomes the session's */
/* Of append_state(WAITING): what it waits for. */
void append_waiting(struct append *a, enum waiting_for what);
/* An approval of a call, asked for behind the events. Takes `bound`, a JSON object. */
void append_ask(struct append *a, const char *call_id, const char *subject, char *bound);
size_t append_count(const struct append *a);
bool append_has_state(const struct append *a);

struct outbox;
struct outbox_config {
        sd_event *event;
        struct rpc_link *link; /* to the coordinator */
        const char *session_id;
        uint64_t epoch;
        void (*on_fenced)(
                void *userdata); /* the session is not ours any more; nothing more will be sent */
        void *userdata;
};
int outbox_new(const struct outbox_config *c, struct outbox **ret) mustuse;
struct outbox *outbox_free(struct outbox *o); /* what waits is dropped, no callback comes */
DEFINE_CLEANUP(struct outbox, outbox_free)

/* r: 0 = stored; -EBUSY = refused because of a newer user message; -EBADMSG = refused, why says
 * how. done is set when r is 0. Comes from the loop, in the order of sending. */
typedef void (*outbox_fn)(void *userdata, int r, const struct event_appended *done,
                          const char *why);
/* Takes the append. fn may be NULL. */
void outbox_send(struct outbox *o, struct append *a, outbox_fn fn, void *userdata);
