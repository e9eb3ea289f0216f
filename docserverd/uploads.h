/* Open uploads: files that somebody outside is writing to, by id, and by the connection that asked
 * for them. */
#pragma once

#include "blobs.h"
#include "common/base/list.h"
#include "common/base/map.h"

struct upload {
        char id[UUID_MAX];
        char tenant[65];
        uint64_t connection;
        uint64_t born_us;      /* monotonic */
        struct blob_file file; /* fd -1 while the file is being made */
        bool opening; /* the worker thread is making the file and holds on to this struct */
        bool gone;    /* dropped while opening: whoever ends the opening frees it */
        struct list link;
};

struct uploads;
/* drop gets each file that leaves the table otherwise than by uploads_take (fd -1: it was never
 * made). */
struct uploads *uploads_new(size_t max, void (*drop)(void *userdata, struct blob_file *f),
                            void *userdata) mustuse;
struct uploads *uploads_free(struct uploads *u); /* drops all that are open; none may be opening */

/* -EAGAIN when `max` less `busy` are open. The upload belongs to the table. */
int uploads_begin(struct uploads *u, const char *tenant, uint64_t connection, uint64_t now_us,
                  size_t busy, struct upload **ret) mustuse;
/* Ends the opening: takes over the file (NULL: there is none, the upload is dropped). False when it
 * is gone. */
bool uploads_opened(struct uploads *u, struct upload *up, struct blob_file *f);
/* Hands the file of an open upload to the caller and forgets the upload. -ENOENT: unknown, of
 * another tenant, or still opening. */
int uploads_take(struct uploads *u, const char *tenant, const char *id,
                 struct blob_file *ret) mustuse;
int uploads_drop(struct uploads *u, const char *id,
                 uint64_t connection) mustuse; /* -ENOENT; 0 = any connection */
void uploads_drop_connection(struct uploads *u, uint64_t connection);
/* Drops those born before; gives the birth of the oldest that is left, or UINT64_MAX. */
uint64_t uploads_expire(struct uploads *u, uint64_t born_before_us);
size_t uploads_count(const struct uploads *u);
