/* Volumes: whole or dropped, and handed out as one ZIP that the worker thread writes. */
#include "docserver.h"

#include <unistd.h>

#include "common/base/map.h"
#include "common/io/log.h"
#include "proto/messages.h"
#include "store-volumes.h"
#include "zip.h"

#define RESULTS_MAX 10000u /* documents of the session in one ZIP */
#define ZIPS_MAX 4u        /* on their way at once */
#define SLICE (4 * MIB)    /* copied per turn of the worker thread */
#define CHUNK (256 * KIB)

/* ---- volume_commit, volume_drop ---- */

static void on_done(void *userdata, int r)
{
        struct rpc_request *req = userdata;
        if (r == -ENOENT)
                rpc_reply_error(req, ERROR_CODE_NOT_FOUND,
                                "there is no such unfinished volume with so many files");
        else if (r < 0)
                docserver_reply_failure(req, r);
        else
                rpc_reply(req, &(struct ok_reply){ 0 });
}

int route_volume_commit(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                        const void *msg)
{
        struct docserver *d = userdata;
        const struct volume_commit *m = msg;
        int r = store_volume_commit(d->pg, m->tenant, m->volume_name, m->file_count, on_done, req);
        if (r < 0)
                docserver_reply_failure(req, r);
        return 0;
}

/* Its blobs are left to the sweep. */
int route_volume_drop(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                      const void *msg)
{
        struct docserver *d = userdata;
        const struct volume_drop *m = msg;
        changes_pulse(d->changes, now_monotonic());
        int r = store_volume_drop(d->pg, m->tenant, m->volume_name, on_done, req);
        if (r < 0)
                docserver_reply_failure(req, r);
        return 0;
}

/* ---- volume_open ---- */

struct pack {
        struct docserver *server;
        struct fdlink_request *req;
        struct job job;
        struct volume_entries *entries;
        size_t next;              /* entry */
        int blob;                 /* being copied, or -1 */
        struct blob_fetch *fetch; /* on its way from the remote store */
        struct blob_file file;    /* the ZIP */
        struct zip *zip;
        uint64_t size;
        struct map *names; /* taken in the ZIP */
        char *chunk;
};

static void pack_free(struct pack *p)
{
        fd_close(p->blob);
        blob_fetch_free(p->fetch);
        docserver_drop_file(p->server, &p->file);
        (void) volume_entries_free(p->entries);
        zip_free(p->zip);
        map_free(p->names);
        p->server->zips--;
        free(p->chunk);
        free(p);
}

static void pack_failed(struct pack *p, int r)
{
        if (r == -ENOENT)
                fdlink_reply_error(p->req, ERROR_CODE_NOT_FOUND, "there is no such volume");
        else if (r == -ENOSPC || r == -EDQUOT)
                fdlink_reply_error(p->req, ERROR_CODE_UNAVAILABLE,
                                   "there is no room to pack the volume right now");
        else
                fdlink_reply_error(p->req, ERROR_CODE_UNAVAILABLE,
                                   "the volume cannot be packed right now; try again");
        pack_free(p);
}

/* data/ and results/, names of results made unique. */
static char *entry_name(struct pack *p, const struct volume_entry *e)
{
        if (!e->result)
                return xasprintf("data/%s", e->path);
        char *name = xasprintf("results/%s", e->path);
        for (unsigned i = 2; map_get(p->names, name); i++) {
                const char *slash = strrchr(e->path, '/'), *last = slash ? slash + 1 : e->path;
                free(name);
                name = xasprintf("results/%.*s%u-%s", (int) (last - e->path), e->path, i, last);
        }
        (void) map_set(p->names, name, p);
        return name;
}

