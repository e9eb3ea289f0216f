/* Makes room in the cache of a remote blob store: what was not opened for longest goes first. */
#include "blobs-internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define AGES 64u /* classes of age: twice as old each */

/* Two rounds over the folders: the first adds up bytes by age, the second removes what is older
 * than the age at which all younger bytes fit. No list of files is ever kept. */
struct blob_trim {
        struct blob_store *store;
        uint64_t max, now_us;
        uint64_t bytes[AGES];
        unsigned keep;   /* classes below this stay */
        bool removing;   /* the second round */
        unsigned folder; /* ab * 256 + cd */
};

struct blob_trim *blob_trim_new(struct blob_store *s, uint64_t max)
{
        struct blob_trim *t = xnew(struct blob_trim);
        t->store = s;
        t->max = max;
        t->now_us = now_realtime();
        return t;
}

struct blob_trim *blob_trim_free(struct blob_trim *t)
{
        free(t);
        return NULL;
}

static unsigned age_class(const struct blob_trim *t, const struct stat *st)
{
        uint64_t changed = (uint64_t) st->st_ctim.tv_sec * USEC_PER_SEC +
                           (uint64_t) st->st_ctim.tv_nsec / 1000;
        uint64_t age = t->now_us > changed ? t->now_us - changed : 0;
        unsigned class = 0;
        for (; age > 0; age >>= 1)
                class ++;
        return MIN(class, AGES - 1);
}

static void look_at(struct blob_trim *t, int folder, const char *name)
{
        struct stat st;
        if (!blob_checksum_valid(name) || fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
            !S_ISREG(st.st_mode))
                return;
        unsigned class = age_class(t, &st);
        if (!t->removing)
                t->bytes[class] += (uint64_t) st.st_blocks * 512;
        else if (class >= t->keep)
                (void) unlinkat(folder, name, 0);
}

/* True when there is anything to remove. */
static bool choose(struct blob_trim *t)
{
        uint64_t sum = 0;
        t->removing = true;
        t->folder = 0;
        while (t->keep < AGES && t->bytes[t->keep] <= t->max - sum)
                sum += t->bytes[t->keep++];
        return t->keep < AGES;
}

static int open_folder(struct blob_trim *t)
{
        cleanup_close int outer = blob_open_shard(t->store->dir, t->folder / BLOB_SHARDS);
        if (outer >= 0)
                return blob_open_shard(outer, t->folder % BLOB_SHARDS);
        t->folder |= BLOB_SHARDS - 1; /* nothing below it either */
        return outer;
}

int blob_trim_step(struct blob_trim *t)
{
        if (t->folder == BLOB_SHARDS * BLOB_SHARDS)
                return t->removing || !choose(t) ? 0 : 1;
        int fd = open_folder(t);
        t->folder++;
        if (fd < 0)
                return fd == -ENOENT ? 1 : fd;
        DIR *d = fdopendir(fd);
        if (!d) {
                int r = -errno;
                fd_close(fd);
                return r;
        }
        for (struct dirent *e; (e = readdir(d));)
                look_at(t, dirfd(d), e->d_name);
        (void) closedir(d);
        return 1;
}
