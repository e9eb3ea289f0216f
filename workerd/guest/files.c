/* Reads and writes files of the slot in pieces; a written file appears whole or not at all. */
#include "helper.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_regular(const char *path, struct stat *ret)
{
        /* O_NONBLOCK: a FIFO must not stop the helper. */
        cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0 || fstat(fd, ret) < 0)
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
        cleanup_close int fd = open_regular(m->path, &st);
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

static void upload_end(struct upload *u)
{
        if (u->temporary)
                (void) unlink(u->temporary);
        fd_close(u->fd);
        free(u->path);
        free(u->temporary);
        *u = (struct upload){ .fd = -1 };
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
        *u = (struct upload){
                .used = true, .call = m->call, .fd = fd, .path = target, .temporary = temporary
        };
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
        if (rename(u->temporary, u->path) < 0)
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
