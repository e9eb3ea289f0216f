/* Serves files of the slot: each request is one or two calls of the helper, bounded in number and
 * size. */
#include "slot-files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/list.h"

struct slot_files {
        struct list transfers; /* struct transfer */
        unsigned n;
        uint64_t last_upload;
};

/* A request under way, or a place that is being filled. */
struct transfer {
        struct list link;
        struct slot_files *files; /* NULL once those are gone */
        struct fdlink_request *request;
        struct slot *slot;
        char *path;
        uint64_t connection, upload, size;
        int place; /* memfd, -1 = none */
};

static int transfer_new(struct slot_files *f, struct slot *s, struct fdlink_request *req,
                        const char *path, struct transfer **ret)
{
        if (!slot_guest(s)) {
                (void) fdlink_reply_error(req, ERROR_CODE_CONFLICT,
                                          "The session's slot is not ready.");
                return -ENOTCONN;
        }
        if (f->n >= SLOT_TRANSFERS_MAX) {
                (void) fdlink_reply_error(req, ERROR_CODE_RATE_LIMITED,
                                          "Too many files of this slot are on their way; try "
                                          "again in a moment.");
                return -EAGAIN;
        }
        struct transfer *t = xnew(struct transfer);
        *t = (struct transfer){ .files = f,
                                .request = req,
                                .slot = s,
                                .path = xstrdup(strempty(path) ? "." : path),
                                .connection = fdlink_request_connection(req),
                                .place = -1 };
        list_push_back(&f->transfers, &t->link);
        f->n++;
        *ret = t;
        return 0;
}

static void transfer_free(struct transfer *t)
{
        if (t->files) {
                list_remove(&t->link);
                t->files->n--;
        }
        fd_close(t->place);
        free(t->path);
        free(t);
}

static void refuse(struct transfer *t, int r)
{
        const bool link = r == -EXDEV || r == -ELOOP;
        enum error_code code = r == -ENOENT || r == -ENOTDIR || link ? ERROR_CODE_NOT_FOUND
                               : r == -EFBIG                         ? ERROR_CODE_TOO_LARGE
                               : r == -EAGAIN                        ? ERROR_CODE_RATE_LIMITED
                               : r == -ECONNRESET || r == -ECANCELED || r == -ENOTCONN
                                       ? ERROR_CODE_UNAVAILABLE
                               : r == -EINVAL || r == -ENAMETOOLONG ? ERROR_CODE_UNPROCESSABLE
                                                                    : ERROR_CODE_CONFLICT;
        const char *why = link           ? "it leads out of the home folder"
                          : r == -EFBIG  ? "files of more than 256 MiB are not passed on"
                          : r == -EINVAL ? "it is not a plain file"
                                         : strerror(-r);
        if (t->files)
                (void) fdlink_reply_error(t->request, code, "%.200s: %s.", t->path, why);
        transfer_free(t);
}

