/* The blob store: files named by the SHA-256 of their bytes, in DIR/ab/cd/<64 hex>. File work only:
 * no loop, no database. Everything that may wait for a disk (seal, hash, publish, unlink, walk) is
 * for the worker thread.
 *
 * A blob that exists is whole: bytes are synced before the name appears. What was being written
 * when the process died has no name (O_TMPFILE), or, where the file system cannot do that, a name
 * under DIR/tmp that the next start removes. DIR/lock keeps a second process out. */
#pragma once

#include "common/base/util.h"

struct blob_store;

/* Makes the folders as needed. -EBUSY: another process has it. *ret_error: a sentence (caller
 * frees). */
int blob_store_open(const char *dir, struct blob_store **ret, char **ret_error) mustuse;
struct blob_store *blob_store_free(struct blob_store *s);
DEFINE_CLEANUP(struct blob_store, blob_store_free)
/* Forces the fallback for file systems without O_TMPFILE; for tests. */
void blob_store_set_named(struct blob_store *s, bool named);

bool blob_checksum_valid(const char *s); /* 64 lower-case hex digits */

/* A file that is being written and has no checksum yet. */
struct blob_file {
        int fd;        /* -1 = none */
        char name[33]; /* under tmp/, "" when the file has no name */
};
#define BLOB_FILE_INIT ((struct blob_file){ .fd = -1 })
int blob_file_new(struct blob_store *s, struct blob_file *ret) mustuse;
void blob_file_done(struct blob_store *s, struct blob_file *f); /* closes, removes the name */

/* Makes the file read-only and proves that nobody can still write to it: replaces f->fd by a
 * read-only one. The uploader must have closed his. -EBUSY: somebody has it open for writing.
 * -EMSGSIZE: its size is not `size`. */
int blob_seal(struct blob_store *s, struct blob_file *f, uint64_t size) mustuse;

/* Hashes a file slice by slice. */
struct blob_hash;
struct blob_hash *blob_hash_new(void) mustuse;
struct blob_hash *blob_hash_free(struct blob_hash *h);
DEFINE_CLEANUP(struct blob_hash, blob_hash_free)
/* Reads up to `slice` more bytes: 1 = more to come, 0 = end reached and ret filled, negative errno.
 */
int blob_hash_step(struct blob_hash *h, int fd, size_t slice, char ret[static SHA256_HEX]) mustuse;

/* Syncs a sealed file and gives it its name; the name is durable on return. A blob that is there
 * already stays (and is replaced when its size is wrong: a damaged disk). f is done in any case
 * when 0 is returned. */
int blob_publish(struct blob_store *s, struct blob_file *f, const char *checksum) mustuse;

/* Read-only descriptor at offset 0. -ENOENT. */
int blob_open(struct blob_store *s, const char *checksum, int *ret_fd, uint64_t *ret_size) mustuse;
int blob_unlink(struct blob_store *s,
                const char *checksum) mustuse; /* 0 also when it is not there */

/* Lists blobs whose inode changed (was written or named) before `before_us` (realtime). Each step
 * reads at most one folder DIR/ab/cd and appends what it holds: 1 = more to come, 0 = all seen.
 * Strange names are left alone. */
struct blob_walk;
struct blob_walk *blob_walk_new(struct blob_store *s, uint64_t before_us) mustuse;
struct blob_walk *blob_walk_free(struct blob_walk *w);
DEFINE_CLEANUP(struct blob_walk, blob_walk_free)
struct blob_names {
        char (*names)[SHA256_HEX];
        size_t n, cap;
};
void blob_names_done(struct blob_names *n);
void blob_names_add(struct blob_names *n, const char *checksum);
int blob_walk_step(struct blob_walk *w, struct blob_names *names) mustuse;
