/* Keeps the table of blobs that are being fetched from the remote store, and who waits for them. */
#include "fetches.h"

#include <fcntl.h>

#include "common/base/map.h"
#include "common/io/log.h"
#include "docserver.h"

#define FETCHES_MAX 64u     /* on their way at once */
#define RANGE_MAX (4 * MIB) /* larger ranges are served from the whole blob */

struct fetches {
        struct docserver *server;
        struct map *whole; /* by checksum */
        size_t n;
};

struct fetch {
        struct job job;
        struct fetches *fetches;
        struct blob_fetch *blob;
        char checksum[SHA256_HEX];
        bool whole;
        struct list waits;
};

struct fetches *fetches_new(struct docserver *d)
{
        struct fetches *f = xnew(struct fetches);
        f->server = d;
        f->whole = map_new();
        return f;
}

struct fetches *fetches_free(struct fetches *f)
{
        if (!f)
                return NULL;
        (void) map_free(f->whole);
        free(f);
        return NULL;
}

static int fetch_run(struct job *j)
{
        return blob_fetch_step(container_of(j, struct fetch, job)->blob);
}

static void tell(struct fetch *f, int r, int fd)
{
        struct blob_wait *w;
        while ((w = list_first(&f->waits, struct blob_wait, link))) {
                list_remove(&w->link);
                int copy = r < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
                w->ready(w, r < 0 ? r : copy < 0 ? -errno : 0, copy);
        }
}

static void fetch_done(struct job *j, int r)
{
        struct fetch *f = container_of(j, struct fetch, job);
        cleanup_close int fd = r < 0 ? -1 : blob_fetch_take(f->blob);
        if (f->whole)
                (void) map_remove(f->fetches->whole, f->checksum);
        f->fetches->n--;
        if (r < 0 && r != -ECANCELED) {
                cleanup_free char *problem = blob_store_problem(f->fetches->server->blobs);
                log_errno(r == -EUCLEAN || r == -ENOENT ? LOG_ERR : LOG_WARNING, r,
                          "Fetching blob %s failed; the store said: %s", f->checksum, problem);
        }
        tell(f, r, fd);
        blob_fetch_free(f->blob);
        free(f);
}

static int fetch_start(struct fetches *all, const char *checksum, uint64_t size, uint64_t first,
                       uint64_t length, struct blob_wait *w)
{
        if (all->n >= FETCHES_MAX)
                return -EAGAIN;
        struct fetch *f = xnew(struct fetch);
        f->job = (struct job){ .run = fetch_run, .done = fetch_done };
        f->fetches = all;
        f->whole = length == size;
        f->blob = blob_fetch_new(all->server->blobs, checksum, size, first, length);
        (void) snprintf(f->checksum, sizeof(f->checksum), "%s", checksum);
        list_init(&f->waits);
        int r = docserver_submit_store(all->server, &f->job);
        if (r < 0) {
                blob_fetch_free(f->blob);
                free(f);
                return r;
        }
        all->n++;
        if (f->whole)
                (void) map_set(all->whole, f->checksum, f);
        if (w)
                list_push_back(&f->waits, &w->link);
        return 1;
}

int fetches_open(struct fetches *f, const char *checksum, uint64_t size, uint64_t first,
                 uint64_t length, struct blob_wait *w, int *ret_fd, bool *ret_part)
{
        uint64_t found;
        int fd;
        *ret_part = false;
        int r = blob_open(f->server->blobs, checksum, &fd, &found);
        if (r == 0 && found != size) {
                fd_close(fd);
                return -EUCLEAN;
        }
        if (r == 0)
                *ret_fd = fd;
        if (r != -EREMOTE)
                return r;

        struct fetch *under_way = map_get(f->whole, checksum);
        if (under_way) {
                list_push_back(&under_way->waits, &w->link);
                return 1;
        }
        bool part = length > 0 && length <= RANGE_MAX && first < size;
        length = part ? MIN(length, size - first) : size;
        *ret_part = length < size;
        return fetch_start(f, checksum, size, *ret_part ? first : 0, length, w);
}

void fetches_forget(struct blob_wait *w)
{
        list_remove(&w->link);
}

void fetches_start(struct fetches *f, const char *checksum, uint64_t size)
{
        if (!map_get(f->whole, checksum) && fetch_start(f, checksum, size, 0, size, NULL) < 0)
                log_debug("Blob %s is fetched when it is asked for again", checksum);
}
