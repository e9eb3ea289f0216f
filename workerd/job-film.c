/* Makes one video: streams the pieces of a recording to a program in the slot, stores its file. */
#include "job-film.h"

#include <unistd.h>

#include "common/base/json.h"
#include "common/io/daemon.h"

#define PROGRAM "film.py"
#define ERRORS_KEPT 2000u
#define CHUNK (64 * KIB)
#define STORED_PERCENT                                                                             \
        95u /* when the last piece is in; the rest is the encoder's and the store's */

struct film {
        struct film_config c;
        char *id, *tenant, *session_id, *program, *format, *filename, *key, *video;
        char **pieces;
        size_t n_pieces, at; /* the piece under way */
        uint32_t width, height;
        uint64_t bytes_max, time_usec, began_at;
        int fd; /* of the piece; -1: it is not open */
        bool opening, fed;
        uint64_t size, sent; /* of the piece */
        uint64_t video_size;
        unsigned percent;
        struct buf errors;
        struct loop_timer deadline;
        struct loop_task failed; /* tells of a failure from the loop, not from inside film_begin */
        int problem;
        char *why;
        struct slot *slot;
        uint64_t epoch;
        struct guest_command *command;
};

struct film *film_free(struct film *f)
{
        if (!f)
                return NULL;
        documents_cancel(f->c.documents, f);
        if (f->slot && slot_guest(f->slot)) {
                guest_cancel(slot_guest(f->slot), f);
                if (f->command)
                        guest_command_forget(f->command);
        }
        (void) fd_close(f->fd);
        for (size_t i = 0; i < f->n_pieces; i++)
                free(f->pieces[i]);
        free(f->pieces);
        buf_done(&f->errors);
        loop_timer_done(&f->deadline);
        loop_task_done(&f->failed);
        free(f->id);
        free(f->tenant);
        free(f->session_id);
        free(f->program);
        free(f->format);
        free(f->filename);
        free(f->key);
        free(f->video);
        free(f->why);
        free(f);
        return NULL;
}

/* ---- the end ---- */

static void on_failed(void *userdata)
{
        struct film *f = userdata;
        cleanup_free char *why = TAKE_PTR(f->why);
        struct film_config c = f->c;
        int r = f->problem;

        film_free(f);
        c.done(c.userdata, r, NULL, why);
}

static void fail(struct film *f, int r, const char *why)
{
        if (f->why)
                return;
        f->problem = r;
        f->why = xstrdup(why);
        loop_task_queue(&f->failed);
}

static void on_deadline(void *userdata)
{
        fail(userdata, -ETIMEDOUT, "it took longer than export_time allows");
}

/* NULL when the slot has gone meanwhile. */
static struct guest *guest_of(struct film *f)
{
        struct guest *g = slot_guest(f->slot);

        if (!g)
                fail(f, -EAGAIN, "the slot was lost");
        return g;
}

static void tell(struct film *f, unsigned percent)
{
        if (percent == f->percent)
                return;
        f->percent = percent;
        f->c.progress(f->c.userdata, f->id, percent);
}

/* ---- the video ---- */

static void on_stored(void *userdata, int r, struct span document, const char *why)
{
        struct film *f = userdata;
        cleanup_json json_t *json = NULL;
        struct json_problem problem = { 0 };

        if (r == 0 && json_parse(document.data, document.len, &json, &problem) < 0)
                r = -EAGAIN;
        const char *id = json ? json_string_value(json_object_get(json, "id")) : NULL;
        if (r < 0 || !id) {
                fail(f, r == -EREMOTEIO ? r : -EAGAIN, why ? why : "the video was not stored");
                return;
        }
        const struct job_filmed filmed = {
                .document_id = id,
                .size_bytes = f->video_size,
                .duration_ms = (uint32_t) ((now_monotonic() - f->began_at) / USEC_PER_MSEC),
        };
        struct film_config c = f->c;
        film_free(f);
        c.done(c.userdata, 0, &filmed, NULL);
}

