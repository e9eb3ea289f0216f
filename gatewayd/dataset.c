/* Turns the files of an upload into a volume. */
#include "gatewayd/dataset.h"

#include <assert.h>

#include "common/base/document.h"
#include "common/base/map.h"
#include "common/io/log.h"
#include "gatewayd/upload.h"

#define ACTIVE_MAX 8u /* uploads of one dataset that are open at once */

enum file_state {
        FILE_WAITING, /* for its turn */
        FILE_OPENING, /* for its descriptor */
        FILE_OPEN,
        FILE_ADDING, /* volume_add is under way */
        FILE_ADDED,
        FILE_STATE_MAX,
};

struct file {
        struct dataset *set;
        enum file_state state;
        struct upload *upload;
        char *path, *content_type;
        char id[UUID_MAX]; /* in the volume */
        struct buf early;  /* came before the descriptor */
        bool ended, blocked;
};

struct dataset {
        struct gateway *gateway;
        struct dataset_events events;
        char *tenant, *session_id, *volume_name;
        struct map *names; /* every file and folder so far */
        struct file *files[DATASET_FILES_MAX];
        size_t n, active, added, unready, blocked, first_waiting;
        size_t calls; /* unanswered */
        bool sent;    /* docserverd may know the volume */
        bool inside, orphan, kept, finishing, committing;
        bool failed;
        enum error_code code;
        char field[16], message[500];
};

static const char is_file, is_folder;

/* The only way to change a state; a file only goes on. */
static void file_set_state(struct file *f, enum file_state to)
{
        assert(to > f->state && to < FILE_STATE_MAX);
        f->state = to;
}

/* ---- failure and the end ---- */

static int fail(struct dataset *d, enum error_code code, const char *field, const char *fmt, ...)
        printf_like(4, 5);
static int fail(struct dataset *d, enum error_code code, const char *field, const char *fmt, ...)
{
        va_list ap;
        if (d->failed || d->orphan)
                return -ECANCELED;
        d->failed = true;
        d->code = code;
        (void) snprintf(d->field, sizeof(d->field), "%s", field ? field : "");
        va_start(ap, fmt);
        (void) vsnprintf(d->message, sizeof(d->message), fmt, ap);
        va_end(ap);
        if (!d->inside)
                d->events.failed(d->events.userdata);
        return -ECANCELED;
}

static void busy(struct dataset *d)
{
        (void) fail(d, ERROR_CODE_UNAVAILABLE, NULL,
                    "The document service cannot take the files right now; try again.");
}

static void fail_as_told(struct dataset *d, int r, const void *reply)
{
        const struct error_reply *e = reply;
        if (r == -EREMOTEIO && e && e->message)
                (void) fail(d, e->code, "files", "%s", e->message);
        else
                busy(d);
}

void dataset_reply_error(const struct dataset *d, struct http_request *req)
{
        http_reply_error(req, d->code, d->field[0] ? d->field : NULL, "%s", d->message);
}

static void on_volume_dropped(void *userdata, int r, const void *reply)
{
        if (r < 0)
                log_debug("An unfinished volume is left to docserverd's sweep");
}

static int call(struct dataset *d, const struct wire_msg *type, const void *msg, uint64_t timeout,
                rpc_reply_fn fn, void *userdata)
{
        struct rpc_link *link = d->gateway->documents;
        return link ? rpc_call(rpc_client_peer(link), type, msg, timeout, fn, userdata) : -ENOTCONN;
}

static void release(struct dataset *d)
{
        if (d->sent && !d->kept) {
                const struct volume_drop m = { .tenant = d->tenant, .volume_name = d->volume_name };
                if (call(d, &wire_volume_drop, &m, d->gateway->settings->request_timeout,
                         on_volume_dropped, NULL) < 0)
                        on_volume_dropped(NULL, -ENOTCONN, NULL);
        }
        for (size_t i = 0; i < d->n; i++) {
                free(d->files[i]->path);
                free(d->files[i]->content_type);
                buf_done(&d->files[i]->early);
                free(d->files[i]);
        }
        map_free(d->names);
        free(d->tenant);
        free(d->session_id);
        free(d->volume_name);
        free(d);
}

struct dataset *dataset_free(struct dataset *d)
{
        if (!d)
                return NULL;
        d->orphan = true;
        for (size_t i = 0; i < d->n; i++)
                d->files[i]->upload = upload_free(d->files[i]->upload);
        if (d->calls ==
            0) /* else whoever gets the last answer: a file added late is removed, too */
                release(d);
        return NULL;
}

