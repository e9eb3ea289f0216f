/* Keeps document bytes in files named by their SHA-256, so that each is whole or absent. */
#include "blobs-internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "s3.h"

#define HASH_READ (256 * KIB)
#define FD_PATH_MAX 32

struct blob_hash {
        EVP_MD_CTX *ctx;
        char *buffer;
        off_t offset;
};

bool blob_checksum_valid(const char *s)
{
        size_t n = s ? strspn(s, "0123456789abcdef") : 0;
        return n == SHA256_HEX - 1 && !s[n];
}

static void fd_path(int fd, char path[static FD_PATH_MAX])
{
        (void) snprintf(path, FD_PATH_MAX, "/proc/self/fd/%d", fd);
}

/* ---- the store ---- */

static int open_folder(int at, const char *name)
{
        if (mkdirat(at, name, 0700) < 0 && errno != EEXIST)
                return -errno;
        int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        return fd < 0 ? -errno : fd;
}

/* What a killed process was writing. */
static int remove_leftovers(int tmp)
{
        int copy = fcntl(tmp, F_DUPFD_CLOEXEC, 0);
        DIR *d = copy < 0 ? NULL : fdopendir(copy);
        if (!d) {
                int r = -errno;
                fd_close(copy);
                return r;
        }
        int r = 0;
        rewinddir(d);
        for (struct dirent *e; (e = readdir(d));)
                if (e->d_name[0] != '.' && unlinkat(tmp, e->d_name, 0) < 0 && errno != ENOENT)
                        r = -errno;
        (void) closedir(d);
        return r;
}

static int store_open(struct blob_store *s, const char *dir)
{
        if (mkdir(dir, 0700) < 0 && errno != EEXIST)
                return -errno;
        s->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (s->dir < 0)
                return -errno;
        s->lock = openat(s->dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (s->lock < 0)
                return -errno;
        if (flock(s->lock, LOCK_EX | LOCK_NB) < 0)
                return errno == EWOULDBLOCK ? -EBUSY : -errno;
        s->tmp = open_folder(s->dir, "tmp");
        if (s->tmp < 0)
                return s->tmp;
        return remove_leftovers(s->tmp);
}

int blob_store_open(const char *dir, struct blob_store **ret, char **ret_error)
{
        CLEANUP(blob_store_freep) struct blob_store *s = xnew(struct blob_store);
        s->dir = s->tmp = s->lock = -1;
        int r = store_open(s, dir);
        if (r < 0) {
                *ret_error =
                        r == -EBUSY
                                ? xasprintf("blob_dir %s is in use by another docserverd", dir)
                                : xasprintf("blob_dir %s cannot be used: %s", dir, strerror(-r));
                return r;
        }
        *ret = TAKE_PTR(s);
        return 0;
}

struct blob_store *blob_store_free(struct blob_store *s)
{
        if (!s)
                return NULL;
        fd_close(s->tmp);
        fd_close(s->lock);
        fd_close(s->dir);
        (void) s3_free(s->s3);
        free(s->prefix);
        free(s);
        return NULL;
}

void blob_store_set_named(struct blob_store *s, bool named)
{
        s->named = named;
}

/* ---- writing ---- */

static void random_name(char name[static 33])
{
        unsigned char bytes[16];
        random_bytes(bytes, sizeof(bytes));
        hex_encode(bytes, sizeof(bytes), name);
}

int blob_file_new(struct blob_store *s, struct blob_file *ret)
{
        struct blob_file f = BLOB_FILE_INIT;
        if (!s->named) {
                f.fd = openat(s->tmp, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
                if (f.fd < 0 && errno != EOPNOTSUPP && errno != EISDIR)
                        return -errno;
        }
        if (f.fd < 0) {
                s->named = true;
                random_name(f.name);
                f.fd = openat(s->tmp, f.name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
                              0600);
                if (f.fd < 0)
                        return -errno;
        }
        *ret = f;
        return 0;
}

void blob_file_done(struct blob_store *s, struct blob_file *f)
{
        f->fd = fd_close(f->fd);
        if (f->name[0])
                (void) unlinkat(s->tmp, f->name, 0);
        f->name[0] = '\0';
}

int blob_seal(struct blob_store *s, struct blob_file *f, uint64_t size)
{
        if (fchmod(f->fd, 0400) < 0)
                return -errno;
        char path[FD_PATH_MAX];
        fd_path(f->fd, path);
        cleanup_close int ro = open(path, O_RDONLY | O_CLOEXEC);
        if (ro < 0)
                return -errno;
        f->fd = fd_close(f->fd);

        /* A read lease is given only while nobody has the file open for writing, and nobody can
         * open it so from here on. Where leases are not known, or not to be had for other reasons
         * as on network file systems (which need named files), size and hash still describe what
         * was there. */
        int lease = fcntl(ro, F_SETLEASE, F_RDLCK) < 0 ? errno : 0;
        if (lease == 0)
                (void) fcntl(ro, F_SETLEASE, F_UNLCK);
        f->fd = TAKE_FD(ro);
        if (lease == EAGAIN && !f->name[0])
                return -EBUSY;

        struct stat st;
        if (fstat(f->fd, &st) < 0)
                return -errno;
        return (uint64_t) st.st_size == size ? 0 : -EMSGSIZE;
}

struct blob_hash *blob_hash_new(void)
{
        struct blob_hash *h = xnew(struct blob_hash);
        h->ctx = EVP_MD_CTX_new();
        if (!h->ctx || EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL) != 1)
                abort(); /* no memory */
        h->buffer = xmalloc(HASH_READ);
        return h;
}

struct blob_hash *blob_hash_free(struct blob_hash *h)
{
        if (!h)
                return NULL;
        EVP_MD_CTX_free(h->ctx);
        free(h->buffer);
        free(h);
        return NULL;
}

int blob_hash_step(struct blob_hash *h, int fd, size_t slice, char ret[static SHA256_HEX])
{
        off_t start = h->offset;
        while ((size_t) (h->offset - start) < slice) {
                ssize_t n = pread(fd, h->buffer, HASH_READ, h->offset);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0) {
                        unsigned char digest[EVP_MAX_MD_SIZE];
                        unsigned int len = 0;
                        if (EVP_DigestFinal_ex(h->ctx, digest, &len) != 1)
                                return -EIO;
                        hex_encode(digest, len, ret);
                        return 0;
                }
                if (EVP_DigestUpdate(h->ctx, h->buffer, (size_t) n) != 1)
                        return -EIO;
                h->offset += n;
        }
        /* Starts the way to the disk now, so that the sync before publishing has less to wait for.
         */
        (void) sync_file_range(fd, start, h->offset - start, SYNC_FILE_RANGE_WRITE);
        return 1;
}

