/* Keeps what a session leaves in /results of its slot. */
#include "results.h"

#include <unistd.h>

#include "common/base/document.h"
#include "common/base/list.h"
#include "common/base/map.h"
#include "common/io/daemon.h"
#include "common/io/log.h"
#include "guest.h"

#define PASS_USEC (45 * USEC_PER_SEC)
#define AGAIN_USEC (500 * USEC_PER_MSEC)
#define REFUSALS_MAX 3u /* of one file, by the store */
#define FOLDERS_MAX 1000u
#define TAG "result"
#define LISTING_MAX 1000u /* guest_listing holds no more */

/* A folder to look into or a file to keep; path is relative to the results. */
struct item {
        struct list link;
        char *path;
        uint64_t size, modified_us;
};

struct results {
        struct results_config c;
        char *tenant, *session_id;
        struct list folders, files;
        unsigned n_folders, n_files; /* found in this pass */
        struct map *kept;            /* path -> struct item as it was when it was kept */
        uint64_t bytes;              /* kept in all */
        struct item *item;           /* on its way */
        unsigned refusals;
        bool running;
        uint64_t until;
        unsigned n_left; /* out */
        char *left;      /* the first of them and why */
        struct loop_timer again;
        struct loop_task next;
        results_fn fn;
        void *userdata;
};

static struct item *item_free(struct item *i)
{
        if (i)
                free(i->path);
        free(i);
        return NULL;
}

static void drop_items(struct list *l)
{
        struct item *i;
        while ((i = list_first(l, struct item, link))) {
                list_remove(&i->link);
                (void) item_free(i);
        }
}

static void leave_out(struct results *s, const char *path, const char *why)
{
        if (s->n_left++ == 0)
                s->left = xasprintf("%.512s %s", path, why);
}

static struct guest *guest_of(const struct results *s)
{
        return slot_guest(s->c.slot);
}

/* Where the image has no place for results they are in the home. */
static char *place_of(const struct guest *g, const char *path)
{
        return xasprintf("%s%s%s", guest_has_volume(g) ? "/results" : "/home/agent/results",
                         *path ? "/" : "", path);
}

/* ---- the end of a pass ---- */

static void finish(struct results *s)
{
        cleanup_free char *text = NULL;
        results_fn fn = s->fn;
        if (s->n_left == 1)
                text = xasprintf("A file of /results was not kept: %s.", s->left);
        else if (s->n_left > 1)
                text = xasprintf("%u files of /results were not kept; the first: %s.", s->n_left,
                                 s->left);
        if (text)
                log_warning("session %s: %s", s->session_id, text);
        drop_items(&s->folders);
        drop_items(&s->files);
        s->item = item_free(s->item);
        free(TAKE_PTR(s->left));
        s->n_left = s->n_files = s->n_folders = 0;
        s->running = false;
        s->fn = NULL;
        if (fn)
                fn(s->userdata, text);
}

/* ---- one file ---- */

static void file_kept(struct results *s)
{
        struct item *i = TAKE_PTR(s->item);
        s->bytes += i->size;
        (void) item_free(map_set(s->kept, i->path, i));
        loop_task_queue(&s->next);
}

static void file_left(struct results *s, const char *why)
{
        leave_out(s, s->item->path, why);
        s->item = item_free(s->item);
        loop_task_queue(&s->next);
}

static void on_stored(void *userdata, int r, struct span document, const char *why)
{
        struct results *s = userdata;
        if (r == 0)
                file_kept(s);
        else if (r == -EREMOTEIO && ++s->refusals >= REFUSALS_MAX)
                file_left(s, why);
        else
                loop_timer_arm(&s->again, AGAIN_USEC);
}

static void on_fetched(void *userdata, int r, int fd, uint64_t size)
{
        struct results *s = userdata;
        const char *path = s->item->path, *slash = strrchr(path, '/');
        static const char *const tags[] = { TAG };
        if (r < 0) {
                file_left(s, r == -EFBIG    ? "is larger than one result may be"
                             : r == -ENOENT ? "was gone before it could be kept"
                                            : "cannot be read");
                return;
        }
        s->item->size = size;
        cleanup_json json_t *about = json_pack("{s:s}", "result_path", path);
        cleanup_free char *metadata = json_text(about);
        const struct document_new document = {
                .tenant = s->tenant,
                .session_id = s->session_id,
                .fd = fd,
                .size = size,
                .filename = slash ? slash + 1 : path,
                .tags = tags,
                .n_tags = ARRAY_LEN(tags),
                .metadata = metadata,
                .result_path = path,
        };
        if (documents_store(s->c.documents, &document, on_stored, s) < 0)
                loop_timer_arm(&s->again, AGAIN_USEC);
}

static void fetch(struct results *s)
{
        struct guest *g = guest_of(s);
        cleanup_free char *place = g ? place_of(g, s->item->path) : NULL;
        int r = g ? guest_fetch_file(g, s->c.epoch, place, s->c.file_max, on_fetched, s)
                  : -ENOTCONN;
        if (r == -EAGAIN)
                loop_timer_arm(&s->again, AGAIN_USEC);
        else if (r < 0)
                file_left(s, "cannot be read: the slot is gone");
}

