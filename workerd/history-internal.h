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
        /* What stood here before the summary, if there is one. */
        char *summary;
        json_t *pinned; /* blocks of dropped messages that stay word for word, or NULL */
        size_t pinned_bytes, dropped_turns, dropped_run; /* run: since the last user message */
        uint64_t dropped_user_seq, context_tokens;
};

size_t history_size(const json_t *content); /* roughly what it takes in memory */
void history_unaccount(struct history *h, const struct history_entry *e);
void history_entry_done(struct history_entry *e);
/* The blocks of the first user turn after a compaction; NULL when there was none. */
json_t *history_compacted(const struct history *h) mustuse;
void history_forget_images(struct history *h, const struct map *keep);
