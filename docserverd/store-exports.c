/* Reads and writes the queue of exports of recordings. */
#include "store-exports.h"

#include "store-call.h"

/* The first column of the first row, or -ENOENT. */
static void on_json(void *userdata, int r, PGresult **results, size_t n,
                    const struct pg_error *error)
{
        cleanup_free struct store_call *c = userdata;
        const char *json = r < 0 || PQntuples(results[0]) == 0 ? NULL : pg_str(results[0], 0, 0);

        if (r < 0)
                c->fn.json(c->userdata, store_failure(c->what, r, error), NULL);
        else
                c->fn.json(c->userdata, json ? 0 : -ENOENT, json);
}

int store_export_begin(struct pg_pool *p, const char *id, const char *tenant,
                       const char *session_id, const char *format, const char *filename,
                       uint64_t max, store_json_fn fn, void *userdata)
{
        struct pg_batch *b = store_batch(tenant);
        struct store_call *c = store_call_new("queueing an export", userdata);

        pg_batch_add(b, "SELECT docs.export_begin($1, $2, $3, $4, $5, $6::bigint)", "sssssu", id,
                     tenant, session_id, format, filename, max);
        c->fn.json = fn;
        return store_call_submit(p, b, on_json, c);
}

static void on_claimed(void *userdata, int r, PGresult **results, size_t n,
                       const struct pg_error *error)
{
        cleanup_free struct store_call *c = userdata;
        const PGresult *row = r < 0 ? NULL : results[0];

        if (!row) {
                c->fn.export(c->userdata, store_failure(c->what, r, error), NULL);
                return;
        }
        if (PQntuples(row) == 0 || !pg_str(row, 0, 0)) {
                c->fn.export(c->userdata, 0, NULL);
                return;
        }
        const struct store_export e = {
                .id = pg_str(row, 0, 0),
                .tenant = pg_str(row, 0, 1),
                .session_id = pg_str(row, 0, 2),
                .format = pg_str(row, 0, 3),
                .filename = pg_str(row, 0, 4),
                .attempts = (uint64_t) pg_i64(row, 0, 5),
                .width = (uint64_t) pg_i64(row, 0, 6),
                .height = (uint64_t) pg_i64(row, 0, 7),
                .pieces = pg_str(row, 0, 8),
                .document = pg_str(row, 0, 9),
                .size = (uint64_t) pg_i64(row, 0, 10),
        };
        c->fn.export(c->userdata, 0, &e);
}

int store_export_claim(struct pg_pool *p, store_export_fn fn, void *userdata)
{
        struct pg_batch *b = pg_batch_new();
        struct store_call *c = store_call_new("looking for exports", userdata);

        pg_batch_add(b,
                     "SELECT id, tenant, session_id, format, filename, attempts, width, height, "
                     "pieces, document, size_bytes FROM docs.export_claim()",
                     "");
        c->fn.export = fn;
        return store_call_submit(p, b, on_claimed, c);
}

/* Whether the first column of the first row is something. */
static void on_changed(void *userdata, int r, PGresult **results, size_t n,
                       const struct pg_error *error)
{
        cleanup_free struct store_call *c = userdata;

        if (r < 0)
                r = store_failure(c->what, r, error);
        else
                r = PQntuples(results[0]) > 0 && pg_str(results[0], 0, 0) ? 0 : -ENOENT;
        c->fn.done(c->userdata, r);
}

int store_export_move(struct pg_pool *p, const struct store_export_move *m, store_done_fn fn,
                      void *userdata)
{
        struct pg_batch *b = pg_batch_new();
        struct store_call *c = store_call_new("changing an export", userdata);

        pg_batch_add(b,
                     "SELECT docs.export_move($1, $2, $3, $4, nullif($5::bigint, 0), $6::bigint)",
                     "ssssuu", m->id, m->to, m->error, m->document, m->size, m->wait_us);
        c->fn.done = fn;
        return store_call_submit(p, b, on_changed, c);
}

static void on_cancelled(void *userdata, int r, PGresult **results, size_t n,
                         const struct pg_error *error)
{
        cleanup_free struct store_call *c = userdata;

        if (r < 0)
                c->fn.json(c->userdata, store_failure(c->what, r, error), NULL);
        else if (PQntuples(results[0]) == 0)
                c->fn.json(c->userdata, -ENOENT, NULL);
        else if (!pg_str(results[0], 0, 0))
                c->fn.json(c->userdata, -EEXIST, NULL);
        else
                c->fn.json(c->userdata, 0, pg_str(results[0], 0, 0));
}

int store_export_cancel(struct pg_pool *p, const char *tenant, const char *session_id,
                        const char *id, store_json_fn fn, void *userdata)
{
        struct pg_batch *b = store_batch(tenant);
        struct store_call *c = store_call_new("cancelling an export", userdata);

        pg_batch_add(b,
                     "SELECT docs.export_move(id, 'cancelled', NULL, NULL, NULL, 0) "
                     "FROM docs.recording_export WHERE id = $1 AND session_id = $2 AND tenant = $3",
                     "sss", id, session_id, tenant);
        c->fn.json = fn;
        return store_call_submit(p, b, on_cancelled, c);
}

int store_export_progress(struct pg_pool *p, const char *id, unsigned percent, store_done_fn fn,
                          void *userdata)
{
        struct pg_batch *b = pg_batch_new();
        struct store_call *c = store_call_new("telling how far an export is", userdata);

        pg_batch_add(b,
                     "UPDATE docs.recording_export SET percent = $2::bigint::int, updated_at = "
                     "now() WHERE id = $1 AND state = 'running' RETURNING id",
                     "su", id, (uint64_t) percent);
        c->fn.done = fn;
        return store_call_submit(p, b, on_changed, c);
}

int store_expire_exports(struct pg_pool *p, uint64_t keep_us)
{
        struct pg_batch *b = pg_batch_new();

        pg_batch_add(b,
                     "DELETE FROM docs.recording_export WHERE state NOT IN ('queued', 'running') "
                     "AND updated_at < now() - $1::bigint * interval '1 microsecond'",
                     "u", keep_us);
        return store_call_submit(p, b, store_call_done,
                                 store_call_new("removing old exports", NULL));
}
