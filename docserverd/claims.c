/* Keeps the making of rows and the removal of blobs apart: shared and exclusive claims by checksum.
 */
#include "claims.h"

struct claims {
        struct map *map;
};

struct claim {
        size_t sharers;
        bool owned;
        struct list waiting;
};

struct claims *claims_new(void)
{
        struct claims *c = xnew(struct claims);
        c->map = map_new();
        return c;
}

struct claims *claims_free(struct claims *c)
{
        if (!c)
                return NULL;
        size_t iter = 0;
        for (void *value; map_next(c->map, &iter, NULL, &value);)
                free(value);
        (void) map_free(c->map);
        free(c);
        return NULL;
}

static struct claim *claim_get(struct claims *c, const char *key)
{
        struct claim *claim = map_get(c->map, key);
        if (!claim) {
                claim = xnew(struct claim);
                list_init(&claim->waiting);
                (void) map_set(c->map, key, claim);
        }
        return claim;
}

static void claim_drop_unused(struct claims *c, const char *key, struct claim *claim)
{
        if (claim->sharers > 0 || claim->owned)
                return;
        (void) map_remove(c->map, key);
        free(claim);
}

bool claims_share(struct claims *c, const char *key, struct claim_wait *w)
{
        struct claim *claim = claim_get(c, key);
        if (claim->owned) {
                list_push_back(&claim->waiting, &w->link);
                return false;
        }
        claim->sharers++;
        return true;
}

void claims_unshare(struct claims *c, const char *key)
{
        struct claim *claim = map_get(c->map, key);
        claim->sharers--;
        claim_drop_unused(c, key, claim);
}

bool claims_own(struct claims *c, const char *key)
{
        if (map_get(c->map, key))
                return false;
        claim_get(c, key)->owned = true;
        return true;
}

void claims_disown(struct claims *c, const char *key)
{
        struct claim *claim = map_get(c->map, key);
        claim->owned = false;

        /* All of them hold a share before the first runs, so the claim outlives each of them giving
         * its own back. */
        struct list granted;
        list_init(&granted);
        for (struct claim_wait *w; (w = list_first(&claim->waiting, struct claim_wait, link));) {
                list_remove(&w->link);
                list_push_back(&granted, &w->link);
                claim->sharers++;
        }
        claim_drop_unused(c, key, claim);
        for (struct claim_wait *w; (w = list_first(&granted, struct claim_wait, link));) {
                list_remove(&w->link);
                w->granted(w);
        }
}

size_t claims_count(const struct claims *c)
{
        return map_count(c->map);
}
