/* Reads and writes files of the slot in pieces; a written file appears whole or not at all. */
#include "helper.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Beneath a folder no link leads out, whatever the slot has put there. */
static int open_beneath(int root, const char *path, int flags)
{
        struct open_how how = { .flags = (uint64_t) (flags | O_CLOEXEC |
                                                     (flags & O_PATH ? 0 : O_NOCTTY)),
                                .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS };
        int fd = (int) syscall(SYS_openat2, root, *path ? path : ".", &how, sizeof(how));
        return fd < 0 ? -errno : fd;
}

static int open_home(void)
{
        int home = open(HOME, O_PATH | O_DIRECTORY | O_CLOEXEC);
        return home < 0 ? -errno : home;
}

int file_open(const char *path, bool beneath, int flags)
{
        if (!beneath) {
                int fd = open(path, flags | O_CLOEXEC | O_NOCTTY);
                return fd < 0 ? -errno : fd;
        }
        cleanup_close int home = open_home();
        return home < 0 ? home : open_beneath(home, path, flags);
}

static int open_regular(const char *path, bool beneath, struct stat *ret)
{
        /* O_NONBLOCK: a FIFO must not stop the helper. */
        cleanup_close int fd = file_open(path, beneath, O_RDONLY | O_NONBLOCK);
        if (fd < 0)
                return fd;
        if (fstat(fd, ret) < 0)
                return -errno;
        if (S_ISDIR(ret->st_mode))
                return -EISDIR;
        if (!S_ISREG(ret->st_mode))
                return -EINVAL;
        return TAKE_FD(fd);
}

void file_read(struct helper *h, const struct guest_read *m)
{
        static char data[CHUNK];
        struct guest_data answer = { .call = m->call, .data = { data, 0 } };
        struct stat st = { 0 };
        cleanup_close int fd = open_regular(m->path, m->has_beneath && m->beneath, &st);
        size_t want = MIN(m->max, sizeof(data));
        ssize_t n = fd < 0 || m->offset > INT64_MAX ? 0 : pread(fd, data, want, (off_t) m->offset);
        if (fd < 0)
                answer.error = fd;
        else if (n < 0)
                answer.error = -errno;
        else {
                answer.size = (uint64_t) st.st_size;
                answer.data.len = (size_t) n;
                answer.eof = (size_t) n < want;
        }
        helper_send(h, &wire_guest_data, &answer);
}

/* Makes the folders above `path`. */
static int make_parents(const char *path)
{
        cleanup_free char *p = xstrdup(path);
        for (char *s = p + 1; *s; s++) {
                if (*s != '/')
                        continue;
                *s = '\0';
                if (mkdir(p, 0755) < 0 && errno != EEXIST)
                        return -errno;
                *s = '/';
        }
        return 0;
}

/* The folder that `path` lies in, beneath root, made when it is not there; *ret_name is the rest.
 * Calls itself without `make`, one level deep. */
/* NOLINTNEXTLINE(misc-no-recursion) */
static int open_parent(int root, const char *path, bool make, const char **ret_name)
{
        cleanup_free char *folder = xstrdup(path);
        const char *slash = strrchr(path, '/');
        const char *name = slash ? slash + 1 : path;
        if (!*name || streq(name, ".") || streq(name, ".."))
                return -EISDIR;
        if (!slash)
                folder[0] = '\0';
        else
                folder[slash - path] = '\0';
        *ret_name = name;
        int fd = open_beneath(root, folder, O_PATH | O_DIRECTORY);
        for (char *s = folder; make && fd == -ENOENT; s++) {
                if (*s && *s != '/')
                        continue;
                bool last = !*s;
                const char *one = NULL;
                *s = '\0';
                cleanup_close int above = open_parent(root, folder, false, &one);
                if (above < 0)
                        return above;
                if (mkdirat(above, one, 0755) < 0 && errno != EEXIST)
                        return -errno;
                if (last)
                        return open_beneath(root, folder, O_PATH | O_DIRECTORY);
                *s = '/';
        }
        return fd;
}

static void upload_end(struct upload *u)
{
        if (u->temporary)
                (void) unlinkat(u->folder, u->temporary, 0);
        if (u->folder >= 0)
                (void) close(u->folder);
        fd_close(u->fd);
        free(u->path);
        free(u->temporary);
        *u = (struct upload){ .fd = -1, .folder = AT_FDCWD };
}

