/* What documents' rows said a moment ago, for those who read the same bytes again and again. This
 * process is the only writer of the rows: what it changes does not hold any more before anyone
 * hears of the change (common/io/changes.h), and everything is forgotten after a second in any
 * case. */
#pragma once

#include "common/io/changes.h"
#include "store.h"

struct lookups;
struct lookups *lookups_new(const struct changes *c) mustuse; /* c outlives it */
struct lookups *lookups_free(struct lookups *l);

/* Newest versions only. The strings are borrowed until the next call. */
const struct store_bytes *lookups_find(struct lookups *l, const char *tenant, const char *id,
                                       uint64_t now_us);
/* stamp: changes_stamp of when the row was asked for; kept only if it still holds. */
void lookups_keep(struct lookups *l, uint64_t stamp, const char *tenant, const char *id,
                  const struct store_bytes *bytes, uint64_t now_us);
