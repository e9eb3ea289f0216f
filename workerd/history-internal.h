/* What the fold (history.c) and the composition (history-compose.c) share. */
#pragma once

#include "common/base/map.h"
#include "history.h"

struct history {
        struct history_entry *entries;
        size_t n, cap;
        size_t bytes, bytes_max;
        struct map *grants; /* digest -> "allowed" or "denied", for the session */
        struct map *images; /* digest -> struct history_image */
};

void history_forget_images(struct history *h, const struct map *keep);
