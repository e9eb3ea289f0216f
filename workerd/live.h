/* Live deltas of the session: text, thinking and arguments while they come, output of a running
 * tool.
 *
 * Never stored and dropped first: what comes in one turn of the loop is joined, and when the link
 * is busy or too much has come it is thrown away. */
#pragma once

#include "common/io/daemon.h"
#include "common/io/rpc.h"
#include "provider.h"

struct live {
        struct rpc_link *link;
        char *session_id;
        uint64_t epoch;
        struct loop_task flush;
        struct buf text;  /* of one stream: turn, block and kind, or call and output stream */
        char *head;       /* JSON members that name that stream */
        uint64_t dropped; /* bytes */
};
int live_init(struct live *l, sd_event *e, struct rpc_link *link, const char *session_id,
              uint64_t epoch) mustuse;
void live_done(struct live *l);
void live_model(struct live *l, uint64_t turn, size_t block, enum provider_delta kind,
                struct span text);
void live_tool(struct live *l, const char *call_id, int stream, struct span text);
