/* Lists the blobs that have not changed for a while, folder by folder, for the sweep. */
#include "blobs-internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

struct blob_walk {
        struct blob_store *store;
        uint64_t before_us;
        unsigned outer, inner; /* the folder to read next */
        int fd;                /* the outer folder, -1 = not open */

        char *token; /* the page of the remote store to read next */
        bool begun;
};

struct blob_walk *blob_walk_new(struct blob_store *s, uint64_t before_us)
{
        struct blob_walk *w = xnew(struct blob_walk);
        w->store = s;
        w->before_us = before_us;
        w->fd = -1;
        return w;
}

struct blob_walk *blob_walk_free(struct blob_walk *w)
{
        if (!w)
                return NULL;
        fd_close(w->fd);
        free(w->token);
        free(w);
        return NULL;
}

void blob_names_add(struct blob_names *n, const char *checksum)
{
        if (n->n == n->cap) {
                n->cap = MAX(n->cap * 2, (size_t) 16);
                n->names = xrealloc(n->names, n->cap, sizeof(*n->names));
        }
        memcpy(n->names[n->n++], checksum, SHA256_HEX);
}

void blob_names_done(struct blob_names *n)
{
        free(n->names);
        *n = (struct blob_names){ 0 };
}

int blob_open_shard(int at, unsigned number)
{
        char name[3];
        (void) snprintf(name, sizeof(name), "%02x", number & 0xff);
        int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        return fd < 0 ? -errno : fd;
}

static void look_at(struct blob_walk *w, int shard, const char *name, struct blob_names *names)
{
        struct stat st;
        if (!blob_checksum_valid(name) || fstatat(shard, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
            !S_ISREG(st.st_mode))
                return;
        uint64_t changed =
                (uint64_t) st.st_ctim.tv_sec * USEC_PER_SEC + (uint64_t) st.st_ctim.tv_nsec / 1000;
        if (changed < w->before_us)
                blob_names_add(names, name);
}

static int read_shard(struct blob_walk *w, int shard, struct blob_names *names)
{
        DIR *d = fdopendir(shard);
        if (!d) {
                int r = -errno;
                fd_close(shard);
                return r;
        }
        errno = 0;
        for (struct dirent *e; (e = readdir(d)); errno = 0)
                look_at(w, dirfd(d), e->d_name, names);
        int r = -errno;
        (void) closedir(d);
        return r;
}

int blob_walk_step(struct blob_walk *w, struct blob_names *names)
{
        if (w->store->s3) {
                if (w->begun && !w->token)
                        return 0;
                w->begun = true;
                return blob_remote_walk(w->store, w->before_us, &w->token, names);
        }
        for (; w->outer < BLOB_SHARDS; w->outer++, w->inner = 0) {
                if (w->fd < 0)
                        w->fd = blob_open_shard(w->store->dir, w->outer);
                if (w->fd == -ENOENT)
                        continue;
                if (w->fd < 0)
                        return w->fd;
                while (w->inner < BLOB_SHARDS) {
                        int shard = blob_open_shard(w->fd, w->inner++);
                        if (shard == -ENOENT)
                                continue;
                        int r = shard < 0 ? shard : read_shard(w, shard, names);
                        return r < 0 ? r : 1;
                }
                w->fd = fd_close(w->fd);
        }
        return 0;
}
