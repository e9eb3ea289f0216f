/* Opens blobs wherever they are: at once when the file is here, else fetched from the remote store
 * first. Who asks for the same blob shares one fetch; it goes on when all of them have left. */
#pragma once

#include "blobs.h"
#include "common/base/list.h"

struct docserver;
struct fetches;
struct fetches *fetches_new(struct docserver *d) mustuse;
struct fetches *fetches_free(struct fetches *f); /* after all jobs have ended */

struct blob_wait {
        void (*ready)(struct blob_wait *w, int r, int fd); /* r as of blob_fetch_step; fd is taken
                                                            * over */
        struct list link;
};
/* 0: *ret_fd, read-only at offset 0. 1: w->ready comes later, unless fetches_forget. -EAGAIN: too
 * many are on their way; -ENOENT; others as of blob_open. length 0 = the whole blob; else the
 * descriptor may have only the bytes first .. first+length-1 of it, then *ret_part is set. */
int fetches_open(struct fetches *f, const char *checksum, uint64_t size, uint64_t first,
                 uint64_t length, struct blob_wait *w, int *ret_fd, bool *ret_part) mustuse;
void fetches_forget(struct blob_wait *w);
/* Begins to fetch all of it, for those who ask next. */
void fetches_start(struct fetches *f, const char *checksum, uint64_t size);