/* A link of that name is replaced, not followed. */
static int upload_begin_beneath(int root, const struct guest_write *m, struct upload *u,
                                struct upload **ret)
{
        static unsigned number;
        const char *name = NULL;
        struct stat st;
        cleanup_close int folder = open_parent(root, m->path, true, &name);
        if (folder < 0)
                return folder;
        bool exists = fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
        if (exists && !S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode))
                return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
        char *temporary = xasprintf(".part-%u-%" PRIu64, ++number, now_monotonic());
        int fd = openat(folder, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                        0600);
        if (fd < 0) {
                int r = -errno;
                free(temporary);
                return r;
        }
        (void) fchmod(fd, exists && S_ISREG(st.st_mode) ? st.st_mode & 07777 : 0644);
        *u = (struct upload){ .used = true,
                              .call = m->call,
                              .fd = fd,
                              .path = xstrdup(name),
                              .temporary = temporary,
                              .folder = TAKE_FD(folder) };
        *ret = u;
        return 0;
}

/* Home shows what is kept elsewhere under the names it had; a program's own are left alone. */
static void link_volume(void)
{
        (void) !symlink(VOLUME, HOME VOLUME);
        (void) !symlink(RESULTS, HOME RESULTS);
}

static int upload_begin(struct helper *h, const struct guest_write *m, struct upload **ret)
{
        struct upload *u = NULL;
        for (size_t i = 0; i < UPLOADS_MAX && !u; i++)
                if (!h->uploads[i].used)
                        u = &h->uploads[i];
        if (!u)
                return -EBUSY;
        if (m->path[0] == '\0' || str_ends(m->path, "/"))
                return -EISDIR;
        if (m->has_volume && m->volume) {
                if (h->volume < 0)
                        return -EOPNOTSUPP;
                link_volume();
                return upload_begin_beneath(h->volume, m, u, ret);
        }
        if (m->has_beneath && m->beneath) {
                cleanup_close int home = open_home();
                return home < 0 ? home : upload_begin_beneath(home, m, u, ret);
        }
        int r = make_parents(m->path);
        if (r < 0)
                return r;
        /* A symbolic link stays one: what it points to is replaced. */
        struct stat st;
        bool exists = stat(m->path, &st) == 0;
        if (exists && !S_ISREG(st.st_mode))
                return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
        if (exists && access(m->path, W_OK) < 0)
                return -errno;
        char *target = exists ? realpath(m->path, NULL) : xstrdup(m->path);
        if (!target)
                return -errno;
        char *temporary = xasprintf("%s.part-XXXXXX", target);
        int fd = mkostemp(temporary, O_CLOEXEC);
        if (fd < 0) {
                r = -errno;
                free(temporary);
                free(target);
                return r;
        }
        (void) fchmod(fd, exists ? st.st_mode & 07777 : 0644);
        *u = (struct upload){ .used = true,
                              .call = m->call,
                              .fd = fd,
                              .path = target,
                              .temporary = temporary,
                              .folder = AT_FDCWD };
        *ret = u;
        return 0;
}

static int upload_piece(struct upload *u, const struct guest_write *m)
{
        if (m->offset != u->size)
                return -ECANCELED; /* also how the worker gives up */
        for (size_t done = 0; done < m->data.len;) {
                ssize_t n = write(u->fd, m->data.data + done, m->data.len - done);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                done += (size_t) n;
        }
        u->size += m->data.len;
        if (!m->last)
                return 0;
        if (renameat(u->folder, u->temporary, u->folder, u->path) < 0)
                return -errno;
        free(TAKE_PTR(u->temporary));
        return 0;
}

void file_write(struct helper *h, const struct guest_write *m)
{
        struct upload *u = NULL;
        for (size_t i = 0; i < UPLOADS_MAX; i++)
                if (h->uploads[i].used && h->uploads[i].call == m->call)
                        u = &h->uploads[i];
        int r = 0;
        if (!u)
                r = m->offset == 0 ? upload_begin(h, m, &u) : -ECANCELED;
        if (r == 0)
                r = upload_piece(u, m);
        if (u && (r < 0 || m->last))
                upload_end(u);
        helper_send(h, &wire_guest_done, &(struct guest_done){ .call = m->call, .error = r });
}

void file_remove(struct helper *h, const struct guest_remove *m)
{
        const char *name = NULL;
        cleanup_close int home = open_home();
        cleanup_close int folder = home < 0 ? home : open_parent(home, m->path, false, &name);
        int r = folder < 0 ? folder : 0;
        if (r == 0 && unlinkat(folder, name, 0) < 0)
                r = -errno;
        if (r == -EISDIR && folder >= 0)
                r = unlinkat(folder, name, AT_REMOVEDIR) < 0 ? -errno : 0;
        helper_send(h, &wire_guest_done, &(struct guest_done){ .call = m->call, .error = r });
}
