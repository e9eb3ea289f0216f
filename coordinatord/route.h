/* What the routes of sessions and messages share. */
#pragma once

#include <jansson.h>

#include "request.h"

/* Parses a text of the given JSON type and writes it compactly, without raw line breaks; the caller
 * frees. On failure the request is refused (and not ended). */
int route_json(struct request *q, const char *what, struct span text, json_type type,
               char **ret) mustuse;
/* Refuses the request when the name of a tenant is not plain. */
bool route_tenant(struct request *q, const char *tenant);

/* For apply: is there room for one more live session? */
int route_check_room(struct request *q, const struct session *s, const char *tenant) mustuse;
/* For apply: a person's message; `content` is a JSON array. Sets last_message_seq. */
void route_emit_message(struct hub_batch *b, struct session *s, const char *message_id,
                        const char *content, bool pinned);
/* For apply of a request under request_once: the key is stored with the act on the session. `scope`
 * is kept until the commit. Nothing without a key. */
void route_keep_key(struct request *q, struct hub_batch *b, const char *scope, const char *key);
/* The same as a statement of a transaction beside the hub: what was made is named `object`. */
void route_keep_object(struct request *q, struct pg_batch *b, const char *tenant, const char *scope,
                       const char *key, const char *object);
/* For request_once: answers with the session that the first request made. */
void route_session_replay(struct request *q, const PGresult *found);
/* A done function: answers with the session object. */
void route_session_done(struct request *q, const struct hub_batch *b);
