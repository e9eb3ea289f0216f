/* A small table of rows that were just read: direct-mapped, a newcomer takes the place of whoever
 * is there. */
#include "lookups.h"

#define SLOTS 1024u
#define LIFE_US (USEC_PER_SEC)
#define QUIET_US                                                                                   \
        (3 * USEC_PER_SEC) /* more than a change may wait and take: see pg_config in docserver.c   \
                            */

struct lookup {
        char *key; /* tenant NL id, NULL = free */
        uint64_t generation, until_us;
        struct store_bytes bytes; /* its strings are ours */
        char *filename, *content_type;
        char checksum[SHA256_HEX];
};

struct lookups {
        uint64_t generation, quiet_until_us;
        struct lookup slots[SLOTS];
};

struct lookups *lookups_new(void)
{
        return xnew(struct lookups);
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
        return s->generation == l->generation && now_us < s->until_us && is_key(s, tenant, id)
                       ? &s->bytes
                       : NULL;
}

uint64_t lookups_begin(const struct lookups *l)
{
        return l->generation;
}

void lookups_keep(struct lookups *l, uint64_t begun, const char *tenant, const char *id,
                  const struct store_bytes *bytes, uint64_t now_us)
{
        if (begun != l->generation || now_us < l->quiet_until_us)
                return;
        struct lookup *s = place(l, tenant, id);
        done(s);
        s->key = xasprintf("%s\n%s", tenant, id);
        s->generation = begun;
        s->until_us = now_us + LIFE_US;
        s->bytes = *bytes;
        (void) snprintf(s->checksum, sizeof(s->checksum), "%s", bytes->checksum);
        s->bytes.checksum = s->checksum;
        s->bytes.filename = s->filename = xstrdup(bytes->filename);
        s->bytes.content_type = s->content_type = xstrdup(bytes->content_type);
}

void lookups_forget(struct lookups *l, uint64_t now_us)
{
        l->generation++;
        l->quiet_until_us = now_us + QUIET_US;
}
