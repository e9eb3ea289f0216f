/* Takes out the garbage: blobs without a row, uploads that nobody finished, keys that are too old.
 */
#include "sweep.h"

#include "common/io/log.h"
#include "store-exports.h"
#include "store-recordings.h"
#include "uploads.h"

#define BATCH_MAX 1000u
#define UNLINK_SLICE 16u
#define TRIM_INTERVAL (30 * USEC_PER_SEC)
#define UPLOADS_INTERVAL (60 * USEC_PER_SEC)

struct sweep {
        struct docserver *server;
        struct loop_timer round, uploads, cache;
        unsigned change; /* of volumes that are too old */
        bool walking;    /* a round is on its way */
        bool trimming;   /* room is being made in the cache */
};

/* A round over the whole store, folder by folder; at most one at a time. */
struct walk {
        struct job job;
        struct sweep *sweep;
        struct blob_walk *blobs;
        struct blob_names names; /* old enough, not asked about yet */
        bool ended;              /* the last folder was read */
};

static void walk_end(struct walk *w)
{
        w->sweep->walking = false;
        loop_timer_arm(&w->sweep->round, w->sweep->server->settings->sweep_interval);
        blob_walk_free(w->blobs);
        blob_names_done(&w->names);
        free(w);
}

static void walk_next(struct walk *w)
{
        if (docserver_submit_store(w->sweep->server, &w->job) < 0)
                walk_end(w);
}

/* ---- one batch of blobs: own them, ask the database, unlink, give back ---- */

struct batch {
        struct job job;
        struct sweep *sweep;
        struct blob_names owned;
        struct blob_names unused;
        size_t done;       /* of the unused */
        struct walk *walk; /* whose round goes on after this, or NULL */
};

static void batch_end(struct batch *b)
{
        for (size_t i = 0; i < b->owned.n; i++)
                claims_disown(b->sweep->server->claims, b->owned.names[i]);
        if (b->walk)
                walk_next(b->walk);
        blob_names_done(&b->owned);
        blob_names_done(&b->unused);
        free(b);
}

static int batch_run(struct job *j)
{
        struct batch *b = container_of(j, struct batch, job);
        for (size_t n = 0; n < UNLINK_SLICE && b->done < b->unused.n; n++, b->done++) {
                int r = blob_unlink(b->sweep->server->blobs, b->unused.names[b->done]);
                if (r < 0)
                        return r; /* the rest stays for the next round */
        }
        return b->done < b->unused.n;
}

static void batch_done(struct job *j, int r)
{
        struct batch *b = container_of(j, struct batch, job);
        if (r < 0 && r != -ECANCELED)
                log_errno(LOG_WARNING, r, "Removing unused blobs failed");
        else if (r == 0)
                log_debug("Removed %zu unused blobs", b->unused.n);
        batch_end(b);
}

static void on_unreferenced(void *userdata, int r, const struct blob_names *names)
{
        struct batch *b = userdata;
        for (size_t i = 0; r == 0 && i < names->n; i++)
                blob_names_add(&b->unused, names->names[i]);
        if (r == 0 && b->unused.n > 0)
                r = docserver_submit_store(b->sweep->server, &b->job);
        if (r < 0 || b->unused.n == 0)
                batch_end(b);
}

static void batch_start(struct sweep *s, const struct blob_names *names, size_t from, size_t n,
                        struct walk *walk)
{
        struct batch *b = xnew(struct batch);
        b->job = (struct job){ .run = batch_run, .done = batch_done };
        b->sweep = s;
        b->walk = walk;
        for (size_t i = from; i < from + n; i++)
                if (claims_own(s->server->claims, names->names[i]))
                        blob_names_add(&b->owned, names->names[i]);
        if (b->owned.n == 0 || store_unreferenced(s->server->pg, &b->owned, on_unreferenced, b) < 0)
                batch_end(b);
}

void sweep_names(struct sweep *s, const struct blob_names *names)
{
        for (size_t from = 0; from < names->n; from += BATCH_MAX)
                batch_start(s, names, from, MIN(names->n - from, (size_t) BATCH_MAX), NULL);
}

/* ---- the cache of a remote store ---- */

struct trim {
        struct job job;
        struct sweep *sweep;
        struct blob_trim *blobs;
};

static int trim_run(struct job *j)
{
        return blob_trim_step(container_of(j, struct trim, job)->blobs);
}

static uint64_t trim_interval(const struct sweep *s)
{
        return MIN(s->server->settings->sweep_interval, (uint64_t) TRIM_INTERVAL);
}

