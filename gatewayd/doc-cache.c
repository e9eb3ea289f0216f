/* Remembers documents that were just read, bounded by bytes; the least recently made goes first. */
#include "gatewayd/doc-cache.h"

#include <sys/uio.h>

#include "common/base/list.h"
#include "common/base/map.h"
#include "common/io/changes.h"
#include "common/io/log.h"
#include "gatewayd/gateway.h"

#define LIFE_USEC (USEC_PER_SEC)
#define ENTRY_COST 512u /* of an entry besides its body */
#define KEY_MAX 160u

struct kept {
        struct doc_entry entry;
        uint64_t stamp, until_us;
        char *filename, *content_type, *lines, *body;
        char checksum[SHA256_HEX];
        char key[KEY_MAX];
        struct list age; /* cache->entries, oldest first */
};

struct doc_cache {
        struct gateway *gateway;
        uint64_t bytes, bytes_max;
        struct map *by_key;
        struct list entries;
        struct changes *changes; /* NULL: nothing is kept */
        bool asking;
        uint64_t ask_again_us;
};

static size_t cost_of(const struct kept *k)
{
        return ENTRY_COST + k->entry.body.len + k->entry.validators.len + k->entry.describing.len;
}

static void drop(struct doc_cache *c, struct kept *k)
{
        (void) map_remove(c->by_key, k->key);
        list_remove(&k->age);
        c->bytes -= cost_of(k);
        free(k->filename);
        free(k->content_type);
        free(k->lines);
        free(k->body);
        free(k);
}

static void drop_all(struct doc_cache *c)
{
        struct kept *k;
        while ((k = list_first(&c->entries, struct kept, age)))
                drop(c, k);
}

static void on_lost(void *userdata)
{
        struct doc_cache *c = userdata;
        drop_all(c);
        c->changes = changes_free(c->changes);
}

struct doc_cache *doc_cache_new(struct gateway *g, uint64_t bytes_max)
{
        struct doc_cache *c = xnew(struct doc_cache);
        c->gateway = g;
        c->bytes_max = bytes_max;
        c->by_key = map_new();
        list_init(&c->entries);
        if (g->documents_fd && bytes_max > 0)
                fdlink_client_on_lost(g->documents_fd, on_lost, c);
        return c;
}

struct doc_cache *doc_cache_free(struct doc_cache *c)
{
        if (!c)
                return NULL;
        drop_all(c);
        (void) map_free(c->by_key);
        (void) changes_free(c->changes);
        free(c);
        return NULL;
}

/* ---- the memory of changes ---- */

static void on_changes(void *userdata, int r, const void *reply, int fd)
{
        struct doc_cache *c = userdata;
        cleanup_close int memory = fd;
        c->asking = false;
        if (r == 0)
                r = changes_map(memory, &c->changes);
        if (r < 0 && r != -ECANCELED) {
                log_errno(LOG_DEBUG, r, "No word of changed documents; none are remembered");
                c->ask_again_us = now_monotonic() + USEC_PER_SEC;
        }
}

static void ask_for_changes(struct doc_cache *c)
{
        struct gateway *g = c->gateway;
        if (c->asking || c->bytes_max == 0 || now_monotonic() < c->ask_again_us)
                return;
        c->asking = fdlink_call(g->documents_fd, &wire_changes_open, &(struct changes_open){ 0 },
                                g->settings->request_timeout, on_changes, c) == 0;
}

/* ---- entries ---- */

static bool make_key(char key[static KEY_MAX], const char *tenant, const char *id)
{
        return snprintf(key, KEY_MAX, "%s\n%s", tenant, id) < (int) KEY_MAX;
}

const struct doc_entry *doc_cache_find(struct doc_cache *c, const char *tenant, const char *id)
{
        char key[KEY_MAX];
        struct kept *k = make_key(key, tenant, id) ? map_get(c->by_key, key) : NULL;
        if (!k)
                return NULL;
        if (now_monotonic() < k->until_us && changes_hold(c->changes, tenant, id, k->stamp))
                return &k->entry;
        drop(c, k);
        return NULL;
}

uint64_t doc_cache_stamp(struct doc_cache *c, const char *tenant, const char *id)
{
        if (c->changes)
                return changes_stamp(c->changes, tenant, id, now_monotonic());
        ask_for_changes(c);
        return 0;
}

/* Only from the page cache. */
static char *read_body(int fd, size_t n)
{
        cleanup_free char *body = xmalloc(n + 1);
        struct iovec to = { .iov_base = body, .iov_len = n };
        if (preadv2(fd, &to, 1, 0, RWF_NOWAIT) != (ssize_t) n)
                return NULL;
        return TAKE_PTR(body);
}

/* Makes room for a new entry, and lets go of what is too old to be found. */
static void trim(struct doc_cache *c, size_t cost, uint64_t now)
{
        struct kept *k;
        while ((k = list_first(&c->entries, struct kept, age)) &&
               (c->bytes + cost > c->bytes_max || k->until_us <= now))
                drop(c, k);
}

void doc_cache_keep(struct doc_cache *c, uint64_t stamp, const char *tenant, const char *id,
                    const struct document_opened *m, const struct document_lines *lines, int fd)
{
        char key[KEY_MAX];
        if (stamp == 0 || !c->changes || !changes_hold(c->changes, tenant, id, stamp) ||
            (m->has_partial && m->partial) || !make_key(key, tenant, id) ||
            ENTRY_COST + DOC_CACHE_BODY_MAX > c->bytes_max)
                return;
        struct kept *old = map_get(c->by_key, key);
        if (old)
                drop(c, old);
        struct kept *k = xnew(struct kept);
        k->stamp = stamp;
        k->until_us = now_monotonic() + LIFE_USEC;
        memcpy(k->key, key, sizeof(key));
        k->entry.meta = *m;
        k->entry.meta.filename = k->filename = xstrdup(m->filename);
        k->entry.meta.content_type = k->content_type = xstrdup(m->content_type);
        (void) snprintf(k->checksum, sizeof(k->checksum), "%s", m->checksum);
        k->entry.meta.checksum = k->checksum;
        k->lines = xmalloc(lines->text.len);
        memcpy(k->lines, lines->text.data, lines->text.len);
        k->entry.validators = (struct span){ k->lines, lines->validators };
        k->entry.describing =
                (struct span){ k->lines + lines->validators, lines->text.len - lines->validators };
        if (m->size_bytes <= DOC_CACHE_BODY_MAX)
                k->body = read_body(fd, (size_t) m->size_bytes);
        if (k->body)
                k->entry.body = (struct span){ k->body, (size_t) m->size_bytes };
        trim(c, cost_of(k), now_monotonic());
        c->bytes += cost_of(k);
        list_push_back(&c->entries, &k->age);
        (void) map_set(c->by_key, k->key, k);
}
