/* Shared by the files of settings and the daemon skeleton. */
#pragma once

#include "settings.h"

/* Bytes from the start of the settings struct to the end of its last setting. */
size_t settings_end(const struct setting *table, size_t n);

/* Moves reloadable values that changed from `fresh` to `out`; their old values end up in `fresh`.
 * *ret_kept (caller frees) lists changed settings that need a restart, or is NULL. */
void settings_take(const struct setting *table, size_t n, void *out, void *fresh, char **ret_kept);
