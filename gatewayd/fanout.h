/* Who is subscribed to what, and how each of them gets every event exactly once.
 *
 * A subscriber has a position: the last seq (session stream) or cursor (/ws) it was sent. Live, an
 * event from the bus that follows the position is queued at once. Whenever one is missing (a lost
 * bus message, a late join, a resume) the subscriber reads the stored events after its position
 * from PostgreSQL, page by page as its queue has room, and is live again when it has reached the
 * newest seq or cursor known. So the bus is only ever a hint: nothing is buffered, lost or sent
 * twice. Ticks of the bus, or a poll once a second when they stay away, tell of events whose bus
 * message was lost.
 */
#pragma once

#include "gatewayd/gateway.h"
#include "gatewayd/sink.h"

struct fanout;

int fanout_new(struct gateway *g, struct fanout **ret) mustuse;
struct fanout *fanout_free(struct fanout *f); /* closes every subscriber */
DEFINE_CLEANUP(struct fanout, fanout_free)
size_t fanout_subscribers(const struct fanout *f);
uint64_t fanout_cursor(const struct fanout *f); /* newest global event id heard of */

/* Final calls of a request (WebSocket or SSE by what was asked for). The session is known to exist
 * for the asker's tenant with this last_seq; after_seq <= last_seq. types: set of 1 <<
 * EVENT_TYPE_*, 0 = every one. */
void fanout_session_stream(struct fanout *f, struct http_request *req, const char *session_id,
                           uint64_t last_seq, uint64_t after_seq, uint32_t types, bool deltas);
/* sessions_json: a JSON array for the init message, read together with cursor and epoch (whose
 * history that is); after: where the client resumes, or cursor. */
void fanout_all_sessions(struct fanout *f, struct http_request *req, struct span sessions_json,
                         uint64_t cursor, const char *epoch, uint64_t after);

/* The update type of /sessions/{id}/stream for an event type. */
const char *fanout_update_type(enum event_type t);
