/* What the document routes share. */
#pragma once

#include "common/base/document.h"
#include "gatewayd/query.h"
#include "gatewayd/route.h"

/* The id in the path, or NULL after 404: nothing else can be an id. */
const char *document_id(struct http_request *req);
void no_document(struct http_request *req); /* 404 */
/* Asks docserverd; fn gets the request as userdata and answers it. Answers itself and gives false
 * when it cannot be asked. */
bool documents_call(struct http_request *req, const struct wire_msg *type, const void *msg,
                    uint64_t timeout_usec, rpc_reply_fn fn);
/* For the rpc_reply_fn of calls that answer with a document. */
void document_reply(struct http_request *req, int status, int r, const void *reply);
void document_problem(struct http_request *req, const struct json_problem *problem); /* 400 */
