/* What documents' rows said a moment ago, for those who read the same bytes again and again. This
 * process is the only writer of the rows: it forgets what it changes before anyone hears of the
 * change, and everything is forgotten after a second in any case. */
#pragma once

#include "store.h"

struct lookups;
struct lookups *lookups_new(void) mustuse;
struct lookups *lookups_free(struct lookups *l);

/* Newest versions only. The strings are borrowed until the next call. */
const struct store_bytes *lookups_find(struct lookups *l, const char *tenant, const char *id,
                                       uint64_t now_us);
/* When a row is asked for; what comes of it is kept only if nothing was forgotten since. */
uint64_t lookups_begin(const struct lookups *l);
void lookups_keep(struct lookups *l, uint64_t begun, const char *tenant, const char *id,
                  const struct store_bytes *bytes, uint64_t now_us);
/* A row is about to be changed: all is forgotten, and nothing kept until the change is through or
 * has failed, by the time limits of the database. */
void lookups_forget(struct lookups *l, uint64_t now_us);
