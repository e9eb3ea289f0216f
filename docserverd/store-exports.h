/* The SQL statements about exports of recordings; rules and results as in store.h. The table and
 * what may follow what: sql/0010_exports.sql. */
#pragma once

#include "store-volumes.h"

/* json: the export object, or "none": nothing was recorded, "many": the tenant has `max` under
 * way. */
int store_export_begin(struct pg_pool *p, const char *id, const char *tenant,
                       const char *session_id, const char *format, const char *filename,
                       uint64_t max, store_json_fn fn, void *userdata) mustuse;

struct store_export {
        const char *id, *tenant, *session_id, *format, *filename;
        uint64_t attempts; /* with this one */
        uint64_t width, height;
        const char *pieces;   /* ids, comma between them; NULL when there are none */
        const char *document; /* an earlier attempt has made it; or NULL */
        uint64_t size;        /* of that */
};
/* e NULL with r 0: nothing waits. */
typedef void (*store_export_fn)(void *userdata, int r, const struct store_export *e);
int store_export_claim(struct pg_pool *p, store_export_fn fn, void *userdata) mustuse;

/* -ENOENT: it is gone, or does not stand in a state that `to` may follow. */
struct store_export_move {
        const char *id, *to;
        const char *error, *document; /* or NULL */
        uint64_t size, wait_us;
};
int store_export_move(struct pg_pool *p, const struct store_export_move *m, store_done_fn fn,
                      void *userdata) mustuse;
/* The same for what a person asks for: only an export of this session of this tenant. -ENOENT:
 * there is none; -EEXIST: it has ended; else json is the object. */
int store_export_cancel(struct pg_pool *p, const char *tenant, const char *session_id,
                        const char *id, store_json_fn fn, void *userdata) mustuse;
/* -ENOENT: nobody wants it any more. */
int store_export_progress(struct pg_pool *p, const char *id, unsigned percent, store_done_fn fn,
                          void *userdata) mustuse;
/* Removes what ended before keep_us ago; the videos are documents and stay. */
int store_expire_exports(struct pg_pool *p, uint64_t keep_us) mustuse;
