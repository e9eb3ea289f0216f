/* Hash map from strings to pointers: linear probing, tombstones, SipHash-1-3 keyed per map. */
#include "map.h"

#define MAP_FIRST 16

struct slot {
        char *key; /* NULL = never used, TOMB = removed */
        void *value;
        uint64_t hash;
};

struct map {
        struct slot *slots;
        size_t cap;  /* power of two */
        size_t live; /* entries */
        size_t used; /* entries and tombstones */
        uint64_t seed[2];
};

static char tomb[1];
#define TOMB tomb

static uint64_t rotl(uint64_t x, int n)
{
        return x << n | x >> (64 - n);
}

static void sip_round(uint64_t v[static 4])
{
        v[0] += v[1];
        v[1] = rotl(v[1], 13) ^ v[0];
        v[0] = rotl(v[0], 32);
        v[2] += v[3];
        v[3] = rotl(v[3], 16) ^ v[2];
        v[0] += v[3];
        v[3] = rotl(v[3], 21) ^ v[0];
        v[2] += v[1];
        v[1] = rotl(v[1], 17) ^ v[2];
        v[2] = rotl(v[2], 32);
}

static uint64_t hash_key(const struct map *m, const char *key)
{
        uint64_t v[4] = { m->seed[0] ^ UINT64_C(0x736f6d6570736575),
                          m->seed[1] ^ UINT64_C(0x646f72616e646f6d),
                          m->seed[0] ^ UINT64_C(0x6c7967656e657261),
                          m->seed[1] ^ UINT64_C(0x7465646279746573) };
        size_t n = strlen(key), left = n;
        for (; left >= 8; left -= 8, key += 8) {
                uint64_t w;
                memcpy(&w, key, 8);
                v[3] ^= w;
                sip_round(v);
                v[0] ^= w;
        }
        uint64_t last = 0;
        memcpy(&last, key, left);
        last |= (uint64_t) n << 56;
        v[3] ^= last;
        sip_round(v);
        v[0] ^= last;
        v[2] ^= 0xff;
        for (int i = 0; i < 3; i++)
                sip_round(v);
        return v[0] ^ v[1] ^ v[2] ^ v[3];
}

struct map *map_new(void)
{
        struct map *m = xnew(struct map);
        random_bytes(m->seed, sizeof(m->seed));
        return m;
}

struct map *map_free(struct map *m)
{
        if (!m)
                return NULL;
        for (size_t i = 0; i < m->cap; i++) {
                if (m->slots[i].key != TOMB)
                        free(m->slots[i].key);
        }
        free(m->slots);
        free(m);
        return NULL;
}

static struct slot *find(const struct map *m, const char *key, uint64_t hash)
{
        if (m->cap == 0)
                return NULL;
        for (size_t i = hash & (m->cap - 1); m->slots[i].key; i = (i + 1) & (m->cap - 1)) {
                struct slot *s = &m->slots[i];
                if (s->key != TOMB && s->hash == hash && strcmp(s->key, key) == 0)
                        return s;
        }
        return NULL;
}

static void place(struct map *m, struct slot entry)
{
        size_t i = entry.hash & (m->cap - 1);
        while (m->slots[i].key)
                i = (i + 1) & (m->cap - 1);
        m->slots[i] = entry;
}

/* Room for one more entry at a load of at most 3/4; also drops tombstones and shrinks. */
static void make_room(struct map *m)
{
        if (m->cap && (m->used + 1) * 4 <= m->cap * 3)
                return;
        size_t cap = MAP_FIRST;
        while ((m->live + 1) * 2 > cap)
                cap *= 2;
        struct slot *old = m->slots;
        size_t old_cap = m->cap;
        m->slots = xnewn(struct slot, cap);
        m->cap = cap;
        m->used = m->live;
        for (size_t i = 0; i < old_cap; i++) {
                if (old[i].key && old[i].key != TOMB)
                        place(m, old[i]);
        }
        free(old);
}

void *map_get(const struct map *m, const char *key)
{
        struct slot *s = find(m, key, hash_key(m, key));
        return s ? s->value : NULL;
}

void *map_set(struct map *m, const char *key, void *value)
{
        uint64_t hash = hash_key(m, key);
        struct slot *s = find(m, key, hash);
        if (s) {
                void *old = s->value;
                s->value = value;
                return old;
        }
        make_room(m);
        place(m, (struct slot){ .key = xstrdup(key), .value = value, .hash = hash });
        m->live++;
        m->used++;
        return NULL;
}

void *map_remove(struct map *m, const char *key)
{
        struct slot *s = find(m, key, hash_key(m, key));
        if (!s)
                return NULL;
        void *old = s->value;
        free(s->key);
        *s = (struct slot){ .key = TOMB };
        m->live--;
        /* A run that ends here needs no tombstones. Nothing moves, so iteration stays right. */
        size_t i = (size_t) (s - m->slots), mask = m->cap - 1;
        if (!m->slots[(i + 1) & mask].key) {
                for (; m->slots[i].key == TOMB; i = (i - 1) & mask) {
                        m->slots[i].key = NULL;
                        m->used--;
                }
        }
        return old;
}

size_t map_count(const struct map *m)
{
        return m->live;
}

bool map_next(const struct map *m, size_t *iter, const char **ret_key, void **ret_value)
{
        for (; *iter < m->cap; ++*iter) {
                const struct slot *s = &m->slots[*iter];
                if (!s->key || s->key == TOMB)
                        continue;
                if (ret_key)
                        *ret_key = s->key;
                if (ret_value)
                        *ret_value = s->value;
                ++*iter;
                return true;
        }
        return false;
}