/* An answer came. False: the dataset is gone, or will be. */
static bool answered(struct dataset *d)
{
        d->calls--;
        if (d->orphan && d->calls == 0)
                release(d);
        else if (!d->orphan)
                return !d->failed;
        return false;
}

/* ---- from file to file ---- */

static void on_committed(void *userdata, int r, const void *reply)
{
        struct dataset *d = userdata;
        if (!answered(d))
                return;
        if (r < 0)
                busy(d);
        else
                d->events.done(d->events.userdata);
}

static void commit(struct dataset *d)
{
        const struct volume_commit m = { .tenant = d->tenant,
                                         .volume_name = d->volume_name,
                                         .file_count = d->n };
        d->committing = true;
        if (call(d, &wire_volume_commit, &m, d->gateway->settings->request_timeout, on_committed,
                 d) < 0)
                busy(d);
        else
                d->calls++;
}

static void pump(struct dataset *d);

/* What changed may have made room, or have been the last. */
static void moved(struct dataset *d)
{
        bool outside = !d->inside;
        d->inside = true; /* whoever hears of a failure may free the dataset: at the end only */
        pump(d);
        d->inside = !outside;
        if (!outside)
                return;
        if (d->failed) {
                d->events.failed(d->events.userdata);
                return;
        }
        if (d->finishing && !d->committing && d->added == d->n)
                commit(d);
        else if (!dataset_full(d))
                d->events.room(d->events.userdata);
}

static void on_added(void *userdata, int r, const void *reply)
{
        struct file *f = userdata;
        struct dataset *d = f->set;
        const struct volume_added *m = reply;
        if (!answered(d))
                return;
        if (r < 0) {
                fail_as_told(d, r, reply);
                return;
        }
        f->upload = upload_free(f->upload);
        file_set_state(f, FILE_ADDED);
        (void) snprintf(f->id, sizeof(f->id), "%s", m->file_id);
        d->active--;
        d->added++;
        moved(d);
}

static void on_closed(void *userdata)
{
        struct file *f = userdata;
        struct dataset *d = f->set;
        const struct volume_add m = {
                .tenant = d->tenant,
                .volume_name = d->volume_name,
                .session_id = d->session_id,
                .upload_id = upload_id(f->upload),
                .size_bytes = upload_size(f->upload),
                .path = f->path,
                .content_type = f->content_type,
        };
        int r = call(d, &wire_volume_add, &m, upload_timeout(f->upload), on_added, f);
        if (r < 0) {
                busy(d);
                return;
        }
        upload_used(f->upload);
        file_set_state(f, FILE_ADDING);
        d->sent = true;
        d->calls++;
}

static void on_write_failed(void *userdata, int r)
{
        struct file *f = userdata;
        if (r == -EFBIG) {
                (void) fail(f->set, ERROR_CODE_TOO_LARGE, "files",
                            "The file %.200s is larger than is allowed here.", f->path);
                return;
        }
        log_errno(LOG_ERR, r, "Writing an upload failed");
        (void) fail(f->set, ERROR_CODE_UNAVAILABLE, NULL,
                    r == -ENOSPC || r == -EDQUOT
                            ? "There is no room for the files right now."
                            : "The files cannot be written right now; try again.");
}

static void on_room(void *userdata)
{
        struct file *f = userdata;
        f->blocked = false;
        f->set->blocked--;
        moved(f->set);
}

static void write_file(struct file *f, struct span data)
{
        int r = upload_write(f->upload, data);
        if (r < 0)
                on_write_failed(f, r);
        else if (r == 1 && !f->blocked) {
                f->blocked = true;
                f->set->blocked++;
        }
}

static void close_file(struct file *f)
{
        if (f->blocked) { /* closing takes the promise of room back */
                f->blocked = false;
                f->set->blocked--;
        }
        upload_close(f->upload);
}

static void on_ready(void *userdata, int r, const void *reply)
{
        struct file *f = userdata;
        struct dataset *d = f->set;
        if (r < 0) {
                fail_as_told(d, r, reply);
                return;
        }
        file_set_state(f, FILE_OPEN);
        d->unready--;
        d->inside = true;
        if (buf_pending(&f->early) > 0)
                write_file(f, (struct span){ buf_head(&f->early), buf_pending(&f->early) });
        buf_done(&f->early);
        if (!d->failed && f->ended)
                close_file(f);
        d->inside = false;
        if (d->failed)
                d->events.failed(d->events.userdata);
        else
                moved(d);
}

