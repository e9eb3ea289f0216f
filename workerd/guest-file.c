/* Files of the slot as the worker sees them: each call is a row of questions with at most a few
 * unanswered. */
#include "guest-private.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define WRITE_PIECES 4 /* unanswered at a time */

static struct guest_call *find(struct guest *g, uint32_t id, bool writing)
{
        struct guest_call *c;
        list_foreach (c, &g->calls, link)
                if (c->id == id && (c->kind == CALL_WRITE || c->kind == CALL_REMOVE) == writing)
                        return c;
        return NULL;
}

static bool id_used(const struct guest *g, uint32_t id)
{
        struct guest_call *c;
        list_foreach (c, (struct list *) &g->calls, link)
                if (c->id == id)
                        return true;
        return false;
}

static void call_free(struct guest *g, struct guest_call *c)
{
        g->n_calls--;
        list_remove(&c->link);
        fd_close(c->fd);
        buf_done(&c->data);
        free(c->path);
        free(c);
}

static int call_new(struct guest *g, uint64_t epoch, enum call_kind kind, const char *path,
                    void *userdata, struct guest_call **ret)
{
        int r = guest_fence(g, epoch);
        if (r < 0)
                return r;
        if (strempty(path) || strlen(path) > 4096 || !utf8_valid(path, strlen(path)))
                return -EINVAL;
        if (g->n_calls >= GUEST_CALLS_MAX)
                return -EAGAIN;
        uint32_t id = g->last_call + 1;
        while (id_used(g, id))
                id++;
        struct guest_call *c = xnew(struct guest_call);
        *c = (struct guest_call){ .kind = kind, .id = id, .userdata = userdata, .fd = -1 };
        c->path = xstrdup(path);
        g->last_call = id;
        g->n_calls++;
        list_push_back(&g->calls, &c->link);
        *ret = c;
        return 0;
}

/* The one place where a call gives its result; r < 0 is a failure. */
static void call_end(struct guest *g, struct guest_call *c, int r,
                     const struct guest_listing *listing)
{
        struct guest_call done = *c;
        c->fd = -1;
        c->data = BUF_INIT;
        call_free(g, c);
        cleanup_close int fd = done.fd;
        cleanup_buf struct buf data = done.data;
        if (done.forgotten)
                return;
        switch (done.kind) {
        case CALL_READ:
                if (r == 0 && !data.data)
                        buf_puts(&data, ""); /* the text ends with NUL also when it is empty */
                done.on_data(done.userdata, r, r < 0 ? NULL : data.data, r < 0 ? 0 : data.len,
                             done.end);
                break;
        case CALL_FETCH:
                done.on_fd(done.userdata, r, r < 0 ? -1 : TAKE_FD(fd), r < 0 ? 0 : done.offset);
                break;
        case CALL_WRITE:
        case CALL_REMOVE:
                done.on_done(done.userdata, r);
                break;
        case CALL_LIST:
                done.on_listing(done.userdata, r, r < 0 ? NULL : listing);
                break;
        default:
                break;
        }
}

static int ask(struct guest *g, struct guest_call *c)
{
        uint64_t left = c->max - c->offset;
        struct guest_read m = { .call = c->id,
                                .path = c->path,
                                .offset = c->offset,
                                .has_beneath = true,
                                .beneath = c->beneath,
                                .max = (uint32_t) MIN(left, GUEST_PIECE) };
        int r = guest_send(g, &wire_guest_read, &m);
        if (r == 0)
                c->inflight++;
        return r;
}

int guest_read_file(struct guest *g, uint64_t epoch, const char *path, uint64_t offset, size_t max,
                    guest_data_fn fn, void *userdata)
{
        struct guest_call *c;
        if (max > GUEST_READ_MAX || offset > INT64_MAX)
                return -EFBIG;
        int r = call_new(g, epoch, CALL_READ, path, userdata, &c);
        if (r < 0)
                return r;
        c->on_data = fn;
        c->offset = offset;
        c->max = offset + max;
        r = ask(g, c);
        if (r < 0)
                call_free(g, c);
        return r;
}