/* 1: the blob is on its way. */
static int pack_open(struct pack *p, const struct volume_entry *e)
{
        uint64_t size = e->size;
        int r = 0;
        if (!p->fetch)
                r = blob_open(p->server->blobs, e->checksum, &p->blob, &size);
        if (r == -EREMOTE) {
                p->fetch = blob_fetch_new(p->server->blobs, e->checksum, e->size, 0, e->size);
                r = 0;
        }
        if (p->fetch) {
                r = blob_fetch_step(p->fetch);
                if (r == 0) {
                        p->blob = blob_fetch_take(p->fetch);
                        p->fetch = blob_fetch_free(p->fetch);
                }
        }
        return r == 0 && size != e->size ? -EUCLEAN : r;
}

static int pack_begin(struct pack *p)
{
        const struct volume_entry *e = &p->entries->list[p->next];
        int r = pack_open(p, e);
        if (r != 0)
                return r == -ENOENT ? -ESTALE : r; /* deleted since the list was read */
        cleanup_free char *name = entry_name(p, e);
        return zip_begin(p->zip, name, e->size, e->time_us);
}

/* 1: its end was reached. */
static int pack_copy(struct pack *p, uint64_t *left)
{
        while (*left > 0) {
                ssize_t n = read(p->blob, p->chunk, CHUNK);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        return 1;
                int r = zip_data(p->zip, p->chunk, (size_t) n);
                if (r < 0)
                        return r;
                *left -= MIN((uint64_t) n, *left);
        }
        return 0;
}

static int pack_slice(struct pack *p)
{
        uint64_t left = SLICE;
        int r = 0;
        if (p->file.fd < 0) {
                r = blob_file_new(p->server->blobs, &p->file);
                if (r < 0)
                        return r;
                p->zip = zip_new(p->file.fd);
                p->chunk = xnewn(char, CHUNK);
        }
        for (; p->next < p->entries->n && left > 0; left -= MIN(left, (uint64_t) (32 * KIB))) {
                if (p->blob < 0)
                        r = pack_begin(p);
                if (r == 1)
                        return 1; /* the blob is on its way */
                if (r == 0)
                        r = pack_copy(p, &left);
                if (r <= 0)
                        break;
                p->blob = fd_close(p->blob);
                r = zip_end(p->zip);
                if (r < 0)
                        break;
                p->next++;
        }
        if (r < 0)
                return r;
        if (p->next < p->entries->n)
                return 1;
        return zip_finish(p->zip, &p->size);
}

static int pack_run(struct job *j)
{
        struct pack *p = container_of(j, struct pack, job);
        int r = pack_slice(p);
        return r == 0 ? blob_seal(p->server->blobs, &p->file, p->size) : r;
}

static void pack_done(struct job *j, int r)
{
        struct pack *p = container_of(j, struct pack, job);
        if (r < 0) {
                if (r != -ECANCELED)
                        log_errno(LOG_WARNING, r, "Packing a volume failed");
                pack_failed(p, r == -ENOENT ? -EIO : r);
                return;
        }
        fdlink_reply(p->req, &(struct volume_opened){ .size_bytes = p->size }, p->file.fd);
        pack_free(p);
}

static void on_entries(void *userdata, int r, struct volume_entries *entries)
{
        struct pack *p = userdata;
        p->entries = entries;
        if (r == 0)
                r = docserver_submit_store(p->server, &p->job);
        if (r < 0)
                pack_failed(p, r);
}

int route_volume_open(void *userdata, struct fdlink_request *req, const void *msg)
{
        struct docserver *d = userdata;
        const struct volume_open *m = msg;
        if (d->zips >= ZIPS_MAX)
                return fdlink_reply_error(req, ERROR_CODE_UNAVAILABLE,
                                          "too many volumes are being packed; try again later");
        struct pack *p = xnew(struct pack);
        p->job = (struct job){ .run = pack_run, .done = pack_done };
        p->server = d;
        p->req = req;
        p->blob = -1;
        p->file = BLOB_FILE_INIT;
        p->names = map_new();
        d->zips++;
        int r = store_volume_entries(d->pg, m->tenant, m->volume_name, RESULTS_MAX, on_entries, p);
        if (r < 0)
                pack_failed(p, r);
        return 0;
}