static void on_fetched(void *userdata, int r, int fd, uint64_t size)
{
        static const char *const tags[] = { "recording" };
        struct film *f = userdata;
        cleanup_free char *metadata = NULL;

        if (r < 0) {
                fail(f, r == -EFBIG ? -EFBIG : -EIO,
                     r == -EFBIG ? "the video would be larger than export_max allows"
                                 : "the program left no video");
                return;
        }
        cleanup_json json_t *about = json_pack("{s:s}", "recording_of", f->session_id);
        metadata = json_text(about);
        f->video_size = size;
        tell(f, 99);
        r = documents_store(f->c.documents,
                            &(struct document_new){ .tenant = f->tenant,
                                                    .session_id = f->session_id,
                                                    .fd = fd,
                                                    .size = size,
                                                    .filename = f->filename,
                                                    .tags = tags,
                                                    .n_tags = ARRAY_LEN(tags),
                                                    .metadata = metadata,
                                                    .idempotency_key = f->key },
                            on_stored, f);
        if (r < 0)
                fail(f, -EAGAIN, "the document store cannot be asked");
}

/* ---- the program ---- */

static void on_output(void *userdata, int stream, const char *data, size_t n)
{
        struct film *f = userdata;

        if (stream != 2)
                return;
        buf_put(&f->errors, data, n);
        if (buf_pending(&f->errors) > 8U * ERRORS_KEPT)
                buf_consume(&f->errors, buf_pending(&f->errors) - ERRORS_KEPT);
}

/* The last line of what it said is the most telling one. From a slot: hostile. */
static void fail_with_words(struct film *f, const struct guest_status *status)
{
        size_t cut =
                buf_pending(&f->errors) > ERRORS_KEPT ? buf_pending(&f->errors) - ERRORS_KEPT : 0;
        cleanup_free char *said = span_dup(
                (struct span){ buf_head(&f->errors) + cut, buf_pending(&f->errors) - cut });
        cleanup_free char *why = NULL;
        char *last = strstrip(said);

        if (strrchr(last, '\n'))
                last = strrchr(last, '\n') + 1;
        if (!utf8_valid(last, strlen(last)))
                last = said + strlen(said);
        if (status->signal == 9 || status->code == 137)
                why = xstrdup("making the video took too much memory");
        else if (*last)
                why = xasprintf("%.300s", last);
        else
                why = xasprintf("the program ended with status %d", status->code);
        fail(f, -EIO, utf8_valid(why, strlen(why)) ? why : "the program failed");
}

static void on_exit_of(void *userdata, const struct guest_status *status)
{
        struct film *f = userdata;
        struct guest *g;

        f->command = NULL;
        f->fd = fd_close(f->fd);
        if (status->error) {
                fail(f, -EAGAIN, status->error);
                return;
        }
        if (status->code != 0) {
                fail_with_words(f, status);
                return;
        }
        g = guest_of(f);
        if (g && guest_fetch_file(g, f->epoch, f->video, f->bytes_max, on_fetched, f) < 0)
                fail(f, -EAGAIN, "the slot was lost");
}

static void feed(void *userdata);

static void on_opened(void *userdata, int r, int fd, uint64_t size, const char *why)
{
        struct film *f = userdata;

        f->opening = false;
        if (r == -EREMOTEIO) { /* it was removed meanwhile: recordings lose their oldest pieces */
                f->at++;
                feed(f);
                return;
        }
        if (r < 0) {
                fail(f, -EAGAIN, why);
                return;
        }
        if (!f->command) { /* the program has ended early */
                fd_close(fd);
                return;
        }
        f->fd = fd;
        f->size = size;
        f->sent = 0;
        feed(f);
}

static void piece_done(struct film *f)
{
        f->fd = fd_close(f->fd);
        f->at++;
        tell(f, (unsigned) (f->at * STORED_PERCENT / f->n_pieces));
}

