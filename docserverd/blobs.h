/* The blob store: files named by the SHA-256 of their bytes, in DIR/ab/cd/<64 hex>. No loop, no
 * database. Everything that may wait for a disk or the network is for worker threads.
 *
 * Two kinds. Without a remote store the files are the truth. With one (blob_store_use_s3) the
 * objects there are, named PREFIX<64 hex>; the files are a cache from which anything may be taken
 * at any time, and in which what is uploaded waits until it was sent. Both are used alike: send
 * before publish, open, fetch what open says is elsewhere.
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

/* From now on the objects of `s3` (taken over) are the truth. part_size: of uploads; larger blobs
 * are sent in several. fresh_us: a blob whose object is younger is not sent again. */
struct s3;
void blob_store_use_s3(struct blob_store *s, struct s3 *s3, const char *prefix, uint64_t part_size,
                       uint64_t fresh_us);
bool blob_store_is_remote(const struct blob_store *s);
void blob_store_stop(struct blob_store *s); /* what waits for the network ends with -ECANCELED */
char *blob_store_problem(struct blob_store *s) mustuse; /* what the remote store said last */

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

/* The same for `length` bytes at `offset`, at once. -EMSGSIZE: the file has fewer. */
int blob_hash_range(struct blob_hash *h, int fd, uint64_t offset, uint64_t length,
                    char ret[static SHA256_HEX]) mustuse;

/* Sends a sealed file to the remote store, a part at a time: 1 = more to come, 0 = it is durable
 * there (at once, without a remote store). -EHOSTUNREACH, -EACCES, -EPROTO as in s3.h. *state
 * begins as NULL and is freed by blob_send_free. */
struct blob_send;
int blob_send_step(struct blob_store *s, const struct blob_file *f, const char *checksum,
                   uint64_t size, struct blob_send **state) mustuse;
struct blob_send *blob_send_free(struct blob_send *p);
DEFINE_CLEANUP(struct blob_send, blob_send_free)

/* Syncs a sealed file and gives it its name; the name is durable on return. A blob that is there
 * already stays (and is replaced when its size is wrong: a damaged disk). f is done in any case
 * when 0 is returned. */
int blob_publish(struct blob_store *s, struct blob_file *f, const char *checksum) mustuse;

/* Read-only descriptor at offset 0. -ENOENT; -EREMOTE: not here, blob_fetch brings it. */
int blob_open(struct blob_store *s, const char *checksum, int *ret_fd, uint64_t *ret_size) mustuse;

/* Brings a blob from the remote store, a part at a time, checks its checksum and keeps it here; or
 * only the bytes first .. first+length-1, unchecked, into a file of the blob's size that has only
 * these (length < size, at most one part). */
struct blob_fetch;
struct blob_fetch *blob_fetch_new(struct blob_store *s, const char *checksum, uint64_t size,
                                  uint64_t first, uint64_t length) mustuse;
struct blob_fetch *blob_fetch_free(struct blob_fetch *f);
DEFINE_CLEANUP(struct blob_fetch, blob_fetch_free)
/* 1 = more to come, 0 = all there. -ENOENT no such object; -EUCLEAN it has other bytes than its
 * name says; -EHOSTUNREACH, -EACCES, -EPROTO as in s3.h; or what the disk said. */
int blob_fetch_step(struct blob_fetch *f) mustuse;
int blob_fetch_take(struct blob_fetch *f); /* the read-only descriptor, once, after 0 */

int blob_unlink(struct blob_store *s,
                const char *checksum) mustuse; /* 0 also when it is not there */

/* Makes room in the cache: removes what was not opened for longest until at most `max` bytes are
 * left; at most a folder per step: 1 = more to come, 0 = done. */
struct blob_trim;
struct blob_trim *blob_trim_new(struct blob_store *s, uint64_t max) mustuse;
struct blob_trim *blob_trim_free(struct blob_trim *t);
int blob_trim_step(struct blob_trim *t) mustuse;

/* Lists blobs whose inode changed (was written or named) before `before_us` (realtime). Each step
 * reads at most one folder DIR/ab/cd (or page of the remote store) and appends what it holds: 1 =
 * more to come, 0 = all seen. Strange names are left alone. */
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
