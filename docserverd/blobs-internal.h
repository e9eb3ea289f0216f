/* Shared by blobs.c, blobs-walk.c, blobs-remote.c and blobs-trim.c only. */
#pragma once

#include <stdatomic.h>

#include "blobs.h"

struct blob_store {
        int dir;           /* the store */
        int tmp;           /* DIR/tmp */
        int lock;          /* DIR/lock, held by flock */
        atomic_bool named; /* the file system has no O_TMPFILE: temporary files need names */

        /* Folders whose own name is known to be on the disk: bit ab and bit abcd. Others may have
         * been made by a process that died, or by a thread that has not synced them yet. */
        atomic_uchar outer_synced[32], inner_synced[8192];

        struct s3 *s3; /* NULL: the files are the truth */
        char *prefix;
        uint64_t part_size, fresh_us;
};

/* The object of a blob. The caller frees. */
char *blob_key(const struct blob_store *s, const char *checksum) mustuse;
int blob_remote_unlink(struct blob_store *s, const char *checksum) mustuse;
/* A page of the objects: as blob_walk_step; *token as in s3_list. */
int blob_remote_walk(struct blob_store *s, uint64_t before_us, char **token,
                     struct blob_names *names) mustuse;
/* One of the 256 folders in `at` (DIR or DIR/ab): descriptor or -ENOENT. */
int blob_open_shard(int at, unsigned number) mustuse;
#define BLOB_SHARDS 256u
