/* A body on its way into docserverd: asks it for a descriptor, writes the bytes there, and drops
 * the upload unless it was used. Bytes never pass a message. */
#pragma once

#include "gatewayd/gateway.h"

struct upload;

/* fn is called once: r 0 = ready for upload_write; else r and reply as a fdlink_reply_fn gets them,
 * and the upload is good only for upload_free. Negative result: fn never comes, nothing was made.
 */
typedef void (*upload_ready_fn)(void *userdata, int r, const void *reply);
int upload_new(struct gateway *g, const char *tenant, uint64_t size_hint, upload_ready_fn fn,
               void *userdata, struct upload **ret) mustuse;
/* At any time, also before fn was called (it never is then). docserverd drops the file unless
 * upload_used(). */
struct upload *upload_free(struct upload *u);
DEFINE_CLEANUP(struct upload, upload_free)

int upload_write(struct upload *u, struct span data)
        mustuse; /* -EFBIG over docserverd's limit; ENOSPC and the like */
/* All is written: closes the descriptor, as docserverd wants before it looks at the file. */
void upload_close(struct upload *u);
const char *upload_id(const struct upload *u);
uint64_t upload_size(const struct upload *u);
void upload_used(struct upload *u); /* a request that names it is on its way */

/* Answers the request after upload_write failed with r. */
void upload_reply_error(struct http_request *req, int r);
/* Time for docserverd to make a document of so many bytes. */
uint64_t upload_timeout(const struct gateway *g, uint64_t size);
