/* The generic cell rate algorithm over a bounded table. */
#include "gatewayd/rate.h"

#include "common/base/list.h"
#include "common/base/map.h"

struct rate_key {
        uint64_t tat; /* theoretical arrival time of the next one, monotonic us */
        struct list age;
        char name[];
};

struct rate_table {
        struct map *keys;
        struct list by_age; /* who asked longest ago first */
        size_t max;
};

struct rate_table *rate_table_new(size_t keys_max)
{
        struct rate_table *t = xnew(struct rate_table);

        t->keys = map_new();
        t->max = keys_max;
        list_init(&t->by_age);
        return t;
}

static void key_free(struct rate_table *t, struct rate_key *k)
{
        list_remove(&k->age);
        (void) map_remove(t->keys, k->name);
        free(k);
}

struct rate_table *rate_table_free(struct rate_table *t)
{
        struct rate_key *k;

        if (!t)
                return NULL;
        while ((k = list_first(&t->by_age, struct rate_key, age)))
                key_free(t, k);
        (void) map_free(t->keys);
        free(t);
        return NULL;
}

size_t rate_table_keys(const struct rate_table *t)
{
        return map_count(t->keys);
}

static struct rate_key *key_get(struct rate_table *t, const char *name)
{
        struct rate_key *k = map_get(t->keys, name);

        if (!k) {
                struct rate_key *oldest = list_first(&t->by_age, struct rate_key, age);

                if (oldest && map_count(t->keys) >= t->max)
                        key_free(t, oldest);
                k = xcalloc(1, sizeof(*k) + strlen(name) + 1);
                memcpy(k->name, name, strlen(name) + 1);
                (void) map_set(t->keys, k->name, k);
        }
        list_remove(&k->age);
        list_push_back(&t->by_age, &k->age);
        return k;
}

static struct rate_verdict judge(uint64_t *tat, const struct rate_limit *l, uint64_t now, bool take)
{
        uint64_t interval = MAX(USEC_PER_SEC / l->per_second, UINT64_C(1));
        uint64_t window = interval * MAX(l->burst, UINT64_C(1));
        uint64_t next = MAX(*tat, now) + interval;
        struct rate_verdict v = { .limit = MAX(l->burst, UINT64_C(1)) };

        v.allowed = next <= now + window;
        if (v.allowed && take)
                *tat = next;
        uint64_t used = MAX(*tat, now) - now;
        v.remaining = used < window ? (window - used) / interval : 0;
        v.reset_usec = used;
        v.retry_usec = v.allowed ? 0 : next - now - window;
        return v;
}

struct rate_verdict rate_take(struct rate_table *t, const char *key, const struct rate_limit *l,
                              uint64_t now)
{
        if (l->per_second == 0)
                return (struct rate_verdict){ .allowed = true };
        return judge(&key_get(t, key)->tat, l, now, true);
}

struct rate_verdict rate_look(struct rate_table *t, const char *key, const struct rate_limit *l,
                              uint64_t now)
{
        struct rate_key *k = map_get(t->keys, key);
        uint64_t tat = k ? k->tat : 0;

        if (l->per_second == 0)
                return (struct rate_verdict){ .allowed = true };
        return judge(&tat, l, now, false);
}
