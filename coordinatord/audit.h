/* The audit log (core.audit): a row for each act, stored in the commit of the act itself where
 * coordinatord is its writer, else sent by a gateway (audit_append). Rows are chained by their
 * hashes; see sql/0005_tenants.sql.
 *
 * A request of a client carries who asks as its context: a JSON object with tenant, actor, role,
 * token_id, address, request_id, action. */
#pragma once

#include "request.h"

/* The context of a request, checked; NULL: nobody's act (a worker's, or reading). Caller frees. */
char *audit_context(struct rpc_request *rpc) mustuse;
/* The row for it; NULL for a request without context. Caller frees. */
char *audit_row(const struct request *q, const char *target) mustuse;
/* Rows of the batch, as one statement of its commit. */
void audit_commit(struct pg_batch *p, const struct hub_batch *b);
/* The row of the request as one more statement of its transaction; what comes before it there fails
 * when nothing was done. */
void audit_with(struct request *q, struct pg_batch *b, const char *target);
/* One statement and the row of the request in one transaction: the statement fails when nothing
 * was done. The first result is the statement's. Types and values as in pg_batch_add. */
int audit_query(struct request *q, const char *target, pg_done_fn fn, const char *sql,
                const char *types, ...) mustuse;
/* The row of an act that is no change in the database: a transaction of its own. */
void audit_later(struct request *q);
/* Makes the partitions of the next days, drops those past the setting audit_keep. */
void audit_upkeep(struct coordinator *c);

int route_audit_append(void *userdata, struct rpc_peer *p, struct rpc_request *req,
                       const void *msg);
