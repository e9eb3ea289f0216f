/* The SQL statements about volumes; rules and results as in store.h. */
#pragma once

#include "store.h"

struct store_volume_file {
        const struct store_quota *quota;
        const char *id, *tenant, *volume, *session_id, *path, *content_type, *checksum;
        uint64_t size;
        uint64_t files_max, bytes_max; /* of the whole volume */
};
typedef void (*store_done_fn)(void *userdata, int r);

/* Makes the volume with its first file. -EEXIST: the volume has this path already. -EDQUOT: a limit
 * would be passed. -ENOENT: the volume is ready or another tenant's. */
int store_volume_add(struct pg_pool *p, const struct store_volume_file *f, store_done_fn fn,
                     void *userdata) mustuse;
/* -ENOENT: no such open volume with so many files. */
int store_volume_commit(struct pg_pool *p, const char *tenant, const char *name,
                        uint64_t file_count, store_done_fn fn, void *userdata) mustuse;
int store_volume_drop(struct pg_pool *p, const char *tenant, const char *name, store_done_fn fn,
                      void *userdata) mustuse; /* 0 also when it is not there */

/* What is in a volume, and what its session made: files first, by path, then documents. -ENOENT:
 * not there or not ready. The list belongs to the callback, free it with volume_entries_free. */
struct volume_entry {
        char *path; /* relative; a document's filename */
        char checksum[SHA256_HEX];
        uint64_t size, time_us;
        bool result; /* a document */
};
struct volume_entries {
        size_t n;
        struct volume_entry list[];
};
struct volume_entries *volume_entries_free(struct volume_entries *e);
typedef void (*store_entries_fn)(void *userdata, int r, struct volume_entries *entries);
int store_volume_entries(struct pg_pool *p, const char *tenant, const char *name,
                         unsigned results_max, store_entries_fn fn, void *userdata) mustuse;

/* Removes volumes that became ready before keep_us ago and uploads that stand still since
 * lifetime_us. */
int store_expire_volumes(struct pg_pool *p, uint64_t keep_us, uint64_t lifetime_us,
                         store_done_fn fn, void *userdata) mustuse;
