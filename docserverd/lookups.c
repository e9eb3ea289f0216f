/* A small table of rows that were just read: direct-mapped, a newcomer takes the place of whoever
 * is there. */
#include "lookups.h"

#define SLOTS 1024u
#define LIFE_US (USEC_PER_SEC)

struct lookup {
        char *key; /* tenant NL id, NULL = free */
        uint64_t stamp, until_us;
        struct store_bytes bytes; /* its strings are ours */
        char *filename, *content_type;
        char checksum[SHA256_HEX];
};

struct lookups {
        const struct changes *changes;
        struct lookup slots[SLOTS];
};

struct lookups *lookups_new(const struct changes *c)
{
        struct lookups *l = xnew(struct lookups);
        l->changes = c;
        return l;
}

static void done(struct lookup *s)
{
        free(s->key);
        free(s->filename);
        free(s->content_type);
        *s = (struct lookup){ 0 };
}

struct lookups *lookups_free(struct lookups *l)
{
        for (size_t i = 0; l && i < SLOTS; i++)
                done(&l->slots[i]);
        free(l);
        return NULL;
}

static struct lookup *place(struct lookups *l, const char *tenant, const char *id)
{
        uint64_t h = UINT64_C(14695981039346656037); /* FNV-1a */
        for (const char *p = tenant; *p; p++)
                h = (h ^ (unsigned char) *p) * UINT64_C(1099511628211);
        for (const char *p = id; *p; p++)
                h = (h ^ (unsigned char) *p) * UINT64_C(1099511628211);
        return &l->slots[(h ^ (h >> 32)) % SLOTS];
}

static bool is_key(const struct lookup *s, const char *tenant, const char *id)
{
        size_t n = strlen(tenant);
        return s->key && strncmp(s->key, tenant, n) == 0 && s->key[n] == '\n' &&
               streq(s->key + n + 1, id);
}

const struct store_bytes *lookups_find(struct lookups *l, const char *tenant, const char *id,
                                       uint64_t now_us)
{
        const struct lookup *s = place(l, tenant, id);
        return now_us < s->until_us && is_key(s, tenant, id) &&
                               changes_hold(l->changes, tenant, id, s->stamp)
                       ? &s->bytes
                       : NULL;
}

void lookups_keep(struct lookups *l, uint64_t stamp, const char *tenant, const char *id,
                  const struct store_bytes *bytes, uint64_t now_us)
{
        if (stamp == 0 || !changes_hold(l->changes, tenant, id, stamp))
                return;
        struct lookup *s = place(l, tenant, id);
        done(s);
        s->key = xasprintf("%s\n%s", tenant, id);
        s->stamp = stamp;
        s->until_us = now_us + LIFE_US;
        s->bytes = *bytes;
        (void) snprintf(s->checksum, sizeof(s->checksum), "%s", bytes->checksum);
        s->bytes.checksum = s->checksum;
        s->bytes.filename = s->filename = xstrdup(bytes->filename);
        s->bytes.content_type = s->content_type = xstrdup(bytes->content_type);
}
