/* Keeps the table of open uploads and drops them when their connection or their time ends. */
#include "uploads.h"

struct uploads {
        struct map *by_id;
        struct list all; /* in order of birth */
        size_t count, max;
        void (*drop)(void *userdata, struct blob_file *f);
        void *userdata;
};

struct uploads *uploads_new(size_t max, void (*drop)(void *userdata, struct blob_file *f),
                            void *userdata)
{
        struct uploads *u = xnew(struct uploads);
        u->by_id = map_new();
        u->max = max;
        u->drop = drop;
        u->userdata = userdata;
        list_init(&u->all);
        return u;
}

static void forget(struct uploads *u, struct upload *up)
{
        (void) map_remove(u->by_id, up->id);
        list_remove(&up->link);
        u->count--;
}

static void end(struct uploads *u, struct upload *up)
{
        forget(u, up);
        if (up->opening) {
                up->gone = true;
                return;
        }
        u->drop(u->userdata, &up->file);
        free(up);
}

struct uploads *uploads_free(struct uploads *u)
{
        if (!u)
                return NULL;
        struct upload *up, *next;
        list_foreach_safe (up, next, &u->all, link)
                end(u, up);
        (void) map_free(u->by_id);
        free(u);
        return NULL;
}

int uploads_begin(struct uploads *u, const char *tenant, uint64_t connection, uint64_t now_us,
                  size_t busy, struct upload **ret)
{
        if (u->count + busy >= u->max)
                return -EAGAIN;
        struct upload *up = xnew(struct upload);
        uuid_make(up->id);
        (void) snprintf(up->tenant, sizeof(up->tenant), "%s", tenant);
        up->connection = connection;
        up->born_us = now_us;
        up->file = BLOB_FILE_INIT;
        up->opening = true;
        (void) map_set(u->by_id, up->id, up);
        list_push_back(&u->all, &up->link);
        u->count++;
        *ret = up;
        return 0;
}

bool uploads_opened(struct uploads *u, struct upload *up, struct blob_file *f)
{
        bool gone = up->gone;
        up->opening = false;
        if (f) {
                up->file = *f;
                *f = BLOB_FILE_INIT;
        }
        if (gone) {
                u->drop(u->userdata, &up->file);
                free(up);
                return false;
        }
        if (!f) {
                forget(u, up);
                free(up);
                return false;
        }
        return true;
}

int uploads_take(struct uploads *u, const char *tenant, const char *id, struct blob_file *ret)
{
        struct upload *up = map_get(u->by_id, id);
        if (!up || up->opening || !streq(up->tenant, tenant))
                return -ENOENT;
        *ret = up->file;
        forget(u, up);
        free(up);
        return 0;
}

int uploads_drop(struct uploads *u, const char *id, uint64_t connection)
{
        struct upload *up = map_get(u->by_id, id);
        if (!up || (connection && up->connection != connection))
                return -ENOENT;
        end(u, up);
        return 0;
}

void uploads_drop_connection(struct uploads *u, uint64_t connection)
{
        struct upload *up, *next;
        list_foreach_safe (up, next, &u->all, link) {
                if (up->connection == connection)
                        end(u, up);
        }
}

uint64_t uploads_expire(struct uploads *u, uint64_t born_before_us)
{
        struct upload *up, *next;
        list_foreach_safe (up, next, &u->all, link) {
                if (up->born_us >= born_before_us)
                        return up->born_us;
                end(u, up);
        }
        return UINT64_MAX;
}

size_t uploads_count(const struct uploads *u)
{
        return u->count;
}
