/* Videos of recordings: a queue in the database, one of it at a time in a slot of a worker that
 * serves jobs (job_film). A run that is cut off, here or there, begins again, three times at most;
 * its document is made once, whatever is repeated. Where there are several slots for jobs one stays
 * free for documents. */
#pragma once

#include "docserver.h"
#include "proto/messages.h"

struct exports;
struct exports *exports_new(struct docserver *d) mustuse;
struct exports *exports_free(struct exports *x);
DEFINE_CLEANUP(struct exports, exports_free)

void exports_poke(struct exports *x); /* there may be work, or room; NULL is fine */

/* The recording of the session is being removed: no video of it is wanted any more. */
void exports_dropped(struct exports *x, const char *session_id);

/* Handlers. */
int route_recording_export(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                           const void *msg);
int route_recording_export_cancel(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                                  const void *msg);
int route_job_progress(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                       const void *msg);