static void trim_done(struct job *j, int r)
{
        struct trim *t = container_of(j, struct trim, job);
        if (r < 0 && r != -ECANCELED)
                log_errno(LOG_WARNING, r, "Making room in the cache of blobs failed");
        t->sweep->trimming = false;
        loop_timer_arm(&t->sweep->cache, trim_interval(t->sweep));
        (void) blob_trim_free(t->blobs);
        free(t);
}

static void on_cache(void *userdata)
{
        struct sweep *s = userdata;
        struct docserver *d = s->server;
        if (s->trimming || !blob_store_is_remote(d->blobs))
                return;
        struct trim *t = xnew(struct trim);
        t->job = (struct job){ .run = trim_run, .done = trim_done };
        t->sweep = s;
        t->blobs = blob_trim_new(d->blobs, d->settings->blob_cache_max);
        s->trimming = true;
        if (docserver_submit(d, &t->job) < 0)
                trim_done(&t->job, 0);
}

/* ---- a round ---- */

/* Reads on, a folder at a time, so that other work comes in between, until there is a batch. */
static int walk_run(struct job *j)
{
        struct walk *w = container_of(j, struct walk, job);
        if (w->ended || w->names.n >= BATCH_MAX)
                return 0;
        int r = blob_walk_step(w->blobs, &w->names);
        w->ended = r != 1;
        return r;
}

static void walk_done(struct job *j, int r)
{
        struct walk *w = container_of(j, struct walk, job);
        if (r < 0 && r != -ECANCELED)
                log_errno(LOG_WARNING, r, "Looking through the blob store failed");
        size_t n = MIN(w->names.n, (size_t) BATCH_MAX);
        if (r < 0 || n == 0) {
                walk_end(w);
                return;
        }
        struct blob_names batch = { .names = w->names.names + (w->names.n - n), .n = n, .cap = n };
        w->names.n -= n;
        batch_start(w->sweep, &batch, 0, n, w);
}

static void on_volumes_expired(void *userdata, int r)
{
        struct sweep *s = userdata;
        if (r < 0)
                log_debug("Old volumes stay until the next round");
        docserver_changed(s->server, s->change, r);
}

static void on_round(void *userdata)
{
        struct sweep *s = userdata;
        struct docserver *d = s->server;
        if (s->walking)
                return;
        s->walking = true;
        if (store_expire_keys(d->pg) < 0)
                log_debug("Old idempotency keys stay until the next round");
        s->change = changes_begin(d->changes, NULL, NULL);
        int r = store_expire_volumes(d->pg, d->settings->volumes_keep, d->settings->upload_lifetime,
                                     on_volumes_expired, s);
        if (r < 0)
                on_volumes_expired(s, r);
        if (store_expire_recordings(d->pg, d->settings->recordings_keep) < 0)
                log_debug("Old recordings stay until the next round");
        if (store_expire_exports(d->pg, d->settings->recordings_keep) < 0)
                log_debug("Old exports stay until the next round");
        struct walk *w = xnew(struct walk);
        w->job = (struct job){ .run = walk_run, .done = walk_done };
        w->sweep = s;
        w->blobs = blob_walk_new(d->blobs, now_realtime() - d->settings->orphan_age);
        walk_next(w);
}

/* ---- uploads ---- */

static void on_uploads(void *userdata)
{
        struct sweep *s = userdata;
        uint64_t lifetime = s->server->settings->upload_lifetime, now = now_monotonic();
        uint64_t oldest = uploads_expire(s->server->uploads, now > lifetime ? now - lifetime : 0);
        uint64_t wait = oldest == UINT64_MAX ? lifetime : oldest + lifetime - now;
        loop_timer_arm(&s->uploads, MIN(wait + USEC_PER_MSEC, (uint64_t) UPLOADS_INTERVAL));
}

int sweep_new(struct docserver *d, struct sweep **ret)
{
        struct sweep *s = xnew(struct sweep);
        s->server = d;
        int r = loop_timer_init(&s->round, d->event, on_round, s);
        if (r == 0)
                r = loop_timer_init(&s->uploads, d->event, on_uploads, s);
        if (r == 0)
                r = loop_timer_init(&s->cache, d->event, on_cache, s);
        if (r < 0) {
                (void) sweep_free(s);
                return r;
        }
        loop_timer_arm(&s->round, 0);
        loop_timer_arm(&s->cache, trim_interval(s));
        loop_timer_arm(&s->uploads, MIN(d->settings->upload_lifetime, (uint64_t) UPLOADS_INTERVAL));
        *ret = s;
        return 0;
}

struct sweep *sweep_free(struct sweep *s)
{
        if (!s)
                return NULL;
        loop_timer_done(&s->round);
        loop_timer_done(&s->uploads);
        loop_timer_done(&s->cache);
        free(s);
        return NULL;
}
