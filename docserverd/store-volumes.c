/* Reads and writes the rows of volumes and their files. */
#include "store-volumes.h"

#include "store-call.h"

/* ---- adding files ---- */

static void on_added(void *userdata, int r, PGresult **results, size_t n,
                     const struct pg_error *error)
{
        cleanup_free struct store_call *c = userdata;
        if (r < 0)
                r = store_failure(c->what, r, error);
        else if (PQntuples(results[1]) > 0)
                r = 0;
        else
                r = PQntuples(results[2]) > 0 ? -EDQUOT : -ENOENT;
        c->fn.done(c->userdata, r);
}

int store_volume_add(struct pg_pool *p, const struct store_volume_file *f, store_done_fn fn,
                     void *userdata)
{
        struct pg_batch *b = store_batch(f->tenant);
        pg_batch_add(b,
                     "INSERT INTO docs.volume (name, tenant, session_id) VALUES ($1, $2, $3) "
                     "ON CONFLICT (name) DO NOTHING",
                     "sss", f->volume, f->tenant, f->session_id);
        pg_batch_add(b,
                     "WITH grown AS (UPDATE docs.volume SET file_count = file_count + 1, "
                     "size_bytes = size_bytes + $6, touched_at = now() "
                     "WHERE name = $1 AND tenant = $2 AND NOT ready "
                     "AND file_count < $8 AND size_bytes + $6 <= $9 RETURNING name) "
                     "INSERT INTO docs.volume_file (id, volume_name, path, content_type, "
                     "size_bytes, checksum) SELECT $3, name, $4, $5, $6, $7 FROM grown "
                     "RETURNING id",
                     "sssssusuu", f->volume, f->tenant, f->id, f->path, f->content_type, f->size,
                     f->checksum, f->files_max, f->bytes_max);
        pg_batch_add(b, "SELECT FROM docs.volume WHERE name = $1 AND tenant = $2 AND NOT ready",
                     "ss", f->volume, f->tenant);
        store_quota_check(b, f->tenant, f->quota);
        struct store_call *c = store_call_new("a file of a volume", userdata);
        c->fn.done = fn;
        return store_call_submit(p, b, on_added, c);
}

static void on_committed(void *userdata, int r, PGresult **results, size_t n,
                         const struct pg_error *error)
{
        cleanup_free struct store_call *c = userdata;
        if (r < 0)
                r = store_failure(c->what, r, error);
        else if (PQntuples(results[0]) == 0)
                r = -ENOENT;
        c->fn.done(c->userdata, MIN(r, 0));
}

int store_volume_commit(struct pg_pool *p, const char *tenant, const char *name,
                        uint64_t file_count, store_done_fn fn, void *userdata)
{
        struct pg_batch *b = store_batch(tenant);
        pg_batch_add(b,
                     "UPDATE docs.volume SET ready = true, touched_at = now() "
                     "WHERE name = $1 AND tenant = $2 AND NOT ready AND file_count = $3 "
                     "RETURNING name",
                     "ssu", name, tenant, file_count);
        struct store_call *c = store_call_new("a finished volume", userdata);
        c->fn.done = fn;
        return store_call_submit(p, b, on_committed, c);
}

int store_volume_drop(struct pg_pool *p, const char *tenant, const char *name, store_done_fn fn,
                      void *userdata)
{
        struct pg_batch *b = store_batch(tenant);
        pg_batch_add(b, "DELETE FROM docs.volume WHERE name = $1 AND tenant = $2", "ss", name,
                     tenant);
        struct store_call *c = store_call_new("removing a volume", userdata);
        c->fn.done = fn;
        return store_call_submit(p, b, store_call_done, c);
}

/* ---- reading ---- */

struct volume_entries *volume_entries_free(struct volume_entries *e)
{
        for (size_t i = 0; e && i < e->n; i++)
                free(e->list[i].path);
        free(e);
        return NULL;
}

static void read_entries(struct volume_entries *e, const PGresult *rows, bool result)
{
        for (int i = 0; i < PQntuples(rows); i++) {
                struct volume_entry *entry = &e->list[e->n];
                if (!blob_checksum_valid(pg_str(rows, i, 1)))
                        continue;
                entry->path = xstrdup(pg_str(rows, i, 0));
                (void) snprintf(entry->checksum, sizeof(entry->checksum), "%s", pg_str(rows, i, 1));
                entry->size = (uint64_t) pg_i64(rows, i, 2);
                entry->time_us = (uint64_t) pg_i64(rows, i, 3);
                entry->result = result;
                e->n++;
        }
}

static void on_entries(void *userdata, int r, PGresult **results, size_t n,
                       const struct pg_error *error)
{
        cleanup_free struct store_call *c = userdata;
        if (r < 0) {
                c->fn.entries(c->userdata, store_failure(c->what, r, error), NULL);
                return;
        }
        if (PQntuples(results[0]) == 0) {
                c->fn.entries(c->userdata, -ENOENT, NULL);
                return;
        }
        size_t max = (size_t) PQntuples(results[1]) + (size_t) PQntuples(results[2]);
        struct volume_entries *e =
                xcalloc(1, sizeof(struct volume_entries) + max * sizeof(struct volume_entry));
        read_entries(e, results[1], false);
        read_entries(e, results[2], true);
        c->fn.entries(c->userdata, 0, e);
}

#define TIME_US(column) "(extract(epoch FROM " column ") * 1000000)::bigint"

int store_volume_entries(struct pg_pool *p, const char *tenant, const char *name,
                         unsigned results_max, store_entries_fn fn, void *userdata)
{
        struct pg_batch *b = store_batch(tenant);
        pg_batch_add(b, "SELECT FROM docs.volume WHERE name = $1 AND tenant = $2 AND ready", "ss",
                     name, tenant);
        pg_batch_add(
                b,
                "SELECT path, checksum, size_bytes, " TIME_US(
                        "created_at") " FROM docs.volume_file WHERE volume_name = $1 ORDER BY path",
                "s", name);
        pg_batch_add(
                b,
                "SELECT coalesce(d.result_path, d.filename), d.checksum, d.size_bytes, " TIME_US(
                        "d.updated_at") " FROM docs.document d JOIN docs.volume v "
                                        "ON v.session_id = d.session_id AND v.tenant = "
                                        "d.tenant "
                                        "WHERE v.name = $1 ORDER BY d.result_path IS NULL, d.id "
                                        "LIMIT $2",
                "su", name, (uint64_t) results_max);
        struct store_call *c = store_call_new("the files of a volume", userdata);
        c->fn.entries = fn;
        return store_call_submit(p, b, on_entries, c);
}

/* ---- retention ---- */

int store_expire_volumes(struct pg_pool *p, uint64_t keep_us, uint64_t lifetime_us,
                         store_done_fn fn, void *userdata)
{
        struct pg_batch *b = pg_batch_new();
        pg_batch_add(b,
                     "DELETE FROM docs.volume WHERE touched_at < now() - (CASE WHEN ready THEN "
                     "$1::bigint ELSE $2::bigint END) * interval '1 microsecond'",
                     "uu", keep_us, lifetime_us);
        struct store_call *c = store_call_new("removing old volumes", userdata);
        c->fn.done = fn;
        return store_call_submit(p, b, store_call_done, c);
}