/* False: there is no room, or nothing more to send of it now. */
static bool feed_piece(struct film *f)
{
        static char chunk[CHUNK + sizeof(uint64_t)]; /* used within one call only */
        size_t head = 0;

        if (f->sent == 0) {
                uint64_t size = htole64(f->size);
                memcpy(chunk, &size, sizeof(size));
                head = sizeof(size);
        }
        size_t want = MIN(f->size - f->sent, (uint64_t) CHUNK);
        ssize_t n = want > 0 ? pread(f->fd, chunk + head, want, (off_t) f->sent) : 0;
        if (n != (ssize_t) want) {
                fail(f, -EAGAIN, "a piece of the recording cannot be read");
                return false;
        }
        if (guest_command_input(f->command, f->epoch, chunk, head + want, false) < 0)
                return false; /* full: on_input_room comes; ended: so does on_exit */
        f->sent += want;
        if (f->sent == f->size)
                piece_done(f);
        return true;
}

static void feed(void *userdata)
{
        struct film *f = userdata;

        while (f->command && !f->opening && !f->fed && !f->why) {
                if (f->fd >= 0) {
                        if (!feed_piece(f))
                                return;
                } else if (f->at == f->n_pieces) {
                        if (guest_command_input(f->command, f->epoch, "", 0, true) < 0)
                                return;
                        f->fed = true;
                } else {
                        f->opening = documents_open(f->c.documents, f->tenant, f->pieces[f->at],
                                                    on_opened, f) == 0;
                        if (!f->opening)
                                fail(f, -EAGAIN, "the document store cannot be asked");
                }
        }
}

static void start(struct film *f)
{
        cleanup_free char *width = xasprintf("%u", f->width), *height = xasprintf("%u", f->height);
        cleanup_free char *limit = xasprintf("%" PRIu64, f->bytes_max);
        const char *argv[] = { "python3", "-I", PROGRAM, f->format, width, height, limit, NULL };
        const struct guest_command_config config = {
                .argv = argv,
                .stdin_pipe = true,
                .on_output = on_output,
                .on_input_room = feed,
                .on_exit = on_exit_of,
                .userdata = f,
        };
        struct guest *g = guest_of(f);

        if (!g)
                return;
        if (guest_spawn(g, f->epoch, &config, &f->command) < 0)
                fail(f, -EAGAIN, "the slot cannot start the program");
        else
                feed(f);
}

static void on_placed(void *userdata, int r)
{
        if (r < 0)
                fail(userdata, -EAGAIN, "the program cannot be placed in the slot");
        else
                start(userdata);
}

void film_begin(struct film *f, struct slot *slot, uint64_t epoch)
{
        struct guest *g;

        f->slot = slot;
        f->epoch = epoch;
        f->began_at = now_monotonic();
        loop_timer_arm(&f->deadline, f->time_usec);
        g = guest_of(f);
        if (g &&
            guest_write_file(g, epoch, PROGRAM, f->program, strlen(f->program), on_placed, f) < 0)
                on_placed(f, -EIO);
}

bool film_begun(const struct film *f)
{
        return f->slot != NULL;
}

bool film_is(const struct film *f, const char *id)
{
        return streq(f->id, id);
}

int film_new(const struct film_config *c, const struct job_film *m, struct film **ret)
{
        CLEANUP(film_freep) struct film *f = xnew(struct film);
        int r;

        f->c = *c;
        f->fd = -1;
        if (m->n_pieces == 0 || (!streq(m->format, "webm") && !streq(m->format, "mp4")))
                return -EINVAL;
        r = loop_timer_init(&f->deadline, c->event, on_deadline, f);
        if (r == 0)
                r = loop_task_init(&f->failed, c->event, on_failed, f);
        if (r < 0)
                return r;
        f->id = xstrdup(m->job_id);
        f->tenant = xstrdup(m->tenant);
        f->session_id = xstrdup(m->session_id);
        f->program = span_dup(m->program);
        f->format = xstrdup(m->format);
        f->filename = xstrdup(m->filename);
        f->key = xstrdup(m->idempotency_key);
        f->video = xasprintf("video.%s", m->format);
        f->pieces = xnewn(char *, m->n_pieces);
        for (; f->n_pieces < m->n_pieces; f->n_pieces++)
                f->pieces[f->n_pieces] = xstrdup(m->pieces[f->n_pieces]);
        f->width = m->width;
        f->height = m->height;
        f->time_usec = MAX(m->time_ms, 1U) * USEC_PER_MSEC;
        f->bytes_max = m->bytes_max;
        *ret = TAKE_PTR(f);
        return 0;
}