static int sealed(const struct buf *text, int *ret_fd)
{
        cleanup_close int fd = memfd_create("listing", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0 || write(fd, text->data, text->len) != (ssize_t) text->len)
                return -EIO;
        if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
                return -errno;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

static void put_listing(struct buf *b, const char *path, const struct guest_listing *l)
{
        static const char *const kinds[] = { "other", "file", "folder", "link" };
        char when[TIMESTAMP_MAX];
        buf_puts(b, "{\"path\":");
        buf_put_json_string(b, path, strlen(path));
        buf_puts(b, ",\"entries\":[");
        for (size_t i = 0, n = 0; i < l->n_entries; i++) {
                const struct guest_entry *e = &l->entries[i];
                if (!utf8_valid(e->path, strlen(e->path)) || strchr(e->path, '/'))
                        continue;
                timestamp_format(e->modified_us, when);
                buf_puts(b, n++ > 0 ? ",{\"name\":" : "{\"name\":");
                buf_put_json_string(b, e->path, strlen(e->path));
                buf_putf(b, ",\"kind\":\"%s\",\"size_bytes\":%" PRIu64 ",\"modified_at\":\"%s\"}",
                         kinds[e->kind < ARRAY_LEN(kinds) ? e->kind : 0], e->size, when);
        }
        buf_putf(b, "],\"truncated\":%s}", l->n_entries >= 1000 ? "true" : "false");
}

static void on_fetched(void *userdata, int r, int fd, uint64_t size)
{
        struct transfer *t = userdata;
        cleanup_close int own = fd;
        if (r < 0) {
                refuse(t, r);
                return;
        }
        if (t->files)
                (void) fdlink_reply(t->request, &(struct slot_file){ .size_bytes = size }, own);
        transfer_free(t);
}

static void on_listed(void *userdata, int r, const struct guest_listing *l)
{
        struct transfer *t = userdata;
        cleanup_buf struct buf text = BUF_INIT;
        cleanup_close int fd = -1;
        struct guest *g = t->files ? slot_guest(t->slot) : NULL;
        if (r == 0 && l->kind != 2) {
                r = g ? guest_fetch_beneath(g, slot_epoch(t->slot), t->path, SLOT_FILE_MAX,
                                            on_fetched, t)
                      : -ECANCELED;
                if (r < 0)
                        refuse(t, r);
                return;
        }
        if (r == 0) {
                put_listing(&text, t->path, l);
                r = sealed(&text, &fd);
        }
        if (r < 0) {
                refuse(t, r);
                return;
        }
        struct slot_file m = { .folder = true, .size_bytes = text.len };
        if (t->files)
                (void) fdlink_reply(t->request, &m, fd);
        transfer_free(t);
}

int slot_files_get(struct slot_files *f, struct slot *s, struct fdlink_request *req,
                   const struct slot_file_get *m)
{
        struct transfer *t;
        if (transfer_new(f, s, req, m->path, &t) < 0)
                return 0;
        int r = guest_list_beneath(slot_guest(s), slot_epoch(s), t->path, on_listed, t);
        if (r < 0)
                refuse(t, r);
        return 0;
}

int slot_files_put(struct slot_files *f, struct slot *s, struct fdlink_request *req,
                   const struct slot_file_put *m)
{
        struct transfer *t;
        if (transfer_new(f, s, req, m->session_id, &t) < 0)
                return 0;
        t->place = memfd_create("upload", MFD_CLOEXEC);
        if (t->place < 0) {
                refuse(t, -errno);
                return 0;
        }
        t->upload = ++f->last_upload;
        t->request = NULL;
        struct slot_file_place reply = { .upload = t->upload, .max_bytes = SLOT_FILE_MAX };
        return fdlink_reply(req, &reply, t->place);
}

static void on_stored(void *userdata, int r)
{
        struct transfer *t = userdata;
        if (r < 0) {
                refuse(t, r);
                return;
        }
        if (t->files)
                (void) fdlink_reply(t->request, &(struct slot_file_stored){ .size_bytes = t->size },
                                    -1);
        transfer_free(t);
}

static struct transfer *find_place(struct slot_files *f, uint64_t upload, uint64_t connection)
{
        struct transfer *t;
        list_foreach (t, &f->transfers, link)
                if (t->upload == upload && t->connection == connection && !t->request)
                        return t;
        return NULL;
}

int slot_files_commit(struct slot_files *f, struct slot *s, struct fdlink_request *req,
                      const struct slot_file_commit *m)
{
        struct transfer *t = find_place(f, m->upload, fdlink_request_connection(req));
        struct stat st;
        if (!t || t->slot != s || m->abandon) {
                if (t)
                        transfer_free(t);
                return m->abandon ? fdlink_reply(req, &(struct slot_file_stored){ 0 }, -1)
                                  : fdlink_reply_error(req, ERROR_CODE_CONFLICT,
                                                       "The upload is not known any more.");
        }
        t->request = req;
        free(t->path);
        t->path = xstrdup(m->path);
        int r = fstat(t->place, &st) < 0                ? -errno
                : (uint64_t) st.st_size > SLOT_FILE_MAX ? -EFBIG
                                                        : 0;
        struct guest *g = slot_guest(s);
        if (r == 0 && !g)
                r = -ENOTCONN;
        if (r == 0) {
                t->size = (uint64_t) st.st_size;
                r = guest_write_beneath(g, slot_epoch(s), t->path, TAKE_FD(t->place), on_stored, t);
        }
        if (r < 0)
                refuse(t, r);
        return 0;
}

static void on_removed(void *userdata, int r)
{
        struct transfer *t = userdata;
        if (r < 0) {
                refuse(t, r);
                return;
        }
        if (t->files)
                (void) fdlink_reply(t->request, &(struct ok_reply){ 0 }, -1);
        transfer_free(t);
}

int slot_files_delete(struct slot_files *f, struct slot *s, struct fdlink_request *req,
                      const struct slot_file_delete *m)
{
        struct transfer *t;
        if (transfer_new(f, s, req, m->path, &t) < 0)
                return 0;
        int r = guest_remove_beneath(slot_guest(s), slot_epoch(s), t->path, on_removed, t);
        if (r < 0)
                refuse(t, r);
        return 0;
}

void slot_files_gone(struct slot_files *f, uint64_t connection)
{
        struct transfer *t, *next;
        list_foreach_safe (t, next, &f->transfers, link)
                if (t->connection == connection && !t->request)
                        transfer_free(t);
}

struct slot_files *slot_files_new(void)
{
        struct slot_files *f = xnew(struct slot_files);
        list_init(&f->transfers);
        return f;
}

struct slot_files *slot_files_free(struct slot_files *f)
{
        struct transfer *t, *next;
        if (!f)
                return NULL;
        list_foreach_safe (t, next, &f->transfers, link) {
                list_remove(&t->link);
                t->files = NULL;
                if (!t->request) /* a place; the others end with their calls */
                        transfer_free(t);
        }
        free(f);
        return NULL;
}
