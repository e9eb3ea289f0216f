/* Takes exports of recordings from the queue, has them made in a slot, and keeps what became of
 * them. */
#include "exports.h"

#include "common/base/fault.h"
#include "common/io/log.h"
#include "docserverd/film.h"
#include "runners.h"
#include "store-exports.h"

#define POLL (10 * USEC_PER_SEC)   /* when nobody tells of new ones */
#define GRACE (120 * USEC_PER_SEC) /* making the slot; the worker ends it in its time */
#define ATTEMPTS_MAX 3u
#define RETRY_FIRST (2 * USEC_PER_SEC)
#define TELL_USEC USEC_PER_SEC /* between two words on how far it is */
#define PIECES_MAX 20000u      /* job_film holds no more */

/* The one that is under way. */
struct export
{
        struct exports *all;
        char *id, *session_id;
        uint64_t number, attempts, told_at;
        bool running, unwanted;
};

struct exports {
        struct docserver *server;
        struct loop_timer poll;
        struct export *now;
        uint64_t n;       /* taken so far */
        uint64_t telling; /* number of the one whose progress is being stored; 0: none */
        bool claiming, poked;
};

static void claim(struct exports *x);

/* ---- the end of one ---- */

static void export_free(struct export *e)
{
        if (e) {
                free(e->id);
                free(e->session_id);
        }
        free(e);
}

static void export_end(struct export *e)
{
        struct exports *x = e->all;

        x->now = NULL;
        export_free(e);
        loop_timer_arm(&x->poll, 0);
}

static void on_moved(void *userdata, int r)
{
        /* When the row could not be written it says 'running' still, and is taken again. */
        export_end(userdata);
}

static void move(struct export *e, const struct store_export_move *m)
{
        struct store_export_move to = *m;

        to.id = e->id;
        e->running = false;
        log_info("Export %s: %s%s%s", e->id, to.to, to.error ? ", " : "", to.error ? to.error : "");
        if (store_export_move(e->all->server->pg, &to, on_moved, e) < 0)
                on_moved(e, -EAGAIN);
}

static void fail(struct export *e, const char *why)
{
        move(e, &(struct store_export_move){ .to = "failed", .error = why });
}

/* Something broke that may not break again. */
static void again(struct export *e, const char *why)
{
        if (e->attempts >= ATTEMPTS_MAX)
                fail(e, why);
        else
                move(e, &(struct store_export_move){ .to = "queued",
                                                     .error = why,
                                                     .wait_us = RETRY_FIRST << e->attempts });
}

/* ---- the slot ---- */

static void on_filmed(void *userdata, int r, const void *reply)
{
        struct export *e = userdata;
        const struct job_filmed *m = reply;
        const struct error_reply *error = r == -EREMOTEIO ? reply : NULL;

        e->running = false;
        if (r == 0 && !e->unwanted) {
                crash_point("docserver.filmed");
                move(e, &(struct store_export_move){
                                .to = "done", .document = m->document_id, .size = m->size_bytes });
        } else if (r == -ECANCELED || e->unwanted) {
                export_end(e);
        } else if (error && error->code != ERROR_CODE_UNAVAILABLE)
                fail(e, error->message);
        else
                again(e, runner_failure(r, reply));
}

static int film(struct export *e, const struct store_export *s, const char **pieces, size_t n)
{
        struct docserver *d = e->all->server;
        const struct docserver_settings *set = d->settings;
        cleanup_free char *key = xasprintf("recording-export/%s", s->id);

        return runners_call(d->runners, RUNNER_SLOT, &wire_job_film,
                            &(struct job_film){
                                    .job_id = s->id,
                                    .tenant = s->tenant,
                                    .session_id = s->session_id,
                                    .program = span_of(film_py),
                                    .pieces = pieces,
                                    .n_pieces = n,
                                    .format = s->format,
                                    .width = (uint32_t) s->width,
                                    .height = (uint32_t) s->height,
                                    .filename = s->filename,
                                    .idempotency_key = key,
                                    .time_ms = (uint32_t) (set->export_time / USEC_PER_MSEC),
                                    .bytes_max = set->export_max,
                            },
                            set->export_time + GRACE, on_filmed, e);
}

static void start(struct export *e, const struct store_export *s)
{
        cleanup_free char *list = xstrdup(s->pieces);
        cleanup_free const char **pieces = xnewn(const char *, PIECES_MAX + 1);
        size_t n = 0;
        char *rest = list;

        for (char *id; n <= PIECES_MAX && (id = strsep(&rest, ","));)
                pieces[n++] = id;
        if (n > PIECES_MAX) {
                fail(e, "the recording is too long for one video");
                return;
        }
        int r = film(e, s, pieces, n);
        if (r == -EAGAIN || r == -ENODEV) /* it was there a moment ago */
                move(e, &(struct store_export_move){ .to = "queued", .wait_us = RETRY_FIRST });
        else if (r < 0)
                again(e, runner_failure(r, NULL));
        else
                e->running = true;
}

/* ---- the queue ---- */

