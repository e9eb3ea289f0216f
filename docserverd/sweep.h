/* Removes blobs that no version names, expired uploads and old idempotency keys: at start and then
 * at an interval, and at once for the blobs of a deleted document. A blob is removed only while its
 * checksum is owned (claims.h) and after the database, asked under that claim, knows no version of
 * it. */
#pragma once

#include "docserver.h"

int sweep_new(struct docserver *d, struct sweep **ret) mustuse;
struct sweep *sweep_free(struct sweep *s);
/* Removes those of the blobs that are unused by now; whatever cannot be done now is left to the
 * next round. */
void sweep_names(struct sweep *s, const struct blob_names *names);
