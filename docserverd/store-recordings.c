/* SQL of recordings: pieces come, the oldest go. */
#include "store-recordings.h"

#include "store-call.h"

static int submit(struct pg_pool *p, struct pg_batch *b, const char *what, store_done_fn fn,
                  void *userdata)
{
        struct store_call *c = store_call_new(what, userdata);
        c->fn.done = fn;
        return store_call_submit(p, b, store_call_done, c);
}

int store_recording_add(struct pg_pool *p, const char *id, const struct recording_add *m,
                        const char *checksum, uint64_t bytes_max, store_done_fn fn, void *userdata)
{
        struct pg_batch *b = store_batch(m->tenant);
        char started[TIMESTAMP_MAX], ended[TIMESTAMP_MAX];

        timestamp_format(m->started_us, started);
        timestamp_format(m->ended_us, ended);
        pg_batch_add(b,
                     "INSERT INTO docs.recording_piece (id, tenant, session_id, epoch, piece, "
                     "started_at, ended_at, first_seq, last_seq, width, height, frames, "
                     "size_bytes, checksum) VALUES ($1, $2, $3, $4, $5, $6::timestamptz, "
                     "$7::timestamptz, $8, $9, $10::bigint::int, $11::bigint::int, "
                     "$12::bigint::int, $13, $14) "
                     "ON CONFLICT (session_id, epoch, piece) DO NOTHING",
                     "sssuussuuuuuus", id, m->tenant, m->session_id, m->epoch, m->piece, started,
                     ended, m->first_seq, m->last_seq, (uint64_t) m->width, (uint64_t) m->height,
                     (uint64_t) m->frames, m->size_bytes, checksum);
        pg_batch_add(b, "SELECT docs.recording_trim($1, $2, $3::bigint)", "ssu", m->tenant,
                     m->session_id, bytes_max);
        return submit(p, b, "a piece of a recording", fn, userdata);
}

int store_recording_drop(struct pg_pool *p, const char *tenant, const char *session_id,
                         store_done_fn fn, void *userdata)
{
        struct pg_batch *b = store_batch(tenant);

        pg_batch_add(b, "DELETE FROM docs.recording_piece WHERE tenant = $1 AND session_id = $2",
                     "ss", tenant, session_id);
        pg_batch_add(b, "DELETE FROM docs.recording_export WHERE tenant = $1 AND session_id = $2",
                     "ss", tenant, session_id);
        return submit(p, b, "removing a recording", fn, userdata);
}

int store_expire_recordings(struct pg_pool *p, uint64_t keep_us)
{
        struct pg_batch *b = pg_batch_new();

        pg_batch_add(b,
                     "DELETE FROM docs.recording_piece "
                     "WHERE ended_at < now() - $1::bigint * interval '1 microsecond'",
                     "u", keep_us);
        return submit(p, b, "removing old recordings", NULL, NULL);
}
