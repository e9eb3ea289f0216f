/* Hash map from string keys to pointers: open addressing, keys copied, values borrowed.
 * Hashing is SipHash-like keyed per map, so a peer cannot choose colliding keys. */
#pragma once

#include "util.h"

struct map;

struct map *map_new(void);
struct map *map_free(struct map *m); /* frees keys, not values */
DEFINE_CLEANUP(struct map, map_free)
#define cleanup_map CLEANUP(map_freep)

void *map_get(const struct map *m, const char *key); /* NULL when absent */
void *map_set(struct map *m, const char *key,
              void *value);                       /* returns the value replaced, or NULL */
void *map_remove(struct map *m, const char *key); /* returns the value removed, or NULL */
size_t map_count(const struct map *m);

/* Iteration in no order; start with *iter = 0; returns false at the end. The map must not change
 * in between except by removing the entry just returned. */
bool map_next(const struct map *m, size_t *iter, const char **ret_key, void **ret_value);
