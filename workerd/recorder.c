/* From the screen to pieces of a recording in the document store. */
#include "recorder.h"

#include <fcntl.h>
#include <libdeflate.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/list.h"
#include "common/io/daemon.h"
#include "common/io/jobs.h"
#include "common/io/log.h"
#include "record.h"

#define JOBS_MAX 16
#define COMPRESSION 3
#define RETRY_USEC (2 * USEC_PER_SEC)
#define ATTEMPTS_MAX 5

struct recorders {
        sd_event *event;
        struct documents *documents;
        struct jobs *jobs;
        struct list pieces; /* compressed or being so, not stored yet; oldest first */
        unsigned n;
        struct loop_timer retry;
};

/* A closed piece on its way. */
struct piece {
        struct list link;
        struct recorders *all;
        struct job job;
        struct buf raw;
        int fd; /* compressed; -1 while it is not */
        size_t size;
        bool compressing, sending;
        unsigned attempts;
        char *tenant, *session_id;
        struct document_recording facts;
};

struct recorder {
        struct recorder_config c;
        char *tenant, *session_id;
        struct record record;
        struct loop_timer tick;
        uint64_t opened_at; /* monotonic */
        uint64_t generation, n_pieces;
};

/* ---- pieces ---- */

static void piece_free(struct piece *p)
{
        list_remove(&p->link);
        p->all->n--;
        fd_close(p->fd);
        buf_done(&p->raw);
        free(p->tenant);
        free(p->session_id);
        free(p);
}

static void send_next(struct recorders *all);

static void on_stored(void *userdata, int r, struct span document, const char *why)
{
        struct piece *p = userdata;
        struct recorders *all = p->all;

        p->sending = false;
        if (r >= 0 || ++p->attempts >= ATTEMPTS_MAX) {
                if (r < 0)
                        log_warning("session %s: a piece of the recording is lost: %s",
                                    p->session_id, why);
                piece_free(p);
                send_next(all);
        } else {
                loop_timer_arm(&all->retry, RETRY_USEC);
        }
}

/* One at a time, in order. */
static void send_next(struct recorders *all)
{
        struct piece *p = list_first(&all->pieces, struct piece, link);
        int fd, r;

        if (!p || p->sending || p->compressing)
                return;
        fd = fcntl(p->fd, F_DUPFD_CLOEXEC, 3);
        r = fd < 0 ? -errno
                   : documents_record(all->documents,
                                      &(struct document_new){ .tenant = p->tenant,
                                                              .session_id = p->session_id,
                                                              .fd = fd,
                                                              .size = p->size,
                                                              .filename = "recording" },
                                      &p->facts, on_stored, p);
        p->sending = r >= 0;
        if (r < 0)
                loop_timer_arm(&all->retry, RETRY_USEC);
}

static void on_retry(void *userdata)
{
        send_next(userdata);
}

static int write_all(int fd, const char *data, size_t n)
{
        while (n > 0) {
                ssize_t w = write(fd, data, n);
                if (w < 0 && errno == EINTR)
                        continue;
                if (w < 0)
                        return -errno;
                data += w;
                n -= (size_t) w;
        }
        return 0;
}

/* On the thread. */
static int compress(struct job *j)
{
        struct piece *p = container_of(j, struct piece, job);
        struct libdeflate_compressor *c = libdeflate_alloc_compressor(COMPRESSION);
        size_t bound = c ? libdeflate_gzip_compress_bound(c, p->raw.len) : 0;
        cleanup_free char *out = c ? malloc(bound) : NULL;
        size_t n = out ? libdeflate_gzip_compress(c, p->raw.data, p->raw.len, out, bound) : 0;

        if (c)
                libdeflate_free_compressor(c);
        if (n == 0)
                return -ENOMEM;
        p->fd = memfd_create("recording", MFD_CLOEXEC);
        p->size = n;
        return p->fd < 0 ? -errno : write_all(p->fd, out, n);
}

static void compressed(struct job *j, int r)
{
        struct piece *p = container_of(j, struct piece, job);
        struct recorders *all = p->all;

        p->compressing = false;
        buf_done(&p->raw);
        if (r < 0) {
                if (r != -ECANCELED)
                        (void) log_errno(LOG_WARNING, r, "a piece of a recording is lost");
                piece_free(p);
        }
        if (r != -ECANCELED)
                send_next(all);
}

/* The oldest that nobody works on makes room. */
static void make_room(struct recorders *all)
{
        struct piece *p, *next;

        if (all->n < RECORDER_WAITING)
                return;
        list_foreach_safe (p, next, &all->pieces, link)
                if (!p->compressing && !p->sending) {
                        log_warning("session %s: a piece of the recording is lost: the document "
                                    "store is too slow",
                                    p->session_id);
                        piece_free(p);
                        return;
                }
}