int blob_hash_range(struct blob_hash *h, int fd, uint64_t offset, uint64_t length,
                    char ret[static SHA256_HEX])
{
        unsigned char digest[EVP_MAX_MD_SIZE];
        unsigned int len = 0;
        while (length > 0) {
                ssize_t n = pread(fd, h->buffer, MIN(length, (uint64_t) HASH_READ), (off_t) offset);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -EMSGSIZE;
                if (EVP_DigestUpdate(h->ctx, h->buffer, (size_t) n) != 1)
                        return -EIO;
                offset += (uint64_t) n;
                length -= (uint64_t) n;
        }
        if (EVP_DigestFinal_ex(h->ctx, digest, &len) != 1)
                return -EIO;
        hex_encode(digest, len, ret);
        return 0;
}

/* ---- names ---- */

static int open_shard(struct blob_store *s, const char *checksum)
{
        char path[6] = { checksum[0], checksum[1], '/', checksum[2], checksum[3], '\0' };
        int fd = openat(s->dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

static int make_shard(struct blob_store *s, const char *checksum, int *ret_outer)
{
        char outer[3] = { checksum[0], checksum[1], '\0' };
        char inner[3] = { checksum[2], checksum[3], '\0' };
        cleanup_close int o = open_folder(s->dir, outer);
        if (o < 0)
                return o;
        int i = open_folder(o, inner);
        if (i >= 0)
                *ret_outer = TAKE_FD(o);
        return i;
}

static bool bit(const atomic_uchar *bits, unsigned n)
{
        return atomic_load(&bits[n / 8]) & 1u << n % 8;
}

static void set_bit(atomic_uchar *bits, unsigned n)
{
        (void) atomic_fetch_or(&bits[n / 8], (unsigned char) (1u << n % 8));
}

/* The names on the way to a blob, nearest first: on file systems with a journal the first sync has
 * most of the work of all. */
static int sync_names(struct blob_store *s, const char *checksum, int shard, int outer)
{
        char digits[5] = { checksum[0], checksum[1], checksum[2], checksum[3], '\0' };
        unsigned n = (unsigned) strtoul(digits, NULL, 16);
        if (fsync(shard) < 0)
                return -errno;
        if (!bit(s->inner_synced, n)) {
                if (fsync(outer) < 0)
                        return -errno;
                set_bit(s->inner_synced, n);
        }
        if (!bit(s->outer_synced, n / 256)) {
                if (fsync(s->dir) < 0)
                        return -errno;
                set_bit(s->outer_synced, n / 256);
        }
        return 0;
}

static int link_file(struct blob_store *s, const struct blob_file *f, int to, const char *name)
{
        if (f->name[0])
                return linkat(s->tmp, f->name, to, name, 0) < 0 ? -errno : 0;
        char path[FD_PATH_MAX];
        fd_path(f->fd, path);
        return linkat(AT_FDCWD, path, to, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

/* The name is taken: by the same bytes, unless the disk has damaged them. Makes the blob young
 * again, so that the sweep keeps away from it while its new row is on the way. */
static int keep_or_replace(struct blob_store *s, const struct blob_file *f, int shard,
                           const char *checksum)
{
        struct stat ours, theirs;
        if (fstat(f->fd, &ours) < 0 || fstatat(shard, checksum, &theirs, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        if (S_ISREG(theirs.st_mode) && ours.st_size == theirs.st_size)
                return utimensat(shard, checksum, NULL, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;

        char name[33];
        random_name(name);
        int r = link_file(s, f, s->tmp, name);
        if (r < 0)
                return r;
        if (renameat(s->tmp, name, shard, checksum) < 0) {
                r = -errno;
                (void) unlinkat(s->tmp, name, 0);
        }
        return r;
}

int blob_publish(struct blob_store *s, struct blob_file *f, const char *checksum)
{
        if (!blob_checksum_valid(checksum))
                return -EINVAL;
        if (fsync(f->fd) < 0)
                return -errno;
        cleanup_close int outer = -1;
        cleanup_close int shard = make_shard(s, checksum, &outer);
        if (shard < 0)
                return shard;
        int r = link_file(s, f, shard, checksum);
        if (r == -EEXIST)
                r = keep_or_replace(s, f, shard, checksum);
        if (r < 0)
                return r;
        /* Also for a name that was there: whoever made it may have died before this. */
        r = sync_names(s, checksum, shard, outer);
        if (r < 0)
                return r;
        blob_file_done(s, f);
        return 0;
}

static int open_here(struct blob_store *s, const char *checksum, int *ret_fd, uint64_t *ret_size)
{
        cleanup_close int shard = open_shard(s, checksum);
        if (shard < 0)
                return shard;
        cleanup_close int fd = openat(shard, checksum, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        struct stat st;
        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -ENOENT;
        *ret_size = (uint64_t) st.st_size;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int blob_open(struct blob_store *s, const char *checksum, int *ret_fd, uint64_t *ret_size)
{
        if (!blob_checksum_valid(checksum))
                return -EINVAL;
        int r = open_here(s, checksum, ret_fd, ret_size);
        if (!s->s3)
                return r;
        if (r == -ENOENT)
                return -EREMOTE;
        /* The inode's time of change says when it was last of use: see blobs-trim.c. */
        static const struct timespec times[2] = { { .tv_nsec = UTIME_NOW },
                                                  { .tv_nsec = UTIME_OMIT } };
        if (r == 0)
                (void) futimens(*ret_fd, times);
        return r;
}

int blob_unlink(struct blob_store *s, const char *checksum)
{
        if (!blob_checksum_valid(checksum))
                return -EINVAL;
        int r = s->s3 ? blob_remote_unlink(s, checksum) : 0;
        if (r < 0)
                return r;
        cleanup_close int shard = open_shard(s, checksum);
        if (shard < 0)
                return shard == -ENOENT ? 0 : shard;
        if (unlinkat(shard, checksum, 0) < 0)
                return errno == ENOENT ? 0 : -errno;
        return 0;
}