static int fetch(struct guest *g, uint64_t epoch, const char *path, bool beneath, uint64_t max,
                 guest_fd_fn fn, void *userdata)
{
        struct guest_call *c;
        int r = call_new(g, epoch, CALL_FETCH, path, userdata, &c);
        if (r < 0)
                return r;
        c->on_fd = fn;
        c->beneath = beneath;
        c->max = MIN(max, (uint64_t) INT64_MAX - 1) + 1; /* one more shows that it is too large */
        c->fd = memfd_create("fetched", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        r = c->fd < 0 ? -errno : ask(g, c);
        if (r < 0)
                call_free(g, c);
        return r;
}

int guest_fetch_file(struct guest *g, uint64_t epoch, const char *path, uint64_t max,
                     guest_fd_fn fn, void *userdata)
{
        return fetch(g, epoch, path, false, max, fn, userdata);
}

int guest_fetch_beneath(struct guest *g, uint64_t epoch, const char *path, uint64_t max,
                        guest_fd_fn fn, void *userdata)
{
        return fetch(g, epoch, path, true, max, fn, userdata);
}

static int seal(int fd)
{
        if (lseek(fd, 0, SEEK_SET) < 0 ||
            fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
                return -errno;
        return 0;
}

static int take_data(struct guest_call *c, const struct guest_data *m)
{
        if (c->kind == CALL_READ)
                return buf_append(&c->data, m->data.data, m->data.len);
        if (c->offset + m->data.len >= c->max)
                return -EFBIG;
        for (size_t done = 0; done < m->data.len;) {
                ssize_t n = write(c->fd, m->data.data + done, m->data.len - done);
                if (n < 0)
                        return -errno;
                done += (size_t) n;
        }
        return 0;
}

int guest_on_data(struct guest *g, const struct guest_data *m)
{
        struct guest_call *c = find(g, m->call, false);
        if (!c || c->kind == CALL_LIST || c->inflight == 0)
                return -EPROTO;
        if (m->error > 0 || m->error < -4095 || m->data.len > c->max - c->offset)
                return -EPROTO;
        c->inflight--;
        int r = m->error < 0 ? (int) m->error : c->forgotten ? -ECANCELED : take_data(c, m);
        if (r == 0) {
                c->offset += m->data.len;
                c->end = m->size;
                if (!m->eof && m->data.len > 0 && c->offset < c->max)
                        r = ask(g, c);
                else if (c->kind == CALL_FETCH)
                        r = seal(c->fd);
        }
        if (r < 0 || c->inflight == 0)
                call_end(g, c, r, NULL);
        return 0;
}

/* Sends pieces while few enough are unanswered. */
static int push(struct guest *g, struct guest_call *c)
{
        char *data = NULL;
        cleanup_free char *piece = c->fd >= 0 ? xmalloc(GUEST_PIECE) : NULL;
        while (!c->all_sent && c->inflight < WRITE_PIECES) {
                size_t n = (size_t) MIN(c->end - c->offset, (uint64_t) GUEST_PIECE);
                if (c->fd >= 0) {
                        ssize_t got = pread(c->fd, piece, n, (off_t) c->offset);
                        if (got != (ssize_t) n)
                                return got < 0 ? -errno : -EIO; /* it shrank */
                        data = piece;
                } else
                        data = c->data.data + c->offset;
                struct guest_write m = { .call = c->id,
                                         .path = c->path,
                                         .offset = c->offset,
                                         .data = { n ? data : "", n },
                                         .has_beneath = true,
                                         .beneath = c->beneath,
                                         .has_volume = true,
                                         .volume = c->volume,
                                         .last = c->offset + n == c->end };
                int r = guest_send(g, &wire_guest_write, &m);
                if (r < 0)
                        return r;
                c->inflight++;
                c->offset += n;
                c->all_sent = m.last;
        }
        return 0;
}

/* Tells the helper to drop the upload; its answers are awaited without anybody listening. */
static void abandon(struct guest *g, struct guest_call *c)
{
        if (c->kind != CALL_WRITE || c->all_sent)
                return;
        struct guest_write m = {
                .call = c->id, .path = c->path, .offset = UINT64_MAX, .data = { "", 0 }
        };
        c->all_sent = true;
        if (guest_send(g, &wire_guest_write, &m) == 0)
                c->inflight++;
}

static int start_write(struct guest *g, struct guest_call *c, guest_done_fn fn)
{
        c->on_done = fn;
        int r = push(g, c);
        if (r == 0 || c->inflight == 0) {
                if (r < 0)
                        call_free(g, c);
                return r;
        }
        c->forgotten = true;
        abandon(g, c);
        return r;
}

int guest_write_file(struct guest *g, uint64_t epoch, const char *path, const void *data, size_t n,
                     guest_done_fn fn, void *userdata)
{
        struct guest_call *c;
        if (n > GUEST_READ_MAX)
                return -EFBIG;
        int r = call_new(g, epoch, CALL_WRITE, path, userdata, &c);
        if (r < 0)
                return r;
        r = buf_append(&c->data, data, n);
        if (r < 0) {
                call_free(g, c);
                return r;
        }
        c->end = n;
        return start_write(g, c, fn);
}

enum place { PLACE_PATH, PLACE_BENEATH, PLACE_VOLUME };
static int write_from(struct guest *g, uint64_t epoch, const char *path, enum place place, int fd,
                      guest_done_fn fn, void *userdata)
{
        cleanup_close int own = fd;
        struct guest_call *c;
        struct stat st;
        if (fstat(own, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        int r = call_new(g, epoch, CALL_WRITE, path, userdata, &c);
        if (r < 0)
                return r;
        c->fd = TAKE_FD(own);
        c->end = (uint64_t) st.st_size;
        c->beneath = place == PLACE_BENEATH;
        c->volume = place == PLACE_VOLUME;
        return start_write(g, c, fn);
}

int guest_write_from(struct guest *g, uint64_t epoch, const char *path, int fd, guest_done_fn fn,
                     void *userdata)
{
        return write_from(g, epoch, path, PLACE_PATH, fd, fn, userdata);
}

int guest_write_beneath(struct guest *g, uint64_t epoch, const char *path, int fd, guest_done_fn fn,
                        void *userdata)
{
        return write_from(g, epoch, path, PLACE_BENEATH, fd, fn, userdata);
}

int guest_write_volume(struct guest *g, uint64_t epoch, const char *path, int fd, guest_done_fn fn,
                       void *userdata)
{
        return write_from(g, epoch, path, PLACE_VOLUME, fd, fn, userdata);
}

int guest_remove_beneath(struct guest *g, uint64_t epoch, const char *path, guest_done_fn fn,
                         void *userdata)
{
        struct guest_call *c;
        int r = call_new(g, epoch, CALL_REMOVE, path, userdata, &c);
        if (r < 0)
                return r;
        c->on_done = fn;
        c->all_sent = true;
        r = guest_send(g, &wire_guest_remove,
                       &(struct guest_remove){ .call = c->id, .path = c->path });
        if (r < 0)
                call_free(g, c);
        else
                c->inflight++;
        return r;
}

int guest_on_done(struct guest *g, const struct guest_done *m)
{
        struct guest_call *c = find(g, m->call, true);
        if (!c || c->inflight == 0 || m->error > 0 || m->error < -4095)
                return -EPROTO;
        c->inflight--;
        int r = (int) m->error;
        if (r == 0 && !c->forgotten && c->kind == CALL_WRITE)
                r = push(g, c);
        if (r < 0 && !c->forgotten) {
                /* Tell now; the answers still on their way are waited for in silence. */
                abandon(g, c);
                guest_done_fn fn = c->on_done;
                void *userdata = c->userdata;
                c->forgotten = true;
                if (c->inflight == 0)
                        call_free(g, c);
                fn(userdata, r);
                return 0;
        }
        if (c->inflight == 0)
                call_end(g, c, 0, NULL);
        return 0;
}

static int list(struct guest *g, uint64_t epoch, const char *path, bool beneath, unsigned depth,
                guest_listing_fn fn, void *userdata)
{
        struct guest_call *c;
        int r = call_new(g, epoch, CALL_LIST, path, userdata, &c);
        if (r < 0)
                return r;
        c->on_listing = fn;
        struct guest_list m = { .call = c->id,
                                .path = c->path,
                                .depth = depth,
                                .has_beneath = true,
                                .beneath = beneath };
        r = guest_send(g, &wire_guest_list, &m);
        if (r < 0)
                call_free(g, c);
        else
                c->inflight++;
        return r;
}

int guest_list_dir(struct guest *g, uint64_t epoch, const char *path, unsigned depth,
                   guest_listing_fn fn, void *userdata)
{
        return list(g, epoch, path, false, depth, fn, userdata);
}

int guest_list_beneath(struct guest *g, uint64_t epoch, const char *path, guest_listing_fn fn,
                       void *userdata)
{
        return list(g, epoch, path, true, 1, fn, userdata);
}

int guest_on_listing(struct guest *g, const struct guest_listing *m)
{
        struct guest_call *c = find(g, m->call, false);
        if (!c || c->kind != CALL_LIST || m->error > 0 || m->error < -4095)
                return -EPROTO;
        call_end(g, c, (int) m->error, m);
        return 0;
}

void guest_cancel(struct guest *g, void *userdata)
{
        struct guest_call *c;
        list_foreach (c, &g->calls, link) {
                if (c->userdata != userdata || c->forgotten)
                        continue;
                c->forgotten = true;
                abandon(g, c);
        }
}

void guest_calls_end(struct guest *g, int r)
{
        struct guest_call *c;
        while ((c = list_first(&g->calls, struct guest_call, link)))
                /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the list lets go of what is freed */
                call_end(g, c, r, NULL);
}