static void close_piece(struct recorder *r)
{
        struct recorders *all = r->c.recorders;
        struct piece *p;

        if (!record_open(&r->record))
                return;
        make_room(all);
        p = xnew(struct piece);
        *p = (struct piece){ .all = all, .fd = -1, .raw = record_take(&r->record) };
        p->tenant = xstrdup(r->tenant);
        p->session_id = xstrdup(r->session_id);
        p->facts = (struct document_recording){ .epoch = r->c.epoch,
                                                .piece = ++r->n_pieces,
                                                .started_us = r->record.started_us,
                                                .ended_us = r->record.ended_us,
                                                .first_seq = r->record.first_seq,
                                                .last_seq = r->record.last_seq,
                                                .width = r->record.width,
                                                .height = r->record.height,
                                                .frames = r->record.frames };
        p->job = (struct job){ .run = compress, .done = compressed };
        list_push_back(&all->pieces, &p->link);
        all->n++;
        p->compressing = true;
        if (all->n > RECORDER_WAITING || jobs_submit(all->jobs, &p->job) < 0) {
                log_warning("session %s: a piece of the recording is lost: there are too many",
                            p->session_id);
                piece_free(p);
        }
}

/* ---- looking at the screen ---- */

static void look(struct recorder *r)
{
        struct screen *screen = slot_screen(r->c.slot);
        unsigned width = 0, height = 0;
        const uint32_t *pixels = screen ? screen_pixels(screen, &width, &height) : NULL;
        uint64_t now = now_monotonic(), generation;

        if (!pixels) {
                close_piece(r);
                return;
        }
        if (record_open(&r->record) &&
            (width != r->record.width || height != r->record.height ||
             now > r->opened_at + r->c.piece_usec || r->record.raw.len > RECORD_RAW_MAX))
                close_piece(r);
        generation = screen_generation(screen);
        if (generation == r->generation && r->n_pieces + record_open(&r->record) > 0)
                return; /* a piece begins with what is new */
        r->generation = generation;
        if (record_open(&r->record)) {
                (void) record_frame(&r->record, pixels, now_realtime(), r->c.seq(r->c.userdata));
                return;
        }
        record_begin(&r->record, pixels, width, height, now_realtime(), r->c.seq(r->c.userdata));
        r->opened_at = now;
}

static void on_tick(void *userdata)
{
        struct recorder *r = userdata;

        look(r);
        loop_timer_arm(&r->tick, USEC_PER_SEC / r->c.frames_per_second);
}

void recorder_discard(struct recorder *r)
{
        struct piece *p, *next;

        if (!r)
                return;
        buf_clear(&r->record.raw);
        list_foreach_safe (p, next, &r->c.recorders->pieces, link)
                if (!p->compressing && !p->sending && streq(p->session_id, r->session_id))
                        piece_free(p);
}

/* ---- life ---- */

int recorder_new(const struct recorder_config *c, struct recorder **ret)
{
        struct recorder *r = xnew(struct recorder);
        int e;

        r->c = *c;
        r->tenant = xstrdup(c->tenant);
        r->session_id = xstrdup(c->session_id);
        e = loop_timer_init(&r->tick, c->recorders->event, on_tick, r);
        if (e < 0) {
                (void) recorder_free(r);
                return e;
        }
        loop_timer_arm(&r->tick, 0);
        *ret = r;
        return 0;
}

struct recorder *recorder_free(struct recorder *r)
{
        if (!r)
                return NULL;
        close_piece(r);
        loop_timer_done(&r->tick);
        record_done(&r->record);
        free(r->tenant);
        free(r->session_id);
        free(r);
        return NULL;
}

int recorders_new(sd_event *e, struct documents *documents, struct recorders **ret)
{
        CLEANUP(recorders_freep) struct recorders *r = xnew(struct recorders);
        int q;

        r->event = e;
        r->documents = documents;
        list_init(&r->pieces);
        q = jobs_new(e, JOBS_MAX, &r->jobs);
        if (q >= 0)
                q = loop_timer_init(&r->retry, e, on_retry, r);
        if (q < 0)
                return q;
        *ret = TAKE_PTR(r);
        return 0;
}

struct recorders *recorders_free(struct recorders *r)
{
        struct piece *p, *next;

        if (!r)
                return NULL;
        r->jobs = jobs_free(r->jobs); /* frees what was being compressed */
        list_foreach_safe (p, next, &r->pieces, link) {
                if (p->sending)
                        documents_cancel(r->documents, p);
                piece_free(p);
        }
        loop_timer_done(&r->retry);
        free(r);
        return NULL;
}
