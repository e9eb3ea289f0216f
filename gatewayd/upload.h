/* A body on its way into docserverd: asks it for a descriptor, writes the bytes there on the
 * gateway's file thread, and drops the upload unless it was used. Bytes never pass a message, and a
 * slow disk never holds up the loop: what is waiting to be written is bounded, and the body is
 * paused meanwhile. */
#pragma once

#include "gatewayd/gateway.h"
#include "gatewayd/multipart.h"

#define UPLOAD_PAUSE_BYTES (512u << 10) /* so much waiting: time to pause the body */

struct upload;
struct upload_events {
        /* Once: r 0 = ready for upload_write; else r and reply as a fdlink_reply_fn gets them, and
         * the upload is good only for upload_free. */
        void (*ready)(void *userdata, int r, const void *reply);
        void (*room)(void *userdata);          /* after upload_write returned 1: go on */
        void (*failed)(void *userdata, int r); /* writing failed: only upload_free is left */
        void (*closed)(
                void *userdata); /* after upload_close: all is written, the descriptor closed */
        void *userdata;
};
/* Negative: no event ever comes, nothing was made. */
int upload_new(struct gateway *g, const char *tenant, uint64_t size_hint,
               const struct upload_events *events, struct upload **ret) mustuse;
/* At any time; no event comes any more. docserverd drops the file unless upload_used(). */
struct upload *upload_free(struct upload *u);
DEFINE_CLEANUP(struct upload, upload_free)

/* Copies. 0; 1 = pause until room(); -EFBIG over docserverd's limit. */
int upload_write(struct upload *u, struct span data) mustuse;
/* The body has ended: closed() comes, or failed(), perhaps before this returns. */
void upload_close(struct upload *u);
const char *upload_id(const struct upload *u);
uint64_t upload_size(const struct upload *u);
void upload_used(struct upload *u); /* a request that names it is on its way */

/* What every route that takes a form of files checks before its body: no query, Idempotency-Key, a
 * boundary, a document service to send it to. parts says what the form must hold. -EINVAL:
 * answered.
 */
int upload_form(struct http_request *req, const char *parts, const char **ret_key,
                char boundary[static MULTIPART_BOUNDARY_MAX + 1]) mustuse;

/* Answers the request after r from upload_write or failed(). */
void upload_reply_error(struct http_request *req, int r);
/* Time for docserverd to make a document of it, or to copy so many bytes. */
uint64_t upload_timeout(const struct upload *u);
uint64_t upload_read_timeout(const struct gateway *g, uint64_t size);