static void on_claimed(void *userdata, int r, const struct store_export *s)
{
        struct exports *x = userdata;

        x->claiming = false;
        if (!s) {
                loop_timer_arm(&x->poll, x->poked ? 0 : POLL);
                x->poked = false;
                return;
        }
        struct export *e = xnew(struct export);
        *e = (struct export){ .all = x,
                              .id = xstrdup(s->id),
                              .session_id = xstrdup(s->session_id),
                              .number = ++x->n,
                              .attempts = s->attempts };
        x->now = e;
        if (s->document)
                move(e, &(struct store_export_move){
                                .to = "done", .document = s->document, .size = s->size });
        else if (!s->pieces)
                fail(e, "the recording was removed");
        else if (s->attempts > ATTEMPTS_MAX)
                fail(e, "it was cut off three times");
        else
                start(e, s);
}

static void claim(struct exports *x)
{
        struct runners_load load;

        runners_load(x->server->runners, &load);
        if (x->now || x->claiming || load.slots_busy >= load.slots ||
            (load.slots > 1 && load.slots - load.slots_busy < 2))
                return; /* runners poke when there is room */
        x->claiming = store_export_claim(x->server->pg, on_claimed, x) == 0;
        if (!x->claiming)
                loop_timer_arm(&x->poll, POLL);
}

static void on_poll(void *userdata)
{
        claim(userdata);
}

void exports_poke(struct exports *x)
{
        if (!x)
                return;
        x->poked = x->claiming;
        claim(x);
}

/* ---- how far it is ---- */

static void unwanted(struct export *e)
{
        if (e->unwanted || !e->running)
                return;
        e->unwanted = true;
        runners_cancel(e->all->server->runners, e, e->id);
}

void exports_dropped(struct exports *x, const char *session_id)
{
        if (x->now && streq(x->now->session_id, session_id))
                unwanted(x->now);
}

static void on_told(void *userdata, int r)
{
        struct exports *x = userdata;

        /* Cancelled, or its session was deleted. It may have ended meanwhile, too. */
        if (r == -ENOENT && x->now && x->now->number == x->telling)
                unwanted(x->now);
        x->telling = 0;
}

int route_job_progress(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                       const void *msg)
{
        struct docserver *d = userdata;
        struct exports *x = d->exports;
        const struct job_progress *m = msg;
        struct export *e = x ? x->now : NULL;
        uint64_t now = now_monotonic();

        if (!e || !e->running || x->telling || !streq(e->id, m->job_id) ||
            now < e->told_at + TELL_USEC)
                return 0;
        e->told_at = now;
        if (store_export_progress(d->pg, e->id, MIN(m->percent, 99U), on_told, x) == 0)
                x->telling = e->number;
        return 0;
}

/* ---- what people ask for ---- */

static void on_begun(void *userdata, int r, const char *json)
{
        struct rpc_request *req = userdata;

        if (r < 0)
                docserver_reply_failure(req, r);
        else if (streq(json, "none"))
                rpc_reply_error(req, ERROR_CODE_CONFLICT, "Nothing was recorded of this session.");
        else if (streq(json, "many"))
                rpc_reply_error(req, ERROR_CODE_RATE_LIMITED,
                                "Too many exports are under way; wait for one to end.");
        else
                rpc_reply(req, &(struct recording_export_reply){ .export_json = span_of(json) });
}

int route_recording_export(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                           const void *msg)
{
        struct docserver *d = userdata;
        const struct recording_export *m = msg;
        struct runners_load load;
        char id[UUID_MAX];

        runners_load(d->runners, &load);
        if (load.slots == 0)
                return rpc_reply_error(req, ERROR_CODE_UNAVAILABLE,
                                       "No worker makes videos now: start one that serves jobs "
                                       "(berth-workerd@65).");
        uuid_make(id);
        int r = store_export_begin(d->pg, id, m->tenant, m->session_id, m->format, m->filename,
                                   d->settings->exports_max, on_begun, req);
        if (r < 0)
                docserver_reply_failure(req, r);
        else
                loop_timer_arm(&d->exports->poll, 0);
        return 0;
}

struct cancel {
        struct exports *all;
        struct rpc_request *req;
        char *id;
};

static void on_cancelled(void *userdata, int r, const char *json)
{
        struct cancel *c = userdata;
        struct export *now = c->all->now;

        if (r == -EEXIST)
                rpc_reply_error(c->req, ERROR_CODE_CONFLICT, "The export has ended.");
        else if (r == -ENOENT)
                rpc_reply_error(c->req, ERROR_CODE_NOT_FOUND,
                                "The session has no export of that id.");
        else
                on_begun(c->req, r, json);
        if (r == 0 && now && streq(now->id, c->id))
                unwanted(now);
        free(c->id);
        free(c);
}

int route_recording_export_cancel(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                                  const void *msg)
{
        struct docserver *d = userdata;
        const struct recording_export_cancel *m = msg;
        struct cancel *c = xnew(struct cancel);

        *c = (struct cancel){ .all = d->exports, .req = req, .id = xstrdup(m->export_id) };
        int r = store_export_cancel(d->pg, m->tenant, m->session_id, m->export_id, on_cancelled, c);
        if (r < 0)
                on_cancelled(c, r, NULL);
        return 0;
}

/* ---- start and end ---- */

struct exports *exports_new(struct docserver *d)
{
        struct exports *x = xnew(struct exports);

        x->server = d;
        if (loop_timer_init(&x->poll, d->event, on_poll, x) < 0)
                return exports_free(x);
        loop_timer_arm(&x->poll, USEC_PER_SEC);
        return x;
}

struct exports *exports_free(struct exports *x)
{
        if (!x)
                return NULL;
        export_free(x->now);
        loop_timer_done(&x->poll);
        free(x);
        return NULL;
}