static void pump(struct dataset *d)
{
        while (d->first_waiting < d->n && d->active < ACTIVE_MAX) {
                struct file *f = d->files[d->first_waiting++];
                const struct upload_events events = { .ready = on_ready,
                                                      .room = on_room,
                                                      .failed = on_write_failed,
                                                      .closed = on_closed,
                                                      .userdata = f };
                file_set_state(f, FILE_OPENING);
                d->active++;
                if (upload_new(d->gateway, d->tenant, 0, &events, &f->upload) < 0) {
                        busy(d);
                        return;
                }
        }
}

/* ---- what the form says ---- */

struct dataset *dataset_new(struct gateway *g, const char *tenant, const char *session_id,
                            const char *volume_name, const struct dataset_events *events)
{
        struct dataset *d = xnew(struct dataset);
        d->gateway = g;
        d->events = *events;
        d->tenant = xstrdup(tenant);
        d->session_id = xstrdup(session_id);
        d->volume_name = xstrdup(volume_name);
        d->names = map_new();
        return d;
}

void dataset_keep(struct dataset *d)
{
        d->kept = true;
}

/* A file cannot be where a folder or another file is. */
static int take_name(struct dataset *d, const char *path)
{
        char part[DOCUMENT_PATH_MAX + 1];
        for (const char *p = strchr(path, '/'); p; p = strchr(p + 1, '/')) {
                (void) snprintf(part, sizeof(part), "%.*s", (int) (p - path), path);
                if (map_get(d->names, part) == &is_file)
                        return fail(d, ERROR_CODE_BAD_REQUEST, "files",
                                    "The path %.200s is both a file and a folder.", part);
                (void) map_set(d->names, part, (void *) (uintptr_t) &is_folder);
        }
        if (map_get(d->names, path))
                return fail(d, ERROR_CODE_BAD_REQUEST, "files", "The path %.200s is given twice.",
                            path);
        (void) map_set(d->names, path, (void *) (uintptr_t) &is_file);
        return 0;
}

int dataset_begin_file(struct dataset *d, const char *path, const char *content_type)
{
        int r = 0;
        d->inside = true;
        const char *why = document_path_problem(path);
        if (why)
                r = fail(d, ERROR_CODE_BAD_REQUEST, "files", "A file's path %s.", why);
        else if (content_type && (why = document_content_type_problem(content_type)))
                r = fail(d, ERROR_CODE_BAD_REQUEST, "files", "A file's Content-Type %s.", why);
        else if (d->n == DATASET_FILES_MAX)
                r = fail(d, ERROR_CODE_TOO_LARGE, "files", "An upload may have %u files.",
                         DATASET_FILES_MAX);
        else
                r = take_name(d, path);
        if (r == 0) {
                struct file *f = xnew(struct file);
                f->set = d;
                f->path = xstrdup(path);
                f->content_type = xstrdup(content_type);
                d->files[d->n++] = f;
                d->unready++;
                pump(d);
        }
        d->inside = false;
        return d->failed ? -ECANCELED : 0;
}

int dataset_write(struct dataset *d, struct span data)
{
        struct file *f = d->files[d->n - 1];
        d->inside = true;
        if (f->state == FILE_OPEN)
                write_file(f, data);
        else
                buf_put(&f->early, data.data, data.len); /* no more than what was read at once */
        d->inside = false;
        return d->failed ? -ECANCELED : 0;
}

int dataset_end_file(struct dataset *d)
{
        struct file *f = d->files[d->n - 1];
        d->inside = true;
        f->ended = true;
        if (f->state == FILE_OPEN)
                close_file(f);
        d->inside = false;
        return d->failed ? -ECANCELED : 0;
}

int dataset_finish(struct dataset *d)
{
        d->finishing = true;
        d->inside = true;
        if (d->added == d->n)
                commit(d);
        d->inside = false;
        return d->failed ? -ECANCELED : 0;
}

bool dataset_full(const struct dataset *d)
{
        return d->unready > 0 || d->blocked > 0;
}

size_t dataset_count(const struct dataset *d)
{
        return d->n;
}

void dataset_file(const struct dataset *d, size_t i, const char **ret_id, const char **ret_path)
{
        *ret_id = d->files[i]->id;
        *ret_path = d->files[i]->path;
}
