/* The blob store whose truth is an S3-compatible object store: sends, fetches, removes, lists. */
#include "blobs-internal.h"

#include <fcntl.h>
#include <unistd.h>

#include "common/base/fault.h"
#include "s3.h"

#define PARTS_MAX 9000u /* stores allow 10 000 */
#define HASH_SLICE (16 * MIB)

void blob_store_use_s3(struct blob_store *s, struct s3 *s3, const char *prefix, uint64_t part_size,
                       uint64_t fresh_us)
{
        s->s3 = s3;
        s->prefix = xstrdup(prefix);
        s->part_size = part_size;
        s->fresh_us = fresh_us;
}

bool blob_store_is_remote(const struct blob_store *s)
{
        return s->s3;
}

void blob_store_stop(struct blob_store *s)
{
        if (s->s3)
                s3_stop(s->s3);
}

char *blob_store_problem(struct blob_store *s)
{
        return s->s3 ? s3_problem(s->s3) : xstrdup("");
}

char *blob_key(const struct blob_store *s, const char *checksum)
{
        return xasprintf("%s%s", s->prefix, checksum);
}

/* ---- sending ---- */

struct blob_send {
        struct blob_store *store;
        char *key, *upload;
        bool looked;
        uint64_t sent, part_size;
        unsigned n;
        char (*etags)[S3_ETAG_MAX];
};

struct blob_send *blob_send_free(struct blob_send *p)
{
        if (!p)
                return NULL;
        free(p->key);
        free(p->upload);
        free(p->etags);
        free(p);
        return NULL;
}

static struct blob_send *send_new(struct blob_store *s, const char *checksum, uint64_t size)
{
        struct blob_send *p = xnew(struct blob_send);
        p->store = s;
        p->key = blob_key(s, checksum);
        p->part_size = MAX(s->part_size, (size / PARTS_MAX + MIB) / MIB * MIB);
        return p;
}

/* An object that is there need not be sent again, unless it is so old that the sweep may be about
 * to take it, or damaged. 1: it is to be sent. */
static int send_look(struct blob_send *p, uint64_t size)
{
        uint64_t found, modified_us, now = now_realtime();
        p->looked = true;
        int r = s3_head(p->store->s3, p->key, &found, &modified_us);
        if (r == -ENOENT)
                return 1;
        if (r < 0)
                return r;
        return found == size && modified_us + p->store->fresh_us > now ? 0 : 1;
}

static int send_finish(struct blob_send *p, uint64_t size)
{
        int r = s3_parts_finish(p->store->s3, p->key, p->upload,
                                (const char(*)[S3_ETAG_MAX]) p->etags, p->n);
        if (r == 0)
                return 0;
        /* The answer may have been lost on the way. */
        uint64_t found, modified_us;
        if (s3_head(p->store->s3, p->key, &found, &modified_us) == 0 && found == size)
                return 0;
        return r;
}

static int send_part(struct blob_send *p, int fd, uint64_t size)
{
        struct s3 *s3 = p->store->s3;
        uint64_t length = MIN(p->part_size, size - p->sent);
        if (!p->upload) {
                int r = s3_parts_begin(s3, p->key, &p->upload);
                return r < 0 ? r : 1;
        }
        p->etags = xrealloc(p->etags, p->n + 1, sizeof(*p->etags));
        int r = s3_parts_put(s3, p->key, p->upload, p->n + 1, fd, p->sent, length, p->etags[p->n]);
        if (r < 0)
                return r;
        crash_point("docs.after_part");
        p->n++;
        p->sent += length;
        return p->sent < size ? 1 : send_finish(p, size);
}

int blob_send_step(struct blob_store *s, const struct blob_file *f, const char *checksum,
                   uint64_t size, struct blob_send **state)
{
        if (!s->s3)
                return 0;
        if (!*state)
                *state = send_new(s, checksum, size);
        struct blob_send *p = *state;
        if (!p->looked)
                return send_look(p, size);
        if (size <= p->part_size)
                return s3_put(s->s3, p->key, f->fd, 0, size, checksum);
        int r = send_part(p, f->fd, size);
        if (r < 0 && p->upload && s3_parts_abort(s->s3, p->key, p->upload) < 0)
                return r; /* the parts are left to the store's rule for unfinished uploads */
        return r;
}

