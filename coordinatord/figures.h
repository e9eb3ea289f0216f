/* What the coordinator counts for GET /metrics, beside the counters of hub and leases. Counted when
 * stored, each thing once; kept in memory, so a restart begins at 0, as Prometheus expects of
 * counters. Sets of names are fixed: nobody outside can add a series. */
#pragma once

#include "common/base/buf.h"
#include "session.h"

struct coordinator;

#define FIGURES_TOOLS_MAX 24u

struct figures {
        uint64_t tools[FIGURES_TOOLS_MAX][2]; /* by name; those that went well, those that failed */
        struct usage usage;                   /* of every append, over all sessions */
};

/* The index of a tool in `tools`: MCP tools are one, names that Berth does not have are another. */
size_t figures_tool(const char *name);
/* Adds a member "figures" to the object of counters in core.status. */
void figures_put(const struct coordinator *c, struct buf *b);
