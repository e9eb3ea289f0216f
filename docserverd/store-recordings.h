/* The SQL statements about recordings; rules and results as in store.h. */
#pragma once

#include "proto/wire.h"
#include "store-volumes.h"

/* Stores a piece whose blob is there, then drops the session's oldest pieces beyond bytes_max. The
 * same (epoch, piece) again changes nothing. */
int store_recording_add(struct pg_pool *p, const char *id, const struct recording_add *m,
                        const char *checksum, uint64_t bytes_max, store_done_fn fn,
                        void *userdata) mustuse;
int store_recording_drop(struct pg_pool *p, const char *tenant, const char *session_id,
                         store_done_fn fn, void *userdata) mustuse; /* 0 also when there is none */
/* Removes pieces that ended before keep_us ago. */
int store_expire_recordings(struct pg_pool *p, uint64_t keep_us) mustuse;