/* ---- fetching ---- */

struct blob_fetch {
        struct blob_store *store;
        char checksum[SHA256_HEX];
        char *key;
        uint64_t size, at, end;
        bool whole;
        struct blob_file file;
        struct blob_hash *hash;
        int fd;
};

struct blob_fetch *blob_fetch_new(struct blob_store *s, const char *checksum, uint64_t size,
                                  uint64_t first, uint64_t length)
{
        struct blob_fetch *f = xnew(struct blob_fetch);
        f->store = s;
        (void) snprintf(f->checksum, sizeof(f->checksum), "%s", checksum);
        f->key = blob_key(s, checksum);
        f->size = size;
        f->at = first;
        f->end = first + length;
        f->whole = length == size;
        f->file = BLOB_FILE_INIT;
        f->fd = -1;
        return f;
}

struct blob_fetch *blob_fetch_free(struct blob_fetch *f)
{
        if (!f)
                return NULL;
        blob_file_done(f->store, &f->file);
        blob_hash_free(f->hash);
        fd_close(f->fd);
        free(f->key);
        free(f);
        return NULL;
}

/* Keeps what was fetched. A full disk keeps nobody from reading it once. */
static int fetch_finish(struct blob_fetch *f)
{
        f->fd = fcntl(f->file.fd, F_DUPFD_CLOEXEC, 0);
        if (f->fd < 0)
                return -errno;
        if (f->whole && blob_publish(f->store, &f->file, f->checksum) < 0)
                blob_file_done(f->store, &f->file);
        return lseek(f->fd, 0, SEEK_SET) < 0 ? -errno : 0;
}

static int fetch_begin(struct blob_fetch *f)
{
        int r = blob_file_new(f->store, &f->file);
        if (r < 0)
                return r;
        return ftruncate(f->file.fd, (off_t) f->size) < 0 ? -errno : 1;
}

static int fetch_check(struct blob_fetch *f)
{
        char checksum[SHA256_HEX];
        int r = 0;
        if (!f->hash) {
                f->hash = blob_hash_new();
                r = blob_seal(f->store, &f->file, f->size);
        }
        if (r == 0)
                r = blob_hash_step(f->hash, f->file.fd, HASH_SLICE, checksum);
        if (r != 0)
                return r;
        return streq(checksum, f->checksum) ? fetch_finish(f) : -EUCLEAN;
}

int blob_fetch_step(struct blob_fetch *f)
{
        if (f->file.fd < 0)
                return fetch_begin(f);
        if (f->at < f->end) {
                uint64_t length = MIN(f->store->part_size, f->end - f->at);
                int r = s3_get(f->store->s3, f->key, f->at, length, f->file.fd);
                if (r < 0)
                        return r;
                f->at += length;
                return 1;
        }
        if (f->whole)
                return fetch_check(f);
        int r = blob_seal(f->store, &f->file, f->size);
        return r < 0 ? r : fetch_finish(f);
}

int blob_fetch_take(struct blob_fetch *f)
{
        return TAKE_FD(f->fd);
}

/* ---- removing, listing ---- */

int blob_remote_unlink(struct blob_store *s, const char *checksum)
{
        cleanup_free char *key = blob_key(s, checksum);
        return s3_delete(s->s3, key);
}

struct listing {
        struct blob_store *store;
        uint64_t before_us;
        struct blob_names *names;
};

static void on_object(void *userdata, const char *key, uint64_t modified_us)
{
        struct listing *l = userdata;
        size_t n = strlen(l->store->prefix);
        if (str_starts(key, l->store->prefix) && blob_checksum_valid(key + n) &&
            modified_us < l->before_us)
                blob_names_add(l->names, key + n);
}

int blob_remote_walk(struct blob_store *s, uint64_t before_us, char **token,
                     struct blob_names *names)
{
        struct listing l = { .store = s, .before_us = before_us, .names = names };
        int r = s3_list(s->s3, s->prefix, token, on_object, &l);
        return r < 0 ? r : *token ? 1 : 0;
}