/* ---- looking ---- */

static void note_file(struct results *s, struct item *i)
{
        const struct item *before = map_get(s->kept, i->path);
        const char *why = document_path_problem(i->path);
        bool same = before && before->size == i->size && before->modified_us == i->modified_us;
        if (why)
                leave_out(s, "A file", why);
        else if (!same && !before && map_count(s->kept) + s->n_files >= s->c.files_max)
                leave_out(s, i->path, "is beyond the number of files that is kept");
        else if (!same && i->size > s->c.file_max)
                leave_out(s, i->path, "is larger than one result may be");
        else if (!same) {
                s->n_files += before ? 0 : 1;
                list_push_back(&s->files, &i->link);
                return;
        }
        (void) item_free(i);
}

static void note_folder(struct results *s, struct item *i)
{
        if (s->n_folders < FOLDERS_MAX && !document_path_problem(i->path)) {
                s->n_folders++;
                list_push_back(&s->folders, &i->link);
                return;
        }
        leave_out(s, "A folder", "has a name that is not allowed or lies too deep");
        (void) item_free(i);
}

static void on_listing(void *userdata, int r, const struct guest_listing *l)
{
        struct results *s = userdata;
        struct item *folder = TAKE_PTR(s->item);
        for (size_t n = 0; l && n < l->n_entries; n++) {
                const struct guest_entry *e = &l->entries[n];
                if (e->kind != 1 && e->kind != 2)
                        continue; /* a link leads to what is kept elsewhere, or to nothing of ours
                                   */
                struct item *i = xnew(struct item);
                i->path = xasprintf("%s%s%s", folder->path, *folder->path ? "/" : "", e->path);
                i->size = e->size;
                i->modified_us = e->modified_us;
                if (e->kind == 2)
                        note_folder(s, i);
                else
                        note_file(s, i);
        }
        /* No folder of results is no failure: there are none. */
        if ((r < 0 && r != -ENOENT) || (l && l->n_entries >= LISTING_MAX))
                leave_out(s, *folder->path ? folder->path : "/results",
                          "could not be read to its end");
        (void) item_free(folder);
        loop_task_queue(&s->next);
}

static void look(struct results *s)
{
        struct guest *g = guest_of(s);
        cleanup_free char *place = g ? place_of(g, s->item->path) : NULL;
        int r = g ? guest_list_dir(g, s->c.epoch, place, 1, on_listing, s) : -ENOTCONN;
        if (r == 0)
                return;
        s->item = item_free(s->item);
        leave_out(s, "/results", "cannot be read: the slot is gone");
        loop_task_queue(&s->next);
}

static void on_next(void *userdata)
{
        struct results *s = userdata;
        struct item *i = list_first(&s->folders, struct item, link);
        bool folder = i != NULL;
        if (!s->running)
                return;
        if (!i)
                i = list_first(&s->files, struct item, link);
        if (!i) {
                finish(s);
                return;
        }
        list_remove(&i->link);
        s->item = i;
        s->refusals = 0;
        if (folder)
                look(s);
        else if (now_monotonic() >= s->until)
                file_left(s, "could not be kept in time");
        else if (s->bytes + i->size > s->c.bytes_max)
                file_left(s, "is beyond the bytes that are kept of one run");
        else
                fetch(s);
}

static void on_again(void *userdata)
{
        struct results *s = userdata;
        if (now_monotonic() >= s->until)
                file_left(s, "could not be stored in time");
        else
                fetch(s);
}

/* ---- for others ---- */

void results_keep(struct results *s, results_fn fn, void *userdata)
{
        s->fn = fn;
        s->userdata = userdata;
        if (s->running)
                return;
        s->running = true;
        s->until = now_monotonic() + PASS_USEC;
        if (s->c.files_max > 0) {
                struct item *top = xnew(struct item);
                top->path = xstrdup("");
                list_push_back(&s->folders, &top->link);
        }
        loop_task_queue(&s->next);
}

void results_forget(struct results *s)
{
        if (s)
                s->fn = NULL;
}

int results_new(const struct results_config *c, struct results **ret)
{
        CLEANUP(results_freep) struct results *s = xnew(struct results);
        s->c = *c;
        s->tenant = xstrdup(c->tenant);
        s->session_id = xstrdup(c->session_id);
        s->kept = map_new();
        list_init(&s->folders);
        list_init(&s->files);
        int r = loop_timer_init(&s->again, c->event, on_again, s);
        if (r == 0)
                r = loop_task_init(&s->next, c->event, on_next, s);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}

struct results *results_free(struct results *s)
{
        size_t at = 0;
        const char *path;
        void *item;
        if (!s)
                return NULL;
        documents_cancel(s->c.documents, s);
        if (guest_of(s))
                guest_cancel(guest_of(s), s);
        loop_timer_done(&s->again);
        loop_task_done(&s->next);
        drop_items(&s->folders);
        drop_items(&s->files);
        (void) item_free(s->item);
        while (map_next(s->kept, &at, &path, &item))
                (void) item_free(item);
        map_free(s->kept);
        free(s->left);
        free(s->tenant);
        free(s->session_id);
        free(s);
        return NULL;
}
